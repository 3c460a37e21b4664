//! The tables read documents and make schemas: both must say the same of every good document and of every planted fault.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{fixture, good};
use crate::documents::shape::{ANY, Field, Rule, Shape, Text, Type, schema};
use crate::documents::{Document, Kind, load_text};

fn whole() -> Vec<Document> {
    good("whole", &[])
        .into_iter()
        // Plain component documents among the parts have no `kind`.
        .filter(|document| !document.origin.file.as_str().contains("/parts/"))
        .collect()
}

fn validator(kind: Kind) -> jsonschema::Validator {
    jsonschema::validator_for(&schema::document(kind.shape())).unwrap()
}

/// The raw values of a folder's files, before the reader has touched them.
fn raw(folder: &str) -> Vec<(String, Value)> {
    let mut raw = Vec::new();
    for entry in fixture(folder).read_dir_utf8().unwrap() {
        let path = entry.unwrap().path().to_owned();
        if !path.is_file() {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let source = ovenbird_component::source::Source::new(path.as_str(), text);
        let parsed = ovenbird_component::source::parse(&source);
        raw.extend(
            parsed
                .documents
                .iter()
                .map(|node| (path.to_string(), node.to_json())),
        );
    }
    assert!(!raw.is_empty());
    raw
}

#[test]
fn every_good_document_fits_its_schema() {
    for document in whole() {
        let found: Vec<String> = validator(document.kind())
            .iter_errors(&document.to_document())
            .map(|error| format!("{} at {}", error, error.instance_path()))
            .collect();
        // The text of a file may be longer than one in place, and takes the place of its path; both are here.
        assert_eq!(found, Vec::<String>::new(), "{}", document.arn());
    }
    let any = jsonschema::validator_for(&schema::any_of(&Kind::ALL.map(Kind::shape))).unwrap();
    for (path, value) in raw("whole") {
        let found: Vec<String> = any
            .iter_errors(&value)
            .map(|error| error.to_string())
            .collect();
        assert_eq!(found, Vec::<String>::new(), "{path}");
    }
    for (path, value) in raw("cli-input") {
        let word = path
            .rsplit_once("create-")
            .unwrap()
            .1
            .trim_end_matches(".json");
        let kind = Kind::from_word(word).unwrap();
        let found: Vec<String> = validator(kind)
            .iter_errors(&value)
            .map(|error| error.to_string())
            .collect();
        assert_eq!(found, Vec::<String>::new(), "{path}");
    }
}

/// Without this, a fault in a field that no fixture has would never be planted.
#[test]
fn the_fixtures_have_every_field_of_every_table() {
    let mut seen = BTreeSet::new();
    for (path, value) in raw("whole").into_iter().chain(raw("cli-input")) {
        let word = value.get("kind").and_then(Value::as_str).map(str::to_owned);
        let word = word.unwrap_or_else(|| {
            path.rsplit_once("create-")
                .unwrap()
                .1
                .trim_end_matches(".json")
                .to_owned()
        });
        note(Kind::from_word(&word).unwrap().shape(), &value, &mut seen);
    }
    let mut all = BTreeSet::new();
    for kind in Kind::ALL {
        collect(kind.shape(), &mut all);
    }
    // They belong to a call of the API and are the same everywhere; some fixtures have them.
    let missing: Vec<_> = all
        .difference(&seen)
        .filter(|(_, key)| !["clientToken", "dryRun"].contains(key))
        .collect();
    assert_eq!(missing, Vec::<&(&str, &str)>::new());
}

type Keys = BTreeSet<(&'static str, &'static str)>;

fn collect(shape: &'static Shape, all: &mut Keys) {
    for field in shape.fields {
        if all.insert((shape.name, field.key))
            && let Some(inner) = inner(&field.takes)
        {
            collect(inner, all);
        }
    }
}

fn inner(takes: &Type) -> Option<&'static Shape> {
    match takes {
        Type::Object(shape) => Some(shape),
        Type::List(item, ..) => inner(item),
        _ => None,
    }
}

