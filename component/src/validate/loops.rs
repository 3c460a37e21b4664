//! Reads loops.

use std::collections::HashMap;

use crate::document::{DELIMITERS, Loop, LoopKind, MOST_ITERATIONS};
use crate::reference::{Template, is_name};
use crate::source::{Code, MapReader, Node, Reading, Span};

/// Reads the loop of a step.
pub(super) fn looping(
    reading: &Reading<'_>,
    node: &Node,
    step: &str,
    names: &mut HashMap<String, Span>,
) -> Option<Loop> {
    let what = format!("the loop of {step}");
    let mut map = MapReader::new(reading, node, what.clone())?;
    let name = map.spanned_string("name");
    if let Some(name) = &name {
        if !is_name(&name.value) {
            reading.report(
                reading
                    .error(
                        Code::BadName,
                        name.span,
                        format!("`{}` cannot name a loop", name.value),
                    )
                    .expected("letters, digits, `-` or `_`"),
            );
        }
        if let Some(first) = names.insert(name.value.clone(), name.span) {
            reading.report(
                reading
                    .error(
                        Code::DuplicateLoop,
                        name.span,
                        format!("the loop `{}` exists twice in its phase", name.value),
                    )
                    .hint(format!("it was first defined on line {}", first.start.line)),
            );
        }
    }
    let counted = map.take("for");
    let each = map.take("forEach");
    let span = map.span();
    map.finish();
    let kind = match (counted, each) {
        (Some(node), None) => counted_loop(reading, node, &what),
        (None, Some(node)) => each_loop(reading, node, &what),
        (found, _) => {
            let (code, message) = match found {
                Some(_) => (
                    Code::BothLoops,
                    format!("{what} has both `for` and `forEach`"),
                ),
                None => (
                    Code::MissingKey,
                    format!("{what} has neither `for` nor `forEach`"),
                ),
            };
            reading.report(
                reading
                    .error(code, span, message)
                    .expected("exactly one of `for` and `forEach`"),
            );
            None
        }
    };
    Some(Loop { name, kind: kind? })
}

fn counted_loop(reading: &Reading<'_>, node: &Node, what: &str) -> Option<LoopKind> {
    let mut map = MapReader::new(reading, node, format!("`for` of {what}"))?;
    let mut bound = |key: &'static str| {
        let node = map.require(key)?;
        let label = format!("`{key}` of {what}");
        reading.integer(node, &label, i64::MIN..=i64::MAX)
    };
    let (start, end, update_by) = (bound("start"), bound("end"), bound("updateBy"));
    let update_span = map.key_span("updateBy").unwrap_or(node.span);
    map.finish();
    let kind = LoopKind::For {
        start: start?,
        end: end?,
        update_by: update_by?,
    };
    if update_by == Some(0) {
        reading.report(
            reading
                .error(
                    Code::EndlessLoop,
                    update_span,
                    format!("`updateBy` of {what} is 0, so the loop would never end"),
                )
                .expected("a number other than 0"),
        );
        return None;
    }
    match kind.count() {
        None => {
            reading.report(
                reading
                    .error(Code::EndlessLoop, update_span, format!("{what} moves away from its `end`, so it would never end"))
                    .expected("a positive `updateBy` when `end` is larger than `start`, else a negative one"),
            );
            return None;
        }
        Some(count) if count > MOST_ITERATIONS => {
            reading.report(
                reading
                    .error(
                        Code::EndlessLoop,
                        node.span,
                        format!("{what} has {count} iterations"),
                    )
                    .expected(format!("at most {MOST_ITERATIONS}")),
            );
            return None;
        }
        Some(_) => {}
    }
    Some(kind)
}

fn each_loop(reading: &Reading<'_>, node: &Node, what: &str) -> Option<LoopKind> {
    if let Some(items) = node.as_sequence() {
        if items.is_empty() {
            reading.report(reading.error(
                Code::EmptyValue,
                node.span,
                format!("`forEach` of {what} is empty"),
            ));
        }
        let texts: Vec<_> = items
            .iter()
            .filter_map(|item| {
                let text = reading.string(item, &format!("an item of `forEach` of {what}"))?;
                Some((Template::parse(text), item.span))
            })
            .collect();
        return (texts.len() == items.len()).then_some(LoopKind::Each(texts));
    }
    if node.as_mapping().is_none() {
        reading.wrong_type(
            node,
            &format!("`forEach` of {what}"),
            "a list, or a map with `list` and `delimiter`",
        );
        return None;
    }
    let mut map = MapReader::new(reading, node, format!("`forEach` of {what}"))?;
    let list = map.require_spanned_string("list");
    let delimiter = match map.take("delimiter") {
        None => Some(','),
        Some(node) => delimiter(reading, node),
    };
    map.finish();
    let list = list?;
    Some(LoopKind::Split {
        list: Template::parse(list.value),
        span: list.span,
        delimiter: delimiter?,
    })
}

fn delimiter(reading: &Reading<'_>, node: &Node) -> Option<char> {
    let text = reading.string(node, "`delimiter`")?;
    let found = match text.as_str() {
        // In single quotes YAML leaves the escapes alone; people mean the character.
        "\\n" => Some('\n'),
        "\\t" => Some('\t'),
        _ => DELIMITERS
            .into_iter()
            .find(|candidate| text == candidate.to_string()),
    };
    if found.is_none() {
        reading.report(
            reading
                .error(
                    Code::UnknownWord,
                    node.span,
                    format!("`delimiter` is `{text}`"),
                )
                .expected("one of `.` `,` `;` `:` `-` `_`, a space, \"\\n\" or \"\\t\""),
        );
    }
    found
}
