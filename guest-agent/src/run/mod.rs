//! A run: documents, their phases and steps, with everything that survives a reboot.

mod attempt;
mod engine;
mod junit;
mod lines;
mod load;
mod nested;
mod records;
mod report;
mod state;
mod stream;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use ovenbird_component::event::{Event, Status, Summary};

pub use lines::{CAPTURED_OUTPUT, Capture, LOGGED_OUTPUT, LineSplitter, sane};
pub use report::{Report, StepPlace};
pub use state::StateError;
pub use stream::EventStream;

use crate::clock;
use crate::config::{ConfigError, RunConfig};
use crate::secrets::Masker;
use engine::{Engine, Stop};
use state::{State, StateStore, StepState};

/// How a run ended, or stopped.
#[derive(Debug)]
pub enum Outcome {
    /// It is over.
    Finished(Summary),
    /// The machine has to be rebooted; then the run has to be started again with the same state folder.
    Reboot {
        /// Which step asked for it.
        reason: String,
        /// Seconds to wait before.
        delay_seconds: u64,
        /// Identity of the run.
        execution_id: String,
    },
}

/// Why a run could not even start, or its state could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The order is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log folder cannot be used.
    #[error("cannot use the log folder {path}: {source}")]
    Logs {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The agent was told to end.
    #[error("ended by signal {0}; started again with the same state directory, the run goes on")]
    Ended(i32),
    /// A document cannot be read.
    #[error("cannot read the document {path}: {reason}")]
    Document {
        /// Its path.
        path: String,
        /// Why.
        reason: String,
    },
}

/// Runs documents as ordered, or goes on with a run whose state is found in the state folder.
///
/// # Errors
///
/// When the run cannot start or its state cannot be kept. A failing document is no error but a failed summary.
pub fn run(config: &RunConfig, events: Option<EventStream>) -> Result<Outcome, RunError> {
    let store = StateStore::new(config.state_directory.as_deref());
    // A state of another run, left behind by a caller who now names a new one, must not be resumed.
    let found = store.load()?.filter(|state| {
        let asked = config.execution_id.as_ref();
        asked.is_none_or(|asked| *asked == state.execution_id)
    });
    let resumed = found.is_some();
    let mut state = match found {
        Some(state) => state,
        None => {
            let mut state = new_state(config)?;
            state.carried = carried(config)?;
            state
        }
    };
    let masker = Masker::new(config.secrets.values().map(String::as_str));
    if let Some(secret) = &config.object_store.secret_access_key {
        masker.add(secret);
    }
    let report =
        Report::open(&state.log_folder, masker, events, config.trace).map_err(|source| {
            RunError::Logs {
                path: state.log_folder.clone(),
                source,
            }
        })?;
    report.event(Event::RunStarted {
        execution_id: state.execution_id.clone(),
        log_directory: state.log_folder.display().to_string(),
        resumed,
    });
    if resumed {
        state.restarts += 1;
        report.debug(&format!(
            "going on with run {} after restart {}",
            state.execution_id, state.restarts
        ));
    }
    if config.log_stream.is_wanted() && !resumed {
        report.warn(&format!(
            "log streams are not sent from here; everything is in {}",
            state.log_folder.display()
        ));
    }
    store.save(&state)?;
    let outcome = drive(config, &store, state, &report);
    report.close();
    outcome
}

