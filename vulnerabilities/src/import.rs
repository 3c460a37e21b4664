//! Reading what was downloaded or carried in: records one by one or many, folders, archives, Debian's tracker.

mod json;
mod zip;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::advisory::osv::{Read as Outcome, Record};
use crate::advisory::{Advisory, line};
use crate::database::{Builder, DatabaseError, SourceInfo};

/// Bytes of one record; the largest that are known have some 3 MiB.
const LARGEST_RECORD: u64 = 32 << 20;
/// Bytes of a file of many records, or of the tracker, which has some 70 MB.
const LARGEST_FILE: u64 = 8 << 30;
/// Bytes that an archive may come to; OSV's largest have some 5 GB.
const LARGEST_ARCHIVE: u64 = 32 << 30;
/// Records of one source; OSV has less than a million altogether.
const MOST_RECORDS: u64 = 5_000_000;
/// Files of a folder.
const MOST_FILES: usize = 5_000_000;
const DEEPEST: usize = 10;
/// Complaints that are told one by one.
const MOST_COMPLAINTS: usize = 5;

/// Why a source can't be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file or folder can't be read, or not to its end.
    #[error("cannot read {path}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is nothing that is known here.
    #[error(
        "{path} is {what}; wanted OSV records (JSON, lines of JSON, a folder, a zip) or the JSON of Debian's security tracker"
    )]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// It is more than anybody publishes.
    #[error("{path} has more than {limit}")]
    TooMuch {
        /// Which file or folder.
        path: PathBuf,
        /// Of what, and how much.
        limit: String,
    },
    /// Every record of it is damaged.
    #[error("{path}: none of {damaged} records can be read, such as {example}")]
    AllDamaged {
        /// Which file or folder.
        path: PathBuf,
        /// How many.
        damaged: u64,
        /// The first.
        example: String,
    },
    /// The database can't be written.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The caller wanted it to end.
    #[error("stopped")]
    Stopped,
}

/// What came of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Digest and counts.
    pub source: SourceInfo,
    /// The first damaged records, for people.
    pub complaints: Vec<String>,
}

/// Reads a file or folder into a database. `location` is what people call it; `progress` is told now and then, and ends
/// everything by saying `false`.
///
/// # Errors
/// [`ImportError`] if nothing in it is of use. Single records that are damaged are counted.
pub fn import(
    path: &Path,
    location: &str,
    builder: &mut Builder,
    progress: &mut dyn FnMut(&SourceInfo) -> bool,
) -> Result<Imported, ImportError> {
    let mut sink = Sink {
        builder,
        imported: Imported::default(),
        progress,
    };
    sink.imported.source.location = location.to_owned();
    let sha256 = if path.is_dir() {
        folder(path, &mut sink)?
    } else {
        file(path, &mut sink)?
    };
    let mut imported = sink.imported;
    imported.source.sha256 = sha256;
    let source = &imported.source;
    if source.records == source.damaged {
        return Err(ImportError::AllDamaged {
            path: path.to_owned(),
            damaged: source.damaged,
            example: imported
                .complaints
                .into_iter()
                .next()
                .unwrap_or_else(|| "no record at all".into()),
        });
    }
    builder.note_source(imported.source.clone());
    Ok(imported)
}

/// Where records go, with what is known of them.
struct Sink<'a> {
    builder: &'a mut Builder,
    imported: Imported,
    progress: &'a mut dyn FnMut(&SourceInfo) -> bool,
}

