//! Manifests: put, fetched, and those that refer to others.

use reqwest::{Method, StatusCode};

use super::client::{Body, Call, Registry, header};
use super::download::verify;
use super::model::{self, Descriptor, Index, Manifest, media, sha256_of_bytes};
use super::retry::Ended;
use super::upload::fatal;
use super::{RegistryError, Result};

/// A manifest as the registry gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its bytes: the digest is over them.
    pub bytes: Vec<u8>,
    /// As the registry calls it, or as it calls itself.
    pub media_type: String,
    /// Computed from the bytes.
    pub digest: String,
}

impl Fetched {
    /// Reads it as a manifest of an image or an artifact.
    ///
    /// # Errors
    /// [`RegistryError::BadContent`] if it is none.
    pub fn manifest(&self) -> Result<Manifest> {
        self.parse("is no image manifest")
    }

    /// Reads it as a list of manifests.
    ///
    /// # Errors
    /// [`RegistryError::BadContent`] if it is none.
    pub fn index(&self) -> Result<Index> {
        self.parse("is no index")
    }

    /// Whether it is a list of manifests.
    pub fn is_index(&self) -> bool {
        model::is_index(&self.media_type)
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, reason: &str) -> Result<T> {
        serde_json::from_slice(&self.bytes).map_err(|error| {
            RegistryError::content(
                format!("the manifest {}", self.digest),
                format!("{reason}: {error}"),
            )
        })
    }
}

impl Registry {
    /// Fetches a manifest by tag or digest; by digest it is verified.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], [`RegistryError::DigestMismatch`] or what the registry says.
    pub async fn manifest(&self, target: &str) -> Result<Fetched> {
        let what = format!("fetching the manifest {target}");
        let accept = [
            media::MANIFEST,
            media::INDEX,
            media::DOCKER_MANIFEST,
            media::DOCKER_LIST,
        ]
        .join(", ");
        let call = Call {
            method: Method::GET,
            url: self.url(&format!("manifests/{target}"))?,
            headers: vec![("accept", accept)],
            body: Body::Empty,
            what: &what,
            scopes: self.pull_scope(),
        };
        let mut attempts = self.attempts(&what);
        let (kind, bytes) = loop {
            let attempt = async {
                let response = self.once(&call).await?;
                match response.status() {
                    StatusCode::OK => {}
                    StatusCode::NOT_FOUND => {
                        return Err(Ended::Fatal(RegistryError::NotFound {
                            registry: self.host().to_owned(),
                            what: format!("{}:{target}", self.reference().repository),
                        }));
                    }
                    _ => return Err(self.ended(response, &what).await),
                }
                let kind = header(&response, "content-type").map(str::to_owned);
                Ok((kind, self.small_body(response, "the manifest").await?))
            };
            match attempt.await {
                Ok(got) => break got,
                Err(ended) => attempts.after(ended).await?,
            }
        };
        let digest = sha256_of_bytes(&bytes);
        if super::reference::is_digest(target) {
            verify("the manifest", target, digest.clone())?;
        }
        let said = serde_json::from_slice::<serde_json::Value>(&bytes)
            .ok()
            .and_then(|value| value.get("mediaType")?.as_str().map(str::to_owned));
        Ok(Fetched {
            media_type: said.or(kind).unwrap_or_default(),
            bytes,
            digest,
        })
    }

    /// The digest that a tag points to, if it exists.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn tagged(&self, target: &str) -> Result<Option<String>> {
        match self.manifest(target).await {
            Ok(fetched) => Ok(Some(fetched.digest)),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a manifest under a tag or its digest. Returns whether the registry has noted its subject.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn put_manifest(&self, target: &str, media_type: &str, bytes: &[u8]) -> Result<bool> {
        let what = format!("putting the manifest {target}");
        let response = self
            .call(&Call {
                method: Method::PUT,
                url: self.url(&format!("manifests/{target}"))?,
                headers: vec![("content-type", media_type.to_owned())],
                body: Body::Bytes(bytes.to_vec().into()),
                what: &what,
                scopes: self.push_scope(),
            })
            .await?;
        if !response.status().is_success() {
            return Err(fatal(self.ended(response, &what).await));
        }
        if let Some(digest) = header(&response, "docker-content-digest") {
            verify(
                "the manifest as the registry got it",
                &sha256_of_bytes(bytes),
                digest.to_owned(),
            )?;
        }
        Ok(header(&response, "oci-subject").is_some())
    }

    /// Removes a manifest by its digest, and with it the tags that point to it; one that is not there is removed.
    ///
    /// # Errors
    /// What the registry says; many are set up to refuse it.
    pub async fn delete_manifest(&self, digest: &str) -> Result<()> {
        let what = format!("removing the manifest {digest}");
        let response = self
            .call(&Call {
                method: Method::DELETE,
                url: self.url(&format!("manifests/{digest}"))?,
                headers: Vec::new(),
                body: Body::Empty,
                what: &what,
                scopes: self.delete_scope(),
            })
            .await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(fatal(self.ended(response, &what).await)),
        }
    }

    /// Lists what refers to a manifest: signatures, SBOMs, provenance. Asks the referrers API, and where there is none the
    /// tag that stands for it.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn referrers(
        &self,
        digest: &str,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let what = format!("listing what refers to {digest}");
        let response = self
            .call(&Call {
                method: Method::GET,
                url: self.url(&format!("referrers/{digest}"))?,
                headers: vec![("accept", media::INDEX.to_owned())],
                body: Body::Empty,
                what: &what,
                scopes: self.pull_scope(),
            })
            .await?;
        let mut found = if response.status() == StatusCode::OK {
            let bytes = self
                .small_body(response, "the list of referrers")
                .await
                .map_err(fatal)?;
            let index: Index = serde_json::from_slice(&bytes).map_err(|error| {
                RegistryError::content("the list of referrers", format!("is no index: {error}"))
            })?;
            index.manifests
        } else {
            match self.manifest(&fallback_tag(digest)).await {
                Ok(fetched) => fetched.index()?.manifests,
                Err(RegistryError::NotFound { .. }) => Vec::new(),
                Err(error) => return Err(error),
            }
        };
        if let Some(wanted) = artifact_type {
            found.retain(|one| one.artifact_type.as_deref() == Some(wanted));
        }
        Ok(found)
    }

    /// Adds a referrer to the tag that stands for the referrers API where a registry has none.
    pub(super) async fn note_referrer(&self, subject: &str, referrer: Descriptor) -> Result<()> {
        let tag = fallback_tag(subject);
        let mut index = match self.manifest(&tag).await {
            Ok(fetched) => fetched.index()?,
            Err(RegistryError::NotFound { .. }) => Index {
                schema_version: 2,
                media_type: Some(media::INDEX.into()),
                manifests: Vec::new(),
                annotations: Default::default(),
            },
            Err(error) => return Err(error),
        };
        if index
            .manifests
            .iter()
            .any(|known| known.digest == referrer.digest)
        {
            return Ok(());
        }
        index.manifests.push(referrer);
        let bytes = serde_json::to_vec(&index)
            .map_err(|error| RegistryError::content("the list of referrers", error.to_string()))?;
        self.put_manifest(&tag, media::INDEX, &bytes).await?;
        Ok(())
    }
}

/// `sha256-…`
fn fallback_tag(digest: &str) -> String {
    digest.replace(':', "-")
}
