//! A blob on its way into a registry.

use std::io::SeekFrom;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use futures_util::StreamExt as _;
use reqwest::{Method, Response, StatusCode, Url};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::client::{Body, Call, Moved, Registry, header};
use super::model::Descriptor;
use super::retry::{Attempts, Ended};
use super::{RegistryError, Result, Source};
use crate::catalog::digest::FileDigests;
use crate::catalog::progress::Progress;

/// Bytes that are read at once.
const READ: usize = 256 << 10;
/// How often somebody is told how far it is.
const TELL: Duration = Duration::from_millis(200);

/// How a blob came to be in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Sent {
    /// It was there.
    Existed,
    /// The registry took it from another repository of its own.
    Mounted,
    /// Its bytes were sent; more than its size if some were lost on the way.
    Sent {
        /// So many.
        bytes: u64,
    },
}

/// How far a blob is, in units of the whole that it is part of.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    weight: u64,
    size: AtomicU64,
    sent: Arc<AtomicU64>,
}

impl Gauge {
    /// For a blob that counts for so much once it is there.
    pub(super) fn of(weight: u64) -> Self {
        Self {
            weight,
            ..Self::default()
        }
    }

    /// The part of the weight that is there.
    pub(super) fn done(&self) -> u64 {
        let size = u128::from(self.size.load(Ordering::Relaxed));
        if size == 0 {
            return 0;
        }
        let sent = u128::from(self.sent.load(Ordering::Relaxed)).min(size);
        u64::try_from(u128::from(self.weight) * sent / size).unwrap_or(self.weight)
    }

    /// All of it is there.
    pub(super) fn finish(&self) {
        self.size.store(1, Ordering::Relaxed);
        self.sent.store(1, Ordering::Relaxed);
    }

    fn begin(&self, size: u64) {
        self.size.store(size, Ordering::Relaxed);
    }
}

/// Work that moves gauges.
pub(super) trait Watched: Future + Sized {
    /// Tells how far the gauges are, now and then, until the work is done.
    async fn watched(self, progress: &dyn Progress, gauges: &[Gauge]) -> Self::Output {
        let total = gauges.iter().map(|gauge| gauge.weight).sum();
        let tell = || progress.bytes(gauges.iter().map(Gauge::done).sum(), Some(total));
        let mut tick = tokio::time::interval(TELL);
        let mut work = std::pin::pin!(self);
        loop {
            tokio::select! {
                result = &mut work => {
                    tell();
                    return result;
                }
                _ = tick.tick() => tell(),
            }
        }
    }
}

impl<F: Future> Watched for F {}

/// A part of a file as a request's body.
pub(super) struct FileBody<'a> {
    path: &'a Utf8Path,
    offset: u64,
    length: u64,
    moved: Arc<Moved>,
}

impl<'a> FileBody<'a> {
    fn new(path: &'a Utf8Path, offset: u64, length: u64, gauge: &Gauge) -> Self {
        Self {
            path,
            offset,
            length,
            moved: Moved::of(length, offset, gauge.sent.clone()),
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) async fn open(&self) -> Result<(reqwest::Body, Arc<Moved>)> {
        let bad = |action| RegistryError::io(action, self.path);
        let mut file = tokio::fs::File::open(self.path)
            .await
            .map_err(bad("open"))?;
        file.seek(SeekFrom::Start(self.offset))
            .await
            .map_err(bad("read"))?;
        let (moved, path) = (self.moved.clone(), self.path.to_owned());
        let stream =
            ReaderStream::with_capacity(file.take(self.length), READ).map(move |part| match part {
                Ok(part) => {
                    moved.add(part.len() as u64);
                    Ok(part)
                }
                Err(error) => {
                    let kind = error.kind();
                    moved.fail(RegistryError::io("read", path.clone())(error));
                    Err(std::io::Error::from(kind))
                }
            });
        Ok((reqwest::Body::wrap_stream(stream), self.moved.clone()))
    }
}

/// A blob to be sent.
struct Job<'a> {
    descriptor: &'a Descriptor,
    source: &'a Source,
    gauge: &'a Gauge,
    what: &'a str,
}

