//! The hardening components: their rules are whole, and do in a real system what they say.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};

use crate::setup::{self, Ran, Setup, tool};

const HARDENING: [&str; 2] = ["cis-level-1-linux", "stig-build-linux"];
const ALL: [&str; 4] = [
    "cis-level-1-linux",
    "stig-build-linux",
    "openscap-assess-linux",
    "lynis-audit-linux",
];

fn document(name: &str) -> Utf8PathBuf {
    setup::source(&format!("recipes/components/{name}/1.0.0.yml"))
}

/// The script that the phases of a component share.
fn script(name: &str) -> String {
    let text = std::fs::read_to_string(document(name)).unwrap();
    let (_, rest) = text.split_once("          - &").unwrap();
    rest.lines()
        .skip(1)
        .take_while(|line| line.is_empty() || line.starts_with("            "))
        .map(|line| format!("{}\n", line.get(12..).unwrap_or("")))
        .collect()
}

/// One line of a rule table.
#[derive(Debug)]
struct Rule {
    id: String,
    severity: String,
    name: String,
    title: String,
    kind: String,
    /// The kind with its arguments.
    work: String,
}

fn rules(name: &str) -> Vec<Rule> {
    let script = script(name);
    let (_, table) = script.split_once("\n# --- rules ---\n").unwrap();
    let (table, _) = table.split_once("# --- end of the rules ---\n").unwrap();
    table
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.splitn(5, ' ').collect();
            let [_, id, severity, name, rest] = words[..] else {
                panic!("{line}: a rule has an id, a severity, a name, a title and a kind")
            };
            let (title, work) = rest[1..].split_once("' ").unwrap();
            let mut kind = work.split(' ').next().unwrap();
            if kind == "debian" {
                kind = work.split(' ').nth(1).unwrap();
            }
            Rule {
                id: id.into(),
                severity: severity.into(),
                name: name.into(),
                title: title.into(),
                kind: kind.into(),
                work: work.into(),
            }
        })
        .collect()
}

#[test]
fn hardening_components_are_valid() {
    let setup = setup::empty();
    for name in ALL {
        let path = document(name);
        let ran = setup.run(&["component", "validate", path.as_str(), "--json"]);
        let ran = ran.expect(0);
        for problem in ran.stdout.split("\"code\":").skip(1) {
            let code = problem.split('"').nth(1).unwrap();
            assert_eq!(code, "undocumented-key", "{name}: {}", ran.stdout);
        }
        assert!(std::fs::metadata(path).unwrap().len() < 64 << 10);
    }
}

#[test]
fn hardening_scripts_pass_shellcheck() {
    let setup = setup::empty();
    let values = regex::Regex::new(r"\{\{ \w+ \}\}").unwrap();
    for name in ALL {
        let variables = "set -eu; mode=fix phase=build levels=low install=No skip=none banner=No demanding=test\n\
                         : \"$mode$phase$levels$install$skip$banner$demanding\"\n";
        let path = setup.file(
            &format!("{name}.sh"),
            &values.replace_all(&(variables.to_owned() + &script(name)), "7"),
        );
        // Rules hand over commands in single quotes; os-release is not here to be read; values are put in before bash sees them.
        tool(
            "shellcheck",
            &[
                "--shell=bash",
                "--exclude=SC2016,SC1091,SC2050,SC2194",
                path.as_str(),
            ],
        );
    }
}

