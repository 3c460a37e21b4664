//! S3Download and S3Upload: an object store over HTTP, or a folder behind `file://`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ovenbird_component::value::split_object_address;
use serde::Deserialize;

use super::files::{copy_file, temporary_beside};
use super::{Context, Failure, paths};
use crate::config::ObjectStore;
use crate::net::{Client, Credentials, Signer, encode_path, encode_query, error_text};

fn yes() -> bool {
    true
}

/// Most objects below a prefix that one download takes.
const MOST_OBJECTS: usize = 1000;

/// Largest object that one request can create.
const LARGEST_OBJECT: u64 = 5 * 1024 * 1024 * 1024;

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

/// A bucket of an S3-compatible store.
struct Store<'a> {
    settings: &'a ObjectStore,
    client: Client,
    bucket: &'a str,
    owner: Option<&'a str>,
    credentials: Option<Credentials>,
    region: &'a str,
}

impl<'a> Store<'a> {
    fn new(
        settings: &'a ObjectStore,
        deadline: Option<std::time::Instant>,
        bucket: &'a str,
        owner: Option<&'a str>,
    ) -> Result<Self, Failure> {
        let credentials = match (&settings.access_key_id, &settings.secret_access_key) {
            (Some(id), Some(secret)) => Some(Credentials {
                access_key_id: id.clone(),
                secret_access_key: secret.clone(),
                session_token: settings.session_token.clone(),
            }),
            (None, None) => None,
            _ => {
                return Err(Failure::new(
                    "the object store has only one half of its credentials",
                ));
            }
        };
        Ok(Self {
            settings,
            client: Client::new(deadline, false, false),
            bucket,
            owner,
            credentials,
            region: settings.region.as_deref().unwrap_or("us-east-1"),
        })
    }

    /// Scheme, host and encoded path of a key. With an endpoint of its own the bucket is part of the path.
    fn place(&self, key: &str) -> (String, String, String) {
        match &self.settings.endpoint {
            Some(endpoint) => {
                let endpoint = endpoint.trim_end_matches('/');
                let (scheme, host) = endpoint.split_once("://").unwrap_or(("https", endpoint));
                (
                    scheme.to_owned(),
                    host.to_owned(),
                    format!("/{}/{}", self.bucket, encode_path(key)),
                )
            }
            None => {
                let host = format!("{}.s3.{}.amazonaws.com", self.bucket, self.region);
                ("https".to_owned(), host, format!("/{}", encode_path(key)))
            }
        }
    }

    /// Address and headers of a request.
    fn request(
        &self,
        method: &str,
        key: &str,
        query: &[(&str, &str)],
    ) -> (String, Vec<(String, String)>) {
        let (scheme, host, path) = self.place(key);
        let extra: Vec<(&str, &str)> = self
            .owner
            .map(|owner| ("x-amz-expected-bucket-owner", owner))
            .into_iter()
            .collect();
        let headers = match &self.credentials {
            Some(credentials) => {
                let signer = Signer {
                    credentials,
                    region: self.region,
                    now: SystemTime::now(),
                };
                signer.headers(method, &host, &path, query, &extra)
            }
            None => extra
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        let query = if query.is_empty() {
            String::new()
        } else {
            format!("?{}", encode_query(query))
        };
        (format!("{scheme}://{host}{path}{query}"), headers)
    }

    fn get(
        &self,
        key: &str,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.read("GET", key, &[], sink)
    }

    fn read(
        &self,
        what: &str,
        key: &str,
        query: &[(&str, &str)],
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (url, headers) = self.request("GET", key, query);
        let name = format!("s3://{}/{key}", self.bucket);
        let mut request = self.client.agent().get(&url);
        for (header, value) in &headers {
            request = request.header(header, value);
        }
        let mut response = request.call().map_err(|error| {
            Failure::new(format!("cannot {what} {name}: {}", error_text(&error)))
        })?;
        self.check(&name, what, &mut response)?;
        let length: Option<u64> = response
            .headers()
            .get("content-length")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        let mut reader = response.body_mut().with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; 64 * 1024];
        let mut received = 0u64;
        loop {
            let count = reader
                .read(&mut buffer)
                .map_err(|error| Failure::new(format!("cannot {what} {name}: {error}")))?;
            if count == 0 {
                break;
            }
            received += count as u64;
            sink(&buffer[..count])?;
        }
        match length {
            Some(length) if length != received => Err(Failure::new(format!(
                "cannot {what} {name}: the server sent {received} of {length} bytes"
            ))),
            _ => Ok(()),
        }
    }

