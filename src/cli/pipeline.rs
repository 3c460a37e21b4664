//! `ovenbird pipeline run|list|show|enable|disable|next`

use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::json;

use super::Session;
use super::build::cancel_on_signal;
use crate::documents::pipeline::PipelineStatus;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::infrastructure::notification::Pace;
use crate::pipeline::resolve::{self, Pipeline};
use crate::pipeline::{Inputs, LocalBaker, Report, Runner, log, status};
use crate::store::{Claim, PipelineRun, RunOutcome, StartedBy, Store};

/// Arguments of `pipeline`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a pipeline now, whatever its schedule and status say
    Run {
        /// The pipeline's name or ARN
        pipeline: String,
        /// Stay until the image is finished and show its build; without it the build goes on in the background
        #[arg(long)]
        wait: bool,
        /// Only tell what a run would be made of, and whether that is newer than what the last one was made of
        #[arg(long, conflicts_with = "wait")]
        dry_run: bool,
    },
    /// List pipelines with their status and times
    List,
    /// Show a pipeline and its last runs
    Show {
        /// The pipeline's name or ARN
        pipeline: String,
        /// How many runs
        #[arg(long, default_value_t = 10, value_name = "N")]
        runs: usize,
    },
    /// Let the schedule count again, and forget failures
    Enable {
        /// The pipeline's name or ARN
        pipeline: String,
    },
    /// Let the schedule not count; runs by hand go on working
    Disable {
        /// The pipeline's name or ARN
        pipeline: String,
        /// Why, for those who find it disabled
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Print the coming times of a pipeline's schedule
    Next {
        /// The pipeline's name or ARN
        pipeline: String,
        /// How many
        #[arg(long, default_value_t = 1, value_name = "N")]
        count: usize,
    },
}

/// Runs the verb.
///
/// # Errors
/// [`FailureKind::Config`] if there is no such pipeline; what the bake says.
pub async fn run(args: Args, session: &Session) -> Result<ExitCode> {
    let store = Arc::new(Store::open(&session.home)?);
    status::bury_the_dead(&store)?;
    let now = Timestamp::now();
    match args.verb {
        Verb::List => list(&store, session, now),
        Verb::Show { pipeline, runs } => show(
            &store,
            session,
            &resolve::find(&store, &pipeline)?,
            runs,
            now,
        ),
        Verb::Next { pipeline, count } => next(
            &store,
            session,
            &resolve::find(&store, &pipeline)?,
            count,
            now,
        ),
        Verb::Enable { pipeline } => {
            let pipeline = resolve::find(&store, &pipeline)?;
            set_status(
                &store,
                session,
                &pipeline,
                PipelineStatus::Enabled,
                None,
                now,
            )
        }
        Verb::Disable { pipeline, reason } => {
            let pipeline = resolve::find(&store, &pipeline)?;
            let reason = reason.unwrap_or_else(|| "disabled by hand".into());
            let status = PipelineStatus::Disabled;
            set_status(&store, session, &pipeline, status, Some(&reason), now)
        }
        Verb::Run {
            pipeline,
            dry_run: true,
            ..
        } => rehearse(&store, session, &resolve::find(&store, &pipeline)?),
        Verb::Run {
            pipeline,
            wait: true,
            ..
        } => {
            let pipeline = resolve::find(&store, &pipeline)?;
            run_here(store, session, &pipeline).await
        }
        Verb::Run { pipeline, .. } => {
            let pipeline = resolve::find(&store, &pipeline)?;
            // What can't even be resolved is better told here than in a log.
            resolve::resolve(&store, &session.home, &pipeline)?;
            run_behind(&store, session, &pipeline).await
        }
    }
}

