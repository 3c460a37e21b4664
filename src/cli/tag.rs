//! `ovenbird tag list|add|remove`

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Subcommand;

use super::Session;
use super::apply::key_value;
use super::target::{self, Target};
use crate::error::Result;
use crate::store::{Store, Tagged};

/// Arguments of `tag`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the tags of a resource or image
    List {
        /// KIND/NAME[/VERSION[/BUILD]], image/NAME[/VERSION[/BUILD]] or an ARN
        resource: String,
    },
    /// Set tags
    Add {
        /// KIND/NAME[/VERSION[/BUILD]], image/NAME[/VERSION[/BUILD]] or an ARN
        resource: String,
        /// Tags
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = key_value)]
        tags: Vec<(String, String)>,
    },
    /// Remove tags
    Remove {
        /// KIND/NAME[/VERSION[/BUILD]], image/NAME[/VERSION[/BUILD]] or an ARN
        resource: String,
        /// Their keys
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
}

/// Runs the verb.
///
/// # Errors
/// [`crate::error::FailureKind::Config`] if there is no such resource or tag, or there would be too many.
pub fn run(args: &Args, session: &Session) -> Result<ExitCode> {
    let store = Store::open(&session.home)?;
    let (Verb::List { resource } | Verb::Add { resource, .. } | Verb::Remove { resource, .. }) =
        &args.verb;
    let found = target::find(&store, resource)?;
    let tagged = match &found {
        Target::Resource(record) => Tagged::Resource(record),
        Target::Image(record) => Tagged::Image(record),
    };
    match &args.verb {
        Verb::List { .. } => {}
        Verb::Add { tags, .. } => store.add_tags(tagged, tags)?,
        Verb::Remove { keys, .. } => store.remove_tags(tagged, keys)?,
    }
    // By ARN, so that it is the same one even if a newer has come in the meantime.
    let tags: BTreeMap<String, String> = match &found {
        Target::Resource(record) => store.resource(&target::reference(&record.arn)?)?.tags,
        Target::Image(record) => store.find_image(&record.arn)?.tags,
    };
    session.printer.value(&tags);
    for (key, value) in &tags {
        session.printer.line(format!("{key}={value}"));
    }
    Ok(ExitCode::SUCCESS)
}
