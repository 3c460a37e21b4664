//! The verbs `base` and `doctor`, without any guest.

use std::os::unix::fs::FileExt as _;

use camino::Utf8PathBuf;
use ovenbird_disk::fs::{NodeKind, find_root, read_file, resolve};
use serde_json::Value;

use crate::setup::{self, Setup, tool};

/// A raw disk of one MiB that has boot code.
fn small_disk(setup: &Setup) -> Utf8PathBuf {
    let path = setup.file("small.raw", "");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(1 << 20).unwrap();
    file.write_all_at(&[0xeb, 0x3c, 0x90], 0).unwrap();
    file.write_all_at(&[0x55, 0xaa], 510).unwrap();
    path
}

fn json(setup: &Setup, arguments: &[&str]) -> Value {
    let ran = setup.run(&[&["--json"], arguments].concat()).expect(0);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", ran.stdout))
}

#[test]
fn a_disk_of_ones_own_comes_and_goes() {
    let setup = setup::empty();
    let disk = small_disk(&setup);
    let vmdk = setup.path().join("small.vmdk");
    tool(
        "qemu-img",
        &[
            "convert",
            "-f",
            "raw",
            "-O",
            "vmdk",
            disk.as_str(),
            vmdk.as_str(),
        ],
    );
    for source in [&disk, &vmdk] {
        setup
            .run(&[
                "base",
                "import",
                source.as_str(),
                "--name",
                "mine",
                "--default-user",
                "me",
            ])
            .expect(0);
    }
    let list = json(&setup, &["base", "list"]);
    let versions: Vec<&str> = list["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["version"].as_str().unwrap())
        .collect();
    assert_eq!(versions, ["1.0.0", "1.0.1"]);
    let shown = json(&setup, &["base", "show", "mine"]);
    assert_eq!(shown["defaultUser"], "me");
    assert_eq!(shown["firmware"], serde_json::json!(["bios"]));
    assert_eq!(
        shown["origin"],
        serde_json::json!({"imported": "small.vmdk"})
    );
    let stored = Utf8PathBuf::from(shown["folder"].as_str().unwrap()).join("disk.qcow2");
    tool(
        "qemu-img",
        &[
            "compare",
            "-f",
            "raw",
            "-F",
            "qcow2",
            disk.as_str(),
            stored.as_str(),
        ],
    );

    // Two versions: which one?
    setup
        .run(&["base", "rm", "mine"])
        .expect(2)
        .says("mine means 2 images: 1.0.0, 1.0.1");
    setup.run(&["base", "rm", "mine/1.0.0"]).expect(0);
    setup
        .run(&["base", "rm", "mine", "yours"])
        .expect(3)
        .says("no base image yours is on the shelf");
    assert_eq!(
        json(&setup, &["base", "list"])["images"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    setup.run(&["base", "rm", "mine"]).expect(0);
    assert_eq!(
        setup.home().join("bases").read_dir_utf8().unwrap().count(),
        0
    );
}

#[test]
fn what_the_catalogue_has_can_be_seen_and_a_slip_is_understood() {
    let setup = setup::empty();
    let all = json(&setup, &["base", "list", "--all"]);
    let names: Vec<&str> = all["available"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    for family in [
        "debian",
        "ubuntu",
        "fedora",
        "amazon-linux",
        "rocky",
        "almalinux",
        "opensuse",
        "alpine",
    ] {
        assert!(
            names.iter().any(|name| name.starts_with(family)),
            "{family}: {names:?}"
        );
    }
    let shown = setup.run(&["base", "show", "debian-12"]).expect(0);
    assert!(
        shown.stdout.contains("ovenbird base build debian-12"),
        "{}",
        shown.stdout
    );
    setup
        .run(&["base", "build", "debain-12"])
        .expect(3)
        .says("did you mean \"debian-12\"?");
    setup
        .run(&["base", "build", "fedora-42"])
        .expect(3)
        .says("`ovenbird base pull fedora-42`");
    setup
        .run(&["base", "pull", "./disk.qcow2"])
        .expect(2)
        .says("is a file");
}

#[test]
fn nobody_listening_is_said_and_leaves_no_image() {
    let setup = setup::empty();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let from = format!("http://127.0.0.1:{port}");
    setup
        .run(&["base", "pull", "debian-12", "--from", &from])
        .expect(4)
        .says(&format!("cannot fetch {from}/images/cloud/bookworm/"));
    assert_eq!(
        json(&setup, &["base", "list"])["images"],
        serde_json::json!([])
    );
}

#[test]
fn doctor_finds_what_the_tests_need() {
    let setup = setup::empty();
    let report = json(&setup, &["doctor", "--no-probe"]);
    assert_eq!(report["ready"], true, "{report}");
    let findings = report["findings"].as_array().unwrap();
    let found = |name: &str| {
        findings
            .iter()
            .any(|finding| finding["name"] == name && finding["found"] == true)
    };
    assert!(found("qemu-system-x86_64") && found("qemu-img"), "{report}");

    // With nothing on the path it says what to install.
    let ran = setup::Ran::of(
        setup
            .ovenbird(&["doctor", "--no-probe"])
            .env("PATH", setup.path())
            .output()
            .unwrap(),
    )
    .expect(4);
    ran.says("this machine can't bake yet: qemu-system-x86_64, qemu-img missing");
    assert!(ran.stdout.contains("MISSING"), "{}", ran.stdout);
}

#[test]
fn the_built_base_image_is_nobodys() {
    let setup = setup::with_base();
    let record = json(&setup, &["base", "show", "debian-12"]);
    let disk = Utf8PathBuf::from(record["folder"].as_str().unwrap()).join("disk.qcow2");
    tool("qemu-img", &["check", "-q", disk.as_str()]);
    let reader = ovenbird_disk::open(disk.as_std_path()).unwrap();
    let (volume, fs) = find_root(&reader).unwrap();
    assert_eq!(volume.partition.unwrap().number, 3);
    let text = |path: &str| String::from_utf8(read_file(&*fs, path, 1 << 20).unwrap()).unwrap();

    // No identity.
    assert_eq!(text("/etc/machine-id"), "");
    let ssh = resolve(&*fs, b"/etc/ssh", true).unwrap();
    let names: Vec<String> = fs
        .read_dir(&ssh)
        .unwrap()
        .into_iter()
        .map(|entry| String::from_utf8_lossy(&entry.name).into_owned())
        .collect();
    assert!(names.iter().any(|name| name == "sshd_config"), "{names:?}");
    assert!(
        !names.iter().any(|name| name.starts_with("ssh_host_")),
        "{names:?}"
    );
    // Nobody can log in: every password is locked, nobody's key is let in.
    for line in text("/etc/shadow").lines() {
        let password = line.split(':').nth(1).unwrap();
        assert!(password.starts_with(['!', '*']), "{line}");
    }
    assert!(resolve(&*fs, b"/root/.ssh/authorized_keys", true).is_err());

    // The root filesystem is found by the same UUID everywhere.
    let cmdline = record["kernel"]["cmdline"].as_str().unwrap();
    let root = cmdline
        .split(' ')
        .find(|word| word.starts_with("root=UUID="))
        .unwrap();
    let uuid = root.trim_start_matches("root=");
    assert!(
        text("/etc/fstab").starts_with(&format!("{uuid} / ext4 ")),
        "{}",
        text("/etc/fstab")
    );
    assert!(text("/boot/grub/grub.cfg").contains(root));
    // What the installation needed for a moment is gone, and the tool it stood in for is back.
    assert!(resolve(&*fs, b"/export", true).is_err());
    let probe = resolve(&*fs, b"/usr/sbin/grub-probe", true).unwrap();
    assert_eq!(probe.kind, NodeKind::File);
    assert!(probe.size > 100_000, "{} bytes", probe.size);
    assert!(resolve(&*fs, b"/usr/sbin/grub-probe.distributed", true).is_err());
}
