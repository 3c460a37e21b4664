//! Free space, by the block bitmaps.

use std::ops::Range;

use super::Ext4;
use crate::Result;
use crate::bytes::{Fields as _, index, len64};

/// The group's bitmap was never written, and neither was anything else of it but metadata, which only the bitmap tells apart.
const BLOCK_UNINIT: u16 = 0x2;

pub(super) fn ranges(fs: &Ext4, sink: &mut dyn FnMut(Range<u64>) -> Result<()>) -> Result<bool> {
    let superblock = &fs.superblock;
    // There a bit stands for a cluster of blocks.
    if superblock.has_clusters() {
        return Ok(false);
    }
    let block = superblock.block_size;
    let mut bitmap = vec![0; index(block)];
    let mut held: Option<Range<u64>> = None;
    let mut free = |blocks: Range<u64>| -> Result<()> {
        match &mut held {
            Some(range) if range.end == blocks.start => range.end = blocks.end,
            held => {
                if let Some(done) = held.replace(blocks) {
                    sink(done.start * block..done.end * block)?;
                }
            }
        }
        Ok(())
    };
    for (group, blocks) in superblock.groups().enumerate() {
        let descriptor = superblock.descriptor(fs, len64(group))?;
        if descriptor.le16(0x12)? & BLOCK_UNINIT != 0 {
            continue;
        }
        let high = if descriptor.len() >= 64 {
            u64::from(descriptor.le32(0x20)?)
        } else {
            0
        };
        fs.read_block(
            high << 32 | u64::from(descriptor.le32(0x0)?),
            &mut bitmap,
            0,
        )?;
        for (bit, number) in blocks.enumerate() {
            let byte = bitmap.get(bit / 8).copied().unwrap_or(u8::MAX);
            if byte >> (bit % 8) & 1 == 0 {
                free(number..number + 1)?;
            }
        }
    }
    if let Some(done) = held {
        sink(done.start * block..done.end * block)?;
    }
    Ok(true)
}
