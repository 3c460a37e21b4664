//! Signed requests to services that have few calls of interest to us: EC2's query protocol and the EBS direct APIs.
//!
//! There is one retry layer: [`SignedClient::send`] sends once, with a time limit. Callers either have a loop of their own or
//! use [`SignedClient::send_patiently`].

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::{Frame, SizeHint};

use crate::ami_name;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// A server that can't be reached is told from one that is slow.
const CONNECT: Duration = Duration::from_secs(10);
/// One attempt of one request.
const ATTEMPT: Duration = Duration::from_secs(30);

/// A body of which nothing could be sent for so long is stuck, however long it may take as a whole.
const STALL: Duration = Duration::from_secs(30);
/// How long the answer may take when all of a body was sent.
const ANSWER: Duration = Duration::from_secs(60);
/// What is handed to the connection at a time.
const PIECE: usize = 256 * 1024;

/// How often a call that may do better is made again.
const ATTEMPTS: u32 = 6;

/// Why a request had no good answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestError {
    /// The service said no.
    #[error("{code}: {message} (HTTP {status})", status = status.as_u16())]
    Refused {
        /// HTTP's status.
        status: StatusCode,
        /// The service's own word, such as `UnauthorizedOperation`.
        code: String,
        /// The service's sentence.
        message: String,
    },
    /// There was no answer.
    #[error("no answer: {0}")]
    Transport(String),
    /// The request could not be signed.
    #[error("no usable AWS credentials: {0}")]
    Credentials(String),
}

impl RequestError {
    /// The service's word.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Transport(_) | Self::Credentials(_) => "",
        }
    }

    /// Whether the service asks for fewer requests.
    pub fn is_throttle(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS)
            || self.code().contains("Throttl")
            || self.code() == "RequestLimitExceeded"
            || self.code() == "SlowDown"
    }

    /// Whether what arrived was not what was sent.
    pub fn is_checksum(&self) -> bool {
        match self {
            Self::Refused { code, message, .. } => {
                matches!(
                    code.as_str(),
                    "BadDigest" | "XAmzContentSHA256Mismatch" | "InvalidDigest"
                ) || (code == "ValidationException" && message.to_lowercase().contains("checksum"))
            }
            Self::Transport(_) | Self::Credentials(_) => false,
        }
    }

    /// Whether the same request may do better in a moment. What is denied stays denied.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport(_) => true,
            Self::Refused { status, .. } => self.is_throttle() || status.is_server_error(),
            Self::Credentials(_) => false,
        }
    }

    /// The failure that a person is told, `doing` what.
    pub fn into_failure(self, doing: &str) -> Failure {
        let hint = match self.code() {
            "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => Some(
                "the credentials are no longer valid: sign in again (`aws sso login`, or a new session), then run this again",
            ),
            "AuthFailure"
            | "InvalidClientTokenId"
            | "InvalidAccessKeyId"
            | "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch" => Some(
                "AWS does not know these credentials: look at AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ),
            "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => Some(
                "the credentials lack the permission for this call; docs/distribution.md lists all that are needed",
            ),
            "InvalidAMIName.Duplicate" => Some(
                "an AMI of this name is there already: names are unique for an account in a region",
            ),
            "InvalidAMIName.Malformed" => Some(ami_name::RULE),
            "NoSuchBucket" => Some(
                "the bucket is not there: is its name right, and does it belong to this server or account?",
            ),
            "PermanentRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException" => Some(
                "the bucket is in another region: name that one as `region` of the destination",
            ),
            "InvalidRole" | "NoSuchEntity" => Some(
                "the role is missing or may not be used; docs/distribution.md shows what it needs",
            ),
            _ => match self {
                Self::Credentials(_) => {
                    Some("set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
                }
                Self::Transport(_) => Some("is the network up, and the region or endpoint right?"),
                Self::Refused { .. } => None,
            },
        };
        let failure = Failure::environment(format!("cannot {doing}")).caused_by(self);
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

/// A request.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// Its method.
    pub method: Method,
    /// Path and query, encoded.
    pub path: String,
    /// Headers besides those of the signature.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
    /// Whether a checksum in the headers stands for the body in the signature.
    pub unsigned_body: bool,
    /// How long one attempt may take, if not as long as most.
    pub time: Option<Duration>,
}

