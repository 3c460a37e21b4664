//! The demonstration recipe from base image to tested outputs, and what holds of them outside of Ovenbird.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird::machine::Firmware;
use ovenbird::output::manifest::AttachmentKind;
use ovenbird::output::{Manifest, OutputFormat};
use sha2::{Digest as _, Sha256};

use crate::outside::Outside;
use crate::setup::{self, tool};

/// One bake, then everything that can be asked of its outputs: a guest costs minutes under software emulation.
#[test]
fn guest_demo_is_baked_tested_and_boots_anywhere() {
    let setup = setup::with_base();
    let recipe = setup::source("recipes/demo.yml");
    let target = setup.path().join("out");
    let key = setup.path().join("release");
    setup.run(&["keys", "generate", key.as_str()]).expect(0);
    let ran = setup
        .run(&[
            "build",
            recipe.as_str(),
            "--destination",
            target.as_str(),
            "--sign-key",
            key.as_str(),
            "--json",
        ])
        .expect(0);
    setup.assert_nothing_left();

    let manifest = Manifest::read(&target).unwrap();
    the_events_tell_the_story(&ran.stdout);
    the_manifest_is_true(&manifest, &target);
    it_is_what_the_policy_demands(&setup, &manifest, &target);
    the_bills_name_what_the_guest_has(&setup, &manifest, &target);
    the_store_knows_it(&setup, &manifest);
    the_disks_are_one(&manifest, &target);
    nothing_of_the_bake_is_left_on_the_disk(&target.join(file(&manifest, OutputFormat::Raw)));
    the_container_is_readable(&manifest, &target, setup.path());
    nothing_stands_in_the_way(&setup, &manifest, &target);
    let raw = target.join(file(&manifest, OutputFormat::Raw));
    let fitted = a_fitted_disk(&setup, &raw);
    the_disk_boots_outside(&raw, &fitted, setup.path());
}

/// The bills are read from the disk, the manifest's list was asked from the guest's dpkg: they must agree.
fn the_bills_name_what_the_guest_has(setup: &setup::Setup, manifest: &Manifest, target: &Utf8Path) {
    let bill = |name: &str| {
        let file = manifest.attachments.iter().find(|file| file.path == name);
        assert!(file.is_some(), "{name} is not in the manifest");
        std::fs::read_to_string(target.join(name)).unwrap()
    };
    let found = crate::sbom::packages_of(setup, &bill("sbom.spdx.json"), &bill("sbom.cdx.json"));
    let found: BTreeSet<String> = found
        .into_iter()
        .filter_map(|purl| {
            let rest = purl.strip_prefix("pkg:deb/debian/")?;
            Some(rest.split('?').next()?.replace("%2B", "+"))
        })
        .collect();
    let told: BTreeSet<String> = manifest
        .packages
        .iter()
        .map(|package| format!("{}@{}", package.name, package.version))
        .collect();
    assert!(told.len() > 100, "{} packages", told.len());
    assert_eq!(found, told);
}

/// Signed by the bake itself, and everything that a policy can ask of it was seen.
fn it_is_what_the_policy_demands(setup: &setup::Setup, manifest: &Manifest, target: &Utf8Path) {
    let paths: Vec<&str> = manifest
        .attachments
        .iter()
        .filter(|file| file.kind == AttachmentKind::Evidence)
        .map(|file| file.path.as_str())
        .collect();
    assert_eq!(paths, ["evidence/bios-virtio/services.txt"]);
    let services = std::fs::read_to_string(target.join(paths[0])).unwrap();
    assert!(services.contains("nginx.service"), "{services}");
    let policy = |more: &str| {
        setup.file(
            "policy.toml",
            &format!(
                "keys = [\"release.pub\"]\nimage = [\"demo-*\"]\nmaxAgeDays = 1\nparents = [\"debian-12/*\"]\n\
                 bootedBy = [\"bios\"]\ncopiesCompared = true\n[components]\nrequired = [\"web-server\"]\n\
                 [packages]\nrequired = [\"nginx\"]\n{more}[cleanUp]\n"
            ),
        );
        setup.run(&["verify", target.as_str(), "--policy", "policy.toml"])
    };
    policy("").expect(0);
    policy("forbidden = [\"openssh-server\"]\n")
        .expect(8)
        .says("the package openssh-server/")
        .says("is forbidden by openssh-server");
}

fn file(manifest: &Manifest, format: OutputFormat) -> &Utf8Path {
    &manifest
        .files
        .iter()
        .find(|file| file.format == format)
        .unwrap()
        .path
}

