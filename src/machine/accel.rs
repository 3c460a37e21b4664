//! Which accelerator to use: believed only after it ran code.
//!
//! `/dev/kvm` can open, start, run the firmware, and then crawl for minutes (nested hosts). So the probe runs
//! the payload of [`super::payload`] under software emulation first, then under the accelerator with a time
//! bound, compares, and remembers the verdict for this kernel, this QEMU and this CPU.

use std::process::Stdio;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::payload;
use super::qemu::Qemu;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// How guest code is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Linux's hypervisor.
    Kvm,
    /// macOS's hypervisor.
    Hvf,
    /// QEMU's own software emulation; works everywhere, slowly.
    Tcg,
}

impl Accelerator {
    /// The accelerator's name on QEMU's command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Hvf => "hvf",
            Self::Tcg => "tcg",
        }
    }

    /// By how much waits for the guest have to be stretched.
    ///
    /// Measured: a Debian guest reaches SSH in about 5 s under KVM and in about 60 s under software emulation
    /// on two cores; 12 covers that with room for a busy host.
    pub const fn time_scale(self) -> u32 {
        match self {
            Self::Kvm | Self::Hvf => 1,
            Self::Tcg => 12,
        }
    }

    /// Stretches a wait that is right for real hardware.
    pub fn scale(self, wait: Duration) -> Duration {
        wait * self.time_scale()
    }

    /// The hardware accelerator that this host could have.
    fn of_host() -> Option<Self> {
        if cfg!(target_os = "linux") {
            Some(Self::Kvm)
        } else if cfg!(target_os = "macos") {
            Some(Self::Hvf)
        } else {
            None
        }
    }
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Accelerator {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "kvm" => Ok(Self::Kvm),
            "hvf" => Ok(Self::Hvf),
            "tcg" => Ok(Self::Tcg),
            other => Err(format!(
                "unknown accelerator `{other}`: expected kvm, hvf or tcg"
            )),
        }
    }
}

/// What the probe found, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Verdict {
    /// The accelerator to use.
    pub accelerator: Accelerator,
    /// One sentence for the person: why this one.
    pub reason: String,
    /// Milliseconds of the payload under software emulation, QEMU's start included, if it was run.
    pub tcg_millis: Option<u64>,
    /// Milliseconds of the payload under the hardware accelerator, if it finished.
    pub hardware_millis: Option<u64>,
    /// What the verdict holds for; a verdict with another key is stale.
    key: String,
}

/// The payload may take this long under a hardware accelerator, whatever software emulation needed.
const HARDWARE_BOUND: Duration = Duration::from_secs(2);
/// Software emulation slower than this means a host so busy that a verdict would be a guess.
const TCG_BOUND: Duration = Duration::from_secs(10);

/// Returns the accelerator for this host: `wanted` if given, else the remembered verdict, else a probe.
///
/// `cache` is the file that remembers the verdict.
///
/// # Errors
/// [`FailureKind::Environment`] if QEMU can't run even software emulation.
pub async fn choose(qemu: &Qemu, wanted: Option<Accelerator>, cache: &Utf8Path) -> Result<Verdict> {
    let key = host_key(qemu);
    if let Some(accelerator) = wanted {
        return Ok(Verdict {
            accelerator,
            reason: "asked for by name".into(),
            tcg_millis: None,
            hardware_millis: None,
            key,
        });
    }
    if let Some(verdict) = remembered(cache, &key) {
        return Ok(verdict);
    }
    let verdict = probe(qemu, key).await?;
    // Remembering is a convenience: a read-only home must not stop a build.
    if let Ok(text) = serde_json::to_vec_pretty(&verdict) {
        if let Some(parent) = cache.parent() {
            let _ = std::fs::create_dir_all(parent);
        }
        let _ = std::fs::write(cache, text);
    }
    Ok(verdict)
}

fn remembered(cache: &Utf8Path, key: &str) -> Option<Verdict> {
    let text = std::fs::read(cache).ok()?;
    let verdict: Verdict = serde_json::from_slice(&text).ok()?;
    (verdict.key == key).then_some(verdict)
}

/// The host's processor as a guest under a hardware accelerator sees it: model and features.
pub fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        text.lines()
            .find(|line| line.starts_with(name))
            .and_then(|line| line.split_once(':'))
            .map_or("", |(_, value)| value.trim())
            .to_owned()
    };
    let flags = blake3::hash(field("flags").as_bytes()).to_hex();
    format!("{} ({})", field("model name"), &flags[..12])
}

/// What can change the verdict: kernel, QEMU, CPU, and whether the device can be opened.
fn host_key(qemu: &Qemu) -> String {
    let kernel = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let cpu = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            text.lines()
                .find(|line| line.starts_with("model name"))
                .map(str::to_owned)
        })
        .unwrap_or_default();
    let device = device_problem().unwrap_or_else(|| "usable".into());
    format!("{kernel}|{}|{cpu}|{device}", qemu.version)
}