/// A good answer.
#[derive(Debug)]
pub struct Answer {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// A client of one service in one region.
#[derive(Debug, Clone)]
pub struct SignedClient {
    config: SdkConfig,
    http: reqwest::Client,
    service: &'static str,
    region: String,
    endpoint: String,
}

impl SignedClient {
    /// The client of a service; nothing is asked yet.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if TLS can't be set up.
    pub fn new(config: &SdkConfig, service: &'static str, region: &str) -> Result<Self> {
        Self::at(config, service, region, endpoint(config, service, region))
    }

    /// The client of a service at an address.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if TLS can't be set up.
    pub fn at(
        config: &SdkConfig,
        service: &'static str,
        region: &str,
        endpoint: String,
    ) -> Result<Self> {
        // The TLS of reqwest takes the process's default provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .or_failure(FailureKind::Environment, || "cannot set up TLS".into())?;
        Ok(Self {
            endpoint,
            config: config.clone(),
            http,
            service,
            region: region.to_owned(),
        })
    }

    /// The region.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Sends a request up to six times, as long as another attempt may do better.
    ///
    /// # Errors
    /// As [`send`](Self::send), of the last attempt.
    pub async fn send_patiently(&self, call: &Call) -> Result<Answer, RequestError> {
        let mut pause = Duration::from_millis(200);
        for _ in 1..ATTEMPTS {
            match self.send(call).await {
                Err(error) if error.is_transient() => {}
                answer => return answer,
            }
            // Requests that were refused together must not come back together.
            tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())).await;
            pause *= 2;
        }
        self.send(call).await
    }

    /// Sends a request once.
    ///
    /// # Errors
    /// [`RequestError`], with the service's own code.
    pub async fn send(&self, call: &Call) -> Result<Answer, RequestError> {
        let url = format!("{}{}", self.endpoint, call.path);
        let mut headers = HeaderMap::new();
        for (name, value) in &call.headers {
            let value = HeaderValue::from_str(value)
                .map_err(|error| RequestError::Transport(error.to_string()))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        self.sign(call, &url, &mut headers).await?;
        let (length, taken) = (call.body.len(), Arc::new(AtomicUsize::new(0)));
        let body = Watched {
            rest: call.body.clone(),
            taken: Arc::clone(&taken),
        };
        let request = self
            .http
            .request(call.method.clone(), &url)
            .headers(headers)
            .timeout(call.time.unwrap_or(ATTEMPT))
            .body(reqwest::Body::wrap(body));
        let answer = tokio::select! {
            answer = request.send() => answer.map_err(unreachable)?,
            () = stalled(length, &taken), if length > 0 => {
                return Err(RequestError::Transport("the connection is stuck".into()));
            }
        };
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.map_err(unreachable)?;
        if status.is_success() {
            return Ok(Answer { headers, body });
        }
        let (mut code, message) = refusal(&headers, &body);
        if code.is_empty() {
            // An answer to HEAD has no body.
            code = match status {
                StatusCode::NOT_FOUND => "NotFound".into(),
                StatusCode::FORBIDDEN => "AccessDenied".into(),
                StatusCode::MOVED_PERMANENTLY => "PermanentRedirect".into(),
                _ => code,
            };
        }
        let message = match message.is_empty() {
            true => "the service gives no reason".to_owned(),
            false => message,
        };
        Err(RequestError::Refused {
            status,
            code,
            message,
        })
    }

    async fn sign(
        &self,
        call: &Call,
        url: &str,
        headers: &mut HeaderMap,
    ) -> Result<(), RequestError> {
        let denied = |error: &dyn std::fmt::Display| RequestError::Credentials(error.to_string());
        let not_given = |error: &dyn std::error::Error| RequestError::Credentials(chain(error));
        let provider = self
            .config
            .credentials_provider()
            .ok_or_else(|| denied(&"there are none"))?;
        let identity = provider
            .provide_credentials()
            .await
            .map_err(|error| not_given(&error))?
            .into();
        let mut settings = SigningSettings::default();
        if self.service == "s3" {
            // S3's own variant of the signature: keys are taken as they are written.
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        if call.unsigned_body {
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service)
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| denied(&error))?
            .into();
        let body = if call.unsigned_body {
            SignableBody::UnsignedPayload
        } else {
            SignableBody::Bytes(&call.body)
        };
        let signable = SignableRequest::new(
            call.method.as_str(),
            url,
            call.headers
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
            body,
        )
        .map_err(|error| denied(&error))?;
        let (instructions, _) = sign(signable, &params)
            .map_err(|error| denied(&error))?
            .into_parts();
        for (name, value) in instructions.headers() {
            if let (Ok(name), Ok(value)) = (
                HeaderName::from_bytes(name.as_bytes()),
                HeaderValue::from_str(value),
            ) {
                headers.insert(name, value);
            }
        }
        Ok(())
    }
}

