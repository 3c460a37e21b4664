//! Orders that cannot be carried out, and states that cannot be gone on with.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn agent(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ovenbird-agent"));
    command.args(arguments).current_dir(folder);
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// A document of one step in a folder.
fn folder(commands: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(
        folder.path().join("a.yml"),
        format!("schemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n      - {{name: A, action: ExecuteBash, inputs: {{commands: ['{commands}']}}}}\n"),
    )
    .expect("document");
    folder
}

const RUN: [&str; 9] = [
    "run",
    "-d",
    "a.yml",
    "-l",
    "logs",
    "-s",
    "state",
    "--working-directory",
    ".",
];

#[test]
fn what_is_in_the_way_is_named() {
    let folder = folder("true");
    let dir = folder.path();
    std::fs::write(dir.join("list.json"), r#"{"documents": 5}"#).expect("file");
    std::fs::write(dir.join("file"), "").expect("file");
    std::fs::create_dir(dir.join("broken")).expect("folder");
    std::fs::write(dir.join("broken/state.json"), "{").expect("file");
    std::fs::create_dir(dir.join("newer")).expect("folder");
    std::fs::write(dir.join("newer/state.json"), r#"{"version": 99}"#).expect("file");
    let cases: [(&[&str], &str); 6] = [
        (&["run", "-c", "gone.json"], "cannot read gone.json"),
        (
            &["run", "-c", "list.json"],
            "list.json is not a configuration",
        ),
        (
            &["run", "-d", "a.yml", "-l", "file/logs"],
            "cannot use the log folder",
        ),
        (
            &["run", "-d", "a.yml", "-l", "logs", "-s", "file/state"],
            "cannot use the state in file/state",
        ),
        (
            &["run", "-d", "a.yml", "-l", "logs", "-s", "broken"],
            "is not the state of a run",
        ),
        (
            &["run", "-d", "a.yml", "-l", "logs", "-s", "newer"],
            "is not the state of a run",
        ),
    ];
    for (arguments, wanted) in cases {
        let output = agent(dir, arguments).output().expect("ran");
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            text(&output)
        );
        assert!(
            text(&output).contains(wanted),
            "{arguments:?}: {}",
            text(&output)
        );
    }
}

#[test]
fn phases_that_a_document_does_not_have_are_told_and_no_failure() {
    let folder = folder("true");
    let output = agent(
        folder.path(),
        &["run", "-d", "a.yml", "-l", "logs", "-p", "test", "-t"],
    )
    .output()
    .expect("ran");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(
        text(&output).contains("has none of the phases test"),
        "{}",
        text(&output)
    );
    assert!(
        text(&output).contains("\"executedStepCount\": 0"),
        "{}",
        text(&output)
    );
}

/// A copy in the log folder stands in for the document after a restart, so it must be what it was.
#[test]
fn a_run_goes_on_only_with_the_document_that_it_began_with() {
    for (change, wanted) in [
        ("rm logs/TOE_*/D0__a.yml", "is gone"),
        (
            "for copy in logs/TOE_*/D0__a.yml; do echo >> \"$copy\"; done",
            "was changed during the run",
        ),
    ] {
        let folder = folder("exit 194");
        let first = agent(folder.path(), &RUN).output().expect("ran");
        assert_eq!(first.status.code(), Some(194), "{}", text(&first));
        let changed = Command::new("sh")
            .args(["-c", change])
            .current_dir(folder.path())
            .status()
            .expect("ran");
        assert!(changed.success());
        let second = agent(folder.path(), &RUN).output().expect("ran");
        assert_ne!(second.status.code(), Some(0), "{change}");
        assert!(
            text(&second).contains(wanted),
            "{change}: {}",
            text(&second)
        );
    }
}

#[test]
fn an_agent_that_is_told_to_end_says_that_the_run_can_go_on() {
    let folder = folder("touch begun; sleep 60");
    let mut child = agent(folder.path(), &RUN);
    let child = child
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    let started = Instant::now();
    while !folder.path().join("begun").exists() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "the step begins"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a number"));
    kill(pid, Signal::SIGTERM).expect("told");
    let output = child.wait_with_output().expect("ended");
    let wanted = "ended by signal 15; started again with the same state directory";
    assert!(text(&output).contains(wanted), "{}", text(&output));
}
