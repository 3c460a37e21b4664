//! Debian's security tracker: one object of source packages, each of vulnerabilities, each with what it is in every release.
//! <https://security-tracker.debian.org/tracker/data/json>, described at <https://security-team.debian.org/security_tracker.html>.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Advisory, Affected, Event, Kind, Range, is_name, line};
use crate::ecosystem::Release;
use crate::severity::Severity;

/// What the tracker says of one vulnerability in one package.
#[derive(Debug, Deserialize)]
pub(crate) struct Entry {
    description: Option<String>,
    #[serde(default)]
    releases: BTreeMap<String, InRelease>,
}

#[derive(Debug, Deserialize)]
struct InRelease {
    status: String,
    fixed_version: Option<String>,
    urgency: Option<String>,
    nodsa: Option<String>,
}

impl Entry {
    /// As an advisory about this one package; none if no release is one that is known here.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(self, package: &str, id: &str) -> Result<Option<Advisory>, String> {
        if !is_name(package, 200) || !is_name(id, 200) {
            return Err("an impossible name".into());
        }
        let mut affected = Vec::new();
        for (codename, said) in self.releases {
            let Some(release) = Release::of_debian(&codename) else {
                continue;
            };
            let introduced = Event::Introduced("0".into());
            let ranges = match (said.status.as_str(), said.fixed_version.as_deref()) {
                ("open", _) => vec![vec![introduced]],
                // It never was in this release.
                ("resolved", Some("0")) => Vec::new(),
                ("resolved", Some(fixed)) if is_name(fixed, 200) => {
                    vec![vec![introduced, Event::Fixed(fixed.to_owned())]]
                }
                ("undetermined", _) => continue,
                (status, fixed) => {
                    return Err(format!(
                        "{package}, {id}, {codename}: `{}` fixed in `{}` is not known",
                        line(status),
                        line(fixed.unwrap_or_default())
                    ));
                }
            };
            affected.push(Affected {
                release,
                package: package.to_owned(),
                ranges: ranges.into_iter().map(|events| Range { events }).collect(),
                versions: Vec::new(),
                severity: said.urgency.as_deref().and_then(Severity::of_word),
                note: said
                    .nodsa
                    .filter(|_| said.status == "open")
                    .map(|why| line(&why)),
            });
        }
        if affected.is_empty() {
            return Ok(None);
        }
        Ok(Some(Advisory {
            id: id.to_owned(),
            kind: Kind::DebianTracker,
            aliases: Vec::new(),
            about: vec![id.to_owned()],
            summary: line(&self.description.unwrap_or_default()),
            scores: Vec::new(),
            severity: None,
            published: None,
            modified: None,
            references: vec![format!("https://security-tracker.debian.org/tracker/{id}")],
            affected,
        }))
    }
}
