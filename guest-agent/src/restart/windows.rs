//! Coming back by a scheduled task.

use std::io;
use std::process::Command;
use std::time::Duration;

/// One name, so that the task can be found and removed.
const TASK: &str = "ovenbird-agent-resume";

/// Registers a command to run at the next start of the machine, then reboots it.
///
/// # Errors
///
/// When the task is refused, or the reboot.
pub fn reboot_machine(resume: &[String], delay: Duration) -> io::Result<()> {
    let line = resume
        .iter()
        .map(|word| quote(word))
        .collect::<Vec<_>>()
        .join(" ");
    run(
        "schtasks",
        &[
            "/Create", "/F", "/TN", TASK, "/SC", "ONSTART", "/RU", "SYSTEM", "/RL", "HIGHEST",
            "/TR", &line,
        ],
    )?;
    std::thread::sleep(delay);
    run("shutdown", &["/r", "/t", "0"])
}

/// Removes what [`reboot_machine`] registered; called when a run starts again.
pub fn forget_restart() {
    // Nothing registered is the usual case, so a failure means nothing here.
    let _ = Command::new("schtasks")
        .args(["/Delete", "/F", "/TN", TASK])
        .output();
}

fn run(program: &str, arguments: &[&str]) -> io::Result<()> {
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program}: {}", said.trim())))
}

/// A word of a task's command line.
fn quote(word: &str) -> String {
    if word.contains([' ', '\t']) {
        format!("\"{word}\"")
    } else {
        word.to_owned()
    }
}
