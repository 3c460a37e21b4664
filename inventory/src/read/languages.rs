//! Packages of languages, by the descriptions that their installers put beside the code, and by what their linkers put
//! into programs.

use ovenbird_disk::fs::{self, FileSystem, NodeKind};
use serde_json::Value;

use super::programs::Programs;
use super::{Found, LARGEST_FILE};
use crate::{Ecosystem, Package};

pub(super) fn read(root: &dyn FileSystem, found: &mut Found) -> ovenbird_disk::Result<()> {
    let mut descriptions = Vec::new();
    let mut programs = Programs::default();
    let top = root.node(root.root())?;
    fs::walk(root, &top, &mut |path, node| {
        let path = String::from_utf8_lossy(path);
        if node.kind == NodeKind::Directory {
            // Nothing is installed there; they are large.
            return Ok(!matches!(
                &*path,
                "proc" | "sys" | "usr/share/doc" | "usr/share/locale"
            ));
        }
        if node.kind == NodeKind::File
            && let Some(ecosystem) = described(&path)
        {
            descriptions.push((ecosystem, format!("/{path}")));
        } else if Programs::may_be(node) {
            programs.look(root, &format!("/{path}"), node, found);
        }
        Ok(true)
    })?;
    programs.add_to(found);
    for (ecosystem, path) in descriptions {
        let Some(text) = found.file(root, &path, LARGEST_FILE) else {
            continue;
        };
        let text = text.trim_start_matches('\u{feff}');
        let package = match ecosystem {
            Ecosystem::PyPi => python(text),
            _ => node(text),
        };
        match package {
            Some(mut package) => {
                package.paths.insert(path);
                found.add(package);
            }
            None => found.note(format!("{path} names no package and version")),
        }
    }
    Ok(())
}

/// What a file describes, by its path.
fn described(path: &str) -> Option<Ecosystem> {
    let mut parts = path.rsplit('/');
    let (file, folder) = (parts.next()?, parts.next().unwrap_or_default());
    let python = match file {
        "METADATA" => folder.ends_with(".dist-info"),
        "PKG-INFO" => folder.ends_with(".egg-info"),
        // Of what distutils has installed: a file, not a folder.
        file => file.ends_with(".egg-info"),
    };
    if python {
        return Some(Ecosystem::PyPi);
    }
    let above = parts.next().unwrap_or_default();
    let is_module =
        above == "node_modules" || (above.starts_with('@') && parts.next() == Some("node_modules"));
    (file == "package.json" && is_module).then_some(Ecosystem::Npm)
}

/// The head of a METADATA file: <https://packaging.python.org/en/latest/specifications/core-metadata/>.
fn python(text: &str) -> Option<Package> {
    let head = text.split("\n\n").next().unwrap_or(text);
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            let value = value.trim();
            (key.eq_ignore_ascii_case(name) && !value.is_empty()).then(|| value.to_owned())
        })
    };
    let mut package = Package::new(Ecosystem::PyPi, field("Name")?, field("Version")?);
    package.licenses = field("License-Expression")
        .or_else(|| field("License"))
        .into_iter()
        .collect();
    Some(package)
}

/// A module's package.json: <https://docs.npmjs.com/cli/configuring-npm/package-json>.
fn node(text: &str) -> Option<Package> {
    let value: Value = serde_json::from_str(text).ok()?;
    let field = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
    let mut package = Package::new(Ecosystem::Npm, field("name")?, field("version")?);
    package.licenses = field("license").into_iter().collect();
    Some(package)
}
