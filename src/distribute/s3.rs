//! A bucket: every file in parts, several at a time, each with its checksum.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::SystemTime;

use aws_config::{Region, SdkConfig};
use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_provenance::folder::{FILE as PROVENANCE, digest_of};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::calls::Shown;
use super::journal::{Part, Upload};
use super::plan::S3Plan;
use super::{Delivered, Journal, Source, Watcher};
use crate::aws::Access;
use crate::aws::s3::{Bucket, Object, Place, Uploaded};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::output::Manifest;

const MIB: u64 = 1 << 20;
/// Parts of an upload that are on their way at the same time: with the smallest parts 96 MiB of memory.
const AT_A_TIME: u64 = 6;
/// What parts on their way may take together, when parts are larger.
const MEMORY: u64 = 192 * MIB;
/// Below this, one request does.
const SINGLE: u64 = 16 * MIB;

/// Bytes of each part: as small as is quick, and large enough that there are never more than 10 000.
pub fn part_size(size: u64) -> u64 {
    let even = size.div_ceil(9500).div_ceil(MIB) * MIB;
    // Nothing larger is taken as a part; 10 000 of these are more than an object may have.
    even.clamp(16 * MIB, 5 << 30)
}

/// The client of a plan's bucket, with the credentials and the region that it names.
pub(super) async fn bucket(plan: &S3Plan, aws: &SdkConfig) -> Result<Bucket> {
    let access = Access {
        profile: plan.profile.clone(),
        endpoint: None,
    };
    let own = access.to(aws).await;
    let region = plan
        .region
        .clone()
        .or_else(|| own.region().map(Region::to_string))
        .unwrap_or_else(|| "us-east-1".into());
    Bucket::new(
        &own,
        &Place {
            bucket: plan.bucket.clone(),
            endpoint: plan.endpoint.clone(),
            region,
            path_style: plan.path_style,
            checksums: plan.checksums,
        },
    )
}

/// The calls, for a dry run.
pub(super) fn calls(plan: &S3Plan, source: &Source) -> Vec<Shown> {
    let mut shown = Vec::new();
    let mut push = |action: &str, parameters: Vec<(&str, String)>| {
        shown.push(Shown {
            destination: plan.name.clone(),
            service: "s3",
            action: action.to_owned(),
            parameters: parameters
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        });
    };
    for file in source
        .manifest
        .files
        .iter()
        .filter(|file| plan.files.contains(&file.path))
    {
        let key = format!("{}{}", plan.prefix, file.path);
        let place = vec![("Bucket", plan.bucket.clone()), ("Key", key)];
        if file.size <= SINGLE {
            let mut put = place;
            put.push(("ContentLength", file.size.to_string()));
            put.push(("Checksum", plan.checksums.to_string()));
            push("PutObject", put);
            continue;
        }
        let size = part_size(file.size);
        push("CreateMultipartUpload", place.clone());
        let mut part = place.clone();
        part.push(("Parts", file.size.div_ceil(size).to_string()));
        part.push(("PartSize", size.to_string()));
        part.push(("Checksum", plan.checksums.to_string()));
        push("UploadPart", part);
        push("CompleteMultipartUpload", place);
    }
    for file in ["SHA256SUMS", Manifest::FILE] {
        let key = format!("{}{file}", plan.prefix);
        push(
            "PutObject",
            vec![("Bucket", plan.bucket.clone()), ("Key", key)],
        );
    }
    shown
}

