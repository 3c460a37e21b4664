//! What the host asks of the agent besides running documents; travels as JSON on the agent's standard input, since it holds
//! keys, and arguments can be read by every process of the guest.

use serde::{Deserialize, Serialize};

/// For a guest that went on from a saved memory: what makes it another one than the guest that was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Renewal {
    /// The time now: nanoseconds since 1970 in UTC.
    pub time: u64,
    /// 64 random bytes for the kernel's generator, in hexadecimal.
    pub entropy: String,
    /// The user that the host logs in as.
    pub user: String,
    /// The line for that user's `authorized_keys`, without its end; the only one that stays.
    pub authorized_key: String,
    /// The private key by which the SSH server identifies itself, in OpenSSH's format; the only one that stays.
    pub host_key: String,
    /// Its public key, without the line's end.
    pub host_key_public: String,
}

/// For a guest whose components are going to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Preparation {
    /// The folder of the documents; what else lies there is removed.
    pub folder: String,
    /// The documents.
    pub documents: Vec<Document>,
    /// The file of apt's configuration that names the host's package cache. It is removed if there is none.
    pub package_settings: String,
    /// The port of the guest's loopback interface on which the cache is reached.
    pub package_port: Option<u16>,
}

/// A document on its way into the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// The name of its file.
    pub file: String,
    /// Its text.
    pub text: String,
}
