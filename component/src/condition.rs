//! Conditions: the operators of `if` and of the Assert module.
//!
//! The direction is a trap: every ordering operator asks whether `value` is less (or greater) than the operator's own
//! operand, the baseline.

use std::cmp::Ordering;

use crate::reference::{Rendered, Template, UnresolvedReference, Values};
use crate::source::Span;

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// True when all are; stops at the first that is not.
    And(Vec<Condition>),
    /// True when one is; stops there.
    Or(Vec<Condition>),
    /// True when the inner one is not.
    Not(Box<Condition>),
    /// A comparison.
    Compare(Comparison),
}

/// One operator with its operands.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The operator.
    pub operator: Operator,
    /// What stands behind the operator: the baseline, the pattern, the path, the digest.
    pub operand: Template,
    /// `value` or, for digests, `path`; `None` for operators with one operand.
    pub second: Option<Template>,
    /// Place of the operator.
    pub span: Span,
}

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the names are the language's own and are described in the operator table"
)]
pub enum Operator {
    StringIsEmpty,
    StringIsWhitespace,
    StringEquals,
    StringLessThan,
    StringLessThanEquals,
    StringGreaterThan,
    StringGreaterThanEquals,
    PatternMatches,
    NumberEquals,
    NumberLessThan,
    NumberLessThanEquals,
    NumberGreaterThan,
    NumberGreaterThanEquals,
    BinaryExists,
    FileExists,
    FolderExists,
    FileMd5Equals,
    FileSha1Equals,
    FileSha256Equals,
    FileSha512Equals,
}

/// The key of the second operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondOperand {
    /// There is none.
    None,
    /// `value`.
    Value,
    /// `path`.
    Path,
}

/// The operators, their names, their second operand and what they mean.
pub static OPERATORS: [(&str, Operator, SecondOperand, &str); 20] = {
    use Operator as O;
    use SecondOperand as S;
    [
        (
            "stringIsEmpty",
            O::StringIsEmpty,
            S::None,
            "the text has no characters",
        ),
        (
            "stringIsWhitespace",
            O::StringIsWhitespace,
            S::None,
            "the text is white space only, and not empty",
        ),
        (
            "stringEquals",
            O::StringEquals,
            S::Value,
            "both texts are the same, in the same case",
        ),
        (
            "stringLessThan",
            O::StringLessThan,
            S::Value,
            "`value` sorts before the operand, whatever the case",
        ),
        (
            "stringLessThanEquals",
            O::StringLessThanEquals,
            S::Value,
            "`value` sorts before the operand or equals it, whatever the case",
        ),
        (
            "stringGreaterThan",
            O::StringGreaterThan,
            S::Value,
            "`value` sorts after the operand, whatever the case",
        ),
        (
            "stringGreaterThanEquals",
            O::StringGreaterThanEquals,
            S::Value,
            "`value` sorts after the operand or equals it, whatever the case",
        ),
        (
            "patternMatches",
            O::PatternMatches,
            S::Value,
            "the regular expression matches somewhere in `value`, whatever the case",
        ),
        (
            "numberEquals",
            O::NumberEquals,
            S::Value,
            "both are the same number",
        ),
        (
            "numberLessThan",
            O::NumberLessThan,
            S::Value,
            "`value` is less than the operand",
        ),
        (
            "numberLessThanEquals",
            O::NumberLessThanEquals,
            S::Value,
            "`value` is less than the operand or equals it",
        ),
        (
            "numberGreaterThan",
            O::NumberGreaterThan,
            S::Value,
            "`value` is greater than the operand",
        ),
        (
            "numberGreaterThanEquals",
            O::NumberGreaterThanEquals,
            S::Value,
            "`value` is greater than the operand or equals it",
        ),
        (
            "binaryExists",
            O::BinaryExists,
            S::None,
            "a program of that name is in the search path",
        ),
        (
            "fileExists",
            O::FileExists,
            S::None,
            "there is a file at that path",
        ),
        (
            "folderExists",
            O::FolderExists,
            S::None,
            "there is a folder at that path",
        ),
        (
            "fileMD5Equals",
            O::FileMd5Equals,
            S::Path,
            "the file at `path` has that MD5 digest",
        ),
        (
            "fileSHA1Equals",
            O::FileSha1Equals,
            S::Path,
            "the file at `path` has that SHA-1 digest",
        ),
        (
            "fileSHA256Equals",
            O::FileSha256Equals,
            S::Path,
            "the file at `path` has that SHA-256 digest",
        ),
        (
            "fileSHA512Equals",
            O::FileSha512Equals,
            S::Path,
            "the file at `path` has that SHA-512 digest",
        ),
    ]
};

