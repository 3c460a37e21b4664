//! The private folder of a run: scratch disks, sockets, seed, console, and a record by which other processes find it.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::error::{FailureContext as _, FailureKind, Result};

/// `run.json`: who runs, and how its guest is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// The run's id, which is its folder's name.
    pub run: String,
    /// `name/version/build`.
    pub image: String,
    /// The process that works on it.
    pub owner: ProcessId,
    /// Its QEMU, while there is one.
    pub qemu: Option<ProcessId>,
    /// The loopback port of the guest's SSH server.
    pub ssh_port: Option<u16>,
    /// The user to log in as.
    pub user: String,
    /// Whether the guest was kept after a failure and outlives its owner.
    pub kept: bool,
    /// Where its outputs grow until they are whole.
    #[serde(default)]
    pub staging: Option<Utf8PathBuf>,
}

/// A process, told apart from a later one with the same number by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// The number.
    pub pid: u32,
    /// Start time in clock ticks since the host's boot; 0 where it is not known.
    pub start: u64,
}

impl ProcessId {
    /// This process.
    pub fn current() -> Self {
        Self::of(std::process::id())
    }

    /// The process that has this number now.
    pub fn of(pid: u32) -> Self {
        Self {
            pid,
            start: start_time(pid).unwrap_or(0),
        }
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        match start_time(self.pid) {
            Some(start) => self.start == 0 || start == self.start,
            // No /proc on this platform: ask with the empty signal.
            None if !cfg!(target_os = "linux") => i32::try_from(self.pid).is_ok_and(|pid| {
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_ok()
            }),
            None => false,
        }
    }

    /// Kills it, if it is still the same process.
    pub fn kill(self) {
        self.signal(nix::sys::signal::Signal::SIGKILL);
    }

    /// Sends it a signal, if it is still the same process.
    pub fn signal(self, signal: nix::sys::signal::Signal) {
        if self.is_alive()
            && let Ok(pid) = i32::try_from(self.pid)
        {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        }
    }
}

