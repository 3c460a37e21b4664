//! SARIF 2.1.0, as code hosts and reviewers of findings read it: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Report;
use crate::finding::Finding;
use crate::severity::Severity;

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
const HOME: &str = "https://osv.dev/vulnerability";

/// A report as SARIF: a rule for each vulnerability, a result for each finding.
pub fn sarif(report: &Report) -> Value {
    let (name, version) = report
        .generator
        .split_once(' ')
        .unwrap_or((&report.generator, ""));
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut rules = Vec::new();
    for finding in &report.findings {
        places.entry(&finding.id).or_insert_with(|| {
            rules.push(rule(finding));
            rules.len() - 1
        });
    }
    let results: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| result(finding, places.get(finding.id.as_str()).copied()))
        .collect();
    let notes: Vec<Value> = report
        .remarks
        .iter()
        .map(|remark| json!({ "level": "warning", "message": { "text": remark } }))
        .collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": name,
                "version": version,
                "rules": rules,
            }},
            "automationDetails": { "id": format!("vulnerabilities/{}/{}", report.subject.name, report.subject.version) },
            "invocations": [{
                "executionSuccessful": true,
                "endTimeUtc": report.created,
                "toolExecutionNotifications": notes,
            }],
            "results": results,
        }],
    })
}

fn rule(finding: &Finding) -> Value {
    let summary = if finding.summary.is_empty() {
        &finding.id
    } else {
        &finding.summary
    };
    let mut properties =
        json!({ "tags": ["security", "vulnerability", finding.severity.as_str()] });
    // Code hosts sort by this number, and want it as text.
    if let Some(score) = finding.score {
        properties["security-severity"] = json!(format!("{score:.1}"));
    }
    json!({
        "id": finding.id,
        "shortDescription": { "text": summary },
        "fullDescription": { "text": summary },
        "helpUri": finding.references.first().cloned().unwrap_or_else(|| format!("{HOME}/{}", finding.id)),
        "defaultConfiguration": { "level": level(finding.severity) },
        "properties": properties,
    })
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Informational | Severity::Unknown => "note",
    }
}

fn result(finding: &Finding, rule: Option<usize>) -> Value {
    let names: Vec<&str> = finding
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let fixed = if finding.fixed.is_empty() {
        "no version corrects it yet".to_owned()
    } else {
        format!("corrected in {}", finding.fixed.join(", "))
    };
    let text = format!(
        "{} {} ({}) has {}: {fixed}",
        finding.package,
        finding.installed,
        names.join(", "),
        finding.id
    );
    let locations: Vec<Value> = finding
        .packages
        .iter()
        .map(|package| {
            let path = package
                .paths
                .first()
                .map_or("", |path| path.trim_start_matches('/'));
            json!({
                "physicalLocation": {
                    "artifactLocation": { "uri": uri(path), "uriBaseId": "ROOT" },
                    "region": { "startLine": 1 },
                },
                "logicalLocations": [{ "fullyQualifiedName": package.purl, "kind": "package" }],
            })
        })
        .collect();
    let identity = format!("{} {} {}", finding.id, finding.ecosystem, finding.package);
    let mut result = json!({
        "ruleId": finding.id,
        "ruleIndex": rule,
        "level": level(finding.severity),
        "message": { "text": text },
        "locations": locations,
        "partialFingerprints": { "vulnerability/v1": hex::encode(Sha256::digest(identity)) },
        "properties": {
            "severity": finding.severity.as_str(),
            "package": finding.package,
            "installed": finding.installed,
            "fixed": finding.fixed,
        },
    });
    if let Some(spared) = &finding.exception {
        result["suppressions"] = json!([{
            "kind": "external",
            "status": "accepted",
            "justification": format!("{} (until {})", spared.reason, spared.expires),
        }]);
    }
    result
}

/// A path as the relative URI that it must be.
fn uri(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/+@".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
