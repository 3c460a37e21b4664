//! Master boot records, with the chain of logical partitions.

use super::{Partition, PartitionKind, PartitionTable, Scheme};
use crate::bytes::{Fields, SECTOR};
use crate::reader::read_vec;
use crate::{DiskReader, Error, Result};

/// Linux stops at 60 logical partitions on a SCSI disk; a longer chain is a loop.
const MAX_LOGICAL: u32 = 64;

struct Entry {
    kind: u8,
    start: u64,
    sectors: u64,
    active: bool,
}

impl Entry {
    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }
}

fn entries(sector: &[u8]) -> Result<Vec<Entry>> {
    (0..4)
        .map(|i| {
            let at = 446 + i * 16;
            Ok(Entry {
                active: sector.byte(at)? == 0x80,
                kind: sector.byte(at + 4)?,
                start: u64::from(sector.le32(at + 8)?),
                sectors: u64::from(sector.le32(at + 12)?),
            })
        })
        .collect()
}

fn has_signature(sector: &[u8]) -> bool {
    sector.get(510..512) == Some(&[0x55, 0xaa])
}

/// True for a boot sector of FAT or NTFS, whose signature is the same as an MBR's.
fn is_filesystem_boot_sector(sector: &[u8]) -> bool {
    let flags_sane = (0..4).all(|i| matches!(sector[446 + i * 16], 0 | 0x80));
    !flags_sane
        || (matches!(sector[0], 0xeb | 0xe9)
            && (&sector[54..57] == b"FAT" || &sector[82..85] == b"FAT" || &sector[3..7] == b"NTFS"))
}

/// Reads an MBR; a disk without one gives an empty table of [`Scheme::None`].
pub(super) fn read(disk: &dyn DiskReader) -> Result<PartitionTable> {
    let mut table = PartitionTable {
        scheme: Scheme::None,
        disk_id: String::new(),
        partitions: Vec::new(),
        gpt: None,
        problems: Vec::new(),
    };
    if disk.virtual_size() < SECTOR {
        return Ok(table);
    }
    let sector = read_vec(disk, 0, SECTOR)?;
    if !has_signature(&sector) || is_filesystem_boot_sector(&sector) {
        return Ok(table);
    }
    table.scheme = Scheme::Mbr;
    table.disk_id = format!("{:08x}", sector.le32(440)?);
    let mut extended = None;
    for (number, entry) in (1..).zip(entries(&sector)?) {
        if entry.kind == 0 || entry.sectors == 0 {
            continue;
        }
        if entry.is_extended() {
            extended = Some(entry.start);
        } else {
            table.partitions.push(partition(number, &entry, 0));
        }
    }
    if let Some(base) = extended {
        read_logical(disk, base, &mut table.partitions)?;
    }
    Ok(table)
}

fn partition(number: u32, entry: &Entry, base: u64) -> Partition {
    Partition {
        number,
        start: (base + entry.start) * SECTOR,
        length: entry.sectors * SECTOR,
        kind: PartitionKind::Mbr(entry.kind),
        name: String::new(),
        guid: None,
        bootable: entry.active,
    }
}

fn read_logical(disk: &dyn DiskReader, base: u64, partitions: &mut Vec<Partition>) -> Result<()> {
    let mut at = base;
    for number in 5..5 + MAX_LOGICAL {
        let sector = read_vec(disk, at * SECTOR, SECTOR)?;
        if !has_signature(&sector) {
            return Err(Error::invalid(format!(
                "extended partition: no boot record at sector {at}"
            )));
        }
        let entries = entries(&sector)?;
        if let Some(entry) = entries.iter().find(|e| e.kind != 0 && !e.is_extended()) {
            partitions.push(partition(number, entry, at));
        }
        match entries.iter().find(|e| e.is_extended()) {
            Some(next) if next.start != 0 => at = base + next.start,
            _ => return Ok(()),
        }
    }
    Err(Error::limit(
        "extended partition: the chain of logical partitions has no end",
    ))
}
