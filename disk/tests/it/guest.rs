//! Filesystems, resizing and fitting.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ovenbird_disk::fs::{
    Change, DiffOptions, FsKind, Identity, Volume, copy_out, diff, find_root, read_file, resolve,
};
use ovenbird_disk::table::PartitionTable;
use ovenbird_disk::{DiskReader, NoProgress, Target, Window, convert, open, resize};

use crate::fixtures::{gpt_disk, guest_root, run, text};

const MIB: u64 = 1 << 20;

/// A FAT volume with an EFI loader and names of every kind.
pub fn esp(dir: &Path, size: &str, bits: &str) -> PathBuf {
    let image = dir.join(format!("esp{bits}.img"));
    run("truncate", &["-s", size, text(&image)]);
    run(
        "mkfs.vfat",
        &["-F", bits, "-n", "EFI", "-i", "1234abcd", text(&image)],
    );
    let loader = dir.join("loader");
    fs::write(&loader, vec![0x5a; 300_000]).unwrap();
    run("mmd", &["-i", text(&image), "::EFI", "::EFI/BOOT"]);
    for name in [
        "::EFI/BOOT/BOOTX64.EFI",
        "::EFI/A long name with ümläuts.txt",
        "::plain.txt",
    ] {
        run("mcopy", &["-i", text(&image), text(&loader), name]);
    }
    image
}

#[test]
fn fat_of_every_width_is_read() {
    let dir = tempfile::tempdir().unwrap();
    for (size, bits) in [("3M", "12"), ("32M", "16"), ("300M", "32")] {
        let image = esp(dir.path(), size, bits);
        let disk = open(&image).unwrap();
        let volumes = Volume::list(&*disk).unwrap();
        assert_eq!(
            (volumes.len(), volumes[0].kind),
            (1, FsKind::Fat),
            "FAT{bits}"
        );
        let identity = Identity::read(&*disk, FsKind::Fat).unwrap();
        assert_eq!(
            (identity.uuid.as_str(), identity.label.as_str()),
            ("1234-ABCD", "EFI")
        );
        let fs = volumes[0].open(disk).unwrap();
        for path in [
            "/EFI/BOOT/BOOTX64.EFI",
            "/EFI/A long name with ümläuts.txt",
            "/plain.txt",
        ] {
            assert!(
                read_file(&*fs, path, MIB).unwrap() == vec![0x5a; 300_000],
                "FAT{bits}: {path}"
            );
        }
        assert!(resolve(&*fs, b"/EFI/none", true).is_err());
    }
}

#[test]
fn a_grown_disk_has_its_backup_table_at_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let raw = gpt_disk(dir.path(), &guest_root(dir.path(), &[]));
    let before = PartitionTable::read(&*open(&raw).unwrap()).unwrap();
    assert!(before.problems.is_empty(), "{:?}", before.problems);
    let disk = open(&raw).unwrap();
    let fitted = resize::fitted_size(&*disk, MIB).unwrap();
    let grown = resize::resize(Arc::clone(&disk), 500 * MIB, true).unwrap();

    // Into any format, into an overlay, and in place: the same disk.
    let image = dir.path().join("grown.qcow2");
    convert(
        &grown,
        &Target::Qcow2 { compression: None },
        &Default::default(),
        &image,
        &NoProgress,
    )
    .unwrap();
    let overlay = dir.path().join("overlay.qcow2");
    grown
        .write_overlay(&overlay, "disk.raw", ovenbird_disk::Format::Raw)
        .unwrap();
    assert!(run("qemu-img", &["check", text(&overlay)]).contains("No errors"));
    run("qemu-img", &["compare", text(&image), text(&overlay)]);
    assert!(
        fs::metadata(&overlay).unwrap().len() < MIB,
        "an overlay holds only what changed"
    );
    let copy = dir.path().join("copy.raw");
    fs::copy(&raw, &copy).unwrap();
    grown.apply_to_raw(&copy).unwrap();
    run(
        "qemu-img",
        &[
            "compare",
            "-f",
            "raw",
            "-F",
            "qcow2",
            text(&copy),
            text(&image),
        ],
    );

    let verify = run("sgdisk", &["-v", text(&copy)]);
    assert!(verify.contains("No problems found"), "{verify}");
    let after = PartitionTable::read(&*open(&copy).unwrap()).unwrap();
    assert!(after.problems.is_empty(), "{:?}", after.problems);
    assert_eq!(after.partitions[..2], before.partitions[..2]);
    assert_eq!(
        after.partitions[2].start + after.partitions[2].length,
        499 * MIB
    );
    assert_eq!(after.partitions[2].guid, before.partitions[2].guid);

    // And back: cut behind the last partition, as it was before it grew.
    let kept = resize::resize(Arc::clone(&disk), 500 * MIB, false).unwrap();
    assert_eq!(resize::fitted_size(&kept, MIB).unwrap(), fitted);
    let cut = resize::resize(Arc::new(kept), fitted, false).unwrap();
    let small = dir.path().join("cut.raw");
    convert(&cut, &Target::Raw, &Default::default(), &small, &NoProgress).unwrap();
    assert!(run("sgdisk", &["-v", text(&small)]).contains("No problems found"));
    let error = resize::resize(disk, 50 * MIB, false)
        .err()
        .unwrap()
        .to_string();
    assert!(error.starts_with("the partitions end at "), "{error}");
}

