//! ReadFile, SetFileEncoding, and the text encodings of all file modules.

use std::fs;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::files::temporary_beside;
use super::{Context, Failure, output, paths};
use crate::platform::{copy_mode, copy_owner};

/// A text encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8.
    Utf8,
    /// UTF-16, little-endian.
    Utf16Le,
    /// UTF-16, big-endian.
    Utf16Be,
    /// UTF-32, little-endian.
    Utf32Le,
    /// UTF-32, big-endian.
    Utf32Be,
}

impl Encoding {
    /// The encoding of an input; UTF-8 when it is not given.
    pub fn from_input(word: Option<&str>) -> Result<Self, Failure> {
        let word = word.unwrap_or("utf8");
        match word.to_ascii_lowercase().replace('-', "").as_str() {
            "utf8" => Ok(Self::Utf8),
            "utf16" | "utf16le" => Ok(Self::Utf16Le),
            "utf16be" => Ok(Self::Utf16Be),
            "utf32" | "utf32le" => Ok(Self::Utf32Le),
            "utf32be" => Ok(Self::Utf32Be),
            _ => Err(Failure::new(format!("`{word}` is not a known encoding"))),
        }
    }

    /// Text as bytes, without a byte-order mark.
    pub fn encode(self, text: &str) -> Vec<u8> {
        match self {
            Self::Utf8 => text.as_bytes().to_vec(),
            Self::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Self::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            Self::Utf32Le => text
                .chars()
                .flat_map(|c| u32::from(c).to_le_bytes())
                .collect(),
            Self::Utf32Be => text
                .chars()
                .flat_map(|c| u32::from(c).to_be_bytes())
                .collect(),
        }
    }

    /// Bytes as text. A byte-order mark of this encoding is dropped.
    pub fn decode(self, bytes: &[u8]) -> Result<String, String> {
        let text = match self {
            Self::Utf8 => std::str::from_utf8(bytes)
                .map(str::to_owned)
                .map_err(|error| {
                    format!("the byte at offset {} is not UTF-8", error.valid_up_to())
                })?,
            Self::Utf16Le => from_utf16(bytes, u16::from_le_bytes)?,
            Self::Utf16Be => from_utf16(bytes, u16::from_be_bytes)?,
            Self::Utf32Le => from_utf32(bytes, u32::from_le_bytes)?,
            Self::Utf32Be => from_utf32(bytes, u32::from_be_bytes)?,
        };
        Ok(text
            .strip_prefix('\u{feff}')
            .map(str::to_owned)
            .unwrap_or(text))
    }

    /// What a byte-order mark says about bytes.
    pub fn of_mark(bytes: &[u8]) -> Option<Self> {
        // The UTF-32 mark starts with the UTF-16 one, so the longer is asked first.
        match bytes {
            [0xff, 0xfe, 0, 0, ..] => Some(Self::Utf32Le),
            [0, 0, 0xfe, 0xff, ..] => Some(Self::Utf32Be),
            [0xff, 0xfe, ..] => Some(Self::Utf16Le),
            [0xfe, 0xff, ..] => Some(Self::Utf16Be),
            [0xef, 0xbb, 0xbf, ..] => Some(Self::Utf8),
            _ => None,
        }
    }
}

fn from_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, String> {
    let (units, []) = bytes.as_chunks::<2>() else {
        return Err("the length is not a multiple of two".to_owned());
    };
    let units: Vec<u16> = units.iter().map(|bytes| unit(*bytes)).collect();
    String::from_utf16(&units).map_err(|_| "it holds half of a surrogate pair".to_owned())
}

fn from_utf32(bytes: &[u8], unit: fn([u8; 4]) -> u32) -> Result<String, String> {
    let (units, []) = bytes.as_chunks::<4>() else {
        return Err("the length is not a multiple of four".to_owned());
    };
    units
        .iter()
        .enumerate()
        .map(|(index, bytes)| {
            char::from_u32(unit(*bytes)).ok_or_else(|| format!("character {index} does not exist"))
        })
        .collect()
}

/// Larger files are not text that a build step means to read into a reference.
const LARGEST_FILE: u64 = 16 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Read {
    path: String,
    encoding: Option<String>,
    #[serde(default)]
    print_file_content: bool,
}

fn read_bytes(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    let metadata = fs::metadata(path).map_err(|error| Failure::io("read", path, &error))?;
    if metadata.is_dir() {
        return Err(Failure::new(format!(
            "cannot read {}: it is a folder",
            path.display()
        )));
    }
    if metadata.len() > LARGEST_FILE {
        return Err(Failure::new(format!(
            "cannot read {}: it has {} bytes, the limit is {LARGEST_FILE}",
            path.display(),
            metadata.len()
        )));
    }
    fs::read(path).map_err(|error| Failure::io("read", path, &error))
}

