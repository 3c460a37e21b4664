//! JSON in all the forms in which it comes: a record, an array of them, lines of them, Debian's tracker.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{ImportError, LARGEST_RECORD, Sink, io};
use crate::advisory::tracker::Entry;

pub(super) fn read(path: &Path, size: u64, sink: &mut Sink<'_>) -> Result<(), ImportError> {
    let mut reader = open(path)?;
    let start = loop {
        let buffer = reader.fill_buf().map_err(io(path))?;
        match buffer.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(byte) => break *byte,
            None if buffer.is_empty() => break b' ',
            None => {
                let length = buffer.len();
                reader.consume(length);
            }
        }
    };
    match start {
        b'[' => stream(path, sink, Form::Array),
        b'{' => match form(path)? {
            Some(form) => stream(path, sink, form),
            None => objects(path, size, sink),
        },
        b' ' => Err(foreign(path, "empty")),
        _ => Err(foreign(path, "no JSON and no zip")),
    }
}

fn foreign(path: &Path, what: &str) -> ImportError {
    ImportError::Foreign {
        path: path.to_owned(),
        what: what.to_owned(),
    }
}

fn open(path: &Path) -> Result<BufReader<File>, ImportError> {
    Ok(BufReader::with_capacity(
        256 << 10,
        File::open(path).map_err(io(path))?,
    ))
}

/// A file of which a piece can't fill memory: reading ends in an error when nothing is left.
struct Bounded {
    file: BufReader<File>,
    left: Rc<Cell<u64>>,
}

fn bounded(path: &Path, left: &Rc<Cell<u64>>) -> Result<Bounded, ImportError> {
    Ok(Bounded {
        file: open(path)?,
        left: Rc::clone(left),
    })
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        let length = u64::try_from(read).unwrap_or(u64::MAX);
        let left = self.left.get().checked_sub(length).ok_or_else(|| {
            std::io::Error::other(format!("a record of more than {LARGEST_RECORD} bytes"))
        })?;
        self.left.set(left);
        Ok(read)
    }
}

/// A record, or several, each on a line of its own.
fn objects(path: &Path, size: u64, sink: &mut Sink<'_>) -> Result<(), ImportError> {
    let mut reader = open(path)?;
    let mut line = Vec::new();
    let mut number = 0_u64;
    loop {
        line.clear();
        number += 1;
        let read = reader
            .by_ref()
            .take(LARGEST_RECORD + 1)
            .read_until(b'\n', &mut line)
            .map_err(io(path))?;
        if read == 0 {
            return Ok(());
        }
        if u64::try_from(read).unwrap_or(u64::MAX) > LARGEST_RECORD {
            return Err(ImportError::TooMuch {
                path: path.to_owned(),
                limit: format!("{LARGEST_RECORD} bytes in line {number}"),
            });
        }
        let last = !line.ends_with(b"\n");
        if number == 1 || last {
            match serde_json::from_slice::<IgnoredAny>(&line) {
                // The first line of a record that was written for people is no whole one: then the file is one record.
                Err(error) if number == 1 && error.is_eof() => return whole(path, size, sink),
                Err(error) if last && error.is_eof() && !is_blank(&line) => {
                    return Err(io(path)(error.into()));
                }
                _ => {}
            }
        }
        if !is_blank(&line) {
            sink.record(&line, &|| format!("{}, line {number}", path.display()))?;
        }
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

fn whole(path: &Path, size: u64, sink: &mut Sink<'_>) -> Result<(), ImportError> {
    if size > LARGEST_RECORD {
        return Err(ImportError::TooMuch {
            path: path.to_owned(),
            limit: format!("{LARGEST_RECORD} bytes for one record"),
        });
    }
    let bytes = std::fs::read(path).map_err(io(path))?;
    sink.record(&bytes, &|| path.display().to_string())
}

/// What is read piece by piece, because all of it at once would fill memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Array,
    Tracker,
}

/// Whether an object is the tracker: all its values are objects of objects that have `releases`. A record has texts and lists.
fn form(path: &Path) -> Result<Option<Form>, ImportError> {
    struct Probe<'a>(&'a mut bool);
    impl<'de> Visitor<'de> for Probe<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while map.next_key::<IgnoredAny>()?.is_some() {
                map.next_value_seed(Package(self.0))?;
            }
            Ok(())
        }
    }
    struct Package<'a>(&'a mut bool);
    impl<'de> DeserializeSeed<'de> for Package<'_> {
        type Value = ();

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
            deserializer.deserialize_map(self)
        }
    }
    impl<'de> Visitor<'de> for Package<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of vulnerabilities")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            // So it stays if the file is cut off in here.
            *self.0 = true;
            while let Some((_, value)) = map.next_entry::<IgnoredAny, Value>()? {
                if value.get("releases").is_some() {
                    return Err(serde::de::Error::custom("known"));
                }
            }
            *self.0 = false;
            Ok(())
        }
    }
    let left = Rc::new(Cell::new(2 * LARGEST_RECORD));
    let mut deserializer = serde_json::Deserializer::from_reader(bounded(path, &left)?);
    let mut is_tracker = false;
    // An object that was not read to its end is an error to the parser: what was found before it stands.
    let _ = deserializer.deserialize_map(Probe(&mut is_tracker));
    Ok(is_tracker.then_some(Form::Tracker))
}

