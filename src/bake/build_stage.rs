//! The build guest's way through the layers: it starts on the deepest one that is there, runs the components that follow,
//! and leaves a layer after each.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};

use super::cache::{self, Cache, Walk, Wanted};
use super::components::{self, Order};
use super::engine::deploy;
use super::files;
use super::instance::{BUILD_HOST, Instances, Launch, Resume, Started};
use super::plan::BakePlan;
use super::provisions::Provisions;
use super::recorder::Recorder;
use crate::error::{FailureContext as _, FailureKind, Result};
use crate::events::{Event, LayerOutcome, StepKind};
use crate::guest::agent;
use crate::guest::seed::Purpose;
use crate::layers::{Draft, Inputs, Layer, LayerId, Memory, Record, backing_name, host_start};
use crate::machine::{Boot, DiskBus};
use crate::output::qemu_img;
use crate::packages::PackageCache;
use crate::words::count;

/// The disk is a scratch disk until the clean-up syncs it: dpkg need not wait for each file. Sanitising takes it away.
pub(super) const QUICK_SETTINGS: &str = "if [ -d /etc/dpkg/dpkg.cfg.d ]; then \
    echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/zz-ovenbird-bake; fi";

/// How often a layer that another build makes is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// The build guest on its way.
pub(super) struct BuildStage<'a, 'b> {
    pub plan: &'b BakePlan,
    pub provisions: &'b Provisions,
    pub recorder: &'b Recorder,
    pub instances: &'b mut Instances<'a>,
    /// Where logs go.
    pub logs: Utf8PathBuf,
    /// None: nothing is looked up or kept.
    pub cache: Option<&'b Cache>,
    /// Whether memories are used and saved.
    pub warm: bool,
    /// Whether the validate phases are run.
    pub validate: bool,
    /// Where the guest's package manager downloads from, if not from the mirrors themselves.
    pub packages: Option<&'b PackageCache>,
}

/// Where the guest stands when all components are through.
pub(super) struct Stand {
    /// The disk that it writes to, with everything below it.
    pub disk: Utf8PathBuf,
    /// How it came up.
    pub started: Started,
    /// The layers below the disk, held so that nobody removes them.
    pub layers: Vec<Layer>,
    /// Whether every component's layer is among them.
    pub complete: bool,
    /// Seconds since the bake began.
    pub at: f64,
}

/// A layer that is going to be made.
struct Making {
    wanted: Wanted,
    inputs: Inputs,
    beneath: Option<LayerId>,
    /// None if it is not kept.
    draft: Option<Draft>,
}

impl BuildStage<'_, '_> {
    /// Brings the guest to where all components are built and validated. It runs on afterwards.
    pub async fn run(&mut self) -> Result<Stand> {
        if let Some(cache) = self.cache {
            cache.shelf().settle();
        }
        let (mut layers, mut making) = self.look_up().await?;
        let mut disk = self.place(making.front());
        let drafts = making.iter().filter_map(|making| making.draft.as_ref());
        self.instances
            .put_overlays_in(drafts.map(|draft| draft.folder().to_owned()));
        let started = self.launch(&layers, &disk).await?;
        if layers.is_empty() {
            self.bootstrap().await?;
            if let Some(first) = making.pop_front() {
                let overlay = self.next_disk(&first, making.front());
                lay_over(overlay.as_deref(), &disk).await?;
                let seconds = started.seconds;
                disk = self
                    .seal(first, overlay, making.front(), disk, &mut layers, seconds)
                    .await?;
            }
        } else {
            let guest = self.instances.guest()?;
            if !started.resumed {
                agent::attend(guest.session()).await?;
            }
        }
        let complete = making.iter().all(|making| making.draft.is_some());
        let applied = self.apply(making, &mut layers, disk).await;
        // The logs matter most when something failed.
        let fetched = match self.instances.guest() {
            Ok(guest) => {
                let evidence = self.logs.join(super::evidence::FOLDER);
                match components::fetch_logs(guest, &self.logs).await {
                    Ok(()) => components::fetch_evidence(guest, &evidence).await,
                    failed => failed,
                }
            }
            Err(failure) => Err(failure),
        };
        if let Some(cache) = self.cache {
            cache.remember(self.plan, &layers, None);
        }
        let disk = applied?;
        fetched?;
        Ok(Stand {
            disk,
            started,
            complete: complete && self.cache.is_some(),
            at: self.recorder.seconds(),
            layers,
        })
    }

