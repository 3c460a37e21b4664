//! The record of images: who they are, their states with history, their steps.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use camino::Utf8PathBuf;
use rusqlite::{OptionalExtension as _, Row, params};
use serde::Serialize;

use super::Store;
use crate::bake::plan::normalise;
use crate::bake::recorder::Ledger;
use crate::bake::run_folder::ProcessId;
use crate::error::{Failure, FailureKind, Result};
use crate::events::{StepKind, StepOutcome};

/// The service's states of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ImageState {
    /// Known, not begun.
    Pending,
    /// Being set up.
    Creating,
    /// The build guest runs.
    Building,
    /// The output is booted and tested.
    Testing,
    /// Being delivered.
    Distributing,
    /// Being made known elsewhere.
    Integrating,
    /// Done.
    Available,
    /// Ended by a failure.
    Failed,
    /// Ended by the person.
    Cancelled,
    /// Its files were removed.
    Deleted,
}

impl ImageState {
    const ALL: [Self; 10] = [
        Self::Pending,
        Self::Creating,
        Self::Building,
        Self::Testing,
        Self::Distributing,
        Self::Integrating,
        Self::Available,
        Self::Failed,
        Self::Cancelled,
        Self::Deleted,
    ];

    /// The service's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Creating => "CREATING",
            Self::Building => "BUILDING",
            Self::Testing => "TESTING",
            Self::Distributing => "DISTRIBUTING",
            Self::Integrating => "INTEGRATING",
            Self::Available => "AVAILABLE",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::Deleted => "DELETED",
        }
    }

    /// Whether a process is at work on it.
    pub const fn is_running(self) -> bool {
        !matches!(
            self,
            Self::Available | Self::Failed | Self::Cancelled | Self::Deleted
        )
    }
}

impl fmt::Display for ImageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ImageState {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("unknown state `{text}`"))
    }
}

/// What is known of an image before its bake begins.
#[derive(Debug, Clone)]
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
}

/// An image on record.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRecord {
    #[serde(skip)]
    id: i64,
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
    #[serde(skip)]
    owner: ProcessId,
}

impl ImageRecord {
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

const COLUMNS: &str = "id, name, slug, major, minor, patch, build, arn, run, state, reason, parent, folder, logs, created, \
                       updated, owner_pid, owner_start";

impl Store {
    /// Puts a new image on record with the next build number of its version; the number is never given twice.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if the version is not one, [`FailureKind::Environment`] if the store can't be written.
    pub fn begin_image(self: &Arc<Self>, image: &NewImage) -> Result<ImageRecord> {
        let slug = normalise(&image.name);
        let [major, minor, patch] = version_of(&image.version).ok_or_else(|| {
            Failure::config(format!(
                "`{}` is not a version such as 1.0.0",
                image.version
            ))
        })?;
        let owner = ProcessId::current();
        let now = now();
        let home = &self.home;
        let run = uuid::Uuid::new_v4().to_string();
        let arn = self.write(|transaction| {
            let build: u32 = transaction.query_row(
                "SELECT coalesce(max(build), 0) + 1 FROM image WHERE slug = ?1 AND major = ?2 AND minor = ?3 AND patch = ?4",
                params![slug, major, minor, patch],
                |row| row.get(0),
            )?;
            let version = format!("{major}.{minor}.{patch}");
            let arn = format!("arn:local:imagebuilder:local:self:image/{slug}/{version}/{build}");
            let place = |root: Utf8PathBuf| root.join(&slug).join(&version).join(build.to_string());
            let folder = image.folder.clone().unwrap_or_else(|| place(home.images()));
            transaction.execute(
                "INSERT INTO image (name, slug, major, minor, patch, build, arn, run, state, parent, recipe, folder, logs, \
                 owner_pid, owner_start, created, updated) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'PENDING', ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?15)",
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
                ],
            )?;
            Ok(arn)
        })?;
        self.find_image(&arn)
    }

