use super::osv::{Read, Record};
use super::tracker::Entry;
use super::*;

fn range(scheme: Scheme, events: &[(&str, &str)]) -> impl Fn(&str) -> Status {
    let events = events
        .iter()
        .map(|(kind, version)| {
            let version = (*version).to_owned();
            match *kind {
                "introduced" => Event::Introduced(version),
                "fixed" => Event::Fixed(version),
                "last" => Event::LastAffected(version),
                _ => Event::Limit(version),
            }
        })
        .collect();
    let range = Range { events };
    move |version: &str| range.status(scheme, version)
}

fn affected(fixed: Option<&str>) -> Status {
    Status::Affected {
        fixed: fixed.map(str::to_owned),
    }
}

#[test]
fn a_range_from_the_beginning_to_its_correction() {
    let of = range(
        Scheme::Dpkg,
        &[("introduced", "0"), ("fixed", "1.1.1n-0+deb11u5")],
    );
    assert_eq!(of("1.1.1n-0+deb11u4"), affected(Some("1.1.1n-0+deb11u5")));
    assert_eq!(of("1.1.1n-0+deb11u5"), Status::NotAffected);
    assert_eq!(of("2:0"), Status::NotAffected);
    assert_eq!(of("~~"), affected(Some("1.1.1n-0+deb11u5")));
    assert_eq!(of("not a version"), Status::Unknown);
}

#[test]
fn several_stretches_in_any_order() {
    let of = range(
        Scheme::Semantic,
        &[
            ("fixed", "2.1.4"),
            ("introduced", "2.0.0"),
            ("fixed", "1.5.0"),
            ("introduced", "1.0.0"),
        ],
    );
    assert_eq!(of("0.9.0"), Status::NotAffected);
    assert_eq!(of("1.2.0"), affected(Some("1.5.0")));
    assert_eq!(of("1.5.0"), Status::NotAffected);
    assert_eq!(of("2.0.0-rc.1"), Status::NotAffected);
    assert_eq!(of("2.0.0"), affected(Some("2.1.4")));
    assert_eq!(of("3.0.0"), Status::NotAffected);
}

#[test]
fn the_last_affected_one_is_affected() {
    let of = range(Scheme::Pep440, &[("introduced", "0"), ("last", "1.3")]);
    assert_eq!(of("1.3.0"), affected(None));
    assert_eq!(of("1.3.post1"), Status::NotAffected);
}

/// Local builds are the version that they are builds of, unless a record speaks of a build.
#[test]
fn a_local_build_of_python_is_affected_like_its_version() {
    let of = range(Scheme::Pep440, &[("introduced", "0"), ("last", "2.5.1")]);
    assert_eq!(of("2.5.1+cpu"), affected(None));
    assert_eq!(of("2.5.2+cpu"), Status::NotAffected);
    let of = range(
        Scheme::Pep440,
        &[("introduced", "0"), ("last", "2.5.1+cpu.1")],
    );
    assert_eq!(of("2.5.1+cpu.1"), affected(None));
    assert_eq!(of("2.5.1+cpu.2"), Status::NotAffected);
    let of = range(Scheme::Pep440, &[("introduced", "0"), ("fixed", "2.5.1")]);
    assert_eq!(of("2.5.1+cpu"), Status::NotAffected);
    let listed = |version: &str| Affected {
        release: Release::of_osv("PyPI").unwrap(),
        package: "torch".into(),
        ranges: Vec::new(),
        versions: vec![version.into()],
        severity: None,
        note: None,
    };
    assert_eq!(listed("2.5.1").status("2.5.1+cpu"), affected(None));
    assert_eq!(listed("2.5.1+cpu").status("2.5.1"), Status::NotAffected);
    assert_eq!(
        listed("2.5.1+cpu").status("2.5.1+cu121"),
        Status::NotAffected
    );
}

#[test]
fn beyond_a_limit_nothing_is_said() {
    let of = range(Scheme::Semantic, &[("introduced", "0"), ("limit", "2.0.0")]);
    assert_eq!(of("1.9.9"), affected(None));
    assert_eq!(of("2.0.0"), Status::NotAffected);
    let of = range(Scheme::Semantic, &[("introduced", "0"), ("limit", "*")]);
    assert_eq!(of("9.0.0"), affected(None));
}

#[test]
fn a_range_that_can_not_be_compared_says_so() {
    let of = range(Scheme::Apk, &[("introduced", "0"), ("fixed", "whatever")]);
    assert_eq!(of("1.0-r0"), Status::Unknown);
}

