//! Puts documents into the store: what is new, what is a new version, what is the same.

use std::collections::BTreeMap;

use ovenbird_component::source::{Diagnostic, Diagnostics};
use rusqlite::{Connection, Transaction, params};
use serde::Serialize;
use serde_json::Value;

use super::resources::{ResourceRecord, hint_for, query_one, resolve};
use super::schema::Abort;
use super::{Store, now};
use crate::documents::arn::Arn;
use crate::documents::{Document, Kind, Version, VersionPattern, VersionSpec};
use crate::error::{Failure, Result};

/// What became of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// There was nothing of this name.
    Created,
    /// There was, and this is a further version.
    NewVersion,
    /// The version was there with another content: this is its next build.
    NewBuild,
    /// The content was changed in place.
    Updated,
    /// Only the tags were changed.
    Tagged,
    /// The same as before.
    Unchanged,
}

impl Outcome {
    /// For people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::NewVersion => "new version",
            Self::NewBuild => "new build",
            Self::Updated => "updated",
            Self::Tagged => "tags changed",
            Self::Unchanged => "unchanged",
        }
    }
}

/// A document that was put into the store.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Put {
    /// What became of it.
    pub outcome: Outcome,
    /// The resource as it is on record now.
    pub resource: ResourceRecord,
    /// The newest in each of the four ways to refer to it, as the service's answers name them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_version_references: Option<LatestVersionReferences>,
}

/// ARNs that go on meaning the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LatestVersionReferences {
    /// `x.x.x`
    pub latest_version_arn: String,
    /// `1.x.x`
    pub latest_major_version_arn: String,
    /// `1.2.x`
    pub latest_minor_version_arn: String,
    /// `1.2.3`
    pub latest_patch_version_arn: String,
}

impl LatestVersionReferences {
    /// Those of a resource; `None` for kinds without versions.
    pub fn of(record: &ResourceRecord) -> Option<Self> {
        let version = record.version?;
        let arn = |pattern: VersionPattern| {
            Arn::local(record.resource, &record.slug, Some(pattern)).to_string()
        };
        let [any, major, minor] = version.wildcards();
        Some(Self {
            latest_version_arn: arn(any),
            latest_major_version_arn: arn(major),
            latest_minor_version_arn: arn(minor),
            latest_patch_version_arn: arn(VersionPattern::exactly(version)),
        })
    }
}

impl Store {
    /// Puts a document into the store; what it refers to must be there.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn put_resource(&self, document: &Document) -> Result<Put> {
        let mut puts = self.apply(std::slice::from_ref(document))?;
        puts.pop()
            .ok_or_else(|| Failure::config("nothing to put into the store"))
    }

    /// Puts documents into the store, all or none. They may refer to each other in any order. What is the same as before
    /// stays as it is, so the same call can be made again and again.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Config`] with a diagnostic for each problem: a reference that leads nowhere, a recipe
    /// whose version is there with another content, a name that collides, a quota.
    pub fn apply(&self, documents: &[Document]) -> Result<Vec<Put>> {
        self.transact(|transaction| self.put_all(transaction, documents))
    }

    /// Says what [`Self::apply`] would do, and changes nothing.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn rehearse_apply(&self, documents: &[Document]) -> Result<Vec<Put>> {
        self.rehearse(|transaction| self.put_all(transaction, documents))
    }

    fn put_all(
        &self,
        transaction: &Transaction<'_>,
        documents: &[Document],
    ) -> Result<Vec<Put>, Abort> {
        let mut problems = Diagnostics::new();
        check_twins(documents, &mut problems);
        let mut puts = Vec::with_capacity(documents.len());
        // Lower versions first, so that build numbers and quotas come out the same in whatever order files are read.
        let mut order: Vec<&Document> = documents.iter().collect();
        order.sort_by_key(|document| {
            let place = Kind::ALL.iter().position(|kind| *kind == document.kind());
            let version = document
                .version()
                .map(|version| (version.exact().is_none(), version.exact()));
            (place, document.slug(), version)
        });
        let now = now();
        for document in &order {
            match put(transaction, document, &now)? {
                Ok(put) => puts.push(put),
                Err(problem) => problems.push(*problem),
            }
        }
        // Only now everything is there that they may refer to.
        for document in &order {
            check_references(transaction, document, &mut problems)?;
        }
        self.check_quotas(transaction, &order, &mut problems)?;
        if problems.has_errors() {
            let failure = Failure::config(format!(
                "nothing was applied: {}",
                if problems.errors() == 1 {
                    "there is a problem".to_owned()
                } else {
                    format!("there are {} problems", problems.errors())
                }
            ));
            return Err(Abort::Refused(failure.with_details(problems.render())));
        }
        Ok(puts)
    }
}

