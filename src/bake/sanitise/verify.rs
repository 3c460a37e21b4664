//! The clean-up, looked at from outside: on the finished disk, without mounting it and without believing the guest.

use std::collections::BTreeSet;

use ovenbird_disk::ErrorKind;
use ovenbird_disk::fs::{self, FileSystem, Node, NodeKind};

use super::rules::{RULES, Trace};
use crate::output::manifest::SanitiseResult;

/// A file larger than this is no account file.
const LARGEST_ACCOUNTS: u64 = 4 << 20;
/// So many leftovers of one rule are named; what is beyond makes no message clearer.
const NAMED: usize = 5;

/// Something that a rule should have taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The rule.
    pub rule: &'static str,
    /// Where, and what is wrong with it.
    pub what: String,
}

/// Looks whether every rule that ran did its work; rules that were kept are not looked at. `results` learn which rules
/// were verified: those that left no trace, and none of whose traces could lie where nobody can look.
///
/// # Errors
/// If the filesystem is damaged.
pub fn verify(
    root: &dyn FileSystem,
    results: &mut [SanitiseResult],
) -> ovenbird_disk::Result<Vec<Leftover>> {
    let homes = homes(root)?;
    let mut leftovers = Vec::new();
    for result in results.iter_mut().filter(|result| result.done) {
        let Some(rule) = RULES.iter().find(|rule| rule.id == result.id) else {
            continue;
        };
        let mut found = Vec::new();
        for trace in rule.traces {
            look(root, &homes, *trace, &mut found)?;
        }
        let can_be_seen = !rule
            .traces
            .iter()
            .all(|trace| matches!(trace, Trace::Nothing));
        let is_hidden = rule
            .traces
            .iter()
            .flat_map(|trace| patterns(*trace, &homes))
            .any(|pattern| {
                root.unread()
                    .iter()
                    .any(|unread| may_lie_in(&pattern, &unread.at))
            });
        result.verified = can_be_seen && found.is_empty() && !is_hidden;
        let more = found.len().saturating_sub(NAMED);
        found.truncate(NAMED);
        if more > 0 {
            found.push(format!("and {more} more"));
        }
        leftovers.extend(found.into_iter().map(|what| Leftover {
            rule: rule.id,
            what,
        }));
    }
    Ok(leftovers)
}

/// The homes of all users, wherever they are, and what lies in `/home`.
fn homes(root: &dyn FileSystem) -> ovenbird_disk::Result<BTreeSet<String>> {
    let mut homes: BTreeSet<String> = matches(root, "/home/*")?
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    homes.insert("/root".into());
    let users = there(fs::read_file(root, "/etc/passwd", LARGEST_ACCOUNTS))?.unwrap_or_default();
    for line in String::from_utf8_lossy(&users).lines() {
        let home = line.split(':').nth(5).unwrap_or_default();
        let home = home.trim_end_matches('/');
        if home.starts_with('/') {
            homes.insert(home.to_owned());
        }
    }
    Ok(homes)
}

/// A pattern with every home in place of `~`.
fn expanded(pattern: &str, homes: &BTreeSet<String>) -> Vec<String> {
    match pattern.strip_prefix('~') {
        Some(rest) => homes.iter().map(|home| format!("{home}{rest}")).collect(),
        None => vec![pattern.to_owned()],
    }
}

/// Where a trace is looked for.
fn patterns(trace: Trace, homes: &BTreeSet<String>) -> Vec<String> {
    match trace {
        Trace::Gone(pattern) => expanded(pattern, homes),
        Trace::Hollow(path) | Trace::NoLine(path, _) => vec![path.to_owned()],
        Trace::AllHollow(folder) => vec![format!("{folder}/*")],
        Trace::Nothing => Vec::new(),
    }
}

/// Whether something that fits a pattern may lie below a folder.
fn may_lie_in(pattern: &str, folder: &str) -> bool {
    let literal = pattern.split('*').next().unwrap_or_default();
    let below = format!("{}/", folder.trim_end_matches('/'));
    literal.starts_with(&below) || (literal != pattern && below.starts_with(literal))
}

