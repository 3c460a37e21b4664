use std::fmt::Write as _;

use ovenbird_inventory::{Distro, Source};

use super::*;
use crate::database::Builder;
use crate::import::import;

/// A database of texts, each a file.
pub(crate) fn database(texts: &[&str]) -> (tempfile::TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.sqlite");
    let mut builder = Builder::new(&path).unwrap();
    for (number, text) in texts.iter().enumerate() {
        let file = folder.path().join(format!("{number}.json"));
        std::fs::write(&file, text).unwrap();
        import(&file, "here", &mut builder, &mut |_| true).unwrap();
    }
    builder.finish("2026-01-01T00:00:00Z", "test 1").unwrap();
    let database = Database::open(&path).unwrap();
    (folder, database)
}

pub(crate) fn inventory(id: &str, version: &str, packages: Vec<Package>) -> Inventory {
    let distro = Distro {
        id: id.into(),
        version: version.into(),
        ..Distro::default()
    };
    Inventory::new(distro, packages, Vec::new())
}

pub(crate) fn deb(name: &str, version: &str, source: Option<(&str, Option<&str>)>) -> Package {
    Package {
        source: source.map(|(name, version)| Source {
            name: name.into(),
            version: version.map(str::to_owned),
        }),
        architecture: Some("amd64".into()),
        ..Package::new(Ecosystem::Deb, name, version)
    }
}

fn told(findings: &Findings) -> String {
    let mut text = String::new();
    for finding in &findings.findings {
        let packages: Vec<&str> = finding
            .packages
            .iter()
            .map(|package| package.name.as_str())
            .collect();
        writeln!(
            text,
            "{} {} {} {} [{}] fixed {:?} aka {:?} by {:?}",
            finding.severity,
            finding.id,
            finding.package,
            finding.installed,
            packages.join(" "),
            finding.fixed,
            finding.aliases,
            finding.sources,
        )
        .unwrap();
    }
    for remark in &findings.remarks {
        writeln!(text, "# {remark}").unwrap();
    }
    text
}

const TRACKER: &str = r#"{
"openssl": {
  "CVE-2024-0001": {"description": "First flaw", "releases": {
    "bookworm": {"status": "resolved", "fixed_version": "3.0.15-1~deb12u1", "urgency": "not yet assigned"},
    "trixie": {"status": "open", "urgency": "low"}}},
  "CVE-2024-0002": {"description": "Second flaw", "releases": {
    "bookworm": {"status": "open", "urgency": "unimportant", "nodsa": "Minor issue"}}},
  "CVE-2024-0003": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "0", "urgency": "high"}}}
}}"#;

