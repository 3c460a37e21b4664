//! What arrives in a registry, seen by others, and how it comes back.

use std::sync::Mutex;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird::catalog::progress::{Progress, Silent};
use ovenbird::registry::{Content, Descriptor, Item, Shape, Source, Target, deliver, disk, media};
use serde_json::json;

use super::proxy::Proxy;
use super::server::Server;
use super::{MIB, digest, noise, options, pushed, raw_disk, registry, same_content};
use crate::setup::{Setup, empty, tool};

#[test]
fn a_second_push_of_a_container_disk_sends_no_blob() {
    let (setup, server) = (empty(), Server::start());
    let proxy = Proxy::start(server.port());
    let disk = raw_disk(&setup);
    let reference = format!("{}/disks/web:1.0.0", proxy.host());
    let push = [
        "push",
        disk.as_str(),
        &reference,
        "--as",
        "containerDisk",
        "--json",
    ];
    let value = pushed(setup.run(&push));
    assert_eq!(
        value["pushed"]["blobs"]["sent"], 2,
        "layer and configuration"
    );
    assert!(proxy.blob_bytes() > 4 * MIB as u64 - 4096);
    proxy.forget();

    let again = pushed(setup.run(&push));
    assert_eq!(again["pushed"]["digest"], value["pushed"]["digest"]);
    assert_eq!(again["pushed"]["blobs"]["existed"], 2);
    assert_eq!(
        proxy.uploads(),
        Vec::<String>::new(),
        "nothing was uploaded"
    );
    assert_eq!(
        proxy.count("PUT", "/manifests/"),
        0,
        "a tag that is right is left alone"
    );

    // Another repository of the same registry: mounted, not sent.
    proxy.forget();
    let other = format!("{}/disks/copy:1", proxy.host());
    let arguments = [
        "push",
        disk.as_str(),
        &other,
        "--as",
        "containerDisk",
        "--json",
        "--mount-from",
        "disks/web",
    ];
    let mounted = pushed(setup.run(&arguments));
    assert_eq!(mounted["pushed"]["blobs"]["mounted"], 2);
    assert_eq!(proxy.blob_bytes(), 0);

    // What others see.
    let layout = setup.path().join("pulled");
    tool(
        "skopeo",
        &[
            "copy",
            "--src-tls-verify=false",
            &format!("docker://{}", reference),
            &format!("oci:{layout}:x"),
        ],
    );
    let content = Content::of_layout(&layout).unwrap();
    assert_eq!(
        content.manifests[0].0.digest,
        value["pushed"]["digest"].as_str().unwrap()
    );

    setup
        .run(&["base", "import", &format!("oci://{reference}"), "web"])
        .expect(0);
    let base = setup.home().join("bases/web/1.0.0/disk.qcow2");
    same_content(&disk, &base);
    assert_eq!(digest(&setup, &disk), digest(&setup, &base));
}

#[test]
fn a_disk_in_pieces_comes_back_as_a_base() {
    let (setup, server) = (empty(), Server::start());
    let disk = raw_disk(&setup);
    let reference = format!("{}/disks/web:1", server.host());
    let push = [
        "push",
        disk.as_str(),
        &reference,
        "--piece",
        "1",
        "--tag",
        "stable",
        "--json",
    ];
    let pushed = pushed(setup.run(&push));
    // Four pieces have data; the fifth blob is the empty configuration.
    assert_eq!(pushed["pushed"]["blobs"]["sent"], 5);
    assert_eq!(pushed["pushed"]["tags"], serde_json::json!(["1", "stable"]));
    let raw = tool(
        "skopeo",
        &[
            "inspect",
            "--raw",
            "--tls-verify=false",
            &format!("docker://{reference}"),
        ],
    );
    let manifest: serde_json::Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(manifest["artifactType"], media::DISK);
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 4);
    assert_eq!(
        manifest["layers"][3]["annotations"][disk::OFFSET],
        (6 * MIB).to_string()
    );
    assert_eq!(
        manifest["annotations"][disk::DISK_DIGEST],
        digest(&setup, &disk)
    );

    let by_digest = format!(
        "oci://{}/disks/web@{}",
        server.host(),
        pushed["pushed"]["digest"].as_str().unwrap()
    );
    setup.run(&["base", "import", &by_digest]).expect(0);
    let base = setup.home().join("bases/web/1.0.0/disk.qcow2");
    same_content(&disk, &base);
    assert_eq!(digest(&setup, &disk), digest(&setup, &base));
    let partial = setup.home().join("bases/.partial");
    assert_eq!(
        partial.read_dir_utf8().unwrap().count(),
        0,
        "pieces are left"
    );
}

