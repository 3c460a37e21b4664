//! The command line, with the flags of the service's own runner.

#[cfg(unix)]
mod attend;
#[cfg(unix)]
mod freeze;
#[cfg(unix)]
mod prepare;
#[cfg(unix)]
mod refresh;
mod run;
mod validate;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs AWSTOE component documents.
#[derive(Parser)]
#[command(name = "ovenbird-agent", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run documents, or go on with a run after a reboot.
    Run(Box<run::RunArguments>),
    /// Check documents without running them.
    Validate(validate::ValidateArguments),
    #[cfg(unix)]
    /// Run commands for the host, one after the other; it speaks in frames.
    #[command(hide = true)]
    Attend,
    #[cfg(unix)]
    /// Hold the filesystems still for a snapshot: says `frozen`, and thaws at a line on standard input.
    Freeze(freeze::FreezeArguments),
    #[cfg(unix)]
    /// Renew randomness, clock, leases and SSH keys after the machine went on from a saved memory: JSON on standard input.
    #[command(hide = true)]
    Refresh,
    #[cfg(unix)]
    /// Take documents and the package cache's address from the host: JSON on standard input.
    #[command(hide = true)]
    Prepare,
    /// Print a commented document to start from.
    New {
        /// Name of the document.
        name: String,
    },
    /// Print the JSON Schema of component documents.
    Schema,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let code = match Arguments::parse().command {
        Command::Run(arguments) => run::run(*arguments),
        Command::Validate(arguments) => validate::run(arguments),
        #[cfg(unix)]
        Command::Attend => attend::run(),
        #[cfg(unix)]
        Command::Freeze(arguments) => freeze::run(&arguments),
        #[cfg(unix)]
        Command::Refresh => refresh::run(),
        #[cfg(unix)]
        Command::Prepare => prepare::run(),
        Command::New { name } => {
            print_line(ovenbird_component::skeleton(&name).trim_end());
            crate::EXIT_SUCCESS
        }
        Command::Schema => {
            print_line(&ovenbird_component::schema::document().to_string());
            crate::EXIT_SUCCESS
        }
    };
    // Only Windows has exit codes above 255, and there 3010 asks for a reboot.
    u8::try_from(code).map_or_else(|_| std::process::exit(code), ExitCode::from)
}

/// Prints to standard output; a closed one is nobody's fault.
fn print_line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "ovenbird-agent: {text}");
}
