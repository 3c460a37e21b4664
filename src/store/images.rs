//! The record of images: who they are, their states with history, their steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::Utf8PathBuf;
use rusqlite::types::Value;
use rusqlite::{OptionalExtension as _, Row, params, params_from_iter};
use serde::Serialize;

use super::apply::{next_build, set_tag};
use super::inputs::{self, ImageInput};
use super::resources::tags_of;
use super::schema::Abort;
use super::state::ImageState;
use super::{Store, now};
use crate::bake::recorder::Ledger;
use crate::bake::run_folder::ProcessId;
use crate::documents::arn::normalise_name;
use crate::documents::{Version, VersionPattern};
use crate::error::{Failure, FailureKind, Result};
use crate::events::{StepKind, StepOutcome};

/// What is known of an image before its bake begins.
#[derive(Debug, Clone, Default)]
pub struct NewImage {
    /// Its name as the person wrote it.
    pub name: String,
    /// `major.minor.patch`.
    pub version: String,
    /// `name/version` of the parent.
    pub parent: String,
    /// The recipe as JSON.
    pub recipe: String,
    /// The final folder; below the home's images if none is given.
    pub folder: Option<Utf8PathBuf>,
    /// The guest's architecture.
    pub architecture: Option<String>,
    /// Everything it is made from.
    pub inputs: Vec<ImageInput>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// An image on record.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRecord {
    #[serde(skip)]
    pub(super) id: i64,
    /// Its name as the person wrote it.
    pub name: String,
    #[serde(skip)]
    slug: String,
    /// `major.minor.patch`.
    pub version: String,
    /// The build number.
    pub build: u32,
    /// The ARN-like id.
    pub arn: String,
    /// The run that makes or made it.
    pub run: String,
    /// Its state.
    pub state: ImageState,
    /// Why, if it is an end.
    pub reason: Option<String>,
    /// `name/version` of the parent.
    pub parent: String,
    /// Where the outputs are, or would have been.
    pub folder: Utf8PathBuf,
    /// Where the logs are.
    pub logs: Utf8PathBuf,
    /// RFC 3339.
    pub created: String,
    /// RFC 3339.
    pub updated: String,
    /// `Linux` or `Windows`.
    pub platform: String,
    /// The guest's architecture, where it is known.
    pub architecture: Option<String>,
    /// The operating system that was found in it, once it is there: `Debian GNU/Linux 12 (bookworm)`.
    pub os: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    #[serde(skip)]
    owner: ProcessId,
}

impl ImageRecord {
    /// The name as in ARNs.
    pub fn slug(&self) -> &str {
        &self.slug
    }

    /// The process that builds or built it.
    pub fn owner(&self) -> ProcessId {
        self.owner
    }

    /// `name/version/build`, the name in the form of ARNs.
    pub fn id(&self) -> String {
        format!("{}/{}/{}", self.slug, self.version, self.build)
    }
}

/// A finished step on record.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRecord {
    /// The service's name.
    pub name: String,
    /// completed, failed, …
    pub outcome: String,
    /// Seconds it took.
    pub seconds: f64,
    /// One line.
    pub detail: String,
    /// RFC 3339.
    pub finished: String,
}

/// A state that an image got to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateChange {
    /// The state.
    pub state: ImageState,
    /// Why, if something is to be said.
    pub reason: Option<String>,
    /// RFC 3339.
    pub time: String,
}

/// The states of [`ImageState::is_running`].
const RUNNING: &str =
    "('PENDING', 'CREATING', 'BUILDING', 'TESTING', 'DISTRIBUTING', 'INTEGRATING')";

const COLUMNS: &str = "id, name, slug, major, minor, patch, build, arn, run, state, reason, parent, folder, logs, created, \
                       updated, owner_pid, owner_start, platform, architecture, os, \
                       (SELECT json_group_object(key, value) FROM image_tag WHERE image = image.id)";

