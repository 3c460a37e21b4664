//! The system on the disk: its files, seen as the running guest would see them.

use std::sync::Arc;

use super::Findings;
use super::boot::Layout;
use crate::fs::{self, FileSystem, FsKind, Identity, Node, NodeKind, Volume};

/// Configuration files are small.
const MAX_CONFIG: u64 = 4 << 20;

/// The root filesystem, with `/boot` and the EFI system partition where fstab mounts them.
pub(super) struct Guest {
    root: Box<dyn FileSystem>,
    mounts: Vec<(String, Box<dyn FileSystem>)>,
    fstab: Vec<FstabLine>,
    number: u32,
}

/// A line of fstab.
pub(super) struct FstabLine {
    device: String,
    target: String,
    kind: String,
    options: String,
}

impl Guest {
    /// Finds the root filesystem; more than one is a finding.
    pub(super) fn open(layout: &Layout, findings: &mut Findings) -> Option<Self> {
        let mut roots = Vec::new();
        for (volume, _) in layout.volumes.iter().filter(|(v, _)| v.kind == FsKind::Ext) {
            let Ok(fs) = volume.open(Arc::clone(&layout.disk)) else {
                continue;
            };
            if fs::resolve(&*fs, b"/etc", true).is_ok_and(|node| node.kind == NodeKind::Directory) {
                roots.push((volume, fs));
            }
        }
        if roots.len() > 1 {
            let numbers: Vec<String> = roots
                .iter()
                .map(|(v, _)| number_of(v).to_string())
                .collect();
            findings.add(
                "fs.single-root",
                "disk",
                format!("partitions {} each have an /etc", numbers.join(" and ")),
            );
        }
        let unreadable = layout
            .volumes
            .iter()
            .find(|(v, _)| matches!(v.kind, FsKind::Xfs | FsKind::Btrfs | FsKind::Lvm));
        if roots.is_empty() {
            match unreadable {
                Some((volume, _)) => findings.skip(format!(
                    "partition {} ({}): it is read inside of the guest only",
                    number_of(volume),
                    volume.kind
                )),
                None => findings.add("fs.root", "disk", "no filesystem has an /etc"),
            }
            return None;
        }
        let (volume, root) = roots.swap_remove(0);
        let mut guest = Self {
            root,
            mounts: Vec::new(),
            fstab: Vec::new(),
            number: number_of(volume),
        };
        guest.fstab = guest
            .text("/etc/fstab")
            .map(|text| parse_fstab(&text))
            .unwrap_or_default();
        for line in &guest.fstab {
            if !matches!(line.target.as_str(), "/boot" | "/boot/efi" | "/efi") {
                continue;
            }
            if let Some((volume, _)) = find_device(layout, &line.device)
                && let Ok(fs) = volume.open(Arc::clone(&layout.disk))
            {
                guest.mounts.push((line.target.clone(), fs));
            }
        }
        Some(guest)
    }

    fn at(&self, path: &str) -> (&dyn FileSystem, String) {
        for (target, fs) in &self.mounts {
            if let Some(rest) = path.strip_prefix(target.as_str())
                && (rest.is_empty() || rest.starts_with('/'))
            {
                return (&**fs, rest.to_owned());
            }
        }
        (&*self.root, path.to_owned())
    }

    /// A file's node, links followed.
    pub(super) fn node(&self, path: &str) -> Option<Node> {
        let (fs, rest) = self.at(path);
        fs::resolve(fs, rest.as_bytes(), true).ok()
    }

    /// A text file.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let (fs, rest) = self.at(path);
        let bytes = fs::read_file(fs, &rest, MAX_CONFIG).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Names in a folder, sorted; none when it is not there.
    pub(super) fn list(&self, path: &str) -> Vec<String> {
        let (fs, rest) = self.at(path);
        let entries = fs::resolve(fs, rest.as_bytes(), true)
            .and_then(|node| fs.read_dir(&node))
            .unwrap_or_default();
        let mut names: Vec<String> = entries
            .into_iter()
            .map(|e| String::from_utf8_lossy(&e.name).into_owned())
            .collect();
        names.sort();
        names
    }

    /// Gives a file's bytes to a sink.
    pub(super) fn copy(&self, path: &str, sink: &mut dyn std::io::Write) -> crate::Result<()> {
        let (fs, rest) = self.at(path);
        let node = fs::resolve(fs, rest.as_bytes(), true)?;
        fs::copy_to(fs, &node, sink, &crate::NoProgress)
    }

