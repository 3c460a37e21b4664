//! The disk digest: one identity for a virtual disk in whatever format it is stored.
//!
//! A Merkle tree with BLAKE3 over blocks of 1 MiB. A leaf is the hash of a block (the last block filled up with
//! zeros), a node that of its two children, the root that of the disk's size (u64, little-endian) and the tree, each
//! in BLAKE3's key derivation mode with a context of its own. The tree is filled up with zero blocks to a power of
//! two. Runs of zeros cost next to nothing: the digest of a subtree of zeros is known for each height.
//!
//! BLAKE3 and not SHA-256, because a conversion hashes every byte: it is three to five times as fast on a core, and no
//! protocol asks for this digest.

use std::fmt;
use std::sync::OnceLock;

use blake3::Hasher;

use crate::bytes::{MIB, hex, index};
use crate::convert::{Unit, Units};
use crate::{DiskReader, Error, Progress, Result, pipeline};

const LEAF: &str = "ovenbird disk digest 1 leaf";
const NODE: &str = "ovenbird disk digest 1 node";
const ROOT: &str = "ovenbird disk digest 1 root";
/// Enough levels for 2^64 bytes.
const LEVELS: usize = 45;

/// Identity of a virtual disk: its size and every byte of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DiskDigest(pub [u8; 32]);

impl fmt::Display for DiskDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for DiskDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "disk:{self}")
    }
}

/// Digest of one leaf.
pub(crate) type Leaf = [u8; 32];

/// The leaf of a block of at most 1 MiB.
pub(crate) fn leaf(block: &[u8]) -> Leaf {
    let mut hash = hasher(&LEAF_HASHER, LEAF);
    hash.update(block);
    let missing = index(MIB) - block.len().min(index(MIB));
    if missing > 0 {
        hash.update(&vec![0; missing]);
    }
    hash.finalize().into()
}

fn node(left: &Leaf, right: &Leaf) -> Leaf {
    let mut hash = hasher(&NODE_HASHER, NODE);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

fn root(size: u64, tree: &Leaf) -> DiskDigest {
    let mut hash = Hasher::new_derive_key(ROOT);
    hash.update(&size.to_le_bytes());
    hash.update(tree);
    DiskDigest(hash.finalize().into())
}

static LEAF_HASHER: OnceLock<Hasher> = OnceLock::new();
static NODE_HASHER: OnceLock<Hasher> = OnceLock::new();

/// A fresh hasher; deriving its key takes longer than hashing a node.
fn hasher(made: &OnceLock<Hasher>, context: &str) -> Hasher {
    made.get_or_init(|| Hasher::new_derive_key(context)).clone()
}

/// Digests of subtrees of zeros by height.
fn zeros() -> &'static [Leaf; LEVELS] {
    static ZEROS: OnceLock<[Leaf; LEVELS]> = OnceLock::new();
    ZEROS.get_or_init(|| {
        let mut levels = [leaf(&[]); LEVELS];
        for height in 1..LEVELS {
            levels[height] = node(&levels[height - 1], &levels[height - 1]);
        }
        levels
    })
}

/// Takes leaves in order and keeps one subtree per height.
#[derive(Default)]
pub(crate) struct TreeHash {
    count: u64,
    /// Complete subtrees from high to low.
    stack: Vec<(u32, Leaf)>,
}

impl TreeHash {
    /// Adds a leaf.
    pub(crate) fn push(&mut self, leaf: Leaf) {
        self.push_tree(0, leaf);
    }

    /// Adds a run of zero blocks.
    pub(crate) fn push_zeros(&mut self, mut count: u64) {
        while count > 0 {
            // The biggest subtree that both starts here and fits.
            let aligned = if self.count == 0 {
                u32::MAX
            } else {
                self.count.trailing_zeros()
            };
            let height = aligned.min(count.ilog2());
            self.push_tree(height, zeros()[index(height.into())]);
            count -= 1 << height;
        }
    }

    fn push_tree(&mut self, mut height: u32, mut tree: Leaf) {
        self.count += 1 << height;
        while let Some((top, left)) = self.stack.last()
            && *top == height
        {
            tree = node(left, &tree);
            height += 1;
            self.stack.pop();
        }
        self.stack.push((height, tree));
    }

    /// Ends the tree of a disk of `size` bytes.
    pub(crate) fn finish(mut self, size: u64) -> DiskDigest {
        let padded = self.count.max(1).next_power_of_two();
        self.push_zeros(padded - self.count);
        root(
            size,
            self.stack
                .last()
                .map_or_else(|| &zeros()[0], |(_, tree)| tree),
        )
    }
}

/// Computes the digest of a disk.
pub fn disk_digest(reader: &dyn DiskReader, progress: &dyn Progress) -> Result<DiskDigest> {
    let size = reader.virtual_size();
    progress.begin(size);
    let mut tree = TreeHash::default();
    pipeline::ordered(
        pipeline::default_threads(),
        Units::new(reader),
        || {
            let mut buffer = vec![0; index(MIB)];
            move |unit| match unit {
                Unit::Zeros { count, .. } => Ok((None, count)),
                Unit::Block(number) => {
                    let offset = number * MIB;
                    let length = MIB.min(size - offset);
                    let block = &mut buffer[..index(length)];
                    reader.read_at(block, offset)?;
                    Ok((Some(leaf(block)), 1))
                }
            }
        },
        |(leaf, count)| {
            if progress.is_cancelled() {
                return Err(Error::cancelled());
            }
            match leaf {
                Some(leaf) => tree.push(leaf),
                None => tree.push_zeros(count),
            }
            progress.advance(count * MIB);
            Ok(())
        },
    )?;
    Ok(tree.finish(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, without any shortcut.
    fn by_definition(blocks: &[Vec<u8>], size: u64) -> DiskDigest {
        let mut level: Vec<Leaf> = blocks.iter().map(|b| leaf(b)).collect();
        level.resize(level.len().max(1).next_power_of_two(), leaf(&[]));
        while level.len() > 1 {
            level = level.chunks(2).map(|p| node(&p[0], &p[1])).collect();
        }
        root(size, &level[0])
    }

    #[test]
    fn runs_of_zeros_and_zero_blocks_are_the_same() {
        for pattern in [
            "",
            "z",
            "d",
            "zd",
            "dz",
            "zzzzd",
            "dzzzzzzzd",
            "zzdzzzzzzzzzzzdzz",
            "ddddz",
        ] {
            let blocks: Vec<Vec<u8>> = pattern
                .chars()
                .map(|c| {
                    if c == 'd' {
                        b"data".to_vec()
                    } else {
                        Vec::new()
                    }
                })
                .collect();
            let size = blocks.len() as u64 * MIB;
            let mut runs = TreeHash::default();
            let mut pending = 0;
            for c in pattern.chars() {
                if c == 'd' {
                    runs.push_zeros(std::mem::take(&mut pending));
                    runs.push(leaf(b"data"));
                } else {
                    pending += 1;
                }
            }
            runs.push_zeros(pending);
            assert_eq!(runs.finish(size), by_definition(&blocks, size), "{pattern}");
        }
    }

    #[test]
    fn huge_holes_are_quick() {
        let mut tree = TreeHash::default();
        tree.push(leaf(b"boot"));
        tree.push_zeros((1 << 43) - 1);
        assert_eq!(tree.stack.len(), 1);
    }
}
