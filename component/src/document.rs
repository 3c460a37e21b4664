//! The types of a component document after reading.

use std::time::Duration;

use crate::action::Action;
use crate::condition::Condition;
use crate::reference::Template;
use crate::source::{Span, Spanned};
use crate::value::Input;

/// The only version of the language.
pub const SCHEMA_VERSION: &str = "1.0";

/// Largest document in bytes that the service stores.
pub const LARGEST_DOCUMENT: usize = 64 * 1024;

/// Most parameters of one document.
pub const MOST_PARAMETERS: usize = 25;

/// Longest value of a parameter in characters.
pub const LONGEST_PARAMETER_VALUE: usize = 1024;

/// Time limit of a step that does not set one.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(7200);

/// How deep ExecuteDocument may nest below the top document.
pub const DEEPEST_NESTING: usize = 3;

/// Phases with a fixed meaning; of the first three at least one has to be there.
pub const KNOWN_PHASES: [&str; 4] = ["build", "validate", "test", "container-host-test"];

/// A component document.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its name for people.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Its parameters in the order of the text.
    pub parameters: Vec<Parameter>,
    /// Its constants in the order of the text.
    pub constants: Vec<Constant>,
    /// Its phases in the order of the text.
    pub phases: Vec<Phase>,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: Spanned<String>,
    /// Its type.
    pub kind: ParameterKind,
    /// The value when none is given.
    pub default: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The only values that may be given.
    pub allowed_values: Option<Vec<String>>,
}

/// Type of a parameter or constant. Values are handled as text whatever the type; the type only limits them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// Any text.
    String,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// Texts separated by commas.
    StringList,
}

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// Its name.
    pub name: Spanned<String>,
    /// Its type.
    pub kind: ParameterKind,
    /// Its value.
    pub value: String,
}

/// A phase.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// Its name.
    pub name: Spanned<String>,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// A step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its name.
    pub name: Spanned<String>,
    /// What it does.
    pub action: Action,
    /// Place of the action's name.
    pub action_span: Span,
    /// Time limit of one attempt with all its iterations; `None` for no limit.
    pub timeout: Option<Duration>,
    /// What happens when it fails.
    pub on_failure: OnFailure,
    /// Attempts in all.
    pub max_attempts: u32,
    /// Its inputs as written.
    pub inputs: Input,
    /// The condition of an Assert step, which takes the place of inputs.
    pub assertion: Option<Condition>,
    /// Whether it runs at all.
    pub condition: Option<Guard>,
    /// Its loop.
    pub looping: Option<Loop>,
    /// Whether its standard output is kept out of the logs.
    pub disable_logging: bool,
}

/// What happens when a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing more runs.
    Abort,
    /// The rest runs, the run has failed.
    Continue,
    /// The rest runs, the run can still succeed.
    Ignore,
}

impl OnFailure {
    /// The words of the field.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("Abort", Self::Abort),
        ("Continue", Self::Continue),
        ("Ignore", Self::Ignore),
    ];

    /// The word of the field.
    pub fn word(self) -> &'static str {
        match self {
            Self::Abort => "Abort",
            Self::Continue => "Continue",
            Self::Ignore => "Ignore",
        }
    }
}

/// The `if` of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Guard {
    /// The condition.
    pub condition: Condition,
    /// What to do when it holds.
    pub then: Decision,
    /// What to do when it does not.
    pub otherwise: Decision,
}

/// What an `if` decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Decision {
    /// The step fails without running.
    Abort,
    /// The step runs.
    Execute,
    /// The step is left out and counts as a success.
    Skip,
}

impl Decision {
    /// The words of `then` and `else`.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("Abort", Self::Abort),
        ("Execute", Self::Execute),
        ("Skip", Self::Skip),
    ];
}

/// The loop of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Loop {
    /// Its name, by which references can read it besides `loop`.
    pub name: Option<Spanned<String>>,
    /// What it runs over.
    pub kind: LoopKind,
}

/// What a loop runs over.
#[derive(Debug, Clone, PartialEq)]
pub enum LoopKind {
    /// Numbers from `start` to `end`, both included.
    For {
        /// First number.
        start: i64,
        /// Last number, if the steps meet it.
        end: i64,
        /// Distance.
        update_by: i64,
    },
    /// A list.
    Each(Vec<(Template, Span)>),
    /// A text that is split.
    Split {
        /// The text.
        list: Template,
        /// Place of the text.
        span: Span,
        /// Where it is split.
        delimiter: char,
    },
}

