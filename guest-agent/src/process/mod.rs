//! Starts programs, pumps their output and ends them with everything they started.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{end_by, run, set_up_signals, told_to_end};
#[cfg(windows)]
pub use windows::{end_by, run, set_up_signals, told_to_end};

use std::time::Duration;

/// How long output is awaited after the program itself has ended: a daemon that it left behind keeps the pipes open.
const LINGER: Duration = Duration::from_millis(500);

/// A left-behind program that never stops writing is cut off after this time.
const LONGEST_LINGER: Duration = Duration::from_secs(5);

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It ended with this code.
    Code(i32),
    /// A signal ended it.
    #[cfg_attr(windows, allow(dead_code, reason = "there are no signals"))]
    Signal(i32),
    /// Its time ran out and it was killed.
    TimedOut,
}

/// Which pipe bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipe {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
