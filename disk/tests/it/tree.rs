//! Disks whose root has other partitions mounted in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ovenbird_disk::fs::{FileSystem, Tree, find_root, read_file, resolve, walk};
use ovenbird_disk::oci::{ExportOptions, export};
use ovenbird_disk::{DiskReader, NoProgress, open};

use crate::fixtures::{ext4, run, text};

const MIB: u64 = 1 << 20;

/// Partitions of 24 MiB each, in this order.
struct Disk {
    folder: tempfile::TempDir,
    volumes: Vec<PathBuf>,
}

impl Disk {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            volumes: Vec::new(),
        }
    }

    fn add(&mut self, make: impl FnOnce(&Path, &Path)) {
        let number = self.volumes.len();
        let tree = self.folder.path().join(format!("tree-{number}"));
        let image = self.folder.path().join(format!("volume-{number}"));
        fs::create_dir(&tree).unwrap();
        make(&tree, &image);
        self.volumes.push(image);
    }

    /// An ext4 filesystem with these files.
    fn ext4(&mut self, options: &[&str], files: &[(&str, &str)]) {
        self.add(|tree, image| {
            for (path, content) in files {
                let path = tree.join(path);
                if path.to_str().unwrap().ends_with('/') {
                    fs::create_dir_all(path).unwrap();
                    continue;
                }
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            ext4(tree, image, "24M", options);
        });
    }

    fn open(&self) -> Arc<dyn DiskReader> {
        use std::os::unix::fs::FileExt as _;
        let path = self.folder.path().join("disk.raw");
        let file = fs::File::create(&path).unwrap();
        let count = u64::try_from(self.volumes.len()).unwrap();
        file.set_len((2 + 24 * count) * MIB).unwrap();
        let mut arguments = Vec::new();
        for (number, volume) in (0..).zip(&self.volumes) {
            let start = 1 + 24 * number;
            file.write_all_at(&fs::read(volume).unwrap(), start * MIB)
                .unwrap();
            arguments.push(format!("--new=0:{start}M:+24M"));
            arguments.push(format!("--change-name=0:part {number}"));
        }
        arguments.push("--partition-guid=3:00000000-1111-2222-3333-444444444444".into());
        arguments.push(text(&path).to_owned());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run("sgdisk", &arguments);
        open(&path).unwrap()
    }
}

const FSTAB: &str = "# what is mounted
/dev/vda1 / ext4 defaults 0 1
UUID=aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee /var ext4 defaults 0 2
LABEL=the\\040logs /var/log ext4 defaults 0 2
PARTUUID=00000000-1111-2222-3333-444444444444\t/home ext4 nodev 0 2
PARTLABEL=part\\0404 /srv/with\\040space ext4 ro 0 0
UUID=12345678-bbbb-cccc-dddd-eeeeeeeeeeee /data ext4 nofail 0 2
/dev/sdb1 /other ext4 nofail 0 2
/dev/vda2 /home/kim ext4 defaults 0 0
/var/cache /srv/cache none bind 0 0
tmpfs /tmp tmpfs defaults 0 0
/dev/vda9 none swap sw 0 0
";

