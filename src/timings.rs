//! Where the time of a build goes: spans read off the event stream, as a table for the person and as a trace for
//! `chrome://tracing` and Perfetto.
//!
//! Format of the trace:
//! <https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>.

use std::sync::Mutex;
use std::time::Instant;

use camino::Utf8Path;
use ovenbird_component::event::Event as AgentEvent;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::events::{Event, LayerOutcome, MachineStart, Reader};

/// Component steps below this are left out of the table; the trace has them all.
const SHOWN: f64 = 0.05;

/// What a span is, from the outside to the inside; each kind has a lane of its own in the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Lane {
    /// A step of the build.
    Step,
    /// A part of a guest's start.
    Rung,
    /// A component document.
    Document,
    /// A phase of a document.
    Phase,
    /// A step of a phase, all attempts and iterations together.
    Action,
}

impl Lane {
    const ALL: [Self; 5] = [
        Self::Step,
        Self::Rung,
        Self::Document,
        Self::Phase,
        Self::Action,
    ];

    const fn title(self) -> &'static str {
        match self {
            Self::Step => "steps of the build",
            Self::Rung => "start of a guest",
            Self::Document => "components",
            Self::Phase => "phases",
            Self::Action => "steps of components",
        }
    }

    /// How deep it stands in the table.
    pub const fn depth(self) -> usize {
        match self {
            Self::Step => 0,
            Self::Rung | Self::Document => 1,
            Self::Phase => 2,
            Self::Action => 3,
        }
    }
}

/// Something that took time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// What kind.
    pub lane: Lane,
    /// What.
    pub name: String,
    /// Seconds after the build began.
    pub start: f64,
    /// How long, in seconds.
    pub seconds: f64,
}

/// The spans of a [trace](Timings::trace), in the order in which they began; `None` if it is none.
pub fn spans_of_trace(text: &[u8]) -> Option<Vec<Span>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Trace {
        trace_events: Vec<Value>,
    }
    #[derive(Deserialize)]
    struct Complete {
        name: String,
        cat: Lane,
        ts: f64,
        dur: f64,
    }
    let trace: Trace = serde_json::from_slice(text).ok()?;
    let complete = trace
        .trace_events
        .into_iter()
        .filter(|event| event["ph"] == "X");
    let spans = complete.filter_map(|event| serde_json::from_value::<Complete>(event).ok());
    Some(
        spans
            .map(|span| Span {
                lane: span.cat,
                name: span.name,
                start: span.ts / 1e6,
                seconds: span.dur / 1e6,
            })
            .collect(),
    )
}

/// Reads the stream and notes when everything began and ended.
#[derive(Debug)]
pub struct Timings {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    done: Vec<Span>,
    /// What has begun and not ended, by its identity in the stream.
    open: Vec<(Key, Span)>,
    /// When the guest's last rung was reached, or its machine started.
    rung: Option<f64>,
    /// Moments worth a mark in the trace.
    marks: Vec<(f64, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Step(&'static str),
    Document(usize),
    Phase(usize, String),
    Action(usize, String, String),
}

impl Default for Timings {
    fn default() -> Self {
        Self::new()
    }
}

impl Timings {
    /// Timings that begin now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            state: Mutex::default(),
        }
    }

    /// All that ended, in the order of its beginning; what contains something stands before it.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = self
            .state
            .lock()
            .map(|state| state.done.clone())
            .unwrap_or_default();
        spans.sort_by(|one, other| {
            (one.start.total_cmp(&other.start)).then(one.lane.cmp(&other.lane))
        });
        spans
    }

    /// Rows for the person: seconds, share of the whole, what.
    pub fn table(&self) -> Vec<Vec<String>> {
        let spans = self.spans();
        let whole: f64 = spans
            .iter()
            .filter(|span| span.lane == Lane::Step)
            .map(|span| span.seconds)
            .sum();
        let mut rows = vec![vec!["SECONDS".into(), "SHARE".into(), "WHAT".into()]];
        for span in spans {
            if span.lane == Lane::Action && span.seconds < SHOWN {
                continue;
            }
            let share = 100.0 * span.seconds / whole.max(f64::MIN_POSITIVE);
            rows.push(vec![
                format!("{:>7.1}", span.seconds),
                format!("{share:>4.0}%"),
                format!("{}{}", "  ".repeat(span.lane.depth()), span.name),
            ]);
        }
        rows
    }

    /// The trace: complete events (`X`) with microseconds, a thread for each lane, and instants (`i`) for marks.
    pub fn trace(&self) -> Value {
        let micros = |seconds: f64| (seconds * 1e6).round();
        let mut events: Vec<Value> = Lane::ALL
            .iter()
            .map(|lane| {
                json!({
                    "ph": "M", "name": "thread_name", "pid": 1, "tid": *lane as u8,
                    "args": { "name": lane.title() },
                })
            })
            .collect();
        events.extend(self.spans().iter().map(|span| {
            json!({
                "ph": "X", "name": span.name, "cat": span.lane, "pid": 1, "tid": span.lane as u8,
                "ts": micros(span.start), "dur": micros(span.seconds),
            })
        }));
        if let Ok(state) = self.state.lock() {
            events.extend(state.marks.iter().map(|(at, name)| {
                json!({ "ph": "i", "s": "p", "name": name, "pid": 1, "tid": Lane::Step as u8, "ts": micros(*at) })
            }));
        }
        json!({ "displayTimeUnit": "ms", "traceEvents": events })
    }

    /// Writes the trace to a file.
    ///
    /// # Errors
    /// What writing it says.
    pub fn write_trace(&self, path: &Utf8Path) -> std::io::Result<()> {
        std::fs::write(path, self.trace().to_string())
    }
}

