//! Reading qcow2: table walk, compressed clusters, the backing disk below.

use std::cell::RefCell;
use std::fs::File;
use std::sync::{Arc, Mutex};

use libdeflater::Decompressor;
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use super::header::{Compression, Header};
use super::{COMPRESSED, OFFSET_MASK, ZERO};
use crate::bytes::{index, len64};
use crate::error::Context;
use crate::raw::read_padded;
use crate::reader::check_bounds;
use crate::{DiskReader, Error, Extent, ExtentKind, Result};

/// Where the bytes of a stretch of the disk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the file, as they are.
    Host(u64),
    /// In the file, one compressed cluster; the value is the L2 entry.
    Compressed(u64),
    /// Zero by mark.
    Zero,
    /// In the backing disk, or zero without one.
    Below,
}

/// A qcow2 image. Its backing disk, if it has one, is set by whoever opened the chain.
pub struct Qcow2Reader {
    file: File,
    length: u64,
    header: Header,
    l1: Vec<u64>,
    tables: Mutex<TableCache>,
    backing: Option<Arc<dyn DiskReader>>,
}

/// One L2 table as it is stored, decoded to integers: entries, or entry and bitmap pairs.
type Table = Arc<[u64]>;

/// The most recently used L2 tables. 4 MiB cover 32 GiB of disk at 64 KiB clusters.
struct TableCache {
    held: Vec<(u64, Table, u64)>,
    clock: u64,
    capacity: usize,
}

impl TableCache {
    fn get(&mut self, offset: u64) -> Option<Table> {
        self.clock += 1;
        let clock = self.clock;
        self.held
            .iter_mut()
            .find(|(at, ..)| *at == offset)
            .map(|(_, table, used)| {
                *used = clock;
                Arc::clone(table)
            })
    }

    fn put(&mut self, offset: u64, table: Table) {
        let entry = (offset, table, self.clock);
        if self.held.len() < self.capacity {
            self.held.push(entry);
        } else if let Some(oldest) = self.held.iter_mut().min_by_key(|(.., used)| *used) {
            *oldest = entry;
        }
    }
}

