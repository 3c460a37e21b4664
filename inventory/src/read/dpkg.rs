//! dpkg's database: deb822 stanzas, see deb-control(5) and dpkg(1).

use ovenbird_disk::fs::{self, FileSystem};

use super::{Found, LARGEST_DATABASE, LARGEST_FILE};
use crate::{Ecosystem, Package, Source};

const STATUS: &str = "/var/lib/dpkg/status";
/// Images without dpkg itself (distroless) have a file for each package.
const STATUS_FOLDER: &str = "/var/lib/dpkg/status.d";

pub(super) fn read(root: &dyn FileSystem, found: &mut Found) {
    if let Some(text) = found.file(root, STATUS, LARGEST_DATABASE) {
        add_all(root, &text, STATUS, true, found);
    }
    let folder =
        fs::resolve(root, STATUS_FOLDER.as_bytes(), true).and_then(|node| root.read_dir(&node));
    for entry in folder.unwrap_or_default() {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        if name.ends_with(".md5sums") {
            continue;
        }
        let path = format!("{STATUS_FOLDER}/{name}");
        if let Some(text) = found.file(root, &path, LARGEST_FILE) {
            add_all(root, &text, &path, false, found);
        }
    }
}

fn add_all(root: &dyn FileSystem, text: &str, path: &str, has_status: bool, found: &mut Found) {
    for stanza in text.split("\n\n") {
        if let Some(mut package) = package(stanza, has_status) {
            package.paths.insert(path.to_owned());
            let copyright = format!("/usr/share/doc/{}/copyright", package.name);
            if let Some(text) = found.file(root, &copyright, LARGEST_FILE) {
                package.licenses = licenses(&text);
            }
            found.add(package);
        }
    }
}

/// Field by field; continued lines belong to fields that are not needed.
fn package(stanza: &str, has_status: bool) -> Option<Package> {
    let field = |name: &str| {
        stanza.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    };
    // `want flag state`: what was removed leaves its settings, and its entry; all else has its files on the disk, also
    // what waits to be set up.
    let installed = |status: String| {
        let state = status.rsplit(' ').next().unwrap_or_default();
        !["not-installed", "config-files", "half-installed"].contains(&state)
    };
    if has_status && !field("Status").is_some_and(installed) {
        return None;
    }
    let mut package = Package::new(Ecosystem::Deb, field("Package")?, field("Version")?);
    package.architecture = field("Architecture");
    package.supplier = field("Maintainer");
    package.source = field("Source").map(|source| match source.split_once(" (") {
        Some((name, version)) => Source {
            name: name.to_owned(),
            version: Some(version.trim_end_matches(')').to_owned()),
        },
        None => Source {
            name: source,
            version: None,
        },
    });
    Some(package)
}

/// The licences of a machine-readable copyright file; each that any of its files has.
fn licenses(text: &str) -> Vec<String> {
    if !text.starts_with("Format:") {
        return Vec::new();
    }
    let mut found: Vec<String> = Vec::new();
    for line in text.lines() {
        let name = line
            .strip_prefix("License:")
            .map(str::trim)
            .unwrap_or_default();
        if !name.is_empty() && found.len() < 50 && !found.iter().any(|known| known == name) {
            found.push(name.to_owned());
        }
    }
    found
}
