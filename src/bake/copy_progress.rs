//! Progress of a long copy as events, and Ctrl-C as its end.

use std::sync::atomic::{AtomicU64, Ordering};

use ovenbird_disk::Progress;
use tokio_util::sync::CancellationToken;

use crate::events::{Event, Events};

/// Sends at most one event for so many bytes: workers report each block.
const EVENT_EVERY: u64 = 64 << 20;

/// Turns a copy's progress into events.
#[derive(Debug)]
pub struct CopyProgress {
    events: Events,
    cancel: CancellationToken,
    done: AtomicU64,
    total: AtomicU64,
}

impl CopyProgress {
    /// A progress that sends to `events` and ends the work when `cancel` fires.
    pub fn new(events: Events, cancel: CancellationToken) -> Self {
        Self {
            events,
            cancel,
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
        }
    }
}

impl Progress for CopyProgress {
    fn begin(&self, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        let done = before + bytes;
        if before / EVENT_EVERY != done / EVENT_EVERY {
            self.events.send(Event::Bytes {
                what: "disk".into(),
                done,
                total: Some(self.total.load(Ordering::Relaxed)),
            });
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}