    /// Turns a status other than success into a failure with the store's own error code.
    fn check(
        &self,
        name: &str,
        what: &str,
        response: &mut ureq::http::Response<ureq::Body>,
    ) -> Result<(), Failure> {
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(());
        }
        let body = response
            .body_mut()
            .with_config()
            .limit(64 * 1024)
            .read_to_string()
            .unwrap_or_default();
        let code = element(&body, "Code").unwrap_or_default();
        let message = element(&body, "Message").unwrap_or_default();
        let reason = match (status, code.is_empty()) {
            (_, false) => format!("{code}: {message}"),
            (403, true) => "access denied".to_owned(),
            (404, true) => "not found".to_owned(),
            _ => format!("status {status}"),
        };
        Err(Failure::new(format!("cannot {what} {name}: {reason}")))
    }

    /// The keys below a prefix.
    fn list(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        let mut keys = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut query = vec![("list-type", "2"), ("prefix", prefix)];
            if let Some(token) = &token {
                query.push(("continuation-token", token));
            }
            let mut body = Vec::new();
            self.read("list", "", &query, &mut |bytes| {
                body.extend_from_slice(bytes);
                if body.len() > 16 << 20 {
                    Err(Failure::new("the list of objects is absurdly long"))
                } else {
                    Ok(())
                }
            })?;
            let body = String::from_utf8_lossy(&body);
            keys.extend(elements(&body, "Key"));
            if keys.len() > MOST_OBJECTS {
                return Err(Failure::new(format!(
                    "there are more than {MOST_OBJECTS} objects below s3://{}/{prefix}",
                    self.bucket
                )));
            }
            token = element(&body, "NextContinuationToken").filter(|token| !token.is_empty());
            if token.is_none() || element(&body, "IsTruncated").as_deref() != Some("true") {
                return Ok(keys);
            }
        }
    }

    fn put(&self, key: &str, source: &Path) -> Result<(), Failure> {
        let fail = |error: io::Error| Failure::io("read", source, &error);
        let file = File::open(source).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        if length > LARGEST_OBJECT {
            return Err(Failure::new(format!(
                "{} is larger than {LARGEST_OBJECT} bytes, the most that one upload takes",
                source.display()
            )));
        }
        let (url, headers) = self.request("PUT", key, &[]);
        let name = format!("s3://{}/{key}", self.bucket);
        let mut request = self
            .client
            .agent()
            .put(&url)
            .header("content-length", length.to_string());
        for (header, value) in &headers {
            request = request.header(header, value);
        }
        let mut response = request.send(&file).map_err(|error| {
            Failure::new(format!("cannot write {name}: {}", error_text(&error)))
        })?;
        self.check(&name, "write", &mut response)
    }
}

/// The text of every element with a name. The answers of object stores are flat enough for this.
fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut found = Vec::new();
    let mut rest = xml;
    while let Some(start) = rest.find(&open) {
        let after = &rest[start + open.len()..];
        let Some(end) = after.find(&close) else { break };
        found.push(unescape(&after[..end]));
        rest = &after[end + close.len()..];
    }
    found
}

fn element(xml: &str, name: &str) -> Option<String> {
    elements(xml, name).into_iter().next()
}

fn unescape(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        result.push_str(&rest[..at]);
        let Some(end) = rest[at..].find(';').map(|end| at + end) else {
            break;
        };
        let entity = &rest[at + 1..end];
        let number = entity
            .strip_prefix("#x")
            .map(|hex| u32::from_str_radix(hex, 16))
            .or_else(|| entity.strip_prefix('#').map(str::parse));
        match (entity, number) {
            ("amp", _) => result.push('&'),
            ("lt", _) => result.push('<'),
            ("gt", _) => result.push('>'),
            ("quot", _) => result.push('"'),
            ("apos", _) => result.push('\''),
            (_, Some(Ok(code))) => result.push(char::from_u32(code).unwrap_or('\u{fffd}')),
            _ => result.push_str(&rest[at..=end]),
        }
        rest = &rest[end + 1..];
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_errors_are_read_out_of_the_answers() {
        let xml = "<R><Contents><Key>a&amp;b.txt</Key></Contents><Contents><Key>c&#x20;d</Key></Contents><IsTruncated>false</IsTruncated></R>";
        assert_eq!(elements(xml, "Key"), ["a&b.txt", "c d"]);
        assert_eq!(element(xml, "IsTruncated").as_deref(), Some("false"));
        assert_eq!(element("<Code>NoSuchKey", "Code"), None);
    }

    #[test]
    fn keys_cannot_leave_the_destination() {
        assert!(inner_path("../etc/passwd").is_err());
        assert!(inner_path("a/../../b").is_err());
        assert_eq!(inner_path("/a/b").expect("fine"), Path::new("a/b"));
    }
}
