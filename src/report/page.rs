//! The page's markup. Every text is escaped by the template: names and paths come from guests that nobody has to trust.

use camino::Utf8Path;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use ovenbird_vulnerabilities::Severity;

use super::{Assessment, Report, Vulnerabilities};
use crate::output::manifest::{AttachmentKind, Manifest};
use crate::timings::Span;
use crate::words::human_bytes;

const STYLE: &str = include_str!("style.css");
const FILTER: &str = include_str!("filter.js");
/// Spans below this are left out of the page; the trace has them all.
const SHOWN: f64 = 0.05;

pub(super) fn render(report: &Report, base: &Utf8Path) -> String {
    let manifest = &report.manifest;
    let title = format!("{}/{}/{}", manifest.name, manifest.version, manifest.build);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Nothing is loaded from anywhere, whatever got into a text.
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p.dim {
                    (manifest.os.pretty_name) ", " (manifest.architecture) ", made " (manifest.created) " from "
                    (manifest.parent.name) "/" (manifest.parent.version) " by " (manifest.generator)
                }
                (tiles(report))
                (assessments(&report.assessments, base))
                @if let Some(found) = &report.vulnerabilities { (vulnerabilities(found)) }
                (timeline(&report.spans))
                (boots(manifest))
                (components(manifest))
                (clean_up(manifest))
                (files(manifest, base))
                (packages(manifest))
                (identity(report))
                script { (PreEscaped(FILTER)) }
            }
        }
    }
    .into_string()
}

fn tiles(report: &Report) -> Markup {
    let manifest = &report.manifest;
    let tests = manifest.boots.iter().filter(|boot| boot.purpose != "build");
    let tests = tests.count();
    let verified = manifest
        .sanitised
        .iter()
        .filter(|rule| rule.verified)
        .count();
    let kept = manifest.sanitised.iter().filter(|rule| !rule.done).count();
    let seconds = report
        .spans
        .iter()
        .map(|span| span.start + span.seconds)
        .fold(0.0, f64::max);
    html! {
        div.tiles {
            div.tile {
                b class=(if tests == 0 { "warn" } else { "good" }) {
                    @if tests == 0 { "not tested" } @else { (tests) " booted" }
                }
                "fresh boots of the finished disk"
            }
            div.tile { b { (verified) " verified" } "clean-up rules, " (kept) " left out" }
            div.tile {
                b class=(if manifest.residue.is_empty() { "good" } else { "warn" }) { (manifest.residue.len()) }
                "secrets allowed to stay"
            }
            div.tile {
                b class=(if report.signatures.is_empty() { "warn" } else { "good" }) {
                    @if report.signatures.is_empty() { "not signed" } @else { (report.signatures.len()) " signed" }
                }
                "checked by " code { "ovenbird verify" }
            }
            @if let Some(found) = &report.vulnerabilities {
                div.tile {
                    b class=(if found.counts.total() == 0 { "good" } else { "warn" }) { (found.counts.total()) " known" }
                    "vulnerabilities, when it was made"
                }
            }
            div.tile { b { (manifest.packages.len()) } "packages" }
            div.tile { b { (human_bytes(manifest.virtual_size)) } "virtual disk" }
            @if seconds > 0.0 { div.tile { b { (format!("{seconds:.0} s")) } "from start to end" } }
        }
    }
}

fn assessments(assessments: &[Assessment], base: &Utf8Path) -> Markup {
    html! {
        @if !assessments.is_empty() {
            h2 { "Assessments" }
            div.scroll { table {
                thead { tr { th { "What" } th { "Score" } th { "Rules" } th { "Where" } } }
                tbody { @for one in assessments { tr {
                    td { (one.title) }
                    td.number { (format!("{:.1} of {:.0}", one.score, one.of)) }
                    td {
                        @if let Some(passed) = one.passed { (passed) " hold" }
                        @if let Some(failed) = one.failed { ", " (failed) " don't" }
                    }
                    td { @match &one.report {
                        Some(report) => a href=(link(base, &format!("{}/{report}", one.folder))) { (one.folder) "/" (report) },
                        None => (one.folder),
                    } }
                } } }
            } }
        }
    }
}

fn vulnerabilities(report: &Vulnerabilities) -> Markup {
    html! {
        h2 { "Known vulnerabilities" }
        p {
            (report.counts) ". " (report.packages_checked) " packages looked up when the image was made, in a database of "
            (report.database.created) "."
        }
        @if !report.findings.is_empty() {
            input type="search" data-of="vulnerabilities" placeholder="filter" aria-label="filter vulnerabilities";
            div.scroll { table #vulnerabilities {
                thead { tr {
                    th { "Severity" } th { "Score" } th { "Vulnerability" } th { "Package" } th { "Installed" } th { "Corrected in" }
                    th { "Summary" }
                } }
                tbody { @for one in &report.findings { tr {
                    td class=(if one.severity >= Severity::High && one.exception.is_none() { "warn" } else { "" }) {
                        (one.severity)
                        @if let Some(spared) = &one.exception { div.dim { "borne until " (spared.expires) ": " (spared.reason) } }
                    }
                    td.number { @if let Some(score) = one.score { (format!("{score:.1}")) } }
                    td { (one.id) }
                    td { (one.package) }
                    td.mono { (one.installed) }
                    td.mono { (one.fixed.join(", ")) }
                    td { (one.summary) @if let Some(note) = &one.note { div.dim { (note) } } }
                } } }
            } }
        }
        @if !report.remarks.is_empty() {
            ul { @for remark in &report.remarks { li.dim { (remark) } } }
        }
    }
}

