//! Any local disk, onto the shelf.

use camino::Utf8Path;

use super::digest::{Digest, FileDigests};
use super::inspect::{self, DiskInfo};
use super::progress::Progress;
use super::record::{self, Origin, Record};
use super::shelf::{Shelf, Stored};
use super::{CatalogError, Result, Version, VersionPattern, entry, reference, tool};
use crate::machine::{Arch, Firmware};

/// What to import, and what to call it.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The disk: raw, qcow2, VMDK, VHD, VHDX or whatever else `qemu-img` reads.
    pub disk: &'a Utf8Path,
    /// The name on the shelf.
    pub name: &'a str,
    /// The version; otherwise the next free one, beginning with 1.0.0.
    pub version: Option<Version>,
    /// What the disk file must be.
    pub digest: Option<Digest>,
    /// QEMU's name of the disk's format, where it is known and must not be probed.
    pub format: Option<&'a str>,
    /// For which guests.
    pub architecture: Arch,
    /// The user of the distribution, if known.
    pub default_user: Option<&'a str>,
    /// By which firmware it boots; otherwise read from its partition table.
    pub firmware: Option<Vec<Firmware>>,
    /// Where it came from, if not from this file.
    pub origin: Option<Origin>,
}

/// Copies a disk to the shelf, as qcow2.
///
/// # Errors
/// [`CatalogError::BadDisk`], [`CatalogError::DigestMismatch`], [`CatalogError::Exists`], or what `qemu-img` says.
pub async fn import(
    home: &Utf8Path,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Stored> {
    if !reference::is_name(request.name) {
        return Err(CatalogError::BadReference {
            reference: request.name.to_owned(),
            reason:
                "a name has letters, digits, '-', '_' and '.', and begins with a letter or digit"
                    .into(),
        });
    }
    let shelf = Shelf::new(home);
    let source = request
        .disk
        .canonicalize_utf8()
        .map_err(CatalogError::io("read", request.disk))?;
    if let Some(expected) = &request.digest {
        progress.stage("verify");
        FileDigests::of(&source, Some(expected), |_| ())?.verify(expected, source.as_str())?;
    }
    let info = match request.format {
        Some(format) => DiskInfo::of_format(&source, format)?,
        None => DiskInfo::of(&source)?,
    };
    let firmware = match &request.firmware {
        Some(firmware) => firmware.clone(),
        None => inspect::firmware(&source, &info.format)?,
    };
    if firmware.is_empty() {
        return Err(CatalogError::BadDisk {
            path: source,
            reason: "it has neither a boot sector nor an EFI system partition; name the firmware if it boots all the same".into(),
        });
    }
    let version = match request.version {
        Some(version) => version,
        None => next_version(&shelf, request.name)?,
    };

    progress.stage("convert");
    let staging = shelf.stage()?;
    let disk = staging.folder().join("disk.qcow2");
    let mut convert = tool::command("qemu-img");
    convert.args([
        "convert",
        "-f",
        &info.format,
        "-O",
        "qcow2",
        source.as_str(),
        disk.as_str(),
    ]);
    tool::run(convert, progress).await?;
    // A VHD's size in its header may be smaller than the one qemu-img derives; what counts is what we have now.
    let converted = DiskInfo::of(&disk)?;
    let digests = FileDigests::of(&disk, None, |_| ())?;
    let record = Record {
        schema: record::SCHEMA,
        name: request.name.to_owned(),
        version,
        architecture: request.architecture,
        default_user: request.default_user.map(str::to_owned),
        firmware,
        root_device: entry::DEFAULT_ROOT_DEVICE.to_owned(),
        root_partition: None,
        disk: "disk.qcow2".into(),
        format: "qcow2".into(),
        virtual_size: converted.virtual_size,
        sha256: digests.sha256.hex().to_owned(),
        published_digest: request.digest.clone(),
        origin: request
            .origin
            .clone()
            .unwrap_or_else(|| Origin::Imported(source.file_name().unwrap_or_default().to_owned())),
        created: jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string(),
        kernel: None,
    };
    shelf.insert(staging, record, &digests)
}

fn next_version(shelf: &Shelf, name: &str) -> Result<Version> {
    let last = shelf
        .find(name, &VersionPattern::ANY)?
        .map(|image| image.record.version);
    Ok(last.map_or(Version::new(1, 0, 0), |last| {
        Version::new(last.major, last.minor, last.patch.saturating_add(1))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::progress::Silent;
    use std::process::Command;

    /// A bootable-looking raw disk of 1 MiB with something on it.
    fn raw(folder: &Utf8Path) -> camino::Utf8PathBuf {
        let mut bytes = vec![0u8; 1 << 20];
        bytes[..4].copy_from_slice(&[0xeb, 0x63, 0x90, 0x10]);
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        bytes[0x8_0000..0x8_0010].copy_from_slice(b"something on it!");
        let path = folder.join("disk.raw");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn qemu_img(arguments: &[&str]) -> bool {
        Command::new("qemu-img")
            .args(arguments)
            .status()
            .unwrap()
            .success()
    }

    fn request<'a>(disk: &'a Utf8Path) -> Request<'a> {
        Request {
            disk,
            name: "mine",
            version: None,
            digest: None,
            format: None,
            architecture: Arch::X86_64,
            default_user: None,
            firmware: None,
            origin: None,
        }
    }

    #[tokio::test]
    async fn every_format_arrives_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let raw = raw(folder);
        for (patch, format) in ["raw", "qcow2", "vmdk", "vpc", "vhdx"]
            .into_iter()
            .enumerate()
        {
            let source = folder.join(format!("source.{format}"));
            assert!(qemu_img(&[
                "convert",
                "-f",
                "raw",
                "-O",
                format,
                raw.as_str(),
                source.as_str()
            ]));
            let image = import(folder, &request(&source), &Silent).await.unwrap();
            assert_eq!(image.record.version, Version::new(1, 0, patch as u64));
            assert_eq!(image.record.firmware, [Firmware::Bios], "{format}");
            let disk = image.folder.join(&image.record.disk);
            assert!(
                qemu_img(&[
                    "compare",
                    "-f",
                    "raw",
                    "-F",
                    "qcow2",
                    raw.as_str(),
                    disk.as_str()
                ]),
                "{format}"
            );
            let resolved = crate::catalog::resolve(folder, &format!("mine/1.0.{patch}")).unwrap();
            assert_eq!(resolved.sha256, image.record.sha256);
        }
    }

    #[tokio::test]
    async fn what_is_refused_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let raw = raw(folder);

        let mut wrong = request(&raw);
        wrong.digest = Some("a".repeat(64).parse().unwrap());
        assert!(matches!(
            import(folder, &wrong, &Silent).await,
            Err(CatalogError::DigestMismatch { .. })
        ));

        // A qcow2 that would make us read another file of this machine.
        let thief = folder.join("thief.qcow2");
        assert!(qemu_img(&[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            raw.as_str(),
            thief.as_str()
        ]));
        let error = import(folder, &request(&thief), &Silent).await.unwrap_err();
        assert!(error.to_string().contains("needs another file"), "{error}");

        let empty = folder.join("empty.raw");
        std::fs::write(&empty, vec![0; 1 << 20]).unwrap();
        assert!(matches!(
            import(folder, &request(&empty), &Silent).await,
            Err(CatalogError::BadDisk { .. })
        ));

        let mut climbing = request(&raw);
        climbing.name = "../mine";
        assert!(matches!(
            import(folder, &climbing, &Silent).await,
            Err(CatalogError::BadReference { .. })
        ));
        assert!(!folder.join("bases").exists());
    }

    #[tokio::test]
    async fn a_plain_file_can_be_used_where_it_is() {
        let home = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(home.path()).unwrap();
        let raw = raw(home);
        let image = crate::catalog::resolve(home, raw.as_str()).unwrap();
        assert_eq!(
            (
                image.label().as_str(),
                image.format.as_str(),
                image.virtual_size
            ),
            ("disk", "raw", 1 << 20)
        );
        assert_eq!(image.firmware, [Firmware::Bios]);
        let good = format!("file://{raw}#sha256:{}", image.sha256);
        assert_eq!(
            crate::catalog::resolve(home, &good).unwrap().sha256,
            image.sha256
        );
        let bad = format!("file://{raw}#sha256:{}", "0".repeat(64));
        assert!(matches!(
            crate::catalog::resolve(home, &bad),
            Err(CatalogError::DigestMismatch { .. })
        ));
    }
}
