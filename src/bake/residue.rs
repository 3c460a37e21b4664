//! What looks like a secret and came with the bake: private keys, tokens and password hashes that the parent did not have.
//!
//! Only files that are new or changed since the parent are read, each up to a limit; what is recognised is told by path and
//! rule, never by content. Prefixes and lengths of tokens are those that their issuers publish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use ovenbird_disk::fs::{self, FileSystem, Node, NodeKind};
use ovenbird_disk::{DiskReader, Extents};
use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use crate::output::manifest::Residue;

/// A secret is short and stands near the beginning; what is beyond is data.
const READ_AT_MOST: u64 = 1 << 20;

/// Rules by what a file holds.
const PATTERNS: [(&str, &str); 12] = [
    (
        // With its first header or line: programs that read keys hold the marker alone. In JSON, as of Google's service
        // accounts, and in environment files the end of a line is written as `\n`.
        "private-key",
        r"-----BEGIN (?:RSA |EC |DSA |OPENSSH |ENCRYPTED |PGP )?PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[rn])+(?:[A-Za-z-]+: |[A-Za-z0-9+/=]{40})",
    ),
    ("putty-key", r"(?m)^PuTTY-User-Key-File-[23]: "),
    ("aws-access-key", r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    (
        "aws-secret-key",
        r#"(?i)aws_?secret_?access_?key["']?\s*[:=]\s*["']?[A-Za-z0-9/+]{40}(?:[^A-Za-z0-9/+]|$)"#,
    ),
    (
        "github-token",
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{82})\b",
    ),
    (
        "gitlab-token",
        r"\bgl(?:pat|dt|rt|cbt|ptt|soat)-[A-Za-z0-9_-]{20,}",
    ),
    ("slack-token", r"\bxox[abpors]-[A-Za-z0-9-]{10,}"),
    (
        "google-api-key",
        r"\bAIza[A-Za-z0-9_-]{35}(?:[^A-Za-z0-9_-]|$)",
    ),
    ("npm-token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("pypi-token", r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}"),
    (
        "json-web-token",
        r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}",
    ),
    ("azure-storage-key", r"AccountKey=[A-Za-z0-9+/]{86}=="),
];

/// Bytes, not characters: Unicode's word boundaries would cost a hundredfold on data that is no text.
static SET: LazyLock<Option<RegexSet>> = LazyLock::new(|| {
    RegexSetBuilder::new(PATTERNS.map(|(_, pattern)| pattern))
        .unicode(false)
        .build()
        .ok()
});

/// The same one by one, to say where they fit.
static SINGLE: LazyLock<Vec<Option<Regex>>> = LazyLock::new(|| {
    let one = |(_, pattern): &(&str, &str)| RegexBuilder::new(pattern).unicode(false).build().ok();
    PATTERNS.iter().map(one).collect()
});

/// Bytes of free space that are searched at a time.
const FREE_PIECE: u64 = 4 << 20;
/// More than any of the patterns takes to be recognised.
const LONGEST_SECRET: u64 = 4096;
/// What of free space is compared with the parent's: filesystems have blocks of this size or a multiple, mostly.
const PAGE: usize = 4096;
/// So many findings in free space say that something is wrong; more say nothing new.
const FREE_FINDINGS: usize = 100;

/// Where programs bring examples and tests along, which are no secrets: those of distributions, descriptions and test data
/// of packages of languages, and the documentation in cloud-init and the AWS CLI.
const SAMPLES: [&str; 13] = [
    "usr/share/doc/*",
    "usr/share/man/*",
    "usr/share/perl/*",
    "usr/share/locale/*",
    "*.dist-info/METADATA",
    "*.egg-info/PKG-INFO",
    "*-packages/*/test/*",
    "*-packages/*/tests/*",
    "*/node_modules/*/test/*",
    "*/node_modules/*/tests/*",
    "*/node_modules/*/README.md",
    "*-packages/cloudinit/config/*",
    "*/awscli/examples/*",
];

