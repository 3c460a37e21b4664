//! The tree of a parsed document.

use std::sync::Arc;

use super::text::Span;

/// How a scalar was written; plain scalars are the only ones whose type YAML guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// In `'single'` quotes.
    SingleQuoted,
    /// In `"double"` quotes.
    DoubleQuoted,
    /// A `|` block.
    Literal,
    /// A `>` block.
    Folded,
}

/// What a plain scalar means under the YAML core schema.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Plain {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number, decimal, `0x…`, `0o…` or octal with a leading zero (YAML 1.1).
    Integer(i64),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// Anything else.
    Text,
}

/// A scalar: its text after unquoting and folding, and the way it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// The value as text.
    pub value: String,
    /// The way it was written.
    pub style: Style,
}

impl Scalar {
    /// The type that YAML gives this scalar: quoted and block scalars are always text.
    pub fn plain(&self) -> Plain {
        if self.style == Style::Plain {
            resolve_plain(&self.value)
        } else {
            Plain::Text
        }
    }
}

/// The key of a mapping entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// The key's text.
    pub text: String,
    /// Where it stands.
    pub span: Span,
    /// The way it was written.
    pub style: Style,
}

/// One key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Node,
}

/// A mapping in the order of the text. Keys are unique.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mapping {
    /// The entries in the order of the text.
    pub entries: Vec<Entry>,
}

impl Mapping {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entry of a key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key.text == key)
    }
}

/// The content of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeKind {
    /// Text, number, boolean or null.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// A map.
    Mapping(Mapping),
}

/// A value with its place. Content is shared, so that a clone of a large tree costs nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where the value stands in the text.
    pub span: Span,
    /// An explicit tag such as `!Ref` or `tag:yaml.org,2002:str`.
    pub tag: Option<Arc<str>>,
    /// The content.
    pub kind: Arc<NodeKind>,
}

impl Node {
    pub(crate) fn new(span: Span, tag: Option<Arc<str>>, kind: NodeKind) -> Self {
        Self {
            span,
            tag,
            kind: Arc::new(kind),
        }
    }

    /// The scalar, if this is one.
    pub fn as_scalar(&self) -> Option<&Scalar> {
        match &*self.kind {
            NodeKind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The items, if this is a list.
    pub fn as_sequence(&self) -> Option<&[Node]> {
        match &*self.kind {
            NodeKind::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// The mapping, if this is one.
    pub fn as_mapping(&self) -> Option<&Mapping> {
        match &*self.kind {
            NodeKind::Mapping(mapping) => Some(mapping),
            _ => None,
        }
    }

    /// The type that YAML gives a scalar, with an explicit `!!str` taken into account; `None` for lists and maps.
    pub fn plain(&self) -> Option<Plain> {
        let scalar = self.as_scalar()?;
        if self.tag.as_deref() == Some("tag:yaml.org,2002:str") {
            return Some(Plain::Text);
        }
        Some(scalar.plain())
    }

    /// Whether this is an explicit or implied null.
    pub fn is_null(&self) -> bool {
        self.plain() == Some(Plain::Null)
    }

    /// A noun for messages: "a list", "a map", "a number", …
    pub fn describe(&self) -> &'static str {
        match &*self.kind {
            NodeKind::Sequence(_) => "a list",
            NodeKind::Mapping(_) => "a map",
            NodeKind::Scalar(_) => match self.plain() {
                Some(Plain::Null) => "nothing",
                Some(Plain::Bool(_)) => "a boolean",
                Some(Plain::Integer(_) | Plain::Float(_)) => "a number",
                _ => "text",
            },
        }
    }

    /// The node as JSON, scalars typed by the YAML core schema. Explicit tags other than `!!str` are dropped.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &*self.kind {
            NodeKind::Sequence(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            NodeKind::Mapping(mapping) => Value::Object(
                mapping
                    .entries
                    .iter()
                    .map(|entry| (entry.key.text.clone(), entry.value.to_json()))
                    .collect(),
            ),
            NodeKind::Scalar(scalar) => match self.plain() {
                Some(Plain::Null) => Value::Null,
                Some(Plain::Bool(value)) => Value::Bool(value),
                Some(Plain::Integer(value)) => Value::from(value),
                Some(Plain::Float(value)) => serde_json::Number::from_f64(value)
                    .map_or_else(|| Value::String(scalar.value.clone()), Value::Number),
                _ => Value::String(scalar.value.clone()),
            },
        }
    }
}

fn resolve_plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        _ => {}
    }
    let first = text.as_bytes()[0];
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return Plain::Text;
    }
    let (negative, digits) = match first {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if let Some(value) = whole_number(digits) {
        return Plain::Integer(if negative { -value } else { value });
    }
    let looks_like_float = digits.contains(|c: char| c.is_ascii_digit())
        && digits
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    match text.parse::<f64>() {
        Ok(value) if looks_like_float && value.is_finite() => Plain::Float(value),
        _ => Plain::Text,
    }
}

fn whole_number(digits: &str) -> Option<i64> {
    let (radix, rest) = if let Some(hex) = digits.strip_prefix("0x") {
        (16, hex)
    } else if let Some(octal) = digits.strip_prefix("0o") {
        (8, octal)
    } else if digits.len() > 1
        && digits.starts_with('0')
        && digits.bytes().all(|b| (b'0'..=b'7').contains(&b))
    {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    if rest.is_empty() || !rest.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    i64::from_str_radix(rest, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_get_the_types_of_the_core_schema_plus_yaml_1_1_octal() {
        let cases = [
            ("~", Plain::Null),
            ("True", Plain::Bool(true)),
            ("yes", Plain::Text),
            ("0644", Plain::Integer(0o644)),
            ("0o17", Plain::Integer(15)),
            ("0x1F", Plain::Integer(31)),
            ("089", Plain::Integer(89)),
            ("-12", Plain::Integer(-12)),
            ("1.0", Plain::Float(1.0)),
            ("1e3", Plain::Float(1000.0)),
            ("1.2.3", Plain::Text),
            ("-", Plain::Text),
            ("+", Plain::Text),
            (".", Plain::Text),
            ("99999999999999999999", Plain::Float(1e20)),
        ];
        for (text, wanted) in cases {
            assert_eq!(resolve_plain(text), wanted, "{text}");
        }
    }
}
