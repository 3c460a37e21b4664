//! The keys of one bake: one with which we log in, one by which we recognise the guest.

use rand::Rng as _;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{PrivateKey, PublicKey};

use crate::error::{FailureContext as _, FailureKind, Result};

/// Two fresh ed25519 key pairs, valid for one guest.
///
/// The host key is put into the guest through the seed; so its identity is verified, not trusted on first use.
#[derive(Clone)]
pub struct BakeKeys {
    /// With this we log in.
    pub user: PrivateKey,
    /// With this the guest's SSH server identifies itself.
    pub host: PrivateKey,
}

impl std::fmt::Debug for BakeKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BakeKeys(..)")
    }
}

impl BakeKeys {
    /// Makes both pairs from the operating system's random generator.
    ///
    /// # Errors
    /// An internal failure if a key can't be encoded.
    pub fn generate() -> Result<Self> {
        Ok(Self {
            user: pair("ovenbird")?,
            host: pair("ovenbird-guest")?,
        })
    }

    /// Reads both private keys from OpenSSH's format.
    ///
    /// # Errors
    /// An environment failure if one is no key.
    pub fn from_openssh(user: &str, host: &str) -> Result<Self> {
        let read = |text: &str| {
            PrivateKey::from_openssh(text)
                .or_failure(FailureKind::Environment, || "a saved key is damaged".into())
        };
        Ok(Self {
            user: read(user)?,
            host: read(host)?,
        })
    }

    /// The line for `authorized_keys`.
    ///
    /// # Errors
    /// An internal failure if the key can't be encoded.
    pub fn authorized_key(&self) -> Result<String> {
        public_line(self.user.public_key())
    }

    /// The guest's private host key in OpenSSH's format.
    ///
    /// # Errors
    /// An internal failure if the key can't be encoded.
    pub fn host_private(&self) -> Result<String> {
        private_text(&self.host)
    }

    /// The guest's public host key, one line.
    ///
    /// # Errors
    /// An internal failure if the key can't be encoded.
    pub fn host_public(&self) -> Result<String> {
        public_line(self.host.public_key())
    }

    /// The user's private key in OpenSSH's format, for the `ssh` command of a kept guest.
    ///
    /// # Errors
    /// An internal failure if the key can't be encoded.
    pub fn user_private(&self) -> Result<String> {
        private_text(&self.user)
    }
}

fn pair(comment: &str) -> Result<PrivateKey> {
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
    PrivateKey::new(pair, comment)
        .or_failure(FailureKind::Internal, || "cannot make a key pair".into())
}

fn public_line(key: &PublicKey) -> Result<String> {
    key.to_openssh().or_failure(FailureKind::Internal, || {
        "cannot encode a public key".into()
    })
}

fn private_text(key: &PrivateKey) -> Result<String> {
    key.to_openssh(LineEnding::LF)
        .map(|text| text.to_string())
        .or_failure(FailureKind::Internal, || {
            "cannot encode a private key".into()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_differ_and_survive_their_text_form() {
        let keys = BakeKeys::generate().unwrap();
        assert_ne!(keys.authorized_key().unwrap(), keys.host_public().unwrap());
        let read = PrivateKey::from_openssh(keys.host_private().unwrap()).unwrap();
        assert_eq!(
            read.public_key().key_data(),
            keys.host.public_key().key_data()
        );
        assert_ne!(
            BakeKeys::generate().unwrap().authorized_key().unwrap(),
            keys.authorized_key().unwrap()
        );
        assert_eq!(format!("{keys:?}"), "BakeKeys(..)");
    }
}
