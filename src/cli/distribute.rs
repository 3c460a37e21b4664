//! `ovenbird distribute IMAGE|FOLDER [--to CONFIG]`

use std::collections::BTreeMap;
use std::process::ExitCode;

use aws_config::SdkConfig;
use camino::{Utf8Path, Utf8PathBuf};

use super::Session;
use super::transfers::Transfers;
use crate::distribute::calls::{self, Shown};
use crate::distribute::{self, Order, Plan, Source, record};
use crate::documents::{Document, Kind, load};
use crate::error::{Failure, Result};
use crate::output::Manifest;
use crate::store::{ImageState, Store};

/// Arguments of `distribute`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// NAME[/VERSION[/BUILD]], an ARN, or a folder with a finished image
    #[arg(required_unless_present = "list")]
    image: Option<String>,
    /// The distribution configuration: a file, or the name of one that was applied; if none is given, what was asked for
    /// last is gone on with
    #[arg(long, value_name = "CONFIG")]
    to: Option<String>,
    /// List where images were distributed to
    #[arg(long, conflicts_with_all = ["to", "dry_run"])]
    list: bool,
    /// Remove what was made for the image in buckets and regions
    #[arg(long, conflicts_with_all = ["to", "list", "dry_run"])]
    remove: bool,
    /// Show what would be done and ask nobody
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: ask AWS as well whether the AMIs could be registered
    #[arg(long, requires = "dry_run")]
    ask: bool,
}

