//! Python's versions.

use std::cmp::Ordering;
use std::str::FromStr as _;

use pep440_rs::Version;

pub(super) fn compare(left: &str, right: &str) -> Option<Ordering> {
    Some(parse(left)?.cmp(&parse(right)?))
}

/// As `==` and `<=` of a requirement do: <https://packaging.python.org/en/latest/specifications/version-specifiers/#version-matching>.
pub(super) fn compare_with_named(installed: &str, named: &str) -> Option<Ordering> {
    let (mut installed, named) = (parse(installed)?, parse(named)?);
    if !named.is_local() {
        installed = installed.without_local();
    }
    Some(installed.cmp(&named))
}

fn parse(text: &str) -> Option<Version> {
    Version::from_str(text.trim()).ok()
}
