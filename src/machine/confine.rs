//! What QEMU may reach besides its guest: by Landlock, its own files and nothing else of this machine.
//!
//! QEMU has the rights of whoever runs Ovenbird. A guest that breaks out of it would have them too: this takes from it the
//! user's files, other programs' sockets and signals, and with a guest that may not reach the network also outgoing
//! connections. Needs Linux 5.13 and no rights; what an older kernel can't do is left out.

use camino::{Utf8Path, Utf8PathBuf};
#[cfg(target_os = "linux")]
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, RestrictionStatus, Ruleset, RulesetAttr as _,
    RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};
use ovenbird_disk::qcow2::Qcow2Reader;

use super::args::{FirmwareFiles, MachineSpec, Network};
use super::{Boot, Qemu};

/// What programs of a system need to run at all: libraries, the resolver's configuration, the processors' description.
/// Nothing of a person lies there.
const SYSTEM: [&str; 20] = [
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/opt",
    "/nix/store",
    "/proc",
    "/sys",
    "/etc/alternatives",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/qemu",
    "/etc/resolv.conf",
    "/run/NetworkManager/resolv.conf",
    "/run/systemd/resolve",
    "/run/resolvconf",
];
/// Devices that QEMU opens.
const DEVICES: [&str; 6] = [
    "/dev/kvm",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];
/// Longer chains are flattened long before.
const LONGEST_CHAIN: usize = 256;

/// The files of a machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Files and folders that are only read.
    read: Vec<Utf8PathBuf>,
    /// Files and folders that are written.
    write: Vec<Utf8PathBuf>,
    /// Whether connections may be made.
    connect: bool,
}

impl Files {
    /// Those that a machine needs; `folders` are its own.
    pub fn of(qemu: &Qemu, spec: &MachineSpec, folders: &[&Utf8Path]) -> Self {
        let mut files = Self {
            connect: spec.network == Network::User,
            ..Self::default()
        };
        // Its data lie beside it where it was installed, for a QEMU that somebody built.
        if let Ok(program) = qemu.path.canonicalize_utf8() {
            files
                .read
                .extend(program.ancestors().nth(2).map(Utf8Path::to_owned));
        }
        if let FirmwareFiles::Uefi { image, vars } = &spec.firmware {
            files.read.push(image.code.clone());
            files.write.push(vars.clone());
        }
        if let Boot::Kernel { kernel, initrd, .. } = &spec.boot {
            files.read.extend([kernel.clone(), initrd.clone()]);
        }
        for disk in &spec.disks {
            let top = if disk.read_only {
                &mut files.read
            } else {
                &mut files.write
            };
            top.push(disk.path.clone());
            files.read.extend(below(&disk.path));
        }
        files.write.extend(spec.overlays.iter().cloned());
        files
            .write
            .extend(folders.iter().map(|folder| (*folder).to_owned()));
        files
    }
}

/// The files on which a disk stands.
fn below(disk: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut found = Vec::new();
    let mut next = Some(disk.to_owned());
    while let Some(path) = next.take().filter(|_| found.len() < LONGEST_CHAIN) {
        let name = std::fs::File::open(&path)
            .ok()
            .and_then(|file| Qcow2Reader::new(file).ok()?.backing_file());
        if let Some(name) = name {
            let file = path.parent().unwrap_or(Utf8Path::new("/")).join(name);
            next = Some(file.clone());
            found.push(file);
        }
    }
    found
}

/// A program is started with these limits, if the kernel knows how.
#[cfg(target_os = "linux")]
pub struct Confinement(Option<RulesetCreated>);

#[cfg(target_os = "linux")]
impl Confinement {
    /// Prepares the limits.
    ///
    /// # Errors
    /// If the kernel knows how and refuses all the same.
    pub fn to(files: &Files) -> Result<Self, RulesetError> {
        let all = AccessFs::from_all(ABI::V6);
        let mut ruleset = Ruleset::default()
            .handle_access(all)?
            .scope(Scope::from_all(ABI::V6))?;
        if !files.connect {
            ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
        }
        let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
        let created = ruleset
            .create()?
            .add_rules(path_beneath_rules(SYSTEM, AccessFs::from_read(ABI::V6)))?
            .add_rules(path_beneath_rules(DEVICES, device))?
            .add_rules(path_beneath_rules(
                &files.read,
                AccessFs::from_read(ABI::V6),
            ))?
            .add_rules(path_beneath_rules(&files.write, all & !AccessFs::Execute))?;
        Ok(Self(Some(created)))
    }

