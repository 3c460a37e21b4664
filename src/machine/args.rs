//! From what a machine shall be to QEMU's command line.
//!
//! An option and its value stand on one line. Nothing secret may ever appear here: arguments are visible to
//! every process of the host.

use std::os::fd::RawFd;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::accel::Accelerator;
use super::firmware::UefiImage;
use super::qemu::Arch;

/// What a machine shall be.
#[derive(Debug, Clone)]
pub struct MachineSpec {
    /// Shown in the process list and in QEMU's messages.
    pub name: String,
    /// The guest's architecture.
    pub arch: Arch,
    /// How its code runs.
    pub accelerator: Accelerator,
    /// Virtual CPUs, at least 1.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// BIOS or UEFI, with the files.
    pub firmware: FirmwareFiles,
    /// The disks, in the order in which the guest shall see them.
    pub disks: Vec<Disk>,
    /// Where the kernel comes from.
    pub boot: Boot,
    /// Whether the guest may reach the host's network.
    pub network: Network,
    /// What a reboot of the guest does.
    pub on_reboot: OnReboot,
    /// Folders in which the root disk will get overlays while the machine runs.
    pub overlays: Vec<Utf8PathBuf>,
}

/// Firmware with its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirmwareFiles {
    /// SeaBIOS, which QEMU carries.
    Bios,
    /// A UEFI image and this machine's own copy of the variable store.
    Uefi {
        /// The code and the template.
        image: UefiImage,
        /// The copy, writable.
        vars: Utf8PathBuf,
    },
}

/// A disk of the machine.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The block node's name, by which QMP addresses it.
    pub node: String,
    /// The file.
    pub path: Utf8PathBuf,
    /// `qcow2` or `raw`.
    pub format: String,
    /// The controller.
    pub bus: DiskBus,
    /// Whether the guest may write.
    pub read_only: bool,
}

/// The controller of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskBus {
    /// `virtio-blk-pci`.
    Virtio,
    /// `nvme`, what EC2's Nitro instances have.
    Nvme,
}

/// Where the kernel comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// Through firmware and the disk's boot loader.
    Disk,
    /// QEMU loads kernel and initrd itself: no firmware menus, no boot loader.
    Kernel {
        /// The kernel.
        kernel: Utf8PathBuf,
        /// Its initial ram disk.
        initrd: Utf8PathBuf,
        /// Its command line.
        cmdline: String,
    },
}

/// How far a guest reaches. Into it leads SSH alone, on a port of the loopback interface that QEMU picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Everything that the host reaches: QEMU's user-mode network.
    #[default]
    User,
    /// The host's package cache and nothing else.
    Packages,
    /// Nothing.
    None,
}

impl Network {
    /// The name in documents and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Packages => "packages",
            Self::None => "none",
        }
    }

    /// Whether the guest may have the host's package cache.
    pub const fn has_packages(self) -> bool {
        !matches!(self, Self::None)
    }
}

/// What a reboot of the guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReboot {
    /// The machine starts anew.
    Restart,
    /// QEMU ends; the host decides how to start the machine again.
    Exit,
}

/// Files that connect us with the running machine.
#[derive(Debug, Clone)]
pub struct Wiring {
    /// The QMP socket.
    pub qmp: Utf8PathBuf,
    /// What the serial console prints.
    pub console: Utf8PathBuf,
    /// Whether it waits for a saved state instead of starting.
    pub incoming: bool,
    /// The descriptor that QEMU inherits of a [memory](super::ram::Ram) that this process holds too.
    pub memory: Option<RawFd>,
}

/// The version of the arguments' layout: it changes when a saved memory of before would not fit any more.
pub const LAYOUT: u32 = 2;

/// Where a process finds its own descriptors as files.
#[cfg(target_os = "linux")]
const DESCRIPTORS: &str = "/proc/self/fd";
/// Where a process finds its own descriptors as files.
#[cfg(not(target_os = "linux"))]
const DESCRIPTORS: &str = "/dev/fd";

/// Doubles the commas of a value inside of a comma-separated option, as QEMU wants it.
pub fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

