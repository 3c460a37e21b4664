//! The package cache: an HTTP proxy for guests that keeps what package managers download, so that the next bake has it from
//! this machine.
//!
//! It reads through: what is not there is fetched, handed on as it arrives, and kept once it is whole. Files whose address
//! names their content for ever (a package in a pool, an index by its hash) are served without a question; all else is
//! served only if the mirror says that it is unchanged (RFC 9110, section 13). Only plain HTTP passes: what is encrypted end
//! to end can't be kept.

mod mirrors;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

pub use self::mirrors::PackageSettings;

use self::mirrors::Mirrors;
use crate::error::{FailureContext as _, FailureKind, Result};
use crate::loopback::{Body, Loopback};

/// Room for packages; beyond it the longest unused go.
const LIMIT: u64 = 5 << 30;

/// What is known of a kept file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    url: String,
    length: u64,
    etag: Option<String>,
    last_modified: Option<String>,
    content_type: Option<String>,
}

/// What passed through.
#[derive(Debug, Default)]
struct Counts {
    served: AtomicU64,
    served_bytes: AtomicU64,
    fetched: AtomicU64,
}

/// The cache and its proxy; the proxy ends with this value.
#[derive(Debug)]
pub struct PackageCache {
    server: Loopback,
    mirrors: Mirrors,
    counts: Arc<Counts>,
}

struct Store {
    folder: Utf8PathBuf,
    client: reqwest::Client,
    mirrors: Mirrors,
    counts: Arc<Counts>,
}

impl PackageCache {
    /// Starts the proxy over a folder of kept files.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the folder can't be made or there is no port.
    pub async fn start(folder: &Utf8Path, settings: &PackageSettings) -> Result<Self> {
        Self::start_with_limit(folder, settings, LIMIT).await
    }

    async fn start_with_limit(
        folder: &Utf8Path,
        settings: &PackageSettings,
        limit: u64,
    ) -> Result<Self> {
        let failed = || format!("cannot use the package cache in {folder}");
        std::fs::create_dir_all(folder).or_failure(FailureKind::Environment, failed)?;
        trim(folder, limit).or_failure(FailureKind::Environment, failed)?;
        // The TLS of reqwest takes the process's default provider; a mirror may redirect to https.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mirrors = Mirrors::new(settings);
        let client = reqwest::Client::builder()
            .dns_resolver(Arc::new(mirrors.clone()))
            .redirect(mirrors.redirects())
            .build()
            .or_failure(FailureKind::Environment, || "cannot set up TLS".into())?;
        let counts = Arc::new(Counts::default());
        let store = Arc::new(Store {
            folder: folder.to_owned(),
            client,
            mirrors: mirrors.clone(),
            counts: Arc::clone(&counts),
        });
        let server = Loopback::serve(move |request| {
            let store = Arc::clone(&store);
            async move { store.answer(request).await }
        })
        .await?;
        Ok(Self {
            server,
            mirrors,
            counts,
        })
    }

    /// Where the proxy listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.server.address()
    }

    /// What came from here and what from the mirrors, for the person; `None` if nothing was asked for.
    pub fn summary(&self) -> Option<String> {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (served, fetched) = (of(&self.counts.served), of(&self.counts.fetched));
        let passed = (served + fetched > 0).then(|| {
            let mib = of(&self.counts.served_bytes) as f64 / f64::from(1 << 20);
            format!("{served} from the cache ({mib:.1} MiB), {fetched} from the mirrors")
        });
        let told: Vec<String> = passed.into_iter().chain(self.mirrors.refused()).collect();
        (!told.is_empty()).then(|| format!("package downloads: {}", told.join("; ")))
    }
}

/// Whether the content behind a path can never be another one.
fn names_its_content(path: &str) -> bool {
    const PACKAGES: [&str; 7] = [
        ".deb",
        ".udeb",
        ".ddeb",
        ".rpm",
        ".drpm",
        ".apk",
        ".pkg.tar.zst",
    ];
    path.contains("/by-hash/") || PACKAGES.iter().any(|end| path.ends_with(end))
}

