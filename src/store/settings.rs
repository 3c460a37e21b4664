//! `config.toml` of a home: quotas, how long leftovers are kept, what signs, as whom QEMU runs, and where packages come from.

use std::collections::BTreeMap;
use std::time::Duration;

use ovenbird_component::source::nearest;
use serde::Deserialize;

use super::Home;
use crate::documents::quota::{QUOTAS, default_of};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::machine::QemuSettings;
use crate::packages::PackageSettings;
use crate::signing::SigningSettings;

/// The file's name.
pub const FILE: &str = "config.toml";

/// The settings of a home.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Quotas that differ from the service's.
    quotas: BTreeMap<String, u64>,
    /// What `gc` leaves alone.
    gc: Collection,
    /// What signs finished images.
    pub signing: SigningSettings,
    /// How QEMU runs.
    pub qemu: QemuSettings,
    /// Which servers the package cache asks for guests.
    pub packages: PackageSettings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Collection {
    /// Days for which the logs of images that are gone or failed are kept.
    log_days: u32,
}

impl Default for Collection {
    fn default() -> Self {
        Self { log_days: 90 }
    }
}

impl Settings {
    /// Reads the settings of a home; the defaults if it has none.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if the file is not as it should be.
    pub fn read(home: &Home) -> Result<Self> {
        let path = home.path().join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text)
                .map_err(|failure| failure.context(format!("{path} is not valid"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => {
                Err(error).or_failure(FailureKind::Environment, || format!("cannot read {path}"))
            }
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let settings: Self = toml::from_str(text)
            .map_err(|error| Failure::config(error.message()).with_details(error.to_string()))?;
        for key in settings.quotas.keys() {
            if default_of(key).is_none() {
                let failure = Failure::config(format!("there is no quota `{key}`"));
                let known = QUOTAS.iter().map(|quota| quota.key);
                return Err(match nearest(key, known) {
                    Some(near) => failure.with_hint(format!("did you mean `{near}`?")),
                    None => failure,
                });
            }
        }
        Ok(settings)
    }

    /// The value of a quota: the home's own, or the service's.
    pub fn quota(&self, key: &str) -> u64 {
        self.quotas
            .get(key)
            .copied()
            .or_else(|| default_of(key))
            .unwrap_or(u64::MAX)
    }

    /// How long `gc` keeps the logs of images that are gone or failed.
    pub fn log_age(&self) -> Duration {
        Duration::from_secs(u64::from(self.gc.log_days) * 24 * 60 * 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_the_services_unless_the_home_says_otherwise() {
        let settings = Settings::parse("[quotas]\ncomponents = 5\n[gc]\nlogDays = 1\n").unwrap();
        assert_eq!(settings.quota("components"), 5);
        assert_eq!(settings.quota("imagePipelines"), 75);
        assert_eq!(settings.log_age(), Duration::from_secs(86_400));
        assert_eq!(Settings::default().log_age().as_secs(), 90 * 86_400);
    }

    #[test]
    fn misspelt_settings_are_refused() {
        let failure = Settings::parse("[quotas]\ncomponent = 5\n").unwrap_err();
        assert_eq!(failure.to_string(), "there is no quota `component`");
        assert_eq!(failure.hint(), Some("did you mean `components`?"));
        let failure = Settings::parse("[gc]\nlogDay = 1\n").unwrap_err();
        insta::assert_snapshot!(failure.to_string(), @"unknown field `logDay`, expected `logDays`");
        assert!(Settings::parse("[quotas]\ncomponents = -1\n").is_err());
    }
}
