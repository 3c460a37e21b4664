//! Damaged and hostile images end in an error, never in a panic, a hang or a read outside.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovenbird_disk::fs::{NodeKind, Volume, copy_to, walk};
use ovenbird_disk::{
    ConvertOptions, DiskReader, ErrorKind, Extents, Format, NoProgress, OpenOptions,
    QcowCompression, Target, convert, disk_digest, open, open_with,
};
use proptest::prelude::*;

use crate::fixtures::{guest_root, run, text};
use crate::formats::{noise, raw_disk};

const MIB: u64 = 1 << 20;

/// Maps a disk and reads a little of each extent.
fn exercise(disk: &dyn DiskReader) {
    let mut buffer = vec![0; 70_000];
    for extent in Extents::new(disk).take(200) {
        let Ok(extent) = extent else { return };
        assert!(extent.length > 0 && extent.end() <= disk.virtual_size());
        let length = usize::try_from(extent.length).unwrap().min(buffer.len());
        let _ = disk.read_at(&mut buffer[..length], extent.offset);
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("source.raw");
    raw_disk(
        &raw,
        3 * MIB,
        &[(0, noise(1, 90_000)), (2 * MIB, vec![b'x'; 200_000])],
    );
    let source = open_with(&raw, &OpenOptions::new().format(Format::Raw)).unwrap();
    let options = ConvertOptions {
        durable: false,
        verify: false,
        sha256: false,
        threads: 1,
    };
    let targets = [
        Target::Qcow2 { compression: None },
        Target::Qcow2 {
            compression: Some(QcowCompression::Zstd(1)),
        },
        Target::Qcow2 {
            compression: Some(QcowCompression::Zlib(1)),
        },
        Target::of(Format::Vmdk),
        Target::VhdDynamic,
        Target::VhdFixed,
        Target::Vhdx,
    ];
    let begin = Instant::now();
    for (number, target) in targets.iter().enumerate() {
        let path = dir.path().join(format!("{number}.img"));
        convert(&*source, target, &options, &path, &NoProgress).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        let dice = noise(number as u64 + 77, 400 * 16);
        for round in dice.chunks_exact(16) {
            let at = |i: usize| u64::from(u32::from_le_bytes(round[i..i + 4].try_into().unwrap()));
            // Headers and tables lie in the first pages and at the end; the rest is hit now and then.
            let offset = match round[12] % 4 {
                0 => at(0) % 512,
                1 => at(0) % 8192.min(length),
                2 => length - 1 - at(0) % 2048.min(length),
                _ => at(0) % length,
            };
            let mut old = [0];
            file.read_exact_at(&mut old, offset).unwrap();
            file.write_all_at(&[round[13]], offset).unwrap();
            if let Ok(disk) = open(&path) {
                exercise(&*disk);
            }
            file.write_all_at(&old, offset).unwrap();
        }
        assert_eq!(
            disk_digest(&*open(&path).unwrap(), &NoProgress).unwrap(),
            disk_digest(&*source, &NoProgress).unwrap()
        );
    }
    assert!(
        begin.elapsed() < Duration::from_secs(120),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn damaged_filesystems_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let image = guest_root(dir.path(), &["-b", "1024"]);
    let clean = fs::read(&image).unwrap();
    let file = File::options().read(true).write(true).open(&image).unwrap();
    let dice = noise(5, 150 * 16);
    for round in dice.chunks_exact(16) {
        let at = |i: usize| u64::from(u32::from_le_bytes(round[i..i + 4].try_into().unwrap()));
        let offset = match round[12] % 3 {
            0 => 1024 + at(0) % 1024,
            1 => 2048 + at(0) % 4096,
            _ => at(0) % (4 * MIB),
        };
        file.write_all_at(&[round[13], round[14]], offset).unwrap();
        let disk = open_with(&image, &OpenOptions::new().format(Format::Raw)).unwrap();
        for volume in Volume::list(&*disk).unwrap_or_default() {
            let Ok(fs) = volume.open(Arc::clone(&disk)) else {
                continue;
            };
            let Ok(root) = fs.node(fs.root()) else {
                continue;
            };
            let mut left = 400;
            let _ = walk(&*fs, &root, &mut |_, node| {
                let _ = fs.xattrs(node);
                if node.kind == NodeKind::File && node.size < 10 * MIB {
                    let _ = copy_to(&*fs, node, &mut std::io::sink(), &NoProgress);
                }
                left -= 1;
                Ok(left > 0)
            });
        }
        let start = usize::try_from(offset).unwrap();
        file.write_all_at(&clean[start..start + 2], offset).unwrap();
    }
}

/// Writes a change into a copy of an image and gives the error that opening or reading it ends in.
fn error_of(image: &Path, offset: u64, bytes: &[u8]) -> (ErrorKind, String) {
    let copy = image.with_extension("hostile");
    fs::copy(image, &copy).unwrap();
    File::options()
        .write(true)
        .open(&copy)
        .unwrap()
        .write_all_at(bytes, offset)
        .unwrap();
    let outcome = open(&copy).and_then(|disk| disk_digest(&*disk, &NoProgress));
    let error = outcome
        .err()
        .unwrap_or_else(|| panic!("{} at {offset:#x} was taken", image.display()));
    (error.kind(), error.chain())
}

#[test]
fn absurd_headers_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("source.raw");
    raw_disk(&raw, 3 * MIB, &[(0, noise(1, 90_000))]);
    let qcow2 = dir.path().join("x.qcow2");
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
    for (offset, bytes, kind, words) in [
        (
            4,
            &9u32.to_be_bytes()[..],
            ErrorKind::Unsupported,
            "qcow2 version 9",
        ),
        (
            20,
            &40u32.to_be_bytes(),
            ErrorKind::Invalid,
            "cluster size of 2^40",
        ),
        (
            24,
            &(1u64 << 61).to_be_bytes(),
            ErrorKind::Invalid,
            "L1 table of 1 entries; the size needs",
        ),
        (
            32,
            &1u32.to_be_bytes(),
            ErrorKind::Unsupported,
            "encrypted qcow2",
        ),
        (
            36,
            &u32::MAX.to_be_bytes(),
            ErrorKind::Limit,
            "L1 table of 4294967295 entries",
        ),
        (
            40,
            &(1u64 << 50).to_be_bytes(),
            ErrorKind::Invalid,
            "past the end of the file",
        ),
        (
            72,
            &(1u64 << 2).to_be_bytes(),
            ErrorKind::Unsupported,
            "external data file",
        ),
        (
            72,
            &(1u64 << 40).to_be_bytes(),
            ErrorKind::Unsupported,
            "unknown incompatible features",
        ),
    ] {
        let (found, message) = error_of(&qcow2, offset, bytes);
        assert_eq!(found, kind, "{message}");
        assert!(message.contains(words), "{message}");
    }
    let vmdk = dir.path().join("x.vmdk");
    let source = open(&raw).unwrap();
    convert(
        &*source,
        &Target::of(Format::Vmdk),
        &ConvertOptions::default(),
        &vmdk,
        &NoProgress,
    )
    .unwrap();
    for (offset, bytes, words) in [
        (12, &(1u64 << 50).to_le_bytes()[..], "sectors"),
        (20, &3u64.to_le_bytes(), "grains of 3 sectors"),
        (44, &0u32.to_le_bytes(), "grain tables of 0 entries"),
        (77, &7u16.to_le_bytes(), "compression algorithm 7"),
        (73, b"\r\n\r\n", "text transfer"),
        (128 * 512, &99u64.to_le_bytes(), "says that it is sector 99"),
        (128 * 512 + 8, &u32::MAX.to_le_bytes(), "compressed bytes"),
    ] {
        let (_, message) = error_of(&vmdk, offset, bytes);
        assert!(message.contains(words), "{message}");
    }
}

/// A descriptor must not reach files outside of its folder.
#[test]
fn vmdk_extents_stay_in_their_folder() {
    let dir = tempfile::tempdir().unwrap();
    let descriptor = dir.path().join("evil.vmdk");
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link.vmdk")).unwrap();
    for name in ["/etc/passwd", "../evil", "..", "link.vmdk"] {
        fs::write(
            &descriptor,
            format!(
                "# Disk DescriptorFile\ncreateType=\"monolithicFlat\"\nRW 1 FLAT \"{name}\" 0\n"
            ),
        )
        .unwrap();
        let error = open(&descriptor).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Refused,
            "{name}: {}",
            error.chain()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any disk through any format is the same disk, and its map never hides data.
    #[test]
    fn any_disk_survives_any_format(
        sectors in 1u64..9000,
        pieces in prop::collection::vec((0u64..9000, 1usize..200_000, any::<u64>(), any::<bool>()), 0..6),
        format in 0usize..7,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("a.raw");
        let size = sectors * 512;
        let pieces: Vec<(u64, Vec<u8>)> = pieces
            .into_iter()
            .map(|(at, length, seed, zero)| {
                let offset = (at * 512).min(size - 1);
                let length = length.min(usize::try_from(size - offset).unwrap());
                (offset, if zero { vec![0; length] } else { noise(seed, length) })
            })
            .collect();
        raw_disk(&raw, size, &pieces);
        let source = open_with(&raw, &OpenOptions::new().format(Format::Raw)).unwrap();
        let target = [
            Target::Raw,
            Target::Qcow2 { compression: None },
            Target::Qcow2 { compression: Some(QcowCompression::Zlib(1)) },
            Target::Qcow2 { compression: Some(QcowCompression::Zstd(1)) },
            Target::of(Format::Vmdk),
            Target::VhdDynamic,
            Target::Vhdx,
        ][format].clone();
        let options = ConvertOptions { durable: false, sha256: false, verify: false, threads: 2 };
        let path = dir.path().join("b.img");
        let written = convert(&*source, &target, &options, &path, &NoProgress).unwrap();
        let copy = open_with(&path, &OpenOptions::new().format(target.format().unwrap())).unwrap();
        prop_assert_eq!(copy.virtual_size(), size);
        prop_assert_eq!(disk_digest(&*copy, &NoProgress).unwrap(), written.disk_digest);
        let (mut a, mut b) = (vec![0; usize::try_from(size).unwrap()], vec![0; usize::try_from(size).unwrap()]);
        source.read_at(&mut a, 0).unwrap();
        copy.read_at(&mut b, 0).unwrap();
        prop_assert!(a == b, "contents differ");
        for extent in Extents::new(&*copy) {
            let extent = extent.unwrap();
            if extent.kind.is_empty() {
                let range = usize::try_from(extent.offset).unwrap()..usize::try_from(extent.end()).unwrap();
                prop_assert!(a[range].iter().all(|&x| x == 0), "the map hides data in {extent:?}");
            }
        }
    }
}
