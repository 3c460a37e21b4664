//! Reads the `inputs` of a step by the table of its module.

use super::conditions::{self, digest_length};
use crate::action::{Action, ActionSpec, InputKind, InputSpec, Shape};
use crate::condition::Condition;
use crate::reference::Template;
use crate::source::{Code, MapReader, Node, Plain, Reading, Style, join_words, nearest};
use crate::value::{Input, check_text};

/// Reads inputs; the second value is the condition of an Assert step.
pub(super) fn read(
    reading: &Reading<'_>,
    action: Action,
    node: Option<&Node>,
    step: &MapReader<'_, '_>,
) -> (Option<Input>, Option<Condition>) {
    let spec = action.spec();
    let what = format!("the inputs of {}", step.what());
    let Some(node) = node.filter(|node| !node.is_null()) else {
        if spec.shape == Shape::OptionalMap {
            return (Some(Input::empty()), None);
        }
        let span = step
            .key_span("inputs")
            .or(step.key_span("action"))
            .unwrap_or(step.span());
        let message = format!("{} has no `inputs`", step.what());
        let expected = if spec.shape == Shape::List {
            "a list of maps"
        } else {
            "a map"
        };
        reading.report(
            reading
                .error(Code::MissingKey, span, message)
                .expected(format!("{expected} for {}", spec.name)),
        );
        return (None, None);
    };
    match spec.shape {
        Shape::Operator => match conditions::condition(reading, node, &what, false) {
            Some(condition) => (Some(plain(node)), Some(condition)),
            None => (None, None),
        },
        Shape::Map | Shape::OptionalMap => (map(reading, spec, node, &what), None),
        Shape::List => (list(reading, spec, node, &what), None),
    }
}

/// Any node as inputs: every scalar is text. Used where the node has been checked by other means.
fn plain(node: &Node) -> Input {
    if let Some(items) = node.as_sequence() {
        return Input::List(items.iter().map(plain).collect());
    }
    if let Some(mapping) = node.as_mapping() {
        return Input::Map(
            mapping
                .entries
                .iter()
                .map(|entry| (entry.key.text.clone(), plain(&entry.value)))
                .collect(),
        );
    }
    let text = node
        .as_scalar()
        .map(|scalar| scalar.value.clone())
        .unwrap_or_default();
    Input::Text(Template::parse(text), node.span)
}

fn list(reading: &Reading<'_>, spec: &ActionSpec, node: &Node, what: &str) -> Option<Input> {
    let Some(items) = node.as_sequence() else {
        let mut diagnostic = reading
            .error(
                Code::WrongType,
                node.span,
                format!("{what} are {}", node.describe()),
            )
            .expected(format!("a list of maps for {}", spec.name));
        if node.as_mapping().is_some() {
            diagnostic =
                diagnostic.hint("put `- ` before the first key and indent the others to match");
        }
        reading.report(diagnostic);
        return None;
    };
    if items.is_empty() {
        reading.report(
            reading
                .error(
                    Code::EmptyValue,
                    node.span,
                    format!("{what} are an empty list"),
                )
                .expected("at least one map"),
        );
        return None;
    }
    let items: Vec<_> = items
        .iter()
        .map(|item| map(reading, spec, item, what))
        .collect();
    items
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .map(Input::List)
}

fn map(reading: &Reading<'_>, spec: &ActionSpec, node: &Node, what: &str) -> Option<Input> {
    let Some(mapping) = node.as_mapping() else {
        let mut diagnostic = reading
            .error(
                Code::WrongType,
                node.span,
                format!("{what} are {}", node.describe()),
            )
            .expected(format!("a map for {}", spec.name));
        if node.as_sequence().is_some() {
            diagnostic = diagnostic.hint("remove the `- ` before the keys");
        }
        reading.report(diagnostic);
        return None;
    };
    let mut entries = Vec::new();
    let mut good = true;
    for entry in &mapping.entries {
        let Some(input) = spec.input(&entry.key.text) else {
            unknown_input(reading, spec, mapping, entry, what);
            good = false;
            continue;
        };
        if entry.value.is_null() && !input.required {
            continue;
        }
        match value(reading, input, &entry.value, what) {
            Some(value) => entries.push((entry.key.text.clone(), value)),
            None => good = false,
        }
    }
    for input in spec
        .inputs
        .iter()
        .filter(|input| input.required && mapping.get(input.name).is_none())
    {
        let span = mapping
            .entries
            .first()
            .map_or(node.span, |entry| entry.key.span);
        reading.report(
            reading
                .error(
                    Code::MissingInput,
                    span,
                    format!("{what} have no `{}`", input.name),
                )
                .expected(format!(
                    "`{}`, which {} needs: {}",
                    input.name,
                    spec.name,
                    lower_first(input.about)
                )),
        );
        good = false;
    }
    let input = Input::Map(entries);
    (good && check_together(reading, spec, node, &input, what)).then_some(input)
}

