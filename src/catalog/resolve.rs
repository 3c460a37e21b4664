//! From what a recipe says to a disk whose digest holds.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest as _, Sha256};

use super::digest::{Algorithm, Digest};
use super::inspect::{self, DiskInfo};
use super::record::{DirectKernel, Origin};
use super::shelf::{InUse, SEAL, Shelf, Stored};
use super::{CatalogError, Reference, Result, Version, VersionPattern, entry, seal};
use crate::machine::{Arch, Firmware};

/// A base image, ready to be used: its digest was checked, and it can't be removed while this lives.
#[derive(Debug, Clone)]
pub struct BaseImage {
    /// The name; for a plain file, the file's name without its extension.
    pub name: String,
    /// The version; `None` for a plain file.
    pub version: Option<Version>,
    /// The disk, an absolute path.
    pub disk: Utf8PathBuf,
    /// The disk's format, by QEMU's name for it.
    pub format: String,
    /// SHA-256 of the disk file, 64 digits.
    pub sha256: String,
    /// The user of the distribution; `None` if unknown.
    pub default_user: Option<String>,
    /// The guest's architecture.
    pub architecture: Arch,
    /// How the disk can be booted.
    pub firmware: Vec<Firmware>,
    /// The root device's name in an AMI.
    pub root_device: String,
    /// The number of the root partition, if known.
    pub root_partition: Option<u32>,
    /// A kernel for direct boot, absolute paths.
    pub kernel: Option<DirectKernel>,
    /// Bytes that the guest sees.
    pub virtual_size: u64,
    /// Where it came from.
    pub origin: Origin,
    in_use: Option<Arc<InUse>>,
}

impl BaseImage {
    /// The name with its version, as messages and manifests say it.
    pub fn label(&self) -> String {
        match self.version {
            Some(version) => format!("{}/{version}", self.name),
            None => self.name.clone(),
        }
    }

    /// Whether it stands on the shelf (and is therefore kept from removal), rather than being a plain file.
    pub fn is_held(&self) -> bool {
        self.in_use.is_some()
    }
}

/// Finds the base image that `reference` means and verifies its digest: fully if the file may have changed since the last time,
/// else by its size, inode and times. Blocks while it reads.
///
/// # Errors
/// [`CatalogError::NotOnShelf`], [`CatalogError::DigestMismatch`], or one that says what is wrong with the reference or the
/// disk.
pub fn resolve(home: &Utf8Path, reference: &str) -> Result<BaseImage> {
    match reference.parse()? {
        Reference::Shelf { name, pattern } => on_shelf(&Shelf::new(home), &name, &pattern),
        Reference::File { path, digest } => plain_file(home, &path, digest),
    }
}

fn on_shelf(shelf: &Shelf, name: &str, pattern: &VersionPattern) -> Result<BaseImage> {
    let stored = shelf
        .find(name, pattern)?
        .ok_or_else(|| not_on_shelf(name, pattern))?;
    let in_use = shelf.hold(&stored)?;
    let Stored { record, folder } = stored;
    let disk = folder.join(&record.disk);
    let expected: Digest = format!("{}:{}", Algorithm::Sha256.as_str(), record.sha256).parse()?;
    let sha256 = seal::verify(&disk, &folder.join(SEAL), &[expected])?;
    Ok(BaseImage {
        name: record.name,
        version: Some(record.version),
        disk,
        format: record.format,
        sha256: sha256.hex().to_owned(),
        default_user: record.default_user,
        architecture: record.architecture,
        firmware: record.firmware,
        root_device: record.root_device,
        root_partition: record.root_partition,
        kernel: record.kernel.map(|kernel| DirectKernel {
            kernel: folder.join(kernel.kernel),
            initrd: folder.join(kernel.initrd),
            cmdline: kernel.cmdline,
        }),
        virtual_size: record.virtual_size,
        origin: record.origin,
        in_use: Some(Arc::new(in_use)),
    })
}

