//! Bills of materials of images and disks: who asks, in which form, and where they lie.

use camino::Utf8Path;
use clap::ValueEnum;
use jiff::{Timestamp, TimestampRound, Unit};
use ovenbird_inventory::sbom::{self, Subject};
use ovenbird_inventory::{Distro, Inventory};
use serde_json::Value;

use crate::error::{FailureContext as _, FailureKind, Result};
use crate::output::Manifest;
use crate::output::manifest::{Attachment, AttachmentKind, OsRelease, Package};

/// The forms of a bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Form {
    /// SPDX 2.3
    #[default]
    Spdx,
    /// CycloneDX 1.6
    Cyclonedx,
}

impl Form {
    /// All forms.
    pub const ALL: [Self; 2] = [Self::Spdx, Self::Cyclonedx];

    /// The bill's file in an image's folder, by the names that tools look for.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Spdx => "sbom.spdx.json",
            Self::Cyclonedx => "sbom.cdx.json",
        }
    }

    /// What it is among an image's attachments.
    pub const fn kind(self) -> AttachmentKind {
        match self {
            Self::Spdx => AttachmentKind::Spdx,
            Self::Cyclonedx => AttachmentKind::CycloneDx,
        }
    }

    fn write(self, inventory: &Inventory, subject: &Subject<'_>) -> Value {
        match self {
            Self::Spdx => sbom::spdx(inventory, subject),
            Self::Cyclonedx => sbom::cyclonedx(inventory, subject),
        }
    }
}

/// A bill; `identity` tells its subject from all others, `created` is RFC 3339.
#[must_use]
pub fn bill(
    form: Form,
    inventory: &Inventory,
    (name, version): (&str, &str),
    identity: &str,
    created: &str,
) -> Value {
    let created = seconds(created);
    let subject = Subject {
        name,
        version,
        identity,
        created: &created,
        tool: ("ovenbird", env!("CARGO_PKG_VERSION")),
    };
    form.write(inventory, &subject)
}

/// SPDX knows no fractions of seconds.
fn seconds(time: &str) -> String {
    let round = TimestampRound::new().smallest(Unit::Second);
    time.parse::<Timestamp>()
        .and_then(|time| time.round(round))
        .map_or_else(|_| time.to_owned(), |time| time.to_string())
}

/// Writes the bills of an image into its folder and lists them in its manifest.
///
/// # Errors
/// [`FailureKind::Output`] if they can't be written.
pub fn attach(inventory: &Inventory, manifest: &mut Manifest, folder: &Utf8Path) -> Result<()> {
    for form in Form::ALL {
        let version = format!("{}-{}", manifest.version, manifest.build);
        let subject = (manifest.name.as_str(), version.as_str());
        let bill = bill(form, inventory, subject, &manifest.arn, &manifest.created);
        let path = folder.join(form.file());
        let mut text = serde_json::to_vec_pretty(&bill)
            .or_failure(FailureKind::Internal, || {
                "cannot encode a bill of materials".into()
            })?;
        text.push(b'\n');
        std::fs::write(&path, text)
            .or_failure(FailureKind::Output, || format!("cannot write {path}"))?;
        let attachment = Attachment::of(folder, Utf8Path::new(form.file()), form.kind())?;
        manifest.attachments.push(attachment);
    }
    manifest.attachments.sort();
    Ok(())
}

/// What was seen on a disk, with the packages that the guest has told if no database of them was found: it may lie where nobody
/// could look.
#[must_use]
pub fn completed(seen: Inventory, os: &OsRelease, packages: &[Package]) -> Inventory {
    let mut known = seen.packages.iter();
    if packages.is_empty() || known.any(|package| package.ecosystem.is_of_a_distribution()) {
        return seen;
    }
    let mut inventory = told(os, packages, "no database of packages could be read");
    inventory.packages.extend(seen.packages);
    inventory.notes.extend(seen.notes);
    inventory
}

/// What a guest has told, for a disk that can't be looked into.
#[must_use]
pub fn told(os: &OsRelease, packages: &[Package], why: &str) -> Inventory {
    let distro = Distro {
        id: os.id.clone(),
        version: os.version.clone(),
        codename: String::new(),
        pretty_name: os.pretty_name.clone(),
    };
    let listing = packages.iter().map(|package| {
        let Package {
            name,
            version,
            architecture,
        } = package.clone();
        (name, version, architecture)
    });
    let mut inventory = Inventory::from_listing(distro, listing);
    inventory.notes.push(format!(
        "listed by the guest's package manager, the disk was not looked into: {why}"
    ));
    inventory
}

#[cfg(test)]
mod tests {
    use ovenbird_inventory::Ecosystem;

    use super::*;

    #[test]
    fn packages_that_nobody_could_see_are_those_that_the_guest_told() {
        let os = OsRelease {
            id: "debian".into(),
            ..OsRelease::default()
        };
        let told = [Package {
            name: "bash".into(),
            version: "5.2".into(),
            architecture: "amd64".into(),
        }];
        let seen = |ecosystem| Inventory {
            packages: vec![ovenbird_inventory::Package::new(ecosystem, "x", "1")],
            notes: vec!["/var was not looked into: xfs is not supported".into()],
            ..Inventory::default()
        };
        let completed = completed(seen(Ecosystem::PyPi), &os, &told);
        let names: Vec<&str> = completed
            .packages
            .iter()
            .map(|package| package.name.as_str())
            .collect();
        assert_eq!(names, ["bash", "x"]);
        assert_eq!(completed.notes.len(), 2, "{:?}", completed.notes);
        // With a database of the distribution the disk alone counts.
        let whole = seen(Ecosystem::Deb);
        assert_eq!(super::completed(whole.clone(), &os, &told), whole);
    }
}
