//! Runs component documents: inside a guest for a bake, or stand-alone anywhere.
//!
//! The binary is static and must not use the C library's plug-ins, so accounts, host names and certificates are read
//! from their files. Everything a run does is stored before it goes on; a process that was killed or rebooted away is
//! started again with the same state folder and goes on where it was.
#![warn(missing_docs)]

pub mod accounts;
mod address;
pub mod cli;
mod clock;
pub mod config;
mod digest;
mod modules;
mod net;
mod platform;
mod process;
mod restart;
mod run;
pub mod secrets;

pub use config::RunConfig;
pub use run::{EventStream, Outcome, RunError, run};

/// Exit code for "everything worked".
pub const EXIT_SUCCESS: i32 = 0;
/// Exit code for "a document failed".
pub const EXIT_FAILED: i32 = 1;
/// Exit code for "the run could not be carried out as ordered".
pub const EXIT_USAGE: i32 = 2;
/// Exit code for "reboot the machine, then start this again with the same state folder": 194, and 3010 on Windows.
pub const EXIT_REBOOT: i32 = platform::EXIT_REBOOT;