fn drive(
    config: &RunConfig,
    store: &StateStore,
    state: State,
    report: &Report,
) -> Result<Outcome, RunError> {
    let started = Instant::now();
    let scratch = scratch_folder(&state.execution_id);
    // What a killed process left there may hold secrets.
    let _ = std::fs::remove_dir_all(&scratch);
    let mut engine = Engine::new(config, store, state, report, scratch.clone());
    let stopped = engine.run_all();
    let _ = std::fs::remove_dir_all(&scratch);
    let written = records::write(&engine);
    if let Err(error) = &written {
        report.warn(&format!("cannot write the results: {error}"));
    }
    match stopped {
        Err(Stop::Error(error)) => {
            report.console(&format!("TOE execution stopped: {error}"));
            Err(error)
        }
        Err(Stop::Reboot {
            reason,
            delay_seconds,
        }) => {
            report.console(&format!("A reboot is needed: {reason}"));
            report.event(Event::RebootRequested {
                reason: reason.clone(),
                delay_seconds,
            });
            Ok(Outcome::Reboot {
                reason,
                delay_seconds,
                execution_id: engine.state.execution_id.clone(),
            })
        }
        Ok(()) => {
            let summary = engine.summary();
            report.console(&match summary.status {
                Status::Failed => format!("TOE execution failed: {}", summary.failure_message),
                _ => "TOE has completed execution successfully".to_owned(),
            });
            report.debug(&format!(
                "the run took {:.1} seconds in this process",
                started.elapsed().as_secs_f64()
            ));
            engine.upload_logs();
            if config.carry {
                store.carry(&engine.state)?;
            }
            // Removed last: a crash before this point goes through the end of the run again, which does no harm.
            store.remove()?;
            report.event(Event::RunFinished {
                summary: summary.clone(),
            });
            Ok(Outcome::Finished(summary))
        }
    }
}

/// Stops the run when the agent was told to end.
fn check_end() -> Result<(), RunError> {
    crate::process::told_to_end().map_or(Ok(()), |signal| Err(RunError::Ended(signal)))
}

/// The steps that earlier runs, each of one document, have left for the documents of this one.
fn carried(config: &RunConfig) -> Result<BTreeMap<String, StepState>, RunError> {
    let mut carried = BTreeMap::new();
    for (index, entry) in config.documents.iter().enumerate() {
        let Some(folder) = &entry.carried_from else {
            continue;
        };
        let steps = StateStore::new(Some(folder)).carried()?;
        // There it was the first document.
        carried.extend(steps.into_iter().filter_map(|(key, step)| {
            let rest = key.strip_prefix("d0/")?;
            Some((format!("d{index}/{rest}"), step))
        }));
    }
    Ok(carried)
}

/// Makes the log folder and the state of a run that starts.
fn new_state(config: &RunConfig) -> Result<State, RunError> {
    if config.documents.is_empty() {
        return Err(ConfigError::NoDocuments.into());
    }
    let execution_id = config.execution_id.clone().unwrap_or_else(new_execution_id);
    let now = SystemTime::now();
    let parent = config
        .log_directory
        .clone()
        .unwrap_or_else(|| PathBuf::from("."));
    let parent = std::path::absolute(&parent).map_err(|source| RunError::Logs {
        path: parent,
        source,
    })?;
    let folder = parent.join(format!(
        "TOE_{}_UTC-0_{}",
        clock::folder_stamp(now),
        folder_name(&execution_id)
    ));
    std::fs::create_dir_all(&folder).map_err(|source| RunError::Logs {
        path: folder.clone(),
        source,
    })?;
    Ok(State::new(
        execution_id,
        folder,
        config.phases.clone(),
        clock::rfc3339_seconds(now),
    ))
}

/// An id given from outside must not lead out of the log folder.
fn folder_name(id: &str) -> String {
    id.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '_'
            }
        })
        .collect()
}

/// A random identity in the form of a UUID of version 4.
fn new_execution_id() -> String {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds each of these from the kernel.
    let random = || {
        std::collections::hash_map::RandomState::new()
            .build_hasher()
            .finish()
    };
    let (high, low) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff
    )
}

/// The temporary folder of a run has the same name after a restart, so that leftovers are found.
fn scratch_folder(execution_id: &str) -> PathBuf {
    let digest = crate::digest::sha256(execution_id.as_bytes());
    let number = u64::from_str_radix(&digest[..12], 16).unwrap_or(0);
    std::env::temp_dir().join(format!("AWSTOE{number}"))
}

/// The folder in which commands run: what was asked for, or the preset.
fn working_directory(config: &RunConfig) -> PathBuf {
    config
        .working_directory
        .clone()
        .unwrap_or_else(crate::platform::preset_working_directory)
}
