//! WebDownload.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::files::temporary_beside;
use super::{Context, Done, Failure, items, output, parse, paths};
use crate::digest::{self, Algorithm, Hasher};
use crate::net::{Client, error_text};

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Download {
    source: String,
    destination: String,
    #[serde(default = "yes")]
    overwrite: bool,
    checksum: Option<String>,
    algorithm: Option<String>,
    #[serde(default)]
    ignore_certificate_errors: bool,
}

/// Tries per file, whatever the step's own `maxAttempts` says.
const TRIES: u32 = 5;

/// Waiting time before the second try; it doubles from try to try.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Downloads all inputs in order; the output names the files, one a line.
pub fn download(context: &Context<'_>, inputs: Value) -> Result<Done, Failure> {
    let mut targets = Vec::new();
    for item in items(inputs) {
        context.check_time()?;
        let target = download_one(context, &parse(item)?)?;
        targets.push(target.to_string_lossy().into_owned());
    }
    Ok(Done {
        outputs: vec![output("destination", targets.join("\n"))],
        exit_code: None,
    })
}

fn download_one(context: &Context<'_>, inputs: &Download) -> Result<PathBuf, Failure> {
    let target = target(context, inputs)?;
    let wanted = inputs
        .algorithm
        .as_deref()
        .and_then(Algorithm::from_word)
        .zip(
            inputs
                .checksum
                .as_deref()
                .map(|checksum| checksum.trim().to_ascii_lowercase()),
        );
    if target.exists() {
        if !inputs.overwrite {
            return Err(Failure::new(format!(
                "cannot write {}: it exists and overwrite is false",
                target.display()
            )));
        }
        if let Some((algorithm, checksum)) = &wanted
            && digest::file(&target, *algorithm).is_ok_and(|found| found == *checksum)
        {
            context.report.console(&format!(
                "WebDownload: {} is there already with the right checksum",
                target.display()
            ));
            return Ok(target);
        }
    }
    paths::make_parents(&target)?;
    let temporary = temporary_beside(&target);
    let mut pause = FIRST_PAUSE;
    for number in 1..=TRIES {
        context.check_time()?;
        match fetch(context, inputs, &temporary, wanted.as_ref()) {
            Ok(()) => {
                fs::rename(&temporary, &target)
                    .map_err(|error| Failure::io("write", &target, &error))?;
                context.report.console(&format!(
                    "WebDownload: {} -> {}",
                    inputs.source,
                    target.display()
                ));
                return Ok(target);
            }
            Err(Try::Final(failure)) => {
                let _ = fs::remove_file(&temporary);
                return Err(failure);
            }
            Err(Try::Again(message)) => {
                let _ = fs::remove_file(&temporary);
                context.check_time()?;
                if number == TRIES {
                    return Err(Failure::new(format!(
                        "cannot download {} in {TRIES} tries: {message}",
                        inputs.source
                    )));
                }
                context.report.console(&format!(
                    "WebDownload: try {number} of {TRIES} for {} failed: {message}",
                    inputs.source
                ));
                rest(context, pause)?;
                pause *= 2;
            }
        }
    }
    Err(Failure::new("no try was made"))
}

/// Waits, but not beyond the step's deadline, and not when the agent is told to end.
fn rest(context: &Context<'_>, pause: Duration) -> Result<(), Failure> {
    const SLICE: Duration = Duration::from_millis(100);
    let until = Instant::now() + pause;
    loop {
        context.check_time()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let left = context.deadline.map_or(left, |deadline| {
            left.min(deadline.saturating_duration_since(Instant::now()))
        });
        std::thread::sleep(left.min(SLICE));
    }
}

enum Try {
    Again(String),
    Final(Failure),
}

