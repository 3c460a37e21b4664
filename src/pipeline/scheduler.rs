//! Runs pipelines when their time comes.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::baker::Baker;
use super::due::{Due, Watch, look};
use super::log;
use super::resolve::{self, Pipeline};
use super::run::{Report, Runner};
use super::status;
use crate::documents::pipeline::PipelineStatus;
use crate::error::Result;
use crate::store::{Claim, RunOutcome, StartedBy};

/// How often changes of the store are looked for: short against the minute that schedules are made of, and cheap.
const LOOK: Duration = Duration::from_secs(5);

/// What a scheduler tells while it works.
#[derive(Debug, Clone)]
pub enum Told {
    /// A run begins.
    Started {
        /// The pipeline.
        pipeline: String,
        /// The time of the schedule.
        due: Timestamp,
    },
    /// A time passes without a run.
    Skipped {
        /// The pipeline.
        pipeline: String,
        /// The time of the schedule.
        due: Timestamp,
        /// Why.
        reason: String,
    },
    /// A run ended.
    Finished(Report),
    /// Something is wrong with a pipeline; the others go on.
    Problem {
        /// The pipeline.
        pipeline: String,
        /// What.
        problem: String,
    },
}

/// The scheduler.
pub struct Scheduler<'r, B> {
    /// Who runs pipelines.
    pub runner: &'r Runner<B>,
    /// How many run at the same time; the others wait.
    pub jobs: usize,
    /// How the schedules are looked at.
    pub watch: Watch,
}

/// A claimed run that waits for its turn.
struct Waiting {
    pipeline: Pipeline,
    run: i64,
    started_by: StartedBy,
}

impl<B: Baker> Scheduler<'_, B> {
    /// Runs what is due until `cancel`; with [`Watch::Called`] until everything that is due now has ended. Running builds are
    /// stopped in order by `cancel`, waiting ones do not begin.
    ///
    /// # Errors
    /// Only if the store fails.
    pub async fn run(&self, cancel: &CancellationToken, tell: &mut dyn FnMut(Told)) -> Result<()> {
        let mut waiting: VecDeque<Waiting> = VecDeque::new();
        let mut running = FuturesUnordered::new();
        let mut looked = false;
        loop {
            if !(cancel.is_cancelled() || looked && self.watch == Watch::Called) {
                self.bury_the_dead()?;
                self.claim_due(Timestamp::now(), &mut waiting, tell)?;
                looked = true;
            }
            while !cancel.is_cancelled() && running.len() < self.jobs.max(1) {
                let Some(next) = waiting.pop_front() else {
                    break;
                };
                running.push(async move {
                    self.runner
                        .run(&next.pipeline, next.run, next.started_by, cancel)
                        .await
                });
            }
            let idle = running.is_empty() && waiting.is_empty();
            if cancel.is_cancelled() {
                for Waiting { run, .. } in waiting.drain(..) {
                    let now = Timestamp::now();
                    let reason = Some("the scheduler was stopped");
                    self.runner
                        .store
                        .finish_run(run, RunOutcome::Cancelled, reason, None, now)?;
                }
            }
            if running.is_empty()
                && (cancel.is_cancelled() || (idle && self.watch == Watch::Called))
            {
                return Ok(());
            }
            tokio::select! {
                Some(report) = running.next() => tell(Told::Finished(report?)),
                () = tokio::time::sleep(LOOK), if self.watch == Watch::Steady && !cancel.is_cancelled() => {}
                () = cancel.cancelled(), if !cancel.is_cancelled() => {}
            }
        }
    }

    /// Looks at every pipeline and claims what is due.
    fn claim_due(
        &self,
        now: Timestamp,
        waiting: &mut VecDeque<Waiting>,
        tell: &mut dyn FnMut(Told),
    ) -> Result<()> {
        for pipeline in resolve::all(&self.runner.store)? {
            let slug = pipeline.slug.clone();
            let looked = self.claim_one(pipeline, now, waiting, tell);
            // One pipeline with a broken schedule doesn't keep the others from running; a broken store does.
            if let Err(failure) = looked {
                if failure.kind() == crate::error::FailureKind::Environment {
                    return Err(failure);
                }
                tell(Told::Problem {
                    pipeline: slug,
                    problem: failure.chain(),
                });
            }
        }
        Ok(())
    }

    fn claim_one(
        &self,
        pipeline: Pipeline,
        now: Timestamp,
        waiting: &mut VecDeque<Waiting>,
        tell: &mut dyn FnMut(Told),
    ) -> Result<()> {
        let store = &self.runner.store;
        let Some(schedule) = pipeline.schedule()? else {
            return Ok(());
        };
        let state = store.pipeline_state(&pipeline.slug, &pipeline.digest, pipeline.since)?;
        if status::effective(&pipeline, &state) == PipelineStatus::Disabled {
            return store.pipeline_checked(&pipeline.slug, now);
        }
        let local = &pipeline.document.local;
        match look(&schedule, &state, local.catch_up, self.watch, now) {
            Due::Later(_) => {}
            Due::Missed(due) => {
                let reason = "nobody was there at the time; `catchUp` would make up for it";
                store.skip_run(&pipeline.slug, due, reason, now)?;
                store.pipeline_checked(&pipeline.slug, now)?;
                self.skipped(&pipeline, due, reason, tell);
            }
            Due::Now { due, started_by } => {
                let claim = store.claim_run(
                    &pipeline.slug,
                    started_by,
                    Some(due),
                    local.while_running,
                    now,
                )?;
                // Only after the claim: a crash in between leaves the time to the next scheduler.
                store.pipeline_checked(&pipeline.slug, now)?;
                match claim {
                    Claim::Taken => {}
                    Claim::Busy { .. } => {
                        self.skipped(&pipeline, due, "the last run still goes on", tell);
                    }
                    Claim::Ours(run) => {
                        tell(Told::Started {
                            pipeline: pipeline.slug.clone(),
                            due,
                        });
                        waiting.push_back(Waiting {
                            pipeline,
                            run,
                            started_by,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn skipped(
        &self,
        pipeline: &Pipeline,
        due: Timestamp,
        reason: &str,
        tell: &mut dyn FnMut(Told),
    ) {
        let home = &self.runner.home;
        let line = format!("the run of {due} is skipped: {reason}");
        log::write(home, &pipeline.slug, Timestamp::now(), &line);
        tell(Told::Skipped {
            pipeline: pipeline.slug.clone(),
            due,
            reason: reason.to_owned(),
        });
    }

    /// Runs whose process is gone have failed.
    fn bury_the_dead(&self) -> Result<()> {
        status::bury_the_dead(&self.runner.store)
    }
}
