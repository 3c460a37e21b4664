//! What is told to AWS of a build besides the image: logs to a bucket and to CloudWatch, news to a topic.

use std::collections::VecDeque;

use aws_config::SdkConfig;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::aws::json::Json;
use crate::aws::query::Query;
use crate::aws::s3::{Bucket, Place};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// Events of one PutLogEvents, and the bytes that they may have together: the service's limits, with 26 bytes for each event.
const MOST_EVENTS: usize = 10_000;
const MOST_BYTES: usize = 1_048_576;
const EVENT_OVERHEAD: usize = 26;
/// Bytes of one event.
const LONGEST: usize = 256 * 1024 - EVENT_OVERHEAD;
/// A batch may not span more than a day.
const LONGEST_SPAN: i64 = 24 * 3600 * 1000;

/// Where the logs and news of a pipeline's images go in AWS.
#[derive(Debug, Clone, Default)]
pub struct Notices {
    /// Bucket and beginning of keys.
    pub logs: Option<(String, String)>,
    /// The log group.
    pub group: LogGroup,
    /// The topic's ARN.
    pub topic: Option<String>,
}

/// Where the events of a build go in CloudWatch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LogGroup {
    /// Nowhere.
    #[default]
    None,
    /// `/aws/imagebuilder/NAME`, as in the service.
    OfImage,
    /// A group that somebody named.
    Named(String),
}

impl LogGroup {
    /// Its name for an image, `name/version/build`.
    fn name(&self, image: &str) -> Option<String> {
        match self {
            Self::None => None,
            Self::Named(name) => Some(name.clone()),
            Self::OfImage => {
                let name = image.split('/').next().unwrap_or(image);
                Some(format!("/aws/imagebuilder/{name}"))
            }
        }
    }
}

impl Notices {
    /// Whether nobody is told anything.
    pub fn is_empty(&self) -> bool {
        self.logs.is_none() && self.group == LogGroup::None && self.topic.is_none()
    }

    /// Sends the logs of an image, `name/version/build`, and the news of it. What fails does not hold the rest back, and
    /// never changes how a build ended: each failure is a line.
    pub async fn send(&self, image: &str, logs: &Utf8Path, news: Option<&str>) -> Vec<String> {
        if self.is_empty() {
            return Vec::new();
        }
        self.send_by(&crate::aws::load().await, image, logs, news)
            .await
    }

    /// The same with credentials, region and endpoint of one's own.
    pub async fn send_by(
        &self,
        aws: &SdkConfig,
        image: &str,
        logs: &Utf8Path,
        news: Option<&str>,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        let mut note = |result: Result<()>| problems.extend(result.err().map(|f| f.chain()));
        if let Some((bucket, prefix)) = &self.logs {
            note(store(aws, bucket, prefix, image, logs).await);
        }
        if let Some(group) = self.group.name(image) {
            note(stream(aws, &group, image, logs).await);
        }
        if let (Some(topic), Some(news)) = (&self.topic, news) {
            note(publish(aws, topic, news).await);
        }
        problems
    }
}

fn region(aws: &SdkConfig) -> String {
    aws.region()
        .map_or_else(|| "us-east-1".into(), ToString::to_string)
}

/// Where a log lies below `PREFIX/NAME/VERSION/BUILD/`: those of components as in the service, in a folder of the workflow and
/// one of its step; what the service has not, beside these.
fn key_of(image: &str, name: &Utf8Path) -> String {
    let Some((folder, rest)) = name.as_str().split_once('/') else {
        return name.to_string();
    };
    let step = match folder {
        "build" => "ApplyBuildComponents",
        "test" => "ApplyTestComponents",
        _ => return name.to_string(),
    };
    let execution = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{image}/{folder}").as_bytes());
    format!("wf-{execution}/{step}/{rest}")
}

/// Puts every log below `PREFIX/NAME/VERSION/BUILD/`.
async fn store(
    aws: &SdkConfig,
    bucket: &str,
    prefix: &str,
    image: &str,
    logs: &Utf8Path,
) -> Result<()> {
    let place = Place {
        bucket: bucket.to_owned(),
        region: region(aws),
        ..Place::default()
    };
    let client = Bucket::new(aws, &place)?;
    let prefix = prefix.trim_matches('/');
    for path in files(logs)? {
        let name = path.strip_prefix(logs).unwrap_or(&path);
        let key = format!("{prefix}/{image}/{}", key_of(image, name));
        let key = key.trim_start_matches('/');
        let body = std::fs::read(&path)
            .or_failure(FailureKind::Environment, || format!("cannot read {path}"))?;
        let digest = hex::encode(Sha256::digest(&body));
        client
            .put(key, body.into(), &digest)
            .await
            .map_err(|error| error.into_failure(&format!("put the log s3://{bucket}/{key}")))?;
    }
    Ok(())
}

