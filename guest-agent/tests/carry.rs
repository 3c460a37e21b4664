//! Phases that are run one after the other, each by a run of its own, with references between them.

use std::process::{Command, Output};

const DOCUMENT: &str = r#"
schemaVersion: 1.0
phases:
  - name: build
    steps:
      - name: Make
        action: ExecuteBash
        inputs: {commands: [echo from build]}
  - name: validate
    steps:
      - name: Look
        action: ExecuteBash
        inputs: {commands: ['[ "{{ build.Make.outputs.stdout }}" = "from build" ]']}
      - name: Say
        action: ExecuteBash
        inputs: {commands: ['echo "seen: {{ build.Make.outputs.stdout }}"']}
"#;

fn run(folder: &std::path::Path, phase: &str, carry: bool) -> Output {
    let mut documents = vec![serde_json::json!({ "path": folder.join("case.yml") })];
    if carry && phase == "validate" {
        // Another one before it: the steps find their own document.
        documents.insert(0, serde_json::json!({ "path": folder.join("other.yml") }));
        documents[1]["carriedFrom"] = folder.join("built").display().to_string().into();
    }
    let config = serde_json::json!({
        "documents": documents,
        "phases": phase,
        "stateDirectory": folder.join(if phase == "build" { "built" } else { "validated" }),
        "logDirectory": folder.join("logs"),
        // An id names the scratch folder too: two tests at once must not share it.
        "executionId": format!("{phase}-{}", folder.file_name().unwrap().display()),
        "carry": carry && phase == "build",
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_ovenbird-agent"))
        .arg("run")
        .arg("--config")
        .arg(folder.join("config.json"))
        .output()
        .unwrap()
}

fn counts(output: &Output) -> (u64, u64) {
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |name: &str| summary[name].as_u64().unwrap();
    (count("executedStepCount"), count("failedStepCount"))
}

fn document(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("case.yml"), text).unwrap();
    let other = "schemaVersion: 1.0\nphases:\n- name: validate\n  steps:\n  - {name: A, action: ExecuteBash, inputs: {commands: [echo other]}}\n";
    std::fs::write(folder.path().join("other.yml"), other).unwrap();
    folder
}

#[test]
fn a_later_phase_sees_what_an_earlier_run_left() {
    let folder = document(DOCUMENT);
    let built = run(folder.path(), "build", true);
    assert_eq!(counts(&built), (1, 0));
    let validated = run(folder.path(), "validate", true);
    // Only its own steps count.
    assert_eq!(counts(&validated), (3, 0));
    let said = std::fs::read_dir(folder.path().join("logs"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains("_validate-"))
        .map(|entry| std::fs::read_to_string(entry.path().join("console.log")).unwrap())
        .collect::<String>();
    assert!(said.contains("seen: from build"), "{said}");
}

#[test]
fn without_carrying_there_is_nothing_to_refer_to() {
    let folder = document(DOCUMENT);
    assert_eq!(counts(&run(folder.path(), "build", false)), (1, 0));
    let validated = run(folder.path(), "validate", false);
    assert!(!validated.status.success());
    let text = String::from_utf8_lossy(&validated.stdout).into_owned();
    assert!(text.contains("has not run in this run"), "{text}");
}
