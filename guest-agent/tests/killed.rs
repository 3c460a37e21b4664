//! The agent is killed in the middle of every module that can be cut short, at many moments, and always comes to the same
//! end.
//!
//! Each case runs its module in a loop of many iterations, so that kills hit before, in and after single executions; each
//! start gets a little further. The modules that wait for something outside are killed while they wait, in `resume.rs`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ovenbird_component::action::ACTIONS;

/// Iterations of each loop.
const COUNT: usize = 20;

struct Case {
    module: &'static str,
    /// `@dir@` is the case's folder, `@i@` the iteration.
    inputs: &'static str,
    /// Prepares the folder for one iteration.
    prepare: fn(&Path, usize),
    /// What one iteration must have led to.
    check: fn(&Path, usize) -> Result<(), String>,
}

fn nothing(_: &Path, _: usize) {}

fn file(dir: &Path, name: &str, index: usize) -> PathBuf {
    dir.join(format!("{name}{index}"))
}

fn write(dir: &Path, name: &str, index: usize) {
    std::fs::write(file(dir, name, index), format!("content {index}")).unwrap();
}

fn tree(dir: &Path, index: usize) {
    let folder = file(dir, "s", index);
    std::fs::create_dir_all(folder.join("deep")).unwrap();
    std::fs::write(folder.join("deep/file"), format!("content {index}")).unwrap();
    std::os::unix::fs::symlink("deep/file", folder.join("link")).unwrap();
}

fn has_content(path: &Path, index: usize) -> Result<(), String> {
    match std::fs::read_to_string(path) {
        Ok(text) if text == format!("content {index}") => Ok(()),
        other => Err(format!("{}: {other:?}", path.display())),
    }
}

fn is_gone(path: &Path) -> Result<(), String> {
    match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) => Err(format!("{} is still there", path.display())),
    }
}

fn has_mode(path: &Path, wanted: u32) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
    (mode == wanted)
        .then_some(())
        .ok_or_else(|| format!("{} has mode {mode:o}", path.display()))
}

fn is_tree(folder: &Path, index: usize) -> Result<(), String> {
    has_content(&folder.join("deep/file"), index)?;
    has_content(&folder.join("link"), index)
}

const CASES: [Case; 19] = [
    Case {
        module: "CreateFile",
        inputs: "[{path: '@dir@/f@i@', content: 'content @i@', overwrite: false}]",
        prepare: nothing,
        check: |dir, index| has_content(&file(dir, "f", index), index),
    },
    Case {
        module: "AppendFile",
        inputs: "[{path: '@dir@/f@i@', content: '!'}]",
        prepare: |dir, index| write(dir, "f", index),
        // An execution that was cut short is repeated: what is appended may then stand there again, never less than once.
        check: |dir, index| {
            let text = std::fs::read_to_string(file(dir, "f", index)).unwrap();
            let plain = text.trim_end_matches('!');
            (plain != text && plain == format!("content {index}"))
                .then_some(())
                .ok_or(text)
        },
    },
    Case {
        module: "CopyFile",
        inputs: "[{source: '@dir@/s@i@', destination: '@dir@/f@i@', overwrite: false}]",
        prepare: |dir, index| write(dir, "s", index),
        check: |dir, index| has_content(&file(dir, "f", index), index),
    },
    Case {
        module: "MoveFile",
        inputs: "[{source: '@dir@/s@i@', destination: '@dir@/f@i@'}, {source: '@dir@/f@i@', destination: '@dir@/g@i@'}]",
        prepare: |dir, index| write(dir, "s", index),
        check: |dir, index| {
            is_gone(&file(dir, "s", index))?;
            has_content(&file(dir, "g", index), index)
        },
    },
    Case {
        module: "DeleteFile",
        inputs: "[{path: '@dir@/s@i@'}]",
        prepare: |dir, index| write(dir, "s", index),
        check: |dir, index| is_gone(&file(dir, "s", index)),
    },
    Case {
        module: "CreateFolder",
        inputs: "[{path: '@dir@/f@i@/deep', permissions: '0750', overwrite: false}]",
        prepare: nothing,
        check: |dir, index| has_mode(&file(dir, "f", index).join("deep"), 0o750),
    },
    Case {
        module: "CopyFolder",
        inputs: "[{source: '@dir@/s@i@', destination: '@dir@/f@i@', overwrite: false}]",
        prepare: tree,
        check: |dir, index| is_tree(&file(dir, "f", index), index),
    },
    Case {
        module: "MoveFolder",
        inputs: "[{source: '@dir@/s@i@', destination: '@dir@/f@i@'}]",
        prepare: tree,
        check: |dir, index| {
            is_gone(&file(dir, "s", index))?;
            is_tree(&file(dir, "f", index), index)
        },
    },
    Case {
        module: "DeleteFolder",
        inputs: "[{path: '@dir@/s@i@', force: true}]",
        prepare: tree,
        check: |dir, index| is_gone(&file(dir, "s", index)),
    },
    Case {
        module: "CreateSymlink",
        inputs: "[{path: '@dir@/f@i@', target: '@dir@/s@i@'}]",
        prepare: |dir, index| write(dir, "s", index),
        check: |dir, index| has_content(&file(dir, "f", index), index),
    },
    Case {
        module: "ListFiles",
        inputs: "[{path: '@dir@/s@i@', recursive: true}]",
        prepare: tree,
        check: |dir, index| is_tree(&file(dir, "s", index), index),
    },
    Case {
        module: "ReadFile",
        inputs: "[{path: '@dir@/s@i@'}]",
        prepare: |dir, index| write(dir, "s", index),
        check: |dir, index| has_content(&file(dir, "s", index), index),
    },
    Case {
        module: "SetFileEncoding",
        inputs: "[{path: '@dir@/s@i@', encoding: utf-16}]",
        prepare: |dir, index| write(dir, "s", index),
        check: |dir, index| {
            let bytes = std::fs::read(file(dir, "s", index)).unwrap();
            let wide: Vec<u8> = format!("content {index}")
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect();
            bytes
                .ends_with(&wide)
                .then_some(())
                .ok_or(format!("{bytes:?}"))
        },
    },
    Case {
        module: "SetFilePermissions",
        inputs: "[{path: '@dir@/s@i@', permissions: '0604'}]",
        prepare: |dir, index| write(dir, "s", index),
        check: |dir, index| has_mode(&file(dir, "s", index), 0o604),
    },
    Case {
        module: "SetFolderPermissions",
        inputs: "[{path: '@dir@/s@i@', permissions: '0705', recursive: true}]",
        prepare: tree,
        check: |dir, index| has_mode(&file(dir, "s", index).join("deep"), 0o705),
    },
    Case {
        module: "SetFileOwner",
        inputs: "[{path: '@dir@/s@i@', owner: '@user@', group: '@group@'}]",
        prepare: |dir, index| write(dir, "s", index),
        check: |dir, index| has_content(&file(dir, "s", index), index),
    },
    Case {
        module: "SetFolderOwner",
        inputs: "[{path: '@dir@/s@i@', owner: '@user@', group: '@group@', recursive: true}]",
        prepare: tree,
        check: |dir, index| is_tree(&file(dir, "s", index), index),
    },
    Case {
        module: "S3Download",
        inputs: "[{source: 'file://@dir@/s@i@', destination: '@dir@/f@i@'}]",
        prepare: |dir, index| write(dir, "s", index),
        check: |dir, index| has_content(&file(dir, "f", index), index),
    },
    Case {
        module: "S3Upload",
        inputs: "[{source: '@dir@/s@i@', destination: 'file://@dir@/f@i@'}]",
        prepare: |dir, index| write(dir, "s", index),
        check: |dir, index| has_content(&file(dir, "f", index), index),
    },
];

