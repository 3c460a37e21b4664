//! What has to survive a reboot or a crash of the agent.
//!
//! The state is one JSON file, replaced as a whole after each change, so that it is either the old or the new one. Values
//! that hold a secret are left out of it; a step that needs one of them after a restart fails with a clear message.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ovenbird_component::document::Decision;
use ovenbird_component::event::Status;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::platform::{create_private_folder, create_with_mode, sync_folder};

/// Layout of the file; another number means another agent wrote it.
const VERSION: u32 = 1;

/// A value that may hold a secret.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The value as it may be shown and stored.
    pub shown: Value,
    /// Whether the real value differs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// The real value, in memory only.
    #[serde(skip)]
    pub used: Option<Value>,
}

impl Kept {
    /// Keeps a value and what may be shown of it.
    pub fn new(used: Value, shown: Value) -> Self {
        if used == shown {
            return Self {
                shown,
                secret: false,
                used: None,
            };
        }
        Self {
            shown,
            secret: true,
            used: Some(used),
        }
    }

    /// The real value; `None` when a restart lost it.
    pub fn real(&self) -> Option<&Value> {
        if self.secret {
            self.used.as_ref()
        } else {
            Some(&self.shown)
        }
    }
}

/// How far a step is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StepState {
    /// Its outcome; `None` while it runs.
    pub status: Option<Status>,
    /// What its `if` decided.
    pub decision: Option<Decision>,
    /// The attempt that runs, from 1.
    pub attempt: u32,
    /// The iteration (0 without a loop) whose execution has begun in this attempt. If a new process finds it, an earlier
    /// one was killed in the middle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begun: Option<usize>,
    /// Values of the loop, taken before its first iteration.
    pub items: Option<Vec<Kept>>,
    /// The iteration that runs.
    pub iteration: usize,
    /// Outputs of the iterations that are through.
    pub collected: Vec<Kept>,
    /// Inputs after substitution, a list also for modules that take a map.
    pub inputs: Vec<Kept>,
    /// Outputs, one object per execution.
    pub outputs: Vec<Kept>,
    /// Why it failed.
    pub message: Option<String>,
    /// Exit code of its program.
    pub exit_code: Option<i32>,
    /// When it started.
    pub started: Option<String>,
    /// When it ended.
    pub ended: Option<String>,
    /// Whether it asked for a reboot with which it is complete.
    pub rebooting: bool,
}

/// Start, end and outcome of a phase or document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SpanState {
    /// When it started.
    pub started: Option<String>,
    /// When it ended.
    pub ended: Option<String>,
    /// Its outcome; `None` while it runs.
    pub status: Option<Status>,
    /// Why it failed.
    pub message: Option<String>,
    /// Whether nothing more may run after it.
    pub aborted: bool,
}

/// A document of the run, as it was when the run started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DocumentState {
    /// Path as given.
    pub path: String,
    /// Name of the copy in the log folder.
    pub copy: String,
    /// Digest of the copy, so that a changed one is noticed.
    pub sha256: String,
    /// Values of its parameters.
    pub parameters: BTreeMap<String, Kept>,
}

/// Everything about a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    version: u32,
    /// Identity of the run.
    pub execution_id: String,
    /// Absolute path of its log folder.
    pub log_folder: PathBuf,
    /// Selected phases; all when empty.
    pub phases: Vec<String>,
    /// The documents on the command line, in order.
    pub documents: Vec<DocumentState>,
    /// Documents that ExecuteDocument loaded, by frame.
    pub nested: BTreeMap<String, DocumentState>,
    /// Number of documents copied so far.
    pub copies: usize,
    /// Number of restarts so far.
    pub restarts: u32,
    /// When the run started.
    pub started: String,
    /// Steps by key.
    pub steps: BTreeMap<String, StepState>,
    /// Phases and documents by key.
    pub spans: BTreeMap<String, SpanState>,
    /// Steps of earlier runs by the key that they would have in this one; for references only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub carried: BTreeMap<String, StepState>,
}