fn read(text: &str) -> Result<Read, String> {
    serde_json::from_str::<Record>(text)
        .map_err(|error| error.to_string())
        .and_then(Record::read)
}

fn kept(text: &str) -> Advisory {
    match read(text) {
        Ok(Read::Kept(advisory)) => *advisory,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_of_github() {
    let advisory = kept(
        r#"{"schema_version": "1.4.0", "id": "GHSA-aaaa-bbbb-cccc", "modified": "2024-02-03T04:05:06.789Z",
        "published": "2024-01-02T00:00:00Z", "aliases": ["PYSEC-2024-1", "CVE-2024-0001"], "summary": "Bad\u001b[31m thing",
        "details": "long", "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
        "affected": [
            {"package": {"ecosystem": "PyPI", "name": "Some_Thing"},
             "ranges": [{"type": "GIT", "repo": "x", "events": [{"introduced": "0"}]},
                        {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.2"}]}],
             "versions": ["1.0", "1.1", "1.2.post1"]},
            {"package": {"ecosystem": "Maven", "name": "a:b"}, "versions": ["1"]}],
        "references": [{"type": "WEB", "url": "https://example.org/1"}, {"type": "WEB", "url": "javascript:alert(1)"},
                       {"type": "ADVISORY", "url": "https://example.org/2"}],
        "database_specific": {"severity": "CRITICAL", "cwe_ids": ["CWE-1"]}}"#,
    );
    assert_eq!(advisory.about, ["CVE-2024-0001"]);
    assert_eq!(advisory.summary, "Bad[31m thing");
    assert_eq!(advisory.scores[0].score, 9.8);
    assert_eq!(advisory.severity, Some(Severity::Critical));
    assert_eq!(
        advisory.references,
        ["https://example.org/2", "https://example.org/1"]
    );
    assert_eq!(advisory.modified.as_deref(), Some("2024-02-03T04:05:06Z"));
    let [affected] = advisory.affected.as_slice() else {
        panic!("{:?}", advisory.affected);
    };
    assert_eq!(affected.package, "some-thing");
    // What the range says anyway is not kept twice.
    assert_eq!(affected.versions, ["1.2.post1"]);
    assert_eq!(affected.ranges.len(), 1);
}

#[test]
fn advisories_of_distributions_are_about_what_they_correct() {
    let of = |id: &str, names: &str| {
        let text = format!(
            r#"{{"id": "{id}", {names}, "affected": [{{"package": {{"ecosystem": "Rocky Linux:9", "name": "x"}},
                "ranges": [{{"type": "ECOSYSTEM", "events": [{{"introduced": "0"}}, {{"fixed": "0:1-2.el9"}}]}}]}}]}}"#
        );
        kept(&text).about
    };
    assert_eq!(
        of("RLSA-2024:1", r#""related": ["CVE-2024-2", "CVE-2024-1"]"#),
        ["CVE-2024-1", "CVE-2024-2"]
    );
    assert_eq!(
        of("DSA-1-1", r#""upstream": ["CVE-2024-3"]"#),
        ["CVE-2024-3"]
    );
    assert_eq!(
        of("CGA-2x3y-4z5w-6v7u", r#""related": ["CVE-2024-6"]"#),
        ["CVE-2024-6"]
    );
    assert_eq!(
        of("PHSA-2024-5.0-0200", r#""related": ["CVE-2024-7"]"#),
        ["CVE-2024-7"]
    );
    assert_eq!(
        of("DEBIAN-CVE-2024-4", r#""upstream": ["CVE-2024-4"]"#),
        ["CVE-2024-4"]
    );
    // What is only related to a vulnerability is not that vulnerability.
    assert_eq!(of("GHSA-1", r#""related": ["CVE-2024-5"]"#), ["GHSA-1"]);
    assert_eq!(of("PYSEC-1", r#""aliases": ["GHSA-2"]"#), ["GHSA-2"]);
}

/// With a name, and with what else there is besides of a package.
fn named(id: &str, more: &str) -> String {
    format!(
        r#"{{"id": "{id}", {more}, "affected": [{{"package": {{"ecosystem": "AlmaLinux:9", "name": "x"}},
            "ranges": [{{"type": "ECOSYSTEM", "events": [{{"introduced": "0"}}, {{"fixed": "1-2.el9"}}]}}]}}]}}"#
    )
}

#[test]
fn the_grade_of_an_advisory_can_stand_before_its_summary() {
    for (id, more, severity) in [
        (
            "ALSA-2024:7869",
            r#""summary": "Important: .NET 8.0 security update""#,
            Some(Severity::High),
        ),
        (
            "ALSA-2024:1",
            r#""summary": "Important: x", "database_specific": {"severity": "Low"}"#,
            Some(Severity::Low),
        ),
        (
            "ALSA-2024:2",
            r#""summary": "kernel: security update""#,
            None,
        ),
        ("ALSA-2024:3", r#""summary": "Important""#, None),
        // What anybody else writes before a colon is no grade.
        ("GHSA-1", r#""summary": "Critical: do this""#, None),
    ] {
        assert_eq!(kept(&named(id, more)).severity, severity, "{id}");
    }
}

#[test]
fn what_corrects_no_vulnerability_is_none() {
    for id in ["ALBA-2024:1", "ALEA-2024:1", "RHBA-2024:1", "RHEA-2024:1"] {
        assert_eq!(
            read(&named(
                id,
                r#""summary": "x bug fix update", "aliases": ["B-1"]"#
            )),
            Ok(Read::Unused),
            "{id}"
        );
        let advisory = kept(&named(id, r#""related": ["CVE-2024-1"]"#));
        assert_eq!(advisory.about, ["CVE-2024-1"], "{id}");
    }
}

#[test]
fn malicious_packages_are_critical() {
    let severity = |more: &str| {
        let advisory = kept(&format!(
            r#"{{"id": "MAL-2024-1", {more} "summary": "Malicious code in x",
                "affected": [{{"package": {{"ecosystem": "npm", "name": "x"}}, "versions": ["1.0.0"]}}]}}"#
        ));
        (advisory.severity, advisory.scores.len())
    };
    assert_eq!(severity(""), (Some(Severity::Critical), 0));
    assert_eq!(
        severity(r#""database_specific": {"severity": "LOW"},"#),
        (Some(Severity::Low), 0)
    );
    assert_eq!(
        severity(
            r#""severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:L"}],"#
        ),
        (None, 1)
    );
}

#[test]
fn what_is_withdrawn_foreign_or_damaged() {
    assert_eq!(
        read(r#"{"id": "X-1", "withdrawn": "2024-01-01T00:00:00Z"}"#),
        Ok(Read::Withdrawn)
    );
    assert_eq!(read(r#"{"id": "X-1", "affected": null}"#), Ok(Read::Unused));
    // What is said of a CVE itself is worth keeping.
    let advisory = kept(
        r#"{"id": "CVE-2024-1", "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]}"#,
    );
    assert_eq!(advisory.affected, []);
    assert_eq!(read(r#"{"id": "a b"}"#), Err("its `id` is none".into()));
    assert!(read(r#"{"id": 5}"#).is_err());
    let wrong = read(
        r#"{"id": "X-1", "affected": [{"package": {"ecosystem": "npm", "name": "a\u0000b"}, "versions": ["1.0.0"]}]}"#,
    );
    assert_eq!(wrong, Err("X-1: a package has an impossible name".into()));
}

#[test]
fn entries_of_the_tracker() {
    let entry = |text: &str| -> Result<Option<Advisory>, String> {
        serde_json::from_str::<Entry>(text)
            .map_err(|error| error.to_string())
            .and_then(|entry| entry.read("openssl", "CVE-2024-1"))
    };
    let advisory = entry(
        r#"{"description": "A flaw.", "scope": "remote", "debianbug": 5, "releases": {
            "bookworm": {"status": "resolved", "repositories": {"bookworm": "3.0.15-1"}, "fixed_version": "3.0.14-1", "urgency": "high"},
            "bullseye": {"status": "open", "urgency": "unimportant", "nodsa": "Minor issue", "nodsa_reason": ""},
            "buster": {"status": "resolved", "fixed_version": "0", "urgency": "not yet assigned"},
            "sid": {"status": "undetermined", "urgency": "low"},
            "hamm": {"status": "open"}}}"#,
    )
    .unwrap()
    .unwrap();
    let told: Vec<_> = advisory
        .affected
        .iter()
        .map(|one| {
            let release = one.release.as_str();
            (
                release,
                one.status("3.0.0-1"),
                one.severity,
                one.note.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (
                "debian:12",
                affected(Some("3.0.14-1")),
                Some(Severity::High),
                None
            ),
            (
                "debian:11",
                affected(None),
                Some(Severity::Informational),
                Some("Minor issue")
            ),
            ("debian:10", Status::NotAffected, None, None),
        ]
    );
    assert_eq!(entry(r#"{"releases": {}}"#), Ok(None));
    assert!(entry(r#"{"releases": {"sid": {"status": "gone"}}}"#).is_err());
}