#[tokio::test]
async fn artifacts_refer_to_their_subject() {
    let server = Server::start();
    let to = registry(&server.host(), "a", options());
    let image =
        Content::artifact("application/x-test", None, vec![], None, Default::default()).unwrap();
    let pushed = image.push(&to, &["1".into()], &[], &Silent).await.unwrap();
    let bytes = b"{\"sbom\":true}".as_slice();
    let sbom = ovenbird::registry::Descriptor::of("application/spdx+json", bytes);
    let about = Content::artifact(
        "application/spdx+json",
        None,
        vec![(sbom, Source::Bytes(bytes.into()))],
        Some(image.manifests[0].0.clone()),
        Default::default(),
    )
    .unwrap();
    for _ in 0..2 {
        about.push(&to, &[], &[], &Silent).await.unwrap();
    }
    let all = to.referrers(&pushed.digest, None).await.unwrap();
    assert_eq!(all.len(), 1, "noted once");
    assert_eq!(all[0].digest, about.manifests[0].0.digest);
    let kinds = |kind| to.referrers(&pushed.digest, Some(kind));
    assert_eq!(kinds("application/spdx+json").await.unwrap().len(), 1);
    assert_eq!(kinds("application/other").await.unwrap().len(), 0);
}

/// Pieces of the same bytes are one blob, and a disk that looks like an image of another format stays what it is.
#[test]
fn a_disk_that_repeats_itself_and_pretends_comes_back_as_it_was() {
    let (setup, server) = (empty(), Server::start());
    // The header of a qcow2 that names another file as its backing file, as a guest could write it.
    let inner = setup.file("inner.raw", "");
    std::fs::write(&inner, noise(MIB, 9)).unwrap();
    let pretender = setup.path().join("pretender.qcow2");
    let options = format!("backing_file={inner},backing_fmt=raw");
    let size = MIB.to_string();
    tool(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            &options,
            pretender.as_str(),
            &size,
        ],
    );
    let mut bytes = noise(MIB, 1).repeat(4);
    bytes.extend(noise(MIB, 2));
    let header = std::fs::read(&pretender).unwrap();
    bytes[..510].copy_from_slice(&header[..510]);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let disk = setup.path().join("disk.raw");
    std::fs::write(&disk, &bytes).unwrap();
    // A disk file of the user is probed, so it goes there as the virtual disk of a qcow2.
    let file = setup.path().join("disk.qcow2");
    tool(
        "qemu-img",
        &[
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            disk.as_str(),
            file.as_str(),
        ],
    );
    let reference = format!("{}/a:1", server.host());
    let push = "--piece 1 --parallel 1 --json".split(' ');
    let push: Vec<&str> = ["push", file.as_str(), &reference]
        .into_iter()
        .chain(push)
        .collect();
    let value = pushed(setup.run(&push));
    assert_eq!(value["pushed"]["blobs"]["sent"], 3 + 1, "equal pieces once");
    let import = ["base", "import", &format!("oci://{reference}"), "back"];
    setup
        .run(&[&import[..], &["--firmware", "bios"]].concat())
        .expect(0);
    let base = setup.home().join("bases/back/1.0.0/disk.qcow2");
    assert_eq!(digest(&setup, &file), digest(&setup, &base));
}

/// Files that let one program run, on a disk without a partition table.
fn root_disk(setup: &Setup) -> Utf8PathBuf {
    let (tree, disk) = (setup.path().join("tree"), setup.path().join("root.ext4"));
    let script = format!(
        "mkdir {tree}; cd {tree}; mkdir -p bin etc proc sys dev run tmp; cp -L /bin/cat bin/
         for library in $(ldd /bin/cat | grep -o '/[^ ]*'); do
             mkdir -p ./$(dirname $library); cp -L $library ./$library
         done
         printf 'ID=testix\\n' > etc/os-release"
    );
    tool("sh", &["-ec", &script]);
    let make = ["-q", "-F", "-t", "ext4", "-E", "root_owner=0:0", "-d"];
    let what = [tree.as_str(), disk.as_str(), "32M"];
    tool("mke2fs", &[&make[..], &what].concat());
    disk
}

