//! `attend`: one process of root that runs one shell command after the other for the host.
//!
//! Under software emulation a command over SSH with sudo costs a third of a second before it does anything; through this
//! it costs some hundredths. The frames are those of [`ovenbird_component::attend`].

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use ovenbird_component::attend::{Frame, Kind, read, write};

use super::complain;
use crate::{EXIT_FAILED, EXIT_SUCCESS};

/// Bytes of output that travel together.
const PIECE: usize = 32 * 1024;

pub(super) fn run() -> i32 {
    match serve(&mut std::io::stdin().lock(), std::io::stdout()) {
        Ok(()) => EXIT_SUCCESS,
        Err(error) => {
            complain(&format!("lost the host: {error}"));
            EXIT_FAILED
        }
    }
}

/// Serves until the input ends.
fn serve<W: Write + Send + 'static>(input: &mut impl Read, output: W) -> std::io::Result<()> {
    let output = Arc::new(Mutex::new(output));
    let mut stdin: Option<ChildStdin> = None;
    let mut running: Option<JoinHandle<()>> = None;
    while let Some(Frame { kind, bytes }) = read(input)? {
        match kind {
            Kind::Command | Kind::Agent => {
                // The host asks for the next one only after the end of the last.
                if let Some(last) = running.take() {
                    let _ = last.join();
                }
                match start(command(kind, &bytes), &output) {
                    Ok((pipe, thread)) => {
                        stdin = pipe;
                        running = Some(thread);
                    }
                    Err(error) => {
                        send(&output, Kind::Stderr, error.to_string().as_bytes());
                        send(&output, Kind::Exit, &127u32.to_be_bytes());
                    }
                }
            }
            // A command that doesn't read its input ends the pipe; the rest is dropped.
            Kind::Stdin => {
                let written = stdin.as_mut().map(|pipe| pipe.write_all(&bytes));
                if matches!(written, Some(Err(_))) {
                    stdin = None;
                }
            }
            Kind::StdinEnd => stdin = None,
            Kind::Stdout | Kind::Stderr | Kind::Exit => {}
        }
    }
    Ok(())
}

/// What a frame asks for.
fn command(kind: Kind, bytes: &[u8]) -> Command {
    let mut command = Command::new(match kind {
        Kind::Agent => "/proc/self/exe",
        _ => "sh",
    });
    match kind {
        Kind::Agent => command
            .arg0("ovenbird-agent")
            .args(bytes.split(|byte| *byte == 0).map(OsStr::from_bytes)),
        _ => command.arg("-c").arg(OsStr::from_bytes(bytes)),
    };
    command
}

fn start<W: Write + Send + 'static>(
    mut command: Command,
    output: &Arc<Mutex<W>>,
) -> std::io::Result<(Option<ChildStdin>, JoinHandle<()>)> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdin = child.stdin.take();
    let pumps = [
        child
            .stdout
            .take()
            .map(|pipe| pump(pipe, Kind::Stdout, output)),
        child
            .stderr
            .take()
            .map(|pipe| pump(pipe, Kind::Stderr, output)),
    ];
    let output = Arc::clone(output);
    let thread = thread::spawn(move || {
        for pump in pumps.into_iter().flatten() {
            let _ = pump.join();
        }
        let status = child.wait().map_or(127, code);
        send(&output, Kind::Exit, &status.to_be_bytes());
    });
    Ok((stdin, thread))
}

fn pump<W: Write + Send + 'static>(
    mut pipe: impl Read + Send + 'static,
    kind: Kind,
    output: &Arc<Mutex<W>>,
) -> JoinHandle<()> {
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => send(&output, kind, &buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    })
}

/// As a shell tells it: 128 and the signal for a command that was killed.
fn code(status: ExitStatus) -> u32 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u32::try_from(code).ok())
        .unwrap_or(127)
}

/// A host that is gone shows at the end of the input.
fn send<W: Write>(output: &Mutex<W>, kind: Kind, bytes: &[u8]) {
    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = write(&mut *output, kind, bytes);
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// Plays the host: each command with its input; returns what came back.
    fn played(commands: &[(Kind, &str, &[u8])]) -> Vec<Frame> {
        #[derive(Clone, Default)]
        struct Shared(Arc<Mutex<Vec<u8>>>);
        impl Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut input = Vec::new();
        for (kind, command, stdin) in commands {
            write(&mut input, *kind, command.as_bytes()).unwrap();
            for piece in stdin.chunks(1000) {
                write(&mut input, Kind::Stdin, piece).unwrap();
            }
            write(&mut input, Kind::StdinEnd, &[]).unwrap();
        }
        // Waits for the last command.
        write(&mut input, Kind::Command, b"true").unwrap();
        write(&mut input, Kind::Command, b"true").unwrap();
        let output = Shared::default();
        serve(&mut Cursor::new(input), output.clone()).unwrap();
        let bytes = output.0.lock().unwrap().clone();
        let mut bytes = Cursor::new(bytes);
        std::iter::from_fn(|| read(&mut bytes).unwrap()).collect()
    }

    fn exits(frames: &[Frame]) -> Vec<u32> {
        frames
            .iter()
            .filter(|frame| frame.kind == Kind::Exit)
            .map(|frame| u32::from_be_bytes(frame.bytes[..4].try_into().unwrap()))
            .collect()
    }

    fn all(frames: &[Frame], kind: Kind) -> Vec<u8> {
        let pieces = frames.iter().filter(|frame| frame.kind == kind);
        pieces.flat_map(|frame| frame.bytes.clone()).collect()
    }

    #[test]
    fn commands_run_one_after_the_other_with_their_own_input_and_end() {
        let large = vec![7; 200_000];
        let frames = played(&[
            (Kind::Command, "cat; exit 3", &large),
            (Kind::Command, "echo no >&2; kill -9 $$", b""),
            (Kind::Command, "exec 0<&-; echo ignores its input", &large),
            // This very program: here it is that of the tests.
            (Kind::Agent, "--list\0--exact\0two words", b""),
        ]);
        assert_eq!(exits(&frames)[..4], [3, 137, 0, 0]);
        let out = all(&frames, Kind::Stdout);
        let rest = String::from_utf8_lossy(out.strip_prefix(&large[..]).unwrap());
        assert!(rest.starts_with("ignores its input\n"), "{rest}");
        assert!(rest.contains("0 tests, 0 benchmarks"), "{rest}");
        assert_eq!(all(&frames, Kind::Stderr), b"no\n");
    }
}