/// Which images are wanted.
#[derive(Debug, Clone, Default)]
pub struct ImageFilter {
    /// Those of this name.
    pub name: Option<String>,
    /// Those whose version fits.
    pub version: Option<VersionPattern>,
    /// Those in one of these states; all if there is none.
    pub states: Vec<ImageState>,
    /// Those made at this time or later, RFC 3339.
    pub since: Option<String>,
    /// Those made before this time, RFC 3339.
    pub before: Option<String>,
    /// Those that have all of these tags; without a value any will do.
    pub tags: Vec<(String, Option<String>)>,
    /// Those of this platform, architecture or operating system.
    pub platform: Option<String>,
    /// At most so many, the newest.
    pub limit: Option<usize>,
}

impl ImageFilter {
    /// The conditions in SQL, with their values in order.
    fn conditions(&self) -> (Vec<String>, Vec<Value>) {
        let mut conditions = Vec::new();
        let mut values: Vec<Value> = Vec::new();
        let mut add = |condition: &str, of: Vec<Value>| {
            conditions.push(condition.to_owned());
            values.extend(of);
        };
        if let Some(name) = &self.name {
            add("slug = ?", vec![normalise_name(name).into()]);
        }
        if let Some(pattern) = self.version {
            let [major, minor, patch] = pattern.nodes();
            let nodes = [
                ("major = ?", major),
                ("minor = ?", minor),
                ("patch = ?", patch),
                ("build = ?", pattern.build()),
            ];
            for (condition, node) in nodes {
                if let Some(node) = node {
                    add(condition, vec![i64::from(node).into()]);
                }
            }
        }
        if !self.states.is_empty() {
            let states = self.states.iter().map(|state| state.as_str().to_owned());
            let places = vec!["?"; self.states.len()].join(", ");
            add(
                &format!("state IN ({places})"),
                states.map(Value::from).collect(),
            );
        }
        if let Some(since) = &self.since {
            add("created >= ?", vec![since.clone().into()]);
        }
        if let Some(before) = &self.before {
            add("created < ?", vec![before.clone().into()]);
        }
        if let Some(wanted) = &self.platform {
            let wanted: Value = wanted.to_lowercase().into();
            add(
                "(lower(platform) = ? OR architecture = ? OR instr(lower(os), ?) > 0)",
                vec![wanted.clone(), wanted.clone(), wanted],
            );
        }
        for (key, value) in &self.tags {
            let key: Value = key.clone().into();
            match value {
                None => add(
                    "id IN (SELECT image FROM image_tag WHERE key = ?)",
                    vec![key],
                ),
                Some(value) => add(
                    "id IN (SELECT image FROM image_tag WHERE key = ? AND value = ?)",
                    vec![key, value.clone().into()],
                ),
            }
        }
        (conditions, values)
    }
}

