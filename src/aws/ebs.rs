//! The EBS direct APIs: a snapshot written block by block, without bucket, role or import task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::Method;
use ovenbird_disk::{DiskReader, Extents};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::signed::{Call, RequestError, SignedClient};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// Every block has this length.
pub const BLOCK: u64 = 512 * 1024;
/// Volumes have whole GiB.
const GIB: u64 = 1 << 30;
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

/// SHA-256 of a block.
pub type BlockDigest = [u8; 32];
/// What was put, by index.
pub type BlockMap = BTreeMap<u64, BlockDigest>;

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

/// GiB of the volume that a disk needs.
pub fn volume_gib(disk: &dyn DiskReader) -> u64 {
    disk.virtual_size().div_ceil(GIB).max(1)
}

/// The checksum over all blocks: SHA-256 of their digests in the order of their indexes.
pub fn linear_checksum(blocks: &BlockMap) -> String {
    let mut hash = Sha256::new();
    for digest in blocks.values() {
        hash.update(digest);
    }
    BASE64.encode(hash.finalize())
}

/// Indexes of blocks that may hold something else than zeros.
///
/// # Errors
/// If the disk can't be read.
pub fn stored_blocks(disk: &dyn DiskReader) -> ovenbird_disk::Result<Vec<u64>> {
    let mut blocks: Vec<u64> = Vec::new();
    for extent in Extents::new(disk) {
        let extent = extent?;
        if extent.kind.is_empty() {
            continue;
        }
        let first = extent.offset / BLOCK;
        let first = blocks.last().map_or(first, |last| first.max(last + 1));
        blocks.extend(first..extent.end().div_ceil(BLOCK));
    }
    Ok(blocks)
}

/// A block of a disk, filled up with zeros; `None` if there is nothing but zeros.
///
/// # Errors
/// If the disk can't be read.
pub fn read_block(
    disk: &dyn DiskReader,
    index: u64,
) -> ovenbird_disk::Result<Option<(Bytes, BlockDigest)>> {
    let offset = index * BLOCK;
    let there = disk.virtual_size().saturating_sub(offset).min(BLOCK);
    let mut block = vec![0; ovenbird_disk::bytes::index(BLOCK)];
    disk.read_at(&mut block[..ovenbird_disk::bytes::index(there)], offset)?;
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let digest = Sha256::digest(&block).into();
    Ok(Some((block.into(), digest)))
}

/// A block that arrived.
struct Put {
    index: u64,
    digest: BlockDigest,
    throttled: bool,
}

/// A block that differs from the one of the parent (`below`; zeros if there is none), with its digest.
fn changed(
    disk: &dyn DiskReader,
    index: u64,
    below: Option<BlockDigest>,
) -> ovenbird_disk::Result<Option<(Bytes, BlockDigest)>> {
    let length = ovenbird_disk::bytes::index(BLOCK);
    let inside = index < disk.virtual_size().div_ceil(BLOCK);
    let read = if inside {
        read_block(disk, index)?
    } else {
        None
    };
    Ok(match (read, below) {
        (Some((_, digest)), Some(below)) if digest == below => None,
        (Some(block), _) => Some(block),
        (None, None) => None,
        (None, Some(below)) => {
            let zeros = Bytes::from(vec![0; length]);
            let digest: BlockDigest = Sha256::digest(&zeros).into();
            (digest != below).then_some((zeros, digest))
        }
    })
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
        let readers = Arc::new(Semaphore::new(
            std::thread::available_parallelism().map_or(2, usize::from),
        ));
        loop {
            while running.len() < at_a_time
                && let Some(index) = missing.next()
            {
                let (ebs, disk, snapshot) = (self.clone(), Arc::clone(&disk), snapshot.to_owned());
                let below = base.get(&index).copied();
                let readers = Arc::clone(&readers);
                running.spawn(async move {
                    let turn = readers.acquire().await;
                    let read = tokio::task::spawn_blocking(move || changed(&*disk, index, below))
                        .await
                        .or_failure(FailureKind::Internal, || "a read was cut off".into())?
                        .or_failure(FailureKind::Output, || {
                            format!("cannot read block {index} of the disk")
                        })?;
                    drop(turn);
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
                path.push_str(&encode(page));
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
                encode(token)
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

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_over_raw_digests_by_index() {
        // printf of 32 bytes 1 and 32 bytes 2 into sha256sum, in base64.
        let blocks = BlockMap::from([(7, [2; 32]), (3, [1; 32])]);
        let mut joined = vec![1_u8; 32];
        joined.extend([2; 32]);
        assert_eq!(
            linear_checksum(&blocks),
            BASE64.encode(Sha256::digest(&joined))
        );
        // Of nothing: SHA-256 of the empty text.
        assert_eq!(
            linear_checksum(&BlockMap::new()),
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        );
    }

    #[test]
    fn only_blocks_with_content_are_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        let file = std::fs::File::create(&path).unwrap();
        // The last block is a short one.
        file.set_len(4 * BLOCK + 512).unwrap();
        use std::os::unix::fs::FileExt as _;
        file.write_all_at(b"x", BLOCK).unwrap();
        file.write_all_at(&[0; 4096], 2 * BLOCK).unwrap();
        file.write_all_at(b"y", 4 * BLOCK + 511).unwrap();
        let disk = ovenbird_disk::open(&path).unwrap();
        let sent: Vec<u64> = stored_blocks(&*disk)
            .unwrap()
            .into_iter()
            .filter(|index| read_block(&*disk, *index).unwrap().is_some())
            .collect();
        assert_eq!(sent, [1, 4]);
        let (block, _) = read_block(&*disk, 4).unwrap().unwrap();
        assert_eq!((block.len(), block[511], block[512]), (524_288, b'y', 0));
        assert_eq!(volume_gib(&*disk), 1);
    }
}
