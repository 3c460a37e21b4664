//! Known vulnerabilities of images and disks: where the database lies, what a bake does with it, and how findings are told.

use camino::{Utf8Path, Utf8PathBuf};
use jiff::{Timestamp, tz::TimeZone};
use ovenbird_inventory::Inventory;
use ovenbird_vulnerabilities::report::{DatabaseNote, Report, Subject};
use ovenbird_vulnerabilities::{
    Database, DatabaseError, Finding, Findings, Judgement, Policy, find,
};

use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::output::Manifest;
use crate::output::manifest::{Attachment, AttachmentKind};

/// The report among an image's files.
pub const FILE: &str = "vulnerabilities.json";
/// After so many days a database is called old: distributions correct something every day.
const OLD_DAYS: i64 = 14;
/// Findings that a failure names one by one.
const MOST_NAMED: usize = 20;

/// What a bake has to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What fails it.
    pub policy: Policy,
    /// The database's file, whether it is there or not.
    pub database: Utf8PathBuf,
    /// What the database was when the bake was planned; none if it is not there.
    pub state: Option<String>,
}

impl Check {
    /// A check against the database of a home, as it is now.
    #[must_use]
    pub fn new(policy: Policy, database: &Utf8Path) -> Self {
        let state = Database::open(database.as_std_path())
            .and_then(|database| database.created())
            .ok();
        Self {
            policy,
            database: database.to_owned(),
            state,
        }
    }

    /// Opens the database; none if it is missing and nothing depends on it.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if a threshold can't be kept without it, or it is damaged.
    pub fn open(&self) -> Result<Option<Database>> {
        match open(&self.database) {
            Ok(database) => Ok(Some(database)),
            Err(failure) if self.policy.fail_on.is_some() => {
                Err(failure.context("`local.vulnerabilities.failOn` of the recipe can't be kept"))
            }
            Err(failure) if self.database.exists() => Err(failure),
            Err(_) => Ok(None),
        }
    }
}

/// Findings with what they were held against.
#[derive(Debug, Clone)]
pub struct Scan {
    /// What was found, with remarks about what could not be looked up and about exceptions.
    pub findings: Findings,
    /// What the policy says of it.
    pub judgement: Judgement,
    /// The database.
    pub database: DatabaseNote,
}

/// Opens the database.
///
/// # Errors
/// [`FailureKind::Environment`] if there is none, or it can't be read.
pub fn open(path: &Utf8Path) -> Result<Database> {
    Database::open(path.as_std_path()).map_err(|error| {
        let missing = matches!(error, DatabaseError::Missing(_));
        Failure::environment(error.to_string()).with_hint(if missing {
            "`ovenbird vuln update --from FILE|FOLDER|URL` makes one"
        } else {
            "`ovenbird vuln update --from FILE|FOLDER|URL` makes it anew"
        })
    })
}

/// Looks everything up and judges it.
///
/// # Errors
/// [`FailureKind::Environment`] if the database can't be read.
pub fn scan(inventory: &Inventory, database: &Database, policy: &Policy) -> Result<Scan> {
    let now = Timestamp::now();
    let unreadable = || "cannot read the database of vulnerabilities".to_owned();
    let mut findings =
        find(inventory, database).or_failure(FailureKind::Environment, unreadable)?;
    let note = DatabaseNote::of(database).or_failure(FailureKind::Environment, unreadable)?;
    let today = now.to_zoned(TimeZone::UTC).date();
    let judgement = policy.judge(&mut findings, today);
    findings.remarks.extend(judgement.remarks.iter().cloned());
    if let Some(days) = age_in_days(&note.created, now)
        && days > OLD_DAYS
    {
        findings.remarks.push(format!(
            "the database was made {days} days ago: what became known since is missing"
        ));
    }
    Ok(Scan {
        findings,
        judgement,
        database: note,
    })
}

/// Days since a time.
#[must_use]
pub fn age_in_days(created: &str, now: Timestamp) -> Option<i64> {
    let created: Timestamp = created.parse().ok()?;
    Some(now.duration_since(created).as_hours() / 24)
}

impl Scan {
    /// The report about a subject.
    #[must_use]
    pub fn report(&self, (name, version): (&str, &str), identity: &str, created: &str) -> Report {
        let subject = Subject {
            name,
            version,
            identity,
            created,
            tool: ("ovenbird", env!("CARGO_PKG_VERSION")),
        };
        Report::new(self.findings.clone(), &subject, self.database.clone())
    }

    /// Nothing, or the failure that the policy wants.
    ///
    /// # Errors
    /// [`FailureKind::Vulnerable`] with the findings.
    pub fn verdict(&self, policy: &Policy) -> Result<()> {
        let (Some(threshold), false) = (policy.fail_on, self.judgement.failing.is_empty()) else {
            return Ok(());
        };
        let count = self.judgement.failing.len();
        let findings = &self.findings.findings;
        let mut lines: Vec<String> = self
            .judgement
            .failing
            .iter()
            .take(MOST_NAMED)
            .map(|at| line_of(&findings[*at]))
            .collect();
        if count > MOST_NAMED {
            lines.push(format!("and {} more", count - MOST_NAMED));
        }
        Err(Failure::new(
            FailureKind::Vulnerable,
            format!(
                "{count} known {} of severity {threshold} or above: {}",
                if count == 1 {
                    "vulnerability"
                } else {
                    "vulnerabilities"
                },
                self.judgement.counts
            ),
        )
        .with_details(lines.join("\n"))
        .with_hint("update what is installed, or bear it for a while by an exception with its reason and its last day"))
    }
}

/// A finding on one line.
fn line_of(finding: &Finding) -> String {
    let fixed = match finding.fixed.first() {
        Some(fixed) => format!("corrected in {fixed}"),
        None => "not corrected yet".to_owned(),
    };
    format!(
        "{} {} in {} {}, {fixed}",
        finding.severity, finding.id, finding.package, finding.installed
    )
}

/// Writes the report of an image into its folder and lists it in its manifest.
///
/// # Errors
/// [`FailureKind::Output`] if it can't be written.
pub fn attach(scan: &Scan, manifest: &mut Manifest, folder: &Utf8Path) -> Result<()> {
    let version = format!("{}-{}", manifest.version, manifest.build);
    let report = scan.report((&manifest.name, &version), &manifest.arn, &manifest.created);
    let path = folder.join(FILE);
    let mut text = serde_json::to_vec_pretty(&report).or_failure(FailureKind::Internal, || {
        "cannot encode the report of vulnerabilities".into()
    })?;
    text.push(b'\n');
    std::fs::write(&path, text)
        .or_failure(FailureKind::Output, || format!("cannot write {path}"))?;
    let attachment = Attachment::of(folder, Utf8Path::new(FILE), AttachmentKind::Vulnerabilities)?;
    manifest.attachments.push(attachment);
    manifest.attachments.sort();
    Ok(())
}
