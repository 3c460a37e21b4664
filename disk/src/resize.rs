//! Growing a disk with its partition table, and cutting it behind its last partition.

use std::sync::Arc;

use crate::bytes::{MIB, SECTOR, index, len64};
use crate::patched::PatchedDisk;
use crate::table::{GptHeader, PartitionTable, Scheme};
use crate::{DiskReader, Error, Result};

/// Partitions end on these boundaries, as partitioning tools have them.
const ALIGNMENT: u64 = MIB;

/// The disk with another size, its backup GPT at its new end, and, when asked, its last partition grown to it.
///
/// The filesystem inside is left alone: every cloud image grows it at its first boot. A disk without a GPT only gets
/// the size; the last partition of an MBR is grown in its entry. Shrinking below the end of a partition is refused.
pub fn resize(disk: Arc<dyn DiskReader>, size: u64, grow_last: bool) -> Result<PatchedDisk> {
    let last = if grow_last { Last::Grow } else { Last::Keep };
    let table = PartitionTable::read(&*disk)?;
    if size < content_end(&table, 0) {
        return Err(Error::refused(format!(
            "the partitions end at {}, the disk would at {size}",
            content_end(&table, 0)
        )));
    }
    let mut patched = PatchedDisk::new(Arc::clone(&disk), size)?;
    match (table.scheme, &table.gpt) {
        (Scheme::Gpt, Some(header)) => {
            move_gpt(&mut patched, header, disk.virtual_size(), size, last)?
        }
        (Scheme::Mbr, _) if grow_last => set_mbr_end(&mut patched, &*disk, size, last)?,
        _ => {}
    }
    Ok(patched)
}

/// The disk with its last partition ending at `end`, which its filesystem must fit into, and cut behind it.
pub(crate) fn end_last_partition(disk: Arc<dyn DiskReader>, end: u64) -> Result<PatchedDisk> {
    let table = PartitionTable::read(&*disk)?;
    let backup = table
        .gpt
        .as_ref()
        .map_or(0, |header| (header.entry_sectors() + 1) * SECTOR);
    let size = (end + backup).next_multiple_of(ALIGNMENT);
    let mut patched = PatchedDisk::new(Arc::clone(&disk), size)?;
    let last = Last::End(end / SECTOR);
    match (table.scheme, &table.gpt) {
        (Scheme::Gpt, Some(header)) => {
            move_gpt(&mut patched, header, disk.virtual_size(), size, last)?;
        }
        (Scheme::Mbr, _) => set_mbr_end(&mut patched, &*disk, size, last)?,
        _ => {}
    }
    Ok(patched)
}

/// What becomes of the last partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Keep,
    /// Up to the last boundary of the disk.
    Grow,
    /// Up to this sector, which is the first one behind it.
    End(u64),
}

/// The smallest size, a multiple of `unit`, that holds every partition and the backup GPT: what can be cut off
/// without touching a filesystem.
pub fn fitted_size(disk: &dyn DiskReader, unit: u64) -> Result<u64> {
    let table = PartitionTable::read(disk)?;
    if table.partitions.is_empty() {
        return Ok(disk.virtual_size());
    }
    let backup = table
        .gpt
        .as_ref()
        .map_or(0, |header| (header.entry_sectors() + 1) * SECTOR);
    let end = content_end(&table, backup);
    end.checked_next_multiple_of(unit.max(SECTOR))
        .ok_or_else(|| Error::limit(format!("a disk of {end} bytes")))
}

fn content_end(table: &PartitionTable, behind: u64) -> u64 {
    table
        .partitions
        .iter()
        .map(|p| p.start.saturating_add(p.length))
        .max()
        .unwrap_or(0)
        .saturating_add(behind)
}

