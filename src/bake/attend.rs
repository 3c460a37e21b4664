//! What the bake of an image on record goes with: folders, log, ledger, timings.

use std::sync::Arc;

use super::engine::Identity;
use super::recorder::Ledger;
use crate::error::{FailureContext as _, FailureKind, Result};
use crate::events::{Events, LogFile, Reader};
use crate::store::{Home, ImageLedger, ImageRecord, Store};
use crate::timings::Timings;

/// The name of the event stream in the folder of the logs.
pub const EVENTS: &str = "events.ndjson";
/// The name of the trace in the folder of the logs.
pub const TRACE: &str = "trace.json";

/// Everything around a bake that is kept.
pub struct Attendance {
    /// Who the bake is.
    pub identity: Identity,
    /// The stream, read by the log, the timings, and who was given.
    pub events: Events,
    /// States and steps, in the store.
    pub ledger: Box<dyn Ledger>,
    /// When what began and ended.
    pub timings: Arc<Timings>,
}

/// Prepares the folder of the logs and what is written to it.
///
/// # Errors
/// [`FailureKind::Environment`] if the folder can't be written.
pub fn attend(
    store: &Arc<Store>,
    home: &Home,
    image: &ImageRecord,
    reader: Arc<dyn Reader>,
) -> Result<Attendance> {
    let logs = &image.logs;
    let log = std::fs::create_dir_all(logs)
        .and_then(|()| LogFile::append(&logs.join(EVENTS)))
        .or_failure(FailureKind::Environment, || {
            format!("cannot write the log in {logs}")
        })?;
    let timings = Arc::new(Timings::new());
    Ok(Attendance {
        identity: Identity {
            run: image.run.clone(),
            build: image.build,
            arn: image.arn.clone(),
            target: image.folder.clone(),
            runs: home.runs(),
            logs: logs.clone(),
        },
        events: Events::new(vec![reader, Arc::new(log), timings.clone()]),
        ledger: Box::new(ImageLedger::new(Arc::clone(store), image.clone())),
        timings,
    })
}
