//! `ovenbird image diff`

use std::collections::BTreeMap;
use std::process::ExitCode;

use ovenbird_disk::fs::{self, Change, DiffOptions};
use serde::Serialize;
use serde_json::Value;

use super::manifest_of;
use crate::cli::Session;
use crate::cli::convert::open_disk;
use crate::cli::disk::filesystem;
use crate::error::{Failure, Result};
use crate::output::Manifest;
use crate::store::{ImageInput, ImageRecord, Store};
use crate::words::human_bytes;

/// All differences of two images.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Differences {
    inputs: Vec<Difference>,
    recipe: Vec<Difference>,
    packages: Vec<Difference>,
    size: Vec<Difference>,
    /// Not there if the files were not compared.
    files: Option<Vec<Difference>>,
}

/// What is different; no `old` if it was added, no `new` if it was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Difference {
    what: String,
    old: Option<String>,
    new: Option<String>,
}

/// Compares two finished images. Exit code 1 if they differ, as `diff` does.
///
/// # Errors
/// [`crate::error::FailureKind::Config`] if one of them is not finished or can't be read.
pub fn run(
    store: &Store,
    session: &Session,
    old: &str,
    new: &str,
    with_files: bool,
) -> Result<ExitCode> {
    let (a, b) = (store.find_image(old)?, store.find_image(new)?);
    let (old, new) = (manifest_of(&a)?, manifest_of(&b)?);
    let differences = Differences {
        inputs: between(
            &inputs(&store.inputs_of(&a)?),
            &inputs(&store.inputs_of(&b)?),
        ),
        recipe: between(&flat(&store.recipe_of(&a)?), &flat(&store.recipe_of(&b)?)),
        packages: between(&packages(&old), &packages(&new)),
        size: between(&sizes(&old), &sizes(&new)),
        files: match with_files && old.disk_digest != new.disk_digest {
            true => Some(files((&a, &old), (&b, &new))?),
            // The same disk digest says that every byte is the same.
            false => with_files.then(Vec::new),
        },
    };
    let printer = &session.printer;
    printer.value(&differences);
    printer.line(format!("{} -> {}", a.id(), b.id()));
    let nothing = Vec::new();
    for (title, found) in [
        ("inputs", &differences.inputs),
        ("recipe", &differences.recipe),
        ("packages", &differences.packages),
        ("size", &differences.size),
        ("files", differences.files.as_ref().unwrap_or(&nothing)),
    ] {
        if !found.is_empty() {
            printer.line(format!("{title}:"));
        }
        for difference in found {
            printer.line(format!("  {}", line_of(difference)));
        }
    }
    let same = Differences {
        files: None,
        ..Differences::default()
    };
    let no_files = differences.files.as_ref().is_none_or(Vec::is_empty);
    let differences = Differences {
        files: None,
        ..differences
    };
    if differences == same && no_files {
        printer.line("no differences");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(1))
}

fn line_of(difference: &Difference) -> String {
    let what = &difference.what;
    match (&difference.old, &difference.new) {
        (None, Some(new)) => format!("+ {what} {new}").trim_end().to_owned(),
        (Some(old), None) => format!("- {what} {old}").trim_end().to_owned(),
        (Some(old), Some(new)) if old.is_empty() => format!("~ {what} ({new})"),
        (old, new) => format!(
            "~ {what} {} -> {}",
            old.as_deref().unwrap_or(""),
            new.as_deref().unwrap_or("")
        ),
    }
}

fn between(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<Difference> {
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| Difference {
            what: key.clone(),
            old: old.get(key).cloned(),
            new: new.get(key).cloned(),
        })
        .collect()
}

fn inputs(inputs: &[ImageInput]) -> BTreeMap<String, String> {
    inputs
        .iter()
        .map(|input| {
            let digest: String = input
                .digest
                .as_deref()
                .unwrap_or("")
                .chars()
                .take(12)
                .collect();
            let version = input.version.as_deref().unwrap_or("-");
            (
                format!("{} {}", input.role.as_str(), input.name),
                format!("{version} {digest}"),
            )
        })
        .collect()
}

fn packages(manifest: &Manifest) -> BTreeMap<String, String> {
    manifest
        .packages
        .iter()
        .map(|package| {
            (
                format!("{}:{}", package.name, package.architecture),
                package.version.clone(),
            )
        })
        .collect()
}

fn sizes(manifest: &Manifest) -> BTreeMap<String, String> {
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    for file in &manifest.files {
        *sizes.entry(file.format.to_string()).or_default() += file.size;
    }
    sizes.insert("virtual disk".into(), manifest.virtual_size);
    sizes
        .into_iter()
        .map(|(what, bytes)| (what, format!("{} ({bytes} bytes)", human_bytes(bytes))))
        .collect()
}

/// Every leaf of a value by its path; what differs in every build by itself is left out.
fn flat(value: &Value) -> BTreeMap<String, String> {
    fn walk(value: &Value, path: &str, leaves: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (key, value) in fields {
                    walk(value, &format!("{path}/{key}"), leaves);
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for (index, value) in items.iter().enumerate() {
                    walk(value, &format!("{path}/{index}"), leaves);
                }
            }
            leaf => {
                leaves.insert(path.to_owned(), leaf.to_string());
            }
        }
    }
    let mut leaves = BTreeMap::new();
    walk(value, "", &mut leaves);
    leaves
}

fn files(
    old: (&ImageRecord, &Manifest),
    new: (&ImageRecord, &Manifest),
) -> Result<Vec<Difference>> {
    let open = |(image, manifest): (&ImageRecord, &Manifest)| {
        // Any disk will do: all of an image hold the same.
        let file = manifest
            .files
            .iter()
            .find(|file| file.format.qemu_driver().is_some())
            .ok_or_else(|| {
                Failure::config(format!("{} has no disk that could be read", image.id()))
                    .with_hint("--no-files compares the rest")
            })?;
        let disk = open_disk(&image.folder.join(&file.path), None, &[])?;
        filesystem(&disk, None)
    };
    let (a, b) = (open(old)?, open(new)?);
    let changes = fs::diff(&*a, &*b, DiffOptions::default(), &ovenbird_disk::NoProgress).map_err(
        |error| Failure::config("cannot compare the files of the disks").caused_by(error),
    )?;
    Ok(changes
        .into_iter()
        .map(|(path, change)| {
            let (old, new) = match change {
                Change::Added => (None, Some(String::new())),
                Change::Removed => (Some(String::new()), None),
                Change::Changed(parts) => (Some(String::new()), Some(parts.join(", "))),
            };
            Difference {
                what: format!("/{}", String::from_utf8_lossy(&path)),
                old,
                new,
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn recipes_are_compared_leaf_by_leaf() {
        let old =
            json!({ "name": "web", "components": [{ "componentArn": "a/1.0.0" }], "gone": 1 });
        let new =
            json!({ "name": "web", "components": [{ "componentArn": "a/1.1.0" }], "come": true });
        let lines: Vec<String> = between(&flat(&old), &flat(&new))
            .iter()
            .map(line_of)
            .collect();
        assert_eq!(
            lines,
            [
                "+ /come true",
                "~ /components/0/componentArn \"a/1.0.0\" -> \"a/1.1.0\"",
                "- /gone 1",
            ]
        );
        assert_eq!(between(&flat(&old), &flat(&old)), []);
    }
}
