//! Looks at a disk the way an importer will, before anything is uploaded.
//!
//! Each lint has an id, a severity, the roads that it blocks, a fix, and the words in which the cloud would have
//! answered hours later. The table is the catalogue; the checks only say where and what.

mod boot;
mod guest;
mod image;
mod initramfs;
mod lints;
mod residue;

use std::path::Path;
use std::sync::Arc;

pub use initramfs::names as initramfs_names;
pub use lints::{LINTS, Lint, Road, Severity};

use crate::{DiskReader, ErrorKind, Image, OpenOptions, Progress, Result};

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule that it breaks.
    pub lint: &'static Lint,
    /// Partition, file or field.
    pub place: String,
    /// What is there and what should be.
    pub message: String,
}

/// What a look at a disk came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Findings, errors first.
    pub findings: Vec<Finding>,
    /// What could not be looked at, and why.
    pub skipped: Vec<String>,
}

impl Report {
    /// True when nothing blocks the road.
    pub fn passes(&self) -> bool {
        self.findings
            .iter()
            .all(|f| f.lint.severity != Severity::Error)
    }
}

/// Gathers findings for one road.
struct Findings {
    road: Road,
    report: Report,
}

impl Findings {
    /// Reports a broken rule if it matters on this road.
    fn add(&mut self, id: &str, place: impl Into<String>, message: impl Into<String>) {
        let lint = LINTS.iter().find(|lint| lint.id == id);
        debug_assert!(lint.is_some(), "{id} is not in the catalogue");
        if let Some(lint) = lint
            && lint.roads.contains(&self.road)
        {
            self.report.findings.push(Finding {
                lint,
                place: place.into(),
                message: message.into(),
            });
        }
    }

    fn skip(&mut self, what: impl Into<String>) {
        self.report.skipped.push(what.into());
    }
}

/// Looks at an image file: its container, its partitions and the guest in it.
pub fn check_image(
    path: &Path,
    image: &Image,
    road: Road,
    progress: &dyn Progress,
) -> Result<Report> {
    let mut findings = Findings {
        road,
        report: Report::default(),
    };
    image::check(path, image, &mut findings, progress)?;
    if let Err(e) = check_into(&image.reader, &mut findings) {
        findings.add("disk.readable", "partitions", e.chain());
    }
    Ok(sorted(findings))
}

/// Looks at an image file that may be too damaged to be opened.
pub fn check_file(
    path: &Path,
    options: &OpenOptions,
    road: Road,
    progress: &dyn Progress,
) -> Result<Report> {
    match crate::open_image(path, options) {
        Ok(image) => check_image(path, &image, road, progress),
        Err(e) if e.kind() == ErrorKind::Io => Err(e),
        Err(e) => {
            let mut findings = Findings {
                road,
                report: Report::default(),
            };
            image::check_unreadable(path, &e, &mut findings)?;
            Ok(sorted(findings))
        }
    }
}

/// Looks at a disk whose container does not matter.
pub fn check_disk(disk: &Arc<dyn DiskReader>, road: Road) -> Result<Report> {
    let mut findings = Findings {
        road,
        report: Report::default(),
    };
    check_into(disk, &mut findings)?;
    Ok(sorted(findings))
}

fn check_into(disk: &Arc<dyn DiskReader>, findings: &mut Findings) -> Result<()> {
    let layout = boot::Layout::read(disk, findings)?;
    let Some(guest) = guest::Guest::open(&layout, findings) else {
        findings.skip("the guest: there is no root filesystem that can be read from outside");
        return Ok(());
    };
    guest.check(findings);
    guest.check_boot(&layout, findings);
    initramfs::check(&guest, findings);
    residue::check(&guest, findings);
    Ok(())
}

fn sorted(findings: Findings) -> Report {
    let mut report = findings.report;
    report.findings.sort_by_key(|f| f.lint.severity);
    report
}