fn note(shape: &'static Shape, value: &Value, seen: &mut Keys) {
    for field in shape.fields {
        let Some(value) = value.get(field.key) else {
            continue;
        };
        seen.insert((shape.name, field.key));
        if let Some(shape) = inner(&field.takes) {
            match value {
                Value::Array(items) => items.iter().for_each(|item| note(shape, item, seen)),
                value => note(shape, value, seen),
            }
        }
    }
}

/// One fault at one place.
struct Fault {
    what: String,
    value: Value,
}

#[test]
fn every_planted_fault_fails_in_both() {
    let mut planted = 0;
    for document in whole() {
        let kind = document.kind();
        let validator = validator(kind);
        for fault in faults(kind.shape(), &document.to_document()) {
            planted += 1;
            assert!(
                !validator.is_valid(&fault.value),
                "the schema of {kind} takes {}: {}",
                fault.what,
                fault.value
            );
            let (documents, diagnostics) = load_text(
                &fixture("whole/fault.json"),
                &fault.value.to_string(),
                &Default::default(),
            );
            assert!(
                diagnostics.has_errors() && documents.is_empty(),
                "the reader of {kind} takes {}: {}",
                fault.what,
                fault.value
            );
            let first = diagnostics.iter().next().unwrap();
            assert!(first.expected.is_some() || first.hint.is_some(), "{first}");
        }
    }
    // A change that plants nothing would otherwise look like success.
    assert!(planted > 500, "{planted} faults");
}

/// Every fault that a table forbids, each planted alone.
fn faults(shape: &'static Shape, value: &Value) -> Vec<Fault> {
    let Value::Object(map) = value else {
        return Vec::new();
    };
    let mut faults = Vec::new();
    let mut plant = |what: String, map: Map<String, Value>| {
        faults.push(Fault {
            what,
            value: Value::Object(map),
        });
    };
    for field in shape.fields {
        let Some(present) = map.get(field.key) else {
            continue;
        };
        let mut misspelt = map.clone();
        misspelt.remove(field.key);
        misspelt.insert(format!("{}s", field.key), present.clone());
        // A document whose kind cannot be guessed is another fault.
        if field.key != "kind" {
            plant(format!("a misspelt {}", field.key), misspelt);
        }
        if field.required {
            let mut without = map.clone();
            without.remove(field.key);
            plant(format!("no {}", field.key), without);
        }
        for (what, bad) in bad_values(field, present) {
            let mut map = map.clone();
            map.insert(field.key.to_owned(), bad);
            plant(format!("{what} in {}", field.key), map);
        }
    }
    for rule in shape.rules {
        if let Rule::ExactlyOne(keys) | Rule::AtMostOne(keys) = rule {
            let mut both = map.clone();
            for key in *keys {
                both.entry(*key).or_insert_with(|| json!("x"));
            }
            plant(format!("all of {keys:?}"), both);
        }
        if let Rule::ExactlyOne(keys) | Rule::AtLeastOne(keys) = rule {
            let mut none = map.clone();
            keys.iter().for_each(|key| {
                none.remove(*key);
            });
            plant(format!("none of {keys:?}"), none);
        }
        if let Rule::Needs(one, other) = rule
            && map.contains_key(*one)
        {
            let mut alone = map.clone();
            alone.remove(*other);
            plant(format!("{one} without {other}"), alone);
        }
    }
    faults
}

fn bad_values(field: &Field, present: &Value) -> Vec<(String, Value)> {
    let mut bad = wrong(&field.takes);
    match (&field.takes, present) {
        (Type::Object(shape), value) => {
            bad.extend(
                faults(shape, value)
                    .into_iter()
                    .map(|fault| (fault.what, fault.value)),
            );
        }
        (Type::List(Type::Object(shape), ..), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                for fault in faults(shape, item) {
                    let mut items = items.clone();
                    items[index] = fault.value;
                    bad.push((fault.what, Value::Array(items)));
                }
            }
        }
        _ => {}
    }
    bad
}

