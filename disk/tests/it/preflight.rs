//! The preflight on a sound disk and on disks with one fault each.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ovenbird_disk::preflight::{LINTS, Report, Road, check_disk, check_file, check_image};
use ovenbird_disk::{NoProgress, OpenOptions, Target, convert, open, open_image};

use crate::fixtures::{ext4, gpt_disk, run, text};
use crate::guest::esp;

const MIB: u64 = 1 << 20;

/// An archive of empty files in the form of an initramfs.
fn cpio(names: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for name in names.iter().chain(&["TRAILER!!!"]) {
        let mut header = String::from("070701");
        for value in [1, 0o100_644, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() + 1, 0] {
            header.push_str(&format!("{value:08x}"));
        }
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// A guest that passes: a function so that each fault is one change to it.
fn sound_guest(dir: &Path) -> PathBuf {
    let tree = dir.join("sound");
    let put = |path: &str, content: &[u8]| {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    let version = "6.1.0-9-cloud-amd64";
    put("etc/os-release", b"ID=debian\nVERSION_ID=\"12\"\n");
    put(
        "etc/fstab",
        b"LABEL=root / ext4 defaults 0 1\nUUID=1234-ABCD /boot/efi vfat defaults 0 2\n",
    );
    put("etc/machine-id", b"");
    put("etc/shadow", b"root:*:1:0:99999:7:::\n");
    put("etc/cloud/cloud.cfg", b"users: []\n");
    put(
        "etc/cloud/cloud.cfg.d/90.cfg",
        b"datasource_list: [ NoCloud, Ec2, None ]\n",
    );
    put(&format!("boot/vmlinuz-{version}"), b"kernel");
    put("boot/vmlinuz-6.1.0-8-cloud-amd64", b"older");
    put(
        "boot/grub/grub.cfg",
        b"linux /boot/vmlinuz root=LABEL=root net.ifnames=0 biosdevname=0 console=tty0 console=ttyS0,115200n8\n",
    );
    put(
        &format!("lib/modules/{version}/modules.builtin"),
        b"kernel/fs/ext4/ext4.ko\n",
    );
    put(
        &format!("lib/modules/{version}/modules.dep"),
        b"kernel/drivers/net/ethernet/amazon/ena/ena.ko:\n",
    );
    let archive = dir.join("initrd.cpio");
    fs::write(
        &archive,
        cpio(&["lib/modules/nvme.ko", "lib/modules/xen-blkfront.ko"]),
    )
    .unwrap();
    let initrd = tree.join(format!("boot/initrd.img-{version}"));
    run(
        "sh",
        &[
            "-c",
            &format!("gzip -c {} > {}", text(&archive), text(&initrd)),
        ],
    );

    let root = dir.join("sound.ext4");
    ext4(&tree, &root, "400M", &["-L", "root"]);
    let disk = gpt_disk(dir, &root);
    let esp = esp(dir, "6M", "12");
    run(
        "dd",
        &[
            &format!("if={}", text(&esp)),
            &format!("of={}", text(&disk)),
            "bs=1M",
            "seek=2",
            "conv=notrunc",
            "status=none",
        ],
    );
    // Boot code, of which there only has to be some.
    run(
        "sh",
        &[
            "-c",
            &format!(
                "printf '\\353\\143' | dd of={} conv=notrunc status=none",
                text(&disk)
            ),
        ],
    );
    disk
}

fn ids(disk: &Path, road: Road) -> Vec<&'static str> {
    let report = check_disk(&open(disk).unwrap(), road).unwrap();
    note(&report);
    let mut ids: Vec<_> = report.findings.iter().map(|f| f.lint.id).collect();
    ids.dedup();
    ids
}

fn faults_of_the_guest() {
    let dir = tempfile::tempdir().unwrap();
    let disk = sound_guest(dir.path());
    for road in [Road::AwsEbs, Road::AwsImport] {
        assert_eq!(ids(&disk, road), [""; 0], "{road}");
    }
    let v = "6.1.0-9-cloud-amd64";
    // Each fault is a debugfs script on the root filesystem; `FILE` stands for the text beside it.
    let only = |module: &str| String::from_utf8(cpio(&[module])).unwrap();
    let (no_nvme, no_xen) = (
        only("lib/modules/xen-blkfront.ko"),
        only("lib/modules/nvme.ko"),
    );
    let program = |machine: char| format!("\x7fELF{}{machine}\0", "\0".repeat(14));
    let i386 = program('\x03');
    let faults: &[(&str, &str, &str)] = &[
        (
            "driver.nvme",
            &no_nvme,
            "rm /boot/initrd.img-VERSION\nwrite FILE /boot/initrd.img-VERSION",
        ),
        (
            "driver.xen",
            &no_xen,
            "rm /boot/initrd.img-VERSION\nwrite FILE /boot/initrd.img-VERSION",
        ),
        (
            "os.width",
            &i386,
            "mkdir /usr\nmkdir /usr/bin\nwrite FILE /usr/bin/ls",
        ),
        ("fs.space", "", "ssv free_blocks_count 1000"),
        (
            "net.static",
            "iface eth0 inet static\n",
            "mkdir /etc/network\nwrite FILE /etc/network/interfaces",
        ),
        (
            "fstab.devices",
            "LABEL=root / ext4 defaults 0 1\nUUID=dead /data ext4 defaults 0 2\n",
            "rm /etc/fstab\nwrite FILE /etc/fstab",
        ),
        (
            "fstab.names",
            "/dev/vda3 / ext4 defaults 0 1\n",
            "rm /etc/fstab\nwrite FILE /etc/fstab",
        ),
        (
            "fstab.network",
            "10.0.0.1:/x /mnt nfs defaults 0 0\n",
            "rm /etc/fstab\nwrite FILE /etc/fstab",
        ),
        ("fstab.present", "", "rm /etc/fstab"),
        (
            "os.known",
            "ID=arch\n",
            "rm /etc/os-release\nwrite FILE /etc/os-release",
        ),
        (
            "os.kernel",
            "",
            "rm /boot/vmlinuz-6.1.0-8-cloud-amd64\nrm /boot/vmlinuz-VERSION",
        ),
        (
            "grub.single",
            "title other\n",
            "write FILE /boot/grub/menu.lst",
        ),
        (
            "grub.bls",
            "blscfg\n",
            "rm /boot/grub/grub.cfg\nwrite FILE /boot/grub/grub.cfg",
        ),
        (
            "net.names",
            "linux /vmlinuz root=LABEL=root console=ttyS0\n",
            "rm /boot/grub/grub.cfg\nwrite FILE /boot/grub/grub.cfg",
        ),
        (
            "console.serial",
            "linux /vmlinuz root=LABEL=root net.ifnames=0\n",
            "rm /boot/grub/grub.cfg\nwrite FILE /boot/grub/grub.cfg",
        ),
        (
            "initramfs.readable",
            "BZh no archive",
            "rm /boot/initrd.img-VERSION\nwrite FILE /boot/initrd.img-VERSION",
        ),
        ("driver.ena", "", "rm /lib/modules/VERSION/modules.dep"),
        (
            "cloudinit.datasource",
            "datasource_list: [ NoCloud ]\n",
            "write FILE /etc/cloud/cloud.cfg.d/99.cfg",
        ),
        (
            "cloudinit.disabled",
            "x",
            "write FILE /etc/cloud/cloud-init.disabled",
        ),
        (
            "cloudinit.residue",
            "",
            "mkdir /var\nmkdir /var/lib\nmkdir /var/lib/cloud\nmkdir /var/lib/cloud/instance",
        ),
        (
            "residue.machine-id",
            "0123456789abcdef0123456789abcdef\n",
            "rm /etc/machine-id\nwrite FILE /etc/machine-id",
        ),
        (
            "residue.root-password",
            "root:$6$x$y:1:0:99999:7:::\n",
            "rm /etc/shadow\nwrite FILE /etc/shadow",
        ),
        (
            "residue.host-keys",
            "key",
            "mkdir /etc/ssh\nwrite FILE /etc/ssh/ssh_host_ed25519_key",
        ),
        (
            "residue.authorized-keys",
            "ssh-ed25519 AAAA",
            "mkdir /root\nmkdir /root/.ssh\nwrite FILE /root/.ssh/authorized_keys",
        ),
        (
            "residue.history",
            "secret",
            "mkdir /root\nwrite FILE /root/.bash_history",
        ),
        (
            "residue.credentials",
            "[default]",
            "mkdir /root\nmkdir /root/.aws\nwrite FILE /root/.aws/credentials",
        ),
        (
            "net.mac",
            "SUBSYSTEM==\"net\", ATTR{address}==\"52:54:00:12:34:56\", NAME=\"eth0\"\n",
            "mkdir /etc/udev\nmkdir /etc/udev/rules.d\nwrite FILE /etc/udev/rules.d/70-persistent-net.rules",
        ),
        ("fs.clean", "", "feature +needs_recovery"),
    ];
    let content = dir.path().join("content");
    let script = dir.path().join("fault.cmd");
    let root = dir.path().join("fault.ext4");
    for (id, text_of_file, commands) in faults {
        fs::copy(dir.path().join("sound.ext4"), &root).unwrap();
        fs::write(&content, text_of_file).unwrap();
        fs::write(
            &script,
            commands
                .replace("FILE", text(&content))
                .replace("VERSION", v)
                + "\n",
        )
        .unwrap();
        run("debugfs", &["-w", "-f", text(&script), text(&root)]);
        run(
            "dd",
            &[
                &format!("if={}", text(&root)),
                &format!("of={}", text(&disk)),
                "bs=1M",
                "seek=8",
                "conv=notrunc,sparse",
                "status=none",
            ],
        );
        // `sparse` leaves what was there before: the filesystem's own holes are zero in both.
        let found = ids(&disk, Road::AwsImport);
        let found = if found.contains(id) {
            found
        } else {
            ids(&disk, Road::AwsEbs)
        };
        assert!(found.contains(id), "{id} is not among {found:?}");
    }
}

/// What a test does to a copy of the sound disk.
type Fault<'a> = (&'static str, Road, &'a dyn Fn(&Path, &File));

fn faults_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let sound = sound_guest(dir.path());
    let size = fs::metadata(&sound).unwrap().len();
    let other = dir.path().join("other.ext4");
    let tree = dir.path().join("other");
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::write(tree.join("etc/fstab"), "LABEL=x / ext4 defaults 0 1\n").unwrap();
    ext4(&tree, &other, "4M", &["-O", "^has_journal"]);
    let other = fs::read(other).unwrap();
    let arm64 = dir.path().join("arm64");
    let mut program = b"\x7fELF".to_vec();
    program.resize(18, 0);
    program.extend([0xb7, 0]);
    fs::write(&arm64, program).unwrap();
    let no_loader = |disk: &Path| {
        let volume = format!("{}@@2M", text(disk));
        run("mdel", &["-i", &volume, "::EFI/BOOT/BOOTX64.EFI"]);
    };
    let faults: &[Fault<'_>] = &[
        ("disk.gpt-backup", Road::AwsEbs, &|_, file| {
            file.write_all_at(&[0; 512], size - 512).unwrap();
        }),
        ("disk.root-last", Road::AwsEbs, &|disk, _| {
            run("sgdisk", &["-n", "4:0:+1M", text(disk)]);
        }),
        ("disk.esp", Road::AwsEbs, &|disk, _| no_loader(disk)),
        ("disk.boot", Road::AwsEbs, &|disk, file| {
            no_loader(disk);
            file.write_all_at(&[0; 440], 0).unwrap();
        }),
        ("disk.ptable", Road::AwsImport, &|_, file| {
            file.write_all_at(&[0; 1024], 0).unwrap();
            file.write_all_at(&[0; 512], size - 512).unwrap();
        }),
        ("disk.encrypted", Road::AwsImport, &|_, file| {
            file.write_all_at(b"LUKS\xba\xbe", 2 * MIB).unwrap();
        }),
        ("lvm.readable", Road::AwsImport, &|_, file| {
            file.write_all_at(b"LABELONE", 2 * MIB + 512).unwrap();
        }),
        ("fs.single-root", Road::AwsImport, &|_, file| {
            file.write_all_at(&other, 2 * MIB).unwrap();
        }),
        ("fs.root", Road::AwsImport, &|_, file| {
            file.write_all_at(&[0, 0], 8 * MIB + 1080).unwrap();
        }),
        ("driver.vmware", Road::Vsphere, &|_, _| {}),
        ("os.arm64-import", Road::AwsImport, &|disk, file| {
            let root = disk.with_extension("root");
            fs::copy(dir.path().join("sound.ext4"), &root).unwrap();
            let script = disk.with_extension("cmd");
            let commands = format!(
                "mkdir /usr\nmkdir /usr/bin\nwrite {} /usr/bin/ls\n",
                text(&arm64)
            );
            fs::write(&script, commands).unwrap();
            run("debugfs", &["-w", "-f", text(&script), text(&root)]);
            file.write_all_at(&fs::read(&root).unwrap(), 8 * MIB)
                .unwrap();
        }),
    ];
    let disk = dir.path().join("faulty.raw");
    for (id, road, plant) in faults {
        run("cp", &["--sparse=always", text(&sound), text(&disk)]);
        let file = File::options().read(true).write(true).open(&disk).unwrap();
        plant(&disk, &file);
        let found = ids(&disk, *road);
        assert!(found.contains(id), "{id} is not among {found:?}");
    }
    // What is too long for the importer, as a hole.
    run("truncate", &["-s", "9T", text(&disk)]);
    let report = check_file(&disk, &OpenOptions::new(), Road::AwsImport, &NoProgress).unwrap();
    note(&report);
    assert!(
        report.findings.iter().any(|f| f.lint.id == "disk.size"),
        "{report:?}"
    );
}

fn faults_of_an_archive() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("x.raw");
    crate::formats::raw_disk(&raw, 3 * MIB, &[(0, crate::formats::noise(1, 9000))]);
    let ova = dir.path().join("x.ova");
    let target = Target::Ova {
        profile: ovenbird_disk::Profile::Aws,
        level: 1,
        hardware: Default::default(),
    };
    convert(
        &*open(&raw).unwrap(),
        &target,
        &Default::default(),
        &ova,
        &NoProgress,
    )
    .unwrap();
    let found = |path: &Path| -> Vec<&'static str> {
        let report = check_file(path, &OpenOptions::new(), Road::AwsImport, &NoProgress).unwrap();
        note(&report);
        report
            .findings
            .iter()
            .map(|f| f.lint.id)
            .filter(|id| id.starts_with("ova."))
            .collect()
    };
    assert_eq!(found(&ova), [""; 0]);
    let pack = |name: &str, script: &str, members: &str| {
        let folder = dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        run("tar", &["-C", text(&folder), "-xf", text(&ova)]);
        let command = format!(
            "cd {} && {script} && tar --format=ustar -cf ../{name}.ova {members}",
            text(&folder)
        );
        run("sh", &["-ec", &command]);
        dir.path().join(format!("{name}.ova"))
    };
    let all = "x.ovf x.mf x-disk1.vmdk";
    let last = pack("last", "true", "x-disk1.vmdk x.ovf x.mf");
    assert!(found(&last).contains(&"ova.layout"));
    let extra = pack("extra", "echo > notes.txt", &format!("{all} notes.txt"));
    assert!(found(&extra).contains(&"ova.layout"));
    let edited = pack("edited", "sed -i 's/Envelope/envelope/' x.ovf", all);
    assert_eq!(found(&edited), ["ova.digest"]);
    let lost = pack("lost", "true", "x.ovf x.mf");
    assert_eq!(found(&lost), ["ova.digest"]);
    let chunks = pack(
        "chunks",
        "sed -i 's/ovf:href=/ovf:chunkSize=\"99\" ovf:href=/' x.ovf",
        all,
    );
    assert!(found(&chunks).contains(&"ova.chunks"));
}

