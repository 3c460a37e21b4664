//! HTTP from a static binary: name resolution, certificates, request signatures.

mod client;
#[cfg(unix)]
mod resolver;
mod sign;

pub use client::{Client, error_text};
pub use sign::{Credentials, Signer, encode_path, encode_query};
