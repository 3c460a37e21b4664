//! What is known of a layer, and of the memory beside it.

use serde::{Deserialize, Serialize};

use super::key::{Inputs, LayerId};
use crate::machine::{Accelerator, Arch, Firmware};

/// What is known of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// Who it is.
    pub id: LayerId,
    /// What was done: `boot`, or the component's name.
    pub name: String,
    /// What it was made from.
    pub inputs: Inputs,
    /// The layer beneath; none for the first one, which stands on the parent image.
    pub beneath: Option<LayerId>,
    /// When it was made.
    pub created: jiff::Timestamp,
    /// The start of the host in which it was made.
    #[serde(default)]
    pub host_start: String,
    /// Seconds that making it took.
    pub seconds: f64,
    /// The guest's memory at that moment.
    pub memory: Option<Memory>,
}

/// A saved state of the guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Memory {
    /// The machine that it fits.
    pub fit: MemoryFit,
    /// Digest of the memory.
    pub digest: String,
    /// The keys of the guest at that moment, in OpenSSH's format: the user's and the host's.
    pub user_key: String,
    /// The guest's host key.
    pub host_key: String,
    /// cloud-init's id of the guest.
    pub instance: String,
    /// Whether the guest was booted through the kernel beside the parent disk rather than from its own disk.
    pub direct_kernel: bool,
    /// Seconds that saving it took.
    pub seconds: f64,
}

/// What must be equal for a memory to be brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemoryFit {
    /// QEMU's version.
    pub qemu: String,
    /// How guest code runs.
    pub accelerator: Accelerator,
    /// The host's processor, where the guest sees it.
    pub processor: String,
    /// The guest's architecture.
    pub arch: Arch,
    /// The firmware.
    pub firmware: Firmware,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The arguments' layout, by its version.
    pub layout: u32,
}

impl MemoryFit {
    /// Why a memory of `self` does not fit a machine of `wanted`; `None` if it does.
    pub fn mismatch(&self, wanted: &Self) -> Option<String> {
        let pairs: [(&str, String, String); 8] = [
            ("QEMU", self.qemu.clone(), wanted.qemu.clone()),
            (
                "the accelerator",
                self.accelerator.to_string(),
                wanted.accelerator.to_string(),
            ),
            (
                "the processor",
                self.processor.clone(),
                wanted.processor.clone(),
            ),
            (
                "the architecture",
                self.arch.to_string(),
                wanted.arch.to_string(),
            ),
            (
                "the firmware",
                self.firmware.to_string(),
                wanted.firmware.to_string(),
            ),
            (
                "the number of CPUs",
                self.cpus.to_string(),
                wanted.cpus.to_string(),
            ),
            (
                "the memory",
                format!("{} MiB", self.memory_mib),
                format!("{} MiB", wanted.memory_mib),
            ),
            (
                "the machine's layout",
                self.layout.to_string(),
                wanted.layout.to_string(),
            ),
        ];
        pairs.into_iter().find_map(|(what, saved, now)| {
            (saved != now).then(|| format!("{what} was {saved}, now is {now}"))
        })
    }
}
