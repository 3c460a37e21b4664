//! Writing dynamic VHDX with blocks of 1 MiB, the size that suits Linux guests.

use std::fs::File;

use sha2::{Digest as _, Sha256};

use super::layout::{
    HEADER_SIZE, HEADERS, ITEM_DISK_ID, ITEM_DISK_SIZE, ITEM_FILE_PARAMETERS, ITEM_LOGICAL_SECTOR,
    ITEM_PHYSICAL_SECTOR, OFFSET_SHIFT, REGION_BAT, REGION_METADATA, REGION_TABLE_SIZE, REGIONS,
    STATE_PRESENT, chunk_ratio, crc32c,
};
use crate::bytes::{MIB, SECTOR, index, len64};
use crate::convert::{BLOCK, Block, Encoding, Writer, set_length, write_at};
use crate::digest::DiskDigest;
use crate::{Error, Result, Sha256Digest};

const LOG: u64 = MIB;
const METADATA: u64 = 2 * MIB;
const BAT: u64 = 3 * MIB;

/// Writes a VHDX.
pub(crate) struct VhdxWriter<'a> {
    file: &'a File,
    size: u64,
    table: Vec<u64>,
    ratio: u64,
    end: u64,
}

impl<'a> VhdxWriter<'a> {
    pub(crate) fn new(file: &'a File, size: u64) -> Result<Self> {
        let ratio = chunk_ratio(BLOCK, SECTOR);
        let blocks = size.div_ceil(BLOCK).max(1);
        let entries = blocks + (blocks - 1) / ratio;
        let end = BAT + (entries * 8).next_multiple_of(MIB);
        Ok(Self {
            file,
            size,
            table: vec![0; index(entries)],
            ratio,
            end,
        })
    }

    fn metadata(&self, id: &[u8; 16]) -> Vec<u8> {
        /// The value is needed to open the file.
        const REQUIRED: u32 = 4;
        /// The value is of the disk, not of the file.
        const VIRTUAL_DISK: u32 = 2;
        /// Values begin behind the 64 KiB of the table.
        const VALUES: usize = 64 << 10;
        let mut file_parameters = 0x0010_0000u32.to_le_bytes().to_vec();
        file_parameters.extend_from_slice(&0u32.to_le_bytes());
        let items: [([u8; 16], Vec<u8>, u32); 5] = [
            (ITEM_FILE_PARAMETERS, file_parameters, REQUIRED),
            (
                ITEM_DISK_SIZE,
                self.size.to_le_bytes().to_vec(),
                REQUIRED | VIRTUAL_DISK,
            ),
            (ITEM_DISK_ID, id.to_vec(), REQUIRED | VIRTUAL_DISK),
            (
                ITEM_LOGICAL_SECTOR,
                512u32.to_le_bytes().to_vec(),
                REQUIRED | VIRTUAL_DISK,
            ),
            (
                ITEM_PHYSICAL_SECTOR,
                4096u32.to_le_bytes().to_vec(),
                REQUIRED | VIRTUAL_DISK,
            ),
        ];
        let mut out = vec![0u8; VALUES];
        out[..8].copy_from_slice(b"metadata");
        out[10..12].copy_from_slice(&5u16.to_le_bytes());
        let mut offset = 0x1_0000u32;
        for (i, (kind, value, flags)) in items.into_iter().enumerate() {
            let at = 32 + i * 32;
            let length = u32::try_from(value.len()).unwrap_or_default();
            out[at..at + 16].copy_from_slice(&kind);
            out[at + 16..at + 20].copy_from_slice(&offset.to_le_bytes());
            out[at + 20..at + 24].copy_from_slice(&length.to_le_bytes());
            out[at + 24..at + 28].copy_from_slice(&flags.to_le_bytes());
            out.extend_from_slice(&value);
            offset += length;
        }
        out
    }

    fn region_table(&self) -> Result<Vec<u8>> {
        let mut out = vec![0u8; REGION_TABLE_SIZE];
        out[..4].copy_from_slice(b"regi");
        out[8..12].copy_from_slice(&2u32.to_le_bytes());
        let bat_length = u32::try_from((len64(self.table.len()) * 8).next_multiple_of(MIB))
            .map_err(|_| Error::limit("a VHDX of too many blocks"))?;
        for (i, (kind, offset, length)) in [
            (REGION_BAT, BAT, bat_length),
            (REGION_METADATA, METADATA, 0x10_0000),
        ]
        .into_iter()
        .enumerate()
        {
            let at = 16 + i * 32;
            out[at..at + 16].copy_from_slice(&kind);
            out[at + 16..at + 24].copy_from_slice(&offset.to_le_bytes());
            out[at + 24..at + 28].copy_from_slice(&length.to_le_bytes());
            out[at + 28..at + 32].copy_from_slice(&1u32.to_le_bytes());
        }
        let crc = crc32c(&out);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        Ok(out)
    }

    fn header(sequence: u64, id: impl Fn(&str) -> [u8; 16]) -> Vec<u8> {
        let mut out = vec![0u8; HEADER_SIZE];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"head");
        put(8, &sequence.to_le_bytes());
        put(16, &id("file"));
        put(32, &id("data"));
        // No log GUID: the log is empty.
        put(66, &1u16.to_le_bytes());
        put(68, &0x10_0000u32.to_le_bytes());
        put(72, &LOG.to_le_bytes());
        let crc = crc32c(&out);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }
}

impl Writer for VhdxWriter<'_> {
    fn encoding(&self) -> Encoding {
        Encoding::Plain
    }

    fn block(&mut self, block: &Block) -> Result<()> {
        if block.is_zero() {
            return Ok(());
        }
        let at = self.end;
        for (within, data) in block.data_runs() {
            write_at(self.file, data, at + within)?;
        }
        self.end += BLOCK;
        let entry = block.number + block.number / self.ratio;
        self.table[index(entry)] = (at >> OFFSET_SHIFT) << OFFSET_SHIFT | STATE_PRESENT;
        Ok(())
    }

    fn finish(&mut self, digest: &DiskDigest) -> Result<Option<Sha256Digest>> {
        // Identities that follow from the content, so that two exports are the same.
        let id = |name: &str| {
            let mut hash = Sha256::new();
            hash.update(b"vhdx ");
            hash.update(name);
            hash.update(digest.0);
            let hash: [u8; 32] = hash.finalize().into();
            let mut id = [0u8; 16];
            id.copy_from_slice(&hash[..16]);
            id
        };
        set_length(self.file, self.end)?;
        let mut identifier = b"vhdxfile".to_vec();
        identifier.extend("Ovenbird".encode_utf16().flat_map(u16::to_le_bytes));
        write_at(self.file, &identifier, 0)?;
        for (sequence, offset) in (1..).zip(HEADERS) {
            write_at(self.file, &Self::header(sequence, id), offset)?;
        }
        let regions = self.region_table()?;
        for offset in REGIONS {
            write_at(self.file, &regions, offset)?;
        }
        write_at(self.file, &self.metadata(&id("disk")), METADATA)?;
        let table: Vec<u8> = self.table.iter().flat_map(|e| e.to_le_bytes()).collect();
        write_at(self.file, &table, BAT)?;
        Ok(None)
    }
}
