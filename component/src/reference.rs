//! Reference expressions: the `{{ … }}` in texts.
//!
//! Only text that follows the grammar is a reference. Everything else between double braces (Go templates such as
//! `{{.ID}}`, Jinja filters, `${{ github.sha }}`) belongs to some other program and is left alone.

use std::borrow::Cow;
use std::fmt;

/// A text taken apart into literal pieces and references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

/// A part of a [`Template`], as a byte range of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// First byte.
    pub start: usize,
    /// The byte after the last one.
    pub end: usize,
    /// What stands there.
    pub kind: PieceKind,
}

/// What a piece of a text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PieceKind {
    /// Text that stays as it is.
    Literal,
    /// A reference.
    Reference(Reference),
    /// Double braces that are not a reference.
    Foreign,
}

/// A parsed reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `{{ Name }}`: a parameter or constant.
    Name(String),
    /// `{{ phase.step.inputs[0].field }}` or `…outputs…`.
    Chain(Chain),
    /// `{{ loop.index }}`, `{{ name.value }}`.
    Loop {
        /// `loop` or the loop's own name.
        name: String,
        /// Which of the two values.
        field: LoopField,
    },
    /// `{{ aws:ssm:/path }}`: a value that the host looks up.
    Stored(Stored),
}

/// A value of an earlier step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Chain {
    /// Phase of the step.
    pub phase: String,
    /// Name of the step.
    pub step: String,
    /// Inputs or outputs.
    pub side: Side,
    /// Position in the list; `None` when not written.
    pub index: Option<usize>,
    /// The input or output.
    pub field: String,
}

/// Which values of a step a chain reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// What went in.
    Inputs,
    /// What came out.
    Outputs,
}

/// What a loop offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopField {
    /// Number of the iteration, from 0.
    Index,
    /// The item or the counter.
    Value,
}

/// The name of a stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Given in the document.
    Named(String),
    /// Taken from a parameter or constant.
    ByParameter(String),
    /// Taken from another stored value.
    ByStored(String),
}

impl Template {
    /// Takes a text apart. Never fails: what is no reference is text.
    pub fn parse(text: impl Into<String>) -> Self {
        let text = text.into();
        let mut pieces = Vec::new();
        let mut literal = 0;
        let mut at = 0;
        while let Some(open) = text[at..].find("{{").map(|found| at + found) {
            let Some(close) = text[open + 2..].find("}}").map(|found| open + 2 + found) else {
                break;
            };
            // `{{{{ x }}` refers to x after two braces of text: the innermost pair counts.
            let open = text[open..close]
                .rfind("{{")
                .map_or(open, |found| open + found);
            let kind = match Reference::parse(&text[open + 2..close]) {
                Some(reference) => PieceKind::Reference(reference),
                None => PieceKind::Foreign,
            };
            if open > literal {
                pieces.push(Piece {
                    start: literal,
                    end: open,
                    kind: PieceKind::Literal,
                });
            }
            at = close + 2;
            literal = at;
            pieces.push(Piece {
                start: open,
                end: at,
                kind,
            });
        }
        if literal < text.len() {
            pieces.push(Piece {
                start: literal,
                end: text.len(),
                kind: PieceKind::Literal,
            });
        }
        Self { text, pieces }
    }

    /// The text as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All pieces in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The references with their byte ranges.
    pub fn references(&self) -> impl Iterator<Item = (&Reference, &Piece)> {
        self.pieces.iter().filter_map(|piece| match &piece.kind {
            PieceKind::Reference(reference) => Some((reference, piece)),
            _ => None,
        })
    }

    /// Whether there is nothing to substitute.
    pub fn is_literal(&self) -> bool {
        self.references().next().is_none()
    }

    /// Whether a `$` stands right before a piece, as in `${{ github.sha }}`.
    pub fn follows_dollar(&self, piece: &Piece) -> bool {
        self.text[..piece.start].ends_with('$')
    }

