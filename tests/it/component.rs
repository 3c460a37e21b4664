//! Component documents without a guest.

use crate::setup;

#[test]
fn a_new_document_is_valid_and_runs_here() {
    let setup = setup::empty();
    setup.run(&["component", "new", "mine.yml"]).expect(0);
    setup.run(&["component", "validate", "mine.yml"]).expect(0);
    // What is there is never overwritten.
    setup.run(&["component", "new", "mine.yml"]).expect(4);
    let document = setup.file(
        "c.yml",
        "schemaVersion: 1.0\nphases:\n- name: build\n  steps:\n  - name: a\n    action: CreateFile\n    inputs: [{path: made, content: by the agent}]\n",
    );
    let ran = setup
        .run(&[
            "component",
            "run",
            document.as_str(),
            "--phases",
            "build",
            "--log-directory",
            "logs",
        ])
        .expect(0);
    let summary: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(summary["status"], "success");
    assert_eq!(summary["executedStepCount"], 1);
    setup.file("bad.yml", "schemaVersion: 1.0\nphases:\n- name: build\n  steps:\n  - name: a\n    action: ExecuteBash\n    inputs: {commands: [exit 3]}\n");
    setup
        .run(&["component", "run", "bad.yml", "--log-directory", "logs"])
        .expect(1);
    let schema = setup.run(&["component", "schema"]).expect(0).stdout;
    assert!(serde_json::from_str::<serde_json::Value>(&schema).unwrap()["$schema"].is_string());
}
