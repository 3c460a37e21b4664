//! Reads conditions.

use crate::condition::{
    Comparison, Condition, LOGICAL, OPERATORS, Operator, SecondOperand, pattern,
};
use crate::document::{Decision, Guard};
use crate::reference::Template;
use crate::source::{Code, Entry, Node, Reading, nearest};

/// Reads the value of a step's `if`.
pub(super) fn guard(reading: &Reading<'_>, node: &Node, what: &str) -> Option<Guard> {
    let condition = condition(reading, node, what, true);
    let decision = |key: &str, preset| {
        let Some(value) = node.as_mapping().and_then(|mapping| mapping.get(key)) else {
            return Some(preset);
        };
        reading.one_of(value, &format!("`{key}` of {what}"), &Decision::WORDS)
    };
    let then = decision("then", Decision::Execute);
    let otherwise = decision("else", Decision::Skip);
    Some(Guard {
        condition: condition?,
        then: then?,
        otherwise: otherwise?,
    })
}

/// Reads a condition; `with_decision` allows `then` and `else` beside the operator.
pub(super) fn condition(
    reading: &Reading<'_>,
    node: &Node,
    what: &str,
    with_decision: bool,
) -> Option<Condition> {
    let Some(mapping) = node.as_mapping() else {
        reading.wrong_type(node, what, "a map with one operator");
        return None;
    };
    let mut operators: Vec<&Entry> = Vec::new();
    let mut second_keys: Vec<&Entry> = Vec::new();
    let mut unknown = false;
    for entry in &mapping.entries {
        let key = entry.key.text.as_str();
        match key {
            "value" | "path" => second_keys.push(entry),
            "then" | "else" if with_decision => {}
            _ if LOGICAL.contains(&key) || Operator::from_name(key).is_some() => {
                operators.push(entry)
            }
            _ => {
                unknown = true;
                unknown_operator(reading, entry, what);
            }
        }
    }
    let (operator, extra) = match operators[..] {
        [] => {
            // An unknown key has been reported already and was most likely meant to be the operator.
            if !unknown {
                reading.report(
                    reading
                        .error(
                            Code::MissingOperator,
                            node.span,
                            format!("{what} has no operator"),
                        )
                        .expected("one comparison such as `stringEquals`, or `and`, `or`, `not`"),
                );
            }
            return None;
        }
        [first, ref extra @ ..] => (first, extra),
    };
    for entry in extra {
        reading.report(
            reading
                .error(
                    Code::SeveralOperators,
                    entry.key.span,
                    format!("{what} has more than one operator"),
                )
                .expected("exactly one operator")
                .hint("combine them with `and:` or `or:` and a list"),
        );
    }
    match operator.key.text.as_str() {
        "and" => list(reading, operator, what).map(Condition::And),
        "or" => list(reading, operator, what).map(Condition::Or),
        "not" => negation(reading, operator, what),
        name => {
            let found = Operator::from_name(name)?;
            return comparison(reading, operator, found, &second_keys, what);
        }
    }
    .inspect(|_| {
        for entry in &second_keys {
            surplus_operand(reading, entry, &operator.key.text);
        }
    })
}

fn unknown_operator(reading: &Reading<'_>, entry: &Entry, what: &str) {
    let names = || {
        OPERATORS
            .iter()
            .map(|row| row.0)
            .chain(LOGICAL)
            .chain(["value", "path", "then", "else"])
    };
    let mut diagnostic = reading
        .error(
            Code::UnknownOperator,
            entry.key.span,
            format!("unknown operator `{}` in {what}", entry.key.text),
        )
        .expected("a comparison such as `stringEquals`, or `and`, `or`, `not`");
    if let Some(near) = nearest(&entry.key.text, names()) {
        diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
    }
    reading.report(diagnostic);
}

fn surplus_operand(reading: &Reading<'_>, entry: &Entry, operator: &str) {
    let message = format!("`{operator}` takes no `{}`", entry.key.text);
    reading.report(reading.error(Code::SurplusOperand, entry.key.span, message));
}

