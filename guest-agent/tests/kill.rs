//! The agent is killed in the middle of every module, started again with the same state folder, and has to end in the
//! right place: every iteration done, none but the interrupted one done twice, no leftovers.

mod namespace;
#[allow(dead_code, reason = "other tests make it misbehave")]
mod server;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use namespace::Instead;
use ovenbird_component::action::{ACTIONS, Platform};
use server::{Answer, Server};

/// A module and how to see that it went on where it was.
struct Case {
    module: &'static str,
    /// Iterations of the loop around it.
    count: u32,
    /// Shell commands that make what it works on; `$N` is the count.
    before: &'static str,
    inputs: &'static str,
    /// Shell commands that fail when something is not as it should be; `$KILLS` is the number of kills.
    after: &'static str,
    /// An output that has to have one line for each iteration.
    output: Option<&'static str>,
}

const fn case(
    module: &'static str,
    count: u32,
    before: &'static str,
    inputs: &'static str,
    after: &'static str,
) -> Case {
    Case {
        module,
        count,
        before,
        inputs,
        after,
        output: None,
    }
}

impl Case {
    const fn with_output(mut self, name: &'static str) -> Self {
        self.output = Some(name);
        self
    }
}

const FILES: &str = "mkdir s d; for i in $(seq $N); do echo $i > s/$i; done";
const FOLDERS: &str =
    "mkdir s d; for i in $(seq $N); do mkdir -p s/$i/in; echo $i > s/$i/in/f; done";
const ALL_FILES: &str =
    "test $(ls -A d | wc -l) = $N; for i in $(seq $N); do test \"$(cat d/$i)\" = $i; done";
const ALL_FOLDERS: &str =
    "test $(ls -A d | wc -l) = $N; for i in $(seq $N); do test \"$(cat d/$i/in/f)\" = $i; done";
/// Every number in order, and no more repetitions than there were kills.
const AT_LEAST_ONCE: &str =
    "seq $N > wanted; uniq runs | cmp - wanted; test $(wc -l < runs) -le $((N + KILLS))";

