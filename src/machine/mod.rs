//! Machines: QEMU by argument builder, control socket, console and firmware.
//!
//! A [`Machine`] is a running QEMU. Dropping it kills the process; nothing of it outlives its owner unless it is
//! [detached](Machine::detach).

pub mod accel;
pub mod args;
pub mod confine;
pub mod console;
pub mod firmware;
pub mod memory;
pub mod payload;
pub mod qemu;
pub mod qmp;
pub mod ram;
pub mod user;

use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::watch;

pub use accel::Accelerator;
pub use args::{Boot, Disk, DiskBus, FirmwareFiles, MachineSpec, Network, OnReboot, Wiring};
pub use firmware::Firmware;
pub use qemu::{Arch, Qemu};
pub use qmp::Qmp;
pub use user::{QemuSettings, RunAs};

#[cfg(target_os = "linux")]
use self::confine::Confinement;
use self::ram::Ram;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// QEMU creates its socket in milliseconds; a host under load may take seconds to start a large program.
const START_BOUND: Duration = Duration::from_secs(30);
/// How much of QEMU's own messages we keep.
const STDERR_LIMIT: usize = 16 * 1024;

/// How QEMU ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The process's status; `None` if it could not be collected.
    pub status: Option<ExitStatus>,
    /// What QEMU printed, cleaned, at most 16 KiB.
    pub messages: String,
}

impl Exit {
    /// Whether QEMU ended by itself and without complaint.
    pub fn is_clean(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// One phrase: `exit code 1`, `killed by signal 9`.
    pub fn describe(&self) -> String {
        match self.status {
            None => "unknown end".into(),
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, Some(signal)) => format!("killed by signal {signal}"),
                (None, None) => "unknown end".into(),
            },
        }
    }
}

/// How a machine is launched, beyond what it is.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// QEMU is not ended by the kernel when this process dies (for guests that are kept).
    pub survive: bool,
    /// It waits for a [saved state](memory::load_devices) instead of starting.
    pub incoming: bool,
    /// The guest's memory, if its state shall be saved or brought back.
    pub memory: Option<Arc<Ram>>,
}

/// A running QEMU.
#[derive(Debug)]
pub struct Machine {
    /// The control socket.
    pub qmp: Qmp,
    /// The serial console's file.
    pub console: Utf8PathBuf,
    /// Where a socket for its memory can be made.
    pub memory_socket: Utf8PathBuf,
    /// The loopback port that leads to the guest's SSH server.
    pub ssh_port: u16,
    pid: u32,
    exit: watch::Receiver<Option<Exit>>,
    kill: Option<tokio::sync::oneshot::Sender<()>>,
    _socket_folder: Option<tempfile::TempDir>,
}

