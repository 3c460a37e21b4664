//! Readiness is a ladder, not a time-out.
//!
//! From the process to the agent there are rungs; each is seen on the serial console or by SSH. When the wait
//! fails, the error names the rung that was reached and shows what the guest said last.

use std::time::{Duration, Instant};

use camino::Utf8Path;
use russh::keys::{PrivateKey, PublicKey};
use serde::{Deserialize, Serialize};

use super::ssh::{Session, SshError};
use crate::error::{Failure, Result};
use crate::machine::Machine;
use crate::machine::console::{self, ConsoleTail};

/// How far the guest came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rung {
    /// QEMU runs.
    Process,
    /// Firmware or boot loader printed something.
    Firmware,
    /// The kernel runs.
    Kernel,
    /// The init system runs.
    Init,
    /// cloud-init runs.
    CloudInit,
    /// An SSH server sent its banner and the right host key.
    Ssh,
    /// We are logged in.
    Login,
    /// Our agent answered.
    Agent,
}

impl Rung {
    /// What the person reads.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Process => "QEMU runs, the console is silent",
            Self::Firmware => "the firmware or the boot loader runs",
            Self::Kernel => "the kernel runs",
            Self::Init => "the init system runs",
            Self::CloudInit => "cloud-init runs",
            Self::Ssh => "an SSH server answers",
            Self::Login => "logged in",
            Self::Agent => "the agent answers",
        }
    }

    /// The rung that a console line shows, if any.
    fn of_line(line: &str) -> Option<Self> {
        const SIGNS: [(&str, Rung); 12] = [
            ("Cloud-init v.", Rung::CloudInit),
            ("cloud-init[", Rung::CloudInit),
            ("systemd[1]:", Rung::Init),
            ("Welcome to ", Rung::Init),
            ("[  OK  ]", Rung::Init),
            ("OpenRC ", Rung::Init),
            ("Linux version ", Rung::Kernel),
            ("Loading Linux", Rung::Firmware),
            ("Begin: ", Rung::Kernel),
            ("SeaBIOS", Rung::Firmware),
            ("BdsDxe", Rung::Firmware),
            ("GRUB", Rung::Firmware),
        ];
        if let Some((_, rung)) = SIGNS.iter().find(|(sign, _)| line.contains(sign)) {
            return Some(*rung);
        }
        // A kernel message: `[    1.234567] text`.
        let stamp = line.strip_prefix('[')?.split_once(']')?.0.trim();
        stamp.parse::<f64>().is_ok().then_some(Self::Kernel)
    }
}

/// What the guest says when it will never be ready.
fn fatal_sign(line: &str) -> Option<&'static str> {
    const SIGNS: [(&str, &str); 7] = [
        ("Kernel panic - not syncing", "the guest's kernel panicked"),
        (
            "You are in emergency mode",
            "the guest's init system gave up and entered emergency mode",
        ),
        (
            "Entering emergency mode",
            "the guest's initramfs gave up and entered emergency mode",
        ),
        (
            "(initramfs)",
            "the guest's initramfs did not find the root filesystem",
        ),
        (
            "No bootable device",
            "the firmware found nothing to boot from",
        ),
        ("grub rescue>", "the boot loader did not find its files"),
        (
            "BdsDxe: No bootable option",
            "the firmware found nothing to boot from",
        ),
    ];
    SIGNS
        .iter()
        .find(|(sign, _)| line.contains(sign))
        .map(|(_, meaning)| *meaning)
}

/// How long to wait; both are for the accelerator at hand (scaled by the caller).
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For everything.
    pub total: Duration,
    /// Without any new console output or rung.
    pub silence: Duration,
}

impl Patience {
    /// The waits that fit real hardware, stretched by a factor.
    pub fn scaled(factor: u32) -> Self {
        Self {
            total: Duration::from_secs(120) * factor,
            silence: Duration::from_secs(45) * factor,
        }
    }

    /// The wait of a first try, after which there is a second.
    pub fn halved(self) -> Self {
        Self {
            silence: self.silence / 2,
            ..self
        }
    }
}

