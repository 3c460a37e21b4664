//! ExecutePowerShell, InstallMSI, UninstallMSI and SetRegistry.
//!
//! What to run and what its answer means is settled by plain functions, which the tests look at on every system. Only the
//! last step needs Windows; anywhere else a step with one of these modules fails with a plain message.

#[cfg(any(windows, test))]
mod installer;
#[cfg(any(windows, test))]
mod power_shell;
#[cfg(any(windows, test))]
mod registry;

use ovenbird_component::action::Action;
use serde_json::Value;

use super::{Context, Done, Failure};

/// Refuses a module of Windows.
#[cfg(not(windows))]
pub fn execute(_context: &Context<'_>, action: Action, _inputs: Value) -> Result<Done, Failure> {
    Err(Failure::new(format!("{action} works on Windows only")))
}

/// Runs a module of Windows.
#[cfg(windows)]
pub fn execute(context: &Context<'_>, action: Action, inputs: Value) -> Result<Done, Failure> {
    match action {
        Action::ExecutePowerShell => power_shell::run(context, super::parse(inputs)?),
        Action::InstallMSI => {
            installer::run(context, installer::Task::Install, super::parse(inputs)?)
        }
        Action::UninstallMSI => {
            installer::run(context, installer::Task::Uninstall, super::parse(inputs)?)
        }
        Action::SetRegistry => super::each(context, inputs, registry::set),
        other => Err(Failure::new(format!("{other} is no module of Windows"))),
    }
}