/// The delimiters that a loop can split at.
pub const DELIMITERS: [char; 9] = ['.', ',', ';', ':', '\n', '\t', ' ', '-', '_'];

/// Most iterations that are run; a mistyped bound should fail at validation, not fill the state folder.
pub const MOST_ITERATIONS: u64 = 100_000;

impl LoopKind {
    /// Number of iterations of a `for` loop: `None` for other loops.
    pub fn count(&self) -> Option<u64> {
        match *self {
            Self::For {
                start,
                end,
                update_by,
            } if update_by != 0 => {
                let distance = i128::from(end) - i128::from(start);
                let steps = distance / i128::from(update_by);
                (distance == 0 || (distance > 0) == (update_by > 0))
                    .then(|| u64::try_from(steps + 1).unwrap_or(u64::MAX))
            }
            _ => None,
        }
    }

    /// Calls `visit` for every text that can hold references.
    pub fn visit_texts<'a>(&'a self, visit: &mut dyn FnMut(&'a Template, Span)) {
        match self {
            Self::For { .. } => {}
            Self::Each(items) => items.iter().for_each(|(item, span)| visit(item, *span)),
            Self::Split { list, span, .. } => visit(list, *span),
        }
    }
}

impl ParameterKind {
    /// The type of a word, whatever its case.
    pub fn from_word(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "string" => Some(Self::String),
            "integer" => Some(Self::Integer),
            "boolean" => Some(Self::Boolean),
            "stringlist" => Some(Self::StringList),
            _ => None,
        }
    }

    /// Checks a value.
    ///
    /// # Errors
    ///
    /// What was expected.
    pub fn check(self, value: &str) -> Result<(), &'static str> {
        match self {
            Self::String | Self::StringList => Ok(()),
            Self::Integer => value
                .trim()
                .parse::<i64>()
                .map(|_| ())
                .map_err(|_| "a whole number"),
            Self::Boolean => match value.to_ascii_lowercase().as_str() {
                "true" | "false" => Ok(()),
                _ => Err("true or false"),
            },
        }
    }
}

impl Parameter {
    /// Checks a value that was passed for this parameter.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let name = &self.name.value;
        if value.chars().count() > LONGEST_PARAMETER_VALUE {
            return Err(format!(
                "the value of parameter `{name}` is longer than {LONGEST_PARAMETER_VALUE} characters"
            ));
        }
        if let Err(expected) = self.kind.check(value) {
            return Err(format!(
                "the value `{value}` of parameter `{name}` is not {expected}"
            ));
        }
        match &self.allowed_values {
            Some(allowed) if !allowed.iter().any(|word| word == value) => {
                let words: Vec<&str> = allowed.iter().map(String::as_str).collect();
                Err(format!(
                    "the value `{value}` of parameter `{name}` is not one of {}",
                    crate::source::join_words(&words)
                ))
            }
            _ => Ok(()),
        }
    }
}

impl Document {
    /// A phase by its name.
    pub fn phase(&self, name: &str) -> Option<&Phase> {
        self.phases.iter().find(|phase| phase.name.value == name)
    }

    /// A step by the names of its phase and itself.
    pub fn step(&self, phase: &str, step: &str) -> Option<&Step> {
        self.phase(phase)?
            .steps
            .iter()
            .find(|candidate| candidate.name.value == step)
    }
}

impl Step {
    /// Calls `visit` for every text of inputs, condition and loop.
    pub fn visit_texts<'a>(&'a self, visit: &mut dyn FnMut(&'a Template, Span)) {
        self.inputs.visit_texts(visit);
        if let Some(assertion) = &self.assertion {
            assertion.visit_texts(visit);
        }
        if let Some(guard) = &self.condition {
            guard.condition.visit_texts(visit);
        }
        if let Some(looping) = &self.looping {
            looping.kind.visit_texts(visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_loops_include_both_bounds() {
        let count = |start, end, update_by| {
            LoopKind::For {
                start,
                end,
                update_by,
            }
            .count()
        };
        assert_eq!(count(0, 10, 2), Some(6));
        assert_eq!(count(0, 9, 2), Some(5));
        assert_eq!(count(3, 1, -1), Some(3));
        assert_eq!(count(5, 5, -7), Some(1));
        assert_eq!(count(0, 10, 0), None);
        assert_eq!(count(0, 10, -1), None);
        assert_eq!(count(i64::MIN, i64::MAX, 1), Some(u64::MAX));
    }
}