/// The names of the logical operators.
pub const LOGICAL: [&str; 3] = ["and", "or", "not"];

impl Operator {
    /// The operator's name.
    pub fn name(self) -> &'static str {
        OPERATORS[self as usize].0
    }

    /// The operator of a name in exact case.
    pub fn from_name(name: &str) -> Option<Self> {
        OPERATORS.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    /// The key of its second operand.
    pub fn second(self) -> SecondOperand {
        OPERATORS[self as usize].2
    }

    /// The digest that a file operator compares.
    pub fn algorithm(self) -> Option<&'static str> {
        match self {
            Self::FileMd5Equals => Some("MD5"),
            Self::FileSha1Equals => Some("SHA1"),
            Self::FileSha256Equals => Some("SHA256"),
            Self::FileSha512Equals => Some("SHA512"),
            _ => None,
        }
    }
}

/// What conditions ask of the machine they run on.
pub trait Probe {
    /// Whether a program is found in the search path, or at the path when it has a separator.
    fn binary_exists(&self, name: &str) -> bool;
    /// Whether there is a file.
    fn file_exists(&self, path: &str) -> bool;
    /// Whether there is a folder.
    fn folder_exists(&self, path: &str) -> bool;
    /// The hexadecimal digest of a file; `None` when it cannot be read.
    fn digest(&self, path: &str, algorithm: &str) -> Option<String>;
}

/// A decided condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the condition holds.
    pub holds: bool,
    /// The comparisons that were made, with their operands, for logs. Secrets are masked.
    pub trace: Vec<String>,
}

