//! What an image must be beyond unchanged: a file of demands on what was signed about it.
//!
//! Everything is decided by the manifest, which is one of the signed files: nothing of the store, no network, no clock but this
//! machine's for the age.

use camino::{Utf8Path, Utf8PathBuf};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::bake::sanitise::{RULES, fits};
use crate::catalog::Version;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::machine::{Arch, Firmware};
use crate::output::Manifest;

/// The demands. Names of images, components and packages may hold `*` for any part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policy {
    /// Files of public keys that are trusted, relative to the policy's file; added to those of the command line.
    pub keys: Vec<Utf8PathBuf>,
    /// How many of the trusted keys must have signed; one if nothing is said.
    pub signatures: Option<usize>,
    /// What the image may be called.
    image: Vec<String>,
    /// The oldest version that may be used: what was replaced for a reason does not come back.
    minimum_version: Option<Version>,
    /// Days after which an image is too old.
    max_age_days: Option<u32>,
    /// Architectures that it may have.
    architectures: Vec<Arch>,
    /// Firmware by which it must have been booted after it was made.
    booted_by: Vec<Firmware>,
    /// Whether a second copy must have been booted and compared.
    copies_compared: bool,
    /// Parents that it may be made from: `NAME/VERSION`.
    parents: Vec<String>,
    /// Components.
    components: Names,
    /// Packages.
    packages: Names,
    /// The clean-up.
    clean_up: Option<CleanUp>,
}

/// What must be and what must not be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Names {
    required: Vec<String>,
    forbidden: Vec<String>,
}

/// Every rule that is not optional must have been applied and verified from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct CleanUp {
    /// Rules that may have been left out.
    may_keep: Vec<String>,
    /// What may look like a secret: `RULE:PATH`.
    may_hold: Vec<String>,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`FailureKind::Config`] with file, line, and what was expected there.
    pub fn read(path: &Utf8Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).or_failure(FailureKind::Config, || {
            format!("cannot read the policy {path}")
        })?;
        let mut policy = Self::parse(&text)
            .map_err(|failure| failure.context(format!("{path} is not a policy")))?;
        let folder = path.parent().unwrap_or(Utf8Path::new(""));
        for key in &mut policy.keys {
            *key = folder.join(&*key);
        }
        Ok(policy)
    }

    fn parse(text: &str) -> Result<Self> {
        let policy: Self = toml::from_str(text)
            .map_err(|error| Failure::config(error.message()).with_details(error.to_string()))?;
        if policy.signatures == Some(0) {
            return Err(Failure::config(
                "`signatures` is 0: then anybody could have made the image",
            ));
        }
        if let Some(clean_up) = &policy.clean_up {
            for id in &clean_up.may_keep {
                if RULES.iter().all(|rule| rule.id != id) {
                    return Err(Failure::config(format!("unknown sanitising rule `{id}`")));
                }
            }
        }
        Ok(policy)
    }

    /// Everything in which an image is not what is demanded, a line each; `signers` trusted keys have signed it.
    pub fn faults(&self, manifest: &Manifest, signers: usize, now: Timestamp) -> Vec<String> {
        let mut faults = Vec::new();
        let wanted = self.signatures.unwrap_or(1);
        if signers < wanted {
            faults.push(format!(
                "signed by {signers} trusted keys, wanted are {wanted}"
            ));
        }
        self.who(manifest, now, &mut faults);
        self.boots(manifest, &mut faults);
        let components: Vec<_> = manifest
            .components
            .iter()
            .map(|component| match &component.version {
                Some(version) => format!("{}/{version}", component.name),
                None => component.name.clone(),
            })
            .collect();
        self.components.check("component", &components, &mut faults);
        let packages: Vec<_> = manifest
            .packages
            .iter()
            .map(|package| format!("{}/{}", package.name, package.version))
            .collect();
        if packages.is_empty() && self.packages != Names::default() {
            faults.push("the manifest lists no packages".into());
        } else {
            self.packages.check("package", &packages, &mut faults);
        }
        if let Some(clean_up) = &self.clean_up {
            clean_up.check(manifest, &mut faults);
        }
        faults
    }

    fn who(&self, manifest: &Manifest, now: Timestamp, faults: &mut Vec<String>) {
        if !self.image.is_empty() && !any_fits(&self.image, &manifest.name) {
            faults.push(format!(
                "the image is {}, not {}",
                manifest.name,
                self.image.join(" or ")
            ));
        }
        if let Some(minimum) = self.minimum_version {
            match manifest.version.parse::<Version>() {
                Ok(version) if version >= minimum => {}
                _ => faults.push(format!(
                    "its version is {}, at least {minimum} is wanted",
                    manifest.version
                )),
            }
        }
        if let Some(days) = self.max_age_days {
            let oldest = SignedDuration::from_hours(24 * i64::from(days));
            match manifest.created.parse::<Timestamp>() {
                Ok(created) if now.duration_since(created) <= oldest => {}
                _ => faults.push(format!(
                    "it was made at {}, more than {days} days ago",
                    manifest.created
                )),
            }
        }
        if !self.architectures.is_empty() && !self.architectures.contains(&manifest.architecture) {
            faults.push(format!("its architecture is {}", manifest.architecture));
        }
        let parent = format!("{}/{}", manifest.parent.name, manifest.parent.version);
        if !self.parents.is_empty() && !any_fits(&self.parents, &parent) {
            faults.push(format!(
                "its parent is {parent}, not {}",
                self.parents.join(" or ")
            ));
        }
    }

    fn boots(&self, manifest: &Manifest, faults: &mut Vec<String>) {
        for firmware in &self.booted_by {
            let seen = manifest
                .boots
                .iter()
                .any(|boot| boot.purpose == "test" && boot.firmware == *firmware);
            if !seen {
                faults.push(format!("no test has booted it by {firmware}"));
            }
        }
        let compared = manifest.boots.iter().any(|boot| boot.purpose == "copy");
        if self.copies_compared && !compared {
            faults.push("no second copy was compared with the first".into());
        }
    }
}