/// Uploads the files; the manifest comes last and says that they are all there.
pub(super) async fn deliver(
    plan: &S3Plan,
    source: &Source,
    journals: &Utf8Path,
    aws: &SdkConfig,
    watcher: &dyn Watcher,
) -> Result<Delivered> {
    let bucket = bucket(plan, aws).await?;
    let mut journal = Journal::open(journals, &source.manifest.run, &journal_name(plan))?;
    let mut manifest = source.manifest.clone();
    manifest
        .files
        .retain(|file| plan.files.contains(&file.path));
    let total = manifest.listed().map(|file| file.size).sum();
    let mut sending = Sending {
        plan,
        bucket: &bucket,
        journal: &mut journal,
        watcher,
        sent: 0,
        total,
    };
    let mut sums = String::new();
    for file in manifest.listed() {
        let key = format!("{}{}", plan.prefix, file.path);
        let path = source.folder.join(file.path);
        sending.file(&key, &path, file.size, file.sha256).await?;
        sums.push_str(&format!("{}  {}\n", file.sha256, file.path));
    }
    let bytes = sending.sent;
    let mut small = vec![("SHA256SUMS", sums)];
    let read = |name: &str| {
        let path = source.folder.join(name);
        std::fs::read_to_string(&path)
            .or_failure(FailureKind::Output, || format!("cannot read {path}"))
    };
    if manifest == source.manifest {
        // As it is, byte for byte: it is signed.
        if source.folder.join(PROVENANCE).is_file() {
            small.push((PROVENANCE, read(PROVENANCE)?));
        }
        small.push((Manifest::FILE, read(Manifest::FILE)?));
    } else {
        let text = serde_json::to_string_pretty(&manifest)
            .or_failure(FailureKind::Internal, || {
                "cannot encode the manifest".into()
            })?;
        small.push((Manifest::FILE, text + "\n"));
    }
    for (name, text) in small {
        let key = format!("{}{name}", plan.prefix);
        sending.small(&key, text.into()).await?;
    }
    Ok(Delivered {
        destination: plan.name.clone(),
        places: vec![format!("s3://{}/{}", plan.bucket, plan.prefix)],
        bytes,
    })
}

/// Uploads one file of the image; gives its key and the bytes that were sent.
pub(super) async fn put(
    plan: &S3Plan,
    file: &Utf8Path,
    source: &Source,
    journals: &Utf8Path,
    aws: &SdkConfig,
    watcher: &dyn Watcher,
) -> Result<(String, u64)> {
    let listed = source
        .manifest
        .listed()
        .find(|listed| listed.path == file)
        .ok_or_else(|| Failure::new(FailureKind::Internal, format!("{file} is not listed")))?;
    let bucket = bucket(plan, aws).await?;
    let mut journal = Journal::open(journals, &source.manifest.run, &journal_name(plan))?;
    let mut sending = Sending {
        plan,
        bucket: &bucket,
        journal: &mut journal,
        watcher,
        sent: 0,
        total: listed.size,
    };
    let key = format!("{}{file}", plan.prefix);
    let path = source.folder.join(file);
    sending
        .file(&key, &path, listed.size, listed.sha256)
        .await?;
    Ok((key, sending.sent))
}

/// The name of a bucket's journal. The bucket is part of it: a destination that is turned elsewhere starts anew.
pub(super) fn journal_name(plan: &S3Plan) -> String {
    let place = format!(
        "{}\n{}\n{}",
        plan.endpoint.as_deref().unwrap_or_default(),
        plan.bucket,
        plan.prefix
    );
    let digest = hex::encode(Sha256::digest(place));
    format!("s3-{}-{}", plan.name, &digest[..12])
}

struct Sending<'s> {
    plan: &'s S3Plan,
    bucket: &'s Bucket,
    journal: &'s mut Journal,
    watcher: &'s dyn Watcher,
    sent: u64,
    total: u64,
}

