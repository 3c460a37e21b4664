//! From text to a checked [`Document`], with every problem of the text in one go.
//!
//! Three passes: [`read`] takes the structure out of the tree, [`links`] checks what refers to what, [`lint`] warns about
//! what works but probably should not be so.

mod conditions;
mod inputs;
mod links;
mod lint;
mod loops;
mod read;

use crate::action::Platform;
use crate::document::{Document, LARGEST_DOCUMENT};
use crate::source::{Code, Diagnostic, Diagnostics, Reading, Severity, Source, parse_one};

/// What a document is validated for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Platforms that every module has to support.
    pub platforms: Vec<Platform>,
    /// Modules that may not be used, by name.
    pub blocked_actions: Vec<String>,
    /// Whether warnings are wanted.
    pub warnings: bool,
}

impl Default for Options {
    /// The platform this runs on, nothing blocked, warnings wanted.
    fn default() -> Self {
        Self {
            platforms: vec![Platform::current()],
            blocked_actions: Vec::new(),
            warnings: true,
        }
    }
}

/// A validated document.
#[derive(Debug)]
pub struct Validated {
    /// The document; `None` when it has errors.
    pub document: Option<Document>,
    /// Errors and warnings in the order of the text.
    pub diagnostics: Diagnostics,
}

/// Reads and checks a document.
pub fn validate_source(source: &Source, options: &Options) -> Validated {
    let (node, mut diagnostics) = parse_one(source);
    if source.text().len() > LARGEST_DOCUMENT {
        let message = format!("the document has {} bytes", source.text().len());
        diagnostics.push(
            Diagnostic::new(Severity::Error, Code::DocumentTooLarge, message)
                .in_file(source.name())
                .expected(format!("at most {LARGEST_DOCUMENT} bytes"))
                .hint("move large files out of the document and fetch them with S3Download or WebDownload"),
        );
    }
    let Some(node) = node else {
        return Validated {
            document: None,
            diagnostics,
        };
    };
    let reading = Reading::new(source);
    let partial = read::document(&reading, &node, options);
    if let Some(partial) = &partial {
        links::check(&reading, partial);
        if options.warnings {
            lint::check(&reading, &partial.document);
        }
    }
    let document = partial.map(|partial| partial.document);
    diagnostics.append(reading.finish());
    diagnostics.sort();
    if !options.warnings {
        diagnostics = diagnostics
            .into_iter()
            .filter(|item| item.severity == Severity::Error)
            .collect();
    }
    let document = document.filter(|_| !diagnostics.has_errors());
    Validated {
        document,
        diagnostics,
    }
}

/// Reads and checks the bytes of a document.
pub fn validate_bytes(name: &str, bytes: &[u8], options: &Options) -> Validated {
    match Source::from_bytes(name, bytes) {
        Ok(source) => validate_source(&source, options),
        Err(problem) => Validated {
            document: None,
            diagnostics: problem.into(),
        },
    }
}
