//! The functions of templates.

use std::collections::BTreeMap;

use ovenbird_component::source::{Node, NodeKind, Scalar, Span, Style, join_words, nearest};

use super::evaluate::{Evaluated, Evaluator, Reported, function};
use super::{list, text};

/// What can be evaluated here.
const KNOWN: [&str; 13] = [
    "Ref",
    "GetAtt",
    "Sub",
    "Join",
    "Select",
    "Split",
    "FindInMap",
    "If",
    "Base64",
    "GetAZs",
    "Length",
    "ToJsonString",
    "Equals",
];

/// What can be known only in the service.
const REFUSED: [(&str, &str); 4] = [
    (
        "ImportValue",
        "make it a parameter of the template, and give it with --parameter",
    ),
    (
        "Transform",
        "`aws cloudformation get-template --template-stage Processed` prints what it has made",
    ),
    ("Cidr", "write the blocks out"),
    ("Include", "put the text where it is included"),
];

impl Evaluator<'_, '_> {
    /// Calls a function.
    pub(super) fn call(&self, name: &str, argument: &Node, whole: &Node) -> Evaluated {
        let span = whole.span;
        match name {
            "Ref" => {
                let target = self.name(argument, "Ref")?;
                self.reference(&target, span, Style::DoubleQuoted)
            }
            "GetAtt" => self.get_att(argument, span),
            "Sub" => self.sub(argument, span),
            "Join" => self.join(argument, span),
            "Select" => self.select(argument, span),
            "Split" => self.split(argument, span),
            "FindInMap" => self.find_in_map(argument, span),
            "If" => self.choose(argument),
            "Base64" => {
                let value = self.text(argument, "the argument of Fn::Base64")?;
                Ok(Some(text(
                    &base64(value.as_bytes()),
                    span,
                    Style::DoubleQuoted,
                )))
            }
            "GetAZs" => {
                let given = self.text(argument, "the argument of Fn::GetAZs")?;
                let region = if given.is_empty() {
                    &self.scope.pseudo.region
                } else {
                    &given
                };
                let zones = ["a", "b", "c"]
                    .map(|zone| text(&format!("{region}{zone}"), span, Style::DoubleQuoted));
                Ok(Some(list(zones.into(), span)))
            }
            "Length" => {
                let items = self.items(argument, "the argument of Fn::Length")?;
                Ok(Some(text(&items.len().to_string(), span, Style::Plain)))
            }
            "ToJsonString" => {
                let value = self.node(argument)?;
                let json = value.map_or(serde_json::Value::Null, |node| node.to_json());
                Ok(Some(text(&json.to_string(), span, Style::DoubleQuoted)))
            }
            "Equals" | "And" | "Or" | "Not" | "Condition" => {
                let holds = self.decide(whole)?;
                Ok(Some(text(
                    if holds { "true" } else { "false" },
                    span,
                    Style::Plain,
                )))
            }
            name => self.unknown_function(name, span),
        }
    }

    fn unknown_function(&self, name: &str, span: Span) -> Evaluated {
        if let Some((_, hint)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            return self.fail(
                self.reading
                    .error(
                        "not-supported",
                        span,
                        format!("`Fn::{name}` can be evaluated only in the service"),
                    )
                    .expected("a value")
                    .hint(*hint),
            );
        }
        let mut diagnostic = self
            .reading
            .error(
                "unknown-function",
                span,
                format!("there is no function `{name}`"),
            )
            .expected(join_words(&KNOWN));
        if let Some(near) = nearest(name, KNOWN) {
            diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
        }
        self.fail(diagnostic)
    }

    /// A name that must stand there as it is: functions in it are not allowed.
    fn name(&self, node: &Node, call: &str) -> Result<String, Reported> {
        match node.as_scalar() {
            Some(scalar) if function(node).is_none() => Ok(scalar.value.clone()),
            _ => self.fault(
                "wrong-type",
                node.span,
                format!("the argument of {call} is {}", node.describe()),
                "a name",
            ),
        }
    }