impl Store {
    /// Puts a new image on record with the next build number of its version; the number is never given twice.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if the version is not one, [`FailureKind::Environment`] if the store can't be written.
    pub fn begin_image(self: &Arc<Self>, image: &NewImage) -> Result<ImageRecord> {
        let slug = normalise_name(&image.name);
        let version: Version = image.version.parse().map_err(|_| {
            Failure::config(format!(
                "`{}` is not a version such as 1.0.0",
                image.version
            ))
        })?;
        let [major, minor, patch] = version.nodes();
        let owner = ProcessId::current();
        let now = now();
        let home = &self.home;
        let run = uuid::Uuid::new_v4().to_string();
        let quota = self.settings().quota("concurrentBuilds");
        let arn = self.transact(|transaction| {
            let running: u32 = transaction.query_row(
                &format!("SELECT count(*) FROM image WHERE state IN {RUNNING}"),
                [],
                |row| row.get(0),
            )?;
            if u64::from(running) >= quota {
                return Err(Abort::Refused(
                    Failure::config(format!("{running} builds are running, at most {quota} may"))
                        .with_hint("`concurrentBuilds` under `[quotas]` in the home's config.toml changes the limit"),
                ));
            }
            let build = next_build(transaction, "image", &slug, version)?;
            let arn = format!("arn:local:imagebuilder:local:self:image/{slug}/{version}/{build}");
            let place = |root: Utf8PathBuf| root.join(&slug).join(version.to_string()).join(build.to_string());
            let folder = image.folder.clone().unwrap_or_else(|| place(home.images()));
            transaction.execute(
                "INSERT INTO image (name, slug, major, minor, patch, build, arn, run, state, parent, recipe, folder, logs, \
                 owner_pid, owner_start, created, updated, architecture) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'PENDING', ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?15, ?16)",
                params![
                    image.name,
                    slug,
                    major,
                    minor,
                    patch,
                    build,
                    arn,
                    run,
                    image.parent,
                    image.recipe,
                    folder.as_str(),
                    place(home.logs()).as_str(),
                    owner.pid,
                    i64::try_from(owner.start).unwrap_or(0),
                    now,
                    image.architecture,
                ],
            )?;
            let id = transaction.last_insert_rowid();
            transaction.execute(
                "INSERT INTO image_history (image, state, reason, time) VALUES (?1, 'PENDING', NULL, ?2)",
                params![id, now],
            )?;
            inputs::insert(transaction, id, &image.inputs)?;
            for (key, value) in &image.tags {
                set_tag(transaction, "image", id, key, value)?;
            }
            Ok(arn)
        })?;
        self.find_image(&arn)
    }

