//! Documents that are run for real, with what has to come out of them.
//!
//! The cases stand in `tests/cases/*.case`: a line `=== name`, the document, a line `=>`, and expectations, one a line:
//!
//! - `run success|failed`: status of the run
//! - `step PHASE.STEP STATUS`: status of a step in detailedoutput.json; `none` when it did not run
//! - `output PHASE.STEP.FIELD TEXT`: an output, JSON-escaped
//! - `message PHASE.STEP TEXT`: a part of the failure message
//! - `file PATH TEXT`: content of a file below the case's folder, JSON-escaped; `absent PATH`; `mode PATH OCTAL`
//! - `console TEXT`: a part of console.log; `quiet TEXT`: no part of it
//!
//! A name that ends with `(steps)` has only the steps of a build phase as its document. `@dir@` stands for the case's
//! folder. A reboot that the run asks for is answered by starting it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ovenbird_agent::config::{DocumentEntry, RESTART_LIMIT, RunConfig};
use ovenbird_agent::{Outcome, run};
use ovenbird_component::action::{ACTIONS, Platform};
use serde_json::Value;

struct Ran {
    status: String,
    detailed: Value,
    console: String,
    folder: PathBuf,
}

fn run_case(folder: &Path, document: &str) -> Ran {
    let path = folder.join("case.yml");
    std::fs::write(&path, document).expect("document");
    std::fs::create_dir_all(folder.join("work")).expect("work");
    let config = RunConfig {
        documents: vec![DocumentEntry {
            path: path.display().to_string(),
            parameters: Vec::new(),
            carried_from: None,
        }],
        log_directory: Some(folder.join("logs")),
        state_directory: Some(folder.join("state")),
        working_directory: Some(folder.join("work")),
        execution_id: Some(format!(
            "case-{}",
            folder.file_name().expect("name").display()
        )),
        restart_limit: RESTART_LIMIT,
        parameters: BTreeMap::from([("Passed".to_owned(), "from outside".to_owned())]),
        secrets: BTreeMap::from([("/secret".to_owned(), "hunter2hunter2".to_owned())]),
        stored_values: BTreeMap::from([("/plain".to_owned(), "visible".to_owned())]),
        ..RunConfig::default()
    };
    let summary = loop {
        match run(&config, None).expect("a run") {
            Outcome::Finished(summary) => break summary,
            Outcome::Reboot { .. } => {}
        }
    };
    let read =
        |name: &str| std::fs::read_to_string(Path::new(&summary.log_url).join(name)).expect(name);
    assert!(
        !folder.join("state/state.json").exists(),
        "the state is removed after a run"
    );
    Ran {
        status: summary.status.word().to_owned(),
        detailed: serde_json::from_str(&read("detailedoutput.json")).expect("JSON"),
        console: read("console.log"),
        folder: folder.to_owned(),
    }
}

impl Ran {
    fn step(&self, path: &str) -> Option<&Value> {
        let (phase, step) = path.split_once('.')?;
        let named = |list: &'_ Value, name: &str| -> Option<usize> {
            list.as_array()?
                .iter()
                .position(|item| item["name"] == name)
        };
        let phases = &self.detailed["documents"][0]["phases"];
        let steps = &phases[named(phases, phase)?]["steps"];
        Some(&steps[named(steps, step)?])
    }

    fn outputs(&self, step: &str) -> Value {
        let text = self
            .step(step)
            .and_then(|step| step["outputs"].as_str())
            .unwrap_or("[]");
        serde_json::from_str(text).expect("outputs are JSON")
    }

    /// What is wrong with one expectation.
    fn check(&self, line: &str) -> Option<String> {
        let (word, rest) = line.split_once(' ').expect("a word and more");
        let (subject, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let unescape = |text: &str| {
            serde_json::from_str::<String>(&format!("\"{text}\"")).expect("escaped text")
        };
        let (found, wanted) = match word {
            "run" => (self.status.clone(), subject.to_owned()),
            "step" => {
                let status = self
                    .step(subject)
                    .map_or("none", |step| step["status"].as_str().unwrap_or("none"));
                (status.to_owned(), text.to_owned())
            }
            "output" => {
                let (step, field) = subject.rsplit_once('.').expect("a field");
                let values: Vec<String> = self
                    .outputs(step)
                    .as_array()
                    .expect("a list")
                    .iter()
                    .map(|object| object[field].as_str().unwrap_or("?").to_owned())
                    .collect();
                (values.join("|"), unescape(text))
            }
            "message" => {
                let message = self
                    .step(subject)
                    .and_then(|step| step["failureMessage"].as_str())
                    .unwrap_or("");
                return (!message.contains(text))
                    .then(|| format!("{line}: the message is `{message}`"));
            }
            "file" => (
                std::fs::read_to_string(self.folder.join(subject))
                    .unwrap_or_else(|error| error.to_string()),
                unescape(text),
            ),
            "absent" => (
                std::fs::symlink_metadata(self.folder.join(subject))
                    .is_ok()
                    .to_string(),
                "false".to_owned(),
            ),
            "mode" => {
                let mode = std::fs::metadata(self.folder.join(subject))
                    .map_or(0, |found| found.permissions().mode());
                (format!("{:o}", mode & 0o7777), text.to_owned())
            }
            "console" => {
                return (!self.console.contains(rest))
                    .then(|| format!("{line}: not in the console log:\n{}", self.console));
            }
            "quiet" => {
                return self
                    .console
                    .contains(rest)
                    .then(|| format!("{line}: in the console log:\n{}", self.console));
            }
            _ => panic!("unknown expectation {line}"),
        };
        (found != wanted).then(|| format!("{line}: found `{}`", found.escape_debug()))
    }
}

