//! Reading VHD.

use std::fs::File;

use super::UNUSED;
use super::footer::{DiskType, Footer, checksum};
use crate::bytes::{Fields, SECTOR, index, len64};
use crate::error::Context;
use crate::raw::{RawReader, read_padded};
use crate::reader::check_bounds;
use crate::{DiskReader, Error, Extent, ExtentKind, Result};

/// Covers 2 TiB in blocks of 64 KiB, and keeps a hostile header from taking the memory of the machine.
const MAX_TABLE_BYTES: u64 = 128 << 20;

/// A VHD of either kind.
pub(crate) struct VhdReader {
    footer: Footer,
    body: Body,
}

enum Body {
    Fixed(RawReader),
    Dynamic {
        file: File,
        length: u64,
        block_size: u64,
        bitmap: u64,
        table: Vec<u32>,
    },
}

impl VhdReader {
    pub(crate) fn new(file: File) -> Result<Self> {
        let length = file
            .metadata()
            .map_err(|e| Error::io("read metadata", e))?
            .len();
        let tail = length
            .checked_sub(512)
            .ok_or_else(|| Error::invalid("too short for a VHD"))?;
        let mut last = vec![0u8; 512];
        read_padded(&file, &mut last, tail, length)?;
        let mut first = vec![0u8; 512];
        read_padded(&file, &mut first, 0, length)?;
        // A dynamic disk may have lost its end; the copy in front stands in for it.
        let footer = match Footer::parse(&last) {
            Ok(footer) => footer,
            Err(e) => Footer::parse(&first).map_err(|_| e)?,
        };
        let body = match footer.kind {
            DiskType::Fixed => {
                if footer.size > tail {
                    return Err(Error::invalid(format!(
                        "fixed VHD of {} bytes in {length}",
                        footer.size
                    )));
                }
                Body::Fixed(RawReader::new(file)?)
            }
            DiskType::Dynamic => dynamic(file, length, &footer).context_with(|| "dynamic VHD")?,
            DiskType::Differencing => return Err(Error::unsupported("differencing VHD")),
        };
        Ok(Self { footer, body })
    }

    pub(crate) fn details(&self) -> Vec<(&'static str, String)> {
        vec![
            (
                "subformat",
                format!("{:?}", self.footer.kind).to_lowercase(),
            ),
            (
                "creator",
                String::from_utf8_lossy(&self.footer.creator)
                    .trim()
                    .to_owned(),
            ),
        ]
    }

    /// The stretch of equal blocks from `offset`: whether there is data, and where it ends.
    fn run(&self, table: &[u32], block_size: u64, offset: u64) -> (bool, u64) {
        let first = index(offset / block_size);
        let is_data = |i: usize| table.get(i).is_some_and(|&e| e != UNUSED);
        let kind = is_data(first);
        let next = (first + 1..table.len())
            .find(|&i| is_data(i) != kind)
            .unwrap_or(table.len());
        (kind, (len64(next) * block_size).min(self.footer.size))
    }
}

fn dynamic(file: File, length: u64, footer: &Footer) -> Result<Body> {
    let mut header = vec![0u8; 1024];
    if footer
        .data_offset
        .checked_add(1024)
        .is_none_or(|end| end > length)
    {
        return Err(Error::invalid(format!(
            "header at {:#x}",
            footer.data_offset
        )));
    }
    read_padded(&file, &mut header, footer.data_offset, length)?;
    let header = header.as_slice();
    if !header.starts_with(b"cxsparse") {
        return Err(Error::invalid("no dynamic header"));
    }
    let (stored, computed) = (header.be32(36)?, checksum(header, 36));
    if stored != computed {
        return Err(Error::invalid(format!(
            "header checksum is {stored:08x}, computed {computed:08x}"
        )));
    }
    let block_size = u64::from(header.be32(32)?);
    if !block_size.is_power_of_two() || !(4096..=1 << 28).contains(&block_size) {
        return Err(Error::invalid(format!("blocks of {block_size} bytes")));
    }
    let entries = footer.size.div_ceil(block_size);
    if u64::from(header.be32(28)?) < entries {
        return Err(Error::invalid(format!(
            "table of {} entries; the size needs {entries}",
            header.be32(28)?
        )));
    }
    let table_offset = header.be64(16)?;
    if entries * 4 > MAX_TABLE_BYTES {
        return Err(Error::limit(format!("{entries} blocks")));
    }
    if table_offset
        .checked_add(entries * 4)
        .is_none_or(|end| end > length)
    {
        return Err(Error::invalid(format!(
            "block table at {table_offset:#x} of {entries} entries"
        )));
    }
    let mut bytes = vec![0u8; index(entries * 4)];
    read_padded(&file, &mut bytes, table_offset, length)?;
    let table = bytes
        .chunks_exact(4)
        .map(|c| c.be32(0))
        .collect::<Result<Vec<u32>>>()?;
    // Bits of a block, filled up to sectors.
    let bitmap = (block_size / SECTOR / 8).next_multiple_of(SECTOR);
    Ok(Body::Dynamic {
        file,
        length,
        block_size,
        bitmap,
        table,
    })
}

impl DiskReader for VhdReader {
    fn virtual_size(&self) -> u64 {
        self.footer.size.next_multiple_of(SECTOR)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_bounds(self.virtual_size(), 1, offset)?;
        match &self.body {
            Body::Fixed(raw) => {
                let inner = raw.extent_at(offset)?;
                Ok(Extent {
                    length: inner.length.min(self.virtual_size() - offset),
                    ..inner
                })
            }
            Body::Dynamic {
                block_size, table, ..
            } => {
                let (is_data, end) = self.run(table, *block_size, offset);
                let kind = if is_data {
                    ExtentKind::Data
                } else {
                    ExtentKind::Hole
                };
                Ok(Extent {
                    offset,
                    length: end.max(offset + 1) - offset,
                    kind,
                })
            }
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_bounds(self.virtual_size(), buffer.len(), offset)?;
        let Body::Dynamic {
            file,
            length,
            block_size,
            bitmap,
            table,
        } = &self.body
        else {
            let Body::Fixed(raw) = &self.body else {
                return Ok(());
            };
            return raw.read_at(buffer, offset);
        };
        let (mut rest, mut offset) = (buffer, offset);
        while !rest.is_empty() {
            let (number, within) = (offset / block_size, offset % block_size);
            let take = index((block_size - within).min(len64(rest.len())));
            let (now, later) = rest.split_at_mut(take);
            match table.get(index(number)).copied() {
                Some(entry) if entry != UNUSED => {
                    // A block that is there reads as zero where its bitmap says so: those bytes are zero on disk
                    // too, in every disk without a parent.
                    let at = u64::from(entry) * SECTOR + bitmap + within;
                    if at >= *length {
                        return Err(Error::invalid(format!(
                            "block {number} is at {at:#x}, past the end of the file"
                        )));
                    }
                    read_padded(file, now, at, *length)?;
                }
                _ => now.fill(0),
            }
            rest = later;
            offset += len64(take);
        }
        Ok(())
    }
}