#[test]
fn podman_pulls_and_runs_a_root_filesystem() {
    let (setup, server) = (empty(), Server::start());
    let disk = root_disk(&setup);
    let reference = format!("{}/guests/web:1", server.host());
    let push = ["push", disk.as_str(), &reference, "--as", "image", "--json"];
    let value = pushed(setup.run(&push));
    let inspected = tool(
        "skopeo",
        &[
            "inspect",
            "--tls-verify=false",
            &format!("docker://{reference}"),
        ],
    );
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["Digest"], value["pushed"]["digest"]);
    assert_eq!(inspected["Architecture"], "amd64");

    let policy = setup.file(
        "policy.json",
        r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
    );
    let (store, state) = (setup.path().join("store"), setup.path().join("run"));
    let place = ["--root", store.as_str(), "--runroot", state.as_str()];
    let ways = "--storage-driver vfs --cgroup-manager cgroupfs --events-backend none".split(' ');
    let podman: Vec<&str> = ["podman"].into_iter().chain(place).chain(ways).collect();
    // crun wants cgroups of version 1 or 2, not both: in a mount namespace of its own it sees one. The defaults ask for
    // more files and processes than a sandbox may have.
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
    let mut unshare = vec!["--mount"];
    if !nix::unistd::geteuid().is_root() {
        unshare.push("--map-root-user");
    }
    unshare.extend(["sh", "-c", script, "sh"]);
    let pull = [
        "pull",
        "--quiet",
        "--tls-verify=false",
        "--signature-policy",
        policy.as_str(),
        &reference,
    ];
    tool("unshare", &[&unshare[..], &podman, &pull].concat());
    let run = "run --rm --network none --cgroups disabled --pull never --ulimit nofile=1024:1024 --ulimit nproc=1024:1024";
    let run: Vec<&str> = run.split(' ').collect();
    let cat = [reference.as_str(), "/bin/cat", "/etc/os-release"];
    let printed = tool("unshare", &[&unshare[..], &podman, &run, &cat].concat());
    assert_eq!(printed, "ID=testix\n");
}

#[tokio::test]
async fn what_is_no_disk_is_not_imported() {
    let (setup, server) = (empty(), Server::start());
    let to = registry(&server.host(), "a", options());
    let vmdk = b"# Disk DescriptorFile\nversion=1\nRW 1 FLAT \"/etc/hostname\" 0\n".as_slice();
    let blob = Descriptor::of("application/octet-stream", vmdk);
    let blobs = vec![(blob, Source::Bytes(vmdk.into()))];
    let content =
        Content::artifact("application/x-disk", None, blobs, None, Default::default()).unwrap();
    let tags = ["vmdk".to_owned()];
    content.push(&to, &tags, &[], &Silent).await.unwrap();
    let import = |tag: &str| {
        let reference = format!("oci://{}/a:{tag}", server.host());
        setup.run(&["base", "import", &reference, "x"])
    };
    import("vmdk")
        .expect(3)
        .says("is a VMDK, which can name further files");

    let kinds = Default::default();
    let empty = Content::artifact("application/x-disk", None, vec![], None, kinds).unwrap();
    let tags = ["nothing".to_owned()];
    empty.push(&to, &tags, &[], &Silent).await.unwrap();
    import("nothing").expect(3).says("holds no disk");
    assert!(!setup.home().join("bases/x").exists());
}

/// A finished image, as a bake leaves it, of this disk.
fn finished(setup: &Setup, disk: &Utf8Path) -> Utf8PathBuf {
    let folder = setup.path().join("web-server");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(disk, folder.join("web.raw")).unwrap();
    let file = json!({"path": "web.raw", "format": "raw", "size": 8 * MIB, "sha256": ""});
    let manifest = json!({
        "manifestVersion": 1, "name": "Web Server", "version": "1.2.3", "build": 4, "arn": "", "run": "run-1",
        "created": "2026-07-28T01:14:17Z", "generator": "test", "architecture": "aarch64", "firmware": ["uefi"],
        "parent": {"name": "p", "version": "1", "sha256": ""}, "components": [],
        "os": {"id": "debian", "version": "12", "prettyName": "Debian"}, "packages": [], "sanitised": [],
        "virtualSize": 8 * MIB, "diskDigest": digest(setup, disk), "boots": [], "files": [file],
    });
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    folder
}

#[test]
fn an_image_goes_with_its_manifest_and_only_as_it_was_tested() {
    let (setup, server) = (empty(), Server::start());
    let disk = raw_disk(&setup);
    let folder = finished(&setup, &disk);
    let repository = format!("{}/images/web", server.host());
    let tag = "{{ local:name }}";
    let push = ["push", folder.as_str(), &repository, "--json"];
    let value = pushed(setup.run(&[&push[..], &["--tag", tag]].concat()));
    assert_eq!(value["pushed"]["tags"], json!(["web-server"]));
    let value = pushed(setup.run(&push));
    assert_eq!(value["pushed"]["tags"], json!(["1.2.3-4"]));

    let raw = [
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("docker://{repository}:1.2.3-4"),
    ];
    let manifest: serde_json::Value = serde_json::from_str(&tool("skopeo", &raw)).unwrap();
    assert_eq!(manifest["config"]["mediaType"], media::IMAGE_MANIFEST);
    let title = &manifest["annotations"]["org.opencontainers.image.title"];
    assert_eq!(title, "Web Server");

    let container = [&push[..], &["--as", "containerDisk", "--tag", "kubevirt"]].concat();
    pushed(setup.run(&container));
    let inspect = [
        "inspect",
        "--tls-verify=false",
        "--override-arch=arm64",
        &format!("docker://{repository}:kubevirt"),
    ];
    let seen: serde_json::Value = serde_json::from_str(&tool("skopeo", &inspect)).unwrap();
    assert_eq!(seen["Architecture"], "arm64");
    assert_eq!(
        seen["Labels"]["org.opencontainers.image.version"],
        "1.2.3-4"
    );

    // Name, architecture and firmware come back with it.
    let import = ["base", "import", &format!("oci://{repository}:1.2.3-4")];
    setup.run(&import).expect(0);
    let shown = setup
        .run(&["base", "show", "web-server", "--json"])
        .expect(0);
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["architecture"], "aarch64");
    assert_eq!(shown["firmware"], json!(["uefi"]));

    // One byte of the disk is another one than when it was tested.
    let mut bytes = std::fs::read(folder.join("web.raw")).unwrap();
    bytes[MIB + 7] ^= 1;
    std::fs::write(folder.join("web.raw"), bytes).unwrap();
    for kind in ["disk", "containerDisk"] {
        let push = ["push", folder.as_str(), &repository, "--as", kind];
        setup.run(&push).expect(3).says("the disk has the digest");
    }
}