    /// Finds an image by ARN, run, `name/version/build`, `name/version` (which may end in `x`) or `name`; the newest of
    /// those that fit.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if there is none.
    pub fn find_image(&self, wanted: &str) -> Result<ImageRecord> {
        let short = wanted
            .rsplit_once(":image/")
            .map_or(wanted, |(_, rest)| rest);
        let mut parts = short.splitn(2, '/');
        let slug = normalise_name(parts.next().unwrap_or_default());
        let pattern = match parts.next() {
            None => Some(VersionPattern::ANY),
            Some(version) => version.parse().ok(),
        };
        let found = self.read(|connection| {
            let by_run = connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM image WHERE run = ?1"))?
                .query_row([wanted], record_of)
                .optional()?;
            let (None, Some(pattern)) = (&by_run, pattern) else {
                return Ok(by_run);
            };
            let [major, minor, patch] = pattern.nodes();
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM image WHERE slug = ?1 AND (?2 IS NULL OR major = ?2) \
                     AND (?3 IS NULL OR minor = ?3) AND (?4 IS NULL OR patch = ?4) AND (?5 IS NULL OR build = ?5) \
                     ORDER BY major DESC, minor DESC, patch DESC, build DESC LIMIT 1"
                ))?
                .query_row(params![slug, major, minor, patch, pattern.build()], record_of)
                .optional()
        })?;
        found.ok_or_else(|| {
            Failure::config(format!("no image `{wanted}`"))
                .with_hint("`ovenbird image list` shows what there is")
        })
    }

    /// All images, newest first.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the store can't be read.
    pub fn list_images(&self) -> Result<Vec<ImageRecord>> {
        self.images(&ImageFilter::default())
    }

    /// The images that pass a filter, newest first.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the store can't be read.
    pub fn images(&self, filter: &ImageFilter) -> Result<Vec<ImageRecord>> {
        let (conditions, mut values) = filter.conditions();
        let conditions = match conditions.len() {
            0 => "TRUE".to_owned(),
            _ => conditions.join(" AND "),
        };
        let limit = filter.limit.and_then(|limit| i64::try_from(limit).ok());
        // A negative limit is none.
        values.push(limit.unwrap_or(-1).into());
        self.read(|connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM image WHERE {conditions} ORDER BY id DESC LIMIT ?"
                ))?
                .query_map(params_from_iter(&values), record_of)?
                .collect()
        })
    }

    /// The images that a process is at work on, or was when it died.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the store can't be read.
    pub fn running_images(&self) -> Result<Vec<ImageRecord>> {
        self.read(|connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM image WHERE state IN {RUNNING} ORDER BY id DESC"
                ))?
                .query_map([], record_of)?
                .collect()
        })
    }

    /// The recipe that an image was made from, as it was on record when the build began.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the store can't be read.
    pub fn recipe_of(&self, image: &ImageRecord) -> Result<serde_json::Value> {
        let text: String = self.read(|connection| {
            connection.query_row(
                "SELECT recipe FROM image WHERE id = ?1",
                [image.id],
                |row| row.get(0),
            )
        })?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::environment(format!("the record of {} is damaged", image.id()))
                .caused_by(error)
        })
    }

    /// The states that an image went through.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the store can't be read.
    pub fn history_of(&self, image: &ImageRecord) -> Result<Vec<StateChange>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT state, reason, time FROM image_history WHERE image = ?1 ORDER BY rowid",
                )?
                .query_map([image.id], |row| {
                    Ok(StateChange {
                        state: state_of(&row.get::<_, String>(0)?, 0)?,
                        reason: row.get(1)?,
                        time: row.get(2)?,
                    })
                })?
                .collect()
        })
    }

    /// Records what was found in a finished image.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the store can't be written.
    pub fn set_os(&self, image: &ImageRecord, os: &str) -> Result<()> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE image SET os = ?2 WHERE id = ?1",
                params![image.id, os],
            )
        })
        .map(drop)
    }

    /// The steps of an image, in the order in which they ended.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the store can't be read.
    pub fn steps_of(&self, image: &ImageRecord) -> Result<Vec<StepRecord>> {
        self.read(|connection| {
            connection
                .prepare("SELECT name, outcome, seconds, detail, finished FROM step WHERE image = ?1 ORDER BY rowid")?
                .query_map([image.id], |row| {
                    Ok(StepRecord {
                        name: row.get(0)?,
                        outcome: row.get(1)?,
                        seconds: row.get(2)?,
                        detail: row.get(3)?,
                        finished: row.get(4)?,
                    })
                })?
                .collect()
        })
    }

    /// Records a new state, with history.
    ///
    /// # Errors
    /// [`FailureKind::Internal`] if an ended image would come back, [`FailureKind::Environment`] if the store fails.
    pub fn set_state(
        &self,
        image: &ImageRecord,
        state: ImageState,
        reason: Option<&str>,
    ) -> Result<()> {
        let now = now();
        self.transact(|transaction| {
            let known: Option<String> = transaction
                .query_row("SELECT state FROM image WHERE id = ?1", [image.id], |row| {
                    row.get(0)
                })
                .optional()?;
            let known = match known {
                Some(word) => state_of(&word, 0)?,
                None => {
                    return Err(Abort::Refused(Failure::new(
                        FailureKind::Internal,
                        format!("the image {} is no longer on record", image.id()),
                    )));
                }
            };
            if !known.may_become(state) {
                return Err(Abort::Refused(Failure::new(
                    FailureKind::Internal,
                    format!(
                        "the image {} is {known} and can't become {state}",
                        image.id()
                    ),
                )));
            }
            transaction.execute(
                "UPDATE image SET state = ?2, reason = ?3, updated = ?4 WHERE id = ?1",
                params![image.id, state.as_str(), reason, now],
            )?;
            transaction.execute(
                "INSERT INTO image_history (image, state, reason, time) VALUES (?1, ?2, ?3, ?4)",
                params![image.id, state.as_str(), reason, now],
            )?;
            Ok(())
        })
    }

    /// Makes this process the one that goes on with an image whose build ended badly.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if the image is in another state, or somebody else was quicker.
    pub fn take_up_image(&self, image: &ImageRecord, state: ImageState) -> Result<ImageRecord> {
        let owner = ProcessId::current();
        let now = now();
        self.transact(|transaction| {
            let taken = transaction.execute(
                "UPDATE image SET state = ?2, reason = NULL, updated = ?3, owner_pid = ?4, owner_start = ?5 \
                 WHERE id = ?1 AND state IN ('FAILED', 'CANCELLED')",
                params![
                    image.id,
                    state.as_str(),
                    now,
                    owner.pid,
                    i64::try_from(owner.start).unwrap_or(0)
                ],
            )?;
            if taken == 0 {
                return Err(Abort::Refused(Failure::config(format!(
                    "{} has not failed, or somebody else goes on with it",
                    image.id()
                ))));
            }
            transaction.execute(
                "INSERT INTO image_history (image, state, reason, time) VALUES (?1, ?2, 'retry', ?3)",
                params![image.id, state.as_str(), now],
            )?;
            Ok(())
        })?;
        self.find_image(&image.arn)
    }

    /// Removes an image from the records.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the store can't be written.
    pub fn forget_image(&self, image: &ImageRecord) -> Result<()> {
        self.write(|transaction| {
            transaction.execute("DELETE FROM image WHERE id = ?1", [image.id])?;
            // Texts that no other image was made from.
            transaction.execute(
                "DELETE FROM component_text WHERE NOT EXISTS \
                 (SELECT 1 FROM image_input WHERE image_input.digest = component_text.digest)",
                [],
            )
        })
        .map(drop)
    }

    /// Marks images whose builder died; returns them.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the store can't be written.
    pub fn fail_dead_builds(&self) -> Result<Vec<ImageRecord>> {
        let mut dead = self.running_images()?;
        dead.retain(|image| !image.owner.is_alive());
        for image in &dead {
            self.set_state(image, ImageState::Failed, Some("the build's process ended"))?;
        }
        Ok(dead)
    }
}

