//! A disk as the blocks of a snapshot.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use ovenbird_disk::bytes::index as usize_of;
use ovenbird_disk::{DiskReader, Extents};
use sha2::{Digest as _, Sha256};

/// Every block has this length.
pub const BLOCK: u64 = 512 * 1024;
/// Volumes have whole GiB.
const GIB: u64 = 1 << 30;

/// SHA-256 of a block.
pub type BlockDigest = [u8; 32];
/// What was put, by index.
pub type BlockMap = BTreeMap<u64, BlockDigest>;

/// GiB of the volume that a disk needs.
pub fn volume_gib(disk: &dyn DiskReader) -> u64 {
    disk.virtual_size().div_ceil(GIB).max(1)
}

/// The checksum over all blocks: SHA-256 of their digests in the order of their indexes.
pub fn linear_checksum(blocks: &BlockMap) -> String {
    let mut hash = Sha256::new();
    for digest in blocks.values() {
        hash.update(digest);
    }
    BASE64.encode(hash.finalize())
}

/// Indexes of blocks that may hold something else than zeros.
///
/// # Errors
/// If the disk can't be read.
pub fn stored_blocks(disk: &dyn DiskReader) -> ovenbird_disk::Result<Vec<u64>> {
    let mut blocks: Vec<u64> = Vec::new();
    for extent in Extents::new(disk) {
        let extent = extent?;
        if extent.kind.is_empty() {
            continue;
        }
        let first = extent.offset / BLOCK;
        let first = blocks.last().map_or(first, |last| first.max(last + 1));
        blocks.extend(first..extent.end().div_ceil(BLOCK));
    }
    Ok(blocks)
}

/// Reads blocks of a disk into buffers that are used again once a block is let go: fresh ones cost a page fault for every
/// 4 KiB, an eighth of all processor time of a snapshot.
#[derive(Clone)]
pub struct BlockReader {
    disk: Arc<dyn DiskReader>,
    spare: Spare,
}

type Spare = Arc<Mutex<Vec<Box<[u8]>>>>;

/// A buffer that goes back to the others.
struct Buffer {
    bytes: Box<[u8]>,
    spare: Spare,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.push(bytes);
    }
}

impl BlockReader {
    /// Reads this disk.
    pub fn new(disk: Arc<dyn DiskReader>) -> Self {
        Self {
            disk,
            spare: Spare::default(),
        }
    }

    /// The disk.
    pub fn disk(&self) -> &dyn DiskReader {
        &*self.disk
    }

    fn buffer(&self) -> Buffer {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        Buffer {
            bytes: spare
                .pop()
                .unwrap_or_else(|| vec![0; usize_of(BLOCK)].into()),
            spare: Arc::clone(&self.spare),
        }
    }

    /// A block, filled up with zeros behind the disk's end; `None` if there is nothing but zeros.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub fn read(&self, index: u64) -> ovenbird_disk::Result<Option<(Bytes, BlockDigest)>> {
        let offset = index * BLOCK;
        let there = self.disk.virtual_size().saturating_sub(offset).min(BLOCK);
        if there == 0 {
            return Ok(None);
        }
        let mut buffer = self.buffer();
        let (inside, behind) = buffer.bytes.split_at_mut(usize_of(there));
        self.disk.read_at(inside, offset)?;
        behind.fill(0);
        if buffer.bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let digest = Sha256::digest(&buffer.bytes).into();
        Ok(Some((Bytes::from_owner(buffer), digest)))
    }

    /// A block that differs from the one of the parent (`below`; zeros if there is none), with its digest.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub fn changed(
        &self,
        index: u64,
        below: Option<BlockDigest>,
    ) -> ovenbird_disk::Result<Option<(Bytes, BlockDigest)>> {
        Ok(match (self.read(index)?, below) {
            (Some((_, digest)), Some(below)) if digest == below => None,
            (Some(block), _) => Some(block),
            (None, None) => None,
            (None, Some(below)) => {
                let zeros = Bytes::from(vec![0; usize_of(BLOCK)]);
                let digest: BlockDigest = Sha256::digest(&zeros).into();
                (digest != below).then_some((zeros, digest))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    fn disk(length: u64, pieces: &[(u64, &[u8])]) -> (tempfile::TempDir, BlockReader) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(length).unwrap();
        for (offset, bytes) in pieces {
            file.write_all_at(bytes, *offset).unwrap();
        }
        let reader = BlockReader::new(ovenbird_disk::open(&path).unwrap());
        (folder, reader)
    }

    #[test]
    fn the_checksum_is_over_raw_digests_by_index() {
        // printf of 32 bytes 1 and 32 bytes 2 into sha256sum, in base64.
        let blocks = BlockMap::from([(7, [2; 32]), (3, [1; 32])]);
        let mut joined = vec![1_u8; 32];
        joined.extend([2; 32]);
        assert_eq!(
            linear_checksum(&blocks),
            BASE64.encode(Sha256::digest(&joined))
        );
        // Of nothing: SHA-256 of the empty text.
        assert_eq!(
            linear_checksum(&BlockMap::new()),
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        );
    }

    #[test]
    fn only_blocks_with_content_are_sent() {
        // The last block is a short one.
        let (_folder, reader) = disk(
            4 * BLOCK + 512,
            &[
                (BLOCK, b"x"),
                (2 * BLOCK, &[0; 4096]),
                (4 * BLOCK + 511, b"y"),
            ],
        );
        let sent: Vec<u64> = stored_blocks(reader.disk())
            .unwrap()
            .into_iter()
            .filter(|index| reader.read(*index).unwrap().is_some())
            .collect();
        assert_eq!(sent, [1, 4]);
        let (block, _) = reader.read(4).unwrap().unwrap();
        assert_eq!((block.len(), block[511], block[512]), (524_288, b'y', 0));
        assert_eq!(volume_gib(reader.disk()), 1);
    }

    #[test]
    fn a_buffer_that_is_used_again_keeps_nothing_of_its_last_block() {
        let (_folder, reader) = disk(BLOCK + 512, &[(0, &vec![7; usize_of(BLOCK)])]);
        let (first, _) = reader.read(0).unwrap().unwrap();
        let kept = first.slice(1..2);
        drop(first);
        // A part of it is still in use, so its buffer is not.
        assert_eq!(reader.spare.lock().unwrap().len(), 0);
        assert_eq!(reader.read(1).unwrap(), None);
        drop(kept);
        assert_eq!(reader.spare.lock().unwrap().len(), 2);
        assert_eq!(reader.read(1).unwrap(), None);
        assert_eq!(reader.spare.lock().unwrap().len(), 2);
        // Nothing is behind the end.
        assert_eq!(reader.read(9).unwrap(), None);
    }

    #[test]
    fn what_the_parent_has_is_not_sent_and_what_the_disk_lost_becomes_zeros() {
        let (_folder, reader) = disk(2 * BLOCK, &[(0, b"x")]);
        let (_, digest) = reader.read(0).unwrap().unwrap();
        assert_eq!(reader.changed(0, Some(digest)).unwrap(), None);
        assert!(reader.changed(0, Some([0; 32])).unwrap().is_some());
        assert!(reader.changed(0, None).unwrap().is_some());
        assert_eq!(reader.changed(1, None).unwrap(), None);
        let (zeros, of_zeros) = reader.changed(1, Some(digest)).unwrap().unwrap();
        assert!(zeros.iter().all(|byte| *byte == 0));
        assert_eq!(reader.changed(1, Some(of_zeros)).unwrap(), None);
        // A parent may be the larger one.
        assert!(reader.changed(5, Some(digest)).unwrap().is_some());
    }
}
