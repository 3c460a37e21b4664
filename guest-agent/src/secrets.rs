//! Keeps secret values out of everything that people or files can see.

use std::borrow::Cow;
use std::sync::RwLock;

use ovenbird_component::reference::MASK;

/// The values to be masked. Values can be added while a run goes on.
#[derive(Debug, Default)]
pub struct Masker {
    values: RwLock<Vec<String>>,
}

/// Shorter values would mask half of every log and protect nothing.
const SHORTEST: usize = 4;

impl Masker {
    /// A masker for some values.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let masker = Self::default();
        values.into_iter().for_each(|value| masker.add(value));
        masker
    }

    /// Adds a value. Of a value with several lines each line counts, because logs are written by line.
    pub fn add(&self, value: &str) {
        let Ok(mut values) = self.values.write() else {
            return;
        };
        for part in std::iter::once(value).chain(value.lines()).map(str::trim) {
            if part.len() >= SHORTEST && !values.iter().any(|known| known == part) {
                values.push(part.to_owned());
            }
        }
        // Longest first, so that a value that contains another is masked as a whole.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    }

    /// The text with every secret value replaced.
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Ok(values) = self.values.read() else {
            return Cow::Borrowed(MASK);
        };
        let mut masked = Cow::Borrowed(text);
        for value in values.iter() {
            if masked.contains(value.as_str()) {
                masked = Cow::Owned(masked.replace(value.as_str(), MASK));
            }
        }
        masked
    }

    /// Whether a text holds a secret value.
    pub fn finds_in(&self, text: &str) -> bool {
        matches!(self.mask(text), Cow::Owned(_))
    }

    /// Length in bytes of the longest value: how much text has to be held back so that none is cut in two.
    pub fn longest(&self) -> usize {
        self.values
            .read()
            .map_or(0, |values| values.first().map_or(0, String::len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_longest_first_and_each_line() {
        let masker = Masker::new(["abcd", "abcdefgh", "x", "line one\nline two"]);
        assert_eq!(
            masker.mask("say abcdefgh and abcd"),
            "say ******** and ********"
        );
        assert_eq!(masker.mask("x stays"), "x stays");
        assert_eq!(masker.mask("got line two here"), "got ******** here");
        assert!(!masker.finds_in("nothing"));
    }
}