#[test]
fn hardening_rules_are_whole() {
    let ids = regex::Regex::new(r"^([1-7](\.[0-9]+){2,4}|UBTU-22-[0-9]{6})$").unwrap();
    let names = regex::Regex::new(r"^[a-z][A-Za-z0-9_-]+$").unwrap();
    // These texts go into JSON, and into the log.
    let titles = regex::Regex::new(r"^[A-Za-z0-9_/., -]+$").unwrap();
    for name in HARDENING {
        let script = script(name);
        let rules = rules(name);
        assert!(rules.len() > 150, "{name}: {}", rules.len());
        let mut seen = BTreeSet::new();
        for rule in &rules {
            assert!(ids.is_match(&rule.id), "{name}: {rule:?}");
            assert!(names.is_match(&rule.name), "{name}: {rule:?}");
            assert!(titles.is_match(&rule.title), "{name}: {rule:?}");
            assert!(["low", "medium", "high"].contains(&rule.severity.as_str()));
            assert!(
                seen.insert(&rule.name),
                "{name}: {} is there twice",
                rule.name
            );
            let check = format!("\ncheck_{}() ", rule.kind);
            assert!(script.contains(&check), "{name}: {rule:?} has no check");
            // What somebody has to decide is never changed.
            let decided = ["decision", "unwanted", "seen", "unique"];
            let fix = format!("\nfix_{}() ", rule.kind);
            assert_eq!(
                script.contains(&fix),
                !decided.contains(&rule.kind.as_str()),
                "{name}: {rule:?}"
            );
        }
    }
}

#[test]
fn both_hardening_components_have_one_engine() {
    let engine = |name: &str| {
        let script = script(name);
        let (engine, _) = script.split_once("# --- end of the engine ---\n").unwrap();
        assert!(engine.starts_with("# --- engine"));
        engine.to_owned()
    };
    assert_eq!(engine(HARDENING[0]), engine(HARDENING[1]));
}

#[test]
fn the_page_has_the_hardening_rules() {
    let page = std::fs::read_to_string(setup::source("docs/hardening.md")).unwrap();
    for name in HARDENING {
        let mut wanted =
            "| id | severity | rule | what holds | checked and fixed by |\n|---|---|---|---|---|\n"
                .to_owned();
        for rule in rules(name) {
            let work = rule.work.replace('|', "\\|");
            let Rule {
                id,
                severity,
                name,
                title,
                ..
            } = rule;
            wanted += &format!("| {id} | {severity} | {name} | {title} | `{work}` |\n");
        }
        let (_, rest) = page.split_once(&format!("<!-- {name} -->\n")).unwrap();
        let (table, _) = rest.split_once(&format!("<!-- end of {name} -->")).unwrap();
        // The whole table would hide the line that differs.
        for (have, want) in table.lines().zip(wanted.lines()) {
            assert_eq!(have, want);
        }
        assert_eq!(table.lines().count(), wanted.lines().count());
        for kind in rules(name).into_iter().map(|rule| rule.kind) {
            assert!(
                page.contains(&format!("\n| `{kind}` |")),
                "{kind} is not explained"
            );
        }
    }
}

/// A Debian without a kernel, in a folder; only a shell in a mount namespace sees it whole.
struct Tree<'a> {
    setup: &'a Setup,
    folder: Utf8PathBuf,
}

impl<'a> Tree<'a> {
    fn new(setup: &'a Setup) -> Self {
        let archive = setup.path().join("tree.tar");
        let root = tool("id", &["-u"]).trim() == "0";
        let mode = if root {
            "--mode=root"
        } else {
            "--mode=unshare"
        };
        let packages = "--include=openssh-server,sudo,systemd-sysv,kmod,procps";
        let mmdebstrap = [
            "mmdebstrap",
            "--quiet",
            mode,
            "--variant=minbase",
            packages,
            "bookworm",
            archive.as_str(),
        ];
        if root {
            tool("unshare", &[&["--mount", "--"], &mmdebstrap[..]].concat());
        } else {
            tool(mmdebstrap[0], &mmdebstrap[1..]);
        }
        let folder = setup.path().join("tree");
        let agent = setup.path().join("agent");
        std::fs::write(&agent, ovenbird::guest::agent::bytes()).unwrap();
        let tree = Self { setup, folder };
        tree.outside(&format!(
            "mkdir {0} && tar -C {0} -xf {archive} && install -m 755 {agent} {0}/usr/local/bin/agent",
            tree.folder
        ))
        .expect(0);
        for name in HARDENING {
            tree.outside(&format!(
                "cp {} {}/root/{name}.yml",
                document(name),
                tree.folder
            ))
            .expect(0);
        }
        tree
    }

