//! A guest that is up: its machine, its session, and how it is rebooted and stopped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::watch;

use super::agent;
use super::keys::BakeKeys;
use super::ladder::{self, Climb, Patience, Stuck};
use super::refresh;
use super::seed::{BAKE_USER, Seed};
use super::ssh::{CommandOutput, Session};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::machine::console::ConsoleTail;
use crate::machine::memory::{self, Saved, StateFiles};
use crate::machine::ram::Ram;
use crate::machine::{Accelerator, Boot, Disk, DiskBus, Exit, Machine, MachineSpec, Manner, Qemu};

/// How to bring a guest up.
#[derive(Debug)]
pub struct GuestSpec {
    /// The machine; the seed's disk is added to it.
    pub machine: MachineSpec,
    /// cloud-init's id of the guest.
    pub instance: String,
    /// Who the guest is.
    pub seed: Seed,
    /// How we get in.
    pub keys: BakeKeys,
    /// A private folder for sockets, console and seed.
    pub folder: Utf8PathBuf,
    /// How long it may take to come up.
    pub patience: Patience,
    /// Whether QEMU may outlive us (for guests that are kept on failure).
    pub survive: bool,
    /// Whether its state may be saved: then its memory is a file that we hold too.
    pub saveable: bool,
    /// Told when the guest's disk can't be written any more.
    pub trouble: watch::Sender<Option<Trouble>>,
}

/// What ends a bake from outside of what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The host's filesystem is full.
    DiskFull,
    /// QEMU could not read or write the guest's disk; its words.
    Disk(String),
    /// The guest does not stop writing to its console, which the host keeps in a file.
    ConsoleFlood,
}

/// A guest that boots twenty times with all its messages writes some megabytes.
const CONSOLE_LIMIT: u64 = 256 << 20;

impl Trouble {
    /// As a failure.
    pub fn failure(&self) -> Failure {
        match self {
            Self::DiskFull => {
                Failure::environment("the host's disk is full: the guest's disk cannot grow").with_hint(
                    "`ovenbird gc` shows what can go; the home can also lie on another disk (OVENBIRD_HOME)",
                )
            }
            Self::Disk(reason) => Failure::environment(format!(
                "the host cannot read or write the guest's disk: {reason}"
            )),
            Self::ConsoleFlood => Failure::guest(format!(
                "the guest wrote more than {} MiB to its console",
                CONSOLE_LIMIT >> 20
            ))
            .with_hint("the logs' folder has the console"),
        }
    }
}

