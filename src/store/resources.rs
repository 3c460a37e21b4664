//! The record of resources: components, recipes, configurations, pipelines and policies, with their versions.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use ovenbird_component::source::nearest;
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params};
use serde::Serialize;
use serde_json::Value;

use super::Store;
use super::schema::Abort;
use crate::documents::arn::{ResourceType, normalise_name};
use crate::documents::{BuildVersion, Document, Kind, ResourceReference, Version, VersionPattern};
use crate::error::{Failure, FailureKind, Result};

/// A resource on record.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceRecord {
    #[serde(skip)]
    pub(super) id: i64,
    /// Its kind.
    pub kind: Kind,
    /// The type in ARNs.
    #[serde(skip)]
    pub resource: ResourceType,
    /// The name as the person wrote it.
    pub name: String,
    /// The name as in ARNs.
    #[serde(skip)]
    pub slug: String,
    /// The version, for kinds that have one.
    pub version: Option<Version>,
    /// The build number, for kinds that have one.
    pub build: Option<u32>,
    /// The ARN.
    pub arn: String,
    /// Canonical JSON.
    #[serde(skip)]
    pub(super) document: String,
    /// SHA-256 of the content, in hexadecimal: the same for two versions that do the same.
    pub digest: String,
    /// The file it was read from.
    pub file: Option<Utf8PathBuf>,
    /// How often its content has been given, for kinds that are changed in place.
    pub revision: u32,
    /// RFC 3339.
    pub created: String,
    /// RFC 3339.
    pub updated: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl ResourceRecord {
    /// `NAME`, `NAME/VERSION` or `NAME/VERSION/BUILD`, the name as in ARNs: what a reference to exactly this one says.
    pub fn id(&self) -> String {
        let mut id = self.slug.clone();
        if let Some(version) = self.version {
            id.push_str(&format!("/{version}"));
        }
        if let Some(build) = self.build {
            id.push_str(&format!("/{build}"));
        }
        id
    }

    /// The same with the kind before it: `image-recipe/web/1.0.0`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.resource, self.id())
    }

    /// The version with its build number, as records of images write it.
    pub fn version_text(&self) -> Option<String> {
        match (self.version, self.build) {
            (Some(version), Some(build)) => Some(version.build(build).to_string()),
            (version, _) => version.map(|version| version.to_string()),
        }
    }

    /// The version and build number, 0 where there is none.
    pub fn build_version(&self) -> BuildVersion {
        self.version
            .unwrap_or(Version::new(0, 0, 0))
            .build(self.build.unwrap_or(0))
    }

    /// The document's canonical value.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the record is damaged.
    pub fn value(&self) -> Result<Value> {
        serde_json::from_str(&self.document).map_err(|error| {
            Failure::environment(format!("the record of {} is damaged", self.label()))
                .caused_by(error)
        })
    }

    /// The document, as if it were read anew; relative paths in it start where they did when it was applied.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the record is damaged.
    pub fn read(&self) -> Result<Document> {
        let value = self.value()?;
        let mut document =
            Document::from_value(self.kind, &value, &self.label()).map_err(|diagnostics| {
                Failure::environment(format!("the record of {} is damaged", self.label()))
                    .with_details(diagnostics.render())
            })?;
        if let Some(file) = &self.file {
            document.origin.file.clone_from(file);
        }
        Ok(document)
    }
}

/// Which resources of a kind are wanted.
#[derive(Debug, Clone, Default)]
pub struct ResourceFilter {
    /// Those of this name.
    pub name: Option<String>,
    /// Those whose version fits.
    pub version: Option<VersionPattern>,
    /// Those that have all of these tags; without a value any will do.
    pub tags: Vec<(String, Option<String>)>,
    /// Only the newest version and build of each name.
    pub newest: bool,
}

impl ResourceFilter {
    fn wants(&self, record: &ResourceRecord) -> bool {
        self.version
            .is_none_or(|version| version.matches_build(record.build_version()))
            && has_tags(&record.tags, &self.tags)
    }
}

/// Whether tags hold all that are wanted.
pub(super) fn has_tags(
    tags: &BTreeMap<String, String>,
    wanted: &[(String, Option<String>)],
) -> bool {
    wanted.iter().all(|(key, value)| {
        tags.get(key)
            .is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
    })
}

