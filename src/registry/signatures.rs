//! Signatures of what is in a registry, as cosign makes and reads them, and files about an image that refer to it.
//!
//! A signature is over a small payload with the manifest's digest (cosign's "simple signing"); payloads are the layers of an image
//! under the tag `sha256-DIGEST.sig`, each with its signature in an annotation. So cosign, skopeo and podman verify them as
//! well. Formats: <https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use ovenbird_provenance::dsse::Signer;
use ovenbird_provenance::external::SignError;
use ovenbird_provenance::key::{KeyId, PublicKey};
use serde_json::{Value, json};

use super::push::{Content, Source};
use super::{Descriptor, Registry, RegistryError, Result};
use crate::catalog::progress::Silent;

/// The media type of a payload.
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation of a payload's layer with the signature in base64.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// What a payload says that it is.
const TYPE: &str = "cosign container image signature";
/// A payload has some hundred bytes.
const LARGEST_PAYLOAD: u64 = 64 << 10;
/// The configuration of an image of signatures.
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// More signatures on one manifest are not looked at.
const MOST: usize = 100;

/// The tag under which the signatures of a manifest are.
fn tag(digest: &str) -> String {
    format!("{}.sig", digest.replace(':', "-"))
}

/// What is signed: this manifest, in this repository.
fn payload(registry: &Registry, digest: &str) -> Vec<u8> {
    let reference = registry.reference();
    let value = json!({
        "critical": {
            "identity": {"docker-reference": format!("{}/{}", reference.registry, reference.repository)},
            "image": {"docker-manifest-digest": digest},
            "type": TYPE,
        },
        "optional": null,
    });
    value.to_string().into_bytes()
}

/// A signed payload as it came from the registry, believed by nobody yet.
struct Signed {
    layer: Descriptor,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// Signs the manifest of a digest; signatures that are there already stay, one of the same key for the same repository is
/// not made twice.
///
/// # Errors
/// What the signer or the registry says.
pub async fn sign(
    registry: &Registry,
    digest: &str,
    signer: &dyn Signer,
) -> std::result::Result<KeyId, SigningError> {
    let payload = payload(registry, digest);
    let public = signer.public()?;
    let id = public.id().map_err(SignError::from)?;
    let known = fetch(registry, digest).await?;
    let is_ours = |signed: &&Signed| {
        signed.payload == payload && public.verify(&payload, &signed.signature).is_ok()
    };
    if known.iter().any(|signed| is_ours(&signed)) {
        return Ok(id);
    }
    let signature = signer.sign(&payload)?;
    public
        .verify(&payload, &signature)
        .map_err(SignError::from)?;
    let mut layer = Descriptor::of(PAYLOAD, &payload);
    layer
        .annotations
        .insert(SIGNATURE.into(), BASE64.encode(signature));
    let mut layers: Vec<_> = known
        .into_iter()
        .map(|signed| (signed.layer, signed.payload))
        .collect();
    layers.push((layer, payload));
    let config = json!({
        "architecture": "", "os": "", "config": {},
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|(layer, _)| &layer.digest).collect::<Vec<_>>()},
    });
    let config = config.to_string().into_bytes();
    let content = Content::image(
        (
            Descriptor::of(CONFIG, &config),
            Source::Bytes(config.into()),
        ),
        layers
            .into_iter()
            .map(|(layer, payload)| (layer, Source::Bytes(payload.into())))
            .collect(),
    )?;
    content.push(registry, &[tag(digest)], &[], &Silent).await?;
    Ok(id)
}

/// Why a signature could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The key's side.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The registry's side.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Who of the trusted has signed a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signers {
    /// For the very repository that was asked.
    pub here: BTreeSet<KeyId>,
    /// For other repositories, by the repository: what was mirrored.
    pub elsewhere: BTreeMap<String, BTreeSet<KeyId>>,
    /// Signatures that there are, by whomever.
    pub all: usize,
}

