//! Credentials, region and endpoints by the standard chain of the AWS SDKs.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::tls;

/// Where nobody says a region, this one is meant; endpoints on loopback don't care.
const REGION: &str = "us-east-1";

/// Loads the configuration: environment, profile, SSO cache, credential process, container and instance metadata.
/// Nothing is asked of any server yet.
pub async fn load() -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(
            tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .load()
        .await;
    if config.region().is_some() {
        return config;
    }
    config
        .into_builder()
        .region(Region::from_static(REGION))
        .build()
}

/// The same with the credentials of a profile.
pub async fn load_profile(profile: &str) -> SdkConfig {
    let of_load = load().await;
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).profile_name(profile);
    if let Some(http) = of_load.http_client() {
        loader = loader.http_client(http);
    }
    let config = loader.load().await;
    if config.region().is_some() {
        return config;
    }
    config
        .into_builder()
        .region(Region::from_static(REGION))
        .build()
}
