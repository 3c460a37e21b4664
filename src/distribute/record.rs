//! What was asked for an image, kept beside its journals: for another attempt, for lists, and for removal.

use camino::Utf8Path;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::plan::{Delivery, Plan};
use super::{Outcome, ami, registry, s3};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// The file's name.
const FILE: &str = "distribution.json";

/// The distribution of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// `name/version/build`.
    pub image: String,
    /// The run that made it.
    pub run: String,
    /// When it was last tried.
    pub tried: Timestamp,
    /// What was asked for last.
    pub plan: Plan,
    /// Every destination that was ever reached or tried, the last attempt of each.
    pub destinations: Vec<State>,
    /// Earlier destinations of this image, for removal.
    #[serde(default)]
    pub earlier: Vec<Delivery>,
}

/// How a destination stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Its name.
    pub destination: String,
    /// `pending`, `delivered` or `failed`.
    pub state: String,
    /// Where the image is.
    pub places: Vec<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl State {
    /// Whether the image is there.
    pub fn is_delivered(&self) -> bool {
        self.state == "delivered"
    }
}

/// Reads the record of a run.
///
/// # Errors
/// [`FailureKind::Config`] if there is none.
pub fn read(journals: &Utf8Path, run: &str) -> Result<Record> {
    let path = journals.join(run).join(FILE);
    let text = std::fs::read_to_string(&path)
        .or_failure(FailureKind::Config, || format!("cannot read {path}"))?;
    serde_json::from_str(&text)
        .or_failure(FailureKind::Environment, || format!("{path} is damaged"))
}

/// All records, the newest first.
pub fn all(journals: &Utf8Path) -> Vec<Record> {
    let entries = journals.read_dir_utf8().into_iter().flatten().flatten();
    let mut records: Vec<Record> = entries
        .filter_map(|entry| read(journals, entry.file_name()).ok())
        .collect();
    records.sort_by_key(|record| std::cmp::Reverse(record.tried));
    records
}

/// Notes what is asked for, before anything is done.
///
/// # Errors
/// [`FailureKind::Environment`] if it can't be written.
pub(super) fn begin(journals: &Utf8Path, run: &str, plan: &Plan) -> Result<Record> {
    let mut record = read(journals, run).unwrap_or_else(|_| Record {
        image: plan.image.clone(),
        run: run.to_owned(),
        tried: Timestamp::now(),
        plan: plan.clone(),
        destinations: Vec::new(),
        earlier: Vec::new(),
    });
    let before = std::mem::replace(&mut record.plan, plan.clone());
    for delivery in before.deliveries {
        if !plan.deliveries.contains(&delivery) && !record.earlier.contains(&delivery) {
            record.earlier.push(delivery);
        }
    }
    record.tried = Timestamp::now();
    for destination in names(plan) {
        if !record
            .destinations
            .iter()
            .any(|state| state.destination == destination)
        {
            record.destinations.push(State {
                destination,
                state: "pending".into(),
                places: Vec::new(),
                reason: None,
            });
        }
    }
    write(journals, &record)?;
    Ok(record)
}

fn names(plan: &Plan) -> Vec<String> {
    plan.deliveries
        .iter()
        .flat_map(Delivery::destinations)
        .collect()
}

/// Notes how destinations ended.
///
/// # Errors
/// [`FailureKind::Environment`] if it can't be written.
pub(super) fn end(journals: &Utf8Path, record: &mut Record, outcomes: &[Outcome]) -> Result<()> {
    for outcome in outcomes {
        let state = match &outcome.result {
            Ok(delivered) => State {
                destination: outcome.destination.clone(),
                state: "delivered".into(),
                places: delivered.places.clone(),
                reason: None,
            },
            Err(failure) => State {
                destination: outcome.destination.clone(),
                state: "failed".into(),
                places: Vec::new(),
                reason: Some(failure.chain()),
            },
        };
        match record
            .destinations
            .iter_mut()
            .find(|known| known.destination == state.destination)
        {
            Some(known) => *known = state,
            None => record.destinations.push(state),
        }
    }
    write(journals, record)
}

fn write(journals: &Utf8Path, record: &Record) -> Result<()> {
    let folder = journals.join(&record.run);
    let path = folder.join(FILE);
    let cannot = || format!("cannot write {path}");
    let text = serde_json::to_string_pretty(record).or_failure(FailureKind::Internal, cannot)?;
    let fresh = folder.join(".distribution.json.new");
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&fresh, text + "\n"))
        .and_then(|()| std::fs::rename(&fresh, &path))
        .or_failure(FailureKind::Environment, cannot)
}

/// Removes what a run's distributions made in buckets and regions, then the journals. Folders stay: they may be on a disk
/// that went away long ago, and hold what people copied. Gives what was removed.
///
/// # Errors
/// The first thing that could not be removed; the journals stay then, and the same call goes on.
pub async fn remove(
    journals: &Utf8Path,
    run: &str,
    aws: &aws_config::SdkConfig,
) -> Result<Vec<String>> {
    if !journals.join(run).is_dir() {
        return Ok(Vec::new());
    }
    if run.is_empty() || run.contains('/') || run.starts_with('.') {
        return Err(Failure::config(format!("`{run}` is no run")));
    }
    let record = read(journals, run)?;
    let mut removed = Vec::new();
    for delivery in record.plan.deliveries.iter().chain(&record.earlier) {
        match delivery {
            Delivery::Folder(_) => {}
            Delivery::S3(bucket) => removed.extend(s3::remove(bucket, run, journals, aws).await?),
            Delivery::Registry(plan) => {
                removed.extend(registry::remove(plan, run, journals, aws).await?);
            }
            Delivery::Ami(plan) => removed.extend(ami::remove(plan, run, journals, aws).await?),
        }
    }
    let folder = journals.join(run);
    std::fs::remove_dir_all(&folder).or_failure(FailureKind::Environment, || {
        format!("cannot remove {folder}")
    })?;
    Ok(removed)
}
