//! The order of things: documents, phases, steps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use ovenbird_component::document::{Decision, Document, OnFailure, Phase, Step};
use ovenbird_component::event::{Event, Status, Summary};

use super::load::{self, LoadError, Loaded};
use super::report::{Report, StepPlace};
use super::state::{DocumentState, Kept, SpanState, State, StateStore, StepState};
use super::values::StepValues;
use super::{RunError, StateError, working_directory};
use crate::clock;
use crate::config::RunConfig;
use crate::modules::{MachineProbe, upload_folder};

/// What ends the work of this process early.
#[derive(Debug)]
pub enum Stop {
    /// The machine has to be rebooted.
    Reboot {
        /// Which step asked for it.
        reason: String,
        /// Seconds to wait before.
        delay_seconds: u64,
    },
    /// The state cannot be kept, so nothing more may be done.
    Error(RunError),
}

impl From<RunError> for Stop {
    fn from(error: RunError) -> Self {
        Self::Error(error)
    }
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        Self::Error(error.into())
    }
}

/// A document on its way, at the top or inside another one.
pub struct Frame {
    /// Its key in the state.
    pub key: String,
    /// Index of the top document that it belongs to.
    pub index: usize,
    /// The document.
    pub document: Document,
    /// Its path and parameters.
    pub info: DocumentState,
    /// Paths of the documents around it, its own last; for cycles and depth.
    pub trail: Vec<String>,
}

/// What is left of a document or phase.
#[derive(Debug, Clone)]
pub struct PartResult {
    /// Its outcome.
    pub status: Status,
    /// Why it failed.
    pub message: Option<String>,
    /// Whether nothing more may run.
    pub aborted: bool,
}

/// Carries out a run.
pub struct Engine<'a> {
    pub(super) config: &'a RunConfig,
    store: &'a StateStore,
    pub(super) state: State,
    pub(super) report: &'a Report,
    pub(super) scratch: PathBuf,
    pub(super) working_directory: PathBuf,
    pub(super) probe: MachineProbe,
    pub(super) frames: BTreeMap<String, Document>,
    failure: Option<String>,
}

impl<'a> Engine<'a> {
    pub(super) fn new(
        config: &'a RunConfig,
        store: &'a StateStore,
        state: State,
        report: &'a Report,
        scratch: PathBuf,
    ) -> Self {
        let working_directory = working_directory(config);
        Self {
            config,
            store,
            state,
            report,
            scratch,
            probe: MachineProbe::new(&working_directory),
            working_directory,
            frames: BTreeMap::new(),
            failure: None,
        }
    }

    /// Where a module notes how many of its inputs it has finished.
    pub(super) fn progress_file(&self) -> Option<PathBuf> {
        let folder = self.config.state_directory.as_ref()?;
        Some(folder.join("progress"))
    }

    pub(super) fn save(&self) -> Result<(), StateError> {
        self.store.save(&self.state)
    }

    /// Runs every document; what failed is in the state afterwards.
    pub(super) fn run_all(&mut self) -> Result<(), Stop> {
        let frames = match self.load_all() {
            Ok(frames) => frames,
            Err(error) => {
                self.refuse(&error);
                return Ok(());
            }
        };
        self.save()?;
        if let Err(error) = std::fs::create_dir_all(&self.working_directory) {
            let folder = self.working_directory.display();
            self.failure = Some(format!(
                "cannot use the working directory {folder}: {error}"
            ));
            return Ok(());
        }
        for frame in frames {
            let result = self.run_document(&frame, &self.state.phases.clone())?;
            if result.aborted {
                break;
            }
        }
        Ok(())
    }

