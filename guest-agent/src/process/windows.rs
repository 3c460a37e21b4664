//! Programs in a job, which ends with everything in it.

use std::io::{self, PipeReader, Read};
use std::os::windows::io::AsRawHandle;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Instant;

use win32job::{ExtendedLimitInfo, Job};

use super::{Ending, LINGER, LONGEST_LINGER, Pipe};

/// What the threads that wait for a program have to tell.
enum Heard {
    Bytes(Pipe, Vec<u8>),
    Ended(io::Result<ExitStatus>),
}

/// Pieces of output that wait for their turn; the program is held up when there are more.
const MOST_WAITING: usize = 16;

/// Runs a program to its end in a job of its own, with no input.
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
    command
        .stdin(Stdio::null())
        .stdout(stdout_writer)
        .stderr(stderr_writer);
    let mut limits = ExtendedLimitInfo::new();
    limits.limit_kill_on_job_close();
    let job = Job::create_with_limit_info(&limits).map_err(io::Error::other)?;
    let mut child = command.spawn()?;
    // The command holds the writing ends; as long as it does, the pipes never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    // What the program starts before this line escapes the job; it has hardly been loaded by then.
    let in_job = job.assign_process(child.as_raw_handle() as isize);
    let (tell, hear) = sync_channel(MOST_WAITING);
    for (pipe, reader) in [(Pipe::Stdout, stdout), (Pipe::Stderr, stderr)] {
        let tell = tell.clone();
        std::thread::spawn(move || pump(pipe, reader, &tell));
    }
    std::thread::spawn(move || tell.send(Heard::Ended(child.wait())));
    if let Err(error) = in_job {
        return Err(io::Error::other(error));
    }
    let ended = listen(&hear, deadline, sink)?;
    // A time-out ends the job with everything in it, and so would the end of the job object: what a program leaves
    // running on purpose is let go first.
    if ended != Ending::TimedOut {
        limits.clear_limits();
        job.set_extended_limit_info(&limits)
            .map_err(io::Error::other)?;
    }
    Ok(ended)
}

fn pump(pipe: Pipe, mut reader: PipeReader, tell: &SyncSender<Heard>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if tell
                    .send(Heard::Bytes(pipe, buffer[..count].to_vec()))
                    .is_err()
                {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Hands output on until the program has ended and its output is through, or the deadline comes.
fn listen(
    hear: &Receiver<Heard>,
    deadline: Option<Instant>,
    sink: &mut dyn FnMut(Pipe, &[u8]),
) -> io::Result<Ending> {
    let mut ended: Option<(Ending, Instant)> = None;
    let mut last_output = Instant::now();
    loop {
        let until = match ended {
            Some((_, at)) => Some((last_output.max(at) + LINGER).min(at + LONGEST_LINGER)),
            None => deadline,
        };
        let heard = match until {
            Some(until) => hear.recv_timeout(until.saturating_duration_since(Instant::now())),
            None => hear.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match (heard, ended) {
            (Ok(Heard::Bytes(pipe, bytes)), _) => {
                sink(pipe, &bytes);
                last_output = Instant::now();
                // Output without an end must not keep the deadline from being noticed.
                if until.is_some_and(|until| Instant::now() >= until) {
                    return Ok(ended.map_or(Ending::TimedOut, |(ending, _)| ending));
                }
            }
            (Ok(Heard::Ended(status)), _) => {
                let code = status?.code().unwrap_or(-1);
                ended = Some((Ending::Code(code), Instant::now()));
            }
            (Err(_), Some((ending, _))) => return Ok(ending),
            (Err(RecvTimeoutError::Timeout), None) => return Ok(Ending::TimedOut),
            (Err(RecvTimeoutError::Disconnected), None) => {
                return Err(io::Error::other("the program was lost"));
            }
        }
    }
}

/// Windows ends a process without asking it; the state on the disk is good at every moment.
pub fn set_up_signals() {}

/// Nobody is told to end here.
pub fn told_to_end() -> Option<i32> {
    None
}

/// There are no signals to end by.
pub fn end_by(_number: i32) {}
