//! What documents refer to, and how a reference may be written.

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_component::source::Span;

use super::Kind;
use super::arn::{self, Arn, ResourceType, WorkflowType};
use super::parent::ParentImage;
use super::version::{VersionError, VersionPattern};
use super::vocabulary;

/// What a field of a shape refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refers {
    /// A resource of this kind, by ARN or by name and version.
    Resource(Kind),
    /// The image that an image recipe starts from.
    ParentImage,
    /// A component document, by its path.
    ComponentFile,
}

/// A reference in a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// What is referred to.
    pub to: Target,
    /// The field's name: `componentArn`, `imageRecipeArn`, `path`, …
    pub field: &'static str,
    /// The JSON pointer of the field in the canonical value.
    pub pointer: String,
    /// What the document says.
    pub text: String,
    /// Where it says so.
    pub span: Span,
}

/// What a reference means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A resource of the store, or a managed one.
    Resource(ResourceReference),
    /// A component document.
    Path(Utf8PathBuf),
    /// A parent image.
    Image(ParentImage),
}

/// A resource by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceReference {
    /// The kind.
    pub kind: Kind,
    /// The name in its normal form.
    pub name: String,
    /// Which versions will do; `x.x.x` where nothing is said, and for kinds without versions.
    pub version: VersionPattern,
    /// For workflows: which of the three types, where it is said.
    pub workflow: Option<WorkflowType>,
    /// Whether the service's maker owns it.
    pub managed: bool,
}

/// Why a text refers to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The diagnostic's code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What would have been right.
    pub expected: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Complaint {
    pub(super) fn new(
        code: &'static str,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self {
            code,
            message: message.into(),
            expected: expected.into(),
            hint: None,
        }
    }
}

impl From<VersionError> for Complaint {
    fn from(error: VersionError) -> Self {
        Self::new("bad-version", error.to_string(), error.expected())
    }
}

impl std::fmt::Display for ResourceReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.words(), self.name)?;
        if self.kind.is_versioned() {
            write!(f, "/{}", self.version)?;
        }
        Ok(())
    }
}

impl Refers {
    /// Reads a reference.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(self, text: &str, folder: &Utf8Path) -> Result<Target, Complaint> {
        match self {
            Self::Resource(kind) => ResourceReference::parse(kind, text).map(Target::Resource),
            Self::ParentImage => ParentImage::parse(text).map(Target::Image),
            Self::ComponentFile => Ok(Target::Path(folder.join(text))),
        }
    }
}

impl ResourceReference {
    /// Reads `arn:…`, `local:…`, `NAME`, `NAME/VERSION`, `NAME/VERSION/BUILD`, or these after the type's word.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, Complaint> {
        if Arn::is_meant(text) {
            return Self::from_arn(kind, text);
        }
        let (workflow, short) = strip_type(kind, text);
        let (name, version) = match short.split_once('/') {
            Some((name, version)) => (name, Some(version)),
            None => (short, None),
        };
        let expected = expected(kind);
        if !vocabulary::NAME_PATTERN.fits(name) {
            return Err(Complaint::new(
                "bad-reference",
                format!("`{text}` names no {}", kind.words()),
                expected,
            ));
        }
        let version = match version {
            Some(_) if !kind.is_versioned() => {
                return Err(Complaint::new(
                    "bad-reference",
                    format!("`{text}` has a version, {}s have none", kind.words()),
                    expected,
                ));
            }
            Some(version) => version.parse()?,
            None => VersionPattern::ANY,
        };
        Self {
            kind,
            name: arn::normalise_name(name),
            version,
            workflow,
            managed: false,
        }
        .checked(text)
    }

    fn from_arn(kind: Kind, text: &str) -> Result<Self, Complaint> {
        let arn: Arn = text.parse().map_err(|error: arn::ArnError| match error {
            arn::ArnError::Version(error) => Complaint::from(error),
            error => Complaint::new("bad-arn", error.to_string(), expected(kind)),
        })?;
        let workflow = match arn.resource {
            ResourceType::Workflow(workflow) => Some(workflow),
            _ => None,
        };
        if arn.resource.as_str().split('/').next() != Some(kind.arn_type()) {
            return Err(Complaint::new(
                "bad-reference",
                format!("`{text}` is the ARN of a resource of type {}", arn.resource),
                expected(kind),
            ));
        }
        Self {
            kind,
            managed: arn.is_managed(),
            name: arn.name,
            version: arn.version.unwrap_or(VersionPattern::ANY),
            workflow,
        }
        .checked(text)
    }

    fn checked(self, text: &str) -> Result<Self, Complaint> {
        if self.version.build().is_some() && !self.kind.has_builds() {
            return Err(Complaint::new(
                "bad-reference",
                format!(
                    "`{text}` has a build number, {}s have none",
                    self.kind.words()
                ),
                expected(self.kind),
            ));
        }
        if self.managed && self.kind == Kind::Workflow && self.version != VersionPattern::ANY {
            return Err(Complaint::new(
                "bad-reference",
                format!("`{text}` asks for a version of a managed workflow"),
                "x.x.x: managed workflows have no other versions to choose from",
            ));
        }
        Ok(self)
    }
}

