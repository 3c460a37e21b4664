//! The database: how it is opened, how older ones are brought up to date, and how transactions are run.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::Home;
use super::settings::Settings;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// Each entry brings the database one version forward; `user_version` says how many were applied. Entries are never
/// changed once released, only added.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001-images.sql"),
    include_str!("migrations/0002-resources.sql"),
    include_str!("migrations/0003-pipelines.sql"),
];

/// Another process may hold the write lock for a moment.
const BUSY: Duration = Duration::from_secs(20);

/// The database of a home.
#[derive(Debug)]
pub struct Store {
    pub(super) connection: Mutex<Connection>,
    pub(super) home: Home,
    pub(super) settings: Settings,
}

/// Why a transaction is given up.
#[derive(Debug)]
pub(super) enum Abort {
    /// The database failed.
    Sql(rusqlite::Error),
    /// What was asked for can't be done; nothing of it is.
    Refused(Failure),
}

impl From<rusqlite::Error> for Abort {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Failure> for Abort {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

impl Store {
    /// Opens (and if needed creates or updates) the database of a home. Several processes may have it open.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if it can't be opened, or was written by a newer Ovenbird; [`FailureKind::Config`] if
    /// the home's settings are wrong.
    pub fn open(home: &Home) -> Result<Self> {
        let settings = Settings::read(home)?;
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
            settings,
        })
    }

    /// What the home's configuration says.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The home that this is the store of.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Asks the database whether its file is whole; the problems found, none if it is.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the store can't be read.
    pub fn check(&self) -> Result<Vec<String>> {
        self.read(|connection| {
            let mut problems: Vec<String> = connection
                .prepare("PRAGMA integrity_check")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            problems.retain(|problem| problem != "ok");
            let mut dangling = connection.prepare("PRAGMA foreign_key_check")?;
            let dangling = dangling.query_map([], |row| {
                let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
                Ok(format!("a row of {table} has lost its {parent}"))
            })?;
            for problem in dangling {
                problems.push(problem?);
            }
            Ok(problems)
        })
    }

    fn lock(&self) -> Result<MutexGuard<'_, Connection>> {
        self.connection
            .lock()
            .map_err(|_| Failure::new(FailureKind::Internal, "the store's lock is poisoned"))
    }

    /// Runs `work` in one transaction that takes the write lock at its start.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        self.transact(|transaction| Ok(work(transaction)?))
    }

    /// The same for work that may refuse; then nothing of it stays.
    pub(super) fn transact<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Abort>,
    ) -> Result<T> {
        let mut connection = self.lock()?;
        let run = || -> Result<T, Abort> {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|abort| match abort {
            Abort::Sql(error) => Failure::environment("cannot write the store").caused_by(error),
            Abort::Refused(failure) => failure,
        })
    }

    /// Runs `work` in a transaction of which nothing stays.
    pub(super) fn rehearse<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Abort>,
    ) -> Result<T> {
        let mut connection = self.lock()?;
        let run = || -> Result<T, Abort> {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.rollback()?;
            Ok(value)
        };
        run().map_err(|abort| match abort {
            Abort::Sql(error) => Failure::environment("cannot read the store").caused_by(error),
            Abort::Refused(failure) => failure,
        })
    }

    /// Runs `work` on a consistent view.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut connection = self.lock()?;
        let run = || -> rusqlite::Result<T> {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
            work(&transaction)
        };
        run().or_failure(FailureKind::Environment, || "cannot read the store".into())
    }
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let version_of = |connection: &Connection| -> rusqlite::Result<usize> {
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok(usize::try_from(version).unwrap_or(usize::MAX))
    };
    // Nearly always there is nothing to do, and then readers must not wait for a writer.
    if version_of(connection)? == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let applied = version_of(&transaction)?;
    let Some(missing) = MIGRATIONS.get(applied..) else {
        return Err(rusqlite::Error::ToSqlConversionFailure(
            format!(
                "it was written by a newer version (schema {applied}, this one knows {})",
                MIGRATIONS.len()
            )
            .into(),
        ));
    };
    for migration in missing {
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