fn id(option: &str) -> String {
    let output = Command::new("id").arg(option).arg("-n").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn agent(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ovenbird-agent"));
    command
        .args(["run", "-d"])
        .arg(dir.join("case.yml"))
        .arg("-s")
        .arg(dir.join("state"))
        .arg("-l")
        .arg(dir.join("logs"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run_case(case: &Case) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    for index in 0..COUNT {
        (case.prepare)(dir, index);
    }
    let inputs = case
        .inputs
        .replace("@dir@", &dir.display().to_string())
        .replace("@i@", "{{ loop.index }}")
        .replace("@user@", &id("-u"))
        .replace("@group@", &id("-g"));
    let document = format!(
        "schemaVersion: 1.0\nphases:\n- name: build\n  steps:\n  - name: Many\n    action: {}\n    loop:\n      for: {{start: 0, end: {}, updateBy: 1}}\n    inputs: {inputs}\n",
        case.module,
        COUNT - 1
    );
    std::fs::write(dir.join("case.yml"), document).unwrap();
    let mut kills = 0;
    let output = loop {
        let mut child = agent(dir).spawn().unwrap();
        // A different moment each time.
        std::thread::sleep(Duration::from_micros(6_000 + 4_000 * kills as u64));
        if child.try_wait().unwrap().is_some() {
            break child.wait_with_output().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert!(kills < 400, "{} does not come to an end", case.module);
    };
    assert!(
        output.status.success(),
        "{} after {kills} kills: {}",
        case.module,
        String::from_utf8_lossy(&output.stdout)
    );
    for index in 0..COUNT {
        if let Err(problem) = (case.check)(dir, index) {
            panic!(
                "{} after {kills} kills, iteration {index}: {problem}",
                case.module
            );
        }
    }
    // Nothing half-written lies about.
    let left: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains(".ovenbird-"))
        .map(|entry| entry.file_name())
        .collect();
    assert!(left.is_empty(), "{}: {left:?}", case.module);
    kills
}

#[test]
fn every_module_comes_to_the_same_end_however_often_it_is_killed() {
    let kills: Vec<(&str, usize)> = CASES
        .iter()
        .map(|case| (case.module, run_case(case)))
        .collect();
    let total: usize = kills.iter().map(|(_, kills)| kills).sum();
    assert!(
        total > CASES.len() * 3,
        "hardly anything was killed: {kills:?}"
    );
}

#[test]
fn no_module_is_forgotten() {
    // Killed while they wait, in `resume.rs` and `web.rs`; the others have nothing to be cut short, or run on Windows.
    let elsewhere = [
        "Assert",
        "ExecuteBash",
        "ExecuteBinary",
        "ExecuteDocument",
        "ExecutePowerShell",
        "InstallMSI",
        "Reboot",
        "SetRegistry",
        "UninstallMSI",
        "UpdateOS",
        "WebDownload",
    ];
    let known: BTreeSet<String> = ACTIONS.iter().map(|spec| spec.name.to_owned()).collect();
    let tested: BTreeSet<String> = CASES
        .iter()
        .map(|case| case.module)
        .chain(elsewhere)
        .map(str::to_owned)
        .collect();
    assert_eq!(known, tested);
}
