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

fn rpm(name: &str, version: &str, source: (&str, &str)) -> Package {
    Package {
        source: Some(Source {
            name: source.0.into(),
            version: Some(source.1.into()),
        }),
        ..Package::new(Ecosystem::Rpm, name, version)
    }
}

/// A record of AlmaLinux, with what corrects each package.
fn alsa(id: &str, cve: &str, fixes: &[(&str, &str)]) -> String {
    let affected: Vec<String> = fixes
        .iter()
        .map(|(name, fixed)| {
            format!(
                r#"{{"package": {{"ecosystem": "AlmaLinux:9", "name": "{name}"}},
                 "ranges": [{{"type": "ECOSYSTEM", "events": [{{"introduced": "0"}}, {{"fixed": "{fixed}"}}]}}]}}"#
            )
        })
        .collect();
    format!(
        r#"{{"id": "{id}", "related": ["{cve}"], "summary": "Important: security update", "affected": [{}]}}"#,
        affected.join(",")
    )
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

/// Debian's images have only signed kernels, whose sources are named after their signatures and count in another way.
#[test]
fn a_signed_kernel_of_debian() {
    let (_folder, database) = database(&[r#"{"linux": {
        "CVE-2026-0001": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "6.1.192-3", "urgency": "high"}}},
        "CVE-2026-0002": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "6.1.192-2", "urgency": "high"}}}
    }}"#]);
    let packages = vec![
        deb(
            "linux-image-6.1.0-50-cloud-amd64",
            "6.1.192-2",
            Some(("linux-signed-amd64", Some("6.1.192+2"))),
        ),
        deb("linux-kbuild-6.1", "6.1.192-2", Some(("linux", None))),
    ];
    let inventory = inventory("debian", "12", packages);
    insta::assert_snapshot!(told(&find(&inventory, &database).unwrap()), @r#"high CVE-2026-0001 linux 6.1.192-2 [linux-image-6.1.0-50-cloud-amd64 linux-kbuild-6.1] fixed ["6.1.192-3"] aka [] by ["Debian security tracker"]"#);
}