impl Qcow2Reader {
    /// Reads the header and the L1 table.
    pub fn new(file: File) -> Result<Self> {
        let length = file
            .metadata()
            .map_err(|e| Error::io("read metadata", e))?
            .len();
        let header = Header::read(&file, length)?;
        let per_l1 = 1u64 << (header.l2_bits() + header.cluster_bits);
        let mut bytes = vec![0u8; index(header.size.div_ceil(per_l1) * 8)];
        read_padded(&file, &mut bytes, header.l1_offset, length)?;
        let l1 = big_endian(&bytes);
        let capacity = index((4u64 << 20).div_ceil(header.cluster_size()).clamp(4, 512));
        let tables = Mutex::new(TableCache {
            held: Vec::new(),
            clock: 0,
            capacity,
        });
        Ok(Self {
            file,
            length,
            header,
            l1,
            tables,
            backing: None,
        })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The backing file's name as the header has it.
    pub fn backing_file(&self) -> Option<String> {
        self.header.backing_file.clone()
    }

    /// The backing file's format as the header has it.
    pub fn backing_format(&self) -> Option<String> {
        self.header.backing_format.clone()
    }

    /// Sets the disk that unallocated clusters are read from.
    pub fn set_backing(&mut self, backing: Arc<dyn DiskReader>) {
        self.backing = Some(backing);
    }

    pub(crate) fn details(&self) -> Vec<(&'static str, String)> {
        let header = &self.header;
        let mut details = vec![
            ("version", header.version.to_string()),
            ("cluster size", header.cluster_size().to_string()),
            (
                "compression",
                format!("{:?}", header.compression).to_lowercase(),
            ),
        ];
        if header.extended_l2 {
            details.push(("extended L2", "yes".to_owned()));
        }
        if header.snapshots > 0 {
            details.push(("internal snapshots", header.snapshots.to_string()));
        }
        if let Some(name) = &header.backing_file {
            details.push(("backing file", name.clone()));
        }
        details
    }

    fn table(&self, offset: u64) -> Result<Table> {
        if let Ok(mut cache) = self.tables.lock()
            && let Some(table) = cache.get(offset)
        {
            return Ok(table);
        }
        let size = self.header.cluster_size();
        if !offset.is_multiple_of(size)
            || offset.checked_add(size).is_none_or(|end| end > self.length)
        {
            return Err(Error::invalid(format!(
                "L2 table at {offset:#x} is not aligned or past the end of the file"
            )));
        }
        let mut bytes = vec![0u8; index(size)];
        read_padded(&self.file, &mut bytes, offset, self.length)?;
        let table: Table = big_endian(&bytes).into();
        if let Ok(mut cache) = self.tables.lock() {
            cache.put(offset, Arc::clone(&table));
        }
        Ok(table)
    }

    /// Finds where `offset` is stored and how far the answer holds, at most `limit` bytes.
    fn locate(&self, offset: u64, limit: u64) -> Result<(Place, u64)> {
        let header = &self.header;
        let (cluster_bits, l2_bits) = (header.cluster_bits, header.l2_bits());
        let l1_index = offset >> (cluster_bits + l2_bits);
        let table_end = ((l1_index + 1) << (cluster_bits + l2_bits)).min(header.size);
        let limit = limit.min(table_end - offset);
        let entry = self.l1.get(index(l1_index)).copied().unwrap_or(0) & OFFSET_MASK;
        if entry == 0 {
            return Ok((Place::Below, limit));
        }
        let table = self.table(entry)?;
        let (place, mut length) = self.place(&table, offset)?;
        // Joins what follows on, so that one read serves many clusters.
        while length < limit && !matches!(place, Place::Compressed(_)) {
            let (next, more) = self.place(&table, offset + length)?;
            let joins = match (place, next) {
                (Place::Host(a), Place::Host(b)) => a + length == b,
                (a, b) => a == b,
            };
            if !joins {
                break;
            }
            length += more;
        }
        Ok((place, length.min(limit)))
    }

    /// The place of one cluster, or of one subcluster, from `offset` to its end.
    fn place(&self, table: &[u64], offset: u64) -> Result<(Place, u64)> {
        let header = &self.header;
        let cluster_size = header.cluster_size();
        let within = offset & (cluster_size - 1);
        let number = (offset >> header.cluster_bits) & ((1 << header.l2_bits()) - 1);
        let width = header.l2_entry_size() / 8;
        let field = |i: u64| table.get(index(number * width + i)).copied().unwrap_or(0);
        let entry = field(0);
        if entry & COMPRESSED != 0 {
            return Ok((Place::Compressed(entry), cluster_size - within));
        }
        let host = entry & OFFSET_MASK;
        if host != 0 && (host >= self.length || !host.is_multiple_of(cluster_size)) {
            return Err(Error::invalid(format!(
                "cluster at {:#x} points to {host:#x}, which is past the end of the file or not aligned",
                offset - within
            )));
        }
        if !header.extended_l2 {
            let place = match (host, entry & ZERO != 0) {
                (_, true) if header.version >= 3 => Place::Zero,
                (0, _) => Place::Below,
                (host, _) => Place::Host(host + within),
            };
            return Ok((place, cluster_size - within));
        }
        let bitmap = field(1);
        let sub_size = cluster_size / 32;
        let sub = within / sub_size;
        let length = sub_size - within % sub_size;
        let allocated = bitmap >> sub & 1 != 0;
        let zero = bitmap >> (32 + sub) & 1 != 0;
        match (allocated, zero) {
            (true, true) => Err(Error::invalid(format!(
                "subcluster at {offset:#x} is both allocated and zero"
            ))),
            (false, true) => Ok((Place::Zero, length)),
            (true, false) if host != 0 => Ok((Place::Host(host + within), length)),
            (true, false) => Err(Error::invalid(format!(
                "subcluster at {offset:#x} is allocated nowhere"
            ))),
            (false, false) => Ok((Place::Below, length)),
        }
    }

    fn read_below(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let Some(backing) = &self.backing else {
            buffer.fill(0);
            return Ok(());
        };
        // The overlay may have been grown: behind the end of the backing disk there is nothing.
        let there = backing
            .virtual_size()
            .saturating_sub(offset)
            .min(len64(buffer.len()));
        let (head, tail) = buffer.split_at_mut(index(there));
        tail.fill(0);
        if head.is_empty() {
            Ok(())
        } else {
            backing.read_at(head, offset)
        }
    }

    /// Reads a part of a compressed cluster.
    fn read_compressed(&self, entry: u64, buffer: &mut [u8], within: u64) -> Result<()> {
        let cluster_size = index(self.header.cluster_size());
        // Bits of the offset: 62 less what the count of sectors takes.
        let offset_bits = 62 - (self.header.cluster_bits - 8);
        let offset = entry & ((1 << offset_bits) - 1);
        let sectors = (entry & (COMPRESSED - 1)) >> offset_bits;
        let size = (sectors + 1) * 512 - (offset & 511);
        let stored = size.min(self.length.saturating_sub(offset));
        if stored == 0 {
            return Err(Error::invalid(format!(
                "compressed cluster at {offset:#x} is past the end of the file"
            )));
        }
        BUFFERS.with_borrow_mut(|buffers| {
            let Buffers { stored: input, cluster, deflate } = buffers;
            input.resize(index(stored), 0);
            read_padded(&self.file, input, offset, self.length)?;
            let within = index(within);
            let whole = within == 0 && buffer.len() == cluster_size;
            let target = if whole {
                &mut *buffer
            } else {
                cluster.resize(cluster_size, 0);
                cluster.as_mut_slice()
            };
            let got = match self.header.compression {
                Compression::Zlib => deflate
                    .deflate_decompress(input, target)
                    .map_err(|e| Error::invalid(format!("compressed cluster at {offset:#x}: {e}")))?,
                Compression::Zstd => {
                    unzstd(input, target).context_with(|| format!("compressed cluster at {offset:#x}"))?
                }
            };
            if got != cluster_size {
                return Err(Error::invalid(format!(
                    "compressed cluster at {offset:#x} unpacks to {got} bytes, not to {cluster_size}"
                )));
            }
            if !whole {
                buffer.copy_from_slice(&cluster[within..within + buffer.len()]);
            }
            Ok(())
        })
    }
}

/// What a thread needs to unpack a cluster, kept between clusters.
struct Buffers {
    stored: Vec<u8>,
    cluster: Vec<u8>,
    deflate: Decompressor,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> =
        RefCell::new(Buffers { stored: Vec::new(), cluster: Vec::new(), deflate: Decompressor::new() });
}

/// Unpacks one or more frames until the target is full; bytes behind them are padding.
fn unzstd(input: &[u8], target: &mut [u8]) -> Result<usize> {
    let bad = |e| Error::new(crate::ErrorKind::Invalid, format!("zstd: {e}"));
    let mut decoder = Decoder::new().map_err(bad)?;
    let mut input = InBuffer::around(input);
    let mut output = OutBuffer::around(target);
    loop {
        let before = (input.pos(), output.pos());
        decoder.run(&mut input, &mut output).map_err(bad)?;
        if output.pos() == output.capacity() || (input.pos(), output.pos()) == before {
            return Ok(output.pos());
        }
    }
}

fn big_endian(bytes: &[u8]) -> Vec<u64> {
    bytes
        .chunks_exact(8)
        .map(|c| {
            let mut word = [0u8; 8];
            word.copy_from_slice(c);
            u64::from_be_bytes(word)
        })
        .collect()
}

impl DiskReader for Qcow2Reader {
    fn virtual_size(&self) -> u64 {
        // The format allows any size; every consumer works in sectors.
        self.header.size.next_multiple_of(crate::bytes::SECTOR)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let size = self.virtual_size();
        check_bounds(size, 1, offset)?;
        if offset >= self.header.size {
            return Ok(Extent {
                offset,
                length: size - offset,
                kind: ExtentKind::Hole,
            });
        }
        let (place, length) = self.locate(offset, u64::MAX)?;
        let kind = match place {
            Place::Host(_) | Place::Compressed(_) => ExtentKind::Data,
            Place::Zero => ExtentKind::Zero,
            Place::Below => match &self.backing {
                Some(backing) if offset < backing.virtual_size() => {
                    let below = backing.extent_at(offset)?;
                    return Ok(Extent {
                        offset,
                        length: below.length.min(length),
                        kind: below.kind,
                    });
                }
                _ => ExtentKind::Hole,
            },
        };
        Ok(Extent {
            offset,
            length,
            kind,
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_bounds(self.virtual_size(), buffer.len(), offset)?;
        let (mut rest, mut offset) = (buffer, offset);
        while !rest.is_empty() {
            if offset >= self.header.size {
                rest.fill(0);
                return Ok(());
            }
            let (place, length) = self.locate(offset, len64(rest.len()))?;
            let (part, tail) = rest.split_at_mut(index(length));
            match place {
                Place::Host(at) => read_padded(&self.file, part, at, self.length)?,
                Place::Zero => part.fill(0),
                Place::Below => self.read_below(part, offset)?,
                Place::Compressed(entry) => {
                    self.read_compressed(entry, part, offset & (self.header.cluster_size() - 1))?;
                }
            }
            rest = tail;
            offset += length;
        }
        Ok(())
    }
}
