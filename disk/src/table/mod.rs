//! Partition tables: GUID partition tables with their backup, and master boot records with logical partitions.

mod gpt;
mod guid;
mod mbr;

pub use gpt::{EntrySlot, GptHeader};
pub use guid::Guid;

use crate::{DiskReader, Result};

/// Which kind of table a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// GUID partition table.
    Gpt,
    /// Master boot record.
    Mbr,
    /// No table; a filesystem may begin at the first byte.
    None,
}

/// What a partition says it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionKind {
    /// Type GUID of a GPT entry.
    Gpt(Guid),
    /// System id byte of an MBR entry.
    Mbr(u8),
}

impl PartitionKind {
    /// True for an EFI system partition.
    pub fn is_esp(self) -> bool {
        self == Self::Gpt(Guid::ESP) || self == Self::Mbr(0xef)
    }

    /// True for the partition in which GRUB keeps its core image on GPT disks.
    pub fn is_bios_boot(self) -> bool {
        self == Self::Gpt(Guid::BIOS_BOOT)
    }

    /// A name for people.
    pub fn label(self) -> String {
        match self {
            Self::Gpt(guid) => guid.label().map_or_else(|| guid.to_string(), str::to_owned),
            Self::Mbr(0x82) => "Linux swap".to_owned(),
            Self::Mbr(0x83) => "Linux".to_owned(),
            Self::Mbr(0x8e) => "Linux LVM".to_owned(),
            Self::Mbr(0xef) => "EFI system".to_owned(),
            Self::Mbr(0xfd) => "Linux RAID".to_owned(),
            Self::Mbr(id) => format!("type {id:#04x}"),
        }
    }
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The number that Linux gives it.
    pub number: u32,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// What it is for.
    pub kind: PartitionKind,
    /// Name in a GPT entry.
    pub name: String,
    /// Identity in a GPT entry.
    pub guid: Option<Guid>,
    /// Active flag of an MBR entry, or the legacy boot attribute of a GPT entry.
    pub bootable: bool,
}

/// A disk's partition table, with whatever is wrong in it without making it useless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionTable {
    /// Kind of table.
    pub scheme: Scheme,
    /// Disk GUID, or the MBR's signature as eight hexadecimal digits.
    pub disk_id: String,
    /// Partitions by number.
    pub partitions: Vec<Partition>,
    /// The headers, for a GPT.
    pub gpt: Option<GptHeader>,
    /// What is wrong, one sentence each: a lost backup, overlaps, a partition past the end.
    pub problems: Vec<String>,
}

impl PartitionTable {
    /// Reads a disk's table. A disk without one gives [`Scheme::None`], which is no error.
    pub fn read(disk: &dyn DiskReader) -> Result<Self> {
        let mut table = match gpt::read(disk)? {
            Some(table) => table,
            None => mbr::read(disk)?,
        };
        table.check(disk.virtual_size());
        Ok(table)
    }

    fn check(&mut self, size: u64) {
        let mut by_start: Vec<&Partition> = self.partitions.iter().collect();
        by_start.sort_by_key(|p| p.start);
        for p in &by_start {
            if p.start.checked_add(p.length).is_none_or(|end| end > size) {
                self.problems.push(format!(
                    "partition {} reaches past the end of the disk",
                    p.number
                ));
            }
        }
        for pair in by_start.windows(2) {
            if let [a, b] = pair
                && a.start.saturating_add(a.length) > b.start
            {
                self.problems
                    .push(format!("partitions {} and {} overlap", a.number, b.number));
            }
        }
    }
}
