//! How long work tells its caller where it is, and learns that it should stop.

/// Receives progress and answers whether to go on. Called from several threads, often; keep it cheap.
pub trait Progress: Sync {
    /// Work begins; `total` is the number of bytes that [`Progress::advance`] will add up to, as far as known.
    fn begin(&self, total: u64) {
        let _ = total;
    }

    /// So many more bytes are done.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }

    /// True when the work should stop; it then ends with [`crate::ErrorKind::Cancelled`] and leaves no file behind.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Tells nobody and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
