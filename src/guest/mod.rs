//! The running guest, seen from the host: seed, keys, readiness, SSH session and agent.

pub mod agent;
mod attendant;
#[cfg(test)]
mod hostile_tests;
pub mod keys;
pub mod ladder;
pub mod refresh;
pub mod running;
pub mod seed;
pub mod ssh;

pub use running::{Guest, GuestSpec, SavedGuest, Trouble};
