//! Circles among resources that need each other.

use std::collections::BTreeMap;

use ovenbird_component::source::{Mapping, Reading, Span};

/// Who needs whom, and where it says so.
pub type Edges = BTreeMap<String, Vec<(String, Span)>>;

/// Reports each circle once, where its first resource closes it.
pub fn check(reading: &Reading<'_>, resources: &Mapping, edges: &Edges) {
    let mut done: Vec<&str> = Vec::new();
    for entry in &resources.entries {
        let mut path = Vec::new();
        visit(
            reading,
            edges,
            &entry.key.text,
            entry.key.span,
            &mut path,
            &mut done,
        );
    }
}

fn visit<'e>(
    reading: &Reading<'_>,
    edges: &'e Edges,
    id: &'e str,
    span: Span,
    path: &mut Vec<&'e str>,
    done: &mut Vec<&'e str>,
) {
    if let Some(start) = path.iter().position(|known| *known == id) {
        reading.report(
            reading
                .error(
                    "cycle",
                    span,
                    format!(
                        "resources need each other: {} → {id}",
                        path[start..].join(" → ")
                    ),
                )
                .expected("resources of which one can be made first"),
        );
        return;
    }
    if done.contains(&id) {
        return;
    }
    path.push(id);
    for (target, span) in edges.get(id).into_iter().flatten() {
        visit(reading, edges, target, *span, path, done);
    }
    path.pop();
    done.push(id);
}
