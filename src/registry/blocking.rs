//! Work that keeps a processor busy, beside the asynchronous rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use camino::Utf8PathBuf;

use super::{RegistryError, Result};

/// Tells blocking work that nobody waits for it any more: a thread can't be dropped as a future can.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

/// Stops the work when it goes away.
#[derive(Debug)]
pub(super) struct StopOnDrop(Stop);

impl Stop {
    pub(super) fn on_drop(&self) -> StopOnDrop {
        StopOnDrop(self.clone())
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl ovenbird_disk::Progress for Stop {
    fn is_cancelled(&self) -> bool {
        self.is_set()
    }
}

/// Runs work where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| RegistryError::Io {
            action: "work on",
            path: Utf8PathBuf::from("the disk"),
            source: std::io::Error::other(error),
        })?
}

/// Makes a [`RegistryError::Disk`].
pub(super) fn disk_error(action: &str) -> impl FnOnce(ovenbird_disk::Error) -> RegistryError {
    move |source| RegistryError::Disk {
        action: action.to_owned(),
        source,
    }
}
