//! GUID partition tables (UEFI specification, chapter 5).

use super::{Guid, Partition, PartitionKind, PartitionTable, Scheme};
use crate::bytes::{Fields, SECTOR, index, len64};
use crate::reader::read_vec;
use crate::{DiskReader, Error, Result};

/// Where one header says that things are. Sectors are of 512 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GptHeader {
    /// Sector of this header.
    pub my_lba: u64,
    /// Sector of the other header.
    pub alternate_lba: u64,
    /// First sector that partitions may use.
    pub first_usable: u64,
    /// Last sector that partitions may use.
    pub last_usable: u64,
    /// GUID of the disk.
    pub disk: Guid,
    /// Sector of the entry array.
    pub entries_lba: u64,
    /// Entries in the array.
    pub entry_count: u32,
    /// Bytes of one entry.
    pub entry_size: u32,
    /// The entry array as stored.
    pub entries: Vec<u8>,
    /// The used entries.
    pub used: Vec<EntrySlot>,
}

/// The position of a used entry in its array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntrySlot {
    /// Partition number, from 1.
    pub number: u32,
    /// Byte offset in the entry array.
    pub at: usize,
}

const SIGNATURE: &[u8; 8] = b"EFI PART";
/// The specification's least size of the entry array is 16 KiB; a megabyte is beyond any real table.
const MAX_ENTRY_BYTES: u64 = 1 << 20;
const LEGACY_BOOTABLE: u64 = 1 << 2;

/// Reads the GPT of a disk; `None` when neither header is there.
pub(super) fn read(disk: &dyn DiskReader) -> Result<Option<PartitionTable>> {
    let sectors = disk.virtual_size() / SECTOR;
    if sectors < 6 {
        return Ok(None);
    }
    let primary = read_header(disk, 1);
    let backup_lba = match &primary {
        Ok(Some(header)) if header.alternate_lba < sectors => header.alternate_lba,
        _ => sectors - 1,
    };
    let backup = read_header(disk, backup_lba);
    let mut problems = Vec::new();
    let header = match (primary, backup) {
        (Ok(Some(primary)), backup) => {
            match backup {
                Ok(Some(backup))
                    if backup.entries == primary.entries && backup.disk == primary.disk =>
                {
                    if backup_lba != sectors - 1 {
                        problems.push(format!(
                            "the backup GPT is at sector {backup_lba}, not at the end of the disk ({})",
                            sectors - 1
                        ));
                    }
                }
                Ok(Some(_)) => {
                    problems.push("the backup GPT differs from the primary one".to_owned())
                }
                Ok(None) => problems.push("the backup GPT is missing".to_owned()),
                Err(e) => problems.push(format!("the backup GPT is damaged: {e}")),
            }
            primary
        }
        (primary, Ok(Some(backup))) => {
            // A stale backup on a disk that has been given another kind of table must not win.
            if primary.is_ok() && !has_protective_mbr(disk)? {
                return Ok(None);
            }
            let why = primary
                .err()
                .map_or_else(|| "missing".to_owned(), |e| format!("damaged: {e}"));
            problems.push(format!("the primary GPT is {why}; the backup is used"));
            backup
        }
        (Ok(None), _) => return Ok(None),
        (Err(e), _) => return Err(e.context("GPT: both headers are unusable")),
    };
    let partitions = partitions(&header)?;
    Ok(Some(PartitionTable {
        scheme: Scheme::Gpt,
        disk_id: header.disk.to_string(),
        partitions,
        gpt: Some(header),
        problems,
    }))
}

fn has_protective_mbr(disk: &dyn DiskReader) -> Result<bool> {
    let sector = read_vec(disk, 0, SECTOR)?;
    Ok(sector.le16(510)? == 0xaa55 && (0..4).any(|i| sector[446 + i * 16 + 4] == 0xee))
}

