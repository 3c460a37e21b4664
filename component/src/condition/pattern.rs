//! Regular expressions in the dialect of the language.

use super::ConditionError;

/// Compiles a pattern of the language: Go's dialect, any case.
///
/// # Errors
///
/// The pattern with the reason why it does not compile.
pub fn pattern(text: &str) -> Result<regex::Regex, ConditionError> {
    regex::RegexBuilder::new(&unquote(text))
        .case_insensitive(true)
        .size_limit(4 << 20)
        .build()
        .map_err(|error| {
            let full = error.to_string();
            let reason = full
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            ConditionError::Pattern {
                pattern: text.to_owned(),
                reason: reason.to_owned(),
            }
        })
}

/// Go's dialect has `\Q…\E` for literal text, the regex crate has not.
fn unquote(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = find_quote(rest) {
        result.push_str(&rest[..at]);
        let quoted = &rest[at + 2..];
        let (literal, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
        result.push_str(&regex::escape(literal));
        rest = after;
    }
    result.push_str(rest);
    result
}

/// Finds `\Q` that is not itself behind a backslash.
fn find_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at + 1 < bytes.len() {
        match (bytes[at], bytes[at + 1]) {
            (b'\\', b'Q') => return Some(at),
            (b'\\', _) => at += 2,
            _ => at += 1,
        }
    }
    None
}
