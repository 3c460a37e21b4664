//! The clean-up of the guest: a table of rules, run as one script by root, the machine id last.
//!
//! The sections and skip markers are those of the service's own clean-up script; what it leaves behind and a copied
//! image must not carry is added, with markers of the same style. A rule is skipped if its marker lies in the working
//! directory or the recipe names it.

use std::fmt::Write as _;

use crate::error::{Failure, Result};
use crate::guest::Guest;
use crate::guest::agent::GUEST_FOLDER;
use crate::guest::seed::BAKE_USER;
use crate::guest::ssh::shell_quote;
use crate::output::manifest::SanitiseResult;

/// The digest of all rules: an image that was cleaned by others is another image.
pub fn digest() -> String {
    use sha2::{Digest as _, Sha256};
    let mut hasher = Sha256::new();
    for rule in &RULES {
        hasher.update(rule.id);
        hasher.update(rule.script);
    }
    hex::encode(hasher.finalize())
}

/// One thing that is cleaned.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// By this the recipe and the manifest name it.
    pub id: &'static str,
    /// What goes, for the person.
    pub what: &'static str,
    /// The file in the working directory that keeps it; rules without one always run.
    pub marker: Option<&'static str>,
    /// Shell commands. `wipe` overwrites and removes files, `$W` is the working directory.
    script: &'static str,
}

/// The rules, in order.
pub const RULES: [Rule; 16] = [
    Rule {
        id: "services",
        what: "running services, stopped so that they write nothing after their files are cleaned",
        marker: None,
        // What carries our own session, the system bus and the journal stays until the end.
        script: r#"
if command -v systemctl >/dev/null 2>&1; then
  # It writes the time to a file now and then.
  systemctl stop systemd-timesyncd.service >/dev/null 2>&1
  systemctl list-units --type=service --state=running --plain --no-legend 2>/dev/null | while read -r unit _; do
    case "$unit" in
      ssh*|sshd*|systemd-*|dbus*|getty@*|serial-getty@*|user@*|cloud-*|network*|NetworkManager*|ifup@*|polkit*) ;;
      *) systemctl stop "$unit" >/dev/null 2>&1 ;;
    esac
  done