/// Looks at the size of the console's file, as long as the machine lives.
fn watch_console(
    console: Utf8PathBuf,
    mut exit: watch::Receiver<Option<Exit>>,
    trouble: watch::Sender<Option<Trouble>>,
    limit: u64,
) {
    tokio::spawn(async move {
        let ended = exit.wait_for(Option::is_some);
        tokio::pin!(ended);
        loop {
            tokio::select! {
                _ = &mut ended => break,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            if std::fs::metadata(&console).is_ok_and(|file| file.len() > limit) {
                trouble.send_replace(Some(Trouble::ConsoleFlood));
                break;
            }
        }
    });
}

/// Passes QEMU's reports about the disk on, as long as it lives. A full disk stops the guest silently: without this, it
/// would look like a guest that hangs.
fn watch_disk(machine: &Machine, trouble: watch::Sender<Option<Trouble>>) {
    let mut events = machine.qmp.events();
    tokio::spawn(async move {
        use tokio::sync::broadcast::error::RecvError;
        loop {
            match events.recv().await {
                Ok(event) if event.name == "BLOCK_IO_ERROR" => {
                    let full = event.data["nospace"].as_bool().unwrap_or(false);
                    let reason = event.data["reason"].as_str().unwrap_or("no reason given");
                    trouble.send_replace(Some(match full {
                        true => Trouble::DiskFull,
                        false => Trouble::Disk(reason.to_owned()),
                    }));
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break,
            }
        }
    });
}

impl GuestSpec {
    /// Puts the seed into the folder and attaches it.
    fn attach_seed(&mut self) -> Result<()> {
        std::fs::create_dir_all(&self.folder).or_failure(FailureKind::Environment, || {
            format!("cannot create {}", self.folder)
        })?;
        let seed = self.folder.join("seed.img");
        self.seed.write(&seed)?;
        self.machine.disks.push(Disk {
            node: "seed".into(),
            path: seed,
            format: "raw".into(),
            bus: DiskBus::Virtio,
            read_only: true,
        });
        Ok(())
    }

    /// Its memory, if that is ours to hold.
    fn memory(&self) -> Result<Option<Arc<Ram>>> {
        if !self.saveable {
            return Ok(None);
        }
        Ram::create(self.machine.memory_mib, &self.folder).map(|ram| Some(Arc::new(ram)))
    }
}

/// A guest that lets us in.
#[derive(Debug)]
pub struct Guest {
    qemu: Qemu,
    spec: GuestSpec,
    machine: Machine,
    memory: Option<Arc<Ram>>,
    session: Session,
    tail: ConsoleTail,
    /// What the guest gets again after each reboot.
    offers: Vec<Offer>,
    /// Overlays put on the disk since the machine was started: their nodes are numbered.
    overlays: u32,
}

/// An address of the host on a port of the guest.
#[derive(Debug, Clone, Copy)]
struct Offer {
    address: SocketAddr,
    port: u16,
}

/// A clean shutdown takes some seconds on hardware, 15 s were measured under software emulation.
const SHUTDOWN_BOUND: Duration = Duration::from_secs(45);
/// Commands of ours in the guest print little.
const OUTPUT_LIMIT: usize = 16 * 1024 * 1024;

impl Guest {
    /// Starts the machine and climbs the readiness ladder.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if QEMU can't be started, [`FailureKind::Guest`] with rung and console.
    pub async fn start(
        qemu: &Qemu,
        mut spec: GuestSpec,
        mut seen: impl FnMut(Climb<'_>),
    ) -> Result<Self> {
        spec.attach_seed()?;
        let mut memory = spec.memory()?;
        let mut machine = launch(qemu, &spec, memory.clone(), false).await?;
        let mut tail = ConsoleTail::new(&machine.console);
        let emulated = spec.machine.accelerator == Accelerator::Tcg;
        let patience = match emulated {
            true => spec.patience.halved(),
            false => spec.patience,
        };
        let session = match login(&machine, &mut tail, (&spec.keys, patience), &mut seen).await {
            // On a busy host a kernel may measure its emulated timers so wrongly that it never gets on.
            Err(stuck) if stuck.hangs && emulated => {
                seen(Climb::Again(&stuck.failure));
                machine.kill().await;
                memory = spec.memory()?;
                machine = launch(qemu, &spec, memory.clone(), false).await?;
                login(&machine, &mut tail, (&spec.keys, spec.patience), seen).await?
            }
            session => session?,
        };
        Ok(Self {
            qemu: qemu.clone(),
            spec,
            machine,
            memory,
            session,
            tail,
            offers: Vec::new(),
            overlays: 0,
        })
    }

    /// Starts the machine from a saved state: its disk must be an overlay on the very disk that the state was saved with.
    /// The guest gets the keys of `spec`, a new time and new randomness before this returns.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if QEMU can't be started, [`FailureKind::Guest`] if the state doesn't fit or the
    /// guest does not answer.
    pub async fn resume(
        qemu: &Qemu,
        mut spec: GuestSpec,
        saved: &SavedGuest<'_>,
        seen: impl FnMut(Climb<'_>),
    ) -> Result<Self> {
        spec.attach_seed()?;
        spec.saveable = true;
        let memory = spec.memory()?;
        // QEMU sets itself up meanwhile; it looks at the memory only when its devices have their state.
        let (machine, loaded) = tokio::join!(
            launch(qemu, &spec, memory.clone(), true),
            load(memory.clone(), saved)
        );
        let machine = machine?;
        loaded?;
        memory::load_devices(&machine.qmp, &machine.memory_socket, &saved.files.devices).await?;
        let mut tail = ConsoleTail::new(&machine.console);
        let session = login(&machine, &mut tail, (saved.keys, spec.patience), seen).await?;
        agent::attend(&session).await?;
        // The connection that stands goes on; what comes later meets the new keys.
        refresh::renew(&session, &spec.keys).await?;
        Ok(Self {
            qemu: qemu.clone(),
            spec,
            machine,
            memory,
            session,
            tail,
            offers: Vec::new(),
            overlays: 0,
        })
    }

    /// Seals the disk as it is now: the guest's filesystems are frozen, what was written so far stays unchanged in the
    /// file beneath, and `overlay` takes what follows. With `state`, the guest's state of this moment is saved there.
    ///
    /// `overlay` must exist, and name the file beneath as its backing file.
    ///
    /// # Errors
    /// [`FailureKind::Guest`] if the guest can't be frozen or its disk not be sealed. That the state can't be saved is
    /// told apart, since the disk is sealed then all the same.
    pub async fn seal(
        &mut self,
        overlay: &Utf8Path,
        state: Option<&StateFiles>,
    ) -> Result<Option<Result<Saved>>> {
        let frozen = refresh::freeze(&self.session).await?;
        let sealed = self.seal_frozen(overlay, state).await;
        // Whatever happened: the guest must not stay paused.
        let going = memory::go_on(&self.machine.qmp).await;
        let thawed = frozen.thaw().await;
        let saved = sealed?;
        going?;
        thawed?;
        Ok(saved)
    }

    async fn seal_frozen(
        &mut self,
        overlay: &Utf8Path,
        state: Option<&StateFiles>,
    ) -> Result<Option<Result<Saved>>> {
        let qmp = &self.machine.qmp;
        memory::pause(qmp).await?;
        let node = match self.overlays {
            0 => "root".to_owned(),
            number => format!("root-{number}"),
        };
        let next = format!("root-{}", self.overlays + 1);
        qmp.put_overlay(&node, overlay, &next)
            .await
            .or_failure(FailureKind::Guest, || {
                format!("QEMU does not put the overlay {overlay} on the guest's disk")
            })?;
        self.overlays += 1;
        if let Some(root) = self.spec.machine.disks.first_mut() {
            root.path = overlay.to_owned();
        }
        match (state, &self.memory) {
            // The disk is sealed already: without its state the layer is still a layer.
            (Some(files), Some(ram)) => {
                let socket = &self.machine.memory_socket;
                Ok(Some(memory::save(qmp, socket, ram, files).await))
            }
            _ => Ok(None),
        }
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// cloud-init's id of this guest.
    pub fn instance(&self) -> &str {
        &self.spec.instance
    }

    /// How the kernel of the current boot was found.
    pub fn boot(&self) -> &Boot {
        &self.spec.machine.boot
    }

    /// The folder with this guest's sockets, console and seed.
    pub fn folder(&self) -> &Utf8Path {
        &self.spec.folder
    }

    /// The keys that open this guest.
    pub fn keys(&self) -> &BakeKeys {
        &self.spec.keys
    }

    /// The console's file.
    pub fn console(&self) -> &Utf8Path {
        &self.machine.console
    }

    /// Console lines printed since the last look.
    pub fn console_lines(&mut self) -> Vec<String> {
        self.tail.poll()
    }

    /// Runs a command as root and returns what it printed; a non-zero status is an error.
    ///
    /// # Errors
    /// [`FailureKind::Guest`] with the command's standard error.
    pub async fn root(&self, what: &str, command: &str) -> Result<CommandOutput> {
        let output = self
            .session
            .run(command, &[], OUTPUT_LIMIT)
            .await
            .map_err(|error| self.lost(what).caused_by(error))?;
        if output.success() {
            return Ok(output);
        }
        Err(Failure::guest(format!(
            "{what} failed in the guest with {}",
            status_text(output.status)
        ))
        .with_details(String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// Reboots the guest and waits until it lets us in again.
    ///
    /// A guest started with its kernel handed over by QEMU comes back through its own boot loader: components may have
    /// installed another kernel.
    ///
    /// # Errors
    /// [`FailureKind::Guest`] if it doesn't go down in time or doesn't come up.
    pub async fn reboot(&mut self, seen: impl FnMut(Climb<'_>)) -> Result<()> {
        let bound = self.spec.machine.accelerator.scale(SHUTDOWN_BOUND);
        // The connection may break before the command answers.
        let command = "sync; systemctl reboot 2>/dev/null || reboot";
        let asked = self.session.run(command, &[], OUTPUT_LIMIT);
        let _ = tokio::time::timeout(Duration::from_secs(30), asked).await;
        if tokio::time::timeout(bound, self.machine.wait())
            .await
            .is_err()
        {
            return Err(Failure::guest(format!(
                "the guest did not reboot within {} s",
                bound.as_secs()
            ))
            .with_details(ladder::console_excerpt(&self.machine.console)));
        }
        let exit = self.machine.wait().await;
        if !exit.is_clean() {
            return Err(self.lost("the reboot").with_details(exit.messages));
        }
        self.spec.machine.boot = Boot::Disk;
        self.memory = self.spec.memory()?;
        self.machine = launch(&self.qemu, &self.spec, self.memory.clone(), false).await?;
        self.overlays = 0;
        self.session = login(
            &self.machine,
            &mut self.tail,
            (&self.spec.keys, self.spec.patience),
            seen,
        )
        .await?;
        agent::attend(&self.session).await?;
        for offer in &self.offers {
            self.offer_at(offer.address, offer.port).await?;
        }
        Ok(())
    }

    /// Offers an address of the host to the guest, also after its reboots; returns the port on the guest's loopback
    /// interface.
    ///
    /// # Errors
    /// [`FailureKind::Guest`] if the guest's SSH server does not allow it.
    pub async fn offer(&mut self, address: SocketAddr) -> Result<u16> {
        if let Some(known) = self.offers.iter().find(|offer| offer.address == address) {
            return Ok(known.port);
        }
        let port = self.offer_at(address, 0).await?;
        self.offers.push(Offer { address, port });
        Ok(port)
    }

    async fn offer_at(&self, address: SocketAddr, port: u16) -> Result<u16> {
        self.session
            .offer(address, port)
            .await
            .or_failure(FailureKind::Guest, || {
                "the guest's SSH server forwards no port to the host".into()
            })
            .map_err(|failure| {
                failure.with_hint("`AllowTcpForwarding` of its sshd_config must not be `no`")
            })
    }

    /// Ends the machine at once; what the guest has synced is on its disk.
    pub async fn stop(self) -> crate::machine::Exit {
        self.session.close().await;
        self.machine.quit(Duration::from_secs(20)).await
    }

    /// Leaves the machine running after this process: its process id and SSH port.
    pub fn detach(self) -> (u32, u16) {
        self.machine.detach()
    }

    /// The failure for a connection that broke: was it QEMU or only SSH?
    pub fn lost(&self, what: &str) -> Failure {
        let failure = match self.machine.exited() {
            Some(exit) => Failure::guest(format!("QEMU ended during {what} ({})", exit.describe())),
            None => Failure::guest(format!("lost the connection to the guest during {what}")),
        };
        failure.with_details(ladder::console_excerpt(&self.machine.console))
    }
}

/// A guest's saved state.
#[derive(Debug, Clone, Copy)]
pub struct SavedGuest<'a> {
    /// Where it lies.
    pub files: &'a StateFiles,
    /// Digest of the memory.
    pub digest: &'a str,
    /// The keys that the guest knows.
    pub keys: &'a BakeKeys,
}

async fn launch(
    qemu: &Qemu,
    spec: &GuestSpec,
    memory: Option<Arc<Ram>>,
    incoming: bool,
) -> Result<Machine> {
    let manner = Manner {
        survive: spec.survive,
        incoming,
        memory,
    };
    let machine = Machine::launch(qemu, &spec.machine, &spec.folder, manner).await?;
    watch_disk(&machine, spec.trouble.clone());
    watch_console(
        machine.console.clone(),
        machine.exit_watch(),
        spec.trouble.clone(),
        CONSOLE_LIMIT,
    );
    Ok(machine)
}

async fn load(memory: Option<Arc<Ram>>, saved: &SavedGuest<'_>) -> Result<()> {
    let Some(memory) = memory else {
        return Ok(());
    };
    let (file, digest) = (saved.files.memory.clone(), saved.digest.to_owned());
    tokio::task::spawn_blocking(move || memory.load(&file, &digest))
        .await
        .or_failure(FailureKind::Internal, || "a worker thread failed".into())?
}

async fn login(
    machine: &Machine,
    tail: &mut ConsoleTail,
    (keys, patience): (&BakeKeys, Patience),
    seen: impl FnMut(Climb<'_>),
) -> Result<Session, Stuck> {
    let host = keys.host.public_key();
    ladder::climb(machine, tail, (BAKE_USER, &keys.user, host), patience, seen).await
}

fn status_text(status: Option<u32>) -> String {
    status.map_or_else(
        || "no exit status".into(),
        |status| format!("exit status {status}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::ladder::Rung;
    use crate::guest::seed::Purpose;
    use crate::machine::{Arch, FirmwareFiles, Network, OnReboot};

    #[tokio::test]
    async fn a_guest_that_hangs_before_its_init_system_is_started_once_more() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8PathBuf::try_from(folder.path().to_owned()).unwrap();
        // Nothing on it can be booted, and this firmware says so on the screen only.
        let disk = folder.join("disk.raw");
        std::fs::File::create(&disk)
            .unwrap()
            .set_len(1 << 20)
            .unwrap();
        let keys = BakeKeys::generate().unwrap();
        let spec = GuestSpec {
            machine: MachineSpec {
                name: "hangs".into(),
                arch: Arch::X86_64,
                accelerator: Accelerator::Tcg,
                cpus: 1,
                memory_mib: 64,
                firmware: FirmwareFiles::Bios,
                disks: vec![Disk {
                    node: "root".into(),
                    path: disk,
                    format: "raw".into(),
                    bus: DiskBus::Virtio,
                    read_only: false,
                }],
                boot: Boot::Disk,
                network: Network::User,
                on_reboot: OnReboot::Exit,
                overlays: vec![],
            },
            instance: "i-1".into(),
            seed: Seed::for_guest(Purpose::Test, "i-1", "hangs", &keys).unwrap(),
            keys,
            folder: folder.join("run"),
            patience: Patience {
                total: Duration::from_secs(60),
                silence: Duration::from_secs(2),
            },
            survive: false,
            saveable: false,
            trouble: watch::Sender::new(None),
        };
        let mut told = Vec::new();
        let failure = Guest::start(&Qemu::find(Arch::X86_64).unwrap(), spec, |climb| {
            told.push(match climb {
                Climb::Rung(rung, _) => rung.describe().to_owned(),
                Climb::Console(line) => line.to_owned(),
                Climb::Again(failure) => format!("again: {failure}"),
            });
        })
        .await
        .unwrap_err();
        let silent = Rung::Process.describe();
        let hung =
            |seconds| format!("the guest gave no sign of life for {seconds} s; reached: {silent}");
        let again = format!("again: {}", hung(1));
        assert_eq!(told, [silent, &again, silent]);
        assert_eq!(failure.to_string(), hung(2));
    }

    #[tokio::test]
    async fn a_console_that_never_ends_is_trouble() {
        let folder = tempfile::tempdir().unwrap();
        let console = Utf8PathBuf::try_from(folder.path().join("console.log")).unwrap();
        std::fs::write(&console, b"Linux version\n").unwrap();
        let (ended, exit) = watch::channel(None);
        let trouble = watch::Sender::new(None);
        let mut seen = trouble.subscribe();
        watch_console(console.clone(), exit, trouble, 1000);
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(*seen.borrow_and_update(), None);
        std::fs::write(&console, [b'x'; 1001]).unwrap();
        seen.wait_for(Option::is_some).await.unwrap();
        let failure = Trouble::ConsoleFlood.failure();
        assert!(
            failure
                .to_string()
                .contains("more than 256 MiB to its console")
        );
        drop(ended);
    }
}
