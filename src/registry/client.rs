//! A connection to one repository of one registry.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::SdkConfig;
use camino::Utf8PathBuf;
use reqwest::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::auth::Challenge;
use super::credentials::Credential;
use super::retry::{Attempts, Ended};
use super::upload::FileBody;
use super::{Credentials, ImageReference, MAX_SMALL, Patience, RegistryError, Result, ecr};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// After the last byte a registry may hash and move the blob before it answers.
const FINISHING: u32 = 5;

/// How a registry is spoken to.
#[derive(Debug, Clone)]
pub struct Options {
    /// Without TLS. On loopback that is so anyway, unless an authority is named.
    pub plain_http: bool,
    /// A further authority for the registry's certificate, PEM.
    pub ca_file: Option<Utf8PathBuf>,
    /// Where logins are looked for.
    pub credentials: Credentials,
    /// How often and how long something is tried again.
    pub patience: Patience,
    /// Blobs on their way at the same time.
    pub parallel: usize,
    /// Sends blobs in chunks of so many bytes; otherwise each in one request, which every registry takes.
    pub chunk: Option<u64>,
    /// The AWS account for logins to ECR; if nothing is said, the standard chain's.
    pub aws: Option<SdkConfig>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            plain_http: false,
            ca_file: None,
            credentials: Credentials::of_user(),
            patience: Patience::default(),
            parallel: 4,
            chunk: None,
            aws: None,
        }
    }
}

/// A repository of a registry. Cheap to share; all methods take `&self`.
#[derive(Debug)]
pub struct Registry {
    http: Client,
    reference: ImageReference,
    base: Url,
    options: Options,
    /// The found login; the outer option is whether it was looked for.
    credential: tokio::sync::OnceCell<Option<Credential>>,
    /// `Authorization` by scopes.
    headers: Mutex<HashMap<String, String>>,
    /// Whether the registry has ever answered.
    answered: AtomicBool,
}

/// One request; its body can be made again.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Body<'a>,
    /// What is being done, as in `… while sending x`.
    pub(super) what: &'a str,
    /// Scopes for tokens.
    pub(super) scopes: Vec<String>,
}

pub(super) enum Body<'a> {
    Empty,
    Bytes(bytes::Bytes),
    File(&'a FileBody<'a>),
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<ErrorOfRegistry>,
}

#[derive(Deserialize)]
struct ErrorOfRegistry {
    code: String,
    #[serde(default)]
    message: Option<String>,
}