fn list(store: &Store, session: &Session, now: Timestamp) -> Result<ExitCode> {
    let pipelines = resolve::all(store)?
        .iter()
        .map(|pipeline| status::overview(store, pipeline, now))
        .collect::<Result<Vec<_>>>()?;
    session.printer.value(&pipelines);
    if pipelines.is_empty() {
        session.printer.line("no pipelines");
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![
        [
            "PIPELINE", "STATUS", "SCHEDULE", "NEXT RUN", "LAST RUN", "FAILURES",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    rows.extend(pipelines.iter().map(|pipeline| {
        vec![
            pipeline.name.clone(),
            pipeline.status.to_owned(),
            pipeline
                .schedule_expression
                .clone()
                .unwrap_or_else(|| "by hand".into()),
            pipeline.date_next_run.map(time).unwrap_or_default(),
            pipeline
                .date_last_run
                .zip(pipeline.last_run_status)
                .map(|(started, outcome)| format!("{} {outcome}", time(started)))
                .unwrap_or_default(),
            pipeline.consecutive_failures.to_string(),
        ]
    }));
    session.printer.table(&rows);
    Ok(ExitCode::SUCCESS)
}

fn show(
    store: &Store,
    session: &Session,
    pipeline: &Pipeline,
    most: usize,
    now: Timestamp,
) -> Result<ExitCode> {
    let overview = status::overview(store, pipeline, now)?;
    let runs = store.pipeline_runs(&pipeline.slug, most)?;
    let printer = &session.printer;
    printer.value(&json!({ "pipeline": overview, "runs": runs }));
    printer.line(format!("{}  {}", overview.name, overview.status));
    if let Some(reason) = &overview.status_reason {
        printer.line(format!("reason:   {reason}"));
    }
    printer.line(format!("arn:      {}", overview.arn));
    let document = &pipeline.document;
    let recipe = document
        .image_recipe_arn
        .as_ref()
        .or(document.container_recipe_arn.as_ref());
    printer.line(format!("recipe:   {}", recipe.map_or("", String::as_str)));
    printer.line(format!(
        "machine:  {}",
        document.infrastructure_configuration_arn
    ));
    if let Some(distribution) = &document.distribution_configuration_arn {
        printer.line(format!("delivery: {distribution}"));
    }
    if let (Some(expression), Some(zone)) = (&overview.schedule_expression, &overview.timezone) {
        printer.line(format!("schedule: {expression} in {zone}"));
    }
    if let Some(next) = overview.date_next_run {
        printer.line(format!("next run: {}", time(next)));
    }
    if overview.consecutive_failures > 0 {
        printer.line(format!(
            "failures: {} in a row",
            overview.consecutive_failures
        ));
    }
    printer.line(format!(
        "log:      {}",
        log::file(&session.home, &pipeline.slug, now)
    ));
    if !runs.is_empty() {
        printer.line("");
        printer.table(&rows_of(&runs));
    }
    Ok(ExitCode::SUCCESS)
}

fn rows_of(runs: &[PipelineRun]) -> Vec<Vec<String>> {
    let mut rows = vec![
        ["RUN", "STARTED", "BY", "OUTCOME", "IMAGE", "REASON"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(runs.iter().map(|run| {
        vec![
            run.id.to_string(),
            time(run.started),
            run.started_by.to_string(),
            run.outcome.to_string(),
            run.image.clone().unwrap_or_default(),
            // The rest of a long reason stands in the JSON and in the log.
            run.reason
                .as_deref()
                .and_then(|reason| reason.lines().next())
                .unwrap_or_default()
                .to_owned(),
        ]
    }));
    rows
}

fn next(
    store: &Store,
    session: &Session,
    pipeline: &Pipeline,
    count: usize,
    now: Timestamp,
) -> Result<ExitCode> {
    let times = status::next_runs(store, pipeline, now, count)?;
    let printer = &session.printer;
    printer.value(&json!({ "pipeline": pipeline.slug, "next": times }));
    let Some(schedule) = pipeline.schedule()? else {
        printer.line(format!("{} runs only by hand", pipeline.document.name));
        return Ok(ExitCode::SUCCESS);
    };
    if times.is_empty() {
        printer.line(format!("{} has no run any more", schedule.expression()));
    }
    for instant in times {
        let local = instant.to_zoned(schedule.zone().clone());
        printer.line(format!(
            "{}  {}",
            local.strftime("%a %Y-%m-%d %H:%M:%S %:z"),
            schedule.zone_name()
        ));
    }
    let state = store.pipeline_state(&pipeline.slug, &pipeline.digest, pipeline.since)?;
    if status::effective(pipeline, &state) == PipelineStatus::Disabled {
        printer.warn("the pipeline is disabled: none of these times starts a run");
    }
    Ok(ExitCode::SUCCESS)
}

fn set_status(
    store: &Store,
    session: &Session,
    pipeline: &Pipeline,
    wanted: PipelineStatus,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<ExitCode> {
    // The state must be there, and be the one of this document, before it can be changed.
    store.pipeline_state(&pipeline.slug, &pipeline.digest, pipeline.since)?;
    store.set_pipeline_status(&pipeline.slug, wanted, reason, now)?;
    let overview = status::overview(store, pipeline, now)?;
    session.printer.value(&overview);
    session
        .printer
        .line(format!("{} is {}", overview.name, overview.status));
    log::write(&session.home, &pipeline.slug, now, overview.status);
    Ok(ExitCode::SUCCESS)
}

/// What a run would be made of.
fn rehearse(store: &Arc<Store>, session: &Session, pipeline: &Pipeline) -> Result<ExitCode> {
    let resolved = resolve::resolve(store, &session.home, pipeline)?;
    let inputs = Inputs::of(&resolved.plan);
    let changes = store
        .last_success(&pipeline.slug)?
        .and_then(|run| serde_json::from_str::<Inputs>(&run.inputs?).ok())
        .map(|before| inputs.changes_since(&before));
    let printer = &session.printer;
    for warning in &resolved.warnings {
        printer.warn(warning);
    }
    printer.value(&json!({
        "pipeline": pipeline.slug,
        "inputs": inputs,
        "machine": resolved.machine_notes()?,
        "changes": changes,
    }));
    let named = |name: &str, version: &Option<String>| match version {
        Some(version) => format!("{name}/{version}"),
        None => name.to_owned(),
    };
    printer.line(format!(
        "recipe    {}",
        named(&inputs.recipe.name, &inputs.recipe.version)
    ));
    printer.line(format!(
        "parent    {}",
        named(&inputs.parent.name, &inputs.parent.version)
    ));
    for component in &inputs.components {
        printer.line(format!(
            "component {}",
            named(&component.name, &component.version)
        ));
    }
    let machine = &resolved.plan.machine;
    printer.line(format!(
        "machine   {}{} CPUs, {} MiB, {}",
        resolved
            .machine
            .instance_type
            .as_ref()
            .map(|name| format!("{name}: "))
            .unwrap_or_default(),
        machine.cpus,
        machine.memory_mib,
        machine.arch
    ));
    match changes {
        None => printer.line("there was no successful run yet"),
        Some(changes) if changes.is_empty() => {
            printer.line("nothing is newer than in the last successful run");
        }
        Some(changes) => {
            for change in changes {
                printer.line(format!("newer     {change}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs it in this process.
async fn run_here(store: Arc<Store>, session: &Session, pipeline: &Pipeline) -> Result<ExitCode> {
    let home = session.home.clone();
    for image in crate::bake::run_folder::sweep(&home.runs()) {
        session
            .printer
            .warn(format!("cleared what the dead build of {image} had left"));
    }
    store.fail_dead_builds()?;
    let baker = LocalBaker::of(&home)?;
    let run = claim(&store, pipeline)?;
    let runner = Runner {
        baker,
        store,
        home,
        reader: session.printer.reader(),
        pace: Pace::default(),
    };
    let report = runner
        .run(pipeline, run, StartedBy::Manual, &cancel_on_signal())
        .await?;
    finish(session, report)
}

fn claim(store: &Store, pipeline: &Pipeline) -> Result<i64> {
    let while_running = pipeline.document.local.while_running;
    let now = Timestamp::now();
    // Also the first thing that happens to a pipeline may be a run by hand.
    store.pipeline_state(&pipeline.slug, &pipeline.digest, pipeline.since)?;
    match store.claim_run(&pipeline.slug, StartedBy::Manual, None, while_running, now)? {
        Claim::Ours(run) => Ok(run),
        Claim::Taken => Err(Failure::new(
            FailureKind::Internal,
            "a run without a time was taken by another process",
        )),
        Claim::Busy { run, image } => Err(Failure::config(format!(
            "the pipeline {} is running: run {run}{}",
            pipeline.slug,
            image
                .map(|image| format!(" makes {image}"))
                .unwrap_or_default()
        ))
        .with_hint("`whileRunning: start` under `local:` of the pipeline allows several at once")),
    }
}

fn finish(session: &Session, report: Report) -> Result<ExitCode> {
    for warning in &report.warnings {
        session.printer.warn(warning);
    }
    match report.failure {
        None => {
            session
                .printer
                .value(&json!({ "type": "pipelineRun", "run": report }));
            Ok(ExitCode::SUCCESS)
        }
        Some(failure) => Err(Arc::into_inner(failure)
            .unwrap_or_else(|| Failure::new(FailureKind::Internal, "the run failed"))),
    }
}

/// How long the background process has to put its run on record.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// Starts a process of its own for the run, and waits until the run's image has an ARN: that is the answer, as in the service.
async fn run_behind(store: &Store, session: &Session, pipeline: &Pipeline) -> Result<ExitCode> {
    let home = &session.home;
    let output = log::file(home, &pipeline.slug, Timestamp::now()).with_extension("out");
    let mut child = spawn(home.path(), &pipeline.slug, &output)
        .or_failure(FailureKind::Environment, || "cannot start the run".into())?;
    let pid = child.id();
    let began = tokio::time::timeout(BEGINS_WITHIN, async {
        loop {
            let ours = store
                .pipeline_runs(&pipeline.slug, 20)?
                .into_iter()
                .find(|run| run.owner().pid == pid);
            if let Some(run) = ours
                && (run.image.is_some() || run.outcome != RunOutcome::Running)
            {
                return Ok(run);
            }
            if let Ok(Some(status)) = child.try_wait() {
                let said = std::fs::read_to_string(&output).unwrap_or_default();
                let lines: Vec<&str> = said.lines().rev().take(10).collect();
                let last: Vec<&str> = lines.into_iter().rev().collect();
                return Err(
                    Failure::environment(format!("the run did not begin: {status}"))
                        .with_details(last.join("\n")),
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
    .map_err(|_| {
        Failure::environment(format!("the run did not begin within {BEGINS_WITHIN:?}"))
            .with_hint(format!("what it says stands in {output}"))
    })??;
    session.printer.value(&json!({ "run": began }));
    match &began.image {
        Some(image) => session
            .printer
            .line(format!("run {} makes {image}", began.id)),
        None => session.printer.line(format!(
            "run {} {}: {}",
            began.id,
            began.outcome,
            began.reason.unwrap_or_default()
        )),
    }
    session.printer.line(format!("  output: {output}"));
    Ok(ExitCode::SUCCESS)
}

fn spawn(
    home: &Utf8Path,
    pipeline: &str,
    output: &Utf8Path,
) -> std::io::Result<std::process::Child> {
    use std::os::unix::process::CommandExt as _;
    if let Some(folder) = output.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(output)?;
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command
        .args([
            "--home",
            home.as_str(),
            "pipeline",
            "run",
            pipeline,
            "--wait",
        ])
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        // Ctrl-C in this terminal is not meant for it.
        .process_group(0);
    command.spawn()
}

fn time(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