    /// Substitutes every reference.
    ///
    /// # Errors
    ///
    /// The first reference that has no value.
    pub fn render(&self, values: &dyn Values) -> Result<Rendered, UnresolvedReference> {
        let mut rendered = Rendered::default();
        for piece in &self.pieces {
            let source = &self.text[piece.start..piece.end];
            let PieceKind::Reference(reference) = &piece.kind else {
                rendered.push(source, false);
                continue;
            };
            let foreign = self.follows_dollar(piece);
            match values.value(reference) {
                Ok(Found::Value { text, secret }) => rendered.push(&text, secret),
                Ok(Found::Literal) => rendered.push(source, false),
                Err(_) if foreign => rendered.push(source, false),
                Err(reason) => {
                    return Err(UnresolvedReference {
                        reference: source.to_owned(),
                        reason,
                    });
                }
            }
        }
        Ok(rendered)
    }
}

/// A text after substitution, once as it is used and once as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rendered {
    /// The text to use.
    pub text: String,
    /// The text to show: secret values are replaced by [`MASK`].
    pub shown: String,
}

/// Stands for a secret value wherever people or files could see it.
pub const MASK: &str = "********";

impl Rendered {
    fn push(&mut self, text: &str, secret: bool) {
        self.text.push_str(text);
        self.shown.push_str(if secret { MASK } else { text });
    }

    /// Whether a secret value went in.
    pub fn is_secret(&self) -> bool {
        self.text != self.shown
    }
}

/// Where the values of references come from at run time.
pub trait Values {
    /// The value of a reference.
    ///
    /// # Errors
    ///
    /// Why there is none.
    fn value(&self, reference: &Reference) -> Result<Found<'_>, String>;
}

/// A looked-up value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<'a> {
    /// The value.
    Value {
        /// Its text.
        text: Cow<'a, str>,
        /// Whether it must not be shown.
        secret: bool,
    },
    /// The reference stays in the text as written: `{{ loop.x }}` in a step without a loop.
    Literal,
}

impl Found<'_> {
    /// A value that may be shown.
    pub fn open(text: impl Into<String>) -> Found<'static> {
        Found::Value {
            text: Cow::Owned(text.into()),
            secret: false,
        }
    }
}

/// A reference without a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot resolve {reference}: {reason}")]
pub struct UnresolvedReference {
    /// As written.
    pub reference: String,
    /// Why there is no value.
    pub reason: String,
}

impl Reference {
    /// Parses what stands between the braces; `None` when it is not a reference.
    pub fn parse(inner: &str) -> Option<Self> {
        let inner = inner.trim();
        if let Some(stored) = inner.strip_prefix("aws:ssm:") {
            return Stored::parse(stored).map(Self::Stored);
        }
        let elements: Vec<&str> = inner.split('.').collect();
        match elements[..] {
            [name] if is_name(name) => Some(Self::Name(name.to_owned())),
            [name, field] if is_name(name) => {
                let field = match field {
                    "index" => LoopField::Index,
                    "value" => LoopField::Value,
                    _ => return None,
                };
                Some(Self::Loop {
                    name: name.to_owned(),
                    field,
                })
            }
            [phase, step, side, field] if is_name(phase) && is_name(step) && is_name(field) => {
                let (side, index) = parse_side(side)?;
                Some(Self::Chain(Chain {
                    phase: phase.to_owned(),
                    step: step.to_owned(),
                    side,
                    index,
                    field: field.to_owned(),
                }))
            }
            _ => None,
        }
    }
}

fn parse_side(text: &str) -> Option<(Side, Option<usize>)> {
    let (word, index) = match text.strip_suffix(']') {
        Some(rest) => {
            let (word, index) = rest.split_once('[')?;
            if index.is_empty() || !index.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            (word, Some(index.parse().ok()?))
        }
        None => (text, None),
    };
    match word {
        "inputs" => Some((Side::Inputs, index)),
        "outputs" => Some((Side::Outputs, index)),
        _ => None,
    }
}

impl Stored {
    fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix("resolve(") {
            let inner = inner.strip_suffix(')')?.trim();
            return match inner.strip_prefix("aws:ssm:") {
                Some(name) if is_stored_name(name) => Some(Self::ByStored(name.to_owned())),
                Some(_) => None,
                None if is_name(inner) => Some(Self::ByParameter(inner.to_owned())),
                None => None,
            };
        }
        is_stored_name(text).then(|| Self::Named(text.to_owned()))
    }
}

