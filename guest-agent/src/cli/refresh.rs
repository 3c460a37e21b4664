//! `refresh`: what a machine needs that went on from a saved memory, before anything else runs in it.

use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use nix::unistd::Pid;
use ovenbird_component::errand::Renewal;
use serde_json::json;

use super::prepare::{place, read_errand};
use super::{complain, print_line};
use crate::accounts::Accounts;
use crate::{EXIT_FAILED, EXIT_SUCCESS};

/// Bytes that are taken: twice what the kernel's pool holds.
const ENTROPY: usize = 64;

// `RNDADDENTROPY` and `RNDRESEEDCRNG` of linux/random.h.
nix::ioctl_write_ptr_bad!(add_entropy, nix::request_code_write!(b'R', 3, 8), PoolInfo);
nix::ioctl_none!(reseed, b'R', 7);

/// `struct rand_pool_info` with its buffer.
#[repr(C)]
pub struct PoolInfo {
    /// Bits of entropy that are credited.
    entropy_count: nix::libc::c_int,
    /// Bytes of the buffer.
    buf_size: nix::libc::c_int,
    buf: [u8; ENTROPY],
}

pub(super) fn run() -> i32 {
    let renewed = read_errand().and_then(|renewal| renew(&renewal));
    match renewed {
        Ok(done) => {
            print_line(&done.to_string());
            EXIT_SUCCESS
        }
        Err(error) => {
            complain(&error);
            EXIT_FAILED
        }
    }
}

fn renew(renewal: &Renewal) -> Result<serde_json::Value, String> {
    // Randomness first: whatever runs at the same moment shall not use up what another machine had as well.
    let entropy = bytes_of(&renewal.entropy).ok_or("the randomness is not 64 bytes")?;
    mix_in(entropy).map_err(|error| format!("cannot renew the kernel's randomness: {error}"))?;
    end_attendants();
    // A state is saved while the filesystems are frozen, and nobody else thaws those of its copies at once.
    super::freeze::thaw_all().map_err(|error| format!("cannot thaw the filesystems: {error}"))?;
    let seconds = i64::try_from(renewal.time / 1_000_000_000).unwrap_or(i64::MAX);
    let nanoseconds = i64::try_from(renewal.time % 1_000_000_000).unwrap_or(0);
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(seconds, nanoseconds))
        .map_err(|error| format!("cannot set the clock: {error}"))?;
    let accounts = Accounts::read(Path::new("/etc"));
    let user = accounts
        .user(&renewal.user)
        .ok_or_else(|| format!("there is no user {}", renewal.user))?;
    renew_keys(renewal, Path::new("/etc/ssh"), Path::new(&user.home))
        .map_err(|error| format!("cannot renew the SSH keys: {error}"))?;
    let server =
        reload_server().map_err(|error| format!("the SSH server keeps its old keys: {error}"))?;
    Ok(json!({ "leases": renew_leases(), "server": server }))
}

/// Puts the keys of this bake in the place of all there are.
fn renew_keys(renewal: &Renewal, server: &Path, home: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(server)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("ssh_host_") && (name.ends_with("_key") || name.ends_with("_key.pub")) {
            std::fs::remove_file(entry.path())?;
        }
    }
    let line = |text: &str| format!("{}\n", text.trim_end());
    place(
        &server.join("ssh_host_ed25519_key"),
        line(&renewal.host_key).as_bytes(),
        0o600,
    )?;
    let public = line(&renewal.host_key_public);
    place(
        &server.join("ssh_host_ed25519_key.pub"),
        public.as_bytes(),
        0o644,
    )?;
    // Written in place: the file is the user's.
    std::fs::write(
        home.join(".ssh/authorized_keys"),
        line(&renewal.authorized_key),
    )
}

/// Has the SSH server read its keys anew; connections go on.
fn reload_server() -> std::io::Result<&'static str> {
    let number = std::fs::read_to_string("/run/sshd.pid")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    if let Some(number) = number
        && kill(Pid::from_raw(number), Signal::SIGHUP).is_ok()
    {
        return Ok("told by signal");
    }
    for unit in ["ssh", "sshd"] {
        if Command::new("systemctl")
            .args(["reload", unit])
            .status()?
            .success()
        {
            return Ok("told by systemd");
        }
    }
    Err(std::io::Error::other(
        "neither its process nor its unit was found",
    ))
}

