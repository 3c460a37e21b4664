//! A machine's state: saved while the machine stands still, and brought back into a new process.
//!
//! Its memory is a [file](super::ram) that is copied. What its devices and processors hold is QEMU's migration stream,
//! without the memory (`x-ignore-shared`): some megabytes, taken over a Unix socket, since QEMU's sandbox may not start
//! programs. The state fits only a machine with the same devices, memory and processor, of the same QEMU version; whoever
//! keeps it has to keep that knowledge too.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use super::qmp::{Qmp, QmpError};
use super::ram::Ram;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// The stream is small.
const LEVEL: i32 = 1;
/// QEMU holds itself back to 128 MiB/s unless told otherwise. Bytes for a second.
const BANDWIDTH: u64 = 1 << 40;
/// The stream takes milliseconds; this is for a very slow disk.
const BOUND: Duration = Duration::from_secs(300);

/// Where a state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateFiles {
    /// What devices and processors hold.
    pub devices: Utf8PathBuf,
    /// The memory.
    pub memory: Utf8PathBuf,
}

/// What was saved.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// Digest of the memory.
    pub digest: String,
    /// Seconds that it took.
    pub seconds: f64,
}

/// Stops the machine's processors.
///
/// # Errors
/// [`FailureKind::Guest`] if QEMU refuses.
pub async fn pause(qmp: &Qmp) -> Result<()> {
    command(qmp, "stop", json!({})).await
}

/// Lets them run (on).
///
/// # Errors
/// [`FailureKind::Guest`] if QEMU refuses.
pub async fn go_on(qmp: &Qmp) -> Result<()> {
    command(qmp, "cont", json!({})).await
}

/// Writes the state of a paused machine, whose memory is `ram`. The machine can go on afterwards.
///
/// # Errors
/// [`FailureKind::Environment`] if a file can't be written, [`FailureKind::Guest`] if QEMU refuses (some devices can't
/// be saved).
pub async fn save(
    qmp: &Qmp,
    socket: &Utf8Path,
    ram: &Arc<Ram>,
    files: &StateFiles,
) -> Result<Saved> {
    let start = Instant::now();
    save_devices(qmp, socket, &files.devices).await?;
    let (ram, file) = (ram.clone(), files.memory.clone());
    let digest = tokio::task::spawn_blocking(move || ram.save(&file))
        .await
        .or_failure(FailureKind::Internal, || "a worker thread failed".into())??;
    Ok(Saved {
        digest: digest.to_string(),
        seconds: start.elapsed().as_secs_f64(),
    })
}

async fn save_devices(qmp: &Qmp, socket: &Utf8Path, file: &Utf8Path) -> Result<()> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).or_failure(FailureKind::Environment, || {
        format!("cannot listen at {socket}")
    })?;
    let target = file.to_owned();
    let taken = tokio::task::spawn_blocking(move || {
        let (stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(BOUND))?;
        take(stream, &target)
    });
    leave_memory_out(qmp).await?;
    set_bandwidth(qmp).await?;
    command(qmp, "migrate", json!({ "uri": format!("unix:{socket}") })).await?;
    let finished = finished(qmp).await;
    if finished.is_err() {
        // Wakes the reader if QEMU never connected.
        drop(UnixStream::connect(socket));
    }
    let taken = taken
        .await
        .or_failure(FailureKind::Internal, || "a worker thread failed".into())?;
    let _ = std::fs::remove_file(socket);
    finished?;
    taken.or_failure(FailureKind::Environment, || {
        format!("cannot write the guest's state to {file}")
    })
}

/// Brings the state of the devices into a machine that was launched for it and has its memory already; lets it run.
///
/// # Errors
/// [`FailureKind::Environment`] if the file can't be read, [`FailureKind::Guest`] if it doesn't fit the machine.
pub async fn load_devices(qmp: &Qmp, socket: &Utf8Path, file: &Utf8Path) -> Result<()> {
    let _ = std::fs::remove_file(socket);
    leave_memory_out(qmp).await?;
    command(
        qmp,
        "migrate-incoming",
        json!({ "uri": format!("unix:{socket}") }),
    )
    .await?;
    let (source, target) = (file.to_owned(), socket.to_owned());
    let given = tokio::task::spawn_blocking(move || give(&source, &target));
    let given = given
        .await
        .or_failure(FailureKind::Internal, || "a worker thread failed".into())?;
    // What QEMU says tells more than the broken pipe that follows from it.
    finished(qmp).await?;
    given.or_failure(FailureKind::Environment, || {
        format!("cannot read the guest's state from {file}")
    })?;
    let _ = std::fs::remove_file(socket);
    go_on(qmp).await
}

/// Shared memory stays where it is; QEMU knows this since 4.0, under a name for trials.
async fn leave_memory_out(qmp: &Qmp) -> Result<()> {
    command(
        qmp,
        "migrate-set-capabilities",
        json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] }),
    )
    .await
}

async fn set_bandwidth(qmp: &Qmp) -> Result<()> {
    command(
        qmp,
        "migrate-set-parameters",
        json!({ "max-bandwidth": BANDWIDTH }),
    )
    .await
}

/// Waits until the migration has ended.
async fn finished(qmp: &Qmp) -> Result<()> {
    let deadline = Instant::now() + BOUND;
    loop {
        let answer = qmp
            .execute("query-migrate", json!({}))
            .await
            .map_err(refused)?;
        match answer["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                let reason = answer["error-desc"].as_str().unwrap_or("no reason given");
                return Err(Failure::guest(format!(
                    "QEMU cannot transfer the guest's memory: {reason}"
                )));
            }
            _ if Instant::now() > deadline => {
                return Err(Failure::guest(format!(
                    "QEMU did not transfer the guest's memory within {} s",
                    BOUND.as_secs()
                )));
            }
            // There is an event for this, but it has to be switched on by a capability that QEMU 6.2 lacks on the
            // receiving side; the answer costs microseconds.
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn command(qmp: &Qmp, command: &str, arguments: serde_json::Value) -> Result<()> {
    qmp.execute(command, arguments)
        .await
        .map(drop)
        .map_err(refused)
}

fn refused(error: QmpError) -> Failure {
    Failure::guest("QEMU does not let its guest be saved or resumed").caused_by(error)
}

fn take(mut stream: UnixStream, file: &Utf8Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // Devices hold what passes through them.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)?;
    let mut encoder = zstd::Encoder::new(file, LEVEL)?;
    encoder.include_checksum(true)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        encoder.write_all(&buffer[..count])?;
    }
    encoder.finish().map(drop)
}

fn give(file: &Utf8Path, socket: &Utf8Path) -> std::io::Result<()> {
    let mut decoder = zstd::Decoder::new(std::fs::File::open(file)?)?;
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(BOUND))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = decoder.read(&mut buffer)?;
        if count == 0 {
            return stream.shutdown(std::net::Shutdown::Write);
        }
        stream.write_all(&buffer[..count])?;
    }
}
