//! Writing qcow2 version 3: data in the order of the disk, tables behind it.

use std::fs::File;

use super::{COMPRESSED, COPIED, Compression, MAGIC};
use crate::bytes::{index, len64};
use crate::convert::{Block, Encoding, PIECE, QcowCompression, Writer, set_length, write_at};
use crate::digest::DiskDigest;
use crate::{Result, Sha256Digest};

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Entries of an L2 table.
const L2_ENTRIES: u64 = CLUSTER / 8;
/// Entries of a refcount block: 16 bits each.
const REFCOUNTS: u64 = CLUSTER / 2;
/// Where the count of sectors begins in the entry of a compressed cluster.
const SECTORS_SHIFT: u32 = 62 - (CLUSTER_BITS - 8);

/// Encodes a header for an image, filled up to a cluster.
pub(crate) struct HeaderFields<'a> {
    pub(crate) size: u64,
    pub(crate) l1_entries: u64,
    pub(crate) l1_offset: u64,
    pub(crate) refcount_offset: u64,
    pub(crate) refcount_clusters: u64,
    pub(crate) compression: Compression,
    /// Name and format of a backing file.
    pub(crate) backing: Option<(&'a str, &'a str)>,
}

impl HeaderFields<'_> {
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        const HEADER_LENGTH: u32 = 112;
        let mut out = vec![0u8; index(CLUSTER)];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        let short = |value: u64, what: &str| {
            u32::try_from(value).map_err(|_| crate::Error::limit(format!("{what} of {value}")))
        };
        put(0, &MAGIC.to_be_bytes());
        put(4, &3u32.to_be_bytes());
        put(20, &CLUSTER_BITS.to_be_bytes());
        put(24, &self.size.to_be_bytes());
        put(36, &short(self.l1_entries, "an L1 table")?.to_be_bytes());
        put(40, &self.l1_offset.to_be_bytes());
        put(48, &self.refcount_offset.to_be_bytes());
        put(
            56,
            &short(self.refcount_clusters, "a refcount table")?.to_be_bytes(),
        );
        let zstd = self.compression == Compression::Zstd;
        put(72, &(u64::from(zstd) << 3).to_be_bytes());
        // 2^4 bits per reference count.
        put(96, &4u32.to_be_bytes());
        put(100, &HEADER_LENGTH.to_be_bytes());
        put(104, &[u8::from(zstd)]);
        if let Some((name, format)) = self.backing {
            put(112, &0xE279_2ACAu32.to_be_bytes());
            put(
                116,
                &short(len64(format.len()), "a format name")?.to_be_bytes(),
            );
            put(120, format.as_bytes());
            // The end marker of the extensions is the zeros behind it.
            let at = 120 + format.len().next_multiple_of(8) + 8;
            put(8, &len64(at).to_be_bytes());
            put(16, &short(len64(name.len()), "a file name")?.to_be_bytes());
            put(at, name.as_bytes());
        }
        Ok(out)
    }
}

/// Writes an image.
pub(crate) struct Qcow2Writer<'a> {
    file: &'a File,
    size: u64,
    compression: Option<QcowCompression>,
    /// Where the next byte goes.
    end: u64,
    l1: Vec<u64>,
    /// The L2 table being filled, with its number.
    table: Vec<u64>,
    table_number: u64,
    table_used: bool,
    refcounts: Vec<u16>,
}

impl<'a> Qcow2Writer<'a> {
    pub(crate) fn new(
        file: &'a File,
        size: u64,
        compression: Option<QcowCompression>,
    ) -> Result<Self> {
        let l1_entries = size.div_ceil(CLUSTER * L2_ENTRIES).max(1);
        let mut this = Self {
            file,
            size,
            compression,
            end: CLUSTER,
            l1: vec![0; index(l1_entries)],
            table: vec![0; index(L2_ENTRIES)],
            table_number: 0,
            table_used: false,
            refcounts: Vec::new(),
        };
        this.refer(0, CLUSTER);
        Ok(this)
    }

    /// Adds a reference to every cluster that a range touches.
    fn refer(&mut self, offset: u64, length: u64) {
        let (first, last) = (
            index(offset / CLUSTER),
            index((offset + length - 1) / CLUSTER),
        );
        if self.refcounts.len() <= last {
            self.refcounts.resize(last + 1, 0);
        }
        for count in &mut self.refcounts[first..=last] {
            // 64 KiB hold fewer than 2^16 compressed clusters.
            *count = count.saturating_add(1);
        }
    }

    /// Takes whole clusters at the end of the file.
    fn allocate(&mut self, clusters: u64) -> u64 {
        let at = self.end.next_multiple_of(CLUSTER);
        self.end = at + clusters * CLUSTER;
        self.refer(at, clusters * CLUSTER);
        at
    }

    /// The entry of a guest cluster; finishes the table before when a new one begins.
    fn set_entry(&mut self, cluster: u64, entry: u64) -> Result<()> {
        let number = cluster / L2_ENTRIES;
        if number != self.table_number {
            self.flush_table()?;
            self.table_number = number;
        }
        self.table[index(cluster % L2_ENTRIES)] = entry;
        self.table_used = true;
        Ok(())
    }

