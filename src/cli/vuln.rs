//! `ovenbird vuln update|list`, and what `image vulnerabilities` and `disk vulnerabilities` have in common.

use std::process::ExitCode;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use ovenbird_inventory::Inventory;
use ovenbird_vulnerabilities::report::{self, Account, Report};
use ovenbird_vulnerabilities::{
    Builder, DatabaseError, ImportError, Imported, Policy, Severity, import,
};
use serde_json::{Value, json};

use super::Session;
use super::base::Meter;
use super::convert::until_interrupted;
use super::printer::Printer;
use crate::catalog::digest::Digest;
use crate::catalog::fetch::{Download, Fetcher};
use crate::catalog::progress::Progress as _;
use crate::documents::vulnerabilities::read_exceptions;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::vulnerabilities::{age_in_days, open, scan};

/// Bytes of a download; OSV's largest archive has some 1.5 GB.
const LARGEST_DOWNLOAD: u64 = 8 << 30;
/// Characters of a summary in a table.
const SUMMARY: usize = 60;

/// Arguments of `vuln`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make the database anew from OSV records and Debian's security tracker
    Update {
        /// A file, a folder that was carried in, or an http(s) address: OSV records (JSON, lines of JSON, a zip such as OSV's
        /// all.zip, a folder of these) or the JSON of Debian's security tracker. `#sha256:…` behind a file or address says
        /// what it must be. All sources are named each time
        #[arg(long, required = true, num_args = 1.., value_name = "FILE|FOLDER|URL")]
        from: Vec<String>,
    },
    /// Show what the database holds, from where, and how old it is
    List,
}

/// How findings are shown and judged.
#[derive(Debug, Clone, clap::Args)]
pub struct How {
    /// How to print the findings
    #[arg(long, value_enum, default_value_t)]
    format: Form,
    /// Exit with code 9 if there is a vulnerability of this severity or above: critical, high, medium, low, informational or
    /// unknown
    #[arg(long, value_name = "SEVERITY")]
    fail_on: Option<Severity>,
    /// For --fail-on, count only those that a newer version corrects
    #[arg(long)]
    only_fixed: bool,
    /// A YAML or JSON file of vulnerabilities that are known and borne for a while, each with a reason and its last day
    #[arg(long, value_name = "FILE")]
    exceptions: Option<Utf8PathBuf>,
    /// Another database than that of the home
    #[arg(long, value_name = "FILE")]
    database: Option<Utf8PathBuf>,
}

/// The forms of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Form {
    /// A table, for people
    #[default]
    Table,
    /// Our own report
    Json,
    /// SARIF 2.1.0
    Sarif,
    /// The finding shape of EC2 Image Builder, with scan state and counts
    Service,
}

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Its ARN, or where it lies.
    pub identity: &'a str,
}

/// Runs the verb.
///
/// # Errors
/// [`FailureKind::Config`] if a source is wrong, [`FailureKind::Environment`] if it can't be reached or the database can't be
/// written.
pub async fn run(args: Args, session: &Session) -> Result<ExitCode> {
    match args.verb {
        Verb::Update { from } => update(from, session).await,
        Verb::List => list(session),
    }
}

/// A source that is on this machine now.
struct Local {
    location: String,
    path: Utf8PathBuf,
    digest: Option<Digest>,
    download: Option<Download>,
}

async fn update(from: Vec<String>, session: &Session) -> Result<ExitCode> {
    let printer = session.printer;
    let mut sources = Vec::new();
    for location in from {
        sources.push(gather(&location, session).await?);
    }
    let target = session.home.vulnerabilities();
    let database = target.clone();
    let (read, sources) = until_interrupted(move |stop| {
        let read = build(&sources, &database, printer, &stop)?;
        Ok((read, sources))
    })
    .await?;
    for source in sources {
        if let Some(download) = source.download {
            download.discard();
        }
    }
    printer.value(&json!({
        "database": target,
        "sources": read.iter().map(|one| &one.source).collect::<Vec<_>>(),
    }));
    for one in &read {
        let source = &one.source;
        printer.line(format!(
            "{}: {} records, {} kept, {} about nothing that is matched here, {} withdrawn, {} damaged",
            source.location, source.records, source.used, source.unused, source.withdrawn, source.damaged
        ));
        for complaint in &one.complaints {
            printer.warn(format!("left out: {complaint}"));
        }
    }
    printer.line(&target);
    Ok(ExitCode::SUCCESS)
}

