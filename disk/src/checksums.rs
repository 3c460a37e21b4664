//! Checksums of a stream on its way to a destination that asks for them: S3 takes CRC-64/NVME, CRC-32C, SHA-256 and, on older
//! servers, MD5.
//!
//! A writer of any format can be given a [`Summing`] sink; the disk itself is read and packed only once.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

/// A kind of checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChecksumKind {
    /// SHA-256, 32 bytes.
    Sha256,
    /// MD5, 16 bytes: for transport alone.
    Md5,
    /// CRC-32C (Castagnoli), 4 bytes, big-endian as S3 wants it.
    Crc32c,
    /// CRC-64/NVME, 8 bytes, big-endian as S3 wants it.
    Crc64Nvme,
}

enum State {
    Sha256(Sha256),
    Md5(md5::Md5),
    Crc(crc_fast::Digest, ChecksumKind),
}

impl State {
    fn new(kind: ChecksumKind) -> Self {
        match kind {
            ChecksumKind::Sha256 => Self::Sha256(Sha256::new()),
            ChecksumKind::Md5 => Self::Md5(md5::Md5::new()),
            ChecksumKind::Crc32c => Self::Crc(
                crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi),
                kind,
            ),
            ChecksumKind::Crc64Nvme => Self::Crc(
                crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme),
                kind,
            ),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(bytes),
            Self::Md5(state) => state.update(bytes),
            Self::Crc(state, _) => state.update(bytes),
        }
    }

    fn finish(self) -> Checksum {
        match self {
            Self::Sha256(state) => Checksum {
                kind: ChecksumKind::Sha256,
                bytes: state.finalize().to_vec(),
            },
            Self::Md5(state) => Checksum {
                kind: ChecksumKind::Md5,
                bytes: state.finalize().to_vec(),
            },
            Self::Crc(state, kind) => {
                let word = state.finalize().to_be_bytes();
                let length = if kind == ChecksumKind::Crc32c { 4 } else { 8 };
                Checksum {
                    kind,
                    bytes: word[word.len() - length..].to_vec(),
                }
            }
        }
    }
}

/// A checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// Its kind.
    pub kind: ChecksumKind,
    /// Its bytes, in the order in which they are written.
    pub bytes: Vec<u8>,
}

/// A sink that sums what goes through it.
pub struct Summing<W> {
    sink: W,
    states: Vec<State>,
    length: u64,
}

impl<W: Write> Summing<W> {
    /// Sums by these kinds what goes to `sink`.
    pub fn new(sink: W, kinds: &[ChecksumKind]) -> Self {
        Self {
            sink,
            states: kinds.iter().copied().map(State::new).collect(),
            length: 0,
        }
    }

    /// The sink, the number of bytes that went to it, and their checksums in the order in which they were asked for.
    pub fn finish(self) -> (W, u64, Vec<Checksum>) {
        let checksums = self.states.into_iter().map(State::finish).collect();
        (self.sink, self.length, checksums)
    }
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.sink.write(bytes)?;
        for state in &mut self.states {
            state.update(&bytes[..taken]);
        }
        self.length += crate::bytes::len64(taken);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes at a time, as a socket does.
    struct Slow(Vec<u8>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(4);
            self.0.extend(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn check_values_of_the_standards() {
        let kinds = [
            ChecksumKind::Crc64Nvme,
            ChecksumKind::Crc32c,
            ChecksumKind::Md5,
            ChecksumKind::Sha256,
        ];
        let mut sink = Summing::new(Slow(Vec::new()), &kinds);
        sink.write_all(b"123456789").unwrap();
        let (sink, length, checksums) = sink.finish();
        assert_eq!((sink.0.as_slice(), length), (&b"123456789"[..], 9));
        let shown: Vec<(ChecksumKind, String)> = checksums
            .iter()
            .map(|sum| {
                let hex = sum.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                (sum.kind, hex)
            })
            .collect();
        assert_eq!(
            shown,
            [
                (ChecksumKind::Crc64Nvme, "ae8b14860a799888".into()),
                (ChecksumKind::Crc32c, "e3069283".into()),
                (ChecksumKind::Md5, "25f9e794323b453885f5181f1b624d0b".into()),
                (
                    ChecksumKind::Sha256,
                    "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225".into()
                ),
            ]
        );
    }
}
