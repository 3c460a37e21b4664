//! The file that is uploaded.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Findings, Road};
use crate::bytes::{MIB, len64};
use crate::digest::disk_digest;
use crate::output::Sha256Digest;
use crate::vhd::Footer;
use crate::vmdk::SparseHeader;
use crate::{Error, Format, Image, Progress, Result, ova};

pub(super) fn check(
    path: &Path,
    image: &Image,
    findings: &mut Findings,
    progress: &dyn Progress,
) -> Result<()> {
    let file = File::open(path).map_err(|e| Error::path("open", path, e))?;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let size = image.reader.virtual_size();
    let limit: u64 = if findings.road == Road::AwsImport {
        8 << 40
    } else {
        16 << 40
    };
    if size >= limit {
        findings.add("disk.size", &name, format!("the disk has {size} bytes"));
    }
    if !size.is_multiple_of(MIB) {
        findings.add(
            "disk.whole-mib",
            &name,
            format!("the disk has {size} bytes, no whole number of MiB"),
        );
    }
    if ova::members(&file).is_ok_and(|members| !members.is_empty()) {
        check_ova(&file, &name, findings)?;
        return Ok(());
    }
    match image.format {
        Format::Qcow2 => findings.add("format.known", &name, "qcow2 is imported nowhere in EC2"),
        Format::Vmdk => check_vmdk(&file, &name, findings)?,
        Format::Vhd => check_vhd(&file, &name, findings)?,
        Format::Raw | Format::Vhdx => {}
    }
    // Every grain, cluster and block is read once; damage shows here and not in the importer.
    if let Err(e) = disk_digest(&*image.reader, progress) {
        if e.kind() == crate::ErrorKind::Cancelled {
            return Err(e);
        }
        findings.add("disk.readable", &name, e.chain());
    }
    Ok(())
}

/// What can be said of a file that no reader takes.
pub(super) fn check_unreadable(path: &Path, error: &Error, findings: &mut Findings) -> Result<()> {
    let file = File::open(path).map_err(|e| Error::path("open", path, e))?;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    findings.add("disk.readable", &name, error.chain());
    if let Ok(head) = sector(&file, 0)
        && head.starts_with(b"KDMV")
    {
        let algorithm = u16::from_le_bytes([head[77], head[78]]);
        if algorithm != 1 {
            findings.add(
                "vmdk.compress",
                &name,
                format!("compression algorithm {algorithm}"),
            );
        }
    }
    Ok(())
}

fn sector(file: &File, offset: u64) -> Result<[u8; 512]> {
    let mut sector = [0u8; 512];
    file.read_exact_at(&mut sector, offset)
        .map_err(|e| Error::io(format_args!("read at {offset:#x}"), e))?;
    Ok(sector)
}

fn check_vmdk(file: &File, name: &str, findings: &mut Findings) -> Result<()> {
    let head = sector(file, 0)?;
    if !head.starts_with(b"KDMV") {
        findings.add(
            "vmdk.subformat",
            name,
            "a text descriptor with extents beside it",
        );
        return Ok(());
    }
    let header = SparseHeader::parse(&head)?;
    if !header.is_compressed() || !header.has_markers() {
        findings.add(
            "vmdk.subformat",
            name,
            format!("header flags {:#x}: not stream-optimised", header.flags),
        );
    } else if header.compression != 1 {
        findings.add(
            "vmdk.compress",
            name,
            format!("compression algorithm {}", header.compression),
        );
    }
    Ok(())
}

fn check_vhd(file: &File, name: &str, findings: &mut Findings) -> Result<()> {
    let length = file
        .metadata()
        .map_err(|e| Error::io("read metadata", e))?
        .len();
    let tail = sector(file, length.saturating_sub(512))?;
    match Footer::parse(&tail) {
        Err(e) => findings.add("vhd.footer", name, format!("the footer at the end: {e}")),
        Ok(footer) if footer.kind == crate::vhd::DiskType::Dynamic && sector(file, 0)? != tail => {
            findings.add(
                "vhd.footer",
                name,
                "the copy at the beginning differs from the footer at the end",
            );
        }
        Ok(_) => {}
    }
    Ok(())
}

fn check_ova(file: &File, name: &str, findings: &mut Findings) -> Result<()> {
    let members = ova::members(file)?;
    let Some(first) = members.first().filter(|m| m.name.ends_with(".ovf")) else {
        findings.add("ova.layout", name, "the first file is not the .ovf");
        return Ok(());
    };
    for member in &members {
        let known = [".ovf", ".mf", ".cert", ".vmdk"]
            .iter()
            .any(|ending| member.name.ends_with(ending));
        if !known {
            findings.add(
                "ova.layout",
                &member.name,
                "a file that importers do not expect",
            );
        }
    }
    let ovf = String::from_utf8_lossy(&ova::read_member(file, first)?).into_owned();
    if ovf.contains("ovf:chunkSize") || ovf.contains("chunkSize=") {
        findings.add(
            "ova.chunks",
            &first.name,
            "the description cuts a disk into pieces",
        );
    }
    if let Some(manifest) = members.iter().find(|m| m.name.ends_with(".mf")) {
        let text = String::from_utf8_lossy(&ova::read_member(file, manifest)?).into_owned();
        for line in text.lines() {
            let Some((file_name, digest)) = line
                .strip_prefix("SHA256(")
                .and_then(|rest| rest.split_once(")="))
            else {
                continue;
            };
            let Some(member) = members.iter().find(|m| m.name == file_name) else {
                findings.add(
                    "ova.digest",
                    file_name,
                    "listed in the manifest and not in the archive",
                );
                continue;
            };
            if hash(file, member)?.hex() != digest.trim() {
                findings.add(
                    "ova.digest",
                    file_name,
                    "its digest is not the one in the manifest",
                );
            }
        }
    }
    Ok(())
}

fn hash(file: &File, member: &ova::Member) -> Result<Sha256Digest> {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    let mut done = 0;
    while done < member.size {
        let take = crate::bytes::index((member.size - done).min(len64(buffer.len())));
        file.read_exact_at(&mut buffer[..take], member.offset + done)
            .map_err(|e| Error::io("read the archive", e))?;
        hash.update(&buffer[..take]);
        done += len64(take);
    }
    Ok(Sha256Digest::finish(hash))
}