impl State {
    fn begin(&mut self, key: Key, lane: Lane, name: String, at: f64) {
        // A second attempt, or the same after a reboot, goes on with what began.
        if self.open.iter().any(|(open, _)| *open == key) {
            return;
        }
        let span = Span {
            lane,
            name,
            start: at,
            seconds: 0.0,
        };
        self.open.push((key, span));
    }

    fn end(&mut self, key: &Key, at: f64) {
        if let Some(position) = self.open.iter().position(|(open, _)| open == key) {
            let (_, mut span) = self.open.remove(position);
            span.seconds = at - span.start;
            self.done.push(span);
        }
    }

    fn agent(&mut self, event: &AgentEvent, at: f64) {
        match event {
            AgentEvent::DocumentStarted { document, name, .. } => {
                self.begin(Key::Document(*document), Lane::Document, name.clone(), at);
            }
            AgentEvent::PhaseStarted { document, phase } => {
                let key = Key::Phase(*document, phase.clone());
                self.begin(key, Lane::Phase, phase.clone(), at);
            }
            AgentEvent::StepStarted {
                document,
                phase,
                step,
                action,
                ..
            } => {
                let key = Key::Action(*document, phase.clone(), step.clone());
                self.begin(key, Lane::Action, format!("{step} ({action})"), at);
            }
            AgentEvent::StepFinished {
                document,
                phase,
                step,
                ..
            } => self.end(&Key::Action(*document, phase.clone(), step.clone()), at),
            AgentEvent::PhaseFinished {
                document, phase, ..
            } => self.end(&Key::Phase(*document, phase.clone()), at),
            AgentEvent::DocumentFinished { document, .. } => {
                self.end(&Key::Document(*document), at);
            }
            _ => {}
        }
    }
}

impl Reader for Timings {
    fn event(&self, event: &Event) {
        let at = self.start.elapsed().as_secs_f64();
        let Ok(mut state) = self.state.lock() else {
            return;
        };
        match event {
            Event::StepStarted { step, detail } => {
                let name = match detail.as_str() {
                    "" => step.to_string(),
                    detail => format!("{step}: {detail}"),
                };
                state.begin(Key::Step(step.as_str()), Lane::Step, name, at);
            }
            Event::StepFinished { step, .. } => {
                state.end(&Key::Step(step.as_str()), at);
                state.rung = None;
            }
            Event::MachineStarted { how } => {
                state.rung = Some(at);
                let mark = match how {
                    MachineStart::Boot => "a guest boots",
                    MachineStart::Reboot => "the guest reboots",
                    MachineStart::Resume => "the guest resumes",
                };
                state.marks.push((at, mark.into()));
            }
            Event::Rung { rung, .. } => {
                if let Some(start) = state.rung.replace(at) {
                    state.done.push(Span {
                        lane: Lane::Rung,
                        name: format!("until {}", rung.describe()),
                        start,
                        seconds: at - start,
                    });
                }
            }
            Event::Layer {
                name,
                outcome: LayerOutcome::Made,
                ..
            } => state.marks.push((at, format!("layer of {name}"))),
            Event::Agent { event } => state.agent(event, at),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{StepKind, StepOutcome};
    use crate::guest::ladder::Rung;
    use ovenbird_component::event::Status;

    fn step(name: &str, attempt: u32) -> Event {
        Event::Agent {
            event: AgentEvent::StepStarted {
                document: 0,
                phase: "build".into(),
                step: name.into(),
                action: "ExecuteBash".into(),
                attempt,
                max_attempts: 2,
                iteration: None,
            },
        }
    }

    #[test]
    fn spans_nest_and_attempts_are_one() {
        let timings = Timings::new();
        timings.event(&Event::StepStarted {
            step: StepKind::LaunchBuildInstance,
            detail: "on a base".into(),
        });
        timings.event(&Event::MachineStarted {
            how: MachineStart::Boot,
        });
        timings.event(&Event::Rung {
            rung: Rung::Kernel,
            seconds: 0.0,
        });
        timings.event(&step("Install", 1));
        std::thread::sleep(std::time::Duration::from_millis(60));
        timings.event(&step("Install", 2));
        timings.event(&Event::Agent {
            event: AgentEvent::StepFinished {
                document: 0,
                phase: "build".into(),
                step: "Install".into(),
                status: Status::Success,
                exit_code: Some(0),
                message: None,
                seconds: 0.0,
            },
        });
        timings.event(&Event::StepFinished {
            step: StepKind::LaunchBuildInstance,
            outcome: StepOutcome::Completed,
            seconds: 0.0,
            detail: String::new(),
        });
        let spans = timings.spans();
        let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "LaunchBuildInstance: on a base",
                "until the kernel runs",
                "Install (ExecuteBash)"
            ]
        );
        assert!(spans[2].seconds >= 0.06 && spans[0].seconds >= spans[2].seconds);
        assert_eq!(timings.table().len(), 4);
        assert!(timings.table()[3][2].starts_with("      Install"));
        let trace = timings.trace();
        let events = trace["traceEvents"].as_array().unwrap();
        let complete = events.iter().filter(|event| event["ph"] == "X").count();
        let marks: Vec<_> = events
            .iter()
            .filter(|event| event["ph"] == "i")
            .map(|event| &event["name"])
            .collect();
        assert_eq!(complete, 3);
        assert_eq!(marks, ["a guest boots"]);
        assert!(
            events
                .iter()
                .any(|event| event["dur"].as_f64() >= Some(6e4))
        );
    }
}
