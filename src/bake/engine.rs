//! One bake from parent disk to published image: the order of the service, each step on record.

use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_inventory::Inventory;
use tokio_util::sync::CancellationToken;

use super::build_stage::{BuildStage, Stand};
use super::cache::{Cache, LAYER_LIMIT, SeenTests};
use super::components;
use super::copy_progress::CopyProgress;
use super::evidence;
use super::image_scan;
use super::inspect::{Inspection, inspect};
use super::instance::{Instances, OnError, Started};
use super::inventory;
use super::plan::{BakePlan, PlannedComponent};
use super::provisions::Provisions;
use super::recorder::{Ledger, Recorder};
use super::run_folder::RunFolder;
use super::sanitise;
use super::test_stage::TestStage;
use crate::distribute::Order;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::events::{Event, Events, StepKind};
use crate::guest::ladder::Rung;
use crate::guest::seed::BAKE_USER;
use crate::guest::{Guest, agent};
use crate::layers::LONGEST_CHAIN;
use crate::machine::{DiskBus, Host};
use crate::output::OutputFormat;
use crate::output::deliver::Staging;
use crate::output::manifest::{self, AttachmentKind, Manifest};
use crate::output::planner::{self, Made, OciConfig, OutputPlan, Source};
use crate::packages::PackageCache;
use crate::sbom;
use crate::signing::{self, Seal};
use crate::vulnerabilities::{self, Scan};
use crate::words::{count, human_bytes};

/// Who this bake is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The run's id.
    pub run: String,
    /// The build number.
    pub build: u32,
    /// The image's ARN-like id.
    pub arn: String,
    /// The image's final folder.
    pub target: Utf8PathBuf,
    /// Folder of all runs.
    pub runs: Utf8PathBuf,
    /// Folder for the logs of this build.
    pub logs: Utf8PathBuf,
}

/// How to go about it.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What to do on failure.
    pub on_error: OnError,
    /// Ctrl-C.
    pub cancel: CancellationToken,
    /// Where layers are kept; none: nothing is looked up or kept.
    pub cache: Option<Cache>,
    /// Whether guests are resumed from memory, and their memory is saved.
    pub warm: bool,
    /// How long all test boots together may take; as long as they need if nothing is said.
    pub test_timeout: Option<Duration>,
    /// Whether the list of packages is left out of the manifest (`enhancedImageMetadataEnabled: false`).
    pub without_packages: bool,
    /// The package cache for the build guest, if it may have one.
    pub packages: Option<Arc<PackageCache>>,
    /// Whether tests are taken as passed that passed before on the very same disk.
    pub reuse_tests: bool,
    /// Where to begin.
    pub from: Stage,
    /// Where the finished image goes besides its folder.
    pub distribution: Option<Order>,
    /// What signs the finished image.
    pub signer: Option<Seal>,
}

/// The stages at which a bake can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// At the start; layers spare what was done before.
    #[default]
    Build,
    /// At the tests of outputs that an earlier attempt set aside.
    Test,
}

/// A finished image.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Where it is.
    pub folder: Utf8PathBuf,
    /// What it is.
    pub manifest: Manifest,
}

