//! The one event stream: what happens in a build, as versioned JSON.
//!
//! The terminal, `--json`, the log file and the tests all read this stream; nothing prints by itself.

use std::sync::Arc;

use camino::Utf8PathBuf;
use ovenbird_component::event::Event as AgentEvent;
use serde::Serialize;

use crate::guest::ladder::Rung;

/// The version of the stream's format.
pub const VERSION: u32 = 1;

/// The steps of a build, by the service's names where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum StepKind {
    /// Documents, versions, parent image.
    Resolve,
    /// Start the build guest and wait for it.
    LaunchBuildInstance,
    /// Put the agent in place.
    BootstrapBuildInstance,
    /// Build and validate phases.
    ApplyBuildComponents,
    /// OS release and packages.
    InventoryCollection,
    /// Clean-up and trim.
    RunSanitizeScript,
    /// Stop the build guest.
    TerminateBuildInstance,
    /// Look at the finished disk from outside: the clean-up, and what looks like a secret.
    InspectDisk,
    /// Look up known vulnerabilities of what is installed.
    CollectImageScanFindings,
    /// Write the outputs.
    CreateOutputImage,
    /// Boot an output afresh.
    LaunchTestInstance,
    /// Test phases.
    ApplyTestComponents,
    /// Compare a second copy with the first.
    CompareCopies,
    /// Stop the test guest.
    TerminateTestInstance,
    /// Deliver.
    Distribute,
}

impl StepKind {
    /// The name in records and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "Resolve",
            Self::LaunchBuildInstance => "LaunchBuildInstance",
            Self::BootstrapBuildInstance => "BootstrapBuildInstance",
            Self::ApplyBuildComponents => "ApplyBuildComponents",
            Self::InventoryCollection => "InventoryCollection",
            Self::RunSanitizeScript => "RunSanitizeScript",
            Self::TerminateBuildInstance => "TerminateBuildInstance",
            Self::InspectDisk => "InspectDisk",
            Self::CollectImageScanFindings => "CollectImageScanFindings",
            Self::CreateOutputImage => "CreateOutputImage",
            Self::LaunchTestInstance => "LaunchTestInstance",
            Self::ApplyTestComponents => "ApplyTestComponents",
            Self::CompareCopies => "CompareCopies",
            Self::TerminateTestInstance => "TerminateTestInstance",
            Self::Distribute => "Distribute",
        }
    }
}

impl std::fmt::Display for StepKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StepOutcome {
    /// All well.
    Completed,
    /// Not needed.
    Skipped,
    /// The build fails with it.
    Failed,
    /// Stopped by Ctrl-C.
    Cancelled,
}

/// How a guest comes up in a new QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum MachineStart {
    /// It boots.
    Boot,
    /// It boots again since a component or a test asked for it.
    Reboot,
    /// It goes on from a saved memory.
    Resume,
}

