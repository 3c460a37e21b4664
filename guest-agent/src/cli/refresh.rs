//! `refresh`: what a machine needs that went on from a saved memory, before anything else runs in it.

use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use serde_json::json;

use super::{complain, print_line};
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

#[derive(Debug, clap::Args)]
pub(super) struct RefreshArguments {
    /// The time now: nanoseconds since 1970 in UTC.
    #[arg(long, value_name = "NANOSECONDS")]
    time: Option<u64>,
    /// Read 64 random bytes from standard input for the kernel's generator, and let it start anew from them.
    #[arg(long)]
    entropy_stdin: bool,
}

pub(super) fn run(arguments: &RefreshArguments) -> i32 {
    match refresh(arguments) {
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

fn refresh(arguments: &RefreshArguments) -> Result<serde_json::Value, String> {
    // Randomness first: whatever runs at the same moment shall not use up what another machine had as well.
    if arguments.entropy_stdin {
        mix_in().map_err(|error| format!("cannot renew the kernel's randomness: {error}"))?;
    }
    if let Some(time) = arguments.time {
        let seconds = i64::try_from(time / 1_000_000_000).unwrap_or(i64::MAX);
        let nanoseconds = i64::try_from(time % 1_000_000_000).unwrap_or(0);
        clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(seconds, nanoseconds))
            .map_err(|error| format!("cannot set the clock: {error}"))?;
    }
    Ok(json!({
        "entropy": arguments.entropy_stdin,
        "time": arguments.time.is_some(),
        "leases": renew_leases(),
    }))
}

fn mix_in() -> std::io::Result<()> {
    let mut buf = [0; ENTROPY];
    std::io::stdin().lock().read_exact(&mut buf)?;
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
