//! UpdateOS: the operating system's own package manager, unattended.

use std::ops::RangeInclusive;
use std::process::Command;

use serde::Deserialize;

use super::{Context, Done, Failure, execute};
use crate::platform::{find_program, is_administrator};

#[derive(Debug, Default, Deserialize)]
pub struct Update {
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
}

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manager {
    Apt,
    Dnf,
    Yum,
    Zypper,
    Apk,
}

/// Order of preference: where several are installed, the first one owns the system.
const MANAGERS: [(&str, Manager); 5] = [
    ("apt-get", Manager::Apt),
    ("dnf", Manager::Dnf),
    ("yum", Manager::Yum),
    ("zypper", Manager::Zypper),
    ("apk", Manager::Apk),
];

/// Installs updates: all of them, or those that `include` names, without those that `exclude` names.
pub fn update(context: &Context<'_>, inputs: Update) -> Result<Done, Failure> {
    if cfg!(windows) {
        return Err(Failure::new(
            "UpdateOS knows the package managers of Linux only; use ExecutePowerShell here",
        ));
    }
    if !is_administrator() {
        return Err(Failure::new("UpdateOS has to run as root"));
    }
    let manager = MANAGERS
        .iter()
        .find(|(program, _)| find_program(program).is_some())
        .map(|(_, manager)| *manager)
        .ok_or_else(|| Failure::new("no package manager is installed that UpdateOS knows: apt-get, dnf, yum, zypper, apk"))?;
    for name in inputs.include.iter().chain(&inputs.exclude) {
        check_name(name)?;
    }
    if manager == Manager::Apk && !inputs.exclude.is_empty() && inputs.include.is_empty() {
        return Err(Failure::new(
            "apk cannot leave packages out of an upgrade; name what to update with `include`",
        ));
    }
    let mut exclude = inputs.exclude.clone();
    if manager == Manager::Apt && !exclude.is_empty() {
        // A hold that somebody else has set must be there afterwards.
        let held = held(run_line(context, &words("apt-mark showhold"))?);
        exclude.retain(|name| !held.contains(name));
    }
    let Some(plan) = plan(manager, &inputs, &exclude) else {
        context
            .report
            .console("UpdateOS: everything to include is excluded, nothing to do");
        return Ok(Done::default());
    };
    for line in &plan.before {
        run_line(context, line)?;
    }
    let updated = run_line(context, &plan.update);
    for line in &plan.after {
        let undone = run_line(context, line);
        // The failure of the update itself says more.
        if updated.is_ok() {
            undone?;
        }
    }
    match updated {
        Err(Failure::Failed {
            exit_code: Some(code),
            ..
        }) if manager == Manager::Zypper && ZYPPER_NOTES.contains(&code) => {}
        other => {
            other?;
        }
    }
    Ok(Done {
        outputs: Vec::new(),
        exit_code: Some(0),
    })
}

/// Exit codes by which zypper says that it worked and that patches, security patches, a reboot or a restart are due.
const ZYPPER_NOTES: RangeInclusive<i32> = 100..=103;

fn run_line(context: &Context<'_>, line: &[String]) -> Result<Done, Failure> {
    context
        .report
        .console(&format!("UpdateOS: {}", line.join(" ")));
    // Every command starts with a fixed environment, so an extra variable is set by `env`.
    let mut command = Command::new(find_program("env").unwrap_or_else(|| "env".into()));
    command.arg("DEBIAN_FRONTEND=noninteractive").args(line);
    execute::run(context, command)
}

/// The names that a command has listed, one a line.
fn held(done: Done) -> Vec<String> {
    let text = done
        .outputs
        .first()
        .and_then(|output| output.get("stdout")?.as_str())
        .unwrap_or_default();
    text.lines().map(|line| line.trim().to_owned()).collect()
}

/// A name that looks like an option would become one.
fn check_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.starts_with('-') || name.contains(char::is_whitespace) {
        return Err(Failure::new(format!(
            "`{name}` is not the name of a package"
        )));
    }
    Ok(())
}

/// The commands of an update.
#[derive(Debug, Default)]
struct Plan {
    /// What has to work before it.
    before: Vec<Vec<String>>,
    /// The update.
    update: Vec<String>,
    /// What has to be undone, also when the update fails.
    after: Vec<Vec<String>>,
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn with(text: &str, more: &[String]) -> Vec<String> {
    let mut all = words(text);
    all.extend_from_slice(more);
    all
}

/// What to run; `None` when `exclude` leaves nothing of `include`. `to_hold` are the names that have to be held back by
/// a lock, where the package manager has no option for it.
fn plan(manager: Manager, inputs: &Update, to_hold: &[String]) -> Option<Plan> {
    let wanted: Vec<String> = inputs
        .include
        .iter()
        .filter(|name| !inputs.exclude.contains(name))
        .cloned()
        .collect();
    if wanted.is_empty() && !inputs.include.is_empty() {
        return None;
    }
    let locked = |line: &str| -> Vec<Vec<String>> {
        if to_hold.is_empty() {
            Vec::new()
        } else {
            vec![with(line, to_hold)]
        }
    };
    let mut plan = Plan::default();
    match manager {
        Manager::Apt => {
            plan.before = vec![words("apt-get update")];
            plan.before.extend(locked("apt-mark hold"));
            let options = "-y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300";
            plan.update = if wanted.is_empty() {
                words(&format!("apt-get {options} dist-upgrade"))
            } else {
                with(
                    &format!("apt-get {options} install --only-upgrade"),
                    &wanted,
                )
            };
            plan.after = locked("apt-mark unhold");
        }
        Manager::Dnf | Manager::Yum => {
            plan.update = words(if manager == Manager::Dnf {
                "dnf -y upgrade"
            } else {
                "yum -y update"
            });
            let excludes = inputs
                .exclude
                .iter()
                .map(|name| format!("--exclude={name}"));
            plan.update.extend(excludes);
            plan.update.extend(wanted);
        }
        Manager::Zypper => {
            plan.before = vec![words("zypper --non-interactive refresh")];
            plan.before
                .extend(locked("zypper --non-interactive addlock"));
            plan.update = with(
                "zypper --non-interactive update --auto-agree-with-licenses",
                &wanted,
            );
            plan.after = locked("zypper --non-interactive removelock");
        }
        Manager::Apk => {
            plan.update = if wanted.is_empty() {
                words("apk upgrade --update-cache --available")
            } else {
                with("apk add --update-cache --upgrade", &wanted)
            };
        }
    }
    Some(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_no_package_names() {
        assert!(check_name("--allow-downgrades").is_err());
        assert!(check_name("a b").is_err());
        assert!(check_name("bash").is_ok());
    }
}
