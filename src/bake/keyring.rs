//! Passwords from the keyrings of whoever runs Ovenbird: the kernel's first, which asks nobody, then the desktop's over D-Bus
//! (the Secret Service of GNOME Keyring, KWallet and KeePassXC).
//!
//! Both by the names that the keyring libraries of Rust and Python give them, so that their programs and `secret-tool` can
//! put them there.

#[cfg(target_os = "linux")]
use std::collections::HashMap;
#[cfg(target_os = "linux")]
use std::time::Duration;

#[cfg(target_os = "linux")]
use linux_keyutils::{KeyError, KeyRing, KeyRingIdentifier};
#[cfg(target_os = "linux")]
use secret_service::{EncryptionType, SecretService};

/// How long somebody may take to unlock the desktop's keyring.
#[cfg(target_os = "linux")]
const PATIENCE: Duration = Duration::from_secs(120);

/// Where a password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// What it is for.
    pub service: String,
    /// Whose it is.
    pub account: String,
}

/// Why no keyring gave a password.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyringError {
    /// What each of them said.
    #[cfg(target_os = "linux")]
    #[error("the kernel's keyring: {kernel}; the desktop's: {desktop}")]
    Nowhere {
        /// The kernel's reason.
        kernel: String,
        /// The desktop's reason.
        desktop: String,
    },
    /// Another system's keyrings are not known here.
    #[cfg(not(target_os = "linux"))]
    #[error("keyrings are only read on Linux")]
    NotHere,
}

impl Account {
    /// The password.
    ///
    /// # Errors
    /// What both keyrings say, if neither has it.
    #[cfg(target_os = "linux")]
    pub async fn password(&self) -> Result<Vec<u8>, KeyringError> {
        let kernel = match self.of_kernel() {
            Ok(password) => return Ok(password),
            Err(KeyError::KeyDoesNotExist) => "it has none".to_owned(),
            Err(error) => error.to_string(),
        };
        let desktop = match tokio::time::timeout(PATIENCE, self.of_desktop()).await {
            Ok(Ok(password)) => return Ok(password),
            Ok(Err(reason)) => reason,
            Err(_) => format!("nobody unlocked it within {} s", PATIENCE.as_secs()),
        };
        Err(KeyringError::Nowhere { kernel, desktop })
    }

    /// The password.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub async fn password(&self) -> Result<Vec<u8>, KeyringError> {
        Err(KeyringError::NotHere)
    }

    /// The description of its key in the kernel's keyrings.
    #[cfg(target_os = "linux")]
    fn description(&self) -> String {
        format!("keyring:{}@{}", self.account, self.service)
    }

    #[cfg(target_os = "linux")]
    fn of_kernel(&self) -> Result<Vec<u8>, KeyError> {
        let mut reason = KeyError::KeyDoesNotExist;
        // A key may be read by who possesses it: whom a keyring of the session leads to it, or of the process. Not every login
        // links the user's keyring to the session's.
        let _ = KeyRing::from_special_id(KeyRingIdentifier::Process, true)
            .and_then(|ring| ring.link_keyring_id(KeyRingIdentifier::User));
        for ring in [KeyRingIdentifier::Session, KeyRingIdentifier::Process] {
            let found = KeyRing::from_special_id(ring, false)
                .and_then(|ring| ring.search(&self.description()))
                .and_then(|key| key.read_to_vec());
            match found {
                Ok(password) => return Ok(password),
                Err(KeyError::KeyDoesNotExist) => {}
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    #[cfg(target_os = "linux")]
    async fn of_desktop(&self) -> Result<Vec<u8>, String> {
        let told = |error| match error {
            secret_service::Error::Unavailable => "none answers".into(),
            secret_service::Error::Prompt => "it is locked, and was not unlocked".into(),
            error => error.to_string(),
        };
        let service = SecretService::connect(EncryptionType::Dh)
            .await
            .map_err(told)?;
        let attributes = HashMap::from([
            ("service", self.service.as_str()),
            ("username", self.account.as_str()),
        ]);
        let found = service.search_items(attributes).await.map_err(told)?;
        match (found.unlocked.as_slice(), found.locked.as_slice()) {
            ([], []) => Err("it has none".into()),
            ([item], []) => item.get_secret().await.map_err(told),
            ([], [item]) => {
                item.unlock().await.map_err(told)?;
                item.get_secret().await.map_err(told)
            }
            (unlocked, locked) => Err(format!("it has {} of them", unlocked.len() + locked.len())),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// A key of the kernel's that goes away with the test.
    struct Kept(linux_keyutils::Key);

    impl Drop for Kept {
        fn drop(&mut self) {
            let _ = self.0.invalidate();
        }
    }

    #[tokio::test]
    async fn the_kernels_keyring_is_asked() {
        let account = Account {
            service: "ovenbird-test".into(),
            account: format!("somebody-{}", std::process::id()),
        };
        // No desktop answers here: the error says what both of them said, and whom they were asked for is the caller's to say.
        let nothing = account.password().await.unwrap_err().to_string();
        assert!(
            nothing.starts_with("the kernel's keyring: it has none; the desktop's: "),
            "{nothing}"
        );
        let ring = KeyRing::from_special_id(KeyRingIdentifier::User, false).unwrap();
        let key = ring
            .add_key(&account.description(), "p\u{e4}ss word\n")
            .unwrap();
        let _kept = Kept(key);
        let password = account.password().await.unwrap();
        assert_eq!(password, "p\u{e4}ss word\n".as_bytes());
    }
}
