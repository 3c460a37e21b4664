//! Digests: of files, and in the lists that distributions publish.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::str::FromStr;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

use super::{CatalogError, Result};

/// Big enough to keep the hash busy between system calls, small enough for the second-level cache.
const BUFFER: usize = 256 * 1024;

/// A digest algorithm that distributions publish. Older ones are not proof of anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hexadecimal digits a digest has.
    pub const fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A digest with its algorithm: `sha256:…` in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl Digest {
    /// Makes a digest of an algorithm and hexadecimal digits of either case; `None` if these are not as many as the
    /// algorithm wants.
    pub fn new(algorithm: Algorithm, hex: &str) -> Option<Self> {
        (hex.len() == algorithm.hex_length() && hex.bytes().all(|b| b.is_ascii_hexdigit())).then(
            || Self {
                algorithm,
                hex: hex.to_ascii_lowercase(),
            },
        )
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digits.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

impl FromStr for Digest {
    type Err = CatalogError;

    /// Reads `sha256:…`, `sha512:…`, or bare digits whose number tells the algorithm.
    fn from_str(text: &str) -> Result<Self> {
        let [sha256, sha512] = [Algorithm::Sha256, Algorithm::Sha512];
        match text.split_once(':') {
            Some(("sha256", hex)) => Self::new(sha256, hex),
            Some(("sha512", hex)) => Self::new(sha512, hex),
            Some(_) => None,
            None => Self::new(sha256, text).or_else(|| Self::new(sha512, text)),
        }
        .ok_or_else(|| CatalogError::BadDigest(text.to_owned()))
    }
}

impl TryFrom<String> for Digest {
    type Error = CatalogError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Both digests of one file, computed in one pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDigests {
    /// What we keep in the record.
    pub sha256: Digest,
    /// Only if asked for.
    pub sha512: Option<Digest>,
}

impl FileDigests {
    /// Reads a file once. SHA-512 is computed only if `expected` is one; `on_bytes` hears of progress.
    ///
    /// # Errors
    /// [`CatalogError::Io`].
    pub fn of(
        path: &Utf8Path,
        expected: Option<&Digest>,
        mut on_bytes: impl FnMut(u64),
    ) -> Result<Self> {
        let read = CatalogError::io("read", path);
        let mut sha256 = Sha256::new();
        let mut sha512 = expected
            .is_some_and(|digest| digest.algorithm == Algorithm::Sha512)
            .then(Sha512::new);
        let mut consume = || -> std::io::Result<()> {
            let mut file = File::open(path)?;
            let mut buffer = vec![0; BUFFER];
            loop {
                let length = file.read(&mut buffer)?;
                if length == 0 {
                    return Ok(());
                }
                sha256.update(&buffer[..length]);
                if let Some(sha512) = &mut sha512 {
                    sha512.update(&buffer[..length]);
                }
                on_bytes(length as u64);
            }
        };
        consume().map_err(read)?;
        Ok(Self {
            sha256: Digest {
                algorithm: Algorithm::Sha256,
                hex: hex::encode(sha256.finalize()),
            },
            sha512: sha512.map(|hash| Digest {
                algorithm: Algorithm::Sha512,
                hex: hex::encode(hash.finalize()),
            }),
        })
    }

    /// Compares with what was published or recorded for `name`.
    ///
    /// # Errors
    /// [`CatalogError::DigestMismatch`].
    pub fn verify(&self, expected: &Digest, name: &str) -> Result<()> {
        let actual = match expected.algorithm {
            Algorithm::Sha256 => Some(&self.sha256),
            Algorithm::Sha512 => self.sha512.as_ref(),
        };
        if actual == Some(expected) {
            return Ok(());
        }
        Err(CatalogError::DigestMismatch {
            path: name.to_owned(),
            expected: expected.to_string(),
            actual: actual.map_or_else(|| "(not computed)".to_owned(), ToString::to_string),
        })
    }
}

/// Finds a file's digest in a published list.
///
/// Understands the three forms that distributions use, also inside a clear-signed message: `HEX  name` and `HEX *name`
/// (coreutils), `SHA256 (name) = HEX` (BSD), and a lone `HEX` when the list is about one file.
pub fn find_in_list(list: &str, algorithm: Algorithm, file: &str) -> Option<Digest> {
    let lines = || {
        list.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
    };
    let bsd = format!("{} (", algorithm.as_str().to_ascii_uppercase());
    for line in lines() {
        if let Some(rest) = line.strip_prefix(&bsd) {
            if let Some((name, hex)) = rest.rsplit_once(") = ")
                && base_name(name) == file
            {
                return Digest::new(algorithm, hex.trim());
            }
        } else if let Some((hex, name)) = line.split_once([' ', '\t'])
            && base_name(name.trim_start().trim_start_matches('*')) == file
            && let Some(digest) = Digest::new(algorithm, hex)
        {
            return Some(digest);
        }
    }
    let mut only = lines();
    match (only.next(), only.next()) {
        (Some(hex), None) => Digest::new(algorithm, hex),
        _ => None,
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

    #[test]
    fn lists() {
        let table = [
            (format!("{A}  other.img\n{B} *disk.img\n"), Some(B)),
            (format!("{A}  ./sub/disk.img\n"), Some(A)),
            (
                format!(
                    "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# disk.img: 3 bytes\nSHA256 (disk.img) = {A}\n-----BEGIN PGP SIGNATURE-----\n"
                ),
                Some(A),
            ),
            (format!("{A}\n"), Some(A)),
            (format!("{A}  disk.img.xz\n"), None),
            (format!("{}  disk.img\n", &A[1..]), None),
            ("<html>not found</html>".to_owned(), None),
            (format!("SHA512 (disk.img) = {A}{A}\n"), None),
            (String::new(), None),
        ];
        for (list, expected) in table {
            let found = find_in_list(&list, Algorithm::Sha256, "disk.img");
            assert_eq!(
                found.as_ref().map(Digest::hex),
                expected.map(str::to_ascii_lowercase).as_deref(),
                "{list}"
            );
        }
    }

    #[test]
    fn the_number_of_digits_tells_the_algorithm() {
        assert_eq!(A.parse::<Digest>().unwrap().algorithm(), Algorithm::Sha256);
        assert_eq!(
            format!("{A}{A}").parse::<Digest>().unwrap().algorithm(),
            Algorithm::Sha512
        );
        for bad in [
            "",
            "sha256:",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &A[2..],
            "sha256:zz",
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn known_digests_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("abc");
        std::fs::write(&path, "abc").unwrap();
        // The example of FIPS 180-4.
        let sha256: Digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
            .parse()
            .unwrap();
        let sha512: Digest = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f".parse().unwrap();
        let mut seen = 0;
        let digests = FileDigests::of(&path, Some(&sha512), |bytes| seen += bytes).unwrap();
        assert_eq!(seen, 3);
        digests.verify(&sha256, "abc").unwrap();
        digests.verify(&sha512, "abc").unwrap();
        let error = digests.verify(&A.parse().unwrap(), "abc").unwrap_err();
        assert!(matches!(error, CatalogError::DigestMismatch { .. }));
    }
}