#[test]
fn mbr_partitions_grow_and_logical_ones_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("mbr.raw");
    run("truncate", &["-s", "64M", text(&raw)]);
    let layout = "label: dos\n2048,20480,83,*\n22528,,5\n24576,8192,82\n34816,8192,83\n";
    run(
        "sh",
        &[
            "-c",
            &format!(
                "printf '{layout}' | PATH=$PATH:/usr/sbin sfdisk -q {}",
                text(&raw)
            ),
        ],
    );
    let table = PartitionTable::read(&*open(&raw).unwrap()).unwrap();
    let numbers: Vec<_> = table
        .partitions
        .iter()
        .map(|p| (p.number, p.start / 512, p.length / 512, p.bootable))
        .collect();
    assert_eq!(
        numbers,
        [
            (1, 2048, 20480, true),
            (5, 24576, 8192, false),
            (6, 34816, 8192, false)
        ]
    );

    run(
        "sh",
        &[
            "-c",
            &format!(
                "printf 'label: dos\\n2048,20480,83,*\\n' | PATH=$PATH:/usr/sbin sfdisk -q {}",
                text(&raw)
            ),
        ],
    );
    let grown = resize::resize(open(&raw).unwrap(), 128 * MIB, true).unwrap();
    let table = PartitionTable::read(&grown).unwrap();
    assert_eq!(
        table.partitions[0].start + table.partitions[0].length,
        128 * MIB
    );
}

#[test]
fn trees_are_copied_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let root = guest_root(dir.path(), &[]);
    let other = dir.path().join("other.ext4");
    fs::copy(&root, &other).unwrap();
    let script = dir.path().join("change.cmd");
    fs::write(&script, "rm /etc/fstab\nsif /var/empty mode 0100600\nsymlink /etc/new target\nea_set /usr/lib/noise.bin user.x y\n").unwrap();
    run("debugfs", &["-w", "-f", text(&script), text(&other)]);
    let (_, a) = find_root(&open(&root).unwrap()).unwrap();
    let (_, b) = find_root(&open(&other).unwrap()).unwrap();
    let changes: Vec<(String, Change)> = diff(&*a, &*b, DiffOptions::default(), &NoProgress)
        .unwrap()
        .into_iter()
        .map(|(path, change)| (String::from_utf8(path).unwrap(), change))
        .collect();
    let changed = |parts: &[&'static str]| Change::Changed(parts.to_vec());
    assert_eq!(
        changes,
        [
            ("etc/fstab".to_owned(), Change::Removed),
            ("etc/new".to_owned(), Change::Added),
            ("usr/lib/noise.bin".to_owned(), changed(&["attributes"])),
            ("var/empty".to_owned(), changed(&["mode"])),
        ]
    );
    let out = dir.path().join("out");
    let node = resolve(&*a, b"/", true).unwrap();
    copy_out(&*a, &node, &out, &NoProgress).unwrap();
    fs::remove_dir(out.join("lost+found")).unwrap();
    let tree = dir.path().join("tree");
    for folder in ["etc", "usr", "var", "boot"] {
        run(
            "diff",
            &[
                "-r",
                "--no-dereference",
                text(&tree.join(folder)),
                text(&out.join(folder)),
            ],
        );
    }
    assert!(
        copy_out(&*a, &node, &out, &NoProgress).is_err(),
        "nothing is overwritten"
    );
    // A link that leads out of the image stays in it.
    let node = resolve(&*a, b"/etc/ping/../../../../etc/os-release", true).unwrap_err();
    assert_eq!(node.kind(), ovenbird_disk::ErrorKind::NotFound);
    assert!(resolve(&*a, b"/../../etc/os-release", true).is_ok());
}

