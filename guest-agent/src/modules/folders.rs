//! CopyFolder, CreateFolder, DeleteFolder, MoveFolder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf, is_separator};

use serde::Deserialize;

use super::files::{Transfer, copy_file, was_moved};
use super::ownership::{change_owner, new_mode, new_owner};
use super::{Context, Failure, paths};
use crate::platform::{copy_mode, copy_owner, create_folder, set_mode, symlink};

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
pub struct Create {
    path: String,
    owner: Option<String>,
    group: Option<String>,
    permissions: Option<String>,
    #[serde(default = "yes")]
    overwrite: bool,
}

/// Creates a folder. As the language has it, an existing one is emptied unless `overwrite` is false.
pub fn create(context: &Context<'_>, inputs: Create) -> Result<(), Failure> {
    let path = paths::resolve(context, &inputs.path);
    let fail = |error: io::Error| Failure::io("create the folder", &path, &error);
    let owner = new_owner(inputs.owner.as_deref(), inputs.group.as_deref())?;
    let mode = new_mode(inputs.permissions.as_deref())?;
    match fs::symlink_metadata(&path) {
        // Made by a killed process: it was not there before, or that one would have failed.
        Ok(found) if !inputs.overwrite && context.repeated && found.is_dir() => {}
        Ok(_) if !inputs.overwrite => {
            return Err(Failure::new(format!(
                "cannot create {}: it exists and overwrite is false",
                path.display()
            )));
        }
        Ok(found) if found.is_dir() => {
            refuse_system_folder(&path)?;
            context.report.console(&format!(
                "CreateFolder: emptying {}, which exists",
                path.display()
            ));
            empty(context, &path)?;
        }
        Ok(_) => {
            return Err(Failure::new(format!(
                "cannot create the folder {}: a file has that name",
                path.display()
            )));
        }
        Err(_) => {
            paths::make_parents(&path)?;
            create_folder(&path, 0o777).map_err(fail)?;
        }
    }
    change_owner(&path, owner)?;
    if let Some(mode) = mode {
        set_mode(&path, mode).map_err(fail)?;
    }
    Ok(())
}

/// A mistyped path must not empty the machine: top-level folders are never emptied or deleted.
fn refuse_system_folder(path: &Path) -> Result<(), Failure> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let keep = [
        "/",
        "/home",
        "/usr/bin",
        "/usr/lib",
        "/usr/sbin",
        "/var/lib",
    ];
    let top_level = real.parent() == Some(Path::new("/"))
        && [
            "bin", "boot", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sbin", "sys",
            "usr", "var",
        ]
        .iter()
        .any(|name| real.ends_with(name));
    if top_level || keep.iter().any(|kept| real == Path::new(kept)) {
        return Err(Failure::new(format!(
            "{} belongs to the operating system and is not emptied or deleted",
            real.display()
        )));
    }
    Ok(())
}

fn empty(context: &Context<'_>, folder: &Path) -> Result<(), Failure> {
    let fail = |error: io::Error| Failure::io("empty", folder, &error);
    for entry in fs::read_dir(folder).map_err(fail)? {
        context.check_time()?;
        let entry = entry.map_err(fail)?;
        let removed = if entry.file_type().map_err(fail)?.is_dir() {
            fs::remove_dir_all(entry.path())
        } else {
            fs::remove_file(entry.path())
        };
        removed.map_err(fail)?;
    }
    Ok(())
}

#[derive(Deserialize)]
pub struct Delete {
    path: String,
    #[serde(default)]
    force: bool,
}

/// Deletes a folder; one that is not empty only by force.
pub fn delete(context: &Context<'_>, inputs: Delete) -> Result<(), Failure> {
    let path = paths::resolve(context, inputs.path.trim_end_matches(is_separator));
    let fail = |error: io::Error| Failure::io("delete the folder", &path, &error);
    let metadata = match fs::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if context.repeated && error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail(error)),
    };
    if !metadata.is_dir() {
        return Err(Failure::new(format!(
            "cannot delete the folder {}: it is not a folder",
            path.display()
        )));
    }
    if !inputs.force {
        return fs::remove_dir(&path).map_err(fail);
    }
    refuse_system_folder(&path)?;
    fs::remove_dir_all(&path).map_err(fail)
}

/// Copies folders with everything inside.
pub fn copy(context: &Context<'_>, inputs: Transfer) -> Result<(), Failure> {
    for (source, target) in folder_pairs(context, &inputs)? {
        copy_tree(context, &source, &target)?;
    }
    Ok(())
}