impl Store {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let uri = request.uri();
        if uri.scheme_str() != Some("http") || uri.host().is_none() {
            return refusal(
                StatusCode::BAD_REQUEST,
                "this is a proxy for plain HTTP: it wants an absolute http:// address",
            );
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD pass");
        }
        let url = uri.to_string();
        let allowed = match reqwest::Url::parse(&url) {
            Ok(url) => self.mirrors.check(&url),
            Err(error) => Err(format!("{url} is no address: {error}")),
        };
        if let Err(reason) = allowed {
            return refusal(StatusCode::FORBIDDEN, &reason);
        }
        // A part of a file, or a question of the guest's own, goes past the cache.
        let passes_by = request.method() == Method::HEAD
            || [header::RANGE, header::AUTHORIZATION]
                .iter()
                .any(|name| request.headers().contains_key(name));
        let kept = if passes_by { None } else { self.find(&url) };
        if let Some(kept) = &kept
            && names_its_content(uri.path())
        {
            return self.serve(kept, request.headers()).await;
        }
        match self.fetch(request, kept, !passes_by).await {
            Ok(response) => response,
            Err(error) => refusal(
                StatusCode::BAD_GATEWAY,
                &format!("the host cannot reach the mirror: {}", chain(&error)),
            ),
        }
    }

    fn path(&self, url: &str, end: &str) -> Utf8PathBuf {
        let hash = blake3::hash(url.as_bytes()).to_hex();
        self.folder.join(format!("{}.{end}", &hash.as_str()[..40]))
    }

    /// What is kept of an address, if it is whole.
    fn find(&self, url: &str) -> Option<Kept> {
        let text = std::fs::read(self.path(url, "json")).ok()?;
        let kept: Kept = serde_json::from_slice(&text).ok()?;
        let body = std::fs::metadata(self.path(url, "body")).ok()?;
        (kept.url == url && body.len() == kept.length).then_some(kept)
    }

    async fn serve(&self, kept: &Kept, asked: &HeaderMap) -> Response<Body> {
        let path = self.path(&kept.url, "body");
        let Ok(file) = tokio::fs::File::open(&path).await else {
            return refusal(StatusCode::BAD_GATEWAY, "what was kept has gone just now");
        };
        // The order in which files go when room is needed.
        if let Ok(used) = std::fs::File::open(&path) {
            let _ = used.set_modified(SystemTime::now());
        }
        self.counts.served.fetch_add(1, Ordering::Relaxed);
        let mut response = Response::builder();
        for (name, value) in [
            (header::ETAG, &kept.etag),
            (header::LAST_MODIFIED, &kept.last_modified),
            (header::CONTENT_TYPE, &kept.content_type),
        ] {
            if let Some(value) = value {
                response = response.header(name, value);
            }
        }
        // The guest has it already.
        let same = |name: HeaderName, value: &Option<String>| {
            value.is_some()
                && asked.get(name).map(http::HeaderValue::as_bytes)
                    == value.as_ref().map(String::as_bytes)
        };
        if same(header::IF_NONE_MATCH, &kept.etag)
            || same(header::IF_MODIFIED_SINCE, &kept.last_modified)
        {
            return finish(response.status(StatusCode::NOT_MODIFIED), empty());
        }
        self.counts
            .served_bytes
            .fetch_add(kept.length, Ordering::Relaxed);
        let stream = ReaderStream::new(file).map(|chunk| chunk.map(Frame::data));
        finish(
            response.header(header::CONTENT_LENGTH, kept.length),
            StreamBody::new(stream).boxed_unsync(),
        )
    }

    async fn fetch(
        &self,
        request: Request<Incoming>,
        kept: Option<Kept>,
        keep: bool,
    ) -> reqwest::Result<Response<Body>> {
        let url = request.uri().to_string();
        let mut headers = HeaderMap::new();
        for name in [
            header::USER_AGENT,
            header::ACCEPT,
            header::CACHE_CONTROL,
            header::RANGE,
            header::IF_RANGE,
            header::AUTHORIZATION,
        ] {
            if let Some(value) = request.headers().get(&name) {
                headers.insert(name, value.clone());
            }
        }
        match &kept {
            // Our own question: is what we have still so?
            Some(kept) => {
                let conditions = [
                    (header::IF_NONE_MATCH, &kept.etag),
                    (header::IF_MODIFIED_SINCE, &kept.last_modified),
                ];
                for (name, value) in conditions {
                    if let Some(value) = value.as_ref().and_then(|value| value.parse().ok()) {
                        headers.insert(name, value);
                    }
                }
            }
            None => {
                for name in [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
                    if let Some(value) = request.headers().get(&name) {
                        headers.insert(name, value.clone());
                    }
                }
            }
        }
        let answer = self
            .client
            .request(request.method().clone(), &url)
            .headers(headers)
            .send()
            .await?;
        if answer.status() == StatusCode::NOT_MODIFIED
            && let Some(kept) = &kept
        {
            return Ok(self.serve(kept, request.headers()).await);
        }
        self.counts.fetched.fetch_add(1, Ordering::Relaxed);
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            if name != header::CONNECTION && name != header::TRANSFER_ENCODING {
                response = response.header(name, value);
            }
        }
        let private = answer
            .headers()
            .get(header::CACHE_CONTROL)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.contains("no-store") || value.contains("private"));
        let length = answer.content_length();
        let part = match length {
            Some(length) if keep && !private && answer.status() == StatusCode::OK => {
                self.part(&url, length, answer.headers()).await
            }
            _ => None,
        };
        let body = keeping(answer, part);
        Ok(finish(response, body))
    }

    /// A file to keep the answer in; `None` if that is not possible, which costs only another download.
    async fn part(&self, url: &str, length: u64, headers: &HeaderMap) -> Option<Part> {
        let text = |name: HeaderName| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let name = format!(".{}.part", uuid::Uuid::new_v4());
        let path = self.folder.join(name);
        let file = tokio::fs::File::create(&path).await.ok()?;
        Some(Part {
            file,
            path: path.into_std_path_buf(),
            body: self.path(url, "body"),
            record: self.path(url, "json"),
            seen: 0,
            kept: Kept {
                url: url.to_owned(),
                length,
                etag: text(header::ETAG),
                last_modified: text(header::LAST_MODIFIED),
                content_type: text(header::CONTENT_TYPE),
            },
        })
    }
}

