//! AppendFile, CopyFile, CreateFile, CreateSymlink, DeleteFile, ListFiles, MoveFile.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf, is_separator};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::encoding::Encoding;
use super::ownership::{change_owner, new_mode, new_owner};
use super::{Context, Failure, output, paths};
use crate::platform::{copy_mode, create_with_mode, set_mode, symlink as make_link};

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
pub struct Append {
    path: String,
    #[serde(default)]
    content: String,
    encoding: Option<String>,
}

/// Adds text to a file that exists.
pub fn append(context: &Context<'_>, inputs: Append) -> Result<(), Failure> {
    let path = paths::resolve(context, &inputs.path);
    if path.is_dir() {
        return Err(Failure::new(format!(
            "cannot append to {}: it is a folder",
            path.display()
        )));
    }
    let bytes = Encoding::from_input(inputs.encoding.as_deref())?.encode(&inputs.content);
    let mut file = OpenOptions::new()
        .append(true)
        .open(&path)
        .map_err(|error| Failure::io("append to", &path, &error))?;
    file.write_all(&bytes)
        .map_err(|error| Failure::io("append to", &path, &error))
}

#[derive(Deserialize)]
pub struct Create {
    path: String,
    #[serde(default)]
    content: String,
    encoding: Option<String>,
    owner: Option<String>,
    group: Option<String>,
    permissions: Option<String>,
    #[serde(default = "yes")]
    overwrite: bool,
}

/// Creates or replaces a file. The umask limits the default mode only; a mode that is asked for is set as it is.
pub fn create(context: &Context<'_>, inputs: Create) -> Result<(), Failure> {
    if paths::names_folder(&inputs.path) {
        return Err(Failure::new(format!(
            "cannot create the file {}: the path names a folder",
            inputs.path
        )));
    }
    let path = paths::resolve(context, &inputs.path);
    let bytes = Encoding::from_input(inputs.encoding.as_deref())?.encode(&inputs.content);
    if !inputs.overwrite && fs::symlink_metadata(&path).is_ok() {
        // What a killed process has made: as much of the content as it came to.
        let ours = context.repeated && fs::read(&path).is_ok_and(|found| bytes.starts_with(&found));
        if !ours {
            return Err(Failure::new(format!(
                "cannot create {}: it exists and overwrite is false",
                path.display()
            )));
        }
    }
    let owner = new_owner(inputs.owner.as_deref(), inputs.group.as_deref())?;
    let mode = new_mode(inputs.permissions.as_deref())?;
    paths::make_parents(&path)?;
    let fail = |error: io::Error| Failure::io("create", &path, &error);
    let mut file = create_with_mode(&mut OpenOptions::new(), 0o666)
        .create(true)
        .write(true)
        .truncate(true)
        .open(&path)
        .map_err(fail)?;
    file.write_all(&bytes).map_err(fail)?;
    change_owner(&path, owner)?;
    // After the owner: changing it clears the set-user bits.
    if let Some(mode) = mode {
        set_mode(&path, mode).map_err(fail)?;
    }
    Ok(())
}

#[derive(Deserialize)]
pub struct Symlink {
    path: String,
    target: String,
    #[serde(default)]
    force: bool,
}

/// Creates a symbolic link to something that exists.
pub fn symlink(context: &Context<'_>, inputs: Symlink) -> Result<(), Failure> {
    let path = paths::resolve(context, &inputs.path);
    let seen = path.parent().unwrap_or(Path::new("/")).join(&inputs.target);
    if fs::metadata(&seen).is_err() {
        return Err(Failure::new(format!(
            "cannot link to {}: it does not exist",
            inputs.target
        )));
    }
    paths::make_parents(&path)?;
    let fail = |error: io::Error| Failure::io("create the link", &path, &error);
    match fs::symlink_metadata(&path) {
        Ok(found) if inputs.force && found.file_type().is_symlink() => {
            // Renamed into place, so that there is a link at every moment.
            let temporary = temporary_beside(&path);
            make_link(&inputs.target, &temporary).map_err(fail)?;
            fs::rename(&temporary, &path).map_err(fail)
        }
        Ok(found) if inputs.force && !found.is_dir() => {
            fs::remove_file(&path).map_err(fail)?;
            make_link(&inputs.target, &path).map_err(fail)
        }
        Ok(_) if context.repeated && is_link_to(&path, &inputs.target) => Ok(()),
        _ => make_link(&inputs.target, &path).map_err(fail),
    }
}

