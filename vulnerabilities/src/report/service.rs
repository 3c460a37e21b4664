//! The service's shapes: what ListImageScanFindings and ListImageScanFindingAggregations answer.
//! <https://docs.aws.amazon.com/imagebuilder/latest/APIReference/API_ImageScanFinding.html>

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Report;
use crate::finding::{Finding, Installed};
use crate::severity::{Counts, Severity};

/// Texts of findings may have so many characters.
const LONGEST: usize = 1024;

/// Whose image it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account<'a> {
    /// The account's number.
    pub account: &'a str,
    /// The image's ARN.
    pub image: &'a str,
    /// The ARN of the pipeline that made it, if one did.
    pub pipeline: Option<&'a str>,
}

/// Findings as ListImageScanFindings answers them. What an exception spares is left out, as suppressed findings are there.
pub fn scan_findings(report: &Report, account: Account<'_>) -> Value {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .filter(|finding| finding.exception.is_none())
        .map(|finding| one(finding, report, account))
        .collect();
    json!({ "findings": findings })
}

/// An image's `scanState`: `COMPLETED`, with what could not be looked up as reason.
pub fn scan_state(report: &Report) -> Value {
    let mut state = json!({ "status": "COMPLETED" });
    if !report.remarks.is_empty() {
        state["reason"] = json!(cut(&report.remarks.join("; ")));
    }
    state
}

/// Counts as ListImageScanFindingAggregations answers them: of the image, and of each vulnerability.
pub fn aggregations(report: &Report, account: Account<'_>) -> Value {
    let open = || {
        report
            .findings
            .iter()
            .filter(|finding| finding.exception.is_none())
    };
    let mut ids: Vec<&str> = open().map(|finding| finding.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    let of_each: Vec<Value> = ids
        .into_iter()
        .map(|id| {
            let counts = Counts::of(
                open()
                    .filter(|finding| finding.id == id)
                    .map(|finding| finding.severity),
            );
            json!({ "vulnerabilityIdAggregation": {
                "vulnerabilityId": id, "severityCounts": severity_counts(counts),
            }})
        })
        .collect();
    json!({
        "image": { "aggregationType": "imageBuildVersionArn", "responses": [{ "imageAggregation": {
            "imageBuildVersionArn": account.image, "severityCounts": severity_counts(report.counts),
        }}]},
        "vulnerabilities": { "aggregationType": "vulnerabilityId", "responses": of_each },
    })
}

fn severity_counts(counts: Counts) -> Value {
    json!({
        "all": counts.total(), "critical": counts.critical, "high": counts.high, "medium": counts.medium,
    })
}

/// Inspector's words.
const fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "CRITICAL",
        Severity::High => "HIGH",
        Severity::Medium => "MEDIUM",
        Severity::Low => "LOW",
        Severity::Informational => "INFORMATIONAL",
        Severity::Unknown => "UNTRIAGED",
    }
}

fn one(finding: &Finding, report: &Report, account: Account<'_>) -> Value {
    let packages: Vec<&str> = finding
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let title = format!("{} - {}", finding.id, packages.join(", "));
    let description = if finding.summary.is_empty() {
        &finding.id
    } else {
        &finding.summary
    };
    let mut value = json!({
        "awsAccountId": account.account,
        "imageBuildVersionArn": account.image,
        "type": "PACKAGE_VULNERABILITY",
        "description": cut(description),
        "title": cut(&title),
        "remediation": { "recommendation": { "text": cut(&recommendation(finding)) } },
        "severity": word(finding.severity),
        "packageVulnerabilityDetails": details(finding),
        "fixAvailable": if finding.is_fixable() { "YES" } else { "NO" },
    });
    let Some(fields) = value.as_object_mut() else {
        return value;
    };
    put(
        fields,
        "imagePipelineArn",
        account.pipeline.map(Value::from),
    );
    put(fields, "firstObservedAt", seconds(&report.created));
    put(fields, "updatedAt", seconds(&report.created));
    put(fields, "inspectorScore", finding.score.map(Value::from));
    let best = finding
        .scores
        .iter()
        .find(|score| Some(&score.vector) == finding.vector.as_ref());
    put(
        fields,
        "inspectorScoreDetails",
        best.map(|score| {
            json!({ "adjustedCvss": {
                "scoreSource": score.source, "cvssSource": score.source, "version": score.version,
                "score": score.score, "scoringVector": score.vector, "adjustments": [],
            }})
        }),
    );
    value
}

