//! Reading VHDX, fixed and dynamic, without parents and with an empty log.

use std::fs::File;

use super::layout::{
    HEADER_SIZE, HEADERS, ITEM_DISK_SIZE, ITEM_FILE_PARAMETERS, ITEM_LOGICAL_SECTOR, OFFSET_SHIFT,
    REGION_BAT, REGION_METADATA, REGION_TABLE_SIZE, REGIONS, STATE_NOT_PRESENT, STATE_PRESENT,
    chunk_ratio, crc32c,
};
use crate::bytes::{Fields, MIB, SECTOR, index, len64};
use crate::raw::read_padded;
use crate::reader::check_bounds;
use crate::{DiskReader, Error, Extent, ExtentKind, Result};

/// Covers 16 TiB in blocks of 1 MiB, and keeps a hostile header from taking the memory of the machine.
const MAX_TABLE_BYTES: u64 = 128 << 20;

/// A VHDX.
pub(crate) struct VhdxReader {
    file: File,
    length: u64,
    size: u64,
    block_size: u64,
    /// Payload entries only.
    table: Vec<u64>,
}

struct Region {
    offset: u64,
    length: u64,
}

impl VhdxReader {
    pub(crate) fn new(file: File) -> Result<Self> {
        let length = file
            .metadata()
            .map_err(|e| Error::io("read metadata", e))?
            .len();
        check_log(&file, length)?;
        let (bat, metadata) = regions(&file, length)?;
        let items = Metadata::read(&file, length, &metadata)?;
        let parameters = items.value(&ITEM_FILE_PARAMETERS, 8)?;
        let block_size = u64::from(parameters.le32(0)?);
        if !block_size.is_power_of_two() || !(MIB..=256 * MIB).contains(&block_size) {
            return Err(Error::invalid(format!("blocks of {block_size} bytes")));
        }
        if parameters.le32(4)? & 2 != 0 {
            return Err(Error::unsupported("differencing VHDX"));
        }
        let size = items.value(&ITEM_DISK_SIZE, 8)?.le64(0)?;
        let sector = u64::from(items.value(&ITEM_LOGICAL_SECTOR, 4)?.le32(0)?);
        if !matches!(sector, 512 | 4096) || !size.is_multiple_of(sector) || size > super::MAX_SIZE {
            return Err(Error::invalid(format!(
                "a disk of {size} bytes in sectors of {sector}"
            )));
        }
        let ratio = chunk_ratio(block_size, sector);
        let blocks = size.div_ceil(block_size);
        let entries = blocks + blocks.saturating_sub(1) / ratio;
        if entries * 8 > MAX_TABLE_BYTES {
            return Err(Error::limit(format!("{blocks} blocks")));
        }
        if entries * 8 > bat.length
            || bat
                .offset
                .checked_add(entries * 8)
                .is_none_or(|end| end > length)
        {
            return Err(Error::invalid(format!(
                "block table of {} bytes; {entries} entries are due",
                bat.length
            )));
        }
        let mut bytes = vec![0u8; index(entries * 8)];
        read_padded(&file, &mut bytes, bat.offset, length)?;
        let table = (0..blocks)
            .map(|block| bytes.as_slice().le64(index((block + block / ratio) * 8)))
            .collect::<Result<Vec<u64>>>()?;
        Ok(Self {
            file,
            length,
            size,
            block_size,
            table,
        })
    }

    pub(crate) fn details(&self) -> Vec<(&'static str, String)> {
        vec![("block size", self.block_size.to_string())]
    }

    fn host(&self, block: u64) -> Result<Option<u64>> {
        let entry = self
            .table
            .get(index(block))
            .copied()
            .unwrap_or(STATE_NOT_PRESENT);
        match entry & 7 {
            STATE_PRESENT => {
                let at = entry >> OFFSET_SHIFT << OFFSET_SHIFT;
                if at < MIB || at >= self.length {
                    return Err(Error::invalid(format!(
                        "block {block} is at {at:#x} of {:#x}",
                        self.length
                    )));
                }
                Ok(Some(at))
            }
            // Not present, undefined, zero, unmapped: without a parent all of them read as zero.
            0..=3 => Ok(None),
            state => Err(Error::unsupported(format!(
                "block {block} in state {state}"
            ))),
        }
    }
}