impl Names {
    /// `found` are `NAME/VERSION`, or names alone.
    fn check(&self, what: &str, found: &[String], faults: &mut Vec<String>) {
        let fits = |pattern: &String, name: &String| {
            let bare = name.split('/').next().unwrap_or(name);
            fits(pattern.as_bytes(), bare.as_bytes()) || fits(pattern.as_bytes(), name.as_bytes())
        };
        for pattern in &self.required {
            if !found.iter().any(|name| fits(pattern, name)) {
                faults.push(format!("the {what} {pattern} is missing"));
            }
        }
        for pattern in &self.forbidden {
            for name in found.iter().filter(|name| fits(pattern, name)) {
                faults.push(format!("the {what} {name} is forbidden by {pattern}"));
            }
        }
    }
}

impl CleanUp {
    fn check(&self, manifest: &Manifest, faults: &mut Vec<String>) {
        for rule in RULES.iter().filter(|rule| !rule.optional) {
            if self.may_keep.iter().any(|id| id == rule.id) {
                continue;
            }
            match manifest
                .sanitised
                .iter()
                .find(|result| result.id == rule.id)
            {
                Some(result) if !result.done => {
                    faults.push(format!("the clean-up left out {}", rule.id));
                }
                Some(result) if !result.verified && rule.leaves_traces() => {
                    faults.push(format!("the clean-up's {} was not verified", rule.id));
                }
                Some(_) => {}
                None => faults.push(format!("the clean-up did not know {}", rule.id)),
            }
        }
        for found in &manifest.residue {
            let name = format!("{}:{}", found.rule, found.path);
            if !any_fits(&self.may_hold, &name) {
                faults.push(format!("it may hold a secret: {name}"));
            }
        }
    }
}

fn any_fits(patterns: &[String], name: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| fits(pattern.as_bytes(), name.as_bytes()))
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