impl Machine {
    /// Starts QEMU; control socket, console and the variable store go to `folder`.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if QEMU can't be started or refuses its arguments, with its own words.
    pub async fn launch(
        qemu: &Qemu,
        spec: &MachineSpec,
        folder: &Utf8Path,
        Manner {
            survive,
            incoming,
            memory,
        }: Manner,
    ) -> Result<Self> {
        if let FirmwareFiles::Uefi { image, vars } = &spec.firmware
            && !vars.exists()
        {
            std::fs::copy(&image.vars, vars).or_failure(FailureKind::Environment, || {
                format!("cannot copy {} to {vars}", image.vars)
            })?;
            make_writable(vars)?;
        }
        let (qmp_socket, socket_folder) = socket_path(folder, survive)?;
        let wiring = Wiring {
            qmp: qmp_socket,
            console: folder.join("console.log"),
            incoming,
            memory: memory.as_ref().map(|ram| ram.descriptor()),
        };
        // A socket left by a crashed QEMU would make the new one fail.
        let _ = std::fs::remove_file(&wiring.qmp);
        let arguments = args::build(spec, &wiring);
        tracing::debug!(program = %qemu.path, ?arguments, "starting QEMU");
        let mut command = command_of(&qemu.path);
        command
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Its own group: Ctrl-C at the terminal is for us, we end the guest in order.
            .process_group(0)
            .kill_on_drop(!survive);
        #[cfg(target_os = "linux")]
        if let Some(user) = &qemu.run_as {
            user.apply(&mut command);
        }
        if !survive {
            die_with_parent(&mut command);
        }
        #[cfg(target_os = "linux")]
        {
            let sockets = wiring.qmp.parent().unwrap_or(folder);
            let files = confine::Files::of(qemu, spec, &[folder, sockets]);
            Confinement::to(&files)
                .or_failure(FailureKind::Environment, || "cannot confine QEMU".into())?
                .apply(&mut command);
        }
        if let Some(ram) = &memory {
            inherit(&mut command, ram.descriptor());
        }
        let mut child = command.spawn().or_failure(FailureKind::Environment, || {
            format!("cannot start {}", qemu.path)
        })?;
        let pid = child.id().unwrap_or_default();
        let stderr = child.stderr.take();
        let (exit_sender, mut exit) = watch::channel(None);
        let (kill, mut killed) = tokio::sync::oneshot::channel::<()>();
        let messages = tokio::spawn(read_bounded(stderr));
        tokio::spawn(async move {
            let status = tokio::select! {
                status = child.wait() => status.ok(),
                request = &mut killed => match request {
                    // An explicit request, or the machine was dropped.
                    Ok(()) | Err(_) => {
                        if !survive {
                            let _ = child.start_kill();
                        }
                        child.wait().await.ok()
                    }
                },
            };
            let messages = tokio::time::timeout(Duration::from_secs(1), messages)
                .await
                .ok()
                .and_then(std::result::Result::ok)
                .unwrap_or_default();
            let _ = exit_sender.send(Some(Exit { status, messages }));
        });

        let connected = tokio::select! {
            connected = Qmp::connect(&wiring.qmp, START_BOUND) => connected,
            ended = wait_exit(&mut exit) => return Err(refused(qemu, &ended)),
        };
        let qmp = match connected {
            Ok(qmp) => qmp,
            Err(error) => {
                // QEMU that refuses its arguments may close the socket before its exit is seen.
                if let Ok(ended) =
                    tokio::time::timeout(Duration::from_secs(2), wait_exit(&mut exit)).await
                {
                    return Err(refused(qemu, &ended));
                }
                return Err(Failure::environment("cannot control QEMU").caused_by(error));
            }
        };
        let ssh_port = qmp
            .ssh_port()
            .await
            .or_failure(FailureKind::Environment, || {
                "cannot learn the guest's SSH port".into()
            })?;
        Ok(Self {
            qmp,
            console: wiring.console,
            // As long as the control socket's path.
            memory_socket: wiring.qmp.with_file_name("mem.sock"),
            ssh_port,
            pid,
            exit,
            kill: Some(kill),
            _socket_folder: socket_folder,
        })
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns how QEMU ended, if it has.
    pub fn exited(&self) -> Option<Exit> {
        self.exit.borrow().clone()
    }

    /// A receiver that gets the [`Exit`] when QEMU ends.
    pub fn exit_watch(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.clone()
    }

    /// Waits for QEMU's end.
    pub async fn wait(&self) -> Exit {
        wait_exit(&mut self.exit.clone()).await
    }

    /// Ends QEMU after it has written out its own caches; kills it if it doesn't within `bound`.
    pub async fn quit(mut self, bound: Duration) -> Exit {
        let asked = tokio::time::timeout(bound, async {
            let _ = self.qmp.quit().await;
            self.wait().await
        })
        .await;
        match asked {
            Ok(exit) => exit,
            Err(_) => self.kill_now().await,
        }
    }

    /// Presses the power button and waits up to `bound`, then ends QEMU.
    pub async fn power_off(self, bound: Duration) -> Exit {
        let down = tokio::time::timeout(bound, async {
            let _ = self.qmp.powerdown().await;
            self.wait().await
        })
        .await;
        match down {
            Ok(exit) => exit,
            Err(_) => self.quit(Duration::from_secs(10)).await,
        }
    }

    /// Kills QEMU and collects it.
    pub async fn kill(mut self) -> Exit {
        self.kill_now().await
    }

    async fn kill_now(&mut self) -> Exit {
        if let Some(kill) = self.kill.take() {
            let _ = kill.send(());
        }
        self.wait().await
    }

    /// Leaves QEMU running when this value goes away; only for machines launched with `survive`.
    pub fn detach(mut self) -> (u32, u16) {
        if let Some(kill) = self.kill.take() {
            // Neither sent nor dropped: the waiting task goes on until this process ends.
            std::mem::forget(kill);
        }
        (self.pid, self.ssh_port)
    }
}

/// A Unix socket's path has at most 107 bytes on Linux and 103 on macOS.
const LONGEST_SOCKET_PATH: usize = 103;

/// The control socket's path: in the machine's own folder, or in a short temporary one if that path is too long.
fn socket_path(
    folder: &Utf8Path,
    survive: bool,
) -> Result<(Utf8PathBuf, Option<tempfile::TempDir>)> {
    let path = folder.join("qmp.sock");
    if path.as_str().len() <= LONGEST_SOCKET_PATH {
        return Ok((path, None));
    }
    let mut short = tempfile::Builder::new()
        .prefix("ovenbird-")
        .tempdir()
        .or_failure(FailureKind::Environment, || {
            "cannot create a temporary folder".into()
        })?;
    // A machine that outlives this process keeps its socket.
    short.disable_cleanup(survive);
    let path = Utf8PathBuf::try_from(short.path().join("qmp.sock"))
        .or_failure(FailureKind::Environment, || {
            "the temporary folder's name is not UTF-8".into()
        })?;
    Ok((path, Some(short)))
}

/// What QEMU gets of our environment. The rest can hold passphrases and keys of clouds, which whoever breaks out of a guest must
/// not find there.
const ENVIRONMENT: [&str; 4] = ["PATH", "TMPDIR", "LANG", "LD_LIBRARY_PATH"];

fn command_of(qemu: &Utf8Path) -> Command {
    let mut command = Command::new(qemu);
    command.env_clear();
    for name in ENVIRONMENT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

fn refused(qemu: &Qemu, ended: &Exit) -> Failure {
    Failure::environment(format!(
        "{} did not start ({})",
        qemu.path,
        ended.describe()
    ))
    .with_details(ended.messages.clone())
    .with_hint("`ovenbird doctor` checks the prerequisites; `-v` prints QEMU's full command line")
}

async fn wait_exit(exit: &mut watch::Receiver<Option<Exit>>) -> Exit {
    match exit.wait_for(Option::is_some).await {
        Ok(ended) => ended.clone().unwrap_or(Exit {
            status: None,
            messages: String::new(),
        }),
        Err(_) => Exit {
            status: None,
            messages: String::new(),
        },
    }
}

async fn read_bounded(stderr: Option<tokio::process::ChildStderr>) -> String {
    let Some(mut stderr) = stderr else {
        return String::new();
    };
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count) = stderr.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        let room = STDERR_LIMIT.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
    String::from_utf8_lossy(&kept)
        .lines()
        .map(|line| console::clean(line.as_bytes()))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Templates are installed read-only by some distributions.
fn make_writable(path: &Utf8Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .or_failure(FailureKind::Environment, || {
            format!("cannot make {path} writable")
        })
}

/// Lets the child have a descriptor that closes at every other program's start.
fn inherit(command: &mut Command, descriptor: RawFd) {
    // SAFETY: fcntl is async-signal-safe, and the caller keeps the descriptor open until the child has started.
    unsafe {
        command.pre_exec(move || {
            let descriptor = BorrowedFd::borrow_raw(descriptor);
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))
                .map(drop)
                .map_err(std::io::Error::from)
        });
    }
}