fn timeline(spans: &[Span]) -> Markup {
    let end = spans
        .iter()
        .map(|span| span.start + span.seconds)
        .fold(0.1, f64::max);
    html! {
        @if !spans.is_empty() {
            h2 { "Build" }
            div.scroll { table.gantt { tbody {
                @for span in spans.iter().filter(|span| span.seconds >= SHOWN || span.lane.depth() == 0) { tr {
                    td class={ "depth" (span.lane.depth()) } { (span.name) }
                    td.number { (format!("{:.1} s", span.seconds)) }
                    td { div.track { i style=(format!(
                        "left:{:.2}%;width:{:.2}%", 100.0 * span.start / end, 100.0 * span.seconds / end
                    )) {} } }
                } }
            } } }
        }
    }
}

fn boots(manifest: &Manifest) -> Markup {
    html! {
        h2 { "Boots" }
        div.scroll { table {
            thead { tr { th { "Purpose" } th { "Firmware" } th { "Disk" } th { "How" } th { "Seconds" } th { "Own to the copy" } } }
            tbody { @for boot in &manifest.boots { tr {
                td { (boot.purpose) @if let Some(output) = &boot.output { " of " (output) } }
                td { (boot.firmware) }
                td { (boot.disk) }
                td { (boot.machine) ", " (boot.accelerator) ", QEMU " (boot.qemu) @if boot.resumed { ", resumed from memory" } }
                td.number { (format!("{:.1}", boot.seconds)) }
                td { (boot.differs.join(", ")) }
            } } }
        } }
    }
}

fn components(manifest: &Manifest) -> Markup {
    html! {
        h2 { "Components" }
        div.scroll { table {
            thead { tr { th { "Name" } th { "Version" } th { "Parameters" } th { "SHA-256" } } }
            tbody { @for component in &manifest.components { tr {
                td { (component.name) }
                td { (component.version.as_deref().unwrap_or_default()) }
                td { @for (name, values) in &component.parameters { div { (name) " = " code { (values.join(", ")) } } } }
                td.mono { (component.sha256) }
            } } }
        } }
    }
}

fn clean_up(manifest: &Manifest) -> Markup {
    html! {
        h2 { "Clean-up" }
        div.scroll { table {
            thead { tr { th { "Rule" } th { "Applied" } th { "Seen on the finished disk" } } }
            tbody { @for rule in &manifest.sanitised { tr {
                td { (rule.id) }
                td class=(if rule.done { "good" } else { "warn" }) { @if rule.done { "yes" } @else { "left out" } }
                td { @if rule.verified { span.good { "verified" } } }
            } } }
        } }
        @if !manifest.residue.is_empty() {
            p { "Looks like a secret, and the recipe lets it stay:" }
            ul { @for found in &manifest.residue { li { (found.rule) ": " code { (found.path) } } } }
        }
    }
}

fn files(manifest: &Manifest, base: &Utf8Path) -> Markup {
    let outputs = manifest
        .files
        .iter()
        .map(|file| (&file.path, file.format.to_string(), file.size, &file.sha256));
    let attachments = manifest.attachments.iter().map(|file| {
        (
            &file.path,
            kind(file.kind).to_owned(),
            file.size,
            &file.sha256,
        )
    });
    html! {
        h2 { "Files" }
        div.scroll { table {
            thead { tr { th { "File" } th { "What" } th { "Size" } th { "SHA-256" } } }
            tbody { @for (path, what, size, sha256) in outputs.chain(attachments) { tr {
                td { a href=(link(base, path.as_str())) { (path) } }
                td { (what) }
                td.number { (human_bytes(size)) }
                td.mono { (sha256) }
            } } }
        } }
    }
}

fn kind(kind: AttachmentKind) -> &'static str {
    match kind {
        AttachmentKind::Spdx => "bill of materials, SPDX",
        AttachmentKind::CycloneDx => "bill of materials, CycloneDX",
        AttachmentKind::Vulnerabilities => "known vulnerabilities",
        AttachmentKind::Evidence => "evidence of a component",
    }
}

fn packages(manifest: &Manifest) -> Markup {
    html! {
        @if !manifest.packages.is_empty() {
            h2 { "Packages" }
            input type="search" data-of="packages" placeholder="filter" aria-label="filter packages";
            div.scroll { table #packages {
                thead { tr { th { "Name" } th { "Version" } th { "Architecture" } } }
                tbody { @for package in &manifest.packages { tr {
                    td { (package.name) } td.mono { (package.version) } td { (package.architecture) }
                } } }
            } }
        }
    }
}

fn identity(report: &Report) -> Markup {
    let manifest = &report.manifest;
    html! {
        h2 { "Identity" }
        div.scroll { table { tbody {
            tr { th { "ARN" } td.mono { (manifest.arn) } }
            tr { th { "Run" } td.mono { (manifest.run) } }
            tr { th { "Disk digest" } td.mono { (manifest.disk_digest) } }
            tr { th { "Parent's SHA-256" } td.mono { (manifest.parent.sha256) } }
            @for key in &report.signatures { tr { th { "Signed, it says, by" } td.mono { (key) } } }
            @for (key, value) in &manifest.tags { tr { th { "Tag " (key) } td { (value) } } }
        } } }
    }
}

/// A link to a file of the image. Each part is escaped, so that a name can't become another scheme or leave its folder.
fn link(base: &Utf8Path, path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let mut text = "file://".to_owned();
    for name in base.as_str().split('/').chain(path.split('/')) {
        if name.is_empty() || name == ".." {
            continue;
        }
        text.push('/');
        for byte in name.bytes() {
            match byte {
                byte if plain(byte) => text.push(char::from(byte)),
                byte => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    text
}