fn move_gpt(
    disk: &mut PatchedDisk,
    old: &GptHeader,
    old_size: u64,
    size: u64,
    last: Last,
) -> Result<()> {
    let sectors = size / SECTOR;
    let entry_sectors = old.entry_sectors();
    let backup_lba = sectors - 1;
    let last_usable = backup_lba
        .checked_sub(entry_sectors + 1)
        .filter(|last| *last > old.first_usable)
        .ok_or_else(|| Error::refused(format!("no room for a GPT in {size} bytes")))?;
    let entries_lba = if old.my_lba == 1 { old.entries_lba } else { 2 };
    if entries_lba < 2
        || entries_lba
            .checked_add(entry_sectors)
            .is_none_or(|end| end > old.first_usable)
    {
        // The new header or the new backup would be written over the entries, or they over a partition.
        return Err(Error::invalid(format!(
            "GPT entries at sectors {entries_lba} and on; the header ends at 1 and partitions begin at {}",
            old.first_usable
        )));
    }
    let mut header = GptHeader {
        last_usable,
        ..old.clone()
    };
    let mut last_end = 0;
    let mut last_slot = None;
    for slot in &old.used {
        let at = slot.at + 40;
        let end = u64_at(&old.entries, at)?;
        if end >= last_end {
            (last_end, last_slot) = (end, Some(at));
        }
    }
    if let (Last::End(end), Some(at)) = (last, last_slot) {
        last_end = end - 1;
        header.entries[at..at + 8].copy_from_slice(&last_end.to_le_bytes());
    }
    if last_end > last_usable {
        return Err(Error::refused(format!(
            "the last partition ends at sector {last_end}; a disk of {size} bytes has room up to {last_usable}"
        )));
    }
    if last == Last::Grow
        && let Some(at) = last_slot
    {
        // Up to the last boundary, so that the end is aligned as partitioning tools do it.
        let aligned = (last_usable + 1) / (ALIGNMENT / SECTOR) * (ALIGNMENT / SECTOR);
        let end = if aligned > last_end + 1 {
            aligned - 1
        } else {
            last_end
        };
        header.entries[at..at + 8].copy_from_slice(&end.to_le_bytes());
    }
    // The old backup would be found by tools that search for one.
    let old_backup = old_size / SECTOR - 1;
    if old_backup > last_end.max(old.first_usable)
        && old_backup != backup_lba
        && old_backup < sectors
    {
        disk.write(&[0; 512], old_backup * SECTOR)?;
    }
    disk.write(&protective_mbr(disk, sectors)?, 0)?;
    disk.write(&header.encode(1, backup_lba, entries_lba), SECTOR)?;
    let mut entries = header.entries.clone();
    entries.resize(index(entry_sectors * SECTOR), 0);
    disk.write(&entries, entries_lba * SECTOR)?;
    let backup_entries = backup_lba - entry_sectors;
    disk.write(&entries, backup_entries * SECTOR)?;
    disk.write(
        &header.encode(backup_lba, 1, backup_entries),
        backup_lba * SECTOR,
    )
}

/// The first sector with its protective entry (type 0xEE) as long as the disk, when it has one.
fn protective_mbr(disk: &PatchedDisk, sectors: u64) -> Result<Vec<u8>> {
    let mut sector = vec![0; 512];
    disk.read_at(&mut sector, 0)?;
    for entry in sector[446..510].chunks_exact_mut(16) {
        if entry[4] == 0xee {
            let length = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
            entry[12..16].copy_from_slice(&length.to_le_bytes());
        }
    }
    Ok(sector)
}

fn set_mbr_end(
    patched: &mut PatchedDisk,
    disk: &dyn DiskReader,
    size: u64,
    how: Last,
) -> Result<()> {
    let mut sector = vec![0; 512];
    disk.read_at(&mut sector, 0)?;
    let mut last: Option<(usize, u64, u64)> = None;
    for i in 0..4 {
        let at = 446 + i * 16;
        let (start, length) = (u32_at(&sector, at + 8)?, u32_at(&sector, at + 12)?);
        let kind = sector[at + 4];
        if kind == 0 || length == 0 || last.is_some_and(|(_, s, _)| s > start) {
            continue;
        }
        // The end of an extended partition says nothing about the filesystem in it.
        last = (!matches!(kind, 0x05 | 0x0f | 0x85)).then_some((at, start, length));
    }
    if let Some((at, start, length)) = last {
        let sectors = match how {
            Last::Keep => length,
            Last::Grow => {
                let end = size / ALIGNMENT * (ALIGNMENT / SECTOR);
                end.saturating_sub(start).max(length)
            }
            Last::End(end) => end.saturating_sub(start),
        };
        let sectors = u32::try_from(sectors).unwrap_or(u32::MAX);
        sector[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
        patched.write(&sector, 0)?;
    }
    Ok(())
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    use crate::bytes::Fields as _;
    debug_assert!(len64(at) < MIB);
    bytes.le64(at)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u64> {
    use crate::bytes::Fields as _;
    bytes.le32(at).map(u64::from)
}
