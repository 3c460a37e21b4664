//! `ovenbird doctor`: what this machine has, and what to install for what it has not.

use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::Session;
use crate::catalog::bootstrap::mirror::Mirror;
use crate::error::{Failure, Result};
use crate::machine::accel::Verdict;
use crate::machine::{Arch, Host, QemuSettings, RunAs, confine, firmware};
use crate::store::Settings;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Do not run the accelerator's probe
    #[arg(long)]
    no_probe: bool,
}

/// What a prerequisite is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Purpose {
    /// Without it nothing works.
    Bake,
    /// `base build`.
    BuildBase,
    /// Images that boot by UEFI.
    Uefi,
    /// Guests that nobody vouches for.
    Strangers,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Bake => "every bake",
            Self::BuildBase => "ovenbird base build",
            Self::Uefi => "guests with UEFI",
            Self::Strangers => "guests of strangers",
        }
    }
}

/// The families of distributions whose packages we can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Family {
    Debian,
    Fedora,
    Suse,
    Alpine,
    Arch,
    MacOs,
    Unknown,
}

impl Family {
    fn of_this_machine() -> Self {
        if cfg!(target_os = "macos") {
            return Self::MacOs;
        }
        let files = ["/etc/os-release", "/usr/lib/os-release"];
        let text = files
            .iter()
            .find_map(|file| std::fs::read_to_string(file).ok());
        Self::of_os_release(&text.unwrap_or_default())
    }

    fn of_os_release(text: &str) -> Self {
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .unwrap_or_default()
                .trim_matches('"')
        };
        // The distribution's own id first, then its relatives from the nearest to the farthest.
        value("ID")
            .split_whitespace()
            .chain(value("ID_LIKE").split_whitespace())
            .map(|id| match id {
                "debian" | "ubuntu" => Self::Debian,
                "fedora" | "rhel" | "centos" | "amzn" => Self::Fedora,
                "suse" | "opensuse" | "sles" => Self::Suse,
                "alpine" => Self::Alpine,
                "arch" => Self::Arch,
                _ => Self::Unknown,
            })
            .find(|family| *family != Self::Unknown)
            .unwrap_or(Self::Unknown)
    }

    /// The command that installs packages.
    const fn install(self) -> &'static str {
        match self {
            Self::Debian => "apt-get install",
            Self::Fedora => "dnf install",
            Self::Suse => "zypper install",
            Self::Alpine => "apk add",
            Self::Arch => "pacman -S",
            Self::MacOs => "brew install",
            Self::Unknown => "install",
        }
    }
}

/// A program that we run, and where it comes from.
struct Need {
    program: &'static str,
    /// What makes it print its version.
    version: &'static [&'static str],
    purpose: Purpose,
    /// Packages by family: Debian, Fedora, SUSE, Alpine, Arch, macOS. Empty where there is none.
    packages: [&'static str; 6],
}

const NEEDS: &[Need] = &[
    Need {
        program: "qemu-img",
        version: &["--version"],
        purpose: Purpose::Bake,
        packages: [
            "qemu-utils",
            "qemu-img",
            "qemu-tools",
            "qemu-img",
            "qemu-img",
            "qemu",
        ],
    },
    Need {
        program: "mmdebstrap",
        version: &["--version"],
        purpose: Purpose::BuildBase,
        packages: ["mmdebstrap", "mmdebstrap", "", "", "", ""],
    },
    Need {
        program: "mke2fs",
        version: &["-V"],
        purpose: Purpose::BuildBase,
        packages: [
            "e2fsprogs",
            "e2fsprogs",
            "e2fsprogs",
            "e2fsprogs",
            "e2fsprogs",
            "e2fsprogs",
        ],
    },
    Need {
        program: "sfdisk",
        version: &["--version"],
        purpose: Purpose::BuildBase,
        packages: [
            "fdisk",
            "util-linux",
            "util-linux",
            "sfdisk",
            "util-linux",
            "",
        ],
    },
    Need {
        program: "tar",
        version: &["--version"],
        purpose: Purpose::BuildBase,
        packages: ["tar", "tar", "tar", "tar", "tar", ""],
    },
];

/// The emulator and the UEFI images, found by the machine room itself.
const QEMU_PACKAGES: [&str; 6] = [
    "qemu-system-x86",
    "qemu-system-x86-core",
    "qemu-x86",
    "qemu-system-x86_64",
    "qemu-system-x86",
    "qemu",
];
const UEFI_PACKAGES: [&str; 6] = [
    "ovmf",
    "edk2-ovmf",
    "qemu-ovmf-x86_64",
    "ovmf",
    "edk2-ovmf",
    "qemu",
];

