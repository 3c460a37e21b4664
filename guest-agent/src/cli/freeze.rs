//! `freeze`: holds the filesystems still while the host takes a snapshot of the disk.
//!
//! Nothing of this process may touch a frozen filesystem: its pages are locked into memory before, everything it needs is
//! open, and it ends by itself. The thaw does not depend on anybody: it comes with a line on standard input, with its
//! end, or with the time.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::signal::{SigHandler, Signal, signal};
use serde_json::json;

use super::complain;
use crate::{EXIT_FAILED, EXIT_SUCCESS};

// `FIFREEZE` and `FITHAW` of linux/fs.h; their argument is not used.
nix::ioctl_readwrite!(fifreeze, b'X', 119, nix::libc::c_int);
nix::ioctl_readwrite!(fithaw, b'X', 120, nix::libc::c_int);

#[derive(Debug, clap::Args)]
pub(super) struct FreezeArguments {
    /// Thaw after so many seconds, whatever happens.
    #[arg(long = "for", value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    bound: Duration,
}

/// A guest that stands still for longer is taken for dead by its own watchdogs.
const LONGEST: f64 = 60.0;

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= LONGEST => Ok(Duration::from_secs_f64(value)),
        _ => Err(format!(
            "expected seconds, more than 0 and at most {LONGEST}"
        )),
    }
}

pub(super) fn run(arguments: &FreezeArguments) -> i32 {
    match freeze(arguments.bound) {
        Ok(()) => EXIT_SUCCESS,
        Err(error) => {
            complain(&format!("cannot freeze the filesystems: {error}"));
            EXIT_FAILED
        }
    }
}

fn freeze(bound: Duration) -> std::io::Result<()> {
    // A broken connection must not end this process before it has thawed.
    for ignored in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGPIPE,
    ] {
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    let mounts = mounts(&std::fs::read_to_string("/proc/self/mountinfo")?);
    let opened: Vec<(String, File)> = mounts
        .into_iter()
        .filter_map(|(name, path)| Some((name, File::open(path).ok()?)))
        .collect();
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE)?;
    nix::unistd::sync();
    let mut frozen = Frozen(Vec::with_capacity(opened.len()));
    let mut names = Vec::with_capacity(opened.len());
    // What is mounted later lies deeper: it goes first, so that nothing waits for a filesystem that stands still.
    for (name, file) in opened.into_iter().rev() {
        let mut unused = 0;
        // SAFETY: the descriptor is open, the argument is not used by the kernel.
        match unsafe { fifreeze(file.as_raw_fd(), &raw mut unused) } {
            Ok(_) => {
                names.push(name);
                frozen.0.push(file);
            }
            // FAT and read-only mounts can't be frozen; they were synced.
            Err(nix::Error::EOPNOTSUPP | nix::Error::EROFS | nix::Error::EBUSY) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let start = Instant::now();
    say(&json!({ "frozen": names }));
    let expired = !wait_for_line(start + bound);
    drop(frozen);
    say(&json!({ "thawed": names, "expired": expired }));
    Ok(())
}

/// Filesystems that stand still until this is dropped.
struct Frozen(Vec<File>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for file in self.0.iter().rev() {
            let mut unused = 0;
            // SAFETY: as above.
            let _ = unsafe { fithaw(file.as_raw_fd(), &raw mut unused) };
        }
    }
}

fn say(value: &serde_json::Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{value}");
    let _ = out.flush();
}

/// Waits for a line, or the end of the input; false if the time came first.
fn wait_for_line(deadline: Instant) -> bool {
    let input = std::io::stdin();
    let mut buffer = [0; 256];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let mut polled = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut polled, timeout) {
            Ok(0) => return false,
            // Past the buffer of the standard library: what it had taken would not wake the poll again.
            Ok(_) => match nix::unistd::read(input.as_fd(), &mut buffer) {
                Ok(count) if count > 0 && !buffer[..count].contains(&b'\n') => {}
                Err(nix::Error::EINTR) => {}
                _ => return true,
            },
            Err(nix::Error::EINTR) => {}
            Err(_) => return true,
        }
    }
}

/// Writable filesystems on block devices in the order in which they were mounted, each once.
fn mounts(mountinfo: &str) -> Vec<(String, PathBuf)> {
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
        let fields: Vec<&str> = line.split(' ').collect();
        let Some(dash) = fields.iter().position(|field| *field == "-") else {
            continue;
        };
        let (Some(device), Some(path), Some(source)) =
            (fields.get(2), fields.get(4), fields.get(dash + 2))
        else {
            continue;
        };
        let writable = fields
            .get(dash + 3)
            .is_some_and(|options| options.split(',').any(|option| option == "rw"));
        if !writable || !source.starts_with("/dev/") || seen.contains(device) {
            continue;
        }
        seen.push(device);
        let path = unescape(path);
        found.push((path.clone(), PathBuf::from(path)));
    }
    found
}

/// Spaces and the like stand as octal numbers.
fn unescape(path: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .into_iter()
    .fold(path.to_owned(), |path, (code, plain)| {
        path.replace(code, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writable_disks_once_and_in_order() {
        let text = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,discard\n\
                    23 22 0:21 / /proc rw - proc proc rw\n\
                    24 22 254:15 / /boot/efi rw - vfat /dev/vda15 rw\n\
                    25 22 254:1 /srv /bind rw - ext4 /dev/vda1 rw,discard\n\
                    26 22 254:32 / /seed ro - vfat /dev/vdb ro\n\
                    27 22 254:3 / /with\\040space rw - xfs /dev/vda3 rw\n\
                    broken line\n";
        let names: Vec<String> = mounts(text).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["/", "/boot/efi", "/with space"]);
    }

    #[test]
    fn the_bound_is_checked() {
        assert_eq!(seconds("1.5").unwrap(), Duration::from_millis(1500));
        for bad in ["0", "-1", "61", "x", "NaN", "inf"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
