//! `ovenbird image sbom`

use std::process::ExitCode;

use crate::cli::Session;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::sbom::Form;
use crate::store::Store;

/// Prints the bill of materials that an image was finished with.
///
/// # Errors
/// [`FailureKind::Config`] if there is no such image, or it has none.
pub fn run(store: &Store, session: &Session, wanted: &str, form: Form) -> Result<ExitCode> {
    let image = store.find_image(wanted)?;
    let manifest = super::manifest_of(&image)?;
    let Some(file) = manifest
        .attachments
        .iter()
        .find(|file| file.kind == form.kind())
    else {
        return Err(
            Failure::config(format!("{} has no bill of materials", image.id()))
                .with_hint("`ovenbird disk sbom` makes one of its disk"),
        );
    };
    let path = image.folder.join(&file.path);
    let text = std::fs::read_to_string(&path)
        .or_failure(FailureKind::Output, || format!("cannot read {path}"))?;
    let bill: serde_json::Value = serde_json::from_str(&text)
        .or_failure(FailureKind::Output, || format!("{path} is damaged"))?;
    session.printer.value(&bill);
    session.printer.line(text.trim_end());
    Ok(ExitCode::SUCCESS)
}
