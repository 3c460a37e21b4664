//! `[epoch:]version[-release]`, compared as rpm does, with `~` before and `^` after what they follow.

use std::cmp::Ordering;

use super::{compare_digits, split_digits};

struct Version<'a> {
    epoch: &'a str,
    version: &'a str,
    release: Option<&'a str>,
}

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let (digits, rest) = split_digits(text);
        let (epoch, rest) = rest
            .strip_prefix(':')
            .map_or(("0", text), |rest| (digits, rest));
        let (version, release) = match rest.rsplit_once('-') {
            Some((version, release)) => (version, Some(release)),
            None => (rest, None),
        };
        (!version.is_empty()).then_some(Self {
            epoch,
            version,
            release,
        })
    }
}

pub(super) fn compare(left: &str, right: &str) -> Option<Ordering> {
    let (left, right) = (Version::parse(left)?, Version::parse(right)?);
    let releases = || match (left.release, right.release) {
        (Some(left), Some(right)) => compare_part(left, right),
        (left, right) => left.is_some().cmp(&right.is_some()),
    };
    Some(
        compare_digits(left.epoch, right.epoch)
            .then_with(|| compare_part(left.version, right.version))
            .then_with(releases),
    )
}

/// rpm's `rpmvercmp`: segments of digits or of letters, whatever stands between them.
fn compare_part(mut left: &str, mut right: &str) -> Ordering {
    loop {
        left = left.trim_start_matches(is_separator);
        right = right.trim_start_matches(is_separator);
        match (left.strip_prefix('~'), right.strip_prefix('~')) {
            (Some(one), Some(other)) => {
                (left, right) = (one, other);
                continue;
            }
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => {}
        }
        match (left.strip_prefix('^'), right.strip_prefix('^')) {
            (Some(one), Some(other)) => {
                (left, right) = (one, other);
                continue;
            }
            // After the bare version, before one that goes on.
            (Some(_), None) if right.is_empty() => return Ordering::Greater,
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) if left.is_empty() => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => {}
        }
        if left.is_empty() || right.is_empty() {
            return left.len().cmp(&right.len());
        }
        let numeric = left.starts_with(|first: char| first.is_ascii_digit());
        let (one, other) = if numeric {
            (split_digits(left), split_digits(right))
        } else {
            (split_letters(left), split_letters(right))
        };
        // Digits are newer than letters.
        if other.0.is_empty() {
            return if numeric {
                Ordering::Greater
            } else {
                Ordering::Less
            };
        }
        let order = if numeric {
            compare_digits(one.0, other.0)
        } else {
            one.0.cmp(other.0)
        };
        if order.is_ne() {
            return order;
        }
        (left, right) = (one.1, other.1);
    }
}

fn is_separator(letter: char) -> bool {
    !letter.is_ascii_alphanumeric() && letter != '~' && letter != '^'
}

fn split_letters(text: &str) -> (&str, &str) {
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_alphabetic())
        .unwrap_or(text.len());
    text.split_at(end)
}