#[test]
fn a_signed_kernel_of_ubuntu() {
    let (_folder, database) = database(&[
        r#"[{"id": "USN-1", "upstream": ["CVE-2026-0003"], "affected": [{"package": {"ecosystem": "Ubuntu:22.04:LTS", "name": "linux-aws"},
          "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "5.15.0-1080.87"}]}]}]},
        {"id": "USN-2", "upstream": ["CVE-2026-0004"], "affected": [{"package": {"ecosystem": "Ubuntu:22.04:LTS", "name": "linux"},
          "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "5.15.0-140.150"}]}]}]}]"#,
    ]);
    let packages = vec![
        deb(
            "linux-image-5.15.0-1079-aws",
            "5.15.0-1079.86",
            Some(("linux-signed-aws", None)),
        ),
        deb(
            "linux-image-5.15.0-139-generic",
            "5.15.0-139.149",
            Some(("linux-signed", None)),
        ),
    ];
    let inventory = inventory("ubuntu", "22.04", packages);
    insta::assert_snapshot!(told(&find(&inventory, &database).unwrap()), @r#"
    unknown CVE-2026-0003 linux-aws 5.15.0-1079.86 [linux-image-5.15.0-1079-aws] fixed ["5.15.0-1080.87"] aka ["USN-1"] by ["OSV USN-1"]
    unknown CVE-2026-0004 linux 5.15.0-139.149 [linux-image-5.15.0-139-generic] fixed ["5.15.0-140.150"] aka ["USN-2"] by ["OSV USN-2"]
    "#);
}

/// ALSA-2024:7869 names what is installed, and its versions are not those of the sources.
#[test]
fn a_package_with_a_version_of_its_own_is_compared_by_it() {
    let texts = [
        alsa(
            "ALSA-2024:7869",
            "CVE-2024-38229",
            &[
                ("aspnetcore-runtime-8.0", "8.0.10-1.el9_4"),
                ("dotnet-templates-8.0", "8.0.108-1.el9_4"),
            ],
        ),
        alsa(
            "ALSA-2024:9315",
            "CVE-2024-0010",
            &[("bpftool", "7.3.0-427.40.1.el9_4")],
        ),
        alsa(
            "ALSA-2024:9316",
            "CVE-2024-0011",
            &[("kernel", "5.14.0-427.60.el9_4")],
        ),
    ];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (_folder, database) = database(&texts);
    let dotnet = ("dotnet8.0", "8.0.108-1.el9_4");
    let packages = vec![
        rpm("aspnetcore-runtime-8.0", "8.0.8-1.el9_4", dotnet),
        rpm("dotnet-templates-8.0", "8.0.108-1.el9_4", dotnet),
        rpm(
            "bpftool",
            "7.3.0-427.50.el9_4",
            ("kernel", "5.14.0-427.50.el9_4"),
        ),
    ];
    let inventory = inventory("almalinux", "9.4", packages);
    insta::assert_snapshot!(told(&find(&inventory, &database).unwrap()), @r#"
    high CVE-2024-0011 kernel 5.14.0-427.50.el9_4 [bpftool] fixed ["5.14.0-427.60.el9_4"] aka ["ALSA-2024:9316"] by ["OSV ALSA-2024:9316"]
    high CVE-2024-38229 dotnet8.0 8.0.8-1.el9_4 [aspnetcore-runtime-8.0] fixed ["8.0.10-1.el9_4"] aka ["ALSA-2024:7869"] by ["OSV ALSA-2024:7869"]
    "#);
}

/// perl-Errno has a version of its own and no epoch, and came first.
#[test]
fn the_epoch_of_sources_is_that_of_the_package_named_like_them() {
    let text = alsa(
        "ALSA-2024:1",
        "CVE-2024-0012",
        &[
            ("perl", "4:5.32.1-481.el9"),
            ("perl-Errno", "1.30-481.el9"),
            ("perl-libs", "4:5.32.1-481.el9"),
        ],
    );
    let (_folder, database) = database(&[&text]);
    let perl = ("perl", "5.32.1-481.el9");
    let errno = rpm("perl-Errno", "1.30-481.el9", perl);
    let found = |packages: Vec<Package>| {
        told(&find(&inventory("almalinux", "9.4", packages), &database).unwrap())
    };
    let main = Package::new(Ecosystem::Rpm, "perl", "4:5.32.1-481.el9");
    assert_eq!(found(vec![errno.clone(), main]), "");
    let libraries = rpm("perl-libs", "4:5.32.1-481.el9", perl);
    assert_eq!(found(vec![errno, libraries]), "");
    // An epoch that only a part has is not that of all.
    let main = Package::new(Ecosystem::Rpm, "perl", "5.32.1-481.el9");
    let libraries = rpm("perl-parts", "9:5.32.1-481.el9", perl);
    insta::assert_snapshot!(found(vec![main, libraries]), @r#"high CVE-2024-0012 perl 5.32.1-481.el9 [perl perl-parts] fixed ["4:5.32.1-481.el9"] aka ["ALSA-2024:1"] by ["OSV ALSA-2024:1"]"#);
}

/// Alpine's pip has one place with Alpine's packages, which are known by their owner.
#[test]
fn what_pip_installs_at_alpine_is_looked_up() {
    let (_folder, database) = database(&[r#"[
        {"id": "GHSA-1", "affected": [{"package": {"ecosystem": "PyPI", "name": "flask"},
          "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}]}]},
        {"id": "CVE-1", "affected": [{"package": {"ecosystem": "Alpine:v3.19", "name": "python3"}, "versions": ["1-r0"]}]}]"#]);
    let mut python = Package::new(Ecosystem::PyPi, "flask", "1.0");
    let path = "/usr/lib/python3.11/site-packages/flask-1.0.dist-info/METADATA";
    python.paths.insert(path.into());
    let mut owned = python.clone();
    owned.owner = Some("py3-flask".into());
    owned.version = "0.9".into();
    let system = Package::new(Ecosystem::Apk, "python3", "3.11.6-r1");
    let inventory = inventory("alpine", "3.19.1", vec![system, python, owned]);
    insta::assert_snapshot!(told(&find(&inventory, &database).unwrap()), @r#"
    unknown GHSA-1 flask 1.0 [flask] fixed ["2.0"] aka [] by ["OSV GHSA-1"]
    # 1 package of a language came with packages of the distribution: its advisories count for them
    "#);
}

#[test]
fn vectors_of_an_advisory_about_many_are_for_want_of_others() {
    let [worst, mild] = ["C:H/I:H/A:H", "C:N/I:N/A:L"]
        .map(|impact| format!("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/{impact}"));
    let text = format!(
        r#"[{{"id": "RLSA-2024:1", "related": ["CVE-2024-1", "CVE-2024-2"], "severity": [{{"type": "CVSS_V3", "score": "{worst}"}}],
         "affected": [{{"package": {{"ecosystem": "Rocky Linux:9", "name": "curl"}}, "ranges": [{{"type": "ECOSYSTEM", "events": [{{"introduced": "0"}}]}}]}}]}},
         {{"id": "CVE-2024-1", "severity": [{{"type": "CVSS_V3", "score": "{mild}"}}]}}]"#
    );
    let (_folder, database) = database(&[&text]);
    let package = Package::new(Ecosystem::Rpm, "curl", "7.76.1-26.el9");
    let inventory = inventory("rocky", "9.3", vec![package]);
    let findings = find(&inventory, &database).unwrap().findings;
    let scores: Vec<_> = findings
        .iter()
        .map(|finding| (finding.id.as_str(), finding.score, finding.scores.len()))
        .collect();
    assert_eq!(
        scores,
        [("CVE-2024-2", Some(9.8), 1), ("CVE-2024-1", Some(5.3), 1)]
    );
}