/// Looks who of the trusted has signed the manifest of a digest.
///
/// # Errors
/// What the registry says; that there is no signature is none.
pub async fn signers(registry: &Registry, digest: &str, trusted: &[PublicKey]) -> Result<Signers> {
    let reference = registry.reference();
    let here = format!("{}/{}", reference.registry, reference.repository);
    let found = fetch(registry, digest).await?;
    let mut signers = Signers {
        all: found.len(),
        ..Signers::default()
    };
    for signed in found {
        let Some(place) = place_of(&signed.payload, digest) else {
            continue;
        };
        for key in trusted {
            if key.verify(&signed.payload, &signed.signature).is_err() {
                continue;
            }
            let Ok(id) = key.id() else { continue };
            if place == here {
                signers.here.insert(id);
            } else {
                signers
                    .elsewhere
                    .entry(place.clone())
                    .or_default()
                    .insert(id);
            }
        }
    }
    Ok(signers)
}

/// The repository that a payload names, if it is about this digest. A tag in it doesn't matter: tags move.
fn place_of(payload: &[u8], digest: &str) -> Option<String> {
    let value: Value = serde_json::from_slice(payload).ok()?;
    let critical = value.get("critical")?;
    let about = critical
        .get("image")?
        .get("docker-manifest-digest")?
        .as_str()?;
    if critical.get("type")?.as_str()? != TYPE || about != digest {
        return None;
    }
    let reference = critical
        .get("identity")?
        .get("docker-reference")?
        .as_str()?;
    let reference = reference.split('@').next().unwrap_or(reference);
    let name = reference.rfind('/').map_or(0, |slash| slash + 1);
    let end = reference[name..]
        .find(':')
        .map_or(reference.len(), |colon| name + colon);
    Some(reference[..end].to_owned())
}

async fn fetch(registry: &Registry, digest: &str) -> Result<Vec<Signed>> {
    let manifest = match registry.manifest(&tag(digest)).await {
        Ok(fetched) => fetched.manifest()?,
        Err(RegistryError::NotFound { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for layer in manifest.layers.into_iter().take(MOST) {
        let signature = layer
            .annotations
            .get(SIGNATURE)
            .and_then(|text| BASE64.decode(text).ok());
        let Some(signature) =
            signature.filter(|_| layer.media_type == PAYLOAD && layer.size <= LARGEST_PAYLOAD)
        else {
            continue;
        };
        found.push(Signed {
            payload: registry.small_blob(&layer).await?,
            layer,
            signature,
        });
    }
    Ok(found)
}

/// A file about an image, as an artifact that refers to the image's manifest.
#[derive(Debug, Clone)]
pub struct About {
    /// What it is: the artifact's type, and the blob's.
    pub media_type: &'static str,
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Puts a file beside a manifest. What is there already is not sent again.
///
/// # Errors
/// What the registry says.
pub async fn attach(registry: &Registry, subject: &Descriptor, about: About) -> Result<()> {
    let mut blob = Descriptor::of(about.media_type, &about.bytes);
    blob.annotations
        .insert("org.opencontainers.image.title".into(), about.name);
    let plain = Descriptor {
        annotations: BTreeMap::new(),
        ..subject.clone()
    };
    let content = Content::artifact(
        about.media_type,
        None,
        vec![(blob, Source::Bytes(Bytes::from(about.bytes)))],
        Some(plain),
        BTreeMap::new(),
    )?;
    content.push(registry, &[], &[], &Silent).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_names_its_repository() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let payload = |reference: &str, kind: &str| {
            json!({"critical": {"identity": {"docker-reference": reference},
                "image": {"docker-manifest-digest": digest}, "type": kind}})
            .to_string()
            .into_bytes()
        };
        for (reference, place) in [
            ("registry.test:5000/a/web", "registry.test:5000/a/web"),
            ("registry.test:5000/a/web:1.2", "registry.test:5000/a/web"),
            (
                "registry.test:5000/a/web@sha256:00",
                "registry.test:5000/a/web",
            ),
            ("web:1", "web"),
        ] {
            assert_eq!(
                place_of(&payload(reference, TYPE), &digest).as_deref(),
                Some(place)
            );
        }
        assert_eq!(place_of(&payload("web", "another type"), &digest), None);
        assert_eq!(place_of(&payload("web", TYPE), "sha256:00"), None);
        assert_eq!(place_of(b"{", &digest), None);
    }
}