/// The root, /var, /home, /var/log and /srv/with space.
fn five() -> Disk {
    let mut disk = Disk::new();
    let root = [
        ("etc/os-release", "ID=testix\n"),
        ("etc/fstab", FSTAB),
        ("home/", ""),
        ("srv/with space/", ""),
        ("var/hidden", "below the mount\n"),
    ];
    disk.ext4(&[], &root);
    let var = [("lib/here", "in var\n"), ("log/", "")];
    disk.ext4(&["-U", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"], &var);
    disk.ext4(&[], &[("kim/.profile", "mine\n")]);
    disk.ext4(&["-L", "the logs"], &[("syslog", "line\n")]);
    disk.ext4(&[], &[("file", "spaced\n")]);
    disk
}

fn read(fs: &dyn FileSystem, path: &str) -> String {
    String::from_utf8(read_file(fs, path, 1 << 20).unwrap()).unwrap()
}

#[test]
fn what_fstab_mounts_from_the_disk_is_part_of_the_tree() {
    let reader = five().open();
    let tree = Tree::open(&reader).unwrap();
    assert_eq!(tree.unread(), []);
    assert_eq!(tree.volumes().count(), 5);
    assert_eq!(read(&tree, "/var/lib/here"), "in var\n");
    assert_eq!(read(&tree, "/var/log/syslog"), "line\n");
    assert_eq!(read(&tree, "/home/kim/.profile"), "mine\n");
    assert_eq!(read(&tree, "/srv/with space/file"), "spaced\n");
    assert_eq!(read(&tree, "/var/log/../../etc/os-release"), "ID=testix\n");
    // What is mounted hides what is beneath.
    resolve(&tree, b"/var/hidden", true).unwrap_err();
    let root = find_root(&reader).unwrap().1;
    assert_eq!(read(&*root, "/var/hidden"), "below the mount\n");
    // Every file once, with an identity of its own.
    let mut seen = std::collections::BTreeSet::new();
    let top = tree.node(tree.root()).unwrap();
    walk(&tree, &top, &mut |path, node| {
        assert!(seen.insert(node.id), "{}", String::from_utf8_lossy(path));
        assert_eq!(tree.node(node.id).unwrap(), *node);
        Ok(true)
    })
    .unwrap();
}

#[test]
fn what_can_not_be_read_is_told_and_what_is_elsewhere_is_not_missed() {
    let mut disk = five();
    // The signatures are enough to know what it is.
    fs::write(&disk.volumes[3], b"XFSB").unwrap();
    let fstab = disk.folder.path().join("tree-0/etc/fstab");
    let changed = FSTAB.replace("LABEL=the\\040logs", "/dev/vda4");
    fs::write(&fstab, &changed).unwrap();
    let root = disk.volumes[0].clone();
    let tree = disk.folder.path().join("tree-0");
    ext4(&tree, &root, "24M", &[]);
    let reader = disk.open();
    let told = |tree: &Tree| -> Vec<String> {
        tree.unread()
            .iter()
            .map(|unread| format!("{}: {}", unread.at, unread.why))
            .collect()
    };
    let seen = Tree::open(&reader).unwrap();
    assert_eq!(told(&seen), ["/var/log: xfs is not supported"]);
    assert_eq!(read(&seen, "/var/lib/here"), "in var\n");
    // A container without /var/log would be another system.
    let out = disk.folder.path().join("oci");
    let options = ExportOptions::default();
    let refused = export(Arc::clone(&reader), &options, &out, &NoProgress).unwrap_err();
    assert!(refused.to_string().starts_with("/var/log can't be read"));
    // With a container on the disk it may be there that /data and /other lie.
    disk.add(|_, image| fs::write(image, [&[0; 512][..], b"LABELONE"].concat()).unwrap());
    let seen = Tree::open(&disk.open()).unwrap();
    assert_eq!(
        told(&seen),
        [
            "/data: UUID=12345678-bbbb-cccc-dddd-eeeeeeeeeeee may lie in LVM",
            "/other: /dev/sdb1 may lie in LVM",
            "/var/log: xfs is not supported",
        ]
    );
}

#[test]
fn an_oci_image_has_what_is_mounted() {
    let disk = five();
    let out = disk.folder.path().join("oci");
    let made = export(disk.open(), &ExportOptions::default(), &out, &NoProgress).unwrap();
    let layer = out.join("blobs/sha256").join(made.layer.digest.to_string());
    let listed = run("tar", &["-tf", text(&layer)]);
    for path in ["var/log/syslog", "home/kim/.profile", "srv/with space/file"] {
        assert!(listed.lines().any(|line| line == path), "{listed}");
    }
    assert!(!listed.contains("var/hidden"));
}