fn the_events_tell_the_story(stream: &str) {
    let events: Vec<serde_json::Value> = stream
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        events
            .iter()
            .all(|event| event["v"] == 1 && event["time"].is_string())
    );
    let states: Vec<&str> = events
        .iter()
        .filter(|event| event["type"] == "stateChanged")
        .map(|event| event["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["BUILDING", "TESTING", "DISTRIBUTING", "AVAILABLE"]);
    let steps: Vec<&str> = events
        .iter()
        .filter(|event| event["type"] == "stepFinished" && event["outcome"] == "completed")
        .map(|event| event["step"].as_str().unwrap())
        .collect();
    // Beside the outputs: either may be first.
    assert!(steps.contains(&"InspectDisk"));
    let steps: Vec<&str> = steps
        .into_iter()
        .filter(|step| *step != "InspectDisk")
        .collect();
    assert_eq!(
        steps,
        [
            "LaunchBuildInstance",
            "BootstrapBuildInstance",
            "ApplyBuildComponents",
            "InventoryCollection",
            "RunSanitizeScript",
            "TerminateBuildInstance",
            "CreateOutputImage",
            "LaunchTestInstance",
            "ApplyTestComponents",
            "TerminateTestInstance",
            "LaunchTestInstance",
            "CompareCopies",
            "TerminateTestInstance",
            "Distribute",
        ]
    );
    // The reboot in the middle: the login is reached twice before the test boot.
    let agent: Vec<&serde_json::Value> = events
        .iter()
        .filter(|event| event["type"] == "agent")
        .map(|event| &event["event"])
        .collect();
    assert_eq!(
        agent
            .iter()
            .filter(|event| event["type"] == "rebootRequested")
            .count(),
        1
    );
    for step in [
        "Install",
        "After",
        "Configuration",
        "ServesThePage",
        "DiskHasGrown",
        "NothingFailed",
    ] {
        let finished: Vec<_> = agent
            .iter()
            .filter(|event| event["type"] == "stepFinished" && event["step"] == step)
            .collect();
        assert_eq!(finished.len(), 1, "{step} ran once");
        assert_eq!(finished[0]["status"], "success", "{step}");
    }
}

fn the_manifest_is_true(manifest: &Manifest, folder: &Utf8Path) {
    assert_eq!(
        (
            manifest.name.as_str(),
            manifest.version.as_str(),
            manifest.build
        ),
        ("demo-web", "1.0.0", 1)
    );
    assert_eq!(manifest.parent.name, "debian-12");
    assert_eq!(manifest.parent.sha256.len(), 64);
    assert_eq!(
        (manifest.os.id.as_str(), manifest.os.version.as_str()),
        ("debian", "12")
    );
    assert!(
        manifest
            .packages
            .iter()
            .any(|package| package.name == "nginx-light")
    );
    let names: Vec<&str> = manifest
        .components
        .iter()
        .map(|component| component.name.as_str())
        .collect();
    assert_eq!(names, ["web-server", "reboot-once", "checks"]);
    assert_eq!(
        manifest.components[0].parameters["Greeting"],
        ["Hello from a baked image"]
    );
    let (done, kept): (Vec<_>, Vec<_>) = manifest.sanitised.iter().partition(|rule| rule.done);
    let ids = |rules: &[&ovenbird::output::manifest::SanitiseResult]| -> Vec<String> {
        rules.iter().map(|rule| rule.id.clone()).collect()
    };
    assert_eq!(
        ids(&kept),
        [
            "user-caches",
            "cron-spool",
            "backup-files",
            "ssh-folders",
            "configuration-management"
        ],
        "only what is optional"
    );
    let unseen: Vec<_> = done.into_iter().filter(|rule| !rule.verified).collect();
    assert_eq!(ids(&unseen), ["services", "swap"], "seen from outside");
    assert_eq!(manifest.residue, []);
    let boots: Vec<_> = manifest
        .boots
        .iter()
        .map(|boot| (boot.purpose.as_str(), boot.firmware))
        .collect();
    assert_eq!(
        boots,
        [
            ("build", Firmware::Bios),
            ("test", Firmware::Bios),
            ("copy", Firmware::Bios)
        ]
    );
    for own in ["machine-id", "host-key", "random", "hostname", "root-bytes"] {
        assert!(manifest.boots[2].differs.iter().any(|name| name == own));
    }
    let formats: BTreeSet<_> = manifest.files.iter().map(|file| file.format).collect();
    assert_eq!(
        formats,
        [
            OutputFormat::Raw,
            OutputFormat::Qcow2,
            OutputFormat::Vmdk,
            OutputFormat::Oci
        ]
        .into()
    );
    // Every file of the folder is in the manifest, with its true size and digest.
    let mut found: Vec<_> = setup::find(folder, &|path| path.is_file())
        .into_iter()
        .map(|path| path.strip_prefix(folder).unwrap().to_owned())
        // The one names the other, and itself none.
        .filter(|path| path != Manifest::FILE && path != "provenance.dsse.json")
        .collect();
    found.sort();
    let mut listed: Vec<_> = manifest.listed().map(|file| file.path.to_owned()).collect();
    listed.sort();
    assert_eq!(found, listed);
    for file in manifest.listed() {
        let mut digest = Sha256::new();
        let size = std::io::copy(
            &mut std::fs::File::open(folder.join(file.path)).unwrap(),
            &mut Writer(&mut digest),
        )
        .unwrap();
        assert_eq!(size, file.size, "{}", file.path);
        assert_eq!(hex::encode(digest.finalize()), file.sha256, "{}", file.path);
    }
}

struct Writer<'a>(&'a mut Sha256);

