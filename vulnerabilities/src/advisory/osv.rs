//! Records of the OSV schema: <https://ossf.github.io/osv-schema/>. Fields that nothing here needs are not read.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use super::{Advisory, Affected, Event, Kind, Range, Status, is_name, line, preference};
use crate::ecosystem::Release;
use crate::severity::{Score, Severity};
use crate::version::is_version;

/// Packages in one record; Linux has thousands of them, by distributions and releases.
const MOST_AFFECTED: usize = 50_000;
/// Events of one range.
const MOST_EVENTS: usize = 5_000;
/// Single versions of one package.
const MOST_VERSIONS: usize = 50_000;
/// Names of one record.
const MOST_NAMES: usize = 1_000;
/// Vectors of one record.
const MOST_SCORES: usize = 20;
/// Addresses that are kept.
const MOST_REFERENCES: usize = 10;
/// Bytes of a name of a record.
const LONGEST_ID: usize = 200;
/// Bytes of a name of a package.
const LONGEST_NAME: usize = 500;
const LONGEST_ADDRESS: usize = 1_000;

/// Beginnings of names of advisories of distributions, which name under `related` what they correct.
const ADVISORIES: [&str; 17] = [
    "ALSA-",
    "ALBA-",
    "ALEA-",
    "CGA-",
    "DLA-",
    "DSA-",
    "DTSA-",
    "MGASA-",
    "PHSA-",
    "RHBA-",
    "RHEA-",
    "RHSA-",
    "RLSA-",
    "RXSA-",
    "SUSE-",
    "USN-",
    "openSUSE-",
];

/// Beginnings of names of advisories that correct or enhance anything; some of them correct vulnerabilities too.
const IMPROVEMENTS: [&str; 4] = ["ALBA-", "ALEA-", "RHBA-", "RHEA-"];

/// The beginning of names of packages that were made to do harm: <https://github.com/ossf/malicious-packages>.
const MALICIOUS: &str = "MAL-";

