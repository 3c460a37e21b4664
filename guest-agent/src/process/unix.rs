//! Programs in a process group, which is ended as a whole.

use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, killpg, sigaction};
use nix::unistd::Pid;

use super::{Ending, LINGER, LONGEST_LINGER, Pipe};

/// How long a program may take to end after a polite signal.
const GRACE: Duration = Duration::from_secs(2);

/// Runs a program to its end in a process group of its own, with no input.
///
/// # Errors
///
/// When it cannot be started, or the machinery around it fails.
pub fn run(
    command: &mut Command,
    deadline: Option<Instant>,
    sink: &mut dyn FnMut(Pipe, &[u8]),
) -> io::Result<Ending> {
    let (stdout, stdout_writer) = io::pipe()?;
    let (stderr, stderr_writer) = io::pipe()?;
    let (done, done_writer) = io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(stdout_writer)
        .stderr(stderr_writer)
        .process_group(0);
    let mut child = command.spawn()?;
    // The command holds the writing ends; as long as it does, the pipes never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let group = i32::try_from(child.id())
        .map(Pid::from_raw)
        .map_err(io::Error::other)?;
    RUNNING_GROUP.store(group.as_raw(), Ordering::SeqCst);
    let _running = Running;
    let waiter = std::thread::spawn(move || {
        let status = child.wait();
        drop(done_writer);
        status
    });
    let mut pump = Pump {
        stdout: Some(stdout),
        stderr: Some(stderr),
        done: Some(done),
        sink,
    };
    let timed_out = pump.until_ended(deadline)?;
    if timed_out {
        // An error means that the group is gone already.
        let _ = killpg(group, Signal::SIGTERM);
        if pump.until_ended(Some(Instant::now() + GRACE))? {
            let _ = killpg(group, Signal::SIGKILL);
            pump.until_ended(None)?;
        }
        // What ignored the polite signal and outlived the program itself goes as well.
        let _ = killpg(group, Signal::SIGKILL);
    }
    let status = waiter
        .join()
        .map_err(|_| io::Error::other("the thread that waits for a program panicked"))??;
    Ok(if timed_out {
        Ending::TimedOut
    } else {
        ending(status)
    })
}

/// While it exists, a program runs.
struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING_GROUP.store(0, Ordering::SeqCst);
    }
}

fn ending(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Code(code),
        (None, Some(signal)) => Ending::Signal(signal),
        (None, None) => Ending::Code(-1),
    }
}

struct Pump<'s> {
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
    /// Ends when the program has ended.
    done: Option<PipeReader>,
    sink: &'s mut dyn FnMut(Pipe, &[u8]),
}

