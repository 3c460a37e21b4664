//! What is known of a pipeline: whether its schedule counts, when it runs next, how its runs went.

use jiff::Timestamp;
use serde::Serialize;

use super::resolve::{self, Pipeline};
use crate::documents::pipeline::PipelineStatus;
use crate::error::Result;
use crate::store::{PipelineRun, PipelineState, RunOutcome, Store};

/// A pipeline with its state, in the words of the service's GetImagePipeline.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// Its name as the person wrote it.
    pub name: String,
    /// Its id.
    pub arn: String,
    /// ENABLED or DISABLED.
    pub status: &'static str,
    /// Why it is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// Its schedule's expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule_expression: Option<String>,
    /// The zone of its schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Scheduled runs that failed in a row.
    pub consecutive_failures: u32,
    /// How the last run went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run_status: Option<RunOutcome>,
    /// When the last run began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date_last_run: Option<Timestamp>,
    /// When it runs next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date_next_run: Option<Timestamp>,
}

/// Whether the schedule counts: what was set beside the document, else what the document says.
pub fn effective(pipeline: &Pipeline, state: &PipelineState) -> PipelineStatus {
    state.status.unwrap_or(pipeline.document.status)
}

/// What is known of a pipeline now.
///
/// # Errors
/// If the store fails.
pub fn overview(store: &Store, pipeline: &Pipeline, now: Timestamp) -> Result<Overview> {
    let state = store.pipeline_state(&pipeline.slug, &pipeline.digest, pipeline.since)?;
    let status = effective(pipeline, &state);
    let last = store.pipeline_runs(&pipeline.slug, 1)?.into_iter().next();
    let schedule = pipeline.schedule()?;
    let next = schedule
        .as_ref()
        .filter(|_| status == PipelineStatus::Enabled)
        .and_then(|schedule| schedule.next_after(now, state.anchor));
    Ok(Overview {
        name: pipeline.document.name.clone(),
        arn: pipeline.arn.clone(),
        status: match status {
            PipelineStatus::Enabled => "ENABLED",
            PipelineStatus::Disabled => "DISABLED",
        },
        status_reason: state.reason.filter(|_| status == PipelineStatus::Disabled),
        schedule_expression: schedule.as_ref().map(|found| found.expression().to_owned()),
        timezone: schedule.as_ref().map(|found| found.zone_name().to_owned()),
        consecutive_failures: state.failures,
        last_run_status: last.as_ref().map(|run| run.outcome),
        date_last_run: last.as_ref().map(|run| run.started),
        date_next_run: next,
    })
}

/// The next runs of a pipeline, whether it is enabled or not.
///
/// # Errors
/// If the store fails, or the schedule is wrong.
pub fn next_runs(
    store: &Store,
    pipeline: &Pipeline,
    now: Timestamp,
    count: usize,
) -> Result<Vec<Timestamp>> {
    let Some(schedule) = pipeline.schedule()? else {
        return Ok(Vec::new());
    };
    let state = store.pipeline_state(&pipeline.slug, &pipeline.digest, pipeline.since)?;
    Ok(schedule.upcoming(now, state.anchor).take(count).collect())
}

/// Puts runs whose process is gone on record as failed.
///
/// # Errors
/// If the store fails.
pub fn bury_the_dead(store: &Store) -> Result<()> {
    let dead: Vec<PipelineRun> = store
        .running_runs()?
        .into_iter()
        .filter(|run| !run.owner().is_alive())
        .collect();
    if dead.is_empty() {
        return Ok(());
    }
    store.fail_dead_builds()?;
    for run in dead {
        let limit = resolve::find(store, &run.pipeline)
            .ok()
            .and_then(|pipeline| pipeline.failure_limit());
        let reason = Some("its process ended");
        store.finish_run(run.id, RunOutcome::Failed, reason, limit, Timestamp::now())?;
    }
    Ok(())
}
