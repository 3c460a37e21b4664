//! How bad a vulnerability is.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use cvss::Cvss;
use serde::{Deserialize, Serialize};

/// Grades, from what nobody has judged to the worst.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nobody has said.
    #[default]
    Unknown,
    /// Known, but without effect as the distribution builds it.
    Informational,
    /// A score below 4.
    Low,
    /// A score from 4 to below 7.
    Medium,
    /// A score from 7 to below 9.
    High,
    /// A score of 9 and more.
    Critical,
}

impl Severity {
    /// All, worst first.
    pub const ALL: [Self; 6] = [
        Self::Critical,
        Self::High,
        Self::Medium,
        Self::Low,
        Self::Informational,
        Self::Unknown,
    ];

    /// The word in documents and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The grade of a score, as CVSS 3 and 4 cut the scale: <https://www.first.org/cvss/v4-0/specification-document>, section 6.
    pub fn of_score(score: f64) -> Self {
        match score {
            score if score >= 9.0 => Self::Critical,
            score if score >= 7.0 => Self::High,
            score if score >= 4.0 => Self::Medium,
            score if score > 0.0 => Self::Low,
            _ => Self::Informational,
        }
    }

    /// The grade that a vendor's word stands for, in any case: those of GitHub, Red Hat, SUSE, Ubuntu, Debian.
    pub fn of_word(word: &str) -> Option<Self> {
        // Debian marks with an asterisk that nobody but a program has judged.
        let word = word.trim().trim_end_matches('*').to_ascii_lowercase();
        match word.as_str() {
            "critical" => Some(Self::Critical),
            "high" | "important" => Some(Self::High),
            "medium" | "moderate" => Some(Self::Medium),
            "low" => Some(Self::Low),
            "negligible" | "unimportant" | "none" | "informational" => Some(Self::Informational),
            _ => None,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|severity| severity.as_str() == text)
            .ok_or_else(|| {
                format!(
                    "`{text}` is no severity: critical, high, medium, low, informational or unknown"
                )
            })
    }
}

/// A CVSS vector with its base score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Score {
    /// `2.0`, `3.0`, `3.1`, `4.0`.
    pub version: String,
    /// From 0 to 10.
    pub score: f64,
    /// The vector.
    pub vector: String,
    /// The record that has it.
    pub source: String,
}

/// Longer than any vector, with all metrics of version 4.
const LONGEST_VECTOR: usize = 400;

impl Score {
    /// Computes the score of a vector; none if it is not one.
    pub fn of(vector: &str, source: &str) -> Option<Self> {
        let vector = vector.trim();
        if vector.len() > LONGEST_VECTOR {
            return None;
        }
        // Vectors of version 2 have no prefix.
        let version = match vector.strip_prefix("CVSS:") {
            Some(rest) => rest.split_once('/')?.0,
            None => "2.0",
        };
        // A vector without one of them has no score, and must not look harmless.
        let wanted: &[&str] = match version {
            "2.0" => &["AV", "AC", "Au", "C", "I", "A"],
            "4.0" => &[
                "AV", "AC", "AT", "PR", "UI", "VC", "VI", "VA", "SC", "SI", "SA",
            ],
            _ => &["AV", "AC", "PR", "UI", "S", "C", "I", "A"],
        };
        let metrics: BTreeSet<&str> = vector
            .split('/')
            .filter_map(|part| Some(part.split_once(':')?.0))
            .collect();
        if !wanted.iter().all(|metric| metrics.contains(metric)) {
            return None;
        }
        let parsed = Cvss::from_str(vector).ok()?;
        // Of version 4 the crate counts metrics of threat and environment in, of the others it doesn't.
        let of_base = if version == "4.0" {
            Cvss::from_str(&only(vector, wanted)).ok()?
        } else {
            parsed
        };
        Some(Self {
            version: version.to_owned(),
            score: (of_base.score() * 10.0).round() / 10.0,
            vector: vector.to_owned(),
            source: source.to_owned(),
        })
    }

    /// Its grade.
    pub fn severity(&self) -> Severity {
        // Version 2 has no grade above high.
        match Severity::of_score(self.score) {
            Severity::Critical if self.version == "2.0" => Severity::High,
            severity => severity,
        }
    }
}

/// A vector with its prefix and no other metrics than these.
fn only(vector: &str, wanted: &[&str]) -> String {
    let kept: Vec<&str> = vector
        .split('/')
        .filter(|part| {
            part.split_once(':')
                .is_some_and(|(metric, _)| metric == "CVSS" || wanted.contains(&metric))
        })
        .collect();
    kept.join("/")
}

