//! `ovenbird validate FILE...`

use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_component::source::{Diagnostics, Source, parse_one};
use ovenbird_component::{Options, validate_source};

use super::printer::Printer;
use crate::documents::recipe;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recipes (`kind: ImageRecipe`) and component documents
    #[arg(required = true)]
    files: Vec<Utf8PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// [`FailureKind::Config`] if a file can't be read or has an error; every problem of every file is shown.
pub fn run(args: &Args, printer: Printer) -> Result<ExitCode> {
    let mut all = Diagnostics::new();
    for file in &args.files {
        all.append(check(file)?);
    }
    printer.value(&all.to_json());
    if all.has_errors() {
        return Err(
            Failure::config(format!("{} not valid", names(&args.files))).with_details(
                if printer.json {
                    String::new()
                } else {
                    all.render()
                },
            ),
        );
    }
    if all.is_empty() {
        printer.line(format!("{}: valid", names(&args.files)));
    } else {
        printer.line(all.render());
        printer.line(format!("{}: valid, {}", names(&args.files), all.counts()));
    }
    Ok(ExitCode::SUCCESS)
}

fn check(file: &Utf8Path) -> Result<Diagnostics> {
    let text = std::fs::read_to_string(file)
        .or_failure(FailureKind::Config, || format!("cannot read {file}"))?;
    let source = Source::new(file.as_str(), text);
    // A resource document says its kind; a component document has none.
    let (node, _) = parse_one(&source);
    let is_resource = node
        .as_ref()
        .and_then(|node| node.as_mapping())
        .is_some_and(|map| map.get("kind").is_some());
    Ok(if is_resource {
        recipe::read(&source).1
    } else {
        validate_source(&source, &Options::default()).diagnostics
    })
}

fn names(files: &[Utf8PathBuf]) -> String {
    files
        .iter()
        .map(|file| file.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}
