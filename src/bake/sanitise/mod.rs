//! The clean-up of the guest: a table of rules, run as one script by root, the machine id last.
//!
//! The sections and skip markers are those of the service's own clean-up script; what it leaves behind and a copied
//! image must not carry is added, with markers of the same style. A rule is skipped if its marker lies in the working
//! directory or the recipe names it.

mod rules;
mod verify;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ovenbird_component::source::nearest;

use crate::error::{Failure, Result};
use crate::guest::Guest;
use crate::guest::agent::GUEST_FOLDER;
use crate::guest::seed::BAKE_USER;
use crate::guest::ssh::shell_quote;
use crate::output::manifest::SanitiseResult;

use rules::Turn;
pub use rules::{RULES, Rule};
pub(crate) use verify::fits;
pub use verify::verify;

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

/// Which rules a recipe wants otherwise than they are by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Rules that are left out.
    pub skip: Vec<String>,
    /// Optional rules that are applied.
    pub also: Vec<String>,
}

impl Choice {
    /// Checks the names.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Config`] with the rules that there are.
    pub fn check(&self) -> Result<()> {
        for id in self.skip.iter().chain(&self.also) {
            if RULES.iter().any(|rule| rule.id == id) {
                continue;
            }
            let known = || RULES.iter().map(|rule| rule.id);
            let failure = Failure::config(format!("unknown sanitising rule `{id}`"));
            return Err(match nearest(id, known()) {
                Some(near) => failure.with_hint(format!("did you mean `{near}`?")),
                None => failure.with_hint(format!(
                    "known rules: {}",
                    known().collect::<Vec<_>>().join(", ")
                )),
            });
        }
        Ok(())
    }

    fn leaves_out(&self, rule: &Rule) -> bool {
        self.skip.iter().any(|id| id == rule.id)
            || (rule.optional && self.also.iter().all(|id| id != rule.id))
    }
}

/// Lanes of rules that go beside each other.
const LANES: u8 = 3;

/// Before every line of ours on standard output, so that chatter of the guest's tools is told apart.
const TAG: &str = "ovenbird-sanitise";

/// Builds the script.
///
/// At its end the filesystems are trimmed, synced and read-only; nothing that still runs can write any more.
pub fn script(working_directory: &str, choice: &Choice) -> String {
    let mut text = format!(
        r#"set -u
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin HISTFILE=/dev/null
W={working} U={BAKE_USER} A={GUEST_FOLDER}
cd /
# Small secrets are overwritten before they are unlinked: a trim may not reach every block.
wipe() {{
  for f; do shift; if [ -L "$f" ]; then rm -f "$f"; elif [ -f "$f" ]; then set -- "$@" "$f"; fi; done
  [ $# -eq 0 ] || shred -zuf -n 1 "$@" 2>/dev/null || rm -f "$@"
}}
# Everybody's, wherever it is: services have theirs in /var/lib or /opt.
homes() {{ {{ printf '%s\n' /root /home/*; cut -d : -f 6 /etc/passwd; }} | grep '^/.' | sort -u; }}
kept() {{ [ -n "$1" ] && [ -n "$W" ] && [ -e "$W/$1" ]; }}
"#,
        working = shell_quote(working_directory),
    );
    // The markers lie in the working directory, often /tmp, which a rule empties: decide before anything is removed.
    for rule in &RULES {
        let marker = rule.marker.unwrap_or_default();
        let left_out = choice.leaves_out(rule);
        let variable = variable(rule.id);
        if left_out {
            let _ = writeln!(text, "{variable}=kept");
        } else {
            let _ = writeln!(
                text,
                "if kept '{marker}'; then {variable}=kept; else {variable}=done; fi"
            );
        }
    }
    let apply = |text: &mut String, turn: Turn| {
        for rule in RULES.iter().filter(|rule| rule.turn == turn) {
            let variable = variable(rule.id);
            let _ = writeln!(
                text,
                "if [ ${variable} = done ]; then\n:\n{}\nfi\nread -r up rest < /proc/uptime; echo \"{TAG} {} ${variable} $up\"",
                rule.script.trim(),
                rule.id
            );
        }
    };
    apply(&mut text, Turn::First);
    for lane in 0..LANES {
        text.push_str("(\n");
        apply(&mut text, Turn::Lane(lane));
        let _ = writeln!(text, ") &\nlane{lane}=$!");
    }
    for lane in 0..LANES {
        let _ = writeln!(text, "wait $lane{lane} || exit 8");
    }
    apply(&mut text, Turn::Last);
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
    choice: &Choice,
) -> Result<Vec<SanitiseResult>> {
    // By standard input: the process list shows nothing, and the length is not limited. The shell has read all of it
    // before it runs, since the whole is one function.
    let program = format!(
        "main() {{\n{}\n}}\nmain; exit $?\n",
        script(working_directory, choice)
    );
    let output = guest
        .session()
        .run("exec sh -s", program.as_bytes(), 1 << 20)
        .await
        .map_err(|error| guest.lost("the clean-up").caused_by(error))?;
    let text = output.text();
    // With the guest's seconds since its start: what takes long shows.
    tracing::debug!(%text, "cleaned up");
    let results = parse(&text);
    if !output.success() || !text.contains(&format!("{TAG} read-only")) {
        let missing = RULES
            .iter()
            .map(|rule| rule.id)
            .find(|id| results.iter().all(|result| result.id != *id))
            .unwrap_or("read-only filesystems");
        return Err(Failure::guest(format!(
            "the clean-up did not come to its end ({missing} is missing)"
        ))
        .with_details(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(results)
}

/// What was told of the rules, in the table's order: lanes mix their lines.
fn parse(text: &str) -> Vec<SanitiseResult> {
    let told: BTreeMap<&str, bool> = text
        .lines()
        .filter_map(|line| line.strip_prefix(TAG))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next() == Some("done")))
        })
        .collect();
    let known = RULES
        .iter()
        .filter_map(|rule| Some((rule.id, *told.get(rule.id)?)));
    known
        .map(|(id, done)| SanitiseResult {
            id: id.to_owned(),
            done,
            verified: false,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_valid_shell() {
        let choice = Choice {
            skip: vec!["ssh".into()],
            also: vec!["backup-files".into()],
        };
        let text = script("/tmp/it's", &choice);
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
        for rule in &RULES {
            let told = format!("{TAG} {} $", rule.id);
            assert_eq!(text.matches(&told).count(), 1, "{} has no turn", rule.id);
        }
        assert!(text.contains("r_ssh=kept\n"));
        assert!(text.contains("r_cron_spool=kept\n") && !text.contains("r_backup_files=kept\n"));
    }

    #[test]
    fn machine_id_is_last_and_ids_are_unique() {
        assert_eq!(RULES.last().unwrap().id, "machine-id");
        let ids: std::collections::BTreeSet<_> = RULES.iter().map(|rule| rule.id).collect();
        assert_eq!(ids.len(), RULES.len());
    }

    #[test]
    fn results_are_told_from_chatter() {
        let text = "hello\novenbird-sanitise logs kept\novenbird-sanitise ssh done\novenbird-sanitise nonsense done\n";
        assert_eq!(
            parse(text),
            [
                SanitiseResult {
                    id: "ssh".into(),
                    done: true,
                    verified: false,
                },
                SanitiseResult {
                    id: "logs".into(),
                    done: false,
                    verified: false,
                }
            ]
        );
    }
}
