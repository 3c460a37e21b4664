//! A component in a recipe: which one, with which parameters, and under `local:` how its result is kept and what it gets
//! from this machine.

use std::collections::BTreeMap;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::{Deserialize, Deserializer};

use super::reference::{Complaint, Refers};
use super::shape::{ANY, Field, Pattern, Rule, SHORT_TEXT, Shape, Text, Type};
use super::{Kind, vocabulary};

/// A component of a recipe.
pub static COMPONENT: Shape = Shape {
    name: "componentConfiguration",
    what: "the component",
    fields: &[
        Field::new(
            "componentArn",
            Type::Reference(Refers::Resource(Kind::Component)),
            "A component by NAME/VERSION or by its ARN; the version may end in x.",
        ),
        Field::new(
            "path",
            Type::Reference(Refers::ComponentFile),
            "A component document, relative to this file.",
        ),
        Field::new(
            "parameters",
            Type::List(&Type::Object(&vocabulary::COMPONENT_PARAMETER), 1, ANY),
            "Values for the component's parameters.",
        ),
        Field::new("local", Type::Object(&LOCAL), "What only Ovenbird has."),
    ],
    rules: &[Rule::ExactlyOne(&["componentArn", "path"])],
};

static AGE: Pattern = Pattern::new(
    r"^[0-9]{1,6}[smhdw]$",
    "bad-age",
    "a number and s, m, h, d or w, such as 12h or 7d",
);

/// A place in the guest.
static GUEST_PATH: Pattern =
    Pattern::new(r"^/[^\x00]*$", "bad-path", "an absolute path in the guest");

static LOCAL: Shape = Shape {
    name: "componentLocal",
    what: "`local` of the component",
    fields: &[
        Field::new(
            "cache",
            Type::Boolean,
            "Whether the result of the build phase may be used again; true if nothing is said.",
        ),
        Field::new(
            "maxAge",
            Type::Checked(Text::of(2, 7).like(&AGE), check_age),
            "How long the result may be used again: 12h, 7d. If nothing is said: a day for what takes something from outside \
             that is not pinned, such as UpdateOS; without limit for all else.",
        ),
        Field::new(
            "files",
            Type::List(&Type::Object(&FILE), 1, ANY),
            "Files and folders of this machine that are put into the guest before the build phase.",
        ),
    ],
    rules: &[],
};

static FILE: Shape = Shape {
    name: "componentFile",
    what: "the file",
    fields: &[
        Field::new(
            "from",
            SHORT_TEXT,
            "A file or folder of this machine, relative to this file.",
        )
        .required(),
        Field::new(
            "to",
            Type::Text(Text::of(1, 4096).like(&GUEST_PATH)),
            "Where it goes in the guest: the name that it gets, or, with a slash at its end, the folder that it goes into.",
        )
        .required(),
    ],
    rules: &[],
};

/// A component of a recipe: either an ARN (or name and version), or a path.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComponentConfiguration {
    /// A component by name and version or ARN.
    pub component_arn: Option<String>,
    /// A component document, relative to the recipe.
    pub path: Option<Utf8PathBuf>,
    /// Values for the component's parameters.
    #[serde(default)]
    pub parameters: Vec<ParameterValue>,
    /// What only a local baker has.
    #[serde(default)]
    pub local: ComponentLocal,
}

impl ComponentConfiguration {
    /// The parameters by name.
    pub fn parameters(&self) -> BTreeMap<String, Vec<String>> {
        self.parameters
            .iter()
            .map(|parameter| (parameter.name.clone(), parameter.value.clone()))
            .collect()
    }
}

/// A parameter's value.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParameterValue {
    /// The parameter's name.
    pub name: String,
    /// Its value; one item for plain types.
    pub value: Vec<String>,
}

/// What only a local baker has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ComponentLocal {
    /// Whether the result of the build phase may be used again.
    pub cache: Option<bool>,
    /// How long it may be.
    #[serde(deserialize_with = "age")]
    pub max_age: Option<Duration>,
    /// What is put into the guest before the build phase.
    pub files: Vec<LocalFile>,
}

/// A file or folder that a component gets.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalFile {
    /// On this machine, relative to the recipe.
    pub from: Utf8PathBuf,
    /// In the guest.
    pub to: String,
}

/// Reads `90s`, `36h`, `7d`, `2w`.
pub fn parse_age(text: &str) -> Option<Duration> {
    let seconds = match text.chars().next_back()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    let number: u32 = text[..text.len() - 1].parse().ok()?;
    Some(Duration::from_secs(u64::from(number) * seconds))
}

fn check_age(text: &str) -> Result<(), Complaint> {
    parse_age(text)
        .map(drop)
        .ok_or_else(|| Complaint::new("bad-age", format!("`{text}` is no age"), AGE.expected()))
}

fn age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Option::<String>::deserialize(deserializer)?
        .map(|text| parse_age(&text).ok_or_else(|| serde::de::Error::custom(AGE.expected())))
        .transpose()
}