/// How the keys of AWS's own documentation end, which its programs and libraries bring along.
const AWS_EXAMPLE: &[u8] = b"EXAMPLE";

/// Rules by what a file is.
const STORES: [(&str, &str); 4] = [
    ("pkcs12-store", ".p12"),
    ("pkcs12-store", ".pfx"),
    ("java-keystore", ".jks"),
    ("keepass-database", ".kdbx"),
];

/// Finds what a disk has and its parent did not have. Without a parent everything counts as new.
///
/// # Errors
/// If a filesystem is damaged.
pub fn scan(
    root: &dyn FileSystem,
    parent: Option<&dyn FileSystem>,
) -> ovenbird_disk::Result<Vec<Residue>> {
    let known = match parent {
        Some(parent) => files(parent)?,
        None => BTreeMap::new(),
    };
    let mut found = BTreeSet::new();
    let mut buffer = Vec::new();
    let top = root.node(root.root())?;
    fs::walk(root, &top, &mut |path, node| {
        if node.kind != NodeKind::File || node.size == 0 {
            return Ok(true);
        }
        let shown = String::from_utf8_lossy(path);
        if SAMPLES
            .iter()
            .any(|sample| super::sanitise::fits(sample.as_bytes(), path))
            || known.get(path) == Some(&Stamp::of(node))
        {
            return Ok(true);
        }
        let mut add = |rule: &str| {
            found.insert(Residue {
                rule: rule.to_owned(),
                path: format!("/{shown}"),
            })
        };
        for (rule, end) in STORES {
            if shown.ends_with(end) {
                add(rule);
            }
        }
        buffer.resize(usize::try_from(node.size.min(READ_AT_MOST)).unwrap_or(0), 0);
        root.open(node)?.read_at(&mut buffer, 0)?;
        recognise(&buffer, &mut |rule, _| {
            add(rule);
        });
        Ok(true)
    })?;
    Ok(add_passwords(found, root, parent))
}

/// What lies in free space and looks like a secret: deleted, but there for everybody who reads the disk below its
/// filesystem. What the parent had at the same place is the parent's.
///
/// # Errors
/// If a filesystem is damaged.
pub fn scan_free_space(
    root: &dyn FileSystem,
    volume: &dyn DiskReader,
    parent: Option<&dyn DiskReader>,
) -> ovenbird_disk::Result<Vec<Residue>> {
    let mut found = BTreeSet::new();
    let mut buffer = Vec::new();
    let mut theirs = Vec::new();
    root.free_space(&mut |range| {
        for extent in Extents::range(volume, range.start, range.end - range.start) {
            let extent = extent?;
            if extent.kind.is_empty() {
                continue;
            }
            let mut at = extent.offset;
            while at < extent.end() && found.len() < FREE_FINDINGS {
                let length = (extent.end() - at).min(FREE_PIECE);
                buffer.resize(usize::try_from(length).unwrap_or(0), 0);
                volume.read_at(&mut buffer, at)?;
                if let Some(parent) = parent.filter(|parent| at + length <= parent.virtual_size()) {
                    theirs.resize(buffer.len(), 0);
                    parent.read_at(&mut theirs, at)?;
                    for (page, known) in buffer.chunks_mut(PAGE).zip(theirs.chunks(PAGE)) {
                        if page == known {
                            page.fill(0);
                        }
                    }
                }
                search_free(&buffer, at, &mut found);
                // What stands across the border of two pieces is whole in the second.
                let step = if length == FREE_PIECE {
                    length - LONGEST_SECRET
                } else {
                    length
                };
                at += step;
            }
        }
        Ok(())
    })?;
    Ok(found.into_iter().collect())
}

fn search_free(bytes: &[u8], at: u64, found: &mut BTreeSet<Residue>) {
    if bytes.iter().all(|byte| *byte == 0) {
        return;
    }
    recognise(bytes, &mut |rule, start| {
        found.insert(Residue {
            rule: rule.to_owned(),
            path: format!("free space, byte {}", at + start as u64),
        });
    });
}

