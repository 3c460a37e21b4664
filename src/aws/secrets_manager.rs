//! Secrets of Secrets Manager, by their own calls: whole, or one member of a secret that is a JSON object.

use aws_config::SdkConfig;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::json::Json;
use super::stored_values::StoredValue;
use crate::error::{Failure, FailureKind, Result};

/// Which secret, and what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its name or its ARN.
    pub id: String,
    /// The member of the JSON object that it is; the whole secret if none is given.
    pub key: Option<String>,
}

impl Secret {
    /// Its region, where the name says it.
    fn region(&self) -> Option<&str> {
        self.id
            .strip_prefix("arn:")?
            .split(':')
            .nth(2)
            .filter(|region| !region.is_empty())
    }

    /// Asks for it.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if there is no such secret or no such member, [`FailureKind::Environment`] if AWS can't be
    /// asked; no message holds any of it.
    pub async fn fetch(&self, config: &SdkConfig) -> Result<StoredValue> {
        let region = self
            .region()
            .or_else(|| config.region().map(AsRef::as_ref))
            .ok_or_else(|| {
                Failure::environment(format!("the region of the secret {} is not known", self.id))
                    .with_hint("set AWS_REGION, or name the secret by its ARN")
            })?;
        let answer = Json::new(config, "secretsmanager", "secretsmanager", region)?
            .call("GetSecretValue", &json!({"SecretId": self.id}))
            .await
            .map_err(|error| match error.code() {
                "ResourceNotFoundException" => Failure::config(format!(
                    "there is no secret {} in Secrets Manager in {region}",
                    self.id
                ))
                .with_hint("are account and region the right ones, and is it not about to be deleted?"),
                "AccessDeniedException" => error
                    .into_failure(&format!("read the secret {} in {region}", self.id))
                    .with_hint("the credentials need secretsmanager:GetSecretValue, and kms:Decrypt for a secret with a key of one's own"),
                _ => error.into_failure(&format!("read the secret {} in {region}", self.id)),
            })?;
        let value = match (
            answer["SecretString"].as_str(),
            answer["SecretBinary"].as_str(),
        ) {
            (Some(text), _) => self.part(text)?,
            (None, Some(bytes)) => BASE64_STANDARD
                .decode(bytes)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(|| self.wrong("is no UTF-8 text"))
                .and_then(|text| self.part(&text))?,
            (None, None) => return Err(self.wrong("has no value")),
        };
        Ok(StoredValue {
            value,
            secret: true,
        })
    }

    fn part(&self, text: &str) -> Result<String> {
        let Some(key) = &self.key else {
            return Ok(text.to_owned());
        };
        // The parser's own message could show a part of what it has read.
        let value: Value = serde_json::from_str(text)
            .map_err(|_| self.wrong("is no JSON, so that it has no keys"))?;
        match value.get(key) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
            Some(_) => Err(self.wrong(&format!("has no text under the key {key}"))),
            None => Err(self.wrong(&format!("has no key {key}"))),
        }
    }

    fn wrong(&self, what: &str) -> Failure {
        Failure::new(
            FailureKind::Config,
            format!("the secret {} {what}", self.id),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(id: &str, key: Option<&str>) -> Secret {
        Secret {
            id: id.into(),
            key: key.map(Into::into),
        }
    }

    #[test]
    fn the_region_stands_in_an_arn() {
        let arn = "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:app/prod-a1b2c3";
        assert_eq!(secret(arn, None).region(), Some("cn-north-1"));
        assert_eq!(secret("app/prod", None).region(), None);
        assert_eq!(secret("arn:x", None).region(), None);
    }

    #[test]
    fn a_member_is_taken_and_nothing_of_the_others_told() {
        let text = r#"{"user": "app", "port": 5432, "hush": {"a": 1}}"#;
        for (key, wanted) in [
            (None, Ok(text)),
            (Some("user"), Ok("app")),
            (Some("port"), Ok("5432")),
            (
                Some("hush"),
                Err("the secret app has no text under the key hush"),
            ),
            (Some("none"), Err("the secret app has no key none")),
        ] {
            let got = secret("app", key)
                .part(text)
                .map_err(|failure| failure.chain());
            assert_eq!(got.as_deref().map_err(String::as_str), wanted);
        }
        let failure = secret("app", Some("x")).part("hush-4711").unwrap_err();
        assert_eq!(
            failure.chain(),
            "the secret app is no JSON, so that it has no keys"
        );
    }
}
