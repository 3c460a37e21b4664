//! Python's versions.

use std::cmp::Ordering;
use std::str::FromStr as _;

use pep440_rs::Version;

pub(super) fn compare(left: &str, right: &str) -> Option<Ordering> {
    let parse = |text: &str| Version::from_str(text.trim()).ok();
    Some(parse(left)?.cmp(&parse(right)?))
}
