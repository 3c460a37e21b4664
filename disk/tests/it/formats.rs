//! Every format, written and read, with qemu-img and libvmdk as the judges.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use ovenbird_disk::ova::Hardware;
use ovenbird_disk::{
    ConvertOptions, DiskDigest, Format, NoProgress, OpenOptions, Profile, QcowCompression, Target,
    convert, convert_many, disk_digest, open, open_with, stream,
};

use crate::fixtures::{run, text, try_run};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Bytes that do not compress and are the same in every run.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// A raw disk of a size with pieces of data in it.
pub fn raw_disk(path: &Path, size: u64, pieces: &[(u64, Vec<u8>)]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for (offset, data) in pieces {
        file.write_all_at(data, *offset).unwrap();
    }
}

/// Disks with everything at an edge.
fn disks(dir: &Path) -> Vec<(&'static str, PathBuf)> {
    let make = |name: &'static str, size: u64, pieces: Vec<(u64, Vec<u8>)>| {
        let path = dir.join(format!("{name}.raw"));
        raw_disk(&path, size, &pieces);
        (name, path)
    };
    let text = |seed: u8, length: usize| -> Vec<u8> {
        (0..length)
            .map(|i| b'a' + ((i / 7) as u8 ^ seed) % 16)
            .collect()
    };
    // One sector of data on either side of each boundary that a format has.
    let mut edges = Vec::new();
    for boundary in [
        512,
        4096,
        65_536,
        MIB,
        2 * MIB,
        32 * MIB,
        33 * MIB,
        64 * MIB,
    ] {
        edges.push((boundary - 512, noise(boundary, 1024)));
    }
    vec![
        make("empty", MIB, vec![]),
        make("sector", 512, vec![(0, noise(1, 512))]),
        make("noise", 5 * MIB, vec![(0, noise(2, 5 << 20))]),
        make("zeros", 6 * MIB, vec![(0, vec![0; 6 << 20])]),
        make(
            "odd",
            3 * MIB + 7 * 512,
            vec![(3 * MIB - 100, text(3, 3000))],
        ),
        make("edges", 70 * MIB + 512, edges),
        make(
            "big",
            5 * GIB + 3 * 512,
            vec![
                (0, text(4, 9000)),
                (4 * GIB - 5, text(5, 70_000)),
                (5 * GIB, noise(6, 1536)),
            ],
        ),
    ]
}

fn targets() -> Vec<(&'static str, Target)> {
    let vmdk = |profile, level| Target::Vmdk { profile, level };
    vec![
        ("raw", Target::Raw),
        ("qcow2", Target::Qcow2 { compression: None }),
        (
            "zlib.qcow2",
            Target::Qcow2 {
                compression: Some(QcowCompression::Zlib(6)),
            },
        ),
        (
            "zstd.qcow2",
            Target::Qcow2 {
                compression: Some(QcowCompression::Zstd(3)),
            },
        ),
        ("vmdk", vmdk(Profile::Aws, 6)),
        ("esx.vmdk", vmdk(Profile::Vsphere, 1)),
        ("fixed.vhd", Target::VhdFixed),
        ("vhd", Target::VhdDynamic),
        ("vhdx", Target::Vhdx),
        (
            "ova",
            Target::Ova {
                profile: Profile::Aws,
                level: 6,
                hardware: Hardware::default(),
            },
        ),
    ]
}

fn quick() -> ConvertOptions {
    ConvertOptions {
        durable: false,
        ..ConvertOptions::default()
    }
}

fn qemu_format(target: &Target) -> &'static str {
    match target.format() {
        Some(Format::Vhd) => "vpc",
        Some(format) => format.name(),
        None => "vmdk",
    }
}

fn digest_of(path: &Path) -> DiskDigest {
    disk_digest(&*open(path).unwrap(), &NoProgress).unwrap()
}

