use super::*;
use crate::finding::Installed;

fn finding(id: &str, package: &str, severity: Severity, fixed: &[&str]) -> Finding {
    Finding {
        id: id.into(),
        aliases: vec![format!("GHSA-of-{id}")],
        summary: String::new(),
        severity,
        score: None,
        vector: None,
        scores: Vec::new(),
        ecosystem: "debian:12".into(),
        package: package.into(),
        installed: "1".into(),
        fixed: fixed.iter().map(|text| (*text).to_owned()).collect(),
        packages: vec![Installed {
            name: format!("lib{package}"),
            version: "1".into(),
            architecture: None,
            purl: String::new(),
            kind: "deb".into(),
            paths: Vec::new(),
        }],
        sources: Vec::new(),
        references: Vec::new(),
        published: None,
        modified: None,
        note: None,
        exception: None,
    }
}

fn findings() -> Findings {
    Findings {
        findings: vec![
            finding("CVE-1", "ssl", Severity::Critical, &["2"]),
            finding("CVE-2", "ssl", Severity::High, &[]),
            finding("CVE-2", "zlib", Severity::High, &["3"]),
            finding("CVE-3", "zlib", Severity::Unknown, &["3"]),
        ],
        ..Findings::default()
    }
}

fn exception(id: &str, package: Option<&str>, expires: &str) -> Exception {
    Exception {
        id: id.into(),
        package: package.map(str::to_owned),
        reason: "not reachable".into(),
        expires: expires.parse().unwrap(),
    }
}

fn failing(policy: &Policy) -> (Vec<usize>, Vec<String>) {
    let today = "2026-06-15".parse().unwrap();
    let judgement = policy.judge(&mut findings(), today);
    (judgement.failing, judgement.remarks)
}

#[test]
fn thresholds() {
    let at = |fail_on: Option<Severity>, only_fixed: bool| {
        failing(&Policy {
            fail_on,
            only_fixed,
            exceptions: Vec::new(),
        })
        .0
    };
    assert_eq!(at(None, false), Vec::<usize>::new());
    assert_eq!(at(Some(Severity::Critical), false), [0]);
    assert_eq!(at(Some(Severity::High), false), [0, 1, 2]);
    assert_eq!(at(Some(Severity::High), true), [0, 2]);
    assert_eq!(at(Some(Severity::Low), false), [0, 1, 2]);
    assert_eq!(at(Some(Severity::Unknown), false), [0, 1, 2, 3]);
}

#[test]
fn exceptions_name_a_vulnerability_and_perhaps_a_package_and_end() {
    let with = |exceptions: Vec<Exception>| {
        failing(&Policy {
            fail_on: Some(Severity::High),
            only_fixed: false,
            exceptions,
        })
    };
    assert_eq!(with(vec![exception("CVE-2", None, "2026-06-15")]).0, [0]);
    assert_eq!(
        with(vec![exception(
            "GHSA-of-CVE-2",
            Some("libzlib"),
            "2027-01-01"
        )])
        .0,
        [0, 1]
    );
    assert_eq!(
        with(vec![exception("CVE-2", Some("ssl"), "2027-01-01")]).0,
        [0, 2]
    );
    assert_eq!(
        with(vec![
            exception("CVE-1", None, "2026-06-14"),
            exception("CVE-9", Some("x"), "2027-01-01")
        ]),
        (
            vec![0, 1, 2],
            vec![
                "the exception for CVE-1 has ended on 2026-06-14".into(),
                "the exception for CVE-9 in x spares nothing".into()
            ]
        )
    );
}

#[test]
fn what_is_spared_is_not_counted() {
    let mut findings = findings();
    let policy = Policy {
        exceptions: vec![exception("CVE-1", None, "2027-01-01")],
        ..Policy::default()
    };
    policy.judge(&mut findings, "2026-06-15".parse().unwrap());
    assert_eq!(findings.counts().to_string(), "2 high, 1 unknown");
    assert_eq!(
        findings.findings[0].exception.as_ref().unwrap().reason,
        "not reachable"
    );
    // Judged again, with nothing to bear.
    Policy::default().judge(&mut findings, "2026-06-15".parse().unwrap());
    assert_eq!(findings.counts().total(), 4);
}
