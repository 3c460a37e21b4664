//! ExecutePowerShell, InstallMSI, UninstallMSI and SetRegistry.
//!
//! The agent is a Linux program; documents with these modules are validated in full, and here they fail with a plain
//! message instead of doing something half.

use ovenbird_component::action::Action;
use serde_json::Value;

use super::{Context, Done, Failure};

/// Refuses a Windows module.
pub fn execute(_context: &Context<'_>, action: Action, _inputs: Value) -> Result<Done, Failure> {
    Err(Failure::new(format!("{action} works on Windows only")))
}
