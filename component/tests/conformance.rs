//! Documents and what validation has to say about them.
//!
//! The cases stand in `tests/cases/*.case`: a line `=== name`, the document, a line `=>`, and one line per expected
//! problem: `line:column severity code`. A name that ends with `(steps)` has only the steps of a build phase as its
//! document, and lines and columns count from there. Platforms come after `platforms:` in the name line.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use ovenbird_component::action::{ACTIONS, Platform};
use ovenbird_component::source::{Code, Diagnostic, Node, Severity, Source, parse_one};
use ovenbird_component::{Options, validate_bytes, validate_source};
use serde_json::Value;

/// Lines and columns that the wrapping of a `(steps)` case adds.
const PRELUDE: &str = "schemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n";
const INDENT: &str = "      ";

struct Case {
    name: String,
    document: String,
    expected: String,
    line_shift: u32,
    column_shift: u32,
    options: Options,
}

fn cases(text: &str) -> Vec<Case> {
    text.split("=== ")
        .skip(1)
        .map(|part| {
            let (head, rest) = part.split_once('\n').expect("a name line");
            let (document, expected) = rest
                .split_once("\n=>\n")
                .unwrap_or_else(|| panic!("no => in {head}"));
            let (name, platforms) = head.split_once(" platforms:").unwrap_or((head, "linux"));
            let platforms = platforms
                .split(',')
                .map(|word| Platform::from_word(word.trim()).expect("a platform"))
                .collect();
            let steps = name.trim().ends_with("(steps)");
            let document = if steps {
                let body: String = document
                    .lines()
                    .map(|line| format!("{INDENT}{line}\n"))
                    .collect();
                format!("{PRELUDE}{body}")
            } else {
                document.to_owned()
            };
            Case {
                name: name.trim().to_owned(),
                document,
                expected: expected.trim().to_owned(),
                line_shift: if steps { 4 } else { 0 },
                column_shift: if steps { 6 } else { 0 },
                options: Options {
                    platforms,
                    blocked_actions: vec!["Reboot".to_owned()]
                        .into_iter()
                        .filter(|_| name.contains("blocked"))
                        .collect(),
                    warnings: true,
                },
            }
        })
        .collect()
}

fn found(case: &Case) -> String {
    let source = Source::new("case.yml", case.document.as_str());
    let validated = validate_source(&source, &case.options);
    assert_eq!(
        validated.document.is_none(),
        validated.diagnostics.has_errors(),
        "{}",
        case.name
    );
    let mut lines = String::new();
    for item in &validated.diagnostics {
        assert!(!item.message.is_empty());
        assert_eq!(item.file, "case.yml");
        let _ = writeln!(
            lines,
            "{}:{} {} {}",
            item.line.saturating_sub(case.line_shift),
            item.column.saturating_sub(case.column_shift),
            item.severity,
            item.code
        );
    }
    lines.trim().to_owned()
}

/// All cases of all files, with the name of the file.
fn all_cases() -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("cases") {
        let path = entry.expect("entry").path();
        let text = std::fs::read_to_string(&path).expect("text");
        let file = path.file_name().expect("a name").display().to_string();
        all.extend(cases(&text).into_iter().map(|case| (file.clone(), case)));
    }
    all
}

