use serde_json::Value;

use super::*;
use crate::finding::Findings;
use crate::matching::tests::{database, deb, inventory};
use crate::policy::{Exception, Policy};
use crate::{find, report};

/// Two findings, of which one is borne.
fn report() -> Report {
    let (_folder, database) = database(&[
        r#"[{"id": "DEBIAN-CVE-2024-1", "upstream": ["CVE-2024-1"], "summary": "A <flaw>", "published": "2024-01-02T03:04:05Z",
          "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
          "references": [{"type": "ADVISORY", "url": "https://example.org/CVE-2024-1"}],
          "affected": [{"package": {"ecosystem": "Debian:12", "name": "openssl"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1:3.0.15-1"}]}]}]},
         {"id": "CVE-2024-2", "affected": [{"package": {"ecosystem": "Debian:12", "name": "openssl"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}]}]"#,
    ]);
    let mut package = deb(
        "libssl3",
        "1:3.0.11-1+b1",
        Some(("openssl", Some("1:3.0.11-1"))),
    );
    package.paths.insert("/var/lib/dpkg/status d/x".into());
    let mut findings: Findings =
        find(&inventory("debian", "12", vec![package]), &database).unwrap();
    let policy = Policy {
        exceptions: vec![Exception {
            id: "CVE-2024-2".into(),
            package: None,
            reason: "no path to it".into(),
            expires: "2030-01-01".parse().unwrap(),
        }],
        ..Policy::default()
    };
    policy.judge(&mut findings, "2026-01-01".parse().unwrap());
    let subject = Subject {
        name: "web",
        version: "1.0.0-1",
        identity: "arn:aws:imagebuilder:local:000000000000:image/web/1.0.0/1",
        created: "2026-01-02T00:00:00Z",
        tool: ("ovenbird", "0.1.0"),
    };
    Report::new(findings, &subject, DatabaseNote::of(&database).unwrap())
}

#[test]
fn our_own_is_read_back() {
    let report = report();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    assert_eq!(report.counts.to_string(), "1 critical");
    assert_eq!(report.findings.len(), 2);
    assert_eq!(report.database.sources[0].used, 2);
}

#[test]
fn sarif_has_a_rule_for_each_vulnerability_and_tells_what_is_borne() {
    let sarif = sarif(&report());
    let run = &sarif["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert_eq!((rules.len(), results.len()), (2, 2));
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
    }
    assert_eq!(rules[0]["properties"]["security-severity"], "9.8");
    assert_eq!(results[0]["level"], "error");
    assert_eq!(
        results[0]["message"]["text"],
        "openssl 1:3.0.11-1 (libssl3) has CVE-2024-1: corrected in 1:3.0.15-1"
    );
    let place = &results[0]["locations"][0]["physicalLocation"]["artifactLocation"];
    assert_eq!(place["uri"], "var/lib/dpkg/status%20d/x");
    assert_eq!(results[0]["suppressions"], Value::Null);
    assert_eq!(
        results[1]["suppressions"][0]["justification"],
        "no path to it (until 2030-01-01)"
    );
}

#[test]
fn the_service_speaks_of_inspector() {
    let account = Account {
        account: "000000000000",
        image: "arn:aws:imagebuilder:local:000000000000:image/web/1.0.0/1",
        pipeline: None,
    };
    let report = report();
    let found = report::scan_findings(&report, account);
    insta::assert_snapshot!(format!("{found:#}"), @r#"
    {
      "findings": [
        {
          "awsAccountId": "000000000000",
          "description": "A <flaw>",
          "firstObservedAt": 1767312000,
          "fixAvailable": "YES",
          "imageBuildVersionArn": "arn:aws:imagebuilder:local:000000000000:image/web/1.0.0/1",
          "inspectorScore": 9.8,
          "inspectorScoreDetails": {
            "adjustedCvss": {
              "adjustments": [],
              "cvssSource": "DEBIAN-CVE-2024-1",
              "score": 9.8,
              "scoreSource": "DEBIAN-CVE-2024-1",
              "scoringVector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
              "version": "3.1"
            }
          },
          "packageVulnerabilityDetails": {
            "cvss": [
              {
                "baseScore": 9.8,
                "scoringVector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
                "source": "DEBIAN-CVE-2024-1",
                "version": "3.1"
              }
            ],
            "referenceUrls": [
              "https://example.org/CVE-2024-1"
            ],
            "relatedVulnerabilities": [
              "DEBIAN-CVE-2024-1"
            ],
            "source": "OSV",
            "sourceUrl": "https://example.org/CVE-2024-1",
            "vendorCreatedAt": 1704164645,
            "vendorSeverity": "critical",
            "vulnerabilityId": "CVE-2024-1",
            "vulnerablePackages": [
              {
                "arch": "amd64",
                "epoch": 1,
                "filePath": "/var/lib/dpkg/status d/x",
                "fixedInVersion": "1:3.0.15-1",
                "name": "libssl3",
                "packageManager": "DPKG",
                "release": "1+b1",
                "remediation": "apt-get install --only-upgrade libssl3",
                "version": "3.0.11"
              }
            ]
          },
          "remediation": {
            "recommendation": {
              "text": "Update openssl to 1:3.0.15-1 or newer."
            }
          },
          "severity": "CRITICAL",
          "title": "CVE-2024-1 - libssl3",
          "type": "PACKAGE_VULNERABILITY",
          "updatedAt": 1767312000
        }
      ]
    }
    "#);
    // Names come from disks that nobody has to trust.
    let mut hostile = report.clone();
    hostile.findings[0].packages[0].name = "x;reboot".into();
    let found = report::scan_findings(&hostile, account);
    let package = &found["findings"][0]["packageVulnerabilityDetails"]["vulnerablePackages"][0];
    assert_eq!(
        (&package["name"], package.get("remediation")),
        (&"x;reboot".into(), None)
    );
    let aggregations = aggregations(&report, account);
    assert_eq!(
        aggregations["image"]["responses"][0]["imageAggregation"]["severityCounts"],
        serde_json::json!({"all": 1, "critical": 1, "high": 0, "medium": 0})
    );
    assert_eq!(
        aggregations["vulnerabilities"]["responses"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        scan_state(&report),
        serde_json::json!({"status": "COMPLETED"})
    );
}
