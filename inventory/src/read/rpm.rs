//! rpm's database in SQLite, as every distribution has it since 2021. Headers:
//! <https://rpm-software-management.github.io/rpm/manual/format_header.html>.

use std::path::Path;

use ovenbird_disk::fs::{self, FileSystem};
use rusqlite::{Connection, OpenFlags};

use super::{Found, LARGEST_DATABASE};
use crate::{Ecosystem, Package, Source};

const FOLDERS: [&str; 2] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm"];
/// Databases that nothing here reads.
const OLD: [&str; 2] = ["Packages", "Packages.db"];
/// Keys that rpm trusts are kept as packages.
const KEY: &str = "gpg-pubkey";

// Tags of rpmtag.h.
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const VENDOR: u32 = 1011;
const LICENSE: u32 = 1014;
const ARCH: u32 = 1022;
const SOURCE: u32 = 1044;
// Types of values.
const INT32: u32 = 4;
const STRING: u32 = 6;
const STRINGS: u32 = 9;

pub(super) fn read(root: &dyn FileSystem, found: &mut Found) {
    for folder in FOLDERS {
        let path = format!("{folder}/rpmdb.sqlite");
        if let Some(bytes) = found.bytes(root, &path, LARGEST_DATABASE) {
            // What was not yet written back stands in the log beside it.
            let log = found.bytes(root, &format!("{path}-wal"), LARGEST_DATABASE);
            if let Err(error) = read_database(&bytes, log.as_deref(), &path, found) {
                found.note(format!("{path} can't be read: {error}"));
            }
            return;
        }
        for old in OLD {
            let path = format!("{folder}/{old}");
            if fs::resolve(root, path.as_bytes(), true).is_ok() {
                found.note(format!(
                    "{path} is of a kind that is not read: its packages are missing"
                ));
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum RpmError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// SQLite needs files: copies in a folder of ours.
fn read_database(
    bytes: &[u8],
    log: Option<&[u8]>,
    path: &str,
    found: &mut Found,
) -> Result<(), RpmError> {
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("rpmdb.sqlite");
    std::fs::write(&copy, bytes)?;
    if let Some(log) = log {
        std::fs::write(folder.path().join("rpmdb.sqlite-wal"), log)?;
    }
    for blob in headers(&copy)? {
        match package(&blob) {
            Some(package) if package.name == KEY => {}
            Some(mut package) => {
                package.paths.insert(path.to_owned());
                found.add(package);
            }
            None => found.note(format!("{path} has an entry that is no package")),
        }
    }
    Ok(())
}

fn headers(database: &Path) -> Result<Vec<Vec<u8>>, rusqlite::Error> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut statement =
        connection.prepare("SELECT blob FROM Packages ORDER BY hnum LIMIT 200000")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect()
}

/// A header: number of entries, bytes of data, entries of four numbers, data; all big-endian.
struct Header<'a> {
    entries: Vec<[u32; 4]>,
    data: &'a [u8],
}

impl<'a> Header<'a> {
    fn parse(blob: &'a [u8]) -> Option<Self> {
        let number = |at: usize| {
            let bytes = blob.get(at..at.checked_add(4)?)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        let count = usize::try_from(number(0)?).ok()?;
        let end = count.checked_mul(16)?.checked_add(8)?;
        let data = blob.get(end..)?;
        let entries = (0..count)
            .map(|index| {
                let at = 8 + 16 * index;
                Some([
                    number(at)?,
                    number(at + 4)?,
                    number(at + 8)?,
                    number(at + 12)?,
                ])
            })
            .collect::<Option<_>>()?;
        Some(Self { entries, data })
    }

    fn value(&self, tag: u32, kinds: &[u32]) -> Option<&'a [u8]> {
        let entry = self.entries.iter().find(|entry| entry[0] == tag)?;
        if !kinds.contains(&entry[1]) {
            return None;
        }
        self.data.get(usize::try_from(entry[2]).ok()?..)
    }

    fn text(&self, tag: u32) -> Option<String> {
        let bytes = self.value(tag, &[STRING, STRINGS])?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    fn number(&self, tag: u32) -> Option<u32> {
        let bytes = self.value(tag, &[INT32])?.get(..4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }
}

pub(super) fn package(blob: &[u8]) -> Option<Package> {
    let header = Header::parse(blob)?;
    let mut version = format!("{}-{}", header.text(VERSION)?, header.text(RELEASE)?);
    if let Some(epoch) = header.number(EPOCH).filter(|epoch| *epoch != 0) {
        version = format!("{epoch}:{version}");
    }
    let mut package = Package::new(Ecosystem::Rpm, header.text(NAME)?, version);
    package.architecture = header.text(ARCH);
    package.supplier = header.text(VENDOR);
    package.licenses = header.text(LICENSE).into_iter().collect();
    package.source = header
        .text(SOURCE)
        .and_then(|file| source(&file))
        .filter(|source| source.name != package.name);
    Some(package)
}

/// `NAME-VERSION-RELEASE.src.rpm`
fn source(file: &str) -> Option<Source> {
    let bare = file
        .strip_suffix(".src.rpm")
        .or_else(|| file.strip_suffix(".nosrc.rpm"))?;
    let (rest, release) = bare.rsplit_once('-')?;
    let (name, version) = rest.rsplit_once('-')?;
    Some(Source {
        name: name.to_owned(),
        version: Some(format!("{version}-{release}")),
    })
}
