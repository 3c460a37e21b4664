//! The frames between the host and the agent that runs its commands: a kind (one byte), the number of bytes (32 bits,
//! big-endian), the bytes.
//!
//! The host sends a command, pieces of its standard input, the input's end; the agent pieces of its output, then its exit
//! status (32 bits, big-endian). The next command is sent only then.

use std::io::{Read, Write};

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A command line for `sh -c`.
    Command,
    /// Arguments for the agent itself, with a zero byte between them: no shell has to be started for it.
    Agent,
    /// A piece of its standard input.
    Stdin,
    /// The end of its standard input.
    StdinEnd,
    /// A piece of its standard output.
    Stdout,
    /// A piece of its standard error.
    Stderr,
    /// Its exit status; 128 and the signal if it was killed.
    Exit,
}

const KINDS: [(u8, Kind); 7] = [
    (b'c', Kind::Command),
    (b'a', Kind::Agent),
    (b'i', Kind::Stdin),
    (b'e', Kind::StdinEnd),
    (b'o', Kind::Stdout),
    (b'r', Kind::Stderr),
    (b'x', Kind::Exit),
];

/// Bytes before those of a frame.
pub const HEADER: usize = 5;
/// The longest frame in bytes: neither side lets the other fill its memory.
pub const LONGEST: usize = 1 << 20;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it holds.
    pub kind: Kind,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The header of a frame.
pub fn header(kind: Kind, bytes: &[u8]) -> [u8; HEADER] {
    let letter = KINDS
        .iter()
        .find(|(_, known)| *known == kind)
        .map_or(b'?', |(letter, _)| *letter);
    let [a, b, c, d] = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    [letter, a, b, c, d]
}

/// What follows a header: the kind, and how many bytes.
///
/// # Errors
/// A line for people if this can't be a header.
pub fn follows(header: [u8; HEADER]) -> Result<(Kind, usize), String> {
    let [letter, a, b, c, d] = header;
    let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == letter) else {
        return Err(format!("a frame of the unknown kind {letter:#04x}"));
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > LONGEST {
        return Err(format!("a frame of {length} bytes, more than {LONGEST}"));
    }
    Ok((*kind, length))
}

/// Writes a frame and flushes.
///
/// # Errors
/// Those of the sink.
pub fn write(sink: &mut impl Write, kind: Kind, bytes: &[u8]) -> std::io::Result<()> {
    sink.write_all(&header(kind, bytes))?;
    sink.write_all(bytes)?;
    sink.flush()
}

/// Reads a frame; `None` at the end.
///
/// # Errors
/// Those of the source, and one for what is no frame.
pub fn read(source: &mut impl Read) -> std::io::Result<Option<Frame>> {
    let mut head = [0; HEADER];
    let mut have = 0;
    while have < HEADER {
        match source.read(&mut head[have..])? {
            0 if have == 0 => return Ok(None),
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => have += count,
        }
    }
    let (kind, length) = follows(head).map_err(std::io::Error::other)?;
    let mut bytes = vec![0; length];
    source.read_exact(&mut bytes)?;
    Ok(Some(Frame { kind, bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_strange_ones_are_refused() {
        let mut wire = Vec::new();
        for (_, kind) in KINDS {
            write(&mut wire, kind, b"bytes").unwrap();
        }
        let mut source = wire.as_slice();
        for (_, kind) in KINDS {
            let frame = read(&mut source).unwrap().unwrap();
            assert_eq!((frame.kind, frame.bytes.as_slice()), (kind, &b"bytes"[..]));
        }
        assert_eq!(read(&mut source).unwrap(), None);
        for bad in [
            &b"z\0\0\0\0"[..],
            b"o\xff\xff\xff\xff",
            b"o\0\0",
            b"o\0\0\0\x05abc",
        ] {
            assert!(read(&mut &*bad).is_err(), "{bad:?}");
        }
    }
}