/// Bakes an image.
///
/// # Errors
/// The first failure, after everything that the bake made has been taken away again (unless `options` keep the guest).
pub async fn bake(
    plan: &BakePlan,
    provisions: &Provisions,
    host: &Host,
    identity: &Identity,
    options: &Options,
    events: Events,
    ledger: Box<dyn Ledger>,
) -> Result<Finished> {
    let recorder = Recorder::new(events, ledger);
    let image = format!("{}/{}/{}", plan.name, plan.version, identity.build);
    recorder.send(Event::BuildStarted {
        image: image.clone(),
        run: identity.run.clone(),
        logs: identity.logs.clone(),
    });
    let mut run = RunFolder::create(&identity.runs, &identity.run, &image, BAKE_USER)?;
    run.set_staging(Staging::place(&identity.target, &identity.run))?;
    let mut bake = Bake {
        plan,
        identity,
        options,
        recorder: &recorder,
        provisions,
        instances: Instances::new(
            host,
            &plan.machine,
            &plan.name,
            &recorder,
            run,
            options.on_error,
        ),
    };
    if let Some(cache) = &options.cache {
        // While the guest is at work; what is not done when the bake ends is left for the next one.
        let shelf = cache.shelf().clone();
        tokio::spawn(async move { shelf.flatten(LONGEST_CHAIN).await });
    }
    let trouble = bake.instances.trouble();
    let result = tokio::select! {
        // A failure of the disk is the cause of others that follow from it.
        biased;
        failure = trouble => Err(failure),
        result = bake.stages() => result,
        () = options.cancel.cancelled() => Err(Failure::cancelled()),
    };
    let result = result.map_err(|failure| bake.instances.with_console(failure));
    bake.instances.keep_consoles(&identity.logs);
    let result = match result {
        Ok(finished) => {
            recorder.state("AVAILABLE", None)?;
            Ok(finished)
        }
        Err(failure) => {
            let cancelled = failure.kind() == FailureKind::Cancelled;
            let state = if cancelled { "CANCELLED" } else { "FAILED" };
            // The store may be what failed; the failure itself must reach the person.
            let _ = recorder.state(state, Some(&failure.chain()));
            Err(failure)
        }
    };
    let failure = result.as_ref().err();
    bake.instances.finish(failure, &image).await;
    if let Some(cache) = &options.cache
        && let Err(failure) = cache.shelf().collect(LAYER_LIMIT, false)
    {
        recorder.events().warn(failure.chain());
    }
    recorder.send(Event::BuildFinished {
        state: match failure {
            None => "AVAILABLE",
            Some(failure) if failure.kind() == FailureKind::Cancelled => "CANCELLED",
            Some(_) => "FAILED",
        }
        .into(),
        reason: failure.map(Failure::chain),
        folder: result.as_ref().ok().map(|finished| finished.folder.clone()),
        seconds: recorder.seconds(),
    });
    result
}

struct Bake<'a> {
    plan: &'a BakePlan,
    identity: &'a Identity,
    options: &'a Options,
    recorder: &'a Recorder,
    provisions: &'a Provisions,
    instances: Instances<'a>,
}

/// What the build guest told before it was stopped.
struct Built {
    /// Where it stood in the end; its layers are held until the outputs are written.
    stand: Stand,
    os: manifest::OsRelease,
    packages: Vec<manifest::Package>,
    sanitised: Vec<manifest::SanitiseResult>,
    residue: Vec<manifest::Residue>,
    inventory: Inventory,
    /// None if nobody asked for it, or there was no database.
    scan: Option<Scan>,
    boot: manifest::Boot,
}