/// Inputs and outputs that runs have used, as `Module.input` and `Module>output`, and operators of assertions by name.
type Used = BTreeSet<String>;

impl Ran {
    fn collect_used(&self, used: &mut Used) {
        let phases = self.detailed["documents"][0]["phases"].as_array();
        for step in phases
            .into_iter()
            .flatten()
            .filter_map(|phase| phase["steps"].as_array())
            .flatten()
        {
            let action = step["action"].as_str().expect("an action");
            let list = |field: &str| -> Vec<Value> {
                serde_json::from_str(step[field].as_str().unwrap_or("[]")).expect("a list")
            };
            used.insert(action.to_owned());
            for input in list("inputs") {
                if action == "Assert" {
                    collect_keys(&input, used);
                } else {
                    let keys = input.as_object().into_iter().flatten();
                    used.extend(keys.map(|(key, _)| format!("{action}.{key}")));
                }
            }
            for output in list("outputs") {
                let keys = output.as_object().into_iter().flatten();
                used.extend(keys.map(|(key, _)| format!("{action}>{key}")));
            }
        }
    }
}

fn collect_keys(value: &Value, keys: &mut Used) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                keys.insert(key.clone());
                collect_keys(inner, keys);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_keys(item, keys)),
        _ => {}
    }
}

fn run_file(name: &str) -> Used {
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/cases")
            .join(name),
    )
    .expect("cases");
    let mut used = Used::new();
    let mut wrong = String::new();
    let mut count = 0;
    for (index, part) in text.split("=== ").skip(1).enumerate() {
        let (head, rest) = part.split_once('\n').expect("a name line");
        let (document, expected) = rest
            .split_once("\n=>\n")
            .unwrap_or_else(|| panic!("no => in {head}"));
        let folder = tempfile::Builder::new()
            .prefix(&format!("case{index}-"))
            .tempdir()
            .expect("folder");
        let dir = folder.path().display().to_string();
        let document = document.replace("@dir@", &dir);
        let document = if head.trim().ends_with("(steps)") {
            let body: String = document
                .lines()
                .map(|line| format!("      {line}\n"))
                .collect();
            format!("schemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n{body}")
        } else {
            document
        };
        let ran = run_case(folder.path(), &document);
        ran.collect_used(&mut used);
        for line in expected
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
        {
            if let Some(problem) = ran.check(&line.replace("@dir@", &dir)) {
                let _ = writeln!(wrong, "## {head}\n{problem}\n");
            }
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(count > 5, "only {count} cases in {name}");
    used
}

/// What needs a server or another machine, and the test file that has it.
const ELSEWHERE: [(&str, &str, &str); 13] = [
    ("WebDownload", "", "web.rs"),
    ("WebDownload", ".source", "web.rs"),
    ("WebDownload", ".destination", "web.rs"),
    ("WebDownload", ".overwrite", "web.rs"),
    ("WebDownload", ".checksum", "web.rs"),
    ("WebDownload", ".algorithm", "web.rs"),
    ("WebDownload", ".ignoreCertificateErrors", "web.rs"),
    ("WebDownload", ">destination", "web.rs"),
    ("S3Download", ".expectedBucketOwner", "web.rs"),
    ("S3Upload", ".expectedBucketOwner", "web.rs"),
    ("UpdateOS", "", "machine.rs"),
    ("UpdateOS", ".include", "machine.rs"),
    ("UpdateOS", ".exclude", "machine.rs"),
];

#[test]
fn every_case_ends_as_expected_and_nothing_of_the_language_is_left_out() {
    let files = [
        "programs.case",
        "files.case",
        "folders.case",
        "semantics.case",
        "references.case",
        "complete.case",
        "failures.case",
    ];
    let mut used = Used::new();
    std::thread::scope(|scope| {
        let runs = files.map(|name| scope.spawn(move || run_file(name)));
        for run in runs {
            match run.join() {
                Ok(found) => used.extend(found),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    for (module, part, file) in ELSEWHERE {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests")
            .join(file);
        let text = std::fs::read_to_string(path).expect("a test file");
        let word = part.trim_start_matches(['.', '>']);
        assert!(
            text.contains(module) && text.contains(word),
            "{module}{part}"
        );
        used.insert(format!("{module}{part}"));
    }
    let mut wanted = Used::new();
    for spec in ACTIONS.iter().filter(|spec| spec.runs_on(Platform::Linux)) {
        wanted.insert(spec.name.to_owned());
        let name = spec.name;
        wanted.extend(
            spec.inputs
                .iter()
                .map(|input| format!("{name}.{}", input.name)),
        );
        wanted.extend(spec.outputs.iter().map(|output| format!("{name}>{output}")));
    }
    wanted.extend(OPERATORS.map(|operator| operator.to_owned()));
    let missing: Vec<_> = wanted.difference(&used).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

/// As the reference lists them.
const OPERATORS: [&str; 23] = [
    "and",
    "or",
    "not",
    "stringIsEmpty",
    "stringIsWhitespace",
    "stringEquals",
    "stringLessThan",
    "stringLessThanEquals",
    "stringGreaterThan",
    "stringGreaterThanEquals",
    "patternMatches",
    "numberEquals",
    "numberLessThan",
    "numberLessThanEquals",
    "numberGreaterThan",
    "numberGreaterThanEquals",
    "binaryExists",
    "fileExists",
    "folderExists",
    "fileMD5Equals",
    "fileSHA1Equals",
    "fileSHA256Equals",
    "fileSHA512Equals",
];