impl Sink<'_> {
    /// Takes the bytes of one record; `place` says where they were.
    fn record(&mut self, bytes: &[u8], place: &dyn Fn() -> String) -> Result<(), ImportError> {
        self.count(place)?;
        let read = serde_json::from_slice::<Record>(bytes)
            .map_err(|error| error.to_string())
            .and_then(Record::read);
        match read {
            Ok(Outcome::Kept(advisory)) => self.keep(&advisory)?,
            Ok(Outcome::Withdrawn) => self.imported.source.withdrawn += 1,
            Ok(Outcome::Unused) => self.imported.source.unused += 1,
            Err(wrong) => self.complain(format!("{}: {wrong}", place())),
        }
        Ok(())
    }

    fn count(&mut self, place: &dyn Fn() -> String) -> Result<(), ImportError> {
        let source = &mut self.imported.source;
        source.records += 1;
        if source.records > MOST_RECORDS {
            return Err(ImportError::TooMuch {
                path: place().into(),
                limit: format!("{MOST_RECORDS} records"),
            });
        }
        // Often enough for a person, seldom enough to cost nothing.
        if source.records.is_multiple_of(256) && !(self.progress)(source) {
            return Err(ImportError::Stopped);
        }
        Ok(())
    }

    fn keep(&mut self, advisory: &Advisory) -> Result<(), ImportError> {
        let source = &mut self.imported.source;
        source.used += 1;
        if advisory.modified > source.newest {
            source.newest.clone_from(&advisory.modified);
        }
        self.builder.add(advisory)?;
        Ok(())
    }

    fn complain(&mut self, wrong: String) {
        self.imported.source.damaged += 1;
        if self.imported.complaints.len() < MOST_COMPLAINTS {
            self.imported.complaints.push(line(&wrong));
        }
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ImportError {
    let path = path.to_owned();
    move |source| ImportError::Io { path, source }
}

/// Reads one file, whatever it is; its digest.
fn file(path: &Path, sink: &mut Sink<'_>) -> Result<String, ImportError> {
    let mut opened = File::open(path).map_err(io(path))?;
    let size = opened.metadata().map_err(io(path))?.len();
    if size > LARGEST_FILE {
        return Err(ImportError::TooMuch {
            path: path.to_owned(),
            limit: format!("{LARGEST_FILE} bytes"),
        });
    }
    let mut start = Vec::new();
    opened
        .by_ref()
        .take(4)
        .read_to_end(&mut start)
        .map_err(io(path))?;
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        zip::read(path, sink)?;
    } else {
        json::read(path, size, sink)?;
    }
    digest(path)
}

fn digest(path: &Path) -> Result<String, ImportError> {
    let mut hash = Sha256::new();
    let mut reader = BufReader::with_capacity(256 << 10, File::open(path).map_err(io(path))?);
    loop {
        let buffer = reader.fill_buf().map_err(io(path))?;
        if buffer.is_empty() {
            break;
        }
        hash.update(buffer);
        let length = buffer.len();
        reader.consume(length);
    }
    Ok(hex::encode(hash.finalize()))
}

/// Reads every file of a folder that can be one of ours, in the order of their paths; the digest of all.
fn folder(top: &Path, sink: &mut Sink<'_>) -> Result<String, ImportError> {
    let mut hash = Sha256::new();
    let files = files(top)?;
    if files.is_empty() {
        return Err(ImportError::Foreign {
            path: top.to_owned(),
            what: "a folder without a .json, .jsonl, .ndjson or .zip file".into(),
        });
    }
    for path in files {
        let source = &sink.imported.source;
        let (records, damaged) = (source.records, source.damaged);
        let complaints = sink.imported.complaints.len();
        let extension = path.extension().and_then(std::ffi::OsStr::to_str);
        let may_be_one = extension == Some("json");
        let sha256 = match file(&path, sink) {
            // One file of another kind among many is counted as a damaged record. What can only be many records is a loss.
            Err(error @ ImportError::Foreign { .. }) if may_be_one => {
                sink.imported.source.records += 1;
                sink.complain(error.to_string());
                digest(&path)?
            }
            other => other?,
        };
        let read = sink.imported.source.records - records;
        let lost = sink.imported.source.damaged - damaged;
        if lost == read && (read > 1 || read == 1 && !may_be_one) {
            let example = sink.imported.complaints.get(complaints).cloned();
            return Err(ImportError::AllDamaged {
                path,
                damaged: lost,
                example: example.unwrap_or_else(|| "the first one".into()),
            });
        }
        let name = path.strip_prefix(top).unwrap_or(&path);
        hash.update(format!("{sha256}  {}\n", name.display()));
    }
    Ok(hex::encode(hash.finalize()))
}

fn files(top: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let mut found = Vec::new();
    let mut open = vec![(top.to_owned(), 0)];
    while let Some((folder, depth)) = open.pop() {
        for entry in std::fs::read_dir(&folder).map_err(io(&folder))? {
            let entry = entry.map_err(io(&folder))?;
            let kind = entry.file_type().map_err(io(&folder))?;
            let path = entry.path();
            // Links lead anywhere; a folder that was carried in has none.
            if kind.is_dir() && depth < DEEPEST {
                open.push((path, depth + 1));
            } else if kind.is_file() && is_ours(&path) {
                found.push(path);
            }
        }
        if found.len() + open.len() > MOST_FILES {
            return Err(ImportError::TooMuch {
                path: top.to_owned(),
                limit: format!("{MOST_FILES} files"),
            });
        }
    }
    found.sort();
    Ok(found)
}

fn is_ours(path: &Path) -> bool {
    let extension = path.extension().and_then(std::ffi::OsStr::to_str);
    matches!(extension, Some("json" | "jsonl" | "ndjson" | "zip"))
}

#[cfg(test)]
mod tests;