fn unknown_input(
    reading: &Reading<'_>,
    spec: &ActionSpec,
    mapping: &crate::source::Mapping,
    entry: &crate::source::Entry,
    what: &str,
) {
    let names: Vec<&str> = spec.inputs.iter().map(|input| input.name).collect();
    let mut diagnostic = reading
        .error(
            Code::UnknownInput,
            entry.key.span,
            format!("{} has no input `{}` in {what}", spec.name, entry.key.text),
        )
        .expected(join_words(&names));
    let absent = names
        .iter()
        .copied()
        .filter(|name| mapping.get(name).is_none());
    if let Some(near) = nearest(&entry.key.text, absent) {
        diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
    }
    reading.report(diagnostic);
}

/// "The file." reads better in the middle of a sentence as "the file".
fn lower_first(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

/// Rules that concern more than one input.
fn check_together(
    reading: &Reading<'_>,
    spec: &ActionSpec,
    node: &Node,
    input: &Input,
    what: &str,
) -> bool {
    match spec.action {
        Action::ExecutePowerShell => {
            let count = ["commands", "file"]
                .iter()
                .filter(|key| input.get(key).is_some())
                .count();
            if count != 1 {
                let found = if count == 0 { "neither" } else { "both" };
                reading.report(
                    reading
                        .error(
                            Code::CommandsOrFile,
                            node.span,
                            format!("{what} have {found} of `commands` and `file`"),
                        )
                        .expected("exactly one of `commands` and `file`"),
                );
            }
            count == 1
        }
        Action::WebDownload => {
            let text = |key| input.get(key).and_then(Input::literal_text);
            if let (Some(algorithm), Some(checksum)) = (text("algorithm"), text("checksum")) {
                let length = digest_length(algorithm);
                let digits = checksum.trim();
                if digits.len() != length || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    reading.report(
                        reading
                            .error(
                                Code::BadDigest,
                                node.span,
                                format!("`{digits}` is not a digest for {algorithm}"),
                            )
                            .expected(format!("{length} hexadecimal digits")),
                    );
                    return false;
                }
            }
            true
        }
        Action::CopyFile | Action::CopyFolder | Action::MoveFile | Action::MoveFolder => {
            let text = |key| input.get(key).and_then(Input::literal_text);
            if let (Some(source), Some(destination)) = (text("source"), text("destination"))
                && source.contains('*')
                && !destination.ends_with(['/', '\\'])
            {
                reading.report(
                    reading
                        .error(
                            Code::WildcardDestination,
                            node.span,
                            format!("{what} copy several things to `{destination}`"),
                        )
                        .expected(
                            "a destination that ends with a separator when the source has a `*`",
                        )
                        .hint(format!("write `{destination}/`")),
                );
                return false;
            }
            true
        }
        Action::SetRegistry => {
            let multi = input.get("type").and_then(Input::literal_text) == Some("MULTI_SZ");
            let list = matches!(input.get("value"), Some(Input::List(_)));
            if input.get("value").is_some() && input.get("type").is_some() && multi != list {
                reading.report(
                    reading
                        .error(
                            Code::WrongType,
                            node.span,
                            format!("`value` and `type` of {what} do not fit"),
                        )
                        .expected("a list for `MULTI_SZ`, one value for every other type"),
                );
                return false;
            }
            true
        }
        _ => true,
    }
}

