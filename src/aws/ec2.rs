//! EC2's query protocol: the few calls that an AMI needs.

use std::time::Duration;

use aws_config::SdkConfig;
use http::Method;

use super::signed::{Call, RequestError, SignedClient};
use super::xml;
use crate::error::{Failure, Result};

/// How often a call that may do better is made again.
const ATTEMPTS: u32 = 6;
/// How long a snapshot or a copy may take.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);

/// Parameters of a call by name.
pub type Parameters = Vec<(String, String)>;

/// A client in one region.
#[derive(Debug, Clone)]
pub struct Ec2 {
    client: SignedClient,
}

impl Ec2 {
    /// The client of a region; nothing is asked yet.
    ///
    /// # Errors
    /// As [`SignedClient::new`].
    pub fn new(config: &SdkConfig, region: &str) -> Result<Self> {
        Ok(Self {
            client: SignedClient::new(config, "ec2", region)?,
        })
    }

    /// Makes a call; what may do better in a moment is tried again. Gives the answer's XML.
    ///
    /// # Errors
    /// What EC2 says.
    pub async fn call(
        &self,
        action: &str,
        parameters: &Parameters,
    ) -> Result<String, RequestError> {
        let mut form = form_urlencoded(parameters);
        form.insert_str(0, &format!("Action={action}&Version=2016-11-15"));
        let call = Call {
            method: Method::POST,
            path: "/".into(),
            headers: vec![(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8".into(),
            )],
            body: form.into(),
            unsigned_body: false,
        };
        let mut pause = Duration::from_millis(200);
        for attempt in 1.. {
            match self.client.send(&call).await {
                Ok(answer) => return Ok(String::from_utf8_lossy(&answer.body).into_owned()),
                Err(error) if attempt < ATTEMPTS && error.is_transient() => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the loop ends with an answer")
    }

    /// The same with the failure that a person is told.
    ///
    /// # Errors
    /// What EC2 says, with a hint.
    pub async fn must(&self, doing: &str, action: &str, parameters: &Parameters) -> Result<String> {
        self.call(action, parameters).await.map_err(|error| {
            error.into_failure(&format!("{doing} in {} ({action})", self.client.region()))
        })
    }

    /// The same for calls whose answer must have a value.
    ///
    /// # Errors
    /// What EC2 says, or that the value is missing.
    pub async fn one(
        &self,
        doing: &str,
        action: &str,
        parameters: &Parameters,
        name: &str,
    ) -> Result<String> {
        let answer = self.must(doing, action, parameters).await?;
        xml::texts(&answer, name)
            .into_iter()
            .next()
            .ok_or_else(|| Failure::environment(format!("the answer to {action} has no {name}")))
    }

    /// Asks whether a call would be allowed, without making it.
    ///
    /// # Errors
    /// Why it would not.
    pub async fn rehearse(&self, doing: &str, action: &str, parameters: &Parameters) -> Result<()> {
        let mut parameters = parameters.clone();
        parameters.push(("DryRun".into(), "true".into()));
        match self.call(action, &parameters).await {
            Ok(_) => Ok(()),
            // The good answer is an error.
            Err(error) if error.code() == "DryRunOperation" => Ok(()),
            Err(error) => Err(error.into_failure(&format!("{doing} in {}", self.client.region()))),
        }
    }

    /// Waits for a snapshot (`snap-…`) or an AMI (`ami-…`) to be finished.
    ///
    /// # Errors
    /// That it failed, or took hours.
    pub async fn wait(&self, id: &str) -> Result<()> {
        let (action, key, state) = if id.starts_with("ami-") {
            ("DescribeImages", "ImageId.1", "imageState")
        } else {
            ("DescribeSnapshots", "SnapshotId.1", "status")
        };
        let began = tokio::time::Instant::now();
        let mut pause = Duration::from_secs(1);
        loop {
            let parameters = vec![(key.to_owned(), id.to_owned())];
            let answer = match self.call(action, &parameters).await {
                Ok(answer) => answer,
                // What was just made is not known everywhere at once.
                Err(error)
                    if error.code().ends_with(".NotFound")
                        && began.elapsed() < super::ebs::UNKNOWN =>
                {
                    String::new()
                }
                Err(error) => return Err(error.into_failure(&format!("ask for {id}"))),
            };
            match xml::texts(&answer, state).first().map(String::as_str) {
                Some("completed" | "available") => return Ok(()),
                Some(end @ ("error" | "failed" | "invalid" | "deregistered")) => {
                    let why = xml::texts(&answer, "statusMessage")
                        .into_iter()
                        .chain(xml::texts(&answer, "message"))
                        .next()
                        .unwrap_or_default();
                    return Err(Failure::environment(format!(
                        "{id} is in the state {end}: {why}"
                    )));
                }
                _ if began.elapsed() > PATIENCE => {
                    return Err(Failure::environment(format!("{id} is still not finished"))
                        .with_hint("run the same command again later: it goes on from here"));
                }
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(15));
        }
    }
}

/// `&name=value` for each, with everything but unreserved characters encoded.
fn form_urlencoded(parameters: &Parameters) -> String {
    use std::fmt::Write as _;
    let mut form = String::new();
    for (name, value) in parameters {
        let _ = write!(form, "&{name}=");
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                form.push(char::from(byte));
            } else {
                let _ = write!(form, "%{byte:02X}");
            }
        }
    }
    form
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded() {
        let parameters = vec![("Name".into(), "a b/ü&c".into())];
        assert_eq!(form_urlencoded(&parameters), "&Name=a%20b%2F%C3%BC%26c");
    }
}