    /// As root of a user namespace, or as root.
    fn outside(&self, commands: &str) -> Ran {
        let mut unshare = Command::new("unshare");
        if tool("id", &["-u"]).trim() != "0" {
            unshare.args(["--map-root-user", "--map-auto"]);
        }
        unshare.args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--",
            "sh",
            "-ec",
            commands,
        ]);
        Ran::of(unshare.stdin(Stdio::null()).output().unwrap())
    }

    fn run(&self, commands: &str) -> Ran {
        let file = self.setup.file("commands.sh", commands);
        let root = &self.folder;
        self.outside(&format!(
            "cp {file} {root}/root/commands.sh\nmount -t proc proc {root}/proc\nmount -t tmpfs tmpfs {root}/tmp\nmount --rbind /dev {root}/dev\n\
             exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot {root} bash /root/commands.sh"
        ))
    }

    /// Runs phases of a component, and gives what became of each rule.
    fn apply(&self, name: &str, phases: &str, more: &str, code: i32) -> Vec<(String, String)> {
        // Without a bake around it, the evidence lies in /tmp, which is as short-lived as the run.
        let ran = self.run(&format!(
            "/usr/local/bin/agent run --documents /root/{name}.yml --phases {phases} --log-directory /root/logs {more} >&2 || code=$?\n\
             cat /tmp/{name}-*/rules.tsv > /root/rules.tsv\nexit ${{code-0}}"
        ));
        let ran = ran.expect(code);
        let told = self.run("cat /root/rules.tsv").expect(0).stdout;
        assert!(!told.is_empty(), "{}", ran.stderr);
        told.lines()
            .map(|line| {
                let fields: Vec<&str> = line.split('\t').collect();
                (fields[2].to_owned(), fields[3].to_owned())
            })
            .collect()
    }
}

fn of<'a>(told: &'a [(String, String)], wanted: &str) -> BTreeSet<&'a str> {
    told.iter()
        .filter(|(_, state)| state == wanted)
        .map(|(name, _)| name.as_str())
        .collect()
}

/// What is broken, and the rule of each component that has to see it, if it has one.
const SABOTAGE: [(&str, &str, &str); 14] = [
    (
        "echo 'net.ipv4.tcp_syncookies = 0' > /etc/sysctl.d/99-zzz.conf",
        "sysctl_net_ipv4_tcp_syncookies",
        "sysctl_net_ipv4_tcp_syncookies",
    ),
    (
        "sed -i '1i PermitEmptyPasswords yes' /etc/ssh/sshd_config",
        "sshd_disable_empty_passwords",
        "sshd_disable_empty_passwords",
    ),
    (
        "sed -i 's/^MaxAuthTries.*/MaxAuthTries 9/' /etc/ssh/sshd_config.d/00-hardening.conf",
        "sshd_set_max_auth_tries",
        "",
    ),
    (
        "sed -i 's/^PASS_MAX_DAYS.*/PASS_MAX_DAYS 99999/' /etc/login.defs",
        "accounts_maximum_age_login_defs",
        "accounts_maximum_age_login_defs",
    ),
    (
        "sed -i 's/,noexec//' /etc/fstab",
        "mount_option_tmp_noexec mount_option_dev_shm_noexec partition_for_tmp partition_for_dev_shm",
        "",
    ),
    (
        "touch /opt/open && chmod 666 /opt/open",
        "file_permissions_unauthorized_world_writable",
        "",
    ),
    (
        "mkdir -m 777 /opt/folder",
        "",
        "dir_perms_world_writable_sticky_bits",
    ),
    (
        "sed -i '/usb-storage/d' /etc/modprobe.d/*.conf",
        "kernel_module_usb-storage_disabled",
        "kernel_module_usb-storage_disabled",
    ),
    (
        "sed -i 's/^deny.*/deny = 50/' /etc/security/faillock.conf",
        "accounts_passwords_pam_faillock_deny",
        "accounts_passwords_pam_faillock_deny",
    ),
    (
        "useradd -u 77 -s /bin/sh daemon2 && sed -i 's/^daemon2:[^:]*/daemon2:/' /etc/shadow",
        "no_shelllogin_for_systemaccounts no_empty_passwords_etc_shadow",
        "no_empty_passwords_etc_shadow",
    ),
    (
        "chmod 777 /usr/bin/true; chown 1 /usr/lib/os-release",
        "file_permissions_unauthorized_world_writable",
        "file_permissions_binary_dirs file_ownership_library_dirs",
    ),
    (
        "rm -f /etc/systemd/system/ctrl-alt-del.target",
        "",
        "disable_ctrlaltdel_reboot",
    ),
    // After useradd, which gives its backups the modes of these.
    ("chmod 666 /etc/passwd", "file_permissions_etc_passwd", ""),
    ("chown 1:1 /etc/shadow", "file_permissions_etc_shadow", ""),
];

