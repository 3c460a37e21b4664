//! `ovenbird ssh BUILD [-- COMMAND]`

use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use super::Session;
use crate::bake::run_folder::{self, ProcessId};
use crate::error::{Failure, Result};

/// Arguments of `ssh`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The build: a run's id, or NAME/VERSION/BUILD; the only one that has a guest if nothing is said
    build: Option<String>,
    /// Print the command instead of running it
    #[arg(long)]
    print: bool,
    /// A command to run in the guest
    #[arg(last = true)]
    command: Vec<String>,
}

/// Runs the verb: replaces this process by `ssh`.
///
/// # Errors
/// A usage failure if no guest fits, an environment failure if `ssh` can't be started.
pub fn run(args: &Args, session: &Session) -> Result<ExitCode> {
    let candidates: Vec<_> = run_folder::list(&session.home.runs())
        .into_iter()
        .filter(|(_, record)| record.qemu.is_some_and(ProcessId::is_alive))
        .filter(|(_, record)| {
            args.build
                .as_ref()
                .is_none_or(|wanted| record.run == *wanted || record.image == *wanted)
        })
        .collect();
    let (folder, record) = match candidates.as_slice() {
        [one] => one,
        [] => {
            return Err(Failure::config("no guest is running").with_hint(
                "a guest runs during a build, and after a failed one with `build --on-error keep`",
            ));
        }
        several => {
            let names: Vec<&str> = several
                .iter()
                .map(|(_, record)| record.image.as_str())
                .collect();
            return Err(Failure::config(format!(
                "several guests are running: {}",
                names.join(", ")
            ))
            .with_hint("name one of them"));
        }
    };
    let mut words = run_folder::ssh_command(folder, record);
    words.extend(args.command.iter().cloned());
    if args.print {
        session.printer.line(words.join(" "));
        return Ok(ExitCode::SUCCESS);
    }
    let error = std::process::Command::new(&words[0])
        .args(&words[1..])
        .exec();
    Err(Failure::environment("cannot start ssh")
        .caused_by(error)
        .with_hint("install an OpenSSH client"))
}