fi"#,
    },
    Rule {
        id: "cloud-init",
        what: "cloud-init's state, logs, sudoers entry and generated network configuration",
        marker: Some("skip_cleanup_cloudinit_files"),
        script: r#"
wipe /etc/sudoers.d/90-cloud-init-users /etc/locale.conf /var/log/cloud-init.log /var/log/cloud-init-output.log
rm -rf /var/lib/cloud/*
rm -f /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init* /etc/systemd/network/*-cloud-init-*
rm -f /etc/NetworkManager/system-connections/cloud-init-* /etc/ssh/sshd_config.d/50-cloud-init.conf
for f in /etc/sysconfig/network-scripts/ifcfg-*; do
  [ -f "$f" ] && grep -q 'Created by cloud-init' "$f" && rm -f "$f"
done"#,
    },
    Rule {
        id: "instance",
        what: "files that belong to one instance: host name, update stamps, mail spool stamps",
        marker: Some("skip_cleanup_instance_files"),
        script: r#"
wipe /etc/.updated /etc/aliases.db /etc/hostname /var/lib/misc/postfix.aliasesdb-stamp
wipe /var/lib/postfix/master.lock /var/spool/postfix/pid/master.pid /var/.updated
wipe /var/cache/yum/x86_64/2/.gpgkeyschecked.yum"#,
    },
    Rule {
        id: "ssh",
        what: "SSH host keys and every user's authorized keys",
        marker: Some("skip_cleanup_ssh_files"),
        script: r#"
wipe /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub /root/.ssh/authorized_keys
for home in /home/*; do wipe "$home/.ssh/authorized_keys"; done"#,
    },
    Rule {
        id: "logs",
        what: "logs, accounting, login records and the journal",
        marker: Some("skip_cleanup_instance_log_files"),
        script: r#"
journalctl --relinquish-var >/dev/null 2>&1 || true
wipe /var/log/audit/audit.log /var/log/boot.log /var/log/dmesg /var/log/cron
rm -rf /var/log/journal/* /var/log/sa/sa* /var/log/installer /var/log/unattended-upgrades/*
find /var/log -xdev -type f \( -name '*.gz' -o -name '*.xz' -o -name '*.[0-9]' -o -name '*.old' -o -name '*-[0-9]*' \) -exec rm -f {} + 2>/dev/null
# Emptied, not removed: daemons rely on owner and mode.
find /var/log -xdev -type f -size +0 -exec sh -c 'for f; do : > "$f"; done' sh {} + 2>/dev/null
rm -rf /var/crash/* /var/spool/abrt/* /var/lib/systemd/coredump/* /var/lib/logrotate/status /var/lib/logrotate.status"#,
    },
    Rule {
        id: "toe",
        what: "AWSTOE's folders in the working directory",
        marker: Some("skip_cleanup_toe_files"),
        script: r#"[ -n "$W" ] && rm -rf "$W"/TOE_*"#,
    },
    Rule {
        id: "ssm-logs",
        what: "the SSM agent's logs",
        marker: Some("skip_cleanup_ssm_log_files"),
        script: "rm -rf /var/log/amazon/ssm/*",
    },
    Rule {
        id: "state",
        what: "leases, random seeds, faillock, mail, caches of system services",
        marker: None,
        script: r#"
rm -rf /var/lib/dhclient/* /var/lib/dhcp/*.leases /var/lib/dhcpcd/* /var/lib/NetworkManager/*.lease /var/lib/NetworkManager/secret_key
rm -rf /run/systemd/netif/leases/* /var/lib/rsyslog/imjournal.state /var/lib/systemd/timers/* /var/lib/systemd/timesync/clock
wipe /var/lib/systemd/random-seed /var/lib/systemd/credential.secret /boot/efi/loader/random-seed /boot/loader/random-seed
rm -rf /var/run/faillock/* /var/lib/faillock/* /var/cache/ldconfig/* /var/lib/blkid/* /run/blkid/*
rm -f /etc/udev/rules.d/70-persistent-net.rules /etc/udev/rules.d/75-persistent-net-generator.rules
rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-"#,
    },
    Rule {
        id: "credentials",
        what: "cloud, registry and git credentials of root and users",
        marker: Some("skip_cleanup_credentials"),
        script: r#"
for home in /root /home/*; do
  wipe "$home/.aws/credentials" "$home/.docker/config.json" "$home/.config/containers/auth.json" "$home/.git-credentials" "$home/.netrc"
done"#,
    },
    Rule {
        id: "histories",
        what: "histories of shells and tools",
        marker: Some("skip_cleanup_histories"),
        script: r#"
for home in /root /home/*; do
  for f in .bash_history .sh_history .ash_history .zsh_history .zhistory .history .python_history .mysql_history \
           .psql_history .sqlite_history .lesshst .viminfo .node_repl_history .wget-hsts .local/share/fish/fish_history; do
    wipe "$home/$f"
  done
  rm -rf "$home/.cache"
done"#,
    },
    Rule {
        id: "packages",
        what: "package caches and lists",
        marker: Some("skip_cleanup_package_cache"),
        script: r#"
if command -v apt-get >/dev/null 2>&1; then apt-get clean; rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/lib/dpkg/*-old; fi
if command -v dnf >/dev/null 2>&1; then dnf -q clean all; elif command -v yum >/dev/null 2>&1; then yum -q clean all; fi
if command -v zypper >/dev/null 2>&1; then zypper -q clean --all; fi
rm -rf /var/cache/dnf/* /var/cache/yum/* /var/cache/apk/* /var/lib/dnf/history* /var/cache/man/*"#,
    },
    Rule {
        id: "bake-settings",
        what: "settings that make the bake quicker",
        marker: None,
        script: "rm -f /etc/dpkg/dpkg.cfg.d/zz-ovenbird-bake /etc/apt/apt.conf.d/zz-ovenbird-bake",
    },
    Rule {
        id: "bake-user",
        what: "the user that the bake logged in as, with its home, group and sudoers entry",
        marker: None,
        script: r#"
if id "$U" >/dev/null 2>&1; then
  wipe "/home/$U/.ssh/authorized_keys"
  userdel -rf "$U" >/dev/null 2>&1 || deluser --remove-home "$U" >/dev/null 2>&1
  groupdel "$U" >/dev/null 2>&1
  rm -rf "/home/$U" "/var/mail/$U" "/var/spool/mail/$U"
  rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-
fi
if grep -q "^$U:" /etc/passwd; then echo "the user $U is still there" >&2; exit 1; fi
rm -f "/etc/sudoers.d/$U" /etc/sudoers.d/90-cloud-init-users"#,
    },
    Rule {
        id: "agent",
        what: "the guest agent with its state, logs and documents",
        marker: None,
        script: r#"rm -rf "$A""#,
    },
    Rule {
        id: "temporary",
        what: "everything in /tmp and /var/tmp, and the clean-up's own markers",
        marker: Some("skip_cleanup_temporary_files"),
        script: r#"
for folder in /tmp /var/tmp; do find "$folder" -xdev -mindepth 1 -delete 2>/dev/null; done
[ -n "$W" ] && rm -f "$W"/skip_cleanup_* "$W"/perform_cleanup"#,
    },
    Rule {
        id: "machine-id",
        what: "the machine id: an empty file, filled by the next boot",
        marker: Some("skip_cleanup_machine_id"),
        script: r#"
: > /etc/machine-id
[ -e /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ] && rm -f /var/lib/dbus/machine-id && ln -s /etc/machine-id /var/lib/dbus/machine-id
true"#,
    },
];

/// Before every line of ours on standard output, so that chatter of the guest's tools is told apart.
const TAG: &str = "ovenbird-sanitise";

/// Builds the script.
///
/// At its end the filesystems are trimmed, synced and read-only; nothing that still runs can write any more.
pub fn script(working_directory: &str, skip: &[String]) -> String {
    let mut text = format!(
        r#"set -u
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin HISTFILE=/dev/null
W={working} U={BAKE_USER} A={GUEST_FOLDER}
cd /
# Small secrets are overwritten before they are unlinked: a trim may not reach every block.
wipe() {{ for f; do if [ -f "$f" ] || [ -L "$f" ]; then shred -zuf -n 1 "$f" 2>/dev/null || rm -f "$f"; fi; done; }}
kept() {{ [ -n "$1" ] && [ -n "$W" ] && [ -e "$W/$1" ]; }}
"#,
        working = shell_quote(working_directory),
    );
    // The markers lie in the working directory, often /tmp, which a rule empties: decide before anything is removed.
    for rule in &RULES {
        let marker = rule.marker.unwrap_or_default();
        let always = skip.iter().any(|id| id == rule.id);
        let variable = variable(rule.id);
        if always {
            let _ = writeln!(text, "{variable}=kept");
        } else {
            let _ = writeln!(
                text,
                "if kept '{marker}'; then {variable}=kept; else {variable}=done; fi"
            );
        }
    }
    for rule in &RULES {
        let variable = variable(rule.id);
        let _ = writeln!(
            text,
            "if [ ${variable} = done ]; then\n:\n{}\nfi\necho \"{TAG} {} ${variable}\"",
            rule.script.trim(),
            rule.id
        );
    }
    text.push_str(
        r#"
trimmed=$(fstrim -a -v 2>/dev/null | tr '\n' ';')
sync
# Emergency read-only remount: what still runs can't write, the journals are clean, no shutdown has to run.
echo u > /proc/sysrq-trigger
n=0
while [ $n -lt 600 ]; do
  if grep -q ' / [^ ]* ro[, ]' /proc/mounts; then break; fi
  n=$((n + 1)); sleep 0.1
done
"#,
    );
    let _ = writeln!(
        text,
        "if grep -q ' / [^ ]* ro[, ]' /proc/mounts; then echo \"{TAG} read-only $trimmed\"; else exit 9; fi"
    );
    text
}

fn variable(id: &str) -> String {
    format!("r_{}", id.replace('-', "_"))
}

/// Runs the clean-up; afterwards the guest's filesystems are read-only.
///
/// # Errors
/// A guest failure if the script doesn't come to its end.
pub async fn run(
    guest: &Guest,
    working_directory: &str,
    skip: &[String],
) -> Result<Vec<SanitiseResult>> {
    if let Some(unknown) = skip
        .iter()
        .find(|id| RULES.iter().all(|rule| rule.id != id.as_str()))
    {
        let known: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
        return Err(
            Failure::config(format!("unknown sanitising rule `{unknown}`"))
                .with_hint(format!("known rules: {}", known.join(", "))),
        );
    }
    // By standard input: the process list shows nothing, and the length is not limited. The shell has read all of it
    // before it runs, since the whole is one function.
    let program = format!(
        "main() {{\n{}\n}}\nmain; exit $?\n",
        script(working_directory, skip)
    );
    let output = guest
        .session()
        .run("sudo -n -- sh -s", program.as_bytes(), 1 << 20)
        .await
        .map_err(|error| guest.lost("the clean-up").caused_by(error))?;
    let text = output.text();
    let results = parse(&text);
    if !output.success() || !text.contains(&format!("{TAG} read-only")) {
        let last = results.last().map_or("none", |result| result.id.as_str());
        return Err(Failure::guest(format!(
            "the clean-up did not come to its end (last rule done: {last})"
        ))
        .with_details(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(results)
}

fn parse(text: &str) -> Vec<SanitiseResult> {
    text.lines()
        .filter_map(|line| line.strip_prefix(TAG))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let id = words.next()?;
            let rule = RULES.iter().find(|rule| rule.id == id)?;
            Some(SanitiseResult {
                id: rule.id.to_owned(),
                done: words.next() == Some("done"),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_valid_shell() {
        let text = script("/tmp/it's", &["ssh".into()]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sh");
        std::fs::write(&path, format!("main() {{\n{text}\n}}\nmain; exit $?\n")).unwrap();
        let check = std::process::Command::new("sh")
            .arg("-n")
            .arg(&path)
            .output()
            .unwrap();
        assert!(
            check.status.success(),
            "{}",
            String::from_utf8_lossy(&check.stderr)
        );
        assert!(text.contains("r_ssh=kept\n"));
    }

    #[test]
    fn machine_id_is_last_and_ids_are_unique() {
        assert_eq!(RULES.last().unwrap().id, "machine-id");
        let ids: std::collections::BTreeSet<_> = RULES.iter().map(|rule| rule.id).collect();
        assert_eq!(ids.len(), RULES.len());
    }

    #[test]
    fn results_are_told_from_chatter() {
        let text = "hello\novenbird-sanitise ssh done\novenbird-sanitise logs kept\novenbird-sanitise nonsense done\n";
        assert_eq!(
            parse(text),
            [
                SanitiseResult {
                    id: "ssh".into(),
                    done: true
                },
                SanitiseResult {
                    id: "logs".into(),
                    done: false
                }
            ]
        );
    }
}
