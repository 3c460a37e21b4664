//! `[epoch:]upstream[-revision]`, compared as dpkg does.

use std::cmp::Ordering;

use super::{compare_digits, split_digits};

struct Version<'a> {
    epoch: &'a str,
    upstream: &'a str,
    revision: &'a str,
}

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
        let number = !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit());
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.~:".contains(&byte);
        (number && !upstream.is_empty() && rest.bytes().all(known)).then_some(Self {
            epoch,
            upstream,
            revision,
        })
    }
}

pub(super) fn compare(left: &str, right: &str) -> Option<Ordering> {
    let (left, right) = (Version::parse(left)?, Version::parse(right)?);
    Some(
        compare_digits(left.epoch, right.epoch)
            .then_with(|| compare_part(left.upstream, right.upstream))
            .then_with(|| compare_part(left.revision, right.revision)),
    )
}

/// Where a byte stands: a tilde before the end, letters before everything else.
fn rank(byte: Option<u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(byte),
        Some(byte) => i32::from(byte) + 256,
    }
}

/// What is not digits and what is, in turns.
fn compare_part(mut left: &str, mut right: &str) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        let (words, rest) = (split_words(left), split_words(right));
        let order = compare_words(words.0, rest.0);
        if order.is_ne() {
            return order;
        }
        let (one, other) = (split_digits(words.1), split_digits(rest.1));
        let order = compare_digits(one.0, other.0);
        if order.is_ne() {
            return order;
        }
        (left, right) = (one.1, other.1);
    }
    Ordering::Equal
}

fn split_words(text: &str) -> (&str, &str) {
    let end = text
        .bytes()
        .position(|byte| byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

fn compare_words(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    (0..left.len().max(right.len()))
        .map(|at| rank(left.get(at).copied()).cmp(&rank(right.get(at).copied())))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}