/// A resource that refers to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    #[serde(skip)]
    pub(super) id: i64,
    /// `image-recipe/web/1.0.0`.
    pub resource: String,
    /// The field that holds the reference.
    pub field: String,
    /// What the field says.
    pub text: String,
}

const COLUMNS: &str = "id, kind, name, slug, major, minor, patch, build, arn, document, digest, file, revision, created, updated, \
                       (SELECT json_group_object(key, value) FROM resource_tag WHERE resource = resource.id)";

/// Newest first.
const NEWEST: &str = "major DESC, minor DESC, patch DESC, build DESC";

impl Store {
    /// The newest resource that a reference allows.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if there is none, with what there is instead.
    pub fn resource(&self, reference: &ResourceReference) -> Result<ResourceRecord> {
        match self.find_resource(reference)? {
            Some(record) => Ok(record),
            None => {
                let hint = self.read(|connection| hint_for(connection, reference))?;
                Err(Failure::config(format!("there is no {reference}")).with_hint(hint))
            }
        }
    }

    /// The same by a text: `NAME`, `NAME/VERSION`, an ARN, …
    ///
    /// # Errors
    /// [`FailureKind::Config`] if the text is no reference, or there is no such resource.
    pub fn resource_named(&self, kind: Kind, text: &str) -> Result<ResourceRecord> {
        self.resource(&reference_of(kind, text)?)
    }

    /// The newest resource that a reference allows, if there is one.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the store can't be read.
    pub fn find_resource(&self, reference: &ResourceReference) -> Result<Option<ResourceRecord>> {
        self.read(|connection| resolve(connection, reference))
    }

    /// The resources of a kind that pass a filter, by name, the newest of each first.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the store can't be read.
    pub fn resources(&self, kind: Kind, filter: &ResourceFilter) -> Result<Vec<ResourceRecord>> {
        let slug = filter.name.as_deref().map(normalise_name);
        let mut records: Vec<ResourceRecord> = self.read(|connection| {
            let types = types_of(kind);
            let sql = format!(
                "SELECT {COLUMNS} FROM resource WHERE kind IN {} AND (?1 IS NULL OR slug = ?1) ORDER BY slug, kind, {NEWEST}",
                types.sql()
            );
            connection
                .prepare(&sql)?
                .query_map([&slug], record_of)?
                .collect()
        })?;
        records.retain(|record| filter.wants(record));
        if filter.newest {
            records.dedup_by(|later, first| {
                (later.resource, &later.slug) == (first.resource, &first.slug)
            });
        }
        Ok(records)
    }

    /// What refers to a resource: those whose references resolve to exactly this one now.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the store can't be read.
    pub fn referrers(&self, record: &ResourceRecord) -> Result<Vec<Referrer>> {
        self.read(|connection| referrers(connection, record))
    }

    /// Earlier contents of a resource that is changed in place, newest first: revision, document, when it was replaced.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the store can't be read.
    pub fn resource_history(&self, record: &ResourceRecord) -> Result<Vec<(u32, String, String)>> {
        self.read(|connection| {
            connection
                .prepare(
                    "SELECT revision, document, replaced FROM resource_history WHERE resource = ?1 \
                     ORDER BY revision DESC",
                )?
                .query_map([record.id], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })?
                .collect()
        })
    }

    /// Removes a resource.
    ///
    /// # Errors
    /// As [`Self::delete_resources`].
    pub fn delete_resource(&self, record: &ResourceRecord) -> Result<()> {
        self.delete_resources(std::slice::from_ref(record))
    }

    /// Removes resources, all or none. They may refer to each other.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if something else refers to one of them; the failure names what.
    pub fn delete_resources(&self, records: &[ResourceRecord]) -> Result<()> {
        self.transact(|transaction| {
            let going: Vec<i64> = records.iter().map(|record| record.id).collect();
            let mut held = Vec::new();
            for record in records {
                for referrer in referrers(transaction, record)? {
                    if !going.contains(&referrer.id) {
                        held.push((record, referrer));
                    }
                }
            }
            if let Some((first, _)) = held.first() {
                let details: Vec<String> = held
                    .iter()
                    .map(|(record, referrer)| {
                        format!(
                            "{} is what {} means by `{}: {}`",
                            record.label(),
                            referrer.resource,
                            referrer.field,
                            referrer.text
                        )
                    })
                    .collect();
                return Err(Abort::Refused(
                    Failure::config(format!("{} is referred to", first.label()))
                        .with_details(details.join("\n"))
                        .with_hint("delete what refers to it first, or name all of them at once"),
                ));
            }
            for id in going {
                transaction.execute("DELETE FROM resource WHERE id = ?1", [id])?;
            }
            Ok(())
        })
    }
}

