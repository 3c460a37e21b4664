//! The documents of an OCI image: configuration, manifest, index.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ExportOptions;
use crate::{Error, Result, Sha256Digest};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const REFERENCE: &str = "org.opencontainers.image.ref.name";

/// The configuration of an image.
#[derive(Debug, Clone)]
pub struct Config {
    /// As Go names it: `amd64`, `arm64`.
    pub architecture: String,
    /// Such as `linux`.
    pub os: String,
    /// `NAME=value` lines.
    pub env: Vec<String>,
    /// Command that always runs.
    pub entrypoint: Vec<String>,
    /// Its arguments, or the command when there is no entry point.
    pub cmd: Vec<String>,
    /// Folder in which it starts.
    pub working_dir: Option<String>,
    /// User, or `user:group`.
    pub user: Option<String>,
    /// Ports such as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Seconds since 1970; nothing is written without it.
    pub created: Option<i64>,
    /// Who is named in the history.
    pub created_by: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
            env: vec![
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            ],
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            working_dir: None,
            user: None,
            exposed_ports: Vec::new(),
            labels: BTreeMap::new(),
            created: None,
            created_by: None,
        }
    }
}

impl Config {
    /// The configuration as JSON with sorted keys.
    pub(super) fn encode(&self, diff_id: &Sha256Digest) -> Result<Typed> {
        let mut config = json!({});
        let mut set = |key: &str, value: Value| {
            let is_empty = match &value {
                Value::Array(items) => items.is_empty(),
                Value::Object(items) => items.is_empty(),
                Value::Null => true,
                _ => false,
            };
            if !is_empty {
                config[key] = value;
            }
        };
        set("Env", json!(self.env));
        set("Entrypoint", json!(self.entrypoint));
        set("Cmd", json!(self.cmd));
        set("WorkingDir", json!(self.working_dir));
        set("User", json!(self.user));
        set("Labels", json!(self.labels));
        let ports: serde_json::Map<String, Value> = self
            .exposed_ports
            .iter()
            .map(|port| (port.clone(), json!({})))
            .collect();
        set("ExposedPorts", Value::Object(ports));
        let mut history = json!({ "created_by": self.created_by.as_deref().unwrap_or("ovenbird: root filesystem of a disk") });
        let mut image = json!({
            "architecture": self.architecture,
            "os": self.os,
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": [diff_id.oci()] },
        });
        if let Some(created) = self.created {
            image["created"] = json!(rfc3339(created));
            history["created"] = json!(rfc3339(created));
        }
        image["history"] = json!([history]);
        Typed::new(CONFIG, &image)
    }
}

/// Seconds since 1970 as a time in UTC.
fn rfc3339(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a date in years that begin in March, so that the leap day is the last one (Hinnant's algorithm).
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!(
        "{:04}-{month:02}-{day_of_month:02}T{:02}:{:02}:{:02}Z",
        year + era * 400 + carry,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// A stored blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Media type.
    pub media_type: String,
    /// Digest.
    pub digest: Sha256Digest,
    /// Bytes.
    pub size: u64,
}

impl Blob {
    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest.oci(), "size": self.size })
    }
}

/// JSON with its media type.
pub(super) struct Typed {
    pub(super) media_type: &'static str,
    pub(super) bytes: Vec<u8>,
}

impl Typed {
    fn new(media_type: &'static str, value: &Value) -> Result<Self> {
        let bytes = serde_json::to_vec(value).map_err(|e| Error::invalid(format!("JSON: {e}")))?;
        Ok(Self { media_type, bytes })
    }
}

/// The manifest of an image with one layer.
pub(super) fn manifest(config: &Blob, layer: &Blob, options: &ExportOptions) -> Result<Typed> {
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(),
        "layers": [Blob { media_type: options.compression.media_type().to_owned(), ..layer.clone() }.descriptor()],
    });
    if !options.annotations.is_empty() {
        manifest["annotations"] = json!(options.annotations);
    }
    Typed::new(MANIFEST, &manifest)
}

/// The index of an image layout with one image.
pub(super) fn index(manifest: &Blob, options: &ExportOptions) -> Result<Typed> {
    let mut descriptor = manifest.descriptor();
    descriptor["platform"] =
        json!({ "architecture": options.config.architecture, "os": options.config.os });
    if let Some(reference) = &options.reference {
        descriptor["annotations"] = json!({ REFERENCE: reference });
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor] });
    Typed::new(INDEX, &index)
}

/// What the file `oci-layout` says.
pub(super) const LAYOUT_FILE: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
