//! How long work tells the outside world where it is.

/// Listens to work on a base image. All methods have a default that does nothing.
pub trait Progress: Send + Sync {
    /// A new stage has begun, such as `install packages`.
    fn stage(&self, _name: &str) {}

    /// The stage counts bytes: `done` of `total`, where known. Called often; the listener decides what to draw.
    fn bytes(&self, _done: u64, _total: Option<u64>) {}

    /// A line that a program printed, or a remark such as `the server ignores ranges, starting again`.
    fn line(&self, _text: &str) {}
}

/// Nobody listens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}