/// Reads a reference from the command line.
///
/// # Errors
/// [`FailureKind::Usage`] with what would have been right.
pub fn reference_of(kind: Kind, text: &str) -> Result<ResourceReference> {
    ResourceReference::parse(kind, text).map_err(|complaint| {
        let failure = Failure::new(FailureKind::Usage, complaint.message);
        failure.with_hint(
            complaint
                .hint
                .unwrap_or_else(|| format!("expected {}", complaint.expected)),
        )
    })
}

/// The newest resource that a reference allows.
pub(super) fn resolve(
    connection: &Connection,
    reference: &ResourceReference,
) -> rusqlite::Result<Option<ResourceRecord>> {
    let types = match reference.workflow {
        Some(workflow) => Types(vec![ResourceType::Workflow(workflow)]),
        None => types_of(reference.kind),
    };
    let [major, minor, patch] = reference.version.nodes();
    let sql = format!(
        "SELECT {COLUMNS} FROM resource WHERE kind IN {} AND slug = ?1 AND (?2 IS NULL OR major = ?2) \
         AND (?3 IS NULL OR minor = ?3) AND (?4 IS NULL OR patch = ?4) AND (?5 IS NULL OR build = ?5) \
         ORDER BY {NEWEST} LIMIT 1",
        types.sql()
    );
    connection
        .prepare_cached(&sql)?
        .query_row(
            params![
                reference.name,
                major,
                minor,
                patch,
                reference.version.build()
            ],
            record_of,
        )
        .optional()
}

fn referrers(connection: &Connection, record: &ResourceRecord) -> rusqlite::Result<Vec<Referrer>> {
    let kind = record.resource.as_str();
    // A reference to a workflow need not say which of the three types it means.
    let family = record.kind.arn_type();
    let mut statement = connection.prepare_cached(
        "SELECT resource.id, resource.kind, resource.slug, resource.major, resource.minor, resource.patch, resource.build, \
         field, text, resource_reference.kind, resource_reference.slug, resource_reference.major, \
         resource_reference.minor, resource_reference.patch, resource_reference.build \
         FROM resource_reference JOIN resource ON resource.id = resource_reference.resource \
         WHERE resource_reference.slug = ?1 AND resource_reference.kind IN (?2, ?3) \
         ORDER BY resource.kind, resource.slug, resource.major, resource.minor, resource.patch, resource.build",
    )?;
    let rows = statement.query_map(params![record.slug, kind, family], |row| {
        let referrer_type = resource_type(&row.get::<_, String>(1)?, 1)?;
        let slug: String = row.get(2)?;
        let mut label = format!("{referrer_type}/{slug}");
        if referrer_type.is_versioned() {
            let (major, minor, patch) = (row.get(3)?, row.get(4)?, row.get(5)?);
            label.push_str(&format!("/{}", Version::new(major, minor, patch)));
        }
        let build: u32 = row.get(6)?;
        if build > 0 {
            label.push_str(&format!("/{build}"));
        }
        let referrer = Referrer {
            id: row.get(0)?,
            resource: label,
            field: row.get(7)?,
            text: row.get(8)?,
        };
        let reference = Stored {
            kind: row.get(9)?,
            slug: row.get(10)?,
            nodes: [row.get(11)?, row.get(12)?, row.get(13)?, row.get(14)?],
        };
        Ok((referrer, reference))
    })?;
    let mut found = Vec::new();
    for row in rows {
        let (referrer, reference) = row?;
        if reference.resolve(connection)? == Some(record.id) {
            found.push(referrer);
        }
    }
    Ok(found)
}

/// A reference as the table keeps it.
struct Stored {
    kind: String,
    slug: String,
    nodes: [Option<u32>; 4],
}

impl Stored {
    fn resolve(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        let [major, minor, patch, build] = self.nodes;
        connection
            .prepare_cached(
                "SELECT id FROM resource WHERE (kind = ?1 OR (?1 = 'workflow' AND kind LIKE 'workflow/%')) AND slug = ?2 \
                 AND (?3 IS NULL OR major = ?3) AND (?4 IS NULL OR minor = ?4) AND (?5 IS NULL OR patch = ?5) \
                 AND (?6 IS NULL OR build = ?6) ORDER BY major DESC, minor DESC, patch DESC, build DESC LIMIT 1",
            )?
            .query_row(
                params![self.kind, self.slug, major, minor, patch, build],
                |row| row.get(0),
            )
            .optional()
    }
}