impl Bake<'_> {
    async fn stages(&mut self) -> Result<Finished> {
        match self.options.from {
            Stage::Build => self.run().await,
            Stage::Test => self.run_tests().await,
        }
    }

    async fn run(&mut self) -> Result<Finished> {
        image_scan::expect_database(self.plan.vulnerabilities.as_ref(), self.recorder)?;
        self.recorder.state("BUILDING", None)?;
        let provisions = self.provisions;
        let mut built = self.build(provisions).await?;
        let staging = Staging::create(&self.identity.target, &self.identity.run)?;
        let made = self.inspect_and_write(&mut built, staging.folder()).await?;
        let mut manifest = self.manifest(&built, made);
        if !self.options.without_packages {
            sbom::attach(&built.inventory, &mut manifest, staging.folder())?;
        }
        if let Some(scan) = &built.scan {
            vulnerabilities::attach(scan, &mut manifest, staging.folder())?;
        }
        let finished = self.finish(staging, manifest).await?;
        if let Some(cache) = &self.options.cache {
            self.remember(cache, &built.stand, &finished.folder)?;
        }
        Ok(finished)
    }

    /// Goes on with outputs that an earlier attempt made and whose tests failed.
    async fn run_tests(&mut self) -> Result<Finished> {
        let staging = Staging::take_up(&self.identity.target, &self.identity.run)?;
        let read = Manifest::read(staging.folder());
        match read {
            Ok(mut manifest) => {
                manifest.boots.retain(|boot| boot.purpose == BUILD);
                self.finish(staging, manifest).await
            }
            Err(failure) => Err(failure),
        }
    }

    /// Tests the outputs and delivers them. Outputs that don't pass are kept aside, so that a test can be repeated without
    /// another bake.
    async fn finish(&mut self, staging: Staging, mut manifest: Manifest) -> Result<Finished> {
        evidence::clear(staging.folder())?;
        if !self.plan.tests.is_empty() {
            self.recorder.state("TESTING", None)?;
            manifest.write(staging.folder())?;
            match self.tests(staging.folder(), &manifest.disk_digest).await {
                Ok(boots) => manifest.boots.extend(boots),
                Err(failure) => {
                    // Why the tests failed is what has to be told, whatever becomes of the outputs.
                    match staging.set_aside() {
                        Ok(_) => self.recorder.events().note(format!(
                            "the outputs are kept: `ovenbird image retry {}` tests them again",
                            self.label()
                        )),
                        Err(lost) => self
                            .recorder
                            .events()
                            .warn(format!("the outputs are lost: {lost}")),
                    }
                    return Err(failure);
                }
            }
        }
        self.recorder.state("DISTRIBUTING", None)?;
        manifest
            .attachments
            .retain(|file| file.kind != AttachmentKind::Evidence);
        manifest.attachments.extend(evidence::collect(
            staging.folder(),
            &self.identity.logs.join(BUILD),
        )?);
        manifest.attachments.sort();
        manifest.created = now();
        let target = &self.identity.target;
        let folder = self
            .recorder
            .step(StepKind::Distribute, format!("to {target}"), async {
                manifest.write(staging.folder())?;
                let signer = self.options.signer.clone();
                let publish = move || {
                    let key = match signer {
                        Some(signer) => Some(signing::sign(staging.folder(), &signer)?),
                        None => None,
                    };
                    Ok::<_, Failure>((staging.publish()?, key))
                };
                let (folder, key) = tokio::task::spawn_blocking(publish)
                    .await
                    .or_failure(FailureKind::Internal, || "a worker thread failed".into())??;
                let detail = match key {
                    Some(key) => format!("{folder}, signed by {key}"),
                    None => folder.to_string(),
                };
                Ok((folder, detail))
            })
            .await?;
        if let Some(order) = &self.options.distribution {
            // The image is finished and stays where it is, even if a destination fails.
            let work = order.of_bake(&folder, &self.identity.arn, self.recorder.events());
            self.recorder
                .step(StepKind::Distribute, "to its destinations", work)
                .await?;
        }
        Ok(Finished { folder, manifest })
    }

    /// The fresh boots; with the option for it, those of an earlier build that made the very same disk.
    async fn tests(&mut self, folder: &Utf8Path, disk_digest: &str) -> Result<Vec<manifest::Boot>> {
        let seen = self
            .options
            .cache
            .as_ref()
            .filter(|_| self.options.reuse_tests)
            .map(|cache| cache.tests(self.plan, disk_digest));
        if let Some(boots) = seen.as_ref().and_then(SeenTests::read) {
            let note = "the tests are not repeated: this very disk passed them before";
            self.recorder.events().note(note);
            return Ok(boots);
        }
        let mut stage = TestStage {
            plan: self.plan,
            provisions: self.provisions,
            recorder: self.recorder,
            instances: &mut self.instances,
            logs: self.identity.logs.join("test"),
            build: self.identity.build,
            first: None,
        };
        let boots = match self.options.test_timeout {
            None => stage.run(folder).await?,
            Some(limit) => tokio::time::timeout(limit, stage.run(folder))
                .await
                .map_err(|_| tests_took_too_long(limit))??,
        };
        if let Some(seen) = seen {
            seen.write(&boots);
        }
        Ok(boots)
    }

    /// `name/version/build`.
    fn label(&self) -> String {
        format!(
            "{}/{}/{}",
            self.plan.name, self.plan.version, self.identity.build
        )
    }

    /// Remembers for the next build what this one was made from, and how long it took.
    fn remember(&self, cache: &Cache, stand: &Stand, folder: &Utf8Path) -> Result<()> {
        let plan = self.plan;
        let rest = self.recorder.seconds() - stand.at;
        cache.remember(plan, &stand.layers, Some(rest));
        let Some(top) = stand.layers.last().filter(|_| stand.complete) else {
            return Ok(());
        };
        cache.keep_finished(plan, &top.record().id, &self.label(), folder)
    }

    async fn build(&mut self, provisions: &Provisions) -> Result<Built> {
        let (plan, recorder) = (self.plan, self.recorder);
        let mut stage = BuildStage {
            plan,
            provisions,
            recorder,
            instances: &mut self.instances,
            logs: self.identity.logs.join(BUILD),
            cache: self.options.cache.as_ref(),
            warm: self.options.warm,
            validate: true,
            packages: self.options.packages.as_deref(),
        };
        let stand = stage.run().await;
        // Also of a build that failed: a mirror that was not asked may be why.
        let packages = self.options.packages.as_ref();
        if let Some(summary) = packages.and_then(|packages| packages.summary()) {
            recorder.events().note(summary);
        }
        let stand = stand?;
        let guest = self.instances.guest()?;
        let (os, packages) = recorder
            .step(
                StepKind::InventoryCollection,
                "operating system and packages",
                async {
                    let found = inventory::collect(guest).await?;
                    let detail = format!(
                        "{}, {}",
                        found.0.pretty_name,
                        count(found.1.len(), "package")
                    );
                    Ok((found, detail))
                },
            )
            .await?;
        let sanitised = recorder
            .step(
                StepKind::RunSanitizeScript,
                "clean-up, trim, read-only",
                async {
                    let results =
                        sanitise::run(guest, &plan.working_directory, &plan.sanitise).await?;
                    let kept = results.iter().filter(|result| !result.done).count();
                    let detail = format!("{}, {kept} kept", count(results.len(), "rule"));
                    Ok((results, detail))
                },
            )
            .await?;
        recorder
            .step(StepKind::TerminateBuildInstance, "stop", async {
                let exit = self.instances.stop().await?;
                Ok(((), exit))
            })
            .await?;
        Ok(Built {
            boot: boot_seen(BUILD, None, &stand.started),
            stand,
            os,
            packages,
            sanitised,
            residue: Vec::new(),
            inventory: Inventory::default(),
            scan: None,
        })
    }

    /// The guest's disk with all below it.
    fn source(&self, built: &Built) -> Source {
        let parent_folder = self.plan.parent.disk.parent().unwrap_or(Utf8Path::new("/"));
        let mut folders = vec![parent_folder.to_owned()];
        folders.extend(parent_folder.canonicalize_utf8());
        if let Some(cache) = &self.options.cache {
            folders.push(cache.shelf().root().to_owned());
        }
        Source {
            disk: built.stand.disk.clone(),
            folders,
        }
    }

    /// Both at once: the one looks at metadata and some small files, the other keeps the processors busy.
    async fn inspect_and_write(&self, built: &mut Built, folder: &Utf8Path) -> Result<Made> {
        let writing = self.options.cancel.child_token();
        let (found, made) = tokio::join!(
            async {
                let found = self.look_at(built).await;
                if found.is_err() {
                    writing.cancel();
                }
                found
            },
            self.outputs(built, folder, &writing)
        );
        // If the disk must not be copied, that is the reason why its copy was cut off.
        let (found, inventory, scan) = found?;
        built.sanitised = found.sanitised;
        built.residue = found.residue;
        built.inventory = inventory;
        built.scan = scan;
        made
    }

    /// Everything that can keep the disk from being copied.
    async fn look_at(&self, built: &Built) -> Result<(Inspection, Inventory, Option<Scan>)> {
        let mut found = self.inspect(built).await?;
        let inventory = match found.inventory.take() {
            Some(seen) => sbom::completed(seen, &built.os, &built.packages),
            None => {
                let why = found.blind.as_deref().unwrap_or_default();
                sbom::told(&built.os, &built.packages, why)
            }
        };
        let check = self.plan.vulnerabilities.as_ref();
        let scan = image_scan::scan(check, &inventory, self.recorder).await?;
        Ok((found, inventory, scan))
    }

    /// Looks at the disk from outside; what must not be copied with it fails the bake.
    async fn inspect(&self, built: &Built) -> Result<Inspection> {
        let (plan, recorder) = (self.plan, self.recorder);
        let (order, source) = (plan.clone(), self.source(built));
        let sanitised = built.sanitised.clone();
        recorder
            .step(StepKind::InspectDisk, "clean-up and secrets", async {
                let found =
                    tokio::task::spawn_blocking(move || inspect(&order, &source, sanitised))
                        .await
                        .or_failure(FailureKind::Internal, || "a worker thread failed".into())??;
                if let Some(reason) = &found.blind {
                    recorder.events().warn(format!(
                        "the clean-up is not verified, the disk can't be looked into: {reason}"
                    ));
                }
                for unread in &found.unread {
                    recorder.events().warn(format!(
                        "the clean-up is not verified below {}, it can't be looked into: {}",
                        unread.at, unread.why
                    ));
                }
                let verified = found.sanitised.iter().filter(|rule| rule.verified).count();
                let detail = format!(
                    "{} verified, {} allowed to stay",
                    count(verified, "rule"),
                    count(found.residue.len(), "secret")
                );
                Ok((found, detail))
            })
            .await
    }

    async fn outputs(
        &self,
        built: &Built,
        folder: &Utf8Path,
        cancel: &CancellationToken,
    ) -> Result<Made> {
        let (plan, recorder) = (self.plan, self.recorder);
        let outputs = OutputPlan::new(&plan.outputs, &plan.stem(self.identity.build));
        let oci = OciConfig {
            architecture: plan.machine.arch.oci().into(),
            reference: format!("{}-{}", plan.version, self.identity.build),
            created: jiff::Timestamp::now().as_second(),
            labels: [
                (
                    "org.opencontainers.image.title".to_owned(),
                    plan.name.clone(),
                ),
                (
                    "org.opencontainers.image.version".to_owned(),
                    format!("{}-{}", plan.version, self.identity.build),
                ),
                (
                    "org.opencontainers.image.base.name".to_owned(),
                    format!("{}/{}", plan.parent.name, plan.parent.version),
                ),
            ]
            .into(),
            ..OciConfig::default()
        };
        let source = self.source(built);
        let names: Vec<&str> = outputs
            .outputs
            .iter()
            .map(|output| output.format.as_str())
            .collect();
        let detail = names.join(", ");
        recorder
            .step(StepKind::CreateOutputImage, detail.clone(), async {
                let progress =
                    Arc::new(CopyProgress::new(recorder.events().clone(), cancel.clone()));
                let folder = folder.to_owned();
                let made = tokio::task::spawn_blocking(move || {
                    planner::make(&outputs, &source, &folder, &oci, &*progress)
                })
                .await
                .or_failure(FailureKind::Internal, || "a worker thread failed".into())??;
                for file in made
                    .files
                    .iter()
                    .filter(|file| file.format.target().is_some())
                {
                    recorder
                        .events()
                        .note(format!("{}  {}", file.path, human_bytes(file.size)));
                }
                Ok((made, format!("{detail}, each read back and compared")))
            })
            .await
    }

    fn manifest(&self, built: &Built, made: Made) -> Manifest {
        let plan = self.plan;
        Manifest {
            manifest_version: manifest::VERSION,
            name: plan.name.clone(),
            version: plan.version.clone(),
            build: self.identity.build,
            arn: self.identity.arn.clone(),
            run: self.identity.run.clone(),
            created: now(),
            generator: format!("ovenbird {}", env!("CARGO_PKG_VERSION")),
            architecture: plan.machine.arch,
            firmware: plan.parent.firmware.clone(),
            parent: manifest::Parent {
                name: plan.parent.name.clone(),
                version: plan.parent.version.clone(),
                sha256: plan.parent.sha256.clone(),
            },
            components: plan
                .components
                .iter()
                .map(|component| manifest::Component {
                    name: component.name.clone(),
                    version: component.version.clone(),
                    sha256: component.sha256.clone(),
                    parameters: component.parameters.clone(),
                })
                .collect(),
            os: built.os.clone(),
            packages: if self.options.without_packages {
                Vec::new()
            } else {
                built.packages.clone()
            },
            sanitised: built.sanitised.clone(),
            residue: built.residue.clone(),
            virtual_size: made.virtual_size,
            disk_digest: made.disk_digest,
            boots: vec![built.boot.clone()],
            files: made.files,
            attachments: Vec::new(),
            tags: plan.tags.clone(),
        }
    }
}