    /// Finds an image by ARN, run, `name/version/build`, `name/version` or `name` (the newest build then).
    ///
    /// # Errors
    /// [`FailureKind::Config`] if there is none.
    pub fn find_image(&self, wanted: &str) -> Result<ImageRecord> {
        let short = wanted
            .rsplit_once(":image/")
            .map_or(wanted, |(_, rest)| rest);
        let mut parts = short.split('/');
        let slug = normalise(parts.next().unwrap_or_default());
        let version = parts.next();
        let build = parts.next().map(str::parse::<u32>);
        let found = self.read(|connection| {
            if let Some(record) = connection
                .query_row(&format!("SELECT {COLUMNS} FROM image WHERE run = ?1"), [wanted], record_of)
                .optional()?
            {
                return Ok(Some(record));
            }
            let mut statement = connection.prepare(&format!(
                "SELECT {COLUMNS} FROM image WHERE slug = ?1 ORDER BY major DESC, minor DESC, patch DESC, build DESC"
            ))?;
            let records = statement.query_map([&slug], record_of)?.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(records.into_iter().find(|record| {
                version.is_none_or(|version| record.version == version)
                    && build.as_ref().is_none_or(|build| build.as_ref() == Ok(&record.build))
            }))
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
        self.read(|connection| {
            connection
                .prepare(&format!("SELECT {COLUMNS} FROM image ORDER BY id DESC"))?
                .query_map([], record_of)?
                .collect()
        })
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
        let changed = self.write(|transaction| {
            // What has ended stays ended; only its files can go.
            let changed = transaction.execute(
                "UPDATE image SET state = ?2, reason = ?3, updated = ?4 WHERE id = ?1 \
                 AND (?2 = 'DELETED' OR state NOT IN ('AVAILABLE', 'FAILED', 'CANCELLED', 'DELETED'))",
                params![image.id, state.as_str(), reason, now],
            )?;
            if changed > 0 {
                transaction.execute(
                    "INSERT INTO image_history (image, state, reason, time) VALUES (?1, ?2, ?3, ?4)",
                    params![image.id, state.as_str(), reason, now],
                )?;
            }
            Ok(changed)
        })?;
        if changed == 0 {
            return Err(Failure::new(
                FailureKind::Internal,
                format!(
                    "the image {} has ended and can't become {state}",
                    image.id()
                ),
            ));
        }
        Ok(())
    }

    /// Removes an image from the records.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the store can't be written.
    pub fn forget_image(&self, image: &ImageRecord) -> Result<()> {
        self.write(|transaction| transaction.execute("DELETE FROM image WHERE id = ?1", [image.id]))
            .map(drop)
    }

    /// Marks images whose builder died; returns them.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the store can't be written.
    pub fn fail_dead_builds(&self) -> Result<Vec<ImageRecord>> {
        let mut dead = self.list_images()?;
        dead.retain(|image| image.state.is_running() && !image.owner.is_alive());
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
    let state: String = row.get(9)?;
    let state = state.parse().map_err(|error: String| {
        rusqlite::Error::FromSqlConversionFailure(9, rusqlite::types::Type::Text, error.into())
    })?;
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
    })
}

fn version_of(text: &str) -> Option<[u32; 3]> {
    let mut parts = text.split('.').map(str::parse::<u32>);
    let version = [
        parts.next()?.ok()?,
        parts.next()?.ok()?,
        parts.next()?.ok()?,
    ];
    parts.next().is_none().then_some(version)
}

fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Home;

    fn store() -> (tempfile::TempDir, Arc<Store>) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(camino::Utf8Path::from_path(folder.path()).unwrap()).unwrap();
        let store = Arc::new(Store::open(&home).unwrap());
        (folder, store)
    }

    fn image(name: &str, version: &str) -> NewImage {
        NewImage {
            name: name.into(),
            version: version.into(),
            parent: "debian-12/1.0.0".into(),
            recipe: "{}".into(),
            folder: None,
        }
    }

    #[test]
    fn build_numbers_count_per_version_and_names_collide_when_normalised() {
        let (_folder, store) = store();
        assert_eq!(
            store
                .begin_image(&image("Web Server", "1.0.0"))
                .unwrap()
                .build,
            1
        );
        assert_eq!(
            store
                .begin_image(&image("web-server", "1.0.0"))
                .unwrap()
                .build,
            2
        );
        assert_eq!(
            store
                .begin_image(&image("web-server", "1.10.0"))
                .unwrap()
                .build,
            1
        );
        assert_eq!(
            store
                .begin_image(&image("web-server", "1.9.0"))
                .unwrap()
                .build,
            1
        );
        assert_eq!(
            store.find_image("web-server").unwrap().id(),
            "web-server/1.10.0/1"
        );
        assert_eq!(store.find_image("web-server/1.0.0").unwrap().build, 2);
        assert_eq!(store.find_image("Web Server/1.0.0/1").unwrap().build, 1);
        let arn = store.find_image("web-server/1.9.0/1").unwrap().arn;
        assert_eq!(store.find_image(&arn).unwrap().version, "1.9.0");
        assert!(store.find_image("web-server/2.0.0").is_err());
        assert!(store.begin_image(&image("x", "1.0")).is_err());
    }

    #[test]
    fn an_ended_image_stays_ended() {
        let (_folder, store) = store();
        let image = store.begin_image(&image("web", "1.0.0")).unwrap();
        store.set_state(&image, ImageState::Building, None).unwrap();
        store
            .set_state(&image, ImageState::Failed, Some("why"))
            .unwrap();
        assert!(
            store
                .set_state(&image, ImageState::Available, None)
                .is_err()
        );
        let image = store.find_image("web").unwrap();
        assert_eq!(
            (image.state, image.reason.as_deref()),
            (ImageState::Failed, Some("why"))
        );
    }

    #[test]
    fn builds_of_dead_processes_are_marked() {
        let (_folder, store) = store();
        let mine = store.begin_image(&image("mine", "1.0.0")).unwrap();
        let dead = store.begin_image(&image("dead", "1.0.0")).unwrap();
        store
            .write(|transaction| {
                transaction.execute("UPDATE image SET owner_start = 1 WHERE id = ?1", [dead.id])
            })
            .unwrap();
        let marked: Vec<_> = store
            .fail_dead_builds()
            .unwrap()
            .iter()
            .map(ImageRecord::id)
            .collect();
        assert_eq!(marked, ["dead/1.0.0/1"]);
        assert!(store.find_image("mine").unwrap().state.is_running());
        assert_eq!(mine.state, ImageState::Pending);
    }

    #[test]
    fn two_writers_never_get_the_same_number() {
        let (_folder, store) = store();
        let home = store.home.clone();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let home = home.clone();
                std::thread::spawn(move || {
                    let store = Arc::new(Store::open(&home).unwrap());
                    (0..25)
                        .map(|_| store.begin_image(&image("web", "1.0.0")).unwrap().build)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let mut builds: Vec<u32> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        builds.sort_unstable();
        assert_eq!(builds, (1..=100).collect::<Vec<_>>());
    }
}
