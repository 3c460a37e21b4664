//! A bucket of an S3-compatible store, over HTTP.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use super::Failure;
use crate::config::ObjectStore;
use crate::net::{Client, Credentials, Signer, encode_path, encode_query, error_text};

/// Most objects below a prefix that one download takes.
pub(super) const MOST_OBJECTS: usize = 1000;

/// Largest object that one request can create.
const LARGEST_OBJECT: u64 = 5 * 1024 * 1024 * 1024;

/// A bucket of an S3-compatible store.
pub(super) struct Store<'a> {
    settings: &'a ObjectStore,
    client: Client,
    pub(super) bucket: &'a str,
    owner: Option<&'a str>,
    credentials: Option<Credentials>,
    region: &'a str,
}

impl<'a> Store<'a> {
    pub(super) fn new(
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

    pub(super) fn get(
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
    pub(super) fn list(&self, prefix: &str) -> Result<Vec<String>, Failure> {
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

    pub(super) fn put(&self, key: &str, source: &Path) -> Result<(), Failure> {
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
}