    /// The arguments of a function that takes a list of so many.
    fn arguments<'n>(
        &self,
        node: &'n Node,
        call: &str,
        counts: std::ops::RangeInclusive<usize>,
        expected: &str,
    ) -> Result<&'n [Node], Reported> {
        match node.as_sequence() {
            Some(items) if counts.contains(&items.len()) => Ok(items),
            Some(items) => self.fault(
                "bad-function",
                node.span,
                format!("{call} has {} arguments", items.len()),
                expected,
            ),
            None => self.fault(
                "bad-function",
                node.span,
                format!("the argument of {call} is {}", node.describe()),
                expected,
            ),
        }
    }

    fn get_att(&self, argument: &Node, span: Span) -> Evaluated {
        const EXPECTED: &str = "RESOURCE.ATTRIBUTE, or a list of the two";
        if let Some(scalar) = argument.as_scalar() {
            let Some((resource, attribute)) = scalar.value.split_once('.') else {
                return self.fault(
                    "bad-function",
                    span,
                    format!("Fn::GetAtt has `{}`", scalar.value),
                    EXPECTED,
                );
            };
            return self.attribute(resource, attribute, span);
        }
        let [resource, attribute] = self.arguments(argument, "Fn::GetAtt", 2..=2, EXPECTED)? else {
            return Err(Reported);
        };
        let resource = self.name(resource, "Fn::GetAtt")?;
        let attribute = self.text(attribute, "the attribute of Fn::GetAtt")?;
        self.attribute(&resource, &attribute, span)
    }

    fn sub(&self, argument: &Node, span: Span) -> Evaluated {
        const EXPECTED: &str = "text, or a list of text and a map of variables";
        let (template, variables) = match argument.as_sequence() {
            None => (argument.clone(), BTreeMap::new()),
            Some(_) => {
                let [template, map] = self.arguments(argument, "Fn::Sub", 2..=2, EXPECTED)? else {
                    return Err(Reported);
                };
                let Some(mapping) = map.as_mapping() else {
                    return self.fault(
                        "bad-function",
                        map.span,
                        format!("the variables of Fn::Sub are {}", map.describe()),
                        EXPECTED,
                    );
                };
                let mut variables = BTreeMap::new();
                for entry in &mapping.entries {
                    let what = format!("the variable `{}` of Fn::Sub", entry.key.text);
                    variables.insert(entry.key.text.clone(), self.text(&entry.value, &what)?);
                }
                (template.clone(), variables)
            }
        };
        let Some(scalar) = template.as_scalar() else {
            return self.fault(
                "bad-function",
                template.span,
                format!("the argument of Fn::Sub is {}", template.describe()),
                EXPECTED,
            );
        };
        let value = self.substitute(scalar, &variables, &template)?;
        // Style and place stay, so that lines of a document in the text can still be found.
        let place = if argument.as_sequence().is_some() {
            template.span
        } else {
            span
        };
        Ok(Some(text(&value, place, scalar.style)))
    }

    fn substitute(
        &self,
        scalar: &Scalar,
        variables: &BTreeMap<String, String>,
        node: &Node,
    ) -> Result<String, Reported> {
        let mut value = String::with_capacity(scalar.value.len());
        let mut rest = scalar.value.as_str();
        let mut failed = false;
        while let Some((before, after)) = rest.split_once("${") {
            value.push_str(before);
            let Some((name, tail)) = after.split_once('}') else {
                value.push_str("${");
                rest = after;
                continue;
            };
            rest = tail;
            if let Some(literal) = name.strip_prefix('!') {
                value.push_str(&format!("${{{literal}}}"));
                continue;
            }
            let name = name.trim();
            match self.variable(name, variables, node) {
                Ok(found) => value.push_str(&found),
                Err(Reported) => failed = true,
            }
        }
        value.push_str(rest);
        if failed { Err(Reported) } else { Ok(value) }
    }

    fn variable(
        &self,
        name: &str,
        variables: &BTreeMap<String, String>,
        node: &Node,
    ) -> Result<String, Reported> {
        if let Some(value) = variables.get(name) {
            return Ok(value.clone());
        }
        let span = self.variable_span(name, node);
        let plain = name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':'));
        let known = name.starts_with("AWS::")
            || self.scope.parameters.contains_key(name)
            || self
                .scope
                .resources
                .entry(name.split('.').next().unwrap_or(name))
                .is_some();
        if !plain || !known {
            let names = self
                .scope
                .parameters
                .keys()
                .chain(variables.keys())
                .map(String::as_str);
            let mut diagnostic = self
                .reading
                .error(
                    "missing-reference",
                    span,
                    format!("`${{{name}}}` names no parameter, resource or variable"),
                )
                .expected("${NAME} of a parameter, resource or variable");
            diagnostic = match nearest(name, names) {
                Some(near) => diagnostic.hint(format!("did you mean `${{{near}}}`?")),
                None => diagnostic.hint(format!(
                    "for text that a shell shall see, write ${{!{name}}}"
                )),
            };
            return self.fail(diagnostic);
        }
        let evaluated = match name.split_once('.') {
            Some((resource, attribute)) if !self.scope.parameters.contains_key(name) => {
                self.attribute(resource, attribute, span)?
            }
            _ => self.reference(name, span, Style::DoubleQuoted)?,
        };
        match evaluated.as_ref().map(|node| &*node.kind) {
            Some(NodeKind::Scalar(scalar)) => Ok(scalar.value.clone()),
            _ => self.fault(
                "wrong-type",
                span,
                format!("`${{{name}}}` is not text"),
                "text",
            ),
        }
    }

    /// The first place of a variable in the text of a scalar.
    fn variable_span(&self, name: &str, node: &Node) -> Span {
        let source = self.reading.source();
        let start = node.span.start.offset as usize;
        let written = format!("${{{name}}}");
        source
            .slice(node.span)
            .find(&written)
            .map_or(node.span, |at| {
                source.span(start + at, start + at + written.len())
            })
    }

    fn join(&self, argument: &Node, span: Span) -> Evaluated {
        const EXPECTED: &str = "a list of a delimiter and a list";
        let [delimiter, items] = self.arguments(argument, "Fn::Join", 2..=2, EXPECTED)? else {
            return Err(Reported);
        };
        let delimiter = self.text(delimiter, "the delimiter of Fn::Join")?;
        let items = self.items(items, "the second argument of Fn::Join")?;
        let texts: Vec<String> = items
            .iter()
            .map(|item| self.text(item, "an item of Fn::Join"))
            .collect::<Result<_, _>>()?;
        Ok(Some(text(
            &texts.join(&delimiter),
            span,
            Style::DoubleQuoted,
        )))
    }

    fn select(&self, argument: &Node, span: Span) -> Evaluated {
        const EXPECTED: &str = "a list of an index and a list";
        let [index, items] = self.arguments(argument, "Fn::Select", 2..=2, EXPECTED)? else {
            return Err(Reported);
        };
        let index_span = index.span;
        let index = self.text(index, "the index of Fn::Select")?;
        let items = self.items(items, "the second argument of Fn::Select")?;
        let chosen = index
            .parse::<usize>()
            .ok()
            .and_then(|index| items.get(index));
        match chosen {
            Some(item) => Ok(Some(Node {
                span,
                ..item.clone()
            })),
            None => self.fault(
                "out-of-range",
                index_span,
                format!(
                    "the index of Fn::Select is `{index}`, the list has {} items",
                    items.len()
                ),
                "a number from 0 to one less than the items",
            ),
        }
    }

    fn split(&self, argument: &Node, span: Span) -> Evaluated {
        const EXPECTED: &str = "a list of a delimiter and text";
        let [delimiter, value] = self.arguments(argument, "Fn::Split", 2..=2, EXPECTED)? else {
            return Err(Reported);
        };
        let delimiter_span = delimiter.span;
        let delimiter = self.text(delimiter, "the delimiter of Fn::Split")?;
        let value = self.text(value, "the text of Fn::Split")?;
        if delimiter.is_empty() {
            return self.fault(
                "empty-value",
                delimiter_span,
                "the delimiter of Fn::Split is empty",
                "at least one character",
            );
        }
        let parts = value
            .split(&delimiter)
            .map(|part| text(part, span, Style::DoubleQuoted))
            .collect();
        Ok(Some(list(parts, span)))
    }

    fn find_in_map(&self, argument: &Node, span: Span) -> Evaluated {
        const EXPECTED: &str = "a list of a map's name and two keys";
        let arguments = self.arguments(argument, "Fn::FindInMap", 3..=4, EXPECTED)?;
        let [name, first, second, rest @ ..] = arguments else {
            return Err(Reported);
        };
        let keys = [
            self.text(name, "the map's name of Fn::FindInMap")?,
            self.text(first, "the first key of Fn::FindInMap")?,
            self.text(second, "the second key of Fn::FindInMap")?,
        ];
        let mut mapping = Some(self.scope.mappings);
        let mut found = None;
        for (depth, key) in keys.iter().enumerate() {
            found = mapping.and_then(|mapping| mapping.get(key));
            mapping = found.and_then(Node::as_mapping);
            if found.is_none() {
                if let Some(default) = rest
                    .first()
                    .and_then(|options| options.as_mapping()?.get("DefaultValue"))
                {
                    return self.node(default);
                }
                let what = ["map", "first key", "second key"][depth];
                return self.fault(
                    "missing-reference",
                    [name, first, second][depth].span,
                    format!("`Mappings` have no {what} `{key}` for Fn::FindInMap"),
                    "a map and two keys that are there",
                );
            }
        }
        Ok(found.map(|node| Node {
            span,
            ..node.clone()
        }))
    }

    fn choose(&self, argument: &Node) -> Evaluated {
        const EXPECTED: &str = "a list of a condition's name and two values";
        let [condition, yes, no] = self.arguments(argument, "Fn::If", 3..=3, EXPECTED)? else {
            return Err(Reported);
        };
        let name = self.name(condition, "Fn::If")?;
        let holds = self.condition(&name, condition.span)?;
        self.node(if holds { yes } else { no })
    }

    /// Whether a condition function holds.
    pub(super) fn decide(&self, node: &Node) -> Result<bool, Reported> {
        // `{Condition: Name}` is a function only inside of conditions.
        if let Some([entry]) = node.as_mapping().map(|mapping| &mapping.entries[..])
            && entry.key.text == "Condition"
        {
            let name = self.name(&entry.value, "Condition")?;
            return self.condition(&name, entry.value.span);
        }
        let Some((name, argument)) = function(node) else {
            return self.fault(
                "bad-function",
                node.span,
                format!("a condition is {}", node.describe()),
                "Fn::Equals, Fn::And, Fn::Or, Fn::Not or Condition",
            );
        };
        match name.as_str() {
            "Condition" => {
                let name = self.name(&argument, "Condition")?;
                self.condition(&name, argument.span)
            }
            "Equals" => {
                let [one, other] =
                    self.arguments(&argument, "Fn::Equals", 2..=2, "a list of two values")?
                else {
                    return Err(Reported);
                };
                let plain = |node: &Node| -> Result<serde_json::Value, Reported> {
                    Ok(self
                        .node(node)?
                        .map_or(serde_json::Value::Null, |node| as_text(&node)))
                };
                Ok(plain(one)? == plain(other)?)
            }
            "Not" => {
                let [one] =
                    self.arguments(&argument, "Fn::Not", 1..=1, "a list of one condition")?
                else {
                    return Err(Reported);
                };
                Ok(!self.decide(one)?)
            }
            "And" | "Or" => {
                let call = format!("Fn::{name}");
                let items =
                    self.arguments(&argument, &call, 2..=10, "a list of 2 to 10 conditions")?;
                let decided: Vec<bool> = items
                    .iter()
                    .map(|item| self.decide(item))
                    .collect::<Result<_, _>>()?;
                Ok(if name == "And" {
                    decided.iter().all(|holds| *holds)
                } else {
                    decided.iter().any(|holds| *holds)
                })
            }
            name => self.fault(
                "bad-function",
                node.span,
                format!("`{name}` decides nothing"),
                "Fn::Equals, Fn::And, Fn::Or, Fn::Not or Condition",
            ),
        }
    }
}

/// A value for comparison: scalars by their text, so that `8` and `"8"` are equal as in the service.
fn as_text(node: &Node) -> serde_json::Value {
    match &*node.kind {
        NodeKind::Scalar(scalar) => serde_json::Value::from(scalar.value.as_str()),
        _ => node.to_json(),
    }
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = [
            chunk[0],
            chunk.get(1).copied().unwrap_or(0),
            chunk.get(2).copied().unwrap_or(0),
        ];
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for index in 0..4 {
            if index <= chunk.len() {
                let six = (bits >> (18 - 6 * index)) & 0x3f;
                text.push(char::from(ALPHABET[six as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}
