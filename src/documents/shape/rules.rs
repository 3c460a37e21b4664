//! What must hold among the keys of a map.

use ovenbird_component::source::{Diagnostic, Mapping, Span};

use super::read::Reader;
use super::{Rule, Shape};

/// Reports each rule of a shape that a map breaks.
pub fn check(reader: &Reader<'_>, shape: &Shape, mapping: &Mapping, span: Span, what: &str) {
    let present = |keys: &[&'static str]| -> Vec<(&'static str, Span)> {
        keys.iter()
            .filter_map(|key| {
                let field = shape.field(key)?;
                let entry = mapping.entry(&reader.spelling(field))?;
                (!entry.value.is_null()).then_some((*key, entry.key.span))
            })
            .collect()
    };
    for rule in shape.rules {
        match rule {
            Rule::ExactlyOne(keys) => {
                let found = present(keys);
                if found.is_empty() {
                    reader.report(missing(reader, shape, keys, mapping, span, what));
                }
                conflict(reader, shape, keys, &found, what);
            }
            Rule::AtMostOne(keys) => conflict(reader, shape, keys, &present(keys), what),
            Rule::AtLeastOne(keys) => {
                if present(keys).is_empty() {
                    reader.report(missing(reader, shape, keys, mapping, span, what));
                }
            }
            Rule::Needs(one, other) => {
                if let [(_, span)] = present(&[one])[..]
                    && present(&[other]).is_empty()
                {
                    let (one, other) = (word(reader, shape, one), word(reader, shape, other));
                    reader.report(
                        reader
                            .error(
                                "missing-key",
                                span,
                                format!("{what} has {one} without {other}"),
                            )
                            .expected(format!("{other} beside {one}")),
                    );
                }
            }
        }
    }
}

fn missing(
    reader: &Reader<'_>,
    shape: &Shape,
    keys: &[&'static str],
    mapping: &Mapping,
    span: Span,
    what: &str,
) -> Diagnostic {
    let words: Vec<String> = keys.iter().map(|key| word(reader, shape, key)).collect();
    let span = mapping.entries.first().map_or(span, |entry| entry.key.span);
    let (lead, tail) = match &words[..] {
        [one, other] => (
            format!("neither {one} nor {other}"),
            "one of them".to_owned(),
        ),
        _ => (
            format!("none of {}", words.join(", ")),
            "one of them".to_owned(),
        ),
    };
    reader
        .error("missing-key", span, format!("{what} has {lead}"))
        .expected(tail)
}

fn conflict(
    reader: &Reader<'_>,
    shape: &Shape,
    keys: &[&'static str],
    found: &[(&'static str, Span)],
    what: &str,
) {
    let [(first, _), .., (last, span)] = found else {
        return;
    };
    let (first, last) = (word(reader, shape, first), word(reader, shape, last));
    let expected = if keys.len() == 2 {
        "one of them".to_owned()
    } else {
        let words: Vec<String> = keys.iter().map(|key| word(reader, shape, key)).collect();
        format!("only one of {}", words.join(", "))
    };
    reader.report(
        reader
            .error(
                "conflict",
                *span,
                format!("{what} has both {first} and {last}"),
            )
            .expected(expected),
    );
}

fn word(reader: &Reader<'_>, shape: &Shape, key: &str) -> String {
    shape.field(key).map_or_else(
        || format!("`{key}`"),
        |field| format!("`{}`", reader.spelling(field)),
    )
}
