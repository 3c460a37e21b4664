//! The guests of one run: how they are specified, started, stopped, and what happens to one when the run fails.

use std::process::{ExitStatus, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::watch;

use super::admission::{Need, Room, Seat, Seats};
use super::plan::MachinePlan;
use super::recorder::Recorder;
use super::run_folder::{self, RunFolder};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::events::{Event, MachineStart};
use crate::guest::keys::BakeKeys;
use crate::guest::ladder::{Climb, Patience, Rung, console_excerpt};
use crate::guest::seed::{Purpose, Seed};
use crate::guest::{Guest, GuestSpec, SavedGuest, Trouble};
use crate::layers::{Memory, MemoryFit};
use crate::machine::accel;
use crate::machine::args::LAYOUT;
use crate::machine::firmware::find_uefi;
use crate::machine::memory::StateFiles;
use crate::machine::{
    Accelerator, Arch, Boot, Disk, DiskBus, Firmware, FirmwareFiles, Host, MachineSpec, OnReboot,
};

/// What to do with the guest when a run fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// Stop it and remove everything.
    #[default]
    Cleanup,
    /// Leave it running and print how to log in.
    Keep,
    /// Open a shell in it, then stop it.
    Shell,
}

/// What a build guest is called.
pub const BUILD_HOST: &str = "ovenbird-build";
/// What a test guest is called.
pub const TEST_HOST: &str = "ovenbird-test";

/// A boot that is wanted.
#[derive(Debug, Clone)]
pub struct Launch<'a> {
    /// The overlay to boot from; the guest writes to it.
    pub disk: &'a Utf8Path,
    /// What the guest is for.
    pub purpose: Purpose,
    /// What it is called.
    pub hostname: &'a str,
    /// How it boots.
    pub firmware: Firmware,
    /// The disk's controller.
    pub bus: DiskBus,
    /// Where the kernel comes from.
    pub boot: Boot,
}

/// A guest that goes on from a saved memory.
#[derive(Debug, Clone)]
pub struct Resume<'a> {
    /// An overlay on the disk that the memory was saved with.
    pub disk: &'a Utf8Path,
    /// The firmware that it had.
    pub firmware: Firmware,
    /// Where its kernel came from.
    pub boot: Boot,
    /// Where its state lies.
    pub files: &'a StateFiles,
    /// What is known of it.
    pub memory: &'a Memory,
    /// Its firmware's variable store, if it has one.
    pub vars: &'a Utf8Path,
}

/// How a guest came up: evidence for the manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// The firmware that the guest says it was booted by.
    pub firmware: Firmware,
    /// The disk's controller.
    pub bus: DiskBus,
    /// How its code runs.
    pub accelerator: Accelerator,
    /// QEMU's machine type.
    pub machine: &'static str,
    /// QEMU's version.
    pub qemu: String,
    /// Seconds until the login.
    pub seconds: f64,
    /// Whether it went on from a saved memory.
    pub resumed: bool,
}

/// The guests of one run, one at a time, and the run's folder in which they live.
#[derive(Debug)]
pub struct Instances<'a> {
    host: &'a Host,
    machine: &'a MachinePlan,
    /// Shown in the process list.
    label: &'a str,
    recorder: &'a Recorder,
    run: RunFolder,
    on_error: OnError,
    guest: Option<Guest>,
    /// Folders in which guests' disks get overlays, besides the run's own.
    overlays: Vec<Utf8PathBuf>,
    /// The guest's seat on this host.
    seat: Option<Seat>,
    trouble: watch::Sender<Option<Trouble>>,
}

impl<'a> Instances<'a> {
    /// No guest yet; `run` is removed with this value unless a guest is kept.
    pub fn new(
        host: &'a Host,
        machine: &'a MachinePlan,
        label: &'a str,
        recorder: &'a Recorder,
        run: RunFolder,
        on_error: OnError,
    ) -> Self {
        Self {
            host,
            machine,
            label,
            recorder,
            overlays: vec![run.path().to_owned()],
            run,
            on_error,
            guest: None,
            seat: None,
            trouble: watch::Sender::new(None),
        }
    }