/// Two documents of one set that would be one resource.
fn check_twins(documents: &[Document], problems: &mut Diagnostics) {
    let mut seen: BTreeMap<String, &Document> = BTreeMap::new();
    for document in documents {
        let arn = document.arn().to_string();
        match seen.get(&arn) {
            Some(first) => problems.push(
                document
                    .error(
                        "given-twice",
                        "/name",
                        format!(
                            "the {} {} is given twice",
                            document.kind().words(),
                            arn.rsplit_once(&format!("{}/", document.resource_type()))
                                .map_or(arn.as_str(), |(_, id)| id)
                        ),
                    )
                    .hint(format!(
                        "the first stands in {}, line {}",
                        first.origin.file, first.origin.line
                    )),
            ),
            None => {
                seen.insert(arn, document);
            }
        }
    }
}

type Outcomes = Result<Put, Box<Diagnostic>>;

fn put(
    transaction: &Transaction<'_>,
    document: &Document,
    now: &str,
) -> rusqlite::Result<Outcomes> {
    let kind = document.resource_type().as_str();
    let slug = document.slug();
    let known = query_one(
        transaction,
        "kind = ?1 AND slug = ?2",
        &[&kind, &slug.as_str()],
    )?;
    if let Some(known) = &known
        && known.name != document.name()
    {
        return Ok(Err(Box::new(collision(document, known))));
    }
    let entry = Entry {
        transaction,
        document,
        kind,
        slug: &slug,
        digest: document.digest().to_string(),
        now,
    };
    match document.version() {
        None => match known {
            None => entry.insert(None, 0, Outcome::Created).map(Ok),
            Some(known) => entry.update(known).map(Ok),
        },
        Some(VersionSpec::Next(pattern)) => entry.next(*pattern, known.is_some()),
        Some(VersionSpec::Exact(version)) => entry.exact(*version, known.is_some()),
    }
}

fn collision(document: &Document, known: &ResourceRecord) -> Diagnostic {
    document
        .error(
            "name-collision",
            "/name",
            format!(
                "the {} `{}` is the same as `{}`, which is in the store",
                document.kind().words(),
                document.name(),
                known.name
            ),
        )
        .hint(format!(
            "in ARNs both are `{}`: write the name as it is there, or choose another",
            known.slug
        ))
}

/// A document on its way into the store.
struct Entry<'a> {
    transaction: &'a Transaction<'a>,
    document: &'a Document,
    kind: &'static str,
    slug: &'a str,
    digest: String,
    now: &'a str,
}

