//! Positioned YAML and JSON: the layer that every document of Ovenbird is read through.
//!
//! A [`Source`] is a text with a name. [`parse()`] turns it into a stream of [`Node`] trees in which each scalar, key,
//! sequence and mapping knows where it stands. [`Reading`] and [`MapReader`] take typed values out of a node one key at
//! a time and collect every problem as a [`Diagnostic`] instead of stopping at the first one.
//!
//! JSON needs no second parser: apart from duplicate keys, which are errors here anyway, from tabs and from characters written
//! as two escapes, both of which are rewritten in place, it is a subset of YAML.

mod code;
mod diagnostic;
mod hint;
mod json;
mod node;
mod parse;
mod read;
mod suggest;
mod text;

pub use code::Code;
pub use diagnostic::{Diagnostic, Diagnostics, Role, Severity};
pub use node::{Entry, Key, Mapping, Node, NodeKind, Plain, Scalar, Style};
pub use parse::{Limits, ParsedStream, parse, parse_one, parse_with_limits};

pub use read::{MapReader, Reading, Spanned, join_words};
pub use suggest::nearest;
pub use text::{Position, Source, Span};
