//! Extended attributes: behind the fields of the inode, in a block of their own, or as the content of an inode.

use super::super::Xattr;
use super::Ext4;
use super::inode::Inode;
use crate::bytes::{Fields, index};
use crate::{Error, Result};

const MAGIC: u32 = 0xea02_0000;
/// The kernel's bound on one value.
const MAX_VALUE: u64 = 64 << 10;
/// Namespace of the attribute that continues inline data.
const INDEX_SYSTEM: u8 = 7;

struct Stored {
    index: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// The attributes as the kernel shows them, sorted by name.
pub(super) fn list(fs: &Ext4, inode: &Inode) -> Result<Vec<Xattr>> {
    let mut found = Vec::new();
    for stored in stored(fs, inode)? {
        let prefix: &[u8] = match stored.index {
            0 => b"",
            1 => b"user.",
            2 => b"system.posix_acl_access",
            3 => b"system.posix_acl_default",
            4 => b"trusted.",
            6 => b"security.",
            8 => b"system.richacl",
            INDEX_SYSTEM if stored.name == b"data" => continue,
            INDEX_SYSTEM => b"system.",
            other => return Err(Error::unsupported(format!("attribute namespace {other}"))),
        };
        let value = if matches!(stored.index, 2 | 3) {
            acl_to_kernel(&stored.value)?
        } else {
            stored.value
        };
        found.push(Xattr {
            name: [prefix, &stored.name].concat(),
            value,
        });
    }
    found.sort();
    Ok(found)
}

/// The content of a file or folder that is stored in its inode, cut to its size.
pub(super) fn inline_data(fs: &Ext4, inode: &Inode) -> Result<Vec<u8>> {
    let mut data = inode.block_field()?.to_vec();
    let rest = stored(fs, inode)?
        .into_iter()
        .find(|x| x.index == INDEX_SYSTEM && x.name == b"data");
    data.extend(rest.map(|x| x.value).unwrap_or_default());
    data.truncate(index(inode.size));
    Ok(data)
}

fn stored(fs: &Ext4, inode: &Inode) -> Result<Vec<Stored>> {
    let mut found = Vec::new();
    let extra = inode.extra_size()?;
    let start = 128 + extra;
    if inode.raw.len() > 128 && start + 4 <= inode.raw.len() && inode.raw.le32(start)? == MAGIC {
        let area = &inode.raw[start + 4..];
        parse(fs, area, 0, &mut found)?;
    }
    let block = inode.xattr_block()?;
    if block != 0 {
        let mut data = vec![0; index(fs.block_size())];
        fs.read_block(block, &mut data, 0)?;
        if data.le32(0)? != MAGIC {
            return Err(Error::invalid(format!(
                "no magic in the attribute block {block}"
            )));
        }
        parse(fs, &data, 32, &mut found)?;
    }
    Ok(found)
}

/// Parses the entries from `at`; the offsets of values count from the beginning of `area`.
fn parse(fs: &Ext4, area: &[u8], mut at: usize, found: &mut Vec<Stored>) -> Result<()> {
    while at + 4 <= area.len() && area.le32(at)? != 0 {
        let name_length = usize::from(area.byte(at)?);
        let name = area.get(at + 16..at + 16 + name_length).ok_or_else(|| {
            Error::invalid(format!("attribute name of {name_length} bytes at {at}"))
        })?;
        let (offset, size) = (
            usize::from(area.le16(at + 2)?),
            u64::from(area.le32(at + 8)?),
        );
        if size > MAX_VALUE {
            return Err(Error::limit(format!("attribute of {size} bytes")));
        }
        let holder = area.le32(at + 4)?;
        let value = if holder == 0 {
            area.get(offset..offset + index(size))
                .ok_or_else(|| {
                    Error::invalid(format!("attribute value of {size} bytes at {offset}"))
                })?
                .to_vec()
        } else {
            fs.read_all(fs.inode(holder)?, MAX_VALUE)?
        };
        found.push(Stored {
            index: area.byte(at + 1)?,
            name: name.to_vec(),
            value,
        });
        at += (16 + name_length).next_multiple_of(4);
    }
    Ok(())
}

/// Access control lists are stored shorter than the kernel gives them out: entries for the owner, the group, the
/// mask and others have no id on disk and the id -1 outside.
fn acl_to_kernel(stored: &[u8]) -> Result<Vec<u8>> {
    const USER: u16 = 0x02;
    const GROUP: u16 = 0x08;
    if stored.le32(0)? != 1 {
        return Err(Error::unsupported(
            "access control list of an unknown version",
        ));
    }
    let mut out = 2u32.to_le_bytes().to_vec();
    let mut at = 4;
    while at < stored.len() {
        let tag = stored.le16(at)?;
        out.extend_from_slice(&stored.array::<4>(at)?);
        at += 4;
        if matches!(tag, USER | GROUP) {
            out.extend_from_slice(&stored.array::<4>(at)?);
            at += 4;
        } else {
            out.extend_from_slice(&u32::MAX.to_le_bytes());
        }
    }
    Ok(out)
}
