//! The record of pipelines: whether they run by themselves, and how their runs went.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use serde::Serialize;

use super::Store;
use crate::bake::run_folder::ProcessId;
use crate::documents::pipeline::{PipelineStatus, WhileRunning};
use crate::error::Result;

/// Who started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StartedBy {
    /// A person.
    Manual,
    /// The schedule, in time.
    Schedule,
    /// The schedule, after nobody was there at the time.
    CatchUp,
}

/// How a run went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RunOutcome {
    /// It goes on.
    Running,
    /// The image is available.
    Succeeded,
    /// It failed.
    Failed,
    /// It was stopped by a person.
    Cancelled,
    /// There was nothing to do, or something stood against it.
    Skipped,
}

/// Words of a record: the same in the database and in JSON.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// The word in records.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> std::result::Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    other => Err(format!("unknown word `{other}` in the record of a pipeline")),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(StartedBy { Manual = "MANUAL", Schedule = "SCHEDULE", CatchUp = "CATCH_UP" });
words!(RunOutcome {
    Running = "RUNNING",
    Succeeded = "SUCCEEDED",
    Failed = "FAILED",
    Cancelled = "CANCELLED",
    Skipped = "SKIPPED",
});

/// What is known of a pipeline beside its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineState {
    /// Whether the schedule counts, where that was set beside the document.
    pub status: Option<PipelineStatus>,
    /// Why it is disabled.
    pub reason: Option<String>,
    /// Scheduled runs that failed in a row.
    pub failures: u32,
    /// From when on rates count.
    pub anchor: Timestamp,
    /// Until when the schedule has been looked at.
    pub checked: Timestamp,
}

/// A run of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineRun {
    /// Its number.
    pub id: i64,
    /// The pipeline's name, as in ARNs.
    pub pipeline: String,
    /// Who started it.
    pub started_by: StartedBy,
    /// The time of the schedule.
    pub due: Option<Timestamp>,
    /// How it went.
    pub outcome: RunOutcome,
    /// Why, if it did not succeed.
    pub reason: Option<String>,
    /// The ARN of what it makes.
    pub image: Option<String>,
    /// Versions and digests of what went in, as JSON.
    #[serde(skip)]
    pub inputs: Option<String>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    #[serde(skip)]
    owner: ProcessId,
}

impl PipelineRun {
    /// The process that works on it.
    pub fn owner(&self) -> ProcessId {
        self.owner
    }
}

/// Whether a run may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is ours, by this number.
    Ours(i64),
    /// Another process has this time.
    Taken,
    /// The last run still goes on.
    Busy {
        /// The run that does.
        run: i64,
        /// What it makes.
        image: Option<String>,
    },
}

const RUN: &str = "id, pipeline, started_by, due, outcome, reason, image, inputs, started, finished, owner_pid, owner_start";

impl Store {
    /// The state of a pipeline, for the document with this digest, which has been so since `since`. Another document than
    /// the last one starts anew: enabled as it says, without failures, its periods counted from `since`.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Environment`] if the store fails.
    pub fn pipeline_state(
        &self,
        pipeline: &str,
        digest: &str,
        since: Timestamp,
    ) -> Result<PipelineState> {
        let known = self.read(|connection| state_of(connection, pipeline, digest))?;
        if let Some(state) = known {
            return Ok(state);
        }
        self.write(|transaction| {
            // Another process may have been quicker.
            if state_of(transaction, pipeline, digest)?.is_none() {
                transaction.execute(
                    "INSERT INTO pipeline_state (pipeline, digest, failures, anchor, checked) VALUES (?1, ?2, 0, ?3, ?3) \
                     ON CONFLICT (pipeline) DO UPDATE SET digest = ?2, status = NULL, reason = NULL, failures = 0, \
                     anchor = ?3, checked = ?3",
                    params![pipeline, digest, since.as_second()],
                )?;
            }
            state_of(transaction, pipeline, digest)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
        })
    }

