//! Reads documents and configurations from wherever they are named: a path, `file://`, `s3://`, `http://` or `https://`.

use std::io::Read;
use std::path::Path;

use ovenbird_component::value::split_object_address;

use crate::config::ObjectStore;
use crate::modules::fetch_object;
use crate::net::{Client, error_text};

/// Reads what an address names; a relative path starts at `base`.
///
/// # Errors
///
/// The reason in words, without the address. More than `largest` bytes from another machine are an error as well.
pub(crate) fn read(
    store: &ObjectStore,
    address: &str,
    owner: Option<&str>,
    base: Option<&Path>,
    largest: usize,
) -> Result<Vec<u8>, String> {
    if address.starts_with("arn:") {
        return Err(
            "a component is known by its ARN only to the host, which has to hand it over as a file"
                .to_owned(),
        );
    }
    if let Some((bucket, key)) = split_object_address(address) {
        return fetch_object(store, bucket, key, owner, largest);
    }
    if is_web(address) {
        return read_web(address, largest);
    }
    let local = address.strip_prefix("file://").unwrap_or(address);
    let full = base.map_or_else(|| Path::new(local).to_owned(), |base| base.join(local));
    std::fs::read(full).map_err(|error| error.to_string())
}

fn is_web(address: &str) -> bool {
    address.starts_with("http://") || address.starts_with("https://")
}

fn read_web(address: &str, largest: usize) -> Result<Vec<u8>, String> {
    let client = Client::new(None, false, true);
    let mut response = client
        .agent()
        .get(address)
        .call()
        .map_err(|error| error_text(&error))?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(format!("the server answers with status {status}"));
    }
    let announced: Option<usize> = response
        .headers()
        .get("content-length")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    let mut bytes = Vec::new();
    // One byte more than allowed shows that there is more.
    let limit = u64::try_from(largest).unwrap_or(u64::MAX).saturating_add(1);
    response
        .body_mut()
        .with_config()
        .limit(u64::MAX)
        .reader()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() > largest {
        return Err(format!("it is larger than {largest} bytes"));
    }
    if let Some(announced) = announced
        && announced != bytes.len()
    {
        return Err(format!(
            "the server sent {} of {announced} bytes",
            bytes.len()
        ));
    }
    Ok(bytes)
}