impl Sending<'_> {
    fn failed(&self, doing: &str, key: &str) -> String {
        format!("{doing} s3://{}/{key}", self.plan.bucket)
    }

    async fn small(&mut self, key: &str, body: Bytes) -> Result<()> {
        let sha256 = hex::encode(Sha256::digest(&body));
        self.bucket
            .put(key, body, &sha256)
            .await
            .map_err(|error| error.into_failure(&self.failed("put", key)))?;
        self.journal.stored(key)
    }

    /// Uploads a file unless the very same is there.
    async fn file(&mut self, key: &str, path: &Utf8Path, size: u64, sha256: &str) -> Result<()> {
        let is_ours =
            |there: &Object| there.size == size && there.sha256.as_deref() == Some(sha256);
        if self.look(key).await?.as_ref().is_some_and(is_ours) {
            self.journal.stored(key)?;
            return Ok(());
        }
        let file = Arc::new(Opened::new(path, size)?);
        if size <= SINGLE {
            let body = file.read(0, size).await?;
            check_digest(path, &hex::encode(Sha256::digest(&body)), sha256)?;
            self.bucket
                .put(key, body, sha256)
                .await
                .map_err(|error| error.into_failure(&self.failed("put", key)))?;
            self.progress(size);
        } else {
            self.parts(key, &file, sha256).await?;
        }
        let there = self.look(key).await?;
        // A server that keeps no metadata can't be asked for more than the size.
        let is_whole = there.as_ref().is_some_and(|there| match there.sha256 {
            Some(_) => is_ours(there),
            None => there.size == size,
        });
        if !is_whole {
            return Err(Failure::environment(format!(
                "{} has {} bytes and the SHA-256 {}, not {size} and {sha256}",
                self.failed("after the upload", key),
                there.as_ref().map_or(0, |there| there.size),
                there
                    .and_then(|there| there.sha256)
                    .unwrap_or_else(|| "unknown".into())
            )));
        }
        self.journal.stored(key)
    }

    async fn look(&self, key: &str) -> Result<Option<Object>> {
        self.bucket
            .head(key)
            .await
            .map_err(|error| error.into_failure(&self.failed("look for", key)))
    }

    fn progress(&mut self, bytes: u64) {
        self.sent += bytes;
        self.watcher.sent(&self.plan.name, self.sent, self.total);
    }

    /// Takes an earlier upload up if the server still knows it; gives its id, the size of its parts and those it has.
    async fn upload(
        &mut self,
        key: &str,
        size: u64,
        sha256: &str,
    ) -> Result<(Upload, Vec<Uploaded>)> {
        if let Some(upload) = self.journal.uploads.get(key).cloned() {
            let there = if upload.sha256 == sha256 {
                self.bucket
                    .parts(key, &upload.id)
                    .await
                    .map_err(|error| error.into_failure(&self.failed("list the parts of", key)))?
            } else {
                self.bucket.abort(key, &upload.id).await.map_err(|error| {
                    error.into_failure(&self.failed("abort the upload of", key))
                })?;
                None
            };
            if let Some(there) = there {
                let noted = self.journal.parts.get(&upload.id);
                let have = there
                    .into_iter()
                    .filter_map(|(number, etag)| {
                        // The server's word counts, and only for what we know to have sent.
                        let part = noted?.get(&number)?;
                        (part.etag.trim_matches('"') == etag.trim_matches('"')).then(|| Uploaded {
                            number,
                            etag: part.etag.clone(),
                            checksum: part.checksum.clone(),
                        })
                    })
                    .collect();
                return Ok((upload, have));
            }
            self.journal.upload_ended(&upload.id)?;
        }
        let id = self
            .bucket
            .begin(key, sha256)
            .await
            .map_err(|error| error.into_failure(&self.failed("begin the upload of", key)))?;
        let upload = Upload {
            id,
            key: key.to_owned(),
            sha256: sha256.to_owned(),
            part_size: part_size(size),
        };
        self.journal.uploading(upload.clone())?;
        Ok((upload, Vec::new()))
    }

    async fn parts(&mut self, key: &str, file: &Arc<Opened>, sha256: &str) -> Result<()> {
        let (upload, mut have) = self.upload(key, file.size, sha256).await?;
        let count = file.size.div_ceil(upload.part_size);
        let at_a_time = AT_A_TIME.min(MEMORY / upload.part_size).max(1);
        let mut missing = (1..=count)
            .filter(|number| !have.iter().any(|part| u64::from(part.number) == *number))
            .collect::<Vec<_>>()
            .into_iter();
        // The parts prove that what is stored is what was read; this proves that what was read is what was tested.
        let path = file.path.clone();
        let digest = tokio::task::spawn_blocking(move || digest_of(&path));
        let mut running: JoinSet<Result<(Uploaded, u64)>> = JoinSet::new();
        loop {
            while u64::try_from(running.len()).unwrap_or(u64::MAX) < at_a_time
                && let Some(number) = missing.next()
            {
                let (bucket, file) = (self.bucket.clone(), Arc::clone(file));
                let (key, upload) = (key.to_owned(), upload.clone());
                let doing = self.failed(&format!("put part {number} of"), &key);
                running.spawn(async move {
                    let offset = (number - 1) * upload.part_size;
                    let length = upload.part_size.min(file.size - offset);
                    let body = file.read(offset, length).await?;
                    let number = u32::try_from(number).unwrap_or(u32::MAX);
                    let part = bucket.part(&key, &upload.id, number, body).await;
                    Ok((part.map_err(|error| error.into_failure(&doing))?, length))
                });
            }
            let Some(done) = running.join_next().await else {
                break;
            };
            let (part, length) =
                done.or_failure(FailureKind::Internal, || "a part's task ended".into())??;
            let noted = Part {
                etag: part.etag.clone(),
                checksum: part.checksum.clone(),
            };
            self.journal.part(&upload.id, part.number, noted)?;
            have.push(part);
            self.progress(length);
        }
        let digest = digest
            .await
            .or_failure(FailureKind::Internal, || "a read was cut off".into())?
            .or_failure(FailureKind::Output, || format!("cannot read {}", file.path))?;
        check_digest(&file.path, &digest, sha256)?;
        file.unchanged()?;
        have.sort_by_key(|part| part.number);
        if let Err(error) = self.bucket.complete(key, &upload.id, &have).await {
            // The answer to an earlier attempt may have got lost; servers say very different things of an upload that is over.
            let there = self.look(key).await?;
            if there.is_none_or(|there| there.sha256.as_deref() != Some(sha256)) {
                return Err(error.into_failure(&self.failed("complete the upload of", key)));
            }
        }
        self.journal.upload_ended(&upload.id)
    }
}

