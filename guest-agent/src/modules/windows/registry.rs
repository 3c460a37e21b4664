//! SetRegistry.

use serde::Deserialize;
use serde_json::Value;

use super::Failure;

#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    path: String,
    name: String,
    value: Value,
    #[serde(rename = "type")]
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Kind {
    Binary,
    Dword,
    Qword,
    Sz,
    ExpandSz,
    MultiSz,
}

/// The root that a key hangs from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hive {
    /// `HKEY_CLASSES_ROOT`.
    ClassesRoot,
    /// `HKEY_USERS`.
    Users,
    /// `HKEY_LOCAL_MACHINE`.
    LocalMachine,
    /// `HKEY_CURRENT_CONFIG`.
    CurrentConfig,
    /// `HKEY_CURRENT_USER`.
    CurrentUser,
}

const HIVES: [(&str, &str, Hive); 5] = [
    ("HKEY_CLASSES_ROOT", "HKCR:", Hive::ClassesRoot),
    ("HKEY_USERS", "HKU:", Hive::Users),
    ("HKEY_LOCAL_MACHINE", "HKLM:", Hive::LocalMachine),
    ("HKEY_CURRENT_CONFIG", "HKCC:", Hive::CurrentConfig),
    ("HKEY_CURRENT_USER", "HKCU:", Hive::CurrentUser),
];

/// Takes a path apart into its hive and the key below it.
///
/// # Errors
///
/// When it starts with no hive or names no key.
pub(super) fn key(path: &str) -> Result<(Hive, String), Failure> {
    HIVES
        .iter()
        .find_map(|(long, short, hive)| {
            let rest = path
                .strip_prefix(long)
                .or_else(|| path.strip_prefix(short))?;
            let rest = rest.strip_prefix(['\\', '/'])?.replace('/', "\\");
            let rest = rest.trim_matches('\\').to_owned();
            (!rest.is_empty()).then_some((*hive, rest))
        })
        .ok_or_else(|| Failure::new(format!("`{path}` is not a key of the registry")))
}

/// A value in the form that the registry keeps.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// Bytes.
    Binary(Vec<u8>),
    /// A number of 32 bits.
    Dword(u32),
    /// A number of 64 bits.
    Qword(u64),
    /// A text.
    Text(String),
    /// A text with references to environment variables.
    ExpandText(String),
    /// Several texts.
    Texts(Vec<String>),
}