impl Registry {
    /// Prepares to speak to the repository of a reference. Nothing is sent yet.
    ///
    /// # Errors
    /// [`RegistryError::Io`] or [`RegistryError::BadContent`] for a certificate file that can't be used.
    pub fn new(reference: &ImageReference, options: Options) -> Result<Self> {
        // An error only means that somebody else was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let loopback = reference.is_loopback();
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .http1_only()
            .user_agent(concat!("ovenbird/", env!("CARGO_PKG_VERSION")));
        if loopback {
            builder = builder.no_proxy();
        }
        if let Some(path) = &options.ca_file {
            let pem = std::fs::read(path).map_err(RegistryError::io("read", path.clone()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| RegistryError::content(path.as_str(), error.to_string()))?;
            if certificates.is_empty() {
                return Err(RegistryError::content(
                    path.as_str(),
                    "has no certificate in it",
                ));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let http = builder
            .build()
            .map_err(|error| RegistryError::Unreachable {
                registry: reference.registry.clone(),
                source: Box::new(error),
            })?;
        let plain = options.plain_http || (loopback && options.ca_file.is_none());
        let scheme = if plain { "http" } else { "https" };
        let base =
            Url::parse(&format!("{scheme}://{}/v2/", reference.api_host())).map_err(|error| {
                RegistryError::BadReference {
                    text: reference.to_string(),
                    reason: error.to_string(),
                }
            })?;
        Ok(Self {
            http,
            reference: reference.clone(),
            base,
            options,
            credential: tokio::sync::OnceCell::new(),
            headers: Mutex::default(),
            answered: AtomicBool::new(false),
        })
    }

    /// What was named when this was made.
    pub fn reference(&self) -> &ImageReference {
        &self.reference
    }

    /// How the registry is spoken to.
    pub fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn host(&self) -> &str {
        &self.reference.registry
    }

    pub(super) fn http(&self) -> &Client {
        &self.http
    }

    pub(super) fn is_plain(&self) -> bool {
        self.base.scheme() == "http"
    }

    pub(super) fn attempts(&self, what: &str) -> Attempts {
        Attempts::new(what, self.options.patience)
    }

    /// An address below the repository.
    pub(super) fn url(&self, rest: &str) -> Result<Url> {
        self.base
            .join(&format!("{}/{rest}", self.reference.repository))
            .map_err(|error| RegistryError::BadReference {
                text: rest.to_owned(),
                reason: error.to_string(),
            })
    }

    /// The address in a `Location` header, which may be relative.
    pub(super) fn location(&self, response: &Response, what: &str) -> Result<Url> {
        header(response, "location")
            .and_then(|text| response.url().join(text).ok())
            .ok_or_else(|| {
                RegistryError::content(
                    self.host(),
                    format!("gave no address to go on with while {what}"),
                )
            })
    }

    pub(super) fn pull_scope(&self) -> Vec<String> {
        vec![format!("repository:{}:pull", self.reference.repository)]
    }

    pub(super) fn push_scope(&self) -> Vec<String> {
        vec![format!(
            "repository:{}:pull,push",
            self.reference.repository
        )]
    }

    pub(super) fn delete_scope(&self) -> Vec<String> {
        vec![format!("repository:{}:delete", self.reference.repository)]
    }

    pub(super) async fn credential(&self) -> Result<Option<Credential>> {
        self.credential
            .get_or_try_init(|| async {
                let (source, reference) =
                    (self.options.credentials.clone(), self.reference.clone());
                // Helpers are programs: they may ask a keyring, or the network.
                let found = tokio::task::spawn_blocking(move || source.find(&reference))
                    .await
                    .map_err(|error| RegistryError::Credentials {
                        from: "the login files".into(),
                        reason: error.to_string(),
                    })??;
                match (&found, &self.options.credentials) {
                    (None, Credentials::Files(_)) => {
                        ecr::credential_for(self.host(), self.options.aws.as_ref()).await
                    }
                    _ => Ok(found),
                }
            })
            .await
            .cloned()
    }

    /// Sends a call until it is answered; what is transient is tried again.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Response> {
        let mut attempts = self.attempts(call.what);
        loop {
            match self.once(call).await {
                Ok(response) => return Ok(response),
                Err(ended) => attempts.after(ended).await?,
            }
        }
    }

    /// Sends a call once, twice if a login is asked for. Success is any answer that neither logging in nor trying again
    /// would change.
    pub(super) async fn once(&self, call: &Call<'_>) -> Result<Response, Ended> {
        let key = call.scopes.join(" ");
        let known = self.lock_headers().get(&key).cloned();
        let response = self.send(call, known.as_deref()).await?;
        let response = if response.status() == StatusCode::UNAUTHORIZED && self.is_ours(&call.url) {
            let challenge = response
                .headers()
                .get_all(WWW_AUTHENTICATE)
                .iter()
                .filter_map(|value| Challenge::parse(value.to_str().ok()?))
                .next();
            let Some(challenge) = challenge else {
                return Err(self.ended(response, call.what).await);
            };
            let header = self.answer(&challenge, &call.scopes).await?;
            self.lock_headers().insert(key, header.clone());
            let response = self.send(call, Some(&header)).await?;
            if self.is_short_of_rights(&response).await? {
                return Err(Ended::Fatal(RegistryError::Denied {
                    registry: self.host().to_owned(),
                    what: call.what.to_owned(),
                    reason: None,
                }));
            }
            response
        } else {
            response
        };
        let status = response.status();
        if status.is_server_error()
            || matches!(
                status,
                StatusCode::UNAUTHORIZED
                    | StatusCode::FORBIDDEN
                    | StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::REQUEST_TIMEOUT
            )
        {
            return Err(self.ended(response, call.what).await);
        }
        Ok(response)
    }

    /// Whether the login itself was good, but the token that it got does not go far enough (RFC 6750, 3.1). Without a login
    /// the answer to that is to log in.
    async fn is_short_of_rights(&self, response: &Response) -> Result<bool> {
        let short = response.status() == StatusCode::UNAUTHORIZED
            && header(response, WWW_AUTHENTICATE.as_str())
                .is_some_and(|text| text.contains("insufficient_scope"));
        Ok(short && self.credential().await?.is_some())
    }

    /// Some registries send uploads to a storage service: our login is none of its business.
    fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    fn lock_headers(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.headers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, call: &Call<'_>, authorization: Option<&str>) -> Result<Response, Ended> {
        let mut request = self.http.request(call.method.clone(), call.url.clone());
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some(authorization) = authorization.filter(|_| self.is_ours(&call.url)) {
            request = request.header(AUTHORIZATION, authorization);
        }
        match &call.body {
            Body::Empty => self.watched(request, call.what, None).await,
            Body::Bytes(bytes) => {
                self.watched(request.body(bytes.clone()), call.what, None)
                    .await
            }
            Body::File(file) => {
                let (body, moved) = file.open().await?;
                let request = request
                    .header("content-length", file.length().to_string())
                    .body(body);
                self.watched(request, call.what, Some(moved)).await
            }
        }
    }

    /// Sends a request, and gives it up when nothing moves any more.
    pub(super) async fn watched(
        &self,
        request: RequestBuilder,
        what: &str,
        moved: Option<Arc<Moved>>,
    ) -> Result<Response, Ended> {
        let stall = self.options.patience.stall;
        let silent = async {
            let mut last = 0;
            let mut quiet = Duration::ZERO;
            let tick = stall / 4;
            loop {
                tokio::time::sleep(tick).await;
                let now = moved.as_ref().map_or(0, |moved| moved.now());
                quiet = if now == last { quiet + tick } else { tick };
                last = now;
                let finishing = moved.as_ref().is_some_and(|moved| moved.is_all());
                if quiet >= stall * if finishing { FINISHING } else { 1 } {
                    return quiet;
                }
            }
        };
        let sent = tokio::select! {
            sent = request.send() => sent,
            after = silent => {
                let error = RegistryError::Stalled { registry: self.host().to_owned(), what: what.to_owned(), after };
                return Err(Ended::Transient(error, None));
            }
        };
        if sent.is_ok() {
            self.answered.store(true, Ordering::Relaxed);
        }
        sent.map_err(|error| {
            // A file of ours that can't be read is no matter of the network.
            if let Some(moved) = &moved
                && let Some(error) = moved.failure()
            {
                return Ended::Fatal(error);
            }
            self.broken(error)
        })
    }

    /// An error of the connection. A certificate that is not trusted now will not be trusted later.
    pub(super) fn broken(&self, error: reqwest::Error) -> Ended {
        let error = error.without_url();
        let text = super::error::causes(&error);
        // A name server that can't be asked just now is another matter than a name that does not exist.
        let hopeless = text.contains("certificate")
            || text.contains("corrupt message")
            || text.contains("InvalidContentType")
            || text.contains("Name or service not known")
            || text.contains("nodename nor servname")
            // Nothing is begun yet, and a wrong name or port is likelier than a registry that just restarts.
            || (error.is_connect() && !self.answered.load(Ordering::Relaxed));
        let error = RegistryError::Unreachable {
            registry: self.host().to_owned(),
            source: Box::new(error),
        };
        if hopeless {
            Ended::Fatal(error)
        } else {
            Ended::Transient(error, None)
        }
    }

    /// What an answer that is no success means.
    pub(super) async fn ended(&self, response: Response, what: &str) -> Ended {
        let status = response.status();
        let asked = header(&response, RETRY_AFTER.as_str()).and_then(retry_after);
        let (code, reason) = match self.small_body(response, "the answer").await {
            Ok(body) => words(&body),
            Err(_) => (None, None),
        };
        let registry = self.host().to_owned();
        let error = match status {
            StatusCode::UNAUTHORIZED => {
                let credential = self.credential().await.ok().flatten();
                return Ended::Fatal(self.login(credential.as_ref(), reason));
            }
            StatusCode::FORBIDDEN => {
                return Ended::Fatal(RegistryError::Denied {
                    registry,
                    what: what.to_owned(),
                    reason,
                });
            }
            _ => RegistryError::Refused {
                registry,
                what: what.to_owned(),
                status: status.as_u16(),
                code,
                reason,
            },
        };
        let transient = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
            || matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
            );
        if transient {
            Ended::Transient(error, asked)
        } else {
            Ended::Fatal(error)
        }
    }

    /// Reads a body that must be small.
    pub(super) async fn small_body(
        &self,
        mut response: Response,
        what: &str,
    ) -> Result<Vec<u8>, Ended> {
        let mut body = Vec::new();
        loop {
            let next = tokio::time::timeout(self.options.patience.stall, response.chunk()).await;
            match next {
                Ok(Ok(Some(part))) => body.extend_from_slice(&part),
                Ok(Ok(None)) => return Ok(body),
                Ok(Err(error)) => return Err(self.broken(error)),
                Err(_) => {
                    let error = RegistryError::Stalled {
                        registry: self.host().to_owned(),
                        what: format!("sending {what}"),
                        after: self.options.patience.stall,
                    };
                    return Err(Ended::Transient(error, None));
                }
            }
            if body.len() > MAX_SMALL {
                return Err(RegistryError::content(
                    what,
                    format!("is longer than {MAX_SMALL} bytes"),
                )
                .into());
            }
        }
    }
}

/// How much of a body has gone out; shared with the stream that sends it.
#[derive(Debug)]
pub(super) struct Moved {
    bytes: AtomicU64,
    total: u64,
    /// Where the body begins in the whole, and who is told how much of the whole has gone out.
    start: u64,
    told: Arc<AtomicU64>,
    failure: Mutex<Option<RegistryError>>,
}

impl Moved {
    pub(super) fn of(total: u64, start: u64, told: Arc<AtomicU64>) -> Arc<Self> {
        told.store(start, Ordering::Relaxed);
        Arc::new(Self {
            bytes: AtomicU64::new(0),
            total,
            start,
            told,
            failure: Mutex::default(),
        })
    }

    pub(super) fn add(&self, bytes: u64) {
        let now = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.told.store(self.start + now, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn is_all(&self) -> bool {
        self.now() >= self.total
    }

    pub(super) fn fail(&self, error: RegistryError) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn failure(&self) -> Option<RegistryError> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// A header as text.
pub(super) fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Seconds or a date (RFC 9110, 10.2.3).
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    let seconds = then.duration_since(jiff::Timestamp::now()).as_secs();
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// Code and text of a registry's error document, or the first line of any other body.
fn words(body: &[u8]) -> (Option<String>, Option<String>) {
    if let Ok(document) = serde_json::from_slice::<Errors>(body)
        && let Some(first) = document.errors.into_iter().next()
    {
        let text = match &first.message {
            Some(message) if !message.is_empty() => format!("{}: {message}", first.code),
            _ => first.code.clone(),
        };
        return (Some(first.code), Some(text));
    }
    let text = String::from_utf8_lossy(body);
    let line: String = text
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(200)
        .collect();
    // A proxy's page says nothing that the status does not.
    (
        None,
        Some(line.trim().to_owned()).filter(|line| !line.is_empty() && !line.starts_with('<')),
    )
}
