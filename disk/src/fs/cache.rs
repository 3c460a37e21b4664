//! A small cache of chunks, so that walking a filesystem does not read or unpack the same place over and over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::bytes::{index, len64};
use crate::reader::check_bounds;
use crate::{DiskReader, Extent, Result};

/// Bytes of a chunk: one qcow2 cluster, one VMDK grain.
const CHUNK: u64 = 64 << 10;
/// 16 MiB in all.
const CHUNKS: usize = 256;

/// A reader with a cache for small reads. Reads of a chunk and more go past it.
pub struct CachedReader {
    reader: Arc<dyn DiskReader>,
    chunks: Mutex<Chunks>,
}

#[derive(Default)]
struct Chunks {
    held: HashMap<u64, (u64, Arc<[u8]>)>,
    clock: u64,
}

impl CachedReader {
    /// Puts a cache in front of a reader.
    pub fn new(reader: Arc<dyn DiskReader>) -> Self {
        Self {
            reader,
            chunks: Mutex::default(),
        }
    }

    fn chunk(&self, number: u64) -> Result<Arc<[u8]>> {
        if let Ok(mut chunks) = self.chunks.lock() {
            chunks.clock += 1;
            let clock = chunks.clock;
            if let Some((used, data)) = chunks.held.get_mut(&number) {
                *used = clock;
                return Ok(Arc::clone(data));
            }
        }
        let start = number * CHUNK;
        let mut data = vec![0; index(CHUNK.min(self.virtual_size() - start))];
        self.reader.read_at(&mut data, start)?;
        let data: Arc<[u8]> = data.into();
        if let Ok(mut chunks) = self.chunks.lock() {
            if chunks.held.len() >= CHUNKS {
                // One eighth goes at once, so that the scan for the oldest is rare.
                let mut ages: Vec<u64> = chunks.held.values().map(|(used, _)| *used).collect();
                ages.sort_unstable();
                let limit = ages[ages.len() / 8];
                chunks.held.retain(|_, (used, _)| *used > limit);
            }
            let clock = chunks.clock;
            chunks.held.insert(number, (clock, Arc::clone(&data)));
        }
        Ok(data)
    }
}

impl DiskReader for CachedReader {
    fn virtual_size(&self) -> u64 {
        self.reader.virtual_size()
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.reader.extent_at(offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_bounds(self.virtual_size(), buffer.len(), offset)?;
        if len64(buffer.len()) >= CHUNK {
            return self.reader.read_at(buffer, offset);
        }
        let (mut rest, mut offset) = (buffer, offset);
        while !rest.is_empty() {
            let chunk = self.chunk(offset / CHUNK)?;
            let within = index(offset % CHUNK);
            let take = rest.len().min(chunk.len() - within);
            let (part, tail) = rest.split_at_mut(take);
            part.copy_from_slice(&chunk[within..within + take]);
            rest = tail;
            offset += len64(take);
        }
        Ok(())
    }
}
