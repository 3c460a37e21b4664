//! Disks of tests, made from folders.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use ovenbird_disk::DiskReader;
use ovenbird_disk::fs::{self, FileSystem};

const MIB: u64 = 1 << 20;

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program)
        .args(arguments)
        .env(
            "PATH",
            format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()),
        )
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

/// Puts a file below a folder, by its path on the disk.
pub fn put(tree: &Path, path: &str, text: &str) {
    let path = tree.join(path.trim_start_matches('/'));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A filesystem of 24 MiB at `image`, with what `tree` holds.
pub fn volume(tree: &Path, image: &Path) {
    let (tree, image) = (tree.to_str().unwrap(), image.to_str().unwrap());
    run(
        "mke2fs",
        &["-q", "-F", "-t", "ext4", "-d", tree, image, "24M"],
    );
}

/// The filesystem of a disk of 24 MiB at `image`, with what `tree` holds.
pub fn disk(tree: &Path, image: &Path) -> Box<dyn FileSystem> {
    volume(tree, image);
    let disk: Arc<dyn DiskReader> = ovenbird_disk::open(image).unwrap();
    fs::find_root(&disk).unwrap().1
}

/// A disk at `image` with a partition for each volume; of those that are short, the rest is empty.
pub fn partitioned(image: &Path, volumes: &[&[u8]]) -> Arc<dyn DiskReader> {
    const SIZE: u64 = 24;
    let file = std::fs::File::create(image).unwrap();
    let count = u64::try_from(volumes.len()).unwrap();
    file.set_len((2 + count * SIZE) * MIB).unwrap();
    let mut arguments = Vec::new();
    for (start, volume) in (0..).map(|index| 1 + index * SIZE).zip(volumes) {
        file.write_all_at(volume, start * MIB).unwrap();
        arguments.push(format!("--new=0:{start}M:+{SIZE}M"));
    }
    arguments.push(image.to_str().unwrap().to_owned());
    run(
        "sgdisk",
        &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    ovenbird_disk::open(image).unwrap()
}
