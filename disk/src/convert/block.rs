//! One block on its way through a worker: read, searched for zeros, hashed, compressed.

use std::sync::Mutex;

use flate2::{Compress, FlushCompress, Status};
use libdeflater::{CompressionLvl, Compressor};

use crate::bytes::{MIB, index, is_zero, len64};
use crate::digest::{Leaf, leaf};
use crate::{DiskReader, Error, Result};

/// Bytes of a block.
pub(crate) const BLOCK: u64 = MIB;
/// Granularity of zeros: what filesystems allocate.
const PAGE: u64 = 4096;
/// Bytes that compress as one: a qcow2 cluster, a VMDK grain.
pub(crate) const PIECE: u64 = 64 << 10;
const PAGES_PER_PIECE: usize = 16;

/// How a writer wants the pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Encoding {
    /// As they are.
    Plain,
    /// zlib streams (RFC 1950) of a level from 1 to 12.
    Zlib(u8),
    /// Raw deflate with a window of 4 KiB, levels 1 to 9.
    NarrowDeflate(u8),
    /// Zstandard frames of a level from 1 to 19.
    Zstd(u8),
}

/// A block with everything that the writers need of it.
pub(crate) struct Block {
    /// Its number.
    pub(crate) number: u64,
    /// Its bytes; short for the last block of a disk.
    pub(crate) data: Vec<u8>,
    /// Its leaf in the disk digest.
    pub(crate) leaf: Leaf,
    /// For each page, whether a bit is set in it.
    pages: [bool; 256],
    encoded: Vec<(Encoding, Vec<Vec<u8>>)>,
}

impl Block {
    /// Offset on the disk.
    pub(crate) fn offset(&self) -> u64 {
        self.number * BLOCK
    }

    /// True when it holds nothing but zeros.
    pub(crate) fn is_zero(&self) -> bool {
        self.pages.iter().all(|&set| !set)
    }

    /// Number of pieces.
    pub(crate) fn pieces(&self) -> usize {
        self.data.len().div_ceil(index(PIECE))
    }

    /// True when a piece holds nothing but zeros.
    pub(crate) fn is_zero_piece(&self, piece: usize) -> bool {
        self.pages
            .iter()
            .skip(piece * PAGES_PER_PIECE)
            .take(PAGES_PER_PIECE)
            .all(|&set| !set)
    }

    /// A compressed piece; empty for zeros.
    pub(crate) fn encoded(&self, encoding: Encoding, piece: usize) -> &[u8] {
        self.encoded
            .iter()
            .find(|(e, _)| *e == encoding)
            .and_then(|(_, pieces)| pieces.get(piece))
            .map_or(&[], Vec::as_slice)
    }

    /// Stretches of pages that are not zero, as offsets in the block.
    pub(crate) fn data_runs(&self) -> Vec<(u64, &[u8])> {
        self.runs(PAGE, |i| self.pages.get(i).copied().unwrap_or(false))
    }

    /// Stretches of pieces that are not zero, as offsets in the block.
    pub(crate) fn piece_runs(&self) -> Vec<(u64, &[u8])> {
        self.runs(PIECE, |i| !self.is_zero_piece(i))
    }

    fn runs(&self, unit: u64, is_set: impl Fn(usize) -> bool) -> Vec<(u64, &[u8])> {
        let count = self.data.len().div_ceil(index(unit));
        let mut runs = Vec::new();
        let mut i = 0;
        while i < count {
            let start = i;
            while i < count && is_set(i) {
                i += 1;
            }
            if i > start {
                let (from, to) = (start * index(unit), (i * index(unit)).min(self.data.len()));
                runs.push((len64(from), &self.data[from..to]));
            }
            i += 1;
        }
        runs
    }
}

/// Buffers that go round between the workers and the writer.
#[derive(Default)]
pub(crate) struct Pool {
    free: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    fn take(&self, length: usize) -> Vec<u8> {
        let mut buffer = self
            .free
            .lock()
            .ok()
            .and_then(|mut free| free.pop())
            .unwrap_or_default();
        buffer.resize(length, 0);
        buffer
    }

