//! An image as a page: what it is, how it came to be, and what was seen of it, in one file that needs nothing else.

mod page;

use camino::Utf8Path;
use ovenbird_provenance::dsse::Envelope;
use ovenbird_provenance::folder::FILE as PROVENANCE;
use ovenbird_vulnerabilities::report::Report as Vulnerabilities;
use serde::Deserialize;

use crate::bake::attend::TRACE;
use crate::output::Manifest;
use crate::output::manifest::AttachmentKind;
use crate::timings::{Span, spans_of_trace};

/// The name of a page beside an image's logs.
pub const FILE: &str = "report.html";
/// What a component leaves in its folder of the evidence to be shown at the top: see docs/trust.md.
const SUMMARY: &str = "summary.json";
/// Summaries and traces are small.
const LARGEST: u64 = 16 << 20;

/// Everything that a page shows.
#[derive(Debug)]
pub struct Report {
    manifest: Manifest,
    /// In the order in which they began; empty if the trace is not there any more.
    spans: Vec<Span>,
    /// Who, it says, has signed; [`verify`](crate::signing::check) says whether that is true.
    signatures: Vec<String>,
    assessments: Vec<Assessment>,
    vulnerabilities: Option<Vulnerabilities>,
}

/// The result of a scanner, as its component sums it up.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Assessment {
    /// What was assessed by what.
    title: String,
    /// The score.
    score: f64,
    /// The best score that there is.
    #[serde(default = "hundred")]
    of: f64,
    /// Rules that hold.
    #[serde(default)]
    passed: Option<u64>,
    /// Rules that don't.
    #[serde(default)]
    failed: Option<u64>,
    /// The full report, in the summary's folder.
    #[serde(default)]
    report: Option<String>,
    /// The folder of the summary in the image.
    #[serde(skip)]
    folder: String,
}

fn hundred() -> f64 {
    100.0
}

impl Report {
    /// Gathers what there is about the image in a folder. What is missing or damaged is left out: the page tells of the image,
    /// it doesn't judge it.
    #[must_use]
    pub fn of(manifest: Manifest, folder: &Utf8Path, logs: Option<&Utf8Path>) -> Self {
        let spans = logs
            .and_then(|logs| read(&logs.join(TRACE)))
            .and_then(|text| spans_of_trace(&text))
            .unwrap_or_default();
        let signatures = read(&folder.join(PROVENANCE))
            .and_then(|text| Envelope::parse(&text).ok())
            .map(|envelope| {
                let keys = envelope.signatures.into_iter();
                keys.map(|signature| signature.keyid).collect()
            })
            .unwrap_or_default();
        let summaries = manifest.attachments.iter().filter(|file| {
            file.kind == AttachmentKind::Evidence && file.path.file_name() == Some(SUMMARY)
        });
        let assessments = summaries
            .filter_map(|file| {
                let text = read(&folder.join(&file.path))?;
                let mut assessment: Assessment = serde_json::from_slice(&text).ok()?;
                let inside = file.path.parent().unwrap_or(Utf8Path::new(""));
                assessment.folder = inside.to_string();
                Some(assessment)
            })
            .collect();
        let vulnerabilities = manifest
            .attachments
            .iter()
            .find(|file| file.kind == AttachmentKind::Vulnerabilities)
            .and_then(|file| read(&folder.join(&file.path)))
            .and_then(|text| serde_json::from_slice(&text).ok());
        Self {
            manifest,
            spans,
            signatures,
            assessments,
            vulnerabilities,
        }
    }

    /// The page; its links lead to the image's files in `folder`.
    #[must_use]
    pub fn html(&self, folder: &Utf8Path) -> String {
        page::render(self, folder)
    }
}

fn read(path: &Utf8Path) -> Option<Vec<u8>> {
    let small = std::fs::metadata(path).is_ok_and(|meta| meta.len() <= LARGEST);
    small.then(|| std::fs::read(path).ok())?
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