    /// What happens to a guest's disk from outside; to be waited for beside the work.
    pub fn trouble(&self) -> impl Future<Output = Failure> + use<> {
        let mut trouble = self.trouble.subscribe();
        async move {
            match trouble.wait_for(Option::is_some).await {
                Ok(found) => found.as_ref().map_or_else(no_guest, Trouble::failure),
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Waits until the host has room for a guest.
    async fn sit(&mut self) -> Result<()> {
        if self.seat.is_none() {
            let need = Need {
                label: self.label.to_owned(),
                cpus: self.machine.cpus,
                memory_mib: self.machine.memory_mib,
            };
            let room = Room::of_host(self.host.accelerator());
            let runs = self.run.path().parent().unwrap_or(Utf8Path::new("/"));
            let seat = Seats::new(runs).take(need, room, self.recorder).await?;
            self.seat = Some(seat);
        }
        Ok(())
    }

    /// Says where else guests' disks will get overlays: QEMU reaches no other folders.
    pub fn put_overlays_in(&mut self, folders: impl IntoIterator<Item = Utf8PathBuf>) {
        self.overlays.extend(folders);
    }

    /// The run's folder.
    pub fn folder(&self) -> &Utf8Path {
        self.run.path()
    }

    /// The guest that runs.
    ///
    /// # Errors
    /// [`FailureKind::Internal`] if there is none.
    pub fn guest(&mut self) -> Result<&mut Guest> {
        self.guest.as_mut().ok_or_else(no_guest)
    }

    /// Starts a guest and asks it how it was booted.
    ///
    /// # Errors
    /// What [`Guest::start`] says; [`FailureKind::Guest`] if it came up by another firmware than wanted.
    pub async fn start(&mut self, launch: Launch<'_>) -> Result<Started> {
        // Each boot is another instance for cloud-init, as it would be in the cloud.
        let instance = format!("i-{}", uuid::Uuid::new_v4().simple());
        let spec = self.spec(&launch, instance)?;
        self.sit().await?;
        let recorder = self.recorder;
        recorder.send(Event::MachineStarted {
            how: MachineStart::Boot,
        });
        let mut seconds = 0.0;
        let guest = Guest::start(&self.host.qemu, spec, |climb| {
            if let Climb::Rung(Rung::Login, time) = &climb {
                seconds = time.as_secs_f64();
            }
            tell(recorder, climb);
        })
        .await?;
        self.run.set_guest(
            guest.machine().pid(),
            guest.machine().ssh_port,
            guest.keys(),
        )?;
        let firmware = firmware_of(&guest).await?;
        self.guest = Some(guest);
        if firmware != launch.firmware {
            return Err(Failure::guest(format!(
                "the guest was booted by {firmware}, wanted is {}",
                launch.firmware
            ))
            .with_hint("does the disk have a boot loader for this firmware?"));
        }
        Ok(self.started(firmware, launch.bus, seconds, false))
    }

    /// Lets a guest go on from its saved memory, with keys of its own.
    ///
    /// # Errors
    /// What [`Guest::resume`] says.
    pub async fn resume(&mut self, resume: Resume<'_>) -> Result<Started> {
        self.sit().await?;
        let start = std::time::Instant::now();
        let launch = Launch {
            disk: resume.disk,
            purpose: Purpose::Build,
            hostname: BUILD_HOST,
            firmware: resume.firmware,
            bus: DiskBus::Virtio,
            boot: resume.boot,
        };
        let spec = self.spec(&launch, resume.memory.instance.clone())?;
        if let FirmwareFiles::Uefi { vars, .. } = &spec.machine.firmware {
            std::fs::copy(resume.vars, vars).or_failure(FailureKind::Environment, || {
                format!("cannot copy {} to {vars}", resume.vars)
            })?;
        }
        let saved = BakeKeys::from_openssh(&resume.memory.user_key, &resume.memory.host_key)?;
        let recorder = self.recorder;
        recorder.send(Event::MachineStarted {
            how: MachineStart::Resume,
        });
        let saved = SavedGuest {
            files: resume.files,
            digest: &resume.memory.digest,
            keys: &saved,
        };
        let guest = Guest::resume(&self.host.qemu, spec, &saved, |climb| {
            tell(recorder, climb);
        })
        .await?;
        self.run.set_guest(
            guest.machine().pid(),
            guest.machine().ssh_port,
            guest.keys(),
        )?;
        self.guest = Some(guest);
        let seconds = start.elapsed().as_secs_f64();
        Ok(self.started(resume.firmware, DiskBus::Virtio, seconds, true))
    }

    /// What a memory must fit to be brought back into a guest of this run.
    pub fn memory_fit(&self, firmware: Firmware) -> MemoryFit {
        let accelerator = self.host.accelerator();
        MemoryFit {
            qemu: self.host.qemu.version.to_string(),
            accelerator,
            // An emulated processor is the same on every host.
            processor: if accelerator == Accelerator::Tcg {
                String::new()
            } else {
                accel::processor()
            },
            arch: self.machine.arch,
            firmware,
            cpus: self.machine.cpus,
            memory_mib: self.machine.memory_mib,
            layout: LAYOUT,
        }
    }

    fn started(&self, firmware: Firmware, bus: DiskBus, seconds: f64, resumed: bool) -> Started {
        Started {
            firmware,
            bus,
            accelerator: self.host.accelerator(),
            machine: match self.machine.arch {
                Arch::X86_64 => "q35",
                Arch::Aarch64 => "virt",
            },
            qemu: self.host.qemu.version.to_string(),
            seconds,
            resumed,
        }
    }

    /// Ends the guest at once; what it has synced is on its disk.
    ///
    /// # Errors
    /// [`FailureKind::Guest`] if QEMU complains.
    pub async fn stop(&mut self) -> Result<String> {
        let guest = self.guest.take().ok_or_else(no_guest)?;
        let exit = guest.stop().await;
        self.seat = None;
        self.run.clear_guest()?;
        if exit.is_clean() {
            Ok("stopped".into())
        } else {
            Err(
                Failure::guest(format!("QEMU did not end in order ({})", exit.describe()))
                    .with_details(exit.messages),
            )
        }
    }

    /// A component's failure may have its cause outside of it: out of memory, a full disk, a kernel's complaint.
    pub fn with_console(&self, failure: Failure) -> Failure {
        match (&self.guest, failure.kind()) {
            (Some(guest), FailureKind::Component | FailureKind::Test) => {
                failure.and_details(&console_excerpt(guest.console()))
            }
            _ => failure,
        }
    }

    /// Copies the consoles to `logs`; they are evidence also of a run that worked.
    pub fn keep_consoles(&self, logs: &Utf8Path) {
        let Ok(entries) = self.run.path().read_dir_utf8() else {
            return;
        };
        for entry in entries.flatten() {
            let console = entry.path().join("console.log");
            if console.is_file() {
                let target = logs.join(format!("console-{}.log", entry.file_name()));
                let _ = std::fs::copy(console, target);
            }
        }
    }

    /// Takes everything away, or leaves the guest to the person. `image` is how a kept guest is named afterwards.
    pub async fn finish(mut self, failure: Option<&Failure>, image: &str) {
        let Some(guest) = self.guest.take() else {
            return;
        };
        let failed = failure.is_some_and(|failure| failure.kind() != FailureKind::Cancelled)
            && guest.machine().exited().is_none();
        match self.on_error {
            OnError::Keep if failed => {
                guest.detach();
                match self.run.keep() {
                    Ok(command) => self.recorder.events().note(format!(
                        "the guest is kept; log in with:\n  {command}\nand end it with: ovenbird image rm {image}"
                    )),
                    Err(failure) => self.recorder.events().warn(failure.chain()),
                }
                return;
            }
            OnError::Shell if failed => self.shell().await,
            _ => {}
        }
        self.recorder.events().note("stopping the guest");
        guest.stop().await;
    }

    /// The words of the `ssh` command that logs in to the guest.
    pub fn ssh_command(&self) -> Vec<String> {
        run_folder::ssh_command(self.run.path(), self.run.record())
    }

    /// Runs a command in the guest at this terminal, or a shell if none is given.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if there is no `ssh`.
    pub async fn ssh(&self, command: &[String]) -> Result<ExitStatus> {
        let words = self.ssh_command();
        tokio::process::Command::new(&words[0])
            .args(&words[1..])
            .args(command)
            .stdin(Stdio::inherit())
            .status()
            .await
            .or_failure(FailureKind::Environment, || "cannot start ssh".into())
            .map_err(|failure| failure.with_hint("install the package openssh-client"))
    }

    async fn shell(&self) {
        let events = self.recorder.events();
        events.note("this failed; here is a shell in the guest, leave it to clean up");
        if let Err(failure) = self.ssh(&[]).await {
            events.warn(failure.chain());
        }
    }

    fn spec(&self, launch: &Launch<'_>, instance: String) -> Result<GuestSpec> {
        let keys = BakeKeys::generate()?;
        let hostname = launch.hostname;
        let folder = self
            .run
            .path()
            .join(format!("{hostname}-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder).or_failure(FailureKind::Environment, || {
            format!("cannot create {folder}")
        })?;
        let firmware = match launch.firmware {
            Firmware::Bios => FirmwareFiles::Bios,
            Firmware::Uefi => FirmwareFiles::Uefi {
                image: find_uefi(self.machine.arch)?,
                vars: folder.join("vars.fd"),
            },
        };
        Ok(GuestSpec {
            machine: MachineSpec {
                name: format!("{hostname} {}", self.label),
                arch: self.machine.arch,
                accelerator: self.host.accelerator(),
                cpus: self.machine.cpus,
                memory_mib: self.machine.memory_mib,
                firmware,
                disks: vec![Disk {
                    node: "root".into(),
                    path: launch.disk.to_owned(),
                    format: "qcow2".into(),
                    bus: launch.bus,
                    read_only: false,
                }],
                boot: launch.boot.clone(),
                network: self.machine.network,
                on_reboot: OnReboot::Exit,
                overlays: self.overlays.clone(),
            },
            seed: Seed::for_guest(launch.purpose, &instance, hostname, &keys)?,
            instance,
            keys,
            folder,
            patience: Patience::scaled(self.host.accelerator().time_scale()),
            survive: self.on_error == OnError::Keep,
            saveable: launch.purpose == Purpose::Build,
            trouble: self.trouble.clone(),
        })
    }
}

/// Hands what the ladder sees to the event stream.
pub fn tell(recorder: &Recorder, climb: Climb<'_>) {
    recorder.send(match climb {
        Climb::Rung(rung, time) => Event::Rung {
            rung,
            seconds: time.as_secs_f64(),
        },
        Climb::Console(line) => Event::Console {
            line: line.to_owned(),
        },
        Climb::Again(failure) => Event::Warning {
            message: format!("{failure}; it is started once more"),
        },
    });
}

/// Asks the guest how it really was booted: firmware that is silently replaced by another is a classic.
async fn firmware_of(guest: &Guest) -> Result<Firmware> {
    let output = guest
        .root(
            "asking for the firmware",
            "if [ -d /sys/firmware/efi ]; then echo uefi; else echo bios; fi",
        )
        .await?;
    output.text().trim().parse().map_err(|error: String| {
        Failure::guest("the guest does not say how it was booted").caused_by(error)
    })
}

fn no_guest() -> Failure {
    Failure::new(FailureKind::Internal, "there is no guest")
}
