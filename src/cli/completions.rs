//! `ovenbird completions SHELL` and `ovenbird man DIR`, both generated from the command line's definition.

use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap_complete::Shell;

use crate::error::{FailureContext as _, FailureKind, Result};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionArgs {
    /// The shell
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// The folder to write to
    folder: Utf8PathBuf,
}

/// Prints the completion script.
///
/// # Errors
/// None in practice; the signature is that of every verb.
pub fn print(args: &CompletionArgs, command: &mut clap::Command) -> Result<ExitCode> {
    clap_complete::generate(args.shell, command, "ovenbird", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for the program and one for each verb.
///
/// # Errors
/// [`FailureKind::Environment`] if the folder can't be written.
pub fn man(args: &ManArgs, command: clap::Command) -> Result<ExitCode> {
    let write = || {
        std::fs::create_dir_all(&args.folder)?;
        clap_mangen::generate_to(command, &args.folder)
    };
    write().or_failure(FailureKind::Environment, || {
        format!("cannot write man pages to {}", args.folder)
    })?;
    Ok(ExitCode::SUCCESS)
}