    /// The kernels in /boot, oldest first, by version.
    pub(super) fn kernels(&self) -> Vec<String> {
        let mut versions: Vec<String> = self
            .list("/boot")
            .into_iter()
            .filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned))
            .filter(|version| !version.contains("rescue"))
            .collect();
        versions.sort_by_key(|version| sort_key(version));
        versions
    }

    /// Checks files that every road or importer reads.
    pub(super) fn check(&self, findings: &mut Findings) {
        self.check_os(findings);
        self.check_fstab_presence(findings);
        self.check_network(findings);
        self.check_cloud_init(findings);
        let (free, _) = self.root.space();
        if free < 250_000_000 {
            findings.add(
                "fs.space",
                format!("partition {}", self.number),
                format!("{} MB are free", free / 1_000_000),
            );
        }
    }

    fn check_os(&self, findings: &mut Findings) {
        let release = self
            .text("/etc/os-release")
            .or_else(|| self.text("/usr/lib/os-release"))
            .unwrap_or_default();
        let field = |name: &str| {
            let prefix = format!("{name}=");
            release
                .lines()
                .find_map(|line| line.strip_prefix(prefix.as_str()))
                .map(|value| value.trim_matches('"').to_owned())
                .unwrap_or_default()
        };
        let (id, version) = (field("ID"), field("VERSION_ID"));
        if id.is_empty() {
            findings.add("os.known", "/etc/os-release", "no ID");
        } else if !is_importable(&id, &version) {
            findings.add(
                "os.known",
                "/etc/os-release",
                format!("{id} {version} is not on the import list"),
            );
        }
        let kernels = self.kernels();
        if kernels.is_empty() {
            findings.add("os.kernel", "/boot", "there is no vmlinuz-VERSION");
        }
        match self.machine() {
            Some(0x3e) | None => {}
            Some(0xb7) => findings.add("os.arm64-import", "/", "the system is for arm64"),
            Some(other) => findings.add(
                "os.width",
                "/",
                format!("ELF machine {other:#x} is no 64-bit x86 or ARM"),
            ),
        }
    }

    /// The machine field of a program that every system has.
    fn machine(&self) -> Option<u16> {
        [
            "/usr/bin/ls",
            "/bin/ls",
            "/usr/bin/busybox",
            "/bin/busybox",
            "/usr/bin/coreutils",
        ]
        .iter()
        .find_map(|path| {
            let (fs, rest) = self.at(path);
            let node = fs::resolve(fs, rest.as_bytes(), true).ok()?;
            let mut head = [0u8; 20];
            fs.open(&node).ok()?.read_at(&mut head, 0).ok()?;
            head.starts_with(b"\x7fELF")
                .then(|| u16::from_le_bytes([head[18], head[19]]))
        })
    }

    fn check_fstab_presence(&self, findings: &mut Findings) {
        if self.node("/etc/fstab").is_none() {
            findings.add("fstab.present", "/etc/fstab", "there is none");
        }
    }

    fn check_network(&self, findings: &mut Findings) {
        let rules = self.list("/etc/udev/rules.d");
        for rule in rules.iter().filter(|name| name.contains("persistent-net")) {
            let path = format!("/etc/udev/rules.d/{rule}");
            if self
                .text(&path)
                .is_some_and(|text| text.contains("ATTR{address}"))
            {
                findings.add("net.mac", path, "the rule binds a name to a MAC address");
            }
        }
        for (folder, key) in [
            ("/etc/netplan", "macaddress:"),
            ("/etc/sysconfig/network-scripts", "HWADDR="),
            ("/etc/systemd/network", "MACAddress="),
        ] {
            for name in self.list(folder) {
                let path = format!("{folder}/{name}");
                let text = self.text(&path).unwrap_or_default();
                if text.lines().any(|line| line.trim_start().starts_with(key)) {
                    findings.add("net.mac", &path, format!("{key} names a MAC address"));
                }
                let is_static = text.lines().map(str::trim).any(|line| {
                    line.starts_with("BOOTPROTO=static")
                        || line.starts_with("dhcp4: false")
                        || line.starts_with("Address=")
                });
                if is_static {
                    findings.add("net.static", &path, "a fixed address");
                }
            }
        }
        let interfaces = self.text("/etc/network/interfaces").unwrap_or_default();
        if interfaces
            .lines()
            .any(|line| line.trim_start().starts_with("iface ") && line.contains(" static"))
        {
            findings.add("net.static", "/etc/network/interfaces", "a fixed address");
        }
    }

    fn check_cloud_init(&self, findings: &mut Findings) {
        if self.node("/etc/cloud/cloud.cfg").is_none() {
            return;
        }
        if self.node("/etc/cloud/cloud-init.disabled").is_some() {
            findings.add(
                "cloudinit.disabled",
                "/etc/cloud/cloud-init.disabled",
                "cloud-init does not run",
            );
        }
        let mut files: Vec<String> = self
            .list("/etc/cloud/cloud.cfg.d")
            .into_iter()
            .map(|n| format!("/etc/cloud/cloud.cfg.d/{n}"))
            .collect();
        files.retain(|path| path.ends_with(".cfg"));
        files.insert(0, "/etc/cloud/cloud.cfg".to_owned());
        // Later files overrule earlier ones.
        let pinned = files.iter().rev().find_map(|path| {
            let text = self.text(path)?;
            let at = text
                .lines()
                .position(|line| line.trim_start().starts_with("datasource_list:"))?;
            let mut list = String::new();
            for (i, line) in text.lines().skip(at).enumerate() {
                if i > 0 && !line.trim_start().starts_with('-') {
                    break;
                }
                list.push_str(line);
                list.push(' ');
            }
            Some((path.clone(), list))
        });
        if let Some((path, list)) = pinned
            && !list.contains("Ec2")
        {
            findings.add(
                "cloudinit.datasource",
                path,
                format!("{} has no Ec2", list.trim()),
            );
        }
    }

    /// Checks what names disks and starts the kernel.
    pub(super) fn check_boot(&self, layout: &Layout, findings: &mut Findings) {
        for line in &self.fstab {
            self.check_mount(line, layout, findings);
        }
        self.check_grub(findings);
        let last = layout
            .table
            .partitions
            .iter()
            .max_by_key(|p| p.start)
            .map(|p| p.number);
        if last.is_some_and(|last| last != self.number) {
            findings.add(
                "disk.root-last",
                format!("partition {}", self.number),
                "another partition lies behind the root",
            );
        }
    }

    fn check_mount(&self, line: &FstabLine, layout: &Layout, findings: &mut Findings) {
        let place = format!("/etc/fstab: {}", line.target);
        let may_fail = line
            .options
            .split(',')
            .any(|o| o == "nofail" || o == "noauto");
        if matches!(
            line.kind.as_str(),
            "nfs" | "nfs4" | "cifs" | "smbfs" | "vboxsf" | "fuse.sshfs"
        ) {
            if !may_fail {
                findings.add(
                    "fstab.network",
                    place,
                    format!("{} is mounted from {}", line.kind, line.device),
                );
            }
            return;
        }
        let by_name = ["UUID=", "LABEL=", "PARTUUID=", "PARTLABEL="]
            .iter()
            .any(|p| line.device.starts_with(p))
            || line.device.starts_with("/dev/disk/");
        if by_name {
            if !may_fail
                && find_device(layout, &line.device).is_none()
                && !has_hidden_volumes(layout)
            {
                findings.add(
                    "fstab.devices",
                    place,
                    format!("{} is not on this disk", line.device),
                );
            }
        } else if line.device.starts_with("/dev/") && !line.device.starts_with("/dev/mapper/") {
            findings.add(
                "fstab.names",
                place,
                format!("{} is the name that one hypervisor gives", line.device),
            );
        }
    }

    fn check_grub(&self, findings: &mut Findings) {
        let candidates = [
            "/boot/grub/grub.cfg",
            "/boot/grub2/grub.cfg",
            "/boot/grub/menu.lst",
            "/boot/grub/grub.conf",
        ];
        let mut found: Vec<(&str, String)> = candidates
            .iter()
            .filter_map(|path| Some((*path, self.text(path)?)))
            .collect();
        found.dedup_by(|a, b| a.1 == b.1);
        if found.len() > 1 {
            let names: Vec<&str> = found.iter().map(|(path, _)| *path).collect();
            findings.add(
                "grub.single",
                names.join(", "),
                "more than one configuration",
            );
        }
        let uses_bls = found.iter().any(|(_, text)| text.contains("blscfg"));
        if uses_bls {
            let environment = self
                .text("/boot/grub2/grubenv")
                .or_else(|| self.text("/boot/grub/grubenv"));
            let saved = environment
                .as_deref()
                .and_then(|text| {
                    text.lines()
                        .find_map(|line| line.strip_prefix("saved_entry="))
                })
                .unwrap_or_default()
                .to_owned();
            let entries = self.list("/boot/loader/entries");
            if saved.is_empty()
                || !entries
                    .iter()
                    .any(|e| e.strip_suffix(".conf") == Some(saved.as_str()))
            {
                findings.add(
                    "grub.bls",
                    "grubenv",
                    format!("saved_entry {saved:?} is no entry of /boot/loader/entries"),
                );
            }
        }
        let mut lines = found
            .iter()
            .map(|(_, text)| text.clone())
            .collect::<Vec<_>>();
        for entry in self.list("/boot/loader/entries") {
            lines.extend(self.text(&format!("/boot/loader/entries/{entry}")));
        }
        let kernel_lines: Vec<&str> = lines
            .iter()
            .flat_map(|text| text.lines())
            .map(str::trim)
            .filter(|l| {
                (l.starts_with("linux") || l.starts_with("options ")) && l.contains("root=")
            })
            .collect();
        if kernel_lines.is_empty() {
            return;
        }
        if !kernel_lines
            .iter()
            .all(|line| line.contains("net.ifnames=0"))
        {
            findings.add(
                "net.names",
                "kernel command line",
                "net.ifnames=0 is missing",
            );
        }
        if !kernel_lines
            .iter()
            .all(|line| line.contains("console=ttyS0"))
        {
            findings.add(
                "console.serial",
                "kernel command line",
                "console=ttyS0 is missing",
            );
        }
    }
}