    /// Notes until when a pipeline's schedule has been looked at; never goes back.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Environment`] if the store fails.
    pub fn pipeline_checked(&self, pipeline: &str, until: Timestamp) -> Result<()> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE pipeline_state SET checked = max(checked, ?2) WHERE pipeline = ?1",
                params![pipeline, until.as_second()],
            )
        })
        .map(drop)
    }

    /// Enables or disables a pipeline beside its document. Enabling forgets the failures, and times that passed meanwhile.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Environment`] if the store fails.
    pub fn set_pipeline_status(
        &self,
        pipeline: &str,
        status: PipelineStatus,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<()> {
        self.write(|transaction| {
            match status {
                PipelineStatus::Enabled => transaction.execute(
                    "UPDATE pipeline_state SET status = 'ENABLED', reason = NULL, failures = 0, checked = max(checked, ?2) \
                     WHERE pipeline = ?1",
                    params![pipeline, now.as_second()],
                ),
                PipelineStatus::Disabled => disable(transaction, pipeline, reason),
            }
        })
        .map(drop)
    }

    /// Begins a run, if it may. Of several processes that claim the same time of a schedule one gets it. With
    /// [`WhileRunning::Skip`] there is none while the last one goes on; a scheduled one is then put on record as skipped.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Environment`] if the store fails.
    pub fn claim_run(
        &self,
        pipeline: &str,
        started_by: StartedBy,
        due: Option<Timestamp>,
        while_running: WhileRunning,
        now: Timestamp,
    ) -> Result<Claim> {
        let owner = ProcessId::current();
        self.write(|transaction| {
            let running = transaction
                .query_row(
                    "SELECT id, image FROM pipeline_run WHERE pipeline = ?1 AND outcome = 'RUNNING' ORDER BY id DESC LIMIT 1",
                    [pipeline],
                    |row| Ok(Claim::Busy { run: row.get(0)?, image: row.get(1)? }),
                )
                .optional()?
                .filter(|_| while_running == WhileRunning::Skip);
            if running.is_some() && due.is_none() {
                return Ok(running.unwrap_or(Claim::Taken));
            }
            let (outcome, finished, reason) = match &running {
                None => (RunOutcome::Running, None, None),
                Some(_) => (RunOutcome::Skipped, Some(now.as_second()), Some("the last run still goes on")),
            };
            let inserted = transaction.execute(
                "INSERT OR IGNORE INTO pipeline_run (pipeline, started_by, due, outcome, reason, owner_pid, owner_start, \
                 started, finished) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    pipeline,
                    started_by.as_str(),
                    due.map(Timestamp::as_second),
                    outcome.as_str(),
                    reason,
                    owner.pid,
                    i64::try_from(owner.start).unwrap_or(0),
                    now.as_second(),
                    finished,
                ],
            )?;
            Ok(match (inserted, running) {
                (0, _) => Claim::Taken,
                (_, Some(busy)) => busy,
                (_, None) => Claim::Ours(transaction.last_insert_rowid()),
            })
        })
    }

    /// Puts a time on record that passed without a run.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Environment`] if the store fails.
    pub fn skip_run(
        &self,
        pipeline: &str,
        due: Timestamp,
        reason: &str,
        now: Timestamp,
    ) -> Result<()> {
        let owner = ProcessId::current();
        self.write(|transaction| {
            transaction.execute(
                "INSERT OR IGNORE INTO pipeline_run (pipeline, started_by, due, outcome, reason, owner_pid, owner_start, \
                 started, finished) VALUES (?1, 'SCHEDULE', ?2, 'SKIPPED', ?3, ?4, ?5, ?6, ?6)",
                params![
                    pipeline,
                    due.as_second(),
                    reason,
                    owner.pid,
                    i64::try_from(owner.start).unwrap_or(0),
                    now.as_second(),
                ],
            )
        })
        .map(drop)
    }

    /// Notes what a run makes, and of what.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Environment`] if the store fails.
    pub fn run_makes(&self, run: i64, image: &str, inputs: &str) -> Result<()> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE pipeline_run SET image = ?2, inputs = ?3 WHERE id = ?1",
                params![run, image, inputs],
            )
        })
        .map(drop)
    }

    /// Ends a run. A failed one that a schedule started counts; with the `limit`-th in a row the pipeline is disabled, and
    /// the answer is true. A success forgets the failures; what else a person started, or stopped, changes nothing.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Environment`] if the store fails.
    pub fn finish_run(
        &self,
        run: i64,
        outcome: RunOutcome,
        reason: Option<&str>,
        limit: Option<u32>,
        now: Timestamp,
    ) -> Result<bool> {
        self.write(|transaction| {
            let changed = transaction.execute(
                "UPDATE pipeline_run SET outcome = ?2, reason = ?3, finished = ?4 WHERE id = ?1 AND outcome = 'RUNNING'",
                params![run, outcome.as_str(), reason, now.as_second()],
            )?;
            if changed == 0 {
                return Ok(false);
            }
            let (pipeline, by_hand): (String, bool) = transaction.query_row(
                "SELECT pipeline, started_by = 'MANUAL' FROM pipeline_run WHERE id = ?1",
                [run],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            match outcome {
                RunOutcome::Succeeded => {
                    transaction.execute(
                        "UPDATE pipeline_state SET failures = 0 WHERE pipeline = ?1",
                        [&pipeline],
                    )?;
                    Ok(false)
                }
                RunOutcome::Failed if !by_hand => {
                    let failures: Option<u32> = transaction
                        .query_row(
                            "UPDATE pipeline_state SET failures = failures + 1 WHERE pipeline = ?1 RETURNING failures",
                            [&pipeline],
                            |row| row.get(0),
                        )
                        .optional()?;
                    let Some(failures) = failures.filter(|failures| limit.is_some_and(|limit| *failures >= limit)) else {
                        return Ok(false);
                    };
                    let reason = format!("{failures} scheduled runs failed in a row");
                    disable(transaction, &pipeline, Some(&reason))?;
                    Ok(true)
                }
                _ => Ok(false),
            }
        })
    }

    /// Runs of a pipeline, newest first.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Environment`] if the store can't be read.
    pub fn pipeline_runs(&self, pipeline: &str, most: usize) -> Result<Vec<PipelineRun>> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.read(|connection| {
            connection
                .prepare(&format!(
                    "SELECT {RUN} FROM pipeline_run WHERE pipeline = ?1 ORDER BY id DESC LIMIT ?2"
                ))?
                .query_map(params![pipeline, most], run_of)?
                .collect()
        })
    }

    /// The last run of a pipeline that made an image.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Environment`] if the store can't be read.
    pub fn last_success(&self, pipeline: &str) -> Result<Option<PipelineRun>> {
        self.read(|connection| {
            connection
                .query_row(
                    &format!(
                        "SELECT {RUN} FROM pipeline_run WHERE pipeline = ?1 AND outcome = 'SUCCEEDED' ORDER BY id DESC LIMIT 1"
                    ),
                    [pipeline],
                    run_of,
                )
                .optional()
        })
    }

    /// Runs that go on as far as the record knows.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Environment`] if the store can't be read.
    pub fn running_runs(&self) -> Result<Vec<PipelineRun>> {
        self.read(|connection| {
            connection
                .prepare(&format!(
                    "SELECT {RUN} FROM pipeline_run WHERE outcome = 'RUNNING' ORDER BY id"
                ))?
                .query_map([], run_of)?
                .collect()
        })
    }
}

