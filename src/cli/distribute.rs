//! `ovenbird distribute IMAGE|FOLDER --to CONFIG`

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};

use super::Session;
use crate::distribute::{self, Delivery, Plan, Source, Watcher};
use crate::documents::{Body, Document, Kind, load};
use crate::error::{Failure, Result};
use crate::store::Store;

/// Arguments of `distribute`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// NAME[/VERSION[/BUILD]], an ARN, or a folder with a finished image
    image: String,
    /// The distribution configuration: a file, or the name of one that was applied
    #[arg(long, value_name = "CONFIG")]
    to: String,
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
    let source = source(&args.image, session)?;
    let document = configuration(&args.to, session)?;
    let Body::DistributionConfiguration(configuration) = &document.body else {
        return Err(Failure::config(format!(
            "{} is no distribution configuration",
            args.to
        )));
    };
    let plan = Plan::new(configuration, document.folder(), &source)?;
    let aws = crate::aws::load().await;
    if args.dry_run {
        if args.ask {
            distribute::rehearse(&plan, &aws).await?;
        }
        session.printer.value(&plan);
        show(&plan, session);
        return Ok(ExitCode::SUCCESS);
    }
    let watcher = Progress::default();
    let journals = journals(session);
    let work = distribute::run(&plan, &source, &journals, &aws, &watcher);
    let done = tokio::select! {
        done = work => done?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::cancelled().with_hint("the same command goes on from here"));
        }
    };
    session.printer.value(&done);
    for delivered in &done {
        for place in &delivered.places {
            session
                .printer
                .line(format!("{:<16} {place}", delivered.destination));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where journals of distributions are.
pub(super) fn journals(session: &Session) -> Utf8PathBuf {
    session.home.path().join("distributions")
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

fn configuration(wanted: &str, session: &Session) -> Result<Document> {
    if Utf8Path::new(wanted).is_file() {
        let (documents, problems) = load(Utf8Path::new(wanted), &BTreeMap::new());
        if problems.has_errors() {
            return Err(Failure::config(format!("{wanted} has errors"))
                .with_hint(format!("`ovenbird validate {wanted}` shows them")));
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

fn show(plan: &Plan, session: &Session) {
    let line = |text: String| session.printer.line(text);
    for delivery in &plan.deliveries {
        match delivery {
            Delivery::Folder(folder) => {
                line(format!("{}: folder {}", folder.name, folder.folder));
                for file in &folder.files {
                    line(format!("  copy {file}"));
                }
            }
            Delivery::Ami(ami) => {
                for (index, region) in ami.regions.iter().enumerate() {
                    line(format!(
                        "ami: {} in {}",
                        region.register.name, region.region
                    ));
                    line(if index == 0 {
                        "  StartSnapshot, PutSnapshotBlock for each block that is not zero, CompleteSnapshot".into()
                    } else {
                        format!("  CopyImage from {}", ami.regions[0].region)
                    });
                    if index == 0 {
                        line("  RegisterImage".into());
                        for (name, value) in region.register.parameters("(the snapshot)") {
                            line(format!("    {name} = {value}"));
                        }
                    }
                    for (name, value) in region
                        .launch_permission
                        .iter()
                        .chain(&region.volume_permission)
                    {
                        line(format!("  permit {name} = {value}"));
                    }
                    for (key, value) in &region.tags {
                        line(format!("  tag {key} = {value}"));
                    }
                    for (template, default) in &region.launch_templates {
                        let default = if *default { ", the new default" } else { "" };
                        line(format!("  version of {template}{default}"));
                    }
                    for (name, data_type) in &region.parameters {
                        line(format!("  SSM parameter {name} ({data_type})"));
                    }
                }
            }
        }
    }
}

/// Shows bytes, rate and time left, on a terminal only.
#[derive(Default)]
struct Progress {
    shown: Mutex<Option<(Instant, Instant)>>,
}

impl Watcher for Progress {
    fn sent(&self, destination: &str, bytes: u64, total: u64) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let Ok(mut shown) = self.shown.lock() else {
            return;
        };
        let now = Instant::now();
        let (began, last) = *shown.get_or_insert((now, now));
        if now.duration_since(last) < Duration::from_millis(200) {
            return;
        }
        *shown = Some((began, now));
        let rate = bytes
            / u64::try_from(now.duration_since(began).as_millis())
                .unwrap_or(1)
                .max(1)
            * 1000;
        let left = total.saturating_sub(bytes) / rate.max(1);
        let mib = |bytes: u64| bytes >> 20;
        let _ = write!(
            anstream::stderr(),
            "\r{destination}: {} of at most {} MiB, {} MiB/s, {left} s left   ",
            mib(bytes),
            mib(total),
            mib(rate)
        );
    }

    fn note(&self, destination: &str, text: &str) {
        let end = if std::io::stderr().is_terminal() {
            "\r"
        } else {
            ""
        };
        let _ = writeln!(anstream::stderr(), "{end}{destination}: {text}");
    }
}