/// What is not there is no error, all else is.
fn there<T>(result: ovenbird_disk::Result<T>) -> ovenbird_disk::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn look(
    root: &dyn FileSystem,
    homes: &BTreeSet<String>,
    trace: Trace,
    found: &mut Vec<String>,
) -> ovenbird_disk::Result<()> {
    match trace {
        Trace::Gone(pattern) => {
            for pattern in expanded(pattern, homes) {
                for (path, _) in matches(root, &pattern)? {
                    found.push(format!("{path} is still there"));
                }
            }
        }
        Trace::Hollow(pattern) => {
            for (path, node) in matches(root, pattern)? {
                if node.kind == NodeKind::File && node.size > 0 {
                    found.push(format!("{path} is not empty"));
                }
            }
        }
        Trace::AllHollow(folder) => {
            let Some(node) = there(fs::resolve(root, folder.as_bytes(), true))? else {
                return Ok(());
            };
            fs::walk(root, &node, &mut |path, node| {
                if node.kind == NodeKind::File && node.size > 0 {
                    let path = String::from_utf8_lossy(path);
                    found.push(format!("{folder}/{path} is not empty"));
                }
                Ok(true)
            })?;
        }
        Trace::NoLine(path, start) => {
            let text = there(fs::read_file(root, path, LARGEST_ACCOUNTS))?.unwrap_or_default();
            if text
                .split(|byte| *byte == b'\n')
                .any(|line| line.starts_with(start.as_bytes()))
            {
                found.push(format!("{path} has a line `{start}…`"));
            }
        }
        Trace::Nothing => {}
    }
    Ok(())
}

/// What has a path that fits; links in the folders on the way are followed inside of the filesystem.
fn matches(root: &dyn FileSystem, pattern: &str) -> ovenbird_disk::Result<Vec<(String, Node)>> {
    let mut at: Vec<(String, Node)> = vec![(String::new(), root.node(root.root())?)];
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        let mut next = Vec::new();
        for (path, node) in at {
            if node.kind != NodeKind::Directory {
                continue;
            }
            for entry in root.read_dir(&node)? {
                if !fits(part.as_bytes(), &entry.name) {
                    continue;
                }
                let path = format!("{path}/{}", String::from_utf8_lossy(&entry.name));
                let node = root.node(entry.id)?;
                if node.kind == NodeKind::Symlink && !last {
                    // /var/run and the like; a link that leads nowhere hides nothing.
                    if let Ok(node) = fs::resolve(root, path.as_bytes(), true) {
                        next.push((path, node));
                    }
                } else {
                    next.push((path, node));
                }
            }
        }
        at = next;
    }
    Ok(at)
}

