//! What a parser is put through with foreign bytes. The fuzz targets call these functions, and so does the suite, with
//! the seeds, with changed seeds and with those that once found something.
//!
//! Inputs are *sparse*: records of a sector number (32 bits, little-endian) and 512 bytes, so that the few sectors of an
//! image that say something lie side by side and a megabyte between them costs nothing. `seeds.py` packs images so.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crc_fast::{CrcAlgorithm, checksum};
use ovenbird_disk::fs::{self, FsKind, Identity, NodeKind, Volume};
use ovenbird_disk::table::PartitionTable;
use ovenbird_disk::{
    DiskReader, Error, Extent, ExtentKind, Extents, Format, NoProgress, OpenOptions, Result,
    open_with, ova, preflight,
};

const SECTOR: usize = 512;
const RECORD: usize = 4 + SECTOR;
/// Images end at 64 MiB.
const SECTORS: u32 = 1 << 17;

/// A parser put to work on an input.
pub type Exercise = fn(&[u8]);

/// Every target by name.
pub const TARGETS: &[(&str, Exercise)] = &[
    ("raw", raw),
    ("qcow2", qcow2),
    ("vmdk", vmdk),
    ("vhd", vhd),
    ("vhdx", vhdx),
    ("ova", ova_archive),
    ("gpt", gpt),
    ("mbr", mbr),
    ("ext4", ext4),
    ("fat", fat),
    ("cpio", cpio),
];

fn records(data: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    data.chunks(RECORD)
        .filter(|record| record.len() > 4)
        .map(|record| {
            let number = u32::from_le_bytes([record[0], record[1], record[2], record[3]]);
            (u64::from(number % SECTORS), &record[4..])
        })
}

/// A sparse input as a disk in memory.
struct Memory {
    sectors: BTreeMap<u64, [u8; SECTOR]>,
    size: u64,
}

impl Memory {
    fn new(data: &[u8]) -> Self {
        let mut sectors = BTreeMap::new();
        for (number, bytes) in records(data) {
            let mut sector = [0; SECTOR];
            sector[..bytes.len()].copy_from_slice(bytes);
            sectors.insert(number, sector);
        }
        let size = sectors
            .keys()
            .next_back()
            .map_or(0, |last| (last + 1) * 512);
        Self { sectors, size }
    }