#[test]
fn every_case_gives_exactly_the_expected_problems() {
    let mut wrong = String::new();
    for (file, case) in all_cases() {
        let found = found(&case);
        if found != case.expected {
            let _ = write!(
                wrong,
                "\n## {} in {file}\nexpected:\n{}\nfound:\n{found}\n",
                case.name, case.expected
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Problems whose documents are too large to stand in a case.
fn made_documents() -> Vec<(Code, Vec<u8>)> {
    let step = "{name: X, action: ExecuteBash, inputs: {commands: [a]}}";
    let small = format!("schemaVersion: 1\nphases: [{{name: build, steps: [{step}]}}]\n");
    let mut parameters = "schemaVersion: 1\nparameters:\n".to_owned();
    for index in 0..26 {
        let _ = writeln!(parameters, "  - Par{index}: {{type: string, default: x}}");
    }
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..8 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        let _ = writeln!(bomb, "a{level}: &a{level} [{items}]");
    }
    vec![
        (
            Code::DocumentTooLarge,
            format!("{small}{}\n", "#".repeat(70_000)).into_bytes(),
        ),
        (
            Code::TooManyParameters,
            format!("{parameters}phases: [{{name: build, steps: [{step}]}}]\n").into_bytes(),
        ),
        (Code::NestedTooDeeply, "[".repeat(1_000).into_bytes()),
        (Code::DocumentTooComplex, bomb.into_bytes()),
        (Code::NotUtf8, b"name: gr\xfc\xdfe\n".to_vec()),
    ]
}

#[test]
fn every_code_has_a_case_and_its_own_severity() {
    let mut seen = BTreeSet::new();
    let mut note = |item: &Diagnostic| {
        let code = Code::from_word(&item.code).unwrap_or_else(|| {
            panic!("`{}` is not in the list of codes", item.code);
        });
        assert_eq!(item.severity, code.severity(), "{code}");
        assert!(!item.message.is_empty(), "{code}");
        seen.insert(code);
    };
    for (_, case) in all_cases() {
        let source = Source::new("case.yml", case.document.as_str());
        validate_source(&source, &case.options)
            .diagnostics
            .iter()
            .for_each(&mut note);
    }
    for (code, bytes) in made_documents() {
        let found = validate_bytes("made.yml", &bytes, &Options::default()).diagnostics;
        assert!(
            found.iter().any(|item| item.code == code.word()),
            "{code}: {found}"
        );
        found.iter().for_each(&mut note);
    }
    let missing: Vec<&Code> = Code::ALL
        .iter()
        .filter(|code| !seen.contains(code))
        .collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

#[test]
fn codes_are_words_of_their_own() {
    let words: BTreeSet<&str> = Code::ALL.iter().map(|code| code.word()).collect();
    assert_eq!(words.len(), Code::ALL.len());
    for code in Code::ALL {
        let word = code.word();
        assert!(
            word.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
            "{word}"
        );
        assert!(code.about().ends_with('.'), "{word}");
    }
}

/// Places of the language where a key may stand, as `parameters[].*.type`; `*` is a name of the author's own.
fn keys(node: &Node, path: &str, keys: &mut BTreeSet<String>) {
    if let Some(items) = node.as_sequence() {
        for item in items {
            self::keys(item, &format!("{path}[]"), keys);
        }
    }
    for entry in node.as_mapping().map_or(&[][..], |map| &map.entries) {
        let own_name = path == "parameters[]" || path == "constants[]";
        let name = if own_name { "*" } else { &entry.key.text };
        let inner = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        keys.insert(inner.clone());
        self::keys(&entry.value, &inner, keys);
    }
}

/// The same, of the schema. Inputs and operators are looked after where documents run.
fn schema_keys(schema: &Value, all: &Value, path: &str, keys: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.trim_start_matches("#/$defs/");
        let conditions = name == "condition" || name == "guard";
        if !conditions {
            schema_keys(&all["$defs"][name], all, path, keys);
        } else if name == "guard" {
            keys.extend(["then", "else"].map(|key| format!("{path}.{key}")));
        }
        return;
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let place = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        keys.insert(place.clone());
        schema_keys(inner, all, &place, keys);
    }
    if schema["items"].is_object() {
        schema_keys(&schema["items"], all, &format!("{path}[]"), keys);
    }
    if schema["additionalProperties"].is_object() {
        keys.insert(format!("{path}.*"));
        schema_keys(
            &schema["additionalProperties"],
            all,
            &format!("{path}.*"),
            keys,
        );
    }
    for alternative in schema["oneOf"].as_array().into_iter().flatten() {
        schema_keys(alternative, all, path, keys);
    }
}

#[test]
fn every_field_stands_in_a_good_document_and_in_a_bad_one() {
    let schema = ovenbird_component::schema::document();
    let mut wanted = BTreeSet::new();
    schema_keys(&schema, &schema, "", &mut wanted);
    assert!(wanted.contains("phases[].steps[].loop.forEach.delimiter"));
    let (mut good, mut bad) = (BTreeSet::new(), BTreeSet::new());
    for (_, case) in all_cases() {
        let source = Source::new("case.yml", case.document.as_str());
        let errors = validate_source(&source, &case.options)
            .diagnostics
            .has_errors();
        if let (Some(node), _) = parse_one(&source) {
            keys(&node, "", if errors { &mut bad } else { &mut good });
        }
    }
    let missing: Vec<_> = wanted.difference(&good).collect();
    assert!(missing.is_empty(), "in no good document: {missing:?}");
    let missing: Vec<_> = wanted.difference(&bad).collect();
    assert!(missing.is_empty(), "in no bad document: {missing:?}");
}

/// Problems that an editor has to see as well. Others need to know more than a schema can: platforms, names, places.
const SEEN_BY_EDITORS: [Code; 14] = [
    Code::UnknownKey,
    Code::MissingKey,
    Code::SchemaVersion,
    Code::UnknownAction,
    Code::UnknownInput,
    Code::MissingInput,
    Code::UnknownOperator,
    Code::MissingOperator,
    Code::SeveralOperators,
    Code::MissingOperand,
    Code::SurplusOperand,
    Code::WrongArity,
    Code::BothLoops,
    Code::FlatParameter,
];

#[test]
fn the_schema_takes_good_documents_and_no_others() {
    let schema = ovenbird_component::schema::document();
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let (mut good, mut refused) = (0, BTreeSet::new());
    for (file, case) in all_cases() {
        let source = Source::new("case.yml", case.document.as_str());
        let (Some(node), _) = parse_one(&source) else {
            continue;
        };
        let found = validate_source(&source, &case.options).diagnostics;
        let json = node.to_json();
        if !found.has_errors() {
            let problem = validator
                .validate(&json)
                .err()
                .map(|problem| problem.to_string());
            assert_eq!(problem, None, "{} in {file}", case.name);
            good += 1;
            continue;
        }
        let codes: BTreeSet<Code> = found
            .iter()
            .filter_map(|item| Code::from_word(&item.code))
            .filter(|code| SEEN_BY_EDITORS.contains(code))
            // A reference to an input that is not there is no matter of form.
            .filter(|code| *code != Code::UnknownInput || file == "inputs.case")
            .collect();
        if !codes.is_empty() {
            assert!(
                !validator.is_valid(&json),
                "{} in {file}: {codes:?}",
                case.name
            );
            refused.extend(codes);
        }
    }
    assert!(good > 15, "only {good} good documents");
    assert_eq!(refused.len(), SEEN_BY_EDITORS.len(), "{refused:?}");
}

#[test]
fn every_module_is_refused_where_it_does_not_work() {
    for spec in ACTIONS {
        for platform in Platform::ALL {
            let document = format!(
                "schemaVersion: 1\nphases:\n  - name: build\n    steps:\n      - name: X\n        action: {}\n        inputs: {{}}\n",
                spec.name
            );
            let options = Options {
                platforms: vec![platform],
                ..Options::default()
            };
            let validated = validate_source(&Source::new("x", document), &options);
            let refused = validated
                .diagnostics
                .iter()
                .any(|item| item.code == "wrong-platform");
            assert_eq!(
                refused,
                !spec.runs_on(platform),
                "{} on {platform}",
                spec.name
            );
        }
    }
}

#[test]
fn every_required_input_is_required_and_every_input_known() {
    for spec in ACTIONS.iter().filter(|spec| !spec.inputs.is_empty()) {
        let list = spec.shape == ovenbird_component::action::Shape::List;
        let inputs = if list {
            "[{strange: 1}]"
        } else {
            "{strange: 1}"
        };
        let document = format!(
            "schemaVersion: 1\nphases:\n  - name: build\n    steps:\n      - name: X\n        action: {}\n        inputs: {inputs}\n",
            spec.name
        );
        let options = Options {
            platforms: vec![],
            ..Options::default()
        };
        let validated = validate_source(&Source::new("x", document), &options);
        let count = |code: &str| {
            validated
                .diagnostics
                .iter()
                .filter(|item| item.code == code)
                .count()
        };
        assert_eq!(count("unknown-input"), 1, "{}", spec.name);
        let required = spec.inputs.iter().filter(|input| input.required).count();
        assert_eq!(count("missing-input"), required, "{}", spec.name);
    }
}

#[test]
fn warnings_can_be_left_out() {
    let text = "schemaVersion: 1\nparameters: [{Unused: {type: string}}]\nphases:\n  - name: build\n    steps:\n      - {name: X, action: ExecuteBash, inputs: {commands: [a]}}\n";
    let source = Source::new("x", text);
    let with = validate_source(&source, &Options::default());
    assert_eq!(
        (with.diagnostics.errors(), with.diagnostics.warnings()),
        (0, 1)
    );
    let without = validate_source(
        &source,
        &Options {
            warnings: false,
            ..Options::default()
        },
    );
    assert!(without.diagnostics.is_empty() && without.document.is_some());
    assert!(
        with.diagnostics
            .iter()
            .all(|item| item.severity == Severity::Warning)
    );
}
