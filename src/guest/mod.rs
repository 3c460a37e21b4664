//! The running guest, seen from the host: seed, keys, readiness, SSH session and agent.

pub mod keys;
pub mod ladder;
pub mod seed;
pub mod ssh;
