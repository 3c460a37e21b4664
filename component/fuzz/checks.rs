//! What has to hold for any input. The fuzz targets and the replay of their corpus in the normal test suite share it.
#![allow(dead_code, reason = "each target needs one of them")]

use ovenbird_component::condition::Probe;
use ovenbird_component::document::LoopKind;
use ovenbird_component::event::Decoder;
use ovenbird_component::reference::{Found, Reference, Template, Values};
use ovenbird_component::{Options, validate_bytes};

/// Any bytes as a component document: no panic, and a document exactly when there are no errors.
pub fn document(bytes: &[u8]) {
    let found = validate_bytes("fuzz", bytes, &Options::default());
    assert_eq!(found.document.is_none(), found.diagnostics.has_errors());
    let _ = found.diagnostics.render();
    let _ = found.diagnostics.to_json();
}

/// Any text as a template: its pieces put together are the text again.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let template = Template::parse(text);
    let joined: String = template
        .pieces()
        .iter()
        .map(|piece| &text[piece.start..piece.end])
        .collect();
    assert_eq!(joined, text);
}

/// Any bytes as an event stream: the same comes out however it is cut.
pub fn events(bytes: &[u8]) {
    let mut whole = Decoder::new();
    let mut expected = whole.push(bytes);
    expected.extend(whole.finish());
    let mut halves = Decoder::new();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut found = halves.push(first);
    found.extend(halves.push(second));
    found.extend(halves.finish());
    assert_eq!(found, expected);
}

/// Any bytes as the guard of a step, up to a line `---`, and as its loop: what is valid is evaluated without a panic,
/// twice with the same result, and a loop has as many iterations as it says.
pub fn guard(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (condition, looping) = text.split_once("\n---\n").unwrap_or((text, ""));
    let indent = |text: &str| -> String {
        text.lines()
            .map(|line| format!("          {line}\n"))
            .collect()
    };
    let mut document = String::from(
        "schemaVersion: 1.0\nparameters: [{Word: {type: string, default: x}}]\nphases:\n  - name: build\n    steps:\n      - name: A\n        action: ExecuteBash\n        inputs: {commands: ['true']}\n",
    );
    document.push_str("        if:\n");
    document.push_str(&indent(condition));
    if !looping.trim().is_empty() {
        document.push_str("        loop:\n");
        document.push_str(&indent(looping));
    }
    let found = validate_bytes("fuzz", document.as_bytes(), &Options::default());
    assert_eq!(found.document.is_none(), found.diagnostics.has_errors());
    let Some(document) = found.document else {
        return;
    };
    for step in document.phases.iter().flat_map(|phase| &phase.steps) {
        if let Some(guard) = &step.condition {
            let first = guard.condition.evaluate(&Everything, &Everything);
            let second = guard.condition.evaluate(&Everything, &Everything);
            assert_eq!(
                first.map(|verdict| verdict.holds).ok(),
                second.map(|verdict| verdict.holds).ok()
            );
        }
        if let Some(looping) = &step.looping
            && matches!(looping.kind, LoopKind::For { .. })
        {
            assert!(looping.kind.count().is_some_and(|count| count > 0));
        }
    }
}

/// Every name has a value, and every second thing exists.
struct Everything;

impl Values for Everything {
    fn value(&self, reference: &Reference) -> Result<Found<'_>, String> {
        Ok(Found::open(format!("{reference:?}")))
    }
}

impl Probe for Everything {
    fn binary_exists(&self, name: &str) -> bool {
        name.len().is_multiple_of(2)
    }

    fn file_exists(&self, path: &str) -> bool {
        path.len().is_multiple_of(2)
    }

    fn folder_exists(&self, path: &str) -> bool {
        path.len() % 2 == 1
    }

    fn digest(&self, path: &str, _algorithm: &str) -> Option<String> {
        path.len().is_multiple_of(2).then(|| "00".to_owned())
    }
}
