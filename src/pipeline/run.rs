//! One run of a pipeline: resolve, decide whether there is anything to do, bake, tell.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::baker::{self, Baker};
use super::inputs::Inputs;
use super::log;
use super::resolve::{self, Pipeline, Resolved};
use crate::bake::attend::{TRACE, attend};
use crate::distribute::Order;
use crate::documents::infrastructure::NotifiedState;
use crate::documents::pipeline::StartCondition;
use crate::documents::version::BuildVersion;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::events::Reader;
use crate::infrastructure::notification::{News, Pace, notify};
use crate::infrastructure::payload::Facts;
use crate::store::{Home, ImageRecord, RunOutcome, StartedBy, Store};

/// Runs pipelines.
pub struct Runner<B> {
    /// The record.
    pub store: Arc<Store>,
    /// Where everything is.
    pub home: Home,
    /// Who bakes.
    pub baker: B,
    /// Who is shown what happens.
    pub reader: Arc<dyn Reader>,
    /// Pauses between attempts to tell somebody.
    pub pace: Pace,
}

/// How a run went.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The pipeline's name, as in ARNs.
    pub pipeline: String,
    /// The run's number.
    pub run: i64,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Why, if it did not succeed.
    pub reason: Option<String>,
    /// The ARN of the image.
    pub image: Option<String>,
    /// Whether this was one failure too many, so that the pipeline is disabled now.
    pub disabled: bool,
    /// What else should be known.
    pub warnings: Vec<String>,
    /// The failure, for the exit code.
    #[serde(skip)]
    pub failure: Option<Arc<Failure>>,
}

/// How the work of a run ended, before it is on record.
enum Ended {
    Made,
    NothingToDo(String),
    Failed(Failure),
}

impl<B: Baker> Runner<B> {
    /// Does a run that was claimed, and puts its end on record.
    ///
    /// # Errors
    /// Only if the record can't be kept; a failed build is a report.
    pub async fn run(
        &self,
        pipeline: &Pipeline,
        run: i64,
        started_by: StartedBy,
        cancel: &CancellationToken,
    ) -> Result<Report> {
        let mut warnings = Vec::new();
        let mut image = None;
        let ended = self
            .work(pipeline, run, started_by, cancel, &mut warnings, &mut image)
            .await
            .unwrap_or_else(Ended::Failed);
        let (outcome, reason, failure) = match ended {
            Ended::Made => (RunOutcome::Succeeded, None, None),
            Ended::NothingToDo(reason) => (RunOutcome::Skipped, Some(reason), None),
            Ended::Failed(failure) if failure.kind() == FailureKind::Cancelled => {
                (RunOutcome::Cancelled, Some(failure.chain()), Some(failure))
            }
            Ended::Failed(failure) => (RunOutcome::Failed, Some(failure.chain()), Some(failure)),
        };
        let limit = pipeline.failure_limit();
        let now = Timestamp::now();
        let disabled = self
            .store
            .finish_run(run, outcome, reason.as_deref(), limit, now)?;
        self.log(
            pipeline,
            &match &reason {
                Some(reason) => format!("run {run} {outcome}: {reason}"),
                None => format!("run {run} {outcome}"),
            },
        );
        if disabled {
            let line = "the pipeline is disabled: too many scheduled runs failed in a row";
            self.log(pipeline, line);
            warnings.push(line.to_owned());
        }
        Ok(Report {
            pipeline: pipeline.slug.clone(),
            run,
            outcome,
            reason,
            image,
            disabled,
            warnings,
            failure: failure.map(Arc::new),
        })
    }

    async fn work(
        &self,
        pipeline: &Pipeline,
        run: i64,
        started_by: StartedBy,
        cancel: &CancellationToken,
        warnings: &mut Vec<String>,
        made: &mut Option<String>,
    ) -> Result<Ended> {
        let resolved = resolve::resolve(&self.store, &self.home, pipeline)?;
        warnings.extend(resolved.warnings.iter().cloned());
        for warning in &resolved.warnings {
            self.log(pipeline, warning);
        }
        let inputs = Inputs::of(&resolved.plan);
        if started_by != StartedBy::Manual
            && let Some(reason) = self.nothing_new(pipeline, &inputs)?
        {
            return Ok(Ended::NothingToDo(reason));
        }
        let image = self
            .store
            .begin_image(&resolve::new_image(pipeline, &resolved)?)?;
        *made = Some(image.arn.clone());
        let text = serde_json::to_string(&inputs)
            .or_failure(FailureKind::Internal, || "cannot write inputs".into())?;
        self.store.run_makes(run, &image.arn, &text)?;
        self.log(
            pipeline,
            &format!("run {run} ({started_by}) makes {}", image.id()),
        );
        let baked = self.bake(pipeline, &resolved, &image, cancel).await;
        if let Err(failure) = &baked {
            // What failed before the bake took over is not yet on record; what the bake noted stays as it is.
            let _ = self.store.set_state(
                &image,
                if failure.kind() == FailureKind::Cancelled {
                    crate::store::ImageState::Cancelled
                } else {
                    crate::store::ImageState::Failed
                },
                Some(&failure.chain()),
            );
        }
        if let Some(folder) = &resolved.log_folder
            && let Err(problem) = copy_logs(&image, folder)
        {
            warnings.push(problem.chain());
        }
        let told = self
            .tell(pipeline, &resolved, &image, &baked, started_by)
            .await;
        for problem in &told {
            self.log(pipeline, problem);
        }
        warnings.extend(told);
        Ok(match baked {
            Ok(_) => Ended::Made,
            Err(failure) => Ended::Failed(failure),
        })
    }

