//! Inputs of a step: as written (with references), as resolved, and as a module takes them.

use serde_json::{Map, Value};

use crate::action::{
    ALGORITHMS, ActionSpec, ENCODINGS, InputKind, InputSpec, REGISTRY_HIVES, Shape,
};
use crate::reference::{Rendered, Template, UnresolvedReference, Values};
use crate::source::Span;

/// An input as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Text, possibly with references.
    Text(Template, Span),
    /// A boolean or number.
    Literal(Value),
    /// A list.
    List(Vec<Input>),
    /// A map in the order of the text.
    Map(Vec<(String, Input)>),
}

/// Inputs after substitution: what the module uses, and what logs and state may hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The values to use.
    pub used: Value,
    /// The same with secrets masked.
    pub shown: Value,
}

impl Input {
    /// An empty map.
    pub fn empty() -> Self {
        Self::Map(Vec::new())
    }

    /// The value of a key of a map.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// The literal text, if this is text without references.
    pub fn literal_text(&self) -> Option<&str> {
        match self {
            Self::Text(template, _) if template.is_literal() => Some(template.text()),
            _ => None,
        }
    }

    /// Calls `visit` for every text.
    pub fn visit_texts<'a>(&'a self, visit: &mut dyn FnMut(&'a Template, Span)) {
        match self {
            Self::Text(template, span) => visit(template, *span),
            Self::Literal(_) => {}
            Self::List(items) => items.iter().for_each(|item| item.visit_texts(visit)),
            Self::Map(entries) => entries
                .iter()
                .for_each(|(_, value)| value.visit_texts(visit)),
        }
    }

    /// Substitutes all references.
    ///
    /// # Errors
    ///
    /// The first reference that has no value.
    pub fn resolve(&self, values: &dyn Values) -> Result<Resolved, UnresolvedReference> {
        Ok(match self {
            Self::Text(template, _) => {
                let Rendered { text, shown } = template.render(values)?;
                Resolved {
                    used: Value::String(text),
                    shown: Value::String(shown),
                }
            }
            Self::Literal(value) => Resolved {
                used: value.clone(),
                shown: value.clone(),
            },
            Self::List(items) => {
                let mut used = Vec::with_capacity(items.len());
                let mut shown = Vec::with_capacity(items.len());
                for item in items {
                    let resolved = item.resolve(values)?;
                    used.push(resolved.used);
                    shown.push(resolved.shown);
                }
                Resolved {
                    used: Value::Array(used),
                    shown: Value::Array(shown),
                }
            }
            Self::Map(entries) => {
                let mut used = Map::new();
                let mut shown = Map::new();
                for (key, value) in entries {
                    let resolved = value.resolve(values)?;
                    used.insert(key.clone(), resolved.used);
                    shown.insert(key.clone(), resolved.shown);
                }
                Resolved {
                    used: Value::Object(used),
                    shown: Value::Object(shown),
                }
            }
        })
    }
}

/// Checks resolved inputs against a module's table and brings them into one canonical form: booleans and numbers that
/// came out of references as text become booleans and numbers.
///
/// # Errors
///
/// A message that names the input, what it is and what was expected.
pub fn canonical(spec: &ActionSpec, inputs: Value) -> Result<Value, String> {
    match (spec.shape, inputs) {
        (Shape::Operator, inputs) => Ok(inputs),
        (Shape::List, Value::Array(items)) => items
            .into_iter()
            .map(|item| canonical_map(spec, item))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array),
        (Shape::Map | Shape::OptionalMap, inputs) => canonical_map(spec, inputs),
        (Shape::List, _) => Err(format!("the inputs of {} are not a list", spec.name)),
    }
}

fn canonical_map(spec: &ActionSpec, inputs: Value) -> Result<Value, String> {
    let Value::Object(entries) = inputs else {
        return Err(format!("the inputs of {} are not a map", spec.name));
    };
    let mut canonical = Map::new();
    for (key, value) in entries {
        let input = spec
            .input(&key)
            .ok_or_else(|| format!("{} has no input `{key}`", spec.name))?;
        canonical.insert(key, canonical_value(input, value)?);
    }
    for input in spec.inputs.iter().filter(|input| input.required) {
        if !canonical.contains_key(input.name) {
            return Err(format!("{} needs the input `{}`", spec.name, input.name));
        }
    }
    Ok(Value::Object(canonical))
}

fn canonical_value(spec: &InputSpec, value: Value) -> Result<Value, String> {
    let text = match value {
        Value::String(text) => text,
        other => return Ok(other),
    };
    let value = match spec.kind {
        InputKind::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => {
                return Err(format!(
                    "`{}` is `{text}`, expected true or false",
                    spec.name
                ));
            }
        },
        InputKind::Count => match text.trim().parse::<u64>() {
            Ok(number) => Value::from(number),
            Err(_) => {
                return Err(format!(
                    "`{}` is `{text}`, expected a whole number",
                    spec.name
                ));
            }
        },
        _ => {
            check_text(spec.kind, &text)
                .map_err(|expected| format!("`{}` is `{text}`, expected {expected}", spec.name))?;
            Value::String(text)
        }
    };
    Ok(value)
}

