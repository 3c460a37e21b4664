//! Images as the tools for containers see them: unpacked, loaded and run.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ovenbird_disk::oci::{
    self, Config, DiskFile, ExportOptions, Form, LayerCompression, TreeOptions,
};
use ovenbird_disk::{DiskReader, NoProgress, disk_digest};

use crate::fixtures::{ext4, run, text};
use crate::formats::{noise, raw_disk};

fn options() -> ExportOptions {
    ExportOptions {
        reference: Some("latest".to_owned()),
        tree: TreeOptions {
            device_nodes: true,
            fstab: true,
            ..TreeOptions::default()
        },
        config: Config {
            created: Some(1_700_000_000),
            ..Config::default()
        },
        ..ExportOptions::default()
    }
}

fn open(path: &Path) -> Arc<dyn DiskReader> {
    ovenbird_disk::open(path).unwrap()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A tree with everything that a file can have, and this machine's own configuration in it.
fn reference_tree(dir: &Path) -> PathBuf {
    let tree = dir.join("tree");
    fs::create_dir(&tree).unwrap();
    let script = "
        mkdir -p usr/bin usr/lib var/spool dev proc sys run tmp boot
        cp -a --no-preserve=context /etc etc 2>/dev/null || cp -r /etc/ssl etc
        find etc -type s -delete; rm -f etc/mtab
        printf 'ID=testix\\n' > os-release.new; rm -f etc/os-release; mv os-release.new etc/os-release
        printf 'LABEL=root / ext4 defaults 0 1\\n' > etc/fstab
        cp /bin/cat usr/bin/cat; ln usr/bin/cat usr/bin/dog; ln usr/bin/cat var/cow
        mkfifo -m 620 var/pipe
        ln -s ../usr/bin/cat var/link; ln usr/bin/dog usr/lib/hound
        truncate -s 5000000 var/sparse; printf end >> var/sparse
        printf x > \"var/a name with spaces, ümläuts and a\ttab\"
        : > var/empty; chmod 000 var/empty
        touch -d 2001-02-03T04:05:06Z var/spool var/empty
        touch -h -d 1999-12-31T23:59:59Z var/link
        chmod 1777 tmp
        touch -d 2003-03-03T03:03:03Z .
    ";
    run("sh", &["-ec", &format!("cd {}; {script}", text(&tree))]);
    if is_root() {
        let script = "
            chown 1000:4242 var/spool; chown -h 7:8 var/link; chown 0:70000 usr/bin/cat; chmod 6755 usr/bin/cat
            mknod dev/null c 1 3; mknod dev/disk b 259 70000; chmod 640 dev/disk
            setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 usr/bin/cat
            setfattr -n user.note -v hello var/spool
            setfattr -n user.big -v $(head -c 3000 /dev/zero | tr '\\0' y) etc/os-release
        ";
        run("sh", &["-ec", &format!("cd {}; {script}", text(&tree))]);
    }
    tree
}

/// Everything that can be asked about the files of a tree.
fn facts(root: &Path) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut first_names: BTreeMap<u64, String> = BTreeMap::new();
    let listing = run(
        "sh",
        &[
            "-c",
            &format!(
                "cd {} && find . -print0 | LC_ALL=C sort -z | tr '\\0' '\\n'",
                text(root)
            ),
        ],
    );
    for name in listing.lines() {
        let path = root.join(name);
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let content = if kind.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if kind.is_file() {
            blake(&fs::read(&path).unwrap())
        } else if kind.is_char_device() || kind.is_block_device() {
            meta.rdev().to_string()
        } else {
            String::new()
        };
        // Which names are one file, told by the first of them.
        let same = if kind.is_dir() {
            String::new()
        } else {
            first_names
                .entry(meta.ino())
                .or_insert_with(|| name.to_owned())
                .clone()
        };
        let links = if kind.is_dir() { 0 } else { meta.nlink() };
        facts.insert(
            name.to_owned(),
            format!(
                "{:o} {}:{} {} links {links} of {same} at {} {content}",
                meta.mode(),
                meta.uid(),
                meta.gid(),
                if kind.is_file() { meta.len() } else { 0 },
                meta.mtime(),
            ),
        );
    }
    let attributes = run(
        "sh",
        &[
            "-c",
            &format!(
                "cd {} && find . -print0 | LC_ALL=C sort -z | xargs -0 getfattr -h -d -m - -e hex --",
                text(root)
            ),
        ],
    );
    for block in attributes.split("\n\n") {
        let mut lines = block.lines();
        if let Some(name) = lines.next() {
            let mut values: Vec<&str> = lines
                .filter(|l| !l.starts_with("security.selinux"))
                .collect();
            values.sort_unstable();
            facts.insert(format!("attributes of {name}"), values.join(" "));
        }
    }
    facts
}

