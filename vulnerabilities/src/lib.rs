//! Known vulnerabilities of what is installed on a disk, from a local copy of public databases.
//!
//! Advisories come as OSV records or as Debian's security tracker, from files that anybody may have carried in: every size and
//! every count has a limit, and what is damaged is counted and left out. A [`Database`] is one file; [`find`] holds an
//! inventory against it, a [`Policy`] says what of it matters.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod advisory;
mod database;
mod ecosystem;
mod finding;
mod import;
mod matching;
mod policy;
pub mod report;
mod severity;
pub mod version;

pub use advisory::{Advisory, Affected, Event, Kind, Range, Status};
pub use database::{Builder, Database, DatabaseError, EcosystemCount, SourceInfo};
pub use ecosystem::Release;
pub use finding::{Finding, Findings, Installed};
pub use import::{ImportError, Imported, import};
pub use matching::find;
pub use policy::{Exception, Judgement, Policy, Spared};
pub use severity::{Counts, Score, Severity};
