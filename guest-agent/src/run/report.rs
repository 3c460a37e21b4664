//! Everything a run tells: console.log, application.log, events. All of it passes the masker.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use ovenbird_component::event::{Envelope, Event, LogLevel, OutputStream, VERSION};

use super::stream::{EventStream, Weight};
use crate::clock;
use crate::secrets::Masker;

/// Where a run reports to.
pub struct Report {
    console: Mutex<Option<File>>,
    application: Mutex<Option<File>>,
    events: Option<EventStream>,
    trace: bool,
    masker: Masker,
}

/// The step that a line of output belongs to.
#[derive(Debug, Clone)]
pub struct StepPlace {
    /// Index of the document in the run.
    pub document: usize,
    /// Name of the phase.
    pub phase: String,
    /// Name of the step.
    pub step: String,
    /// Whether standard output is kept out of logs and events.
    pub silent: bool,
}

impl Report {
    /// Opens the two logs in a folder that exists, adding to what an earlier process of the run wrote.
    ///
    /// # Errors
    ///
    /// When a log cannot be opened.
    pub fn open(
        folder: &Path,
        masker: Masker,
        events: Option<EventStream>,
        trace: bool,
    ) -> io::Result<Self> {
        let open = |name| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(folder.join(name))
        };
        Ok(Self {
            console: Mutex::new(Some(open("console.log")?)),
            application: Mutex::new(Some(open("application.log")?)),
            events,
            trace,
            masker,
        })
    }

    /// What hides secrets.
    pub fn masker(&self) -> &Masker {
        &self.masker
    }

    /// Writes a line for people.
    pub fn console(&self, text: &str) {
        let text = self.masker.mask(text);
        let stamp = clock::rfc3339_nanos(SystemTime::now());
        for line in text.lines() {
            let line = format!("{stamp} {line}\n");
            append(&self.console, &line);
            append(&self.application, &line);
            if self.trace {
                // A closed standard error must not end the run.
                let _ = io::stderr().write_all(line.as_bytes());
            }
        }
    }

    /// Writes a line for those who look for a fault in the agent.
    pub fn debug(&self, text: &str) {
        let text = self.masker.mask(text);
        let line = format!(
            "{} Debug {}\n",
            clock::rfc3339_nanos(SystemTime::now()),
            text.replace('\n', " ")
        );
        append(&self.application, &line);
        if self.trace {
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }

    /// Writes a warning to both logs and the stream.
    pub fn warn(&self, text: &str) {
        self.console(&format!("Warning: {text}"));
        self.event(Event::Log {
            level: LogLevel::Warn,
            message: text.to_owned(),
        });
    }

    /// Writes one line of a step's output.
    pub fn output(&self, place: &StepPlace, stream: OutputStream, text: &str) {
        if place.silent && stream == OutputStream::Stdout {
            return;
        }
        let text = self.masker.mask(text);
        match stream {
            OutputStream::Stdout => self.console(&format!("Stdout: {text}")),
            OutputStream::Stderr => self.console(&format!("CmdExecution: Stderr: {text}")),
        }
        self.event(Event::Output {
            document: place.document,
            phase: place.phase.clone(),
            step: place.step.clone(),
            stream,
            text: text.into_owned(),
        });
    }

    /// Sends an event. Texts in it have to be masked already, except for messages, which are masked here.
    pub fn event(&self, event: Event) {
        let Some(events) = &self.events else { return };
        let weight = match &event {
            Event::Output { .. } => Weight::Droppable,
            _ => Weight::Kept,
        };
        let envelope = Envelope {
            version: VERSION,
            time: clock::rfc3339_millis(SystemTime::now()),
            event: self.masked(event),
        };
        if let Ok(line) = serde_json::to_vec(&envelope) {
            events.send(line, weight);
        }
    }

    fn masked(&self, mut event: Event) -> Event {
        let text = match &mut event {
            Event::StepFinished {
                message: Some(message),
                ..
            }
            | Event::DocumentFinished {
                message: Some(message),
                ..
            }
            | Event::Log { message, .. }
            | Event::RebootRequested {
                reason: message, ..
            } => message,
            Event::RunFinished { summary } => &mut summary.failure_message,
            _ => return event,
        };
        *text = self.masker.mask(text).into_owned();
        event
    }

    /// Ends the stream; says how much of the output its reader missed.
    pub fn close(mut self) {
        if let Some(events) = self.events.take() {
            let dropped = events.dropped();
            if dropped > 0 {
                self.debug(&format!(
                    "{dropped} output events were left out because nobody read them"
                ));
            }
            events.close();
        }
    }
}

/// A full disk silences a log; it does not end the run.
fn append(log: &Mutex<Option<File>>, line: &str) {
    let mut guard = log.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(file) = guard.as_mut()
        && file.write_all(line.as_bytes()).is_err()
    {
        *guard = None;
    }
}