impl std::io::Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn the_store_knows_it(setup: &setup::Setup, manifest: &Manifest) {
    let list = setup.run(&["image", "list", "--json"]).expect(0).stdout;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["state"], "AVAILABLE");
    assert_eq!(list[0]["arn"], manifest.arn.as_str());
    let shown = setup.run(&["image", "show", "demo-web"]).expect(0).stdout;
    assert!(
        shown.contains("ApplyTestComponents") && shown.contains("Debian GNU/Linux 12"),
        "{shown}"
    );
    let logs = setup.run(&["logs", "demo-web", "--files"]).expect(0).stdout;
    for wanted in [
        "events.ndjson",
        "console-ovenbird-build",
        "console-ovenbird-test",
        "detailedoutput.json",
    ] {
        assert!(
            logs.contains(wanted),
            "{wanted} is not among the logs:\n{logs}"
        );
    }
}

fn the_disks_are_one(manifest: &Manifest, folder: &Utf8Path) {
    let path = |format| folder.join(file(manifest, format));
    let raw = path(OutputFormat::Raw);
    tool(
        "qemu-img",
        &["check", "-f", "qcow2", path(OutputFormat::Qcow2).as_str()],
    );
    tool(
        "qemu-img",
        &["check", "-f", "vmdk", path(OutputFormat::Vmdk).as_str()],
    );
    for (format, driver) in [(OutputFormat::Qcow2, "qcow2"), (OutputFormat::Vmdk, "vmdk")] {
        tool(
            "qemu-img",
            &[
                "compare",
                "-f",
                "raw",
                "-F",
                driver,
                raw.as_str(),
                path(format).as_str(),
            ],
        );
    }
    assert_eq!(std::fs::metadata(&raw).unwrap().len(), 4 << 30);
    assert_eq!(manifest.virtual_size, 4 << 30);
    // Sparse: what is allocated is a fraction of the disk.
    use std::os::unix::fs::MetadataExt as _;
    let allocated = std::fs::metadata(&raw).unwrap().blocks() * 512;
    assert!(allocated < 1536 << 20, "{allocated} bytes are allocated");
    for format in [OutputFormat::Raw, OutputFormat::Qcow2, OutputFormat::Vmdk] {
        let disk = ovenbird_disk::open(path(format).as_std_path()).unwrap();
        let digest = ovenbird_disk::disk_digest(&*disk, &ovenbird_disk::NoProgress).unwrap();
        assert_eq!(digest.to_string(), manifest.disk_digest, "{format}");
    }
}

/// Read from outside, without mounting and without trusting what the guest said.
fn nothing_of_the_bake_is_left_on_the_disk(raw: &Utf8Path) {
    let disk = ovenbird_disk::open(raw.as_std_path()).unwrap();
    let (_, root) = ovenbird_disk::fs::find_root(&disk).unwrap();
    let read = |path: &str| ovenbird_disk::fs::read_file(&*root, path, 1 << 20);
    assert_eq!(
        read("/etc/machine-id").unwrap(),
        b"",
        "the machine id is empty"
    );
    for path in [
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/ssh/ssh_host_rsa_key",
        "/etc/sudoers.d/90-cloud-init-users",
        "/home/ovenbird/.ssh/authorized_keys",
        "/root/.ssh/authorized_keys",
        "/var/lib/ovenbird/agent",
        "/var/lib/systemd/random-seed",
        "/var/lib/cloud/data/instance-id",
        "/etc/hostname",
    ] {
        assert!(read(path).is_err(), "{path} is still there");
    }
    for path in ["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/subuid"] {
        let text = String::from_utf8(read(path).unwrap()).unwrap();
        assert!(!text.contains("ovenbird"), "{path} names the bake's user");
    }
    // What the components made is there.
    assert_eq!(
        read("/var/www/html/index.html").unwrap(),
        b"<h1>Hello from a baked image</h1>\n"
    );
    assert!(read("/var/tmp/boot-before").is_err());
}

