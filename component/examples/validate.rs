//! Validates the documents named on the command line and prints what is wrong with them.

use ovenbird_component::{Options, validate_bytes};

fn main() -> std::process::ExitCode {
    let mut failed = false;
    for path in std::env::args().skip(1) {
        match std::fs::read(&path) {
            Ok(bytes) => {
                let found = validate_bytes(&path, &bytes, &Options::default());
                print!("{}", found.diagnostics.render());
                failed |= found.document.is_none();
            }
            Err(error) => {
                eprintln!("cannot read {path}: {error}");
                failed = true;
            }
        }
    }
    std::process::ExitCode::from(u8::from(failed))
}
