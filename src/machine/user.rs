//! As whom QEMU runs when root runs Ovenbird: as somebody who has no rights, with one exception.
//!
//! Disks, layers and sockets lie in folders that only root may enter, wherever root has put the home, and they stay there. So
//! QEMU keeps the right to pass by the permissions of files (`CAP_DAC_OVERRIDE`) and loses all others of root's with root's
//! name. Landlock says which files those are: without it, the exception is as wide as the machine.

use serde::Deserialize;

use crate::error::Result;
#[cfg(target_os = "linux")]
use crate::error::{Failure, FailureContext as _, FailureKind};

/// What `[qemu]` in a home's `config.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct QemuSettings {
    /// As which user QEMU runs when root runs Ovenbird; `root` leaves it as it is.
    pub user: Option<String>,
}

/// A user of this machine as whom QEMU runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    /// The user's name.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The number of the user's own group.
    pub gid: u32,
}

/// Those that are taken if nothing is said: one made for it, else the one that every system has for such things.
#[cfg(target_os = "linux")]
const USUAL: [&str; 2] = ["ovenbird", "nobody"];

#[cfg(target_os = "linux")]
impl RunAs {
    /// The user as whom QEMU shall run; none if it runs as who runs this process: always unless that is root.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if the settings name a user that there is not, [`FailureKind::Environment`] if QEMU can't be
    /// made to run as a user that they name. Without settings it runs as root then, and `ovenbird doctor` says so.
    pub fn choose(settings: &QemuSettings) -> Result<Option<Self>> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(None);
        }
        let wanted = settings.user.as_deref();
        let found = match wanted {
            Some(name) => Some(Self::named(name)?.ok_or_else(|| {
                Failure::config(format!("there is no user {name}, as whom QEMU shall run"))
                    .with_hint("`user` under `[qemu]` in the home's config.toml names it; `root` lets QEMU run as root")
            })?),
            None => USUAL
                .into_iter()
                .find_map(|name| Self::named(name).transpose())
                .transpose()?,
        };
        let Some(user) = found.filter(|user| user.uid != 0) else {
            return Ok(None);
        };
        match (user.rehearse(), wanted) {
            (Ok(()), _) => Ok(Some(user)),
            (Err(error), Some(name)) => Err(Failure::environment(format!(
                "QEMU can't run as {name} here"
            ))
            .caused_by(error)
            .with_hint("a container may take the rights for it from its root; `user = \"root\"` under `[qemu]` in the home's config.toml lets QEMU run as root")),
            (Err(error), None) => {
                tracing::warn!(%error, user = user.name, "QEMU runs as root, since it can't run as somebody else here");
                Ok(None)
            }
        }
    }

    fn named(name: &str) -> Result<Option<Self>> {
        let found = nix::unistd::User::from_name(name)
            .or_failure(FailureKind::Environment, || {
                format!("cannot look up the user {name}")
            })?;
        Ok(found.map(|user| Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        }))
    }

    /// Tries it on a thread that is given up for it: these are rights of threads.
    fn rehearse(&self) -> std::io::Result<()> {
        let (uid, gid) = (self.uid, self.gid);
        std::thread::spawn(move || become_user(uid, gid))
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("the thread that tried it failed")))
    }

    /// Lets a command start as this user. What is asked of the kernel for the process itself has to be asked afterwards: the
    /// kernel forgets some of it (the signal at the parent's death) when the user changes.
    pub fn apply(&self, command: &mut tokio::process::Command) {
        let (uid, gid) = (self.uid, self.gid);
        // SAFETY: system calls without allocation, on numbers that the closure owns.
        unsafe {
            command.pre_exec(move || become_user(uid, gid));
        }
    }
}

/// Makes the calling thread, which is all of a process between fork and exec, another user's.
#[cfg(target_os = "linux")]
fn become_user(uid: u32, gid: u32) -> std::io::Result<()> {
    use rustix::process::{Gid, Uid};
    use rustix::thread::{self, CapabilitySet, CapabilitySets};
    const KEPT: CapabilitySet = CapabilitySet::DAC_OVERRIDE;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    thread::set_thread_groups(&[])?;
    thread::set_thread_res_gid(gid, gid, gid)?;
    for capability in CapabilitySet::all().difference(KEPT).iter() {
        // Older kernels don't know all of them; no new rights can be gained anyhow.
        let _ = thread::remove_capability_from_bounding_set(capability);
    }
    thread::set_keep_capabilities(true)?;
    thread::set_thread_res_uid(uid, uid, uid)?;
    let sets = CapabilitySets {
        effective: KEPT,
        permitted: KEPT,
        inheritable: KEPT,
    };
    thread::set_capabilities(None, sets)?;
    // What is ambient stays at the start of a program.
    thread::configure_capability_in_ambient_set(KEPT, true)?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
impl RunAs {
    /// Always none: other systems have no such rights to keep.
    ///
    /// # Errors
    /// None.
    pub fn choose(_settings: &QemuSettings) -> Result<Option<Self>> {
        Ok(None)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Stdio;

    use super::*;

    /// The field of a text like `/proc/self/status`.
    fn field<'a>(status: &'a str, name: &str) -> &'a str {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.strip_prefix(':'))
            .unwrap_or_default()
            .trim()
    }

    #[tokio::test]
    async fn root_hands_over_all_but_the_way_to_the_files() {
        let settings = QemuSettings {
            user: Some("nobody".into()),
        };
        let Some(user) = RunAs::choose(&settings).unwrap() else {
            assert!(!nix::unistd::geteuid().is_root());
            return;
        };
        // As a home of root's has them.
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("disk");
        std::fs::write(&secret, "d").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&secret, mode).unwrap();
        let run = async |script: String| {
            let mut command = tokio::process::Command::new("sh");
            command.args(["-c", &script]).stderr(Stdio::null());
            user.apply(&mut command);
            let output = command.output().await.unwrap();
            (
                output.status.success(),
                String::from_utf8_lossy(&output.stdout).into_owned(),
            )
        };
        let (_, status) = run("cat /proc/self/status".into()).await;
        let four = vec![user.uid.to_string(); 4].join("\t");
        assert_eq!(field(&status, "Uid"), four);
        assert_eq!(field(&status, "Groups"), "");
        // CAP_DAC_OVERRIDE has the number 1.
        for set in ["CapPrm", "CapEff", "CapAmb", "CapBnd"] {
            assert_eq!(field(&status, set), "0000000000000002", "{set}");
        }
        let disk = secret.display();
        for (script, allowed) in [
            (format!("cat {disk} && echo x >> {disk}"), true),
            (format!("chown 0 {disk}"), false),
            (format!("kill -0 {}", std::process::id()), false),
            ("cat /proc/1/environ".into(), false),
        ] {
            assert_eq!(run(script.clone()).await.0, allowed, "{script}");
        }
    }

    #[test]
    fn a_user_that_there_is_not_is_told() {
        let choose = |name: &str| {
            RunAs::choose(&QemuSettings {
                user: Some(name.into()),
            })
        };
        if !nix::unistd::geteuid().is_root() {
            assert_eq!(choose("no-such-user").unwrap(), None);
            return;
        }
        let failure = choose("no-such-user").unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Config);
        assert_eq!(
            failure.chain(),
            "there is no user no-such-user, as whom QEMU shall run"
        );
        assert_eq!(choose("root").unwrap(), None);
    }
}
