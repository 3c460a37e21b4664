//! The finished disk, looked at from outside before anything is made of it: did the clean-up do its work, and did the bake
//! bring something that looks like a secret? Nothing is mounted, and nothing that the guest says is believed.

use std::sync::Arc;

use ovenbird_disk::fs::{FileSystem, Tree, Unread};
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
    /// What is mounted in it and could not be looked into, while the rest was.
    pub unread: Vec<Unread>,
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
    let tree = match Tree::open(&disk) {
        Ok(tree) => tree,
        // XFS, Btrfs, LVM: the guest's own clean-up has to be believed, and the person is told so.
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::NotFound) => {
            return Ok(Inspection {
                sanitised,
                residue: Vec::new(),
                inventory: None,
                blind: Some(error.to_string()),
                unread: Vec::new(),
            });
        }
        Err(error) => return Err(damaged().caused_by(error)),
    };
    let leftovers =
        sanitise::verify(&tree, &mut sanitised).map_err(|error| damaged().caused_by(error))?;
    let parent = parent_disk(&plan.parent)?;
    let parent_tree = Tree::open(&parent).ok();
    let scan = || -> ovenbird_disk::Result<_> {
        let beneath = parent_tree.as_ref().map(|tree| tree as &dyn FileSystem);
        let mut found = residue::scan(&tree, beneath)?;
        for (volume, fs) in tree.volumes() {
            // The parent's volume counts only if it lies where this one lies.
            let beneath = parent_tree
                .iter()
                .flat_map(Tree::volumes)
                .find(|(theirs, _)| theirs.start == volume.start)
                .map(|(theirs, _)| Window::new(&parent, theirs.start, theirs.length))
                .transpose()?;
            found.extend(residue::scan_free_space(
                fs,
                &Window::new(&disk, volume.start, volume.length)?,
                beneath.as_ref().map(|window| window as &dyn DiskReader),
            )?);
        }
        Ok(found)
    };
    let found = scan().map_err(|error| damaged().caused_by(error))?;
    let inventory = ovenbird_inventory::read(&tree).map_err(|error| damaged().caused_by(error))?;
    let (allowed, residue): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|found| residue::is_allowed(found, &plan.residue_allowed));
    if leftovers.is_empty() && residue.is_empty() {
        return Ok(Inspection {
            sanitised,
            residue: allowed,
            inventory: Some(inventory),
            blind: None,
            unread: tree.unread().to_vec(),
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use camino::Utf8Path;

    use super::super::plan::plain;
    use super::super::test_disk::{partitioned, put, volume};
    use super::*;

    /// A bake whose guest has its `/var` on another partition, and one filesystem that can't be read from here.
    #[test]
    fn what_lies_on_other_partitions_is_looked_at_or_told() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        put(&at("root"), "etc/os-release", "ID=debian\n");
        put(&at("root"), "etc/machine-id", "");
        let fstab = "/dev/vda2 /var ext4 defaults 0 2\nPARTUUID=x /none ext4\n/dev/vda3 /var/log xfs defaults 0 2\n";
        put(&at("root"), "etc/fstab", fstab);
        std::fs::create_dir(at("root/var")).unwrap();
        put(
            &at("var"),
            "lib/dpkg/status",
            "Package: base-files\nStatus: install ok installed\nVersion: 12\nArchitecture: all\n",
        );
        std::fs::create_dir(at("var/log")).unwrap();
        let image = |tree: &str| {
            volume(&at(tree), &at("volume"));
            std::fs::read(at("volume")).unwrap()
        };
        let (root, before) = (image("root"), image("var"));
        partitioned(&at("parent.raw"), &[&root, &before, b"XFSB"]);
        let key = format!("-----BEGIN {}-----\n{}\n", "PRIVATE KEY", "MIIE".repeat(16));
        put(&at("var"), "lib/app/server.key", &key);
        put(&at("var"), "lib/dhcp/dhclient.leases", "lease {}\n");
        let after = image("var");
        partitioned(&at("child.raw"), &[&root, &after, b"XFSB"]);

        let work = Utf8Path::from_path(folder.path()).unwrap();
        let mut plan = plain(Vec::new());
        plan.parent.disk = work.join("parent.raw");
        let look = |plan: &BakePlan, disk: &str| {
            let overlay = work.join(format!("{disk}.qcow2"));
            let made = Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
                .args([work.join(disk), overlay.clone()])
                .status()
                .unwrap();
            assert!(made.success());
            let source = Source {
                disk: overlay,
                folders: vec![work.to_owned()],
            };
            let done = |id: &str| SanitiseResult {
                id: id.into(),
                done: true,
                verified: false,
            };
            inspect(plan, &source, ["leases", "logs", "ssh"].map(done).into())
        };

        let clean = look(&plan, "parent.raw").unwrap();
        let verified: Vec<&str> = clean
            .sanitised
            .iter()
            .filter(|rule| rule.verified)
            .map(|rule| rule.id.as_str())
            .collect();
        assert_eq!(verified, ["leases", "ssh"], "logs can't be seen");
        assert_eq!(clean.unread.len(), 1);
        assert_eq!(clean.unread[0].at, "/var/log");
        let inventory = clean.inventory.unwrap();
        assert_eq!(inventory.packages.len(), 1, "of the database below /var");
        assert_eq!(
            inventory.notes,
            ["/var/log was not looked into: xfs is not supported"]
        );

        let failure = look(&plan, "child.raw").unwrap_err();
        assert_eq!(
            failure.details(),
            Some(
                "leases: /var/lib/dhcp/dhclient.leases is still there\n\
                 private-key: /var/lib/app/server.key"
            )
        );
    }
}
