//! The event stream of a run: one JSON object per line, written by the agent and read by whoever started it.
//!
//! The stream is versioned. A reader must skip types that it does not know ([`Event::Unknown`]) and fields that it does
//! not know; a writer never changes the meaning of a field. A reader takes lines from a guest that it has no reason to
//! trust, so [`Decoder`] bounds their length and turns everything odd into a [`Line::Garbage`] instead of an error.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Version of the stream written by this crate.
pub const VERSION: u32 = 1;

/// Longest text of one output event in bytes; longer lines are cut into several events.
pub const LONGEST_TEXT: usize = 8 * 1024;

/// Longest encoded line that a reader accepts. A text of [`LONGEST_TEXT`] control characters grows sixfold in JSON.
pub const LONGEST_LINE: usize = 256 * 1024;

/// One line of the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// Version of the stream.
    pub version: u32,
    /// RFC 3339 time stamp in UTC.
    pub time: String,
    /// What happened.
    pub event: Event,
}

/// Which stream of a program a text came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Severity of a log event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For people who debug the agent.
    Debug,
    /// For everybody.
    Info,
    /// Something is not as it should be, the run goes on.
    Warn,
    /// Something failed.
    Error,
}

/// Outcome of a step, phase, document or run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Everything worked.
    #[serde(rename = "success")]
    Success,
    /// Something failed.
    #[serde(rename = "failed")]
    Failed,
    /// A step failed whose `onFailure` is `Ignore`.
    IgnoredFailure,
    /// A phase or document worked apart from ignored failures.
    SuccessWithIgnoredFailure,
    /// A step that its `if` left out; counts as success.
    #[serde(rename = "skipped")]
    Skipped,
}

impl Status {
    /// The word used in logs and in the stream.
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::IgnoredFailure => "IgnoredFailure",
            Self::SuccessWithIgnoredFailure => "SuccessWithIgnoredFailure",
            Self::Skipped => "skipped",
        }
    }

    /// Whether a run with this outcome counts as good.
    pub fn is_good(self) -> bool {
        self != Self::Failed
    }
}

/// Result of a whole run, printed as JSON at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Identity of the run, also part of the log folder's name.
    pub execution_id: String,
    /// `success` or `failed`.
    pub status: Status,
    /// Number of failed steps.
    pub failed_step_count: u64,
    /// Number of steps that ran or were skipped by `if`.
    pub executed_step_count: u64,
    /// Number of failed steps with `onFailure: Ignore`.
    pub ignored_failed_step_count: u64,
    /// Why the run failed; empty otherwise.
    pub failure_message: String,
    /// Absolute path of the log folder.
    pub log_url: String,
}

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Event {
    /// The run starts, or goes on after a reboot.
    RunStarted {
        /// Identity of the run.
        execution_id: String,
        /// Absolute path of the log folder.
        log_directory: String,
        /// Whether an earlier process of the same run left state behind.
        resumed: bool,
    },
    /// A document starts.
    DocumentStarted {
        /// Index of the document in the run.
        document: usize,
        /// Its `name`, or its file name.
        name: String,
        /// Its path as given.
        path: String,
    },
    /// A phase starts.
    PhaseStarted {
        /// Index of the document.
        document: usize,
        /// Name of the phase.
        phase: String,
    },
    /// One attempt of a step, or one iteration of it, starts.
    StepStarted {
        /// Index of the document.
        document: usize,
        /// Name of the phase.
        phase: String,
        /// Name of the step.
        step: String,
        /// Name of the action module.
        action: String,
        /// Number of this attempt, from 1.
        attempt: u32,
        /// Attempts allowed.
        max_attempts: u32,
        /// Loop index, when the step has a loop.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        iteration: Option<u64>,
    },
    /// Text that a step wrote.
    Output {
        /// Index of the document.
        document: usize,
        /// Name of the phase.
        phase: String,
        /// Name of the step.
        step: String,
        /// Where the text was written to.
        stream: OutputStream,
        /// One line, or a part of a very long one, without its line end.
        text: String,
    },
    /// A step ended.
    StepFinished {
        /// Index of the document.
        document: usize,
        /// Name of the phase.
        phase: String,
        /// Name of the step.
        step: String,
        /// Outcome.
        status: Status,
        /// Exit code of the step's program, if it started one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        /// Why it failed or was skipped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// Wall time.
        seconds: f64,
    },
    /// A phase ended.
    PhaseFinished {
        /// Index of the document.
        document: usize,
        /// Name of the phase.
        phase: String,
        /// Outcome.
        status: Status,
        /// Wall time of this process, without earlier ones before a reboot.
        seconds: f64,
    },
    /// A document ended.
    DocumentFinished {
        /// Index of the document.
        document: usize,
        /// Outcome.
        status: Status,
        /// Wall time.
        seconds: f64,
        /// Why it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// The run stops here until the machine has been rebooted.
    RebootRequested {
        /// Which step asked for it.
        reason: String,
        /// Seconds to wait before the reboot.
        delay_seconds: u64,
    },
    /// A message of the agent itself.
    Log {
        /// Severity.
        level: LogLevel,
        /// The message.
        message: String,
    },
    /// The run ended.
    RunFinished {
        /// Its result.
        summary: Summary,
    },
    /// A type that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Serialize for Envelope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        let mut object = serde_json::Map::new();
        object.insert("v".to_owned(), Value::from(self.version));
        object.insert("time".to_owned(), Value::from(self.time.as_str()));
        match serde_json::to_value(&self.event).map_err(S::Error::custom)? {
            Value::Object(fields) => object.extend(fields),
            other => {
                return Err(S::Error::custom(format!(
                    "an event is not an object: {other}"
                )));
            }
        }
        object.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let mut object = serde_json::Map::deserialize(deserializer)?;
        let version = object
            .remove("v")
            .and_then(|value| value.as_u64())
            .and_then(|value| u32::try_from(value).ok())
            .ok_or_else(|| D::Error::missing_field("v"))?;
        let time = match object.remove("time") {
            Some(Value::String(time)) => time,
            _ => return Err(D::Error::missing_field("time")),
        };
        let event = Event::deserialize(Value::Object(object)).map_err(D::Error::custom)?;
        Ok(Self {
            version,
            time,
            event,
        })
    }
}

