//! Keys as files: PKCS#8 and SPKI in PEM, as OpenSSL and cosign (public keys) have them.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_provenance::dsse::Signer;
use ovenbird_provenance::external::{CommandSigner, SignError};
use ovenbird_provenance::key::{Algorithm, KeyError, PrivateKey, PublicKey};

use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// The environment variable with the passphrase.
pub const PASSPHRASE: &str = "OVENBIRD_KEY_PASSPHRASE";

/// Before a command that signs, where a key's file is expected.
const COMMAND: &str = "command:";

/// Where a key was named, which decides what can be advised if it can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// The options of `sign`.
    Options,
    /// `[signing]` of a home.
    Settings,
    /// `--sign-key`, which stands alone.
    SignKey,
}

impl NamedBy {
    fn passphrase_hint(self) -> String {
        match self {
            Self::Options => format!("give it by {PASSPHRASE} or --passphrase-file"),
            Self::Settings => {
                format!("give it by {PASSPHRASE}, or name `passphraseFile` in config.toml")
            }
            Self::SignKey => format!("give it by {PASSPHRASE}"),
        }
    }

    const fn public_key_hint(self) -> &'static str {
        match self {
            Self::Options => "give it by --public-key FILE",
            Self::Settings | Self::SignKey => {
                "name it as `publicKey` under `[signing]` in config.toml"
            }
        }
    }
}

/// What signs the images of a home.
#[derive(Clone)]
pub struct Seal(Arc<dyn Signer + Send + Sync>);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(..)")
    }
}

impl Signer for Seal {
    fn public(&self) -> std::result::Result<PublicKey, SignError> {
        self.0.public()
    }

    fn sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, SignError> {
        self.0.sign(message)
    }
}

/// What `[signing]` in a home's `config.toml` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SigningSettings {
    /// The private key's file, or `command:` with what signs; paths are relative to the home.
    key: Option<String>,
    /// The public key of a command.
    public_key: Option<Utf8PathBuf>,
    /// A file with the key's passphrase.
    passphrase_file: Option<Utf8PathBuf>,
}

impl SigningSettings {
    /// What signs every image of this home, if that is wanted; `instead` is another key, as the command line has it.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if the key can't be used.
    pub fn seal(&self, home: &Utf8Path, instead: Option<&str>) -> Result<Option<Seal>> {
        let Some(key) = instead.or(self.key.as_deref()) else {
            return Ok(None);
        };
        let (named_by, key, passphrase_file) = match instead {
            // The file has the passphrase of the home's own key.
            Some(key) => (NamedBy::SignKey, key.to_owned(), None),
            None if key.starts_with(COMMAND) => (NamedBy::Settings, key.to_owned(), None),
            None => {
                let file = self.passphrase_file.as_ref().map(|file| home.join(file));
                (NamedBy::Settings, home.join(key).into_string(), file)
            }
        };
        let passphrase = passphrase(passphrase_file.as_deref())?;
        let public = self.public_key.as_ref().map(|file| home.join(file));
        signer(&key, public.as_deref(), passphrase.as_deref(), named_by).map(Some)
    }
}

/// The passphrase: from a file, else from the environment.
///
/// # Errors
/// [`FailureKind::Config`] if the file can't be read or is empty: nobody means a passphrase of no letters.
pub fn passphrase(file: Option<&Utf8Path>) -> Result<Option<String>> {
    match file {
        None => Ok(std::env::var(PASSPHRASE)
            .ok()
            .filter(|text| !text.is_empty())),
        Some(file) => {
            let text = std::fs::read_to_string(file).or_failure(FailureKind::Config, || {
                format!("cannot read the passphrase from {file}")
            })?;
            match text.trim_end_matches(['\r', '\n']) {
                "" => Err(Failure::config(format!(
                    "the passphrase in {file} is empty"
                ))),
                text => Ok(Some(text.to_owned())),
            }
        }
    }
}

/// Makes a key pair: the private key at `path`, readable by its owner alone, the public one beside it with `.pub`.
///
/// # Errors
/// [`FailureKind::Output`] if one of the files exists already or can't be written.
pub fn generate(
    path: &Utf8Path,
    algorithm: Algorithm,
    passphrase: Option<&str>,
) -> Result<(PublicKey, Utf8PathBuf)> {
    let key = PrivateKey::generate(algorithm);
    let encode = || "cannot encode the key".to_owned();
    let pem = key
        .to_pem(passphrase.map(str::as_bytes))
        .or_failure(FailureKind::Internal, encode)?;
    let public = key.public();
    let public_pem = public.to_pem().or_failure(FailureKind::Internal, encode)?;
    let beside = Utf8PathBuf::from(format!("{path}.pub"));
    if beside.exists() {
        return Err(exists(&beside));
    }
    write_new(path, pem.as_bytes(), 0o600)?;
    write_new(&beside, public_pem.as_bytes(), 0o644)?;
    Ok((public, beside))
}

