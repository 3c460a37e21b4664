//! The local database: one SQLite file, made anew from its sources, then only read.

mod write;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use serde::{Deserialize, Serialize};

use crate::advisory::{Advisory, Affected};
use crate::ecosystem::Release;

pub use write::Builder;

/// `OvnV`, so that our file is known among all of SQLite's.
const APPLICATION: i64 = 0x4f76_6e56;
/// Of the tables below; a database of another one is made again.
const VERSION: i64 = 1;

/// Statements about one package that are looked at; Linux has some ten thousand.
const MOST_STATEMENTS: usize = 200_000;

const TABLES: &str = "
CREATE TABLE about (created TEXT NOT NULL, generator TEXT NOT NULL);
CREATE TABLE sources (
    number INTEGER PRIMARY KEY, document TEXT NOT NULL
);
CREATE TABLE releases (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, advisories INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE advisories (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, kind INTEGER NOT NULL, modified TEXT NOT NULL, document TEXT NOT NULL,
    UNIQUE (name, kind)
);
CREATE TABLE affected (
    release INTEGER NOT NULL, package TEXT NOT NULL, advisory INTEGER NOT NULL, number INTEGER NOT NULL, statement TEXT NOT NULL,
    PRIMARY KEY (release, package, advisory, number)
) WITHOUT ROWID;
";

/// What can be wrong with a database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// There is none.
    #[error("there is no database of vulnerabilities at {0}")]
    Missing(PathBuf),
    /// It is something else.
    #[error("{0} is not a database of vulnerabilities")]
    Foreign(PathBuf),
    /// It is of another version.
    #[error("{path} is of version {found}, this program reads version {VERSION}")]
    Version {
        /// Where.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// SQLite can't read or write it.
    #[error("{path}")]
    Sqlite {
        /// Where.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A row holds what this program has not written.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What can't be read.
        what: String,
    },
    /// The file can't be written.
    #[error("cannot write {path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing that was read is of use.
    #[error("nothing that was read is of use")]
    Empty,
}

/// What a database was made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceInfo {
    /// The file, folder or address, as it was named.
    pub location: String,
    /// SHA-256 of the file; of a folder, that of the list of its files with theirs.
    pub sha256: String,
    /// The newest modification that a record tells of; RFC 3339.
    pub newest: Option<String>,
    /// Records that were read.
    pub records: u64,
    /// Those that are kept.
    pub used: u64,
    /// Those about nothing that can be matched.
    pub unused: u64,
    /// Those that were taken back.
    pub withdrawn: u64,
    /// Those that are damaged.
    pub damaged: u64,
}

/// How many advisories there are about an ecosystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EcosystemCount {
    /// Such as `debian:12`.
    pub ecosystem: String,
    /// Advisories about it.
    pub advisories: u64,
}

/// A database that is read.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    connection: Connection,
}