const CASES: [Case; 26] = [
    case("Assert", 300, ":", "{numberGreaterThan: 0, value: '{{ loop.value }}'}", ":"),
    case("ExecuteBash", 60, ":", "{commands: ['echo {{ loop.value }} >> runs; echo {{ loop.value }}']}", AT_LEAST_ONCE)
        .with_output("stdout"),
    case("ExecuteBinary", 60, ":", "{path: /bin/sh, arguments: ['-c', 'echo {{ loop.value }} >> runs; echo {{ loop.value }}']}", AT_LEAST_ONCE)
        .with_output("stdout"),
    case(
        "ExecuteDocument",
        30,
        "printf '%s\\n' 'schemaVersion: 1.0' 'parameters: [{Word: {type: string}}]' 'phases:' '  - name: build' '    steps:' \"      - {name: In, action: ExecuteBash, inputs: {commands: ['echo {{ Word }} >> runs']}}\" > inner.yml",
        "{document: inner.yml, parameters: [{name: Word, value: '{{ loop.value }}'}]}",
        AT_LEAST_ONCE,
    ),
    case("S3Download", 300, FILES, "[{source: 'file://@dir@/s/{{ loop.value }}', destination: d/}]", ALL_FILES),
    case("S3Upload", 300, FILES, "[{source: 's/{{ loop.value }}', destination: 'file://@dir@/d/'}]", ALL_FILES),
    case("WebDownload", 60, "mkdir d", "[{source: '@url@/{{ loop.value }}', destination: d/}]", ALL_FILES)
        .with_output("destination"),
    case("AppendFile", 300, "touch runs", "[{path: runs, content: \"{{ loop.value }}\\n\"}]", AT_LEAST_ONCE),
    case("CopyFile", 300, FILES, "[{source: 's/{{ loop.value }}', destination: d/}]", ALL_FILES),
    case("CopyFolder", 300, FOLDERS, "[{source: 's/{{ loop.value }}', destination: d/}]", ALL_FOLDERS),
    case("CreateFile", 300, "mkdir d", "[{path: 'd/{{ loop.value }}', content: '{{ loop.value }}', permissions: '0600'}]", ALL_FILES),
    case("CreateFolder", 300, "mkdir d", "[{path: 'd/{{ loop.value }}'}]", "test $(ls -A d | wc -l) = $N"),
    case("CreateSymlink", 300, "mkdir d; touch here", "[{path: 'd/{{ loop.value }}', target: '@dir@/here'}]", "test $(find d -type l | wc -l) = $N"),
    case("DeleteFile", 300, FILES, "[{path: 's/{{ loop.value }}'}]", "test $(ls -A s | wc -l) = 0"),
    case("DeleteFolder", 300, FOLDERS, "[{path: 's/{{ loop.value }}', force: true}]", "test $(ls -A s | wc -l) = 0"),
    case("ListFiles", 300, FILES, "[{path: s, fileNamePattern: '{{ loop.value }}'}]", ":").with_output("files"),
    case("MoveFile", 300, FILES, "[{source: 's/{{ loop.value }}', destination: d/}]", ALL_FILES),
    case("MoveFolder", 300, FOLDERS, "[{source: 's/{{ loop.value }}', destination: d/}]", ALL_FOLDERS),
    case("ReadFile", 300, FILES, "[{path: 's/{{ loop.value }}'}]", ":"),
    case("SetFileEncoding", 300, "mkdir d; for i in $(seq $N); do printf $i > d/$i; done", "[{path: 'd/{{ loop.value }}', encoding: utf8}]", ALL_FILES),
    case("SetFileOwner", 300, FILES, "[{path: 's/{{ loop.value }}', owner: '@uid@'}]", ":"),
    case("SetFolderOwner", 300, FOLDERS, "[{path: 's/{{ loop.value }}', owner: '@uid@'}]", ":"),
    case("SetFilePermissions", 300, FILES, "[{path: 's/{{ loop.value }}', permissions: '0604'}]", "test $(find s -type f -perm 604 | wc -l) = $N"),
    case("SetFolderPermissions", 300, FOLDERS, "[{path: 's/{{ loop.value }}', permissions: '0705'}]", "test $(find s -type f -perm 705 | wc -l) = $N"),
    // Each iteration ends the process by itself; the kill comes on top.
    case("Reboot", 6, ":", "{delaySeconds: 0}", ":"),
    // A package manager that takes its time and writes down what it was told.
    case("UpdateOS", 20, ":", "{include: ['package{{ loop.value }}']}", "grep -o 'package.*' calls | sed 's/package//' > runs; seq $N > wanted; uniq runs | cmp - wanted; test $(wc -l < runs) -le $((N + KILLS))"),
];

fn shell(dir: &Path, script: &str, case: &Case, kills: u32) -> Output {
    Command::new("bash")
        .args(["-ec", script])
        .current_dir(dir)
        .env("N", case.count.to_string())
        .env("KILLS", kills.to_string())
        .output()
        .expect("bash")
}