fn number_of(volume: &Volume) -> u32 {
    volume.partition.as_ref().map_or(0, |p| p.number)
}

/// True when volumes inside of others could hold what is not found.
fn has_hidden_volumes(layout: &Layout) -> bool {
    layout
        .volumes
        .iter()
        .any(|(v, _)| matches!(v.kind, FsKind::Lvm | FsKind::Luks | FsKind::Raid))
}

fn find_device<'a>(layout: &'a Layout, device: &str) -> Option<&'a (Volume, Identity)> {
    let device = device.replace('"', "");
    let (key, value) = match device.split_once('=') {
        Some(pair) => pair,
        None => match device.strip_prefix("/dev/disk/by-")?.split_once('/')? {
            ("uuid", value) => ("UUID", value),
            ("label", value) => ("LABEL", value),
            ("partuuid", value) => ("PARTUUID", value),
            ("partlabel", value) => ("PARTLABEL", value),
            _ => return None,
        },
    };
    layout.volumes.iter().find(|(volume, identity)| match key {
        "UUID" => identity.uuid.eq_ignore_ascii_case(value),
        "LABEL" => identity.label == value,
        "PARTUUID" => volume.partition.as_ref().is_some_and(|p| {
            let own = match p.guid {
                Some(guid) => guid.to_string(),
                None => format!("{}-{:02x}", layout.table.disk_id, p.number),
            };
            own.eq_ignore_ascii_case(value)
        }),
        "PARTLABEL" => volume.partition.as_ref().is_some_and(|p| p.name == value),
        _ => false,
    })
}

