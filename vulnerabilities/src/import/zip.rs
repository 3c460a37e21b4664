//! Archives of records, as OSV publishes one for each ecosystem: `all.zip`.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use zip::ZipArchive;

use super::{ImportError, LARGEST_ARCHIVE, LARGEST_RECORD, MOST_RECORDS, Sink, io};

pub(super) fn read(path: &Path, sink: &mut Sink<'_>) -> Result<(), ImportError> {
    let foreign = |error: zip::result::ZipError| ImportError::Foreign {
        path: path.to_owned(),
        what: format!("a damaged zip ({error})"),
    };
    let file = BufReader::new(File::open(path).map_err(io(path))?);
    let mut archive = ZipArchive::new(file).map_err(foreign)?;
    if u64::try_from(archive.len()).unwrap_or(u64::MAX) > MOST_RECORDS {
        return Err(ImportError::TooMuch {
            path: path.to_owned(),
            limit: format!("{MOST_RECORDS} entries"),
        });
    }
    let mut bytes = Vec::new();
    // What an entry says of its own size is not believed; what comes out of it is counted.
    let mut total = 0;
    for index in 0..archive.len() {
        let entry = match archive.by_index(index) {
            Ok(entry) => entry,
            Err(error) => {
                sink.imported.source.records += 1;
                sink.complain(format!("entry {index}: {error}"));
                continue;
            }
        };
        let name = entry.name().to_owned();
        if entry.is_dir() || !name.ends_with(".json") {
            continue;
        }
        let place = || format!("{name} in {}", path.display());
        bytes.clear();
        let read = entry.take(LARGEST_RECORD + 1).read_to_end(&mut bytes);
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        total += size;
        if total > LARGEST_ARCHIVE {
            return Err(ImportError::TooMuch {
                path: path.to_owned(),
                limit: format!("{LARGEST_ARCHIVE} bytes unpacked"),
            });
        }
        match read {
            Ok(_) if size > LARGEST_RECORD => {
                sink.count(&place)?;
                sink.complain(format!("{}: more than {LARGEST_RECORD} bytes", place()));
            }
            Ok(_) => sink.record(&bytes, &place)?,
            Err(error) => {
                sink.count(&place)?;
                sink.complain(format!("{}: {error}", place()));
            }
        }
    }
    Ok(())
}