/// What became of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LayerOutcome {
    /// It was on the shelf.
    Found,
    /// It is not there, or not usable.
    Missing,
    /// It was made and put on the shelf.
    Made,
}

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Event {
    /// The build has its name and number.
    BuildStarted {
        /// `name/version/build`.
        image: String,
        /// The run's id; its folder has this name.
        run: String,
        /// Where logs and the console go.
        logs: Utf8PathBuf,
    },
    /// A new state of the image.
    StateChanged {
        /// The service's word: BUILDING, TESTING, …
        state: String,
        /// Why, if it is an end.
        reason: Option<String>,
    },
    /// A step starts.
    StepStarted {
        /// Which.
        step: StepKind,
        /// What it is about to do, one line.
        detail: String,
    },
    /// A step's current activity: the last line of what runs in it.
    StepProgress {
        /// Which.
        step: StepKind,
        /// One line.
        line: String,
    },
    /// A step ended.
    StepFinished {
        /// Which.
        step: StepKind,
        /// How.
        outcome: StepOutcome,
        /// Seconds it took.
        seconds: f64,
        /// One line for the person.
        detail: String,
    },
    /// A QEMU was started.
    MachineStarted {
        /// How the guest comes up in it.
        how: MachineStart,
    },
    /// A layer was found, made, or has to be made.
    Layer {
        /// `boot`, or the component's name.
        name: String,
        /// Its key.
        key: String,
        /// What became of it.
        outcome: LayerOutcome,
        /// Why it has to be made.
        reason: Option<String>,
    },
    /// The guest reached a rung of the readiness ladder.
    Rung {
        /// The rung.
        rung: Rung,
        /// Seconds since the machine was started.
        seconds: f64,
    },
    /// A line of the guest's console.
    Console {
        /// Cleaned of control characters.
        line: String,
    },
    /// An event of the agent in the guest.
    Agent {
        /// As the agent sent it.
        event: AgentEvent,
    },
    /// Bytes of a long copy.
    Bytes {
        /// What is copied.
        what: String,
        /// Done so far.
        done: u64,
        /// Of so many, if known.
        total: Option<u64>,
    },
    /// Worth knowing, not an error.
    Note {
        /// One line.
        message: String,
    },
    /// Worth a look.
    Warning {
        /// One line.
        message: String,
    },
    /// The build's end.
    BuildFinished {
        /// AVAILABLE, FAILED or CANCELLED.
        state: String,
        /// Why it failed.
        reason: Option<String>,
        /// Where the outputs are.
        folder: Option<Utf8PathBuf>,
        /// Seconds of the whole build.
        seconds: f64,
    },
}

/// An event with its time: one line of the stream.
#[derive(Debug, Clone, Serialize)]
pub struct Stamped<'a> {
    /// [`VERSION`].
    pub v: u32,
    /// RFC 3339 in UTC.
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub event: &'a Event,
}

impl<'a> Stamped<'a> {
    /// Stamps an event with the current time.
    pub fn now(event: &'a Event) -> Self {
        Self {
            v: VERSION,
            time: jiff::Timestamp::now()
                .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
                .to_string(),
            event,
        }
    }
}

/// Who reads the stream.
pub trait Reader: Send + Sync {
    /// Takes an event; must be quick and must not fail.
    fn event(&self, event: &Event);
}

/// The stream itself: hands each event to every reader.
#[derive(Clone, Default)]
pub struct Events {
    readers: Vec<Arc<dyn Reader>>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Events({} readers)", self.readers.len())
    }
}

impl Events {
    /// A stream with these readers.
    pub fn new(readers: Vec<Arc<dyn Reader>>) -> Self {
        Self { readers }
    }

    /// Adds a reader.
    pub fn add(&mut self, reader: Arc<dyn Reader>) {
        self.readers.push(reader);
    }

    /// Sends an event.
    pub fn send(&self, event: Event) {
        for reader in &self.readers {
            reader.event(&event);
        }
    }

    /// Sends a [`Event::Note`].
    pub fn note(&self, message: impl Into<String>) {
        self.send(Event::Note {
            message: message.into(),
        });
    }

    /// Sends a [`Event::Warning`].
    pub fn warn(&self, message: impl Into<String>) {
        self.send(Event::Warning {
            message: message.into(),
        });
    }
}

/// Writes the stream to a file, a line each.
#[derive(Debug)]
pub struct LogFile(std::sync::Mutex<std::fs::File>);

impl LogFile {
    /// Opens the file, created if it is not there: a second attempt goes on with the log of the first.
    ///
    /// # Errors
    /// What opening it says.
    pub fn append(path: &camino::Utf8Path) -> std::io::Result<Self> {
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map(|file| Self(std::sync::Mutex::new(file)))
    }
}

impl Reader for LogFile {
    fn event(&self, event: &Event) {
        use std::io::Write as _;
        if let (Ok(mut line), Ok(mut file)) =
            (serde_json::to_string(&Stamped::now(event)), self.0.lock())
        {
            line.push('\n');
            // A full disk shows elsewhere; the log must not end the build.
            let _ = file.write_all(line.as_bytes());
        }
    }
}
