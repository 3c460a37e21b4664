//! Remembered digests: a file is hashed again only if it may have changed.
//!
//! A seal lies beside the image and says which digests a file had when it had this size, inode and times. Hashing 600 MB at
//! every bake would cost more than the rest of its start.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::digest::{Digest, FileDigests};
use super::{CatalogError, Result};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seal {
    identity: Identity,
    digests: Vec<Digest>,
}

/// What changes when a file's bytes change. The change time can't be set back by a program, unlike the modification time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    size: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    fn of(path: &Utf8Path) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(CatalogError::io("read", path))?;
        Ok(Self {
            size: metadata.len(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// Gives a file's SHA-256 and checks that it has all of `expected`, reading the file only if no seal vouches for it.
///
/// # Errors
/// [`CatalogError::DigestMismatch`] or [`CatalogError::Io`]. A seal that can't be written is not an error.
pub(super) fn verify(path: &Utf8Path, seal: &Utf8Path, expected: &[Digest]) -> Result<Digest> {
    let identity = Identity::of(path)?;
    if let Some(known) = read(seal)
        && known.identity == identity
        && expected.iter().all(|digest| known.digests.contains(digest))
        && let Some(sha256) = sha256_of(&known.digests)
    {
        return Ok(sha256.clone());
    }
    let sha512 = expected
        .iter()
        .find(|digest| digest.algorithm() == super::digest::Algorithm::Sha512);
    let digests = FileDigests::of(path, sha512, |_| ())?;
    for digest in expected {
        digests.verify(digest, path.as_str())?;
    }
    // The file may have been written to while it was read.
    if Identity::of(path)? == identity {
        write(seal, identity, &digests);
    }
    Ok(digests.sha256)
}

/// Seals a file whose digests were just computed.
///
/// # Errors
/// [`CatalogError::Io`] if the file is gone.
pub(super) fn set(path: &Utf8Path, seal: &Utf8Path, digests: &FileDigests) -> Result<()> {
    write(seal, Identity::of(path)?, digests);
    Ok(())
}

fn sha256_of(digests: &[Digest]) -> Option<&Digest> {
    digests
        .iter()
        .find(|digest| digest.algorithm() == super::digest::Algorithm::Sha256)
}

fn read(seal: &Utf8Path) -> Option<Seal> {
    serde_json::from_slice(&fs::read(seal).ok()?).ok()
}

fn write(seal: &Utf8Path, identity: Identity, digests: &FileDigests) {
    let digests = [Some(digests.sha256.clone()), digests.sha512.clone()]
        .into_iter()
        .flatten()
        .collect();
    let written = serde_json::to_vec(&Seal { identity, digests })
        .map_err(std::io::Error::other)
        .and_then(|text| {
            if let Some(folder) = seal.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(seal, text)
        });
    if let Err(error) = written {
        tracing::debug!(%seal, %error, "the digest will be computed again next time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn only_a_changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let (disk, seal) = (folder.join("disk"), folder.join("seals/disk"));
        fs::write(&disk, "abc").unwrap();
        let digest = verify(&disk, &seal, &[]).unwrap();
        verify(&disk, &seal, std::slice::from_ref(&digest)).unwrap();

        // A seal that lies proves that the file is not read while size, inode and times stand.
        let other: Digest = "f".repeat(64).parse().unwrap();
        let mut lie = read(&seal).unwrap();
        lie.digests = vec![other.clone()];
        fs::write(&seal, serde_json::to_vec(&lie).unwrap()).unwrap();
        assert_eq!(verify(&disk, &seal, &[]).unwrap(), other);

        // A change of content that keeps the size.
        fs::write(&disk, "abd").unwrap();
        let error = verify(&disk, &seal, &[digest]).unwrap_err();
        assert!(
            matches!(error, CatalogError::DigestMismatch { .. }),
            "{error}"
        );
    }

    #[test]
    fn a_seal_that_cannot_be_written_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let disk = folder.join("disk");
        fs::write(&disk, "abc").unwrap();
        fs::write(folder.join("file"), "").unwrap();
        fs::set_permissions(folder.join("file"), fs::Permissions::from_mode(0o400)).unwrap();
        verify(&disk, &folder.join("file/seal"), &[]).unwrap();
    }
}