/// Builds QEMU's arguments, without the program itself.
pub fn build(spec: &MachineSpec, wiring: &Wiring) -> Vec<String> {
    let mut args = Args::default();
    args.pair("-name", escape(&spec.name));
    args.flag("-nodefaults");
    args.flag("-no-user-config");
    args.pair("-display", "none");
    let mut machine = machine(spec);
    if let Some(descriptor) = wiring.memory {
        machine.push_str(",memory-backend=ram0");
        // Shared, so that we see what the guest writes.
        args.pair(
            "-object",
            format!(
                "memory-backend-file,id=ram0,size={}M,mem-path={DESCRIPTORS}/{descriptor},share=on",
                spec.memory_mib
            ),
        );
    }
    args.pair("-machine", machine);
    args.pair("-accel", accel(spec.accelerator));
    args.pair("-cpu", cpu(spec));
    args.pair(
        "-smp",
        format!("{0},sockets=1,cores={0},threads=1", spec.cpus),
    );
    args.pair("-m", format!("{}M", spec.memory_mib));
    // A process that escapes from the guest can neither start programs nor gain privileges.
    args.pair(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    );
    args.pair("-rtc", "base=utc");
    if spec.on_reboot == OnReboot::Exit {
        args.flag("-no-reboot");
    }
    if spec.arch == Arch::X86_64 {
        // Suspend to memory makes no sense for a bake and confuses some UEFI builds.
        args.pair("-global", "ICH9-LPC.disable_s3=1");
    }
    firmware(&mut args, &spec.firmware);
    if let Boot::Kernel {
        kernel,
        initrd,
        cmdline,
    } = &spec.boot
    {
        args.pair("-kernel", kernel.as_str());
        args.pair("-initrd", initrd.as_str());
        args.pair("-append", cmdline.as_str());
    }
    for (index, disk) in spec.disks.iter().enumerate() {
        block(&mut args, disk, index);
    }
    args.pair("-object", "rng-random,id=rng0,filename=/dev/urandom");
    args.pair("-device", "virtio-rng-pci,rng=rng0");
    if spec.arch == Arch::X86_64 {
        // Tells the guest's kernel that it is a new machine after a resume, so that it reseeds its random generator.
        args.pair("-device", "vmgenid,guid=auto,id=vmgenid0");
    }
    let restrict = match spec.network {
        Network::User => "",
        Network::Packages | Network::None => ",restrict=on",
    };
    // Port 0: the kernel picks a free one, so that parallel bakes can't race; QMP tells which. Loopback only.
    args.pair(
        "-netdev",
        format!("user,id=net0{restrict},hostfwd=tcp:127.0.0.1:0-:22"),
    );
    // No option ROM: nothing shall try to boot from the network.
    args.pair("-device", "virtio-net-pci,netdev=net0,romfile=");
    args.pair(
        "-chardev",
        format!(
            "file,id=console,append=on,path={}",
            escape(wiring.console.as_str())
        ),
    );
    args.pair("-serial", "chardev:console");
    args.pair(
        "-chardev",
        format!(
            "socket,id=qmp,path={},server=on,wait=off",
            escape(wiring.qmp.as_str())
        ),
    );
    args.pair("-mon", "chardev=qmp,mode=control");
    if wiring.incoming {
        args.pair("-incoming", "defer");
    }
    args.0
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn flag(&mut self, option: &str) {
        self.0.push(option.to_owned());
    }

    fn pair(&mut self, option: &str, value: impl Into<String>) {
        self.0.push(option.to_owned());
        self.0.push(value.into());
    }
}

fn machine(spec: &MachineSpec) -> String {
    match spec.arch {
        // The high-precision timer only costs exits.
        Arch::X86_64 => "q35,hpet=off".into(),
        Arch::Aarch64 => "virt,gic-version=max".into(),
    }
}

fn accel(accelerator: Accelerator) -> String {
    match accelerator {
        // One host thread for each virtual CPU.
        Accelerator::Tcg => "tcg,thread=multi".into(),
        hardware => hardware.as_str().into(),
    }
}

fn cpu(spec: &MachineSpec) -> String {
    match (spec.accelerator, spec.arch) {
        (Accelerator::Kvm | Accelerator::Hvf, _) => "host".into(),
        // `max`, since newer distributions want x86-64-v3; AVX off is not possible then, and costs little.
        (Accelerator::Tcg, Arch::X86_64) => "max".into(),
        // The architected pointer authentication costs up to 6x under emulation.
        (Accelerator::Tcg, Arch::Aarch64) => "max,pauth-impdef=on".into(),
    }
}

fn firmware(args: &mut Args, firmware: &FirmwareFiles) {
    if let FirmwareFiles::Uefi { image, vars } = firmware {
        args.pair(
            "-drive",
            format!(
                "if=pflash,unit=0,format={},readonly=on,file={}",
                image.code_format,
                escape(image.code.as_str())
            ),
        );
        args.pair(
            "-drive",
            format!(
                "if=pflash,unit=1,format={},file={}",
                image.vars_format,
                escape(vars.as_str())
            ),
        );
    }
}