/// Puts agent and documents into the guest.
pub(super) async fn bootstrap(
    guest: &Guest,
    components: &[PlannedComponent],
    recorder: &Recorder,
) -> Result<((), String)> {
    let done = deploy(guest, recorder).await?;
    components::prepare(guest, components, None).await?;
    Ok(done)
}

/// Puts the agent into the guest.
pub(super) async fn deploy(guest: &Guest, recorder: &Recorder) -> Result<((), String)> {
    let version = agent::deploy(guest.session()).await?;
    recorder.send(Event::Rung {
        rung: Rung::Agent,
        seconds: recorder.seconds(),
    });
    Ok(((), version))
}

/// The purpose of the build guest's boot in the manifest.
const BUILD: &str = "build";

pub(super) fn boot_seen(
    purpose: &str,
    output: Option<OutputFormat>,
    started: &Started,
) -> manifest::Boot {
    manifest::Boot {
        purpose: purpose.into(),
        output,
        firmware: started.firmware,
        disk: bus_name(started.bus).into(),
        accelerator: started.accelerator,
        machine: started.machine.into(),
        qemu: started.qemu.clone(),
        resumed: started.resumed,
        seconds: started.seconds,
        differs: Vec::new(),
    }
}

pub(super) const fn bus_name(bus: DiskBus) -> &'static str {
    match bus {
        DiskBus::Virtio => "virtio",
        DiskBus::Nvme => "nvme",
    }
}

fn tests_took_too_long(limit: Duration) -> Failure {
    Failure::new(
        FailureKind::Test,
        format!(
            "the tests did not end within {} minutes",
            limit.as_secs() / 60
        ),
    )
    .with_hint("`timeoutMinutes` in `imageTestsConfiguration` sets the limit")
}

/// An image that does not boot has failed its test.
pub(super) fn as_test_failure(failure: Failure) -> Failure {
    if failure.kind() != FailureKind::Guest {
        return failure;
    }
    let mut test = Failure::new(
        FailureKind::Test,
        format!("the finished image does not boot: {}", failure.chain()),
    );
    if let Some(details) = failure.details() {
        test = test.with_details(details);
    }
    if let Some(hint) = failure.hint() {
        test = test.with_hint(hint);
    }
    test
}

fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}
