use serde_json::{Value, json};

use super::*;

fn manifest(change: impl FnOnce(&mut Value)) -> Manifest {
    let sanitised: Vec<_> = RULES
        .iter()
        .map(|rule| json!({"id": rule.id, "done": !rule.optional, "verified": rule.leaves_traces() && !rule.optional}))
        .collect();
    let boot = |purpose: &str, firmware: &str| {
        json!({
            "purpose": purpose, "output": "qcow2", "firmware": firmware, "disk": "virtio", "accelerator": "tcg",
            "machine": "q35", "qemu": "7.2.0", "seconds": 1.0,
        })
    };
    let mut value = json!({
        "manifestVersion": 1, "name": "web", "version": "1.2.3", "build": 4, "run": "r",
        "arn": "arn:aws:imagebuilder:local:000000000000:image/web/1.2.3/4",
        "created": "2026-01-02T03:04:05Z", "generator": "ovenbird 0.1.0", "architecture": "x86_64",
        "firmware": ["bios", "uefi"], "parent": {"name": "debian-12", "version": "12.1.0", "sha256": "ab"},
        "components": [
            {"name": "nginx", "version": "1.0.0", "sha256": "cd", "parameters": {}},
            {"name": "stig-build-linux", "version": "2026.1.0", "sha256": "ef", "parameters": {}},
        ],
        "os": {"id": "debian", "version": "12", "prettyName": "Debian"},
        "packages": [{"name": "nginx", "version": "1.22.1-9", "architecture": "amd64"}],
        "sanitised": sanitised, "virtualSize": 1, "diskDigest": "00",
        "boots": [boot("build", "bios"), boot("test", "uefi"), boot("copy", "uefi")], "files": [],
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

const POLICY: &str = r#"
image = ["web", "web-*"]
minimumVersion = "1.2.0"
maxAgeDays = 30
signatures = 2
architectures = ["x86_64"]
bootedBy = ["uefi"]
copiesCompared = true
parents = ["debian-12/12.*"]
[components]
required = ["stig-build-linux/2026.*"]
forbidden = ["debug-*"]
[packages]
required = ["nginx"]
forbidden = ["telnetd", "rsh-*"]
[cleanUp]
mayHold = ["private-key:/etc/ssl/*"]
"#;

fn faults(change: impl FnOnce(&mut Value), signers: usize) -> Vec<String> {
    let now = "2026-01-20T00:00:00Z".parse().unwrap();
    Policy::parse(POLICY)
        .unwrap()
        .faults(&manifest(change), signers, now)
}

#[test]
fn an_image_as_demanded_has_no_faults() {
    assert_eq!(faults(|_| {}, 2), [""; 0]);
    let allowed = json!([{"rule": "private-key", "path": "/etc/ssl/own.key"}]);
    assert_eq!(faults(|value| value["residue"] = allowed, 3), [""; 0]);
}

#[test]
fn every_demand_finds_its_fault() {
    type Change = fn(&mut Value);
    let table: [(Change, &str); 14] = [
        (
            |v| v["name"] = "mail".into(),
            "the image is mail, not web or web-*",
        ),
        (
            |v| v["version"] = "1.1.9".into(),
            "its version is 1.1.9, at least 1.2.0 is wanted",
        ),
        (
            |v| v["created"] = "2025-12-20T00:00:00Z".into(),
            "it was made at 2025-12-20T00:00:00Z, more than 30 days ago",
        ),
        (
            |v| v["architecture"] = "aarch64".into(),
            "its architecture is aarch64",
        ),
        (
            |v| v["parent"]["version"] = "13.1.0".into(),
            "its parent is debian-12/13.1.0, not debian-12/12.*",
        ),
        (
            |v| v["boots"][1]["firmware"] = "bios".into(),
            "no test has booted it by uefi",
        ),
        (
            |v| v["boots"].as_array_mut().unwrap().truncate(2),
            "no second copy was compared with the first",
        ),
        (
            |v| v["components"][1]["version"] = "2025.4.0".into(),
            "the component stig-build-linux/2026.* is missing",
        ),
        (
            |v| v["components"][0]["name"] = "debug-shell".into(),
            "the component debug-shell/1.0.0 is forbidden by debug-*",
        ),
        (
            |v| v["packages"][0]["name"] = "apache2".into(),
            "the package nginx is missing",
        ),
        (
            |v| v["packages"] = json!([]),
            "the manifest lists no packages",
        ),
        (
            |v| {
                let rules = v["sanitised"].as_array_mut().unwrap();
                rules.iter_mut().find(|rule| rule["id"] == "ssh").unwrap()["done"] = false.into();
            },
            "the clean-up left out ssh",
        ),
        (
            |v| {
                let rules = v["sanitised"].as_array_mut().unwrap();
                rules.iter_mut().find(|rule| rule["id"] == "logs").unwrap()["verified"] =
                    false.into();
            },
            "the clean-up's logs was not verified",
        ),
        (
            |v| v["residue"] = json!([{"rule": "aws-access-key", "path": "/etc/ssl/own.key"}]),
            "it may hold a secret: aws-access-key:/etc/ssl/own.key",
        ),
    ];
    for (change, wanted) in table {
        assert_eq!(faults(change, 2), [wanted]);
    }
    assert_eq!(
        faults(|_| {}, 1),
        ["signed by 1 trusted keys, wanted are 2"]
    );
    let without = |v: &mut Value| {
        v["sanitised"]
            .as_array_mut()
            .unwrap()
            .retain(|rule| rule["id"] != "machine-id");
    };
    assert_eq!(faults(without, 2), ["the clean-up did not know machine-id"]);
}

#[test]
fn mistakes_in_a_policy_are_told() {
    for (text, wanted) in [
        ("signature = 2", "unknown field `signature`"),
        ("signatures = 0", "anybody could have made the image"),
        ("minimumVersion = \"1.2\"", "1.2"),
        ("bootedBy = [\"coreboot\"]", "coreboot"),
        (
            "[cleanUp]\nmayKeep = [\"shs\"]",
            "unknown sanitising rule `shs`",
        ),
    ] {
        let failure = Policy::parse(text).unwrap_err();
        assert!(
            failure.chain().contains(wanted),
            "{text}: {}",
            failure.chain()
        );
    }
}