    /// Takes the buffer of a written block back.
    pub(crate) fn give(&self, block: Block) {
        if let Ok(mut free) = self.free.lock() {
            free.push(block.data);
        }
    }
}

/// What one worker needs.
pub(crate) struct Encoder {
    compressors: Vec<(Encoding, Packer)>,
}

enum Packer {
    Zlib(Box<Compressor>),
    NarrowDeflate(Compress),
    Zstd(Option<zstd::bulk::Compressor<'static>>),
}

impl Encoder {
    pub(crate) fn new(encodings: &[Encoding]) -> Self {
        let compressors = encodings
            .iter()
            .filter_map(|&encoding| {
                let packer = match encoding {
                    Encoding::Plain => return None,
                    Encoding::Zlib(level) => {
                        let level = CompressionLvl::new(level.into()).unwrap_or_default();
                        Packer::Zlib(Box::new(Compressor::new(level)))
                    }
                    Encoding::NarrowDeflate(level) => {
                        let level = flate2::Compression::new(level.into());
                        Packer::NarrowDeflate(Compress::new_with_window_bits(
                            level,
                            false,
                            QCOW2_WINDOW_BITS,
                        ))
                    }
                    Encoding::Zstd(level) => {
                        Packer::Zstd(zstd::bulk::Compressor::new(level.into()).ok())
                    }
                };
                Some((encoding, packer))
            })
            .collect();
        Self { compressors }
    }

    /// Reads a block and prepares it for every writer.
    pub(crate) fn encode(
        &mut self,
        reader: &dyn DiskReader,
        number: u64,
        pool: &Pool,
    ) -> Result<Block> {
        let offset = number * BLOCK;
        let length = index(BLOCK.min(reader.virtual_size() - offset));
        let mut data = pool.take(length);
        reader.read_at(&mut data, offset)?;
        let mut pages = [false; 256];
        for (set, page) in pages.iter_mut().zip(data.chunks(index(PAGE))) {
            *set = !is_zero(page);
        }
        let leaf = leaf(&data);
        let mut block = Block {
            number,
            data,
            leaf,
            pages,
            encoded: Vec::new(),
        };
        for (encoding, packer) in &mut self.compressors {
            let mut pieces = Vec::with_capacity(block.pieces());
            for (i, piece) in block.data.chunks(index(PIECE)).enumerate() {
                pieces.push(if block.is_zero_piece(i) {
                    Vec::new()
                } else {
                    packer.pack_whole(piece)?
                });
            }
            block.encoded.push((*encoding, pieces));
        }
        Ok(block)
    }
}

/// The specification of qcow2 asks for a window of 4 KiB; QEMU writes and reads with it.
const QCOW2_WINDOW_BITS: u8 = 12;

impl Packer {
    /// Compresses a piece; the short last one of a disk is filled up with zeros.
    fn pack_whole(&mut self, piece: &[u8]) -> Result<Vec<u8>> {
        if len64(piece.len()) == PIECE {
            return self.pack(piece);
        }
        let mut whole = piece.to_vec();
        whole.resize(index(PIECE), 0);
        self.pack(&whole)
    }

    fn pack(&mut self, piece: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::Zlib(compressor) => {
                let mut out = vec![0; compressor.zlib_compress_bound(piece.len())];
                let size = compressor
                    .zlib_compress(piece, &mut out)
                    .map_err(|e| Error::limit(format!("zlib: {e}")))?;
                out.truncate(size);
                out.shrink_to_fit();
                Ok(out)
            }
            Self::NarrowDeflate(compressor) => {
                compressor.reset();
                let mut out = vec![0; piece.len() + piece.len() / 8 + 64];
                let status = compressor
                    .compress(piece, &mut out, FlushCompress::Finish)
                    .map_err(|e| Error::limit(format!("deflate: {e}")))?;
                if status != Status::StreamEnd {
                    return Err(Error::limit("deflate: the stream did not end"));
                }
                out.truncate(index(compressor.total_out()));
                out.shrink_to_fit();
                Ok(out)
            }
            Self::Zstd(Some(compressor)) => compressor
                .compress(piece)
                .map_err(|e| Error::io("compress with zstd", e)),
            Self::Zstd(None) => Err(Error::limit("no memory for a zstd compressor")),
        }
    }
}
