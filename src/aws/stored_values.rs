//! Values that documents take from Systems Manager parameters and Secrets Manager: looked up on the host, so that the
//! guest needs neither keys nor network.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aws_config::SdkConfig;
use aws_sdk_ssm::error::{DisplayErrorContext, ProvideErrorMetadata as _};
use aws_sdk_ssm::types::ParameterType;

use crate::error::{Failure, FailureKind, Result};

/// GetParameters takes at most as many names.
const BATCH: usize = 10;
/// Secrets of Secrets Manager are parameters below this path.
const SECRETS: &str = "/aws/reference/secretsmanager/";

/// How a document names a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoredName {
    /// The name of a parameter.
    Direct(String),
    /// The name of a parameter whose value is the name of the parameter that is meant.
    Through(String),
}

impl StoredName {
    /// The name that the document gives.
    pub fn first(&self) -> &str {
        match self {
            Self::Direct(name) | Self::Through(name) => name,
        }
    }
}

/// A value, with the knowledge whether it may be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredValue {
    /// The value; a list is joined by commas.
    pub value: String,
    /// Whether it must never be shown.
    pub secret: bool,
}

impl fmt::Debug for StoredValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secret { "(secret)" } else { &self.value })
    }
}

/// Values by the name under which the agent asks for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredValues(BTreeMap<String, StoredValue>);

impl StoredValues {
    /// Adds a value.
    pub fn insert(&mut self, name: String, value: StoredValue) {
        self.0.insert(name, value);
    }

    /// With the others as well.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that a name stands for in the end.
    pub fn value(&self, name: &StoredName) -> Option<&str> {
        let first = self.0.get(name.first())?;
        match name {
            StoredName::Direct(_) => Some(&first.value),
            StoredName::Through(_) => self.0.get(&first.value).map(|value| value.value.as_str()),
        }
    }

    /// Those that must (`secret`) or need not be hidden.
    pub fn of_kind(&self, secret: bool) -> BTreeMap<&str, &str> {
        self.0
            .iter()
            .filter(|(_, value)| value.secret == secret)
            .map(|(name, value)| (name.as_str(), value.value.as_str()))
            .collect()
    }

    /// Whether any of them is secret.
    pub fn has_secrets(&self) -> bool {
        self.0.values().any(|value| value.secret)
    }
}

/// Looks all names up.
///
/// # Errors
/// [`FailureKind::Config`] for a name that is not there, [`FailureKind::Environment`] if AWS can't be asked.
pub async fn look_up(config: &SdkConfig, names: &BTreeSet<StoredName>) -> Result<StoredValues> {
    let client = aws_sdk_ssm::Client::new(config);
    let direct: BTreeSet<String> = names.iter().map(|name| name.first().to_owned()).collect();
    let mut found = fetch(&client, &direct).await?;
    let second: BTreeSet<String> = names
        .iter()
        .filter_map(|name| match name {
            StoredName::Through(first) => found.get(first).map(|value| value.value.clone()),
            StoredName::Direct(_) => None,
        })
        .filter(|name| !found.contains_key(name))
        .collect();
    found.extend(fetch(&client, &second).await?);
    Ok(StoredValues(found))
}

async fn fetch(
    client: &aws_sdk_ssm::Client,
    names: &BTreeSet<String>,
) -> Result<BTreeMap<String, StoredValue>> {
    let mut found = BTreeMap::new();
    let names: Vec<&String> = names.iter().collect();
    for batch in names.chunks(BATCH) {
        let answer = client
            .get_parameters()
            .set_names(Some(batch.iter().map(|name| (*name).clone()).collect()))
            .with_decryption(true)
            .send()
            .await
            .map_err(|error| refused(batch, error.code(), &DisplayErrorContext(&error)))?;
        for parameter in answer.parameters() {
            let (Some(name), Some(value)) = (parameter.name(), parameter.value()) else {
                continue;
            };
            // A selector (`name:3`, `name:label`) is part of what was asked for, but not of the name in the answer; some
            // servers give a secret's own name there.
            let whole = format!("{name}{}", parameter.selector().unwrap_or_default());
            let asked = batch.iter().find(|asked| {
                [name, whole.as_str()].iter().any(|name| {
                    asked.as_str() == *name || asked.strip_prefix(SECRETS) == Some(name)
                })
            });
            let secret = asked.is_some_and(|asked| asked.starts_with(SECRETS))
                || name.starts_with(SECRETS)
                || parameter.r#type() == Some(&ParameterType::SecureString);
            found.insert(
                asked.map_or_else(|| name.to_owned(), |asked| (*asked).clone()),
                StoredValue {
                    value: value.to_owned(),
                    secret,
                },
            );
        }
        // Some servers leave a secret that is not there out of both lists.
        let missing: Vec<&str> = batch
            .iter()
            .filter(|name| !found.contains_key(name.as_str()))
            .map(|name| name.as_str())
            .collect();
        if !missing.is_empty() {
            return Err(Failure::config(format!(
                "there is no Systems Manager parameter {}",
                missing.join(", ")
            ))
            .with_hint(
                "the name is that of a `{{ aws:ssm:… }}` reference; are account and region the right ones?",
            ));
        }
    }
    Ok(found)
}

fn refused(names: &[&String], code: Option<&str>, chain: &dyn fmt::Display) -> Failure {
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    let failure = Failure::new(
        FailureKind::Environment,
        format!(
            "cannot look up the Systems Manager parameters {}",
            names.join(", ")
        ),
    )
    .with_details(chain.to_string());
    match code {
        Some("AccessDeniedException") => failure.with_hint(
            "the credentials need ssm:GetParameters, and kms:Decrypt for a SecureString",
        ),
        Some("ExpiredTokenException") => failure.with_hint("the session has expired; log in again"),
        Some(_) => failure,
        None => failure.with_hint(
            "credentials, region and endpoint come from the environment or the AWS profile (AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL_SSM)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown_by_debugging() {
        let values = StoredValues(
            [
                (
                    "/a".to_owned(),
                    StoredValue {
                        value: "hush".into(),
                        secret: true,
                    },
                ),
                (
                    "/b".to_owned(),
                    StoredValue {
                        value: "plain".into(),
                        secret: false,
                    },
                ),
            ]
            .into(),
        );
        let shown = format!("{values:?}");
        assert!(
            !shown.contains("hush") && shown.contains("plain"),
            "{shown}"
        );
        assert!(values.has_secrets());
        assert_eq!(values.of_kind(false), [("/b", "plain")].into());
    }
}