fn not_on_shelf(name: &str, pattern: &VersionPattern) -> CatalogError {
    let reference = Reference::Shelf {
        name: name.to_owned(),
        pattern: *pattern,
    };
    let Ok(entry) = entry::by_name(name) else {
        let suggestion = entry::nearest(name);
        return CatalogError::NotOnShelf {
            reference: reference.to_string(),
            hint: match suggestion {
                Some(nearest) => format!("did you mean {nearest:?}? `ovenbird base list --all` shows all names"),
                None => "`ovenbird base list --all` shows what can be had; `ovenbird base import` takes a disk of yours".into(),
            },
        };
    };
    let ways = [
        entry.bootstrap.is_some().then(|| {
            format!("`ovenbird base build {name}` makes one from this machine's package mirror")
        }),
        entry
            .download
            .is_some()
            .then(|| format!("`ovenbird base pull {reference}` fetches the distribution's own")),
    ];
    let hint = ways.into_iter().flatten().collect::<Vec<_>>().join("; ");
    CatalogError::NotOnShelf {
        reference: reference.to_string(),
        hint,
    }
}

fn plain_file(home: &Utf8Path, path: &Utf8Path, digest: Option<Digest>) -> Result<BaseImage> {
    let disk = path
        .canonicalize_utf8()
        .map_err(CatalogError::io("read", path))?;
    let info = DiskInfo::of(&disk)?;
    // The seal lies in our home, not beside a file that is not ours.
    let seal_name = hex::encode(Sha256::digest(disk.as_str()));
    let sha256 = seal::verify(
        &disk,
        &home.join("cache").join("seals").join(seal_name),
        digest.as_slice(),
    )?;
    Ok(BaseImage {
        name: disk.file_stem().unwrap_or("disk").to_owned(),
        version: None,
        firmware: inspect::firmware(&disk, &info.format)?,
        format: info.format,
        virtual_size: info.virtual_size,
        sha256: sha256.hex().to_owned(),
        default_user: None,
        architecture: Arch::default(),
        root_device: entry::DEFAULT_ROOT_DEVICE.to_owned(),
        root_partition: None,
        kernel: None,
        origin: Origin::Imported(disk.to_string()),
        disk,
        in_use: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::shelf::tests::put;

    #[test]
    fn a_held_image_is_not_removed_and_a_changed_one_is_not_used() {
        let home = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(home.path()).unwrap();
        let shelf = Shelf::new(home);
        let stored = put(&shelf, "debian-12", "12.1.0").unwrap();
        put(&shelf, "debian-12", "12.0.9").unwrap();

        let image = resolve(home, "debian-12/12.x.x").unwrap();
        assert_eq!(image.label(), "debian-12/12.1.0");
        let copy = image.clone();
        drop(image);
        assert!(matches!(
            shelf.remove(&stored),
            Err(CatalogError::InUse { .. })
        ));
        drop(copy);

        std::fs::write(stored.folder.join("disk.qcow2"), "tampered").unwrap();
        assert!(matches!(
            resolve(home, "debian-12"),
            Err(CatalogError::DigestMismatch { .. })
        ));
        shelf.remove(&stored).unwrap();
        assert_eq!(
            resolve(home, "debian-12").unwrap().label(),
            "debian-12/12.0.9"
        );
    }

    #[test]
    fn what_is_missing_comes_with_the_way_to_it() {
        let home = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(home.path()).unwrap();
        let hint = |reference: &str| resolve(home, reference).unwrap_err().hint().unwrap();
        insta::assert_snapshot!(hint("debian-12"), @"`ovenbird base build debian-12` makes one from this machine's package mirror; `ovenbird base pull debian-12` fetches the distribution's own");
        insta::assert_snapshot!(hint("debain-12"), @r#"did you mean "debian-12"? `ovenbird base list --all` shows all names"#);
        insta::assert_snapshot!(hint("zzzzzzzzzz"), @"`ovenbird base list --all` shows what can be had; `ovenbird base import` takes a disk of yours");
    }
}
