use camino::Utf8PathBuf;
use serde_json::json;

use super::*;
use crate::output::manifest::Attachment;

fn manifest(folder: &Utf8Path) -> Manifest {
    let evidence = "evidence/bios-virtio/scap/summary.json";
    std::fs::create_dir_all(folder.join(evidence).parent().unwrap()).unwrap();
    std::fs::write(
        folder.join(evidence),
        r#"{"title": "CIS <level 1>", "score": 87.25, "passed": 90, "failed": 13, "report": "../x y.html"}"#,
    )
    .unwrap();
    let attachment =
        Attachment::of(folder, Utf8Path::new(evidence), AttachmentKind::Evidence).unwrap();
    let found = json!({
        "reportVersion": 1, "subject": {"name": "web", "version": "1.2.3-4", "identity": "arn:x"},
        "created": "2026-01-02T03:04:05Z", "generator": "ovenbird 0.1.0",
        "database": {"created": "2026-01-01T00:00:00Z", "sources": []}, "packagesChecked": 12,
        "counts": {"critical": 1, "high": 0, "medium": 0, "low": 0, "informational": 0, "unknown": 0},
        "findings": [{
            "id": "CVE-2026-1", "severity": "critical", "score": 9.8, "ecosystem": "debian:12", "package": "nginx",
            "installed": "1.22.1-9", "fixed": ["1.22.1-10"], "packages": [], "sources": [], "summary": "<b>bold</b>",
        }],
        "remarks": ["the database has nothing about npm"],
    });
    std::fs::write(folder.join("vulnerabilities.json"), found.to_string()).unwrap();
    let vulnerabilities = Attachment::of(
        folder,
        Utf8Path::new("vulnerabilities.json"),
        AttachmentKind::Vulnerabilities,
    )
    .unwrap();
    serde_json::from_value(json!({
        "manifestVersion": 1, "name": "web", "version": "1.2.3", "build": 4, "run": "r", "arn": "arn:x",
        "created": "2026-01-02T03:04:05Z", "generator": "ovenbird 0.1.0", "architecture": "x86_64", "firmware": ["bios"],
        "parent": {"name": "debian-12", "version": "12.1.0", "sha256": "ab"},
        "components": [{"name": "<script>alert(1)</script>", "version": null, "sha256": "cd", "parameters": {"P": ["a&b"]}}],
        "os": {"id": "debian", "version": "12", "prettyName": "Debian GNU/Linux 12"},
        "packages": [{"name": "nginx", "version": "1.22.1-9", "architecture": "amd64"}],
        "sanitised": [{"id": "ssh", "done": true, "verified": true}, {"id": "logs", "done": false}],
        "residue": [{"rule": "private-key", "path": "/etc/ssl/own.key"}],
        "virtualSize": 2_u64 << 30, "diskDigest": "00",
        "boots": [{"purpose": "test", "output": "qcow2", "firmware": "bios", "disk": "virtio", "accelerator": "tcg",
                   "machine": "q35", "qemu": "7.2.0", "seconds": 31.5}],
        "files": [{"path": "web.qcow2", "format": "qcow2", "size": 1000, "sha256": "ef"}],
        "attachments": [attachment, vulnerabilities],
    }))
    .unwrap()
}

#[test]
fn the_page_tells_all_and_trusts_nothing() {
    let root = tempfile::tempdir().unwrap();
    let root: Utf8PathBuf = root.path().to_owned().try_into().unwrap();
    let (folder, logs) = (root.join("image #1"), root.join("logs"));
    std::fs::create_dir_all(&logs).unwrap();
    let trace = json!({"traceEvents": [
        {"ph": "M", "name": "thread_name"},
        {"ph": "X", "name": "LaunchBuildInstance: debian", "cat": "step", "ts": 0.0, "dur": 2e6, "pid": 1, "tid": 0},
        {"ph": "X", "name": "nginx", "cat": "document", "ts": 2e6, "dur": 2e6, "pid": 1, "tid": 2},
    ]});
    std::fs::write(logs.join(TRACE), trace.to_string()).unwrap();
    let report = Report::of(manifest(&folder), &folder, Some(&logs));
    assert_eq!(report.spans.len(), 2);
    let page = report.html(&folder);
    for wanted in [
        "<title>web/1.2.3/4</title>",
        "LaunchBuildInstance: debian",
        "left:50.00%;width:50.00%",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "a&amp;b",
        "CIS &lt;level 1&gt;",
        "87.2 of 100",
        "90 hold, 13 don't",
        "/image%20%231/evidence/bios-virtio/scap/x%20y.html",
        "/image%20%231/web.qcow2",
        "left out",
        "private-key: <code>/etc/ssl/own.key</code>",
        "not signed",
        "&lt;b&gt;bold&lt;/b&gt;",
        "CVE-2026-1",
        "1.22.1-10",
        "nothing about npm",
        "1.22.1-9",
    ] {
        assert!(page.contains(wanted), "{wanted} is not in:\n{page}");
    }
    assert!(!page.contains("<script>alert"));
    // Nothing is fetched: no address but those of files.
    for scheme in ["http://", "https://", "src="] {
        assert!(!page.contains(scheme), "{scheme}");
    }
}

#[test]
fn what_is_missing_or_damaged_is_left_out() {
    let root = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(root.path()).unwrap();
    let manifest = manifest(folder);
    std::fs::write(folder.join(&manifest.attachments[0].path), "{").unwrap();
    std::fs::write(folder.join("vulnerabilities.json"), "[]").unwrap();
    std::fs::write(folder.join(PROVENANCE), "no envelope").unwrap();
    std::fs::write(folder.join(TRACE), "[]").unwrap();
    let report = Report::of(manifest, folder, Some(folder));
    assert!(
        report.spans.is_empty() && report.signatures.is_empty() && report.assessments.is_empty()
    );
    let page = report.html(folder);
    assert!(!page.contains("<h2>Known vulnerabilities</h2>"));
    assert!(!page.contains("<h2>Assessments</h2>") && !page.contains("<h2>Build</h2>"));
}