/// `component/web/1.0.0` and `workflow/build/mine/x.x.x` say their type; `component/1.0.0` is a component so called.
fn strip_type(kind: Kind, text: &str) -> (Option<WorkflowType>, &str) {
    let named = |rest: &str| {
        let name = rest.split('/').next().unwrap_or_default();
        vocabulary::NAME_PATTERN.fits(name)
    };
    let rest = text
        .strip_prefix(kind.arn_type())
        .and_then(|rest| rest.strip_prefix('/'))
        .filter(|rest| named(rest))
        .unwrap_or(text);
    if kind != Kind::Workflow {
        return (None, rest);
    }
    WorkflowType::ALL
        .into_iter()
        .find_map(|workflow| {
            let rest = rest.strip_prefix(workflow.as_str())?.strip_prefix('/')?;
            named(rest).then_some((Some(workflow), rest))
        })
        .unwrap_or((None, rest))
}

fn expected(kind: Kind) -> String {
    let article = if kind.words().starts_with('i') {
        "an"
    } else {
        "a"
    };
    if kind.is_versioned() {
        format!(
            "NAME/VERSION, such as my-name/1.0.x, or {article} {}'s ARN",
            kind.words()
        )
    } else {
        format!("a name, or {article} {}'s ARN", kind.words())
    }
}

impl Refers {
    /// What a good reference looks like, in words.
    pub fn expected(self) -> String {
        match self {
            Self::Resource(kind) => expected(kind),
            Self::ParentImage => super::parent::EXPECTED.to_owned(),
            Self::ComponentFile => "a path relative to this file".to_owned(),
        }
    }

    /// What a good reference looks like, as a regular expression for JSON Schemas.
    pub fn expression(self) -> String {
        const NAME: &str = "[-_A-Za-z0-9][-_A-Za-z0-9 ]{1,126}[-_A-Za-z0-9]";
        const VERSION: &str =
            r"(?:[0-9]+\.[0-9]+\.(?:[0-9]+(?:/0*[1-9][0-9]*)?|x)|(?:[0-9]+|x)\.x\.x)";
        const VERSION_WITHOUT_BUILD: &str = r"(?:[0-9]+\.[0-9]+\.(?:[0-9]+|x)|(?:[0-9]+|x)\.x\.x)";
        const PLACE: &str =
            r"(?:arn:aws[a-z\-]*:imagebuilder:[^:]+:(?:[0-9]{12}|aws(?:-[a-z\-]+)?)|local)";
        match self {
            Self::ComponentFile => "^[^\\x00]+$".to_owned(),
            // Paths and addresses have few rules; ARNs, names and versions have many.
            Self::ParentImage => format!(
                r"^(?:{PLACE}:image/[a-z0-9\-_]+(?:/{VERSION})?|ssm:.*|ami-[0-9a-fA-F]{{8}}(?:[0-9a-fA-F]{{9}})?|[/.].*|file:.*|https?://.*#sha256:[0-9a-fA-F]{{64}}|[A-Za-z0-9][A-Za-z0-9_.\-]{{0,127}}(?:/{VERSION})?)$"
            ),
            Self::Resource(kind) => {
                let version = match (kind.is_versioned(), kind.has_builds()) {
                    (false, _) => String::new(),
                    (true, false) => format!("(?:/{VERSION_WITHOUT_BUILD})?"),
                    (true, true) => format!("(?:/{VERSION})?"),
                };
                let (long, short) = match kind {
                    Kind::Workflow => (
                        "workflow/(?:build|test|distribution)",
                        "(?:workflow/)?(?:(?:build|test|distribution)/)?".to_owned(),
                    ),
                    kind => (kind.arn_type(), format!("(?:{}/)?", kind.arn_type())),
                };
                format!("^(?:{PLACE}:{long}/[a-z0-9\\-_]+{version}|{short}{NAME}{version})$")
            }
        }
    }
}
