//! What a registry that answers 401 wants, and how it is got.

use serde::Deserialize;

use super::client::Registry;
use super::credentials::Credential;
use super::retry::Ended;
use super::{RegistryError, Result};

/// A `WWW-Authenticate` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Challenge {
    /// Reads a header's value.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        let mut rest = rest.trim_start();
        while let Some((key, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match key.trim().to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                _ => {}
            }
            rest = after.trim_start_matches([',', ' ']);
        }
        Some(Self::Bearer {
            realm: realm?,
            service,
        })
    }
}

impl Registry {
    /// Gets the `Authorization` header that a challenge asks for.
    pub(super) async fn answer(
        &self,
        challenge: &Challenge,
        scopes: &[String],
    ) -> Result<String, Ended> {
        let credential = self.credential().await?;
        let (realm, service) = match challenge {
            Challenge::Basic => {
                return credential
                    .as_ref()
                    .and_then(Credential::basic)
                    .ok_or_else(|| self.login(credential.as_ref(), None).into());
            }
            Challenge::Bearer { realm, service } => (realm, service),
        };
        let mut url = reqwest::Url::parse(realm).map_err(|_| {
            RegistryError::content(
                self.host(),
                format!("names {realm:?} as its token server, which is no address"),
            )
        })?;
        // A password must not leave in the clear because a registry says so.
        if url.scheme() != "https" && !self.is_plain() {
            return Err(RegistryError::content(
                self.host(),
                format!("names the token server {realm}, which does not speak TLS"),
            )
            .into());
        }
        let request = match &credential {
            Some(Credential::Identity(token)) => {
                let mut form = reqwest::Url::parse("form:?")
                    .map_err(|error| RegistryError::content("a form", error.to_string()))?;
                {
                    let mut pairs = form.query_pairs_mut();
                    pairs
                        .append_pair("grant_type", "refresh_token")
                        .append_pair("client_id", "ovenbird")
                        .append_pair("refresh_token", token)
                        .append_pair("scope", &scopes.join(" "));
                    if let Some(service) = service {
                        pairs.append_pair("service", service);
                    }
                }
                self.http()
                    .post(url)
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(form.query().unwrap_or_default().to_owned())
            }
            known => {
                {
                    let mut pairs = url.query_pairs_mut();
                    if let Some(service) = service {
                        pairs.append_pair("service", service);
                    }
                    for scope in scopes {
                        pairs.append_pair("scope", scope);
                    }
                }
                let request = self.http().get(url);
                match known.as_ref().and_then(Credential::basic) {
                    Some(header) => request.header("authorization", header),
                    None => request,
                }
            }
        };
        let response = self.watched(request, "asking for a token", None).await?;
        let status = response.status();
        if matches!(status.as_u16(), 400 | 401 | 403) {
            return Err(self.login(credential.as_ref(), None).into());
        }
        if !status.is_success() {
            return Err(self.ended(response, "asking for a token").await);
        }
        let body = self
            .small_body(response, "the token server's answer")
            .await?;
        let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|_| {
            RegistryError::content("the token server's answer", "is no JSON with a token")
        })?;
        let token = answer
            .token
            .or(answer.access_token)
            .filter(|token| !token.is_empty())
            .ok_or_else(|| {
                RegistryError::content("the token server's answer", "has no token in it")
            })?;
        Ok(format!("Bearer {token}"))
    }

    pub(super) fn login(
        &self,
        credential: Option<&Credential>,
        reason: Option<String>,
    ) -> RegistryError {
        RegistryError::Login {
            registry: self.host().to_owned(),
            user: credential.map(|known| known.user().to_owned()),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.into(),
                service: service.map(str::to_owned),
            })
        };
        for (text, expected) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://a/token\",service=\"r\",scope=\"repository:a:pull,push\"",
                bearer("https://a/token", Some("r")),
            ),
            (
                "Bearer service=r, realm=https://a",
                bearer("https://a", Some("r")),
            ),
            ("Bearer service=\"r\"", None),
            ("Bearer realm=\"unfinished", None),
            ("Negotiate", None),
        ] {
            assert_eq!(Challenge::parse(text), expected, "{text}");
        }
    }
}
