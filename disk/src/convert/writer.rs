//! What a format's writer has to do, and where its bytes go.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use sha2::{Digest as _, Sha256};

use super::{Block, Encoding};
use crate::bytes::{index, len64};
use crate::digest::DiskDigest;
use crate::{Error, Result, Sha256Digest};

/// Writes one format. Called in the order of the disk, each block once, as itself or in a run of zeros.
pub(crate) trait Writer: Send {
    /// How it wants the pieces of a block.
    fn encoding(&self) -> Encoding;

    /// A run of zero blocks.
    fn zeros(&mut self, first: u64, count: u64) -> Result<()> {
        let _ = (first, count);
        Ok(())
    }

    /// The file, when each block has a place in it that is known beforehand. The workers then write their blocks there
    /// themselves, in any order, while the bytes are still in their caches, and `block` has nothing left to write.
    fn in_place(&self) -> Result<Option<File>> {
        Ok(None)
    }

    /// A block that may hold data.
    fn block(&mut self, block: &Block) -> Result<()>;

    /// Writes the tables. Returns the file's digest when it was computed on the way.
    fn finish(&mut self, digest: &DiskDigest) -> Result<Option<Sha256Digest>>;

    /// Bytes written, for writers of streams.
    fn position(&self) -> u64 {
        0
    }
}

/// A sink that takes bytes in order and hashes them.
pub(crate) struct Sequential<'a> {
    sink: Sink<'a>,
    hash: Option<Sha256>,
    position: u64,
    /// Small writes gather here.
    buffer: Vec<u8>,
}

enum Sink<'a> {
    /// Zeros become holes.
    File(&'a File),
    Stream(&'a mut (dyn Write + Send)),
}

const BUFFER: usize = 1 << 20;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl<'a> Sequential<'a> {
    /// Writes to a file from its position `start`.
    pub(crate) fn file(file: &'a File, start: u64, hashed: bool) -> Result<Self> {
        let mut at: &File = file;
        at.seek(SeekFrom::Start(start))
            .map_err(|e| Error::io("seek", e))?;
        Ok(Self {
            sink: Sink::File(file),
            hash: hashed.then(Sha256::new),
            position: 0,
            buffer: Vec::new(),
        })
    }

    /// Writes to a stream.
    pub(crate) fn stream(sink: &'a mut (dyn Write + Send)) -> Self {
        Self {
            sink: Sink::Stream(sink),
            hash: Some(Sha256::new()),
            position: 0,
            buffer: Vec::new(),
        }
    }

    /// Bytes taken so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Takes bytes.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        self.position += len64(bytes.len());
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() >= BUFFER / 4 {
            self.flush()?;
            return self.sink.write_all(bytes).map_err(write_error);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes so many zeros.
    pub(crate) fn zeros(&mut self, count: u64) -> Result<()> {
        if count < len64(ZEROS.len()) {
            return self.put(&ZEROS[..index(count)]);
        }
        self.flush()?;
        let mut left = count;
        while left > 0 {
            let part = &ZEROS[..index(left.min(len64(ZEROS.len())))];
            if let Some(hash) = &mut self.hash {
                hash.update(part);
            }
            if let Sink::Stream(sink) = &mut self.sink {
                sink.write_all(part).map_err(write_error)?;
            }
            left -= len64(part.len());
        }
        if let Sink::File(file) = &mut self.sink {
            let ahead = i64::try_from(count).map_err(|_| Error::limit(format!("{count} zeros")))?;
            file.seek(SeekFrom::Current(ahead))
                .map_err(|e| Error::io("seek", e))?;
        }
        self.position += count;
        Ok(())
    }

    /// Fills up to a multiple of `unit`.
    pub(crate) fn align(&mut self, unit: u64) -> Result<()> {
        self.zeros(self.position.next_multiple_of(unit) - self.position)
    }

    fn flush(&mut self) -> Result<()> {
        self.sink.write_all(&self.buffer).map_err(write_error)?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is gathered and gives the digest.
    pub(crate) fn finish(&mut self) -> Result<Option<Sha256Digest>> {
        self.flush()?;
        self.sink.flush().map_err(write_error)?;
        Ok(self.hash.take().map(Sha256Digest::finish))
    }
}

impl Sink<'_> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(bytes),
            Self::Stream(sink) => sink.write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(_) => Ok(()),
            Self::Stream(sink) => sink.flush(),
        }
    }
}

fn write_error(e: io::Error) -> Error {
    Error::io("write the image", e)
}

/// Writes at a position of a file.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset).map_err(|e| {
        Error::io(
            format_args!("write {} bytes at {offset:#x}", bytes.len()),
            e,
        )
    })
}
