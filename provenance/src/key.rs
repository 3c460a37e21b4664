//! Keys: ed25519 and ECDSA over P-256, as PEM files that OpenSSL and cosign read too.

use std::fmt;

use ed25519_dalek::pkcs8::KeypairBytes;
use ed25519_dalek::{Signer as _, Verifier as _};
use pkcs8::spki::{DecodePublicKey as _, EncodePublicKey as _};
use pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Neither of the two kinds, or damaged.
    #[error("not a public key of ed25519 or ECDSA P-256 in PEM form (`BEGIN PUBLIC KEY`)")]
    NotPublic,
    /// Neither of the two kinds, or damaged.
    #[error("not a private key of ed25519 or ECDSA P-256 in PKCS#8 PEM form")]
    NotPrivate,
    /// Cosign's own private format.
    #[error(
        "a private key in cosign's own format, which is not read here; give one in PKCS#8 form, or sign through a command"
    )]
    CosignPrivate,
    /// The key is encrypted and no passphrase was given.
    #[error("the key is encrypted and needs its passphrase")]
    PassphraseNeeded,
    /// It does not decrypt to a key.
    #[error("wrong passphrase, or a damaged key")]
    WrongPassphrase,
    /// A library refused to encode the key.
    #[error("cannot encode the key: {0}")]
    Encode(String),
    /// The signature is not one of this key over this message.
    #[error("the signature does not belong to this key and message")]
    BadSignature,
}

/// The algorithm of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub enum Algorithm {
    /// Ed25519 (RFC 8032).
    #[serde(rename = "ed25519")]
    Ed25519,
    /// ECDSA over P-256 with SHA-256, the signature in DER, as cosign has it.
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256 => "ecdsa-p256",
        })
    }
}

/// The identity of a key: SHA-256 of its `SubjectPublicKeyInfo` in DER, lower-case hexadecimal.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    /// The hexadecimal text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// See [`Algorithm::Ed25519`].
    Ed25519(ed25519_dalek::VerifyingKey),
    /// See [`Algorithm::EcdsaP256`].
    EcdsaP256(p256::ecdsa::VerifyingKey),
}

impl PublicKey {
    /// Reads `-----BEGIN PUBLIC KEY-----`, as `cosign.pub` is.
    ///
    /// # Errors
    /// [`KeyError::NotPublic`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        if let Ok(key) = ed25519_dalek::VerifyingKey::from_public_key_pem(pem) {
            return Ok(Self::Ed25519(key));
        }
        p256::ecdsa::VerifyingKey::from_public_key_pem(pem)
            .map(Self::EcdsaP256)
            .map_err(|_| KeyError::NotPublic)
    }

    /// Writes `-----BEGIN PUBLIC KEY-----`.
    ///
    /// # Errors
    /// [`KeyError::Encode`].
    pub fn to_pem(&self) -> Result<String, KeyError> {
        match self {
            Self::Ed25519(key) => key.to_public_key_pem(LineEnding::LF),
            Self::EcdsaP256(key) => key.to_public_key_pem(LineEnding::LF),
        }
        .map_err(|error| KeyError::Encode(error.to_string()))
    }

    /// The key's identity.
    ///
    /// # Errors
    /// [`KeyError::Encode`].
    pub fn id(&self) -> Result<KeyId, KeyError> {
        let der = match self {
            Self::Ed25519(key) => key.to_public_key_der(),
            Self::EcdsaP256(key) => key.to_public_key_der(),
        }
        .map_err(|error| KeyError::Encode(error.to_string()))?;
        Ok(KeyId(hex::encode(Sha256::digest(der.as_bytes()))))
    }

    /// The key's algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ed25519(_) => Algorithm::Ed25519,
            Self::EcdsaP256(_) => Algorithm::EcdsaP256,
        }
    }

    /// Checks a signature.
    ///
    /// # Errors
    /// [`KeyError::BadSignature`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
        let valid = match self {
            // Strict: keys of small order sign anything and are refused.
            Self::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            Self::EcdsaP256(key) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        };
        valid.then_some(()).ok_or(KeyError::BadSignature)
    }
}