/// Has the kernel end the child when this process dies, however it dies: no orphaned guests.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and touches nothing of the parent's state.
    unsafe {
        command.pre_exec(|| {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
                .map_err(std::io::Error::from)
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_command: &mut Command) {}

/// Finds QEMU and the accelerator for a guest's architecture, once for a process.
#[derive(Debug, Clone)]
pub struct Host {
    /// The emulator.
    pub qemu: Qemu,
    /// The probe's verdict.
    pub verdict: Arc<accel::Verdict>,
}

impl Host {
    /// Finds the emulator and chooses the accelerator; `cache` is the folder that remembers the verdict.
    ///
    /// # Errors
    /// See [`Qemu::find`], [`RunAs::choose`] and [`accel::choose`].
    pub async fn find(
        arch: Arch,
        wanted: Option<Accelerator>,
        cache: &Utf8Path,
        settings: &QemuSettings,
    ) -> Result<Self> {
        let mut qemu = Qemu::find(arch)?;
        qemu.run_as = RunAs::choose(settings)?;
        let verdict = accel::choose(
            &qemu,
            wanted,
            &cache.join(format!("accelerator-{arch}.json")),
        )
        .await?;
        Ok(Self {
            qemu,
            verdict: Arc::new(verdict),
        })
    }

    /// The accelerator to use.
    pub fn accelerator(&self) -> Accelerator {
        self.verdict.accelerator
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_secret_is_in_the_environment_of_qemu() {
        // The runner of the tests has set more than these.
        assert!(std::env::vars_os().count() > ENVIRONMENT.len());
        let printed = command_of(Utf8Path::new("env")).output().await.unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        let names: Vec<&str> = printed
            .lines()
            .filter_map(|line| line.split_once('=').map(|(name, _)| name))
            .collect();
        assert!(names.contains(&"PATH"));
        assert!(
            names.iter().all(|name| ENVIRONMENT.contains(name)),
            "{names:?}"
        );
    }

    #[test]
    fn a_socket_path_is_never_too_long() {
        let (path, folder) = socket_path(Utf8Path::new("/run/x"), false).unwrap();
        assert_eq!(path, "/run/x/qmp.sock");
        assert!(folder.is_none());
        let deep = Utf8PathBuf::from(format!("/{}", "d".repeat(120)));
        let (path, folder) = socket_path(&deep, false).unwrap();
        assert!(path.as_str().len() <= LONGEST_SOCKET_PATH, "{path}");
        assert!(folder.is_some_and(|folder| path.starts_with(folder.path().to_str().unwrap())));
    }
}