#[test]
fn hardening_fixes_what_it_finds_and_nothing_twice() {
    let setup = setup::empty();
    let tree = Tree::new(&setup);
    for name in HARDENING {
        let first = tree.apply(name, "build,validate", "", 0);
        assert!(of(&first, "fixed").len() > 20, "{name}: {first:?}");
    }
    // Whichever runs again, there is nothing left to fix: the one takes what the other has made.
    for name in HARDENING {
        let again = tree.apply(name, "build", "", 0);
        assert_eq!(of(&again, "fixed"), BTreeSet::new(), "{name}");
        assert_eq!(of(&again, "failed"), BTreeSet::new(), "{name}");
    }
    // Those who know best.
    tree.run("set -e; mkdir -p /run/sshd; ssh-keygen -A; sshd -t; visudo -c; test -z \"$(dpkg --audit)\"")
        .expect(0);

    for (name, which) in HARDENING.into_iter().zip([1, 2]) {
        let wanted: BTreeSet<&str> = SABOTAGE
            .iter()
            .flat_map(|row| if which == 1 { row.1 } else { row.2 }.split(' '))
            .filter(|rule| !rule.is_empty())
            .collect();
        // The tree of each component is broken anew: the other one has mended what both know.
        let commands: Vec<&str> = SABOTAGE.iter().map(|row| row.0).collect();
        tree.run(&format!(
            "userdel daemon2; rm -rf /opt/*\nset -e\n{}",
            commands.join("\n")
        ))
        .expect(0);
        let seen = tree.apply(name, "validate", "", 1);
        assert_eq!(of(&seen, "failed"), wanted, "{name}");
        // The fix of one rule can be that of another as well, or its cause: an account without a shell has to be locked, and
        // usermod gives its backups the modes of what it replaces.
        let mended = tree.apply(name, "build,validate", "", 0);
        let mut allowed = wanted.clone();
        allowed.extend([
            "no_invalid_shell_accounts_unlocked",
            "file_permissions_backup_etc_passwd",
            "file_permissions_backup_etc_shadow",
        ]);
        assert!(
            of(&mended, "fixed").is_subset(&allowed),
            "{name}: {mended:?}"
        );
    }

    // Parameters: only the chosen categories, and what is left out stays as it is.
    let low = tree.apply("stig-build-linux", "build", "--parameters Level=Low", 0);
    let all = rules("stig-build-linux");
    let wanted: BTreeSet<&str> = all
        .iter()
        .filter(|rule| rule.severity == "low")
        .map(|rule| rule.name.as_str())
        .collect();
    assert_eq!(
        low.iter()
            .map(|(name, _)| name.as_str())
            .collect::<BTreeSet<_>>(),
        wanted
    );
    // A mode that usermod, which other rules use, leaves as it is: it takes away what others than owner and group may write.
    tree.run("chmod 664 /etc/passwd").expect(0);
    let skipped = tree.apply(
        "cis-level-1-linux",
        "build",
        "--parameters SkipRules=7.1.1",
        0,
    );
    assert!(of(&skipped, "decision").contains("file_permissions_etc_passwd"));
    let mode = tree.run("stat -c %a /etc/passwd").expect(0).stdout;
    assert_eq!(mode, "664\n");
    let root: &Utf8Path = &tree.folder;
    tree.outside(&format!("rm -rf --one-file-system {root}"))
        .expect(0);
}