    /// All documents are loaded and checked before the first step runs.
    fn load_all(&mut self) -> Result<Vec<Frame>, LoadError> {
        let mut loaded = Vec::new();
        if self.state.documents.is_empty() {
            for entry in &self.config.documents {
                let mut given: BTreeMap<String, Kept> = self
                    .config
                    .parameters
                    .iter()
                    .map(|(name, value)| (name.clone(), load::plain(value)))
                    .collect();
                given.extend(
                    entry
                        .parameters
                        .iter()
                        .map(|item| (item.name.clone(), load::plain(&item.value))),
                );
                let bytes = load::read(self.config, &entry.path, None, None)?;
                loaded.push(load::first(
                    self.config,
                    &mut self.state,
                    &entry.path,
                    &bytes,
                    &given,
                )?);
            }
            self.state.documents = loaded.iter().map(|loaded| loaded.info.clone()).collect();
        } else {
            for info in &self.state.documents {
                loaded.push(load::again(self.config, &self.state, info)?);
            }
        }
        Ok(loaded
            .into_iter()
            .enumerate()
            .map(
                |(
                    index,
                    Loaded {
                        document,
                        info,
                        warnings,
                    },
                )| {
                    for warning in &warnings {
                        self.report.debug(&warning.to_string());
                    }
                    self.frames.insert(format!("d{index}"), document.clone());
                    let trail = vec![trail_name(&info.path, None)];
                    Frame {
                        key: format!("d{index}"),
                        index,
                        document,
                        info,
                        trail,
                    }
                },
            )
            .collect())
    }

    fn refuse(&mut self, error: &LoadError) {
        if let LoadError::Invalid { diagnostics, .. } = error {
            self.report.console(&diagnostics.render());
        }
        self.report.console(&error.to_string());
        self.failure = Some(error.to_string());
    }

    pub(super) fn run_document(
        &mut self,
        frame: &Frame,
        phases: &[String],
    ) -> Result<PartResult, Stop> {
        if let Some(done) = self.finished(&frame.key) {
            return Ok(done);
        }
        let clock = Instant::now();
        let top = frame.trail.len() == 1;
        let name = frame
            .document
            .name
            .clone()
            .unwrap_or_else(|| file_name(&frame.info.path).to_owned());
        self.report
            .console(&format!("Document {}", frame.info.path));
        if top {
            self.report.event(Event::DocumentStarted {
                document: frame.index,
                name,
                path: frame.info.path.clone(),
            });
        }
        self.open_span(&frame.key);
        if !phases.is_empty()
            && !frame
                .document
                .phases
                .iter()
                .any(|phase| phases.contains(&phase.name.value))
        {
            self.report.warn(&format!(
                "{} has none of the phases {}",
                frame.info.path,
                phases.join(", ")
            ));
        }
        let mut tally = Tally::default();
        for (index, phase) in frame.document.phases.iter().enumerate() {
            if !phases.is_empty() && !phases.contains(&phase.name.value) {
                continue;
            }
            let result = self.run_phase(frame, index, phase)?;
            tally.add(&result);
            if result.aborted {
                break;
            }
        }
        let result = tally.result();
        self.close_span(&frame.key, &result)?;
        if top {
            self.report.event(Event::DocumentFinished {
                document: frame.index,
                status: result.status,
                seconds: clock.elapsed().as_secs_f64(),
                message: result.message.clone(),
            });
        }
        Ok(result)
    }

    fn run_phase(
        &mut self,
        frame: &Frame,
        index: usize,
        phase: &Phase,
    ) -> Result<PartResult, Stop> {
        let key = format!("{}/p{index}", frame.key);
        if let Some(done) = self.finished(&key) {
            return Ok(done);
        }
        let clock = Instant::now();
        let name = phase.name.value.clone();
        self.report.console(&format!("Phase {name}"));
        self.report.event(Event::PhaseStarted {
            document: frame.index,
            phase: name.clone(),
        });
        self.open_span(&key);
        let mut tally = Tally::default();
        for (index, step) in phase.steps.iter().enumerate() {
            let result = self.run_step(frame, phase, step, &format!("{key}/s{index}"))?;
            tally.add(&result);
            if result.aborted {
                break;
            }
        }
        let mut result = tally.result();
        if let Some(message) = &mut result.message {
            *message = format!("phase {name}: {message}");
        }
        self.close_span(&key, &result)?;
        self.report.event(Event::PhaseFinished {
            document: frame.index,
            phase: name,
            status: result.status,
            seconds: clock.elapsed().as_secs_f64(),
        });
        Ok(result)
    }