#[test]
fn what_is_written_qemu_reads_and_finds_sound() {
    let dir = tempfile::tempdir().unwrap();
    for (name, raw) in disks(dir.path()) {
        let source = open_with(&raw, &OpenOptions::new().format(Format::Raw)).unwrap();
        let digest = disk_digest(&*source, &NoProgress).unwrap();
        for (ending, target) in targets() {
            // Five gigabytes of zeros, hashed and compared for each format, take minutes: two formats stand for all.
            if name == "big" && !matches!(ending, "zstd.qcow2" | "vmdk") {
                continue;
            }
            let path = dir.path().join(format!("{name}.{ending}"));
            let path = if ending == "raw" {
                dir.path().join(format!("{name}.copy"))
            } else {
                path
            };
            let written = convert(&*source, &target, &quick(), &path, &NoProgress).unwrap();
            assert_eq!(written.disk_digest, digest, "{name} as {ending}");
            let sum = run("sha256sum", &[text(&path)]);
            assert!(
                sum.starts_with(&written.sha256.unwrap().hex()),
                "{name} as {ending}: {sum}"
            );
            if ending == "ova" {
                run("tar", &["-C", text(dir.path()), "-xf", text(&path)]);
                let sums = fs::read_to_string(dir.path().join(format!("{name}.mf"))).unwrap();
                for line in sums.lines() {
                    let (file, sum) = line
                        .strip_prefix("SHA256(")
                        .unwrap()
                        .split_once(")= ")
                        .unwrap();
                    assert!(
                        run("sha256sum", &[text(&dir.path().join(file))]).starts_with(sum),
                        "{line}"
                    );
                }
                let disk = dir.path().join(format!("{name}-disk1.vmdk"));
                run(
                    "qemu-img",
                    &[
                        "compare",
                        "-f",
                        "vmdk",
                        "-F",
                        "raw",
                        text(&disk),
                        text(&raw),
                    ],
                );
                continue;
            }
            let format = qemu_format(&target);
            run(
                "qemu-img",
                &[
                    "compare",
                    "-f",
                    format,
                    "-F",
                    "raw",
                    text(&path),
                    text(&raw),
                ],
            );
            if matches!(format, "qcow2" | "vmdk" | "vhdx") {
                let check = run("qemu-img", &["check", "-f", format, text(&path)]);
                assert!(check.contains("No errors"), "{name} as {ending}: {check}");
            }
            let info = run(
                "qemu-img",
                &["info", "-f", format, "--output=json", text(&path)],
            );
            assert!(
                info.contains(&format!("\"virtual-size\": {},", source.virtual_size())),
                "{ending}: {info}"
            );
            if format == "vmdk" {
                let info = run("vmdkinfo", &[text(&path)]);
                assert!(info.contains("Stream optimized"), "{info}");
            }
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn what_qemu_writes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let kinds: &[(&str, &str, &str)] = &[
        ("v2", "qcow2", "compat=0.10"),
        ("v3", "qcow2", "compat=1.1"),
        ("small-clusters", "qcow2", "cluster_size=512"),
        ("big-clusters", "qcow2", "cluster_size=2M"),
        ("subclusters", "qcow2", "extended_l2=on,cluster_size=128k"),
        ("preallocated", "qcow2", "preallocation=metadata"),
        ("sparse", "vmdk", "subformat=monolithicSparse"),
        (
            "zeroed",
            "vmdk",
            "subformat=monolithicSparse,zeroed_grain=on",
        ),
        ("stream", "vmdk", "subformat=streamOptimized"),
        ("flat", "vmdk", "subformat=monolithicFlat"),
        ("split", "vmdk", "subformat=twoGbMaxExtentSparse"),
        ("dynamic", "vpc", "subformat=dynamic,force_size=on"),
        ("fixed", "vpc", "subformat=fixed,force_size=on"),
        ("x-dynamic", "vhdx", "subformat=dynamic,block_size=1M"),
        ("x-fixed", "vhdx", "subformat=fixed"),
    ];
    for (name, raw) in disks(dir.path()) {
        let digest = disk_digest(
            &*open_with(&raw, &OpenOptions::new().format(Format::Raw)).unwrap(),
            &NoProgress,
        )
        .unwrap();
        for (kind, format, options) in kinds {
            // Fixed disks of five gigabytes would be written byte by byte; small clusters bound the size of a table.
            if name == "big" && matches!(*kind, "fixed" | "x-fixed" | "flat" | "small-clusters") {
                continue;
            }
            let path = dir.path().join(format!("{name}-{kind}.{format}"));
            run(
                "qemu-img",
                &[
                    "convert",
                    "-f",
                    "raw",
                    "-O",
                    format,
                    "-o",
                    options,
                    text(&raw),
                    text(&path),
                ],
            );
            assert_eq!(digest_of(&path), digest, "{name} as {kind}");
        }
        for compression in ["zlib", "zstd"] {
            let path = dir.path().join(format!("{name}-{compression}.qcow2"));
            let option = format!("compression_type={compression}");
            run(
                "qemu-img",
                &[
                    "convert",
                    "-c",
                    "-f",
                    "raw",
                    "-O",
                    "qcow2",
                    "-o",
                    &option,
                    text(&raw),
                    text(&path),
                ],
            );
            assert_eq!(digest_of(&path), digest, "{name} with {compression}");
        }
    }
}

#[test]
fn every_format_converts_to_every_other() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("source.raw");
    raw_disk(
        &raw,
        9 * MIB + 512,
        &[
            (100, noise(1, 300_000)),
            (5 * MIB + 4096, noise(2, 70_000)),
            (9 * MIB, noise(3, 512)),
        ],
    );
    let digest = digest_of(&raw);
    for (from, first) in targets().into_iter().filter(|(_, t)| t.format().is_some()) {
        let middle = dir.path().join(format!("middle.{from}"));
        convert(
            &*open(&raw).unwrap(),
            &first,
            &quick(),
            &middle,
            &NoProgress,
        )
        .unwrap();
        let outputs: Vec<(Target, PathBuf)> = targets()
            .into_iter()
            .map(|(to, t)| (t, dir.path().join(format!("{from}-to.{to}"))))
            .collect();
        let written =
            convert_many(&*open(&middle).unwrap(), &outputs, &quick(), &NoProgress).unwrap();
        assert!(written.iter().all(|w| w.disk_digest == digest), "{from}");
    }
}

#[test]
fn two_exports_are_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("source.raw");
    raw_disk(
        &raw,
        80 * MIB,
        &[
            (0, noise(1, 3 << 20)),
            (40 * MIB, noise(2, 9_000_000)),
            (79 * MIB, noise(3, 512)),
        ],
    );
    for (ending, target) in targets() {
        let export = |threads: usize, folder: &str| {
            let folder = dir.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            let options = ConvertOptions { threads, ..quick() };
            convert(
                &*open(&raw).unwrap(),
                &target,
                &options,
                &folder.join(format!("disk.{ending}")),
                &NoProgress,
            )
            .unwrap()
            .sha256
        };
        assert_eq!(export(1, "one"), export(7, "seven"), "{ending}");
    }
}