fn disable(
    transaction: &Transaction<'_>,
    pipeline: &str,
    reason: Option<&str>,
) -> rusqlite::Result<usize> {
    transaction.execute(
        "UPDATE pipeline_state SET status = 'DISABLED', reason = ?2 WHERE pipeline = ?1",
        params![pipeline, reason],
    )
}

fn state_of(
    connection: &Connection,
    pipeline: &str,
    digest: &str,
) -> rusqlite::Result<Option<PipelineState>> {
    connection
        .query_row(
            "SELECT status, reason, failures, anchor, checked FROM pipeline_state WHERE pipeline = ?1 AND digest = ?2",
            [pipeline, digest],
            |row| {
                let status: Option<String> = row.get(0)?;
                Ok(PipelineState {
                    status: status.map(|status| match status.as_str() {
                        "DISABLED" => PipelineStatus::Disabled,
                        _ => PipelineStatus::Enabled,
                    }),
                    reason: row.get(1)?,
                    failures: row.get(2)?,
                    anchor: time(row, 3)?,
                    checked: time(row, 4)?,
                })
            },
        )
        .optional()
}

fn run_of(row: &Row<'_>) -> rusqlite::Result<PipelineRun> {
    let start: i64 = row.get(11)?;
    Ok(PipelineRun {
        id: row.get(0)?,
        pipeline: row.get(1)?,
        started_by: word(row, 2)?,
        due: optional_time(row, 3)?,
        outcome: word(row, 4)?,
        reason: row.get(5)?,
        image: row.get(6)?,
        inputs: row.get(7)?,
        started: time(row, 8)?,
        finished: optional_time(row, 9)?,
        owner: ProcessId {
            pid: row.get(10)?,
            start: u64::try_from(start).unwrap_or(0),
        },
    })
}

fn word<T: FromStr<Err = String>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    row.get::<_, String>(column)?
        .parse()
        .map_err(|error: String| {
            rusqlite::Error::FromSqlConversionFailure(
                column,
                rusqlite::types::Type::Text,
                error.into(),
            )
        })
}

pub(super) fn optional_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    row.get::<_, Option<i64>>(column)?
        .map(|seconds| {
            Timestamp::from_second(seconds).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(
                    column,
                    rusqlite::types::Type::Integer,
                    error.into(),
                )
            })
        })
        .transpose()
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    optional_time(row, column)?.ok_or(rusqlite::Error::InvalidColumnType(
        column,
        "time".into(),
        rusqlite::types::Type::Null,
    ))
}

#[cfg(test)]
#[path = "pipelines_tests.rs"]
mod tests;
