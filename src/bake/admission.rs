//! Room for guests: no more at once than the host has memory and processors for.
//!
//! Whoever wants to start a guest takes a seat: a locked file that says what the guest takes. The lock goes with its
//! process, so a killed build gives its seat back. Seats are given in the order in which they were asked for.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::recorder::Recorder;
use crate::error::{FailureContext as _, FailureKind, Result};
use crate::machine::Accelerator;

/// A seat that is given back is seen after this time at the latest.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// What the host keeps for itself, in MiB.
const HOST_MEMORY_MIB: u64 = 1024;
/// QEMU's own memory beside the guest's, in MiB: its code, translated code and caches.
const OVERHEAD_MIB: u64 = 256;

/// What a guest takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Need {
    /// Who it is for, as others are told.
    pub label: String,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
}

/// What all guests together may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
}

impl Room {
    /// The room of this host.
    ///
    /// Emulated processors are busy all the time when the guest is: there are not more of them than real ones. Those of
    /// a hardware accelerator wait most of the time, for disks and mirrors.
    pub fn of_host(accelerator: Accelerator) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let cores = u32::try_from(cores).unwrap_or(u32::MAX);
        let cpus = match accelerator {
            Accelerator::Tcg => cores,
            Accelerator::Kvm | Accelerator::Hvf => cores.saturating_mul(2),
        };
        Self {
            cpus,
            memory_mib: total_memory_mib().saturating_sub(HOST_MEMORY_MIB),
        }
    }

    /// Whether one more fits. The first one always does: it may be slow, but it must not wait for ever.
    fn fits(self, taken: &[Need], need: &Need) -> bool {
        if taken.is_empty() {
            return true;
        }
        let cpus: u64 = taken.iter().map(|need| u64::from(need.cpus)).sum();
        let memory: u64 = taken.iter().map(Need::memory).sum();
        cpus + u64::from(need.cpus) <= u64::from(self.cpus)
            && memory + need.memory() <= self.memory_mib
    }
}

impl Need {
    fn memory(&self) -> u64 {
        u64::from(self.memory_mib) + OVERHEAD_MIB
    }
}

/// A seat; given back when it is dropped.
#[derive(Debug)]
pub struct Seat {
    path: Utf8PathBuf,
    _lock: File,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The seats of one home.
#[derive(Debug, Clone)]
pub struct Seats {
    folder: Utf8PathBuf,
}

/// Somebody who has a seat, or waits for one.
#[derive(Debug, PartialEq, Eq)]
struct Sitter {
    name: String,
    seated: bool,
    need: Need,
}

impl Seats {
    /// The seats of a home, by its folder of runs, beside which they lie.
    pub fn new(runs: &Utf8Path) -> Self {
        Self {
            folder: runs.with_file_name("seats"),
        }
    }

