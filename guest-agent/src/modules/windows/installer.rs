//! InstallMSI and UninstallMSI.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Failure;
use super::power_shell::quote;

/// When to reboot afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Reboot {
    /// When the installer asks for it.
    Allow,
    /// In any case.
    Force,
    /// Never.
    Skip,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Package {
    path: String,
    reboot: Option<Reboot>,
    log_options: Option<String>,
    log_file: Option<String>,
    #[serde(default)]
    properties: BTreeMap<String, String>,
    #[serde(default)]
    ignore_authenticode_signature_errors: bool,
    #[serde(default)]
    allow_unsigned_installer: bool,
}

/// What to do with a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Install it.
    Install,
    /// Remove it.
    Uninstall,
}

/// Properties that belong to the module: a restart is the run's own business, and so is what a repeated installation does.
const OURS: [&str; 3] = ["REBOOT", "REINSTALL", "REINSTALLMODE"];

/// The installer wants another run, over the version that is installed.
const ANOTHER_VERSION: i32 = 1638;

/// The machine has to be restarted; with the second code the installer has begun to do so.
const RESTART_CODES: [i32; 2] = [3010, 1641];

/// Everything behind `msiexec.exe`. The installer takes its command line apart by rules of its own, in which a quote in a
/// quoted value is doubled, so it is made as one text.
///
/// # Errors
///
/// A property that has no name of one, or belongs to the module, or a path that the installer could not read.
pub(super) fn command_line(
    task: Task,
    package: &Package,
    path: &str,
    log: &str,
    over: bool,
) -> Result<String, Failure> {
    let verb = match task {
        Task::Install => "/i",
        Task::Uninstall => "/x",
    };
    let options = package.log_options.as_deref().unwrap_or("*VX");
    let mut line = format!(
        "{verb} {} /qn /norestart /L{options} {}",
        quoted_path(path)?,
        quoted_path(log)?
    );
    for (name, value) in &package.properties {
        if OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
            return Err(Failure::new(format!(
                "the property {name} is set by the module itself"
            )));
        }
        let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        if !good {
            return Err(Failure::new(format!(
                "`{name}` is not the name of a property"
            )));
        }
        line.push_str(&format!(" {name}=\"{}\"", value.replace('"', "\"\"")));
    }
    line.push_str(" REBOOT=ReallySuppress");
    if over {
        line.push_str(" REINSTALLMODE=ecmus REINSTALL=ALL");
    }
    Ok(line)
}

/// No Windows path has a quote in it.
fn quoted_path(path: &str) -> Result<String, Failure> {
    if path.contains('"') {
        return Err(Failure::new(format!("`{path}` is not a path")));
    }
    Ok(format!("\"{path}\""))
}

/// What to do when the installer has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Go on.
    Done,
    /// Reboot and go on behind this step.
    Reboot,
    /// Start it again over the version that is there.
    Over,
    /// It failed.
    Failed,
}

/// What an exit code of the installer means.
pub(super) fn next(task: Task, code: i32, reboot: Reboot, over: bool) -> Next {
    let good = match task {
        Task::Install => matches!(code, 0 | 1614 | 1641 | 3010),
        Task::Uninstall => matches!(code, 0 | 1605 | 1614 | 1641 | 3010),
    };
    if task == Task::Install && code == ANOTHER_VERSION && !over {
        return Next::Over;
    }
    match reboot {
        _ if !good => Next::Failed,
        Reboot::Force => Next::Reboot,
        Reboot::Allow if RESTART_CODES.contains(&code) => Next::Reboot,
        Reboot::Allow | Reboot::Skip => Next::Done,
    }
}

/// The script that asks for the signature of a file.
pub(super) fn signature_script(path: &str) -> String {
    format!(
        "(Get-AuthenticodeSignature -LiteralPath {}).Status",
        quote(path)
    )
}

/// Whether a package with a signature of this status may be used.
///
/// # Errors
///
/// When the inputs do not allow for it.
pub(super) fn judge(package: &Package, status: &str) -> Result<(), Failure> {
    match status {
        "Valid" => Ok(()),
        "NotSigned" if package.allow_unsigned_installer => Ok(()),
        "NotSigned" => Err(Failure::new(format!(
            "{} has no signature; `allowUnsignedInstaller: true` accepts it",
            package.path
        ))),
        _ if package.ignore_authenticode_signature_errors => Ok(()),
        other => Err(Failure::new(format!(
            "the signature of {} is not good: {other}; `ignoreAuthenticodeSignatureErrors: true` accepts it",
            package.path
        ))),
    }
}

