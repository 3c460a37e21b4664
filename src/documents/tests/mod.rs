//! Tests of the documents. The fixtures below `tests/documents/` have every field of every shape.

mod arns;
mod guide;
mod hostile;
mod inner_messages;
mod messages;
mod resources;
mod schemas;
mod templates;
mod versions;

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Document, load, load_text};

/// A file or folder of fixtures.
fn fixture(path: &str) -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/documents")
        .join(path)
}

/// Parameters from the command line.
fn parameters(given: &[(&str, &str)]) -> BTreeMap<String, String> {
    given
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// The documents of a fixture, which must have no errors.
fn good(path: &str, given: &[(&str, &str)]) -> Vec<Document> {
    let (documents, diagnostics) = load(&fixture(path), &parameters(given));
    assert!(!diagnostics.has_errors(), "{path}: {diagnostics}");
    documents
}

/// The documents of a text, which must have no errors.
fn good_text(text: &str) -> Vec<Document> {
    let (documents, diagnostics) = load_text("d.yml".into(), text, &BTreeMap::new());
    assert!(!diagnostics.has_errors(), "{text}\n{diagnostics}");
    documents
}

/// The problems of a text as people see them.
fn problems(text: &str) -> String {
    let (_, diagnostics) = load_text("d.yml".into(), text, &BTreeMap::new());
    diagnostics.render()
}