/// Tells `seen` of everything that looks like a secret: its rule, and where it begins.
fn recognise(bytes: &[u8], seen: &mut dyn FnMut(&'static str, usize)) {
    let Some(set) = &*SET else { return };
    for index in set.matches(bytes) {
        let Some(regex) = SINGLE.get(index).and_then(Option::as_ref) else {
            continue;
        };
        let rule = PATTERNS[index].0;
        for hit in regex.find_iter(bytes) {
            let is_example = rule.starts_with("aws-")
                && hit
                    .as_bytes()
                    .windows(AWS_EXAMPLE.len())
                    .any(|part| part == AWS_EXAMPLE);
            if !is_example {
                seen(rule, hit.start());
            }
        }
    }
}

fn add_passwords(
    mut found: BTreeSet<Residue>,
    root: &dyn FileSystem,
    parent: Option<&dyn FileSystem>,
) -> Vec<Residue> {
    for user in new_passwords(root, parent) {
        found.insert(Residue {
            rule: "password-hash".into(),
            path: format!("/etc/shadow, user {user}"),
        });
    }
    found.into_iter().collect()
}

/// Whether the recipe lets it stay: `RULE:PATTERN`, or a pattern for all rules.
pub fn is_allowed(found: &Residue, allowed: &[String]) -> bool {
    allowed.iter().any(|entry| {
        let pattern = match entry.split_once(':') {
            Some((rule, pattern)) if rule == found.rule => pattern,
            Some((rule, _)) if !rule.starts_with('/') => return false,
            _ => entry,
        };
        super::sanitise::fits(pattern.as_bytes(), found.path.as_bytes())
    })
}

/// By what a file is known to be unchanged, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: i64,
}

impl Stamp {
    fn of(node: &Node) -> Self {
        Self {
            size: node.size,
            modified: node.mtime,
        }
    }
}

fn files(root: &dyn FileSystem) -> ovenbird_disk::Result<BTreeMap<Vec<u8>, Stamp>> {
    let mut files = BTreeMap::new();
    let top = root.node(root.root())?;
    fs::walk(root, &top, &mut |path, node| {
        if node.kind == NodeKind::File {
            files.insert(path.to_vec(), Stamp::of(node));
        }
        Ok(true)
    })?;
    Ok(files)
}

/// Users whose password can be guessed at: those with a hash that the parent did not have.
fn new_passwords(root: &dyn FileSystem, parent: Option<&dyn FileSystem>) -> Vec<String> {
    let before = parent.map(passwords).unwrap_or_default();
    passwords(root)
        .into_iter()
        .filter(|(user, hash)| before.get(user) != Some(hash))
        .map(|(user, _)| user)
        .collect()
}

