//! Bytes as the formats store them: checked access, zero tests, and the only integer casts of the crate.

use crate::{Error, Result};

/// One sector, the unit of almost every format.
pub const SECTOR: u64 = 512;
/// One mebibyte.
pub const MIB: u64 = 1 << 20;

/// A `u64` as an index. Lossless: the crate compiles for 64-bit targets only.
#[inline]
pub const fn index(value: u64) -> usize {
    value as usize
}

/// A length in memory as a `u64`. Lossless on every target.
#[inline]
pub const fn len64(value: usize) -> u64 {
    value as u64
}

/// True when every byte is zero.
///
/// Folds whole words so that the compiler makes vector code of it, and stops at the first 4 KiB page with a set bit.
pub fn is_zero(data: &[u8]) -> bool {
    data.chunks(4096).all(|page| {
        let lanes = page.chunks_exact(8);
        let tail_is_zero = lanes.remainder().iter().all(|&b| b == 0);
        let set = lanes.fold(0u64, |set, lane| {
            let mut word = [0u8; 8];
            word.copy_from_slice(lane);
            set | u64::from_ne_bytes(word)
        });
        tail_is_zero && set == 0
    })
}

/// Little-endian and big-endian fields out of a buffer, each with a check of its bounds.
pub trait Fields {
    /// The bytes at an offset.
    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N]>;

    /// A little-endian `u16`.
    fn le16(&self, at: usize) -> Result<u16> {
        self.array(at).map(u16::from_le_bytes)
    }
    /// A little-endian `u32`.
    fn le32(&self, at: usize) -> Result<u32> {
        self.array(at).map(u32::from_le_bytes)
    }
    /// A little-endian `u64`.
    fn le64(&self, at: usize) -> Result<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
    /// A big-endian `u16`.
    fn be16(&self, at: usize) -> Result<u16> {
        self.array(at).map(u16::from_be_bytes)
    }
    /// A big-endian `u32`.
    fn be32(&self, at: usize) -> Result<u32> {
        self.array(at).map(u32::from_be_bytes)
    }
    /// A big-endian `u64`.
    fn be64(&self, at: usize) -> Result<u64> {
        self.array(at).map(u64::from_be_bytes)
    }
    /// One byte.
    fn byte(&self, at: usize) -> Result<u8> {
        self.array::<1>(at).map(|[b]| b)
    }
}

impl Fields for [u8] {
    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        at.checked_add(N)
            .and_then(|end| self.get(at..end))
            .and_then(|s| s.try_into().ok())
            .ok_or_else(|| {
                Error::invalid(format!(
                    "structure ends at byte {} before the field at {at}",
                    self.len()
                ))
            })
    }
}

/// Formats bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_test_sees_every_position() {
        for len in [0, 1, 7, 8, 63, 64, 65, 4095, 4096, 4097, 70_000] {
            let mut data = vec![0u8; len];
            assert!(is_zero(&data), "{len} zeros");
            for at in [0, len / 2, len.saturating_sub(1)] {
                if let Some(byte) = data.get_mut(at) {
                    *byte = 1;
                    assert!(!is_zero(&data), "bit at {at} of {len}");
                    data[at] = 0;
                }
            }
        }
    }

    #[test]
    fn fields_outside_are_errors() {
        let data = [1u8, 2, 3, 4];
        assert_eq!(data.le16(2).unwrap(), 0x0403);
        assert_eq!(data.be32(0).unwrap(), 0x0102_0304);
        assert!(data.le32(1).is_err());
        assert!(data.le64(usize::MAX).is_err());
    }
}
