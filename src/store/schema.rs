//! The database: how it is opened, and how older ones are brought up to date.

use std::sync::Mutex;
use std::time::Duration;

use rusqlite::Connection;

use super::Home;
use crate::error::{FailureContext as _, FailureKind, Result};

/// Each entry brings the database one version forward; `user_version` says how many were applied. Entries are never
/// changed once released, only added.
const MIGRATIONS: [&str; 1] = ["
CREATE TABLE image (
    id        INTEGER PRIMARY KEY,
    name      TEXT NOT NULL,           -- as the person wrote it
    slug      TEXT NOT NULL,           -- as in ARNs
    major     INTEGER NOT NULL,
    minor     INTEGER NOT NULL,
    patch     INTEGER NOT NULL,
    build     INTEGER NOT NULL,
    arn       TEXT NOT NULL UNIQUE,
    run       TEXT NOT NULL UNIQUE,
    state     TEXT NOT NULL,
    reason    TEXT,
    parent    TEXT NOT NULL,
    recipe    TEXT NOT NULL,           -- JSON
    folder    TEXT NOT NULL,           -- where the outputs are, or would have been
    logs      TEXT NOT NULL,
    owner_pid INTEGER NOT NULL,
    owner_start INTEGER NOT NULL,
    created   TEXT NOT NULL,
    updated   TEXT NOT NULL,
    UNIQUE (slug, major, minor, patch, build)
) STRICT;
CREATE INDEX image_state ON image (state);
CREATE TABLE image_history (
    image     INTEGER NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    state     TEXT NOT NULL,
    reason    TEXT,
    time      TEXT NOT NULL
) STRICT;
CREATE INDEX image_history_image ON image_history (image);
CREATE TABLE step (
    image     INTEGER NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    name      TEXT NOT NULL,
    outcome   TEXT NOT NULL,
    seconds   REAL NOT NULL,
    detail    TEXT NOT NULL,
    finished  TEXT NOT NULL
) STRICT;
CREATE INDEX step_image ON step (image);
"];

/// Another process may hold the write lock for a moment.
const BUSY: Duration = Duration::from_secs(20);

/// The database of a home.
#[derive(Debug)]
pub struct Store {
    pub(super) connection: Mutex<Connection>,
    pub(super) home: Home,
}

impl Store {
    /// Opens (and if needed creates or updates) the database of a home. Several processes may have it open.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if it can't be opened, or was written by a newer Ovenbird.
    pub fn open(home: &Home) -> Result<Self> {
        let path = home.path().join("store.db");
        let open = || -> rusqlite::Result<Connection> {
            let mut connection = Connection::open(&path)?;
            connection.busy_timeout(BUSY)?;
            // Readers never wait for the writer, and a crash leaves the last whole transaction.
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.pragma_update(None, "foreign_keys", true)?;
            migrate(&mut connection)?;
            Ok(connection)
        };
        let connection = open().or_failure(FailureKind::Environment, || {
            format!("cannot open the store {path}")
        })?;
        Ok(Self {
            connection: Mutex::new(connection),
            home: home.clone(),
        })
    }

    /// Runs `work` in one transaction that takes the write lock at its start.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut connection = self.connection.lock().map_err(|_| {
            crate::error::Failure::new(FailureKind::Internal, "the store's lock is poisoned")
        })?;
        let run = || -> rusqlite::Result<T> {
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().or_failure(FailureKind::Environment, || "cannot write the store".into())
    }

    /// Runs `work` on a consistent view.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let connection = self.connection.lock().map_err(|_| {
            crate::error::Failure::new(FailureKind::Internal, "the store's lock is poisoned")
        })?;
        work(&connection).or_failure(FailureKind::Environment, || "cannot read the store".into())
    }
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let applied = usize::try_from(version).unwrap_or(usize::MAX);
    if applied > MIGRATIONS.len() {
        return Err(rusqlite::Error::ToSqlConversionFailure(
            format!(
                "it was written by a newer version (schema {version}, this one knows {})",
                MIGRATIONS.len()
            )
            .into(),
        ));
    }
    for migration in &MIGRATIONS[applied..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(
        None,
        "user_version",
        i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX),
    )?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_store_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(camino::Utf8Path::from_path(folder.path()).unwrap()).unwrap();
        drop(Store::open(&home).unwrap());
        Connection::open(home.path().join("store.db"))
            .unwrap()
            .pragma_update(None, "user_version", 999)
            .unwrap();
        let failure = Store::open(&home).unwrap_err();
        assert!(
            failure.chain().contains("newer version"),
            "{}",
            failure.chain()
        );
    }
}
