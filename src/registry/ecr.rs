//! What is Amazon's own: logins by token, and repositories that must exist before a push.

use aws_config::{Region, SdkConfig};
use aws_sdk_ecr::Client;
use aws_sdk_ecr::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::types::{ImageFailureCode, ImageIdentifier};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Credential, RegistryError, Result};

/// Who owns a registry of ECR, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcrHost {
    /// Twelve digits.
    pub account: String,
    /// Such as `eu-central-1`.
    pub region: String,
}

impl EcrHost {
    /// Reads `123456789012.dkr.ecr.eu-central-1.amazonaws.com`, with `-fips` and the partitions' other domains.
    pub fn parse(host: &str) -> Option<Self> {
        let (account, rest) = host.split_once('.')?;
        let rest = rest
            .strip_prefix("dkr.ecr.")
            .or_else(|| rest.strip_prefix("dkr.ecr-fips."))
            // The dual-stack names.
            .or_else(|| rest.strip_prefix("dkr-ecr."))
            .or_else(|| rest.strip_prefix("dkr-ecr-fips."))?;
        let (region, domain) = rest.split_once('.')?;
        let is_amazon = matches!(
            domain,
            "amazonaws.com"
                | "amazonaws.com.cn"
                | "amazonaws.eu"
                | "on.aws"
                | "on.amazonwebservices.com.cn"
        );
        (is_amazon && account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| Self {
                account: account.to_owned(),
                region: region.to_owned(),
            })
    }
}

/// A login for a host of ECR by the standard chain of AWS credentials; none for other hosts.
pub(super) async fn credential_for(
    host: &str,
    account: Option<&SdkConfig>,
) -> Result<Option<Credential>> {
    let Some(ecr) = EcrHost::parse(host) else {
        return Ok(None);
    };
    let config = match account {
        Some(config) => config.clone(),
        None => crate::aws::load().await,
    };
    login(&in_region(&config, &ecr.region)).await.map(Some)
}

/// The same account in a region.
pub fn in_region(config: &SdkConfig, region: &str) -> SdkConfig {
    let region = Region::new(region.to_owned());
    config.clone().into_builder().region(region).build()
}

/// Gets a login, good for twelve hours (GetAuthorizationToken).
///
/// # Errors
/// [`RegistryError::Ecr`] with the service's code and message.
pub async fn login(config: &SdkConfig) -> Result<Credential> {
    host_and_login(config)
        .await
        .map(|(_, credential)| credential)
}

/// Gets the host of the account's registry in the configuration's region, and a login for it.
///
/// # Errors
/// [`RegistryError::Ecr`] with the service's code and message.
pub async fn host_and_login(config: &SdkConfig) -> Result<(String, Credential)> {
    let bad = |reason: &str| RegistryError::Ecr {
        what: "the login".into(),
        reason: reason.into(),
    };
    let answer = Client::new(config)
        .get_authorization_token()
        .send()
        .await
        .map_err(|error| failed("the login", &error))?;
    let data = answer
        .authorization_data()
        .first()
        .ok_or_else(|| bad("the answer has no token"))?;
    let host = data
        .proxy_endpoint()
        // A server on loopback that stands in for it may have no TLS.
        .map(|address| address.split_once("://").map_or(address, |(_, host)| host))
        .ok_or_else(|| bad("the answer does not say where the registry is"))?;
    let token = data
        .authorization_token()
        .and_then(|token| STANDARD.decode(token).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| bad("the answer has no token that can be read"))?;
    // The user is always AWS; servers that stand in for ECR leave it out.
    let (user, password) = token.split_once(':').unwrap_or(("AWS", &token));
    let credential = Credential::Basic {
        user: user.to_owned(),
        password: password.to_owned(),
    };
    Ok((host.to_owned(), credential))
}

/// Makes a repository if there is none. Returns whether it was made.
///
/// # Errors
/// [`RegistryError::Ecr`] with the service's code and message.
pub async fn ensure_repository(config: &SdkConfig, name: &str) -> Result<bool> {
    let made = Client::new(config)
        .create_repository()
        .repository_name(name)
        .send()
        .await;
    match made {
        Ok(_) => Ok(true),
        // Creating says it in one call, and without the right to list.
        Err(error) if error.code() == Some("RepositoryAlreadyExistsException") => Ok(false),
        Err(error) => Err(failed(&format!("the repository {name}"), &error)),
    }
}

/// Removes an image by its digest (BatchDeleteImage); one that is not there is removed.
///
/// # Errors
/// [`RegistryError::Ecr`] with the service's code and message.
pub async fn delete(config: &SdkConfig, repository: &str, digest: &str) -> Result<()> {
    let what = || format!("the removal of {digest} from {repository}");
    let id = ImageIdentifier::builder().image_digest(digest).build();
    let answer = Client::new(config)
        .batch_delete_image()
        .repository_name(repository)
        .image_ids(id)
        .send()
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) if error.code() == Some("RepositoryNotFoundException") => return Ok(()),
        Err(error) => return Err(failed(&what(), &error)),
    };
    let failure = answer
        .failures()
        .iter()
        .find(|failure| failure.failure_code() != Some(&ImageFailureCode::ImageNotFound));
    match failure {
        None => Ok(()),
        Some(failure) => Err(RegistryError::Ecr {
            what: what(),
            reason: failure.failure_reason().unwrap_or_default().to_owned(),
        }),
    }
}

fn failed<E>(what: &str, error: &SdkError<E>) -> RegistryError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let reason = match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => DisplayErrorContext(error).to_string(),
    };
    RegistryError::Ecr {
        what: what.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_ecr_are_known() {
        for (host, region) in [
            (
                "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
                Some("eu-central-1"),
            ),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                Some("us-gov-west-1"),
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                Some("cn-north-1"),
            ),
            ("123456789012.dkr-ecr.eu-west-1.on.aws", Some("eu-west-1")),
            ("12345678901.dkr.ecr.eu-central-1.amazonaws.com", None),
            (
                "123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.example",
                None,
            ),
            ("public.ecr.aws", None),
            ("localhost:5000", None),
        ] {
            assert_eq!(
                EcrHost::parse(host).map(|ecr| ecr.region).as_deref(),
                region,
                "{host}"
            );
        }
    }
}
