//! The QEMU that this host has: where it is, its version, the architecture that it emulates.

use std::fmt;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::RunAs;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// The architecture of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Arch {
    /// 64-bit x86.
    #[default]
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm.
    #[serde(rename = "aarch64", alias = "arm64")]
    Aarch64,
}

impl Arch {
    /// The name that QEMU and the Linux kernel use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The name that OCI and Debian use.
    pub const fn oci(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// Whether this host can run such a guest without translating its instructions.
    pub const fn is_host(self) -> bool {
        match self {
            Self::X86_64 => cfg!(target_arch = "x86_64"),
            Self::Aarch64 => cfg!(target_arch = "aarch64"),
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A QEMU version, as far as we have to tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QemuVersion {
    /// First number.
    pub major: u16,
    /// Second number.
    pub minor: u16,
    /// Third number.
    pub micro: u16,
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// The oldest QEMU that we start: the first with all the options in [`super::args`].
pub const OLDEST: QemuVersion = QemuVersion {
    major: 6,
    minor: 2,
    micro: 0,
};

/// An emulator found on this host.
#[derive(Debug, Clone)]
pub struct Qemu {
    /// The program.
    pub path: Utf8PathBuf,
    /// Its version.
    pub version: QemuVersion,
    /// What it emulates.
    pub arch: Arch,
    /// As whom guests run in it; as who runs this process if none is given.
    pub run_as: Option<RunAs>,
}

impl Qemu {
    /// Finds the emulator for an architecture on the search path and asks its version.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if there is none, it doesn't run, or it is older than [`OLDEST`].
    pub fn find(arch: Arch) -> Result<Self> {
        let name = format!("qemu-system-{arch}");
        let path = find_program(&name).ok_or_else(|| {
            Failure::environment(format!("{name} is not installed"))
                .with_hint("run `make setup`, or install your distribution's QEMU package (`ovenbird doctor` names it)")
        })?;
        let output = Command::new(&path)
            .arg("--version")
            .output()
            .or_failure(FailureKind::Environment, || format!("cannot run {path}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = parse_version(&text).ok_or_else(|| {
            Failure::environment(format!(
                "{path} --version says {:?}, which has no version",
                text.trim()
            ))
        })?;
        if version < OLDEST {
            return Err(Failure::environment(format!(
                "{path} is version {version}, {OLDEST} or newer is needed"
            )));
        }
        Ok(Self {
            path,
            version,
            arch,
            run_as: None,
        })
    }
}

/// Looks a program up on the search path.
pub fn find_program(name: &str) -> Option<Utf8PathBuf> {
    let path = std::env::var("PATH").ok()?;
    path.split(':')
        .filter(|folder| !folder.is_empty())
        .map(|folder| Utf8Path::new(folder).join(name))
        .find(|candidate| candidate.is_file())
}

fn parse_version(text: &str) -> Option<QemuVersion> {
    let rest = text.split("version ").nth(1)?;
    let mut numbers = rest
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse::<u16>().ok());
    Some(QemuVersion {
        major: numbers.next()??,
        minor: numbers.next()??,
        micro: numbers.next()?.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_distributions() {
        for (text, wanted) in [
            (
                "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright",
                (7, 2, 22),
            ),
            (
                "QEMU emulator version 10.0.2 (qemu-10.0.2-1.fc42)",
                (10, 0, 2),
            ),
            ("QEMU emulator version 6.2.0", (6, 2, 0)),
        ] {
            let got = parse_version(text).unwrap();
            assert_eq!((got.major, got.minor, got.micro), wanted);
        }
        assert!(parse_version("hello").is_none());
        assert!(
            QemuVersion {
                major: 10,
                minor: 0,
                micro: 0
            } > OLDEST
        );
    }
}