/// What a record came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Read {
    /// It is kept.
    Kept(Box<Advisory>),
    /// It was taken back.
    Withdrawn,
    /// It is about nothing that can be matched here.
    Unused,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Record {
    id: String,
    modified: Option<String>,
    published: Option<String>,
    withdrawn: Option<String>,
    aliases: Option<Vec<String>>,
    upstream: Option<Vec<String>>,
    related: Option<Vec<String>>,
    summary: Option<String>,
    details: Option<String>,
    severity: Option<Vec<RawSeverity>>,
    affected: Option<Vec<RawAffected>>,
    references: Option<Vec<RawReference>>,
    database_specific: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct RawSeverity {
    #[serde(rename = "type")]
    kind: String,
    score: String,
}

#[derive(Debug, Deserialize)]
struct RawAffected {
    package: Option<RawPackage>,
    severity: Option<Vec<RawSeverity>>,
    ranges: Option<Vec<RawRange>>,
    versions: Option<Vec<String>>,
    ecosystem_specific: Option<Value>,
    database_specific: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct RawPackage {
    ecosystem: String,
    name: String,
}

#[derive(Debug, Deserialize)]
struct RawRange {
    #[serde(rename = "type")]
    kind: String,
    events: Vec<RawEvent>,
}

#[derive(Debug, Deserialize)]
struct RawEvent {
    introduced: Option<String>,
    fixed: Option<String>,
    last_affected: Option<String>,
    limit: Option<String>,
}

#[derive(Debug, Deserialize)]
struct RawReference {
    #[serde(rename = "type")]
    kind: Option<String>,
    url: String,
}

impl Record {
    /// What it says, as far as it can be matched.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(self) -> Result<Read, String> {
        if !is_name(&self.id, LONGEST_ID) {
            return Err("its `id` is none".into());
        }
        if self.withdrawn.is_some() {
            return Ok(Read::Withdrawn);
        }
        let affected = self.affected.unwrap_or_default();
        if affected.len() > MOST_AFFECTED {
            return Err(format!(
                "{} is about more than {MOST_AFFECTED} packages",
                self.id
            ));
        }
        let names = |names: Option<Vec<String>>| -> Vec<String> {
            let names = names.unwrap_or_default().into_iter();
            names
                .filter(|name| is_name(name, LONGEST_ID))
                .take(MOST_NAMES)
                .collect()
        };
        let (aliases, upstream, related) = (
            names(self.aliases),
            names(self.upstream),
            names(self.related),
        );
        let mut scores = self.severity.unwrap_or_default();
        let mut kept = Vec::new();
        for mut raw in affected {
            scores.append(raw.severity.get_or_insert_default());
            kept.extend(read_affected(raw).map_err(|wrong| format!("{}: {wrong}", self.id))?);
        }
        let word = |raw: &RawSeverity| {
            (raw.kind == "Ubuntu")
                .then(|| Severity::of_word(&raw.score))
                .flatten()
        };
        let severity = scores
            .iter()
            .find_map(word)
            .or_else(|| said(self.database_specific.as_ref()))
            .or_else(|| graded(&self.id, self.summary.as_deref()));
        scores.truncate(MOST_SCORES);
        let mut vectors = BTreeSet::new();
        let scores: Vec<Score> = scores
            .iter()
            .filter(|raw| vectors.insert(raw.score.clone()))
            .filter_map(|raw| Score::of(&raw.score, &self.id))
            .collect();
        // Records of other ecosystems are worth keeping for what they say of the vulnerability itself.
        if kept.is_empty() && (!self.id.starts_with("CVE-") || scores.is_empty()) {
            return Ok(Read::Unused);
        }
        let about = about(&self.id, &aliases, &upstream, &related);
        let improves = IMPROVEMENTS.iter().any(|start| self.id.starts_with(start));
        if improves && !about.iter().any(|name| name.starts_with("CVE-")) {
            return Ok(Read::Unused);
        }
        // Nobody gives a vector to a package whose purpose is harm.
        let severity = severity.or_else(|| {
            (self.id.starts_with(MALICIOUS) && scores.is_empty()).then_some(Severity::Critical)
        });
        let mut aliases: Vec<String> = aliases
            .into_iter()
            .filter(|alias| *alias != self.id)
            .collect();
        aliases.sort();
        aliases.dedup();
        let summary = self
            .summary
            .filter(|text| !text.trim().is_empty())
            .or(self.details)
            .unwrap_or_default();
        Ok(Read::Kept(Box::new(Advisory {
            about,
            kind: Kind::Osv,
            summary: line(&summary),
            scores,
            severity,
            published: self.published.and_then(|time| moment(&time)),
            modified: self.modified.and_then(|time| moment(&time)),
            references: addresses(self.references.unwrap_or_default()),
            affected: kept,
            aliases,
            id: self.id,
        })))
    }
}

/// The vulnerabilities that a record tells of: CVEs by any way in which they may be named, else the best of its own names.
fn about(id: &str, aliases: &[String], upstream: &[String], related: &[String]) -> Vec<String> {
    let corrects = is_of_a_distribution(id);
    let named = std::iter::once(id)
        .chain(aliases.iter().map(String::as_str))
        .chain(upstream.iter().map(String::as_str))
        .chain(related.iter().filter(|_| corrects).map(String::as_str));
    let cves: BTreeSet<&str> = named.filter(|name| name.starts_with("CVE-")).collect();
    if !cves.is_empty() {
        return cves.into_iter().map(str::to_owned).collect();
    }
    let own = std::iter::once(id).chain(aliases.iter().map(String::as_str));
    own.min_by_key(|name| preference(name))
        .map(str::to_owned)
        .into_iter()
        .collect()
}

fn is_of_a_distribution(id: &str) -> bool {
    ADVISORIES.iter().any(|start| id.starts_with(start))
}

fn read_affected(raw: RawAffected) -> Result<Option<Affected>, String> {
    let Some(package) = raw.package else {
        return Ok(None);
    };
    let Some(release) = Release::of_osv(&package.ecosystem) else {
        return Ok(None);
    };
    if !is_name(&package.name, LONGEST_NAME) {
        return Err("a package has an impossible name".into());
    }
    let mut ranges = Vec::new();
    for range in raw.ranges.unwrap_or_default() {
        // Commits of a repository are not what is installed.
        if range.kind != "SEMVER" && range.kind != "ECOSYSTEM" {
            continue;
        }
        if range.events.len() > MOST_EVENTS {
            return Err(format!(
                "{} has more than {MOST_EVENTS} events",
                package.name
            ));
        }
        ranges.push(Range {
            events: range.events.into_iter().filter_map(event).collect(),
        });
    }
    let mut affected = Affected {
        package: release.package_name(&package.name),
        release,
        ranges,
        versions: Vec::new(),
        severity: said(raw.ecosystem_specific.as_ref())
            .or_else(|| said(raw.database_specific.as_ref())),
        note: None,
    };
    let versions = raw.versions.unwrap_or_default();
    if versions.len() > MOST_VERSIONS {
        return Err(format!(
            "{} has more than {MOST_VERSIONS} versions",
            package.name
        ));
    }
    let scheme = affected.release.scheme();
    affected.versions = versions
        .into_iter()
        .filter(|version| is_name(version, LONGEST_NAME))
        // Most are listed although a range says the same.
        .filter(|version| {
            !is_version(scheme, version)
                || !matches!(affected.status(version), Status::Affected { .. })
        })
        .collect();
    if affected.ranges.is_empty() && affected.versions.is_empty() {
        return Ok(None);
    }
    Ok(Some(affected))
}

fn event(raw: RawEvent) -> Option<Event> {
    raw.introduced
        .map(Event::Introduced)
        .or_else(|| raw.fixed.map(Event::Fixed))
        .or_else(|| raw.last_affected.map(Event::LastAffected))
        .or_else(|| raw.limit.map(Event::Limit))
        .filter(|event| is_name(event.version(), LONGEST_NAME))
}

/// A severity in the part of a record that each database fills as it likes.
fn said(specific: Option<&Value>) -> Option<Severity> {
    ["severity", "urgency", "ubuntu_priority"]
        .into_iter()
        .find_map(|key| Severity::of_word(specific?.get(key)?.as_str()?))
}

/// The grade before the summary of an advisory: AlmaLinux has it only there, `Important: .NET 8.0 security update`.
fn graded(id: &str, summary: Option<&str>) -> Option<Severity> {
    let (word, _) = summary?.split_once(':')?;
    is_of_a_distribution(id)
        .then(|| Severity::of_word(word))
        .flatten()
}

/// A time in one form; none if it is none.
fn moment(text: &str) -> Option<String> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Advisories first: they are what people want to read.
fn addresses(references: Vec<RawReference>) -> Vec<String> {
    let mut found: Vec<(bool, String)> = Vec::new();
    for reference in references {
        let is_address = ["https://", "http://"]
            .iter()
            .any(|scheme| reference.url.starts_with(scheme));
        if is_address
            && is_name(&reference.url, LONGEST_ADDRESS)
            && !found.iter().any(|(_, url)| *url == reference.url)
            && found.len() < 1000
        {
            found.push((reference.kind.as_deref() != Some("ADVISORY"), reference.url));
        }
    }
    found.sort_by_key(|(later, _)| *later);
    found.truncate(MOST_REFERENCES);
    found.into_iter().map(|(_, url)| url).collect()
}
