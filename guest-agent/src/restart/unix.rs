//! Coming back by systemd or cron.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The unit that starts the agent again; one name, so that it can be found and removed.
const UNIT: &str = "ovenbird-agent-resume.service";
const UNIT_FOLDER: &str = "/etc/systemd/system";
const UNIT_LINK: &str = "/etc/systemd/system/multi-user.target.wants/ovenbird-agent-resume.service";
/// Marks our line in root's crontab.
const CRON_MARK: &str = "# ovenbird-agent resume";

/// Registers a command to run at the next start of the machine, then reboots it.
///
/// # Errors
///
/// When neither systemd nor cron is there to start the command, or the reboot is refused.
pub fn reboot_machine(resume: &[String], delay: Duration) -> io::Result<()> {
    register_restart(resume)?;
    std::thread::sleep(delay);
    nix::unistd::sync();
    for program in ["/usr/sbin/reboot", "/sbin/reboot"] {
        if Path::new(program).exists() && Command::new(program).status()?.success() {
            return Ok(());
        }
    }
    nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_AUTOBOOT)?;
    Ok(())
}

fn register_restart(resume: &[String]) -> io::Result<()> {
    let line = resume
        .iter()
        .map(|word| quote(word))
        .collect::<Vec<_>>()
        .join(" ");
    if Path::new("/run/systemd/system").is_dir() {
        let unit = format!(
            "[Unit]\nDescription=Goes on with a component run after a reboot\nAfter=network-online.target\nWants=network-online.target\n\n[Service]\nType=oneshot\nExecStart=/bin/sh -c {}\n",
            quote(&line).replace('%', "%%")
        );
        fs::write(Path::new(UNIT_FOLDER).join(UNIT), unit)?;
        fs::create_dir_all(Path::new(UNIT_LINK).parent().unwrap_or(Path::new("/")))?;
        let _ = fs::remove_file(UNIT_LINK);
        return std::os::unix::fs::symlink(Path::new(UNIT_FOLDER).join(UNIT), UNIT_LINK);
    }
    let current = crontab_lines()?;
    write_crontab(&format!("{current}@reboot {line} {CRON_MARK}\n"))
}

/// Removes what [`reboot_machine`] registered; called when a run starts again.
pub fn forget_restart() {
    // Nothing registered is the usual case, so failures mean nothing here.
    let _ = fs::remove_file(UNIT_LINK);
    let _ = fs::remove_file(Path::new(UNIT_FOLDER).join(UNIT));
    if let Ok(current) = crontab_lines()
        && current.contains(CRON_MARK)
    {
        let kept: String = current
            .lines()
            .filter(|line| !line.ends_with(CRON_MARK))
            .map(|line| format!("{line}\n"))
            .collect();
        let _ = write_crontab(&kept);
    }
}

fn crontab_lines() -> io::Result<String> {
    let output = Command::new("crontab").arg("-l").output()?;
    // No crontab yet is reported as a failure.
    Ok(if output.status.success() {
        String::from_utf8_lossy(&output.stdout).into_owned()
    } else {
        String::new()
    })
}

fn write_crontab(text: &str) -> io::Result<()> {
    let path = std::env::temp_dir().join(format!("ovenbird-crontab-{}", std::process::id()));
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let status = Command::new("crontab").arg(&path).status();
    let _ = fs::remove_file(&path);
    if status?.success() {
        Ok(())
    } else {
        Err(io::Error::other("crontab refused the new table"))
    }
}

/// A word for a POSIX shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
