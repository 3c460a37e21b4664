//! Component documents in a throw-away guest: nothing of it stays but the logs.

use camino::Utf8PathBuf;

use super::components::{self, Order};
use super::engine::{self, Options};
use super::instance::{BUILD_HOST, Instances, Launch, OnError};
use super::plan::{MachinePlan, Parent, PlannedComponent};
use super::provisions::Provisions;
use super::recorder::{NoLedger, Recorder};
use super::run_folder::RunFolder;
use crate::error::{Failure, FailureKind, Result};
use crate::events::{Event, Events, StepKind};
use crate::guest::seed::{BAKE_USER, Purpose};
use crate::machine::{Boot, DiskBus, Host};
use crate::output::qemu_img;
use crate::words::count;

/// What to try, and on what.
#[derive(Debug)]
pub struct Trial {
    /// The disk to start from; it is not changed.
    pub parent: Parent,
    /// The machine.
    pub machine: MachinePlan,
    /// The documents, in order; each runs all its chosen phases before the next, as the service's own runner does.
    pub components: Vec<PlannedComponent>,
    /// Phases to run; all if empty.
    pub phases: Vec<String>,
    /// Where components work in the guest.
    pub working_directory: String,
    /// Where the logs go.
    pub logs: Utf8PathBuf,
    /// Folder of all runs.
    pub runs: Utf8PathBuf,
}

/// Runs the documents.
///
/// # Errors
/// [`FailureKind::Component`] or [`FailureKind::Test`] if one fails, and whatever can go wrong with a guest.
pub async fn run(trial: &Trial, host: &Host, options: &Options, events: Events) -> Result<()> {
    let recorder = Recorder::new(events, Box::new(NoLedger));
    let run = format!("component-{}", uuid::Uuid::new_v4().simple());
    let label = format!(
        "documents on {}/{}",
        trial.parent.name, trial.parent.version
    );
    let folder = RunFolder::create(&trial.runs, &run, &label, BAKE_USER)?;
    recorder.send(Event::BuildStarted {
        image: label.clone(),
        run,
        logs: trial.logs.clone(),
    });
    let mut instances = Instances::new(
        host,
        &trial.machine,
        &label,
        &recorder,
        folder,
        // A trial leaves no image by which a kept guest could be found again.
        match options.on_error {
            OnError::Keep => OnError::Cleanup,
            other => other,
        },
    );
    let trouble = instances.trouble();
    let result = tokio::select! {
        biased;
        failure = trouble => Err(failure),
        result = execute(trial, &mut instances, &recorder) => result,
        () = options.cancel.cancelled() => Err(Failure::cancelled()),
    };
    let result = result.map_err(|failure| instances.with_console(failure));
    instances.keep_consoles(&trial.logs);
    let failure = result.as_ref().err();
    instances.finish(failure, &label).await;
    recorder.send(Event::BuildFinished {
        state: match failure {
            None => "SUCCESS",
            Some(failure) if failure.kind() == FailureKind::Cancelled => "CANCELLED",
            Some(_) => "FAILED",
        }
        .into(),
        reason: failure.map(Failure::chain),
        folder: Some(trial.logs.clone()),
        seconds: recorder.seconds(),
    });
    result
}

async fn execute(trial: &Trial, instances: &mut Instances<'_>, recorder: &Recorder) -> Result<()> {
    let provisions = Provisions::gather(&trial.components, &[]).await?;
    let disk = instances.folder().join("root.qcow2");
    recorder
        .step(
            StepKind::LaunchBuildInstance,
            format!("{}/{}", trial.parent.name, trial.parent.version),
            async {
                qemu_img::create_overlay(&disk, &trial.parent.disk, &trial.parent.format, None)
                    .await?;
                let launch = Launch {
                    disk: &disk,
                    purpose: Purpose::Build,
                    hostname: BUILD_HOST,
                    firmware: trial.machine.firmware,
                    bus: DiskBus::Virtio,
                    boot: trial.parent.kernel.clone().unwrap_or(Boot::Disk),
                };
                let started = instances.start(launch).await?;
                Ok(((), format!("up after {:.1} s", started.seconds)))
            },
        )
        .await?;
    let guest = instances.guest()?;
    recorder
        .step(
            StepKind::BootstrapBuildInstance,
            "agent and documents",
            engine::bootstrap(guest, &trial.components, recorder),
        )
        .await?;
    let applied = recorder
        .step(
            StepKind::ApplyBuildComponents,
            count(trial.components.len(), "document"),
            async {
                let order = Order {
                    components: &trial.components,
                    only: None,
                    phases: &trial.phases,
                    working_directory: &trial.working_directory,
                    provisions: &provisions,
                };
                components::run(guest, order, (StepKind::ApplyBuildComponents, recorder)).await?;
                Ok(((), count(trial.components.len(), "document")))
            },
        )
        .await;
    let fetched = components::fetch_logs(guest, &trial.logs).await;
    applied?;
    fetched?;
    recorder
        .step(StepKind::TerminateBuildInstance, "stop", async {
            Ok(((), instances.stop().await?))
        })
        .await
}
