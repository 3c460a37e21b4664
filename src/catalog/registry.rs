//! A disk in an OCI registry, onto the shelf.

use std::fs::File;
use std::io::Read as _;
use std::sync::atomic::{AtomicU64, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

use super::import;
use super::progress::Progress;
use super::record::Origin;
use super::shelf::{Shelf, Stored};
use super::{CatalogError, Version};
use crate::documents::arn::normalise_name;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::machine::{Arch, Firmware};
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

/// What of an image's `manifest.json` matters here. Further keys, of versions to come, do not.
#[derive(Debug, Deserialize)]
struct About {
    name: String,
    architecture: Arch,
    #[serde(default)]
    firmware: Vec<Firmware>,
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
        let about: About =
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
    let (path, format) = fetch(&registry, &manifest, &folder, progress).await?;

    let own_name = request
        .reference
        .repository
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let image_name = about.as_ref().map(|about| normalise_name(&about.name));
    let name = request.name.or(image_name.as_deref()).unwrap_or(own_name);
    let image = import::import(
        home,
        &import::Request {
            disk: &path,
            name,
            version: request.version,
            digest: None,
            format: Some(format),
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

/// Fetches the disk. Returns its file and QEMU's name of its format.
async fn fetch(
    registry: &Registry,
    manifest: &Manifest,
    folder: &Utf8Path,
    progress: &dyn Progress,
) -> Result<(Utf8PathBuf, &'static str)> {
    let target = folder.join("disk");
    if manifest.artifact_type.as_deref() == Some(media::DISK) {
        disk::pull(registry, manifest, folder, &target, progress).await?;
        return Ok((target, "raw"));
    }
    let total: u64 = manifest.layers.iter().map(|layer| layer.size).sum();
    let arrived = AtomicU64::new(0);
    let count = |bytes: u64| {
        let done = arrived.fetch_add(bytes, Ordering::Relaxed) + bytes;
        progress.bytes(done.min(total), Some(total));
    };
    progress.stage("fetch the disk");
    // The uppermost layer with a disk counts, as in a container's filesystem.
    for layer in manifest.layers.iter().rev() {
        let path = folder.join(layer.hex()?);
        let is_archive = layer.media_type.contains(".tar");
        let is_lone_file = manifest.layers.len() == 1 && layer.media_type != media::EMPTY;
        if !is_archive && !is_lone_file {
            continue;
        }
        registry.fetch_blob(layer, &path, &count).await?;
        if !is_archive {
            // A disk file as it is, as other tools push it.
            let format = format_of(&path, registry)?;
            return Ok((path, format));
        }
        let (kind, out) = (layer.media_type.clone(), target.clone());
        let found = tokio::task::spawn_blocking(move || extract_disk(&path, &kind, &out))
            .await
            .or_failure(FailureKind::Internal, || "cannot unpack the layer".into())??;
        if found {
            let format = format_of(&target, registry)?;
            return Ok((target, format));
        }
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

/// The format of a disk file from elsewhere, QEMU's name. Formats that can name further files are refused before QEMU sees
/// them: it would open those files, wherever they are. (The backing files of a qcow2 are refused with it.)
fn format_of(path: &Utf8Path, registry: &Registry) -> Result<&'static str> {
    let mut file = File::open(path).map_err(CatalogError::io("read", path))?;
    let mut head = Vec::new();
    file.by_ref()
        .take(64)
        .read_to_end(&mut head)
        .map_err(CatalogError::io("read", path))?;
    let refused = |name: &str| {
        Err(Failure::from(RegistryError::BadContent {
            what: registry.reference().to_string(),
            reason: format!("is a {name}, which can name further files"),
        })
        .with_hint("push it as --as disk, or as qcow2 or raw"))
    };
    Ok(match head.as_slice() {
        [b'Q', b'F', b'I', 0xfb, ..] => "qcow2",
        head if head.starts_with(b"vhdxfile") => "vhdx",
        head if head.starts_with(b"conectix") => "vpc",
        head if head.starts_with(b"KDMV") || head.starts_with(b"COWD") => return refused("VMDK"),
        head if head.starts_with(b"# Disk DescriptorFile") => return refused("VMDK"),
        head if head.starts_with(b"QED\0") => return refused("QED"),
        _ => "raw",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_that_name_other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("disk");
        let reference = "localhost/a".parse().unwrap();
        let registry = Registry::new(&reference, Options::default()).unwrap();
        for (head, format) in [
            (b"QFI\xfb\0\0\0\x03".as_slice(), Some("qcow2")),
            (b"vhdxfile", Some("vhdx")),
            (b"conectix", Some("vpc")),
            (b"\xeb\x63\x90", Some("raw")),
            (b"", Some("raw")),
            (b"KDMV\x01\0\0\0", None),
            (b"# Disk DescriptorFile\nversion=1\n", None),
            (b"QED\0", None),
        ] {
            std::fs::write(&path, head).unwrap();
            assert_eq!(format_of(&path, &registry).ok(), format, "{head:?}");
        }
    }
}
