//! Files that appear only when they are whole, and digests computed on the way.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest as _, Sha256};

use crate::bytes::{hex, len64};
use crate::{Error, Result};

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256Digest(pub [u8; 32]);

impl Sha256Digest {
    /// Hashes a buffer.
    pub fn of(data: &[u8]) -> Self {
        Self(Sha256::digest(data).into())
    }

    /// Ends a running hash.
    pub(crate) fn finish(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }

    /// The digest as 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// The digest as `sha256:` and 64 hexadecimal digits, as container registries write it.
    pub fn oci(&self) -> String {
        format!("sha256:{}", self.hex())
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

/// A file that is written under a temporary name beside its final one and removed unless it is committed.
#[derive(Debug)]
pub(crate) struct TemporaryFile {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    committed: bool,
}

/// Tells apart the temporary files of one process; the process id tells apart processes.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// The name of a temporary file or folder beside `target`.
pub(crate) fn temporary_name(target: &Path) -> PathBuf {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}-{serial}.partial", std::process::id()));
    target.with_file_name(name)
}

impl TemporaryFile {
    /// Makes the temporary file.
    pub(crate) fn create(target: &Path) -> Result<Self> {
        let temporary = temporary_name(target);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(|e| Error::path("create", &temporary, e))?;
        Ok(Self {
            file,
            temporary,
            target: target.to_owned(),
            committed: false,
        })
    }

    /// The open file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Where the bytes are until the commit.
    pub(crate) fn path(&self) -> &Path {
        &self.temporary
    }

    /// Flushes to stable storage when `durable`, and gives the file its final name.
    pub(crate) fn commit(mut self, durable: bool) -> Result<()> {
        if durable {
            self.file
                .sync_all()
                .map_err(|e| Error::path("sync", &self.temporary, e))?;
        }
        fs::rename(&self.temporary, &self.target)
            .map_err(|e| Error::path("rename to", &self.target, e))?;
        self.committed = true;
        if durable {
            sync_parent(&self.target)?;
        }
        Ok(())
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing more can be done about a file that does not go away.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Makes a rename durable: the entry lives in the folder.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| Error::path("sync", parent, e))
}

/// Hashes what a file holds from its beginning to its end.
pub(crate) fn hash_file(file: &File) -> Result<(u64, Sha256Digest)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        let got = match file.read_at(&mut buffer, offset) {
            Ok(0) => return Ok((offset, Sha256Digest::finish(hash))),
            Ok(got) => got,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::io("read back what was written", e)),
        };
        hash.update(&buffer[..got]);
        offset += len64(got);
    }
}
