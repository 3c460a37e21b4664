//! `digits[.digits]…[letter][_suffix[digits]]…[~hash][-rdigits]`, compared as apk does.

use std::cmp::Ordering;

use super::{compare_digits, split_digits};

/// Suffixes in their order; those before [`FIRST_AFTER`] make a version older than the bare one.
const SUFFIXES: [&str; 9] = ["alpha", "beta", "pre", "rc", "cvs", "svn", "git", "hg", "p"];
const FIRST_AFTER: usize = 4;

/// A part of a version. Of two versions of which one goes on where the other ends or does something else, the one whose
/// part stands earlier here is the newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'a> {
    First(&'a str),
    Digits(&'a str),
    Letter(u8),
    Suffix(usize),
    SuffixNumber(&'a str),
    Hash(&'a str),
    Revision(&'a str),
    End,
}

impl Part<'_> {
    const fn place(self) -> u8 {
        match self {
            Self::First(_) => 0,
            Self::Digits(_) => 1,
            Self::Letter(_) => 2,
            Self::Suffix(_) => 3,
            Self::SuffixNumber(_) => 4,
            Self::Hash(_) => 5,
            Self::Revision(_) => 6,
            Self::End => 7,
        }
    }

    const fn is_before_release(self) -> bool {
        matches!(self, Self::Suffix(index) if index < FIRST_AFTER)
    }

    /// Of two parts of one kind.
    fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            // A leading zero makes it a fraction: 1.01 is before 1.1, 1.09 before 1.1.
            (Self::Digits(one), Self::Digits(other))
                if one.starts_with('0') || other.starts_with('0') =>
            {
                one.cmp(other)
            }
            (Self::First(one), Self::First(other))
            | (Self::Digits(one), Self::Digits(other))
            | (Self::SuffixNumber(one), Self::SuffixNumber(other))
            | (Self::Revision(one), Self::Revision(other)) => compare_digits(one, other),
            (Self::Letter(one), Self::Letter(other)) => one.cmp(&other),
            (Self::Suffix(one), Self::Suffix(other)) => one.cmp(&other),
            (Self::Hash(one), Self::Hash(other)) => one.cmp(other),
            _ => Ordering::Equal,
        }
    }
}

/// The parts of a version, in order; none if it is not one.
fn parts(text: &str) -> Option<Vec<Part<'_>>> {
    let digits = |text: &str| -> Option<(usize, usize)> {
        let (digits, rest) = split_digits(text);
        (!digits.is_empty()).then_some((digits.len(), rest.len()))
    };
    let mut found = Vec::new();
    let (first, _) = digits(text)?;
    let (number, mut rest) = text.split_at(first);
    found.push(Part::First(number));
    while let Some(after) = rest.strip_prefix('.') {
        let (number, next) = after.split_at(digits(after)?.0);
        found.push(Part::Digits(number));
        rest = next;
    }
    if let Some(letter) = rest.bytes().next().filter(u8::is_ascii_lowercase) {
        found.push(Part::Letter(letter));
        rest = &rest[1..];
    }
    while let Some(after) = rest.strip_prefix('_') {
        let end = after
            .bytes()
            .position(|byte| !byte.is_ascii_lowercase())
            .unwrap_or(after.len());
        let (name, next) = after.split_at(end);
        let index = SUFFIXES.iter().position(|suffix| *suffix == name)?;
        found.push(Part::Suffix(index));
        rest = next;
        if let Some((length, _)) = digits(rest) {
            let (number, next) = rest.split_at(length);
            found.push(Part::SuffixNumber(number));
            rest = next;
        }
    }
    if let Some(after) = rest.strip_prefix('~') {
        let end = after
            .bytes()
            .position(|byte| !byte.is_ascii_hexdigit() || byte.is_ascii_uppercase())
            .unwrap_or(after.len());
        let (hash, next) = after.split_at(end);
        if hash.is_empty() {
            return None;
        }
        found.push(Part::Hash(hash));
        rest = next;
    }
    if let Some(after) = rest.strip_prefix("-r") {
        let (number, next) = after.split_at(digits(after)?.0);
        found.push(Part::Revision(number));
        rest = next;
    }
    found.push(Part::End);
    rest.is_empty().then_some(found)
}

pub(super) fn compare(left: &str, right: &str) -> Option<Ordering> {
    let (left, right) = (parts(left)?, parts(right)?);
    for (one, other) in left.iter().zip(&right) {
        if one.place() != other.place() {
            let order = match (one.is_before_release(), other.is_before_release()) {
                (true, _) => Ordering::Less,
                (_, true) => Ordering::Greater,
                _ => other.place().cmp(&one.place()),
            };
            return Some(order);
        }
        let order = one.compare(*other);
        if order.is_ne() {
            return Some(order);
        }
    }
    Some(Ordering::Equal)
}
