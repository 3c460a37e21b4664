//! Documents inside documents: takes the text of files in, and checks it where it stands.

use camino::Utf8Path;
use ovenbird_component::source::{Diagnostic, Diagnostics, Node, Source, Style};
use serde_json::Value;

use super::Kind;
use super::component::Component;
use super::shape::Reader;
use super::workflow::Workflow;

/// The service's limit of a document in a file.
const LARGEST_FILE: u64 = 64 * 1024;

/// The fields of a kind that hold a document, an address of one, and a path to one.
fn fields(kind: Kind) -> Option<[&'static str; 3]> {
    match kind {
        Kind::Component | Kind::Workflow => Some(["data", "uri", "path"]),
        Kind::ContainerRecipe => Some([
            "dockerfileTemplateData",
            "dockerfileTemplateUri",
            "dockerfileTemplatePath",
        ]),
        _ => None,
    }
}

/// Replaces a path, or an address of a file, by the file's text. Addresses elsewhere stay.
pub fn take_in(reader: &Reader<'_>, kind: Kind, document: &Utf8Path, value: &mut Value) {
    let Some([data, uri, path]) = fields(kind) else {
        return;
    };
    let folder = document.parent().unwrap_or(Utf8Path::new(""));
    let text_of = |key: &str| value.get(key).and_then(Value::as_str);
    let (field, file) = match (text_of(path), text_of(uri)) {
        (Some(relative), _) => (path, folder.join(relative)),
        (None, Some(address)) => match address.strip_prefix("file://") {
            Some(absolute) => (uri, absolute.into()),
            None => return,
        },
        (None, None) => return,
    };
    let complain = |message: String| {
        reader
            .error(
                "unreadable-file",
                reader.place(&format!("/{field}")),
                message,
            )
            .expected("a file with the document, as UTF-8 text of at most 65536 bytes")
    };
    match read(&file) {
        Ok(text) => {
            if let Value::Object(fields) = value {
                fields.remove(field);
                fields.insert(data.to_owned(), Value::from(text));
            }
        }
        Err(problem) => reader.report(complain(format!("cannot read {file}: {problem}"))),
    }
}

fn read(file: &Utf8Path) -> Result<String, String> {
    let length = std::fs::metadata(file)
        .map_err(|error| error.to_string())?
        .len();
    if length > LARGEST_FILE {
        return Err(format!("it has {length} bytes"));
    }
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
}

/// Checks the component document of a component.
pub fn check_component(reader: &Reader<'_>, node: &Node, source: &Source, component: &Component) {
    let name = format!("{}: the component document", component.name);
    let Some((_, found)) = component.validate(&name) else {
        reader.report(
            reader
                .warning(
                    "not-checked",
                    reader.place("/uri"),
                    "the component document is elsewhere and has not been checked",
                )
                .expected("`data`, `path`, or an address that begins with file://"),
        );
        return;
    };
    report_inner(reader, node, source, "data", &name, &found);
}

/// Checks the document of a workflow.
pub fn check_workflow(reader: &Reader<'_>, node: &Node, source: &Source, workflow: &Workflow) {
    let name = format!("{}: the workflow document", workflow.name);
    let Some((_, found)) = workflow.validate(&name) else {
        reader.report(
            reader
                .warning(
                    "not-checked",
                    reader.place("/uri"),
                    "the workflow document is elsewhere and has not been checked",
                )
                .expected("`data`, `path`, or an address that begins with file://"),
        );
        return;
    };
    report_inner(reader, node, source, "data", &name, &found);
}

/// Reports the problems of an inner document at their places in the outer one, where these can be known.
pub fn report_inner(
    reader: &Reader<'_>,
    node: &Node,
    source: &Source,
    field: &str,
    name: &str,
    found: &Diagnostics,
) {
    let data = node.as_mapping().and_then(|mapping| {
        mapping
            .get(field)
            .or_else(|| mapping.get(&super::shape::read::pascal(field)))
    });
    let literal = data.filter(|node| {
        node.as_scalar()
            .is_some_and(|scalar| scalar.style == Style::Literal)
    });
    for inner in found {
        let outer = match literal.and_then(|node| outer_place(source, node, inner)) {
            Some(offset) => {
                let length = inner
                    .span
                    .end
                    .offset
                    .saturating_sub(inner.span.start.offset) as usize;
                let one_line = inner.span.end.line == inner.span.start.line;
                let end = offset + if one_line { length } else { 1 };
                let span = source.span(offset, end);
                Diagnostic::new(inner.severity, inner.code.clone(), inner.message.clone())
                    .at(source, span)
            }
            None => {
                let message = format!("{name}, line {}: {}", inner.line, inner.message);
                match data {
                    Some(node) => {
                        let start = node.span.start.offset as usize;
                        Diagnostic::new(inner.severity, inner.code.clone(), message)
                            .at(source, source.span(start, start + 1))
                    }
                    None => Diagnostic::new(inner.severity, inner.code.clone(), message)
                        .at(source, reader.place("")),
                }
            }
        };
        let outer = match &inner.expected {
            Some(expected) => outer.expected(expected.clone()),
            None => outer,
        };
        reader.report(match &inner.hint {
            Some(hint) => outer.hint(hint.clone()),
            None => outer,
        });
    }
}

/// In a literal block (`|`) inner lines are outer lines, moved right by the block's indentation.
fn outer_place(source: &Source, node: &Node, inner: &Diagnostic) -> Option<usize> {
    let text = source.text();
    let start = node.span.start.offset as usize;
    // The span may begin at a tag, at the block's mark, or at its first line; the mark is the last thing on its line.
    let rest = text.get(start..)?;
    let first = rest.lines().next().unwrap_or_default().trim_end();
    let mark = first.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+'));
    let body = if mark.ends_with('|') {
        start + rest.find('\n')? + 1
    } else {
        text.get(..start)?
            .rfind('\n')
            .map_or(0, |newline| newline + 1)
    };
    let lines = text.get(body..)?;
    let indentation = lines
        .lines()
        .find(|line| !line.trim().is_empty())
        .map(|line| line.len() - line.trim_start_matches(' ').len())?;
    let mut offset = body;
    for (index, line) in lines.split_inclusive('\n').enumerate() {
        if index + 1 == inner.line as usize {
            let column = indentation + inner.column.saturating_sub(1) as usize;
            let bytes: usize = line.chars().take(column).map(char::len_utf8).sum();
            return Some(offset + bytes);
        }
        offset += line.len();
    }
    None
}
