//! The guest's serial console: a file that QEMU appends to and that we read as it grows.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use camino::{Utf8Path, Utf8PathBuf};

/// No console line is kept longer than this; the guest is not trusted to end its lines.
const LINE_LIMIT: usize = 4096;
/// How much one call of [`ConsoleTail::poll`] reads at the most.
const CHUNK: u64 = 256 * 1024;

/// Follows a console file from where it was last read.
#[derive(Debug)]
pub struct ConsoleTail {
    path: Utf8PathBuf,
    offset: u64,
    partial: Vec<u8>,
}

impl ConsoleTail {
    /// Follows the file from its start; it need not exist yet.
    pub fn new(path: &Utf8Path) -> Self {
        Self {
            path: path.to_owned(),
            offset: 0,
            partial: Vec::new(),
        }
    }

    /// Returns the lines that were completed since the last call, cleaned of control characters.
    ///
    /// An incomplete last line is available by [`ConsoleTail::partial`] (a login prompt has no line end).
    pub fn poll(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let Ok(mut file) = File::open(&self.path) else {
            return lines;
        };
        let mut bytes = Vec::new();
        if file.seek(SeekFrom::Start(self.offset)).is_err()
            || file.take(CHUNK).read_to_end(&mut bytes).is_err()
        {
            return lines;
        }
        self.offset += bytes.len() as u64;
        for byte in bytes {
            if byte == b'\n' || self.partial.len() >= LINE_LIMIT {
                let line = clean(&self.partial);
                self.partial.clear();
                if !line.is_empty() {
                    lines.push(line);
                }
            }
            if byte != b'\n' {
                self.partial.push(byte);
            }
        }
        lines
    }

    /// The current line, as far as it was printed.
    pub fn partial(&self) -> String {
        clean(&self.partial)
    }
}

/// Returns the last `count` lines of a console file, cleaned.
pub fn last_lines(path: &Utf8Path, count: usize) -> Vec<String> {
    const WINDOW: u64 = 64 * 1024;
    let Ok(mut file) = File::open(path) else {
        return Vec::new();
    };
    let length = file.metadata().map_or(0, |data| data.len());
    let mut bytes = Vec::new();
    if file
        .seek(SeekFrom::Start(length.saturating_sub(WINDOW)))
        .is_err()
        || file.take(WINDOW).read_to_end(&mut bytes).is_err()
    {
        return Vec::new();
    }
    let lines: Vec<String> = bytes
        .split(|byte| *byte == b'\n')
        .map(clean)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

/// Removes terminal escape sequences and other control characters, so that a guest can't paint on our terminal.
pub fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            match chars.peek() {
                Some('[') => {
                    chars.next();
                    // A control sequence ends with a byte from @ to ~.
                    for c in chars.by_ref() {
                        if ('@'..='~').contains(&c) {
                            break;
                        }
                    }
                }
                Some(']') => {
                    for c in chars.by_ref() {
                        if c == '\u{7}' || c == '\u{1b}' {
                            break;
                        }
                    }
                }
                _ => {
                    chars.next();
                }
            }
        } else if c == '\t' {
            out.push(' ');
        } else if !c.is_control() {
            out.push(c);
        }
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn follows_a_growing_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().join("console.log")).unwrap();
        let mut tail = ConsoleTail::new(&path);
        assert!(tail.poll().is_empty());
        let mut file = File::create(&path).unwrap();
        write!(file, "one\r\ntw").unwrap();
        assert_eq!(tail.poll(), ["one"]);
        assert_eq!(tail.partial(), "tw");
        write!(file, "o\nlogin: ").unwrap();
        assert_eq!(tail.poll(), ["two"]);
        assert_eq!(tail.partial(), "login:");
        assert_eq!(last_lines(&path, 2), ["two", "login:"]);
    }

    #[test]
    fn endless_line_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().join("console.log")).unwrap();
        std::fs::write(&path, vec![b'x'; LINE_LIMIT * 3]).unwrap();
        let mut tail = ConsoleTail::new(&path);
        assert_eq!(tail.poll().len(), 2);
    }

    #[test]
    fn control_characters_are_removed() {
        assert_eq!(
            clean(b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07x\x00\x08y"),
            "red xy"
        );
    }
}