#[test]
fn streams_are_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("source.raw");
    raw_disk(
        &raw,
        37 * MIB + 512,
        &[(MIB, noise(1, 3 << 20)), (36 * MIB, noise(2, 512))],
    );
    for (name, target) in [
        ("disk.raw", Target::Raw),
        (
            "disk.vmdk",
            Target::Vmdk {
                profile: Profile::Aws,
                level: 3,
            },
        ),
        ("disk.vhd", Target::VhdFixed),
        // Those whose tables come first go through a file.
        ("disk.vhd", Target::VhdDynamic),
        ("disk.vhdx", Target::Vhdx),
        ("disk.qcow2", Target::Qcow2 { compression: None }),
        (
            "disk.ova",
            Target::Ova {
                profile: Profile::Aws,
                level: 6,
                hardware: Hardware::default(),
            },
        ),
    ] {
        let mut sink = Vec::new();
        let source = open(&raw).unwrap();
        let (bytes, sha256, digest) =
            stream(&*source, &target, &quick(), &mut sink, &NoProgress).unwrap();
        let path = dir.path().join("out").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let written = convert(&*source, &target, &quick(), &path, &NoProgress).unwrap();
        assert_eq!(
            (bytes, Some(sha256), digest),
            (written.bytes, written.sha256, written.disk_digest),
            "{name}"
        );
        assert!(fs::read(&path).unwrap() == sink, "{name}");
    }
}

