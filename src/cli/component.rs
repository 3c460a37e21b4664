//! `ovenbird component run|validate|new|schema`

use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::Subcommand;

use super::printer::Printer;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::guest::agent;

/// Arguments of `component`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run documents on this machine, as the agent in a guest would (all of its options; try `-- --help`)
    #[command(disable_help_flag = true)]
    Run {
        /// Passed to the agent: --documents a.yml,b.yml --phases build …
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check component documents
    Validate {
        /// The documents
        #[arg(required = true)]
        files: Vec<Utf8PathBuf>,
    },
    /// Write a commented skeleton of a document
    New {
        /// The file to write; it must not exist
        file: Utf8PathBuf,
    },
    /// Print the JSON Schema of component documents, for editors
    Schema,
}

/// Runs the verb.
///
/// # Errors
/// [`FailureKind::Config`] for a document with errors, [`FailureKind::Environment`] if a file can't be written.
pub fn run(args: &Args, printer: Printer) -> Result<ExitCode> {
    match &args.verb {
        Verb::Run { arguments } => run_agent(arguments),
        Verb::Validate { files } => {
            super::validate::check_all(files, &std::collections::BTreeMap::new(), printer)
        }
        Verb::New { file } => new(file, printer),
        Verb::Schema => {
            let text = serde_json::to_string_pretty(&ovenbird_component::schema::document())
                .or_failure(FailureKind::Internal, || "cannot encode the schema".into())?;
            printer.line(&text);
            printer.value(&ovenbird_component::schema::document());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Replaces this process by the agent that it carries: from memory, so that nothing has to be installed or cleaned up.
fn run_agent(arguments: &[String]) -> Result<ExitCode> {
    use std::io::Write as _;
    let flags = nix::sys::memfd::MFdFlags::empty();
    let memory = nix::sys::memfd::memfd_create("ovenbird-agent", flags)
        .or_failure(FailureKind::Environment, || {
            "cannot create a file in memory".into()
        })?;
    let mut file = std::fs::File::from(memory);
    file.write_all(agent::bytes())
        .or_failure(FailureKind::Environment, || "cannot write the agent".into())?;
    use std::os::fd::AsRawFd as _;
    let program = format!("/proc/self/fd/{}", file.as_raw_fd());
    let error = std::process::Command::new(program)
        .arg0("ovenbird component")
        .arg("run")
        .args(arguments)
        .exec();
    Err(Failure::environment("cannot start the agent").caused_by(error))
}

fn new(file: &camino::Utf8Path, printer: Printer) -> Result<ExitCode> {
    use std::io::Write as _;
    let text = ovenbird_component::skeleton(file.file_stem().unwrap_or("my-component"));
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .and_then(|mut out| out.write_all(text.as_bytes()))
        .or_failure(FailureKind::Environment, || format!("cannot write {file}"))?;
    printer.line(format!(
        "{file}: edit it, then `ovenbird component validate {file}`"
    ));
    Ok(ExitCode::SUCCESS)
}
