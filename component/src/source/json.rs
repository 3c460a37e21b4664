//! The two places where JSON is no YAML: tabs between values, and characters written as two surrogates.

use std::borrow::Cow;

/// JSON as the YAML parser takes it, character for character at the same place; anything else as it is.
pub(super) fn as_yaml(text: &str) -> Cow<'_, str> {
    let is_candidate = text.trim_start().starts_with(['{', '['])
        && (text.contains('\t') || text.contains("\\ud") || text.contains("\\uD"));
    // Only what is JSON from end to end: in YAML the same characters may mean themselves.
    if !is_candidate || serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(rewrite(text))
}

fn rewrite(text: &str) -> String {
    let mut rewritten = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        match c {
            '"' => {
                in_string = !in_string;
                rewritten.push(c);
            }
            '\t' if !in_string => rewritten.push(' '),
            '\\' if in_string => match surrogates(rest) {
                Some((pair, character)) => {
                    // As long as the pair: an escaped line end, which stands for nothing, and one escape of eight digits.
                    rewritten.push_str(&format!("\\\n\\U{:08x}", u32::from(character)));
                    taken = pair.len();
                }
                None => {
                    // Whatever is escaped goes along, so that an escaped quote or backslash is not taken for itself.
                    taken += rest[1..].chars().next().map_or(0, char::len_utf8);
                    rewritten.push_str(&rest[..taken]);
                }
            },
            c => rewritten.push(c),
        }
        rest = &rest[taken..];
    }
    rewritten
}

/// A pair of surrogate escapes at the start of a text, and the character they stand for.
fn surrogates(text: &str) -> Option<(&str, char)> {
    let pair = text.get(..12)?;
    let unit = |escape: &str| {
        let digits = escape.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let units = [unit(pair.get(..6)?)?, unit(pair.get(6..)?)?];
    let character = char::decode_utf16(units).next()?.ok()?;
    // Two ordinary escapes are decoded one at a time.
    (character.len_utf16() == 2).then_some((pair, character))
}

#[cfg(test)]
mod tests {
    use super::super::{Source, parse_one};
    use super::*;

    #[test]
    fn json_is_read_as_json() {
        let text = "{\n\t\"a\":\t\"\\ud83d\\ude00 x\\ty\",\n\t\"b\": [\n\t\t\"\\\\ud83d\\\\ude00\", \"\\u00e9\\u00e8\", \"q\\\"\\ud83d\\ude00\"\n\t]\n}\n";
        let source = Source::new("x.json", text);
        let (node, diagnostics) = parse_one(&source);
        assert!(diagnostics.is_empty(), "{diagnostics}");
        let node = node.expect("a document");
        let wanted: serde_json::Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(node.to_json(), wanted);
        let b = node.as_mapping().and_then(|map| map.entry("b")).expect("b");
        assert_eq!((b.key.span.start.line, b.key.span.start.column), (3, 2));
        assert_eq!(source.slice(b.key.span), "\"b\"");
    }

    #[test]
    fn yaml_is_left_alone() {
        for text in ["a: \"\\ud83d\\ude00\"\n", "{a: b,\tc: d}", "- \t x"] {
            assert_eq!(as_yaml(text), text);
        }
    }
}
