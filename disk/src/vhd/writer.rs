//! Writing VHD.

use std::fs::File;

use super::footer::{checksum, fixed_footer};
use super::{BLOCK_SIZE, DiskType, Footer, UNUSED};
use crate::bytes::{SECTOR, index, len64};
use crate::convert::{BLOCK, Block, Encoding, Writer, set_length, write_at};
use crate::digest::DiskDigest;
use crate::raw::RawWriter;
use crate::{Error, Result, Sha256Digest};

/// A raw disk with a footer behind it.
pub(crate) struct FixedWriter<'a> {
    raw: RawWriter<'a>,
    file: &'a File,
    size: u64,
}

impl<'a> FixedWriter<'a> {
    pub(crate) fn new(file: &'a File, size: u64) -> Result<Self> {
        Ok(Self {
            raw: RawWriter::new(file, size)?,
            file,
            size,
        })
    }
}

impl Writer for FixedWriter<'_> {
    fn encoding(&self) -> Encoding {
        Encoding::Plain
    }

    fn in_place(&self) -> Result<Option<File>> {
        self.raw.in_place()
    }

    fn block(&mut self, block: &Block) -> Result<()> {
        self.raw.block(block)
    }

    fn finish(&mut self, digest: &DiskDigest) -> Result<Option<Sha256Digest>> {
        write_at(self.file, &fixed_footer(self.size, digest), self.size)?;
        Ok(None)
    }
}

/// Offset of the block table: behind the copy of the footer and the dynamic header.
const TABLE: u64 = 1536;
/// A sector of bits, one for each of the 4096 sectors of a block.
const BITMAP: u64 = 512;

const PAGE: u64 = 4096;

/// A disk of 2 MiB blocks.
pub(crate) struct DynamicWriter<'a> {
    file: &'a File,
    size: u64,
    table: Vec<u32>,
    end: u64,
}

impl<'a> DynamicWriter<'a> {
    pub(crate) fn new(file: &'a File, size: u64) -> Result<Self> {
        let entries = size.div_ceil(BLOCK_SIZE);
        let end = (TABLE + entries * 4).next_multiple_of(SECTOR);
        Ok(Self {
            file,
            size,
            table: vec![UNUSED; index(entries)],
            end,
        })
    }

    /// Where a block is; makes it when it is new, with every sector marked as there.
    fn place(&mut self, number: u64) -> Result<u64> {
        let entry = &mut self.table[index(number)];
        if *entry == UNUSED {
            // The data lies on whole pages of the file, its bitmap in the sector before: what is written page by page
            // then never touches a page twice.
            self.end = (self.end + BITMAP).next_multiple_of(PAGE) - BITMAP;
            *entry = u32::try_from(self.end / SECTOR)
                .map_err(|_| Error::limit("a VHD of more than 2 TiB"))?;
            write_at(self.file, &[0xff; 512], self.end)?;
            self.end += BITMAP + BLOCK_SIZE;
        }
        Ok(u64::from(*entry) * SECTOR + BITMAP)
    }

    fn header(&self) -> Result<[u8; 1024]> {
        let mut header = [0u8; 1024];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        let entries = u32::try_from(self.table.len())
            .map_err(|_| Error::limit("a VHD of too many blocks"))?;
        put(0, b"cxsparse");
        put(8, &u64::MAX.to_be_bytes());
        put(16, &TABLE.to_be_bytes());
        put(24, &0x0001_0000u32.to_be_bytes());
        put(28, &entries.to_be_bytes());
        put(32, &0x0020_0000u32.to_be_bytes());
        let sum = checksum(&header, 36);
        header[36..40].copy_from_slice(&sum.to_be_bytes());
        Ok(header)
    }
}

impl Writer for DynamicWriter<'_> {
    fn encoding(&self) -> Encoding {
        Encoding::Plain
    }

    fn block(&mut self, block: &Block) -> Result<()> {
        if block.is_zero() {
            return Ok(());
        }
        let offset = block.number * BLOCK;
        let place = self.place(offset / BLOCK_SIZE)? + offset % BLOCK_SIZE;
        for (at, data) in block.data_runs() {
            write_at(self.file, data, place + at)?;
        }
        Ok(())
    }

    fn finish(&mut self, digest: &DiskDigest) -> Result<Option<Sha256Digest>> {
        let footer = Footer::new(DiskType::Dynamic, self.size, digest).encode();
        write_at(self.file, &footer, 0)?;
        write_at(self.file, &self.header()?, SECTOR)?;
        let mut table: Vec<u8> = self.table.iter().flat_map(|e| e.to_be_bytes()).collect();
        table.resize(table.len().next_multiple_of(512), 0xff);
        debug_assert!(TABLE + len64(table.len()) <= self.end);
        write_at(self.file, &table, TABLE)?;
        set_length(self.file, self.end + SECTOR)?;
        write_at(self.file, &footer, self.end)?;
        Ok(None)
    }
}
