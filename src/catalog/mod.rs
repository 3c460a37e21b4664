//! shim
use crate::machine::{Arch, Firmware};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectKernel {
    pub kernel: Utf8PathBuf,
    pub initrd: Utf8PathBuf,
    pub cmdline: String,
}
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BaseImage {
    pub name: String,
    pub version: String,
    pub disk: Utf8PathBuf,
    pub format: String,
    pub sha256: String,
    pub architecture: Arch,
    pub firmware: Vec<Firmware>,
    pub kernel: Option<DirectKernel>,
    pub virtual_size: u64,
}
pub fn resolve(home: &Utf8Path, reference: &str) -> crate::error::Result<BaseImage> {
    let p = home.join("bases").join(reference).join("base.json");
    let t = std::fs::read(&p)
        .map_err(|e| crate::error::Failure::config(format!("no base {reference}")).caused_by(e))?;
    serde_json::from_slice(&t).map_err(|e| crate::error::Failure::config("bad base").caused_by(e))
}