/// Checks a text without references against the kind of its input.
///
/// # Errors
///
/// What was expected.
pub fn check_text(kind: InputKind, text: &str) -> Result<(), String> {
    let (good, expected) = match kind {
        InputKind::Text
        | InputKind::RegistryValue
        | InputKind::Texts
        | InputKind::TextMap
        | InputKind::Parameters => (true, String::new()),
        InputKind::Boolean | InputKind::Count => (true, String::new()),
        InputKind::Path => (
            !text.is_empty() && !text.contains('\0'),
            "a path".to_owned(),
        ),
        InputKind::WildcardPath => return check_wildcard(text),
        InputKind::Mode => (is_mode(text), "an octal mode such as '0644'".to_owned()),
        InputKind::Word(words) => (words.contains(&text), crate::source::join_words(words)),
        InputKind::Encoding => (
            ENCODINGS.iter().any(|word| word.eq_ignore_ascii_case(text)),
            crate::source::join_words(&ENCODINGS),
        ),
        InputKind::WebAddress => (
            has_scheme(text, "http") || has_scheme(text, "https"),
            "an address that starts with http:// or https://".to_owned(),
        ),
        InputKind::ObjectAddress => (
            split_object_address(text).is_some() || has_scheme(text, "file"),
            "s3://bucket/key".to_owned(),
        ),
        InputKind::Account => (
            text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()),
            "an account number of 12 digits".to_owned(),
        ),
        InputKind::MsiLogOptions => (
            !text.is_empty()
                && text
                    .chars()
                    .all(|c| "iwearucmopvx+!*".contains(c.to_ascii_lowercase())),
            "flags of `i w e a r u c m o p v x + ! *`".to_owned(),
        ),
        InputKind::RegistryPath => (
            REGISTRY_HIVES.iter().any(|hive| {
                text.strip_prefix(hive)
                    .is_some_and(|rest| rest.starts_with(['\\', '/']) && rest.len() > 1)
            }),
            "a path that starts with a hive such as `HKLM:\\` or `HKEY_LOCAL_MACHINE\\`".to_owned(),
        ),
        InputKind::PowerShellFile => (
            text.len() > 4 && text.to_ascii_lowercase().ends_with(".ps1"),
            "a path that ends with .ps1".to_owned(),
        ),
    };
    if good { Ok(()) } else { Err(expected) }
}

fn check_wildcard(text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains('\0') {
        return Err("a path".to_owned());
    }
    let folder = text.rfind(['/', '\\']).map_or("", |at| &text[..at]);
    if folder.contains('*') {
        return Err("`*` only after the last separator".to_owned());
    }
    Ok(())
}

fn is_mode(text: &str) -> bool {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    (1..=5).contains(&digits.len())
        && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte))
        && u32::from_str_radix(digits, 8).is_ok_and(|mode| mode <= 0o7777)
}

fn has_scheme(text: &str, scheme: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(before, rest)| before.eq_ignore_ascii_case(scheme) && !rest.is_empty())
}

/// Splits `s3://bucket/key`; the key may be empty.
pub fn split_object_address(text: &str) -> Option<(&str, &str)> {
    let rest = text
        .strip_prefix("s3://")
        .or_else(|| text.strip_prefix("S3://"))?;
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let good = (3..=63).contains(&bucket.len())
        && bucket
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    good.then_some((bucket, key))
}

/// Whether a word is one of the checksum algorithms.
pub fn is_algorithm(word: &str) -> bool {
    ALGORITHMS.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Action;

    #[test]
    fn kinds_accept_and_refuse() {
        let cases = [
            (InputKind::Mode, "0644", true),
            (InputKind::Mode, "4755", true),
            (InputKind::Mode, "0888", false),
            (InputKind::Mode, "77777", false),
            (InputKind::Mode, "u+x", false),
            (InputKind::WildcardPath, "/tmp/*.log", true),
            (InputKind::WildcardPath, "/tmp/*/x", false),
            (InputKind::WildcardPath, "C:\\*\\x", false),
            (InputKind::Encoding, "UTF-16-be", true),
            (InputKind::Encoding, "latin1", false),
            (InputKind::WebAddress, "HTTPS://x/y", true),
            (InputKind::WebAddress, "ftp://x", false),
            (InputKind::ObjectAddress, "s3://bucket/prefix/*", true),
            (InputKind::ObjectAddress, "file:///srv/x", true),
            (InputKind::ObjectAddress, "s3://x", false),
            (InputKind::Account, "123456789012", true),
            (InputKind::Account, "12345", false),
            (InputKind::MsiLogOptions, "*VX", true),
            (InputKind::MsiLogOptions, "z", false),
            (InputKind::RegistryPath, "HKLM:\\SOFTWARE\\x", true),
            (InputKind::RegistryPath, "HKXX:\\SOFTWARE", false),
            (InputKind::PowerShellFile, "C:\\a.PS1", true),
            (InputKind::PowerShellFile, "a.sh", false),
        ];
        for (kind, text, good) in cases {
            assert_eq!(check_text(kind, text).is_ok(), good, "{kind:?} {text}");
        }
    }

    #[test]
    fn texts_that_came_out_of_references_become_typed() {
        let spec = Action::CopyFile.spec();
        let inputs = serde_json::json!([{"source": "a", "destination": "b", "overwrite": "False"}]);
        let canonical_inputs = canonical(spec, inputs).expect("good");
        assert_eq!(canonical_inputs[0]["overwrite"], false);
        let inputs =
            serde_json::json!([{"source": "a", "destination": "b", "overwrite": "perhaps"}]);
        assert_eq!(
            canonical(spec, inputs).expect_err("bad"),
            "`overwrite` is `perhaps`, expected true or false"
        );
        let inputs = serde_json::json!([{"source": "a"}]);
        assert_eq!(
            canonical(spec, inputs).expect_err("bad"),
            "CopyFile needs the input `destination`"
        );
    }
}