/// An upload that the registry keeps open for us.
struct Session {
    url: Url,
    /// So many bytes has the registry.
    at: u64,
    /// The registry's lower limit for chunks.
    least: u64,
}

impl Registry {
    /// Whether the registry has a blob.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        let what = format!("looking for {}", descriptor.digest);
        descriptor.hex()?;
        let response = self
            .call(&Call {
                method: Method::HEAD,
                url: self.url(&format!("blobs/{}", descriptor.digest))?,
                headers: Vec::new(),
                body: Body::Empty,
                what: &what,
                scopes: self.push_scope(),
            })
            .await?;
        match response.status() {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(fatal(self.ended(response, &what).await)),
        }
    }

    /// Brings a blob into the repository: not at all if it is there, by a mount from one of `others` (repositories of the
    /// same registry) if one has it, else by sending its bytes. An upload that breaks goes on where the registry says it
    /// has got to, if the registry can tell; else from its beginning.
    ///
    /// # Errors
    /// What the registry says, or [`RegistryError::DigestMismatch`] if the file is not what the descriptor says.
    pub async fn push_blob(
        &self,
        descriptor: &Descriptor,
        source: &Source,
        others: &[String],
    ) -> Result<Sent> {
        self.push_gauged(descriptor, source, others, &Gauge::of(descriptor.size))
            .await
    }

    /// [`push_blob`](Self::push_blob), watched.
    pub(super) async fn push_gauged(
        &self,
        descriptor: &Descriptor,
        source: &Source,
        others: &[String],
        gauge: &Gauge,
    ) -> Result<Sent> {
        let sent = self.bring(descriptor, source, others, gauge).await?;
        gauge.finish();
        Ok(sent)
    }

    async fn bring(
        &self,
        descriptor: &Descriptor,
        source: &Source,
        others: &[String],
        gauge: &Gauge,
    ) -> Result<Sent> {
        if self.has_blob(descriptor).await? {
            return Ok(Sent::Existed);
        }
        let mut session = None;
        for other in others
            .iter()
            .filter(|other| **other != self.reference().repository)
        {
            match self.mount(descriptor, other).await? {
                None => return Ok(Sent::Mounted),
                // The registry has it not there, and opened an upload in its place.
                Some(opened) => session = opened.or(session),
            }
        }
        let what = format!("sending {}", descriptor.digest);
        let job = Job {
            descriptor,
            source,
            gauge,
            what: &what,
        };
        gauge.begin(descriptor.size);
        let mut attempts = self.attempts(&what);
        let mut bytes = 0;
        loop {
            match self.push_step(&job, &mut session, &mut bytes).await {
                Ok(true) => return Ok(Sent::Sent { bytes }),
                Ok(false) => attempts.progressed(),
                Err(ended) => {
                    self.take_up(&job, &mut session, ended, &mut attempts)
                        .await?;
                    // The answer may have been lost and not the request.
                    if self.has_blob(descriptor).await? {
                        return Ok(Sent::Sent { bytes });
                    }
                }
            }
        }
    }

    /// Asks for a blob of another repository. `None`: it is here now. `Some`: not, perhaps with an upload to go on with.
    async fn mount(&self, descriptor: &Descriptor, from: &str) -> Result<Option<Option<Session>>> {
        let what = format!("mounting {} from {from}", descriptor.digest);
        let mut url = self.url("blobs/uploads/")?;
        url.query_pairs_mut()
            .append_pair("mount", &descriptor.digest)
            .append_pair("from", from);
        let mut scopes = self.push_scope();
        scopes.push(format!("repository:{from}:pull"));
        let call = Call {
            method: Method::POST,
            url,
            headers: vec![("content-length", "0".into())],
            body: Body::Empty,
            what: &what,
            scopes,
        };
        let response = match self.call(&call).await {
            Ok(response) => response,
            // Another repository that we may not read is only a way that is closed.
            Err(RegistryError::Denied { .. } | RegistryError::Login { .. }) => {
                return Ok(Some(None));
            }
            Err(error) => return Err(error),
        };
        Ok(match response.status() {
            StatusCode::CREATED => None,
            StatusCode::ACCEPTED => Some(Some(self.session(&response, &what)?)),
            _ => Some(None),
        })
    }

    /// Opens an upload if none is open, then sends a chunk, or all that is missing; whether that was the end.
    async fn push_step(
        &self,
        job: &Job<'_>,
        session: &mut Option<Session>,
        bytes: &mut u64,
    ) -> Result<bool, Ended> {
        let Job {
            descriptor,
            source,
            what,
            ..
        } = *job;
        let open = match session {
            Some(open) => open,
            None => session.insert(self.open_upload(what).await?),
        };
        let rest = descriptor.size - open.at;
        let chunk = self
            .options()
            .chunk
            .map(|chunk| chunk.max(open.least).max(1))
            .filter(|chunk| rest > *chunk);
        let length = chunk.unwrap_or(rest);
        let mut headers = vec![("content-type", "application/octet-stream".to_owned())];
        if (chunk.is_some() || open.at > 0) && length > 0 {
            headers.push((
                "content-range",
                format!("{}-{}", open.at, open.at + length - 1),
            ));
        }
        let mut url = open.url.clone();
        if chunk.is_none() {
            url.query_pairs_mut()
                .append_pair("digest", &descriptor.digest);
        }
        let file;
        let body = match source {
            Source::File(path) => {
                file = FileBody::new(path, open.at, length, job.gauge);
                Body::File(&file)
            }
            Source::Bytes(all) => {
                let start = usize::try_from(open.at)
                    .unwrap_or(usize::MAX)
                    .min(all.len());
                let end = usize::try_from(open.at + length)
                    .unwrap_or(usize::MAX)
                    .min(all.len());
                *bytes += length;
                Body::Bytes(all.slice(start..end))
            }
        };
        let call = Call {
            method: if chunk.is_some() {
                Method::PATCH
            } else {
                Method::PUT
            },
            url,
            headers,
            body,
            what,
            scopes: self.push_scope(),
        };
        let result = self.once(&call).await;
        if let Body::File(file) = &call.body {
            *bytes += file.moved.now();
        }
        let response = result?;
        if chunk.is_some() && response.status() == StatusCode::ACCEPTED {
            let next = self.session(&response, what)?;
            *session = Some(Session {
                at: open.at + length,
                least: next.least.max(open.least),
                ..next
            });
            return Ok(false);
        }
        if response.status().is_success() && chunk.is_none() {
            return Ok(true);
        }
        Err(self.ended(response, what).await)
    }

    async fn open_upload(&self, what: &str) -> Result<Session, Ended> {
        let response = self
            .once(&Call {
                method: Method::POST,
                url: self.url("blobs/uploads/")?,
                headers: vec![("content-length", "0".into())],
                body: Body::Empty,
                what,
                scopes: self.push_scope(),
            })
            .await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.ended(response, what).await);
        }
        Ok(self.session(&response, what)?)
    }

    fn session(&self, response: &Response, what: &str) -> Result<Session> {
        Ok(Session {
            url: self.location(response, what)?,
            at: 0,
            least: header(response, "oci-chunk-min-length")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
        })
    }

    /// After an attempt that failed: waits, then asks the registry how far the upload got.
    async fn take_up(
        &self,
        job: &Job<'_>,
        session: &mut Option<Session>,
        ended: Ended,
        attempts: &mut Attempts,
    ) -> Result<()> {
        let ended = match ended {
            Ended::Fatal(RegistryError::Refused {
                registry,
                what,
                status,
                code,
                reason,
            }) if session.is_some() => {
                let code_text = code.clone().unwrap_or_default();
                if code_text == "DIGEST_INVALID" {
                    // Ours or the way's fault: the file knows.
                    check_file(job.source, job.descriptor).await?;
                }
                let lost = matches!(
                    code_text.as_str(),
                    "BLOB_UPLOAD_UNKNOWN"
                        | "BLOB_UPLOAD_INVALID"
                        | "RANGE_INVALID"
                        | "DIGEST_INVALID"
                ) || matches!(status, 404 | 416);
                let error = RegistryError::Refused {
                    registry,
                    what,
                    status,
                    code,
                    reason,
                };
                *session = None;
                if lost {
                    Ended::Transient(error, None)
                } else {
                    Ended::Fatal(error)
                }
            }
            other => other,
        };
        attempts.after(ended).await?;
        let Some(open) = session.take() else {
            return Ok(());
        };
        let asked = self
            .once(&Call {
                method: Method::GET,
                url: open.url.clone(),
                headers: Vec::new(),
                body: Body::Empty,
                what: "asking how far an upload got",
                scopes: self.push_scope(),
            })
            .await;
        if let Ok(response) = asked
            && response.status() == StatusCode::NO_CONTENT
            && let Some(at) = header(&response, "range").and_then(received)
            && at <= job.descriptor.size
        {
            let url = self
                .location(&response, "asking how far an upload got")
                .unwrap_or(open.url);
            if at > open.at {
                attempts.progressed();
            }
            *session = Some(Session {
                url,
                at,
                least: open.least,
            });
        }
        Ok(())
    }
}