    /// Why a scheduled run has nothing to do: what the last successful build was made of is still the newest.
    fn nothing_new(&self, pipeline: &Pipeline, inputs: &Inputs) -> Result<Option<String>> {
        if pipeline.start_condition() == StartCondition::ExpressionMatchOnly {
            return Ok(None);
        }
        let Some(last) = self.store.last_success(&pipeline.slug)? else {
            return Ok(None);
        };
        // A record that can't be read any more is no reason to stand still.
        let Some(before) = last
            .inputs
            .as_deref()
            .and_then(|text| serde_json::from_str::<Inputs>(text).ok())
        else {
            return Ok(None);
        };
        let changes = inputs.changes_since(&before);
        if changes.is_empty() {
            let made = last.image.unwrap_or_default();
            return Ok(Some(format!(
                "nothing is newer than what {made} was made of"
            )));
        }
        for change in changes {
            self.log(pipeline, &format!("newer: {change}"));
        }
        Ok(None)
    }

    async fn bake(
        &self,
        pipeline: &Pipeline,
        resolved: &Resolved,
        image: &ImageRecord,
        cancel: &CancellationToken,
    ) -> Result<String> {
        let attended = attend(&self.store, &self.home, image, self.reader.clone())?;
        let notes = image.logs.join("infrastructure.json");
        std::fs::write(&notes, resolved.machine_notes()?.to_string())
            .or_failure(FailureKind::Environment, || format!("cannot write {notes}"))?;
        let order = baker::Order {
            plan: resolved.plan.clone(),
            identity: attended.identity,
            accelerator: resolved.accelerator,
            on_error: resolved.on_error,
            test_timeout: Duration::from_secs(
                60 * u64::from(pipeline.document.image_tests_configuration.timeout_minutes),
            ),
            with_packages: pipeline.document.enhanced_image_metadata_enabled,
            distribution: resolved
                .distribution
                .as_ref()
                .map(|record| Order::of_document(&record.read()?, &self.home))
                .transpose()?,
            cancel: cancel.clone(),
            events: attended.events,
            ledger: attended.ledger,
        };
        let baked = self.baker.bake(order).await;
        // A trace that can't be written costs nobody an image.
        let _ = attended.timings.write_trace(&image.logs.join(TRACE));
        let os = baked?;
        self.store.set_os(image, &os)?;
        Ok(os)
    }

    /// Tells who wants to know; a build that was stopped is told to nobody, as in the service.
    async fn tell(
        &self,
        pipeline: &Pipeline,
        resolved: &Resolved,
        image: &ImageRecord,
        baked: &Result<String>,
        started_by: StartedBy,
    ) -> Vec<String> {
        let (state, reason) = match baked {
            Ok(_) => (NotifiedState::Available, None),
            Err(failure) if failure.kind() == FailureKind::Cancelled => return Vec::new(),
            Err(failure) => (NotifiedState::Failed, Some(failure.chain())),
        };
        if resolved.notifications.is_empty() && resolved.notices.is_empty() {
            return Vec::new();
        }
        let facts = Facts {
            name: image.name.clone(),
            arn: image.arn.clone(),
            version: BuildVersion {
                version: image
                    .version
                    .parse()
                    .unwrap_or_else(|_| crate::documents::Version::new(0, 0, 0)),
                build: image.build,
            },
            state: state.as_str().to_owned(),
            reason,
            recipe: resolved.plan.recipe.clone(),
            pipeline: Some(pipeline.arn.clone()),
            infrastructure: resolved.infrastructure.value().ok(),
            distribution: resolved
                .distribution
                .as_ref()
                .and_then(|record| record.value().ok()),
            tests: pipeline.document.image_tests_configuration,
            created: image.created.parse().unwrap_or(Timestamp::UNIX_EPOCH),
            os_version: baked.as_ref().ok().cloned(),
            enhanced_metadata: pipeline.document.enhanced_image_metadata_enabled,
            scheduled: started_by != StartedBy::Manual,
            run: image.run.clone(),
            tags: resolved.plan.tags.clone(),
            folder: baked.is_ok().then(|| image.folder.clone()),
        };
        let payload = match facts.to_json() {
            Ok(payload) => payload,
            Err(error) => return vec![format!("nobody was told: {error}")],
        };
        let news = News {
            state,
            arn: &image.arn,
            payload: &payload,
        };
        let told = notify(&resolved.notifications, news, self.pace).await;
        let mut problems: Vec<String> = told.iter().map(ToString::to_string).collect();
        let notices = &resolved.notices;
        problems.extend(notices.send(&image.id(), &image.logs, Some(&payload)).await);
        problems
    }

    fn log(&self, pipeline: &Pipeline, line: &str) {
        log::write(&self.home, &pipeline.slug, Timestamp::now(), line);
    }
}

/// Copies the logs of a build to `NAME/VERSION/BUILD` below a folder, as the service does to a bucket.
fn copy_logs(image: &ImageRecord, folder: &Utf8Path) -> Result<()> {
    let target = folder.join(image.id());
    copy_tree(&image.logs, &target).or_failure(FailureKind::Environment, || {
        format!("cannot copy the logs to {target}")
    })
}

fn copy_tree(from: &Utf8Path, to: &Utf8Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in from.read_dir_utf8()? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(entry.path(), &target)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
