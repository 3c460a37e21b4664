//! Folders. Hashed folders keep their leaves as linear blocks, and their index looks like unused entries, so a
//! linear walk reads them all.

use super::super::{Entry, FileData, NodeId};
use super::Ext4;
use super::inode::Inode;
use crate::bytes::{Fields, index};
use crate::{Error, Result};

/// A gigabyte of entries is more than 10 million files.
const MAX_FOLDER: u64 = 1 << 30;

/// The entries of a folder without `.` and `..`.
pub(super) fn read(fs: &Ext4, inode: Inode) -> Result<Vec<Entry>> {
    if !inode.is_directory() {
        return Err(Error::invalid("no folder"));
    }
    if inode.size > MAX_FOLDER {
        return Err(Error::limit(format!("{} bytes of entries", inode.size)));
    }
    let has_types = fs.superblock().has_file_types();
    let mut entries = Vec::new();
    if inode.has_inline_data() {
        let data = super::xattr::inline_data(fs, &inode)?;
        // The first four bytes name the parent; the part behind the inode's own 60 bytes is a list of its own.
        let (first, second) = data.split_at(data.len().min(60));
        parse(first.get(4..).unwrap_or_default(), has_types, &mut entries)?;
        parse(second, has_types, &mut entries)?;
        return Ok(entries);
    }
    let size = fs.block_size();
    let blocks = inode.size.div_ceil(size);
    let total = inode.size;
    let content = fs.content(inode)?;
    let mut block = vec![0; index(size)];
    for number in 0..blocks {
        let offset = number * size;
        let length = index(size.min(total - offset));
        content.read_at(&mut block[..length], offset)?;
        parse(&block[..length], has_types, &mut entries)?;
    }
    Ok(entries)
}

fn parse(block: &[u8], has_types: bool, entries: &mut Vec<Entry>) -> Result<()> {
    let mut at = 0;
    while at + 8 <= block.len() {
        let inode = block.le32(at)?;
        let length = match usize::from(block.le16(at + 4)?) {
            // 64 KiB do not fit into 16 bits.
            0 | 0xffff if block.len() == 0x1_0000 => 0x1_0000,
            length => length,
        };
        if length < 8 || length % 4 != 0 || at + length > block.len() {
            // A hole in a folder, and the rest of an inline list, read as zeros.
            if inode == 0 && length == 0 {
                return Ok(());
            }
            return Err(Error::invalid(format!("entry of {length} bytes at {at}")));
        }
        let name_length = if has_types {
            usize::from(block.byte(at + 6)?)
        } else {
            usize::from(block.le16(at + 6)?)
        };
        if inode != 0 && name_length != 0 {
            let name = block
                .get(at + 8..at + 8 + name_length)
                .filter(|_| name_length + 8 <= length)
                .ok_or_else(|| Error::invalid(format!("name of {name_length} bytes at {at}")))?;
            if name.iter().any(|&b| b == b'/' || b == 0) {
                return Err(Error::invalid(format!(
                    "name {:?}",
                    String::from_utf8_lossy(name)
                )));
            }
            if name != b"." && name != b".." {
                entries.push(Entry {
                    name: name.to_vec(),
                    id: NodeId(inode.into()),
                });
            }
        }
        at += length;
    }
    Ok(())
}