fn is_link_to(path: &Path, target: &str) -> bool {
    fs::read_link(path).is_ok_and(|found| found == Path::new(target))
}

#[derive(Deserialize)]
pub struct Delete {
    path: String,
}

/// Deletes a file, or all files that a wildcard matches. No match of a wildcard is no failure, a missing file is one.
pub fn delete(context: &Context<'_>, inputs: Delete) -> Result<(), Failure> {
    let found = match paths::wildcard(&inputs.path) {
        Some((folder, pattern)) => {
            if !paths::resolve(context, folder).is_dir() {
                return Ok(());
            }
            paths::expand(context, folder, pattern, is_file_or_link)?
        }
        None => vec![paths::resolve(context, &inputs.path)],
    };
    for path in found {
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if context.repeated && error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Failure::io("delete", &path, &error)),
        };
        if metadata.is_dir() {
            return Err(Failure::new(format!(
                "cannot delete {}: it is a folder",
                path.display()
            )));
        }
        fs::remove_file(&path).map_err(|error| Failure::io("delete", &path, &error))?;
    }
    Ok(())
}

fn is_file_or_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_dir())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List {
    path: String,
    file_name_pattern: Option<String>,
    #[serde(default)]
    recursive: bool,
}

/// Lists files, sorted, as full paths joined by commas.
pub fn list(context: &Context<'_>, inputs: List) -> Result<Map<String, Value>, Failure> {
    let folder = paths::resolve(context, inputs.path.trim_end_matches(is_separator));
    let folder = if inputs.path.trim_end_matches(is_separator).is_empty() {
        PathBuf::from("/")
    } else {
        folder
    };
    if !folder.is_dir() {
        return Err(Failure::new(format!(
            "cannot list {}: it is not a folder",
            folder.display()
        )));
    }
    let pattern = inputs.file_name_pattern.as_deref().unwrap_or("*");
    let mut found = Vec::new();
    let mut waiting = vec![folder];
    while let Some(folder) = waiting.pop() {
        context.check_time()?;
        let fail = |error: io::Error| Failure::io("list", &folder, &error);
        for entry in fs::read_dir(&folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let kind = entry.file_type().map_err(fail)?;
            if kind.is_dir() {
                if inputs.recursive {
                    waiting.push(entry.path());
                }
            } else if paths::matches(pattern, &entry.file_name().to_string_lossy())
                && !entry.path().is_dir()
            {
                found.push(entry.path().to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    Ok(output("files", found.join(",")))
}

/// Inputs of the modules that copy or move.
#[derive(Deserialize)]
pub struct Transfer {
    pub(super) source: String,
    pub(super) destination: String,
    #[serde(default = "yes")]
    pub(super) overwrite: bool,
}

/// Copies a file, or all files that a wildcard matches.
pub fn copy(context: &Context<'_>, inputs: Transfer) -> Result<(), Failure> {
    for (source, target) in file_pairs(context, &inputs)? {
        context.check_time()?;
        copy_file(context, &source, &target)?;
    }
    Ok(())
}

/// Moves a file, or all files that a wildcard matches.
pub fn rename(context: &Context<'_>, inputs: Transfer) -> Result<(), Failure> {
    for (source, target) in file_pairs(context, &inputs)? {
        context.check_time()?;
        match fs::rename(&source, &target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                copy_file(context, &source, &target)?;
                fs::remove_file(&source).map_err(|error| Failure::io("remove", &source, &error))?;
            }
            Err(error) => return Err(Failure::io("move", &source, &error)),
        }
    }
    Ok(())
}

/// The files to transfer and where each goes; parents of the targets exist afterwards.
fn file_pairs(
    context: &Context<'_>,
    inputs: &Transfer,
) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    let sources = match paths::wildcard(&inputs.source) {
        Some((folder, pattern)) => {
            if !paths::names_folder(&inputs.destination) {
                return Err(Failure::new(
                    "the destination has to end with a separator when the source has a wildcard",
                ));
            }
            paths::expand(context, folder, pattern, Path::is_file)?
        }
        None => {
            let source = paths::resolve(context, &inputs.source);
            let metadata = match fs::metadata(&source) {
                Ok(metadata) => metadata,
                Err(_) if was_moved(context, &source, &inputs.destination)? => {
                    return Ok(Vec::new());
                }
                Err(error) => return Err(Failure::io("read", &source, &error)),
            };
            if metadata.is_dir() {
                return Err(Failure::new(format!(
                    "{} is a folder, not a file",
                    source.display()
                )));
            }
            vec![source]
        }
    };
    let mut pairs = Vec::new();
    for source in sources {
        let target = paths::target(context, &inputs.destination, source.file_name())?;
        if target.is_dir() {
            return Err(Failure::new(format!(
                "cannot write {}: it is a folder; end the destination with a separator to put the file into it",
                target.display()
            )));
        }
        if !inputs.overwrite
            && fs::symlink_metadata(&target).is_ok()
            && !(context.repeated && same_content(&source, &target))
        {
            return Err(Failure::new(format!(
                "cannot write {}: it exists and overwrite is false",
                target.display()
            )));
        }
        if let (Ok(a), Ok(b)) = (fs::canonicalize(&source), fs::canonicalize(&target))
            && a == b
        {
            return Err(Failure::new(format!(
                "source and destination are the same file: {}",
                a.display()
            )));
        }
        paths::make_parents(&target)?;
        pairs.push((source, target));
    }
    Ok(pairs)
}

/// Whether a killed process has moved `source` already.
pub(super) fn was_moved(
    context: &Context<'_>,
    source: &Path,
    destination: &str,
) -> Result<bool, Failure> {
    if !context.repeated || fs::symlink_metadata(source).is_ok() {
        return Ok(false);
    }
    let target = paths::target(context, destination, source.file_name())?;
    Ok(fs::symlink_metadata(target).is_ok())
}

fn same_content(a: &Path, b: &Path) -> bool {
    let (Ok(mut a), Ok(mut b)) = (File::open(a), File::open(b)) else {
        return false;
    };
    let length = |file: &File| file.metadata().map(|metadata| metadata.len()).ok();
    if length(&a) != length(&b) {
        return false;
    }
    let (mut left, mut right) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        match a.read(&mut left) {
            Ok(0) => return true,
            Ok(count) if b.read_exact(&mut right[..count]).is_ok() => {
                if left[..count] != right[..count] {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// Copies content and mode. The target appears under its name only when it is complete.
pub(super) fn copy_file(
    context: &Context<'_>,
    source: &Path,
    target: &Path,
) -> Result<(), Failure> {
    let fail = |error: io::Error| Failure::io("copy to", target, &error);
    let mut input = File::open(source).map_err(|error| Failure::io("read", source, &error))?;
    let metadata = input
        .metadata()
        .map_err(|error| Failure::io("read", source, &error))?;
    let temporary = temporary_beside(target);
    let result = (|| {
        let mut out = create_with_mode(&mut OpenOptions::new(), 0o600)
            .create(true)
            .write(true)
            .truncate(true)
            .open(&temporary)
            .map_err(fail)?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            context.check_time()?;
            let count = input
                .read(&mut buffer)
                .map_err(|error| Failure::io("read", source, &error))?;
            if count == 0 {
                break;
            }
            out.write_all(&buffer[..count]).map_err(fail)?;
        }
        drop(out);
        copy_mode(&metadata, &temporary).map_err(fail)?;
        fs::rename(&temporary, target).map_err(fail)
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// A name in the same folder that no other file is likely to have. Always the same: what a killed process left under it
/// is overwritten when the step is repeated, not left behind.
pub(super) fn temporary_beside(path: &Path) -> PathBuf {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    path.with_file_name(format!(".{name}.ovenbird-part"))
}