/// Values that a type must refuse.
fn wrong(takes: &Type) -> Vec<(String, Value)> {
    let named = |what: &str, value: Value| (what.to_owned(), value);
    match takes {
        Type::Text(limits) | Type::Checked(limits, _) => {
            let mut bad = wrong_text(limits);
            bad.push(named("a list", json!(["x"])));
            bad.push(named("a map", json!({"x": 1})));
            bad
        }
        Type::Reference(_) => vec![
            named("a list", json!(["x"])),
            named("a bad version", json!("name/1.x.8")),
            named("nothing", json!("")),
        ]
        .into_iter()
        .filter(|(_, value)| {
            !matches!(
                takes,
                Type::Reference(crate::documents::reference::Refers::ComponentFile)
            ) || *value != json!("name/1.x.8")
        })
        .collect(),
        Type::Integer(least, most) => {
            let mut bad = vec![
                named("a word", json!("many")),
                named("a fraction", json!(1.5)),
            ];
            if *least > i64::MIN {
                bad.push(named("too little", json!(least - 1)));
            }
            if *most < i64::MAX {
                bad.push(named("too much", json!(most + 1)));
            }
            bad
        }
        Type::Boolean => vec![
            named("a word", json!("maybe")),
            named("a list", json!([true])),
        ],
        Type::Word(_) => vec![
            named("an unknown word", json!("NO_SUCH_WORD")),
            named("a map", json!({})),
        ],
        Type::List(item, least, most) => {
            let mut bad = vec![named("a word", json!("x"))];
            if *least > 0 {
                bad.push(named("no items", json!([])));
            }
            if *most < 100 {
                let good = json!({"x": 1});
                bad.push(named("too many items", Value::Array(vec![good; most + 1])));
            }
            bad.extend(
                wrong(item)
                    .into_iter()
                    .map(|(what, value)| (format!("{what} as an item"), json!([value]))),
            );
            bad
        }
        Type::Object(_) => vec![named("a word", json!("x")), named("a list", json!([1]))],
        Type::Map(limits) => {
            let many: Map<String, Value> = (0..=limits.most)
                .map(|n| (format!("k{n}"), json!("v")))
                .collect();
            vec![
                named("a list", json!([1])),
                named("no entries", json!({})),
                named("too many entries", Value::Object(many)),
                named("a reserved key", json!({"aws:x": "v"})),
                named("a bad key", json!({"k?": "v"})),
                named("a long value", json!({"k": "v".repeat(257)})),
                named("a list as a value", json!({"k": ["v"]})),
            ]
        }
        Type::Values(_) => vec![
            named("a map", json!({"x": 1})),
            named("a NUL", json!(["a\0b"])),
        ],
        Type::Free => Vec::new(),
    }
}

fn wrong_text(limits: &Text) -> Vec<(String, Value)> {
    let mut bad = Vec::new();
    if limits.shortest > 0 {
        bad.push(("nothing".to_owned(), json!("")));
    }
    if limits.longest != ANY {
        bad.push((
            "too long a text".to_owned(),
            json!("a".repeat(limits.longest.max(limits.longest_from_file.unwrap_or(0)) + 1)),
        ));
    }
    if let Some(pattern) = limits.pattern {
        let strange = ["\u{1}?\u{7f}", "a\0b"]
            .into_iter()
            .find(|text| !pattern.fits(text));
        bad.extend(strange.map(|text| ("a strange text".to_owned(), json!(text))));
    }
    bad
}

/// Lookahead, classes and escapes mean the same in the reader's and in the schema's expressions.
#[test]
fn every_pattern_compiles() {
    fn check(takes: &Type, seen: &mut usize) {
        let limits = match takes {
            Type::Text(limits) | Type::Checked(limits, _) | Type::Values(limits) => vec![*limits],
            Type::Map(map) => vec![map.key, map.value],
            Type::List(item, ..) => return check(item, seen),
            Type::Object(shape) => {
                return shape
                    .fields
                    .iter()
                    .for_each(|field| check(&field.takes, seen));
            }
            _ => return,
        };
        for pattern in limits.iter().filter_map(|limits| limits.pattern) {
            *seen += 1;
            assert!(pattern.compiles(), "{}", pattern.ecma());
        }
    }
    let mut seen = 0;
    for kind in Kind::ALL {
        kind.shape()
            .fields
            .iter()
            .for_each(|field| check(&field.takes, &mut seen));
    }
    assert!(seen > 50, "{seen}");
}
