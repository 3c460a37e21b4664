//! The parameters of a template: values from the command line, defaults, and what they may be.

use std::collections::BTreeMap;

use ovenbird_component::source::{Diagnostic, Entry, MapReader, Node, Reading, Span, join_words};

use super::{list, text};

/// Values by name.
pub type Values = BTreeMap<String, Node>;

/// Types whose value is a list.
fn is_list(kind: &str) -> bool {
    kind == "CommaDelimitedList"
        || kind.starts_with("List<")
        || kind.starts_with("AWS::SSM::Parameter::Value<List<")
        || kind == "AWS::SSM::Parameter::Value<CommaDelimitedList>"
}

fn is_number(kind: &str) -> bool {
    matches!(kind, "Number" | "List<Number>")
}

/// Types whose default is the name of a parameter in the service, not a value.
fn is_indirect(kind: &str) -> bool {
    kind.starts_with("AWS::SSM::Parameter::Value<")
}

fn is_known(kind: &str) -> bool {
    matches!(
        kind,
        "String" | "Number" | "CommaDelimitedList" | "List<Number>" | "AWS::SSM::Parameter::Name"
    ) || ((kind.starts_with("AWS::") || kind.starts_with("List<AWS::"))
        && (kind.ends_with('>') || kind.ends_with("Name") || kind.ends_with("Id")))
}

/// Reads the section and gives each parameter its value.
pub fn read(
    reading: &Reading<'_>,
    section: &ovenbird_component::source::Mapping,
    given: &BTreeMap<String, String>,
) -> Values {
    section
        .entries
        .iter()
        .map(|entry| {
            let name = entry.key.text.clone();
            let value = parameter(reading, entry, given.get(&name));
            // A parameter without a value has been reported; the rest can still be checked.
            (
                name,
                value.unwrap_or_else(|| text("", entry.key.span, entry.key.style)),
            )
        })
        .collect()
}

fn parameter(reading: &Reading<'_>, entry: &Entry, given: Option<&String>) -> Option<Node> {
    let name = &entry.key.text;
    let mut map = MapReader::new(reading, &entry.value, format!("the parameter `{name}`"))?;
    let kind = map.require_spanned_string("Type");
    let default = map.spanned_string("Default");
    let allowed = map.strings("AllowedValues");
    let pattern = map.spanned_string("AllowedPattern");
    let lengths = (
        map.integer("MinLength", 0..=i64::MAX),
        map.integer("MaxLength", 0..=i64::MAX),
    );
    let range = (
        map.integer("MinValue", i64::MIN..=i64::MAX),
        map.integer("MaxValue", i64::MIN..=i64::MAX),
    );
    let constraint = map.string("ConstraintDescription");
    map.string("Description");
    map.boolean("NoEcho");
    map.finish();
    let kind = kind?;
    if !is_known(&kind.value) {
        reading.report(
            reading
                .error("unknown-word", kind.span, format!("`Type` of the parameter `{name}` is `{}`", kind.value))
                .expected("String, Number, CommaDelimitedList, List<Number>, or a type that begins with AWS::"),
        );
        return None;
    }
    let (value, span) = match (given, default) {
        (Some(value), _) => (value.clone(), entry.key.span),
        (None, Some(_)) if is_indirect(&kind.value) => {
            reading.report(missing(
                reading,
                entry,
                "names a value that only the service knows",
            ));
            return None;
        }
        (None, Some(default)) => (default.value, default.span),
        (None, None) => {
            reading.report(missing(reading, entry, "has no default and no value"));
            return None;
        }
    };
    let values: Vec<String> = if is_list(&kind.value) {
        value
            .split(',')
            .map(|item| item.trim().to_owned())
            .collect()
    } else {
        vec![value]
    };
    let limits = Limits {
        number: is_number(&kind.value),
        allowed: allowed.map(|words| words.into_iter().map(|word| word.value).collect()),
        pattern: pattern.map(|pattern| pattern.value),
        lengths,
        range,
    };
    for value in &values {
        if let Some(expected) = limits.problem(value) {
            let mut diagnostic = bad_value(reading, name, value, span, &expected);
            if let Some(constraint) = &constraint {
                diagnostic = diagnostic.hint(constraint.clone());
            }
            reading.report(diagnostic);
            return None;
        }
    }
    // The places of values are those of the parameter: messages about a value point to who gave it.
    let style = ovenbird_component::source::Style::DoubleQuoted;
    let nodes = values.iter().map(|value| text(value, span, style));
    if is_list(&kind.value) {
        Some(list(nodes.collect(), span))
    } else {
        nodes.into_iter().next()
    }
}

fn missing(reading: &Reading<'_>, entry: &Entry, why: &str) -> Diagnostic {
    let name = &entry.key.text;
    reading
        .error(
            "missing-parameter",
            entry.key.span,
            format!("the parameter `{name}` {why}"),
        )
        .expected("a value from the command line")
        .hint(format!("--parameter {name}=VALUE"))
}

fn bad_value(
    reading: &Reading<'_>,
    name: &str,
    value: &str,
    span: Span,
    expected: &str,
) -> Diagnostic {
    reading
        .error(
            "bad-parameter",
            span,
            format!("the parameter `{name}` is `{value}`"),
        )
        .expected(expected)
}

struct Limits {
    number: bool,
    allowed: Option<Vec<String>>,
    pattern: Option<String>,
    lengths: (Option<i64>, Option<i64>),
    range: (Option<i64>, Option<i64>),
}

impl Limits {
    /// What a value should have been, if it is wrong.
    fn problem(&self, value: &str) -> Option<String> {
        if let Some(allowed) = &self.allowed
            && !allowed.iter().any(|word| word == value)
        {
            let words: Vec<&str> = allowed.iter().map(String::as_str).collect();
            return Some(join_words(&words));
        }
        // CloudFormation's patterns cover the whole value; one that we cannot compile checks nothing.
        if let Some(pattern) = &self.pattern
            && let Ok(regex) = regex_lite::Regex::new(&format!("^(?:{pattern})$"))
            && !regex.is_match(value)
        {
            return Some(format!("text that fits {pattern}"));
        }
        let length = i64::try_from(value.chars().count()).unwrap_or(i64::MAX);
        if !within(length, self.lengths) {
            return Some(bounds("characters", self.lengths));
        }
        if self.number {
            let Ok(number) = value.parse::<f64>() else {
                return Some("a number".to_owned());
            };
            // Fractions count by their whole part here; bounds are whole numbers.
            #[expect(clippy::cast_possible_truncation, reason = "bounds are far below 2^53")]
            if !within(number.floor() as i64, self.range) {
                return Some(bounds("a number", self.range));
            }
        }
        None
    }
}

fn within(value: i64, (least, most): (Option<i64>, Option<i64>)) -> bool {
    least.is_none_or(|least| value >= least) && most.is_none_or(|most| value <= most)
}

fn bounds(what: &str, (least, most): (Option<i64>, Option<i64>)) -> String {
    match (least, most) {
        (Some(least), Some(most)) => format!("{what} from {least} to {most}"),
        (Some(least), None) => format!("{what}, {least} or more"),
        (None, Some(most)) => format!("{what}, at most {most}"),
        (None, None) => what.to_owned(),
    }
}
