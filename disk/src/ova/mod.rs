//! Open virtual appliances: a description, a list of digests and a stream-optimised VMDK in one tar archive.
//!
//! The description and the digests come first, though they are known last: room of a fixed size is left for them.

mod ovf;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

pub use ovf::{Firmware, GuestOs, Hardware};

use crate::bytes::{MIB, index, len64};
use crate::convert::{Block, Encoding, Profile, Sequential, Writer, set_length, write_at};
use crate::digest::DiskDigest;
use crate::raw::read_padded;
use crate::tar::{self, Header, Kind};
use crate::vmdk::{SparseReader, VmdkSettings, VmdkWriter};
use crate::{DiskReader, Error, Result, Sha256Digest};

/// Room for the description; white space fills it up.
const OVF_SIZE: u64 = 8192;
const TAR_HEADER: u64 = 512;

/// Writes an OVA.
pub(crate) struct OvaWriter<'a> {
    file: &'a File,
    size: u64,
    profile: Profile,
    hardware: Hardware,
    name: String,
    data_start: u64,
    used: u64,
    vmdk: VmdkWriter<'a>,
}

impl<'a> OvaWriter<'a> {
    pub(crate) fn new(
        file: &'a File,
        size: u64,
        profile: Profile,
        level: u8,
        hardware: &Hardware,
        name: &str,
    ) -> Result<Self> {
        // Names go into XML, tar and the manifest: keep to what all of them carry as it is.
        let name: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "._-".contains(c) {
                    c
                } else {
                    '-'
                }
            })
            .take(60)
            .collect();
        let manifest = manifest_text(&name, &Sha256Digest([0; 32]), &Sha256Digest([0; 32]));
        let manifest_room = len64(manifest.len()).next_multiple_of(tar::BLOCK);
        let data_start = TAR_HEADER + OVF_SIZE + TAR_HEADER + manifest_room + TAR_HEADER;
        let settings = VmdkSettings {
            profile,
            level,
            name: disk_name(&name),
        };
        let vmdk = VmdkWriter::new(Sequential::file(file, data_start, true)?, size, &settings)?;
        Ok(Self {
            file,
            size,
            profile,
            hardware: hardware.clone(),
            name,
            data_start,
            used: 0,
            vmdk,
        })
    }
}

fn disk_name(name: &str) -> String {
    format!("{name}-disk1.vmdk")
}

fn manifest_text(name: &str, ovf: &Sha256Digest, disk: &Sha256Digest) -> String {
    format!(
        "SHA256({name}.ovf)= {ovf}\nSHA256({})= {disk}\n",
        disk_name(name)
    )
}

fn member(name: &str, size: u64) -> Result<Vec<u8>> {
    let header = Header {
        path: name.as_bytes(),
        kind: Kind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size,
        mtime: 0,
        records: Vec::new(),
    };
    header.encode()
}

impl Writer for OvaWriter<'_> {
    fn encoding(&self) -> Encoding {
        self.vmdk.encoding()
    }

    fn block(&mut self, block: &Block) -> Result<()> {
        self.used += block
            .data_runs()
            .iter()
            .map(|(_, data)| len64(data.len()))
            .sum::<u64>();
        self.vmdk.block(block)
    }

    fn finish(&mut self, _: &DiskDigest) -> Result<Option<Sha256Digest>> {
        let disk = self
            .vmdk
            .end()?
            .ok_or_else(|| Error::invalid("no digest of the disk"))?;
        let length = self.vmdk.length();
        let mut ovf = ovf::describe(&ovf::Description {
            name: &self.name,
            disk_file: &disk_name(&self.name),
            disk_bytes: length,
            capacity: self.size,
            populated: self.used,
            profile: self.profile,
            hardware: &self.hardware,
        })
        .into_bytes();
        if len64(ovf.len()) > OVF_SIZE {
            return Err(Error::limit(format!(
                "a description of {} bytes",
                ovf.len()
            )));
        }
        ovf.resize(index(OVF_SIZE), b'\n');
        let manifest = manifest_text(&self.name, &Sha256Digest::of(&ovf), &disk);
        let mut front = member(&format!("{}.ovf", self.name), OVF_SIZE)?;
        front.extend_from_slice(&ovf);
        front.extend(member(&format!("{}.mf", self.name), len64(manifest.len()))?);
        front.extend_from_slice(manifest.as_bytes());
        front.resize(front.len() + tar::padding(len64(manifest.len())), 0);
        front.extend(member(&disk_name(&self.name), length)?);
        if len64(front.len()) != self.data_start {
            return Err(Error::limit(format!(
                "an OVA whose disk has {length} bytes"
            )));
        }
        write_at(self.file, &front, 0)?;
        set_length(self.file, self.data_start + length + 2 * tar::BLOCK)?;
        Ok(None)
    }
}