/// Reads a text file into the output `content`.
pub fn read(context: &Context<'_>, inputs: Read) -> Result<Map<String, Value>, Failure> {
    let path = paths::resolve(context, &inputs.path);
    let bytes = read_bytes(&path)?;
    let encoding = Encoding::from_input(inputs.encoding.as_deref())?;
    let content = encoding.decode(&bytes).map_err(|reason| {
        Failure::new(format!(
            "{} is not {encoding:?} text: {reason}",
            path.display()
        ))
    })?;
    if inputs.print_file_content {
        for line in content.lines() {
            context.report.console(&crate::run::sane(line));
        }
    }
    Ok(output("content", content))
}

#[derive(Deserialize)]
pub struct Set {
    path: String,
    encoding: Option<String>,
}

/// Rewrites a file in another encoding. What it has now is told by its byte-order mark; without one it is UTF-8, or,
/// when its bytes are no UTF-8, UTF-16 as the zero bytes say.
pub fn set(context: &Context<'_>, inputs: Set) -> Result<(), Failure> {
    let path = paths::resolve(context, &inputs.path);
    let bytes = read_bytes(&path)?;
    let wanted = Encoding::from_input(inputs.encoding.as_deref())?;
    let current = detect(&bytes);
    let text = current.decode(&bytes).map_err(|reason| {
        Failure::new(format!(
            "cannot tell the encoding of {}: {reason}",
            path.display()
        ))
    })?;
    let fail = |error: std::io::Error| Failure::io("write", &path, &error);
    let target = fs::canonicalize(&path).map_err(fail)?;
    let temporary = temporary_beside(&target);
    let metadata = fs::metadata(&target).map_err(fail)?;
    let written = fs::write(&temporary, wanted.encode(&text)).and_then(|()| {
        // Only root can give a file away; for everybody else the owner is right already.
        let _ = copy_owner(&metadata, &temporary);
        copy_mode(&metadata, &temporary)?;
        fs::rename(&temporary, &target)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(fail)
}

fn detect(bytes: &[u8]) -> Encoding {
    if let Some(marked) = Encoding::of_mark(bytes) {
        return marked;
    }
    let zeros = |remainder: usize, step: usize| {
        let total = bytes.iter().skip(remainder).step_by(step).count().max(1);
        let zero = bytes
            .iter()
            .skip(remainder)
            .step_by(step)
            .filter(|byte| **byte == 0)
            .count();
        zero * 10 >= total * 7
    };
    if bytes.len() >= 4 && bytes.len().is_multiple_of(4) {
        if zeros(3, 4) && zeros(2, 4) {
            return Encoding::Utf32Le;
        }
        if zeros(0, 4) && zeros(1, 4) {
            return Encoding::Utf32Be;
        }
    }
    if bytes.len() >= 2 && bytes.len().is_multiple_of(2) {
        if zeros(1, 2) && !zeros(0, 2) {
            return Encoding::Utf16Le;
        }
        if zeros(0, 2) && !zeros(1, 2) {
            return Encoding::Utf16Be;
        }
    }
    Encoding::Utf8
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovenbird_component::action::ENCODINGS;

    #[test]
    fn every_word_of_the_language_is_an_encoding_and_round_trips() {
        for word in ENCODINGS {
            let encoding = Encoding::from_input(Some(word)).expect(word);
            for text in ["", "plain", "Grüße, 世界 🐦"] {
                let bytes = encoding.encode(text);
                assert_eq!(encoding.decode(&bytes).as_deref(), Ok(text), "{word}");
            }
            assert_eq!(detect(&encoding.encode("plain text\n")), encoding, "{word}");
        }
    }

    #[test]
    fn marks_are_recognised_and_dropped() {
        for encoding in [
            Encoding::Utf8,
            Encoding::Utf16Le,
            Encoding::Utf16Be,
            Encoding::Utf32Le,
            Encoding::Utf32Be,
        ] {
            let bytes = encoding.encode("\u{feff}x");
            assert_eq!(Encoding::of_mark(&bytes), Some(encoding));
            assert_eq!(encoding.decode(&bytes).as_deref(), Ok("x"));
        }
        assert!(Encoding::Utf16Le.decode(b"abc").is_err());
        assert!(Encoding::Utf32Le.decode(b"\xff\xff\xff\xff").is_err());
    }
}