fn recommendation(finding: &Finding) -> String {
    match finding.fixed.first() {
        Some(fixed) => format!("Update {} to {fixed} or newer.", finding.package),
        None => format!("No version of {} corrects this yet.", finding.package),
    }
}

fn details(finding: &Finding) -> Value {
    let cvss: Vec<Value> = finding
        .scores
        .iter()
        .map(|score| {
            json!({
                "baseScore": score.score, "scoringVector": score.vector, "version": score.version, "source": score.source,
            })
        })
        .collect();
    let packages: Vec<Value> = finding
        .packages
        .iter()
        .map(|package| vulnerable(package, finding))
        .collect();
    let source = finding.sources.first().map_or("OSV", String::as_str);
    let source_url = finding
        .references
        .first()
        .cloned()
        .unwrap_or_else(|| format!("https://osv.dev/vulnerability/{}", finding.id));
    let mut value = json!({
        "vulnerabilityId": finding.id,
        "vulnerablePackages": packages,
        "source": source.split(' ').next().unwrap_or(source).to_uppercase(),
        "cvss": cvss,
        "relatedVulnerabilities": finding.aliases,
        "sourceUrl": cut(&source_url),
        "vendorSeverity": finding.severity.as_str(),
    });
    if let Some(fields) = value.as_object_mut() {
        let time = |text: &Option<String>| text.as_deref().and_then(seconds);
        put(fields, "vendorCreatedAt", time(&finding.published));
        put(fields, "vendorUpdatedAt", time(&finding.modified));
        // A list that is there has an entry.
        let references = (!finding.references.is_empty()).then(|| json!(finding.references));
        put(fields, "referenceUrls", references);
    }
    value
}

fn vulnerable(package: &Installed, finding: &Finding) -> Value {
    let (epoch, rest) = match package.version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse::<u32>().unwrap_or_default(), rest),
        None => (0, package.version.as_str()),
    };
    let of_distribution = matches!(package.kind.as_str(), "deb" | "rpm" | "apk");
    let (version, release) = match rest.rsplit_once('-') {
        Some((version, release)) if of_distribution => (version, Some(release)),
        _ => (rest, None),
    };
    let mut value = json!({
        "name": package.name,
        "version": version,
        "epoch": epoch,
        "packageManager": manager(&package.kind),
    });
    if let Some(fields) = value.as_object_mut() {
        put(fields, "release", release.map(Value::from));
        put(
            fields,
            "arch",
            package.architecture.as_deref().map(Value::from),
        );
        put(
            fields,
            "filePath",
            package.paths.first().map(|path| json!(cut(path))),
        );
        put(
            fields,
            "fixedInVersion",
            finding.fixed.first().map(|fixed| json!(fixed)),
        );
        put(
            fields,
            "remediation",
            update(package, finding).map(Value::from),
        );
    }
    value
}

/// Inspector's words for package managers.
fn manager(kind: &str) -> &'static str {
    match kind {
        "deb" => "DPKG",
        "rpm" => "RPM",
        "apk" => "APK",
        "pypi" => "PYTHONPKG",
        "npm" => "NODEPKG",
        "cargo" => "CARGO",
        "golang" => "GOBINARY",
        _ => "OS",
    }
}

/// The command that corrects it.
fn update(package: &Installed, finding: &Finding) -> Option<String> {
    let fixed = finding.fixed.first()?;
    let name = &package.name;
    Some(match package.kind.as_str() {
        "deb" => format!("apt-get install --only-upgrade {name}"),
        "rpm" => format!("dnf upgrade {name}"),
        "apk" => format!("apk add --upgrade {name}"),
        "pypi" => format!("pip install '{name}>={fixed}'"),
        "npm" => format!("npm install {name}@{fixed}"),
        _ => return None,
    })
}

fn put(fields: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), value);
    }
}

/// A time as the service's JSON has it: seconds since 1970.
fn seconds(text: &str) -> Option<Value> {
    let time: Timestamp = text.parse().ok()?;
    Some(json!(time.as_second()))
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}