/// A file on its way into the cache; removed when dropped unless it became whole.
struct Part {
    file: tokio::fs::File,
    path: PathBuf,
    body: Utf8PathBuf,
    record: Utf8PathBuf,
    seen: u64,
    kept: Kept,
}

impl Part {
    /// Writes a chunk; `None` if that was the last one, or it failed. With the last chunk the file is kept at once: who
    /// knows the length does not ask for the end.
    async fn take(mut self, chunk: &[u8]) -> Option<Self> {
        self.seen += chunk.len() as u64;
        self.file.write_all(chunk).await.ok()?;
        if self.seen < self.kept.length {
            return Some(self);
        }
        let _ = self.keep().await;
        None
    }

    /// The record goes first and comes last: while it is away nobody reads the body.
    async fn keep(mut self) -> std::io::Result<()> {
        self.file.flush().await?;
        let _ = std::fs::remove_file(&self.record);
        std::fs::rename(&self.path, &self.body)?;
        let part = self.body.with_extension("json.part");
        std::fs::write(&part, serde_json::to_vec(&self.kept)?)?;
        std::fs::rename(part, &self.record)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Hands an answer on as it arrives, and keeps it if there is where.
fn keeping(answer: reqwest::Response, part: Option<Part>) -> Body {
    let stream = futures_util::stream::unfold(
        (answer, part, false),
        |(mut answer, mut part, ended)| async move {
            if ended {
                return None;
            }
            match answer.chunk().await {
                Ok(Some(chunk)) => {
                    // With a full disk the guest gets its file all the same.
                    part = match part {
                        Some(writing) => writing.take(&chunk).await,
                        None => None,
                    };
                    Some((Ok(Frame::data(chunk)), (answer, part, false)))
                }
                Ok(None) => None,
                Err(error) => Some((Err(std::io::Error::other(error)), (answer, None, true))),
            }
        },
    );
    StreamBody::new(stream).boxed_unsync()
}

fn finish(response: http::response::Builder, body: Body) -> Response<Body> {
    response.body(body).unwrap_or_else(|_| {
        refusal(
            StatusCode::BAD_GATEWAY,
            "the mirror's answer makes no sense",
        )
    })
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn refusal(status: StatusCode, message: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{message}\n"))).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
}

/// Removes parts that a killed process left, and the longest unused files beyond the limit.
fn trim(folder: &Utf8Path, limit: u64) -> std::io::Result<()> {
    let mut bodies = Vec::new();
    for entry in folder.read_dir_utf8()? {
        let entry = entry?;
        let meta = entry.metadata()?;
        let (path, modified) = (entry.path().to_owned(), meta.modified()?);
        let old = modified.elapsed().is_ok_and(|age| age.as_secs() > 86_400);
        match path.extension() {
            Some("part") if old => std::fs::remove_file(&path)?,
            Some("body") => bodies.push((modified, meta.len(), path)),
            _ => {}
        }
    }
    bodies.sort();
    let mut total: u64 = bodies.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in bodies {
        if total <= limit {
            break;
        }
        let _ = std::fs::remove_file(path.with_extension("json"));
        std::fs::remove_file(&path)?;
        total -= length;
    }
    Ok(())
}

#[cfg(test)]
#[path = "packages_tests.rs"]
mod tests;
