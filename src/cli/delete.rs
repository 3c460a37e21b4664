//! `ovenbird delete KIND/NAME[/VERSION[/BUILD]]…`

use std::process::ExitCode;

use super::{Session, target};
use crate::error::{Failure, FailureKind, Result};
use crate::store::{ResourceFilter, ResourceRecord, Store};

/// Arguments of `delete`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// KIND/NAME[/VERSION[/BUILD]] or ARNs; all go, or none
    #[arg(required = true)]
    resources: Vec<String>,
    /// All versions that fit, not only one
    #[arg(long)]
    all: bool,
}

/// Runs the verb.
///
/// # Errors
/// [`FailureKind::Config`] if there is no such resource, or something refers to it.
pub fn run(args: &Args, session: &Session) -> Result<ExitCode> {
    let store = Store::open(&session.home)?;
    let mut records: Vec<ResourceRecord> = Vec::new();
    for text in &args.resources {
        for record in wanted(&store, text, args.all)? {
            if !records.contains(&record) {
                records.push(record);
            }
        }
    }
    store.delete_resources(&records)?;
    let labels: Vec<String> = records.iter().map(ResourceRecord::label).collect();
    session.printer.value(&labels);
    for label in labels {
        session.printer.line(format!("deleted {label}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Without `--all` a text must mean one resource: the newest of several is not what somebody expects to lose.
fn wanted(store: &Store, text: &str, all: bool) -> Result<Vec<ResourceRecord>> {
    let reference = target::reference(text)?;
    let newest = store.resource(&reference)?;
    let mut fitting = store.resources(
        reference.kind,
        &ResourceFilter {
            name: Some(reference.name.clone()),
            version: Some(reference.version),
            ..ResourceFilter::default()
        },
    )?;
    fitting.retain(|record| record.resource == newest.resource);
    if fitting.len() > 1 && !all {
        let ids: Vec<String> = fitting.iter().map(ResourceRecord::label).collect();
        return Err(Failure::new(
            FailureKind::Usage,
            format!("`{text}` fits {} resources", fitting.len()),
        )
        .with_details(ids.join("\n"))
        .with_hint("name one of them in full, or give --all"));
    }
    Ok(fitting)
}
