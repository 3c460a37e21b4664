//! Writes values as YAML. Texts are quoted as in JSON, which is YAML too, unless they are plainly words; texts of several
//! lines stand as blocks.

use serde_json::Value;

/// What people look for first in a document.
const FIRST: [&str; 3] = ["kind", "name", "semanticVersion"];

/// A document as YAML.
pub fn write(value: &Value) -> String {
    let mut text = String::new();
    put(value, 0, &mut text);
    text
}

fn put(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            if depth == 0 {
                fields.sort_by_key(|(key, _)| {
                    FIRST
                        .iter()
                        .position(|first| first == key)
                        .unwrap_or(FIRST.len())
                });
            }
            for (key, value) in fields {
                indent(depth, text);
                text.push_str(&scalar(&Value::from(key.as_str())));
                text.push(':');
                after_mark(value, depth, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                indent(depth, text);
                text.push('-');
                match item {
                    // The first field stands behind the dash.
                    Value::Object(fields) if !fields.is_empty() => {
                        let mut nested = String::new();
                        put(item, depth + 1, &mut nested);
                        text.push(' ');
                        text.push_str(nested.trim_start_matches(' '));
                    }
                    _ => after_mark(item, depth, text),
                }
            }
        }
        scalar_value => {
            indent(depth, text);
            text.push_str(&scalar(scalar_value));
            text.push('\n');
        }
    }
}

/// What stands behind `key:` or `-`.
fn after_mark(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            put(value, depth + 1, text);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            put(value, depth + 1, text);
        }
        Value::String(lines) if fits_block(lines) => {
            text.push_str(if lines.ends_with('\n') {
                " |\n"
            } else {
                " |-\n"
            });
            for line in lines.lines() {
                if !line.is_empty() {
                    indent(depth + 1, text);
                    text.push_str(line);
                }
                text.push('\n');
            }
        }
        other => {
            text.push(' ');
            text.push_str(&scalar(other));
            text.push('\n');
        }
    }
}

fn indent(depth: usize, text: &mut String) {
    text.extend(std::iter::repeat_n("  ", depth));
}

/// Whether a text comes back unchanged from a block: several lines, the first of which is not indented, no trailing empty
/// lines, nothing that a parser would read as something else.
fn fits_block(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    body.contains('\n')
        && !body.starts_with([' ', '\t', '\n'])
        && !body.ends_with('\n')
        && !text.contains(|c: char| c != '\n' && c != '\t' && c.is_control())
        && !text.contains(['\u{85}', '\u{2028}', '\u{2029}', '\u{feff}'])
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        // JSON's quotes are YAML's double quotes.
        other => other.to_string(),
    }
}

/// Words that no YAML parser, old or new, takes for anything but text.
fn is_plain(text: &str) -> bool {
    const TAKEN: [&str; 8] = ["true", "false", "yes", "no", "on", "off", "null", "y"];
    let mut characters = text.chars();
    characters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
        && !TAKEN.contains(&text.to_ascii_lowercase().as_str())
        && !text.eq_ignore_ascii_case("n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovenbird_component::source::{Source, parse_one};
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> Value {
        let source = Source::new("test.yml", text.to_owned());
        let (node, diagnostics) = parse_one(&source);
        assert!(
            !diagnostics.has_errors(),
            "{}\n{text}",
            diagnostics.render()
        );
        node.map(|node| node.to_json()).unwrap_or_default()
    }

    #[test]
    fn documents_are_written_for_people() {
        let value = json!({
            "kind": "Component", "name": "hello", "semanticVersion": "1.0.0",
            "data": "name: x\nphases: []\n", "tags": {}, "list": [{"a": 1, "b": true}, "two words"],
        });
        insta::assert_snapshot!(write(&value), @r#"
    kind: Component
    name: hello
    semanticVersion: "1.0.0"
    data: |
      name: x
      phases: []
    list:
      - a: 1
        b: true
      - "two words"
    tags: {}
    "#);
        assert_eq!(read(&write(&value)), value);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "[ -~\n\t]{0,40}",
            "(yes|no|null|1.0|~|- a|a: b|#x|\\||>)",
            "[a-z ]{0,9}(\n[a-z :#-]{0,9}){1,4}",
        ];
        let leaf = prop_oneof![
            text.prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
        ];
        let inner = leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-zA-Z][a-z0-9 ]{0,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        proptest::collection::btree_map("[a-z][a-z0-9]{0,6}", inner, 1..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any_value()) {
            let text = write(&value);
            prop_assert_eq!(read(&text), value, "{}", text);
        }
    }
}
