//! What differs from one operating system to the next: modes and owners of files, links, the environment of commands.
//!
//! Both sides have the same functions, so that nothing above has to ask where it runs. Modes and owners do not exist on
//! Windows: there those functions do nothing, and inputs that ask for a mode or an owner are refused before.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::*;
#[cfg(windows)]
pub use windows::*;
