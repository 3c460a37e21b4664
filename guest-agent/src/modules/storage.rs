//! S3Download and S3Upload: an object store over HTTP, or a folder behind `file://`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ovenbird_component::value::split_object_address;
use serde::Deserialize;

use super::bucket::{MOST_OBJECTS, Store};
use super::files::{copy_file, temporary_beside};
use super::{Context, Failure, paths};
use crate::config::ObjectStore;

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Download {
    source: String,
    destination: String,
    expected_bucket_owner: Option<String>,
    #[serde(default = "yes")]
    overwrite: bool,
}

/// Where an address points to.
enum Address<'a> {
    Object { bucket: &'a str, key: &'a str },
    Local(&'a str),
}

fn address(text: &str) -> Result<Address<'_>, Failure> {
    if let Some(path) = text.strip_prefix("file://") {
        return Ok(Address::Local(path));
    }
    split_object_address(text)
        .map(|(bucket, key)| Address::Object { bucket, key })
        .ok_or_else(|| Failure::new(format!("`{text}` is not an object's address")))
}

/// Downloads one object, or everything below a prefix that ends with `/*`.
pub fn download(context: &Context<'_>, inputs: Download) -> Result<(), Failure> {
    match address(&inputs.source)? {
        Address::Local(path) => download_local(context, path, &inputs),
        Address::Object { bucket, key } => {
            let store = Store::new(
                context.object_store,
                context.deadline,
                bucket,
                inputs.expected_bucket_owner.as_deref(),
            )?;
            match key.strip_suffix('*') {
                Some(prefix) => {
                    let keys = store.list(prefix)?;
                    if keys.is_empty() {
                        return Err(Failure::new(format!(
                            "there are no objects at {}",
                            inputs.source
                        )));
                    }
                    let folder = paths::resolve(context, &inputs.destination);
                    // The folder part of the prefix is not repeated at the destination.
                    let base = prefix.rfind('/').map_or("", |at| &prefix[..=at]);
                    for key in keys.iter().filter(|key| !key.ends_with('/')) {
                        context.check_time()?;
                        let target =
                            folder.join(inner_path(key.strip_prefix(base).unwrap_or(key))?);
                        fetch_to(context, &store, key, &target, inputs.overwrite)?;
                    }
                    Ok(())
                }
                None if key.is_empty() || key.ends_with('/') => Err(Failure::new(format!(
                    "{} names no object; end it with `*` to take all objects below it",
                    inputs.source
                ))),
                None => {
                    let name = key.rsplit('/').next().map(std::ffi::OsStr::new);
                    let target = paths::target(context, &inputs.destination, name)?;
                    fetch_to(context, &store, key, &target, inputs.overwrite)
                }
            }
        }
    }
}

/// A key as a path below the destination; one with `..` would leave it.
fn inner_path(key: &str) -> Result<PathBuf, Failure> {
    let path = Path::new(key.trim_start_matches('/'));
    let clean = path
        .components()
        .all(|component| matches!(component, std::path::Component::Normal(_)));
    if clean {
        Ok(path.to_owned())
    } else {
        Err(Failure::new(format!(
            "the object `{key}` would be written outside the destination"
        )))
    }
}

fn refuse_existing(target: &Path, overwrite: bool) -> Result<(), Failure> {
    if target.is_dir() {
        return Err(Failure::new(format!(
            "cannot write {}: it is a folder",
            target.display()
        )));
    }
    if !overwrite && fs::symlink_metadata(target).is_ok() {
        return Err(Failure::new(format!(
            "cannot write {}: it exists and overwrite is false",
            target.display()
        )));
    }
    Ok(())
}

