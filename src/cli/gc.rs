//! `ovenbird gc`

use std::process::ExitCode;

use super::Session;
use crate::error::Result;
use crate::garbage::{self, Scope};
use crate::store::Store;
use crate::words::human_bytes;

/// Arguments of `gc`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Also base images that no image on record stands on and no recipe in the store names
    #[arg(long)]
    bases: bool,
    /// Also the layers and everything else in the cache
    #[arg(long)]
    cache: bool,
}

/// Runs the verb.
///
/// # Errors
/// [`crate::error::FailureKind::Environment`] if the home can't be read.
pub fn run(args: &Args, session: &Session) -> Result<ExitCode> {
    let store = Store::open(&session.home)?;
    store.fail_dead_builds()?;
    let scope = Scope {
        bases: args.bases,
        cache: args.cache,
    };
    let mut found = garbage::find(&store, scope)?;
    if !args.dry_run {
        garbage::remove(&session.home, &mut found);
    }
    let printer = session.printer;
    printer.value(&found);
    let word = if args.dry_run { "would go" } else { "removed" };
    for item in &found.garbage {
        printer.line(format!(
            "{word}  {:>10}  {}  ({})",
            human_bytes(item.bytes),
            item.path,
            item.reason
        ));
    }
    for held in &found.held {
        printer.line(format!(
            "stays    {:>10}  {}  ({})",
            human_bytes(held.bytes),
            held.path,
            held.reason
        ));
    }
    let freed: u64 = found.garbage.iter().map(|item| item.bytes).sum();
    let kept: u64 = found.held.iter().map(|item| item.bytes).sum();
    printer.line(format!(
        "{} {}, {} kept",
        human_bytes(freed),
        if args.dry_run {
            "would be freed"
        } else {
            "freed"
        },
        human_bytes(kept)
    ));
    Ok(ExitCode::SUCCESS)
}