impl Database {
    /// Opens a database.
    ///
    /// # Errors
    /// [`DatabaseError`] if it is missing, or not one.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        if !path.exists() {
            return Err(DatabaseError::Missing(path.to_owned()));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let foreign = |_| DatabaseError::Foreign(path.to_owned());
        let connection = Connection::open_with_flags(path, flags).map_err(foreign)?;
        let number = |pragma: &str| -> Result<i64, rusqlite::Error> {
            connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))
        };
        if number("application_id").map_err(foreign)? != APPLICATION {
            return Err(DatabaseError::Foreign(path.to_owned()));
        }
        let found = number("user_version").map_err(foreign)?;
        if found != VERSION {
            return Err(DatabaseError::Version {
                path: path.to_owned(),
                found,
            });
        }
        Ok(Self {
            path: path.to_owned(),
            connection,
        })
    }

    /// When it was made; RFC 3339.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn created(&self) -> Result<String, DatabaseError> {
        self.connection
            .query_row("SELECT created FROM about", [], |row| row.get(0))
            .map_err(|error| self.failed(error))
    }

    /// What it was made from.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn sources(&self) -> Result<Vec<SourceInfo>, DatabaseError> {
        let rows: Vec<String> = self
            .rows("SELECT document FROM sources ORDER BY number", |row| {
                row.get(0)
            })
            .map_err(|error| self.failed(error))?;
        rows.iter()
            .map(|text| self.decode(text, "a source"))
            .collect()
    }

    /// What it knows of, sorted by name.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn ecosystems(&self) -> Result<Vec<EcosystemCount>, DatabaseError> {
        let read = |row: &rusqlite::Row<'_>| {
            let advisories: i64 = row.get(1)?;
            Ok(EcosystemCount {
                ecosystem: row.get(0)?,
                advisories: u64::try_from(advisories).unwrap_or_default(),
            })
        };
        self.rows("SELECT name, advisories FROM releases ORDER BY name", read)
            .map_err(|error| self.failed(error))
    }

    fn rows<T>(
        &self,
        query: &str,
        read: impl FnMut(&rusqlite::Row<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<Vec<T>, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached(query)?;
        let rows = statement.query_map([], read)?;
        rows.collect()
    }

    /// The number of an ecosystem, if anything is known of it.
    pub(crate) fn release(&self, release: &Release) -> Result<Option<i64>, DatabaseError> {
        let query = || {
            self.connection
                .prepare_cached("SELECT number FROM releases WHERE name = ?1")?
                .query_row([release.as_str()], |row| row.get(0))
                .optional()
        };
        query().map_err(|error| self.failed(error))
    }

    /// What is said of a package: the number of the advisory, and the statement.
    pub(crate) fn statements(
        &self,
        (number, release): (i64, &Release),
        package: &str,
    ) -> Result<Vec<(i64, Affected)>, DatabaseError> {
        let query = || -> Result<Vec<(i64, String)>, rusqlite::Error> {
            let mut statement = self.connection.prepare_cached(
                "SELECT advisory, statement FROM affected WHERE release = ?1 AND package = ?2 ORDER BY advisory, number",
            )?;
            let rows = statement.query_map(rusqlite::params![number, package], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            rows.take(MOST_STATEMENTS).collect()
        };
        let rows = query().map_err(|error| self.failed(error))?;
        let decode = |(advisory, text): (i64, String)| {
            let mut affected: Affected = self.decode(&text, "a statement")?;
            affected.release = release.clone();
            affected.package = package.to_owned();
            Ok((advisory, affected))
        };
        rows.into_iter().map(decode).collect()
    }

    /// An advisory by its number; none if another one has taken its place.
    pub(crate) fn advisory(&self, number: i64) -> Result<Option<Advisory>, DatabaseError> {
        self.one("SELECT document FROM advisories WHERE number = ?1", number)
    }

    /// What OSV says of a vulnerability itself.
    pub(crate) fn record(&self, name: &str) -> Result<Option<Advisory>, DatabaseError> {
        self.one(
            "SELECT document FROM advisories WHERE name = ?1 AND kind = 0",
            name,
        )
    }

    fn one(
        &self,
        query: &str,
        by: impl rusqlite::ToSql,
    ) -> Result<Option<Advisory>, DatabaseError> {
        let find = || -> Result<Option<String>, rusqlite::Error> {
            self.connection
                .prepare_cached(query)?
                .query_row([by], |row| row.get(0))
                .optional()
        };
        find()
            .map_err(|error| self.failed(error))?
            .map(|text| self.decode(&text, "an advisory"))
            .transpose()
    }

    fn decode<T: for<'a> Deserialize<'a>>(
        &self,
        text: &str,
        what: &str,
    ) -> Result<T, DatabaseError> {
        serde_json::from_str(text).map_err(|error| DatabaseError::Damaged {
            path: self.path.clone(),
            what: format!("{what}: {error}"),
        })
    }

    fn failed(&self, source: rusqlite::Error) -> DatabaseError {
        DatabaseError::Sqlite {
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