/// Why a condition could not be decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// A reference in an operand has no value.
    #[error(transparent)]
    Reference(#[from] UnresolvedReference),
    /// The pattern is not a regular expression.
    #[error("`{pattern}` is not a regular expression: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Condition {
    /// Decides the condition.
    ///
    /// # Errors
    ///
    /// A reference without a value, or a pattern that does not compile.
    pub fn evaluate(
        &self,
        values: &dyn Values,
        probe: &dyn Probe,
    ) -> Result<Verdict, ConditionError> {
        let mut trace = Vec::new();
        let holds = self.decide(values, probe, &mut trace)?;
        Ok(Verdict { holds, trace })
    }

    fn decide(
        &self,
        values: &dyn Values,
        probe: &dyn Probe,
        trace: &mut Vec<String>,
    ) -> Result<bool, ConditionError> {
        match self {
            Self::And(all) => {
                for condition in all {
                    if !condition.decide(values, probe, trace)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Or(any) => {
                for condition in any {
                    if condition.decide(values, probe, trace)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::Not(inner) => Ok(!inner.decide(values, probe, trace)?),
            Self::Compare(comparison) => comparison.decide(values, probe, trace),
        }
    }

    /// Calls `visit` for every operand.
    pub fn visit_texts<'a>(&'a self, visit: &mut dyn FnMut(&'a Template, Span)) {
        match self {
            Self::And(inner) | Self::Or(inner) => inner
                .iter()
                .for_each(|condition| condition.visit_texts(visit)),
            Self::Not(inner) => inner.visit_texts(visit),
            Self::Compare(comparison) => {
                visit(&comparison.operand, comparison.span);
                if let Some(second) = &comparison.second {
                    visit(second, comparison.span);
                }
            }
        }
    }
}

impl Comparison {
    fn decide(
        &self,
        values: &dyn Values,
        probe: &dyn Probe,
        trace: &mut Vec<String>,
    ) -> Result<bool, ConditionError> {
        let operand = self.operand.render(values)?;
        let second = self
            .second
            .as_ref()
            .map(|second| second.render(values))
            .transpose()?
            .unwrap_or_default();
        let holds = compare(self.operator, &operand, &second, probe)?;
        let shown_second = match self.operator.second() {
            SecondOperand::None => String::new(),
            SecondOperand::Value => format!(", value '{}'", second.shown),
            SecondOperand::Path => format!(", path '{}'", second.shown),
        };
        trace.push(format!(
            "{} '{}'{shown_second}: {holds}",
            self.operator.name(),
            operand.shown
        ));
        Ok(holds)
    }
}

fn compare(
    operator: Operator,
    operand: &Rendered,
    second: &Rendered,
    probe: &dyn Probe,
) -> Result<bool, ConditionError> {
    use Operator as O;
    let (baseline, value) = (operand.text.as_str(), second.text.as_str());
    let text_order = || fold(value).cmp(&fold(baseline));
    // A text that is no number makes every number comparison false, `numberEquals` of two equal texts included.
    let number_order = || compare_numbers(value, baseline);
    Ok(match operator {
        O::StringIsEmpty => baseline.is_empty(),
        O::StringIsWhitespace => !baseline.is_empty() && baseline.chars().all(char::is_whitespace),
        O::StringEquals => baseline == value,
        O::StringLessThan => text_order().is_lt(),
        O::StringLessThanEquals => text_order().is_le(),
        O::StringGreaterThan => text_order().is_gt(),
        O::StringGreaterThanEquals => text_order().is_ge(),
        O::PatternMatches => pattern(baseline)?.is_match(value),
        O::NumberEquals => number_order().is_some_and(Ordering::is_eq),
        O::NumberLessThan => number_order().is_some_and(Ordering::is_lt),
        O::NumberLessThanEquals => number_order().is_some_and(Ordering::is_le),
        O::NumberGreaterThan => number_order().is_some_and(Ordering::is_gt),
        O::NumberGreaterThanEquals => number_order().is_some_and(Ordering::is_ge),
        O::BinaryExists => probe.binary_exists(baseline),
        O::FileExists => probe.file_exists(baseline),
        O::FolderExists => probe.folder_exists(baseline),
        O::FileMd5Equals | O::FileSha1Equals | O::FileSha256Equals | O::FileSha512Equals => {
            operator
                .algorithm()
                .and_then(|algorithm| probe.digest(value, algorithm))
                .is_some_and(|digest| digest.eq_ignore_ascii_case(baseline.trim()))
        }
    })
}

/// Orders without regard to case. Full lower-casing differs from simple folding only for a handful of letters.
fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// Compiles a pattern of the language: Go's dialect, any case.
///
/// # Errors
///
/// The pattern with the reason why it does not compile.
pub fn pattern(text: &str) -> Result<regex::Regex, ConditionError> {
    regex::RegexBuilder::new(&unquote(text))
        .case_insensitive(true)
        .size_limit(4 << 20)
        .build()
        .map_err(|error| {
            let full = error.to_string();
            let reason = full
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            ConditionError::Pattern {
                pattern: text.to_owned(),
                reason: reason.to_owned(),
            }
        })
}

/// Go's dialect has `\Q…\E` for literal text, the regex crate has not.
fn unquote(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = find_quote(rest) {
        result.push_str(&rest[..at]);
        let quoted = &rest[at + 2..];
        let (literal, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
        result.push_str(&regex::escape(literal));
        rest = after;
    }
    result.push_str(rest);
    result
}

/// Finds `\Q` that is not itself behind a backslash.
fn find_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at + 1 < bytes.len() {
        match (bytes[at], bytes[at + 1]) {
            (b'\\', b'Q') => return Some(at),
            (b'\\', _) => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// A decimal number of any length.
struct Decimal<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    /// Parses `^[-+]?([0-9]+[.])?[0-9]+$`.
    fn parse(text: &'a str) -> Option<Self> {
        let (negative, digits) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return None,
            None => (digits, ""),
        };
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let zero = whole.is_empty() && fraction.is_empty();
        Some(Self {
            negative: negative && !zero,
            whole,
            fraction,
        })
    }

    fn magnitude(&self, other: &Self) -> Ordering {
        self.whole
            .len()
            .cmp(&other.whole.len())
            .then_with(|| self.whole.cmp(other.whole))
            .then_with(|| self.fraction.cmp(other.fraction))
    }
}

/// Orders two numbers exactly; `None` when one of them is not a number.
fn compare_numbers(left: &str, right: &str) -> Option<Ordering> {
    let (left, right) = (Decimal::parse(left)?, Decimal::parse(right)?);
    Some(match (left.negative, right.negative) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => left.magnitude(&right),
        (true, true) => right.magnitude(&left),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{Found, Reference};

    struct Nothing;

    impl Values for Nothing {
        fn value(&self, _: &Reference) -> Result<Found<'_>, String> {
            Err("nothing here".to_owned())
        }
    }

    impl Probe for Nothing {
        fn binary_exists(&self, name: &str) -> bool {
            name == "sh"
        }
        fn file_exists(&self, path: &str) -> bool {
            path == "/file"
        }
        fn folder_exists(&self, path: &str) -> bool {
            path == "/folder"
        }
        fn digest(&self, path: &str, algorithm: &str) -> Option<String> {
            (path == "/file").then(|| format!("{}abc", algorithm.to_lowercase()))
        }
    }

    fn holds(operator: &str, operand: &str, second: Option<&str>) -> bool {
        Condition::Compare(Comparison {
            operator: Operator::from_name(operator).expect("operator"),
            operand: Template::parse(operand),
            second: second.map(Template::parse),
            span: Span::START,
        })
        .evaluate(&Nothing, &Nothing)
        .expect("decidable")
        .holds
    }

    #[test]
    fn the_operator_table_is_in_order() {
        for (name, operator, second, _) in OPERATORS {
            assert_eq!((operator.name(), operator.second()), (name, second));
        }
    }

    #[test]
    fn every_operator_decides_as_documented() {
        let cases = [
            ("stringIsEmpty", "", None, true),
            ("stringIsEmpty", " ", None, false),
            ("stringIsWhitespace", " \t", None, true),
            ("stringIsWhitespace", "", None, false),
            ("stringIsWhitespace", " x ", None, false),
            ("stringEquals", "abc", Some("abc"), true),
            ("stringEquals", "abc", Some("ABC"), false),
            ("stringEquals", "abc", Some("abc "), false),
            ("stringLessThan", "b", Some("a"), true),
            ("stringLessThan", "a", Some("b"), false),
            ("stringLessThan", "A", Some("a"), false),
            ("stringLessThan", "a", Some("9"), true),
            ("stringLessThanEquals", "A", Some("a"), true),
            ("stringGreaterThan", "a", Some("B"), true),
            ("stringGreaterThan", "a", Some("a"), false),
            ("stringGreaterThanEquals", "a", Some("A"), true),
            ("patternMatches", "^[a-z]+$", Some("MixedCase"), true),
            ("patternMatches", r"etc\/os", Some("/etc/os-release"), true),
            ("patternMatches", r"\Qa.b\E$", Some("xa.b"), true),
            ("patternMatches", r"\Qa.b\E$", Some("xacb"), false),
            ("patternMatches", "^b", Some("ab"), false),
            ("numberEquals", "1.0", Some("1"), true),
            ("numberEquals", "-0", Some("0.00"), true),
            ("numberEquals", "abc", Some("abc"), false),
            ("numberEquals", "1.", Some("1"), false),
            ("numberEquals", ".5", Some("0.5"), false),
            (
                "numberEquals",
                "10000000000000000000000.1",
                Some("10000000000000000000000.10"),
                true,
            ),
            ("numberLessThan", "2", Some("1"), true),
            ("numberLessThan", "1", Some("2"), false),
            ("numberLessThan", "10", Some("9"), true),
            ("numberLessThan", "-1", Some("-2"), true),
            ("numberLessThan", "0.10", Some("0.09"), true),
            ("numberLessThanEquals", "2", Some("2.0"), true),
            ("numberGreaterThan", "1", Some("2"), true),
            ("numberGreaterThan", "1", Some("x"), false),
            ("numberGreaterThanEquals", "1", Some("+1"), true),
            ("binaryExists", "sh", None, true),
            ("binaryExists", "nope", None, false),
            ("fileExists", "/file", None, true),
            ("fileExists", "/folder", None, false),
            ("folderExists", "/folder", None, true),
            ("fileMD5Equals", "MD5ABC", Some("/file"), true),
            ("fileSHA1Equals", "sha1abc", Some("/file"), true),
            ("fileSHA256Equals", "sha256abc", Some("/file"), true),
            ("fileSHA512Equals", "sha512abc", Some("/file"), true),
            ("fileSHA256Equals", "sha256abc", Some("/missing"), false),
        ];
        for (operator, operand, second, wanted) in cases {
            assert_eq!(
                holds(operator, operand, second),
                wanted,
                "{operator} {operand:?} {second:?}"
            );
        }
    }

    #[test]
    fn logical_operators_stop_early() {
        let compare = |operand: &str| {
            Condition::Compare(Comparison {
                operator: Operator::FileExists,
                operand: Template::parse(operand),
                second: None,
                span: Span::START,
            })
        };
        // The last operand cannot be resolved: an evaluation that reached it would fail.
        let or = Condition::Or(vec![compare("/file"), compare("{{ missing }}")]);
        assert!(or.evaluate(&Nothing, &Nothing).expect("stops early").holds);
        let and = Condition::And(vec![compare("/none"), compare("{{ missing }}")]);
        let verdict = Condition::Not(Box::new(and))
            .evaluate(&Nothing, &Nothing)
            .expect("stops early");
        assert!(verdict.holds);
        assert_eq!(verdict.trace, ["fileExists '/none': false"]);
    }

    #[test]
    fn a_bad_pattern_is_an_error_with_a_reason() {
        let error = pattern("(").expect_err("bad");
        assert_eq!(
            error.to_string(),
            "`(` is not a regular expression: unclosed group"
        );
    }
}
