//! What a recipe, or a file of its own, says about known vulnerabilities: a threshold, and exceptions that end.

use std::str::FromStr as _;
use std::sync::Arc;

use camino::Utf8Path;
use jiff::civil::Date;
use ovenbird_component::source::{Reading, Source, parse_one};
use ovenbird_vulnerabilities::{Exception, Policy, Severity};
use serde::Deserialize;

use super::reference::Complaint;
use super::shape::{ANY, Casing, Field, Pattern, Reader, SHORT_TEXT, Shape, Text, Type};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// Bytes of a file of exceptions; more are none.
const LARGEST: u64 = 1 << 20;

static DAY: Pattern = Pattern::new(
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    "bad-date",
    "a day such as 2026-12-31",
);

/// The words of `failOn`.
const SEVERITIES: &[&str] = &[
    Severity::Critical.as_str(),
    Severity::High.as_str(),
    Severity::Medium.as_str(),
    Severity::Low.as_str(),
    Severity::Informational.as_str(),
    Severity::Unknown.as_str(),
];

/// The fields of `local.vulnerabilities`.
pub static SHAPE: Shape = Shape {
    name: "vulnerabilities",
    what: "`vulnerabilities`",
    fields: &[
        Field::new(
            "failOn",
            Type::Word(SEVERITIES),
            "From which severity on a known vulnerability fails the bake; never if nothing is said.",
        ),
        Field::new(
            "onlyFixed",
            Type::Boolean,
            "Whether only those fail it that a newer version corrects; false if nothing is said.",
        ),
        EXCEPTIONS_FIELD,
    ],
    rules: &[],
};

static BORNE: Type = Type::Object(&EXCEPTION);

const EXCEPTIONS_FIELD: Field = Field::new(
    "exceptions",
    Type::List(&BORNE, 0, ANY),
    "What is known and borne for a while.",
);

/// A file of exceptions.
static FILE: Shape = Shape {
    name: "vulnerabilityExceptions",
    what: "the file of exceptions",
    fields: &[EXCEPTIONS_FIELD.required()],
    rules: &[],
};

static EXCEPTION: Shape = Shape {
    name: "vulnerabilityException",
    what: "the exception",
    fields: &[
        Field::new(
            "id",
            SHORT_TEXT,
            "Any name of the vulnerability: CVE-2026-1234, GHSA-….",
        )
        .required(),
        Field::new(
            "package",
            SHORT_TEXT,
            "The package in which it is borne, by its name or that of its sources; any if nothing is said.",
        ),
        Field::new("reason", SHORT_TEXT, "Why it is borne.").required(),
        Field::new(
            "expires",
            Type::Checked(Text::of(10, 10).like(&DAY), check_day),
            "The last day, in UTC, on which the exception counts.",
        )
        .required(),
    ],
    rules: &[],
};

fn check_day(text: &str) -> Result<(), Complaint> {
    Date::from_str(text).map(|_| ()).map_err(|_| {
        Complaint::new(
            "bad-date",
            format!("there is no day `{text}`"),
            DAY.expected(),
        )
    })
}

/// `local.vulnerabilities` of a recipe.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Vulnerabilities {
    /// From which severity on a finding fails the bake.
    pub fail_on: Option<Severity>,
    /// Whether only findings that a newer version corrects fail it.
    pub only_fixed: bool,
    /// What is borne.
    pub exceptions: Vec<Borne>,
}

/// What is known and borne for a while.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Borne {
    /// Any name of the vulnerability.
    pub id: String,
    /// The package; any if nothing is said.
    pub package: Option<String>,
    /// Why.
    pub reason: String,
    /// The last day on which it counts.
    #[serde(deserialize_with = "day")]
    pub expires: Date,
}

fn day<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    let text = String::deserialize(deserializer)?;
    Date::from_str(&text).map_err(serde::de::Error::custom)
}

impl Vulnerabilities {
    /// As the rooms below know it.
    pub fn policy(&self) -> Policy {
        Policy {
            fail_on: self.fail_on,
            only_fixed: self.only_fixed,
            exceptions: self.exceptions.iter().map(Borne::exception).collect(),
        }
    }
}

impl Borne {
    fn exception(&self) -> Exception {
        Exception {
            id: self.id.clone(),
            package: self.package.clone(),
            reason: self.reason.clone(),
            expires: self.expires,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    exceptions: Vec<Borne>,
}

/// Reads a file of exceptions, YAML or JSON: a map with `exceptions`, as recipes have them.
///
/// # Errors
/// [`FailureKind::Config`] with file, line, and what was expected there.
pub fn read_exceptions(path: &Utf8Path) -> Result<Vec<Exception>> {
    let unreadable = || format!("cannot read the exceptions {path}");
    let size = std::fs::metadata(path)
        .or_failure(FailureKind::Config, unreadable)?
        .len();
    if size > LARGEST {
        return Err(Failure::config(format!(
            "{path} has {size} bytes, which no file of exceptions has"
        )));
    }
    let text = std::fs::read_to_string(path).or_failure(FailureKind::Config, unreadable)?;
    let source = Arc::new(Source::new(path.as_str(), text));
    let (node, mut diagnostics) = parse_one(&source);
    let mut value = None;
    if let Some(node) = node {
        let reading = Reading::new(&source);
        value = Reader::new(&reading, Casing::Camel).resource(&node, &FILE);
        diagnostics.append(reading.finish());
    }
    if diagnostics.has_errors() {
        return Err(Failure::config(format!(
            "{path} is not a file of exceptions ({})",
            diagnostics.counts()
        ))
        .with_details(diagnostics.render()));
    }
    let file: File = serde_json::from_value(value.unwrap_or_default())
        .or_failure(FailureKind::Config, || {
            format!("{path} is not a file of exceptions")
        })?;
    Ok(file.exceptions.iter().map(Borne::exception).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Exception>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("exceptions.yml");
        std::fs::write(&path, text).unwrap();
        read_exceptions(Utf8Path::from_path(&path).unwrap())
    }

    #[test]
    fn a_file_of_exceptions() {
        let found = read(
            "exceptions:\n  - {id: CVE-2026-1, package: openssl, reason: not reachable, expires: 2026-12-31}\n  \
             - {id: GHSA-1, reason: soon, expires: '2027-01-01'}\n",
        )
        .unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].package.as_deref(), Some("openssl"));
        assert_eq!(found[1].expires.to_string(), "2027-01-01");
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, wanted) in [
            ("- a\n", "1:1"),
            ("exceptions:\n  - {id: CVE-1, reason: x}\n", "expires"),
            (
                "exceptions:\n  - {id: CVE-1, reason: x, expires: 2026-02-31}\n",
                "there is no day `2026-02-31`",
            ),
            (
                "exceptions:\n  - {id: CVE-1, reason: x, expires: soon}\n",
                "a day such as 2026-12-31",
            ),
            (
                "exceptions:\n  - {id: CVE-1, reason: x, expires: 2026-12-31, packages: y}\n",
                "package",
            ),
        ] {
            let failure = read(text).unwrap_err();
            let told = format!(
                "{} {}",
                failure.chain(),
                failure.details().unwrap_or_default()
            );
            assert!(told.contains(wanted), "{wanted} is not in:\n{told}");
        }
    }
}