/// A private key; wiped from memory when dropped, and never printed.
pub enum PrivateKey {
    /// See [`Algorithm::Ed25519`].
    Ed25519(ed25519_dalek::SigningKey),
    /// See [`Algorithm::EcdsaP256`].
    EcdsaP256(p256::ecdsa::SigningKey),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

impl PrivateKey {
    /// Makes a key from the operating system's random numbers.
    pub fn generate(algorithm: Algorithm) -> Self {
        loop {
            let secret: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
            match algorithm {
                Algorithm::Ed25519 => {
                    return Self::Ed25519(ed25519_dalek::SigningKey::from_bytes(&secret));
                }
                // One in 2^32 numbers is not below the order of the curve.
                Algorithm::EcdsaP256 => {
                    if let Ok(key) = p256::ecdsa::SigningKey::from_slice(secret.as_slice()) {
                        return Self::EcdsaP256(key);
                    }
                }
            }
        }
    }

    /// Whether a PEM text holds an encrypted key, which needs a passphrase.
    pub fn is_encrypted(pem: &str) -> bool {
        pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    }

    /// Reads a PKCS#8 key, encrypted (PBES2) or plain.
    ///
    /// # Errors
    /// If it is none, or the passphrase is missing or wrong.
    pub fn from_pem(pem: &str, passphrase: Option<&[u8]>) -> Result<Self, KeyError> {
        if pem.contains("SIGSTORE PRIVATE KEY") || pem.contains("COSIGN PRIVATE KEY") {
            return Err(KeyError::CosignPrivate);
        }
        if !Self::is_encrypted(pem) {
            if let Ok(key) = ed25519_dalek::SigningKey::from_pkcs8_pem(pem) {
                return Ok(Self::Ed25519(key));
            }
            return p256::ecdsa::SigningKey::from_pkcs8_pem(pem)
                .map(Self::EcdsaP256)
                .map_err(|_| KeyError::NotPrivate);
        }
        let passphrase = passphrase.ok_or(KeyError::PassphraseNeeded)?;
        // The passphrase is made into a key once, for that is slow on purpose.
        let (_, document) =
            pkcs8::SecretDocument::from_pem(pem).map_err(|_| KeyError::NotPrivate)?;
        let plain = pkcs8::EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())
            .map_err(|_| KeyError::NotPrivate)?
            .decrypt(passphrase)
            .map_err(|_| KeyError::WrongPassphrase)?;
        if let Ok(key) = ed25519_dalek::SigningKey::from_pkcs8_der(plain.as_bytes()) {
            return Ok(Self::Ed25519(key));
        }
        p256::ecdsa::SigningKey::from_pkcs8_der(plain.as_bytes())
            .map(Self::EcdsaP256)
            .map_err(|_| KeyError::WrongPassphrase)
    }

    /// Writes the key as PKCS#8, encrypted (scrypt and AES-256-CBC) if there is a passphrase.
    ///
    /// # Errors
    /// [`KeyError::Encode`].
    pub fn to_pem(&self, passphrase: Option<&[u8]>) -> Result<Zeroizing<String>, KeyError> {
        match self {
            // Without the public half: OpenSSL 3.0 does not read the newer form that has it.
            Self::Ed25519(key) => {
                let bytes = KeypairBytes {
                    secret_key: key.to_bytes(),
                    public_key: None,
                };
                match passphrase {
                    Some(passphrase) => bytes.to_pkcs8_encrypted_pem(passphrase, LineEnding::LF),
                    None => bytes.to_pkcs8_pem(LineEnding::LF),
                }
            }
            Self::EcdsaP256(key) => match passphrase {
                Some(passphrase) => key.to_pkcs8_encrypted_pem(passphrase, LineEnding::LF),
                None => key.to_pkcs8_pem(LineEnding::LF),
            },
        }
        .map_err(|error| KeyError::Encode(error.to_string()))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        match self {
            Self::Ed25519(key) => PublicKey::Ed25519(key.verifying_key()),
            Self::EcdsaP256(key) => PublicKey::EcdsaP256(*key.verifying_key()),
        }
    }

    /// Signs a message: 64 bytes for ed25519, DER for ECDSA.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.sign(message).to_vec(),
            Self::EcdsaP256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
        }
    }
}