#[test]
fn windows_of_a_disk_are_confined() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("x.raw");
    crate::formats::raw_disk(&raw, MIB, &[]);
    let disk = open(&raw).unwrap();
    assert!(Window::new(Arc::clone(&disk), MIB - 512, 1024).is_err());
    let window = Window::new(disk, MIB - 512, 512).unwrap();
    assert!(window.read_at(&mut [0; 513], 0).is_err());
    assert!(window.read_at(&mut [0; 2], u64::MAX).is_err());
}

#[test]
fn a_fitted_disk_is_small_whole_and_grows_again() {
    let dir = tempfile::tempdir().unwrap();
    // To hash hundreds of megabytes of holes would take longer than all the rest.
    let plain = ovenbird_disk::ConvertOptions {
        durable: false,
        sha256: false,
        verify: false,
        threads: 2,
    };
    let root = guest_root(dir.path(), &["-O", "resize_inode"]);
    run("truncate", &["-s", "700M", text(&root)]);
    run("resize2fs", &[text(&root)]);
    // Something far behind, which has to move: what lies in front is marked as used, until e2fsck looks.
    let noise = dir.path().join("far");
    fs::write(&noise, crate::formats::noise(3, 3 << 20)).unwrap();
    let script = dir.path().join("far.cmd");
    fs::write(
        &script,
        format!("setb 20000 100000\nwrite {} /var/far\n", text(&noise)),
    )
    .unwrap();
    run("debugfs", &["-w", "-f", text(&script), text(&root)]);
    run(
        "sh",
        &[
            "-c",
            &format!(
                "PATH=$PATH:/usr/sbin e2fsck -fy {} || [ $? = 1 ]",
                text(&root)
            ),
        ],
    );
    let raw = gpt_disk(dir.path(), &root);
    for scheme in ["gpt", "mbr"] {
        if scheme == "mbr" {
            run("sgdisk", &["-Z", text(&raw)]);
            let layout = "label: dos\\n16384,,83,*\\n";
            run(
                "sh",
                &[
                    "-c",
                    &format!(
                        "printf '{layout}' | PATH=$PATH:/usr/sbin sfdisk -q {}",
                        text(&raw)
                    ),
                ],
            );
        }
        let source = open(&raw).unwrap();
        let before = PartitionTable::read(&*source).unwrap();
        let fitted =
            ovenbird_disk::shrink::fit(Arc::clone(&source), &dir.path().join("x"), &NoProgress)
                .unwrap();
        assert_eq!(fitted.kept, None, "{scheme}");
        let small = dir.path().join(format!("{scheme}.raw"));
        convert(&fitted.disk, &Target::Raw, &plain, &small, &NoProgress).unwrap();
        let size = fitted.disk.virtual_size();
        assert!(
            size < 250 * MIB && size.is_multiple_of(MIB),
            "{scheme}: {size}"
        );
        drop(fitted);

        let disk = open(&small).unwrap();
        let after = PartitionTable::read(&*disk).unwrap();
        assert!(after.problems.is_empty(), "{:?}", after.problems);
        let (old, new) = (
            before.partitions.last().unwrap(),
            after.partitions.last().unwrap(),
        );
        assert_eq!(
            (old.start, old.guid, old.number, &old.name),
            (new.start, new.guid, new.number, &new.name)
        );
        assert_eq!(before.disk_id, after.disk_id);
        if scheme == "gpt" {
            assert!(run("sgdisk", &["-v", text(&small)]).contains("No problems found"));
        }
        let (_, a) = find_root(&source).unwrap();
        let (volume, b) = find_root(&disk).unwrap();
        let options = DiffOptions { times: true };
        assert_eq!(diff(&*a, &*b, options, &NoProgress).unwrap(), []);
        assert!(
            b.space().0 >= 60 * MIB,
            "room for the first boot: {}",
            b.space().0
        );

        // The first boot: the disk grows, its partition, then its filesystem.
        let grown = resize::resize(Arc::clone(&disk), 900 * MIB, true).unwrap();
        let table = PartitionTable::read(&grown).unwrap();
        let part = table.partitions.last().unwrap();
        let window = Window::new(&grown, part.start, part.length).unwrap();
        let filesystem = dir.path().join("grown.ext4");
        convert(&window, &Target::Raw, &plain, &filesystem, &NoProgress).unwrap();
        run("resize2fs", &[text(&filesystem)]);
        run("e2fsck", &["-fn", text(&filesystem)]);
        assert_eq!(volume.start, part.start);
        assert!(find_root(&open(&filesystem).unwrap()).unwrap().1.space().1 > 800 * MIB);
    }
    let left = run(
        "sh",
        &[
            "-c",
            &format!("ls -A {} | grep -c partial || true", text(dir.path())),
        ],
    );
    assert_eq!(left, "0\n", "the scratch file is gone");
}
