//! The agent in mount and user namespaces of its own: root there, with other files in the machine's places.

use std::path::Path;
use std::process::Command;

/// A place of the machine and what stands there instead.
pub enum Instead<'a> {
    /// A file or folder of the test.
    Path(&'a Path),
    /// Nothing that could be started.
    NoProgram,
}

/// A command to be given a program and its arguments. It becomes the program itself, so killing it kills that.
///
/// A program that is not on this machine need not be hidden.
pub fn command(places: &[(&str, Instead<'_>)]) -> Command {
    let mut script = String::from("set -e\n");
    for (place, instead) in places {
        script.push_str(&match instead {
            Instead::Path(path) => format!("mount --bind '{}' '{place}'\n", path.display()),
            Instead::NoProgram => {
                format!("[ ! -e '{place}' ] || mount --bind /dev/null '{place}'\n")
            }
        });
    }
    script.push_str("exec \"$@\"\n");
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg("sh");
    command
}

/// The agent, to be given its arguments.
pub fn agent(places: &[(&str, Instead<'_>)]) -> Command {
    let mut command = command(places);
    command.arg(env!("CARGO_BIN_EXE_ovenbird-agent"));
    command
}

/// Writes a program; `body` is a script for `sh`.
///
/// Another process does the writing: a file that any thread of this one has open could be inherited by what another thread
/// starts, and could then not be executed ("text file busy").
pub fn program(path: &Path, body: &str) {
    use std::io::Write as _;
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
    let mut install = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("install");
    let mut stdin = install.stdin.take().expect("a pipe");
    stdin
        .write_all(format!("#!/bin/sh\n{body}\n").as_bytes())
        .expect("program");
    drop(stdin);
    assert!(
        install.wait().expect("install").success(),
        "{}",
        path.display()
    );
}
