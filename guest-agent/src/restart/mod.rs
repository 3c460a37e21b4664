//! What stand-alone use needs for a reboot: coming back after the machine has started again.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{forget_restart, reboot_machine};
#[cfg(windows)]
pub use windows::{forget_restart, reboot_machine};
