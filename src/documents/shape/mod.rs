//! The tables that say what a resource document may hold.
//!
//! A [`Shape`] is one map with its fields; each [`Field`] has a type with its range, pattern or words. The same tables are
//! read by [`read`], which checks a parsed document and makes its canonical value, and by [`schema`], which makes the
//! JSON Schema for editors. What is not in a table can neither be read nor is it in a schema.

mod pattern;
mod places;
pub mod read;
mod rules;
pub mod schema;

pub use pattern::Pattern;
pub use places::Places;
pub use read::{Casing, Found, Reader};

use super::reference::{Complaint, Refers};

/// A map with a fixed set of keys.
#[derive(Debug)]
pub struct Shape {
    /// The name of the definition in the JSON Schema.
    pub name: &'static str,
    /// What it is called in messages, with its article: "the recipe".
    pub what: &'static str,
    /// Its keys, in the order of the documentation.
    pub fields: &'static [Field],
    /// What must hold among the keys.
    pub rules: &'static [Rule],
}

/// One key of a shape.
#[derive(Debug)]
pub struct Field {
    /// The key, as in the service's requests.
    pub key: &'static str,
    /// The key in a CloudFormation template, where it is not the same word with a capital.
    pub cloudformation: Option<&'static str>,
    /// Whether the key must be there.
    pub required: bool,
    /// Whether the key is read and then dropped: it belongs to a call of the API, not to the resource.
    pub dropped: bool,
    /// What it takes.
    pub takes: Type,
    /// What it means, for editors.
    pub about: &'static str,
}

/// What a field takes.
#[derive(Debug, Clone, Copy)]
pub enum Type {
    /// Text.
    Text(Text),
    /// A whole number from and to (both included).
    Integer(i64, i64),
    /// `true` or `false`.
    Boolean,
    /// One of these words, compared exactly.
    Word(&'static [&'static str]),
    /// A list of this type, with the least and the most number of items.
    List(&'static Type, usize, usize),
    /// A map with fixed keys.
    Object(&'static Shape),
    /// A map of free keys to texts.
    Map(&'static StringMap),
    /// Text with a further check than its pattern; the check has the last word.
    Checked(Text, fn(&str) -> Result<(), Complaint>),
    /// Anything; somebody else checks it.
    Free,
    /// A reference to something else.
    Reference(Refers),
    /// A list of texts in which a single text may stand for a list of one.
    Values(Text),
}

/// Limits of a text.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    /// Fewest characters.
    pub shortest: usize,
    /// Most characters.
    pub longest: usize,
    /// Most characters if it was taken from a file, where that is another number.
    pub longest_from_file: Option<usize>,
    /// What it has to look like.
    pub pattern: Option<&'static Pattern>,
    /// Whether editors should accept a number or a boolean where YAML guesses one; readers always do.
    pub loose: bool,
}

/// Limits of a map of texts.
#[derive(Debug)]
pub struct StringMap {
    /// Limits of its keys.
    pub key: Text,
    /// Limits of its values.
    pub value: Text,
    /// Fewest entries.
    pub least: usize,
    /// Most entries.
    pub most: usize,
}

/// What must hold among the keys of a shape.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// One of these keys, and only one.
    ExactlyOne(&'static [&'static str]),
    /// Not two of these keys.
    AtMostOne(&'static [&'static str]),
    /// At least one of these keys.
    AtLeastOne(&'static [&'static str]),
    /// The first key only together with the second.
    Needs(&'static str, &'static str),
}

/// No limit for lengths and counts.
pub const ANY: usize = usize::MAX;

impl Text {
    /// Text of these lengths.
    pub const fn of(shortest: usize, longest: usize) -> Self {
        Self {
            shortest,
            longest,
            longest_from_file: None,
            pattern: None,
            loose: false,
        }
    }

    /// … that looks like this.
    pub const fn like(self, pattern: &'static Pattern) -> Self {
        Self {
            pattern: Some(pattern),
            ..self
        }
    }

    /// … that may be longer in a file of its own.
    pub const fn from_file(self, longest: usize) -> Self {
        Self {
            longest_from_file: Some(longest),
            ..self
        }
    }

    /// … for which an editor takes a number too.
    pub const fn or_number(self) -> Self {
        Self {
            loose: true,
            ..self
        }
    }
}

impl Field {
    /// A key that may be left out.
    pub const fn new(key: &'static str, takes: Type, about: &'static str) -> Self {
        Self {
            key,
            cloudformation: None,
            required: false,
            dropped: false,
            takes,
            about,
        }
    }

    /// … that must be there.
    pub const fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }

    /// … that has a name of its own in CloudFormation.
    pub const fn in_cloudformation(self, key: &'static str) -> Self {
        Self {
            cloudformation: Some(key),
            ..self
        }
    }

    /// … that is dropped after reading.
    pub const fn dropped(self) -> Self {
        Self {
            dropped: true,
            ..self
        }
    }
}

/// 1 to 1024 characters: the service's NonEmptyString.
pub const SHORT: Text = Text::of(1, 1024);

/// `Type::Text` of [`SHORT`].
pub const SHORT_TEXT: Type = Type::Text(SHORT);

impl Shape {
    /// The field of a key.
    pub fn field(&self, key: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.key == key)
    }
}
