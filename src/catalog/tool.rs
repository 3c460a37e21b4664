//! Programs that we run: their output line by line, and no orphans.

use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use super::progress::Progress;
use super::{CatalogError, Result};

/// How many of the last lines an error carries.
const TAIL: usize = 20;
/// How long a program may take to clean up after SIGTERM: mmdebstrap removes its tree.
const GRACE: Duration = Duration::from_secs(10);

/// The error for a program that did not start.
pub(super) fn cannot_start(program: &str, error: std::io::Error) -> CatalogError {
    if error.kind() == std::io::ErrorKind::NotFound {
        CatalogError::ToolMissing {
            program: program.to_owned(),
        }
    } else {
        CatalogError::io("run", program)(error)
    }
}

/// Whether a program is installed: on the path, or in the system folders that a plain user's path leaves out.
pub(super) fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// A command for a program, found as [`find`] does.
pub(super) fn command(program: &str) -> Command {
    find(program).map_or_else(|| Command::new(program), Command::new)
}

/// Ends a program's whole process group when dropped: mmdebstrap runs apt, which runs dpkg.
struct Group(Option<(Child, Pid)>);

impl Drop for Group {
    fn drop(&mut self) {
        let Some((mut child, group)) = self.0.take() else {
            return;
        };
        let _ = killpg(group, Signal::SIGTERM);
        let started = Instant::now();
        while matches!(child.try_wait(), Ok(None)) {
            if started.elapsed() > GRACE {
                let _ = killpg(group, Signal::SIGKILL);
                return;
            }
            // Only on the way out after Ctrl-C; there is no event to wait for in a destructor.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Runs a program to its end and hands each line it prints to `progress`. When the future is dropped, the program and its
/// children are stopped.
///
/// # Errors
/// [`CatalogError::ToolMissing`], [`CatalogError::ToolFailed`] with the last lines.
pub(super) async fn run(mut command: Command, progress: &dyn Progress) -> Result<()> {
    let program = std::path::Path::new(command.as_std().get_program())
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    // One pipe for both, so that the lines keep their order.
    let pipe = || {
        let (reader, writer) = std::io::pipe()?;
        Ok((
            pipe::Receiver::from_owned_fd(reader.into())?,
            writer.try_clone()?,
            writer,
        ))
    };
    let (reader, stdout, stderr) =
        pipe().map_err(CatalogError::io("make a pipe to", program.clone()))?;
    command
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .process_group(0);
    stop_with_parent(&mut command);
    tracing::debug!(command = ?command.as_std(), "run");
    let child = command
        .spawn()
        .map_err(|error| cannot_start(&program, error))?;
    // It holds our ends of the pipe, which would never end with them.
    drop(command);
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let mut group = Group(id.map(|id| (child, Pid::from_raw(id))));

    let tail = std::sync::Mutex::new(std::collections::VecDeque::with_capacity(TAIL));
    let hear = |line: &str| {
        progress.line(line);
        let mut tail = tail
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line.to_owned());
    };
    lines(reader, &hear)
        .await
        .map_err(CatalogError::io("read the output of", program.clone()))?;
    let status = match &mut group.0 {
        Some((child, _)) => child
            .wait()
            .await
            .map_err(CatalogError::io("wait for", program.clone()))?,
        None => ExitStatus::default(),
    };
    group.0 = None;
    if status.success() {
        return Ok(());
    }
    let tail = tail
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    Err(CatalogError::ToolFailed {
        program,
        status: status.to_string(),
        output: Vec::from(tail).join("\n"),
    })
}

/// Has the kernel ask the program to stop when this process dies, however it dies. Not to kill it: mmdebstrap has children and
/// a tree to clear.
#[cfg(target_os = "linux")]
fn stop_with_parent(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and touches nothing of the parent's state.
    unsafe {
        command.pre_exec(|| {
            nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).map_err(std::io::Error::from)
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn stop_with_parent(_command: &mut Command) {}

async fn lines(stream: impl AsyncRead + Unpin, hear: &impl Fn(&str)) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if !text.is_empty() {
            hear(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::progress::Silent;

    fn shell(script: &str) -> Command {
        let mut command = command("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_failure_carries_the_last_lines() {
        let error = run(shell("seq 100; echo broken >&2; exit 3"), &Silent)
            .await
            .unwrap_err();
        let CatalogError::ToolFailed {
            program,
            status,
            output,
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!(
            (program.as_str(), status.as_str()),
            ("sh", "exit status: 3")
        );
        assert_eq!(output.lines().count(), TAIL);
        assert!(output.ends_with("99\n100\nbroken"), "{output}");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = run(command("no-such-program-anywhere"), &Silent)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, CatalogError::ToolMissing { program } if program == "no-such-program-anywhere"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn dropping_stops_the_children_too() {
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; wait", pid_file.display());
        let running = run(shell(&script), &Silent);
        assert!(
            tokio::time::timeout(Duration::from_millis(500), running)
                .await
                .is_err()
        );
        let pid: i32 = std::fs::read_to_string(&pid_file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        // A process that is gone, or dead and not yet collected by init; a busy machine takes its time with it.
        let start = std::time::Instant::now();
        loop {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{state}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