/// Opens the first VMDK in an OVA.
pub fn open_disk(path: &Path) -> Result<Arc<dyn DiskReader>> {
    let file = File::open(path).map_err(|e| Error::path("open", path, e))?;
    let members = members(&file)?;
    let disk = members
        .iter()
        .find(|m| m.name.ends_with(".vmdk"))
        .ok_or_else(|| Error::not_found("no VMDK in the archive"))?;
    Ok(Arc::new(SparseReader::new(file, disk.offset, disk.size)?))
}

/// A file in an OVA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name.
    pub name: String,
    /// Where its content begins.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// An archive of a virtual machine has a handful of files.
const MAX_MEMBERS: usize = 1000;

/// Lists the files of an OVA.
pub fn members(file: &File) -> Result<Vec<Member>> {
    let length = file
        .metadata()
        .map_err(|e| Error::io("read metadata", e))?
        .len();
    let mut members = Vec::new();
    let mut at = 0;
    while at + tar::BLOCK <= length && members.len() < MAX_MEMBERS {
        let mut header = [0u8; 512];
        file.read_exact_at(&mut header, at)
            .map_err(|e| Error::io("read the archive", e))?;
        if header.iter().all(|&b| b == 0) {
            break;
        }
        if &header[257..262] != b"ustar" {
            return Err(Error::invalid(format!("no ustar header at {at:#x}")));
        }
        let size = number(&header[124..136])?;
        let offset = at + tar::BLOCK;
        let next = size
            .checked_next_multiple_of(tar::BLOCK)
            .and_then(|padded| offset.checked_add(padded))
            .filter(|_| offset + size <= length)
            .ok_or_else(|| Error::invalid(format!("member of {size} bytes at {at:#x}")))?;
        let name = header[..100].split(|&b| b == 0).next().unwrap_or_default();
        if matches!(header[156], b'0' | 0) {
            members.push(Member {
                name: String::from_utf8_lossy(name).into_owned(),
                offset,
                size,
            });
        }
        at = next;
    }
    Ok(members)
}

/// A number of a tar header: octal digits, or binary when the first bit is set.
fn number(field: &[u8]) -> Result<u64> {
    if field.first().is_some_and(|b| b & 0x80 != 0) {
        return field[4..]
            .iter()
            .try_fold(0u64, |n, &b| Some(n.checked_mul(256)? + u64::from(b)))
            .ok_or_else(|| Error::invalid("size in a tar header"));
    }
    let text: String = field
        .iter()
        .take_while(|&&b| b != 0 && b != b' ')
        .map(|&b| char::from(b))
        .collect();
    u64::from_str_radix(&text, 8)
        .map_err(|_| Error::invalid(format!("size {text:?} in a tar header")))
}

/// Reads a small member, such as the description.
pub fn read_member(file: &File, member: &Member) -> Result<Vec<u8>> {
    if member.size > MIB {
        return Err(Error::limit(format!(
            "{} of {} bytes",
            member.name, member.size
        )));
    }
    let mut content = vec![0; index(member.size)];
    read_padded(
        file,
        &mut content,
        member.offset,
        member.offset + member.size,
    )?;
    Ok(content)
}