fn value(reading: &Reading<'_>, spec: &InputSpec, node: &Node, what: &str) -> Option<Input> {
    let label = format!("`{}` of {what}", spec.name);
    match spec.kind {
        InputKind::Boolean => {
            if let Some(template) = template_of(node) {
                return Some(Input::Text(template, node.span));
            }
            reading
                .boolean(node, &label)
                .map(|value| Input::Literal(value.into()))
        }
        InputKind::Count => {
            if let Some(template) = template_of(node) {
                return Some(Input::Text(template, node.span));
            }
            reading
                .integer(node, &label, 0..=i64::MAX)
                .map(|value| Input::Literal(value.into()))
        }
        InputKind::Texts => {
            let items = reading.list(node, &label)?;
            if items.is_empty() && spec.required {
                reading.report(
                    reading
                        .error(Code::EmptyValue, node.span, format!("{label} is empty"))
                        .expected("at least one item"),
                );
                return None;
            }
            texts(reading, items, &label).map(Input::List)
        }
        InputKind::TextMap => {
            let mapping = node.as_mapping().or_else(|| {
                reading.wrong_type(node, &label, "a map from text to text");
                None
            })?;
            let entries: Vec<_> = mapping
                .entries
                .iter()
                .map(|entry| Some((entry.key.text.clone(), text(reading, &entry.value, &label)?)))
                .collect();
            entries
                .into_iter()
                .collect::<Option<Vec<_>>>()
                .map(Input::Map)
        }
        InputKind::Parameters => passed_parameters(reading, node, &label),
        InputKind::RegistryValue if node.as_sequence().is_some() => {
            texts(reading, node.as_sequence().unwrap_or_default(), &label).map(Input::List)
        }
        InputKind::Mode => {
            if matches!(node.plain(), Some(Plain::Integer(_))) {
                let written = node
                    .as_scalar()
                    .map(|scalar| scalar.value.clone())
                    .unwrap_or_default();
                reading.report(
                    reading
                        .warning(
                            Code::UnquotedPermissions,
                            node.span,
                            format!("{label} is a number without quotes"),
                        )
                        .hint(format!(
                            "other YAML readers turn it into something else; write '{written}'"
                        )),
                );
            }
            checked_text(reading, spec, node, &label)
        }
        _ => checked_text(reading, spec, node, &label),
    }
}

/// A text that has references, so that its type is known only after substitution.
fn template_of(node: &Node) -> Option<Template> {
    let scalar = node.as_scalar()?;
    if scalar.style == Style::Plain {
        return None;
    }
    Some(Template::parse(scalar.value.as_str())).filter(|template| !template.is_literal())
}

fn text(reading: &Reading<'_>, node: &Node, label: &str) -> Option<Input> {
    let value = reading.string(node, label)?;
    Some(Input::Text(Template::parse(value), node.span))
}

fn texts(reading: &Reading<'_>, items: &[Node], label: &str) -> Option<Vec<Input>> {
    let item_label = format!("an item of {label}");
    let items: Vec<_> = items
        .iter()
        .map(|item| {
            // `- echo: x` is a map; nobody means that in a list of commands.
            if let Some([entry]) = item.as_mapping().map(|mapping| &mapping.entries[..]) {
                reading.report(
                    reading
                        .error(Code::WrongType, item.span, format!("{item_label} is a map"))
                        .expected("text")
                        .hint(format!("the `: ` after `{}` makes a map of it; put the whole item in quotes or in a `|` block", entry.key.text)),
                );
                return None;
            }
            text(reading, item, &item_label)
        })
        .collect();
    items.into_iter().collect()
}

fn checked_text(
    reading: &Reading<'_>,
    spec: &InputSpec,
    node: &Node,
    label: &str,
) -> Option<Input> {
    let value = reading.string(node, label)?;
    let template = Template::parse(value);
    if template.is_literal()
        && let Err(expected) = check_text(spec.kind, template.text())
    {
        let message = if template.text().is_empty() {
            format!("{label} is empty")
        } else {
            format!("{label} is `{}`", template.text())
        };
        let mut diagnostic = reading
            .error(Code::BadValue, node.span, message)
            .expected(expected);
        if let InputKind::Word(words) = spec.kind
            && let Some(near) = nearest(template.text(), words.iter().copied())
        {
            diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
        }
        reading.report(diagnostic);
        return None;
    }
    Some(Input::Text(template, node.span))
}

/// Reads the `parameters` of ExecuteDocument.
fn passed_parameters(reading: &Reading<'_>, node: &Node, label: &str) -> Option<Input> {
    let items = reading.list(node, label)?;
    let mut result = Vec::new();
    let mut good = true;
    for item in items {
        let Some(mut map) = MapReader::new(reading, item, format!("an item of {label}")) else {
            good = false;
            continue;
        };
        let name = map.require_string("name");
        let value = map
            .require("value")
            .and_then(|node| text(reading, node, label));
        map.finish();
        match (name, value) {
            (Some(name), Some(value)) => {
                let name = Input::Text(Template::parse(name), item.span);
                result.push(Input::Map(vec![
                    ("name".to_owned(), name),
                    ("value".to_owned(), value),
                ]));
            }
            _ => good = false,
        }
    }
    good.then_some(Input::List(result))
}
