//! The flags and the configuration file of the program, and how it ends.

#[allow(dead_code, reason = "other tests make it misbehave")]
mod server;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use server::{Answer, Server};

const SAY: &str = "schemaVersion: 1.0\nparameters: [{Word: {type: string, default: none}}]\nphases:\n  - name: build\n    steps: [{name: A, action: ExecuteBash, inputs: {commands: ['echo said {{ Word }}']}}]\n  - name: test\n    steps: [{name: B, action: ExecuteBash, inputs: {commands: ['echo tested']}}]\n";

fn agent(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ovenbird-agent"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("ran")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn summary(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(output)))
}

fn console(output: &Output) -> String {
    let folder = summary(output)["logUrl"]
        .as_str()
        .expect("a folder")
        .to_owned();
    std::fs::read_to_string(Path::new(&folder).join("console.log")).expect("a log")
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("say.yml"), SAY).expect("document");
    folder
}

#[test]
fn log_streams_are_accepted_and_not_sent() {
    let folder = folder();
    let dir = folder.path();
    std::fs::write(
        dir.join("config.json"),
        r#"{"documents": [{"path": "say.yml"}], "cwLogGroup": "g", "cwLogStream": "s", "cwLogRegion": "r", "cwIgnoreFailures": true}"#,
    )
    .expect("config");
    let by_flags = [
        "run",
        "-d",
        "say.yml",
        "--cw-log-group",
        "g",
        "--cw-log-stream",
        "s",
        "--cw-log-region",
        "r",
        "--cw-ignore-failures",
    ];
    for arguments in [&by_flags[..], &["run", "-c", "config.json"]] {
        let output = agent(dir, arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert!(console(&output).contains("Warning: log streams are not sent"));
    }
    let without = agent(dir, &["run", "-d", "say.yml"]);
    assert!(!console(&without).contains("log streams"));
}

#[test]
fn documents_and_configurations_come_from_web_servers() {
    let server = Server::start(|path, _| match path {
        "/say.yml" => Answer::ok(SAY),
        "/moved.yml" => Answer::redirect("/say.yml"),
        "/big.yml" => Answer::ok(&"#".repeat(200_000)),
        "/cut.yml" => Answer::cut(SAY, SAY.len() + 1),
        "/config.json" => Answer::ok(r#"{"documents": [{"path": "say.yml"}], "phases": "test"}"#),
        _ => Answer::status(404, "no"),
    });
    let folder = folder();
    let dir = folder.path();
    let cases = [
        ("/say.yml", 0, "success"),
        ("/moved.yml", 0, "success"),
        ("/none.yml", 1, "status 404"),
        ("/big.yml", 1, "larger than"),
        ("/cut.yml", 1, "cannot read the document"),
    ];
    for (path, code, wanted) in cases {
        let output = agent(dir, &["run", "-d", &server.url(path)]);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{path}: {}",
            text(&output)
        );
        assert!(text(&output).contains(wanted), "{path}: {}", text(&output));
        let checked = agent(dir, &["validate", "-d", &server.url(path)]);
        assert_eq!(
            checked.status.code(),
            Some(code),
            "{path}: {}",
            text(&checked)
        );
    }
    let output = agent(dir, &["run", "-c", &server.url("/config.json")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(console(&output).contains("tested") && !console(&output).contains("said"));
}

#[test]
fn every_key_of_the_configuration_is_obeyed_and_flags_win() {
    let folder = folder();
    let dir = folder.path();
    let config = serde_json::json!({
        "documents": [
            {"path": "say.yml", "parameters": [{"name": "Word", "value": "own"}]},
            {"path": "say.yml"},
        ],
        "parameters": [{"name": "Word", "value": "global"}, {"name": "Undeclared", "value": "x"}],
        "phases": "build",
        "executionId": "from-config",
        "logDirectory": dir.join("config-logs"),
        "stateDirectory": dir.join("config-state"),
        "workingDirectory": dir,
        "documentS3BucketOwner": "123456789012",
        "logS3BucketOwner": "123456789012",
        "logS3KeyPrefix": "p",
        "blockedActionModules": ["Reboot"],
        "restartLimit": 3,
        "trace": true,
    });
    std::fs::write(dir.join("config.json"), config.to_string()).expect("config");
    let output = agent(dir, &["run", "-c", "config.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let found = summary(&output);
    assert_eq!(found["executionId"], "from-config");
    assert_eq!(found["executedStepCount"], 2);
    assert!(
        found["logUrl"]
            .as_str()
            .expect("path")
            .contains("config-logs")
    );
    let log = console(&output);
    assert!(
        log.contains("said own") && log.contains("said global"),
        "{log}"
    );
    // `trace` repeats the log.
    assert!(String::from_utf8_lossy(&output.stderr).contains("said own"));

    let output = agent(
        dir,
        &[
            "run",
            "-c",
            "config.json",
            "-p",
            "test",
            "-i",
            "from-flag",
            "-l",
            "flag-logs",
        ],
    );
    let found = summary(&output);
    assert_eq!(found["executionId"], "from-flag");
    assert!(
        found["logUrl"]
            .as_str()
            .expect("path")
            .contains("flag-logs")
    );
    assert!(console(&output).contains("tested") && !console(&output).contains("said"));
}

#[test]
fn what_is_left_as_evidence_has_its_place() {
    let folder = folder();
    let dir = folder.path();
    std::fs::write(
        dir.join("leave.yml"),
        "name: leave\nschemaVersion: 1.0\nphases:\n- name: build\n  steps:\n  - name: Leave\n    action: ExecuteBash\n    \
         inputs: {commands: ['echo seen > \"${OVENBIRD_EVIDENCE:-.}/report.txt\"']}\n",
    )
    .expect("document");
    let run = |evidence: &std::path::Path| {
        let config = serde_json::json!({
            "documents": [{"path": "leave.yml"}], "logDirectory": dir.join("logs"), "workingDirectory": dir,
            "evidenceDirectory": evidence,
        });
        std::fs::write(dir.join("config.json"), config.to_string()).expect("config");
        agent(dir, &["run", "-c", "config.json"])
    };
    let output = run(&dir.join("evidence"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let report = std::fs::read_to_string(dir.join("evidence/report.txt"));
    assert_eq!(report.expect("the report"), "seen\n");
    // A place that can't be is told.
    let output = run(&dir.join("leave.yml/evidence"));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("cannot make "), "{}", text(&output));
    assert!(
        text(&output).contains("leave.yml/evidence"),
        "{}",
        text(&output)
    );
}

#[test]
fn validation_knows_the_platform_and_several_documents() {
    let folder = folder();
    let dir = folder.path();
    std::fs::write(
        dir.join("windows.yml"),
        "schemaVersion: 1.0\nphases:\n  - name: build\n    steps: [{name: A, action: ExecutePowerShell, inputs: {commands: [dir]}}]\n",
    )
    .expect("document");
    let cases = [
        ("say.yml", "linux", 0),
        ("say.yml", "darwin", 0),
        ("say.yml", "linux,darwin", 0),
        ("say.yml", "windows", 1),
        ("windows.yml", "windows", 0),
        ("windows.yml", "linux,windows", 1),
        ("say.yml,windows.yml", "linux", 1),
    ];
    for (documents, platforms, code) in cases {
        let output = agent(
            dir,
            &["validate", "-d", documents, "--os-platforms", platforms],
        );
        assert_eq!(
            output.status.code(),
            Some(code),
            "{documents} {platforms}: {}",
            text(&output)
        );
    }
    assert_eq!(
        agent(dir, &["validate", "-d", "windows.yml"]).status.code(),
        Some(1)
    );
}

#[test]
fn a_step_that_always_asks_for_a_reboot_fails_at_the_limit() {
    let folder = folder();
    let dir = folder.path();
    std::fs::write(
        dir.join("case.yml"),
        "schemaVersion: 1.0\nphases:\n  - name: build\n    steps: [{name: A, action: ExecuteBash, inputs: {commands: ['exit 194']}}]\n",
    )
    .expect("document");
    let arguments = [
        "run",
        "-d",
        "case.yml",
        "-s",
        "state",
        "--restart-limit",
        "3",
    ];
    let codes: Vec<_> = (0..4)
        .map(|_| agent(dir, &arguments).status.code().expect("a code"))
        .collect();
    assert_eq!(codes, [194, 194, 194, 1]);
    // Nothing is left, so this is a new run.
    assert_eq!(agent(dir, &arguments).status.code(), Some(194));
    let stateless = agent(dir, &["run", "-d", "case.yml"]);
    assert_eq!(stateless.status.code(), Some(1));
    assert!(text(&stateless).contains("without a state directory"));
}

#[test]
fn an_agent_that_is_told_to_end_writes_its_logs_and_can_go_on() {
    for signal in ["TERM", "INT"] {
        let folder = folder();
        let dir = folder.path();
        std::fs::write(
            dir.join("case.yml"),
            "schemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n      - {name: A, action: ExecuteBash, inputs: {commands: ['echo first']}}\n      - {name: B, action: ExecuteBash, onFailure: Continue, maxAttempts: 3, inputs: {commands: ['echo in >> runs; test -e go && exit 0; sleep 60 & echo $! > pid; wait']}}\n      - {name: C, action: ExecuteBash, inputs: {commands: ['echo last >> runs']}}\n",
        )
        .expect("document");
        let arguments = [
            "run",
            "-d",
            "case.yml",
            "-s",
            "state",
            "-l",
            "logs",
            "--working-directory",
            ".",
        ];
        let child = Command::new(env!("CARGO_BIN_EXE_ovenbird-agent"))
            .args(arguments)
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let started = Instant::now();
        let pid = loop {
            match std::fs::read_to_string(dir.join("pid")) {
                Ok(pid) if pid.ends_with('\n') => break pid.trim().to_owned(),
                _ => assert!(started.elapsed() < Duration::from_secs(20), "no step"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let told = Command::new("kill")
            .args([&format!("-{signal}"), &child.id().to_string()])
            .status()
            .expect("kill");
        assert!(told.success());
        let output = child.wait_with_output().expect("ended");
        assert_eq!(
            output.status.code(),
            None,
            "ended by the signal: {}",
            text(&output)
        );
        assert!(
            text(&output).contains("ended by signal"),
            "{}",
            text(&output)
        );
        // The whole group is gone, not only the shell.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
        let logs = std::fs::read_dir(dir.join("logs"))
            .expect("logs")
            .next()
            .expect("a folder")
            .expect("entry")
            .path();
        let read = |name: &str| std::fs::read_to_string(logs.join(name)).expect(name);
        let detailed: serde_json::Value =
            serde_json::from_str(&read("detailedoutput.json")).expect("JSON");
        let steps = detailed["documents"][0]["phases"][0]["steps"].clone();
        assert_eq!(steps[0]["status"], "success", "{steps}");
        assert_ne!(steps[1]["status"], "failed", "cut off, not failed: {steps}");
        assert!(read("chaining.json").contains("first"));
        assert!(read("console.log").contains("TOE execution stopped"));
        // No other attempt and no later step ran.
        assert_eq!(
            std::fs::read_to_string(dir.join("runs")).expect("runs"),
            "in\n"
        );

        std::fs::write(dir.join("go"), "").expect("go");
        let again = agent(dir, &arguments);
        assert_eq!(again.status.code(), Some(0), "{}", text(&again));
        assert_eq!(summary(&again)["executedStepCount"], 3);
        assert_eq!(
            std::fs::read_to_string(dir.join("runs")).expect("runs"),
            "in\nin\nlast\n"
        );
    }
}