fn fetch(
    context: &Context<'_>,
    inputs: &Download,
    temporary: &Path,
    wanted: Option<&(Algorithm, String)>,
) -> Result<(), Try> {
    let client = Client::new(context.deadline, inputs.ignore_certificate_errors, true);
    let again = |error: io::Error| Try::Again(error.to_string());
    let mut response = client
        .agent()
        .get(&inputs.source)
        // Compressed transfer would make the length useless and the checksum that of another file.
        .header("accept-encoding", "identity")
        .call()
        .map_err(|error| match error {
            ureq::Error::TooManyRedirects | ureq::Error::BadUri(_) => Try::Final(Failure::new(
                format!("cannot download {}: {}", inputs.source, error_text(&error)),
            )),
            error => Try::Again(error_text(&error)),
        })?;
    let status = response.status().as_u16();
    if status != 200 {
        let message = format!("the server answers with status {status}");
        // What the client did wrong stays wrong; a busy or broken server may recover.
        let hopeless = (400..500).contains(&status) && !matches!(status, 408 | 425 | 429);
        return Err(if hopeless {
            Try::Final(Failure::new(format!(
                "cannot download {}: {message}",
                inputs.source
            )))
        } else {
            Try::Again(message)
        });
    }
    let length: Option<u64> = response
        .headers()
        .get("content-length")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    let write_failed = |error: io::Error| Try::Final(Failure::io("write", temporary, &error));
    let mut file = File::create(temporary).map_err(write_failed)?;
    let mut hasher = wanted.map(|(algorithm, _)| Hasher::new(*algorithm));
    let mut reader = response.body_mut().with_config().limit(u64::MAX).reader();
    let mut buffer = vec![0; 64 * 1024];
    let mut received = 0u64;
    loop {
        context.check_time().map_err(Try::Final)?;
        let count = reader.read(&mut buffer).map_err(again)?;
        if count == 0 {
            break;
        }
        received += count as u64;
        if let Some(hasher) = &mut hasher {
            hasher.update(&buffer[..count]);
        }
        file.write_all(&buffer[..count]).map_err(write_failed)?;
    }
    if let Some(length) = length
        && received != length
    {
        return Err(Try::Again(format!(
            "the server sent {received} of {length} bytes"
        )));
    }
    if let (Some(hasher), Some((_, wanted))) = (hasher, wanted) {
        let found = hasher.finish();
        if found != *wanted {
            // A cache on the way may hold a broken copy, so this is tried again as well.
            return Err(Try::Again(format!(
                "the checksum is {found}, expected {wanted}"
            )));
        }
    }
    Ok(())
}

/// The file to write: with a separator at the end of the destination, the name comes from the address.
fn target(context: &Context<'_>, inputs: &Download) -> Result<PathBuf, Failure> {
    let path = paths::resolve(context, &inputs.destination);
    if !paths::names_folder(&inputs.destination) {
        if path.is_dir() {
            return Err(Failure::new(format!(
                "cannot write {}: it is a folder; end the destination with a separator to put the file into it",
                path.display()
            )));
        }
        return Ok(path);
    }
    let name = name_of(&inputs.source).ok_or_else(|| {
        Failure::new(format!(
            "the address {} has no file name; name the file in the destination",
            inputs.source
        ))
    })?;
    Ok(path.join(name))
}

/// The last element of an address's path, decoded.
fn name_of(address: &str) -> Option<String> {
    let (_, rest) = address.split_once("://")?;
    let path = rest.split(['?', '#']).next()?.split_once('/')?.1;
    let name = decode(path.rsplit('/').next()?);
    (!name.is_empty()
        && name != "."
        && name != ".."
        && !name.contains(|c| c == '\0' || std::path::is_separator(c)))
    .then_some(name)
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = text
            .get(at + 1..at + 3)
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (bytes[at], pair) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 3;
            }
            (byte, _) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_path_of_the_address() {
        let cases = [
            ("https://x/a/b.tar.gz?token=1#f", Some("b.tar.gz")),
            ("https://x/a%20b", Some("a b")),
            ("https://x/a/", None),
            ("https://x", None),
            ("https://x/%2e%2e", None),
            ("https://x/a%2Fb", None),
        ];
        for (address, wanted) in cases {
            assert_eq!(name_of(address).as_deref(), wanted, "{address}");
        }
    }
}
