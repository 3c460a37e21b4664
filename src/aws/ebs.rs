//! The EBS direct APIs: a snapshot written block by block, without bucket, role or import task.

mod blocks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::Method;
use ovenbird_disk::DiskReader;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::percent_encoded;
use super::signed::{Call, RequestError, SignedClient};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

pub use blocks::{
    BLOCK, BlockDigest, BlockMap, BlockReader, linear_checksum, stored_blocks, volume_gib,
};

/// 1000 puts a second are allowed, and a put takes about 100 ms: AWS's own example has as many connections.
const MOST_AT_A_TIME: usize = 100;
const FIRST_AT_A_TIME: usize = 32;
/// Minutes without a block after which the service drops a snapshot: time to put a laptop to sleep and go on.
const TIMEOUT_MINUTES: u32 = 1440;
/// How often a block is sent that arrived as something else.
const CORRUPTED: u32 = 4;
/// The whole time that one block may take, with every attempt.
const DEADLINE: Duration = Duration::from_secs(300);
/// So long after its start a snapshot may be unknown to a part of the service.
pub const UNKNOWN: Duration = Duration::from_secs(120);

/// A client in one region.
#[derive(Debug, Clone)]
pub struct Ebs {
    client: Arc<SignedClient>,
}

/// What a snapshot is started with.
#[derive(Debug, Clone, Default)]
pub struct StartSnapshot {
    /// Its description.
    pub description: String,
    /// The key it is encrypted with; as ARN when it is sent.
    pub kms_key: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Makes a second start with it the same snapshot.
    pub token: String,
    /// The snapshot whose blocks it has where none are put; not together with a key.
    pub parent: Option<String>,
}

impl StartSnapshot {
    /// What is sent for a volume of so many GiB.
    fn body(&self, gib: u64) -> serde_json::Value {
        let tags: Vec<_> = self
            .tags
            .iter()
            .map(|(key, value)| serde_json::json!({"Key": key, "Value": value}))
            .collect();
        let mut body = serde_json::json!({
            "VolumeSize": gib,
            "Description": self.description,
            "ClientToken": self.token,
            "Timeout": TIMEOUT_MINUTES,
        });
        if !tags.is_empty() {
            body["Tags"] = tags.into();
        }
        if let Some(parent) = &self.parent {
            body["ParentSnapshotId"] = parent.as_str().into();
        }
        if let Some(key) = &self.kms_key {
            body["Encrypted"] = true.into();
            body["KmsKeyArn"] = key.as_str().into();
        }
        body
    }

    /// The same by name, for a dry run: texts as they are, everything else as JSON.
    pub fn parameters(&self, gib: u64) -> Vec<(String, String)> {
        let body = self.body(gib);
        let fields = body.as_object().into_iter().flatten();
        fields
            .map(|(key, value)| match value.as_str() {
                Some(text) => (key.clone(), text.to_owned()),
                None => (key.clone(), value.to_string()),
            })
            .collect()
    }
}

/// A block that arrived.
struct Put {
    index: u64,
    digest: BlockDigest,
    throttled: bool,
}

impl Ebs {
    /// The client of a region; nothing is asked yet.
    ///
    /// # Errors
    /// As [`SignedClient::new`].
    pub fn new(config: &SdkConfig, region: &str) -> Result<Self> {
        Ok(Self {
            client: Arc::new(SignedClient::new(config, "ebs", region)?),
        })
    }

    async fn json(
        &self,
        method: Method,
        path: String,
        body: String,
    ) -> Result<serde_json::Value, RequestError> {
        let call = Call {
            method,
            path,
            headers: vec![("content-type", "application/json".into())],
            body: body.into(),
            ..Call::default()
        };
        let answer = self.send(&call, None).await.map(|(answer, _)| answer)?;
        serde_json::from_slice(&answer.body)
            .map_err(|error| RequestError::Transport(error.to_string()))
    }

