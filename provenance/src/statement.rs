//! What is signed: an in-toto statement v1 with SLSA provenance v1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The media type of a statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The type of a statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// The type of the predicate.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// The name of a file's digest.
pub const SHA256: &str = "sha256";

/// What is wrong with a statement.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// Not JSON, or not of this shape.
    #[error("not an in-toto statement with SLSA provenance: {0}")]
    Shape(#[from] serde_json::Error),
    /// A statement of another type.
    #[error("the {what} is {found:?}, not {wanted:?}")]
    Type {
        /// Which of the types.
        what: &'static str,
        /// What it says.
        found: String,
        /// What it should.
        wanted: &'static str,
    },
}

/// Names of algorithms, and digests in lower-case hexadecimal.
pub type DigestSet = BTreeMap<String, String>;

/// A statement about files. Fields that this version does not know are ignored, as the specification asks of readers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// The files.
    pub subject: Vec<Resource>,
    /// [`PREDICATE_TYPE`].
    pub predicate_type: String,
    /// How they were made.
    pub predicate: Provenance,
}

/// A file or an input: in-toto's resource descriptor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// For a subject the path in the image's folder, with `/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where it is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Its digests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: DigestSet,
    /// What else is known of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, serde_json::Value>,
}

/// SLSA provenance v1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    /// What went in.
    pub build_definition: BuildDefinition,
    /// What was seen.
    pub run_details: RunDetails,
}

/// The inputs of a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildDefinition {
    /// A URI that says how the parameters are to be read.
    pub build_type: String,
    /// What the person asked for.
    pub external_parameters: serde_json::Value,
    /// What the builder chose.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub internal_parameters: serde_json::Value,
    /// What was used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolved_dependencies: Vec<Resource>,
}

/// A particular build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunDetails {
    /// Who built.
    pub builder: Builder,
    /// When.
    #[serde(default)]
    pub metadata: Metadata,
    /// What else came of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub byproducts: Vec<Resource>,
}

/// Who built.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Builder {
    /// A URI.
    pub id: String,
    /// Versions of its parts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub version: BTreeMap<String, String>,
}

/// When it was built.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation_id: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_on: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_on: Option<String>,
}

impl Statement {
    /// A statement about `subject`.
    pub fn new(subject: Vec<Resource>, predicate: Provenance) -> Self {
        Self {
            kind: STATEMENT_TYPE.into(),
            subject,
            predicate_type: PREDICATE_TYPE.into(),
            predicate,
        }
    }

    /// Reads a statement and checks both its types.
    ///
    /// # Errors
    /// If it is not one of these types.
    pub fn parse(text: &[u8]) -> Result<Self, StatementError> {
        // The types first: another predicate has another shape, and the shape's error would hide that.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Types {
            #[serde(rename = "_type")]
            kind: String,
            predicate_type: String,
        }
        let types: Types = serde_json::from_slice(text)?;
        for (what, found, wanted) in [
            ("type of the statement", types.kind, STATEMENT_TYPE),
            (
                "type of the predicate",
                types.predicate_type,
                PREDICATE_TYPE,
            ),
        ] {
            if found != wanted {
                return Err(StatementError::Type {
                    what,
                    found,
                    wanted,
                });
            }
        }
        Ok(serde_json::from_slice(text)?)
    }
}
