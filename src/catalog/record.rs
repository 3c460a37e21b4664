//! `base.json`: what the shelf remembers about an image.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::{CatalogError, Result, Version};
use crate::machine::{Arch, Firmware};

/// The version of the record's format. Readers refuse a newer one.
pub const SCHEMA: u32 = 1;
/// The record's name in an image's folder.
pub const FILE_NAME: &str = "base.json";

/// What the shelf remembers about an image. File names are relative to the image's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// The name, also that of the folder above.
    pub name: String,
    /// The version, also the folder's name.
    pub version: Version,
    /// The guest's architecture.
    pub architecture: Arch,
    /// The user that the distribution's cloud-init makes; `None` if nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_user: Option<String>,
    /// How the disk can be booted.
    pub firmware: Vec<Firmware>,
    /// The root device's name in an AMI made of it: `/dev/xvda` or `/dev/sda1`. Only a label, but it must be one.
    pub root_device: String,
    /// The number of the root partition, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_partition: Option<u32>,
    /// The disk.
    pub disk: Utf8PathBuf,
    /// The disk's format, by QEMU's name for it.
    pub format: String,
    /// Bytes that the guest sees.
    pub virtual_size: u64,
    /// SHA-256 of the disk file, 64 digits.
    pub sha256: String,
    /// The digest under which its publisher lists the file, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_digest: Option<Digest>,
    /// Where it came from.
    pub origin: Origin,
    /// When it came onto the shelf, RFC 3339.
    pub created: String,
    /// The kernel, if it lies beside the disk for direct boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<DirectKernel>,
}

/// Where an image came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Origin {
    /// Bootstrapped on this machine from a package mirror.
    Built,
    /// Fetched from this address.
    Url(String),
    /// Imported from a local file of this name.
    Imported(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Built => f.write_str("built here"),
            Self::Url(url) => f.write_str(url),
            Self::Imported(name) => write!(f, "imported from {name}"),
        }
    }
}

/// A kernel that QEMU can boot without firmware and boot loader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DirectKernel {
    /// The kernel.
    pub kernel: Utf8PathBuf,
    /// Its initial RAM disk.
    pub initrd: Utf8PathBuf,
    /// The command line, the same as the boot loader's.
    pub cmdline: String,
}

impl Record {
    /// Reads the record of an image's folder.
    ///
    /// # Errors
    /// [`CatalogError::Io`] or [`CatalogError::BadRecord`].
    pub fn read(folder: &Utf8Path) -> Result<Self> {
        let path = folder.join(FILE_NAME);
        let text = fs::read(&path).map_err(CatalogError::io("read", path.clone()))?;
        let bad = |source| CatalogError::BadRecord {
            path: path.clone(),
            source,
        };
        let record: Self = serde_json::from_slice(&text).map_err(bad)?;
        if record.schema != SCHEMA {
            use serde::de::Error as _;
            return Err(bad(serde_json::Error::custom(format!(
                "schema {}, want {SCHEMA}",
                record.schema
            ))));
        }
        Ok(record)
    }

    /// Writes the record into an image's folder.
    ///
    /// # Errors
    /// [`CatalogError::Io`].
    pub fn write(&self, folder: &Utf8Path) -> Result<()> {
        let path = folder.join(FILE_NAME);
        let bad = |source| CatalogError::BadRecord {
            path: path.clone(),
            source,
        };
        let mut text = serde_json::to_vec_pretty(self).map_err(bad)?;
        text.push(b'\n');
        fs::write(&path, text).map_err(CatalogError::io("write", path.clone()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record for tests of other modules.
    pub(crate) fn sample(name: &str, version: &str) -> Record {
        Record {
            schema: SCHEMA,
            name: name.into(),
            version: version.parse().unwrap(),
            architecture: Arch::X86_64,
            default_user: Some("debian".into()),
            firmware: vec![Firmware::Bios, Firmware::Uefi],
            root_device: "/dev/xvda".into(),
            root_partition: Some(3),
            disk: "disk.qcow2".into(),
            format: "qcow2".into(),
            virtual_size: 2 << 30,
            sha256: "0".repeat(64),
            published_digest: None,
            origin: Origin::Built,
            created: "2026-01-01T00:00:00Z".into(),
            kernel: Some(DirectKernel {
                kernel: "vmlinuz".into(),
                initrd: "initrd".into(),
                cmdline: "root=UUID=x".into(),
            }),
        }
    }

    #[test]
    fn a_record_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let record = sample("debian-12", "12.20260101.0");
        record.write(folder).unwrap();
        assert_eq!(Record::read(folder).unwrap(), record);
        insta::assert_snapshot!(fs::read_to_string(folder.join(FILE_NAME)).unwrap(), @r#"
        {
          "schema": 1,
          "name": "debian-12",
          "version": "12.20260101.0",
          "architecture": "x86_64",
          "defaultUser": "debian",
          "firmware": [
            "bios",
            "uefi"
          ],
          "rootDevice": "/dev/xvda",
          "rootPartition": 3,
          "disk": "disk.qcow2",
          "format": "qcow2",
          "virtualSize": 2147483648,
          "sha256": "0000000000000000000000000000000000000000000000000000000000000000",
          "origin": "built",
          "created": "2026-01-01T00:00:00Z",
          "kernel": {
            "kernel": "vmlinuz",
            "initrd": "initrd",
            "cmdline": "root=UUID=x"
          }
        }
        "#);
    }

    #[test]
    fn a_newer_record_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let mut record = sample("debian-12", "12.20260101.0");
        record.schema = SCHEMA + 1;
        record.write(folder).unwrap();
        let error = crate::error::Failure::from(Record::read(folder).unwrap_err());
        assert!(
            error
                .chain()
                .ends_with("base.json is no base image record: schema 2, want 1"),
            "{}",
            error.chain()
        );
    }
}