fn package(family: Family, packages: &[&'static str; 6]) -> Option<&'static str> {
    let index = match family {
        Family::Debian => 0,
        Family::Fedora => 1,
        Family::Suse => 2,
        Family::Alpine => 3,
        Family::Arch => 4,
        Family::MacOs => 5,
        Family::Unknown => return None,
    };
    Some(packages[index]).filter(|name| !name.is_empty())
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    name: String,
    purpose: Purpose,
    found: bool,
    /// Version or explanation.
    detail: String,
    /// The command that would put it right.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    fn found(name: &str, purpose: Purpose, detail: String) -> Self {
        Self {
            name: name.to_owned(),
            purpose,
            found: true,
            detail,
            fix: None,
        }
    }

    fn missing(name: &str, purpose: Purpose, detail: String, fix: Option<String>) -> Self {
        Self {
            name: name.to_owned(),
            purpose,
            found: false,
            detail,
            fix,
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// [`FailureKind::Environment`](crate::error::FailureKind::Environment) if a bake could not work.
pub async fn run(args: &Args, session: &Session) -> Result<ExitCode> {
    let family = Family::of_this_machine();
    let (emulator, accelerator) = emulator(family, args, session).await;
    let mut findings = vec![emulator];
    findings.push(uefi(family));
    findings.extend(NEEDS.iter().map(|need| program(need, family)));
    findings.push(package_source());
    findings.push(confinement());
    findings.extend(user(session));
    findings.extend(namespaces());
    let broken: Vec<&Finding> = findings.iter().filter(|finding| !finding.found).collect();

    let printer = session.printer;
    printer.value(&json!({
        "family": family,
        "home": session.home.path(),
        "ready": broken.iter().all(|finding| finding.purpose != Purpose::Bake),
        "accelerator": accelerator.as_deref(),
        "findings": findings,
    }));
    let mut rows = vec![["", "NEEDED FOR", "WHAT", ""].map(str::to_owned).to_vec()];
    rows.extend(findings.iter().map(|finding| {
        let mark = if finding.found { "ok" } else { "MISSING" };
        vec![
            mark.to_owned(),
            finding.purpose.as_str().to_owned(),
            finding.name.clone(),
            finding.detail.clone(),
        ]
    }));
    printer.table(&rows);
    for fix in fixes(&broken, family) {
        printer.line(format!("to fix: {fix}"));
    }
    let fatal: Vec<&str> = broken
        .iter()
        .filter(|finding| finding.purpose == Purpose::Bake)
        .map(|finding| finding.name.as_str())
        .collect();
    if fatal.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::environment(format!(
        "this machine can't bake yet: {} missing",
        fatal.join(", ")
    )))
}

/// Whether QEMU can be kept from this machine's files.
fn confinement() -> Finding {
    let name = "confinement of QEMU";
    if confine::is_supported() {
        let detail = "Landlock: it reaches its own files only";
        return Finding::found(name, Purpose::Strangers, detail.into());
    }
    let detail = "this kernel has no Landlock (Linux 5.13, and `landlock` among its LSMs): QEMU has all rights of its user";
    Finding::missing(name, Purpose::Strangers, detail.into(), None)
}

/// As whom QEMU runs, where that is worth a word: when root asks.
fn user(session: &Session) -> Option<Finding> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let name = "user of QEMU";
    let chosen = Settings::read(&session.home).and_then(|all| RunAs::choose(&all.qemu));
    Some(match chosen {
        Ok(Some(user)) => {
            let detail = format!("{} (uid {}), since root runs this", user.name, user.uid);
            Finding::found(name, Purpose::Strangers, detail)
        }
        Ok(None) => {
            let detail = "root: it can't run as somebody else here, or shall not by config.toml";
            Finding::missing(name, Purpose::Strangers, detail.into(), None)
        }
        Err(failure) => Finding::missing(name, Purpose::Strangers, failure.chain(), None),
    })
}

/// One command for all packages, then what is not a package.
fn fixes(broken: &[&Finding], family: Family) -> Vec<String> {
    let (packages, others): (Vec<&str>, Vec<&str>) = broken
        .iter()
        .filter_map(|finding| finding.fix.as_deref())
        .partition(|fix| !fix.contains(' '));
    let mut packages = packages;
    packages.dedup();
    let install =
        (!packages.is_empty()).then(|| format!("{} {}", family.install(), packages.join(" ")));
    install
        .into_iter()
        .chain(others.into_iter().map(str::to_owned))
        .collect()
}

/// The emulator, and what the probe says of the accelerator unless it is left out.
async fn emulator(
    family: Family,
    args: &Args,
    session: &Session,
) -> (Finding, Option<Arc<Verdict>>) {
    let name = "qemu-system-x86_64";
    let missing = |failure: &Failure| {
        let fix = package(family, &QEMU_PACKAGES).map(str::to_owned);
        Finding::missing(name, Purpose::Bake, failure.chain(), fix)
    };
    let qemu = match crate::machine::Qemu::find(Arch::X86_64) {
        Ok(qemu) => qemu,
        Err(failure) => return (missing(&failure), None),
    };
    if args.no_probe {
        return (
            Finding::found(name, Purpose::Bake, qemu.version.to_string()),
            None,
        );
    }
    // As whom it runs is a finding of its own.
    let settings = QemuSettings::default();
    match Host::find(Arch::X86_64, None, &session.home.cache(), &settings).await {
        Ok(host) => {
            let verdict = host.verdict;
            let detail = format!(
                "{}, accelerator {}: {}",
                qemu.version, verdict.accelerator, verdict.reason
            );
            (Finding::found(name, Purpose::Bake, detail), Some(verdict))
        }
        Err(failure) => (missing(&failure), None),
    }
}

fn uefi(family: Family) -> Finding {
    let name = "UEFI firmware";
    match firmware::find_uefi(Arch::X86_64) {
        Ok(image) => Finding::found(name, Purpose::Uefi, image.code.to_string()),
        Err(failure) => Finding::missing(
            name,
            Purpose::Uefi,
            failure.chain(),
            package(family, &UEFI_PACKAGES).map(str::to_owned),
        ),
    }
}

fn program(need: &Need, family: Family) -> Finding {
    match version_of(need.program, need.version) {
        Some(version) => Finding::found(need.program, need.purpose, version),
        None => {
            let package = package(family, &need.packages);
            let detail = match package {
                Some(package) => format!("in the package {package}"),
                None => "no package of this system has it".to_owned(),
            };
            Finding::missing(
                need.program,
                need.purpose,
                detail,
                package.map(str::to_owned),
            )
        }
    }
}

/// The first line with a digit that a program prints when asked for its version, without the legal notes.
fn version_of(program: &str, arguments: &[&str]) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        .args(arguments)
        // A plain user's path leaves out the folders of mke2fs and sfdisk.
        .env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"))
        .stdin(Stdio::null())
        .output()
        .or_else(|_| {
            Command::new(format!("/usr/sbin/{program}"))
                .args(arguments)
                .stdin(Stdio::null())
                .output()
        })
        .ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    Some(
        text.lines()
            .find(|line| line.bytes().any(|b| b.is_ascii_digit()))
            .unwrap_or_default()
            .trim()
            .to_owned(),
    )
}

fn package_source() -> Finding {
    let name = "a mirror of Debian";
    match Mirror::of_this_machine() {
        Ok(mirror) if !mirror.keyring.exists() => Finding::missing(
            name,
            Purpose::BuildBase,
            format!("its keys are missing: {}", mirror.keyring),
            Some("debian-archive-keyring".into()),
        ),
        Ok(mirror) => Finding::found(name, Purpose::BuildBase, mirror.archive),
        Err(_) => Finding::missing(
            name,
            Purpose::BuildBase,
            "apt is not set up with one".into(),
            Some("name one: ovenbird base build --mirror URL".into()),
        ),
    }
}

/// What an unprivileged user needs to install packages into a tree; root needs nothing.
fn namespaces() -> Option<Finding> {
    if nix::unistd::geteuid().is_root() {
        return None;
    }
    let name = "user namespaces";
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .ok()
        .flatten()?
        .name;
    let owns = |file: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines()
            .any(|line| line.split(':').next() == Some(user.as_str()))
    };
    if !owns("/etc/subuid") || !owns("/etc/subgid") {
        let fix = format!("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}");
        return Some(Finding::missing(
            name,
            Purpose::BuildBase,
            format!("{user} has no range in /etc/subuid and /etc/subgid"),
            Some(fix),
        ));
    }
    let works = Command::new("unshare")
        .args(["--map-root-user", "--map-auto", "--", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    Some(if works {
        Finding::found(name, Purpose::BuildBase, format!("usable by {user}"))
    } else {
        Finding::missing(
            name,
            Purpose::BuildBase,
            "unshare --map-auto fails: util-linux older than 2.38, no newuidmap, or forbidden by the kernel".into(),
            Some("uidmap".into()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families() {
        let table = [
            ("ID=debian\n", Family::Debian),
            ("ID=\"ubuntu\"\nID_LIKE=debian\n", Family::Debian),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Family::Debian),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                Family::Fedora,
            ),
            (
                "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n",
                Family::Suse,
            ),
            ("ID=alpine\n", Family::Alpine),
            ("ID=nixos\n", Family::Unknown),
            ("", Family::Unknown),
        ];
        for (text, family) in table {
            assert_eq!(Family::of_os_release(text), family, "{text}");
        }
    }

    #[test]
    fn one_command_for_all_packages() {
        let finding =
            |fix: &str| Finding::missing("x", Purpose::Bake, String::new(), Some(fix.into()));
        let broken = [
            finding("ovmf"),
            finding("usermod --add-subuids 1-2 me"),
            finding("qemu-utils"),
        ];
        let broken: Vec<&Finding> = broken.iter().collect();
        assert_eq!(
            fixes(&broken, Family::Debian),
            [
                "apt-get install ovmf qemu-utils",
                "usermod --add-subuids 1-2 me"
            ]
        );
        assert!(fixes(&[], Family::Debian).is_empty());
    }

    #[test]
    fn a_program_that_is_not_there() {
        let need = Need {
            program: "no-such-program-anywhere",
            version: &["--version"],
            purpose: Purpose::BuildBase,
            packages: ["some-package", "", "", "", "", ""],
        };
        let finding = program(&need, Family::Debian);
        assert!(!finding.found);
        assert_eq!(finding.fix.as_deref(), Some("some-package"));
        assert_eq!(program(&need, Family::MacOs).fix, None);
    }
}
