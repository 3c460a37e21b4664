//! `ovenbird sign IMAGE|FOLDER --key KEY`

use std::process::ExitCode;

use camino::Utf8PathBuf;
use ovenbird_provenance::folder::FILE;
use serde_json::json;

use super::Session;
use super::printer::Printer;
use crate::error::{FailureContext as _, FailureKind, Result};
use crate::signing::{self, NamedBy, Signed};

/// Arguments of `sign`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// NAME[/VERSION[/BUILD]], an ARN, or a folder with a finished image
    image: String,
    /// The private key's file, or command:COMMAND for a shell command that gets the message on its standard input and prints
    /// the signature in base64
    #[arg(long)]
    key: String,
    /// The public key of a command
    #[arg(long, value_name = "FILE")]
    public_key: Option<Utf8PathBuf>,
    /// A file with the key's passphrase; else OVENBIRD_KEY_PASSPHRASE counts
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<Utf8PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// What [`signing::sign_again`] and [`signing::signer`] say.
pub async fn run(
    args: Args,
    printer: Printer,
    session: impl FnOnce() -> Result<Session>,
) -> Result<ExitCode> {
    let passphrase = signing::passphrase(args.passphrase_file.as_deref())?;
    let folder = super::distribute::image_folder(&args.image, session)?;
    let target = folder.clone();
    let Signed { key: id, replaced } = tokio::task::spawn_blocking(move || {
        let signer = signing::signer(
            &args.key,
            args.public_key.as_deref(),
            passphrase.as_deref(),
            NamedBy::Options,
        )?;
        signing::sign_again(&target, &signer)
    })
    .await
    .or_failure(FailureKind::Internal, || "a worker thread failed".into())??;
    if let Some(reason) = replaced {
        printer.warn(format!(
            "the {FILE} that was there, with its signatures, is replaced: {reason}"
        ));
    }
    printer.value(&json!({ "folder": folder, "key": id }));
    printer.line(format!("{folder} is signed by {id}"));
    Ok(ExitCode::SUCCESS)
}
