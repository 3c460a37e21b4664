//! The `ovenbird-agent` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    ovenbird_agent::cli::main()
}
