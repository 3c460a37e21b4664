//! A guest that is up: its machine, its session, and how it is rebooted and stopped.

use std::net::SocketAddr;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::agent;
use super::keys::BakeKeys;
use super::ladder::{self, Climb, Patience};
use super::seed::{BAKE_USER, Seed};
use super::ssh::{CommandOutput, Session};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::machine::console::ConsoleTail;
use crate::machine::{Boot, Disk, DiskBus, Machine, MachineSpec, Qemu};

/// How to bring a guest up.
#[derive(Debug)]
pub struct GuestSpec {
    /// The machine; the seed's disk is added to it.
    pub machine: MachineSpec,
    /// Who the guest is.
    pub seed: Seed,
    /// How we get in.
    pub keys: BakeKeys,
    /// A private folder for sockets, console and seed.
    pub folder: Utf8PathBuf,
    /// Whether QEMU may outlive us (for guests that are kept on failure).
    pub survive: bool,
}

/// A guest that lets us in.
#[derive(Debug)]
pub struct Guest {
    qemu: Qemu,
    spec: GuestSpec,
    machine: Machine,
    session: Session,
    tail: ConsoleTail,
    offer: Option<Offer>,
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
        seen: impl FnMut(Climb<'_>),
    ) -> Result<Self> {
        std::fs::create_dir_all(&spec.folder).or_failure(FailureKind::Environment, || {
            format!("cannot create {}", spec.folder)
        })?;
        let seed = spec.folder.join("seed.img");
        spec.seed.write(&seed)?;
        spec.machine.disks.push(Disk {
            node: "seed".into(),
            path: seed,
            format: "raw".into(),
            bus: DiskBus::Virtio,
            read_only: true,
        });
        let machine = Machine::launch(qemu, &spec.machine, &spec.folder, spec.survive).await?;
        let mut tail = ConsoleTail::new(&machine.console);
        let session = login(&machine, &mut tail, &spec, seen).await?;
        Ok(Self {
            qemu: qemu.clone(),
            spec,
            machine,
            session,
            tail,
            offer: None,
        })
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
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
            .run(&agent::as_root(command), &[], OUTPUT_LIMIT)
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
        let command = agent::as_root("sync; systemctl reboot 2>/dev/null || reboot");
        let asked = self.session.run(&command, &[], OUTPUT_LIMIT);
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
        self.machine = Machine::launch(
            &self.qemu,
            &self.spec.machine,
            &self.spec.folder,
            self.spec.survive,
        )
        .await?;
        self.session = login(&self.machine, &mut self.tail, &self.spec, seen).await?;
        if let Some(offer) = self.offer {
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
        let port = self.offer_at(address, 0).await?;
        self.offer = Some(Offer { address, port });
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

async fn login(
    machine: &Machine,
    tail: &mut ConsoleTail,
    spec: &GuestSpec,
    seen: impl FnMut(Climb<'_>),
) -> Result<Session> {
    let patience = Patience::scaled(spec.machine.accelerator.time_scale());
    let host = spec.keys.host.public_key();
    ladder::climb(
        machine,
        tail,
        (BAKE_USER, &spec.keys.user, host),
        patience,
        seen,
    )
    .await
}

fn status_text(status: Option<u32>) -> String {
    status.map_or_else(
        || "no exit status".into(),
        |status| format!("exit status {status}"),
    )
}