/// Whether the signature matters at all: asking takes a while.
pub(super) fn asks_for_signature(package: &Package) -> bool {
    !(package.allow_unsigned_installer && package.ignore_authenticode_signature_errors)
}

#[cfg(windows)]
pub(super) use execution::run;

#[cfg(windows)]
mod execution {
    use std::os::windows::process::CommandExt;
    use std::path::PathBuf;
    use std::process::Command;

    use serde_json::{Map, Value, json};

    use super::super::{Context, Done, Failure, power_shell};
    use super::{Next, Package, Reboot, Task, asks_for_signature, command_line, judge, next};
    use crate::modules::execute::{self, Ran};
    use crate::modules::{each, paths, storage, web};
    use crate::process::Ending;

    pub(in super::super) fn run(
        context: &Context<'_>,
        task: Task,
        package: Package,
    ) -> Result<Done, Failure> {
        let path = fetch(context, &package.path)?;
        let path = path.to_string_lossy();
        if asks_for_signature(&package) {
            judge(&package, &signature(context, &path)?)?;
        }
        let kept = package
            .log_file
            .as_deref()
            .map(|log| paths::resolve(context, log));
        let log = match &kept {
            Some(log) => {
                paths::make_parents(log)?;
                log.clone()
            }
            None => context.scratch.join("msi.log"),
        };
        let mut over = false;
        loop {
            let line = command_line(task, &package, &path, &log.to_string_lossy(), over)?;
            let mut command = Command::new("msiexec.exe");
            command.raw_arg(&line);
            let Ran {
                ending,
                stdout,
                stderr,
            } = execute::run_to_end(context, command)?;
            let Ending::Code(code) = ending else {
                return Err(Failure::TimedOut);
            };
            let output: Map<String, Value> = Map::from_iter([
                (
                    "logFile".to_owned(),
                    json!(
                        kept.as_ref()
                            .map(|log| log.to_string_lossy())
                            .unwrap_or_default()
                    ),
                ),
                ("msiExitCode".to_owned(), json!(code.to_string())),
                ("stdout".to_owned(), json!(stdout)),
            ]);
            let reboot = package.reboot.unwrap_or(Reboot::Allow);
            return match next(task, code, reboot, over) {
                Next::Over => {
                    over = true;
                    continue;
                }
                Next::Done => Ok(Done {
                    outputs: vec![output],
                    exit_code: Some(code),
                }),
                Next::Reboot => Err(Failure::RebootAndGoOn {
                    delay_seconds: 0,
                    outputs: vec![output],
                }),
                Next::Failed => Err(Failure::Failed {
                    message: execute::describe(
                        &format!("the installer ended with exit code {code}"),
                        &stderr,
                    ),
                    exit_code: Some(code),
                }),
            };
        }
    }

    /// Brings the package here if it is elsewhere.
    fn fetch(context: &Context<'_>, path: &str) -> Result<PathBuf, Failure> {
        let target = context.scratch.join("package.msi");
        let inputs = json!([{"source": path, "destination": target.to_string_lossy()}]);
        if path.starts_with("s3://") {
            each(context, inputs, storage::download)?;
        } else if path.starts_with("http://") || path.starts_with("https://") {
            web::download(context, inputs)?;
        } else {
            return Ok(paths::resolve(context, path));
        }
        Ok(target)
    }

