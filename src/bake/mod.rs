//! The engine: from a resolved plan to a tested image.

pub mod admission;
pub mod attend;
mod build_stage;
pub mod cache;
pub mod components;
mod copies;
pub mod copy_progress;
pub mod engine;
mod evidence;
mod files;
mod image_scan;
mod inspect;
pub mod instance;
pub mod inventory;
pub mod kernel;
mod keyring;
pub mod local_values;
mod managed;
pub mod plan;
pub mod provisions;
pub mod record;
pub mod recorder;
mod residue;
pub mod resolve;
pub mod run_folder;
pub mod sanitise;
#[cfg(test)]
mod test_disk;
mod test_stage;
pub mod trial;
pub mod workbench;

pub use engine::{Finished, Identity, Options, Stage, bake};
pub use instance::OnError;
pub use plan::{BakePlan, PlannedComponent};
