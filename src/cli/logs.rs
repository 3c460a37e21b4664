//! `ovenbird logs BUILD`

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::Session;
use crate::error::{FailureContext as _, FailureKind, Result};
use crate::store::Store;

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The build: NAME/VERSION/BUILD, NAME/VERSION or NAME (the newest build then)
    build: String,
    /// Go on as the log grows, until the build ends
    #[arg(short, long)]
    follow: bool,
    /// List the log files instead of printing the events
    #[arg(long)]
    files: bool,
}

/// How often a growing file is looked at.
const TICK: Duration = Duration::from_millis(200);

/// Runs the verb.
///
/// # Errors
/// [`FailureKind::Config`] if there is no such build.
pub async fn run(args: Args, session: &Session) -> Result<ExitCode> {
    let folder = Store::open(&session.home)?.find_image(&args.build)?.logs;
    if args.files {
        let mut files = Vec::new();
        list(&folder, &mut files);
        for file in files {
            session.printer.line(file);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let path = folder.join("events.ndjson");
    let mut file = std::fs::File::open(&path)
        .or_failure(FailureKind::Config, || format!("cannot read {path}"))?;
    let mut offset = 0;
    loop {
        let mut text = String::new();
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_to_string(&mut text))
            .or_failure(FailureKind::Environment, || format!("cannot read {path}"))?;
        // Only whole lines: the writer may be in the middle of one.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        offset += whole as u64;
        for line in text[..whole].lines() {
            show(line, session.printer.json);
        }
        if !args.follow || text.contains("\"type\":\"buildFinished\"") {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(TICK).await;
    }
}

fn show(line: &str, json: bool) {
    let mut out = std::io::stdout().lock();
    let _ = if json {
        writeln!(out, "{line}")
    } else {
        writeln!(out, "{}", human(line))
    };
}

/// One event as a line for people.
fn human(line: &str) -> String {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else {
        return line.to_owned();
    };
    let time = value["time"].as_str().unwrap_or_default();
    let kind = value["type"].as_str().unwrap_or_default();
    let text = [
        "detail", "line", "message", "reason", "state", "image", "rung",
    ]
    .iter()
    .filter_map(|key| value[key].as_str())
    .collect::<Vec<_>>()
    .join(" ");
    let step = value["step"].as_str().unwrap_or_default();
    let agent = match &value["event"] {
        serde_json::Value::Object(event) => ["type", "phase", "step", "status", "text", "message"]
            .iter()
            .filter_map(|key| event.get(*key).and_then(|value| value.as_str()))
            .collect::<Vec<_>>()
            .join(" "),
        _ => String::new(),
    };
    let words: Vec<&str> = [time, kind, step, &text, &agent]
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

fn list(folder: &Utf8Path, files: &mut Vec<Utf8PathBuf>) {
    let Ok(entries) = folder.read_dir_utf8() else {
        return;
    };
    for entry in entries.flatten() {
        if entry.path().is_dir() {
            list(entry.path(), files);
        } else {
            files.push(entry.path().to_owned());
        }
    }
    files.sort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_for_people() {
        let line = r#"{"v":1,"time":"T","type":"stepFinished","step":"Distribute","outcome":"completed","seconds":1.0,"detail":"to x"}"#;
        assert_eq!(human(line), "T stepFinished Distribute to x");
        assert_eq!(human("not json"), "not json");
    }
}
