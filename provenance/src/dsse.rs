//! The envelope of a signed document: DSSE 1.0.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::{Deserialize, Serialize};

use crate::external::SignError;
use crate::key::{KeyError, KeyId, PrivateKey, PublicKey};

/// Signatures of an envelope: each is compared with every trusted key, so that a file of millions of them would keep whoever
/// verifies it busy for hours.
const MOST_SIGNATURES: usize = 100;

/// What is wrong with an envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Cut off, or something else.
    #[error("not a DSSE envelope: {0}")]
    NotAnEnvelope(#[from] serde_json::Error),
    /// A field's text is no base64.
    #[error("`{0}` is not base64")]
    NotBase64(&'static str),
    /// Another kind of document was signed.
    #[error("the payload is {found:?}, not {wanted:?}")]
    PayloadType {
        /// What it says.
        found: String,
        /// What it should.
        wanted: &'static str,
    },
    /// There are no signatures at all.
    #[error("it carries no signature")]
    Unsigned,
    /// More signatures than anybody needs.
    #[error("it carries {0} signatures, more than {MOST_SIGNATURES}")]
    TooMany(usize),
    /// No signature belongs to a trusted key.
    #[error("none of its signatures is by a trusted key (signed, it says, by {})", .0.join(", "))]
    Untrusted(Vec<String>),
    /// A trusted key could not be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What can sign.
pub trait Signer {
    /// The public half of the key.
    ///
    /// # Errors
    /// If it is not known.
    fn public(&self) -> Result<PublicKey, SignError>;

    /// Signs the message as it is.
    ///
    /// # Errors
    /// If that fails; the caller checks what it gets.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

impl Signer for PrivateKey {
    fn public(&self) -> Result<PublicKey, SignError> {
        Ok(Self::public(self))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        Ok(Self::sign(self, message))
    }
}

/// The bytes that are signed: DSSE's pre-authentication encoding, which binds the type to the payload.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    )
    .into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// A payload with its signatures. Unknown fields are ignored, as the format's specification asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The media type of the payload.
    pub payload_type: String,
    /// Base64.
    pub payload: String,
    /// One of each signer; none yet in an unsigned envelope.
    pub signatures: Vec<Signature>,
}

/// A signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Which key, by its own account: a hint, never believed.
    #[serde(default)]
    pub keyid: String,
    /// Base64.
    pub sig: String,
}

impl Envelope {
    /// Wraps a payload, unsigned.
    pub fn new(payload_type: &str, payload: &[u8]) -> Self {
        Self {
            payload_type: payload_type.into(),
            payload: STANDARD.encode(payload),
            signatures: Vec::new(),
        }
    }

    /// Reads an envelope.
    ///
    /// # Errors
    /// [`EnvelopeError::NotAnEnvelope`] or [`EnvelopeError::TooMany`].
    pub fn parse(text: &[u8]) -> Result<Self, EnvelopeError> {
        let envelope: Self = serde_json::from_slice(text)?;
        envelope.check_number()?;
        Ok(envelope)
    }

    fn check_number(&self) -> Result<(), EnvelopeError> {
        match self.signatures.len() {
            0..=MOST_SIGNATURES => Ok(()),
            number => Err(EnvelopeError::TooMany(number)),
        }
    }

    /// The payload's bytes, not yet verified.
    ///
    /// # Errors
    /// [`EnvelopeError::NotBase64`].
    pub fn unverified_payload(&self) -> Result<Vec<u8>, EnvelopeError> {
        decode(&self.payload, "payload")
    }

    /// Adds a signature; one of the same key is replaced. The new one is checked before it is taken.
    ///
    /// # Errors
    /// If the payload can't be decoded, there are too many signatures, or the signer fails or signs something else.
    pub fn sign(&mut self, signer: &dyn Signer) -> Result<KeyId, SignError> {
        let message = pae(&self.payload_type, &self.unverified_payload()?);
        let public = signer.public()?;
        let signature = signer.sign(&message)?;
        public.verify(&message, &signature)?;
        let id = public.id()?;
        let mut signed = self.clone();
        signed.signatures.retain(|known| known.keyid != id.as_str());
        signed.signatures.push(Signature {
            keyid: id.as_str().to_owned(),
            sig: STANDARD.encode(signature),
        });
        signed.check_number()?;
        *self = signed;
        Ok(id)
    }

    /// Gives the payload and who of the trusted signed it. Signatures of others, and what is no signature, don't matter beside
    /// one that is trusted.
    ///
    /// # Errors
    /// If the payload is of another type, there are too many signatures, or none is by a trusted key.
    pub fn verify(
        &self,
        payload_type: &'static str,
        trusted: &[PublicKey],
    ) -> Result<(Vec<u8>, BTreeSet<KeyId>), EnvelopeError> {
        if self.payload_type != payload_type {
            return Err(EnvelopeError::PayloadType {
                found: self.payload_type.clone(),
                wanted: payload_type,
            });
        }
        if self.signatures.is_empty() {
            return Err(EnvelopeError::Unsigned);
        }
        self.check_number()?;
        let payload = self.unverified_payload()?;
        let message = pae(&self.payload_type, &payload);
        let mut signers = BTreeSet::new();
        for signature in &self.signatures {
            // Whoever may write the file may add such a one: it must not take the others with it.
            let Ok(bytes) = decode(&signature.sig, "sig") else {
                continue;
            };
            for key in trusted {
                if key.verify(&message, &bytes).is_ok() {
                    signers.insert(key.id()?);
                }
            }
        }
        if signers.is_empty() {
            let names = self.signatures.iter();
            return Err(EnvelopeError::Untrusted(
                names
                    .map(|signature| format!("{:?}", signature.keyid))
                    .collect(),
            ));
        }
        Ok((payload, signers))
    }
}

/// Both alphabets are allowed by the specification.
fn decode(text: &str, field: &'static str) -> Result<Vec<u8>, EnvelopeError> {
    STANDARD
        .decode(text)
        .or_else(|_| URL_SAFE.decode(text))
        .map_err(|_| EnvelopeError::NotBase64(field))
}