fn blake(content: &[u8]) -> String {
    ovenbird_disk::Sha256Digest::of(content).hex()
}

#[test]
fn umoci_unpacks_the_tree_that_the_disk_was_made_from() {
    let dir = tempfile::tempdir().unwrap();
    let tree = reference_tree(dir.path());
    let image = dir.path().join("root.ext4");
    ext4(&tree, &image, "160M", &["-b", "4096"]);
    // mke2fs -d copies what is in the folder; the root itself gets the time at which the disk was made.
    let time = fs::metadata(&tree).unwrap().mtime();
    let command = format!("set_inode_field <2> mtime @{time}");
    run("debugfs", &["-w", "-R", &command, text(&image)]);
    let export = |kind: &str, compression| {
        let options = ExportOptions {
            compression,
            ..options()
        };
        let out = dir.path().join(kind);
        oci::export(open(&image), &options, &out, &NoProgress).unwrap()
    };
    let summary = export("gzip", LayerCompression::Gzip(6));
    let bundle = dir.path().join("bundle");
    let name = format!("{}:latest", text(&dir.path().join("gzip")));
    let mut args = vec!["unpack", "--image", &name];
    if !is_root() {
        args.push("--rootless");
    }
    args.push(text(&bundle));
    run("umoci", &args);
    let (wanted, found) = (facts(&tree), facts(&bundle.join("rootfs")));
    let different: Vec<_> = wanted
        .iter()
        .filter(|(name, fact)| found.get(*name) != Some(fact))
        .map(|(name, fact)| (name, fact, found.get(name)))
        .collect();
    assert!(different.is_empty(), "{different:#?}");
    let extra: Vec<_> = found
        .keys()
        .filter(|name| !wanted.contains_key(*name))
        .collect();
    assert!(extra.is_empty(), "{extra:?}");
    assert!(summary.entries > 100, "{}", summary.entries);

    // What is compressed does not depend on how.
    let zstd = export("zstd", LayerCompression::Zstd(3));
    assert_eq!(zstd.diff_id, summary.diff_id);
    let layer = dir
        .path()
        .join("zstd/blobs/sha256")
        .join(zstd.layer.digest.hex());
    let sum = run(
        "sh",
        &["-c", &format!("zstd -dc < {} | sha256sum", text(&layer))],
    );
    assert!(sum.starts_with(&summary.diff_id.hex()), "{sum}");
}

/// Files that let one program run: itself, its loader, its libraries.
fn program(tree: &Path, program: &str) {
    let script = format!(
        "cd {tree}; mkdir -p bin etc proc sys dev run tmp; cp -L {program} bin/
         for library in $(ldd {program} | grep -o '/[^ ]*'); do
             mkdir -p ./$(dirname $library); cp -L $library ./$library
         done
         printf 'ID=testix\\nPRETTY_NAME=\"A guest\"\\n' > etc/os-release",
        tree = text(tree)
    );
    run("sh", &["-ec", &script]);
}

#[test]
fn podman_runs_the_image_and_finds_the_guest_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    program(&tree, "/bin/cat");
    let image = dir.path().join("root.ext4");
    ext4(&tree, &image, "32M", &["-E", "root_owner=0:0"]);
    let archive = dir.path().join("image.ociarchive");
    let options = ExportOptions {
        form: Form::Archive,
        config: Config {
            entrypoint: vec!["/bin/cat".to_owned()],
            cmd: vec!["/etc/os-release".to_owned()],
            ..Config::default()
        },
        ..options()
    };
    oci::export(open(&image), &options, &archive, &NoProgress).unwrap();
    let storage = format!(
        "[vfs@{store}+{run}]",
        store = text(&dir.path().join("store")),
        run = text(&dir.path().join("run"))
    );
    let tag = format!("containers-storage:{storage}localhost/guest:latest");
    let policy = dir.path().join("policy.json");
    fs::write(
        &policy,
        r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
    )
    .unwrap();
    run(
        "skopeo",
        &[
            "--policy",
            text(&policy),
            "copy",
            "--quiet",
            &format!("oci-archive:{}", text(&archive)),
            &tag,
        ],
    );
    // crun wants cgroups of version 1 or 2, not both: in a mount namespace of its own it sees one. The defaults ask for
    // more files and processes than a sandbox may have.
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
    let (store, state) = (dir.path().join("store"), dir.path().join("run"));
    let mut command = vec!["--root", text(&store), "--runroot", text(&state)];
    command.extend(
        "--storage-driver vfs --cgroup-manager cgroupfs --events-backend none run --rm".split(' '),
    );
    command.extend("--network none --cgroups disabled --pull never".split(' '));
    command.extend("--ulimit nofile=1024:1024 --ulimit nproc=1024:1024".split(' '));
    command.push("localhost/guest:latest");
    let mut args = vec![
        "--mount",
        "--map-root-user",
        "sh",
        "-c",
        script,
        "sh",
        "podman",
    ];
    if is_root() {
        args.remove(1);
    }
    args.extend(command);
    let printed = run("unshare", &args);
    assert_eq!(printed, "ID=testix\nPRETTY_NAME=\"A guest\"\n");
}