    fn flush_table(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.table_used) {
            return Ok(());
        }
        let at = self.allocate(1);
        write_at(self.file, &big_endian(&self.table), at)?;
        self.l1[index(self.table_number)] = at | COPIED;
        self.table.fill(0);
        Ok(())
    }

    fn plain(&mut self, first: u64, data: &[u8]) -> Result<()> {
        let clusters = len64(data.len()).div_ceil(CLUSTER);
        let at = self.allocate(clusters);
        write_at(self.file, data, at)?;
        for i in 0..clusters {
            self.set_entry(first + i, (at + i * CLUSTER) | COPIED)?;
        }
        Ok(())
    }

    /// Compressed clusters lie byte to byte, and count in whole sectors.
    fn compressed(&mut self, cluster: u64, data: &[u8], gathered: &mut Vec<u8>) -> Result<()> {
        let at = self.end + len64(gathered.len());
        let length = len64(data.len());
        let sectors = (at + length - 1) / 512 - at / 512;
        gathered.extend_from_slice(data);
        self.refer(at & !511, (sectors + 1) * 512);
        // The entry first: a table that it completes goes behind what is gathered.
        let entry = COMPRESSED | sectors << SECTORS_SHIFT | at;
        if cluster / L2_ENTRIES != self.table_number && self.table_used {
            self.flush_gathered(gathered)?;
        }
        self.set_entry(cluster, entry)
    }

    fn flush_gathered(&mut self, gathered: &mut Vec<u8>) -> Result<()> {
        if !gathered.is_empty() {
            write_at(self.file, gathered, self.end)?;
            self.end += len64(gathered.len());
            gathered.clear();
        }
        Ok(())
    }

    fn finish_tables(&mut self, backing: Option<(&str, &str)>) -> Result<()> {
        self.flush_table()?;
        let l1_clusters = (len64(self.l1.len()) * 8).div_ceil(CLUSTER);
        let l1_offset = self.allocate(l1_clusters);
        write_at(self.file, &big_endian(&self.l1), l1_offset)?;
        // Refcount blocks count themselves and their table.
        let used = self.end.div_ceil(CLUSTER);
        let (mut blocks, mut table) = (0, 0);
        loop {
            let total = used + blocks + table;
            let (b, t) = (
                total.div_ceil(REFCOUNTS),
                (total.div_ceil(REFCOUNTS) * 8).div_ceil(CLUSTER),
            );
            if (b, t) == (blocks, table) {
                break;
            }
            (blocks, table) = (b, t);
        }
        let table_offset = self.allocate(table);
        let blocks_offset = self.allocate(blocks);
        let pointers: Vec<u64> = (0..blocks).map(|i| blocks_offset + i * CLUSTER).collect();
        write_at(self.file, &big_endian(&pointers), table_offset)?;
        for (i, chunk) in self.refcounts.chunks(index(REFCOUNTS)).enumerate() {
            let bytes: Vec<u8> = chunk.iter().flat_map(|c| c.to_be_bytes()).collect();
            write_at(self.file, &bytes, blocks_offset + len64(i) * CLUSTER)?;
        }
        set_length(self.file, self.end)?;
        let header = HeaderFields {
            size: self.size,
            l1_entries: len64(self.l1.len()),
            l1_offset,
            refcount_offset: table_offset,
            refcount_clusters: table,
            compression: match self.compression {
                Some(QcowCompression::Zstd(_)) => Compression::Zstd,
                _ => Compression::Zlib,
            },
            backing,
        };
        write_at(self.file, &header.encode()?, 0)
    }
}

fn big_endian(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

impl Writer for Qcow2Writer<'_> {
    fn encoding(&self) -> Encoding {
        match self.compression {
            None => Encoding::Plain,
            Some(QcowCompression::Zlib(level)) => Encoding::NarrowDeflate(level),
            Some(QcowCompression::Zstd(level)) => Encoding::Zstd(level),
        }
    }

    fn block(&mut self, block: &Block) -> Result<()> {
        let encoding = self.encoding();
        let first = block.offset() / CLUSTER;
        if encoding == Encoding::Plain {
            for (at, data) in block.piece_runs() {
                self.plain(first + at / CLUSTER, data)?;
            }
            return Ok(());
        }
        let mut gathered = Vec::new();
        for piece in 0..block.pieces() {
            if block.is_zero_piece(piece) {
                continue;
            }
            let cluster = first + len64(piece);
            let packed = block.encoded(encoding, piece);
            if len64(packed.len()) < CLUSTER {
                self.compressed(cluster, packed, &mut gathered)?;
            } else {
                self.flush_gathered(&mut gathered)?;
                let start = piece * index(PIECE);
                let end = (start + index(PIECE)).min(block.data.len());
                self.plain(cluster, &block.data[start..end])?;
            }
        }
        self.flush_gathered(&mut gathered)
    }

    fn finish(&mut self, _: &DiskDigest) -> Result<Option<Sha256Digest>> {
        self.finish_tables(None)?;
        Ok(None)
    }
}

/// Writes an overlay that holds a few clusters and takes the rest from a backing file.
pub(crate) struct OverlayWriter<'a> {
    inner: Qcow2Writer<'a>,
}

impl<'a> OverlayWriter<'a> {
    /// Bytes of a cluster.
    pub(crate) const CLUSTER: u64 = CLUSTER;

    pub(crate) fn new(file: &'a File, size: u64) -> Result<Self> {
        Ok(Self {
            inner: Qcow2Writer::new(file, size, None)?,
        })
    }

    /// Stores a whole cluster; clusters come in order.
    pub(crate) fn cluster(&mut self, number: u64, data: &[u8]) -> Result<()> {
        self.inner.plain(number, data)
    }

    /// Ends the overlay over a file of a name and a format.
    pub(crate) fn finish(mut self, name: &str, format: &str) -> Result<()> {
        if name.len() > 1023 {
            return Err(crate::Error::limit(format!(
                "a backing file name of {} bytes",
                name.len()
            )));
        }
        self.inner.finish_tables(Some((name, format)))
    }
}