/// Takes the newer of the valid headers and refuses a log that has to be replayed.
fn check_log(file: &File, length: u64) -> Result<()> {
    let mut newest: Option<(u64, [u8; 16])> = None;
    for offset in HEADERS {
        let mut header = vec![0u8; HEADER_SIZE];
        read_padded(file, &mut header, offset, length)?;
        let stored = header.as_slice().le32(4)?;
        header[4..8].fill(0);
        if !header.starts_with(b"head") || crc32c(&header) != stored {
            continue;
        }
        let sequence = header.as_slice().le64(8)?;
        if newest.is_none_or(|(known, _)| sequence > known) {
            newest = Some((sequence, header.as_slice().array(48)?));
        }
    }
    match newest {
        None => Err(Error::invalid("both VHDX headers are damaged")),
        Some((_, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])) => Ok(()),
        Some(_) => Err(Error::refused(
            "the VHDX was not closed cleanly and its log has to be replayed",
        )),
    }
}

fn regions(file: &File, length: u64) -> Result<(Region, Region)> {
    for offset in REGIONS {
        let mut table = vec![0u8; REGION_TABLE_SIZE];
        read_padded(file, &mut table, offset, length)?;
        let stored = table.as_slice().le32(4)?;
        table[4..8].fill(0);
        if !table.starts_with(b"regi") || crc32c(&table) != stored {
            continue;
        }
        let table = table.as_slice();
        let count = usize::try_from(table.le32(8)?)
            .unwrap_or(usize::MAX)
            .min(2047);
        let (mut bat, mut metadata) = (None, None);
        for at in (0..count).map(|i| 16 + i * 32) {
            let region = Region {
                offset: table.le64(at + 16)?,
                length: table.le32(at + 24)?.into(),
            };
            let place = match table.array::<16>(at)? {
                REGION_BAT => &mut bat,
                REGION_METADATA => &mut metadata,
                _ if table.le32(at + 28)? & 1 != 0 => {
                    return Err(Error::unsupported("VHDX with an unknown region"));
                }
                _ => continue,
            };
            *place = Some(region);
        }
        if let (Some(bat), Some(metadata)) = (bat, metadata) {
            return Ok((bat, metadata));
        }
        return Err(Error::invalid("VHDX without a block table or metadata"));
    }
    Err(Error::invalid("both VHDX region tables are damaged"))
}

/// The metadata region, at most a mebibyte of it.
struct Metadata {
    bytes: Vec<u8>,
}

impl Metadata {
    fn read(file: &File, length: u64, region: &Region) -> Result<Self> {
        if region.offset >= length {
            return Err(Error::invalid(format!("metadata at {:#x}", region.offset)));
        }
        let mut bytes = vec![0u8; index(region.length.min(MIB))];
        read_padded(file, &mut bytes, region.offset, length)?;
        if !bytes.starts_with(b"metadata") {
            return Err(Error::invalid("no metadata signature"));
        }
        Ok(Self { bytes })
    }

    fn value(&self, item: &[u8; 16], size: usize) -> Result<&[u8]> {
        let bytes = self.bytes.as_slice();
        for at in (0..usize::from(bytes.le16(10)?).min(2047)).map(|i| 32 + i * 32) {
            if bytes.array::<16>(at)? == *item {
                let offset = index(bytes.le32(at + 16)?.into());
                return bytes
                    .get(offset..offset + size)
                    .ok_or_else(|| Error::invalid(format!("metadata value at {offset}")));
            }
        }
        Err(Error::invalid("a required metadata item is missing"))
    }
}

impl DiskReader for VhdxReader {
    fn virtual_size(&self) -> u64 {
        self.size.next_multiple_of(SECTOR)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_bounds(self.size, 1, offset)?;
        let first = offset / self.block_size;
        let is_data = self.host(first)?.is_some();
        let mut next = first + 1;
        while next < len64(self.table.len()) && self.host(next)?.is_some() == is_data {
            next += 1;
        }
        let end = (next * self.block_size).min(self.size);
        let kind = if is_data {
            ExtentKind::Data
        } else {
            ExtentKind::Hole
        };
        Ok(Extent {
            offset,
            length: end - offset,
            kind,
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_bounds(self.size, buffer.len(), offset)?;
        let (mut rest, mut offset) = (buffer, offset);
        while !rest.is_empty() {
            let (block, within) = (offset / self.block_size, offset % self.block_size);
            let take = index((self.block_size - within).min(len64(rest.len())));
            let (now, later) = rest.split_at_mut(take);
            match self.host(block)? {
                Some(at) => read_padded(&self.file, now, at + within, self.length)?,
                None => now.fill(0),
            }
            rest = later;
            offset += len64(take);
        }
        Ok(())
    }
}