fn start(dir: &Path, case: &Case) -> Child {
    let mut command = if case.module == "UpdateOS" {
        let hidden = ["/usr/bin/apt-get", "/bin/apt-get"].map(|place| (place, Instead::NoProgram));
        let fakes = dir.join("fakes");
        namespace::program(
            &fakes.join("dnf"),
            &format!("sleep 0.02; echo \"$*\" >> {}/calls", dir.display()),
        );
        let mut places = vec![("/usr/local/sbin", Instead::Path(&fakes))];
        places.extend(hidden);
        namespace::agent(&places)
    } else {
        Command::new(env!("CARGO_BIN_EXE_ovenbird-agent"))
    };
    let at = |name: &str| dir.join(name).display().to_string();
    command
        .args(["run", "-d", &at("case.yml"), "-s", &at("state")])
        .args(["-l", &at("logs"), "--working-directory", &at("")])
        .args(["--restart-limit", "1000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started")
}

/// Waits until the loop is on its way and a moment more; `None` when the process was faster.
fn kill_inside(dir: &Path, mut child: Child) -> Result<(), Output> {
    let started = Instant::now();
    loop {
        let state = std::fs::read_to_string(dir.join("state/state.json")).unwrap_or_default();
        if state.contains(r#""items":["#) || child.try_wait().expect("status").is_some() {
            break;
        }
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "no loop: {state}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    let random = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("a clock")
        .subsec_nanos();
    std::thread::sleep(Duration::from_micros(u64::from(random % 25_000)));
    if child.try_wait().expect("status").is_some() {
        return Err(child.wait_with_output().expect("output"));
    }
    child.kill().expect("killed");
    child.wait().expect("waited for");
    Ok(())
}

/// Runs a case with up to three kills; gives their number.
fn run_case(case: &Case, url: &str) -> u32 {
    let folder = tempfile::tempdir().expect("folder");
    let dir = folder.path();
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(dir).expect("metadata"));
    let inputs = case
        .inputs
        .replace("@dir@", &dir.display().to_string())
        .replace("@url@", url)
        .replace("@uid@", &uid.to_string());
    let record = case.output.map_or_else(String::new, |name| {
        format!("      - {{name: Record, action: CreateFile, inputs: [{{path: output, content: '{{{{ build.Work.outputs.{name} }}}}'}}]}}\n")
    });
    let document = format!(
        "schemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n      - {{name: Before, action: ExecuteBash, inputs: {{commands: ['echo before >> order']}}}}\n      - {{name: Work, action: {}, loop: {{for: {{start: 1, end: {}, updateBy: 1}}}}, inputs: {inputs}}}\n{record}      - {{name: After, action: ExecuteBash, inputs: {{commands: ['echo after >> order']}}}}\n",
        case.module, case.count
    );
    std::fs::write(dir.join("case.yml"), document).expect("document");
    let made = shell(dir, case.before, case, 0);
    assert!(made.status.success(), "{}: {made:?}", case.module);

    let mut kills = 0;
    let output = loop {
        let child = start(dir, case);
        let ended = if kills < 3 {
            match kill_inside(dir, child) {
                Ok(()) => {
                    kills += 1;
                    continue;
                }
                Err(output) => output,
            }
        } else {
            child.wait_with_output().expect("output")
        };
        if ended.status.code() != Some(194) {
            break ended;
        }
    };
    let text = format!(
        "{} after {kills} kills: {}{}",
        case.module,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(0), "{text}");
    let order = std::fs::read_to_string(dir.join("order")).expect("order");
    assert_eq!(order, "before\nafter\n", "{text}");
    let checked = shell(dir, case.after, case, kills);
    assert!(
        checked.status.success(),
        "{text}: {}",
        String::from_utf8_lossy(&checked.stderr)
    );
    let left = shell(
        dir,
        "! find . -name '*ovenbird-part*' | grep .",
        case,
        kills,
    );
    assert!(left.status.success(), "{text}: {left:?}");
    if case.output.is_some() {
        let lines = std::fs::read_to_string(dir.join("output")).expect("output");
        assert_eq!(lines.lines().count(), case.count as usize, "{text}");
        for (index, line) in lines.lines().enumerate() {
            let name = line.rsplit('/').next().expect("a name");
            assert_eq!(name, (index + 1).to_string(), "{text}");
        }
    }
    assert!(!dir.join("state/state.json").exists(), "{text}");
    let logs = std::fs::read_dir(dir.join("logs")).expect("logs").count();
    assert_eq!(logs, 1, "all processes write into one log folder: {text}");
    kills
}

#[test]
fn every_module_of_linux_has_a_case() {
    let wanted: BTreeSet<&str> = ACTIONS
        .iter()
        .filter(|spec| spec.runs_on(Platform::Linux))
        .map(|spec| spec.name)
        .collect();
    let found: BTreeSet<&str> = CASES.iter().map(|case| case.module).collect();
    assert_eq!(found, wanted);
}

#[test]
fn a_kill_in_any_module_ends_in_the_right_place() {
    let server = Server::start(|path, _| Answer::ok(path.trim_start_matches('/')));
    let url = server.url("");
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        // Several at a time: most of it is waiting for the disk.
        let url = &url;
        let workers: Vec<_> = CASES
            .chunks(4)
            .map(|cases| {
                scope.spawn(move || {
                    cases
                        .iter()
                        .filter(|case| (0..5).all(|_| run_case(case, url) == 0))
                        .map(|case| case.module)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        for worker in workers {
            wrong.extend(worker.join().expect("no case fails"));
        }
    });
    assert!(wrong.is_empty(), "never killed inside: {wrong:?}");
}