fn check_digest(path: &Utf8Path, digest: &str, wanted: &str) -> Result<()> {
    if digest == wanted {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::Output,
        format!("{path} has the SHA-256 {digest}, its manifest says {wanted}"),
    ))
}

/// A file that must not change while it is sent.
struct Opened {
    path: Utf8PathBuf,
    file: File,
    size: u64,
    modified: Option<SystemTime>,
}

impl Opened {
    fn new(path: &Utf8Path, size: u64) -> Result<Self> {
        let cannot = || format!("cannot read {path}");
        let file = File::open(path).or_failure(FailureKind::Output, cannot)?;
        let metadata = file.metadata().or_failure(FailureKind::Output, cannot)?;
        if metadata.len() != size {
            return Err(Failure::new(
                FailureKind::Output,
                format!(
                    "{path} has {} bytes, its manifest says {size}",
                    metadata.len()
                ),
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            modified: metadata.modified().ok(),
            file,
            size,
        })
    }

    fn unchanged(&self) -> Result<()> {
        let now = self.file.metadata().ok();
        if now.and_then(|metadata| metadata.modified().ok()) == self.modified {
            return Ok(());
        }
        Err(Failure::new(
            FailureKind::Output,
            format!("{} was changed while it was sent", self.path),
        ))
    }

    async fn read(self: &Arc<Self>, offset: u64, length: u64) -> Result<Bytes> {
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let mut body = vec![0; ovenbird_disk::bytes::index(length)];
            this.file
                .read_exact_at(&mut body, offset)
                .or_failure(FailureKind::Output, || format!("cannot read {}", this.path))?;
            Ok(body.into())
        })
        .await
        .or_failure(FailureKind::Internal, || "a read was cut off".into())?
    }
}

/// Gives every upload of a bucket's journal up, after a cancellation.
pub(super) async fn abort(
    plan: &S3Plan,
    run: &str,
    journals: &Utf8Path,
    aws: &SdkConfig,
) -> Result<()> {
    let bucket = bucket(plan, aws).await?;
    let mut journal = Journal::open(journals, run, &journal_name(plan))?;
    for upload in journal.uploads.clone().into_values() {
        bucket
            .abort(&upload.key, &upload.id)
            .await
            .map_err(|error| {
                error.into_failure(&format!(
                    "abort the upload of s3://{}/{}",
                    plan.bucket, upload.key
                ))
            })?;
        journal.upload_ended(&upload.id)?;
    }
    Ok(())
}

/// Removes what was stored.
pub(super) async fn remove(
    plan: &S3Plan,
    run: &str,
    journals: &Utf8Path,
    aws: &SdkConfig,
) -> Result<Vec<String>> {
    abort(plan, run, journals, aws).await?;
    let bucket = bucket(plan, aws).await?;
    let mut journal = Journal::open(journals, run, &journal_name(plan))?;
    let mut removed = Vec::new();
    for key in journal.stored.clone() {
        bucket
            .delete(&key)
            .await
            .map_err(|error| error.into_failure(&format!("remove s3://{}/{key}", plan.bucket)))?;
        journal.gone(&key)?;
        removed.push(format!("s3://{}/{key}", plan.bucket));
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_parts_than_a_bucket_takes() {
        assert_eq!(part_size(1), 16 * MIB);
        assert_eq!(part_size(100 << 30), 16 * MIB);
        for size in [200 << 30, 16_u64 << 40, 48 << 40] {
            let part = part_size(size);
            assert!(size.div_ceil(part) <= 10_000, "{size}");
            assert_eq!(part % MIB, 0);
            assert!(part <= 5 << 30);
        }
    }
}