    fn signature(context: &Context<'_>, path: &str) -> Result<String, Failure> {
        let mut command = Command::new(power_shell::PROGRAM);
        command.args(["-NoLogo", "-NoProfile", "-NonInteractive", "-Command"]);
        command.arg(super::signature_script(path));
        let ran = execute::run_to_end(context, command)?;
        match ran.ending {
            Ending::Code(0) => Ok(ran.stdout.trim().to_owned()),
            Ending::TimedOut => Err(Failure::TimedOut),
            _ => Err(Failure::new(execute::describe(
                "cannot ask for the package's signature",
                &ran.stderr,
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(inputs: serde_json::Value) -> Package {
        serde_json::from_value(inputs).expect("inputs")
    }

    fn message(failure: Failure) -> String {
        match failure {
            Failure::Failed { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn command_lines() {
        let plain = package(serde_json::json!({"path": "x"}));
        let line = |task, package: &Package, over| {
            command_line(task, package, r"C:\a b\x.msi", r"C:\t\l.log", over).expect("a line")
        };
        assert_eq!(
            line(Task::Install, &plain, false),
            r#"/i "C:\a b\x.msi" /qn /norestart /L*VX "C:\t\l.log" REBOOT=ReallySuppress"#
        );
        assert_eq!(
            line(Task::Install, &plain, true),
            r#"/i "C:\a b\x.msi" /qn /norestart /L*VX "C:\t\l.log" REBOOT=ReallySuppress REINSTALLMODE=ecmus REINSTALL=ALL"#
        );
        let rich = package(serde_json::json!({
            "path": "x", "reboot": "Skip", "logOptions": "iwe", "logFile": "y",
            "properties": {"INSTALLDIR": r"C:\p q", "Say": "a \"b\""},
        }));
        assert_eq!(
            (rich.reboot, rich.log_file.as_deref()),
            (Some(Reboot::Skip), Some("y"))
        );
        assert_eq!(
            line(Task::Uninstall, &rich, false),
            r#"/x "C:\a b\x.msi" /qn /norestart /Liwe "C:\t\l.log" INSTALLDIR="C:\p q" Say="a ""b""" REBOOT=ReallySuppress"#
        );
    }

    #[test]
    fn properties_that_are_none_or_ours_are_refused() {
        for (name, wanted) in [
            ("reboot", "is set by the module itself"),
            ("REINSTALLMODE", "is set by the module itself"),
            ("A B", "is not the name of a property"),
            ("/x", "is not the name of a property"),
        ] {
            let package = package(serde_json::json!({"path": "x", "properties": {name: "v"}}));
            let found = command_line(Task::Install, &package, "a", "b", false).expect_err(name);
            assert!(message(found).contains(wanted), "{name}");
        }
        let plain = package(serde_json::json!({"path": "x"}));
        let found = command_line(Task::Install, &plain, "a\" b", "b", false).expect_err("a quote");
        assert!(message(found).contains("is not a path"));
    }

    #[test]
    fn exit_codes() {
        use Next::{Done, Failed, Over, Reboot as Restart};
        use Reboot::{Allow, Force, Skip};
        use Task::{Install, Uninstall};
        for (task, code, reboot, wanted) in [
            (Install, 0, Allow, Done),
            (Install, 0, Force, Restart),
            (Install, 3010, Allow, Restart),
            (Install, 3010, Skip, Done),
            (Install, 1641, Allow, Restart),
            (Install, 1614, Allow, Done),
            (Install, 1605, Allow, Failed),
            (Install, 1603, Force, Failed),
            (Install, 1638, Allow, Over),
            (Uninstall, 1605, Allow, Done),
            (Uninstall, 1638, Allow, Failed),
        ] {
            assert_eq!(next(task, code, reboot, false), wanted, "{task:?} {code}");
        }
        assert_eq!(next(Install, 1638, Allow, true), Failed);
    }

    #[test]
    fn signatures() {
        let strict = package(serde_json::json!({"path": "x.msi"}));
        assert!(judge(&strict, "Valid").is_ok());
        for (status, wanted) in [
            ("NotSigned", "has no signature"),
            ("HashMismatch", "is not good: HashMismatch"),
        ] {
            let found = judge(&strict, status).expect_err(status);
            assert!(message(found).contains(wanted), "{status}");
        }
        let unsigned = package(serde_json::json!({"path": "x", "allowUnsignedInstaller": true}));
        assert!(judge(&unsigned, "NotSigned").is_ok());
        assert!(judge(&unsigned, "NotTrusted").is_err());
        let broken =
            package(serde_json::json!({"path": "x", "ignoreAuthenticodeSignatureErrors": true}));
        assert!(judge(&broken, "NotTrusted").is_ok());
        assert!(judge(&broken, "NotSigned").is_err());
        assert!(asks_for_signature(&unsigned) && asks_for_signature(&broken));
        let both = package(serde_json::json!({
            "path": "x", "ignoreAuthenticodeSignatureErrors": true, "allowUnsignedInstaller": true,
        }));
        assert!(!asks_for_signature(&both));
        assert_eq!(
            signature_script(r"C:\it's.msi"),
            r"(Get-AuthenticodeSignature -LiteralPath 'C:\it''s.msi').Status"
        );
    }
}
