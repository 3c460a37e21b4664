//! The program itself: killed in the middle of every kind of step, cut off from its reader, and its command line.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn agent() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ovenbird-agent"))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("folder")
}

/// The arguments of a run whose files all lie in one folder.
fn run_arguments(folder: &Path) -> Vec<String> {
    let at = |name: &str| folder.join(name).display().to_string();
    let words = [
        "run",
        "-d",
        &at("case.yml"),
        "-s",
        &at("state"),
        "-l",
        &at("logs"),
        "--working-directory",
        &at(""),
    ];
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn write_steps(folder: &Path, steps: &str) {
    let body: String = steps
        .replace("@dir@", &folder.display().to_string())
        .lines()
        .map(|line| format!("      {line}\n"))
        .collect();
    std::fs::write(
        folder.join("case.yml"),
        format!("schemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n{body}"),
    )
    .expect("document");
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{what} did not happen"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn summary(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}: {} {}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

fn kill(mut child: Child) {
    child.kill().expect("killed");
    child.wait().expect("waited for");
}

/// A step that blocks in the middle of `module` until a file appears, as far as the module allows, is killed there; the
/// second process has to end in the right place with the right result.
#[test]
fn a_killed_agent_goes_on_with_the_step_it_was_in() {
    let blocking = [
        (
            "ExecuteBash",
            "{commands: ['echo in >> @dir@/runs; while ! test -e @dir@/go; do sleep 0.05; done']}",
        ),
        (
            "ExecuteBinary",
            "{path: /bin/sh, arguments: ['-c', 'echo in >> @dir@/runs; while ! test -e @dir@/go; do sleep 0.05; done']}",
        ),
        // Reading a pipe blocks until somebody writes into it.
        (
            "CopyFile",
            "[{source: '@dir@/pipe', destination: '@dir@/copied'}]",
        ),
        ("ReadFile", "[{path: '@dir@/pipe'}]"),
        ("AppendFile", "[{path: '@dir@/pipe', content: x}]"),
        (
            "S3Download",
            "[{source: 'file://@dir@/pipe', destination: '@dir@/copied'}]",
        ),
    ];
    for (module, inputs) in blocking {
        let folder = folder();
        let dir = folder.path();
        let made = Command::new("mkfifo")
            .arg(dir.join("pipe"))
            .status()
            .expect("mkfifo");
        assert!(made.success());
        write_steps(
            dir,
            &format!(
                "- {{name: Before, action: ExecuteBash, inputs: {{commands: ['echo before >> @dir@/order']}}}}\n- {{name: Blocks, action: {module}, inputs: {inputs}}}\n- {{name: After, action: ExecuteBash, inputs: {{commands: ['echo after >> @dir@/order']}}}}"
            ),
        );
        let child = agent()
            .args(run_arguments(dir))
            .stdout(Stdio::null())
            .spawn()
            .expect("started");
        let in_step = || {
            std::fs::read_to_string(dir.join("state/state.json")).is_ok_and(|state| {
                state.matches("\"attempt\":1").count() == 2
                    && state.contains(r#""inputs":[{"shown""#)
            }) && (!module.starts_with("Execute") || dir.join("runs").exists())
        };
        wait_for(module, in_step);
        std::thread::sleep(Duration::from_millis(50));
        kill(child);
        std::fs::write(dir.join("go"), "").expect("go");
        std::fs::remove_file(dir.join("pipe")).expect("removed");
        std::fs::write(dir.join("pipe"), "content").expect("a plain file now");
        let output = agent().args(run_arguments(dir)).output().expect("ran");
        assert_eq!(
            output.status.code(),
            Some(0),
            "{module}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(summary(&output)["executedStepCount"], 3, "{module}");
        // Finished steps are not repeated, the interrupted one is, the rest follows.
        assert_eq!(
            std::fs::read_to_string(dir.join("order")).expect("order"),
            "before\nafter\n",
            "{module}"
        );
        if module.starts_with("Execute") {
            assert_eq!(
                std::fs::read_to_string(dir.join("runs")).expect("runs"),
                "in\nin\n"
            );
        }
        assert!(!dir.join("state/state.json").exists());
        let logs: Vec<PathBuf> = std::fs::read_dir(dir.join("logs"))
            .expect("logs")
            .map(|entry| entry.expect("entry").path())
            .collect();
        assert_eq!(logs.len(), 1, "both processes write into one log folder");
    }
}

#[test]
fn an_agent_killed_at_any_moment_ends_with_every_step_done_in_order() {
    let folder = folder();
    let dir = folder.path();
    let mut steps = String::new();
    for index in 0..12 {
        steps.push_str(&format!("- {{name: F{index}, action: CreateFile, inputs: [{{path: '@dir@/f{index}', content: done}}]}}\n"));
        steps.push_str(&format!("- {{name: S{index}, action: ExecuteBash, inputs: {{commands: ['sleep 0.02; test -e @dir@/f{index} && echo {index}']}}}}\n"));
    }
    write_steps(dir, &steps);
    let mut kills = 0;
    let output = loop {
        let child = agent()
            .args(run_arguments(dir))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        // A different moment every time; later ones get further, so this ends.
        std::thread::sleep(Duration::from_millis(20 + 37 * kills));
        let mut child = child;
        if child.try_wait().expect("status").is_some() {
            break child.wait_with_output().expect("output");
        }
        kill(child);
        kills += 1;
        assert!(kills < 60);
    };
    assert!(kills > 2, "the test killed nothing");
    let summary = summary(&output);
    assert_eq!(
        (
            summary["status"].as_str(),
            summary["executedStepCount"].as_u64()
        ),
        (Some("success"), Some(24))
    );
    for index in 0..12 {
        assert_eq!(
            std::fs::read_to_string(dir.join(format!("f{index}"))).expect("file"),
            "done"
        );
    }
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_run() {
    let folder = folder();
    let dir = folder.path();
    write_steps(
        dir,
        "- {name: A, action: ExecuteBash, inputs: {commands: ['for i in $(seq 2000); do echo line $i; done; touch @dir@/done']}}",
    );
    let mut child = agent()
        .args(run_arguments(dir))
        .arg("--events")
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut first = [0; 10];
    child
        .stdout
        .as_mut()
        .expect("piped")
        .read_exact(&mut first)
        .expect("the first event");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("ended").code(), Some(0));
    assert!(dir.join("done").exists());
}

#[test]
fn a_program_ends_with_the_agent_that_is_told_to_end() {
    let folder = folder();
    let dir = folder.path();
    write_steps(
        dir,
        "- {name: A, action: ExecuteBash, inputs: {commands: ['echo $$ > @dir@/pid.new; mv @dir@/pid.new @dir@/pid; sleep 60']}}",
    );
    let mut child = agent()
        .args(run_arguments(dir))
        .stdout(Stdio::null())
        .spawn()
        .expect("started");
    wait_for("the step", || dir.join("pid").exists());
    let pid = std::fs::read_to_string(dir.join("pid")).expect("pid");
    let told = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .expect("kill");
    assert!(told.success());
    assert_eq!(
        child.wait().expect("ended").code(),
        None,
        "ended by the signal"
    );
    let process = Path::new("/proc").join(pid.trim()).join("stat");
    wait_for("the end of the program", || {
        // Without a parent that waits for it, the ended program can stay as a zombie.
        std::fs::read_to_string(&process).map_or(true, |stat| stat.contains(") Z "))
    });
}

#[test]
fn reboots_end_with_their_own_code_and_events_say_why() {
    let folder = folder();
    let dir = folder.path();
    write_steps(
        dir,
        "- {name: A, action: Reboot, inputs: {delaySeconds: 7}}\n- {name: B, action: ExecuteBash, inputs: {commands: ['echo back']}}",
    );
    let output = agent()
        .args(run_arguments(dir))
        .arg("--events")
        .output()
        .expect("ran");
    assert_eq!(output.status.code(), Some(194));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.lines()
            .last()
            .expect("events")
            .contains("\"delaySeconds\":7"),
        "{text}"
    );
    assert_eq!(
        agent()
            .args(run_arguments(dir))
            .output()
            .expect("ran")
            .status
            .code(),
        Some(0)
    );
}

#[test]
fn a_new_execution_id_does_not_resume_an_old_run() {
    let folder = folder();
    let dir = folder.path();
    write_steps(
        dir,
        "- {name: A, action: ExecuteBash, inputs: {commands: ['echo run >> @dir@/runs']}}\n- {name: B, action: Reboot}",
    );
    for id in ["one", "two"] {
        let output = agent()
            .args(run_arguments(dir))
            .args(["--execution-id", id])
            .output()
            .expect("ran");
        assert_eq!(output.status.code(), Some(194));
    }
    assert_eq!(
        std::fs::read_to_string(dir.join("runs")).expect("runs"),
        "run\nrun\n"
    );
}

#[test]
fn secrets_show_up_nowhere() {
    const SECRET: &str = "sup3rs3cretvalue";
    let folder = folder();
    let dir = folder.path();
    write_steps(
        dir,
        "- {name: A, action: ExecuteBash, inputs: {commands: ['S=\"{{ aws:ssm:/db }}\"; echo \"$S\"; echo \"x${S}y\" >&2; echo \"$S\" | sha256sum; ps axww > @dir@/processes']}}\n- {name: B, action: CreateFile, inputs: [{path: '@dir@/made', content: '{{ build.A.outputs.stdout }}'}]}\n- {name: C, action: ExecuteBash, onFailure: Continue, inputs: {commands: ['echo {{ aws:ssm:/db }} >&2; exit 9']}}\n- {name: D, action: Reboot}",
    );
    let config = serde_json::json!({
        "documents": [{"path": dir.join("case.yml")}],
        "logDirectory": dir.join("logs"),
        "stateDirectory": dir.join("state"),
        "secrets": {"/db": SECRET},
    });
    std::fs::write(dir.join("config.json"), config.to_string()).expect("config");
    let output = agent()
        .args(["run", "--events", "--trace", "--config"])
        .arg(dir.join("config.json"))
        .output()
        .expect("ran");
    assert_eq!(
        output.status.code(),
        Some(194),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for (name, bytes) in [("events", output.stdout), ("trace", output.stderr)] {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.contains("********"), "{name} shows the mask");
        assert!(!text.contains(SECRET), "{name}: {text}");
    }
    // The state is checked while it exists, the logs as they are at the reboot.
    let mut files = vec![dir.join("state/state.json"), dir.join("processes")];
    let logs = std::fs::read_dir(dir.join("logs"))
        .expect("logs")
        .next()
        .expect("a log folder")
        .expect("entry")
        .path();
    files.extend(
        std::fs::read_dir(logs)
            .expect("files")
            .map(|entry| entry.expect("entry").path()),
    );
    assert!(files.len() >= 7, "{files:?}");
    for file in files {
        let text = String::from_utf8_lossy(&std::fs::read(&file).expect("read")).into_owned();
        assert!(!text.contains(SECRET), "{}", file.display());
    }
    // The step itself has seen the value.
    assert!(
        std::fs::read_to_string(dir.join("made"))
            .expect("made")
            .starts_with(SECRET)
    );
}

#[test]
fn the_command_line_refuses_what_makes_no_sense() {
    let folder = folder();
    let dir = folder.path();
    std::fs::write(dir.join("config.json"), r#"{"documents": []}"#).expect("config");
    let config = dir.join("config.json").display().to_string();
    std::fs::write(dir.join("bad.json"), r#"{"documnts": []}"#).expect("config");
    let bad = dir.join("bad.json").display().to_string();
    let cases: [(&[&str], i32, &str); 8] = [
        (&["run"], 2, "no documents are given"),
        (
            &["run", "-c", &config, "-d", "x.yml"],
            2,
            "use one of the two",
        ),
        (
            &["run", "-c", &config, "--parameters", "a=b"],
            2,
            "use one of the two",
        ),
        (&["run", "-c", &bad], 2, "unknown field `documnts`"),
        (
            &["run", "-d", "x.yml", "--parameters", "novalue"],
            2,
            "expected name=value",
        ),
        (&["validate", "-d", ""], 2, "names no document"),
        (
            &["validate", "-d", "x.yml", "--os-platforms", "beos"],
            2,
            "not a platform",
        ),
        (&["validate", "-d", "/no/such.yml"], 1, "cannot-read"),
    ];
    for (arguments, code, text) in cases {
        let output = agent()
            .args(arguments)
            .current_dir(dir)
            .output()
            .expect("ran");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        let all = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(all.contains(text), "{arguments:?}: {all}");
    }
}

#[test]
fn flags_reach_the_run() {
    let folder = folder();
    let dir = folder.path();
    std::fs::write(
        dir.join("case.yml"),
        "schemaVersion: 1.0\nparameters: [{Word: {type: string}}]\nphases:\n  - name: build\n    steps: [{name: A, action: ExecuteBash, inputs: {commands: ['echo {{ Word }}']}}]\n  - name: test\n    steps: [{name: B, action: Reboot}]\n",
    )
    .expect("document");
    let output = agent()
        .args(run_arguments(dir))
        .args([
            "-p",
            "build",
            "--parameters",
            "Word=hey",
            "-i",
            "my-id",
            "-t",
        ])
        .output()
        .expect("ran");
    assert_eq!(output.status.code(), Some(0));
    let summary = summary(&output);
    assert_eq!(
        (
            summary["executionId"].as_str(),
            summary["executedStepCount"].as_u64()
        ),
        (Some("my-id"), Some(1))
    );
    assert!(
        summary["logUrl"]
            .as_str()
            .expect("path")
            .ends_with("_UTC-0_my-id")
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("Stdout: hey"));
    let blocked = agent()
        .args(run_arguments(dir))
        .args([
            "--parameters",
            "Word=x",
            "--blocked-action-modules",
            "Reboot",
        ])
        .output()
        .expect("ran");
    assert_eq!(blocked.status.code(), Some(1));
    assert!(
        self::summary(&blocked)["failureMessage"]
            .as_str()
            .expect("text")
            .contains("blocked")
    );
    let json = agent()
        .args(["validate", "--json", "--os-platforms", "windows", "-d"])
        .arg(dir.join("case.yml"))
        .output()
        .expect("ran");
    let found: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(
        (json.status.code(), found[0]["code"].as_str()),
        (Some(1), Some("wrong-platform"))
    );
    let schema = agent().arg("schema").output().expect("ran");
    assert!(serde_json::from_slice::<serde_json::Value>(&schema.stdout).is_ok());
}

#[test]
fn several_documents_run_one_after_the_other_until_one_aborts() {
    let folder = folder();
    let dir = folder.path();
    let mut paths = Vec::new();
    for (name, second) in [("a", "true"), ("b", "false"), ("c", "true")] {
        let path = dir.join(format!("{name}.yml"));
        let step = |phase: &str, command: &str| {
            format!(
                "  - name: {phase}\n    steps: [{{name: X, action: ExecuteBash, inputs: {{commands: ['echo {name} {phase} >> {}/order', '{command}']}}}}]\n",
                dir.display()
            )
        };
        std::fs::write(
            &path,
            format!(
                "schemaVersion: 1.0\nphases:\n{}{}",
                step("build", "true"),
                step("validate", second)
            ),
        )
        .expect("document");
        paths.push(path.display().to_string());
    }
    let output = agent()
        .args(["run", "-p", "validate,build", "-d", &paths.join(","), "-l"])
        .arg(dir)
        .output()
        .expect("ran");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        std::fs::read_to_string(dir.join("order")).expect("order"),
        "a build\na validate\nb build\nb validate\n"
    );
    let summary = summary(&output);
    assert_eq!(
        (
            summary["executedStepCount"].as_u64(),
            summary["failedStepCount"].as_u64()
        ),
        (Some(4), Some(1))
    );
    assert!(
        summary["failureMessage"]
            .as_str()
            .expect("text")
            .starts_with(&format!("Document {} failed!", paths[1]))
    );
}
