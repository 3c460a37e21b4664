//! The HTTP client.

use std::path::Path;
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::config::Config;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::DefaultConnector;

#[cfg(unix)]
use super::resolver::FileResolver as GuestResolver;
#[cfg(windows)]
use ureq::unversioned::resolver::DefaultResolver as GuestResolver;

/// Where distributions keep their certificates; a guest with a company's own authority has it there.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
];

/// How long a connection may take to come up, and a server to start answering.
const CONNECT_TIME: Duration = Duration::from_secs(30);
const ANSWER_TIME: Duration = Duration::from_secs(120);

/// Longest chain of redirects.
const MOST_REDIRECTS: u32 = 10;

/// An HTTP client for one step.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
}

impl Client {
    /// A client that gives up at a deadline.
    pub fn new(
        deadline: Option<Instant>,
        accept_any_certificate: bool,
        follow_redirects: bool,
    ) -> Self {
        let tls = TlsConfig::builder()
            .root_certs(root_certificates())
            .disable_verification(accept_any_certificate)
            .build();
        let left = deadline.map(|deadline| {
            deadline
                .saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1))
        });
        let config = Config::builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(if follow_redirects { MOST_REDIRECTS } else { 0 })
            .max_redirects_will_error(follow_redirects)
            .timeout_connect(Some(CONNECT_TIME))
            .timeout_recv_response(Some(ANSWER_TIME))
            .timeout_global(left)
            .user_agent(concat!("ovenbird-agent/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: Agent::with_parts(
                config,
                DefaultConnector::default(),
                GuestResolver::default(),
            ),
        }
    }

    /// The client for a request.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }
}

/// The guest's own authorities, or the built-in ones where it has none.
fn root_certificates() -> RootCerts {
    for bundle in BUNDLES.map(Path::new) {
        let Ok(pem) = std::fs::read(bundle) else {
            continue;
        };
        let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if !certificates.is_empty() {
            return RootCerts::new_with_certs(&certificates);
        }
    }
    RootCerts::WebPki
}

/// An error in words that do not repeat themselves.
pub fn error_text(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "the host name has no address".to_owned(),
        ureq::Error::TooManyRedirects => format!("more than {MOST_REDIRECTS} redirects"),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
