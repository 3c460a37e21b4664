//! An S3 endpoint for guests: it takes unsigned requests, signs them with the host's credentials, and passes them on.
//!
//! The guest reaches it through its SSH connection alone, so that it needs neither network nor keys. Only what the S3
//! modules of documents need goes through: reading, listing and writing objects.

use std::net::SocketAddr;
use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};

use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::loopback::{Body, Loopback};

/// Headers that mean something to S3 and may come from the guest.
const PASSED: [&str; 5] = [
    "content-type",
    "content-length",
    "range",
    "x-amz-expected-bucket-owner",
    "if-match",
];

/// The endpoint; it ends with this value.
#[derive(Debug)]
pub struct ObjectProxy {
    server: Loopback,
}

/// Where requests go and how they are signed.
struct Upstream {
    config: SdkConfig,
    /// Another server than AWS, with the bucket in the path.
    endpoint: Option<String>,
    region: String,
    client: reqwest::Client,
}

impl ObjectProxy {
    /// Starts it on a free port of the loopback interface. Credentials are asked for with the first request.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if there is no port or no TLS.
    pub async fn start(config: SdkConfig) -> Result<Self> {
        let upstream = std::sync::Arc::new(Upstream {
            endpoint: endpoint(&config),
            region: config
                .region()
                .map_or_else(|| "us-east-1".into(), ToString::to_string),
            client: client()?,
            config,
        });
        let server = Loopback::serve(move |request| {
            let upstream = std::sync::Arc::clone(&upstream);
            async move { upstream.answer(request).await }
        })
        .await?;
        Ok(Self { server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

/// The endpoint for S3 that environment or profile give, if any.
fn endpoint(config: &SdkConfig) -> Option<String> {
    let of_env = |name| {
        std::env::var(name)
            .ok()
            .filter(|value: &String| !value.is_empty())
    };
    of_env("AWS_ENDPOINT_URL_S3")
        .or_else(|| of_env("AWS_ENDPOINT_URL"))
        .or_else(|| config.endpoint_url().map(str::to_owned))
}

fn client() -> Result<reqwest::Client> {
    // The TLS of reqwest takes the process's default provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .or_failure(FailureKind::Environment, || "cannot set up TLS".into())
}

impl Upstream {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match self.forward(request).await {
            Ok(response) => response,
            Err((status, code, message)) => refusal(status, code, &message),
        }
    }

    async fn forward(
        &self,
        request: Request<Incoming>,
    ) -> std::result::Result<Response<Body>, (StatusCode, &'static str, String)> {
        let (parts, body) = request.into_parts();
        if ![Method::GET, Method::HEAD, Method::PUT, Method::POST].contains(&parts.method) {
            return Err((
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                format!("{} is not passed on", parts.method),
            ));
        }
        let url = self.place(&parts.uri)?;
        let mut headers = HeaderMap::new();
        for name in PASSED {
            if let Some(value) = parts.headers.get(name) {
                headers.insert(name, value.clone());
            }
        }
        self.sign(&parts.method, &url, &mut headers).await?;
        let body =
            BodyStream::new(body).try_filter_map(|frame| async { Ok(frame.into_data().ok()) });
        let mut forwarded = self
            .client
            .request(parts.method.clone(), url.as_str())
            .headers(headers);
        if parts.headers.contains_key(header::CONTENT_LENGTH) {
            forwarded = forwarded.body(reqwest::Body::wrap_stream(body));
        }
        let answer = forwarded.send().await.map_err(|error| {
            (
                StatusCode::BAD_GATEWAY,
                "ServiceUnavailable",
                format!("the host cannot reach the object store: {error}"),
            )
        })?;
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            if name != header::CONNECTION && name != header::TRANSFER_ENCODING {
                response = response.header(name, value);
            }
        }
        let stream = answer
            .bytes_stream()
            .map_ok(Frame::data)
            .map_err(std::io::Error::other);
        response
            .body(StreamBody::new(stream).boxed_unsync())
            .map_err(|error| (StatusCode::BAD_GATEWAY, "InternalError", error.to_string()))
    }

    /// The address that `/bucket/key?query` stands for.
    fn place(
        &self,
        uri: &http::Uri,
    ) -> std::result::Result<String, (StatusCode, &'static str, String)> {
        let path = uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        // The bucket becomes part of a host name: nothing but a bucket's name may stand there.
        if bucket.is_empty() || !bucket.chars().all(plain) {
            return Err((
                StatusCode::BAD_REQUEST,
                "InvalidBucketName",
                format!("`{bucket}` is no bucket"),
            ));
        }
        let query = uri
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        Ok(match &self.endpoint {
            Some(endpoint) => format!("{}/{bucket}/{key}{query}", endpoint.trim_end_matches('/')),
            // A dot in the name would not match the certificate's wildcard.
            None if bucket.contains('.') => format!(
                "https://s3.{}.amazonaws.com/{bucket}/{key}{query}",
                self.region
            ),
            None => format!(
                "https://{bucket}.s3.{}.amazonaws.com/{key}{query}",
                self.region
            ),
        })
    }

    async fn sign(
        &self,
        method: &Method,
        url: &str,
        headers: &mut HeaderMap,
    ) -> std::result::Result<(), (StatusCode, &'static str, String)> {
        let denied = |message: String| (StatusCode::FORBIDDEN, "AccessDenied", message);
        let provider = self
            .config
            .credentials_provider()
            .ok_or_else(|| denied("the host has no AWS credentials".into()))?;
        let credentials = provider.provide_credentials().await.map_err(|error| {
            denied(format!(
                "the host has no AWS credentials: {}",
                Failure::new(FailureKind::Environment, error.to_string()).chain()
            ))
        })?;
        let identity = credentials.into();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| denied(error.to_string()))?
            .into();
        let passed: Vec<(&str, &str)> = headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
            .filter(|(name, _)| *name != "content-length")
            .collect();
        let signable = SignableRequest::new(
            method.as_str(),
            url,
            passed.into_iter(),
            SignableBody::UnsignedPayload,
        )
        .map_err(|error| denied(error.to_string()))?;
        let (instructions, _) = sign(signable, &params)
            .map_err(|error| denied(error.to_string()))?
            .into_parts();
        for (name, value) in instructions.headers() {
            if let (Ok(name), Ok(value)) = (
                http::HeaderName::from_bytes(name.as_bytes()),
                http::HeaderValue::from_str(value),
            ) {
                headers.insert(name, value);
            }
        }
        Ok(())
    }
}

/// An answer in the form of S3's own errors.
fn refusal(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let escape = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
    };
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{}</Message></Error>",
        escape(message)
    );
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
}