fn passwords(root: &dyn FileSystem) -> BTreeMap<String, String> {
    let Ok(text) = fs::read_file(root, "/etc/shadow", READ_AT_MOST) else {
        return BTreeMap::new();
    };
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let (user, hash) = (fields.next()?, fields.next()?);
            // `*`, `!` and `!!` are no passwords; `!` before a hash locks it, and it can still be guessed at.
            let bare = hash.trim_start_matches('!');
            (bare.starts_with(['$', '_']) || bare.len() == 13)
                .then(|| (user.to_owned(), hash.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;
    use std::sync::Arc;

    use super::*;
    use crate::bake::test_disk::{disk, put};

    /// Put together at run time: this file itself must not look like a secret.
    fn samples() -> Vec<(&'static str, String)> {
        let letters = |count: usize| {
            "aB3dE5gH7jK9"
                .chars()
                .cycle()
                .take(count)
                .collect::<String>()
        };
        let key = |kind: &str| format!("-----BEGIN {kind}PRIVATE KEY-----\n{}\n", letters(64));
        vec![
            ("private-key", key("")),
            ("private-key", key("OPENSSH ")),
            ("private-key", key("RSA ")),
            (
                "private-key",
                format!("{{\"key\": \"{}\"}}", key("").replace('\n', "\\n")),
            ),
            (
                "private-key",
                format!(
                    "-----BEGIN {}PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n",
                    "RSA "
                ),
            ),
            (
                "private-key",
                format!(
                    "-----BEGIN PGP {}-----\n\n{}\n",
                    "PRIVATE KEY BLOCK",
                    letters(64)
                ),
            ),
            ("putty-key", "PuTTY-User-Key-File-3: ssh-ed25519\n".into()),
            ("aws-access-key", format!("id = AKIA{}", "ABCD2345ABCD2345")),
            (
                "aws-secret-key",
                format!("aws_secret_access_key = {}", letters(40)),
            ),
            (
                "aws-secret-key",
                format!("AWS_SECRET_ACCESS_KEY=\"{}/\"", letters(39)),
            ),
            (
                "github-token",
                format!("url = https://ghp_{}@x", letters(36)),
            ),
            ("gitlab-token", format!("glpat-{}", letters(20))),
            ("slack-token", format!("xoxb-{}", letters(24))),
            ("google-api-key", format!("AIza{}", letters(35))),
            ("google-api-key", format!("AIza{}-", letters(34))),
            ("npm-token", format!("npm_{}", letters(36))),
            ("pypi-token", format!("pypi-AgEIcHlwaS5vcmc{}", letters(60))),
            (
                "json-web-token",
                format!("eyJ{}.eyJ{}.{}", letters(20), letters(30), letters(43)),
            ),
            ("azure-storage-key", format!("AccountKey={}==", letters(86))),
        ]
    }

    #[test]
    fn each_kind_of_secret_is_found_and_what_the_parent_had_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, image) = (folder.path().join("tree"), folder.path().join("disk"));
        put(&tree, "etc/os-release", "ID=debian\n");
        put(
            &tree,
            "etc/shadow",
            "root:*:1::::::\nold:$y$j9T$abc$def:1::::::\n",
        );
        put(&tree, "etc/ssl/private/old.key", &samples()[0].1);
        let parent = disk(&tree, &folder.path().join("parent"));
        assert_eq!(scan(&*disk(&tree, &image), Some(&*parent)).unwrap(), []);

        for sample in [
            "usr/share/doc/example.pem",
            "usr/lib/python3/dist-packages/twisted/test/server.pem",
            "opt/venv/lib/python3.12/site-packages/PyJWT-2.6.0.dist-info/METADATA",
            "srv/app/node_modules/@x/jwt/README.md",
        ] {
            put(&tree, sample, &samples()[0].1);
        }
        put(
            &tree,
            "srv/text",
            "nothing of the kind: BEGIN PRIVATE, AKIA, ghp_short\n",
        );
        let mut wanted = BTreeSet::new();
        for (index, (rule, text)) in samples().into_iter().enumerate() {
            let path = format!("srv/{index}");
            put(&tree, &path, &format!("before\n{text}\nafter\n"));
            wanted.insert((rule.to_owned(), format!("/{path}")));
        }
        for (rule, end) in STORES {
            put(&tree, &format!("srv/store{end}"), "\u{0}");
            wanted.insert((rule.to_owned(), format!("/srv/store{end}")));
        }
        put(
            &tree,
            "etc/shadow",
            "root:$6$salt$hash:1::::::\nold:$y$j9T$abc$def:1::::::\nlocked:!$6$s$h:1::::::\ndaemon:!*:1::::::\n",
        );
        for user in ["root", "locked"] {
            wanted.insert(("password-hash".into(), format!("/etc/shadow, user {user}")));
        }
        let root = disk(&tree, &image);
        let found = scan(&*root, Some(&*parent)).unwrap();
        let found: BTreeSet<_> = found
            .into_iter()
            .map(|found| (found.rule, found.path))
            .collect();
        assert_eq!(found, wanted);
        // Every rule has a sample.
        for (rule, _) in PATTERNS {
            assert!(found.iter().any(|(name, _)| name == rule), "{rule}");
        }
        // Without a parent all is new.
        let all = scan(&*root, None).unwrap();
        assert!(
            all.iter()
                .any(|found| found.path == "/etc/ssl/private/old.key")
        );
    }

    #[test]
    fn what_programs_and_documentation_hold_is_no_secret() {
        let rules = |text: &str| {
            let mut rules = Vec::new();
            recognise(text.as_bytes(), &mut |rule, _| rules.push(rule));
            rules
        };
        // As in the programs of OpenSSH: the marker by which they know a key, and other strings behind it.
        let marker = format!("-----BEGIN OPENSSH {}-----\n", "PRIVATE KEY");
        let end = marker.replace("BEGIN", "END");
        assert_eq!(rules(&format!("{marker}\0{end}\0aes256-ctr\0")), [""; 0]);
        assert_eq!(rules(&format!("{marker}...\n{end}")), [""; 0]);
        // As in the data of the AWS CLI and boto3.
        let examples = format!(
            "\"AccessKeyId\": \"AKIA{}\", aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY{}\n",
            "IOSFODNN7EXAMPLE", "EXAMPLEKEY"
        );
        assert_eq!(rules(&examples), [""; 0]);
        let real = examples.replace("EXAMPLE", "B2C3D4E");
        assert_eq!(rules(&real), ["aws-access-key", "aws-secret-key"]);
    }

    #[test]
    fn a_recipe_allows_by_path_or_by_rule_and_path() {
        let found = Residue {
            rule: "private-key".into(),
            path: "/opt/app/server.pem".into(),
        };
        let allowed = |entry: &str| is_allowed(&found, &[entry.to_owned()]);
        assert!(allowed("/opt/app/server.pem") && allowed("/opt/app/*.pem"));
        assert!(allowed("private-key:/opt/*"));
        assert!(!allowed("aws-access-key:/opt/*") && !allowed("/opt/other/*"));
    }

    #[test]
    fn what_was_deleted_is_found_unless_the_parent_had_it() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        put(&tree, "etc/os-release", "ID=debian\n");
        put(&tree, "root/old.key", &samples()[0].1);
        let (before, image) = (folder.path().join("before"), folder.path().join("image"));
        drop(disk(&tree, &before));
        let rm = |image: &Path, path: &str| {
            let done = Command::new("debugfs")
                .args(["-w", "-R", &format!("rm {path}")])
                .arg(image)
                .env(
                    "PATH",
                    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()),
                )
                .output()
                .unwrap();
            assert!(done.status.success());
        };
        let scan = |image: &Path, parent: Option<&Path>| {
            let disk: Arc<dyn DiskReader> = ovenbird_disk::open(image).unwrap();
            let parent = parent.map(|parent| ovenbird_disk::open(parent).unwrap());
            let root = fs::find_root(&disk).unwrap().1;
            scan_free_space(
                &*root,
                &disk,
                parent.as_ref().map(|disk| disk as &dyn DiskReader),
            )
            .unwrap()
        };
        assert_eq!(scan(&before, None), [], "it is not deleted yet");
        std::fs::copy(&before, &image).unwrap();
        rm(&image, "/root/old.key");
        let found = scan(&image, None);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].rule, "private-key");
        let at: usize = found[0]
            .path
            .strip_prefix("free space, byte ")
            .unwrap()
            .parse()
            .unwrap();
        assert!(std::fs::read(&image).unwrap()[at..].starts_with(b"-----BEGIN"));
        // The parent has it at the same place, as a file or not.
        assert_eq!(scan(&image, Some(&before)), []);
        let allowed = ["private-key:free space*".to_owned()];
        assert!(is_allowed(&found[0], &allowed));
    }
}
