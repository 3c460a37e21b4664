//! `ovenbird list KIND`

use std::process::ExitCode;

use super::apply::key_and_perhaps_value;
use super::{Session, target};
use crate::documents::{Kind, VersionPattern};
use crate::error::Result;
use crate::store::{ResourceFilter, Store};

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// component, image-recipe, container-recipe, infrastructure-configuration, distribution-configuration,
    /// image-pipeline, lifecycle-policy or workflow; short: recipe, infrastructure, distribution, pipeline
    #[arg(value_parser = target::kind)]
    kind: Kind,
    /// Only those of this name
    #[arg(long)]
    name: Option<String>,
    /// Only versions that fit, such as 1.x.x
    #[arg(long, value_name = "PATTERN")]
    version: Option<VersionPattern>,
    /// Only those with this tag (may be given several times)
    #[arg(long = "tag", value_name = "KEY[=VALUE]", value_parser = key_and_perhaps_value)]
    tags: Vec<(String, Option<String>)>,
    /// Only the newest version of each name
    #[arg(long)]
    newest: bool,
}

/// Runs the verb.
///
/// # Errors
/// [`crate::error::FailureKind::Environment`] if the store can't be read.
pub fn run(args: Args, session: &Session) -> Result<ExitCode> {
    let store = Store::open(&session.home)?;
    let filter = ResourceFilter {
        name: args.name,
        version: args.version,
        tags: args.tags,
        newest: args.newest,
    };
    let records = store.resources(args.kind, &filter)?;
    let printer = session.printer;
    printer.value(&records);
    if records.is_empty() {
        printer.line(format!("no {}s", args.kind.words()));
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![
        ["NAME", "UPDATED", "DIGEST", "TAGS"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(records.iter().map(|record| {
        let tags: Vec<String> = record
            .tags
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        vec![
            record.id(),
            record.updated.clone(),
            record.digest.chars().take(12).collect(),
            tags.join(" "),
        ]
    }));
    printer.table(&rows);
    Ok(ExitCode::SUCCESS)
}