const HARDENED: &str = "kind: ImageRecipe
name: hardened
semanticVersion: 1.0.0
parentImage: debian-12
components:
- componentArn: openscap-assess-linux/x.x.x
  parameters: [{name: When, value: [both]}, {name: Profile, value: [anssi_np_nt28_high]}, {name: MinimumScore, value: ['25']}]
- componentArn: cis-level-1-linux/x.x.x
- componentArn: stig-build-linux/x.x.x
  parameters: [{name: SetDoDConsentBanner, value: ['Yes']}]
- componentArn: cis-level-1-linux/x.x.x
- componentArn: stig-build-linux/x.x.x
  parameters: [{name: SetDoDConsentBanner, value: ['Yes']}]
local: {memory: 1024, outputs: [qcow2]}
";

/// A small profile of OpenSCAP, and nothing installed by the rules: `benches/hardening.sh` does it in full.
#[test]
#[ignore = "takes a quarter of an hour: `make torture`"]
fn guest_a_hardened_image_scores_better_boots_and_lets_its_user_in() {
    let setup = setup::with_base();
    let recipe = setup.file("hardened.yml", HARDENED);
    let target = setup.path().join("out");
    setup
        .run(&["build", recipe.as_str(), "--destination", target.as_str()])
        .expect(0);
    let evidence = target.join("evidence");
    let summary = |path: &str| -> serde_json::Value {
        let path = evidence.join(path).join("summary.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}\n{text}"))
    };
    let test = evidence
        .read_dir_utf8()
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_owned())
        .find(|name| name != "build")
        .unwrap();
    let before = summary("build/openscap");
    let after = summary(&format!("{test}/openscap"));
    let score = |summary: &serde_json::Value| summary["score"].as_f64().unwrap();
    assert!(score(&after) > score(&before) + 5.0, "{before}\n{after}");
    assert!(after["content"].as_str().unwrap().contains("debian11"));
    for report in ["report.html", "arf.xml.gz", "results.tsv"] {
        for when in ["build", test.as_str()] {
            let path = evidence.join(when).join("openscap").join(report);
            assert!(std::fs::metadata(&path).unwrap().len() > 1000, "{path}");
        }
    }
    for name in HARDENING {
        assert!(
            summary(&format!("build/{name}-build"))["fixed"]
                .as_u64()
                .unwrap()
                > 20
        );
        assert_eq!(
            summary(&format!("build/{name}-build-2"))["fixed"],
            0,
            "{name}"
        );
        for checked in [
            format!("build/{name}-validate"),
            format!("{test}/{name}-test"),
        ] {
            assert_eq!(summary(&checked)["failed"], 0, "{checked}");
        }
    }
    let manifest = ovenbird::output::Manifest::read(&target).unwrap();
    assert!(
        !manifest
            .packages
            .iter()
            .any(|package| package.name.contains("scap"))
    );

    // As its user finds it: another seed, another key, plain SSH, cloud-init and sudo.
    let disk = target.join(&manifest.files[0].path);
    let clone =
        crate::outside::Outside::boot(&disk, "qcow2", false, false, &setup.path().join("clone"));
    let said = clone.ssh("sudo -n sh -c 'sysctl -n net.ipv4.conf.all.rp_filter; findmnt -no OPTIONS /tmp; cloud-init status; passwd -S root; sshd -T | grep -i ^ciphers'");
    let said = said.expect("the user of the clone can't become root");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "1");
    assert!(
        lines[1].contains("noexec") && lines[1].contains("nosuid"),
        "{said}"
    );
    assert!(
        lines[2].contains("done") || lines[2].contains("running"),
        "{said}"
    );
    assert!(lines[3].starts_with("root L"), "{said}");
    assert!(!lines[4].contains("chacha20"), "{said}");
}