/// The rules that were found broken by the tests of this process.
static SEEN: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());

fn note(report: &Report) {
    let ids = report.findings.iter().map(|finding| finding.lint.id);
    SEEN.lock().unwrap().extend(ids);
}

/// A rule that no test breaks may never be found broken.
#[test]
fn every_rule_is_found_broken() {
    std::thread::scope(|scope| {
        for part in [
            faults_of_the_guest as fn(),
            faults_of_the_disk,
            faults_of_an_archive,
            faults_of_the_container,
        ] {
            scope.spawn(part);
        }
    });
    let all: BTreeSet<&str> = LINTS.iter().map(|lint| lint.id).collect();
    assert_eq!(*SEEN.lock().unwrap(), all);
}

fn faults_of_the_container() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("x.raw");
    crate::formats::raw_disk(
        &raw,
        3 * MIB + 512,
        &[(0, crate::formats::noise(1, 200_000))],
    );
    let found = |path: &Path| -> Vec<&'static str> {
        let image = open_image(path, &OpenOptions::new()).unwrap();
        let report = check_image(path, &image, Road::AwsImport, &NoProgress).unwrap();
        note(&report);
        report.findings.iter().map(|f| f.lint.id).collect()
    };
    assert!(found(&raw).contains(&"disk.ptable") && found(&raw).contains(&"disk.whole-mib"));
    let at = |name: &str| dir.path().join(name);
    for (kind, format, id) in [
        ("monolithicSparse", "vmdk", "vmdk.subformat"),
        ("monolithicFlat", "vmdk", "vmdk.subformat"),
    ] {
        let path = at(&format!("{kind}.{format}"));
        run(
            "qemu-img",
            &[
                "convert",
                "-f",
                "raw",
                "-O",
                format,
                "-o",
                &format!("subformat={kind}"),
                text(&raw),
                text(&path),
            ],
        );
        assert!(found(&path).contains(&id), "{kind}");
    }
    let qcow2 = at("x.qcow2");
    run(
        "qemu-img",
        &[
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            text(&raw),
            text(&qcow2),
        ],
    );
    assert!(found(&qcow2).contains(&"format.known"));
    let source = open(&raw).unwrap();
    let (vmdk, vhd) = (at("x.vmdk"), at("x.vhd"));
    for (path, target) in [
        (&vmdk, Target::of(ovenbird_disk::Format::Vmdk)),
        (&vhd, Target::VhdDynamic),
    ] {
        convert(&*source, &target, &Default::default(), path, &NoProgress).unwrap();
        let ids = found(path);
        assert!(
            !ids.iter().any(|id| id.starts_with("vmdk")
                || id.starts_with("vhd")
                || *id == "disk.readable"),
            "{ids:?}"
        );
    }
    let mut bytes = fs::read(&vmdk).unwrap();
    let grain = 128 * 512 + 12 + 1000;
    bytes[grain] ^= 0xff;
    fs::write(&vmdk, &bytes).unwrap();
    assert!(found(&vmdk).contains(&"disk.readable"), "a damaged grain");
    // The algorithm's number in the header: nobody can read the rest.
    bytes[77..79].copy_from_slice(&0u16.to_le_bytes());
    fs::write(&vmdk, &bytes).unwrap();
    let report = check_file(&vmdk, &OpenOptions::new(), Road::AwsImport, &NoProgress).unwrap();
    note(&report);
    assert!(
        report.findings.iter().any(|f| f.lint.id == "vmdk.compress"),
        "{report:?}"
    );
    let mut bytes = fs::read(&vhd).unwrap();
    bytes[100] ^= 1;
    fs::write(&vhd, &bytes).unwrap();
    assert!(found(&vhd).contains(&"vhd.footer"), "footers that differ");
}
