//! Packages read from a filesystem: those of its distribution by the package manager's own database, those of languages by
//! what their installers leave beside the files and their linkers in programs.

mod apk;
mod dpkg;
mod elf;
mod go;
mod languages;
mod programs;
mod rpm;
mod rust;

use std::collections::BTreeSet;

use ovenbird_disk::ErrorKind;
use ovenbird_disk::fs::{self, FileSystem};

use crate::{Distro, Inventory, Package, Source};

/// Bytes of a database; Debian's of a full desktop has some 10 MiB.
const LARGEST_DATABASE: u64 = 256 << 20;
/// Bytes of a small description.
const LARGEST_FILE: u64 = 1 << 20;
/// Packages of a disk; more are not believed.
const MOST: usize = 100_000;
/// Characters of a name or version.
const LONGEST: usize = 300;

/// Reads all packages of the root filesystem of a disk.
///
/// # Errors
/// If the filesystem is damaged. A database that is missing is none; one that can't be read is told in the notes.
pub fn read(root: &dyn FileSystem) -> ovenbird_disk::Result<Inventory> {
    let mut found = Found::default();
    let release = ["/etc/os-release", "/usr/lib/os-release"]
        .into_iter()
        .find_map(|path| found.file(root, path, LARGEST_FILE));
    let distro = release.map_or_else(Distro::default, |text| Distro::parse(&text));
    dpkg::read(root, &mut found);
    rpm::read(root, &mut found);
    apk::read(root, &mut found);
    languages::read(root, &mut found)?;
    for unread in root.unread() {
        found.note(format!("{} was not looked into: {}", unread.at, unread.why));
    }
    if found.packages.len() > MOST {
        found.packages.truncate(MOST);
        found.note(format!("more than {MOST} packages: the rest is left out"));
    }
    Ok(Inventory::new(
        distro,
        found.packages,
        found.notes.into_iter().collect(),
    ))
}

/// What was found so far.
#[derive(Debug, Default)]
struct Found {
    packages: Vec<Package>,
    notes: BTreeSet<String>,
}

impl Found {
    fn note(&mut self, text: String) {
        // Paths and names are the guest's, and notes are printed on terminals.
        let text = text.replace(char::is_control, "\u{fffd}");
        // A disk of nothing but damage shall not fill memory with complaints.
        if self.notes.len() < 100 {
            self.notes.insert(text);
        }
    }

    /// Adds a package if its name and version can be any.
    fn add(&mut self, mut package: Package) {
        let sound = |text: &str| {
            !text.is_empty()
                && text.chars().count() <= LONGEST
                && !text.chars().any(char::is_control)
        };
        let is_sound =
            |source: &Source| sound(&source.name) && source.version.as_deref().is_none_or(sound);
        if package.source.take_if(|source| !is_sound(source)).is_some() {
            self.note("a source with an impossible name or version is left out".into());
        }
        if !sound(&package.name) || !sound(&package.version) {
            self.note("a package with an impossible name or version is left out".into());
        } else if self.packages.len() <= MOST {
            self.packages.push(package);
        }
    }

    /// The text of a file; none, with a note unless there is no such file, if it can't be read.
    fn file(&mut self, root: &dyn FileSystem, path: &str, limit: u64) -> Option<String> {
        self.bytes(root, path, limit)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn bytes(&mut self, root: &dyn FileSystem, path: &str, limit: u64) -> Option<Vec<u8>> {
        match fs::read_file(root, path, limit) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                self.note(format!("{path} can't be read: {error}"));
                None
            }
        }
    }
}

#[cfg(test)]
#[path = "../read_tests.rs"]
mod tests;
