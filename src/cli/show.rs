//! `ovenbird show KIND/NAME[/VERSION]`

use std::process::ExitCode;

use serde_json::json;

use super::{Session, target};
use crate::error::Result;
use crate::store::{LatestVersionReferences, ResourceFilter, Store};

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// KIND/NAME[/VERSION[/BUILD]] or an ARN
    resource: String,
}

/// Runs the verb: what is known about a resource, what it refers to, and what refers to it.
///
/// # Errors
/// [`crate::error::FailureKind::Config`] if there is no such resource.
pub fn run(args: &Args, session: &Session) -> Result<ExitCode> {
    let store = Store::open(&session.home)?;
    let record = store.resource(&target::reference(&args.resource)?)?;
    let referrers = store.referrers(&record)?;
    let references: Vec<(String, String, String)> = record
        .read()?
        .resource_references()
        .into_iter()
        .map(|(target, reference)| {
            let now = match store.find_resource(&target) {
                Ok(Some(found)) => found.label(),
                _ if target.managed => "managed".to_owned(),
                _ => "nothing".to_owned(),
            };
            (reference.field.to_owned(), reference.text, now)
        })
        .collect();
    let versions: Vec<String> = store
        .resources(
            record.kind,
            &ResourceFilter {
                name: Some(record.name.clone()),
                ..ResourceFilter::default()
            },
        )?
        .iter()
        .filter_map(|other| other.version_text())
        .collect();
    let printer = session.printer;
    printer.value(&json!({
        "resource": record,
        "document": record.value()?,
        "versions": versions,
        "latestVersionReferences": LatestVersionReferences::of(&record),
        "references": references
            .iter()
            .map(|(field, text, now)| json!({ "field": field, "text": text, "resource": now }))
            .collect::<Vec<_>>(),
        "referrers": referrers,
    }));
    printer.line(record.label());
    printer.line(format!("name:      {}", record.name));
    printer.line(format!("arn:       {}", record.arn));
    printer.line(format!("digest:    {}", record.digest));
    if let Some(file) = &record.file {
        printer.line(format!("file:      {file}"));
    }
    printer.line(format!("created:   {}", record.created));
    printer.line(format!("updated:   {}", record.updated));
    if record.version.is_none() {
        printer.line(format!("revision:  {}", record.revision));
    }
    if !versions.is_empty() {
        printer.line(format!("versions:  {}", versions.join(", ")));
    }
    for (key, value) in &record.tags {
        printer.line(format!("tag        {key}={value}"));
    }
    for (field, text, now) in &references {
        printer.line(format!("refers     {field}: {text} -> {now}"));
    }
    for referrer in &referrers {
        printer.line(format!(
            "used by    {} ({}: {})",
            referrer.resource, referrer.field, referrer.text
        ));
    }
    Ok(ExitCode::SUCCESS)
}
