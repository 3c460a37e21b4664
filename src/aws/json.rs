//! The JSON protocol of KMS, CloudWatch Logs, License Manager and Secrets Manager: the call's name is a header.

use aws_config::SdkConfig;
use http::Method;
use serde_json::Value;

use super::signed::{Call, RequestError, SignedClient};
use crate::error::Result;

/// A client of a service in one region.
#[derive(Debug, Clone)]
pub struct Json {
    client: SignedClient,
    prefix: &'static str,
}

impl Json {
    /// The client of a service whose calls have this prefix; nothing is asked yet.
    ///
    /// # Errors
    /// As [`SignedClient::new`].
    pub fn new(
        config: &SdkConfig,
        service: &'static str,
        prefix: &'static str,
        region: &str,
    ) -> Result<Self> {
        Ok(Self {
            client: SignedClient::new(config, service, region)?,
            prefix,
        })
    }

    /// Makes a call; what may do better in a moment is tried again.
    ///
    /// # Errors
    /// What the service says.
    pub async fn call(&self, action: &str, body: &Value) -> Result<Value, RequestError> {
        let call = Call {
            method: Method::POST,
            path: "/".into(),
            headers: vec![
                ("content-type", "application/x-amz-json-1.1".into()),
                ("x-amz-target", format!("{}.{action}", self.prefix)),
            ],
            body: body.to_string().into(),
            ..Call::default()
        };
        let answer = self.client.send_patiently(&call).await?;
        Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
    }
}

/// The ARN of a KMS key that is given as an id, an alias or an ARN. The EBS direct APIs take nothing but the ARN of a key.
///
/// # Errors
/// What KMS says.
pub async fn key_arn(config: &SdkConfig, region: &str, key: &str) -> Result<String> {
    if key.starts_with("arn:") && key.contains(":key/") {
        return Ok(key.to_owned());
    }
    let answer = Json::new(config, "kms", "TrentService", region)?
        .call("DescribeKey", &serde_json::json!({"KeyId": key}))
        .await
        .map_err(|error| error.into_failure(&format!("find the KMS key {key} in {region}")))?;
    answer["KeyMetadata"]["Arn"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| crate::error::Failure::environment("the answer to DescribeKey has no ARN"))
}