/// How many findings there are of each severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Counts {
    /// Critical ones.
    pub critical: usize,
    /// High ones.
    pub high: usize,
    /// Medium ones.
    pub medium: usize,
    /// Low ones.
    pub low: usize,
    /// Those without effect.
    pub informational: usize,
    /// Those that nobody has judged.
    pub unknown: usize,
}

impl Counts {
    /// Counts.
    pub fn of(severities: impl IntoIterator<Item = Severity>) -> Self {
        let mut counts = Self::default();
        for severity in severities {
            *counts.slot(severity) += 1;
        }
        counts
    }

    fn slot(&mut self, severity: Severity) -> &mut usize {
        match severity {
            Severity::Critical => &mut self.critical,
            Severity::High => &mut self.high,
            Severity::Medium => &mut self.medium,
            Severity::Low => &mut self.low,
            Severity::Informational => &mut self.informational,
            Severity::Unknown => &mut self.unknown,
        }
    }

    /// Each severity with its number, worst first.
    pub fn each(mut self) -> impl Iterator<Item = (Severity, usize)> {
        Severity::ALL
            .into_iter()
            .map(move |severity| (severity, *self.slot(severity)))
    }

    /// All of them.
    pub fn total(self) -> usize {
        self.each().map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Counts {
    /// `2 critical, 1 low`; `none` if there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told: Vec<String> = self
            .each()
            .filter(|(_, count)| *count > 0)
            .map(|(severity, count)| format!("{count} {severity}"))
            .collect();
        f.write_str(if told.is_empty() { "none" } else { "" })?;
        f.write_str(&told.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores as FIRST's calculators and the National Vulnerability Database give them.
    #[test]
    fn vectors_have_their_scores() {
        for (vector, version, score, severity) in [
            (
                "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
                "3.1",
                9.8,
                Severity::Critical,
            ),
            (
                "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H",
                "3.1",
                10.0,
                Severity::Critical,
            ),
            (
                "CVSS:3.0/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N",
                "3.0",
                3.1,
                Severity::Low,
            ),
            (
                "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H",
                "3.1",
                7.8,
                Severity::High,
            ),
            (
                "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N",
                "3.1",
                6.1,
                Severity::Medium,
            ),
            (
                "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N",
                "3.1",
                0.0,
                Severity::Informational,
            ),
            (
                "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N",
                "4.0",
                9.3,
                Severity::Critical,
            ),
            (
                "CVSS:4.0/AV:N/AC:L/AT:P/PR:H/UI:N/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N",
                "4.0",
                2.1,
                Severity::Low,
            ),
            ("AV:N/AC:L/Au:N/C:C/I:C/A:C", "2.0", 10.0, Severity::High),
        ] {
            let found = Score::of(vector, "x").unwrap();
            assert_eq!(
                (found.version.as_str(), found.score, found.severity()),
                (version, score, severity),
                "{vector}"
            );
        }
        for wrong in [
            "",
            "9.8",
            "CVSS:3.1/",
            "CVSS:9.9/AV:N",
            "CVSS:3.1/AV:N",
            &"A".repeat(9000),
        ] {
            assert_eq!(Score::of(wrong, "x"), None, "{wrong:.20}");
        }
    }

    /// What is known of exploits or said of surroundings belongs to a vector, and not to its base score.
    #[test]
    fn the_score_is_that_of_the_base_metrics() {
        for (base, more, score) in [
            (
                "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N",
                "E:U/CR:L/IR:L/AR:L/MAV:P/S:N/U:Clear",
                9.3,
            ),
            (
                "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
                "E:U/RL:O/RC:U/CR:L/MAV:P",
                9.8,
            ),
            ("AV:N/AC:L/Au:N/C:C/I:C/A:C", "E:U/RL:OF/RC:UC", 10.0),
        ] {
            let vector = format!("{base}/{more}");
            let found = Score::of(&vector, "x").unwrap();
            assert_eq!((found.score, found.vector), (score, vector));
        }
    }

    #[test]
    fn words_of_vendors() {
        for (word, severity) in [
            ("CRITICAL", Some(Severity::Critical)),
            ("Important", Some(Severity::High)),
            ("Moderate", Some(Severity::Medium)),
            ("low**", Some(Severity::Low)),
            ("unimportant", Some(Severity::Informational)),
            ("not yet assigned", None),
            ("end-of-life", None),
        ] {
            assert_eq!(Severity::of_word(word), severity, "{word}");
        }
    }

    #[test]
    fn counts_are_told_worst_first() {
        let counts = Counts::of([Severity::Low, Severity::Critical, Severity::Low]);
        assert_eq!(counts.to_string(), "1 critical, 2 low");
        assert_eq!(counts.total(), 3);
        assert_eq!(Counts::default().to_string(), "none");
    }
}