/// Keeps what it is told.
#[derive(Default)]
struct Recorder(Mutex<Vec<(u64, Option<u64>)>>);

impl Progress for Recorder {
    fn bytes(&self, done: u64, total: Option<u64>) {
        self.0.lock().unwrap().push((done, total));
    }
}

/// What the distribution of an image calls.
#[tokio::test]
async fn a_delivery_reports_what_became_of_it() {
    let (setup, server) = (empty(), Server::start());
    let (item, recorder) = (Item::at(&raw_disk(&setup)).unwrap(), Recorder::default());
    let reference = format!("{}/disks/web", server.host()).parse().unwrap();
    let scratch = setup.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let target = Target {
        shape: Some(Shape::ContainerDisk),
        tags: vec!["1.0.0".into(), "stable".into(), "1.0.0".into()],
        ..Target::new(reference, options())
    };
    let delivered = deliver(&item, &target, &scratch, &recorder).await.unwrap();
    let digest = &delivered.pushed.digest;
    let place = format!("{}/disks/web", server.host());
    assert_eq!(
        delivered.places(),
        [
            format!("{place}:1.0.0@{digest}"),
            format!("{place}:stable@{digest}")
        ]
    );
    let told = recorder.0.into_inner().unwrap();
    assert!(told.is_sorted(), "{told:?}");
    let (done, total) = *told.last().unwrap();
    assert_eq!(Some(done), total);
    assert!(done > 4 * MIB as u64 - 4096, "{done}");
}

/// What other tools write: a layout with two images, as a folder and as an archive.
#[test]
fn layouts_of_others_are_pushed_as_they_are() {
    let (setup, server) = (empty(), Server::start());
    let disk = raw_disk(&setup);
    let layout = setup.path().join("layout");
    for (tag, kind) in [("one", "containerDisk"), ("two", "disk")] {
        let reference = format!("{}/from/web:{tag}", server.host());
        let push = ["push", disk.as_str(), &reference, "--as", kind];
        setup.run(&push).expect(0);
        let from = format!("docker://{reference}");
        let to = format!("oci:{layout}:{tag}");
        tool("skopeo", &["copy", "--src-tls-verify=false", &from, &to]);
    }
    let archive = setup.path().join("layout.tar");
    let pack = ["-C", layout.as_str(), "-cf", archive.as_str(), "."];
    tool("tar", &pack);
    let index = std::fs::read_to_string(layout.join("index.json")).unwrap();
    for source in [&layout, &archive] {
        let reference = format!("{}/to/web:both", server.host());
        let value = pushed(setup.run(&["push", source.as_str(), &reference, "--json"]));
        assert_eq!(value["pushed"]["mediaType"], media::INDEX);
        let from = format!("docker://{reference}");
        let raw = tool("skopeo", &["inspect", "--raw", "--tls-verify=false", &from]);
        assert_eq!(raw, index);
    }
    let import = format!("oci://{}/to/web:both", server.host());
    setup.run(&["base", "import", &import]).expect(0);
    let base = setup.home().join("bases/web/1.0.0/disk.qcow2");
    assert_eq!(digest(&setup, &disk), digest(&setup, &base));

    // A blob that is another one than its name says.
    let blobs = crate::setup::find(&layout.join("blobs"), &|path| {
        path.metadata().is_ok_and(|data| data.len() > MIB as u64)
    });
    let blob = blobs.first().unwrap();
    let mut bytes = std::fs::read(blob).unwrap();
    bytes[MIB / 2] ^= 1;
    std::fs::write(blob, bytes).unwrap();
    let reference = format!("{}/to/other:1", server.host());
    let push = ["push", layout.as_str(), &reference];
    setup.run(&push).expect(3).says("has the digest");
}