fn stream(path: &Path, sink: &mut Sink<'_>, form: Form) -> Result<(), ImportError> {
    let mut stopped = None;
    let left = Rc::new(Cell::new(LARGEST_RECORD));
    let mut deserializer = serde_json::Deserializer::from_reader(bounded(path, &left)?);
    let pieces = Pieces {
        form,
        left: Rc::clone(&left),
        path,
        sink,
        stopped: &mut stopped,
    };
    let read = match form {
        Form::Array => deserializer.deserialize_seq(pieces),
        Form::Tracker => deserializer.deserialize_map(pieces),
    };
    if let Some(error) = stopped {
        return Err(error);
    }
    match read.and_then(|()| deserializer.end()) {
        Ok(()) => Ok(()),
        // What comes after it is unknown, and may be most of it.
        Err(error) => Err(io(path)(error.into())),
    }
}

struct Pieces<'a, 'b> {
    form: Form,
    /// Bytes that the next piece may have.
    left: Rc<Cell<u64>>,
    path: &'a Path,
    sink: &'a mut Sink<'b>,
    /// Errors of serde are texts; ours stands here.
    stopped: &'a mut Option<ImportError>,
}

impl Pieces<'_, '_> {
    fn note<E: serde::de::Error>(&mut self, taken: Result<(), ImportError>) -> Result<(), E> {
        taken.map_err(|error| {
            *self.stopped = Some(error);
            E::custom("stopped")
        })
    }
}

impl<'de> Visitor<'de> for Pieces<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.form {
            Form::Array => "an array of OSV records",
            Form::Tracker => "an object of source packages",
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let mut number = 0_u64;
        while let Some(value) = list.next_element::<Value>()? {
            self.left.set(LARGEST_RECORD);
            number += 1;
            let path = self.path;
            let place = || format!("{}, record {number}", path.display());
            let taken = match serde_json::to_vec(&value) {
                Ok(bytes) => self.sink.record(&bytes, &place),
                Err(_) => Ok(()),
            };
            self.note(taken)?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(package) = map.next_key::<String>()? {
            map.next_value_seed(OfPackage {
                package: &package,
                pieces: &mut self,
            })?;
        }
        Ok(())
    }
}

/// The vulnerabilities of one source package of the tracker.
struct OfPackage<'a, 'b, 'c> {
    package: &'a str,
    pieces: &'a mut Pieces<'b, 'c>,
}

impl<'de> DeserializeSeed<'de> for OfPackage<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OfPackage<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of vulnerabilities")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((id, value)) = map.next_entry::<String, Value>()? {
            self.pieces.left.set(LARGEST_RECORD);
            let place = || format!("{}, {id} in {}", self.pieces.path.display(), self.package);
            let counted = self.pieces.sink.count(&place);
            let read = serde_json::from_value::<Entry>(value)
                .map_err(|error| error.to_string())
                .and_then(|entry| entry.read(self.package, &id));
            let taken = counted.and_then(|()| match read {
                Ok(Some(advisory)) => self.pieces.sink.keep(&advisory),
                Ok(None) => {
                    self.pieces.sink.imported.source.unused += 1;
                    Ok(())
                }
                Err(wrong) => {
                    let place = place();
                    self.pieces.sink.complain(format!("{place}: {wrong}"));
                    Ok(())
                }
            });
            self.pieces.note(taken)?;
        }
        Ok(())
    }
}
