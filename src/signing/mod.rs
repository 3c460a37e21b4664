//! Provenance of a finished image: made of its manifest, signed, and checked without the store that made it.

mod check;
mod keys;
mod policy;
mod remote;
mod statement;

use camino::Utf8Path;
use ovenbird_provenance::dsse::{Envelope, Signer};
use ovenbird_provenance::folder::{FILE, digest_of};
use ovenbird_provenance::key::KeyId;
use ovenbird_provenance::statement::PAYLOAD_TYPE;

pub use check::{Checked, Wanted, check};
pub use keys::{
    PASSPHRASE, Seal, SigningSettings, generate, passphrase, private_key, public_key, signer,
};
pub use policy::Policy;
pub use remote::check_remote;

use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::output::Manifest;

/// Signs the image in a folder, after every file was compared with the manifest: what is signed is what was made. A
/// signature by another key of the same statement stays.
///
/// # Errors
/// [`FailureKind::Output`] if a file is not as the manifest says, or the signature can't be made or written.
pub fn sign(folder: &Utf8Path, signer: &dyn Signer) -> Result<KeyId> {
    let manifest = Manifest::read(folder)?;
    for file in manifest.listed() {
        let path = folder.join(file.path);
        let found = digest_of(&path).or_failure(FailureKind::Output, || {
            format!("cannot sign {folder}: a file of it can't be read")
        })?;
        if found != file.sha256 {
            return Err(Failure::new(
                FailureKind::Output,
                format!(
                    "cannot sign {folder}: {} is not what was made; its SHA-256 is {found}, the manifest says {}",
                    file.path, file.sha256
                ),
            ));
        }
    }
    let statement = statement::of(&manifest, folder)?;
    let payload = serde_json::to_vec(&statement).or_failure(FailureKind::Internal, || {
        "cannot encode the provenance".into()
    })?;
    let path = folder.join(FILE);
    let mut envelope = Envelope::new(PAYLOAD_TYPE, &payload);
    if let Ok(text) = std::fs::read(&path)
        && let Ok(known) = Envelope::parse(&text)
        && known
            .unverified_payload()
            .is_ok_and(|known| known == payload)
    {
        envelope = known;
    }
    let id = envelope
        .sign(signer)
        .or_failure(FailureKind::Output, || format!("cannot sign {folder}"))?;
    write(&path, &envelope)?;
    Ok(id)
}

/// Beside its final name first, so that no torn envelope ever stands there.
fn write(path: &Utf8Path, envelope: &Envelope) -> Result<()> {
    use std::io::Write as _;
    let failed = || format!("cannot write {path}");
    let text = serde_json::to_vec_pretty(envelope).or_failure(FailureKind::Internal, failed)?;
    let folder = path.parent().unwrap_or(Utf8Path::new("."));
    let mut file =
        tempfile::NamedTempFile::new_in(folder).or_failure(FailureKind::Output, failed)?;
    file.write_all(&text)
        .and_then(|()| file.as_file().sync_all())
        .and_then(|()| {
            use std::os::unix::fs::PermissionsExt as _;
            file.as_file()
                .set_permissions(std::fs::Permissions::from_mode(0o644))
        })
        .or_failure(FailureKind::Output, failed)?;
    file.persist(path)
        .map(drop)
        .or_failure(FailureKind::Output, failed)
}