/// Field 22 of `/proc/PID/stat`. The second field, the program's name, may contain anything, so count from its end.
fn start_time(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = &text[text.rfind(')')? + 1..];
    let mut fields = rest.split_whitespace();
    // A zombie is gone, only not yet collected.
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The folder; removed when dropped unless kept.
#[derive(Debug)]
pub struct RunFolder {
    path: Utf8PathBuf,
    record: RunRecord,
    keep: bool,
}

impl RunFolder {
    const RECORD: &'static str = "run.json";
    /// The user's private key, for kept guests and `ovenbird ssh`.
    pub const KEY: &'static str = "id_ed25519";
    /// The guest's host key in known_hosts form.
    pub const KNOWN_HOSTS: &'static str = "known_hosts";

    /// Creates the folder below `runs`, readable by this user alone.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if it can't be created.
    pub fn create(runs: &Utf8Path, run: &str, image: &str, user: &str) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = runs.join(run);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .or_failure(FailureKind::Environment, || format!("cannot create {path}"))?;
        let folder = Self {
            path,
            record: RunRecord {
                run: run.into(),
                image: image.into(),
                owner: ProcessId::current(),
                qemu: None,
                ssh_port: None,
                user: user.into(),
                kept: false,
                staging: None,
            },
            keep: false,
        };
        folder.save()?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// What is on record of it.
    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    /// Records where the outputs are going to grow: if this process is killed, the next one removes them.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the record can't be written.
    pub fn set_staging(&mut self, staging: Utf8PathBuf) -> Result<()> {
        self.record.staging = Some(staging);
        self.save()
    }

    /// Records the guest that runs now, with the files that let `ssh` in.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if a file can't be written.
    pub fn set_guest(
        &mut self,
        pid: u32,
        ssh_port: u16,
        keys: &crate::guest::keys::BakeKeys,
    ) -> Result<()> {
        self.record.qemu = Some(ProcessId::of(pid));
        self.record.ssh_port = Some(ssh_port);
        write_private(&self.path.join(Self::KEY), &keys.user_private()?)?;
        let known = format!("[127.0.0.1]:{ssh_port} {}\n", keys.host_public()?);
        write_private(&self.path.join(Self::KNOWN_HOSTS), &known)?;
        self.save()
    }

    /// Forgets the guest: it was stopped.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the record can't be written.
    pub fn clear_guest(&mut self) -> Result<()> {
        self.record.qemu = None;
        self.record.ssh_port = None;
        self.save()
    }

    /// Leaves folder and guest for the person; returns the `ssh` command line.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the record can't be written.
    pub fn keep(mut self) -> Result<String> {
        self.keep = true;
        self.record.kept = true;
        self.save()?;
        Ok(ssh_command(&self.path, &self.record).join(" "))
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.record)
            .or_failure(FailureKind::Internal, || {
                "cannot encode the run's record".into()
            })?;
        write_private(&self.path.join(Self::RECORD), &text)
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The words of an `ssh` command that logs in to a run's guest.
pub fn ssh_command(folder: &Utf8Path, record: &RunRecord) -> Vec<String> {
    let port = record
        .ssh_port
        .map_or_else(|| "0".into(), |port| port.to_string());
    vec![
        "ssh".into(),
        "-F".into(),
        "/dev/null".into(),
        "-i".into(),
        folder.join(RunFolder::KEY).into_string(),
        "-o".into(),
        "IdentitiesOnly=yes".into(),
        "-o".into(),
        format!("UserKnownHostsFile={}", folder.join(RunFolder::KNOWN_HOSTS)),
        "-o".into(),
        "StrictHostKeyChecking=yes".into(),
        "-p".into(),
        port,
        format!("{}@127.0.0.1", record.user),
    ]
}

/// All runs that have a record, newest name last.
pub fn list(runs: &Utf8Path) -> Vec<(Utf8PathBuf, RunRecord)> {
    let Ok(entries) = runs.read_dir_utf8() else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let text = std::fs::read(entry.path().join(RunFolder::RECORD)).ok()?;
            Some((entry.path().to_owned(), serde_json::from_slice(&text).ok()?))
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Clears what dead owners left: their QEMU and their folders. Kept guests stay while their QEMU runs.
///
/// Returns the images whose runs were cleared.
pub fn sweep(runs: &Utf8Path) -> Vec<String> {
    let mut cleared = Vec::new();
    for (folder, record) in list(runs) {
        let guest_alive = record.qemu.is_some_and(ProcessId::is_alive);
        if record.owner.is_alive() || (record.kept && guest_alive) {
            continue;
        }
        if let Some(qemu) = record.qemu {
            qemu.kill();
        }
        if let Some(staging) = &record.staging {
            let _ = std::fs::remove_dir_all(staging);
        }
        if std::fs::remove_dir_all(&folder).is_ok() {
            cleared.push(record.image);
        }
    }
    cleared
}

/// Ends a kept guest and removes its folder.
///
/// # Errors
/// [`FailureKind::Environment`] if the folder can't be removed.
pub fn release(folder: &Utf8Path, record: &RunRecord) -> Result<()> {
    if let Some(qemu) = record.qemu {
        qemu.kill();
    }
    std::fs::remove_dir_all(folder).or_failure(FailureKind::Environment, || {
        format!("cannot remove {folder}")
    })
}

fn write_private(path: &Utf8Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .or_failure(FailureKind::Environment, || format!("cannot write {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_and_dead_processes() {
        assert!(ProcessId::current().is_alive());
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let process = ProcessId::of(child.id());
        assert!(process.is_alive());
        process.kill();
        child.wait().unwrap();
        assert!(!process.is_alive());
        let reused = ProcessId {
            start: 1,
            ..ProcessId::current()
        };
        assert!(
            !reused.is_alive(),
            "the same number with another start time is another process"
        );
    }

    #[test]
    fn sweep_clears_only_the_dead() {
        let root = tempfile::tempdir().unwrap();
        let runs = Utf8Path::from_path(root.path()).unwrap();
        let alive = RunFolder::create(runs, "alive", "a/1.0.0/1", "u").unwrap();
        let mut dead = RunFolder::create(runs, "dead", "b/1.0.0/1", "u").unwrap();
        let staging = runs.join(".1.dead.part");
        std::fs::create_dir(&staging).unwrap();
        dead.set_staging(staging.clone()).unwrap();
        dead.record.owner.start = 1;
        dead.save().unwrap();
        dead.keep = true;
        drop(dead);
        assert_eq!(sweep(runs), ["b/1.0.0/1"]);
        assert!(!staging.exists());
        assert!(alive.path().exists());
        assert_eq!(list(runs).len(), 1);
        drop(alive);
        assert!(list(runs).is_empty());
    }
}
