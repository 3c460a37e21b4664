//! `ovenbird image report`

use std::process::{Command, ExitCode, Stdio};

use camino::Utf8PathBuf;
use serde_json::json;

use crate::cli::Session;
use crate::error::{FailureContext as _, FailureKind, Result};
use crate::report::{self, Report};
use crate::store::Store;

/// Writes the page of a finished image.
///
/// # Errors
/// [`FailureKind::Config`] if there is no such image, [`FailureKind::Output`] if the page can't be written.
pub fn run(
    store: &Store,
    session: &Session,
    wanted: &str,
    output: Option<Utf8PathBuf>,
    open: bool,
) -> Result<ExitCode> {
    let image = store.find_image(wanted)?;
    let manifest = super::manifest_of(&image)?;
    // Beside the logs, since a file beside the image would be one that nobody has signed.
    let path = output.unwrap_or_else(|| image.logs.join(report::FILE));
    let page = Report::of(manifest, &image.folder, Some(&image.logs)).html(&image.folder);
    std::fs::write(&path, page)
        .or_failure(FailureKind::Output, || format!("cannot write {path}"))?;
    let printer = &session.printer;
    printer.value(&json!({ "image": image.id(), "report": path }));
    printer.line(&path);
    if open {
        let program = if cfg!(target_os = "macos") {
            "open"
        } else {
            "xdg-open"
        };
        Command::new(program)
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .or_failure(FailureKind::Environment, || {
                format!("cannot start {program}")
            })
            .map_err(|failure| failure.with_hint("open the page by hand"))?;
    }
    Ok(ExitCode::SUCCESS)
}
