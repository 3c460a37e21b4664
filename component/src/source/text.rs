//! The text of a document and the arithmetic of places in it.

use serde::Serialize;

use super::code::Code;
use super::diagnostic::{Diagnostic, Severity};

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Position {
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// Offset in bytes from the start of the text (after a byte-order mark), counted from 0.
    pub offset: u32,
}

impl Position {
    /// The first character of a text.
    pub const START: Self = Self {
        line: 1,
        column: 1,
        offset: 0,
    };
}

/// A stretch of text: `start` is its first character, `end` the one after its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Span {
    /// First character.
    pub start: Position,
    /// The character after the last one.
    pub end: Position,
}

impl Span {
    /// An empty stretch at the start of a text, for problems that concern the whole of it.
    pub const START: Self = Self {
        start: Position::START,
        end: Position::START,
    };
}

/// A named text with the index that turns byte offsets into lines and columns.
#[derive(Debug, Clone)]
pub struct Source {
    name: String,
    text: String,
    line_starts: Vec<u32>,
}

/// Texts above this size are refused before parsing; nothing that people write by hand comes near it.
const LARGEST_TEXT: usize = 16 * 1024 * 1024;

impl Source {
    /// Makes a source from text that is already known to be UTF-8. A leading byte-order mark is dropped.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let mut text = text.into();
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        let line_starts = line_starts(&text);
        Self {
            name: name.into(),
            text,
            line_starts,
        }
    }

    /// Makes a source from the bytes of a file.
    ///
    /// # Errors
    ///
    /// A diagnostic that names the first bad byte when the bytes are not UTF-8 (UTF-16 is recognised and named), or when
    /// the text is absurdly large.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Result<Self, Box<Diagnostic>> {
        let name = name.into();
        if bytes.len() > LARGEST_TEXT {
            let message = format!("the document has {} bytes", bytes.len());
            let problem = Diagnostic::new(Severity::Error, Code::DocumentTooLarge, message)
                .in_file(&name)
                .expected(format!("at most {LARGEST_TEXT} bytes"));
            return Err(Box::new(problem));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(name, text)),
            Err(error) => Err(Box::new(encoding_problem(
                &name,
                bytes,
                error.valid_up_to(),
            ))),
        }
    }

    /// The name given to this text, usually a path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text itself, without a byte-order mark.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of a span; empty when the span does not belong to this source.
    pub fn slice(&self, span: Span) -> &str {
        self.text
            .get(span.start.offset as usize..span.end.offset as usize)
            .unwrap_or("")
    }

    /// The text of a line (counted from 1) without its line end.
    pub fn line(&self, line: u32) -> &str {
        let index = line.saturating_sub(1) as usize;
        let Some(&start) = self.line_starts.get(index) else {
            return "";
        };
        let end = self
            .line_starts
            .get(index + 1)
            .map_or(self.text.len(), |&next| next as usize);
        self.text
            .get(start as usize..end)
            .unwrap_or("")
            .trim_end_matches(['\n', '\r'])
    }

    /// The place of a byte offset; an offset inside a character is moved to its start.
    pub fn position(&self, offset: usize) -> Position {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let index = self
            .line_starts
            .partition_point(|&start| start as usize <= offset)
            .saturating_sub(1);
        let start = self.line_starts.get(index).copied().unwrap_or(0) as usize;
        let column = self.text[start..offset].chars().count() + 1;
        Position {
            line: clamp(index + 1),
            column: clamp(column),
            offset: clamp(offset),
        }
    }

    /// The span between two byte offsets.
    pub fn span(&self, start: usize, end: usize) -> Span {
        Span {
            start: self.position(start),
            end: self.position(end.max(start)),
        }
    }
}

/// Sizes are bounded by [`LARGEST_TEXT`], so the saturation is never reached; it only keeps the conversion total.
fn clamp(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// YAML knows three line ends: `\n`, `\r\n` and a lone `\r`.
fn line_starts(text: &str) -> Vec<u32> {
    let bytes = text.as_bytes();
    let mut starts = vec![0];
    for (index, &byte) in bytes.iter().enumerate() {
        let ends_line = match byte {
            b'\n' => true,
            b'\r' => bytes.get(index + 1) != Some(&b'\n'),
            _ => false,
        };
        if ends_line {
            starts.push(clamp(index + 1));
        }
    }
    starts
}

fn encoding_problem(name: &str, bytes: &[u8], valid: usize) -> Diagnostic {
    let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let message = if utf16 {
        "the document is UTF-16 text".to_owned()
    } else {
        format!(
            "byte 0x{:02x} at offset {valid} is not UTF-8 text",
            bytes.get(valid).copied().unwrap_or_default()
        )
    };
    let good = Source::new(name, String::from_utf8_lossy(&bytes[..valid]));
    let span = good.span(good.text().len(), good.text().len());
    Diagnostic::new(Severity::Error, Code::NotUtf8, message)
        .at(&good, span)
        .expected("UTF-8 text")
        .hint("save the file as UTF-8 without a byte-order mark")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lines_of_all_three_line_ends_and_columns_in_characters() {
        let source = Source::new("x", "a\r\nüb\rc\nd");
        assert_eq!(source.line(2), "üb");
        let place = source.position("a\r\nü".len());
        assert_eq!((place.line, place.column), (2, 2));
        assert_eq!(source.position(usize::MAX).line, 4);
    }

    #[test]
    fn drops_a_byte_order_mark() {
        assert_eq!(Source::new("x", "\u{feff}a: 1").text(), "a: 1");
    }

    #[test]
    fn names_utf16_and_the_first_bad_byte() {
        let utf16 = Source::from_bytes("x", b"\xff\xfea\0").expect_err("utf16");
        assert_eq!(utf16.message, "the document is UTF-16 text");
        let latin1 = Source::from_bytes("x", b"a: \xe4").expect_err("latin1");
        assert_eq!((latin1.line, latin1.column), (1, 4));
    }
}