    /// Puts them on the calling thread and what it starts; to be called between fork and exec.
    fn put_on(&mut self) -> std::io::Result<Option<RestrictionStatus>> {
        self.0
            .take()
            .map(RulesetCreated::restrict_self)
            .transpose()
            .map_err(std::io::Error::other)
    }

    /// Lets a command start with them.
    pub fn apply(mut self, command: &mut tokio::process::Command) {
        // SAFETY: two system calls on a descriptor that this closure owns; nothing of the parent's is touched.
        unsafe {
            command.pre_exec(move || self.put_on().map(drop));
        }
    }
}

/// Whether this machine's kernel can confine QEMU.
#[cfg(target_os = "linux")]
pub fn is_supported() -> bool {
    // It binds the thread that asks, so one is spent on it.
    std::thread::spawn(|| {
        Confinement::to(&Files::default())
            .ok()
            .and_then(|mut confinement| confinement.put_on().ok().flatten())
            .is_some_and(|status| status.ruleset != RulesetStatus::NotEnforced)
    })
    .join()
    .unwrap_or(false)
}

/// Landlock is Linux's.
#[cfg(not(target_os = "linux"))]
pub fn is_supported() -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Stdio;

    use super::*;

    async fn run(files: &Files, script: &str) -> (bool, String) {
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", script]).stderr(Stdio::piped());
        Confinement::to(files).unwrap().apply(&mut command);
        let output = command.output().await.unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    #[tokio::test]
    async fn only_its_own_files_are_reached() {
        assert!(is_supported(), "this kernel has no Landlock");
        let root = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(root.path()).unwrap();
        let (own, others) = (root.join("own"), root.join("others"));
        for folder in [&own, &others] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("secret"), "s").unwrap();
        }
        std::fs::write(root.join("base"), "b").unwrap();
        let files = Files {
            read: vec![root.join("base")],
            write: vec![own.clone()],
            connect: false,
        };
        for (script, allowed) in [
            (
                format!("cat {own}/secret && echo x > {own}/new && rm {own}/new"),
                true,
            ),
            (format!("cat {root}/base"), true),
            (format!("echo x >> {root}/base"), false),
            (format!("cat {others}/secret"), false),
            (format!("ls {root}"), false),
            (format!("echo x > {others}/new"), false),
            ("cat /etc/passwd".into(), false),
            ("head -c 1 /dev/urandom > /dev/null".into(), true),
            (format!("kill -0 {}", std::process::id()), false),
        ] {
            let (success, said) = run(&files, &script).await;
            assert_eq!(success, allowed, "{script}: {said}");
        }
    }

    #[tokio::test]
    async fn a_guest_without_network_has_a_qemu_without_connections() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = format!("bash -c '< /dev/tcp/127.0.0.1/{port}'");
        for connect in [true, false] {
            let files = Files {
                connect,
                ..Files::default()
            };
            let (success, said) = run(&files, &script).await;
            assert_eq!(success, connect, "{said}");
        }
    }

    #[test]
    fn a_chain_is_followed_to_its_end() {
        let root = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(root.path()).unwrap();
        let make = |arguments: &[&str]| {
            let status = std::process::Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2"])
                .args(arguments)
                .current_dir(root)
                .status();
            assert!(status.unwrap().success());
        };
        make(&["base.qcow2", "1M"]);
        make(&["-b", "base.qcow2", "-F", "qcow2", "middle.qcow2"]);
        make(&["-b", "middle.qcow2", "-F", "qcow2", "top.qcow2"]);
        assert_eq!(
            below(&root.join("top.qcow2")),
            [root.join("middle.qcow2"), root.join("base.qcow2")]
        );
        assert_eq!(below(&root.join("none")), [""; 0]);
    }
}
