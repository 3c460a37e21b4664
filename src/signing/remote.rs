//! Whether what is in a registry is what was signed: the manifest by its signatures there, and by the provenance that refers to
//! it what the manifest was made of. Blobs are named by digest in the manifest, so nothing has to be pulled.

use jiff::Timestamp;
use ovenbird_provenance::dsse::Envelope;
use ovenbird_provenance::key::PublicKey;
use ovenbird_provenance::statement::{PAYLOAD_TYPE, SHA256, Statement};

use super::check::{Checked, Wanted, identity};
use super::statement::DISK_DIGEST;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::output::Manifest;
use crate::registry::deliver::PROVENANCE;
use crate::registry::signatures::{Signers, signers};
use crate::registry::{ImageReference, Options, Registry, disk, media};

/// Checks what a reference names. `wanted.image` is the repository for which it must be signed (`REGISTRY/REPOSITORY`), if that
/// is not where it is: a mirror.
///
/// # Errors
/// [`FailureKind::Output`] with everything that is not as signed, or what the registry says.
pub async fn check_remote(
    reference: &ImageReference,
    options: Options,
    trusted: &[PublicKey],
    wanted: &Wanted,
) -> Result<Checked> {
    let registry = Registry::new(reference, options)?;
    let fetched = registry.manifest(reference.target()).await?;
    let mut faults = Vec::new();
    let who = signers(&registry, &fetched.digest, trusted).await?;
    let signed_by = of_place(reference, &who, wanted, &mut faults);
    let provenance = provenance(&registry, &fetched.digest, trusted).await?;
    let mut image = format!("{reference}@{}", fetched.digest);
    // What is known of a list of manifests is known of none of them.
    let manifest = (!fetched.is_index())
        .then(|| fetched.manifest())
        .transpose()?;
    if let Some(statement) = &provenance {
        image = identity(&statement.predicate.build_definition.external_parameters);
        let of_disk = manifest
            .as_ref()
            .and_then(|manifest| manifest.annotations.get(disk::DISK_DIGEST));
        let hex = fetched.digest.trim_start_matches("sha256:");
        let names = |algorithm: &str, digest: &str| {
            let mut digests = statement
                .subject
                .iter()
                .filter_map(|one| one.digest.get(algorithm));
            digests.any(|known| known == digest)
        };
        let is_about = match of_disk {
            Some(digest) => names(DISK_DIGEST, digest),
            None => names(SHA256, hex),
        };
        if !is_about {
            faults.push(format!(
                "the provenance beside it is of {image}, which this is not"
            ));
        }
    }
    if let Some(policy) = &wanted.policy {
        let baked = match (&manifest, &provenance) {
            (Some(manifest), Some(statement))
                if manifest.config.media_type == media::IMAGE_MANIFEST =>
            {
                let bytes = registry.small_blob(&manifest.config).await?;
                let named = statement
                    .subject
                    .iter()
                    .find(|one| one.name == Manifest::FILE);
                let signed = named.and_then(|one| one.digest.get(SHA256));
                let is_signed =
                    signed.is_some_and(|hex| manifest.config.digest == format!("sha256:{hex}"));
                is_signed
                    .then(|| serde_json::from_slice::<Manifest>(&bytes).ok())
                    .flatten()
            }
            _ => None,
        };
        match baked {
            Some(baked) => faults.extend(policy.faults(&baked, signed_by.len(), Timestamp::now())),
            None => faults.push(
                "the policy can't be checked: no signed manifest of a bake is here (disk artifacts have one)".into(),
            ),
        }
    }
    if faults.is_empty() {
        return Ok(Checked {
            image,
            signers: signed_by,
            files: vec![fetched.digest],
            disks: Vec::new(),
            unsigned: Vec::new(),
        });
    }
    Err(Failure::new(
        FailureKind::Output,
        format!("{reference} is not what was signed"),
    )
    .with_details(faults.join("\n")))
}

/// The keys that have signed it for the repository where it is, or for the one where it is said to be from.
fn of_place(
    reference: &ImageReference,
    who: &Signers,
    wanted: &Wanted,
    faults: &mut Vec<String>,
) -> Vec<String> {
    let ids = match &wanted.image {
        Some(place) if *place == format!("{}/{}", reference.registry, reference.repository) => {
            Some(&who.here)
        }
        Some(place) => who.elsewhere.get(place),
        None => Some(&who.here),
    };
    if let Some(ids) = ids.filter(|ids| !ids.is_empty()) {
        return ids.iter().map(ToString::to_string).collect();
    }
    let elsewhere: Vec<&str> = who.elsewhere.keys().map(String::as_str).collect();
    faults.push(match (who.all, elsewhere.as_slice()) {
        (0, _) => "it is not signed".into(),
        (all, []) => format!("none of its {all} signatures is by a trusted key"),
        (_, places) => format!(
            "it is signed for {}; if this is a mirror of it, say so by --is",
            places.join(" and ")
        ),
    });
    Vec::new()
}

/// The statement of a trusted key that refers to a manifest.
async fn provenance(
    registry: &Registry,
    digest: &str,
    trusted: &[PublicKey],
) -> Result<Option<Statement>> {
    for referrer in registry.referrers(digest, Some(PROVENANCE)).await? {
        let artifact = registry.manifest(&referrer.digest).await?.manifest()?;
        for layer in &artifact.layers {
            let bytes = registry.small_blob(layer).await?;
            let Ok(envelope) = Envelope::parse(&bytes) else {
                continue;
            };
            let Ok((payload, _)) = envelope.verify(PAYLOAD_TYPE, trusted) else {
                continue;
            };
            return Statement::parse(&payload)
                .map(Some)
                .or_failure(FailureKind::Output, || {
                    format!("the provenance of {digest} is not what it says")
                });
        }
    }
    Ok(None)
}
