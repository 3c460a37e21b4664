//! The command line, with the flags of the service's own runner.

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
    /// Print the JSON Schema of component documents.
    Schema,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let code = match Arguments::parse().command {
        Command::Run(arguments) => run::run(*arguments),
        Command::Validate(arguments) => validate::run(arguments),
        Command::Schema => {
            print_line(&ovenbird_component::schema::document().to_string());
            crate::EXIT_SUCCESS
        }
    };
    ExitCode::from(code)
}

/// Prints to standard output; a closed one is nobody's fault.
fn print_line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "ovenbird-agent: {text}");
}