    /// Sends until there is an answer that stays, or the deadline has passed. `fresh` is when the snapshot was started.
    /// Tells also whether the service asked for fewer requests.
    async fn send(
        &self,
        call: &Call,
        fresh: Option<Instant>,
    ) -> Result<(super::signed::Answer, bool), RequestError> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(100);
        let mut throttled = false;
        loop {
            let error = match self.client.send(call).await {
                Ok(answer) => return Ok((answer, throttled)),
                Err(error) => error,
            };
            let not_yet_known = error.code() == "ResourceNotFoundException"
                && fresh.is_some_and(|fresh| fresh.elapsed() < UNKNOWN);
            throttled |= error.is_throttle();
            if !(error.is_transient() || not_yet_known) || began.elapsed() + pause > DEADLINE {
                return Err(error);
            }
            // Requests that were refused together must not come back together.
            tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())).await;
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }

    /// Starts a snapshot and gives its id.
    ///
    /// # Errors
    /// What the service says.
    pub async fn start(&self, gib: u64, options: &StartSnapshot) -> Result<String> {
        let body = options.body(gib);
        let doing = format!("start a snapshot in {}", self.client.region());
        let answer = self
            .json(Method::POST, "/snapshots".into(), body.to_string())
            .await
            .map_err(|error| error.into_failure(&doing))?;
        answer["SnapshotId"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| Failure::environment("the answer to StartSnapshot has no SnapshotId"))
    }

    /// Puts every block that is neither in `known`, what was put before, nor the same in `base`, what the parent holds.
    /// `put` is told of each that arrived. Gives all blocks that were put.
    ///
    /// # Errors
    /// The first block that could not be read or put.
    pub async fn put_blocks(
        &self,
        snapshot: &str,
        disk: Arc<dyn DiskReader>,
        known: BlockMap,
        base: BlockMap,
        mut put: impl FnMut(u64, &BlockDigest) -> Result<()>,
    ) -> Result<BlockMap> {
        let fresh = Instant::now();
        let mut blocks = known;
        let mut stored = stored_blocks(&*disk)
            .or_failure(FailureKind::Output, || "cannot read the disk".into())?;
        // What the parent holds and the disk does not must become zeros.
        stored.extend(base.keys());
        stored.sort_unstable();
        stored.dedup();
        let mut missing = stored
            .into_iter()
            .filter(|index| !blocks.contains_key(index))
            .collect::<Vec<_>>()
            .into_iter();
        let mut running: JoinSet<Result<Option<Put>>> = JoinSet::new();
        let mut at_a_time = FIRST_AT_A_TIME;
        let mut since_change = 0;
        let mut is_first_rise = true;
        // Reading is work for processors: more threads than there are would only take turns.
        let disk = BlockReader::new(disk);
        let readers = Arc::new(Semaphore::new(
            std::thread::available_parallelism().map_or(2, usize::from),
        ));
        loop {
            while running.len() < at_a_time
                && let Some(index) = missing.next()
            {
                let (ebs, disk, snapshot) = (self.clone(), disk.clone(), snapshot.to_owned());
                let below = base.get(&index).copied();
                let readers = Arc::clone(&readers);
                running.spawn(async move {
                    let turn = readers.acquire_owned().await;
                    let read = tokio::task::spawn_blocking(move || {
                        let read = disk.changed(index, below);
                        // The next reader need not wait for this task to go on.
                        drop(turn);
                        read
                    })
                    .await
                    .or_failure(FailureKind::Internal, || "a read was cut off".into())?
                    .or_failure(FailureKind::Output, || {
                        format!("cannot read block {index} of the disk")
                    })?;
                    match read {
                        None => Ok(None),
                        Some((body, digest)) => {
                            let throttled = ebs.put(&snapshot, index, body, &digest, fresh).await?;
                            Ok(Some(Put {
                                index,
                                digest,
                                throttled,
                            }))
                        }
                    }
                });
            }
            let Some(done) = running.join_next().await else {
                return Ok(blocks);
            };
            let done =
                done.or_failure(FailureKind::Internal, || "a block's task ended".into())??;
            let Some(done) = done else {
                continue;
            };
            put(done.index, &done.digest)?;
            blocks.insert(done.index, done.digest);
            // Half as many when the service groans. After a round without, twice as many as long as it never did, else one more.
            since_change += 1;
            is_first_rise &= !done.throttled;
            if since_change >= at_a_time {
                at_a_time = match (done.throttled, is_first_rise) {
                    (true, _) => (at_a_time / 2).max(1),
                    (false, true) => at_a_time * 2,
                    (false, false) => at_a_time + 1,
                }
                .min(MOST_AT_A_TIME);
                since_change = 0;
            }
        }
    }

    /// Puts a block; tells whether the service asked for fewer requests. A block that came to harm on its way is sent again.
    async fn put(
        &self,
        snapshot: &str,
        index: u64,
        body: Bytes,
        digest: &BlockDigest,
        fresh: Instant,
    ) -> Result<bool> {
        let checksum = BASE64.encode(digest);
        let call = Call {
            method: Method::PUT,
            path: format!("/snapshots/{snapshot}/blocks/{index}"),
            headers: vec![
                ("content-type", "application/octet-stream".into()),
                ("x-amz-checksum", checksum.clone()),
                ("x-amz-checksum-algorithm", "SHA256".into()),
                ("x-amz-data-length", BLOCK.to_string()),
            ],
            body,
            unsigned_body: true,
            ..Call::default()
        };
        let doing = format!("put block {index} of {snapshot}");
        let mut corrupted = 0;
        loop {
            let answer = self.send(&call, Some(fresh)).await;
            corrupted += 1;
            match answer {
                Ok((answer, throttled)) => {
                    let told = answer.headers.get("x-amz-checksum");
                    if told.is_none_or(|told| told.as_bytes() == checksum.as_bytes()) {
                        return Ok(throttled);
                    }
                    if corrupted == CORRUPTED {
                        return Err(Failure::environment(format!("cannot {doing}")).caused_by(
                            "the service has stored another checksum than was sent".to_owned(),
                        ));
                    }
                }
                Err(error) if corrupted < CORRUPTED && error.is_checksum() => {}
                Err(error) => return Err(error.into_failure(&doing)),
            }
        }
    }

    /// Ends a snapshot of which these blocks were put.
    ///
    /// # Errors
    /// What the service says; also that blocks got lost.
    pub async fn complete(&self, snapshot: &str, blocks: &BlockMap) -> Result<()> {
        let call = Call {
            method: Method::POST,
            path: format!("/snapshots/completion/{snapshot}"),
            headers: vec![
                ("x-amz-changedblockscount", blocks.len().to_string()),
                ("x-amz-checksum", linear_checksum(blocks)),
                ("x-amz-checksum-algorithm", "SHA256".into()),
                ("x-amz-checksum-aggregation-method", "LINEAR".into()),
            ],
            ..Call::default()
        };
        self.send(&call, None)
            .await
            .map(drop)
            .map_err(|error| error.into_failure(&format!("complete {snapshot}")))
    }

    /// The blocks of a snapshot with the tokens to read them by.
    ///
    /// # Errors
    /// What the service says.
    pub async fn list(&self, snapshot: &str) -> Result<BTreeMap<u64, String>> {
        let mut blocks = BTreeMap::new();
        let mut page: Option<String> = None;
        loop {
            let mut path = format!("/snapshots/{snapshot}/blocks?maxResults=10000");
            if let Some(page) = &page {
                path.push_str("&pageToken=");
                path.push_str(&percent_encoded(page).to_string());
            }
            let answer = self
                .json(Method::GET, path, String::new())
                .await
                .map_err(|error| error.into_failure(&format!("list the blocks of {snapshot}")))?;
            for block in answer["Blocks"].as_array().into_iter().flatten() {
                if let (Some(index), Some(token)) =
                    (index_of(&block["BlockIndex"]), block["BlockToken"].as_str())
                {
                    blocks.insert(index, token.to_owned());
                }
            }
            page = answer["NextToken"].as_str().map(str::to_owned);
            if page.is_none() {
                return Ok(blocks);
            }
        }
    }

    /// Reads a block back.
    ///
    /// # Errors
    /// What the service says; also that its checksum does not fit what came.
    pub async fn get(
        &self,
        snapshot: &str,
        index: u64,
        token: &str,
    ) -> Result<(Bytes, BlockDigest)> {
        let call = Call {
            path: format!(
                "/snapshots/{snapshot}/blocks/{index}?blockToken={}",
                percent_encoded(token)
            ),
            ..Call::default()
        };
        let (answer, _) = self
            .send(&call, None)
            .await
            .map_err(|error| error.into_failure(&format!("read block {index} of {snapshot}")))?;
        let digest: BlockDigest = Sha256::digest(&answer.body).into();
        let told = answer
            .headers
            .get("x-amz-checksum")
            .and_then(|value| value.to_str().ok());
        if told.is_some_and(|told| told != BASE64.encode(digest)) {
            return Err(Failure::environment(format!(
                "block {index} of {snapshot} does not have the checksum that came with it"
            )));
        }
        Ok((answer.body, digest))
    }
}

/// A number; some stand-ins for the service write it as text.
fn index_of(value: &serde_json::Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
