//! What happens to old images: lifecycle policies.
//!
//! [`select`] is a pure function of a policy, the images and the time; [`execute`] does what it says.

pub mod execute;
mod select;
#[cfg(test)]
mod select_tests;

pub use execute::{Execution, Outcome, execute};
pub use select::{Candidate, Condition, Decision, select};
