//! A guest as it is after some of a recipe's components, to look at and to work with; no image comes of it.

use camino::Utf8PathBuf;
use tokio_util::sync::CancellationToken;

use super::build_stage::BuildStage;
use super::cache::Cache;
use super::instance::{Instances, OnError};
use super::plan::BakePlan;
use super::provisions::Provisions;
use super::recorder::{NoLedger, Recorder};
use super::run_folder::RunFolder;
use crate::error::{Failure, Result};
use crate::events::{Event, Events};
use crate::guest::seed::BAKE_USER;
use crate::machine::Host;
use crate::packages::PackageCache;

/// What the guest is made from, and where it lives.
#[derive(Debug)]
pub struct Workbench<'a> {
    /// The plan; its outputs and tests don't matter.
    pub plan: &'a BakePlan,
    /// What components get from the host.
    pub provisions: &'a Provisions,
    /// QEMU.
    pub host: &'a Host,
    /// Where layers are kept.
    pub cache: &'a Cache,
    /// Folder of all runs.
    pub runs: Utf8PathBuf,
    /// Where logs go.
    pub logs: Utf8PathBuf,
    /// Whether the validate phases are run as well.
    pub validate: bool,
    /// The package cache, if the guest may have one.
    pub packages: Option<PackageCache>,
    /// Ctrl-C.
    pub cancel: CancellationToken,
}

impl Workbench<'_> {
    /// Brings the guest up, runs the components that have no layer yet, hands it to `work`, and takes it away.
    ///
    /// # Errors
    /// What the components or the guest do wrong, and what `work` returns.
    pub async fn run(
        &self,
        events: Events,
        work: impl AsyncFnOnce(&Instances<'_>) -> Result<()>,
    ) -> Result<()> {
        let recorder = Recorder::new(events, Box::new(NoLedger));
        let run = format!("work-{}", uuid::Uuid::new_v4().simple());
        let label = format!("{} {}", self.plan.name, self.plan.version);
        let folder = RunFolder::create(&self.runs, &run, &label, BAKE_USER)?;
        recorder.send(Event::BuildStarted {
            image: label.clone(),
            run,
            logs: self.logs.clone(),
        });
        let machine = &self.plan.machine;
        let mut instances = Instances::new(
            self.host,
            machine,
            &label,
            &recorder,
            folder,
            OnError::Cleanup,
        );
        let trouble = instances.trouble();
        let working = async {
            let mut stage = BuildStage {
                plan: self.plan,
                provisions: self.provisions,
                recorder: &recorder,
                instances: &mut instances,
                logs: self.logs.clone(),
                cache: Some(self.cache),
                warm: true,
                validate: self.validate,
                packages: self.packages.as_ref(),
            };
            // The layers below the guest's disk are held until the work is done.
            let _stand = stage.run().await?;
            work(&instances).await
        };
        let result = tokio::select! {
            biased;
            failure = trouble => Err(failure),
            result = working => result,
            () = self.cancel.cancelled() => Err(Failure::cancelled()),
        };
        let result = result.map_err(|failure| instances.with_console(failure));
        instances.finish(None, &label).await;
        result
    }
}
