//! The query protocol of EC2, SNS and STS: a form goes out, XML comes back.

use aws_config::SdkConfig;
use http::Method;

use super::percent_encoded;
use super::signed::{Call, RequestError, SignedClient};
use crate::error::Result;

/// Parameters of a call by name.
pub type Parameters = Vec<(String, String)>;

/// A client of a service in one region.
#[derive(Debug, Clone)]
pub struct Query {
    client: SignedClient,
    version: &'static str,
}

impl Query {
    /// The client of a service with its version; nothing is asked yet.
    ///
    /// # Errors
    /// As [`SignedClient::new`].
    pub fn new(
        config: &SdkConfig,
        service: &'static str,
        version: &'static str,
        region: &str,
    ) -> Result<Self> {
        Ok(Self {
            client: SignedClient::new(config, service, region)?,
            version,
        })
    }

    /// The region.
    pub fn region(&self) -> &str {
        self.client.region()
    }

    /// Makes a call; what may do better in a moment is tried again. Gives the answer's XML.
    ///
    /// # Errors
    /// What the service says.
    pub async fn call(
        &self,
        action: &str,
        parameters: &Parameters,
    ) -> Result<String, RequestError> {
        let mut form = form_urlencoded(parameters);
        form.insert_str(0, &format!("Action={action}&Version={}", self.version));
        let call = Call {
            method: Method::POST,
            path: "/".into(),
            headers: vec![(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8".into(),
            )],
            body: form.into(),
            ..Call::default()
        };
        let answer = self.client.send_patiently(&call).await?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }
}

/// `&name=value` for each, with everything but unreserved characters encoded.
fn form_urlencoded(parameters: &Parameters) -> String {
    parameters
        .iter()
        .map(|(name, value)| format!("&{name}={}", percent_encoded(value)))
        .collect()
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