const OSV: &str = r#"[
{"id": "DSA-5000-1", "modified": "2024-05-01T00:00:00Z", "summary": "openssl - security update", "upstream": ["CVE-2024-0001", "CVE-2024-0003"],
 "affected": [{"package": {"ecosystem": "Debian:12", "name": "openssl"},
   "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.0.14-9"}]}]}],
 "references": [{"type": "ADVISORY", "url": "https://example.org/DSA-5000-1"}]},
{"id": "CVE-2024-0001", "published": "2024-04-01T00:00:00Z", "details": "Longer words about the first flaw.\nMore.",
 "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]},
{"id": "CVE-2024-0002", "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]}
]"#;

/// Source packages and their versions are looked up, what is told twice is one finding, and the tracker has the last word.
#[test]
fn a_debian() {
    let (_folder, database) = database(&[OSV, TRACKER]);
    let inventory = inventory(
        "debian",
        "12",
        vec![
            deb(
                "libssl3",
                "3.0.11-1~deb12u2+b1",
                Some(("openssl", Some("3.0.11-1~deb12u2"))),
            ),
            deb("openssl", "3.0.11-1~deb12u2", None),
            deb("zsh", "5.9-4", None),
            Package::new(Ecosystem::Npm, "left", "1.0.0"),
        ],
    );
    let findings = find(&inventory, &database).unwrap();
    insta::assert_snapshot!(told(&findings), @r#"
    critical CVE-2024-0001 openssl 3.0.11-1~deb12u2 [libssl3 openssl] fixed ["3.0.15-1~deb12u1"] aka ["DSA-5000-1"] by ["Debian security tracker", "OSV DSA-5000-1"]
    informational CVE-2024-0002 openssl 3.0.11-1~deb12u2 [libssl3 openssl] fixed [] aka [] by ["Debian security tracker"]
    # the database has nothing about npm: 1 package is not looked up
    "#);
    let first = &findings.findings[0];
    assert_eq!(first.summary, "First flaw");
    assert_eq!(first.score, Some(9.8));
    assert_eq!(first.published.as_deref(), Some("2024-04-01T00:00:00Z"));
    assert_eq!(
        first.packages[0].purl,
        "pkg:deb/debian/libssl3@3.0.11-1~deb12u2%2Bb1?arch=amd64&distro=debian-12&upstream=openssl%403.0.11-1~deb12u2"
    );
    let second = &findings.findings[1];
    assert_eq!((second.score, second.scores.len()), (None, 1));
    assert_eq!(second.note.as_deref(), Some("Minor issue"));
    assert_eq!(find(&inventory, &database).unwrap(), findings);
}

#[test]
fn what_is_corrected_is_no_finding() {
    let (_folder, database) = database(&[OSV, TRACKER]);
    let inventory = inventory(
        "debian",
        "12",
        vec![deb("openssl", "3.0.15-1~deb12u1", None)],
    );
    let findings = find(&inventory, &database).unwrap();
    let ids: Vec<&str> = findings
        .findings
        .iter()
        .map(|one| one.id.as_str())
        .collect();
    assert_eq!(ids, ["CVE-2024-0002"]);
    assert_eq!(findings.checked, 1);
}

#[test]
fn an_unknown_distribution_is_told() {
    let (_folder, database) = database(&[OSV]);
    let remarks = |id: &str, version: &str| {
        let inventory = inventory(id, version, vec![deb("openssl", "1", None)]);
        find(&inventory, &database).unwrap().remarks
    };
    assert_eq!(
        remarks("ubuntu", "24.04"),
        ["the database has nothing about ubuntu:24.04: 1 package is not looked up"]
    );
    assert_eq!(
        remarks("templeos", "5"),
        ["the database has nothing about templeos-5: 1 package is not looked up"]
    );
    assert_eq!(
        remarks("", ""),
        ["the database has nothing about an unknown distribution: 1 package is not looked up"]
    );
}

/// rpm's sources are named without epoch; advisories name sources or what is installed.
#[test]
fn an_enterprise_linux() {
    let record = |id: &str, name: &str, fixed: &str, severity: &str| {
        format!(
            r#"{{"id": "{id}", "related": ["CVE-2024-0009"], "affected": [{{"package": {{"ecosystem": "Rocky Linux:9", "name": "{name}"}},
             "ranges": [{{"type": "ECOSYSTEM", "events": [{{"introduced": "0"}}, {{"fixed": "{fixed}"}}]}}]}}],
             "database_specific": {{"severity": "{severity}"}}}}"#
        )
    };
    let texts = [
        record("RLSA-2024:1", "openssl", "1:3.0.7-27.el9", "Important"),
        record("RLSA-2024:2", "kernel-core", "5.14.0-427.el9", "Moderate"),
    ];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (_folder, database) = database(&texts);
    let rpm = |name: &str, version: &str, source: (&str, &str)| Package {
        source: Some(Source {
            name: source.0.into(),
            version: Some(source.1.into()),
        }),
        ..Package::new(Ecosystem::Rpm, name, version)
    };
    let inventory = inventory(
        "rocky",
        "9.3",
        vec![
            rpm(
                "openssl-libs",
                "1:3.0.7-25.el9_3",
                ("openssl", "3.0.7-25.el9_3"),
            ),
            rpm(
                "kernel-core",
                "5.14.0-362.el9_3",
                ("kernel", "5.14.0-362.el9_3"),
            ),
            rpm(
                "kernel-tools",
                "5.14.0-362.el9_3",
                ("kernel", "5.14.0-362.el9_3"),
            ),
        ],
    );
    insta::assert_snapshot!(told(&find(&inventory, &database).unwrap()), @r#"
    high CVE-2024-0009 openssl 1:3.0.7-25.el9_3 [openssl-libs] fixed ["1:3.0.7-27.el9"] aka ["RLSA-2024:1"] by ["OSV RLSA-2024:1"]
    medium CVE-2024-0009 kernel 5.14.0-362.el9_3 [kernel-core] fixed ["5.14.0-427.el9"] aka ["RLSA-2024:2"] by ["OSV RLSA-2024:2"]
    "#);
}

