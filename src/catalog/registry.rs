//! A disk in an OCI registry, onto the shelf.

use camino::{Utf8Path, Utf8PathBuf};

use super::import;
use super::progress::Progress;
use super::record::Origin;
use super::shelf::{Shelf, Stored};
use super::{CatalogError, Version};
use crate::error::{Failure, FailureKind, Result};
use crate::machine::{Arch, Firmware};
use crate::output::Manifest as ImageManifest;
use crate::registry::{
    Descriptor, Fetched, ImageReference, Manifest, Options, Registry, RegistryError, disk,
    extract_disk, media,
};

/// What to fetch, and what to call it.
#[derive(Debug)]
pub struct Request<'a> {
    /// Where it is.
    pub reference: ImageReference,
    /// How the registry is spoken to.
    pub options: Options,
    /// The name on the shelf; else the image's own, else the repository's last part.
    pub name: Option<&'a str>,
    /// The version; else the next free one.
    pub version: Option<Version>,
    /// For which guests; else what the image says.
    pub architecture: Option<Arch>,
    /// The user of the distribution, if known.
    pub default_user: Option<&'a str>,
    /// By which firmware it boots; else what the image says, else read from its partition table.
    pub firmware: Option<Vec<Firmware>>,
}

/// Fetches a disk artifact, a containerDisk or an artifact with one disk file, and puts it on the shelf as qcow2. What was
/// fetched before an interruption is not fetched again.
///
/// # Errors
/// What the registry or the catalogue says.
pub async fn import(
    home: &Utf8Path,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Stored> {
    let registry = Registry::new(&request.reference, request.options.clone())?;
    progress.stage(&format!("look up {}", request.reference));
    let wanted = request.architecture;
    let fetched = manifest_for(&registry, wanted).await?;
    let manifest = fetched.manifest()?;
    let about = if manifest.config.media_type == media::IMAGE_MANIFEST {
        let bytes = registry.small_blob(&manifest.config).await?;
        let about: ImageManifest =
            serde_json::from_slice(&bytes).map_err(|error| RegistryError::BadContent {
                what: "the image's manifest.json".into(),
                reason: error.to_string(),
            })?;
        Some(about)
    } else {
        None
    };

    let folder = Shelf::new(home)
        .partial()
        .join(format!("oci-{}", &fetched.digest["sha256:".len()..][..32]));
    std::fs::create_dir_all(&folder).map_err(CatalogError::io("create", folder.clone()))?;
    let lock_path = folder.join("lock");
    let lock = std::fs::File::create(&lock_path).map_err(CatalogError::io("create", lock_path))?;
    if lock.try_lock().is_err() {
        return Err(CatalogError::InUse {
            name: request.reference.to_string(),
            version: "download".into(),
        }
        .into());
    }
    let path = fetch(&registry, &manifest, &folder, progress).await?;

    let own_name = request
        .reference
        .repository
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let name = request
        .name
        .or(about.as_ref().map(|about| about.name.as_str()))
        .unwrap_or(own_name);
    let image = import::import(
        home,
        &import::Request {
            disk: &path,
            name,
            version: request.version,
            digest: None,
            architecture: wanted
                .or(about.as_ref().map(|about| about.architecture))
                .unwrap_or_default(),
            default_user: request.default_user,
            firmware: request
                .firmware
                .clone()
                .or(about.as_ref().map(|about| about.firmware.clone()))
                .filter(|modes| !modes.is_empty()),
            origin: Some(Origin::Url(format!(
                "oci://{}",
                request.reference.at_digest(&fetched.digest)
            ))),
        },
        progress,
    )
    .await?;
    // Only now: an import that fails for another reason needs no second download.
    let _ = std::fs::remove_dir_all(&folder);
    Ok(image)
}

/// The manifest of the reference; of several the one for the architecture.
async fn manifest_for(registry: &Registry, wanted: Option<Arch>) -> Result<Fetched> {
    let fetched = registry.manifest(registry.reference().target()).await?;
    if !fetched.is_index() {
        return Ok(fetched);
    }
    let wanted = match wanted.unwrap_or_default() {
        Arch::X86_64 => "amd64",
        Arch::Aarch64 => "arm64",
    };
    let index = fetched.index()?;
    let fits = |one: &&Descriptor| {
        one.platform
            .as_ref()
            .is_none_or(|platform| platform.architecture == wanted)
    };
    let Some(child) = index.manifests.iter().find(fits) else {
        return Err(RegistryError::NotFound {
            registry: registry.reference().registry.clone(),
            what: format!("{} for {wanted}", registry.reference()),
        }
        .into());
    };
    child.hex()?;
    Ok(registry.manifest(&child.digest).await?)
}

async fn fetch(
    registry: &Registry,
    manifest: &Manifest,
    folder: &Utf8Path,
    progress: &dyn Progress,
) -> Result<Utf8PathBuf> {
    let target = folder.join("disk");
    if manifest.artifact_type.as_deref() == Some(media::DISK) {
        disk::pull(registry, manifest, folder, &target, progress).await?;
        return Ok(target);
    }
    let total: u64 = manifest.layers.iter().map(|layer| layer.size).sum();
    let arrived = std::sync::atomic::AtomicU64::new(0);
    let count = |bytes: u64| {
        let done = arrived.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed) + bytes;
        progress.bytes(done, Some(total));
    };
    progress.stage("fetch the disk");
    let mut found = false;
    // The uppermost layer with a disk counts, as in a container's filesystem.
    for layer in manifest.layers.iter().rev() {
        let path = folder.join(layer.hex()?);
        let is_archive = layer.media_type.contains(".tar");
        if !is_archive && manifest.layers.len() != 1 {
            continue;
        }
        registry.fetch_blob(layer, &path, &count).await?;
        if !is_archive {
            // A disk file as it is, as other tools push it.
            return Ok(path);
        }
        let (kind, out) = (layer.media_type.clone(), target.clone());
        found = tokio::task::spawn_blocking(move || extract_disk(&path, &kind, &out))
            .await
            .map_err(|error| {
                Failure::new(FailureKind::Internal, "cannot unpack the layer").caused_by(error)
            })??;
        if found {
            break;
        }
    }
    if found {
        return Ok(target);
    }
    Err(Failure::from(RegistryError::BadContent {
        what: registry.reference().to_string(),
        reason: "holds no disk: no pieces, no single disk file, no layer with a file below disk/"
            .into(),
    })
    .with_hint(
        "an image of a root filesystem can't be booted; push with --as disk or --as containerDisk",
    ))
}