/// What happened on the way up.
#[derive(Debug)]
pub enum Climb<'a> {
    /// A rung was reached, so long after the start of the wait.
    Rung(Rung, Duration),
    /// The console printed a line.
    Console(&'a str),
    /// The guest hung on its way and is started once more.
    Again(&'a Failure),
}

/// Why the wait ended without a session.
#[derive(Debug)]
pub struct Stuck {
    /// What the person is told.
    pub failure: Failure,
    /// Whether the guest hangs before its init system, and so has written nothing to its disk.
    pub hangs: bool,
}

impl From<Stuck> for Failure {
    fn from(stuck: Stuck) -> Self {
        stuck.failure
    }
}

/// How often console and SSH are looked at. A forwarded port gives no event before the guest's server listens:
/// the connection is accepted by QEMU and closed at once.
const TICK: Duration = Duration::from_millis(150);
/// How many console lines an error shows.
const SHOWN_LINES: usize = 20;

/// Waits until SSH lets us in.
///
/// `seen` is called for each rung and console line. `is_new_boot` decides whether a session is of the boot that is
/// waited for (after a reboot the old one may still answer for a moment).
///
/// # Errors
/// [`Stuck`] with a [`FailureKind::Guest`](crate::error::FailureKind::Guest), naming the rung reached and the last console
/// lines.
pub async fn climb(
    machine: &Machine,
    tail: &mut ConsoleTail,
    (user, key, host): (&str, &PrivateKey, &PublicKey),
    patience: Patience,
    mut seen: impl FnMut(Climb<'_>),
) -> Result<Session, Stuck> {
    let start = Instant::now();
    let mut reached = Rung::Process;
    let mut last_sign_of_life = Instant::now();
    let mut last_error: Option<SshError> = None;
    let mut partial = String::new();
    seen(Climb::Rung(Rung::Process, start.elapsed()));
    let mut exit = machine.exit_watch();
    loop {
        let attempt = Session::connect(machine.ssh_port, user, key, host);
        tokio::pin!(attempt);
        let session = loop {
            for line in tail.poll() {
                last_sign_of_life = Instant::now();
                seen(Climb::Console(&line));
                if let Some(meaning) = fatal_sign(&line) {
                    return Err(stuck(machine, reached, meaning.into(), None));
                }
                if let Some(rung) = Rung::of_line(&line)
                    && rung > reached
                {
                    reached = rung;
                    seen(Climb::Rung(rung, start.elapsed()));
                }
            }
            // Prompts have no line end.
            let current = tail.partial();
            if current != partial {
                last_sign_of_life = Instant::now();
                if let Some(meaning) = fatal_sign(&current) {
                    return Err(stuck(machine, reached, meaning.into(), None));
                }
                partial = current;
            }
            if start.elapsed() > patience.total {
                let text = format!(
                    "the guest was not ready after {} s",
                    patience.total.as_secs()
                );
                return Err(stuck(machine, reached, text, last_error));
            }
            if last_sign_of_life.elapsed() > patience.silence {
                let text = format!(
                    "the guest gave no sign of life for {} s",
                    patience.silence.as_secs()
                );
                return Err(Stuck {
                    hangs: reached < Rung::Init,
                    ..stuck(machine, reached, text, last_error)
                });
            }
            tokio::select! {
                result = &mut attempt => break Some(result),
                () = tokio::time::sleep(TICK) => {}
                ended = exit.wait_for(Option::is_some) => {
                    let text = match ended.ok().and_then(|ended| ended.clone()) {
                        Some(ended) => format!("QEMU ended while the guest was starting ({})", ended.describe()),
                        None => "QEMU ended while the guest was starting".into(),
                    };
                    return Err(stuck(machine, reached, text, None));
                }
            }
        };
        match session {
            Some(Ok(session)) => {
                seen(Climb::Rung(Rung::Ssh, start.elapsed()));
                seen(Climb::Rung(Rung::Login, start.elapsed()));
                return Ok(session);
            }
            Some(Err(error)) => {
                if !matches!(error, SshError::NoServer(_)) && reached < Rung::Ssh {
                    reached = Rung::Ssh;
                    last_sign_of_life = Instant::now();
                }
                last_error = Some(error);
                tokio::time::sleep(TICK).await;
            }
            None => {}
        }
    }
}

fn stuck(machine: &Machine, reached: Rung, what: String, error: Option<SshError>) -> Stuck {
    let failure = Failure::guest(format!("{what}; reached: {}", reached.describe()))
        .with_details(console_excerpt(&machine.console))
        .with_hint(hint(reached, error.as_ref()));
    let failure = match error {
        Some(error) if reached >= Rung::Ssh => failure.caused_by(error),
        _ => failure,
    };
    Stuck {
        failure,
        hangs: false,
    }
}

/// The last console lines, ready to be printed under an error.
pub fn console_excerpt(console: &Utf8Path) -> String {
    let lines = console::last_lines(console, SHOWN_LINES);
    if lines.is_empty() {
        return "the console printed nothing".into();
    }
    format!("last lines of the console:\n  {}", lines.join("\n  "))
}

fn hint(reached: Rung, error: Option<&SshError>) -> &'static str {
    match (reached, error) {
        (_, Some(SshError::WrongHostKey)) => {
            "cloud-init in the base image did not install the host key from the seed; does it have the NoCloud datasource?"
        }
        (_, Some(SshError::Refused { .. })) => {
            "cloud-init in the base image did not create the user from the seed; does it have the NoCloud datasource?"
        }
        (Rung::Process | Rung::Firmware, _) => {
            "does the disk have a boot loader for this firmware? try the other `firmware:`, or look at the console with `-v`"
        }
        (Rung::Kernel, _) => {
            "does the initramfs have the virtio drivers, and does the root device exist?"
        }
        (Rung::Init, _) => "is cloud-init installed and enabled in the base image?",
        _ => "is an SSH server installed in the base image? `-v` shows the whole console",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_of_console_lines() {
        for (line, rung) in [
            (
                "[    0.000000] Linux version 6.1.0-40-cloud-amd64",
                Some(Rung::Kernel),
            ),
            (
                "[    2.301987] virtio_blk virtio1: 2/0/0 queues",
                Some(Rung::Kernel),
            ),
            ("[  OK  ] Reached target network.target", Some(Rung::Init)),
            (
                "[    3.5] systemd[1]: Detected virtualization qemu.",
                Some(Rung::Init),
            ),
            (
                "[   30.1] cloud-init[312]: Cloud-init v. 22.4.2 running 'init'",
                Some(Rung::CloudInit),
            ),
            ("BdsDxe: starting Boot0001", Some(Rung::Firmware)),
            ("GNU GRUB  version 2.06", Some(Rung::Firmware)),
            ("hello", None),
            ("[note] x", None),
        ] {
            assert_eq!(Rung::of_line(line), rung, "{line}");
        }
    }

    #[test]
    fn signs_of_the_end() {
        assert!(
            fatal_sign("[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs").is_some()
        );
        assert!(fatal_sign("(initramfs) ").is_some());
        assert!(fatal_sign("panic is a word").is_none());
    }

    #[test]
    fn order_of_rungs() {
        assert!(
            Rung::Process < Rung::Kernel
                && Rung::Kernel < Rung::CloudInit
                && Rung::CloudInit < Rung::Agent
        );
    }
}
