//! Whether what is in a registry is what was signed: the manifest by its signatures there, and by the provenance that refers to
//! it what the manifest was made of. Blobs are named by digest in the manifest, so nothing has to be pulled.

use jiff::Timestamp;
use ovenbird_provenance::dsse::Envelope;
use ovenbird_provenance::key::PublicKey;
use ovenbird_provenance::statement::{PAYLOAD_TYPE, SHA256, Statement};

use super::check::{Checked, Wanted, identity, is_identity, is_same, manifest_of};
use super::statement::{BUILD_TYPE, DISK_DIGEST};
use crate::error::{Failure, FailureKind, Result};
use crate::registry::deliver::PROVENANCE;
use crate::registry::signatures::{Signers, signers};
use crate::registry::{ImageReference, Manifest, Options, Registry, RegistryError, disk, media};

/// More of what refers to a manifest is not looked at.
const MOST_REFERRERS: usize = 100;

/// Checks what a reference names. `wanted.image` is the image that it must be (`NAME/VERSION/BUILD`), or the repository for which
/// it must be signed (`REGISTRY/REPOSITORY`), if that is not where it is: a mirror. A tag `VERSION-BUILD` is held to what it
/// says, where provenance tells: tags move, and whoever may push can let one point to an older image.
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
    let (demanded, place) = match wanted.image.as_deref() {
        Some(image) if is_identity(image) => (Some(image), None),
        place => (None, place),
    };
    let signed_by = of_place(reference, &who, place, &mut faults);
    // What is known of a list of manifests is known of none of them.
    let manifest = (!fetched.is_index())
        .then(|| fetched.manifest())
        .transpose()?;
    let (of_it, of_others): (Vec<_>, Vec<_>) = provenance(&registry, &fetched.digest, trusted)
        .await?
        .into_iter()
        .partition(|statement| is_about(statement, manifest.as_ref(), &fetched.digest));
    let claim = Claim {
        image: demanded,
        tag: reference.tag.as_deref(),
    };
    // Containers of builds with the very same disk have a statement each: any of them may be what is claimed.
    let provenance = of_it
        .iter()
        .find(|statement| claim.fault(statement).is_none())
        .or(of_it.first());
    let mut image = format!("{reference}@{}", fetched.digest);
    match (provenance, of_others.first()) {
        (Some(statement), _) => {
            image = identity(statement);
            faults.extend(claim.fault(statement));
        }
        (None, Some(other)) => faults.push(format!(
            "the provenance beside it is of {}, which this is not",
            identity(other)
        )),
        (None, None) => {
            faults.extend(demanded.map(|image| {
                format!(
                    "whether it is {image} can't be told: no provenance by a trusted key is beside it"
                )
            }));
        }
    }
    if let Some(policy) = &wanted.policy {
        let baked = match (&manifest, provenance) {
            (Some(manifest), Some(statement))
                if manifest.config.media_type == media::IMAGE_MANIFEST =>
            {
                manifest_of(&registry.small_blob(&manifest.config).await?, statement)
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

/// Whether a statement is about what a manifest holds: its disk, if it has one, and the bake's own manifest, if that is there
/// too; else the manifest itself, as one of the files of an image layout.
fn is_about(statement: &Statement, manifest: Option<&Manifest>, digest: &str) -> bool {
    let names = |algorithm: &str, digest: &str| {
        let mut digests = statement
            .subject
            .iter()
            .filter_map(|one| one.digest.get(algorithm));
        digests.any(|known| known == digest.trim_start_matches("sha256:"))
    };
    let Some(manifest) = manifest else {
        return names(SHA256, digest);
    };
    let is_of_bake = manifest.config.media_type != media::IMAGE_MANIFEST
        || names(SHA256, &manifest.config.digest);
    match manifest.annotations.get(disk::DISK_DIGEST) {
        Some(disk) => is_of_bake && names(DISK_DIGEST, disk),
        None => names(SHA256, digest),
    }
}

/// Which image it must be.
struct Claim<'a> {
    /// As it was demanded: then the tag does not matter.
    image: Option<&'a str>,
    tag: Option<&'a str>,
}

impl Claim<'_> {
    /// How a statement contradicts.
    fn fault(&self, statement: &Statement) -> Option<String> {
        let image = identity(statement);
        match (self.image, self.tag) {
            (Some(wanted), _) => {
                (!is_same(wanted, &image)).then(|| format!("it is {image}, not {wanted}"))
            }
            (None, Some(tag)) => {
                let (version, build) = tag.rsplit_once('-')?;
                let name = image.split('/').next().unwrap_or_default();
                let claim = format!("{name}/{version}/{build}");
                (is_identity(&claim) && !is_same(&claim, &image))
                    .then(|| format!("it is {image}, but its tag is {tag}"))
            }
            (None, None) => None,
        }
    }
}

/// The keys that have signed it for the repository where it is, or for the one where it is said to be from.
fn of_place(
    reference: &ImageReference,
    who: &Signers,
    wanted: Option<&str>,
    faults: &mut Vec<String>,
) -> Vec<String> {
    let here = format!("{}/{}", reference.registry, reference.repository);
    let ids = match wanted {
        Some(place) if place == here => Some(&who.here),
        Some(place) => who.elsewhere.get(place),
        None => Some(&who.here),
    };
    if let Some(ids) = ids.filter(|ids| !ids.is_empty()) {
        return ids.iter().map(ToString::to_string).collect();
    }
    let mut places: Vec<&str> = who.elsewhere.keys().map(String::as_str).collect();
    if !who.here.is_empty() {
        places.insert(0, &here);
    }
    faults.push(match (who.all, places.as_slice(), wanted) {
        (0, ..) => "it is not signed".into(),
        (all, [], _) => format!("none of its {all} signatures is by a trusted key"),
        (_, places, Some(wanted)) => {
            format!("it is signed for {}, not {wanted}", places.join(" and "))
        }
        (_, places, None) => format!(
            "it is signed for {}; if this is a mirror of it, say so by --is",
            places.join(" and ")
        ),
    });
    Vec::new()
}

/// The provenance by trusted keys that refers to a manifest. Whoever may push can put anything there: what is of no use is
/// passed over, also if it can't be fetched or is signed, but of another kind.
async fn provenance(
    registry: &Registry,
    digest: &str,
    trusted: &[PublicKey],
) -> Result<Vec<Statement>> {
    let referrers = registry.referrers(digest, Some(PROVENANCE)).await?;
    let mut found = Vec::new();
    for referrer in referrers.into_iter().take(MOST_REFERRERS) {
        let Some(artifact) = useful(registry.manifest(&referrer.digest).await)?
            .and_then(|fetched| fetched.manifest().ok())
        else {
            continue;
        };
        // An envelope is the only layer of its artifact.
        let Some(layer) = artifact.layers.first() else {
            continue;
        };
        let Some(bytes) = useful(registry.small_blob(layer).await)? else {
            continue;
        };
        let statement = Envelope::parse(&bytes)
            .and_then(|envelope| envelope.verify(PAYLOAD_TYPE, trusted))
            .ok()
            .and_then(|(payload, _)| Statement::parse(&payload).ok());
        found.extend(
            statement
                .filter(|statement| statement.predicate.build_definition.build_type == BUILD_TYPE),
        );
    }
    Ok(found)
}

/// What was fetched, or nothing if it is missing or makes no sense. That a registry can't be asked stays an error: what it has
/// could be just what tells that an image is another one.
fn useful<T>(fetched: Result<T, RegistryError>) -> Result<Option<T>, RegistryError> {
    match fetched {
        Ok(fetched) => Ok(Some(fetched)),
        Err(
            RegistryError::NotFound { .. }
            | RegistryError::DigestMismatch { .. }
            | RegistryError::BadContent { .. },
        ) => Ok(None),
        Err(error) => Err(error),
    }
}
