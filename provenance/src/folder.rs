//! Comparing a folder with what was signed about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read as _;

use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest as _, Sha256};

use crate::dsse::{Envelope, EnvelopeError};
use crate::key::{KeyId, PublicKey};
use crate::statement::{PAYLOAD_TYPE, SHA256, Statement, StatementError};

/// The envelope's file in an image's folder.
pub const FILE: &str = "provenance.dsse.json";

/// No provenance of ours comes near it; more is not read into memory.
const LARGEST_ENVELOPE: u64 = 64 << 20;
/// How much of a file is read at once.
const CHUNK: usize = 1 << 20;
/// No image has folders deeper than an OCI layout's; a tree without end is not followed.
const DEEPEST: usize = 16;

/// Why a folder could not be compared at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Something could not be read.
    #[error("cannot read {path}")]
    Read {
        /// What.
        path: Utf8PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A link, a pipe or a device where the envelope belongs.
    #[error("{path} is not a plain file")]
    NotAFile {
        /// The envelope.
        path: Utf8PathBuf,
    },
    /// Too large for an envelope.
    #[error("{path} has more than {LARGEST_ENVELOPE} bytes, which no provenance has")]
    TooLarge {
        /// The envelope.
        path: Utf8PathBuf,
    },
    /// The envelope is not right.
    #[error("{path}: {source}")]
    Envelope {
        /// The envelope.
        path: Utf8PathBuf,
        /// Why.
        source: EnvelopeError,
    },
    /// The signed text is not a provenance.
    #[error("{path}: {source}")]
    Statement {
        /// The envelope.
        path: Utf8PathBuf,
        /// Why.
        source: StatementError,
    },
}

/// Something about the files that is not as it was signed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase", tag = "problem")]
pub enum Problem {
    /// The content is another.
    Changed {
        /// The file.
        path: String,
        /// SHA-256 as signed.
        signed: String,
        /// SHA-256 as it is.
        found: String,
    },
    /// The file is not there.
    Missing {
        /// The file.
        path: String,
    },
    /// The file is not part of what was signed.
    Unnamed {
        /// The file.
        path: String,
    },
    /// A link or a device, or a folder too deep: not a file that could be compared.
    NotAFile {
        /// Where.
        path: String,
    },
    /// The statement itself does not say what the file must be.
    NoDigest {
        /// The file.
        path: String,
    },
    /// The statement names a file twice.
    Twice {
        /// The file.
        path: String,
    },
}

