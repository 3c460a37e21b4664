//! `ovenbird validate FILE...`

use std::collections::BTreeMap;
use std::process::ExitCode;

use camino::Utf8PathBuf;
use ovenbird_component::source::Diagnostics;

use super::printer::Printer;
use crate::documents::load;
use crate::error::{Failure, Result};

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Documents of any kind, component documents, CloudFormation templates, and folders of these
    #[arg(required = true)]
    files: Vec<Utf8PathBuf>,
    /// A parameter of a CloudFormation template (may be given several times)
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = super::component::parameter)]
    parameters: Vec<(String, String)>,
}

/// Runs the verb.
///
/// # Errors
/// [`crate::error::FailureKind::Config`] if a file can't be read or has an error; every problem of every file is shown.
pub fn run(args: &Args, printer: Printer) -> Result<ExitCode> {
    let parameters = args.parameters.iter().cloned().collect();
    check(&args.files, &parameters, printer)
}

/// Checks files and tells what was found.
///
/// # Errors
/// As [`run`].
pub fn check_all(files: &[Utf8PathBuf], printer: Printer) -> Result<ExitCode> {
    check(files, &BTreeMap::new(), printer)
}

fn check(
    files: &[Utf8PathBuf],
    parameters: &BTreeMap<String, String>,
    printer: Printer,
) -> Result<ExitCode> {
    let mut all = Diagnostics::new();
    for file in files {
        if !file.exists() {
            return Err(Failure::config(format!(
                "cannot read {file}: there is no such file"
            )));
        }
        all.append(load(file, parameters).1);
    }
    printer.value(&all.to_json());
    if all.has_errors() {
        return Err(
            Failure::config(format!("{} not valid", names(files))).with_details(if printer.json {
                String::new()
            } else {
                all.render()
            }),
        );
    }
    if all.is_empty() {
        printer.line(format!("{}: valid", names(files)));
    } else {
        printer.line(all.render());
        printer.line(format!("{}: valid, {}", names(files), all.counts()));
    }
    Ok(ExitCode::SUCCESS)
}

fn names(files: &[Utf8PathBuf]) -> String {
    files
        .iter()
        .map(|file| file.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}
