//! Bills of materials: SPDX 2.3 and CycloneDX 1.6, both as JSON and the same each time for the same disk.

mod cyclonedx;
mod spdx23;

use uuid::Uuid;

use crate::Inventory;

pub use cyclonedx::cyclonedx;
pub use spdx23::spdx;

/// What a bill is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// What tells it from all others: a digest, an ARN. The bill's own identity is made of it.
    pub identity: &'a str,
    /// When it was made: RFC 3339, in whole seconds and UTC, as SPDX wants it.
    pub created: &'a str,
    /// The program that writes the bill: name and version.
    pub tool: (&'a str, &'a str),
}

/// A bill's own identity.
fn uuid(subject: &Subject<'_>, kind: &str) -> Uuid {
    let name = format!("urn:ovenbird:sbom:{kind}:{}", subject.identity);
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
}

/// What could not be read, for people who read a bill.
fn remark(inventory: &Inventory) -> Option<String> {
    (!inventory.notes.is_empty())
        .then(|| format!("may be incomplete: {}", inventory.notes.join("; ")))
}
