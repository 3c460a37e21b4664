//! `ovenbird scheduler`

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::Session;
use super::build::cancel_on_signal;
use super::printer::Printer;
use crate::bake::run_folder;
use crate::error::Result;
use crate::infrastructure::notification::Pace;
use crate::pipeline::due::Watch;
use crate::pipeline::scheduler::Told;
use crate::pipeline::{LocalBaker, Runner, Scheduler};
use crate::store::{RunOutcome, Store};

/// Arguments of `scheduler`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run what is due, then end: for hosts where another timer calls; a time that passed since the last call is due
    #[arg(long)]
    once: bool,
    /// How many pipelines may run at the same time
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
}

/// Runs the verb: until it is stopped, or with `--once` until what is due has run.
///
/// # Errors
/// If the store fails; failed builds are reported and go on record.
pub async fn run(args: &Args, session: &Session) -> Result<ExitCode> {
    let printer = session.printer;
    let home = session.home.clone();
    for image in run_folder::sweep(&home.runs()) {
        printer.warn(format!("cleared what the dead build of {image} had left"));
    }
    let store = Arc::new(Store::open(&home)?);
    store.fail_dead_builds()?;
    let baker = LocalBaker::of(&home)?;
    let runner = Runner {
        baker,
        store,
        home,
        reader: printer.reader(),
        pace: Pace::default(),
    };
    let scheduler = Scheduler {
        runner: &runner,
        jobs: usize::from(args.jobs),
        watch: if args.once {
            Watch::Called
        } else {
            Watch::Steady
        },
    };
    let mut failed = false;
    let mut tell = |told: Told| {
        failed |= matches!(&told, Told::Finished(report) if report.outcome == RunOutcome::Failed);
        print(printer, &told);
    };
    let cancel = cancel_on_signal();
    if !args.once {
        printer.line("the scheduler runs; Ctrl-C ends it");
    }
    scheduler.run(&cancel, &mut tell).await?;
    // A timer should see that something failed; a service that was stopped has done its duty.
    Ok(if failed && args.once {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn print(printer: Printer, told: &Told) {
    match told {
        Told::Started { pipeline, due } => {
            printer.value(&json!({ "type": "pipelineStarted", "pipeline": pipeline, "due": due }));
            printer.line(format!("{pipeline}: the run of {due} is due"));
        }
        Told::Skipped {
            pipeline,
            due,
            reason,
        } => {
            printer.value(&json!({
                "type": "pipelineSkipped", "pipeline": pipeline, "due": due, "reason": reason,
            }));
            printer.line(format!("{pipeline}: the run of {due} is skipped: {reason}"));
        }
        Told::Finished(report) => {
            printer.value(&json!({ "type": "pipelineFinished", "run": report }));
            for warning in &report.warnings {
                printer.warn(format!("{}: {warning}", report.pipeline));
            }
            let image = report.image.as_deref().unwrap_or_default();
            let reason = report.reason.as_deref().map(|reason| format!(": {reason}"));
            printer.line(format!(
                "{}: run {} {} {image}{}",
                report.pipeline,
                report.run,
                report.outcome,
                reason.unwrap_or_default()
            ));
        }
        Told::Problem { pipeline, problem } => {
            printer.warn(format!("{pipeline}: {problem}"));
        }
    }
}