fn block(args: &mut Args, disk: &Disk, index: usize) {
    args.pair(
        "-blockdev",
        blockdev(&disk.node, &disk.path, &disk.format, disk.read_only).to_string(),
    );
    let id = format!("disk-{}", disk.node);
    // Only the first disk is offered to the firmware.
    let bootindex = if index == 0 { ",bootindex=1" } else { "" };
    let node = &disk.node;
    match disk.bus {
        DiskBus::Virtio => args.pair(
            "-device",
            format!("virtio-blk-pci,drive={node},id={id}{bootindex}"),
        ),
        DiskBus::Nvme => args.pair(
            "-device",
            format!("nvme,drive={node},id={id},serial={node}{bootindex}"),
        ),
    }
}

/// A block node in QEMU's JSON form (file names need no escaping there).
///
/// The disks of a bake are scratch: flushes are not passed on (`no-flush`), trimmed and zero-written blocks are
/// given back. The finished outputs are synced and digested when they are written.
pub(super) fn blockdev(node: &str, path: &Utf8Path, format: &str, read_only: bool) -> Value {
    let cache = json!({ "direct": false, "no-flush": true });
    let mut value = json!({
        "driver": format,
        "node-name": node,
        "cache": cache,
        "file": {
            "driver": "file",
            "filename": path.as_str(),
            "cache": cache,
            "discard": "unmap",
            // A seed is opened by nobody else, a disk by this machine alone.
            "locking": "auto",
        },
    });
    if read_only {
        value["read-only"] = json!(true);
        value["file"]["read-only"] = json!(true);
    } else {
        value["discard"] = json!("unmap");
        value["detect-zeroes"] = json!("unmap");
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> MachineSpec {
        MachineSpec {
            name: "build, web".into(),
            arch: Arch::X86_64,
            accelerator: Accelerator::Tcg,
            cpus: 2,
            memory_mib: 2048,
            firmware: FirmwareFiles::Bios,
            disks: vec![
                Disk {
                    node: "root".into(),
                    path: "/run dir/a,b.qcow2".into(),
                    format: "qcow2".into(),
                    bus: DiskBus::Virtio,
                    read_only: false,
                },
                Disk {
                    node: "seed".into(),
                    path: "/run/seed.img".into(),
                    format: "raw".into(),
                    bus: DiskBus::Virtio,
                    read_only: true,
                },
            ],
            boot: Boot::Kernel {
                kernel: "/b/vmlinuz".into(),
                initrd: "/b/initrd.img".into(),
                cmdline: "root=LABEL=root console=ttyS0".into(),
            },
            network: Network::User,
            on_reboot: OnReboot::Exit,
            overlays: Vec::new(),
        }
    }

    fn wiring() -> Wiring {
        Wiring {
            qmp: "/r/qmp".into(),
            console: "/r/console.log".into(),
            incoming: false,
            memory: None,
        }
    }

    fn lines(args: &[String]) -> String {
        let mut text = String::new();
        for arg in args {
            if arg.starts_with('-') && !text.is_empty() {
                text.push('\n');
            } else if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(arg);
        }
        text
    }

    #[test]
    fn q35_bios_direct_kernel() {
        insta::assert_snapshot!(lines(&build(&spec(), &wiring())));
    }

    #[test]
    fn a_memory_that_can_be_saved() {
        let wiring = Wiring {
            incoming: true,
            memory: Some(7),
            ..wiring()
        };
        let all = build(&spec(), &wiring);
        let value = |option| {
            let at = all.iter().position(|word| word == option).unwrap();
            all[at + 1].as_str()
        };
        assert_eq!(value("-machine"), "q35,hpet=off,memory-backend=ram0");
        assert_eq!(
            value("-object"),
            "memory-backend-file,id=ram0,size=2048M,mem-path=/proc/self/fd/7,share=on"
        );
        assert_eq!(value("-incoming"), "defer");
    }

    #[test]
    fn q35_uefi_nvme_restricted_kvm() {
        let mut spec = spec();
        spec.accelerator = Accelerator::Kvm;
        spec.boot = Boot::Disk;
        spec.network = Network::None;
        spec.on_reboot = OnReboot::Restart;
        spec.disks[0].bus = DiskBus::Nvme;
        spec.firmware = FirmwareFiles::Uefi {
            image: UefiImage {
                code: "/fw/code.fd".into(),
                code_format: "raw".into(),
                vars: "/fw/vars.fd".into(),
                vars_format: "raw".into(),
                found_by: "test".into(),
            },
            vars: "/r/vars.fd".into(),
        };
        insta::assert_snapshot!(lines(&build(&spec, &wiring())));
    }

    #[test]
    fn aarch64_virt() {
        let mut spec = spec();
        spec.arch = Arch::Aarch64;
        insta::assert_snapshot!(lines(&build(&spec, &wiring())));
    }
}