/// Moves folders with everything inside.
pub fn rename(context: &Context<'_>, inputs: Transfer) -> Result<(), Failure> {
    for (source, target) in folder_pairs(context, &inputs)? {
        context.check_time()?;
        if !target.exists() {
            match fs::rename(&source, &target) {
                Ok(()) => continue,
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
                Err(error) => return Err(Failure::io("move", &source, &error)),
            }
        }
        copy_tree(context, &source, &target)?;
        fs::remove_dir_all(&source).map_err(|error| Failure::io("remove", &source, &error))?;
    }
    Ok(())
}

/// The folders to transfer and where each goes; parents of the targets exist afterwards.
fn folder_pairs(
    context: &Context<'_>,
    inputs: &Transfer,
) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    let trimmed = inputs.source.trim_end_matches(is_separator);
    let sources = match paths::wildcard(trimmed) {
        Some((folder, pattern)) => {
            if !paths::names_folder(&inputs.destination) {
                return Err(Failure::new(
                    "the destination has to end with a separator when the source has a wildcard",
                ));
            }
            paths::expand(context, folder, pattern, Path::is_dir)?
        }
        None => {
            let source = paths::resolve(context, trimmed);
            let metadata = match fs::metadata(&source) {
                Ok(metadata) => metadata,
                Err(_) if was_moved(context, &source, &inputs.destination)? => {
                    return Ok(Vec::new());
                }
                Err(error) => return Err(Failure::io("read", &source, &error)),
            };
            if !metadata.is_dir() {
                return Err(Failure::new(format!(
                    "{} is a file, not a folder",
                    source.display()
                )));
            }
            vec![source]
        }
    };
    let mut pairs = Vec::new();
    for source in sources {
        let target = paths::target(context, &inputs.destination, source.file_name())?;
        if fs::symlink_metadata(&target).is_ok() {
            // A killed process may have copied a part of it.
            if !inputs.overwrite && !context.repeated {
                return Err(Failure::new(format!(
                    "cannot write {}: it exists and overwrite is false",
                    target.display()
                )));
            }
            if !target.is_dir() {
                return Err(Failure::new(format!(
                    "cannot write the folder {}: a file has that name",
                    target.display()
                )));
            }
        }
        paths::make_parents(&target)?;
        let real =
            fs::canonicalize(&source).map_err(|error| Failure::io("read", &source, &error))?;
        let parent = target
            .parent()
            .and_then(|parent| fs::canonicalize(parent).ok());
        if let (Some(parent), Some(name)) = (parent, target.file_name())
            && parent.join(name).starts_with(&real)
        {
            return Err(Failure::new(format!(
                "cannot put {} into itself",
                source.display()
            )));
        }
        pairs.push((source, target));
    }
    Ok(pairs)
}

/// Copies a tree: modes, owners (when allowed) and links as links.
fn copy_tree(context: &Context<'_>, source: &Path, target: &Path) -> Result<(), Failure> {
    context.check_time()?;
    let fail = |error: io::Error| Failure::io("copy", source, &error);
    let metadata = fs::metadata(source).map_err(fail)?;
    if !target.is_dir() {
        create_folder(target, 0o700)
            .map_err(|error| Failure::io("create the folder", target, &error))?;
    }
    for entry in fs::read_dir(source).map_err(fail)? {
        context.check_time()?;
        let entry = entry.map_err(fail)?;
        let kind = entry.file_type().map_err(fail)?;
        let inner = target.join(entry.file_name());
        if kind.is_dir() {
            copy_tree(context, &entry.path(), &inner)?;
        } else if kind.is_symlink() {
            let link = fs::read_link(entry.path()).map_err(fail)?;
            let _ = fs::remove_file(&inner);
            symlink(&link, &inner)
                .map_err(|error| Failure::io("create the link", &inner, &error))?;
        } else if kind.is_file() {
            copy_file(context, &entry.path(), &inner)?;
            keep_owner(&entry.path(), &inner);
        } else {
            context.report.warn(&format!(
                "{} is neither a file nor a folder and is left out",
                entry.path().display()
            ));
        }
    }
    copy_mode(&metadata, target).map_err(fail)?;
    keep_owner(source, target);
    Ok(())
}

/// Without root the copy belongs to whoever copies, which is what `cp -a` does as well.
fn keep_owner(source: &Path, target: &Path) {
    if let Ok(metadata) = fs::symlink_metadata(source) {
        let mode = fs::metadata(target).map(|target| target.permissions());
        if copy_owner(&metadata, target).is_ok()
            && let Ok(mode) = mode
        {
            let _ = fs::set_permissions(target, mode);
        }
    }
}
