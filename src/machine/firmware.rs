//! Firmware of the guest: SeaBIOS, which QEMU carries, or UEFI images found on the host.
//!
//! The order: QEMU's own JSON firmware descriptors (docs/interop/firmware.json in QEMU's tree; the folders
//! override one another by file name), then a table of paths that distributions use, then, where a download is
//! possible, the `ovmf-prebuilt` collection unpacked under `OVENBIRD_OVMF_DIR`.

use std::collections::BTreeMap;
use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::qemu::Arch;
use crate::error::{Failure, Result};

/// How the guest boots: one field, everything else follows from it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// Legacy BIOS (SeaBIOS); x86_64 only.
    #[default]
    Bios,
    /// UEFI without Secure Boot.
    Uefi,
}

impl Firmware {
    /// The name in documents and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
        }
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Firmware {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "bios" => Ok(Self::Bios),
            "uefi" => Ok(Self::Uefi),
            other => Err(format!("unknown firmware `{other}`: expected bios or uefi")),
        }
    }
}

/// A UEFI image with the template of its variable store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UefiImage {
    /// The read-only code.
    pub code: Utf8PathBuf,
    /// `raw` or `qcow2`.
    pub code_format: String,
    /// The variable store to copy for each machine.
    pub vars: Utf8PathBuf,
    /// `raw` or `qcow2`.
    pub vars_format: String,
    /// Where we learnt of it.
    pub found_by: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Descriptor {
    #[serde(default)]
    interface_types: Vec<String>,
    mapping: Mapping,
    #[serde(default)]
    targets: Vec<Target>,
    #[serde(default)]
    features: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mapping {
    device: String,
    executable: Option<FlashFile>,
    nvram_template: Option<FlashFile>,
}

#[derive(Deserialize)]
struct FlashFile {
    filename: Utf8PathBuf,
    format: String,
}

#[derive(Deserialize)]
struct Target {
    architecture: String,
    #[serde(default)]
    machines: Vec<String>,
}

/// Paths of distributions that ship no descriptors, newest layout first: (code, vars).
const KNOWN_X86_64: [(&str, &str); 7] = [
    (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
    ),
    (
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/share/OVMF/OVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
        "/usr/share/edk2/x64/OVMF_VARS.4m.fd",
    ),
    (
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2-ovmf/x64/OVMF_CODE.fd",
        "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd",
    ),
    (
        "/usr/share/qemu/ovmf-x86_64-code.bin",
        "/usr/share/qemu/ovmf-x86_64-vars.bin",
    ),
    (
        "/opt/homebrew/share/qemu/edk2-x86_64-code.fd",
        "/opt/homebrew/share/qemu/edk2-i386-vars.fd",
    ),
];

/// The same for aarch64.
const KNOWN_AARCH64: [(&str, &str); 3] = [
    (
        "/usr/share/AAVMF/AAVMF_CODE.fd",
        "/usr/share/AAVMF/AAVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw",
        "/usr/share/edk2/aarch64/vars-template-pflash.raw",
    ),
    (
        "/opt/homebrew/share/qemu/edk2-aarch64-code.fd",
        "/opt/homebrew/share/qemu/edk2-arm-vars.fd",
    ),
];

/// Finds a UEFI image without Secure Boot for an architecture.
///
/// # Errors
/// [`FailureKind::Environment`](crate::error::FailureKind::Environment), with everything that was tried.
pub fn find_uefi(arch: Arch) -> Result<UefiImage> {
    let mut tried = Vec::new();
    let folders = descriptor_folders();
    if let Some(image) = from_descriptors(&folders, arch, &mut tried) {
        return Ok(image);
    }
    let known: &[(&str, &str)] = match arch {
        Arch::X86_64 => &KNOWN_X86_64,
        Arch::Aarch64 => &KNOWN_AARCH64,
    };
    let prebuilt = std::env::var("OVENBIRD_OVMF_DIR").ok().map(|folder| {
        let folder = Utf8PathBuf::from(folder).join(match arch {
            Arch::X86_64 => "x64",
            Arch::Aarch64 => "aarch64",
        });
        (folder.join("code.fd"), folder.join("vars.fd"))
    });
    let candidates = known
        .iter()
        .map(|(code, vars)| {
            (
                Utf8PathBuf::from(code),
                Utf8PathBuf::from(vars),
                "a known path",
            )
        })
        .chain(prebuilt.map(|(code, vars)| (code, vars, "OVENBIRD_OVMF_DIR")));
    for (code, vars, found_by) in candidates {
        if code.is_file() && vars.is_file() {
            return Ok(UefiImage {
                code,
                code_format: "raw".into(),
                vars,
                vars_format: "raw".into(),
                found_by: found_by.into(),
            });
        }
        tried.push(code.to_string());
    }
    Err(Failure::environment(format!("no UEFI firmware for {arch} is installed"))
        .with_details(format!("tried:\n  {}", tried.join("\n  ")))
        .with_hint("install the package `ovmf` (Debian, Ubuntu), `edk2-ovmf` (Fedora, Arch) or `qemu-ovmf-x86_64` (openSUSE)"))
}

/// The descriptors' folders, weakest first (QEMU's documented order).
fn descriptor_folders() -> Vec<Utf8PathBuf> {
    let mut folders = vec![
        Utf8PathBuf::from("/usr/share/qemu/firmware"),
        Utf8PathBuf::from("/etc/qemu/firmware"),
    ];
    let user = std::env::var("XDG_CONFIG_HOME")
        .map(Utf8PathBuf::from)
        .or_else(|_| std::env::var("HOME").map(|home| Utf8PathBuf::from(home).join(".config")));
    if let Ok(user) = user {
        folders.push(user.join("qemu/firmware"));
    }
    folders
}

fn from_descriptors(
    folders: &[Utf8PathBuf],
    arch: Arch,
    tried: &mut Vec<String>,
) -> Option<UefiImage> {
    // A file in a stronger folder hides one of the same name in a weaker; an empty file there masks it.
    let mut files: BTreeMap<String, Utf8PathBuf> = BTreeMap::new();
    for folder in folders {
        let Ok(entries) = folder.read_dir_utf8() else {
            continue;
        };
        for entry in entries.flatten() {
            if entry.path().extension() == Some("json") {
                files.insert(entry.file_name().to_owned(), entry.path().to_owned());
            }
        }
    }
    files.values().find_map(|file| {
        let image = from_descriptor(file, arch);
        if image.is_none() {
            tried.push(file.to_string());
        }
        image
    })
}

fn from_descriptor(file: &Utf8Path, arch: Arch) -> Option<UefiImage> {
    let descriptor: Descriptor = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    let machine = match arch {
        Arch::X86_64 => "q35",
        Arch::Aarch64 => "virt",
    };
    let fits = descriptor.targets.iter().any(|target| {
        target.architecture == arch.as_str()
            && target.machines.iter().any(|name| name.contains(machine))
    });
    // Secure Boot images want SMM or enrolled keys, and refuse unsigned boot loaders: another profile.
    let plain = !descriptor.features.iter().any(|feature| {
        feature == "secure-boot" || feature == "requires-smm" || feature == "enrolled-keys"
    });
    if !(fits
        && plain
        && descriptor.mapping.device == "flash"
        && descriptor.interface_types.iter().any(|kind| kind == "uefi"))
    {
        return None;
    }
    let code = descriptor.mapping.executable?;
    let vars = descriptor.mapping.nvram_template?;
    (code.filename.is_file() && vars.filename.is_file()).then(|| UefiImage {
        code: code.filename,
        code_format: code.format,
        vars: vars.filename,
        vars_format: vars.format,
        found_by: file.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(folder: &Utf8Path, name: &str, features: &str, code: &Utf8Path) {
        let text = format!(
            r#"{{"description":"t","interface-types":["uefi"],"mapping":{{"device":"flash",
            "executable":{{"filename":"{code}","format":"qcow2"}},
            "nvram-template":{{"filename":"{code}","format":"raw"}}}},
            "targets":[{{"architecture":"x86_64","machines":["pc-q35-*"]}}],"features":[{features}],"tags":[]}}"#
        );
        std::fs::write(folder.join(name), text).unwrap();
    }

    #[test]
    fn descriptors_in_order_without_secure_boot() {
        let root = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(root.path()).unwrap();
        let (system, user) = (root.join("system"), root.join("user"));
        std::fs::create_dir_all(&system).unwrap();
        std::fs::create_dir_all(&user).unwrap();
        let (a, b) = (root.join("a.fd"), root.join("b.fd"));
        std::fs::write(&a, "").unwrap();
        std::fs::write(&b, "").unwrap();
        descriptor(
            &system,
            "40-secure.json",
            r#""secure-boot","requires-smm""#,
            &a,
        );
        descriptor(&system, "60-plain.json", r#""acpi-s3""#, &a);
        let folders = [system.clone(), user.clone()];
        let mut tried = Vec::new();
        let image = from_descriptors(&folders, Arch::X86_64, &mut tried).unwrap();
        assert_eq!(image.code, a);
        assert_eq!(
            (image.code_format.as_str(), image.vars_format.as_str()),
            ("qcow2", "raw")
        );
        assert_eq!(
            tried.len(),
            1,
            "the Secure Boot image was looked at and passed over"
        );
        // The user's folder overrides by file name.
        descriptor(&user, "60-plain.json", "", &b);
        assert_eq!(
            from_descriptors(&folders, Arch::X86_64, &mut tried)
                .unwrap()
                .code,
            b
        );
        // An empty file masks.
        std::fs::write(user.join("60-plain.json"), "").unwrap();
        assert!(from_descriptors(&folders, Arch::X86_64, &mut tried).is_none());
        assert!(from_descriptors(&folders, Arch::Aarch64, &mut tried).is_none());
    }
}