    /// Waits for a seat, and tells why if it has to wait.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the folder can't be used.
    pub async fn take(&self, need: Need, room: Room, recorder: &Recorder) -> Result<Seat> {
        let failed = || format!("cannot take a seat for a guest in {}", self.folder);
        let (name, lock) = self
            .queue(&need)
            .or_failure(FailureKind::Environment, failed)?;
        // Leaves the queue when the wait is given up.
        let mut seat = Seat {
            path: self.folder.join(&name),
            _lock: lock,
        };
        let mut told = String::new();
        loop {
            let others = self
                .try_sit(&name, room)
                .or_failure(FailureKind::Environment, failed)?;
            let Some(others) = others else {
                seat.path = self.folder.join(seated(&name));
                return Ok(seat);
            };
            if others != told {
                recorder
                    .events()
                    .note(format!("waiting for room for a guest: {others}"));
                told = others;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Joins the queue.
    fn queue(&self, need: &Need) -> std::io::Result<(String, File)> {
        fs::create_dir_all(&self.folder)?;
        let _global = self.global()?;
        let number = self
            .folder
            .read_dir_utf8()?
            .flatten()
            .filter_map(|entry| entry.file_name().split('-').next()?.parse::<u64>().ok())
            .max()
            .map_or(1, |last| last + 1);
        let name = format!("{number:012}-waits");
        let path = self.folder.join(&name);
        fs::write(&path, serde_json::to_vec(need)?)?;
        let lock = File::open(&path)?;
        lock.lock()?;
        Ok((name, lock))
    }

    /// Takes the seat if there is room and nobody came earlier; else says who is in the way.
    fn try_sit(&self, name: &str, room: Room) -> std::io::Result<Option<String>> {
        let _global = self.global()?;
        let sitters = self.sitters()?;
        let Some(me) = sitters.iter().find(|sitter| sitter.name == name) else {
            return Err(std::io::Error::other("the place in the queue was removed"));
        };
        let taken: Vec<Need> = sitters
            .iter()
            .filter(|sitter| sitter.seated)
            .map(|sitter| sitter.need.clone())
            .collect();
        let earlier = sitters
            .iter()
            .filter(|sitter| !sitter.seated && sitter.name.as_str() < name)
            .count();
        if earlier == 0 && room.fits(&taken, &me.need) {
            fs::rename(self.folder.join(name), self.folder.join(seated(name)))?;
            return Ok(None);
        }
        let running: Vec<&str> = taken.iter().map(|need| need.label.as_str()).collect();
        Ok(Some(match earlier {
            0 => format!("{} runs", running.join(", ")),
            _ => format!("{} runs, {earlier} came earlier", running.join(", ")),
        }))
    }

    /// All who live, in order; the places of the dead are cleared.
    fn sitters(&self) -> std::io::Result<Vec<Sitter>> {
        let mut sitters = Vec::new();
        for entry in self.folder.read_dir_utf8()?.flatten() {
            let name = entry.file_name().to_owned();
            let state = name.split_once('-').map(|(_, state)| state);
            let seated = match state {
                Some("sits") => true,
                Some("waits") => false,
                _ => continue,
            };
            let Ok(file) = File::open(entry.path()) else {
                continue;
            };
            match file.try_lock() {
                Ok(()) => {
                    let _ = fs::remove_file(entry.path());
                }
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {
                    if let Ok(need) = serde_json::from_reader(&file) {
                        sitters.push(Sitter { name, seated, need });
                    }
                }
            }
        }
        sitters.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(sitters)
    }

    fn global(&self) -> std::io::Result<File> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.folder.join("lock"))?;
        file.lock()?;
        Ok(file)
    }
}

fn seated(name: &str) -> String {
    name.replace("-waits", "-sits")
}

/// `MemTotal`; what can't be read counts as plenty, since only the first guest is certain to start.
fn total_memory_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| {
            let kib = line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?;
            kib.trim().parse::<u64>().ok()
        })
        .map_or(u64::MAX, |kib| kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bake::recorder::NoLedger;
    use crate::events::Events;

    const ROOM: Room = Room {
        cpus: 2,
        memory_mib: 8192,
    };

    fn need(label: &str, cpus: u32, memory_mib: u32) -> Need {
        Need {
            label: label.into(),
            cpus,
            memory_mib,
        }
    }

    fn recorder() -> Recorder {
        Recorder::new(Events::default(), Box::new(NoLedger))
    }

    #[test]
    fn memory_and_processors_both_count() {
        let taken = [need("a", 1, 2048)];
        assert!(ROOM.fits(&[], &need("huge", 64, 100_000)), "the first one");
        assert!(ROOM.fits(&taken, &need("b", 1, 2048)));
        assert!(!ROOM.fits(&taken, &need("b", 2, 2048)));
        assert!(!ROOM.fits(&taken, &need("b", 1, 6144)));
    }

    #[tokio::test]
    async fn seats_are_given_in_order_and_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let seats = Seats::new(&Utf8Path::from_path(folder.path()).unwrap().join("runs"));
        let recorder = recorder();
        let first = seats
            .take(need("first", 2, 1024), ROOM, &recorder)
            .await
            .unwrap();
        let wait = |label: &'static str| {
            let (seats, recorder) = (seats.clone(), &recorder);
            async move {
                let seat = seats
                    .take(need(label, 2, 1024), ROOM, recorder)
                    .await
                    .unwrap();
                drop(seat);
                label
            }
        };
        let order = std::sync::Mutex::new(Vec::new());
        let note = |label| order.lock().unwrap().push(label);
        tokio::join!(
            async { note(wait("second").await) },
            async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                note(wait("third").await);
            },
            async {
                tokio::time::sleep(Duration::from_millis(400)).await;
                note("released");
                drop(first);
            },
        );
        assert_eq!(*order.lock().unwrap(), ["released", "second", "third"]);
        assert!(seats.sitters().unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_seat_of_a_dead_process_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let seats = Seats::new(&Utf8Path::from_path(folder.path()).unwrap().join("runs"));
        // A file whose lock nobody holds: its process is gone.
        fs::create_dir_all(&seats.folder).unwrap();
        let left = serde_json::to_vec(&need("dead", 2, 8000)).unwrap();
        fs::write(seats.folder.join("000000000001-sits"), left).unwrap();
        let seat = seats.take(need("next", 2, 1024), ROOM, &recorder()).await;
        assert!(seat.is_ok());
        assert_eq!(seats.sitters().unwrap().len(), 1);
    }
}