/// Whether a name fits a pattern in which `*` stands for anything. What stands between two stars is taken where it comes
/// first, so that no name, however it was made, costs more than its length times the pattern's.
pub fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts.filter(|part| !part.is_empty()) {
        let Some(at) = rest.windows(part.len()).position(|found| found == part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::bake::test_disk::{disk, partitioned, put, volume};

    #[test]
    fn patterns_fit_names() {
        for (pattern, name, wanted) in [
            ("ssh_host_*_key", "ssh_host_rsa_key", true),
            ("ssh_host_*_key", "ssh_host_rsa_key.pub", false),
            (".*_history", ".bash_history", true),
            ("*", "", true),
            ("*-cloud-init-*", "10-cloud-init-ens3", true),
            ("hostname", "hostnames", false),
            ("*/a/*", "x/a/y/a/", true),
            ("a*a", "a", false),
            (
                "*-packages/*/test/*",
                "lib/site-packages/x/y/test/key",
                true,
            ),
            ("*-packages/*/test/*", "lib/site-packages/test/key", false),
            ("**a**", "a", true),
        ] {
            assert_eq!(
                fits(pattern.as_bytes(), name.as_bytes()),
                wanted,
                "{pattern} {name}"
            );
        }
    }

    fn results() -> Vec<SanitiseResult> {
        RULES
            .iter()
            .map(|rule| SanitiseResult {
                id: rule.id.into(),
                done: true,
                verified: false,
            })
            .collect()
    }

    #[test]
    fn each_leftover_of_each_rule_is_found_and_a_clean_disk_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        let image = folder.path().join("disk.raw");
        put(&tree, "/etc/os-release", "ID=debian\n");
        let users =
            "root:x:0:0::/root:/bin/sh\napp:x:9:9::/srv/app/:/bin/sh\nno:x:8:8::/nowhere:/bin/sh\n";
        put(&tree, "/etc/passwd", users);
        put(&tree, "/etc/machine-id", "");
        put(&tree, "/var/log/lastlog", "");
        put(&tree, "/home/admin/.profile", "# mine\n");
        let mut clean = results();
        assert_eq!(verify(&*disk(&tree, &image), &mut clean).unwrap(), []);
        let unseen: Vec<&str> = clean
            .iter()
            .filter(|result| !result.verified)
            .map(|result| result.id.as_str())
            .collect();
        assert_eq!(unseen, ["services", "swap"]);
        // Where logs are on a filesystem that can't be read, nobody can say that they are gone.
        put(&tree, "/etc/fstab", "/dev/sda2 /var/log xfs defaults 0 0\n");
        let mut partly = results();
        volume(&tree, &image);
        let root = std::fs::read(&image).unwrap();
        let disk_of_two = partitioned(&folder.path().join("two"), &[&root, b"XFSB"]);
        let seen = fs::Tree::open(&disk_of_two).unwrap();
        assert_eq!(verify(&seen, &mut partly).unwrap(), []);
        let hidden: Vec<&str> = clean
            .iter()
            .zip(&partly)
            .filter(|(seen, now)| seen.verified && !now.verified)
            .map(|(seen, _)| seen.id.as_str())
            .collect();
        assert_eq!(hidden, ["cloud-init", "logs", "ssm-logs"]);

        let mut wanted = std::collections::BTreeSet::new();
        for rule in &RULES {
            for trace in rule.traces {
                let (path, text) = match trace {
                    Trace::Gone(pattern) => {
                        let path = match pattern.strip_prefix('~') {
                            Some(rest) => format!("/srv/app{rest}"),
                            None => (*pattern).to_owned(),
                        };
                        (path.replace('*', "x"), "left")
                    }
                    Trace::Hollow(pattern) => (pattern.replace('*', "x"), "full"),
                    Trace::AllHollow(folder) => (format!("{folder}/deep/er.log"), "line"),
                    Trace::NoLine(path, start) => {
                        put(&tree, path, &format!("{users}{start}x:1000\n"));
                        wanted.insert((rule.id, path.to_string()));
                        continue;
                    }
                    Trace::Nothing => continue,
                };
                // Patterns lie in each other: the folder of one may be what another wants gone.
                let there = std::fs::metadata(tree.join(&path[1..]));
                if there.is_err() || matches!(trace, Trace::Hollow(_)) {
                    put(&tree, &path, text);
                }
                wanted.insert((rule.id, path));
            }
        }
        let mut dirty = results();
        let root = disk(&tree, &image);
        let homes = homes(&*root).unwrap();
        let mut all = Vec::new();
        for (rule, path) in &wanted {
            let traces = RULES.iter().find(|known| known.id == *rule).unwrap().traces;
            let mut found = Vec::new();
            for trace in traces {
                look(&*root, &homes, *trace, &mut found).unwrap();
            }
            assert!(
                found.iter().any(|found| found.starts_with(path.as_str())),
                "{rule}: {path} is not among {found:?}"
            );
            all.push(*rule);
        }
        let leftovers = verify(&*root, &mut dirty).unwrap();
        assert!(
            all.iter()
                .all(|rule| leftovers.iter().any(|left| left.rule == *rule))
        );
        assert!(dirty.iter().all(|result| !result.verified));
        // What was kept on purpose is no leftover.
        let mut kept = results();
        for result in &mut kept {
            result.done = false;
        }
        assert_eq!(verify(&*root, &mut kept).unwrap(), []);
    }
}
