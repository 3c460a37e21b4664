//! EC2's query protocol: the few calls that an AMI needs.

use std::time::Duration;

use aws_config::SdkConfig;

pub use super::query::Parameters;
use super::query::Query;
use super::signed::RequestError;
use super::xml;
use crate::error::{Failure, Result};

/// How long a snapshot or a copy may take.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);

/// A client in one region.
#[derive(Debug, Clone)]
pub struct Ec2 {
    query: Query,
}

impl Ec2 {
    /// The client of a region; nothing is asked yet.
    ///
    /// # Errors
    /// As [`SignedClient::new`](super::signed::SignedClient::new).
    pub fn new(config: &SdkConfig, region: &str) -> Result<Self> {
        Ok(Self {
            query: Query::new(config, "ec2", "2016-11-15", region)?,
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
        self.query.call(action, parameters).await
    }

    /// The same with the failure that a person is told.
    ///
    /// # Errors
    /// What EC2 says, with a hint.
    pub async fn must(&self, doing: &str, action: &str, parameters: &Parameters) -> Result<String> {
        self.call(action, parameters).await.map_err(|error| {
            error.into_failure(&format!("{doing} in {} ({action})", self.query.region()))
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
            Err(error) => Err(error.into_failure(&format!("{doing} in {}", self.query.region()))),
        }
    }

    /// The state of a snapshot (`snap-…`) or an AMI (`ami-…`); none if it is not there.
    ///
    /// # Errors
    /// What EC2 says.
    pub async fn state(&self, id: &str) -> Result<Option<String>> {
        let (action, key, state) = describing(id);
        match self
            .call(action, &vec![(key.to_owned(), id.to_owned())])
            .await
        {
            Ok(answer) => Ok(xml::texts(&answer, state).into_iter().next()),
            Err(error) if error.code().ends_with(".NotFound") => Ok(None),
            Err(error) => Err(error.into_failure(&format!("ask for {id}"))),
        }
    }

    /// Waits for a snapshot (`snap-…`) or an AMI (`ami-…`) to be finished.
    ///
    /// # Errors
    /// That it failed, or took hours.
    pub async fn wait(&self, id: &str) -> Result<()> {
        let (action, key, state) = describing(id);
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

/// How to ask for a snapshot or an AMI: the call, its parameter, the element with the state.
fn describing(id: &str) -> (&'static str, &'static str, &'static str) {
    if id.starts_with("ami-") {
        ("DescribeImages", "ImageId.1", "imageState")
    } else {
        ("DescribeSnapshots", "SnapshotId.1", "status")
    }
}