/// Brings a source to this machine.
async fn gather(text: &str, session: &Session) -> Result<Local> {
    let (location, digest) = match text.split_once("#sha256:") {
        Some((location, hex)) => (location, Some(Digest::from_str(&format!("sha256:{hex}"))?)),
        None => (text, None),
    };
    let local = |path: Utf8PathBuf, download| Local {
        location: location.to_owned(),
        path,
        digest: digest.clone(),
        download,
    };
    if location.starts_with("https://") || location.starts_with("http://") {
        let meter = Meter::new(session.printer);
        meter.stage(&format!("fetch {location}"));
        let partials = session.home.cache().join("vulnerabilities");
        let fetcher = Fetcher::new(None)?.at_most(LARGEST_DOWNLOAD);
        let download = fetcher.file(location, &partials, &meter).await?;
        let path = download.path.clone();
        return Ok(local(path, Some(download)));
    }
    let path = Utf8PathBuf::from(location.strip_prefix("file://").unwrap_or(location));
    if !path.exists() {
        return Err(Failure::config(format!("there is no {path}")).with_hint(
            "name a file, a folder or an http(s) address; docs/vulnerabilities.md says where the data is published",
        ));
    }
    Ok(local(path, None))
}

/// Makes the database. Blocks.
fn build(
    sources: &[Local],
    target: &Utf8Path,
    printer: Printer,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<Imported>> {
    let written = |error: DatabaseError| {
        let message = format!("cannot make the database {target}");
        match error {
            DatabaseError::Empty => Failure::config(message).caused_by(error).with_hint(
                "the records are about no distribution or language that is matched here; docs/vulnerabilities.md lists them",
            ),
            error => Failure::environment(message).caused_by(error),
        }
    };
    let mut builder = Builder::new(target.as_std_path()).map_err(written)?;
    let mut all = Vec::new();
    for source in sources {
        let meter = Meter::new(printer);
        meter.stage(&format!("read {}", source.location));
        let read = import(
            source.path.as_std_path(),
            &source.location,
            &mut builder,
            &mut |info| {
                meter.line(&format!("{} records", info.records));
                !stop.load(Ordering::Relaxed)
            },
        );
        drop(meter);
        let imported = read.map_err(|error| match error {
            ImportError::Stopped => Failure::cancelled(),
            ImportError::Database(error) => written(error),
            error => {
                Failure::config(format!("cannot take in {}", source.location)).caused_by(error)
            }
        })?;
        if let Some(wanted) = &source.digest
            && wanted.hex() != imported.source.sha256
        {
            return Err(Failure::config(format!(
                "{} is not what it must be: its digest is sha256:{}, wanted {wanted}",
                source.location, imported.source.sha256
            )));
        }
        all.push(imported);
    }
    let generator = concat!("ovenbird ", env!("CARGO_PKG_VERSION"));
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    builder.finish(&now, generator).map_err(written)?;
    Ok(all)
}

fn list(session: &Session) -> Result<ExitCode> {
    let printer = session.printer;
    let path = session.home.vulnerabilities();
    let database = open(&path)?;
    let unreadable = || format!("cannot read {path}");
    let environment = FailureKind::Environment;
    let created = database.created().or_failure(environment, unreadable)?;
    let sources = database.sources().or_failure(environment, unreadable)?;
    let ecosystems = database.ecosystems().or_failure(environment, unreadable)?;
    let days = age_in_days(&created, Timestamp::now()).unwrap_or_default();
    printer.value(&json!({
        "database": path, "created": created, "ageDays": days, "sources": sources, "ecosystems": ecosystems,
    }));
    printer.line(format!("{path}, made {created}, {days} days ago"));
    let words = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
    let mut rows: Vec<Vec<String>> =
        vec![words(&["SOURCE", "RECORDS", "KEPT", "NEWEST", "SHA-256"])];
    rows.extend(sources.iter().map(|source| {
        vec![
            source.location.clone(),
            source.records.to_string(),
            source.used.to_string(),
            source.newest.clone().unwrap_or_default(),
            source.sha256.chars().take(12).collect(),
        ]
    }));
    printer.table(&rows);
    let mut rows: Vec<Vec<String>> = vec![words(&["ECOSYSTEM", "ADVISORIES"])];
    rows.extend(
        ecosystems
            .iter()
            .map(|one| vec![one.ecosystem.clone(), one.advisories.to_string()]),
    );
    printer.table(&rows);
    Ok(ExitCode::SUCCESS)
}

/// Looks up an inventory, prints the findings, and judges them.
///
/// # Errors
/// [`FailureKind::Environment`] without a database, [`FailureKind::Config`] if the exceptions can't be read,
/// [`FailureKind::Vulnerable`] if a finding fails the threshold.
pub fn check(
    inventory: &Inventory,
    seen: Seen<'_>,
    how: &How,
    home: impl FnOnce() -> Result<Session>,
    printer: Printer,
) -> Result<ExitCode> {
    let policy = Policy {
        fail_on: how.fail_on,
        only_fixed: how.only_fixed,
        exceptions: match &how.exceptions {
            Some(path) => read_exceptions(path)?,
            None => Vec::new(),
        },
    };
    let database = match &how.database {
        Some(path) => open(path)?,
        None => open(&home()?.home.vulnerabilities())?,
    };
    let scan = scan(inventory, &database, &policy)?;
    let created = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let report = scan.report((seen.name, seen.version), seen.identity, &created);
    for remark in &report.remarks {
        printer.warn(remark);
    }
    print(&report, how.format, seen, printer)?;
    scan.verdict(&policy)?;
    Ok(ExitCode::SUCCESS)
}

fn print(report: &Report, form: Form, seen: Seen<'_>, printer: Printer) -> Result<()> {
    let value = match form {
        Form::Table if !printer.json => {
            table(report, printer);
            return Ok(());
        }
        Form::Table | Form::Json => serde_json::to_value(report)
            .or_failure(FailureKind::Internal, || {
                "cannot encode the report of vulnerabilities".into()
            })?,
        Form::Sarif => report::sarif(report),
        Form::Service => service(report, seen),
    };
    printer.value(&value);
    printer.line(format!("{value:#}"));
    Ok(())
}

/// The answers of the service's calls about one image.
fn service(report: &Report, seen: Seen<'_>) -> Value {
    let account = Account {
        account: "000000000000",
        image: seen.identity,
        pipeline: None,
    };
    let mut value = report::scan_findings(report, account);
    value["imageScanState"] = report::scan_state(report);
    value["aggregations"] = report::aggregations(report, account);
    value
}

fn table(report: &Report, printer: Printer) {
    let heading = [
        "SEVERITY",
        "ID",
        "PACKAGE",
        "INSTALLED",
        "CORRECTED IN",
        "SUMMARY",
    ];
    let mut rows: Vec<Vec<String>> = vec![heading.iter().map(|cell| (*cell).to_owned()).collect()];
    for finding in &report.findings {
        let severity = match &finding.exception {
            Some(spared) => format!("{} (borne until {})", finding.severity, spared.expires),
            None => finding.severity.to_string(),
        };
        let mut summary: String = finding.summary.chars().take(SUMMARY).collect();
        if finding.summary.chars().count() > SUMMARY {
            summary.push('…');
        }
        rows.push(vec![
            severity,
            finding.id.clone(),
            finding.package.clone(),
            finding.installed.clone(),
            finding.fixed.first().cloned().unwrap_or_else(|| "-".into()),
            summary,
        ]);
    }
    if rows.len() > 1 {
        printer.table(&rows);
    }
    printer.line(format!(
        "{} packages looked up in the database of {}; known vulnerabilities: {}",
        report.packages_checked, report.database.created, report.counts
    ));
}
