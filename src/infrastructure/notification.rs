//! Tells people and programs that an image is finished or failed: by webhook, by command.
//!
//! A notification never changes how a build ended: what goes wrong with it is a warning.

use std::process::Stdio;
use std::sync::Once;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode, redirect};
use tokio::io::AsyncWriteExt as _;

use crate::documents::infrastructure::{Header, Notification, NotifiedState, Webhook};

/// What is told.
#[derive(Debug, Clone, Copy)]
pub struct News<'n> {
    /// How the build ended.
    pub state: NotifiedState,
    /// The image's id.
    pub arn: &'n str,
    /// The service's JSON.
    pub payload: &'n str,
}

/// Pauses between attempts.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The first; doubled each time.
    pub first_pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_secs(1),
        }
    }
}

/// Why somebody was not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{to} was not told: {problem} ({attempts})")]
pub struct NotTold {
    /// The address or the command.
    pub to: String,
    /// What went wrong in the last attempt.
    pub problem: String,
    /// How often it was tried.
    pub attempts: Attempts,
}

/// How often it was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts(pub u32);

impl std::fmt::Display for Attempts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => f.write_str("not tried"),
            1 => f.write_str("1 attempt"),
            many => write!(f, "{many} attempts"),
        }
    }
}

/// What went wrong with one attempt.
enum Problem {
    /// It may go better next time.
    Passing(String),
    /// It won't.
    Lasting(String),
}

/// Tells everybody whom a configuration names for this state, all at the same time; returns who could not be told.
pub async fn notify(notifications: &[Notification], news: News<'_>, pace: Pace) -> Vec<NotTold> {
    let told = notifications
        .iter()
        .filter(|notification| notification.on.contains(&news.state))
        .map(|notification| tell(notification, news, pace));
    futures_util::future::join_all(told)
        .await
        .into_iter()
        .filter_map(Result::err)
        .collect()
}

async fn tell(notification: &Notification, news: News<'_>, pace: Pace) -> Result<(), NotTold> {
    let to = name_of(notification);
    let limit = Duration::from_secs(u64::from(notification.timeout_seconds));
    let mut pause = pace.first_pause;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let tried = async {
            match (&notification.webhook, &notification.command) {
                (Some(webhook), _) => post(webhook, news).await,
                (None, Some(command)) => run(command, news).await,
                (None, None) => Err(Problem::Lasting("it has no address".into())),
            }
        };
        let outcome = tokio::time::timeout(limit, tried)
            .await
            .unwrap_or_else(|_| Err(Problem::Passing(format!("no answer within {limit:?}"))));
        let problem = match outcome {
            Ok(()) => return Ok(()),
            Err(Problem::Passing(problem)) if attempt < notification.attempts => {
                tracing::debug!(%to, %problem, attempt, "notification failed, will be tried again");
                tokio::time::sleep(pause).await;
                pause *= 2;
                continue;
            }
            Err(Problem::Passing(problem) | Problem::Lasting(problem)) => problem,
        };
        return Err(NotTold {
            to,
            problem,
            attempts: Attempts(attempt),
        });
    }
}

/// Without the query, which often holds a secret.
fn name_of(notification: &Notification) -> String {
    match (&notification.webhook, &notification.command) {
        (Some(webhook), _) => {
            let address = webhook.url.split(['?', '#']).next().unwrap_or_default();
            let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}/{path}")
        }
        (None, Some(command)) => command.first().cloned().unwrap_or_default(),
        (None, None) => "nobody".into(),
    }
}

async fn post(webhook: &Webhook, news: News<'_>) -> Result<(), Problem> {
    static PROVIDER: Once = Once::new();
    // An error only means that somebody else was first.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let client = Client::builder()
        // A redirect would carry the secrets of the headers to somebody else.
        .redirect(redirect::Policy::none())
        .user_agent(concat!("ovenbird/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Problem::Lasting(chain(&error)))?;
    let answer = client
        .post(&webhook.url)
        .headers(headers(&webhook.headers)?)
        .header(CONTENT_TYPE, "application/json")
        .body(news.payload.to_owned())
        .send()
        .await
        .map_err(|error| {
            let lasting = error.is_builder();
            let problem = chain(&error.without_url());
            if lasting {
                Problem::Lasting(problem)
            } else {
                Problem::Passing(problem)
            }
        })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let problem = format!("it answered {status}");
    let passing = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        );
    Err(if passing {
        Problem::Passing(problem)
    } else {
        Problem::Lasting(problem)
    })
}

/// Values come from the document, the environment or a file; no message ever shows one.
fn headers(headers: &[Header]) -> Result<HeaderMap, Problem> {
    let mut map = HeaderMap::new();
    for header in headers {
        let name = HeaderName::try_from(header.name.as_str())
            .map_err(|_| Problem::Lasting(format!("`{}` is no name of a header", header.name)))?;
        let value = secret(header).map_err(Problem::Lasting)?;
        let mut value = HeaderValue::try_from(value).map_err(|_| {
            Problem::Lasting(format!(
                "the value of the header {} holds a line break or another control character",
                header.name
            ))
        })?;
        value.set_sensitive(true);
        map.append(name, value);
    }
    Ok(map)
}

fn secret(header: &Header) -> Result<String, String> {
    if let Some(variable) = &header.value_from_environment {
        return std::env::var(variable)
            .map_err(|_| format!("the environment variable {variable} is not set"));
    }
    if let Some(file) = &header.value_from_file {
        // An editor's line break at the end is not part of the secret.
        return std::fs::read_to_string(file)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|error| format!("cannot read {file}: {error}"));
    }
    Ok(header.value.clone().unwrap_or_default())
}

async fn run(command: &[String], news: News<'_>) -> Result<(), Problem> {
    let [program, arguments @ ..] = command else {
        return Err(Problem::Lasting("the command is empty".into()));
    };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env("OVENBIRD_IMAGE_ARN", news.arn)
        .env("OVENBIRD_IMAGE_STATE", news.state.as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A command that hangs ends with its attempt.
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Problem::Lasting(format!("cannot start it: {error}")))?;
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // A command that doesn't read its input has the right not to.
            let _ = stdin.write_all(news.payload.as_bytes()).await;
        }
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), write);
    let output = output.map_err(|error| Problem::Passing(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    Err(Problem::Passing(match last {
        Some(line) => format!("{}: {}", output.status, line.trim()),
        None => output.status.to_string(),
    }))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
#[path = "notification_tests.rs"]
mod tests;
