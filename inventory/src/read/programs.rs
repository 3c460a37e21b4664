//! Packages that were linked into programs, by what their linkers left in them.

use std::collections::BTreeMap;

use ovenbird_disk::fs::{FileData, FileSystem, Node, NodeKind};

use super::elf::Elf;
use super::{Found, MOST, go, rust};
use crate::{Ecosystem, Package};

/// Bytes of a section; lists of the largest programs have some hundred KiB.
const LARGEST_SECTION: u64 = 4 << 20;
/// Bytes of all sections together, so that a disk of nothing but such programs doesn't hold up a bake.
const MOST_BYTES: u64 = 1 << 30;
/// Packages of all programs together, each counted at every place.
const MOST_PLACES: usize = 1_000_000;
/// Permission to run the file, of anybody.
const EXECUTE: u32 = 0o111;

/// Which packages programs hold, each with all of them.
#[derive(Debug, Default)]
pub(super) struct Programs {
    packages: BTreeMap<(Ecosystem, String, String), Package>,
    places: usize,
    bytes: u64,
    full: bool,
}

impl Programs {
    /// Whether a file may be one.
    pub fn may_be(node: &Node) -> bool {
        node.kind == NodeKind::File && node.mode & EXECUTE != 0
    }

    /// Looks into a file that may be a program.
    pub fn look(&mut self, root: &dyn FileSystem, path: &str, node: &Node, found: &mut Found) {
        if self.full {
            return;
        }
        if let Ok(data) = root.open(node) {
            self.look_into(&*data, path, found);
        }
    }

    /// Looks into what a file holds.
    fn look_into(&mut self, data: &dyn FileData, path: &str, found: &mut Found) {
        let Some(program) = Elf::open(data) else {
            return;
        };
        for (section, what) in [
            (go::SECTION, "its Go modules"),
            (rust::SECTION, "its Rust packages"),
        ] {
            if !program.has(section) {
                continue;
            }
            let packages = program
                .section(section, LARGEST_SECTION)
                .and_then(|content| {
                    self.bytes += u64::try_from(content.len()).ok()?;
                    match section {
                        go::SECTION => go::packages(&program, &content),
                        _ => rust::packages(&content),
                    }
                });
            match packages {
                Some(packages) => self.keep(packages, path),
                None => found.note(format!("{path}: {what} can't be read")),
            }
        }
        if self.bytes > MOST_BYTES || self.places > MOST_PLACES || self.packages.len() > MOST {
            self.full = true;
            found.note(format!(
                "more packages of Go and Rust programs than are believed: those of programs after {path} are left out"
            ));
        }
    }

    fn keep(&mut self, packages: Vec<Package>, path: &str) {
        self.places += packages.len();
        for package in packages {
            let key = (
                package.ecosystem,
                package.name.clone(),
                package.version.clone(),
            );
            let kept = self.packages.entry(key).or_insert(package);
            kept.paths.insert(path.to_owned());
        }
    }

    /// All that were found.
    pub fn add_to(self, found: &mut Found) {
        for package in self.packages.into_values() {
            found.add(package);
        }
    }
}

#[cfg(test)]
#[path = "programs_tests.rs"]
mod tests;
