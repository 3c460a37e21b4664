//! SetFileOwner, SetFolderOwner, SetFilePermissions, SetFolderPermissions, and owners of new files.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::{Context, Failure, paths};
use crate::accounts::Accounts;
use crate::platform;

/// Numbers of an owner and a group; `None` leaves them alone.
pub type OwnerNumbers = (Option<u32>, Option<u32>);

/// The owner of a new file: each part stays the current user's when it is not given.
pub fn new_owner(owner: Option<&str>, group: Option<&str>) -> Result<OwnerNumbers, Failure> {
    if owner.is_none() && group.is_none() {
        return Ok((None, None));
    }
    if !platform::HAS_MODES {
        return Err(Failure::new("`owner` and `group` do not work on Windows"));
    }
    let accounts = Accounts::read(Path::new("/etc"));
    let uid = owner
        .map(|name| {
            accounts
                .user(name)
                .map(|user| user.uid)
                .ok_or_else(|| Failure::new(format!("there is no user `{name}`")))
        })
        .transpose()?;
    let gid = group
        .map(|name| {
            accounts
                .group(name)
                .ok_or_else(|| Failure::new(format!("there is no group `{name}`")))
        })
        .transpose()?;
    Ok((uid, gid))
}

/// The mode of a new file or folder, if one is asked for.
pub fn new_mode(permissions: Option<&str>) -> Result<Option<u32>, Failure> {
    if permissions.is_some() && !platform::HAS_MODES {
        return Err(Failure::new("`permissions` do not work on Windows"));
    }
    permissions.map(paths::mode).transpose()
}

/// Changes the owner of a path; a link is followed.
pub fn change_owner(path: &Path, (uid, gid): OwnerNumbers) -> Result<(), Failure> {
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    platform::change_owner(path, uid, gid)
        .map_err(|error| Failure::io("change the owner of", path, &error))
}

#[derive(Deserialize)]
pub struct Owner {
    path: String,
    owner: String,
    group: Option<String>,
    recursive: Option<bool>,
}

/// The numbers of a set-owner module: without a group, the owner's primary group.
fn numbers(inputs: &Owner) -> Result<OwnerNumbers, Failure> {
    let accounts = Accounts::read(Path::new("/etc"));
    let user = accounts
        .user(&inputs.owner)
        .ok_or_else(|| Failure::new(format!("there is no user `{}`", inputs.owner)))?;
    let gid = match &inputs.group {
        Some(name) => accounts
            .group(name)
            .ok_or_else(|| Failure::new(format!("there is no group `{name}`")))?,
        None => user.gid,
    };
    Ok((Some(user.uid), Some(gid)))
}

/// Fails unless the path is a file.
fn want_file(path: &Path) -> Result<(), Failure> {
    let metadata = fs::metadata(path).map_err(|error| Failure::io("read", path, &error))?;
    if metadata.is_dir() {
        return Err(Failure::new(format!(
            "{} is a folder, not a file",
            path.display()
        )));
    }
    Ok(())
}

/// Fails unless the path is a folder.
fn want_folder(path: &Path) -> Result<(), Failure> {
    let metadata = fs::metadata(path).map_err(|error| Failure::io("read", path, &error))?;
    if !metadata.is_dir() {
        return Err(Failure::new(format!(
            "{} is a file, not a folder",
            path.display()
        )));
    }
    Ok(())
}

/// Changes the owner of a file.
pub fn file_owner(context: &Context<'_>, inputs: Owner) -> Result<(), Failure> {
    let path = paths::resolve(context, &inputs.path);
    want_file(&path)?;
    change_owner(&path, numbers(&inputs)?)
}

/// Changes the owner of a folder, by default with everything inside.
pub fn folder_owner(context: &Context<'_>, inputs: Owner) -> Result<(), Failure> {
    let path = paths::resolve(context, &inputs.path);
    want_folder(&path)?;
    let (uid, gid) = numbers(&inputs)?;
    change_owner(&path, (uid, gid))?;
    if inputs.recursive.unwrap_or(true) {
        walk(context, &path, &mut |inner| {
            // Links inside a tree are changed themselves: following one would leave the tree.
            platform::change_owner_of_link(inner, uid, gid)
                .map_err(|error| Failure::io("change the owner of", inner, &error))
        })?;
    }
    Ok(())
}

#[derive(Deserialize)]
pub struct Permissions {
    path: String,
    permissions: String,
    recursive: Option<bool>,
}

fn change_mode(path: &Path, mode: u32) -> Result<(), Failure> {
    platform::set_mode(path, mode).map_err(|error| Failure::io("change the mode of", path, &error))
}

/// Changes the mode of a file.
pub fn file_permissions(context: &Context<'_>, inputs: Permissions) -> Result<(), Failure> {
    let path = paths::resolve(context, &inputs.path);
    want_file(&path)?;
    change_mode(&path, paths::mode(&inputs.permissions)?)
}

/// Changes the mode of a folder, by default with everything inside.
pub fn folder_permissions(context: &Context<'_>, inputs: Permissions) -> Result<(), Failure> {
    let path = paths::resolve(context, &inputs.path);
    want_folder(&path)?;
    let mode = paths::mode(&inputs.permissions)?;
    if inputs.recursive.unwrap_or(true) {
        walk(context, &path, &mut |inner| {
            let link =
                fs::symlink_metadata(inner).is_ok_and(|metadata| metadata.file_type().is_symlink());
            if link {
                Ok(())
            } else {
                change_mode(inner, mode)
            }
        })?;
    }
    // Last, because a mode without the execute bit would close the folder to the walk.
    change_mode(&path, mode)
}

/// Calls `visit` for everything below a folder, contents before the folder that holds them.
fn walk(
    context: &Context<'_>,
    folder: &Path,
    visit: &mut dyn FnMut(&Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    context.check_time()?;
    let fail = |error| Failure::io("list", folder, &error);
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if entry.file_type().map_err(fail)?.is_dir() {
            walk(context, &entry.path(), visit)?;
        }
        visit(&entry.path())?;
    }
    Ok(())
}
