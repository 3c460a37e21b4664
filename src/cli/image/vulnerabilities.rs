//! `ovenbird image vulnerabilities`

use std::process::ExitCode;

use ovenbird_inventory::Inventory;

use crate::cli::Session;
use crate::cli::convert::open_disk;
use crate::cli::disk::filesystem;
use crate::cli::vuln::{How, Seen, check};
use crate::error::{FailureContext as _, FailureKind, Result};
use crate::output::Manifest;
use crate::sbom;
use crate::store::{ImageRecord, Store};

/// Looks up what is installed in a finished image, as the database knows it today.
///
/// # Errors
/// [`FailureKind::Config`] if there is no such image; else as [`check`] says.
pub fn run(store: &Store, session: &Session, wanted: &str, how: &How) -> Result<ExitCode> {
    let image = store.find_image(wanted)?;
    let manifest = super::manifest_of(&image)?;
    let inventory = inventory(&image, &manifest)?;
    let version = format!("{}-{}", manifest.version, manifest.build);
    let seen = Seen {
        name: &manifest.name,
        version: &version,
        identity: &manifest.arn,
    };
    let home = || {
        Ok(Session {
            home: session.home.clone(),
            printer: session.printer,
        })
    };
    check(&inventory, seen, how, home, session.printer)
}

/// What is on one of its disks; what the manifest lists, if none can be looked into.
fn inventory(image: &ImageRecord, manifest: &Manifest) -> Result<Inventory> {
    // Any disk will do: all of an image hold the same.
    let file = manifest
        .files
        .iter()
        .find(|file| file.format.qemu_driver().is_some());
    let why = match file {
        None => "the image has no disk that could be read".to_owned(),
        Some(file) => {
            let disk = open_disk(&image.folder.join(&file.path), None, &[])?;
            match filesystem(&disk, None) {
                Ok(root) => {
                    let seen = ovenbird_inventory::read(&*root)
                        .or_failure(FailureKind::Config, || "cannot read the disk".into())?;
                    return Ok(sbom::completed(seen, &manifest.os, &manifest.packages));
                }
                Err(failure) => failure.chain(),
            }
        }
    };
    Ok(sbom::told(&manifest.os, &manifest.packages, &why))
}