/// Says why the accelerator's device can't be opened, if it can't.
fn device_problem() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let path = "/dev/kvm";
    match std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
    {
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Some(format!("{path} does not exist"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Some(format!(
            "{path} may not be opened by this user (is it in the group kvm?)"
        )),
        Err(error) => Some(format!("{path} can't be opened: {error}")),
    }
}

async fn probe(qemu: &Qemu, key: String) -> Result<Verdict> {
    let verdict =
        |accelerator, reason: String, tcg: Option<Duration>, hardware: Option<Duration>| Verdict {
            accelerator,
            reason,
            tcg_millis: tcg.map(millis),
            hardware_millis: hardware.map(millis),
            key: key.clone(),
        };
    let Some(hardware) = Accelerator::of_host() else {
        return Ok(verdict(
            Accelerator::Tcg,
            "this platform has no hardware accelerator that we know".into(),
            None,
            None,
        ));
    };
    if let Some(problem) = device_problem() {
        return Ok(verdict(Accelerator::Tcg, problem, None, None));
    }
    let Some(sector) = payload::boot_sector().filter(|_| qemu.arch.is_host()) else {
        let reason = if qemu.arch.is_host() {
            return Ok(verdict(
                hardware,
                format!("{hardware} is there (not probed on this architecture)"),
                None,
                None,
            ));
        } else {
            format!(
                "a guest of {} runs on this host only in software",
                qemu.arch
            )
        };
        return Ok(verdict(Accelerator::Tcg, reason, None, None));
    };
    let folder = tempfile::Builder::new()
        .prefix("ovenbird-probe-")
        .tempdir()
        .or_failure(FailureKind::Environment, || {
            "cannot create a temporary folder".into()
        })?;
    let disk = Utf8PathBuf::try_from(folder.path().join("payload.img"))
        .or_failure(FailureKind::Environment, || {
            "the temporary folder's name is not UTF-8".into()
        })?;
    std::fs::write(&disk, sector)
        .or_failure(FailureKind::Environment, || format!("cannot write {disk}"))?;

    let software = match run(qemu, Accelerator::Tcg, &disk, TCG_BOUND).await? {
        Outcome::Finished(time) => time,
        Outcome::TooSlow => {
            return Ok(verdict(
                Accelerator::Tcg,
                format!(
                    "the host is too busy for a probe (software emulation took over {TCG_BOUND:?})"
                ),
                None,
                None,
            ));
        }
        Outcome::Refused(message) => {
            return Err(
                Failure::environment("QEMU cannot run even its own software emulation")
                    .with_details(message)
                    .with_hint("run `ovenbird doctor`"),
            );
        }
    };
    let bound = HARDWARE_BOUND
        .max(software + software / 2)
        .min(HARDWARE_BOUND * 2);
    Ok(match run(qemu, hardware, &disk, bound).await? {
        Outcome::Finished(time) if time <= software * 2 => verdict(
            hardware,
            format!(
                "{hardware} ran the probe in {} ms (software emulation: {} ms)",
                millis(time),
                millis(software)
            ),
            Some(software),
            Some(time),
        ),
        Outcome::Finished(time) => verdict(
            Accelerator::Tcg,
            format!(
                "{hardware} ran the probe in {} ms, slower than software emulation with {} ms",
                millis(time),
                millis(software)
            ),
            Some(software),
            Some(time),
        ),
        Outcome::TooSlow => verdict(
            Accelerator::Tcg,
            format!(
                "{hardware} opens but crawls: the probe was not done after {} ms, software emulation needed {} ms",
                millis(bound),
                millis(software)
            ),
            Some(software),
            None,
        ),
        Outcome::Refused(message) => verdict(
            Accelerator::Tcg,
            format!(
                "{hardware} refused to start: {}",
                message.lines().last().unwrap_or("no message")
            ),
            Some(software),
            None,
        ),
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

enum Outcome {
    Finished(Duration),
    TooSlow,
    Refused(String),
}

async fn run(
    qemu: &Qemu,
    accelerator: Accelerator,
    disk: &Utf8Path,
    bound: Duration,
) -> Result<Outcome> {
    let cpu = if accelerator == Accelerator::Tcg {
        "max"
    } else {
        "host"
    };
    let port = payload::EXIT_PORT;
    let start = Instant::now();
    let child = Command::new(&qemu.path)
        .args(["-accel", accelerator.as_str()])
        .args(["-cpu", cpu])
        .args(["-m", "16"])
        .args(["-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none"])
        .args([
            "-device",
            &format!("isa-debug-exit,iobase={port:#x},iosize=4"),
        ])
        .args([
            "-drive",
            &format!(
                "file={},format=raw,if=ide,snapshot=on",
                super::args::escape(disk.as_str())
            ),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .or_failure(FailureKind::Environment, || {
            format!("cannot start {}", qemu.path)
        })?;
    // The child is killed when the time-out drops the future.
    match tokio::time::timeout(bound, child.wait_with_output()).await {
        Err(_) => Ok(Outcome::TooSlow),
        Ok(Err(error)) => Err(Failure::environment("cannot wait for QEMU").caused_by(error)),
        Ok(Ok(output)) if output.status.code() == Some(payload::EXIT_STATUS) => {
            Ok(Outcome::Finished(start.elapsed()))
        }
        Ok(Ok(output)) => Ok(Outcome::Refused(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_or_broken_memory_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Utf8PathBuf::try_from(folder.path().join("accel.json")).unwrap();
        assert!(remembered(&cache, "k").is_none());
        std::fs::write(&cache, "{not json").unwrap();
        assert!(remembered(&cache, "k").is_none());
        let verdict = Verdict {
            accelerator: Accelerator::Tcg,
            reason: "r".into(),
            tcg_millis: Some(1),
            hardware_millis: None,
            key: "k".into(),
        };
        std::fs::write(&cache, serde_json::to_vec(&verdict).unwrap()).unwrap();
        assert_eq!(remembered(&cache, "k"), Some(verdict));
        assert!(remembered(&cache, "another kernel").is_none());
    }
}
