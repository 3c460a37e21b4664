//! The record of lifecycle policies: what they did.

use jiff::Timestamp;
use rusqlite::params;
use serde::Serialize;

use super::Store;
use crate::documents::lifecycle::ActionType;
use crate::error::Result;

/// What a policy did to an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleResult {
    /// The image's ARN.
    pub image: String,
    /// DEPRECATE, DISABLE or DELETE.
    pub action: String,
    /// SUCCESS or FAILED.
    pub status: String,
    /// Why it was done, or why it could not be.
    pub reason: String,
}

/// One execution of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleExecution {
    /// `lce-UUID`.
    pub lifecycle_execution_id: String,
    /// IN_PROGRESS, SUCCESS or FAILED.
    pub status: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// What it did.
    pub results: Vec<LifecycleResult>,
}

impl Store {
    /// Begins an execution of a policy.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Environment`] if the store can't be written.
    pub fn begin_lifecycle(&self, id: &str, policy: &str, now: Timestamp) -> Result<()> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO lifecycle_execution (id, policy, status, started) VALUES (?1, ?2, 'IN_PROGRESS', ?3)",
                params![id, policy, now.as_second()],
            )
        })
        .map(drop)
    }

    /// Notes what was done to an image.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Environment`] if the store can't be written.
    pub fn note_lifecycle(
        &self,
        execution: &str,
        image: &str,
        action: ActionType,
        status: &str,
        reason: &str,
    ) -> Result<()> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO lifecycle_result (execution, image, action, status, reason) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![execution, image, action.as_str(), status, reason],
            )
        })
        .map(drop)
    }

    /// Ends an execution.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Environment`] if the store can't be written.
    pub fn finish_lifecycle(&self, execution: &str, status: &str, now: Timestamp) -> Result<()> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE lifecycle_execution SET status = ?2, finished = ?3 WHERE id = ?1",
                params![execution, status, now.as_second()],
            )
        })
        .map(drop)
    }

    /// The executions of a policy, newest first.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Environment`] if the store can't be read.
    pub fn lifecycle_executions(&self, policy: &str) -> Result<Vec<LifecycleExecution>> {
        self.read(|connection| {
            let mut executions: Vec<LifecycleExecution> = connection
                .prepare(
                    "SELECT id, status, started, finished FROM lifecycle_execution WHERE policy = ?1 \
                     ORDER BY started DESC, rowid DESC",
                )?
                .query_map([policy], |row| {
                    Ok(LifecycleExecution {
                        lifecycle_execution_id: row.get(0)?,
                        status: row.get(1)?,
                        started: super::pipelines::time(row, 2)?,
                        finished: super::pipelines::optional_time(row, 3)?,
                        results: Vec::new(),
                    })
                })?
                .collect::<rusqlite::Result<_>>()?;
            let mut results = connection.prepare(
                "SELECT image, action, status, reason FROM lifecycle_result WHERE execution = ?1 ORDER BY rowid",
            )?;
            for execution in &mut executions {
                execution.results = results
                    .query_map([&execution.lifecycle_execution_id], |row| {
                        Ok(LifecycleResult {
                            image: row.get(0)?,
                            action: row.get(1)?,
                            status: row.get(2)?,
                            reason: row.get(3)?,
                        })
                    })?
                    .collect::<rusqlite::Result<_>>()?;
            }
            Ok(executions)
        })
    }
}