#[test]
fn two_tebibytes_of_hole_cost_little() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("huge.raw");
    raw_disk(
        &raw,
        2 << 40,
        &[(0, noise(1, 512)), ((2 << 40) - 512, noise(2, 512))],
    );
    let source = open(&raw).unwrap();
    for (ending, target) in targets() {
        let path = dir.path().join(format!("huge.{ending}"));
        let path = if ending == "raw" {
            dir.path().join("huge.copy")
        } else {
            path
        };
        let options = ConvertOptions {
            sha256: false,
            ..quick()
        };
        let result = convert(&*source, &target, &options, &path, &NoProgress);
        if matches!(target, Target::VhdFixed | Target::VhdDynamic) {
            let message = result.unwrap_err().chain();
            assert!(
                message.ends_with("the format carries 2190433320960"),
                "{message}"
            );
            continue;
        }
        result.unwrap();
        let blocks = fs::metadata(&path).unwrap().blocks() * 512;
        assert!(blocks < 40 << 20, "{ending} takes {blocks} bytes");
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn chains_are_followed_and_confined() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("base")).unwrap();
    fs::create_dir(at("top")).unwrap();
    let raw = at("base/base.raw");
    raw_disk(
        &raw,
        8 * MIB,
        &[(0, noise(1, 1 << 20)), (4 * MIB, noise(2, 4 << 20))],
    );
    let (middle, top) = (at("base/middle.qcow2"), at("top/top.qcow2"));
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            "base.raw",
            "-F",
            "raw",
            text(&middle),
            "12M",
        ],
    );
    run(
        "qemu-io",
        &[
            "-f",
            "qcow2",
            "-c",
            "write -P 7 65000 70000",
            "-c",
            "write -z 5M 64k",
            text(&middle),
        ],
    );
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            "extended_l2=on",
            "-b",
            "../base/middle.qcow2",
            "-F",
            "qcow2",
            text(&top),
            "20M",
        ],
    );
    run(
        "qemu-io",
        &[
            "-f",
            "qcow2",
            "-c",
            "write -P 9 11M 3000",
            "-c",
            "write -P 3 4k 1k",
            text(&top),
        ],
    );

    let refused = open(&top).unwrap_err().chain();
    assert!(
        refused.contains("lies outside of the folders allowed for it"),
        "{refused}"
    );
    let options = OpenOptions::new().backing_root(at("base"));
    let disk = open_with(&top, &options).unwrap();
    let flat = at("flat.raw");
    run(
        "qemu-img",
        &["convert", "-O", "raw", text(&top), text(&flat)],
    );
    assert_eq!(disk_digest(&*disk, &NoProgress).unwrap(), digest_of(&flat));
    let refused = open_with(&top, &options.clone().no_backing())
        .unwrap_err()
        .chain();
    assert!(
        refused.contains("backing files are not allowed here"),
        "{refused}"
    );

    // A chain that bites its tail.
    run(
        "qemu-img",
        &[
            "rebase",
            "-u",
            "-f",
            "qcow2",
            "-F",
            "qcow2",
            "-b",
            "../top/top.qcow2",
            text(&middle),
        ],
    );
    let looped = open_with(&top, &options.backing_root(at("top")))
        .unwrap_err()
        .chain();
    assert!(
        looped.contains("the backing chain loops back to this file"),
        "{looped}"
    );

    // A raw base whose guest wrote an image header into it is not probed.
    let trap = at("base/trap.raw");
    fs::copy(&middle, &trap).unwrap();
    let over = at("base/over.qcow2");
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-u",
            "-f",
            "qcow2",
            "-b",
            "trap.raw",
            "-F",
            "raw",
            text(&over),
            "1M",
        ],
    );
    let disk = open(&over).unwrap();
    let mut magic = [0; 4];
    disk.read_at(&mut magic, 0).unwrap();
    assert_eq!(&magic, b"QFI\xfb");
}

#[test]
fn a_failed_conversion_leaves_nothing() {
    struct Stop;
    impl ovenbird_disk::Progress for Stop {
        fn is_cancelled(&self) -> bool {
            true
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("source.raw");
    raw_disk(&raw, 9 * MIB, &[(0, noise(1, 9 << 20))]);
    let error = convert(
        &*open(&raw).unwrap(),
        &Target::Vhdx,
        &quick(),
        &dir.path().join("a.vhdx"),
        &Stop,
    )
    .unwrap_err();
    assert_eq!(error.kind(), ovenbird_disk::ErrorKind::Cancelled);
    let files = try_run("ls", &["-A", text(dir.path())]);
    assert_eq!(String::from_utf8_lossy(&files.stdout), "source.raw\n");
}
