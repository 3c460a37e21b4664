//! `ovenbird verify IMAGE|FOLDER|FILE --key FILE`

use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_provenance::folder::FILE;

use super::Session;
use super::printer::Printer;
use super::push::RegistryArgs;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::signing::{self, Policy, Wanted};
use crate::store::Store;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder with a finished image, a file in one, an image of this home, or oci://REGISTRY/REPOSITORY:TAG
    image: String,
    /// A public key that is trusted (may be given several times)
    #[arg(long = "key", value_name = "FILE", required_unless_present = "policy")]
    keys: Vec<Utf8PathBuf>,
    /// What the image must be besides unchanged: a file of demands (docs/signing.md)
    #[arg(long, value_name = "FILE")]
    policy: Option<Utf8PathBuf>,
    /// The image that it must be; of what is in a registry also the repository that it was signed for, if this is a mirror
    #[arg(long = "is", value_name = "NAME/VERSION/BUILD|REGISTRY/REPOSITORY")]
    wanted: Option<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Runs the verb. Needs neither a home nor a network for folders and files.
///
/// # Errors
/// [`FailureKind::Output`] if the image is not what a trusted key signed.
pub async fn run(
    args: Args,
    printer: Printer,
    session: impl FnOnce() -> Result<Session>,
) -> Result<ExitCode> {
    let policy = args.policy.as_deref().map(Policy::read).transpose()?;
    let of_policy = policy.iter().flat_map(|policy| &policy.keys);
    let keys: Vec<_> = args
        .keys
        .iter()
        .chain(of_policy)
        .map(|file| signing::public_key(file))
        .collect::<Result<_>>()?;
    if keys.is_empty() {
        return Err(Failure::config("no key is trusted")
            .with_hint("name public keys by --key, or under `keys` of the policy"));
    }
    if let Some(reference) = args.image.strip_prefix("oci://") {
        let wanted = Wanted {
            image: args.wanted,
            policy,
            ..Wanted::default()
        };
        let options = args.registry.options();
        let checked = signing::check_remote(&reference.parse()?, options, &keys, &wanted).await?;
        printer.value(&checked);
        printer.line(format!(
            "{} is as {} signed it: {}",
            checked.image,
            checked.signers.join(" and "),
            checked.files.join(", ")
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let (folder, asked) = place(&args.image, session)?;
    let wanted = Wanted {
        image: args.wanted.or(asked.image),
        policy,
        ..asked
    };
    let checked = tokio::task::spawn_blocking(move || signing::check(&folder, &keys, &wanted))
        .await
        .or_failure(FailureKind::Internal, || "a worker thread failed".into())??;
    printer.value(&checked);
    printer.line(format!(
        "{} is as {} signed it: {} files, {} disks read",
        checked.image,
        checked.signers.join(" and "),
        checked.files.len(),
        checked.disks.len()
    ));
    if !checked.unsigned.is_empty() {
        printer.line(format!(
            "NOT signed, for a destination has made them: {}; anybody may have changed them",
            checked.unsigned.join(", ")
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder with the provenance, and what of it is asked for: a file in it, or an image by what the store calls it.
fn place(image: &str, session: impl FnOnce() -> Result<Session>) -> Result<(Utf8PathBuf, Wanted)> {
    let typed = Utf8Path::new(image);
    if typed.is_dir() {
        return Ok((typed.to_owned(), Wanted::default()));
    }
    if !typed.is_file() {
        let found = Store::open(&session()?.home)?.find_image(image)?;
        // Wherever its folder is: it must be this image.
        let wanted = Wanted {
            image: Some(found.id()),
            ..Wanted::default()
        };
        return Ok((found.folder, wanted));
    }
    let path = typed
        .canonicalize_utf8()
        .or_failure(FailureKind::Config, || format!("cannot find {typed}"))?;
    let folder = path
        .ancestors()
        .skip(1)
        .find(|folder| folder.join(FILE).is_file())
        .ok_or_else(|| {
            Failure::config(format!("there is no {FILE} beside {path}, nor above it"))
        })?;
    let inside = path.strip_prefix(folder).unwrap_or(&path);
    let wanted = Wanted {
        only: Some(inside.to_string()),
        path: Some(typed.to_owned()),
        ..Wanted::default()
    };
    Ok((folder.to_owned(), wanted))
}
