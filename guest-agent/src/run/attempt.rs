//! One step: its attempts, the iterations of its loop, and the single execution.

use std::time::Instant;

use ovenbird_component::action::Action;
use ovenbird_component::document::{LoopKind, MOST_ITERATIONS, Step};
use ovenbird_component::event::Event;
use ovenbird_component::reference::{Rendered, Values};
use ovenbird_component::value::{Resolved, canonical};
use serde_json::{Map, Value};

use super::engine::{Engine, Frame, Stop};
use super::report::StepPlace;
use super::state::{Kept, StepState};
use super::values::{Iteration, StepValues};
use crate::modules::{self, Context, Done, Failure};

/// How an attempt ended.
enum Ended {
    Success,
    Failure(String),
}

/// How one execution ended.
pub(super) enum Once {
    /// It worked.
    Done(Done),
    /// It failed.
    Failed {
        message: String,
        exit_code: Option<i32>,
    },
    /// The step's time ran out.
    TimedOut,
}

impl Engine<'_> {
    /// Runs a step until it works or its attempts are used up.
    pub(super) fn attempts(
        &mut self,
        frame: &Frame,
        step: &Step,
        key: &str,
        place: &StepPlace,
    ) -> Result<Result<(), String>, Stop> {
        loop {
            let attempt = self.step_state(key).attempt.max(1);
            self.report
                .console(&format!("{}: STARTED EXECUTION", step.action));
            let ended = self.attempt(frame, step, key, place, attempt)?;
            match ended {
                Ended::Success => {
                    self.report
                        .console(&format!("{}: FINISHED EXECUTION", step.action));
                    return Ok(Ok(()));
                }
                Ended::Failure(message) if attempt >= step.max_attempts => {
                    self.report
                        .console(&format!("{}: FAILED EXECUTION", step.action));
                    return Ok(Err(message));
                }
                Ended::Failure(message) => {
                    self.report.console(&format!(
                        "{}: attempt {attempt} of {} failed: {message}",
                        step.action, step.max_attempts
                    ));
                    self.state.forget_below(key);
                    let state = self.step_state(key);
                    state.attempt = attempt + 1;
                    state.iteration = 0;
                    state.items = None;
                    state.collected.clear();
                    state.inputs.clear();
                    state.begun = None;
                    self.save()?;
                }
            }
        }
    }

    fn step_state(&mut self, key: &str) -> &mut StepState {
        self.state.steps.entry(key.to_owned()).or_default()
    }

    fn attempt(
        &mut self,
        frame: &Frame,
        step: &Step,
        key: &str,
        place: &StepPlace,
        attempt: u32,
    ) -> Result<Ended, Stop> {
        let deadline = step
            .timeout
            .and_then(|timeout| Instant::now().checked_add(timeout));
        let Some(looping) = &step.looping else {
            self.announce(step, place, attempt, None);
            if std::mem::take(&mut self.step_state(key).rebooting) {
                // The reboot that this step asked for has happened.
                return Ok(Ended::Success);
            }
            return Ok(match self.once(frame, step, key, place, deadline, None)? {
                Once::Done(done) => {
                    let outputs: Vec<Kept> = done
                        .outputs
                        .into_iter()
                        .map(|output| self.keep_output(output))
                        .collect();
                    let state = self.step_state(key);
                    state.outputs = outputs;
                    state.exit_code = done.exit_code;
                    Ended::Success
                }
                Once::Failed { message, exit_code } => {
                    self.step_state(key).exit_code = exit_code;
                    Ended::Failure(message)
                }
                Once::TimedOut => Ended::Failure(timed_out(step)),
            });
        };
        if self.step_state(key).items.is_none() {
            let items = match self.loop_items(frame, &looping.kind) {
                Ok(items) => items,
                Err(message) => return Ok(Ended::Failure(message)),
            };
            self.step_state(key).items = Some(items);
            self.save()?;
        }
        let items = self.step_state(key).items.clone().unwrap_or_default();
        let name = looping.name.as_ref().map(|name| name.value.as_str());
        while let Some(value) = items.get(self.step_state(key).iteration) {
            let index = self.step_state(key).iteration;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(Ended::Failure(format!(
                    "the loop ran out of time at iteration {index}: {}",
                    timed_out(step)
                )));
            }
            self.announce(step, place, attempt, Some(index as u64));
            if std::mem::take(&mut self.step_state(key).rebooting) {
                self.step_state(key).iteration += 1;
                self.save()?;
                continue;
            }
            let iteration = Iteration { index, value, name };
            match self.once(frame, step, key, place, deadline, Some(iteration))? {
                Once::Done(done) => {
                    let outputs: Vec<Kept> = done
                        .outputs
                        .into_iter()
                        .map(|output| self.keep_output(output))
                        .collect();
                    let state = self.step_state(key);
                    state.collected.extend(outputs);
                    state.exit_code = done.exit_code;
                    state.iteration += 1;
                    self.save()?;
                }
                Once::Failed { message, exit_code } => {
                    self.step_state(key).exit_code = exit_code;
                    self.join_outputs(key);
                    return Ok(Ended::Failure(format!(
                        "iteration {index} failed: {message}"
                    )));
                }
                Once::TimedOut => {
                    self.join_outputs(key);
                    return Ok(Ended::Failure(format!(
                        "the loop ran out of time at iteration {index}: {}",
                        timed_out(step)
                    )));
                }
            }
        }
        self.join_outputs(key);
        Ok(Ended::Success)
    }

    fn announce(&self, step: &Step, place: &StepPlace, attempt: u32, iteration: Option<u64>) {
        self.report.event(Event::StepStarted {
            document: place.document,
            phase: place.phase.clone(),
            step: place.step.clone(),
            action: step.action.to_string(),
            attempt,
            max_attempts: step.max_attempts,
            iteration,
        });
    }

    /// The values of a loop, taken before its first iteration.
    fn loop_items(&self, frame: &Frame, kind: &LoopKind) -> Result<Vec<Kept>, String> {
        let values = self.values(frame);
        let keep = |rendered: Rendered| {
            Kept::new(Value::String(rendered.text), Value::String(rendered.shown))
        };
        let items: Vec<Kept> = match kind {
            LoopKind::For {
                start, update_by, ..
            } => {
                let count = kind.count().unwrap_or(0).min(MOST_ITERATIONS);
                (0..count)
                    .filter_map(|index| {
                        i64::try_from(index)
                            .ok()?
                            .checked_mul(*update_by)?
                            .checked_add(*start)
                    })
                    .map(|number| super::load::plain(&number.to_string()))
                    .collect()
            }
            LoopKind::Each(templates) => templates
                .iter()
                .map(|(template, _)| template.render(&values).map(keep))
                .collect::<Result<_, _>>()
                .map_err(|error| error.to_string())?,
            LoopKind::Split {
                list, delimiter, ..
            } => {
                let rendered = list.render(&values).map_err(|error| error.to_string())?;
                if rendered.is_secret() {
                    // The parts of a secret text are secrets as well.
                    rendered
                        .text
                        .split(*delimiter)
                        .map(|part| {
                            self.report.masker().add(part);
                            let shown =
                                Value::String(ovenbird_component::reference::MASK.to_owned());
                            Kept {
                                shown,
                                secret: true,
                                used: Some(Value::String(part.to_owned())),
                            }
                        })
                        .collect()
                } else {
                    rendered
                        .text
                        .split(*delimiter)
                        .map(super::load::plain)
                        .collect()
                }
            }
        };
        if items.len() as u64 > MOST_ITERATIONS {
            return Err(format!(
                "the loop has {} iterations, the most is {MOST_ITERATIONS}",
                items.len()
            ));
        }
        Ok(items)
    }

    /// Joins the outputs of all iterations: one object, in which every field holds the values line by line.
    fn join_outputs(&mut self, key: &str) {
        let state = self.step_state(key);
        let join = |read: &dyn Fn(&Kept) -> Option<Value>| {
            let mut joined: Map<String, Value> = Map::new();
            for output in &state.collected {
                let Some(Value::Object(fields)) = read(output) else {
                    continue;
                };
                for (name, value) in fields {
                    let text = match value {
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    match joined.get_mut(&name) {
                        Some(Value::String(all)) => {
                            all.push('\n');
                            all.push_str(&text);
                        }
                        _ => {
                            joined.insert(name, Value::String(text));
                        }
                    }
                }
            }
            Value::Object(joined)
        };
        let shown = join(&|kept| Some(kept.shown.clone()));
        let used = join(&|kept| kept.real().cloned());
        let lost = state.collected.iter().any(|kept| kept.real().is_none());
        let mut kept = Kept::new(used, shown);
        if lost {
            kept = Kept {
                shown: kept.shown,
                secret: true,
                used: None,
            };
        }
        state.outputs = if state.collected.is_empty() {
            Vec::new()
        } else {
            vec![kept]
        };
        state.collected.clear();
    }

    /// Keeps an output; one in which a secret value shows up is treated as a secret itself.
    pub(super) fn keep_output(&self, output: Map<String, Value>) -> Kept {
        let shown: Map<String, Value> = output
            .iter()
            .map(|(name, value)| {
                let shown = match value {
                    Value::String(text) => {
                        Value::String(self.report.masker().mask(text).into_owned())
                    }
                    other => other.clone(),
                };
                (name.clone(), shown)
            })
            .collect();
        Kept::new(Value::Object(output), Value::Object(shown))
    }

    /// One execution: substitutes, records, runs.
    fn once(
        &mut self,
        frame: &Frame,
        step: &Step,
        key: &str,
        place: &StepPlace,
        deadline: Option<Instant>,
        iteration: Option<Iteration<'_>>,
    ) -> Result<Once, Stop> {
        let index = iteration.as_ref().map_or(0, |iteration| iteration.index);
        let values = StepValues {
            iteration,
            ..self.values(frame)
        };
        let resolved = match step.inputs.resolve(&values) {
            Ok(resolved) => resolved,
            Err(error) => {
                return Ok(Once::Failed {
                    message: error.to_string(),
                    exit_code: None,
                });
            }
        };
        let verdict = step
            .assertion
            .as_ref()
            .map(|assertion| assertion.evaluate(&values as &dyn Values, &self.probe));
        let recorded = inputs_as_list(&resolved);
        let state = self.step_state(key);
        state.inputs = recorded;
        let repeated = state.begun.replace(index) == Some(index);
        let progress = self.progress_file();
        if let Some(progress) = progress.as_deref().filter(|_| !repeated) {
            // Before the state says that this execution has begun: the number of another one must not count for it.
            let _ = std::fs::remove_file(progress);
        }
        self.save()?;
        if let Some(verdict) = verdict {
            return Ok(match verdict {
                Ok(verdict) if verdict.holds => Once::Done(Done::default()),
                Ok(verdict) => Once::Failed {
                    message: format!("the assertion does not hold: {}", verdict.trace.join("; ")),
                    exit_code: None,
                },
                Err(error) => Once::Failed {
                    message: error.to_string(),
                    exit_code: None,
                },
            });
        }
        let inputs = match canonical(step.action.spec(), resolved.used) {
            Ok(inputs) => inputs,
            Err(message) => {
                return Ok(Once::Failed {
                    message,
                    exit_code: None,
                });
            }
        };
        if step.action == Action::ExecuteDocument {
            let shown = resolved.shown;
            return self.execute_document(frame, &format!("{key}/i{index}"), &inputs, &shown);
        }
        if let Err(error) = crate::platform::create_private_folder(&self.scratch) {
            let message = format!("cannot make the folder {}: {error}", self.scratch.display());
            return Ok(Once::Failed {
                message,
                exit_code: None,
            });
        }
        let context = Context {
            report: self.report,
            place,
            deadline,
            working_directory: &self.working_directory,
            evidence: self.config.evidence_directory.as_deref(),
            scratch: &self.scratch,
            object_store: &self.config.object_store,
            repeated,
            progress: progress.as_deref(),
        };
        let result = modules::execute(&context, step.action, inputs);
        // Whatever the module says then: it was cut off, and is repeated when the run is started again.
        super::check_end()?;
        match result {
            Ok(done) => Ok(Once::Done(done)),
            Err(Failure::Failed { message, exit_code }) => Ok(Once::Failed { message, exit_code }),
            Err(Failure::TimedOut) => Ok(Once::TimedOut),
            Err(Failure::RebootAndRepeat) => {
                let reason = format!(
                    "step {} of phase {} ended with the exit code that asks for a reboot",
                    place.step, place.phase
                );
                self.reboot(reason, 0)
            }
            Err(Failure::RebootAndGoOn {
                delay_seconds,
                outputs,
            }) => {
                let outputs: Vec<Kept> = outputs
                    .into_iter()
                    .map(|output| self.keep_output(output))
                    .collect();
                if self.may_restart() {
                    let state = self.step_state(key);
                    state.rebooting = true;
                    state.outputs = outputs;
                }
                self.reboot(
                    format!(
                        "step {} of phase {} reboots the machine",
                        place.step, place.phase
                    ),
                    delay_seconds,
                )
            }
        }
    }

    fn may_restart(&self) -> bool {
        self.state.restarts < self.config.restart_limit && self.config.state_directory.is_some()
    }

    /// Stops for a reboot, unless there were too many or nothing could be resumed.
    fn reboot(&mut self, reason: String, delay_seconds: u64) -> Result<Once, Stop> {
        if self.config.state_directory.is_none() {
            let message = format!(
                "{reason}, but without a state directory the run could not go on afterwards"
            );
            return Ok(Once::Failed {
                message,
                exit_code: None,
            });
        }
        if !self.may_restart() {
            let message = format!(
                "{reason}, but the run has restarted {} times already, which is the limit",
                self.state.restarts
            );
            return Ok(Once::Failed {
                message,
                exit_code: None,
            });
        }
        self.save()?;
        Err(Stop::Reboot {
            reason,
            delay_seconds,
        })
    }
}

fn timed_out(step: &Step) -> String {
    let seconds = step.timeout.map_or(0, |timeout| timeout.as_secs());
    format!("it did not finish within {seconds} seconds and was ended")
}

/// Inputs are recorded as a list, also for modules that take a map.
fn inputs_as_list(resolved: &Resolved) -> Vec<Kept> {
    match (&resolved.used, &resolved.shown) {
        (Value::Array(used), Value::Array(shown)) => used
            .iter()
            .zip(shown)
            .map(|(used, shown)| Kept::new(used.clone(), shown.clone()))
            .collect(),
        (used, shown) => vec![Kept::new(used.clone(), shown.clone())],
    }
}
