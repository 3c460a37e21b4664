//! Making a database: all in a temporary file, which gets its name when everything is in it.

use std::collections::{BTreeMap, HashMap};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, params};
use tempfile::NamedTempFile;

use super::{APPLICATION, DatabaseError, SourceInfo, TABLES, VERSION};
use crate::advisory::{Advisory, Kind};
use crate::ecosystem::Release;

/// A database that is being made. Dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct Builder {
    path: PathBuf,
    file: NamedTempFile,
    connection: Connection,
    /// The number of the next advisory: never one that was given before.
    next: i64,
    releases: HashMap<Release, i64>,
    /// Advisories by ecosystem.
    counts: BTreeMap<i64, u64>,
    sources: Vec<SourceInfo>,
}

impl Builder {
    /// Begins a database that will be at `path`; its folder is created if it isn't there.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn new(path: &Path) -> Result<Self, DatabaseError> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let io = |source| DatabaseError::Io {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(io)?;
        let file = tempfile::Builder::new()
            .prefix(".vulnerabilities-")
            // As the umask says: everybody may know what is public.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(io)?;
        let begin = || -> Result<Connection, rusqlite::Error> {
            let connection = Connection::open(file.path())?;
            // Nobody reads it before it is finished, and what is not finished is thrown away.
            connection.execute_batch(&format!(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA application_id = {APPLICATION};
                 PRAGMA user_version = {VERSION}; BEGIN; {TABLES}"
            ))?;
            Ok(connection)
        };
        let connection = begin().map_err(|source| DatabaseError::Sqlite {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            connection,
            next: 1,
            releases: HashMap::new(),
            counts: BTreeMap::new(),
            sources: Vec::new(),
        })
    }

    /// Adds an advisory. Of two records of one name the newer counts; what the tracker says of one vulnerability in several
    /// packages is one advisory.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn add(&mut self, advisory: &Advisory) -> Result<(), DatabaseError> {
        self.insert(advisory)
            .map_err(|source| DatabaseError::Sqlite {
                path: self.path.clone(),
                source,
            })
    }

    fn insert(&mut self, advisory: &Advisory) -> Result<(), rusqlite::Error> {
        let kind = match advisory.kind {
            Kind::Osv => 0,
            Kind::DebianTracker => 1,
        };
        let modified = advisory.modified.as_deref().unwrap_or_default();
        let known: Option<(i64, String)> = self
            .connection
            .prepare_cached(
                "SELECT number, modified FROM advisories WHERE name = ?1 AND kind = ?2",
            )?
            .query_row(params![advisory.id, kind], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let number = match known {
            Some((number, _)) if advisory.kind == Kind::DebianTracker => number,
            Some((_, other)) if *modified <= *other => return Ok(()),
            known => {
                // Statements of the older one stay, and are about nothing.
                if let Some((number, _)) = known {
                    self.connection
                        .prepare_cached("DELETE FROM advisories WHERE number = ?1")?
                        .execute([number])?;
                }
                let document = serde_json::to_string(advisory)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
                self.connection
                    .prepare_cached(
                        "INSERT INTO advisories (number, name, kind, modified, document) VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![self.next, advisory.id, kind, modified, document])?;
                self.next += 1;
                self.next - 1
            }
        };
        self.insert_affected(advisory, number)
    }

    fn insert_affected(&mut self, advisory: &Advisory, number: i64) -> Result<(), rusqlite::Error> {
        let mut about = std::collections::BTreeSet::new();
        for (index, affected) in advisory.affected.iter().enumerate() {
            let release = self.release(&affected.release)?;
            about.insert(release);
            let statement = serde_json::to_string(affected)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
            self.connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO affected (release, package, advisory, number, statement) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    release,
                    affected.package,
                    number,
                    i64::try_from(index).unwrap_or(i64::MAX),
                    statement
                ])?;
        }
        for release in about {
            *self.counts.entry(release).or_default() += 1;
        }
        Ok(())
    }

    fn release(&mut self, release: &Release) -> Result<i64, rusqlite::Error> {
        if let Some(number) = self.releases.get(release) {
            return Ok(*number);
        }
        self.connection.execute(
            "INSERT INTO releases (name) VALUES (?1)",
            [release.as_str()],
        )?;
        let number = self.connection.last_insert_rowid();
        self.releases.insert(release.clone(), number);
        Ok(number)
    }

    /// Notes what was read.
    pub fn note_source(&mut self, source: SourceInfo) {
        self.sources.push(source);
    }

    /// Finishes the database and gives it its name, in place of an older one.
    ///
    /// # Errors
    /// [`DatabaseError::Empty`] if nothing in it is of use; others if it can't be written.
    pub fn finish(self, created: &str, generator: &str) -> Result<(), DatabaseError> {
        if self.releases.is_empty() {
            return Err(DatabaseError::Empty);
        }
        let Self {
            path,
            file,
            connection,
            counts,
            sources,
            ..
        } = self;
        let complete = || -> Result<(), rusqlite::Error> {
            connection.execute(
                "INSERT INTO about (created, generator) VALUES (?1, ?2)",
                [created, generator],
            )?;
            for source in &sources {
                let document = serde_json::to_string(source)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
                connection.execute("INSERT INTO sources (document) VALUES (?1)", [document])?;
            }
            for (release, count) in &counts {
                connection.execute(
                    "UPDATE releases SET advisories = ?2 WHERE number = ?1",
                    params![release, i64::try_from(*count).unwrap_or(i64::MAX)],
                )?;
            }
            connection.execute_batch("COMMIT; ANALYZE;")
        };
        complete().map_err(|source| DatabaseError::Sqlite {
            path: path.clone(),
            source,
        })?;
        drop(connection);
        let io = |source| DatabaseError::Io {
            path: path.clone(),
            source,
        };
        file.as_file().sync_all().map_err(io)?;
        file.persist(&path).map_err(|error| io(error.error))?;
        Ok(())
    }
}
