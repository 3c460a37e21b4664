//! The finished disk, looked at from outside before anything is made of it: did the clean-up do its work, and did the bake
//! bring something that looks like a secret? Nothing is mounted, and nothing that the guest says is believed.

use std::sync::Arc;

use ovenbird_disk::fs;
use ovenbird_disk::{DiskReader, ErrorKind, Window};
use ovenbird_inventory::Inventory;

use super::plan::{BakePlan, Parent};
use super::{residue, sanitise};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::output::manifest::{Residue, SanitiseResult};
use crate::output::planner::Source;

/// What was found, apart from what fails the bake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The rules of the clean-up, with what was verified.
    pub sanitised: Vec<SanitiseResult>,
    /// What looks like a secret and is allowed.
    pub residue: Vec<Residue>,
    /// What is installed on it; none if it could not be looked into.
    pub inventory: Option<Inventory>,
    /// Why the disk could not be looked into.
    pub blind: Option<String>,
}

/// Looks at the disk. Blocks.
///
/// # Errors
/// [`FailureKind::Output`] with everything that should not be there, or if the disk can't be read.
pub fn inspect(
    plan: &BakePlan,
    source: &Source,
    mut sanitised: Vec<SanitiseResult>,
) -> Result<Inspection> {
    let disk = source.open()?;
    let (volume, root) = match fs::find_root(&disk) {
        Ok(found) => found,
        // XFS, Btrfs, LVM: the guest's own clean-up has to be believed, and the person is told so.
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::NotFound) => {
            return Ok(Inspection {
                sanitised,
                residue: Vec::new(),
                inventory: None,
                blind: Some(error.to_string()),
            });
        }
        Err(error) => return Err(damaged().caused_by(error)),
    };
    let leftovers =
        sanitise::verify(&*root, &mut sanitised).map_err(|error| damaged().caused_by(error))?;
    let parent = parent_disk(&plan.parent)?;
    let parent_root = fs::find_root(&parent).ok();
    let scan = || -> ovenbird_disk::Result<_> {
        let beneath = parent_root.as_ref().map(|(_, root)| &**root);
        let mut found = residue::scan(&*root, beneath)?;
        // The parent's volume counts only if it lies where this one lies.
        let beneath = match &parent_root {
            Some((theirs, _)) if theirs.start == volume.start => {
                Some(Window::new(&parent, theirs.start, theirs.length)?)
            }
            _ => None,
        };
        found.extend(residue::scan_free_space(
            &*root,
            &Window::new(&disk, volume.start, volume.length)?,
            beneath.as_ref().map(|window| window as &dyn DiskReader),
        )?);
        Ok(found)
    };
    let found = scan().map_err(|error| damaged().caused_by(error))?;
    let inventory = ovenbird_inventory::read(&*root).map_err(|error| damaged().caused_by(error))?;
    let (allowed, residue): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|found| residue::is_allowed(found, &plan.residue_allowed));
    if leftovers.is_empty() && residue.is_empty() {
        return Ok(Inspection {
            sanitised,
            residue: allowed,
            inventory: Some(inventory),
            blind: None,
        });
    }
    let lines: Vec<String> = leftovers
        .iter()
        .map(|left| format!("{}: {}", left.rule, left.what))
        .chain(
            residue
                .iter()
                .map(|found| format!("{}: {}", found.rule, found.path)),
        )
        .collect();
    let count = lines.len();
    let failure = Failure::new(
        FailureKind::Output,
        format!(
            "the finished disk holds {count} {} that must not be copied with it",
            if count == 1 { "thing" } else { "things" }
        ),
    )
    .with_details(lines.join("\n"));
    Err(if residue.is_empty() {
        failure.with_hint("`local.sanitise.skip` of the recipe leaves a rule out")
    } else {
        failure.with_hint(
            "remove it in a component, or name it under `local.sanitise.allow` of the recipe",
        )
    })
}

fn damaged() -> Failure {
    Failure::new(
        FailureKind::Output,
        "the finished disk's root filesystem cannot be read",
    )
}

/// The parent's disk.
fn parent_disk(parent: &Parent) -> Result<Arc<dyn DiskReader>> {
    let disk = ovenbird_disk::open(parent.disk.as_std_path())
        .or_failure(FailureKind::Environment, || {
            format!("cannot open the parent {}", parent.disk)
        })?;
    Ok(disk)
}