/// Ends the processes that served the host of another time: nobody speaks to them any more.
fn end_attendants() {
    let own = std::fs::read_link("/proc/self/exe").ok();
    // The one that serves this host has started us.
    let ours = Pid::parent().as_raw();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes.map(|entry| entry.path()) {
        let attends = std::fs::read(process.join("cmdline"))
            .is_ok_and(|words| words.split(|byte| *byte == 0).nth(1) == Some(b"attend"));
        if !attends || std::fs::read_link(process.join("exe")).ok() != own {
            continue;
        }
        let number = process
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        if let Some(number) = number.filter(|number| *number != ours) {
            let _ = kill(Pid::from_raw(number), Signal::SIGTERM);
        }
    }
}

/// What stands in hexadecimal.
fn bytes_of(text: &str) -> Option<[u8; ENTROPY]> {
    let digits = text.as_bytes().as_chunks::<2>().0.iter();
    let bytes: Option<Vec<u8>> = digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    bytes?.try_into().ok()
}

fn mix_in(buf: [u8; ENTROPY]) -> std::io::Result<()> {
    let random = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/urandom")?;
    let pool = PoolInfo {
        entropy_count: (ENTROPY * 8) as nix::libc::c_int,
        buf_size: ENTROPY as nix::libc::c_int,
        buf,
    };
    // SAFETY: the kernel reads the structure, whose buffer is as long as it says.
    unsafe { add_entropy(random.as_raw_fd(), &raw const pool) }?;
    // SAFETY: no argument. Kernels before 4.14 don't know it; they mix at the next read.
    match unsafe { reseed(random.as_raw_fd()) } {
        Ok(_) | Err(nix::Error::EINVAL | nix::Error::ENOTTY) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Asks the network's own service to renew the leases, without waiting for it: the addresses of a user network do not
/// change, only the leases' times do.
fn renew_leases() -> &'static str {
    let links = || {
        std::fs::read_dir("/sys/class/net")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name != "lo")
            .collect::<Vec<_>>()
    };
    if std::path::Path::new("/run/systemd/netif/links").is_dir()
        && start("networkctl", &["renew"], &links())
    {
        return "systemd-networkd";
    }
    if std::path::Path::new("/run/NetworkManager/devices").is_dir()
        && links()
            .iter()
            .all(|link| start("nmcli", &["device", "reapply"], std::slice::from_ref(link)))
    {
        return "NetworkManager";
    }
    "left to the client"
}

fn start(program: &str, words: &[&str], links: &[String]) -> bool {
    !links.is_empty()
        && Command::new(program)
            .args(words)
            .args(links)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn renewal() -> Renewal {
        Renewal {
            time: 1,
            entropy: "0f".repeat(ENTROPY),
            user: "ovenbird".into(),
            authorized_key: "ssh-ed25519 AAAA mine".into(),
            host_key: "-----BEGIN\nkey\n-----END\n".into(),
            host_key_public: "ssh-ed25519 BBBB guest".into(),
        }
    }

    #[test]
    fn only_the_keys_of_this_bake_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (server, home) = (folder.path().join("ssh"), folder.path().join("home"));
        std::fs::create_dir_all(&server).unwrap();
        std::fs::create_dir_all(home.join(".ssh")).unwrap();
        for name in [
            "ssh_host_rsa_key",
            "ssh_host_rsa_key.pub",
            "ssh_host_ed25519_key",
            "sshd_config",
        ] {
            std::fs::write(server.join(name), "old").unwrap();
        }
        std::fs::write(home.join(".ssh/authorized_keys"), "of another bake\n").unwrap();
        renew_keys(&renewal(), &server, &home).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(&server)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "ssh_host_ed25519_key",
                "ssh_host_ed25519_key.pub",
                "sshd_config"
            ]
        );
        let key = server.join("ssh_host_ed25519_key");
        assert_eq!(std::fs::read_to_string(&key).unwrap(), renewal().host_key);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(&key), mode(&key.with_extension("pub"))),
            (0o600, 0o644)
        );
        let keys = std::fs::read_to_string(home.join(".ssh/authorized_keys")).unwrap();
        assert_eq!(keys, "ssh-ed25519 AAAA mine\n");
    }

    #[test]
    fn randomness_is_64_bytes_or_none() {
        assert_eq!(bytes_of(&renewal().entropy), Some([15; ENTROPY]));
        for bad in ["", "0f", &"0g".repeat(ENTROPY), &"0f".repeat(ENTROPY + 1)] {
            assert_eq!(bytes_of(bad), None, "{bad}");
        }
    }
}