/// All files below a folder, in order.
fn files(folder: &Utf8Path) -> Result<Vec<Utf8PathBuf>> {
    let mut folders = VecDeque::from([folder.to_owned()]);
    let mut files = Vec::new();
    while let Some(folder) = folders.pop_front() {
        let cannot = || format!("cannot list {folder}");
        for entry in folder
            .read_dir_utf8()
            .or_failure(FailureKind::Environment, cannot)?
        {
            let entry = entry.or_failure(FailureKind::Environment, cannot)?;
            let kind = entry
                .file_type()
                .or_failure(FailureKind::Environment, cannot)?;
            if kind.is_dir() {
                folders.push_back(entry.path().to_owned());
            } else if kind.is_file() {
                files.push(entry.path().to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Writes the build's events to the stream `VERSION/BUILD` of a group.
async fn stream(aws: &SdkConfig, group: &str, image: &str, logs: &Utf8Path) -> Result<()> {
    let region = region(aws);
    let client = Json::new(aws, "logs", "Logs_20140328", &region)?;
    let stream = image.split_once('/').map_or(image, |(_, stream)| stream);
    let doing = format!("write to the log group {group} in {region}");
    for (action, body) in [
        ("CreateLogGroup", json!({"logGroupName": group})),
        (
            "CreateLogStream",
            json!({"logGroupName": group, "logStreamName": stream}),
        ),
    ] {
        match client.call(action, &body).await {
            Err(error) if error.code() != "ResourceAlreadyExistsException" => {
                return Err(error.into_failure(&doing));
            }
            _ => {}
        }
    }
    let path = logs.join(crate::bake::attend::EVENTS);
    let text = std::fs::read_to_string(&path)
        .or_failure(FailureKind::Environment, || format!("cannot read {path}"))?;
    for batch in batches(events(&text)) {
        let body = json!({"logGroupName": group, "logStreamName": stream, "logEvents": batch});
        let answer = client
            .call("PutLogEvents", &body)
            .await
            .map_err(|error| error.into_failure(&doing))?;
        // What is too old or too new is dropped with a good answer.
        let rejected = &answer["rejectedLogEventsInfo"];
        if !rejected.is_null() {
            return Err(Failure::environment(format!(
                "cannot {doing}: events were rejected: {rejected}"
            )));
        }
    }
    Ok(())
}

/// Lines of the event stream with their times; a line without one has that of the line before.
fn events(text: &str) -> Vec<(i64, String)> {
    let mut last = 0;
    let mut events: Vec<(i64, String)> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let value: Value = serde_json::from_str(line).unwrap_or_default();
            let time = value["time"]
                .as_str()
                .and_then(|time| time.parse::<jiff::Timestamp>().ok());
            last = time.map_or(last, |time| time.as_millisecond());
            let mut end = line.len().min(LONGEST);
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            (last, line[..end].to_owned())
        })
        .collect();
    // The service refuses a batch that is not in order.
    events.sort_by_key(|(time, _)| *time);
    events
}

fn batches(events: Vec<(i64, String)>) -> Vec<Vec<Value>> {
    let mut batches: Vec<Vec<Value>> = Vec::new();
    let (mut bytes, mut first) = (0, 0);
    for (time, message) in events {
        let size = message.len() + EVENT_OVERHEAD;
        let fits = batches.last().is_some_and(|batch| {
            batch.len() < MOST_EVENTS && bytes + size <= MOST_BYTES && time - first < LONGEST_SPAN
        });
        if !fits {
            batches.push(Vec::new());
            bytes = 0;
            first = time;
        }
        bytes += size;
        if let Some(batch) = batches.last_mut() {
            batch.push(json!({"timestamp": time, "message": message}));
        }
    }
    batches
}

/// Publishes to a topic, in the topic's own region.
async fn publish(aws: &SdkConfig, topic: &str, news: &str) -> Result<()> {
    let region = topic
        .split(':')
        .nth(3)
        .ok_or_else(|| Failure::config(format!("{topic} is no topic's ARN")))?;
    let parameters = vec![
        ("TopicArn".to_owned(), topic.to_owned()),
        ("Message".into(), news.to_owned()),
    ];
    Query::new(aws, "sns", "2010-03-31", region)?
        .call("Publish", &parameters)
        .await
        .map(drop)
        .map_err(|error| error.into_failure(&format!("tell {topic}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_the_services_limits() {
        let long = "x".repeat(LONGEST + 10);
        let text =
            format!("{{\"time\":\"2026-07-28T01:14:17Z\"}}\n{long}\n{long}\n{long}\n{long}\n");
        let events = events(&text);
        assert_eq!(
            events[4].0, 1_785_201_257_000,
            "the time of the line before"
        );
        assert_eq!(events[1].1.len(), LONGEST);
        let split = batches(events);
        assert_eq!(split.iter().map(Vec::len).collect::<Vec<_>>(), [4, 1]);
        let many: Vec<_> = (0..25_000).map(|time| (time, String::new())).collect();
        let split = batches(many);
        assert_eq!(
            split.iter().map(Vec::len).collect::<Vec<_>>(),
            [10_000, 10_000, 5_000]
        );
        let days: Vec<_> = [0, LONGEST_SPAN].map(|time| (time, String::new())).to_vec();
        assert_eq!(batches(days).len(), 2);
    }
}