#[test]
fn an_archive_is_the_folder_in_a_tar() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    program(&tree, "/bin/true");
    let image = dir.path().join("root.ext4");
    ext4(&tree, &image, "32M", &[]);
    let at = |name: &str| dir.path().join(name);
    let export = |form, name: &str, threads| {
        let options = ExportOptions {
            form,
            threads,
            ..options()
        };
        oci::export(open(&image), &options, &at(name), &NoProgress).unwrap()
    };
    let summary = export(Form::Folder, "folder", 1);
    assert_eq!(summary, export(Form::Archive, "one.tar", 1));
    assert_eq!(summary, export(Form::Archive, "five.tar", 5));
    assert!(fs::read(at("one.tar")).unwrap() == fs::read(at("five.tar")).unwrap());
    fs::create_dir(at("unpacked")).unwrap();
    run(
        "tar",
        &["-C", text(&at("unpacked")), "-xf", text(&at("one.tar"))],
    );
    run("diff", &["-r", text(&at("folder")), text(&at("unpacked"))]);
    let inspected = run(
        "skopeo",
        &["inspect", &format!("oci-archive:{}", text(&at("one.tar")))],
    );
    assert!(
        inspected.contains(&summary.layer.digest.oci()),
        "{inspected}"
    );
}

#[test]
fn a_container_disk_holds_the_disk_for_the_launcher() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("source.raw");
    raw_disk(
        &raw,
        9 << 20,
        &[(0, noise(1, 90_000)), (8 << 20, noise(2, 4096))],
    );
    let digest = disk_digest(&*open(&raw), &NoProgress).unwrap();
    for (kind, name) in [(DiskFile::Qcow2, "disk.qcow2"), (DiskFile::Raw, "disk.img")] {
        let out = dir.path().join(name);
        let again = dir.path().join(format!("{name}-again"));
        let export = |out: &Path, threads| {
            let options = ExportOptions {
                threads,
                ..options()
            };
            oci::export_container_disk(&*open(&raw), kind, &options, out, &NoProgress).unwrap()
        };
        let summary = export(&out, 1);
        assert_eq!(summary, export(&again, 3));
        let layer = out.join("blobs/sha256").join(summary.layer.digest.hex());
        let listing = run("tar", &["--numeric-owner", "--utc", "-tvf", text(&layer)]);
        let lines: Vec<&str> = listing.lines().collect();
        assert_eq!(lines.len(), 2, "{listing}");
        assert!(
            lines[0].starts_with("drwxr-xr-x 0/0 ") && lines[0].ends_with(" disk/"),
            "{listing}"
        );
        assert!(
            lines[1].starts_with("-r--r----- 107/107 ")
                && lines[1].ends_with(&format!(" 2023-11-14 22:13 disk/{name}")),
            "{listing}"
        );
        run("tar", &["-C", text(dir.path()), "-xf", text(&layer)]);
        let file = dir.path().join("disk").join(name);
        run("qemu-img", &["compare", text(&file), text(&raw)]);
        assert_eq!(disk_digest(&*open(&file), &NoProgress).unwrap(), digest);
        let inspected = run(
            "skopeo",
            &["inspect", &format!("oci:{}:latest", text(&out))],
        );
        assert!(
            inspected.contains(&summary.layer.digest.oci()),
            "{inspected}"
        );
    }
    let left = run(
        "sh",
        &[
            "-c",
            &format!("ls -A {} | grep -c partial || true", text(dir.path())),
        ],
    );
    assert_eq!(left, "0\n", "scratch files are gone");
}
