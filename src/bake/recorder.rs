//! Keeps the record of a bake: steps and states go to the event stream and to the store.

use std::sync::Mutex;
use std::time::Instant;

use crate::error::{FailureKind, Result};
use crate::events::{Event, Events, StepKind, StepOutcome};

/// Where steps and states are kept beyond the event stream.
pub trait Ledger: Send + Sync {
    /// A new state of the image; `reason` for an end.
    ///
    /// # Errors
    /// If the record can't be kept.
    fn state(&self, state: &str, reason: Option<&str>) -> Result<()>;

    /// A step ended.
    ///
    /// # Errors
    /// If the record can't be kept.
    fn step(&self, step: StepKind, outcome: StepOutcome, seconds: f64, detail: &str) -> Result<()>;
}

/// Keeps nothing: for what has no record in the store.
#[derive(Debug, Clone, Copy)]
pub struct NoLedger;

impl Ledger for NoLedger {
    fn state(&self, _state: &str, _reason: Option<&str>) -> Result<()> {
        Ok(())
    }

    fn step(&self, _: StepKind, _: StepOutcome, _: f64, _: &str) -> Result<()> {
        Ok(())
    }
}

/// The recorder of one bake.
pub struct Recorder {
    events: Events,
    ledger: Box<dyn Ledger>,
    started: Instant,
    state: Mutex<String>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recorder(..)")
    }
}

impl Recorder {
    /// A recorder whose clock starts now.
    pub fn new(events: Events, ledger: Box<dyn Ledger>) -> Self {
        Self {
            events,
            ledger,
            started: Instant::now(),
            state: Mutex::new(String::new()),
        }
    }

    /// Seconds since the bake began.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Sends an event.
    pub fn send(&self, event: Event) {
        self.events.send(event);
    }

    /// The stream itself.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Shows what a step is doing.
    pub fn progress(&self, step: StepKind, line: String) {
        self.send(Event::StepProgress { step, line });
    }

    /// Records a new state.
    ///
    /// # Errors
    /// If the store can't be written.
    pub fn state(&self, state: &str, reason: Option<&str>) -> Result<()> {
        if let Ok(mut current) = self.state.lock() {
            state.clone_into(&mut current);
        }
        self.send(Event::StateChanged {
            state: state.to_owned(),
            reason: reason.map(str::to_owned),
        });
        self.ledger.state(state, reason)
    }

    /// Runs a step: announces it, runs `work`, and records how it ended. `work` returns its value and a line that says
    /// what came of it.
    ///
    /// # Errors
    /// What `work` returns.
    pub async fn step<T>(
        &self,
        step: StepKind,
        detail: impl Into<String>,
        work: impl Future<Output = Result<(T, String)>>,
    ) -> Result<T> {
        self.send(Event::StepStarted {
            step,
            detail: detail.into(),
        });
        let start = Instant::now();
        let result = work.await;
        let seconds = start.elapsed().as_secs_f64();
        let (outcome, detail) = match &result {
            Ok((_, detail)) => (StepOutcome::Completed, detail.clone()),
            Err(failure) if failure.kind() == FailureKind::Cancelled => {
                (StepOutcome::Cancelled, failure.to_string())
            }
            Err(failure) => (StepOutcome::Failed, failure.to_string()),
        };
        self.ledger.step(step, outcome, seconds, &detail)?;
        self.send(Event::StepFinished {
            step,
            outcome,
            seconds,
            detail,
        });
        result.map(|(value, _)| value)
    }
}