/// What to say to somebody whose reference leads nowhere.
pub(super) fn hint_for(
    connection: &Connection,
    reference: &ResourceReference,
) -> rusqlite::Result<String> {
    let types = types_of(reference.kind);
    let mut statement = connection.prepare(&format!(
        "SELECT DISTINCT slug FROM resource WHERE kind IN {} ORDER BY slug",
        types.sql()
    ))?;
    let slugs: Vec<String> = statement
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if slugs.contains(&reference.name) {
        let mut statement = connection.prepare(&format!(
            "SELECT {COLUMNS} FROM resource WHERE kind IN {} AND slug = ?1 ORDER BY {NEWEST} LIMIT 5",
            types.sql()
        ))?;
        let known: Vec<String> = statement
            .query_map([&reference.name], |row| {
                Ok(record_of(row)?.version_text().unwrap_or_default())
            })?
            .collect::<rusqlite::Result<_>>()?;
        return Ok(format!("there is {}", known.join(", ")));
    }
    Ok(
        match nearest(&reference.name, slugs.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "`ovenbird apply` of its file or folder puts {} {} into the store",
                if reference.kind.words().starts_with('i') {
                    "an"
                } else {
                    "a"
                },
                reference.kind.words()
            ),
        },
    )
}

/// The types of a kind: three for workflows, one for the others.
pub(super) struct Types(Vec<ResourceType>);

impl Types {
    /// As a list in SQL; the words are our own.
    pub(super) fn sql(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|kind| format!("'{kind}'")).collect();
        format!("({})", words.join(", "))
    }
}

pub(super) fn types_of(kind: Kind) -> Types {
    Types(
        ResourceType::ALL
            .into_iter()
            .filter(|resource| {
                resource
                    .as_str()
                    .split('/')
                    .next()
                    .is_some_and(|word| word == kind.arn_type())
            })
            .collect(),
    )
}

fn resource_type(word: &str, column: usize) -> rusqlite::Result<ResourceType> {
    ResourceType::ALL
        .into_iter()
        .find(|resource| resource.as_str() == word)
        .ok_or_else(|| damaged(column, format!("unknown type `{word}`")))
}

fn kind_of(resource: ResourceType, column: usize) -> rusqlite::Result<Kind> {
    let word = resource.as_str().split('/').next().unwrap_or_default();
    Kind::ALL
        .into_iter()
        .find(|kind| kind.arn_type() == word)
        .ok_or_else(|| damaged(column, format!("`{word}` is no kind")))
}

fn damaged(column: usize, message: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, message.into())
}

pub(super) fn record_of(row: &Row<'_>) -> rusqlite::Result<ResourceRecord> {
    let resource = resource_type(&row.get::<_, String>(1)?, 1)?;
    let (major, minor, patch, build): (u32, u32, u32, u32) =
        (row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?);
    Ok(ResourceRecord {
        id: row.get(0)?,
        kind: kind_of(resource, 1)?,
        resource,
        name: row.get(2)?,
        slug: row.get(3)?,
        version: resource
            .is_versioned()
            .then(|| Version::new(major, minor, patch)),
        build: resource.has_builds().then_some(build),
        arn: row.get(8)?,
        document: row.get(9)?,
        digest: row.get(10)?,
        file: row.get::<_, Option<String>>(11)?.map(Utf8PathBuf::from),
        revision: row.get(12)?,
        created: row.get(13)?,
        updated: row.get(14)?,
        tags: tags_of(&row.get::<_, String>(15)?, 15)?,
    })
}

pub(super) fn tags_of(text: &str, column: usize) -> rusqlite::Result<BTreeMap<String, String>> {
    serde_json::from_str(text).map_err(|error| damaged(column, error.to_string()))
}

/// One record by a condition.
pub(super) fn query_one(
    connection: &Connection,
    condition: &str,
    values: &[&dyn ToSql],
) -> rusqlite::Result<Option<ResourceRecord>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM resource WHERE {condition} LIMIT 1"
        ))?
        .query_row(values, record_of)
        .optional()
}
