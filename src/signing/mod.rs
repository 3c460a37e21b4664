//! Provenance of a finished image: made of its manifest, signed, and checked without the store that made it.

mod check;
mod keys;
mod policy;
mod remote;
mod statement;

use camino::Utf8Path;
use ovenbird_provenance::dsse::{Envelope, Signer};
use ovenbird_provenance::folder::{FILE, VerifyError, digest_of, read_envelope};
use ovenbird_provenance::key::KeyId;
use ovenbird_provenance::statement::PAYLOAD_TYPE;

pub use check::{Checked, Wanted, check};
pub use keys::{
    NamedBy, PASSPHRASE, Seal, SigningSettings, generate, passphrase, private_key, public_key,
    signer,
};
pub use policy::Policy;
pub use remote::check_remote;

use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::output::Manifest;

/// What came of signing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The key that signed.
    pub key: KeyId,
    /// What was wrong with an envelope that stood there and is replaced, with the signatures in it.
    pub replaced: Option<String>,
}

/// Signs the image in a folder that was just made, as [`sign_again`] does.
///
/// # Errors
/// As [`sign_again`].
pub fn sign(folder: &Utf8Path, signer: &dyn Signer) -> Result<KeyId> {
    sign_again(folder, signer).map(|signed| signed.key)
}

/// Signs the image in a folder, after every file was compared with the manifest: what is signed is what was made. A
/// signature by another key of the same statement stays.
///
/// # Errors
/// [`FailureKind::Output`] if a file is not as the manifest says, or the signature can't be made or written.
pub fn sign_again(folder: &Utf8Path, signer: &dyn Signer) -> Result<Signed> {
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
    let (mut envelope, replaced) = match known(&path, &payload) {
        Ok(Some(known)) => (known, None),
        Ok(None) => (Envelope::new(PAYLOAD_TYPE, &payload), None),
        Err(reason) => (Envelope::new(PAYLOAD_TYPE, &payload), Some(reason)),
    };
    let key = envelope
        .sign(signer)
        .or_failure(FailureKind::Output, || format!("cannot sign {folder}"))?;
    write(&path, &envelope)?;
    Ok(Signed { key, replaced })
}

/// The envelope that is there already, if it is of this payload: else why it is of no use. Nobody has verified it, so it may
/// only say what would be said without it.
fn known(path: &Utf8Path, payload: &[u8]) -> Result<Option<Envelope>, String> {
    let text = match read_envelope(path) {
        Ok(text) => text,
        Err(VerifyError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    };
    let envelope = Envelope::parse(&text).map_err(|error| error.to_string())?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(format!(
            "its payload is {:?}, not {PAYLOAD_TYPE:?}",
            envelope.payload_type
        ));
    }
    match envelope.unverified_payload() {
        Ok(known) if known == payload => Ok(Some(envelope)),
        Ok(_) => Err("what it states is not what is stated now".into()),
        Err(error) => Err(error.to_string()),
    }
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