fn list(reading: &Reading<'_>, entry: &Entry, what: &str) -> Option<Vec<Condition>> {
    let name = &entry.key.text;
    let items = reading.list(&entry.value, &format!("`{name}` of {what}"))?;
    if items.is_empty() {
        reading.report(
            reading
                .error(
                    Code::EmptyValue,
                    entry.key.span,
                    format!("`{name}` of {what} is empty"),
                )
                .expected("at least one condition"),
        );
        return None;
    }
    let inner: Vec<_> = items
        .iter()
        .map(|item| condition(reading, item, &format!("an item of `{name}`"), false))
        .collect();
    inner.into_iter().collect()
}

fn negation(reading: &Reading<'_>, entry: &Entry, what: &str) -> Option<Condition> {
    let inner = match entry.value.as_sequence() {
        Some([single]) => single,
        Some(_) => {
            reading.report(
                reading
                    .error(
                        Code::WrongArity,
                        entry.value.span,
                        format!("`not` of {what} has several conditions or none"),
                    )
                    .expected("one condition")
                    .hint("put `and:` or `or:` under `not:`"),
            );
            return None;
        }
        None => &entry.value,
    };
    condition(reading, inner, "`not`", false).map(|inner| Condition::Not(Box::new(inner)))
}

fn comparison(
    reading: &Reading<'_>,
    entry: &Entry,
    operator: Operator,
    second_keys: &[&Entry],
    what: &str,
) -> Option<Condition> {
    let name = operator.name();
    let operand = reading.string(&or_empty(entry), &format!("the operand of `{name}`"));
    let wanted = match operator.second() {
        SecondOperand::None => None,
        SecondOperand::Value => Some("value"),
        SecondOperand::Path => Some("path"),
    };
    let mut second = None;
    for key in second_keys {
        if Some(key.key.text.as_str()) == wanted {
            second = reading.string(&or_empty(key), &format!("`{}` of `{name}`", key.key.text));
        } else {
            surplus_operand(reading, key, name);
        }
    }
    if let Some(wanted) = wanted
        && !second_keys.iter().any(|key| key.key.text == wanted)
    {
        reading.report(
            reading
                .error(
                    Code::MissingOperand,
                    entry.key.span,
                    format!("`{name}` of {what} has no `{wanted}`"),
                )
                .expected(format!("`{wanted}:` beside `{name}:`")),
        );
        return None;
    }
    let operand = Template::parse(operand?);
    if operator == Operator::PatternMatches
        && operand.is_literal()
        && let Err(error) = pattern(operand.text())
    {
        reading.report(
            reading
                .error(Code::BadPattern, entry.value.span, error.to_string())
                .expected(
                    "a regular expression in RE2 syntax (no look-around, no back-references)",
                ),
        );
    }
    let algorithm_length = operator.algorithm().map(digest_length);
    if let Some(length) = algorithm_length
        && operand.is_literal()
        && (operand.text().trim().len() != length
            || !operand
                .text()
                .trim()
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit()))
    {
        reading.report(
            reading
                .error(
                    Code::BadDigest,
                    entry.value.span,
                    format!("`{}` is not a digest for `{name}`", operand.text()),
                )
                .expected(format!("{length} hexadecimal digits")),
        );
    }
    if wanted.is_some() && second.is_none() {
        return None;
    }
    Some(Condition::Compare(Comparison {
        operator,
        operand,
        second: second.map(Template::parse),
        span: entry.key.span,
    }))
}

/// `stringIsEmpty:` with nothing behind it asks about an empty text.
fn or_empty(entry: &Entry) -> Node {
    if entry.value.is_null() {
        let mut empty = entry.value.clone();
        empty.tag = Some("tag:yaml.org,2002:str".into());
        return empty;
    }
    entry.value.clone()
}

/// Length of a hexadecimal digest.
pub(super) fn digest_length(algorithm: &str) -> usize {
    match algorithm {
        "MD5" => 32,
        "SHA1" => 40,
        "SHA256" => 64,
        _ => 128,
    }
}
