//! `kind: Component`: the service's CreateComponent request. The component document stands in it (`data`), in a file
//! beside it (`path`), or somewhere else (`uri`).

use std::collections::BTreeMap;

use ovenbird_component::action::Platform as DocumentPlatform;
use ovenbird_component::document::Document as ComponentDocument;
use ovenbird_component::source::{Diagnostics, Node, Source};
use ovenbird_component::{Options, validate_source};
use serde::Deserialize;

use super::shape::{ANY, Field, Rule, Shape, Text, Type};
use super::version::Version;
use super::vocabulary;

/// The fields of a component.
pub static SHAPE: Shape = Shape {
    name: "Component",
    what: "the component",
    fields: &[
        vocabulary::kind(&["Component"]),
        vocabulary::name(),
        vocabulary::description(),
        vocabulary::exact_version(),
        vocabulary::change_description(),
        Field::new(
            "platform",
            Type::Word(vocabulary::PLATFORMS),
            "The operating system it is for.",
        )
        .required(),
        Field::new(
            "supportedOsVersions",
            Type::List(&Type::Text(Text::of(1, ANY)), 1, 25),
            "Versions of operating systems it is for, such as Debian 12.",
        ),
        Field::new(
            "data",
            vocabulary::INLINE_DOCUMENT,
            "The component document.",
        ),
        Field::new(
            "uri",
            Type::Text(Text::of(1, ANY)),
            "Where the component document is: s3://BUCKET/KEY, or file:///PATH.",
        ),
        Field::new(
            "path",
            Type::Text(Text::of(1, ANY)),
            "The component document's file, relative to this file.",
        ),
        vocabulary::kms_key(),
        vocabulary::tags(),
        vocabulary::client_token(),
        vocabulary::dry_run(),
    ],
    rules: &[Rule::ExactlyOne(&["data", "uri", "path"])],
};

/// A component.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// Its version.
    pub semantic_version: Version,
    /// What is new in this version.
    pub change_description: Option<String>,
    /// The operating system it is for.
    pub platform: Platform,
    /// Versions of operating systems it is for.
    #[serde(default)]
    pub supported_os_versions: Vec<String>,
    /// The component document; `None` if it is elsewhere (`uri`).
    pub data: Option<String>,
    /// Where the component document is.
    pub uri: Option<String>,
    /// A key of the service.
    pub kms_key_id: Option<String>,
    /// Tags of the component.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// An operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Platform {
    /// Windows.
    Windows,
    /// Linux.
    Linux,
    /// macOS.
    #[serde(rename = "macOS")]
    MacOs,
}

impl Platform {
    /// The word in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Windows => "Windows",
            Self::Linux => "Linux",
            Self::MacOs => "macOS",
        }
    }

    /// The platform of the component language.
    pub const fn of_documents(self) -> DocumentPlatform {
        match self {
            Self::Windows => DocumentPlatform::Windows,
            Self::Linux => DocumentPlatform::Linux,
            Self::MacOs => DocumentPlatform::Darwin,
        }
    }
}

/// What a component is for, which follows from its phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComponentType {
    /// It has a build or validate phase.
    Build,
    /// It has none, so it only tests.
    Test,
}

impl ComponentType {
    /// The word in the service.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Build => "BUILD",
            Self::Test => "TEST",
        }
    }
}

impl Component {
    /// The component document, read again; `None` if it is elsewhere.
    pub fn document(&self) -> Option<ComponentDocument> {
        self.validate("data").and_then(|(document, _)| document)
    }

    /// Reads and checks the component document; `None` if it is elsewhere.
    pub fn validate(&self, name: &str) -> Option<(Option<ComponentDocument>, Diagnostics)> {
        let source = Source::new(name, self.data.as_deref()?);
        let options = Options {
            platforms: vec![self.platform.of_documents()],
            ..Options::default()
        };
        let validated = validate_source(&source, &options);
        Some((validated.document, validated.diagnostics))
    }

    /// What it is for; `None` if the document is elsewhere or has errors.
    pub fn component_type(&self) -> Option<ComponentType> {
        let document = self.document()?;
        let builds = document
            .phases
            .iter()
            .any(|phase| phase.name.value != "test");
        Some(if builds {
            ComponentType::Build
        } else {
            ComponentType::Test
        })
    }
}

/// The platform of a plain component document: Windows if a step can run nowhere else, Linux if not.
pub fn platform_of(node: &Node) -> Platform {
    let steps = node
        .as_mapping()
        .and_then(|mapping| mapping.get("phases"))
        .and_then(Node::as_sequence)
        .unwrap_or_default()
        .iter()
        .filter_map(|phase| phase.as_mapping()?.get("steps")?.as_sequence())
        .flatten();
    let windows = steps
        .filter_map(|step| {
            Some(
                step.as_mapping()?
                    .get("action")?
                    .as_scalar()?
                    .value
                    .as_str(),
            )
        })
        .any(|action| {
            ovenbird_component::action::ACTIONS
                .iter()
                .any(|spec| spec.name == action && spec.platforms == [DocumentPlatform::Windows])
        });
    if windows {
        Platform::Windows
    } else {
        Platform::Linux
    }
}

/// Checks a plain component document.
pub fn validate_plain(source: &Source, platform: Platform) -> Diagnostics {
    let options = Options {
        platforms: vec![platform.of_documents()],
        ..Options::default()
    };
    validate_source(source, &options).diagnostics
}
