//! Our own report, as it lies beside an image.

use serde::{Deserialize, Serialize};

use super::Subject;
use crate::database::SourceInfo;
use crate::finding::{Finding, Findings};
use crate::severity::Counts;

/// The version of the report's format.
const VERSION: u32 = 1;

/// A report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// The version of this format.
    pub report_version: u32,
    /// What was looked at.
    pub subject: ReportSubject,
    /// When; RFC 3339.
    pub created: String,
    /// The program that wrote it.
    pub generator: String,
    /// What it was held against.
    pub database: DatabaseNote,
    /// Packages that were looked up.
    pub packages_checked: usize,
    /// Findings by severity, but for those that an exception spares.
    pub counts: Counts,
    /// Worst first.
    pub findings: Vec<Finding>,
    /// What could not be looked up, and exceptions that have ended.
    pub remarks: Vec<String>,
}

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReportSubject {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its ARN or digest.
    pub identity: String,
}

/// What findings were held against.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseNote {
    /// When it was made; RFC 3339.
    pub created: String,
    /// What from.
    pub sources: Vec<SourceInfo>,
}

impl Report {
    /// Makes a report.
    pub fn new(findings: Findings, subject: &Subject<'_>, database: DatabaseNote) -> Self {
        Self {
            report_version: VERSION,
            subject: ReportSubject {
                name: subject.name.to_owned(),
                version: subject.version.to_owned(),
                identity: subject.identity.to_owned(),
            },
            created: subject.created.to_owned(),
            generator: format!("{} {}", subject.tool.0, subject.tool.1),
            database,
            packages_checked: findings.checked,
            counts: findings.counts(),
            findings: findings.findings,
            remarks: findings.remarks,
        }
    }
}