fn parse_fstab(text: &str) -> Vec<FstabLine> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            Some(FstabLine {
                device: words.next()?,
                target: words.next()?,
                kind: words.next().unwrap_or_default(),
                options: words.next().unwrap_or_default(),
            })
        })
        .collect()
}

/// Digits as numbers, so that 6.10 comes after 6.9.
fn sort_key(version: &str) -> Vec<(u64, String)> {
    version
        .split(['.', '-', '_', '+', '~'])
        .map(|part| (part.parse().unwrap_or(0), part.to_owned()))
        .collect()
}

/// Systems that ImportImage takes, by the service's list of 2024.
fn is_importable(id: &str, version: &str) -> bool {
    let major = version.split('.').next().unwrap_or_default();
    match id {
        "amzn" => matches!(version, "2" | "2023"),
        "debian" => matches!(major, "6" | "7" | "10" | "11" | "12"),
        "ubuntu" => matches!(
            version,
            "12.04" | "14.04" | "16.04" | "18.04" | "20.04" | "22.04" | "23.04"
        ),
        "centos" => matches!(major, "5" | "6" | "7" | "8" | "9"),
        "rhel" | "ol" => matches!(major, "5" | "6" | "7" | "8" | "9"),
        "rocky" => major == "9",
        "fedora" => matches!(major, "18" | "19" | "20" | "37" | "38" | "39"),
        "sles" | "sles_sap" => matches!(major, "11" | "12" | "15"),
        _ => false,
    }
}
