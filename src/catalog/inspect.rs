//! What a foreign disk is: format, size, and how it can be booted.

use std::process::{Command, Stdio};

use camino::Utf8Path;
use serde::Deserialize;

use super::{CatalogError, Result};
use crate::machine::Firmware;

/// The first megabyte has the boot sector and, with up to 128 partitions of any usual sector size, the whole GPT.
const HEAD: usize = 1 << 20;

/// What `qemu-img info` says about a disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskInfo {
    /// QEMU's name of the format.
    pub format: String,
    /// Bytes that the guest sees.
    pub virtual_size: u64,
    #[serde(default)]
    backing_filename: Option<String>,
    #[serde(default)]
    format_specific: Option<FormatSpecific>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct FormatSpecific {
    #[serde(default)]
    data: FormatData,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FormatData {
    #[serde(default)]
    data_file: Option<String>,
    #[serde(default)]
    corrupt: Option<bool>,
}

impl DiskInfo {
    /// Asks `qemu-img` about a disk.
    ///
    /// # Errors
    /// [`CatalogError::BadDisk`] for a disk that `qemu-img` can't read, that is marked corrupt, or that would pull in other
    /// files: a qcow2 from elsewhere may name any file of this machine as its backing or data file.
    pub fn of(path: &Utf8Path) -> Result<Self> {
        Self::look(path, None)
    }

    /// The same for a file that is to be of this format (QEMU's name), whatever its first bytes look like.
    ///
    /// # Errors
    /// Those of [`DiskInfo::of`].
    pub fn of_format(path: &Utf8Path, format: &str) -> Result<Self> {
        Self::look(path, Some(format))
    }

    fn look(path: &Utf8Path, format: Option<&str>) -> Result<Self> {
        let bad = |reason: String| CatalogError::BadDisk {
            path: path.to_owned(),
            reason,
        };
        std::fs::metadata(path).map_err(CatalogError::io("read", path))?;
        let mut arguments = vec!["info", "--output=json", "-U"];
        arguments.extend(format.iter().flat_map(|format| ["-f", format]));
        arguments.push(path.as_str());
        let output = qemu_img(&arguments)?;
        if !output.status.success() {
            return Err(bad(String::from_utf8_lossy(&output.stderr)
                .trim()
                .to_owned()));
        }
        let info: Self = serde_json::from_slice(&output.stdout)
            .map_err(|error| bad(format!("qemu-img info: {error}")))?;
        let data = info.format_specific.as_ref().map(|specific| &specific.data);
        if let Some(other) = info
            .backing_filename
            .as_ref()
            .or(data.and_then(|data| data.data_file.as_ref()))
        {
            return Err(bad(format!(
                "it needs another file, {other}; flatten it first with qemu-img convert"
            )));
        }
        if data.is_some_and(|data| data.corrupt == Some(true)) {
            return Err(bad(
                "it is marked corrupt; qemu-img check -r may repair it".into()
            ));
        }
        Ok(info)
    }
}

/// Reads from the partition table and the boot sector by which firmware a disk can be booted.
///
/// # Errors
/// [`CatalogError::BadDisk`] if the disk can't be read.
pub fn firmware(path: &Utf8Path, format: &str) -> Result<Vec<Firmware>> {
    Ok(firmware_of(&head(path, format)?))
}

fn head(path: &Utf8Path, format: &str) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().map_err(CatalogError::io("create", "a temporary folder"))?;
    let target = folder.path().join("head");
    let target = target.to_string_lossy();
    let arguments = [
        "dd",
        "-U",
        "-f",
        format,
        "-O",
        "raw",
        "bs=1M",
        "count=1",
        &format!("if={path}"),
        &format!("of={target}"),
    ];
    let output = qemu_img(&arguments)?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(CatalogError::BadDisk {
            path: path.to_owned(),
            reason,
        });
    }
    let mut bytes =
        std::fs::read(&*target).map_err(CatalogError::io("read", target.to_string()))?;
    bytes.truncate(HEAD);
    Ok(bytes)
}

/// "C12A7328-F81F-11D2-BA4B-00A0C93EC93B" as it lies on the disk (UEFI specification 2.10, 5.3.3).
const ESP: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];
/// The type of an EFI system partition in an MBR.
const MBR_ESP: u8 = 0xef;

fn firmware_of(head: &[u8]) -> Vec<Firmware> {
    let mut modes = Vec::new();
    let sector = head.get(..512).unwrap_or_default();
    // Boot code, and the signature without which BIOS would not run it.
    if sector.get(510..) == Some(&[0x55, 0xaa])
        && sector
            .get(..440)
            .is_some_and(|code| code.iter().any(|&b| b != 0))
    {
        modes.push(Firmware::Bios);
    }
    let mbr_esp = (0..4).any(|entry| sector.get(446 + 16 * entry + 4) == Some(&MBR_ESP));
    if mbr_esp || gpt_types(head).any(|kind| kind == ESP) {
        modes.push(Firmware::Uefi);
    }
    modes
}

fn gpt_types(head: &[u8]) -> impl Iterator<Item = [u8; 16]> + '_ {
    let number = |offset: usize, length: usize| {
        let bytes = head.get(512 + offset..512 + offset + length)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0usize, |sum, &byte| (sum << 8) | usize::from(byte)),
        )
    };
    let is_gpt = head.get(512..520) == Some(b"EFI PART");
    let table = (|| {
        is_gpt.then_some((
            number(72, 8)?.checked_mul(512)?,
            number(80, 4)?,
            number(84, 4)?,
        ))
    })();
    let (start, count, size) = table.unwrap_or((0, 0, 128));
    // A hostile header may claim anything; a real one has 128 entries.
    (0..count.min(1024)).map_while(move |entry| {
        let at = entry.checked_mul(size)?.checked_add(start)?;
        head.get(at..at.checked_add(16)?)?.try_into().ok()
    })
}

fn qemu_img(arguments: &[&str]) -> Result<std::process::Output> {
    let program = "qemu-img";
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| super::tool::cannot_start(program, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(bios: bool, esp: bool) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        if bios {
            head[0] = 0xeb;
        }
        head[512..520].copy_from_slice(b"EFI PART");
        head[512 + 72] = 2;
        head[512 + 80] = 128;
        head[512 + 84] = 128;
        if esp {
            head[1024 + 128..1024 + 144].copy_from_slice(&ESP);
        }
        head
    }

    #[test]
    fn firmware_modes() {
        use Firmware::{Bios, Uefi};
        assert_eq!(firmware_of(&disk(true, true)), [Bios, Uefi]);
        assert_eq!(firmware_of(&disk(false, true)), [Uefi]);
        assert_eq!(firmware_of(&disk(true, false)), [Bios]);
        assert_eq!(firmware_of(&[]), []);
    }

    #[test]
    fn a_hostile_partition_table_is_survived() {
        let mut head = disk(false, true);
        head[512 + 72..512 + 88].fill(0xff);
        assert_eq!(firmware_of(&head), []);
        assert_eq!(firmware_of(&head[..600]), []);
    }
}
