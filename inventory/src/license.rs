//! Licences in the words of SPDX, from the words of distributions.

/// A licence as a bill of materials can hold it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Licence {
    /// A valid expression of listed licences.
    Expression(String),
    /// Words that no list knows.
    Named(String),
}

/// Longer than any expression of use; what is longer is a whole text.
const LONGEST: usize = 400;

/// Finds out what a declared licence says; none if it says nothing.
pub fn licence(text: &str) -> Option<Licence> {
    let text: String = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|letter| !letter.is_control())
        .take(LONGEST)
        .collect();
    if text.is_empty() || ["UNKNOWN", "NONE", "NOASSERTION"].contains(&text.as_str()) {
        return None;
    }
    let words = text
        .replace('(', " ( ")
        .replace(')', " ) ")
        .split_whitespace()
        .map(word)
        .collect::<Vec<_>>()
        .join(" ")
        .replace("( ", "(")
        .replace(" )", ")");
    Some(match spdx::Expression::parse(&words) {
        // References lead to texts that only their own document has.
        Ok(_) if !words.contains("Ref-") => Licence::Expression(words),
        _ => Licence::Named(text),
    })
}

/// A word of an expression.
fn word(word: &str) -> String {
    let known = match word {
        "and" | "And" | "&" => "AND",
        "or" | "Or" | "|" => "OR",
        "with" | "With" => "WITH",
        "Expat" => "MIT",
        "BSD-2-clause" => "BSD-2-Clause",
        "BSD-3-clause" => "BSD-3-Clause",
        "BSD-4-clause" => "BSD-4-Clause",
        "Apache-2" | "ASL" | "Apache2" | "Apache2.0" => "Apache-2.0",
        "Artistic-1" => "Artistic-1.0",
        "Artistic-2" => "Artistic-2.0",
        "CC0" => "CC0-1.0",
        "PSF-2" | "PSF" | "PSFL" => "PSF-2.0",
        "MPLv2.0" => "MPL-2.0",
        "zlib" | "ZLIB" => "Zlib",
        _ => return gnu(word).unwrap_or_else(|| word.to_owned()),
    };
    known.to_owned()
}

/// `GPL-2+`, `LGPLv2.1`, `GFDL-1.3`: distributions write the GNU licences without their last parts.
fn gnu(word: &str) -> Option<String> {
    let (family, version) = ["LGPL", "AGPL", "GPL", "GFDL"]
        .into_iter()
        .find_map(|family| Some((family, word.strip_prefix(family)?)))?;
    let version = version.strip_prefix(['-', 'v']).unwrap_or(version);
    let (number, later) = match version.strip_suffix('+') {
        Some(number) => (number, true),
        None => (version, false),
    };
    let full = match number.split_once('.') {
        Some((major, minor)) if is_digits(major) && is_digits(minor) => number.to_owned(),
        None if is_digits(number) => format!("{number}.0"),
        _ => return None,
    };
    let end = if later { "or-later" } else { "only" };
    Some(format!("{family}-{full}-{end}"))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_distributions() {
        for (text, expected) in [
            ("GPL-2+", Some("GPL-2.0-or-later")),
            ("GPL-3", Some("GPL-3.0-only")),
            ("LGPLv2+ and MIT", Some("LGPL-2.0-or-later AND MIT")),
            (
                "GPL-2.0-or-later AND (MIT OR Expat)",
                Some("GPL-2.0-or-later AND (MIT OR MIT)"),
            ),
            ("GPL-2+ with OpenSSL-exception", None),
            (
                "BSD-3-clause or Artistic-1",
                Some("BSD-3-Clause OR Artistic-1.0"),
            ),
            ("Apache-2.0", Some("Apache-2.0")),
            ("public-domain", None),
            ("LicenseRef-Fedora-Public-Domain", None),
            ("MIT License", None),
        ] {
            let expected = expected.map_or_else(
                || Licence::Named(text.into()),
                |expression| Licence::Expression(expression.into()),
            );
            assert_eq!(licence(text), Some(expected), "{text}");
        }
        assert_eq!(licence(" \n"), None);
        assert_eq!(licence("UNKNOWN"), None);
    }
}