#[test]
fn languages_have_their_own_advisories_unless_a_distribution_brought_them() {
    let (_folder, database) = database(&[
        OSV,
        r#"[
        {"id": "GHSA-1", "aliases": ["CVE-2024-7"], "summary": "s", "affected": [{"package": {"ecosystem": "PyPI", "name": "Flask_X"},
          "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}]}], "database_specific": {"severity": "MODERATE"}},
        {"id": "PYSEC-1", "aliases": ["GHSA-1"], "affected": [{"package": {"ecosystem": "PyPI", "name": "flask-x"}, "versions": ["1.0rc1"]}]},
        {"id": "GHSA-2", "affected": [{"package": {"ecosystem": "Go", "name": "example.org/m"},
          "ranges": [{"type": "SEMVER", "events": [{"introduced": "0.0.0-20200101000000-000000000000"}, {"fixed": "1.0.0"}]}]}]}
        ]"#,
    ]);
    let python = |path: &str| {
        let mut package = Package::new(Ecosystem::PyPi, "flask.x", "1.0RC1");
        package.paths.insert(path.into());
        package
    };
    let mut owned = python("/opt/x/METADATA");
    owned.owner = Some("python3-flask".into());
    owned.version = "1.0".into();
    let packages = vec![
        deb("openssl", "9", None),
        python("/opt/venv/lib/python3.11/site-packages/x.dist-info/METADATA"),
        owned,
        Package::new(
            Ecosystem::Go,
            "example.org/m",
            "v0.0.0-20200202000000-daa7c04131f5",
        ),
        Package::new(Ecosystem::Go, "example.org/m", "(devel)"),
    ];
    let mut brought = python("/usr/lib/python3/dist-packages/x.egg-info");
    brought.version = "0.1".into();
    let inventory = inventory("debian", "12", [packages, vec![brought]].concat());
    insta::assert_snapshot!(told(&find(&inventory, &database).unwrap()), @r#"
    medium CVE-2024-7 flask-x 1.0RC1 [flask.x] fixed ["2.0"] aka ["GHSA-1", "PYSEC-1"] by ["OSV GHSA-1", "OSV PYSEC-1"]
    unknown GHSA-2 example.org/m v0.0.0-20200202000000-daa7c04131f5 [example.org/m] fixed ["1.0.0"] aka [] by ["OSV GHSA-2"]
    # 2 packages of languages came with packages of the distribution: its advisories count for them
    # example.org/m (devel) can't be compared with what is said of it
    "#);
}

#[test]
fn an_alpine() {
    let (_folder, database) = database(&[
        r#"{"id": "ALPINE-CVE-2024-5", "upstream": ["CVE-2024-5"], "affected": [{"package": {"ecosystem": "Alpine:v3.19", "name": "openssl"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.1.4-r6"}]}]}]}"#,
    ]);
    let package = Package {
        source: Some(Source {
            name: "openssl".into(),
            version: None,
        }),
        ..Package::new(Ecosystem::Apk, "libcrypto3", "3.1.4-r5")
    };
    let inventory = inventory("alpine", "3.19.1", vec![package]);
    insta::assert_snapshot!(told(&find(&inventory, &database).unwrap()), @r#"unknown CVE-2024-5 openssl 3.1.4-r5 [libcrypto3] fixed ["3.1.4-r6"] aka ["ALPINE-CVE-2024-5"] by ["OSV ALPINE-CVE-2024-5"]"#);
}
