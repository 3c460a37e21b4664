//! A JUnit report for CI systems: documents are files, phases are suites, steps are cases.

use std::fmt::Write;

use serde_json::Value;

/// Makes the report out of the detailed output, so that the two cannot disagree.
pub(super) fn report(detailed: &Value) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let mut suites = String::new();
    let (mut tests, mut failures, mut skipped) = (0, 0, 0);
    for document in list(detailed, "documents") {
        let name = match text(document, "name") {
            "" => text(document, "filePath"),
            name => name,
        };
        for phase in list(document, "phases") {
            let steps = list(phase, "steps");
            let count = |status: &str| {
                steps
                    .iter()
                    .filter(|step| text(step, "status") == status)
                    .count()
            };
            // A failure that the document ignores is shown as skipped with its reason: it must not turn a build red.
            let (failed, left_out) = (count("failed"), count("skipped") + count("IgnoredFailure"));
            tests += steps.len();
            failures += failed;
            skipped += left_out;
            let _ = writeln!(
                suites,
                "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" skipped=\"{left_out}\" timestamp=\"{}\">",
                escape(&format!("{name}.{}", text(phase, "name"))),
                steps.len(),
                escape(text(phase, "startTime").trim_end_matches('Z'))
            );
            for step in steps {
                case(&mut suites, name, text(phase, "name"), step);
            }
            suites.push_str("  </testsuite>\n");
        }
    }
    let _ = writeln!(
        out,
        "<testsuites name=\"{}\" tests=\"{tests}\" failures=\"{failures}\" skipped=\"{skipped}\">",
        escape(text(detailed, "executionId"))
    );
    out.push_str(&suites);
    out.push_str("</testsuites>\n");
    out
}

fn case(out: &mut String, document: &str, phase: &str, step: &Value) {
    let _ = write!(
        out,
        "    <testcase name=\"{}\" classname=\"{}\"",
        escape(text(step, "name")),
        escape(&format!("{document}.{phase}"))
    );
    let message = escape(text(step, "failureMessage"));
    let _ = match text(step, "status") {
        "failed" => writeln!(
            out,
            ">\n      <failure message=\"{message}\"/>\n    </testcase>"
        ),
        "skipped" => writeln!(out, ">\n      <skipped/>\n    </testcase>"),
        "IgnoredFailure" => writeln!(
            out,
            ">\n      <skipped message=\"ignored failure: {message}\"/>\n    </testcase>"
        ),
        _ => writeln!(out, "/>"),
    };
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// XML 1.0 has no way to write most control characters, so they are replaced.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_become_cases() {
        let detailed = serde_json::json!({"executionId": "x", "documents": [{"name": "D", "phases": [{"name": "build", "startTime": "2026-01-01T00:00:00Z", "steps": [
            {"name": "a", "status": "success"},
            {"name": "b", "status": "failed", "failureMessage": "1 < 2 & \u{1b}\"x\""},
            {"name": "c", "status": "IgnoredFailure", "failureMessage": "no"},
        ]}]}]});
        let report = report(&detailed);
        assert!(
            report.contains("<testsuites name=\"x\" tests=\"3\" failures=\"1\" skipped=\"1\">")
        );
        assert!(report.contains("<failure message=\"1 &lt; 2 &amp; \u{fffd}&quot;x&quot;\"/>"));
        assert!(report.contains("<testcase name=\"a\" classname=\"D.build\"/>"));
    }
}
