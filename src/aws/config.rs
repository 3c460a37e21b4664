//! Credentials, region and endpoints by the standard chain of the AWS SDKs.

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_ssm::config::SharedHttpClient;
use aws_smithy_http_client::tls;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;

/// Where nobody says a region, this one is meant; endpoints on loopback don't care.
const REGION: &str = "us-east-1";
/// Credentials that end sooner than this are asked for again.
const RENEWAL: Duration = Duration::from_secs(300);

/// Where and as whom AWS is asked, if not as the environment says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// The profile of the AWS configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The server of all services; goes before what the environment says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

impl Access {
    /// The configuration of this access, `aws` where it says nothing. Nothing is asked of any server yet.
    pub async fn to(&self, aws: &SdkConfig) -> SdkConfig {
        if *self == Self::default() {
            return aws.clone();
        }
        let mut loader = loader();
        if let Some(profile) = &self.profile {
            // Keys in the environment would go before those of a profile that is only chosen.
            let client = ProviderConfig::without_region()
                .with_region(aws.region().cloned())
                .with_http_client(http());
            let credentials = ProfileFileCredentialsProvider::builder()
                .profile_name(profile)
                .configure(&client)
                .build();
            loader = loader
                .profile_name(profile)
                .credentials_provider(credentials);
        } else if let Some(credentials) = aws.credentials_provider() {
            loader = loader.credentials_provider(credentials);
        }
        if let Some(endpoint) = &self.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        finished(loader.load().await)
    }
}

fn http() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(
            tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https()
}

fn loader() -> ConfigLoader {
    aws_config::defaults(BehaviorVersion::latest()).http_client(http())
}

/// Fills in the region, and keeps credentials: a signature wants them for each request, and the chain may have to ask a server.
fn finished(config: SdkConfig) -> SdkConfig {
    let region = config.region().cloned();
    let provider = config.credentials_provider().map(Kept::provider);
    let mut builder = config.into_builder();
    builder.set_credentials_provider(provider);
    builder
        .region(region.unwrap_or_else(|| Region::from_static(REGION)))
        .build()
}

/// Credentials that are asked for once, and again before they end.
#[derive(Debug)]
struct Kept {
    of: SharedCredentialsProvider,
    kept: Mutex<Option<Credentials>>,
}

impl Kept {
    fn provider(of: SharedCredentialsProvider) -> SharedCredentialsProvider {
        let kept = Mutex::new(None);
        SharedCredentialsProvider::new(Self { of, kept })
    }

    async fn current(&self) -> aws_credential_types::provider::Result {
        let mut kept = self.kept.lock().await;
        let soon = SystemTime::now() + RENEWAL;
        if let Some(credentials) = &*kept
            && credentials.expiry().is_none_or(|end| end > soon)
        {
            return Ok(credentials.clone());
        }
        let fresh = self.of.provide_credentials().await?;
        *kept = Some(fresh.clone());
        Ok(fresh)
    }
}

impl ProvideCredentials for Kept {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.current())
    }
}

/// Loads the configuration: environment, profile, SSO cache, credential process, container and instance metadata.
/// Nothing is asked of any server yet.
pub async fn load() -> SdkConfig {
    finished(loader().load().await)
}

/// The partition of a region's ARNs.
pub fn partition(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "aws-cn"
    } else if region.starts_with("us-gov-") {
        "aws-us-gov"
    } else {
        "aws"
    }
}

/// The same servers with the rights of a role. It is assumed when the first call needs it.
pub async fn as_role(aws: &SdkConfig, region: &str, arn: &str) -> SdkConfig {
    let region = Region::new(region.to_owned());
    let here = aws.clone().into_builder().region(region).build();
    let provider = AssumeRoleProvider::builder(arn)
        .session_name("ovenbird")
        .configure(&here)
        .build()
        .await;
    // The identity cache that the configuration came with is of other credentials.
    here.into_builder()
        .credentials_provider(Kept::provider(SharedCredentialsProvider::new(provider)))
        .identity_cache(aws_config::identity::IdentityCache::lazy().build())
        .build()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug)]
    struct Counting(Arc<AtomicUsize>, Option<Duration>);

    impl ProvideCredentials for Counting {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            self.0.fetch_add(1, Ordering::Relaxed);
            let end = self.1.map(|time| SystemTime::now() + time);
            future::ProvideCredentials::ready(Ok(Credentials::new("a", "b", None, end, "test")))
        }
    }

    #[tokio::test]
    async fn credentials_are_asked_for_before_they_end_and_not_before() {
        for (time, asked) in [(None, 1), (Some(RENEWAL * 2), 1), (Some(RENEWAL / 2), 3)] {
            let count = Arc::new(AtomicUsize::new(0));
            let kept = Kept::provider(SharedCredentialsProvider::new(Counting(
                count.clone(),
                time,
            )));
            for _ in 0..3 {
                kept.provide_credentials().await.unwrap();
            }
            assert_eq!(count.load(Ordering::Relaxed), asked, "{time:?}");
        }
    }

    #[test]
    fn partitions_are_those_of_regions() {
        let of = ["eu-west-1", "cn-north-1", "us-gov-west-1", "us-east-1"].map(partition);
        assert_eq!(of, ["aws", "aws-cn", "aws-us-gov", "aws"]);
    }
}
