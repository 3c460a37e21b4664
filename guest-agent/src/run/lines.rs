//! Turns the bytes that a program writes into lines that logs and terminals can take.

use std::borrow::Cow;

use ovenbird_component::event::LONGEST_TEXT;

use crate::secrets::Masker;

/// Output of one step that goes into logs and events; what follows is counted only.
pub const LOGGED_OUTPUT: u64 = 32 * 1024 * 1024;

/// Output of one step that references can read.
pub const CAPTURED_OUTPUT: usize = 1024 * 1024;

/// Splits bytes into bounded lines. Secrets are masked before a long line is cut, so that no cut can hide one.
#[derive(Debug, Default)]
pub struct LineSplitter {
    pending: Vec<u8>,
}

impl LineSplitter {
    /// Takes bytes and hands every complete line to `emit`.
    pub fn push(&mut self, bytes: &[u8], masker: &Masker, emit: &mut dyn FnMut(&str)) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', content)) => {
                    self.extend(content, masker, emit);
                    self.flush(masker, emit, true);
                }
                _ => self.extend(piece, masker, emit),
            }
        }
    }

    /// Hands out what is left at the end of the stream.
    pub fn finish(&mut self, masker: &Masker, emit: &mut dyn FnMut(&str)) {
        self.flush(masker, emit, false);
    }

    fn extend(&mut self, mut content: &[u8], masker: &Masker, emit: &mut dyn FnMut(&str)) {
        let held_back = masker.longest();
        let room = LONGEST_TEXT + held_back;
        while self.pending.len() + content.len() > room {
            let (now, later) =
                content.split_at(room.saturating_sub(self.pending.len()).min(content.len()));
            self.pending.extend_from_slice(now);
            content = later;
            // Masking can only shorten or lengthen complete values; the tail that may be half of one stays behind.
            let text = String::from_utf8_lossy(&self.pending).into_owned();
            let masked = masker.mask(&text);
            let cut = floor_boundary(
                &masked,
                masked
                    .len()
                    .saturating_sub(held_back)
                    .clamp(1, LONGEST_TEXT),
            );
            emit(&sane(&masked[..cut]));
            self.pending = masked.as_bytes()[cut..].to_vec();
        }
        self.pending.extend_from_slice(content);
    }

    fn flush(&mut self, masker: &Masker, emit: &mut dyn FnMut(&str), ended: bool) {
        if self.pending.is_empty() && !ended {
            return;
        }
        let bytes = std::mem::take(&mut self.pending);
        let text = String::from_utf8_lossy(&bytes);
        let mut rest: &str = &masker.mask(text.trim_end_matches('\r'));
        while rest.len() > LONGEST_TEXT {
            let cut = floor_boundary(rest, LONGEST_TEXT);
            emit(&sane(&rest[..cut]));
            rest = &rest[cut..];
        }
        emit(&sane(rest));
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while at > 0 && !text.is_char_boundary(at) {
        at -= 1;
    }
    // A cut must make progress even before a wide character.
    if at == 0 {
        text.chars().next().map_or(0, char::len_utf8)
    } else {
        at
    }
}

/// Removes terminal control sequences and makes other control characters visible.
///
/// Whoever reads a log in a terminal must not have it steered by a program inside a guest.
pub fn sane(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| c.is_control() && c != '\t') {
        return Cow::Borrowed(text);
    }
    let mut result = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\t' => result.push(c),
            '\u{1b}' => skip_escape(&mut chars),
            c if c.is_control() => result.push('\u{fffd}'),
            c => result.push(c),
        }
    }
    Cow::Owned(result)
}

/// Skips what follows an escape character: `[…letter`, `]…bell`, or one character.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            for c in chars.by_ref() {
                if ('@'..='~').contains(&c) {
                    break;
                }
            }
        }
        Some(']') => {
            for c in chars.by_ref() {
                if c == '\u{7}' || c == '\\' {
                    break;
                }
            }
        }
        Some(c) if !c.is_control() => {
            chars.next();
        }
        _ => {}
    }
}

/// Keeps the first [`CAPTURED_OUTPUT`] bytes of an output.
#[derive(Debug, Default)]
pub struct Capture {
    bytes: Vec<u8>,
    total: u64,
}

impl Capture {
    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = CAPTURED_OUTPUT.saturating_sub(self.bytes.len());
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.total += bytes.len() as u64;
    }

    /// Whether more came than was kept.
    pub fn is_cut(&self) -> bool {
        self.total > self.bytes.len() as u64
    }

    /// Bytes seen in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The output as text, without its last line end.
    pub fn into_text(self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(input: &[&[u8]], masker: &Masker) -> Vec<String> {
        let mut splitter = LineSplitter::default();
        let mut lines = Vec::new();
        for bytes in input {
            splitter.push(bytes, masker, &mut |line| lines.push(line.to_owned()));
        }
        splitter.finish(masker, &mut |line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        let masker = Masker::default();
        assert_eq!(
            split(&[b"a\r\nb", b"c\n\n", b"tail"], &masker),
            ["a", "bc", "", "tail"]
        );
        assert_eq!(
            split(&[b"\x00\x1b[31mred\x1b[0m\xff"], &masker),
            ["\u{fffd}red\u{fffd}"]
        );
    }

    #[test]
    fn long_lines_are_cut_without_cutting_a_secret() {
        let masker = Masker::new(["TOPSECRETVALUE"]);
        for offset in LONGEST_TEXT - 20..LONGEST_TEXT + 20 {
            let mut line = vec![b'.'; offset];
            line.extend_from_slice(b"TOPSECRETVALUE");
            line.extend(std::iter::repeat_n(b'.', 20_000));
            let lines = split(&[&line[..100], &line[100..]], &masker);
            assert!(lines.iter().all(|line| line.len() <= LONGEST_TEXT));
            let all = lines.concat();
            assert!(!all.contains("TOPSECRET"), "offset {offset}");
            assert_eq!(all.len(), line.len() - "TOPSECRETVALUE".len() + 8);
        }
    }

    #[test]
    fn captures_are_bounded() {
        let mut capture = Capture::default();
        for _ in 0..2000 {
            capture.push(&[b'x'; 1024]);
        }
        assert!(capture.is_cut());
        assert_eq!(capture.total(), 2000 * 1024);
        assert_eq!(capture.into_text().len(), CAPTURED_OUTPUT);
        let mut capture = Capture::default();
        capture.push(b"a\n\n");
        assert_eq!(capture.into_text(), "a\n");
    }
}
