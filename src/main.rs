//! Parses the command line, calls the verb, and turns its failure into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ovenbird::cli::main()
}
