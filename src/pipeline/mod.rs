//! Pipelines: recipe, infrastructure and distribution run together, by hand or by a schedule.
//!
//! What is decided ([`due`], [`inputs`]) are pure functions; [`run`] does one run, [`scheduler`] does those that are due.
//! Of several schedulers on one home exactly one gets each time of a schedule: the store's record is the lock.

pub mod baker;
pub mod due;
pub mod inputs;
pub mod log;
pub mod resolve;
pub mod run;
pub mod scheduler;
pub mod status;

pub use baker::{Baker, LocalBaker};
pub use inputs::Inputs;
pub use run::{Report, Runner};
pub use scheduler::Scheduler;