impl State {
    /// The state of a run that starts.
    pub fn new(
        execution_id: String,
        log_folder: PathBuf,
        phases: Vec<String>,
        started: String,
    ) -> Self {
        Self {
            version: VERSION,
            execution_id,
            log_folder,
            phases,
            documents: Vec::new(),
            nested: BTreeMap::new(),
            copies: 0,
            restarts: 0,
            started,
            steps: BTreeMap::new(),
            spans: BTreeMap::new(),
            carried: BTreeMap::new(),
        }
    }

    /// Forgets everything below a key: a new attempt of an ExecuteDocument starts from nothing.
    pub fn forget_below(&mut self, key: &str) {
        let prefix = format!("{key}/");
        self.steps.retain(|known, _| !known.starts_with(&prefix));
        self.spans.retain(|known, _| !known.starts_with(&prefix));
        self.nested.retain(|known, _| !known.starts_with(&prefix));
    }
}

/// Where a state is kept.
#[derive(Debug, Clone)]
pub struct StateStore {
    folder: Option<PathBuf>,
}

/// Why a state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Reading or writing failed.
    #[error("cannot use the state in {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a state.
    #[error("{path} is not the state of a run: {reason}; remove it to start from the beginning")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

const FILE: &str = "state.json";
/// The steps that a finished run leaves for later ones.
const CARRIED: &str = "carried.json";

impl StateStore {
    /// A store in a folder, which is made when needed; without a folder nothing is kept.
    pub fn new(folder: Option<&Path>) -> Self {
        Self {
            folder: folder.map(Path::to_owned),
        }
    }

    fn path(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(FILE))
    }

    /// The state that an earlier process left behind.
    ///
    /// # Errors
    ///
    /// When there is one that cannot be read or understood.
    pub fn load(&self) -> Result<Option<State>, StateError> {
        let Some(path) = self.path() else {
            return Ok(None);
        };
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Io { path, source }),
        };
        let state: State = serde_json::from_slice(&bytes).map_err(|error| StateError::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        if state.version != VERSION {
            let reason = format!(
                "it has version {}, this agent writes {VERSION}",
                state.version
            );
            return Err(StateError::Damaged { path, reason });
        }
        Ok(Some(state))
    }

    /// The steps that finished runs have left here.
    ///
    /// # Errors
    ///
    /// When there are some that cannot be read or understood.
    pub fn carried(&self) -> Result<BTreeMap<String, StepState>, StateError> {
        let Some(path) = self.folder.as_ref().map(|folder| folder.join(CARRIED)) else {
            return Ok(BTreeMap::new());
        };
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| StateError::Damaged {
                path,
                reason: error.to_string(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(source) => Err(StateError::Io { path, source }),
        }
    }

    /// Leaves the steps of a finished run for later ones, beside those of earlier ones.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn carry(&self, state: &State) -> Result<(), StateError> {
        let mut steps = self.carried()?;
        steps.extend(state.steps.clone());
        self.replace(CARRIED, &steps)
    }

    /// Replaces the stored state.
    ///
    /// # Errors
    ///
    /// When it cannot be written; the earlier state is then still there.
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        self.replace(FILE, state)
    }

    fn replace(&self, name: &str, value: &impl Serialize) -> Result<(), StateError> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let path = folder.join(name);
        let write = || -> io::Result<()> {
            create_private_folder(folder)?;
            let temporary = folder.join(format!("{name}.new"));
            let mut file = create_with_mode(&mut std::fs::OpenOptions::new(), 0o600)
                .create(true)
                .write(true)
                .truncate(true)
                .open(&temporary)?;
            file.write_all(&serde_json::to_vec(value)?)?;
            file.sync_data()?;
            std::fs::rename(&temporary, &path)?;
            sync_folder(folder)
        };
        write().map_err(|source| StateError::Io {
            path: path.clone(),
            source,
        })
    }

    /// Removes the state of a run that has ended.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be removed.
    pub fn remove(&self) -> Result<(), StateError> {
        let Some(path) = self.path() else {
            return Ok(());
        };
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StateError::Io { path, source })
            }
            _ => Ok(()),
        }
    }
}
