//! Reboot.

use serde::Deserialize;

use super::{Done, Failure};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reboot {
    #[serde(default)]
    delay_seconds: u64,
}

/// Asks the engine for a reboot; the engine stores the state first.
pub fn request(inputs: Reboot) -> Result<Done, Failure> {
    Err(Failure::RebootAndGoOn {
        delay_seconds: inputs.delay_seconds,
        outputs: Vec::new(),
    })
}