    /// Makes the checksums of a GPT right, so that what they cover is reached.
    fn seal_gpt(&mut self) {
        for lba in [1, (self.size / 512).saturating_sub(1)] {
            let Some(mut header) = self.sectors.get(&lba).copied() else {
                continue;
            };
            let word = |header: &[u8; SECTOR], at: usize| {
                u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
            };
            let bytes = u64::from(word(&header, 80)) * u64::from(word(&header, 84));
            let start = u64::from(word(&header, 72)) * 512;
            if bytes <= 1 << 16 && start + bytes <= self.size {
                let mut entries = vec![0; bytes as usize];
                self.read_at(&mut entries, start)
                    .expect("inside of the disk");
                header[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
            }
            let size = (word(&header, 12) as usize).min(SECTOR);
            header[16..20].fill(0);
            let sum = crc32(&header[..size]);
            header[16..20].copy_from_slice(&sum.to_le_bytes());
            self.sectors.insert(lba, header);
        }
    }
}

impl DiskReader for Memory {
    fn virtual_size(&self) -> u64 {
        self.size
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        Ok(Extent {
            offset,
            length: self.size - offset,
            kind: ExtentKind::Data,
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(Error::invalid(format!("a read outside, at {offset}")));
        }
        buffer.fill(0);
        let last = end.unwrap_or(offset).div_ceil(512);
        for (number, sector) in self.sectors.range(offset / 512..last) {
            let start = number * 512;
            let from = start.max(offset);
            let to = (start + 512).min(offset + buffer.len() as u64);
            if from < to {
                buffer[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&sector[(from - start) as usize..(to - start) as usize]);
            }
        }
        Ok(())
    }
}

/// CRC-32 as in Ethernet.
fn crc32(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32IsoHdlc, bytes) as u32
}

/// CRC-32 as in iSCSI.
fn crc32c(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

thread_local! {
    /// One file for all inputs: making a new one each time takes longer than the parsers.
    static FILE: tempfile::NamedTempFile = tempfile::NamedTempFile::new().expect("a temporary file");
}

/// Puts a sparse input into the file.
fn with_file(data: &[u8], seal: impl FnOnce(&File), use_it: impl FnOnce(&Path)) {
    FILE.with(|named| {
        let mut file = named.as_file();
        file.set_len(0).expect("an empty file");
        for (number, bytes) in records(data) {
            file.write_all_at(bytes, number * 512)
                .expect("a written record");
        }
        file.seek(SeekFrom::Start(0)).expect("the beginning");
        seal(file);
        use_it(named.path());
    });
}

fn image(data: &[u8], format: Format, seal: impl FnOnce(&File)) {
    with_file(data, seal, |path| {
        let options = OpenOptions::new().format(format).no_backing();
        if let Ok(disk) = open_with(path, &options) {
            read_some(&*disk);
        }
    });
}

/// Maps a disk and reads the beginning and the end of each extent.
fn read_some(disk: &dyn DiskReader) {
    let mut buffer = vec![0; 64 << 10];
    for extent in Extents::new(disk).take(64) {
        let Ok(extent) = extent else { return };
        assert!(extent.length > 0 && extent.end() <= disk.virtual_size());
        let length = usize::try_from(extent.length)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let _ = disk.read_at(&mut buffer[..length], extent.offset);
        let _ = disk.read_at(&mut buffer[..length], extent.end() - length as u64);
    }
    assert!(
        disk.read_at(&mut [0; 2], disk.virtual_size().saturating_sub(1))
            .is_err()
    );
}

pub fn raw(data: &[u8]) {
    image(data, Format::Raw, |_| {});
}

pub fn qcow2(data: &[u8]) {
    image(data, Format::Qcow2, |_| {});
}

pub fn vmdk(data: &[u8]) {
    image(data, Format::Vmdk, |_| {});
}

/// Makes the sums of a VHD's footers and of its dynamic header right.
pub fn vhd(data: &[u8]) {
    image(data, Format::Vhd, |file| {
        let length = file.metadata().map_or(0, |m| m.len());
        let seal = |at: u64, bytes: usize, field: usize, magic: &[u8]| {
            let mut buffer = vec![0; bytes];
            if file.read_exact_at(&mut buffer, at).is_ok() && buffer.starts_with(magic) {
                buffer[field..field + 4].fill(0);
                let sum = !buffer.iter().map(|&b| u32::from(b)).sum::<u32>();
                let _ = file.write_all_at(&sum.to_be_bytes(), at + field as u64);
            }
        };
        seal(0, 512, 64, b"conectix");
        seal(length.saturating_sub(512), 512, 64, b"conectix");
        for at in [512, 1024, 1536] {
            seal(at, 1024, 36, b"cxsparse");
        }
    });
}

/// Makes the checksums of a VHDX's headers and region tables right.
pub fn vhdx(data: &[u8]) {
    image(data, Format::Vhdx, |file| {
        for (at, bytes, magic) in [
            (64 << 10, 4096, &b"head"[..]),
            (128 << 10, 4096, b"head"),
            (192 << 10, 64 << 10, b"regi"),
            (256 << 10, 64 << 10, b"regi"),
        ] {
            let mut buffer = vec![0; bytes];
            if file.read_exact_at(&mut buffer, at).is_ok() && buffer.starts_with(magic) {
                buffer[4..8].fill(0);
                let _ = file.write_all_at(&crc32c(&buffer).to_le_bytes(), at + 4);
            }
        }
    });
}

pub fn ova_archive(data: &[u8]) {
    with_file(
        data,
        |_| {},
        |path| {
            let Ok(file) = File::open(path) else { return };
            for member in ova::members(&file).unwrap_or_default() {
                let _ = ova::read_member(&file, &member);
            }
            if let Ok(disk) = ova::open_disk(path) {
                read_some(&*disk);
            }
        },
    );
}

pub fn gpt(data: &[u8]) {
    let mut disk = Memory::new(data);
    disk.seal_gpt();
    table(disk);
}

pub fn mbr(data: &[u8]) {
    table(Memory::new(data));
}

/// Reads the table, and moves its end as a resize does.
fn table(disk: Memory) {
    let size = disk.size;
    let disk: Arc<dyn DiskReader> = Arc::new(disk);
    let Ok(table) = PartitionTable::read(&*disk) else {
        return;
    };
    for volume in Volume::list(&*disk).unwrap_or_default() {
        assert!(volume.start + volume.length <= size);
    }
    let _ = ovenbird_disk::resize::fitted_size(&*disk, 1 << 20);
    // A disk too short for the GPT that it begins with has none until it grows.
    if size < 6 * 512 {
        return;
    }
    if let Ok(grown) = ovenbird_disk::resize::resize(disk, size + (8 << 20), true) {
        let again = PartitionTable::read(&grown).expect("what was resized can be read");
        assert_eq!(table.partitions.len(), again.partitions.len());
    }
}

fn filesystem(data: &[u8], kind: FsKind) {
    let disk = Memory::new(data);
    let _ = Identity::read(&disk, kind);
    let volume = Volume {
        partition: None,
        start: 0,
        length: disk.size,
        kind,
    };
    let disk: Arc<dyn DiskReader> = Arc::new(disk);
    let Ok(fs) = volume.open(disk) else { return };
    for path in ["/etc/os-release", "/etc/link", "/sub/../a"] {
        let _ = fs::read_file(&*fs, path, 1 << 20);
    }
    let Ok(root) = fs.node(fs.root()) else { return };
    let mut left = 100;
    let _ = fs::walk(&*fs, &root, &mut |_, node| {
        let _ = fs.xattrs(node);
        if node.kind == NodeKind::File && node.size < 1 << 20 {
            let _ = fs::copy_to(&*fs, node, &mut std::io::sink(), &NoProgress);
        }
        left -= 1;
        if left == 0 {
            Err(Error::cancelled())
        } else {
            Ok(true)
        }
    });
}

pub fn ext4(data: &[u8]) {
    filesystem(data, FsKind::Ext);
}

pub fn fat(data: &[u8]) {
    filesystem(data, FsKind::Fat);
}

/// An initramfs comes as it is: its archives are streams.
pub fn cpio(data: &[u8]) {
    let _ = preflight::initramfs_names(data).map(|names| {
        let _ = std::io::sink().write_all(names.join("\n").as_bytes());
    });
}
