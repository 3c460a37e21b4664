//! ExecutePowerShell.

use serde::Deserialize;

/// Inputs: validation sees to it that exactly one of them is there.
#[derive(Debug, Default, Deserialize)]
pub(super) struct PowerShell {
    commands: Option<Vec<String>>,
    file: Option<String>,
}

/// Windows PowerShell is part of every Windows; the newer one would have to be installed.
#[cfg_attr(not(windows), allow(dead_code, reason = "only Windows starts it"))]
pub(super) const PROGRAM: &str = "powershell.exe";

/// What the script file begins with: without a byte-order mark Windows PowerShell takes it for text of the old code page.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The script that all commands make up: variables and the current folder carry over from item to item.
pub(super) fn script(commands: &[String]) -> String {
    format!("{BYTE_ORDER_MARK}{}", commands.join("\r\n"))
}

/// The arguments that run a script file.
///
/// Profiles of the user and the machine's policy for scripts would make a build depend on the machine. With `-File` the
/// exit code is that of the script: 1 after a terminating error, what `exit` says otherwise.
pub(super) fn arguments(file: &str) -> Vec<String> {
    let mut words: Vec<String> = [
        "-NoLogo",
        "-NoProfile",
        "-NonInteractive",
        "-ExecutionPolicy",
        "Bypass",
        "-File",
    ]
    .map(str::to_owned)
    .into();
    words.push(file.to_owned());
    words
}

/// A text as PowerShell reads it literally.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(windows)]
pub(super) fn run(
    context: &super::Context<'_>,
    inputs: PowerShell,
) -> Result<super::Done, super::Failure> {
    use super::super::execute;
    use crate::modules::paths;

    let fail = |error| super::Failure::io("write a script to", context.scratch, &error);
    let (file, ours) = match (&inputs.commands, &inputs.file) {
        (Some(commands), None) => (
            execute::write_script(context.scratch, "ps1", &script(commands)).map_err(fail)?,
            true,
        ),
        (None, Some(file)) => (paths::resolve(context, file), false),
        _ => {
            return Err(super::Failure::new(
                "ExecutePowerShell needs exactly one of `commands` and `file`",
            ));
        }
    };
    let mut command = std::process::Command::new(PROGRAM);
    command.args(arguments(&file.to_string_lossy()));
    let result = execute::run(context, command);
    if ours {
        // A script can hold secrets; it must not outlive the step.
        let _ = std::fs::remove_file(&file);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_one_script_in_the_encoding_that_old_shells_read() {
        let inputs: PowerShell = serde_json::from_value(
            serde_json::json!({"commands": ["$a = 'ü'", "Write-Output $a"]}),
        )
        .expect("inputs");
        assert_eq!(inputs.file, None);
        let text = script(&inputs.commands.expect("commands"));
        assert_eq!(
            text.as_bytes(),
            b"\xef\xbb\xbf$a = '\xc3\xbc'\r\nWrite-Output $a"
        );
    }

    #[test]
    fn a_file_is_run_without_profiles_and_policies() {
        assert_eq!(
            arguments(r"C:\with space\a.ps1").join("|"),
            r"-NoLogo|-NoProfile|-NonInteractive|-ExecutionPolicy|Bypass|-File|C:\with space\a.ps1"
        );
        assert_eq!(quote("it's"), "'it''s'");
    }
}
