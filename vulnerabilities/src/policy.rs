//! What of the findings matters: a threshold, and exceptions that end.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::finding::{Finding, Findings};
use crate::severity::{Counts, Severity};

/// What a bake or a check wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// From which severity on a finding fails it; none: never.
    pub fail_on: Option<Severity>,
    /// Whether only findings that a version corrects count.
    pub only_fixed: bool,
    /// What is known and borne.
    pub exceptions: Vec<Exception>,
}

/// A vulnerability that is known and borne for a while.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exception {
    /// Any name of the vulnerability.
    pub id: String,
    /// The package, by the name of its sources or its own; any if none.
    pub package: Option<String>,
    /// Why.
    pub reason: String,
    /// The last day on which it counts, in UTC.
    pub expires: Date,
}

/// Why a finding does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spared {
    /// The exception's reason.
    pub reason: String,
    /// The last day on which it counts: `2026-12-31`.
    pub expires: String,
}

/// What a policy says of findings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Places of the findings that fail it.
    pub failing: Vec<usize>,
    /// How many of each severity fail it.
    pub counts: Counts,
    /// Exceptions that have ended or spare nothing, for people.
    pub remarks: Vec<String>,
}

impl Exception {
    fn covers(&self, finding: &Finding) -> bool {
        finding.is_named(&self.id)
            && self
                .package
                .as_ref()
                .is_none_or(|package| finding.is_about(package))
    }

    fn told(&self) -> String {
        match &self.package {
            Some(package) => format!("the exception for {} in {package}", self.id),
            None => format!("the exception for {}", self.id),
        }
    }
}

impl Policy {
    /// Marks what exceptions spare, and says what fails. `today` is the day in UTC.
    pub fn judge(&self, findings: &mut Findings, today: Date) -> Judgement {
        let mut judgement = Judgement::default();
        for finding in &mut findings.findings {
            finding.exception = None;
        }
        for exception in &self.exceptions {
            let covered: Vec<&mut Finding> = findings
                .findings
                .iter_mut()
                .filter(|finding| exception.covers(finding))
                .collect();
            let remark = if covered.is_empty() {
                format!("{} spares nothing", exception.told())
            } else if exception.expires < today {
                format!("{} has ended on {}", exception.told(), exception.expires)
            } else {
                for finding in covered {
                    finding.exception = Some(Spared {
                        reason: exception.reason.clone(),
                        expires: exception.expires.to_string(),
                    });
                }
                continue;
            };
            judgement.remarks.push(remark);
        }
        if let Some(threshold) = self.fail_on {
            let fails = |finding: &Finding| {
                finding.severity >= threshold
                    && finding.exception.is_none()
                    && (!self.only_fixed || finding.is_fixable())
            };
            let found = findings.findings.iter().enumerate();
            judgement.failing = found
                .filter(|(_, finding)| fails(finding))
                .map(|(at, _)| at)
                .collect();
        }
        judgement.counts = Counts::of(
            judgement
                .failing
                .iter()
                .map(|at| findings.findings[*at].severity),
        );
        judgement
    }
}

#[cfg(test)]
mod tests;
