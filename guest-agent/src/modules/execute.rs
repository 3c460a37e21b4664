//! ExecuteBash and ExecuteBinary.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use ovenbird_component::event::OutputStream;
use serde::Deserialize;

use super::{Context, Done, Failure, output};
use crate::platform::{EXIT_REBOOT, create_with_mode, find_program, prepare_environment};
use crate::process::{self, Ending, Pipe};
use crate::run::{Capture, LOGGED_OUTPUT, LineSplitter};

/// Bytes of standard error that go into a failure message.
const STDERR_TAIL: usize = 1024;

#[derive(Deserialize)]
pub struct Bash {
    commands: Vec<String>,
}

#[derive(Deserialize)]
pub struct Binary {
    path: String,
    #[serde(default)]
    arguments: Vec<String>,
}

/// Runs all commands as one script: variables and the working folder carry over from item to item.
pub fn bash(context: &Context<'_>, inputs: Bash) -> Result<Done, Failure> {
    let Some(shell) = find_program("bash") else {
        return Err(Failure::new("bash is not installed in this guest"));
    };
    let script = write_script(context.scratch, "sh", &inputs.commands.join("\n"))
        .map_err(|error| Failure::io("write a script to", context.scratch, &error))?;
    let mut command = Command::new(shell);
    command.arg(&script);
    let result = run(context, command);
    // A script can hold secrets; it must not outlive the step.
    let _ = fs::remove_file(&script);
    result
}

pub(super) fn write_script(
    folder: &Path,
    ending: &str,
    text: &str,
) -> io::Result<std::path::PathBuf> {
    let path = folder.join(format!("script-{}.{ending}", std::process::id()));
    // A script of a killed agent with the same number would keep its mode and owner.
    let _ = fs::remove_file(&path);
    let mut file = create_with_mode(&mut fs::OpenOptions::new(), 0o700)
        .create_new(true)
        .write(true)
        .open(&path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    Ok(path)
}

/// Starts a program with its arguments as they are.
pub fn binary(context: &Context<'_>, inputs: Binary) -> Result<Done, Failure> {
    let program = find_program(&inputs.path).ok_or_else(|| {
        Failure::new(format!(
            "the program {} does not exist or cannot be executed",
            inputs.path
        ))
    })?;
    let mut command = Command::new(program);
    command.args(&inputs.arguments);
    run(context, command)
}

/// Runs a program, logs what it writes and reads its exit code.
pub fn run(context: &Context<'_>, command: Command) -> Result<Done, Failure> {
    let Ran {
        ending,
        stdout,
        stderr,
    } = run_to_end(context, command)?;
    match ending {
        Ending::TimedOut => Err(Failure::TimedOut),
        Ending::Code(0) => Ok(Done {
            outputs: vec![output("stdout", stdout)],
            exit_code: Some(0),
        }),
        Ending::Code(EXIT_REBOOT) => Err(Failure::RebootAndRepeat),
        Ending::Code(code) => Err(Failure::Failed {
            message: describe(&format!("the command ended with exit code {code}"), &stderr),
            exit_code: Some(code),
        }),
        Ending::Signal(signal) => Err(Failure::Failed {
            message: describe(
                &format!("the command was ended by signal {signal}"),
                &stderr,
            ),
            exit_code: Some(128 + signal),
        }),
    }
}

/// A program that has ended.
pub(super) struct Ran {
    /// How.
    pub(super) ending: Ending,
    /// What references may see of its standard output.
    pub(super) stdout: String,
    /// The end of its standard error.
    pub(super) stderr: String,
}

/// Runs a program in the environment that every step gets, and logs what it writes and how it ends.
pub(super) fn run_to_end(context: &Context<'_>, mut command: Command) -> Result<Ran, Failure> {
    prepare_environment(&mut command);
    command
        .env("WORKING_DIRECTORY", context.working_directory)
        .current_dir(context.working_directory);
    if let Some(folder) = context.evidence {
        // Whoever leaves something there may do so under another user; only the folder is ours.
        crate::platform::create_private_folder(folder)
            .map_err(|error| Failure::new(format!("cannot make {}: {error}", folder.display())))?;
        command.env("OVENBIRD_EVIDENCE", folder);
    }
    let program = command.get_program().to_string_lossy().into_owned();
    let mut output_log = OutputLog::new(context);
    let ending = process::run(&mut command, context.deadline, &mut |pipe, bytes| {
        output_log.push(pipe, bytes)
    });
    let (stdout, stderr) = output_log.finish();
    let ending = ending.map_err(|error| Failure::new(format!("cannot run {program}: {error}")))?;
    match ending {
        Ending::TimedOut => {}
        Ending::Code(0) => context.report.debug("CmdExecution: ExitCode 0"),
        Ending::Code(code) => context
            .report
            .console(&format!("CmdExecution: ExitCode {code}")),
        Ending::Signal(signal) => context
            .report
            .console(&format!("CmdExecution: Signal {signal}")),
    }
    Ok(Ran {
        ending,
        stdout,
        stderr,
    })
}

pub(super) fn describe(what: &str, stderr: &str) -> String {
    if stderr.is_empty() {
        return what.to_owned();
    }
    format!("{what}; standard error: {stderr}")
}

/// Turns the bytes of a running program into log lines, and keeps what is needed of them.
struct OutputLog<'c> {
    context: &'c Context<'c>,
    splitters: [LineSplitter; 2],
    logged: u64,
    cut: bool,
    capture: Capture,
    stderr_tail: Vec<u8>,
}

impl<'c> OutputLog<'c> {
    fn new(context: &'c Context<'c>) -> Self {
        Self {
            context,
            splitters: Default::default(),
            logged: 0,
            cut: false,
            capture: Capture::default(),
            stderr_tail: Vec::new(),
        }
    }

    fn push(&mut self, pipe: Pipe, bytes: &[u8]) {
        match pipe {
            Pipe::Stdout => self.capture.push(bytes),
            Pipe::Stderr => {
                self.stderr_tail.extend_from_slice(bytes);
                let surplus = self.stderr_tail.len().saturating_sub(2 * STDERR_TAIL);
                self.stderr_tail.drain(..surplus);
            }
        }
        if self.logged > LOGGED_OUTPUT {
            self.cut = true;
            return;
        }
        self.logged += bytes.len() as u64;
        let (stream, splitter) = match pipe {
            Pipe::Stdout => (OutputStream::Stdout, &mut self.splitters[0]),
            Pipe::Stderr => (OutputStream::Stderr, &mut self.splitters[1]),
        };
        let Context { report, place, .. } = self.context;
        splitter.push(bytes, report.masker(), &mut |line| {
            report.output(place, stream, line)
        });
    }

    fn finish(mut self) -> (String, String) {
        let Context { report, place, .. } = self.context;
        for (splitter, stream) in self
            .splitters
            .iter_mut()
            .zip([OutputStream::Stdout, OutputStream::Stderr])
        {
            splitter.finish(report.masker(), &mut |line| {
                report.output(place, stream, line)
            });
        }
        if self.cut {
            report.warn(&format!("the output of this step is longer than {LOGGED_OUTPUT} bytes; the rest is left out of the logs"));
        }
        if self.capture.is_cut() {
            report.warn(&format!(
                "the step wrote {} bytes to standard output; references see only the first {}",
                self.capture.total(),
                crate::run::CAPTURED_OUTPUT
            ));
        }
        let tail = &self.stderr_tail[self.stderr_tail.len().saturating_sub(STDERR_TAIL)..];
        (
            self.capture.into_text(),
            String::from_utf8_lossy(tail).trim().to_owned(),
        )
    }
}