/// Bytes of `Range: 0-99`. `0-0` is what registries say of an empty upload too, and then one byte more does no harm.
fn received(range: &str) -> Option<u64> {
    let (start, end) = range
        .strip_prefix("bytes=")
        .unwrap_or(range)
        .split_once('-')?;
    let end: u64 = end.trim().parse().ok()?;
    (start.trim() == "0").then_some(if end == 0 { 0 } else { end.checked_add(1)? })
}

/// Whether a file is still what its descriptor says.
async fn check_file(source: &Source, descriptor: &Descriptor) -> Result<()> {
    let Source::File(path) = source else {
        return Ok(());
    };
    let digest = file_digest(path.clone()).await?;
    if digest == descriptor.digest {
        return Ok(());
    }
    Err(RegistryError::DigestMismatch {
        what: path.to_string(),
        expected: descriptor.digest.clone(),
        actual: digest,
    })
}

/// `sha256:…` of a file.
pub(super) async fn file_digest(path: Utf8PathBuf) -> Result<String> {
    let name = path.clone();
    let digests = tokio::task::spawn_blocking(move || FileDigests::of(&path, None, |_| ()))
        .await
        .map_err(std::io::Error::other)
        .and_then(|digests| digests.map_err(std::io::Error::other))
        .map_err(RegistryError::io("read", name))?;
    Ok(format!("sha256:{}", digests.sha256.hex()))
}

/// The error of an end from which there is no way on.
pub(super) fn fatal(ended: Ended) -> RegistryError {
    match ended {
        Ended::Fatal(error) | Ended::Transient(error, _) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_show_parts_of_their_weight() {
        let gauge = Gauge::of(1000);
        assert_eq!(gauge.done(), 0, "before its size is known");
        gauge.begin(3);
        gauge.sent.store(2, Ordering::Relaxed);
        assert_eq!(gauge.done(), 666);
        gauge.sent.store(9, Ordering::Relaxed);
        assert_eq!(gauge.done(), 1000);
        let unknown = Gauge::of(7);
        unknown.finish();
        assert_eq!(unknown.done(), 7);
    }

    #[test]
    fn ranges_are_counted() {
        for (text, bytes) in [
            ("0-99", Some(100)),
            ("bytes=0-99", Some(100)),
            ("0-0", Some(0)),
            ("5-9", None),
            ("0-18446744073709551615", None),
            ("", None),
        ] {
            assert_eq!(received(text), bytes, "{text}");
        }
    }
}