/// Names of parameters, loops, phases and steps that a reference can hold.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Parameter Store names, with an optional `:version` or `:label` at the end.
fn is_stored_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'_' | b'-' | b'.' | b'/' | b':' | b'+' | b'=' | b'@')
        })
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Inputs => "inputs",
            Side::Outputs => "outputs",
        };
        write!(f, "{}.{}.{side}", self.phase, self.step)?;
        if let Some(index) = self.index {
            write!(f, "[{index}]")?;
        }
        write!(f, ".{}", self.field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_takes_every_documented_form_and_nothing_else() {
        let chain = |index, side| {
            Some(Reference::Chain(Chain {
                phase: "build".to_owned(),
                step: "My-Step_1".to_owned(),
                side,
                index,
                field: "stdout".to_owned(),
            }))
        };
        let stored = |stored| Some(Reference::Stored(stored));
        let cases = [
            (" Name ", Some(Reference::Name("Name".to_owned()))),
            ("build.My-Step_1.outputs.stdout", chain(None, Side::Outputs)),
            (
                "build.My-Step_1.inputs[12].stdout",
                chain(Some(12), Side::Inputs),
            ),
            (
                "loop.index",
                Some(Reference::Loop {
                    name: "loop".to_owned(),
                    field: LoopField::Index,
                }),
            ),
            (
                "Each.value",
                Some(Reference::Loop {
                    name: "Each".to_owned(),
                    field: LoopField::Value,
                }),
            ),
            ("aws:ssm:/a/b.c", stored(Stored::Named("/a/b.c".to_owned()))),
            (
                "aws:ssm:/aws/reference/secretsmanager/x",
                stored(Stored::Named("/aws/reference/secretsmanager/x".to_owned())),
            ),
            (
                "aws:ssm:resolve(Param)",
                stored(Stored::ByParameter("Param".to_owned())),
            ),
            (
                "aws:ssm:resolve(aws:ssm:/p)",
                stored(Stored::ByStored("/p".to_owned())),
            ),
            (".ID", None),
            ("x | upper", None),
            ("github.sha", None),
            ("build.step.outputs", None),
            ("build.step.outputs[].x", None),
            ("build.step.outputs[-1].x", None),
            ("build.step.outputs[99999999999999999999999].x", None),
            ("aws:ssm:", None),
            ("aws:ssm:resolve()", None),
            ("", None),
            ("a b", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(Reference::parse(text), wanted, "{text:?}");
        }
    }

    struct Fixed;

    impl Values for Fixed {
        fn value(&self, reference: &Reference) -> Result<Found<'_>, String> {
            match reference {
                Reference::Name(name) if name == "Name" => Ok(Found::open("world")),
                Reference::Stored(_) => Ok(Found::Value {
                    text: "s3cret".into(),
                    secret: true,
                }),
                Reference::Loop { .. } => Ok(Found::Literal),
                _ => Err("unknown".to_owned()),
            }
        }
    }

    #[test]
    fn rendering_keeps_foreign_templates_and_masks_secrets() {
        let render = |text: &str| Template::parse(text).render(&Fixed);
        let cases = [
            ("hello {{Name}}!", "hello world!"),
            (
                "docker --format '{{.ID}}' {{ Name }}",
                "docker --format '{{.ID}}' world",
            ),
            (
                "${{ github.sha }} ${{ other }}",
                "${{ github.sha }} ${{ other }}",
            ),
            ("{{{{ Name }}}}", "{{world}}"),
            ("{{ loop.value }}", "{{ loop.value }}"),
            ("a {{ open", "a {{ open"),
            ("", ""),
        ];
        for (text, wanted) in cases {
            assert_eq!(render(text).expect("renders").text, wanted);
        }
        let secret = render("x={{ aws:ssm:/p }}").expect("renders");
        assert_eq!(
            (secret.text.as_str(), secret.shown.as_str()),
            ("x=s3cret", "x=********")
        );
        assert!(secret.is_secret());
        let error = render("{{ missing }}").expect_err("no value");
        assert_eq!(error.to_string(), "cannot resolve {{ missing }}: unknown");
    }
}
