//! Signed requests to services that have few calls of interest to us: EC2's query protocol and the EBS direct APIs.
//!
//! There is one retry layer, and it is above this one: a request here is sent once, with a time limit.

use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// A server that can't be reached is told from one that is slow.
const CONNECT: Duration = Duration::from_secs(10);
/// One attempt of one request.
const ATTEMPT: Duration = Duration::from_secs(30);

/// Why a request had no good answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestError {
    /// The service said no.
    #[error("{code}: {message} (HTTP {status})")]
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
            "InvalidAMIName.Malformed" => Some(
                "an AMI's name has 3 to 128 of letters, digits, spaces and ( ) [ ] . / - ' @ _",
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
        // The TLS of reqwest takes the process's default provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(ATTEMPT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .or_failure(FailureKind::Environment, || "cannot set up TLS".into())?;
        Ok(Self {
            endpoint: endpoint(config, service, region),
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
        let answer = self
            .http
            .request(call.method.clone(), &url)
            .headers(headers)
            .body(call.body.clone())
            .send()
            .await
            .map_err(unreachable)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.map_err(unreachable)?;
        if status.is_success() {
            return Ok(Answer { headers, body });
        }
        let (code, message) = refusal(&headers, &body);
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
        let provider = self
            .config
            .credentials_provider()
            .ok_or_else(|| denied(&"there are none"))?;
        let identity = provider
            .provide_credentials()
            .await
            .map_err(|error| denied(&error))?
            .into();
        let mut settings = SigningSettings::default();
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

/// reqwest's own sentence says nothing of the cause.
fn unreachable(error: reqwest::Error) -> RequestError {
    let failure = Failure::environment("the request failed").caused_by(error.without_url());
    RequestError::Transport(failure.chain())
}

fn endpoint(config: &SdkConfig, service: &str, region: &str) -> String {
    let of_env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let given = of_env(&format!("AWS_ENDPOINT_URL_{}", service.to_uppercase()))
        .or_else(|| of_env("AWS_ENDPOINT_URL"))
        .or_else(|| config.endpoint_url().map(str::to_owned));
    let domain = if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    };
    given.map_or_else(
        || format!("https://{service}.{region}.{domain}"),
        |given| given.trim_end_matches('/').to_owned(),
    )
}

/// Code and message of a refusal, in XML or JSON.
fn refusal(headers: &HeaderMap, body: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') {
        let first = |name| super::xml::texts(&text, name).into_iter().next();
        if let Some(code) = first("Code") {
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
mod tests {
    use super::*;

    fn refused(status: u16, code: &str) -> RequestError {
        RequestError::Refused {
            status: StatusCode::from_u16(status).unwrap(),
            code: code.into(),
            message: "m".into(),
        }
    }

    #[test]
    fn refusals_are_read_in_both_languages() {
        let xml = b"<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>a &amp; b</Message></Error></Errors></Response>";
        assert_eq!(
            refusal(&HeaderMap::new(), xml),
            ("UnauthorizedOperation".into(), "a & b".into())
        );
        let json = br#"{"__type":"com.amazon#ValidationException:http://x","Message":"no"}"#;
        assert_eq!(
            refusal(&HeaderMap::new(), json),
            ("ValidationException".into(), "no".into())
        );
    }

    #[test]
    fn what_is_denied_is_final() {
        assert!(refused(500, "InternalError").is_transient());
        assert!(refused(400, "RequestThrottledException").is_transient());
        assert!(RequestError::Transport("reset".into()).is_transient());
        assert!(!refused(403, "AccessDeniedException").is_transient());
        assert!(!refused(400, "ValidationException").is_transient());
    }

    #[test]
    fn every_known_refusal_has_a_hint() {
        for code in [
            "ExpiredToken",
            "AuthFailure",
            "UnauthorizedOperation",
            "AccessDeniedException",
            "InvalidAMIName.Duplicate",
            "InvalidAMIName.Malformed",
        ] {
            let failure = refused(400, code).into_failure("register the AMI");
            assert!(failure.hint().is_some(), "{code}");
            assert!(failure.chain().contains(code), "{}", failure.chain());
        }
    }
}