    fn run_step(
        &mut self,
        frame: &Frame,
        phase: &Phase,
        step: &Step,
        key: &str,
    ) -> Result<PartResult, Stop> {
        let known = self.state.steps.entry(key.to_owned()).or_default();
        if let Some(status) = known.status {
            return Ok(step_result(step, status, known.message.clone()));
        }
        super::check_end()?;
        let clock = Instant::now();
        if known.started.is_none() {
            known.started = Some(now());
            known.attempt = 1;
        }
        let place = StepPlace {
            document: frame.index,
            phase: phase.name.value.clone(),
            step: step.name.value.clone(),
            silent: step.disable_logging,
        };
        self.report.console(&format!("Step {}", step.name.value));
        let (status, message) = match self.decide(frame, step, key)? {
            Ok(Decision::Execute) => match self.attempts(frame, step, key, &place)? {
                Ok(()) => (Status::Success, None),
                Err(message) => (failed_status(step), Some(message)),
            },
            Ok(Decision::Skip) => {
                self.report
                    .console(&format!("{}: SKIPPED by its condition", step.action));
                (
                    Status::Skipped,
                    Some("its condition left it out".to_owned()),
                )
            }
            Ok(Decision::Abort) => (
                failed_status(step),
                Some("its condition decided to abort".to_owned()),
            ),
            Err(message) => (failed_status(step), Some(message)),
        };
        let message = message.map(|message| self.report.masker().mask(&message).into_owned());
        let state = self.state.steps.entry(key.to_owned()).or_default();
        state.status = Some(status);
        state.ended = Some(now());
        state.message.clone_from(&message);
        let exit_code = state.exit_code;
        self.save()?;
        if matches!(status, Status::Failed | Status::IgnoredFailure) {
            self.print_failure(frame, &place, step, message.as_deref().unwrap_or_default());
        }
        self.report.event(Event::StepFinished {
            document: place.document,
            phase: place.phase,
            step: place.step,
            status,
            exit_code,
            message: message.clone(),
            seconds: clock.elapsed().as_secs_f64(),
        });
        Ok(step_result(step, status, message))
    }

    fn print_failure(&self, frame: &Frame, place: &StepPlace, step: &Step, message: &str) {
        self.report.console(&format!(
            "Document: {}\nPhase: {}\nStep: {}\nAction: {}\nErrorMessage: {message}",
            frame.info.path, place.phase, place.step, step.action
        ));
    }

    /// Evaluates the `if` once; a decision of before a reboot stays.
    fn decide(
        &mut self,
        frame: &Frame,
        step: &Step,
        key: &str,
    ) -> Result<Result<Decision, String>, Stop> {
        let Some(guard) = &step.condition else {
            return Ok(Ok(Decision::Execute));
        };
        if let Some(decision) = self.state.steps.get(key).and_then(|state| state.decision) {
            return Ok(Ok(decision));
        }
        let verdict = match guard.condition.evaluate(&self.values(frame), &self.probe) {
            Ok(verdict) => verdict,
            Err(error) => return Ok(Err(format!("cannot decide its condition: {error}"))),
        };
        for line in &verdict.trace {
            self.report.debug(&format!("Condition: {line}"));
        }
        let decision = if verdict.holds {
            guard.then
        } else {
            guard.otherwise
        };
        self.state.steps.entry(key.to_owned()).or_default().decision = Some(decision);
        self.save()?;
        Ok(Ok(decision))
    }

    /// What references of a step without a loop can see.
    pub(super) fn values<'v>(&'v self, frame: &'v Frame) -> StepValues<'v> {
        StepValues {
            config: self.config,
            state: &self.state,
            document: &frame.document,
            parameters: &frame.info.parameters,
            frame: &frame.key,
            iteration: None,
        }
    }

    fn open_span(&mut self, key: &str) {
        let span = self.state.spans.entry(key.to_owned()).or_default();
        if span.started.is_none() {
            span.started = Some(now());
        }
    }

    fn close_span(&mut self, key: &str, result: &PartResult) -> Result<(), StateError> {
        let span = self.state.spans.entry(key.to_owned()).or_default();
        span.ended = Some(now());
        span.status = Some(result.status);
        span.message.clone_from(&result.message);
        span.aborted = result.aborted;
        self.save()
    }

    /// The result of a phase or document that an earlier process finished.
    fn finished(&self, key: &str) -> Option<PartResult> {
        let SpanState {
            status,
            message,
            aborted,
            ..
        } = self.state.spans.get(key)?;
        Some(PartResult {
            status: (*status)?,
            message: message.clone(),
            aborted: *aborted,
        })
    }

