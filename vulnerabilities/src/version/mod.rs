//! Versions compared by the rules of those who give them.

mod apk;
mod dpkg;
mod pep440;
mod rpm;
mod semantic;

use std::cmp::Ordering;

/// The rules of an ecosystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Debian's: <https://www.debian.org/doc/debian-policy/ch-controlfields.html#version>.
    Dpkg,
    /// rpm's, with epoch and release: <https://rpm-software-management.github.io/rpm/manual/dependencies.html>.
    Rpm,
    /// Alpine's: <https://wiki.alpinelinux.org/wiki/Package_policies>, and what apk 3 does.
    Apk,
    /// Semantic versions, as npm, Cargo and Go order them: <https://semver.org>.
    Semantic,
    /// Python's: PEP 440.
    Pep440,
}

/// Longer than any version that people give; comparing is quadratic in none of the schemes, but nobody has to find out.
const LONGEST: usize = 500;

/// Compares two versions; none if one of them is not a version by these rules.
pub fn compare(scheme: Scheme, left: &str, right: &str) -> Option<Ordering> {
    if left.len() > LONGEST || right.len() > LONGEST {
        return None;
    }
    match scheme {
        Scheme::Dpkg => dpkg::compare(left, right),
        Scheme::Rpm => rpm::compare(left, right),
        Scheme::Apk => apk::compare(left, right),
        Scheme::Semantic => semantic::compare(left, right),
        Scheme::Pep440 => pep440::compare(left, right),
    }
}

/// Compares an installed version with one that somebody names. Python's local builds, `2.5.1+cpu`, are the version that they are
/// builds of, unless the one that is named is such a build too.
pub(crate) fn compare_with_named(scheme: Scheme, installed: &str, named: &str) -> Option<Ordering> {
    match scheme {
        Scheme::Pep440 if installed.len() <= LONGEST && named.len() <= LONGEST => {
            pep440::compare_with_named(installed, named)
        }
        _ => compare(scheme, installed, named),
    }
}

/// Whether a text is a version by these rules.
pub fn is_version(scheme: Scheme, text: &str) -> bool {
    compare(scheme, text, text).is_some()
}

/// Compares digits as the number that they are, however long it is.
fn compare_digits(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

/// The digits that a text begins with, and what follows.
fn split_digits(text: &str) -> (&str, &str) {
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests;
