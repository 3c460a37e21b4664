//! What a build leaves behind and no image should carry.

use super::Findings;
use super::guest::Guest;

pub(super) fn check(guest: &Guest, findings: &mut Findings) {
    for name in guest.list("/etc/ssh") {
        if name.starts_with("ssh_host_") && name.ends_with("_key") {
            findings.add(
                "residue.host-keys",
                format!("/etc/ssh/{name}"),
                "a host key",
            );
        }
    }
    let mut homes = vec!["/root".to_owned()];
    homes.extend(
        guest
            .list("/home")
            .into_iter()
            .map(|name| format!("/home/{name}")),
    );
    for home in homes {
        check_home(guest, &home, findings);
    }
    let machine_id = guest.text("/etc/machine-id").unwrap_or_default();
    if !matches!(machine_id.trim(), "" | "uninitialized") {
        findings.add(
            "residue.machine-id",
            "/etc/machine-id",
            "every machine of this image would have the same",
        );
    }
    let shadow = guest.text("/etc/shadow").unwrap_or_default();
    let root = shadow
        .lines()
        .find_map(|line| line.strip_prefix("root:"))
        .and_then(|rest| rest.split(':').next());
    if root.is_some_and(|hash| !hash.starts_with(['*', '!'])) {
        findings.add(
            "residue.root-password",
            "/etc/shadow",
            "root has a password, or an empty one",
        );
    }
    for (path, what) in [
        (
            "/var/lib/cloud/instance",
            "state of the machine that it was built on",
        ),
        (
            "/var/lib/cloud/seed/nocloud/user-data",
            "the seed of the machine that it was built on",
        ),
        (
            "/var/lib/cloud/seed/nocloud-net/user-data",
            "the seed of the machine that it was built on",
        ),
    ] {
        if guest.node(path).is_some() {
            findings.add("cloudinit.residue", path, what);
        }
    }
}

fn check_home(guest: &Guest, home: &str, findings: &mut Findings) {
    let is_there = |name: &str| {
        guest
            .node(&format!("{home}/{name}"))
            .is_some_and(|node| node.size > 0)
    };
    for name in [".ssh/authorized_keys", ".ssh/authorized_keys2"] {
        if is_there(name) {
            findings.add(
                "residue.authorized-keys",
                format!("{home}/{name}"),
                "keys that may log in",
            );
        }
    }
    for name in [
        ".bash_history",
        ".zsh_history",
        ".ash_history",
        ".python_history",
        ".lesshst",
        ".viminfo",
    ] {
        if is_there(name) {
            findings.add(
                "residue.history",
                format!("{home}/{name}"),
                "what was typed",
            );
        }
    }
    for name in [
        ".aws/credentials",
        ".docker/config.json",
        ".netrc",
        ".git-credentials",
        ".ssh/id_rsa",
        ".ssh/id_ed25519",
        ".ssh/id_ecdsa",
    ] {
        if is_there(name) {
            findings.add(
                "residue.credentials",
                format!("{home}/{name}"),
                "credentials of a person",
            );
        }
    }
}