    /// The result of the whole run.
    pub(super) fn summary(&self) -> Summary {
        let top_steps = || {
            self.state
                .steps
                .iter()
                .filter(|(key, _)| key.matches('/').count() == 2)
                .map(|(_, step)| step)
        };
        let count =
            |wanted: fn(&StepState) -> bool| top_steps().filter(|step| wanted(step)).count() as u64;
        let failed = self
            .state
            .documents
            .iter()
            .enumerate()
            .find_map(|(index, document)| {
                let span = self.state.spans.get(&format!("d{index}"))?;
                (span.status == Some(Status::Failed)).then(|| {
                    let reason = span.message.as_deref().unwrap_or_default();
                    format!("Document {} failed! {reason}", document.path)
                        .trim_end()
                        .to_owned()
                })
            });
        let failure = self.failure.clone().or(failed);
        Summary {
            execution_id: self.state.execution_id.clone(),
            status: if failure.is_some() {
                Status::Failed
            } else {
                Status::Success
            },
            failed_step_count: count(|step| step.status == Some(Status::Failed)),
            executed_step_count: count(|step| step.status.is_some()),
            ignored_failed_step_count: count(|step| step.status == Some(Status::IgnoredFailure)),
            failure_message: self
                .report
                .masker()
                .mask(&failure.unwrap_or_default())
                .into_owned(),
            log_url: self.state.log_folder.display().to_string(),
        }
    }

    /// Uploads the log folder where that was asked for; a failure is only reported.
    pub(super) fn upload_logs(&self) {
        let Some(upload) = &self.config.log_upload else {
            return;
        };
        let folder = self.log_folder();
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let prefix = upload.prefix.trim_matches('/');
        let key = if prefix.is_empty() {
            name.into_owned()
        } else {
            format!("{prefix}/{name}")
        };
        let owner = upload.owner.as_deref();
        if let Err(message) = upload_folder(
            &self.config.object_store,
            &upload.bucket,
            &key,
            owner,
            folder,
        ) {
            self.report
                .warn(&format!("cannot upload the logs: {message}"));
        }
    }

    /// The log folder, for records.
    pub(super) fn log_folder(&self) -> &Path {
        &self.state.log_folder
    }
}

/// The statuses of parts, put together.
#[derive(Default)]
struct Tally {
    failed: bool,
    ignored: bool,
    aborted: bool,
    message: Option<String>,
}

impl Tally {
    fn add(&mut self, part: &PartResult) {
        self.failed |= part.status == Status::Failed;
        self.ignored |= matches!(
            part.status,
            Status::IgnoredFailure | Status::SuccessWithIgnoredFailure
        );
        self.aborted |= part.aborted;
        if part.status == Status::Failed && self.message.is_none() {
            self.message.clone_from(&part.message);
        }
    }

    fn result(self) -> PartResult {
        let status = match (self.failed, self.ignored) {
            (true, _) => Status::Failed,
            (false, true) => Status::SuccessWithIgnoredFailure,
            (false, false) => Status::Success,
        };
        PartResult {
            status,
            message: self.message,
            aborted: self.aborted,
        }
    }
}

fn failed_status(step: &Step) -> Status {
    match step.on_failure {
        OnFailure::Abort | OnFailure::Continue => Status::Failed,
        OnFailure::Ignore => Status::IgnoredFailure,
    }
}

fn step_result(step: &Step, status: Status, message: Option<String>) -> PartResult {
    PartResult {
        status,
        message: message.map(|message| format!("step {}: {message}", step.name.value)),
        aborted: status == Status::Failed && step.on_failure == OnFailure::Abort,
    }
}

/// A document's identity for cycles: the real path of a file, the address of anything else.
pub(super) fn trail_name(path: &str, base: Option<&Path>) -> String {
    if path.contains("://") {
        return path.to_owned();
    }
    let full = base.map_or_else(|| PathBuf::from(path), |base| base.join(path));
    std::fs::canonicalize(&full)
        .unwrap_or(full)
        .display()
        .to_string()
}

pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

pub(super) fn now() -> String {
    clock::rfc3339_seconds(SystemTime::now())
}
