//! Compression of a stream in independent pieces, so that many threads give the same bytes as one.

use libdeflater::{CompressionLvl, Compressor};

use crate::{Error, Result};

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerCompression {
    /// A gzip file of one member per mebibyte (RFC 1952, 2.2), which every reader of gzip takes as one stream.
    /// Levels 1 to 12.
    Gzip(u8),
    /// One Zstandard frame per 4 MiB. Levels 1 to 19.
    Zstd(u8),
}

impl Default for LayerCompression {
    fn default() -> Self {
        Self::Gzip(6)
    }
}

impl LayerCompression {
    /// Bytes of input per piece: a member loses its window at the end, which costs half a percent at a mebibyte.
    pub(super) fn piece(self) -> usize {
        match self {
            Self::Gzip(_) => 1 << 20,
            Self::Zstd(_) => 4 << 20,
        }
    }

    /// The media type of a layer.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Gzip(_) => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd(_) => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// Checks the level once, before the work begins.
    pub(super) fn check(self) -> Result<()> {
        match self {
            Self::Gzip(level) if CompressionLvl::new(level.into()).is_err() || level == 0 => Err(
                Error::refused(format!("gzip level {level}; 1 to 12 are there")),
            ),
            Self::Zstd(level) if !(1..=19).contains(&level) => Err(Error::refused(format!(
                "zstd level {level}; 1 to 19 are there"
            ))),
            _ => Ok(()),
        }
    }

    /// A compressor for one thread.
    pub(super) fn worker(self) -> Worker {
        match self {
            Self::Gzip(level) => {
                let level = CompressionLvl::new(level.into()).unwrap_or_default();
                Worker::Gzip(Compressor::new(level))
            }
            Self::Zstd(level) => Worker::Zstd(zstd::bulk::Compressor::new(level.into()).ok()),
        }
    }
}

/// Compresses pieces on one thread.
pub(super) enum Worker {
    Gzip(Compressor),
    Zstd(Option<zstd::bulk::Compressor<'static>>),
}

impl Worker {
    pub(super) fn compress(&mut self, piece: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::Gzip(compressor) => {
                let mut out = vec![0; compressor.gzip_compress_bound(piece.len())];
                let size = compressor
                    .gzip_compress(piece, &mut out)
                    .map_err(|e| Error::limit(format!("gzip: {e}")))?;
                out.truncate(size);
                Ok(out)
            }
            Self::Zstd(Some(compressor)) => compressor
                .compress(piece)
                .map_err(|e| Error::io("compress with zstd", e)),
            Self::Zstd(None) => Err(Error::limit("no memory for a zstd compressor")),
        }
    }
}