/// A body that notes how much of it the connection has taken.
struct Watched {
    rest: Bytes,
    taken: Arc<AtomicUsize>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        self.taken.fetch_add(length, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).unwrap_or(u64::MAX))
    }
}

/// Ends when nothing of a body was taken for [`STALL`], or no answer came for [`ANSWER`] after all of it was.
async fn stalled(length: usize, taken: &AtomicUsize) {
    let mut last = (0, Instant::now());
    loop {
        tokio::time::sleep(STALL / 10).await;
        let now = taken.load(Ordering::Relaxed);
        // What was not begun waits for its connection, which has a limit of its own.
        if now != last.0 || now == 0 {
            last = (now, Instant::now());
        }
        let patience = if now == length { ANSWER } else { STALL };
        if last.1.elapsed() >= patience {
            return;
        }
    }
}

/// The SDK's sentences say nothing of their causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(&format!(": {more}"));
        }
        cause = error.source();
    }
    text
}

/// reqwest's own sentence says nothing of the cause.
fn unreachable(error: reqwest::Error) -> RequestError {
    let failure = Failure::environment("the request failed").caused_by(error.without_url());
    RequestError::Transport(failure.chain())
}

/// The address that a destination, the environment or a profile give for a service.
pub fn given_endpoint(config: &SdkConfig, service: &str) -> Option<String> {
    let own = || config.endpoint_url().map(str::to_owned);
    let is_own = config.get_origin("endpoint_url").is_client_config();
    let of_env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let word = service.to_uppercase().replace('-', "_");
    own()
        .filter(|_| is_own)
        .or_else(|| of_env(&format!("AWS_ENDPOINT_URL_{word}")))
        .or_else(|| of_env("AWS_ENDPOINT_URL"))
        .or_else(own)
        .map(|given| given.trim_end_matches('/').to_owned())
}

/// The address of a service.
fn endpoint(config: &SdkConfig, service: &str, region: &str) -> String {
    let domain = if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    };
    given_endpoint(config, service).unwrap_or_else(|| match (service, region) {
        // The one service here that has no regions.
        ("iam", "us-east-1") => format!("https://iam.{domain}"),
        ("iam", "us-gov-west-1") => format!("https://iam.us-gov.{domain}"),
        _ => format!("https://{service}.{region}.{domain}"),
    })
}

/// Code and message of a refusal, in XML or JSON.
pub(super) fn refusal(headers: &HeaderMap, body: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') {
        let first = |name| super::xml::texts(&text, name).into_iter().next();
        if let Some(code) = first("Code") {
            let hint = first("Region").filter(|_| code == "AuthorizationHeaderMalformed");
            if let Some(region) = hint {
                return (code, format!("the bucket is in {region}"));
            }
            return (code, first("Message").unwrap_or_default());
        }
    }
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let field = |names: [&str; 2]| {
        names
            .iter()
            .find_map(|name| json.get(name)?.as_str())
            .map(str::to_owned)
    };
    let code = headers
        .get("x-amzn-errortype")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
        .or_else(|| field(["__type", "code"]))
        .unwrap_or_default();
    // `prefix#Code:http://…` in some services.
    let code = code.rsplit('#').next().unwrap_or_default();
    let code = code.split(':').next().unwrap_or_default().to_owned();
    let shown: String = text.chars().take(300).collect();
    (code, field(["message", "Message"]).unwrap_or(shown))
}

#[cfg(test)]
#[path = "signed_tests.rs"]
mod tests;
