//! Semantic versions, with what npm, Cargo and Go add: a `v` or `go` in front, parts that are left out, a time and a hash as
//! pre-release (Go's pseudo-versions), `+incompatible`.

use std::cmp::Ordering;

use semver::Version;

pub(super) fn compare(left: &str, right: &str) -> Option<Ordering> {
    // What stands after a plus says nothing about the order.
    Some(parse(left)?.cmp_precedence(&parse(right)?))
}

fn parse(text: &str) -> Option<Version> {
    let text = text.trim();
    let text = text
        .strip_prefix("go")
        .or_else(|| text.strip_prefix(['v', '=']))
        .unwrap_or(text);
    if let Ok(version) = Version::parse(text) {
        return Some(version);
    }
    // `1.21rc2` is how Go itself names what comes before 1.21.
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit() && byte != b'.')
        .unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let mut parts: Vec<&str> = numbers.split('.').collect();
    if parts.len() > 3 || parts.iter().any(|part| part.is_empty()) {
        return None;
    }
    parts.resize(3, "0");
    let numbers: Vec<String> = parts
        .iter()
        .map(|part| Some(part.parse::<u64>().ok()?.to_string()))
        .collect::<Option<_>>()?;
    let rest = match rest.bytes().next() {
        Some(b'-' | b'+') | None => rest.to_owned(),
        Some(_) => format!("-{}", split_words(rest)),
    };
    Version::parse(&format!("{}{rest}", numbers.join("."))).ok()
}

/// `rc2` as `rc.2`, so that the tenth comes after the ninth.
fn split_words(text: &str) -> String {
    let cut = text
        .bytes()
        .position(|byte| byte.is_ascii_digit())
        .unwrap_or(text.len());
    match text.split_at(cut) {
        (word, "") => word.to_owned(),
        (word, number) => format!("{word}.{number}"),
    }
}