impl Problem {
    /// The file that it is about.
    pub fn path(&self) -> &str {
        match self {
            Self::Changed { path, .. }
            | Self::Missing { path }
            | Self::Unnamed { path }
            | Self::NotAFile { path }
            | Self::NoDigest { path }
            | Self::Twice { path } => path,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Quoted, for a name can hold anything, line breaks and escapes too.
        match self {
            Self::Changed {
                path,
                signed,
                found,
            } => write!(
                f,
                "{path:?} was changed: signed as sha256 {signed}, found {found}"
            ),
            Self::Missing { path } => write!(f, "{path:?} is missing"),
            Self::Unnamed { path } => write!(f, "{path:?} is not named by the provenance"),
            Self::NotAFile { path } => write!(f, "{path:?} is neither a plain file nor a folder"),
            Self::NoDigest { path } => write!(f, "{path:?} has no sha256 in the provenance"),
            Self::Twice { path } => write!(f, "{path:?} is named twice in the provenance"),
        }
    }
}

/// What a comparison found; the image is as signed if there are no [problems](Self::problems).
#[derive(Debug, Clone)]
pub struct Verified {
    /// The signed statement.
    pub statement: Statement,
    /// Who of the trusted signed it.
    pub signers: BTreeSet<KeyId>,
    /// The files that are as signed.
    pub files: Vec<String>,
    /// What is not as signed, sorted.
    pub problems: Vec<Problem>,
}

/// Compares every file below `folder` with the signed provenance in it. Only what is found by walking the folder is ever
/// opened, never a path that the statement names, so a statement leads nowhere outside.
///
/// # Errors
/// If the envelope is missing, damaged, or not signed by a trusted key, or a file can't be read. What differs is told in
/// [`Verified::problems`].
pub fn verify(folder: &Utf8Path, trusted: &[PublicKey]) -> Result<Verified, VerifyError> {
    let path = folder.join(FILE);
    let text = read_envelope(&path)?;
    let envelope = |source| VerifyError::Envelope {
        path: path.clone(),
        source,
    };
    let (payload, signers) = Envelope::parse(&text)
        .and_then(|parsed| parsed.verify(PAYLOAD_TYPE, trusted))
        .map_err(envelope)?;
    let statement = Statement::parse(&payload).map_err(|source| VerifyError::Statement {
        path: path.clone(),
        source,
    })?;

    let mut problems = Vec::new();
    let mut signed = BTreeMap::new();
    for subject in &statement.subject {
        let path = subject.name.clone();
        match subject.digest.get(SHA256) {
            None => problems.push(Problem::NoDigest { path }),
            Some(digest) => {
                if signed.insert(path.clone(), digest.clone()).is_some() {
                    problems.push(Problem::Twice { path });
                }
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(folder, "", 0, &mut found, &mut problems)?;
    found.remove(FILE);
    let mut files = Vec::new();
    for path in found {
        let Some(digest) = signed.remove(&path) else {
            problems.push(Problem::Unnamed { path });
            continue;
        };
        let is = digest_of(&folder.join(&path))?;
        if is == digest {
            files.push(path);
        } else {
            problems.push(Problem::Changed {
                path,
                signed: digest,
                found: is,
            });
        }
    }
    problems.extend(signed.into_keys().map(|path| Problem::Missing { path }));
    problems.sort();
    Ok(Verified {
        statement,
        signers,
        files,
        problems,
    })
}

/// SHA-256 of a file, lower-case hexadecimal.
///
/// # Errors
/// [`VerifyError::Read`].
pub fn digest_of(path: &Utf8Path) -> Result<String, VerifyError> {
    let read = |source| VerifyError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = std::fs::File::open(path).map_err(read)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(hex::encode(hasher.finalize())),
            Ok(length) => hasher.update(&chunk[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read(error)),
        }
    }
}

/// Reads the bytes of an envelope, which nobody has verified yet.
///
/// # Errors
/// If it is missing, not a plain file, or larger than any provenance.
pub fn read_envelope(path: &Utf8Path) -> Result<Vec<u8>, VerifyError> {
    let read = |source| VerifyError::Read {
        path: path.to_owned(),
        source,
    };
    // Opening a pipe would wait for somebody to write into it.
    if !std::fs::symlink_metadata(path).map_err(read)?.is_file() {
        return Err(VerifyError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST_ENVELOPE + 1).read_to_end(&mut text))
        .map_err(read)?;
    if text.len() as u64 > LARGEST_ENVELOPE {
        return Err(VerifyError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(text)
}

/// Collects the plain files below `folder/prefix` by their relative paths.
fn walk(
    folder: &Utf8Path,
    prefix: &str,
    depth: usize,
    found: &mut BTreeSet<String>,
    problems: &mut Vec<Problem>,
) -> Result<(), VerifyError> {
    let here = folder.join(prefix);
    let read = |source| VerifyError::Read {
        path: here.clone(),
        source,
    };
    for entry in std::fs::read_dir(&here).map_err(read)? {
        let entry = entry.map_err(read)?;
        let name = entry.file_name();
        let shown = name.to_string_lossy();
        let path = if prefix.is_empty() {
            shown.to_string()
        } else {
            format!("{prefix}/{shown}")
        };
        let kind = entry.file_type().map_err(read)?;
        if name.to_str().is_none() {
            problems.push(Problem::Unnamed { path });
        } else if kind.is_file() {
            found.insert(path);
        } else if kind.is_dir() && depth < DEEPEST {
            walk(folder, &path, depth + 1, found, problems)?;
        } else {
            problems.push(Problem::NotAFile { path });
        }
    }
    Ok(())
}
