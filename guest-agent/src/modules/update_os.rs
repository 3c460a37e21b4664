//! UpdateOS: the operating system's own package manager, unattended.

use std::process::Command;

use serde::Deserialize;

use super::probe::find_program;
use super::{Context, Done, Failure, execute};

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
    if !nix::unistd::geteuid().is_root() {
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
    for words in commands(manager, &inputs) {
        let Some((program, arguments)) = words.split_first() else {
            continue;
        };
        context
            .report
            .console(&format!("UpdateOS: {}", words.join(" ")));
        // Every command starts with a fixed environment, so an extra variable is set by `env`.
        let mut command = Command::new(find_program("env").unwrap_or_else(|| "env".into()));
        command
            .arg("DEBIAN_FRONTEND=noninteractive")
            .arg(program)
            .args(arguments);
        execute::run(context, command)?;
    }
    Ok(Done {
        outputs: Vec::new(),
        exit_code: Some(0),
    })
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

/// The commands that do the update.
fn commands(manager: Manager, inputs: &Update) -> Vec<Vec<String>> {
    let wanted: Vec<String> = inputs
        .include
        .iter()
        .filter(|name| !inputs.exclude.contains(name))
        .cloned()
        .collect();
    if wanted.is_empty() && !inputs.include.is_empty() {
        return Vec::new();
    }
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let with = |text: &str, more: &[String]| {
        words(text)
            .into_iter()
            .chain(more.iter().cloned())
            .collect::<Vec<_>>()
    };
    let excludes = |option: &str| {
        inputs
            .exclude
            .iter()
            .map(|name| format!("{option}{name}"))
            .collect::<Vec<_>>()
    };
    match manager {
        Manager::Apt => {
            let mut all = vec![words("apt-get update")];
            let options = "-y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300";
            // apt has no exclude option: a hold that is taken back afterwards has the same effect.
            if !inputs.exclude.is_empty() {
                all.push(with("apt-mark hold", &inputs.exclude));
            }
            all.push(if wanted.is_empty() {
                words(&format!("apt-get {options} dist-upgrade"))
            } else {
                with(
                    &format!("apt-get {options} install --only-upgrade"),
                    &wanted,
                )
            });
            if !inputs.exclude.is_empty() {
                all.push(with("apt-mark unhold", &inputs.exclude));
            }
            all
        }
        Manager::Dnf | Manager::Yum => {
            let program = if manager == Manager::Dnf {
                "dnf"
            } else {
                "yum"
            };
            let mut line = with(&format!("{program} -y upgrade"), &excludes("--exclude="));
            if manager == Manager::Yum {
                line[2] = "update".to_owned();
            }
            line.extend(wanted);
            vec![line]
        }
        Manager::Zypper => {
            let refresh = words("zypper --non-interactive refresh");
            if wanted.is_empty() && inputs.exclude.is_empty() {
                return vec![
                    refresh,
                    words("zypper --non-interactive update --auto-agree-with-licenses"),
                ];
            }
            let mut all = vec![refresh];
            if !inputs.exclude.is_empty() {
                all.push(with("zypper --non-interactive addlock", &inputs.exclude));
            }
            all.push(with(
                "zypper --non-interactive update --auto-agree-with-licenses",
                &wanted,
            ));
            if !inputs.exclude.is_empty() {
                all.push(with("zypper --non-interactive removelock", &inputs.exclude));
            }
            all
        }
        Manager::Apk => {
            vec![if wanted.is_empty() {
                words("apk upgrade --update-cache --available")
            } else {
                with("apk add --update-cache --upgrade", &wanted)
            }]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(manager: Manager, include: &[&str], exclude: &[&str]) -> Vec<String> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let inputs = Update {
            include: owned(include),
            exclude: owned(exclude),
        };
        commands(manager, &inputs)
            .iter()
            .map(|words| words.join(" "))
            .collect()
    }

    #[test]
    fn include_minus_exclude_per_package_manager() {
        assert_eq!(
            lines(Manager::Dnf, &[], &["kernel"]),
            ["dnf -y upgrade --exclude=kernel"]
        );
        assert_eq!(
            lines(Manager::Yum, &["bash", "kernel"], &["kernel"]),
            ["yum -y update --exclude=kernel bash"]
        );
        assert_eq!(lines(Manager::Apt, &["bash"], &["bash"]), [""; 0]);
        let apt = lines(Manager::Apt, &[], &["linux-image"]);
        assert_eq!(apt[1], "apt-mark hold linux-image");
        assert!(apt[2].ends_with("dist-upgrade"));
        assert_eq!(apt[3], "apt-mark unhold linux-image");
        assert_eq!(
            lines(Manager::Apk, &[], &[]),
            ["apk upgrade --update-cache --available"]
        );
        assert!(lines(Manager::Zypper, &["vim"], &[])[1].ends_with("vim"));
    }

    #[test]
    fn options_are_no_package_names() {
        assert!(check_name("--allow-downgrades").is_err());
        assert!(check_name("a b").is_err());
        assert!(check_name("bash").is_ok());
    }
}
