//! Documents and what validation has to say about them.
//!
//! The cases stand in `tests/cases/*.case`: a line `=== name`, the document, a line `=>`, and one line per expected
//! problem: `line:column severity code`. A name that ends with `(steps)` has only the steps of a build phase as its
//! document, and lines and columns count from there. Platforms come after `platforms:` in the name line.

use std::fmt::Write;
use std::path::Path;

use ovenbird_component::action::{ACTIONS, Platform};
use ovenbird_component::source::{Severity, Source};
use ovenbird_component::{Options, validate_source};

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

#[test]
fn every_case_gives_exactly_the_expected_problems() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut count = 0;
    let mut wrong = String::new();
    let mut codes = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("cases") {
        let path = entry.expect("entry").path();
        for case in cases(&std::fs::read_to_string(&path).expect("text")) {
            count += 1;
            let found = found(&case);
            codes.extend(
                found
                    .lines()
                    .filter_map(|line| line.rsplit(' ').next())
                    .map(str::to_owned),
            );
            if found != case.expected {
                let _ = write!(
                    wrong,
                    "\n## {} in {}\nexpected:\n{}\nfound:\n{found}\n",
                    case.name,
                    path.display(),
                    case.expected
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count > 60, "only {count} cases");
    assert!(codes.len() > 50, "only {} codes: {codes:?}", codes.len());
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

#[test]
fn large_documents_and_many_parameters_are_refused() {
    let filler = "#".repeat(70_000);
    let text = format!(
        "schemaVersion: 1\nphases:\n  - name: build\n    steps:\n      - {{name: X, action: ExecuteBash, inputs: {{commands: [a]}}}}\n{filler}\n"
    );
    let found = validate_source(&Source::new("x", text), &Options::default());
    assert!(
        found
            .diagnostics
            .iter()
            .any(|item| item.code == "document-too-large")
    );

    let mut text = "schemaVersion: 1\nparameters:\n".to_owned();
    for index in 0..26 {
        let _ = writeln!(text, "  - Par{index}: {{type: string, default: x}}");
    }
    text.push_str("phases:\n  - name: build\n    steps:\n      - {name: X, action: ExecuteBash, inputs: {commands: [a]}}\n");
    let found = validate_source(&Source::new("x", text), &Options::default());
    assert!(
        found
            .diagnostics
            .iter()
            .any(|item| item.code == "too-many-parameters")
    );
}
