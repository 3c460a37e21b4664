//! Where the parts of a canonical value stand in the text.

use std::collections::BTreeMap;

use ovenbird_component::source::Span;

/// Spans by JSON pointer (RFC 6901, with the service's own keys whatever the document's casing).
#[derive(Debug, Clone, Default)]
pub struct Places {
    spans: BTreeMap<String, Span>,
}

impl Places {
    /// Notes a place.
    pub fn insert(&mut self, pointer: String, span: Span) {
        self.spans.insert(pointer, span);
    }

    /// The place of a value, or of the nearest value around it that has one.
    pub fn get(&self, pointer: &str) -> Span {
        let mut pointer = pointer;
        loop {
            if let Some(span) = self.spans.get(pointer) {
                return *span;
            }
            let Some((parent, _)) = pointer.rsplit_once('/') else {
                return Span::START;
            };
            pointer = parent;
        }
    }
}

/// A child's pointer.
pub fn child(pointer: &str, key: &str) -> String {
    if key.contains(['~', '/']) {
        format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
    } else {
        format!("{pointer}/{key}")
    }
}