    /// The layers that are there, and those that have to be made.
    async fn look_up(&self) -> Result<(Vec<Layer>, VecDeque<Making>)> {
        let Some(cache) = self.cache else {
            let making = cache::uncached(self.plan)
                .into_iter()
                .map(|wanted| Making {
                    inputs: Inputs::default(),
                    beneath: None,
                    draft: None,
                    wanted,
                })
                .collect();
            return Ok((Vec::new(), making));
        };
        let mut told = false;
        loop {
            let walk = cache.walk(self.plan, self.provisions)?;
            if walk.busy.is_none()
                && let Some(making) = drafts(cache, &walk)?
            {
                self.tell(&walk);
                return Ok((walk.found, making));
            }
            if !told {
                let name = walk
                    .wanted
                    .get(walk.found.len())
                    .map_or("", |wanted| wanted.name.as_str());
                self.recorder.events().note(format!(
                    "waiting for the layer of {name}, which another build is making"
                ));
                told = true;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn tell(&self, walk: &Walk) {
        for layer in &walk.found {
            let record = layer.record();
            self.recorder.send(Event::Layer {
                name: record.name.clone(),
                key: record.id.to_string(),
                outcome: LayerOutcome::Found,
                reason: None,
            });
        }
        let beneath = walk.found.last().map(|layer| &layer.record().id);
        if let Some(wanted) = walk.wanted.get(walk.found.len()) {
            self.recorder.send(Event::Layer {
                name: wanted.name.clone(),
                key: wanted.on(beneath).1.to_string(),
                outcome: LayerOutcome::Missing,
                reason: walk.reason.clone(),
            });
        }
    }

    /// Where the guest writes while it makes `making`; what becomes no layer lies in the run's folder.
    fn place(&self, making: Option<&Making>) -> Utf8PathBuf {
        making
            .and_then(|making| making.draft.as_ref())
            .map_or_else(|| self.instances.folder().join("root.qcow2"), Draft::disk)
    }

    /// Brings the guest up on the deepest layer: from its memory if that is possible, else by booting.
    async fn launch(&mut self, layers: &[Layer], disk: &Utf8Path) -> Result<Started> {
        let plan = self.plan;
        let recorder = self.recorder;
        let on = match layers.last() {
            None => format!("{}/{}", plan.parent.name, plan.parent.version),
            Some(layer) => format!("on the layer of {}", layer.record().name),
        };
        recorder
            .step(StepKind::LaunchBuildInstance, on, async {
                if let Some(layer) = layers.last()
                    && self.warm
                    && let Some(started) = self.resume(layer, disk).await?
                {
                    let detail = format!(
                        "resumed on the layer of {} after {:.1} s",
                        layer.record().name,
                        started.seconds
                    );
                    return Ok((started, detail));
                }
                let started = self.boot(layers, disk).await?;
                let detail = format!("up after {:.1} s", started.seconds);
                Ok((started, detail))
            })
            .await
    }

    async fn boot(&mut self, layers: &[Layer], disk: &Utf8Path) -> Result<Started> {
        let parent = &self.plan.parent;
        match layers.last() {
            None => {
                let size = self.plan.root_size;
                let below = backing_name(disk, &parent.disk);
                qemu_img::create_overlay(disk, &below, &parent.format, size).await?;
            }
            Some(layer) => self.overlay_on(layer, disk).await?,
        }
        // Components may have installed another kernel: then the disk's own boot loader decides.
        let boot = match (&parent.kernel, layers.len()) {
            (Some(kernel), 0 | 1) => kernel.clone(),
            _ => Boot::Disk,
        };
        let launch = Launch {
            disk,
            purpose: Purpose::Build,
            hostname: BUILD_HOST,
            firmware: self.plan.machine.firmware,
            bus: DiskBus::Virtio,
            boot,
        };
        self.instances.start(launch).await
    }

    async fn overlay_on(&self, layer: &Layer, disk: &Utf8Path) -> Result<()> {
        let below = backing_name(disk, &layer.disk());
        qemu_img::create_overlay(disk, &below, "qcow2", None).await
    }

    /// `None` if the layer has no state that fits.
    async fn resume(&mut self, layer: &Layer, disk: &Utf8Path) -> Result<Option<Started>> {
        let Some((files, memory)) = layer.state() else {
            return Ok(None);
        };
        let events = self.recorder.events();
        let fit = self.instances.memory_fit(self.plan.machine.firmware);
        if let Some(mismatch) = memory.fit.mismatch(&fit) {
            events.note(format!(
                "the guest is booted, not resumed: {mismatch} since the layer of {} was made",
                layer.record().name
            ));
            return Ok(None);
        }
        self.overlay_on(layer, disk).await?;
        let boot = match (&self.plan.parent.kernel, memory.direct_kernel) {
            (Some(kernel), true) => kernel.clone(),
            _ => Boot::Disk,
        };
        let resume = Resume {
            disk,
            firmware: self.plan.machine.firmware,
            boot,
            files: &files,
            memory,
            vars: &layer.vars(),
        };
        match self.instances.resume(resume).await {
            Ok(started) => Ok(Some(started)),
            Err(failure) if failure.kind() == FailureKind::Cancelled => Err(failure),
            Err(failure) => {
                layer.forget_state();
                events.warn(format!(
                    "the guest could not be resumed and is booted: {}",
                    failure.chain()
                ));
                let _ = std::fs::remove_file(disk);
                Ok(None)
            }
        }
    }

    async fn bootstrap(&mut self) -> Result<()> {
        let recorder = self.recorder;
        let guest = self.instances.guest()?;
        recorder
            .step(StepKind::BootstrapBuildInstance, "the agent", async {
                let done = deploy(guest, recorder).await?;
                guest.root("setting up the bake", QUICK_SETTINGS).await?;
                Ok(done)
            })
            .await
            .map(drop)
    }

    /// Runs what is left to run, and returns the disk on which the guest stands then.
    async fn apply(
        &mut self,
        mut making: VecDeque<Making>,
        layers: &mut Vec<Layer>,
        mut disk: Utf8PathBuf,
    ) -> Result<Utf8PathBuf> {
        let (plan, recorder, provisions) = (self.plan, self.recorder, self.provisions);
        let step = StepKind::ApplyBuildComponents;
        let all = plan.components.len();
        let built = plan.components.iter().filter(|one| one.has_phase("build"));
        let kept = built.count().saturating_sub(making.len());
        let detail = match kept {
            0 => count(all, "component"),
            kept => format!("{}, {kept} kept from before", count(all, "component")),
        };
        let (build, validate) = (["build".to_owned()], ["validate".to_owned()]);
        let order = |only, phases| Order {
            components: &plan.components,
            only,
            phases,
            working_directory: &plan.working_directory,
            provisions,
        };
        self.prepare().await?;
        recorder
            .step(step, detail.clone(), async {
                while let Some(made) = making.pop_front() {
                    let Some(index) = made.wanted.component else {
                        continue;
                    };
                    let start = Instant::now();
                    let overlay = self.next_disk(&made, making.front());
                    let guest = self.instances.guest()?;
                    files::put(guest, &plan.components[index]).await?;
                    // While the component is at work: the guest shall not wait for it later.
                    let (ran, laid) = tokio::join!(
                        components::run(guest, order(Some(index), &build), (step, recorder)),
                        lay_over(overlay.as_deref(), &disk)
                    );
                    ran?;
                    laid?;
                    let seconds = start.elapsed().as_secs_f64();
                    disk = self
                        .seal(made, overlay, making.front(), disk, layers, seconds)
                        .await?;
                }
                if self.validate {
                    // On the final state, as in the service.
                    let guest = self.instances.guest()?;
                    components::run(guest, order(None, &validate), (step, recorder)).await?;
                }
                Ok((disk, detail))
            })
            .await
    }

    /// Has the guest ready for its components: documents, and the way to the package cache.
    async fn prepare(&mut self) -> Result<()> {
        let guest = self.instances.guest()?;
        let offered = match self
            .packages
            .filter(|_| self.plan.machine.network.has_packages())
        {
            None => None,
            Some(packages) => match guest.offer(packages.address()).await {
                Ok(port) => Some(port),
                Err(failure) => {
                    let told = format!("packages are not cached: {}", failure.chain());
                    self.recorder.events().warn(told);
                    None
                }
            },
        };
        components::prepare(guest, &self.plan.components, offered).await
    }

    /// The disk that the guest writes to when `made` is a layer; none if it becomes no layer.
    fn next_disk(&self, made: &Making, next: Option<&Making>) -> Option<Utf8PathBuf> {
        made.draft.as_ref().map(|_| self.place(next))
    }

    /// Makes a layer of what the guest has written to `disk`, and returns the disk that it writes to from now on.
    async fn seal(
        &mut self,
        made: Making,
        overlay: Option<Utf8PathBuf>,
        next: Option<&Making>,
        disk: Utf8PathBuf,
        layers: &mut Vec<Layer>,
        seconds: f64,
    ) -> Result<Utf8PathBuf> {
        let (Some(draft), Some(overlay)) = (made.draft, overlay) else {
            return Ok(disk);
        };
        // After the last component nothing follows that a resume would save. Memory that may hold secrets stays memory.
        let wants_memory = self.warm
            && next.is_some()
            && !self.provisions.has_secrets()
            && draft.has_room_for_memory(self.plan.machine.memory_mib);
        let fit = self.instances.memory_fit(self.plan.machine.firmware);
        let guest = self.instances.guest()?;
        let state = wants_memory.then(|| draft.state());
        let sealed = guest.seal(&overlay, state.as_ref()).await?;
        let memory = match sealed {
            Some(Ok(saved)) => {
                let vars = guest.folder().join("vars.fd");
                if vars.is_file() {
                    std::fs::copy(&vars, draft.vars())
                        .or_failure(FailureKind::Environment, || {
                            format!("cannot copy {vars} to the layer")
                        })?;
                }
                let (user_key, host_key) =
                    (guest.keys().user_private()?, guest.keys().host_private()?);
                Some(Memory {
                    fit,
                    digest: saved.digest,
                    user_key,
                    host_key,
                    instance: guest.instance().to_owned(),
                    direct_kernel: matches!(guest.boot(), Boot::Kernel { .. }),
                    seconds: saved.seconds,
                })
            }
            Some(Err(failure)) => {
                draft.forget_state();
                self.recorder.events().warn(format!(
                    "the guest's memory is not kept: {}",
                    failure.chain()
                ));
                None
            }
            None => None,
        };
        let record = Record {
            id: draft.id().clone(),
            name: made.wanted.name.clone(),
            inputs: made.inputs,
            beneath: made.beneath,
            created: jiff::Timestamp::now(),
            host_start: host_start(),
            seconds,
            memory,
        };
        self.recorder.send(Event::Layer {
            name: made.wanted.name,
            key: draft.id().to_string(),
            outcome: LayerOutcome::Made,
            reason: None,
        });
        layers.push(draft.publish(record)?);
        Ok(overlay)
    }
}

/// Puts an overlay on the disk that the guest writes to; it is not opened before the guest stands still.
async fn lay_over(overlay: Option<&Utf8Path>, disk: &Utf8Path) -> Result<()> {
    let Some(overlay) = overlay else {
        return Ok(());
    };
    let size = qemu_img::info(disk).await?.virtual_size;
    qemu_img::create_overlay_unopened(overlay, &backing_name(overlay, disk), size).await
}

/// Begins all layers that are missing, up to the first one that is not kept. `None` if another build has begun the first
/// of them in the meantime.
fn drafts(cache: &Cache, walk: &Walk) -> Result<Option<VecDeque<Making>>> {
    let mut making = VecDeque::new();
    let mut beneath = walk.found.last().map(|layer| layer.record().id.clone());
    let mut kept = true;
    for wanted in &walk.wanted[walk.found.len()..] {
        let (inputs, key) = wanted.on(beneath.as_ref());
        let draft = if kept && wanted.is_kept() {
            cache.shelf().begin(&key)?
        } else {
            None
        };
        if draft.is_none() && wanted.is_kept() && making.is_empty() {
            return Ok(None);
        }
        kept = draft.is_some();
        let id = draft.as_ref().map(|draft| draft.id().clone());
        making.push_back(Making {
            wanted: wanted.clone(),
            inputs,
            beneath: std::mem::replace(&mut beneath, id),
            draft,
        });
    }
    Ok(Some(making))
}