fn exists(path: &Utf8Path) -> Failure {
    Failure::new(FailureKind::Output, format!("{path} exists already"))
        .with_hint("a key that is lost cannot be made again: choose another name")
}

fn write_new(path: &Utf8Path, bytes: &[u8], mode: u32) -> Result<()> {
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    match opened {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(exists(path)),
        opened => opened
            .and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            })
            .or_failure(FailureKind::Output, || format!("cannot write {path}")),
    }
}

fn read(path: &Utf8Path) -> Result<String> {
    std::fs::read_to_string(path).or_failure(FailureKind::Config, || {
        format!("cannot read the key {path}")
    })
}

/// Reads a public key.
///
/// # Errors
/// [`FailureKind::Config`] if it is none.
pub fn public_key(path: &Utf8Path) -> Result<PublicKey> {
    PublicKey::from_pem(&read(path)?)
        .or_failure(FailureKind::Config, || format!("{path} is no public key"))
}

/// Reads a private key.
///
/// # Errors
/// [`FailureKind::Config`] if it is none, or its passphrase is missing or wrong.
pub fn private_key(
    path: &Utf8Path,
    passphrase: Option<&str>,
    named_by: NamedBy,
) -> Result<PrivateKey> {
    PrivateKey::from_pem(&read(path)?, passphrase.map(str::as_bytes)).map_err(|error| {
        let hint = matches!(error, KeyError::PassphraseNeeded).then(|| named_by.passphrase_hint());
        let failure = Failure::config(format!("cannot use the key {path}")).caused_by(error);
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    })
}

/// What signs: a key's file, or `command:` with a shell command that gets the message and prints the signature in base64,
/// for keys in a token; its public key has to be given. The command does not get [`PASSPHRASE`], which is a file's.
///
/// # Errors
/// [`FailureKind::Config`] if the key can't be used.
pub fn signer(
    key: &str,
    public: Option<&Utf8Path>,
    passphrase: Option<&str>,
    named_by: NamedBy,
) -> Result<Seal> {
    match (key.strip_prefix(COMMAND), public) {
        (Some(command), Some(public)) => {
            let signer = CommandSigner::new(command, public_key(public)?).without(PASSPHRASE);
            Ok(Seal(Arc::new(signer)))
        }
        (Some(_), None) => Err(Failure::config("a command that signs needs its public key")
            .with_hint(named_by.public_key_hint())),
        (None, _) => {
            let key = private_key(Utf8Path::new(key), passphrase, named_by)?;
            Ok(Seal(Arc::new(key)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A home with a key and another one, each with its passphrase; `config.toml` names that of the first.
    #[test]
    fn another_key_is_not_opened_with_the_passphrase_of_the_home() {
        let root = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(root.path()).unwrap();
        std::fs::write(home.join("pass"), "of the home\n").unwrap();
        let other = home.join("other");
        generate(&home.join("own"), Algorithm::Ed25519, Some("of the home")).unwrap();
        generate(&other, Algorithm::Ed25519, Some("of the other")).unwrap();
        let settings = SigningSettings {
            key: Some("own".into()),
            passphrase_file: Some("pass".into()),
            ..SigningSettings::default()
        };
        assert!(settings.seal(home, None).unwrap().is_some());
        // Not "wrong": none was given, and there is no option to name its file.
        let failure = settings.seal(home, Some(other.as_str())).unwrap_err();
        assert!(failure.chain().contains("passphrase"), "{failure:?}");
        let hint = failure.hint().unwrap();
        assert!(hint.contains(PASSPHRASE) && !hint.contains("--"), "{hint}");
        let settings = SigningSettings {
            passphrase_file: None,
            ..settings
        };
        let failure = settings.seal(home, None).unwrap_err();
        assert!(failure.hint().unwrap().contains("passphraseFile"));
        for instead in [None, Some("command:true")] {
            let settings = SigningSettings {
                key: Some("command:true".into()),
                ..SigningSettings::default()
            };
            let failure = settings.seal(home, instead).unwrap_err();
            assert!(failure.hint().unwrap().contains("`publicKey`"));
        }
    }
}