fn the_container_is_readable(manifest: &Manifest, folder: &Utf8Path, work: &Utf8Path) {
    let layout = manifest
        .files
        .iter()
        .find(|file| file.format == OutputFormat::Oci)
        .unwrap();
    let layout = folder.join(layout.path.components().next().unwrap().as_str());
    let image = format!("{layout}:{}-{}", manifest.version, manifest.build);
    let inspected: serde_json::Value =
        serde_json::from_str(&tool("skopeo", &["inspect", &format!("oci:{image}")])).unwrap();
    assert_eq!(inspected["Architecture"], "amd64");
    assert_eq!(
        inspected["Labels"]["org.opencontainers.image.title"],
        "demo-web"
    );
    let bundle = work.join("bundle");
    tool("umoci", &["unpack", "--image", &image, bundle.as_str()]);
    let root = bundle.join("rootfs");
    let release = std::fs::read_to_string(root.join("usr/lib/os-release")).unwrap();
    assert!(release.contains("ID=debian"), "{release}");
    assert_eq!(
        std::fs::read_to_string(root.join("var/www/html/index.html")).unwrap(),
        "<h1>Hello from a baked image</h1>\n"
    );
    std::fs::remove_dir_all(bundle).unwrap();
}

/// What was delivered would be taken by each road that takes its format.
fn nothing_stands_in_the_way(setup: &setup::Setup, manifest: &Manifest, folder: &Utf8Path) {
    for (format, roads) in [
        (OutputFormat::Raw, &["aws-ebs", "aws-import"][..]),
        (OutputFormat::Vmdk, &["aws-ebs", "aws-import"]),
        (OutputFormat::Qcow2, &["aws-ebs"]),
    ] {
        let path = folder.join(file(manifest, format));
        for road in roads {
            setup
                .run(&["disk", "preflight", path.as_str(), "--for", road])
                .expect(0);
        }
    }
}

/// The same disk, shrunk to its content.
fn a_fitted_disk(setup: &setup::Setup, raw: &Utf8Path) -> Utf8PathBuf {
    let fitted = setup.path().join("fitted.raw");
    setup
        .run(&["convert", raw.as_str(), fitted.as_str(), "--fit"])
        .expect(0);
    let length = |path: &Utf8Path| std::fs::metadata(path).unwrap().len();
    assert!(
        length(&fitted) * 2 < length(raw),
        "{} bytes are left of {}",
        length(&fitted),
        length(raw)
    );
    setup
        .run(&["disk", "preflight", fitted.as_str(), "--for", "aws-ebs"])
        .expect(0);
    fitted
}

/// Under both firmwares, on both controllers; no two clones are the same machine. One of them is the fitted disk, which is
/// the same to its user.
fn the_disk_boots_outside(raw: &Utf8Path, fitted: &Utf8Path, work: &Utf8Path) {
    let mut machine_ids = BTreeSet::new();
    let mut host_keys = BTreeSet::new();
    let cases = [(false, false), (false, true), (true, false), (true, true)];
    for (uefi, nvme) in cases {
        let name = format!(
            "clone-{}-{}",
            if uefi { "uefi" } else { "bios" },
            if nvme { "nvme" } else { "virtio" }
        );
        let disk = if uefi && nvme { fitted } else { raw };
        let clone = Outside::boot(disk, "raw", uefi, nvme, &work.join(&name));
        let say = |command: &str| {
            clone
                .ssh(command)
                .unwrap_or_else(|| panic!("{name}: {command} failed"))
        };
        let firmware = say("if [ -d /sys/firmware/efi ]; then echo uefi; else echo bios; fi");
        assert_eq!(firmware == "uefi", uefi, "{name}");
        assert_eq!(
            say("lsblk -no PKNAME $(findmnt -no SOURCE /)").starts_with("nvme"),
            nvme,
            "{name}"
        );
        let id = say("cat /etc/machine-id");
        assert_eq!(id.len(), 32, "{name}: {id:?}");
        machine_ids.insert(id);
        host_keys.insert(say("cat /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2"));
        assert_eq!(say("cat /etc/hostname"), "clone", "the seed names the host");
        assert_eq!(
            say(
                "curl -s http://127.0.0.1/ || (exec 3<>/dev/tcp/127.0.0.1/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; tail -n 1 <&3)"
            ),
            "<h1>Hello from a baked image</h1>"
        );
    }
    assert_eq!(
        machine_ids.len(),
        cases.len(),
        "every clone has its own machine id: {machine_ids:?}"
    );
    assert_eq!(
        host_keys.len(),
        cases.len(),
        "every clone has its own host key"
    );
}
