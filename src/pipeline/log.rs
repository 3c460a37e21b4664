//! The log of a pipeline: one file for each day, where the service has a stream.

use std::io::Write as _;

use camino::Utf8PathBuf;
use jiff::Timestamp;

use crate::store::Home;

/// The file for a day (UTC): `pipeline/NAME/2026/03/01.log` below the logs, as the group `/aws/imagebuilder/pipeline/NAME` has
/// the stream `2026/03/01`.
pub fn file(home: &Home, pipeline: &str, day: Timestamp) -> Utf8PathBuf {
    home.logs()
        .join("pipeline")
        .join(pipeline)
        .join(format!("{}.log", day.strftime("%Y/%m/%d")))
}

/// Adds a line. A log that can't be written is no reason not to build.
pub fn write(home: &Home, pipeline: &str, now: Timestamp, line: &str) {
    let path = file(home, pipeline, now);
    let written = (|| {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)?;
        // One call: lines of two processes don't mix.
        file.write_all(format!("{} {line}\n", now.strftime("%Y-%m-%dT%H:%M:%SZ")).as_bytes())
    })();
    if let Err(error) = written {
        tracing::warn!(%path, %error, "cannot write the pipeline's log");
    }
}
