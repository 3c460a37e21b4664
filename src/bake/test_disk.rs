//! Disks of tests, made from folders.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use ovenbird_disk::fs::{self, FileSystem};

/// The filesystem of a disk of 24 MiB at `image`, with what `tree` holds.
pub fn disk(tree: &Path, image: &Path) -> Box<dyn FileSystem> {
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-d"])
        .args([tree, image])
        .arg("24M")
        .env(
            "PATH",
            format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()),
        )
        .status()
        .unwrap();
    assert!(made.success());
    let disk: Arc<dyn ovenbird_disk::DiskReader> = ovenbird_disk::open(image).unwrap();
    fs::find_root(&disk).unwrap().1
}
