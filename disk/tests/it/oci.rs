//! Container images from disks, judged by umoci, skopeo and tar.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use ovenbird_disk::oci::{self, Config, ExportOptions, LayerCompression, TreeOptions};
use ovenbird_disk::{DiskReader, NoProgress};

use crate::fixtures::{gpt_disk, guest_root, run, text, try_run};

fn options() -> ExportOptions {
    ExportOptions {
        reference: Some("latest".to_owned()),
        config: Config {
            entrypoint: vec!["/bin/sh".to_owned()],
            labels: [("a".to_owned(), "b".to_owned())].into(),
            created: Some(1_700_000_000),
            ..Config::default()
        },
        ..ExportOptions::default()
    }
}

fn open(path: &Path) -> Arc<dyn DiskReader> {
    ovenbird_disk::open(path).unwrap()
}

fn layer_of(layout: &Path, summary: &oci::Summary) -> std::path::PathBuf {
    layout.join("blobs/sha256").join(summary.layer.digest.hex())
}

/// `tar -tv` of a layer with numeric owners.
fn listing(layer: &Path) -> String {
    run("tar", &["--numeric-owner", "--utc", "-tvf", text(layer)])
}

#[test]
fn a_gpt_qcow2_disk_becomes_an_image_that_umoci_unpacks() {
    let dir = tempfile::tempdir().unwrap();
    let disk = gpt_disk(dir.path(), &guest_root(dir.path(), &[]));
    let qcow = dir.path().join("disk.qcow2");
    run(
        "qemu-img",
        &["convert", "-c", "-O", "qcow2", text(&disk), text(&qcow)],
    );
    let layout = dir.path().join("layout");
    let mut options = options();
    options.tree = TreeOptions {
        device_nodes: true,
        fstab: true,
        ..TreeOptions::default()
    };
    let summary = oci::export(open(&qcow), &options, &layout, &NoProgress).unwrap();

    let inspected = run(
        "skopeo",
        &["inspect", &format!("oci:{}:latest", text(&layout))],
    );
    assert!(
        inspected.contains(&summary.layer.digest.oci()),
        "{inspected}"
    );
    let config = run(
        "skopeo",
        &[
            "inspect",
            "--config",
            &format!("oci:{}:latest", text(&layout)),
        ],
    );
    assert!(
        config.contains(&summary.diff_id.oci()) && config.contains("2023-11-14T22:13:20Z"),
        "{config}"
    );

    let list = listing(&layer_of(&layout, &summary));
    for line in [
        "-rwsr-xr-x 0/70000",
        "drwxrwxrwt 0/0",
        "c---------",
        "1,3 ",
        "brw-rw----",
        "259,70000 ",
        "usr/bin/ping6 link to usr/bin/ping",
        "etc/ping -> ../usr/bin/ping",
        "-rw-r--r-- 1000/1001         0 2020-01-02 03:04 var/empty",
        "etc/fstab",
    ] {
        assert!(list.contains(line), "{line:?} is missing");
    }
    assert!(!list.contains("lost+found") && !list.contains("leftover.pid"));
    assert_eq!(list.lines().count() as u64, summary.entries);

    let bundle = dir.path().join("bundle");
    let mut args = vec!["unpack", "--image"];
    let image = format!("{}:latest", text(&layout));
    args.push(&image);
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        args.push("--rootless");
    }
    args.push(text(&bundle));
    run("umoci", &args);
    let rootfs = bundle.join("rootfs");
    let tree = dir.path().join("tree");
    for file in [
        "usr/lib/noise.bin",
        "usr/share/many/file-02999.txt",
        "var/sparse",
        "etc/os-release",
    ] {
        assert!(
            fs::read(rootfs.join(file)).unwrap() == fs::read(tree.join(file)).unwrap(),
            "{file} differs"
        );
    }
    assert_eq!(
        fs::read_link(rootfs.join("etc/long-link"))
            .unwrap()
            .as_os_str()
            .len(),
        200
    );
    assert_eq!(
        fs::metadata(rootfs.join("usr/bin/ping")).unwrap().nlink(),
        2
    );
}

#[test]
fn attributes_are_in_the_layer() {
    let dir = tempfile::tempdir().unwrap();
    for (name, args) in [
        ("inode", &[][..]),
        (
            "small-inodes",
            &["-I", "128", "-O", "^metadata_csum,^64bit,^extra_isize"],
        ),
        ("ext2", &["-t", "ext2", "-b", "1024"]),
        ("inline", &["-O", "inline_data,^resize_inode,meta_bg"]),
    ] {
        let dir = dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        let root = guest_root(&dir, args);
        let layout = dir.join("layout");
        let summary = oci::export(open(&root), &options(), &layout, &NoProgress).unwrap();
        let plain = run(
            "sh",
            &[
                "-c",
                &format!(
                    "gzip -dc {} | tar --xattrs --xattrs-include='*' -tvvf - usr/bin/ping etc/os-release",
                    text(&layer_of(&layout, &summary))
                ),
            ],
        );
        assert!(
            plain.contains("security.capability") && plain.contains("user.note"),
            "{name}: {plain}"
        );
        let sum = |command: &str| {
            run("sh", &["-c", command])
                .split_whitespace()
                .next()
                .unwrap()
                .to_owned()
        };
        let layer = layer_of(&layout, &summary);
        assert_eq!(
            sum(&format!("gzip -dc {} | sha256sum", text(&layer))),
            summary.diff_id.hex(),
            "{name}"
        );
        // mke2fs cuts the hole off the end of a sparse file when it fills a filesystem with inline data.
        let sparse = if name == "inline" {
            "etc/os-release"
        } else {
            "var/sparse"
        };
        for file in ["usr/lib/noise.bin", sparse, "usr/share/many/file-00077.txt"] {
            assert_eq!(
                sum(&format!("tar -xzOf {} {file} | sha256sum", text(&layer))),
                sum(&format!("sha256sum {}", text(&dir.join("tree").join(file)))),
                "{name}: {file}"
            );
        }
    }
}

#[test]
fn the_bytes_do_not_depend_on_threads_or_container_format() {
    let dir = tempfile::tempdir().unwrap();
    let root = guest_root(dir.path(), &[]);
    let qcow = dir.path().join("root.qcow2");
    run(
        "qemu-img",
        &["convert", "-O", "qcow2", text(&root), text(&qcow)],
    );
    for compression in [LayerCompression::Gzip(6), LayerCompression::Zstd(3)] {
        let export = |name: &str, disk: &Path, threads| {
            let options = ExportOptions {
                compression,
                threads,
                ..options()
            };
            let out = dir.path().join(format!("{compression:?}-{name}"));
            oci::export(open(disk), &options, &out, &NoProgress).unwrap()
        };
        let one = export("one", &root, 1);
        assert_eq!(one, export("five", &root, 5));
        assert_eq!(one, export("qcow2", &qcow, 2));
    }
}

#[test]
fn whiteout_names_are_refused_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let root = guest_root(dir.path(), &[]);
    run(
        "debugfs",
        &["-w", "-R", "symlink /etc/.wh.passwd x", text(&root)],
    );
    let out = dir.path().join("out");
    let error = oci::export(open(&root), &options(), &out, &NoProgress).unwrap_err();
    assert_eq!(
        error.chain(),
        "/etc/.wh.passwd: names that begin with .wh. mean deletions in a layer; remove or exclude the file"
    );
    assert!(!out.exists());
    let left = try_run(
        "sh",
        &["-c", &format!("ls -A {} | grep partial", text(dir.path()))],
    );
    assert!(left.stdout.is_empty(), "{left:?}");
}