/// A decoded line.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// A well-formed event.
    Event(Box<Envelope>),
    /// Anything else, with its first bytes as text: a shell's greeting, a cut line, something hostile.
    Garbage(String),
}

/// Splits bytes into lines and decodes them, with bounded memory.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// The current line passed the bound; its rest is dropped.
    overlong: bool,
}

/// How much of a bad line is kept for the message about it.
const GARBAGE_KEPT: usize = 200;

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and returns the lines that they complete. Empty lines are skipped.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (content, complete) = match piece.split_last() {
                Some((b'\n', content)) => (content, true),
                _ => (piece, false),
            };
            self.extend(content);
            if complete {
                lines.extend(self.take_line());
            }
        }
        lines
    }

    /// The last line of a stream that ended without a line end.
    pub fn finish(&mut self) -> Option<Line> {
        self.take_line()
    }

    fn extend(&mut self, content: &[u8]) {
        if self.overlong {
            return;
        }
        if self.buffer.len() + content.len() > LONGEST_LINE {
            self.overlong = true;
            let wanted = GARBAGE_KEPT
                .saturating_sub(self.buffer.len())
                .min(content.len());
            self.buffer.extend_from_slice(&content[..wanted]);
            return;
        }
        self.buffer.extend_from_slice(content);
    }

    fn take_line(&mut self) -> Option<Line> {
        let overlong = std::mem::take(&mut self.overlong);
        let line = std::mem::take(&mut self.buffer);
        let content = line.trim_ascii();
        if content.is_empty() {
            return None;
        }
        if !overlong && let Ok(envelope) = serde_json::from_slice(content) {
            return Some(Line::Event(Box::new(envelope)));
        }
        let kept = &content[..content.len().min(GARBAGE_KEPT)];
        Some(Line::Garbage(String::from_utf8_lossy(kept).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(event: Event) -> Event {
        let envelope = Envelope {
            version: VERSION,
            time: "2026-01-02T03:04:05Z".to_owned(),
            event,
        };
        let line = serde_json::to_vec(&envelope).expect("encode");
        serde_json::from_slice::<Envelope>(&line)
            .expect("decode")
            .event
    }

    #[test]
    fn events_survive_a_round_trip() {
        let events = [
            Event::StepStarted {
                document: 0,
                phase: "build".to_owned(),
                step: "Install".to_owned(),
                action: "ExecuteBash".to_owned(),
                attempt: 1,
                max_attempts: 3,
                iteration: Some(2),
            },
            Event::StepFinished {
                document: 0,
                phase: "build".to_owned(),
                step: "Install".to_owned(),
                status: Status::IgnoredFailure,
                exit_code: Some(3),
                message: None,
                seconds: 0.5,
            },
        ];
        for event in events {
            assert_eq!(round_trip(event.clone()), event);
        }
    }

    #[test]
    fn the_encoding_is_flat_camel_case() {
        let envelope = Envelope {
            version: 1,
            time: "t".to_owned(),
            event: Event::RebootRequested {
                reason: "r".to_owned(),
                delay_seconds: 5,
            },
        };
        insta::assert_snapshot!(
            serde_json::to_string(&envelope).expect("encode"),
            @r#"{"delaySeconds":5,"reason":"r","time":"t","type":"rebootRequested","v":1}"#
        );
    }

    #[test]
    fn unknown_types_and_fields_are_skipped() {
        let line = br#"{"v":7,"time":"t","type":"fromTheFuture","x":[1]}"#;
        let envelope: Envelope = serde_json::from_slice(line).expect("decode");
        assert_eq!(envelope.event, Event::Unknown);
        let line = br#"{"v":1,"time":"t","type":"phaseStarted","document":0,"phase":"build","later":true}"#;
        assert!(serde_json::from_slice::<Envelope>(line).is_ok());
    }

    #[test]
    fn the_decoder_survives_garbage_and_endless_lines() {
        let mut decoder = Decoder::new();
        let mut lines = decoder.push(b"Welcome!\n\n{\"v\":1,\"time\":\"t\",\"ty");
        assert_eq!(lines, [Line::Garbage("Welcome!".to_owned())]);
        lines = decoder.push(b"pe\":\"nothing\"}\n");
        assert!(matches!(&lines[..], [Line::Event(_)]));
        for _ in 0..1000 {
            assert!(decoder.push(&[b'x'; 4096]).is_empty());
            assert!(decoder.buffer.len() <= LONGEST_LINE + GARBAGE_KEPT);
        }
        lines = decoder.push(b"\n{\"v\":1,\"time\":\"t\",\"type\":\"x\"}");
        assert!(matches!(&lines[..], [Line::Garbage(text)] if text.len() == GARBAGE_KEPT));
        assert!(matches!(decoder.finish(), Some(Line::Event(_))));
        assert_eq!(decoder.push(b"\xff\xfe\n").len(), 1);
    }
}