/// Writes steps and states of one image to the store.
#[derive(Debug)]
pub struct ImageLedger {
    store: Arc<Store>,
    image: ImageRecord,
}

impl ImageLedger {
    /// The ledger of an image.
    pub fn new(store: Arc<Store>, image: ImageRecord) -> Self {
        Self { store, image }
    }
}

impl Ledger for ImageLedger {
    fn state(&self, state: &str, reason: Option<&str>) -> Result<()> {
        let state = state
            .parse()
            .map_err(|error: String| Failure::new(FailureKind::Internal, error))?;
        self.store.set_state(&self.image, state, reason)
    }

    fn step(&self, step: StepKind, outcome: StepOutcome, seconds: f64, detail: &str) -> Result<()> {
        let outcome = match outcome {
            StepOutcome::Completed => "completed",
            StepOutcome::Skipped => "skipped",
            StepOutcome::Failed => "failed",
            StepOutcome::Cancelled => "cancelled",
        };
        self.store
            .write(|transaction| {
                transaction.execute(
                    "INSERT INTO step (image, name, outcome, seconds, detail, finished) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![self.image.id, step.as_str(), outcome, seconds, detail, now()],
                )
            })
            .map(drop)
    }
}

fn record_of(row: &Row<'_>) -> rusqlite::Result<ImageRecord> {
    let (major, minor, patch): (u32, u32, u32) = (row.get(3)?, row.get(4)?, row.get(5)?);
    let state = state_of(&row.get::<_, String>(9)?, 9)?;
    let start: i64 = row.get(17)?;
    Ok(ImageRecord {
        id: row.get(0)?,
        name: row.get(1)?,
        slug: row.get(2)?,
        version: format!("{major}.{minor}.{patch}"),
        build: row.get(6)?,
        arn: row.get(7)?,
        run: row.get(8)?,
        state,
        reason: row.get(10)?,
        parent: row.get(11)?,
        folder: row.get::<_, String>(12)?.into(),
        logs: row.get::<_, String>(13)?.into(),
        created: row.get(14)?,
        updated: row.get(15)?,
        owner: ProcessId {
            pid: row.get(16)?,
            start: u64::try_from(start).unwrap_or(0),
        },
        platform: row.get(18)?,
        architecture: row.get(19)?,
        os: row.get(20)?,
        tags: tags_of(&row.get::<_, String>(21)?, 21)?,
    })
}

fn state_of(word: &str, column: usize) -> rusqlite::Result<ImageState> {
    word.parse().map_err(|error: String| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
    })
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