/// The value that an input stands for.
///
/// # Errors
///
/// When it does not fit its type.
pub(super) fn data(entry: &Entry) -> Result<Data, Failure> {
    let name = &entry.name;
    if entry.kind == Kind::MultiSz {
        let Value::Array(items) = &entry.value else {
            return Err(Failure::new(format!("the value of {name} is not a list")));
        };
        let texts = items.iter().map(text).collect::<Option<Vec<_>>>();
        return texts
            .map(Data::Texts)
            .ok_or_else(|| Failure::new(format!("the value of {name} is not a list of texts")));
    }
    let Some(text) = text(&entry.value) else {
        return Err(Failure::new(format!(
            "the value of {name} is neither a text nor a number"
        )));
    };
    let wrong =
        |wanted: &str| Failure::new(format!("the value of {name}, `{text}`, is not {wanted}"));
    match entry.kind {
        Kind::Binary => bytes(&text)
            .map(Data::Binary)
            .ok_or_else(|| wrong("an even number of hexadecimal digits")),
        Kind::Dword => number(&text)
            .and_then(|number| u32::try_from(number).ok())
            .map(Data::Dword)
            .ok_or_else(|| wrong("a number of 32 bits")),
        Kind::Qword => number(&text)
            .map(Data::Qword)
            .ok_or_else(|| wrong("a number of 64 bits")),
        Kind::ExpandSz => Ok(Data::ExpandText(text)),
        Kind::Sz | Kind::MultiSz => Ok(Data::Text(text)),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Decimal digits, or hexadecimal ones behind `0x`.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Hexadecimal digits, two a byte, as registry files have them: with or without commas and spaces between the bytes.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<char> = text.chars().filter(|c| !matches!(c, ' ' | ',')).collect();
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    pairs
        .iter()
        .map(|[high, low]| {
            let byte = high.to_digit(16)? * 16 + low.to_digit(16)?;
            u8::try_from(byte).ok()
        })
        .collect()
}

/// Writes a value; a key that is not there is made.
#[cfg(windows)]
pub(super) fn set(_context: &super::Context<'_>, entry: Entry) -> Result<(), Failure> {
    use windows_registry as registry;

    let (hive, path) = key(&entry.path)?;
    let data = data(&entry)?;
    let hive = match hive {
        Hive::ClassesRoot => registry::CLASSES_ROOT,
        Hive::Users => registry::USERS,
        Hive::LocalMachine => registry::LOCAL_MACHINE,
        Hive::CurrentConfig => registry::CURRENT_CONFIG,
        Hive::CurrentUser => registry::CURRENT_USER,
    };
    let write = || -> registry::Result<()> {
        let key = hive.create(&path)?;
        let name = entry.name.as_str();
        match &data {
            Data::Binary(bytes) => key.set_bytes(name, registry::Type::Bytes, bytes),
            Data::Dword(number) => key.set_u32(name, *number),
            Data::Qword(number) => key.set_u64(name, *number),
            Data::Text(text) => key.set_string(name, text),
            Data::ExpandText(text) => key.set_expand_string(name, text),
            Data::Texts(texts) => {
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                key.set_multi_string(name, &texts)
            }
        }
    };
    write().map_err(|error| {
        Failure::new(format!(
            "cannot write {} of {}: {}",
            entry.name,
            entry.path,
            error.message()
        ))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys() {
        for (path, wanted) in [
            (
                r"HKLM:\SOFTWARE\x",
                Some((Hive::LocalMachine, r"SOFTWARE\x")),
            ),
            (r"HKEY_USERS\.DEFAULT\", Some((Hive::Users, ".DEFAULT"))),
            ("HKCU:/a/b", Some((Hive::CurrentUser, r"a\b"))),
            (r"HKCR:\.txt", Some((Hive::ClassesRoot, ".txt"))),
            (r"HKEY_CURRENT_CONFIG\x", Some((Hive::CurrentConfig, "x"))),
            (r"HKLM:\", None),
            ("HKLM:", None),
            (r"HKXX:\a", None),
            (r"HKEY_LOCAL_MACHINEX\a", None),
        ] {
            match (key(path), wanted) {
                (Ok((hive, key)), Some(wanted)) => assert_eq!((hive, key.as_str()), wanted),
                (Err(failure), None) => {
                    assert!(message(failure).contains("is not a key of the registry"));
                }
                (found, _) => panic!("{path}: {found:?}"),
            }
        }
    }

    fn message(failure: Failure) -> String {
        match failure {
            Failure::Failed { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values() {
        for (kind, value, wanted) in [
            ("SZ", json!("a"), Ok(Data::Text("a".into()))),
            ("SZ", json!(5), Ok(Data::Text("5".into()))),
            (
                "EXPAND_SZ",
                json!("%TEMP%"),
                Ok(Data::ExpandText("%TEMP%".into())),
            ),
            (
                "MULTI_SZ",
                json!(["a", "b"]),
                Ok(Data::Texts(vec!["a".into(), "b".into()])),
            ),
            ("MULTI_SZ", json!("a"), Err("is not a list")),
            ("MULTI_SZ", json!([["a"]]), Err("is not a list of texts")),
            ("SZ", json!(["a"]), Err("is neither a text nor a number")),
            ("DWORD", json!("4294967295"), Ok(Data::Dword(u32::MAX))),
            ("DWORD", json!("0x10"), Ok(Data::Dword(16))),
            (
                "DWORD",
                json!("4294967296"),
                Err("is not a number of 32 bits"),
            ),
            ("DWORD", json!("-1"), Err("is not a number of 32 bits")),
            ("QWORD", json!(4_294_967_296_u64), Ok(Data::Qword(1 << 32))),
            ("QWORD", json!("x"), Err("is not a number of 64 bits")),
            (
                "BINARY",
                json!("de,AD be ef"),
                Ok(Data::Binary(vec![0xde, 0xad, 0xbe, 0xef])),
            ),
            (
                "BINARY",
                json!("abc"),
                Err("is not an even number of hexadecimal digits"),
            ),
            (
                "BINARY",
                json!("zz"),
                Err("is not an even number of hexadecimal digits"),
            ),
            ("BINARY", json!(""), Ok(Data::Binary(Vec::new()))),
        ] {
            let entry: Entry = serde_json::from_value(
                json!({"path": r"HKLM:\x", "name": "n", "value": value, "type": kind}),
            )
            .expect("an entry");
            assert_eq!(entry.path, r"HKLM:\x");
            match (data(&entry), wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{kind} {value}"),
                (Err(failure), Err(wanted)) => {
                    let found = message(failure);
                    assert!(found.ends_with(wanted), "{kind} {value}: {found}");
                }
                (found, _) => panic!("{kind} {value}: {found:?}"),
            }
        }
    }
}