impl Entry<'_> {
    fn exact(&self, version: Version, named: bool) -> rusqlite::Result<Outcomes> {
        let [major, minor, patch] = version.nodes();
        let newest = query_one(
            self.transaction,
            "kind = ?1 AND slug = ?2 AND major = ?3 AND minor = ?4 AND patch = ?5 ORDER BY build DESC",
            &[&self.kind, &self.slug, &major, &minor, &patch],
        )?;
        let has_builds = self.document.kind().has_builds();
        match newest {
            // Only the newest build is compared: going back to what an older one said is a change.
            Some(newest) if newest.digest == self.digest => self.same(newest).map(Ok),
            Some(_) if !has_builds => Ok(Err(Box::new(self.taken(version)?))),
            newest => {
                let outcome = match (newest.is_some(), named) {
                    (true, _) => Outcome::NewBuild,
                    (false, true) => Outcome::NewVersion,
                    (false, false) => Outcome::Created,
                };
                let build = if has_builds {
                    next_build(self.transaction, self.kind, self.slug, version)?
                } else {
                    0
                };
                self.insert(Some(version), build, outcome).map(Ok)
            }
        }
    }

    fn next(&self, pattern: VersionPattern, named: bool) -> rusqlite::Result<Outcomes> {
        let versions = self.versions()?;
        let newest = versions
            .iter()
            .copied()
            .filter(|version| pattern.matches(*version))
            .max();
        if let Some(newest) = newest {
            let [major, minor, patch] = newest.nodes();
            let record = query_one(
                self.transaction,
                "kind = ?1 AND slug = ?2 AND major = ?3 AND minor = ?4 AND patch = ?5 ORDER BY build DESC",
                &[&self.kind, &self.slug, &major, &minor, &patch],
            )?;
            if let Some(record) = record.filter(|record| record.digest == self.digest) {
                return self.same(record).map(Ok);
            }
        }
        let Some(version) = pattern.next(versions) else {
            return Ok(Err(Box::new(self.document.error(
                "bad-version",
                "/semanticVersion",
                format!("there is no free version left under {pattern}"),
            ))));
        };
        self.exact(version, named)
    }

    fn versions(&self) -> rusqlite::Result<Vec<Version>> {
        self.transaction
            .prepare_cached(
                "SELECT DISTINCT major, minor, patch FROM resource WHERE kind = ?1 AND slug = ?2",
            )?
            .query_map(params![self.kind, self.slug], |row| {
                Ok(Version::new(row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect()
    }

    /// A recipe's version can't be given twice.
    fn taken(&self, version: Version) -> rusqlite::Result<Diagnostic> {
        let [_, _, minor] = version.wildcards();
        let next = minor.next(self.versions()?);
        let hint = match next {
            Some(next) => format!(
                "give it the next version, {next}; with `semanticVersion: {minor}` each change gets the next one by itself"
            ),
            None => "give it another version".to_owned(),
        };
        Ok(self
            .document
            .error(
                "version-exists",
                "/semanticVersion",
                format!(
                    "{} {}/{version} is in the store with another content, and versions of {}s never change",
                    self.document.kind().words(),
                    self.slug,
                    self.document.kind().words()
                ),
            )
            .hint(hint))
    }

    fn insert(
        &self,
        version: Option<Version>,
        build: u32,
        outcome: Outcome,
    ) -> rusqlite::Result<Put> {
        let pattern = version.map(|version| {
            if build > 0 {
                VersionPattern::from(version.build(build))
            } else {
                VersionPattern::exactly(version)
            }
        });
        let arn = Arn::local(self.document.resource_type(), self.slug, pattern).to_string();
        let [major, minor, patch] = version.map_or([0; 3], Version::nodes);
        self.transaction
            .prepare_cached(
                "INSERT INTO resource (kind, name, slug, major, minor, patch, build, arn, document, digest, file, revision, \
                 created, updated) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 1, ?12, ?12)",
            )?
            .execute(params![
                self.kind,
                self.document.name(),
                self.slug,
                major,
                minor,
                patch,
                build,
                arn,
                self.text(version),
                self.digest,
                self.file(),
                self.now,
            ])?;
        let id = self.transaction.last_insert_rowid();
        self.refer(id)?;
        for (key, value) in self.document.tags() {
            set_tag(self.transaction, "resource", id, key, value)?;
        }
        self.record(id, outcome)
    }

    /// Changes a resource without versions in place.
    fn update(&self, known: ResourceRecord) -> rusqlite::Result<Put> {
        if known.digest == self.digest {
            return self.same(known);
        }
        self.transaction.execute(
            "INSERT INTO resource_history (resource, revision, document, digest, replaced) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![known.id, known.revision, known.document, known.digest, self.now],
        )?;
        self.transaction.execute(
            "UPDATE resource SET document = ?2, digest = ?3, file = ?4, revision = revision + 1, updated = ?5 WHERE id = ?1",
            params![known.id, self.text(None), self.digest, self.file(), self.now],
        )?;
        self.transaction.execute(
            "DELETE FROM resource_reference WHERE resource = ?1",
            [known.id],
        )?;
        self.refer(known.id)?;
        self.retag(&known)?;
        self.record(known.id, Outcome::Updated)
    }

    /// The content is the same; the tags may not be.
    fn same(&self, known: ResourceRecord) -> rusqlite::Result<Put> {
        if !self.retag(&known)? {
            return self.record(known.id, Outcome::Unchanged);
        }
        self.transaction.execute(
            "UPDATE resource SET document = ?2, updated = ?3 WHERE id = ?1",
            params![known.id, self.text(known.version), self.now],
        )?;
        self.record(known.id, Outcome::Tagged)
    }

    /// Brings tags to what the document says. Tags that were given by hand stay: only what the document itself has
    /// changed since it was last applied is changed.
    fn retag(&self, known: &ResourceRecord) -> rusqlite::Result<bool> {
        let before: Value = serde_json::from_str(&known.document).unwrap_or_default();
        let before = |key: &str| before["tags"][key].as_str();
        let wanted = self.document.tags();
        let mut changed = false;
        for (key, value) in wanted {
            if before(key) != Some(value) {
                changed |= known.tags.get(key) != Some(value);
                set_tag(self.transaction, "resource", known.id, key, value)?;
            }
        }
        for key in known.tags.keys() {
            if before(key).is_some() && !wanted.contains_key(key) {
                self.transaction.execute(
                    "DELETE FROM resource_tag WHERE resource = ?1 AND key = ?2",
                    params![known.id, key],
                )?;
                changed = true;
            }
        }
        Ok(changed)
    }

    fn refer(&self, id: i64) -> rusqlite::Result<()> {
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO resource_reference (resource, field, text, kind, slug, major, minor, patch, build) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        for (target, reference) in self.document.resource_references() {
            // Managed resources are not in the store and can't be deleted from it.
            if target.managed {
                continue;
            }
            let kind = match target.workflow {
                Some(workflow) => format!("workflow/{}", workflow.as_str()),
                None => target.kind.arn_type().to_owned(),
            };
            let [major, minor, patch] = target.version.nodes();
            statement.execute(params![
                id,
                reference.field,
                reference.text,
                kind,
                target.name,
                major,
                minor,
                patch,
                target.version.build()
            ])?;
        }
        Ok(())
    }

    fn record(&self, id: i64, outcome: Outcome) -> rusqlite::Result<Put> {
        let resource = query_one(self.transaction, "id = ?1", &[&id])?
            .ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        Ok(Put {
            outcome,
            latest_version_references: LatestVersionReferences::of(&resource),
            resource,
        })
    }

    /// Canonical JSON, with the version that was given instead of the one that was asked for.
    fn text(&self, version: Option<Version>) -> String {
        let mut value = self.document.value.clone();
        if let (Some(version), Some(fields)) = (version, value.as_object_mut()) {
            fields.insert("semanticVersion".into(), version.to_string().into());
        }
        value.to_string()
    }

    fn file(&self) -> Option<String> {
        let file = &self.document.origin.file;
        // Messages and relative paths need it wherever the next process stands.
        camino::absolute_utf8(file).ok().map(Into::into)
    }
}

/// The next build number of a version; none is given twice.
pub(super) fn next_build(
    transaction: &Transaction<'_>,
    kind: &str,
    slug: &str,
    version: Version,
) -> rusqlite::Result<u32> {
    let [major, minor, patch] = version.nodes();
    transaction
        .prepare_cached(
            "INSERT INTO build_number (kind, slug, major, minor, patch, last) VALUES (?1, ?2, ?3, ?4, ?5, 1) \
             ON CONFLICT DO UPDATE SET last = last + 1 RETURNING last",
        )?
        .query_row(params![kind, slug, major, minor, patch], |row| row.get(0))
}

/// `table` is `resource` or `image`.
pub(super) fn set_tag(
    transaction: &Transaction<'_>,
    table: &'static str,
    id: i64,
    key: &str,
    value: &str,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(&format!(
            "INSERT INTO {table}_tag ({table}, key, value) VALUES (?1, ?2, ?3) \
             ON CONFLICT DO UPDATE SET value = excluded.value"
        ))?
        .execute(params![id, key, value])
        .map(drop)
}

fn check_references(
    connection: &Connection,
    document: &Document,
    problems: &mut Diagnostics,
) -> rusqlite::Result<()> {
    for (target, reference) in document.resource_references() {
        if target.managed || resolve(connection, &target)?.is_some() {
            continue;
        }
        let problem = document
            .error(
                "missing-reference",
                &reference.pointer,
                format!("there is no {target}"),
            )
            .expected(format!(
                "{} of the store, or one that is applied along with it",
                with_article(target.kind.words())
            ))
            .hint(hint_for(connection, &target)?);
        problems.push(problem);
    }
    Ok(())
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with('i') { "an" } else { "a" };
    format!("{article} {noun}")
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