fn read_header(disk: &dyn DiskReader, lba: u64) -> Result<Option<GptHeader>> {
    let mut sector = read_vec(disk, lba * SECTOR, SECTOR)?;
    if !sector.starts_with(SIGNATURE) {
        return Ok(None);
    }
    let size = sector.le32(12)?;
    if !(92..=512).contains(&size) {
        return Err(Error::invalid(format!("GPT header of {size} bytes")));
    }
    let stored = sector.le32(16)?;
    sector[16..20].fill(0);
    let computed = crc32fast::hash(&sector[..index(size.into())]);
    if stored != computed {
        return Err(Error::invalid(format!(
            "GPT header checksum is {stored:08x}, computed {computed:08x}"
        )));
    }
    let sector = sector.as_slice();
    let (entry_count, entry_size) = (sector.le32(80)?, sector.le32(84)?);
    if !(128..=4096).contains(&entry_size) || entry_size % 8 != 0 {
        return Err(Error::invalid(format!("GPT entries of {entry_size} bytes")));
    }
    let bytes = u64::from(entry_count) * u64::from(entry_size);
    if bytes > MAX_ENTRY_BYTES {
        return Err(Error::limit(format!("GPT with {entry_count} entries")));
    }
    let entries_lba = sector.le64(72)?;
    let start = entries_lba
        .checked_mul(SECTOR)
        .ok_or_else(|| Error::invalid(format!("GPT entries at sector {entries_lba}")))?;
    let entries = read_vec(disk, start, bytes)?;
    let (stored, computed) = (sector.le32(88)?, crc32fast::hash(&entries));
    if stored != computed {
        return Err(Error::invalid(format!(
            "GPT entry checksum is {stored:08x}, computed {computed:08x}"
        )));
    }
    let used = (0..entry_count)
        .map(|i| EntrySlot {
            number: i + 1,
            at: index(u64::from(i) * u64::from(entry_size)),
        })
        .filter(|slot| {
            entries
                .array::<16>(slot.at)
                .is_ok_and(|kind| kind != [0; 16])
        })
        .collect();
    Ok(Some(GptHeader {
        my_lba: sector.le64(24)?,
        alternate_lba: sector.le64(32)?,
        first_usable: sector.le64(40)?,
        last_usable: sector.le64(48)?,
        disk: Guid(sector.array(56)?),
        entries_lba,
        entry_count,
        entry_size,
        entries,
        used,
    }))
}

fn partitions(header: &GptHeader) -> Result<Vec<Partition>> {
    let mut partitions = Vec::new();
    for slot in &header.used {
        let entry = header.entries.get(slot.at..).unwrap_or_default();
        let (first, last) = (entry.le64(32)?, entry.le64(40)?);
        let sectors = last
            .checked_sub(first)
            .and_then(|n| n.checked_add(1))
            .filter(|n| *n <= u64::MAX / SECTOR && first <= u64::MAX / SECTOR)
            .ok_or_else(|| {
                Error::invalid(format!(
                    "GPT entry {} runs from sector {first} to {last}",
                    slot.number
                ))
            })?;
        let name: Vec<u16> = entry
            .get(56..128)
            .unwrap_or_default()
            .chunks_exact(2)
            .map(|c| u16::from_le_bytes([c[0], c[1]]))
            .take_while(|&c| c != 0)
            .collect();
        partitions.push(Partition {
            number: slot.number,
            start: first * SECTOR,
            length: sectors * SECTOR,
            kind: PartitionKind::Gpt(Guid(entry.array(0)?)),
            name: String::from_utf16_lossy(&name),
            guid: Some(Guid(entry.array(16)?)),
            bootable: entry.le64(48)? & LEGACY_BOOTABLE != 0,
        });
    }
    Ok(partitions)
}

impl GptHeader {
    /// Bytes that the entry array takes, in whole sectors.
    pub fn entry_sectors(&self) -> u64 {
        len64(self.entries.len()).div_ceil(SECTOR)
    }

    /// Encodes a header sector with its checksums, for a place and its counterpart.
    pub fn encode(&self, my_lba: u64, alternate_lba: u64, entries_lba: u64) -> [u8; 512] {
        let mut sector = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, SIGNATURE);
        put(8, &0x0001_0000u32.to_le_bytes());
        put(12, &92u32.to_le_bytes());
        put(24, &my_lba.to_le_bytes());
        put(32, &alternate_lba.to_le_bytes());
        put(40, &self.first_usable.to_le_bytes());
        put(48, &self.last_usable.to_le_bytes());
        put(56, &self.disk.0);
        put(72, &entries_lba.to_le_bytes());
        put(80, &self.entry_count.to_le_bytes());
        put(84, &self.entry_size.to_le_bytes());
        put(88, &crc32fast::hash(&self.entries).to_le_bytes());
        let crc = crc32fast::hash(&sector[..92]);
        sector[16..20].copy_from_slice(&crc.to_le_bytes());
        sector
    }
}
