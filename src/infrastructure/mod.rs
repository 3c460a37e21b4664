//! From an infrastructure configuration to the machine of a local bake, and to those who are told how it ended.

pub mod host;
pub mod instance_types;
pub mod machine;
pub mod notification;
pub mod payload;

pub use host::HostSize;
pub use machine::{Chosen, choose};
pub use notification::notify;
