//! `ovenbird apply FILE|DIR…`

use std::collections::BTreeMap;
use std::process::ExitCode;

use camino::Utf8PathBuf;
use ovenbird_component::source::Diagnostics;

use super::Session;
use crate::documents::load;
use crate::error::{Failure, FailureKind, Result};
use crate::store::{Outcome, Put, Store};

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Documents, and folders of documents
    #[arg(required = true)]
    paths: Vec<Utf8PathBuf>,
    /// A parameter of CloudFormation templates (may be given several times)
    #[arg(long = "parameter", value_name = "KEY=VALUE", value_parser = key_value)]
    parameters: Vec<(String, String)>,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs the verb.
///
/// # Errors
/// [`FailureKind::Config`] if any document has a problem; then nothing is applied.
pub fn run(args: &Args, session: &Session) -> Result<ExitCode> {
    let parameters: BTreeMap<String, String> = args.parameters.iter().cloned().collect();
    let mut documents = Vec::new();
    let mut diagnostics = Diagnostics::new();
    for path in &args.paths {
        if !path.exists() {
            return Err(Failure::config(format!(
                "cannot read {path}: there is no such file"
            )));
        }
        let (found, problems) = load(path, &parameters);
        documents.extend(found);
        diagnostics.append(problems);
    }
    if diagnostics.has_errors() {
        return Err(
            Failure::config(format!("nothing was applied: {}", diagnostics.counts()))
                .with_details(diagnostics.render()),
        );
    }
    if !diagnostics.is_empty() {
        session.printer.warn(diagnostics.render());
    }
    if documents.is_empty() {
        return Err(Failure::new(
            FailureKind::Usage,
            "there is no document to apply",
        ));
    }
    let store = Store::open(&session.home)?;
    let puts = if args.dry_run {
        store.rehearse_apply(&documents)?
    } else {
        store.apply(&documents)?
    };
    show(&puts, args.dry_run, session);
    Ok(ExitCode::SUCCESS)
}

fn show(puts: &[Put], dry_run: bool, session: &Session) {
    let printer = session.printer;
    printer.value(&puts);
    let width = puts
        .iter()
        .map(|put| put.outcome.words().len())
        .max()
        .unwrap_or(0);
    for put in puts {
        printer.line(format!(
            "{:width$}  {}",
            put.outcome.words(),
            put.resource.label()
        ));
    }
    let changed = puts
        .iter()
        .filter(|put| put.outcome != Outcome::Unchanged)
        .count();
    let note = if dry_run {
        " (dry run: nothing was written)"
    } else {
        ""
    };
    printer.line(format!("{changed} of {} changed{note}", puts.len()));
}

/// `KEY=VALUE`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

/// `KEY` or `KEY=VALUE`.
pub fn key_and_perhaps_value(text: &str) -> Result<(String, Option<String>), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("expected KEY or KEY=VALUE".into()),
        Some((key, value)) => Ok((key.to_owned(), Some(value.to_owned()))),
        None if text.is_empty() => Err("expected KEY or KEY=VALUE".into()),
        None => Ok((text.to_owned(), None)),
    }
}
