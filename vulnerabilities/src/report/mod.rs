//! Findings in the forms that others read.

mod json;
mod sarif;
mod service;

use crate::database::{Database, DatabaseError};

pub use json::{DatabaseNote, Report, ReportSubject};
pub use sarif::sarif;
pub use service::{Account, aggregations, scan_findings, scan_state};

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// What tells it from all others: an ARN, a digest.
    pub identity: &'a str,
    /// When: RFC 3339.
    pub created: &'a str,
    /// The program: name and version.
    pub tool: (&'a str, &'a str),
}

impl DatabaseNote {
    /// Describes a database.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn of(database: &Database) -> Result<Self, DatabaseError> {
        Ok(Self {
            created: database.created()?,
            sources: database.sources()?,
        })
    }
}

#[cfg(test)]
mod tests;