/// Runs the verb.
///
/// # Errors
/// [`crate::error::FailureKind::Config`] if image or configuration are wrong; what a destination says.
pub async fn run(args: Args, session: &Session) -> Result<ExitCode> {
    let journals = session.home.distributions();
    let Some(image) = args.image.as_ref().filter(|_| !args.list) else {
        return list(args.image.as_deref(), &journals, session);
    };
    let source = source(image, session)?;
    if args.remove {
        let aws = crate::aws::load().await;
        let removed = record::remove(&journals, &source.manifest.run, &aws).await?;
        session.printer.value(&removed);
        for place in &removed {
            session.printer.line(format!("removed {place}"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let plan = match &args.to {
        Some(to) => order(to, session)?.plan(&source)?,
        None => {
            record::read(&journals, &source.manifest.run)
                .map_err(|_| {
                    Failure::config(format!("{} was not distributed before", source.image()))
                        .with_hint("`--to CONFIG` says where to")
                })?
                .plan
        }
    };
    let aws = crate::aws::load().await;
    if args.dry_run {
        if args.ask {
            distribute::rehearse(&plan, &aws).await?;
        }
        let calls = calls::of_plan(&plan, &source);
        session
            .printer
            .value(&serde_json::json!({"plan": plan, "calls": calls}));
        show(&calls, session);
        return Ok(ExitCode::SUCCESS);
    }
    let code = carry_out(&plan, &source, &aws, session).await?;
    settle(&source, session)?;
    Ok(code)
}

/// Distributes a finished image's folder to a configuration.
///
/// # Errors
/// As [`run`].
pub async fn at(to: &str, folder: &Utf8Path, session: &Session) -> Result<ExitCode> {
    let source = Source::read(folder)?;
    let plan = order(to, session)?.plan(&source)?;
    carry_out(&plan, &source, &crate::aws::load().await, session).await
}

/// What a person means by a configuration: a file, or the name of one that was applied.
///
/// # Errors
/// [`crate::error::FailureKind::Config`] if there is none.
pub fn order(to: &str, session: &Session) -> Result<Order> {
    Order::of_document(&configuration(to, session)?, &session.home)
}

/// An image whose bake ended with a distribution that failed is available once everything is delivered.
fn settle(source: &Source, session: &Session) -> Result<()> {
    let store = Store::open(&session.home)?;
    let Ok(image) = store.find_image(&source.manifest.run) else {
        return Ok(());
    };
    let done = record::read(&session.home.distributions(), &image.run)
        .is_ok_and(|record| record.destinations.iter().all(record::State::is_delivered));
    let there = Manifest::read(&image.folder).is_ok_and(|manifest| manifest.run == image.run);
    if image.state == ImageState::Failed && done && there {
        let image = store.take_up_image(&image, ImageState::Distributing)?;
        store.set_state(&image, ImageState::Available, None)?;
    }
    Ok(())
}

/// Distributes an image as planned and says how each destination ended.
///
/// # Errors
/// What destinations say, after all of them were tried.
pub async fn carry_out(
    plan: &Plan,
    source: &Source,
    aws: &SdkConfig,
    session: &Session,
) -> Result<ExitCode> {
    let journals = session.home.distributions();
    let watcher = Transfers::new(session.printer);
    let outcomes = tokio::select! {
        done = distribute::run(plan, source, &session.home, aws, &watcher) => done?,
        _ = tokio::signal::ctrl_c() => {
            distribute::cancelled(plan, source, &journals, aws).await?;
            return Err(Failure::cancelled().with_hint("the same command goes on from here"));
        }
    };
    drop(watcher);
    let rows: Vec<_> = outcomes
        .iter()
        .map(|outcome| match &outcome.result {
            Ok(delivered) => serde_json::json!({
                "destination": outcome.destination,
                "state": "delivered",
                "places": delivered.places,
                "bytes": delivered.bytes,
            }),
            Err(failure) => serde_json::json!({
                "destination": outcome.destination,
                "state": "failed",
                "reason": failure.chain(),
                "details": failure.details(),
                "hint": failure.hint(),
            }),
        })
        .collect();
    for delivered in outcomes
        .iter()
        .filter_map(|outcome| outcome.result.as_ref().ok())
    {
        for place in &delivered.places {
            session
                .printer
                .line(format!("{:<16} {place}", delivered.destination));
        }
    }
    // One value is printed, also if something failed.
    distribute::verdict(outcomes)
        .map_err(|failure| failure.with_data("outcomes", serde_json::json!(rows)))?;
    session.printer.value(&rows);
    Ok(ExitCode::SUCCESS)
}

fn list(image: Option<&str>, journals: &Utf8Path, session: &Session) -> Result<ExitCode> {
    let mut records = record::all(journals);
    records.retain(|record| {
        image.is_none_or(|image| {
            record.image == image || record.image.starts_with(&format!("{image}/"))
        })
    });
    session.printer.value(&records);
    if records.is_empty() {
        session.printer.line("nothing was distributed");
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![
        ["IMAGE", "DESTINATION", "STATE", "TRIED", "WHERE"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for record in &records {
        for state in &record.destinations {
            let place = match &state.reason {
                Some(reason) => reason.clone(),
                None => state.places.join(" "),
            };
            rows.push(vec![
                record.image.clone(),
                state.destination.clone(),
                state.state.clone(),
                record.tried.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                place,
            ]);
        }
    }
    session.printer.table(&rows);
    Ok(ExitCode::SUCCESS)
}

/// The image that a person means.
pub(super) fn source(image: &str, session: &Session) -> Result<Source> {
    if Utf8Path::new(image)
        .join(crate::output::Manifest::FILE)
        .is_file()
    {
        return Source::read(Utf8Path::new(image));
    }
    Source::read(&Store::open(&session.home)?.find_image(image)?.folder)
}

/// The folder of a finished image: a folder itself needs no home.
///
/// # Errors
/// [`crate::error::FailureKind::Config`] if there is no such image.
pub(super) fn image_folder(
    image: &str,
    session: impl FnOnce() -> Result<Session>,
) -> Result<Utf8PathBuf> {
    let folder = Utf8Path::new(image);
    if folder.join(crate::output::Manifest::FILE).is_file() {
        return Ok(folder.to_owned());
    }
    Ok(Store::open(&session()?.home)?.find_image(image)?.folder)
}

fn configuration(wanted: &str, session: &Session) -> Result<Document> {
    if Utf8Path::new(wanted).is_file() {
        let (documents, problems) = load(Utf8Path::new(wanted), &BTreeMap::new());
        if problems.has_errors() {
            return Err(
                Failure::config(format!("{wanted} has {}", problems.counts()))
                    .with_details(problems.render()),
            );
        }
        if !problems.is_empty() {
            session.printer.warn(problems.render());
        }
        return documents
            .into_iter()
            .find(|document| document.kind() == Kind::DistributionConfiguration)
            .ok_or_else(|| {
                Failure::config(format!("{wanted} holds no distribution configuration"))
            });
    }
    Store::open(&session.home)?
        .resource_named(Kind::DistributionConfiguration, wanted)?
        .read()
}

fn show(calls: &[Shown], session: &Session) {
    let mut destination = "";
    for call in calls {
        if call.destination != destination {
            destination = &call.destination;
            session.printer.line(format!("{destination}:"));
        }
        session
            .printer
            .line(format!("  {} {}", call.service, call.action));
        for (name, value) in &call.parameters {
            session.printer.line(format!("    {name} = {value}"));
        }
    }
}
