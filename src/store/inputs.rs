//! What an image was made from: every input as it was resolved when the build began.

use rusqlite::{Connection, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Store;
use super::images::ImageRecord;
use crate::error::Result;

/// What an input is to the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputRole {
    /// The recipe.
    Recipe,
    /// The disk it started from.
    Parent,
    /// A component, in the order of the recipe.
    Component,
    /// The infrastructure configuration.
    Infrastructure,
    /// The distribution configuration.
    Distribution,
    /// The pipeline.
    Pipeline,
}

impl InputRole {
    const ALL: [Self; 6] = [
        Self::Recipe,
        Self::Parent,
        Self::Component,
        Self::Infrastructure,
        Self::Distribution,
        Self::Pipeline,
    ];

    /// The word on record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recipe => "recipe",
            Self::Parent => "parent",
            Self::Component => "component",
            Self::Infrastructure => "infrastructure",
            Self::Distribution => "distribution",
            Self::Pipeline => "pipeline",
        }
    }
}

/// An input of an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageInput {
    /// What it is to the image.
    pub role: InputRole,
    /// Its name.
    pub name: String,
    /// Its version, with the build number where there is one.
    pub version: Option<String>,
    /// Its ARN, if it came from the store.
    pub arn: Option<String>,
    /// The file it was read from, if it came from one.
    pub source: Option<String>,
    /// SHA-256.
    pub digest: Option<String>,
    /// A component's parameters, the whole of a configuration.
    pub detail: Value,
    /// A component's document.
    #[serde(skip)]
    pub text: Option<String>,
}

impl ImageInput {
    /// `web/1.0.0/2`, or the name alone.
    pub fn label(&self) -> String {
        match &self.version {
            Some(version) => format!("{}/{version}", self.name),
            None => self.name.clone(),
        }
    }
}

impl Store {
    /// What an image was made from, in the order: recipe, parent, components, the rest.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Environment`] if the store can't be read.
    pub fn inputs_of(&self, image: &ImageRecord) -> Result<Vec<ImageInput>> {
        self.read(|connection| inputs(connection, image.id))
    }
}

pub(super) fn insert(
    transaction: &Transaction<'_>,
    image: i64,
    inputs: &[ImageInput],
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO image_input (image, position, role, name, version, arn, source, digest, detail) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for (position, input) in inputs.iter().enumerate() {
        statement.execute(params![
            image,
            i64::try_from(position).unwrap_or(i64::MAX),
            input.role.as_str(),
            input.name,
            input.version,
            input.arn,
            input.source,
            input.digest,
            input.detail.to_string(),
        ])?;
        if let (Some(digest), Some(text)) = (&input.digest, &input.text) {
            transaction
                .prepare_cached(
                    "INSERT OR IGNORE INTO component_text (digest, text) VALUES (?1, ?2)",
                )?
                .execute(params![digest, text])?;
        }
    }
    Ok(())
}

fn inputs(connection: &Connection, image: i64) -> rusqlite::Result<Vec<ImageInput>> {
    connection
        .prepare_cached(
            "SELECT role, name, version, arn, source, image_input.digest, detail, text FROM image_input \
             LEFT JOIN component_text USING (digest) WHERE image = ?1 ORDER BY position",
        )?
        .query_map([image], |row| {
            let word: String = row.get(0)?;
            let role = InputRole::ALL
                .into_iter()
                .find(|role| role.as_str() == word)
                .ok_or_else(|| {
                    rusqlite::Error::FromSqlConversionFailure(
                        0,
                        rusqlite::types::Type::Text,
                        format!("unknown role `{word}`").into(),
                    )
                })?;
            let detail: String = row.get(6)?;
            Ok(ImageInput {
                role,
                name: row.get(1)?,
                version: row.get(2)?,
                arn: row.get(3)?,
                source: row.get(4)?,
                digest: row.get(5)?,
                detail: serde_json::from_str(&detail).unwrap_or_default(),
                text: row.get(7)?,
            })
        })?
        .collect()
}