impl Pump<'_> {
    /// Pumps until the program has ended and its output is through; `true` when the deadline came first.
    fn until_ended(&mut self, deadline: Option<Instant>) -> io::Result<bool> {
        let mut ended_at: Option<Instant> = None;
        let mut last_output = Instant::now();
        while self.done.is_some() || self.stdout.is_some() || self.stderr.is_some() {
            let now = Instant::now();
            let until = match ended_at {
                Some(ended_at) => {
                    let until = (last_output.max(ended_at) + LINGER).min(ended_at + LONGEST_LINGER);
                    if now >= until {
                        break;
                    }
                    Some(until)
                }
                None if deadline.is_some_and(|deadline| now >= deadline) => return Ok(true),
                None => deadline,
            };
            let [stdout, stderr, done] = self.wait(until)?;
            if stdout {
                self.read(Pipe::Stdout)?;
            }
            if stderr {
                self.read(Pipe::Stderr)?;
            }
            if stdout || stderr {
                last_output = Instant::now();
            }
            if done {
                self.done = None;
            }
            if self.done.is_none() && ended_at.is_none() {
                ended_at = Some(Instant::now());
            }
        }
        Ok(false)
    }

    fn wait(&self, until: Option<Instant>) -> io::Result<[bool; 3]> {
        let pipes = [
            self.stdout.as_ref(),
            self.stderr.as_ref(),
            self.done.as_ref(),
        ];
        let mut fds = Vec::with_capacity(3);
        let mut slots = Vec::with_capacity(3);
        for (slot, pipe) in pipes.iter().enumerate() {
            if let Some(pipe) = pipe {
                fds.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
                slots.push(slot);
            }
        }
        let timeout = until.map_or(PollTimeout::NONE, |until| {
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = [false; 3];
        for (fd, slot) in fds.iter().zip(slots) {
            ready[slot] = fd.any().unwrap_or(false);
        }
        Ok(ready)
    }

    fn read(&mut self, pipe: Pipe) -> io::Result<()> {
        let slot = match pipe {
            Pipe::Stdout => &mut self.stdout,
            Pipe::Stderr => &mut self.stderr,
        };
        let Some(reader) = slot else { return Ok(()) };
        let mut buffer = [0; 64 * 1024];
        match reader.read(&mut buffer) {
            Ok(0) => *slot = None,
            Ok(count) => (self.sink)(pipe, &buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The process group of the program that runs now; 0 when there is none.
static RUNNING_GROUP: AtomicI32 = AtomicI32::new(0);

/// The signal that told the agent to end; 0 when there was none.
static TOLD_TO_END: AtomicI32 = AtomicI32::new(0);

/// How long an agent that was told to end may take to write its logs, in seconds.
const LAST_SECONDS: u32 = 5;

/// Settles what signals do to a run.
///
/// A lost terminal or SSH connection must not end it. For that a handler that does nothing is used instead of ignoring
/// the signal: programs that are started later get the default action back, while an ignored signal would stay ignored in
/// them. When the agent itself is told to end, the program it runs ends with it; being in a group of its own, the program
/// would not hear of a Ctrl-C. The run then stops at the next step and writes its logs. What blocks that for too long, or
/// a second signal, ends the process at once.
pub fn set_up_signals() {
    extern "C" fn nothing(_: i32) {}
    set_handler(Signal::SIGHUP, nothing);
    set_handler(Signal::SIGINT, stop);
    set_handler(Signal::SIGTERM, stop);
    set_handler(Signal::SIGALRM, stop_at_once);
}

/// The signal that told the agent to end.
pub fn told_to_end() -> Option<i32> {
    Some(TOLD_TO_END.load(Ordering::SeqCst)).filter(|number| *number != 0)
}

/// Ends the process by a signal, as if it had no handler for it.
pub fn end_by(number: i32) {
    if let Ok(signal) = Signal::try_from(number) {
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default action is no handler of ours; setting it and raising are allowed in a handler.
        #[allow(
            unsafe_code,
            reason = "there is no safe way to restore a signal's default action"
        )]
        let _ = unsafe { sigaction(signal, &default) };
        let _ = nix::sys::signal::raise(signal);
    }
}

extern "C" fn stop(number: i32) {
    let group = RUNNING_GROUP.load(Ordering::SeqCst);
    if group > 1 {
        // Nothing can be done about an error here.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    if TOLD_TO_END.swap(number, Ordering::SeqCst) != 0 {
        end_by(number);
    }
    let _ = nix::unistd::alarm::set(LAST_SECONDS);
}

extern "C" fn stop_at_once(_: i32) {
    end_by(told_to_end().unwrap_or(Signal::SIGTERM as i32));
}

fn set_handler(signal: Signal, handler: extern "C" fn(i32)) {
    let action = SigAction::new(
        SigHandler::Handler(handler),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    // SAFETY: the handlers use only atomics and system calls that are safe in a signal handler.
    #[allow(unsafe_code, reason = "there is no safe way to set a signal handler")]
    let _ = unsafe { sigaction(signal, &action) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Option<Duration>) -> (Ending, String, Duration) {
        let mut output = Vec::new();
        let started = Instant::now();
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        let ending = run(
            &mut command,
            limit.map(|limit| started + limit),
            &mut |_, bytes| output.extend_from_slice(bytes),
        )
        .expect("runs");
        (
            ending,
            String::from_utf8_lossy(&output).into_owned(),
            started.elapsed(),
        )
    }

    #[test]
    fn exit_codes_and_both_pipes() {
        let (ending, output, _) = sh("echo out; echo err >&2; exit 7", None);
        assert_eq!(ending, Ending::Code(7));
        assert!(output.contains("out\n") && output.contains("err\n"));
        assert_eq!(sh("kill -9 $$", None).0, Ending::Signal(9));
    }

    #[test]
    fn a_time_out_ends_the_whole_group() {
        let marker = tempfile::NamedTempFile::new().expect("file");
        let script = format!(
            "(trap '' TERM; sleep 60; echo alive > {}) & sleep 60",
            marker.path().display()
        );
        let (ending, _, took) = sh(&script, Some(Duration::from_millis(200)));
        assert_eq!(ending, Ending::TimedOut);
        assert!(took < Duration::from_secs(6), "{took:?}");
    }

    #[test]
    fn a_daemon_left_behind_does_not_hold_the_step() {
        let (ending, output, took) = sh("echo started; sleep 30 & exit 0", None);
        assert_eq!((ending, output.as_str()), (Ending::Code(0), "started\n"));
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}
