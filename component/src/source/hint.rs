//! Turns the YAML parser's terse errors into messages that name the usual cause.

use super::code::Code;
use super::diagnostic::{Diagnostic, Severity};
use super::text::Source;

/// Explains a syntax error by looking at the text around it.
pub(super) fn explain_syntax_error(source: &Source, offset: usize, info: &str) -> Diagnostic {
    let text = source.text();
    let offset = floor_boundary(text, offset.min(text.len()));
    if let Some(found) = tab_indentation(source, offset) {
        return found;
    }
    let place = source.position(offset);
    let line = source.line(place.line);
    let line_end = offset
        + text[offset..]
            .find(['\n', '\r'])
            .unwrap_or(text.len() - offset);
    let span = source.span(offset, line_end);
    let diagnostic = |code: Code, message: String| {
        Diagnostic::new(Severity::Error, code, message).at(source, span)
    };

    if info.contains("recursion limit") {
        return diagnostic(
            Code::NestedTooDeeply,
            "lists and maps are nested far too deeply".to_owned(),
        );
    }
    if info.contains("unknown anchor") {
        let value = text[offset..line_end].trim();
        return diagnostic(
            Code::UnquotedStar,
            format!("`{value}` is an alias of an anchor that does not exist"),
        )
        .hint("quote values that start with `*`, for instance '*log'");
    }
    let trimmed = line.trim_start().trim_start_matches("- ").trim_start();
    let value = trimmed
        .split_once(": ")
        .map_or(trimmed, |(_, value)| value)
        .trim_start();
    if value.starts_with("{{") {
        return diagnostic(
            Code::UnquotedReference,
            "a reference stands without quotes".to_owned(),
        )
        .expected("'{{ name }}'")
        .hint("without quotes YAML reads `{{ … }}` as a map; put the whole value in quotes");
    }
    if let Some(first) = value.chars().next()
        && matches!(first, '@' | '`' | '%')
    {
        return diagnostic(
            Code::UnquotedValue,
            format!("a value cannot start with `{first}`"),
        )
        .hint("put the value in quotes");
    }
    let diagnostic = diagnostic(Code::YamlSyntax, format!("not valid YAML: {info}"));
    if info.contains("mapping values are not allowed") {
        diagnostic.hint(
            "a value that contains `: ` must be quoted; or the indentation of this line is wrong",
        )
    } else if info.contains("simple key expect") || info.contains("while scanning a simple key") {
        diagnostic.hint(
            "a key without `:`, or a value on a line of its own that is not indented far enough",
        )
    } else {
        diagnostic.hint("check indentation and quotes on this line and the line before")
    }
}

/// Looks for a tab in the indentation of the offending line and the one before it.
fn tab_indentation(source: &Source, offset: usize) -> Option<Diagnostic> {
    let line = source.position(offset).line;
    [line, line.saturating_sub(1)]
        .into_iter()
        .find_map(|number| {
            let content = source.line(number);
            let indentation =
                &content[..content.len() - content.trim_start_matches([' ', '\t']).len()];
            let tab = indentation.find('\t')?;
            let start = line_offset(source, content) + tab;
            Some(
                Diagnostic::new(
                    Severity::Error,
                    Code::TabIndentation,
                    "a tab is used for indentation",
                )
                .at(source, source.span(start, start + 1))
                .expected("spaces")
                .hint("YAML allows only spaces there; replace each tab by spaces"),
            )
        })
}

/// Offset of a line slice inside its source.
fn line_offset(source: &Source, line: &str) -> usize {
    (line.as_ptr() as usize).saturating_sub(source.text().as_ptr() as usize)
}

fn floor_boundary(text: &str, mut offset: usize) -> usize {
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}