fn fetch_to(
    context: &Context<'_>,
    store: &Store<'_>,
    key: &str,
    target: &Path,
    overwrite: bool,
) -> Result<(), Failure> {
    refuse_existing(target, overwrite)?;
    paths::make_parents(target)?;
    let temporary = temporary_beside(target);
    let fail = |error: io::Error| Failure::io("write", target, &error);
    let result = (|| {
        let mut file = File::create(&temporary).map_err(fail)?;
        store.get(key, &mut |bytes| {
            context.check_time()?;
            file.write_all(bytes).map_err(fail)
        })?;
        fs::rename(&temporary, target).map_err(fail)
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    } else {
        context.report.console(&format!(
            "S3Download: s3://{}/{key} -> {}",
            store.bucket,
            target.display()
        ));
    }
    result
}

fn download_local(context: &Context<'_>, path: &str, inputs: &Download) -> Result<(), Failure> {
    if let Some(prefix) = path.strip_suffix('*') {
        let base = prefix.rfind('/').map_or("", |at| &prefix[..=at]);
        let start = &prefix[base.len()..];
        let folder = paths::resolve(context, &inputs.destination);
        let mut found = Vec::new();
        collect_files(Path::new(base), &mut found)?;
        let wanted: Vec<_> = found
            .iter()
            .filter_map(|file| file.strip_prefix(base).ok().map(|inner| (file, inner)))
            .filter(|(_, inner)| inner.to_string_lossy().starts_with(start))
            .collect();
        if wanted.is_empty() {
            return Err(Failure::new(format!(
                "there are no files at {}",
                inputs.source
            )));
        }
        if wanted.len() > MOST_OBJECTS {
            return Err(Failure::new(format!(
                "there are more than {MOST_OBJECTS} files at {}",
                inputs.source
            )));
        }
        for (file, inner) in wanted {
            context.check_time()?;
            let target = folder.join(inner);
            refuse_existing(&target, inputs.overwrite)?;
            paths::make_parents(&target)?;
            copy_file(context, file, &target)?;
        }
        return Ok(());
    }
    let source = Path::new(path);
    let target = paths::target(context, &inputs.destination, source.file_name())?;
    refuse_existing(&target, inputs.overwrite)?;
    paths::make_parents(&target)?;
    copy_file(context, source, &target)
}

fn collect_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let fail = |error| Failure::io("list", folder, &error);
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if entry.file_type().map_err(fail)?.is_dir() {
            collect_files(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    source: String,
    destination: String,
    #[serde(default)]
    recurse: bool,
    expected_bucket_owner: Option<String>,
}

/// Uploads a file, the files that a wildcard matches, or a folder's files; with `recurse` everything below as well.
pub fn upload(context: &Context<'_>, inputs: Upload) -> Result<(), Failure> {
    let pairs = upload_pairs(context, &inputs)?;
    if pairs.is_empty() {
        return Err(Failure::new(format!(
            "there is nothing to upload at {}",
            inputs.source
        )));
    }
    for (source, to) in pairs {
        context.check_time()?;
        match address(&to)? {
            Address::Local(path) => {
                let target = Path::new(path);
                paths::make_parents(target)?;
                copy_file(context, &source, target)?;
            }
            Address::Object { bucket, key } => {
                let store = Store::new(
                    context.object_store,
                    context.deadline,
                    bucket,
                    inputs.expected_bucket_owner.as_deref(),
                )?;
                store.put(key, &source)?;
            }
        }
        context
            .report
            .console(&format!("S3Upload: {} -> {to}", source.display()));
    }
    Ok(())
}

/// The files to upload and the address of each.
fn upload_pairs(context: &Context<'_>, inputs: &Upload) -> Result<Vec<(PathBuf, String)>, Failure> {
    let base_of = |source: &Path| {
        source
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let under = |name: &str| format!("{}/{name}", inputs.destination.trim_end_matches('/'));
    let trimmed = inputs.source.trim_end_matches('/');
    let mut pairs = Vec::new();
    let mut add_folder = |folder: &Path, prefix: &str, deep: bool| -> Result<(), Failure> {
        let mut files = Vec::new();
        if deep {
            collect_files(folder, &mut files)?;
        } else {
            let pattern = paths::expand(
                context,
                &format!("{}/", folder.display()),
                "*",
                Path::is_file,
            )?;
            files.extend(pattern);
        }
        for file in files {
            let inner = file
                .strip_prefix(folder)
                .unwrap_or(&file)
                .to_string_lossy()
                .into_owned();
            pairs.push((file.clone(), under(&format!("{prefix}{inner}"))));
        }
        Ok(())
    };
    if let Some((folder, pattern)) = paths::wildcard(trimmed) {
        let files = paths::expand(context, folder, pattern, Path::is_file)?;
        if inputs.recurse {
            for inner in paths::expand(context, folder, pattern, Path::is_dir)? {
                let prefix = format!("{}/", base_of(&inner));
                add_folder(&inner, &prefix, true)?;
            }
        }
        pairs.extend(files.into_iter().map(|file| {
            let to = under(&base_of(&file));
            (file, to)
        }));
        return Ok(pairs);
    }
    let source = paths::resolve(context, trimmed);
    let metadata = fs::metadata(&source).map_err(|error| Failure::io("read", &source, &error))?;
    if metadata.is_dir() {
        add_folder(&source, "", inputs.recurse)?;
        return Ok(pairs);
    }
    let to = if inputs.destination.ends_with('/') {
        under(&base_of(&source))
    } else {
        inputs.destination.clone()
    };
    Ok(vec![(source, to)])
}

/// Reads a whole object, for documents that are given as addresses.
///
/// # Errors
///
/// A message with the address and the reason.
pub fn fetch_object(
    store: &ObjectStore,
    bucket: &str,
    key: &str,
    owner: Option<&str>,
    largest: usize,
) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let fetched = Store::new(store, None, bucket, owner).and_then(|found| {
        found.get(key, &mut |part| {
            bytes.extend_from_slice(part);
            if bytes.len() > largest {
                Err(Failure::new(format!("it is larger than {largest} bytes")))
            } else {
                Ok(())
            }
        })
    });
    match fetched {
        Ok(()) => Ok(bytes),
        Err(Failure::Failed { message, .. }) => Err(message),
        Err(other) => Err(format!("{other:?}")),
    }
}

/// Uploads the files of a folder below a key.
///
/// # Errors
///
/// A message with the first file that could not be uploaded.
pub fn upload_folder(
    store: &ObjectStore,
    bucket: &str,
    key: &str,
    owner: Option<&str>,
    folder: &Path,
) -> Result<(), String> {
    let upload = || -> Result<(), Failure> {
        let store = Store::new(store, None, bucket, owner)?;
        let mut files = Vec::new();
        collect_files(folder, &mut files)?;
        for file in files {
            let inner = file
                .strip_prefix(folder)
                .unwrap_or(&file)
                .to_string_lossy()
                .into_owned();
            store.put(&format!("{key}/{inner}"), &file)?;
        }
        Ok(())
    };
    upload().map_err(|failure| match failure {
        Failure::Failed { message, .. } => message,
        other => format!("{other:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_leave_the_destination() {
        for key in ["../etc/passwd", "a/../../b"] {
            match inner_path(key).expect_err(key) {
                Failure::Failed { message, .. } => {
                    assert!(message.contains("would be written outside"), "{message}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(inner_path("/a/b").expect("fine"), Path::new("a/b"));
    }
}
