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

/// Few bytes that unpack to many: 16 MiB of zeros.
fn bomb(zlib: bool) -> Vec<u8> {
    let zeros = vec![0u8; 16 << 20];
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
    let mut packed = vec![0; 1 << 20];
    let length = if zlib {
        compressor.zlib_compress(&zeros, &mut packed)
    } else {
        compressor.deflate_compress(&zeros, &mut packed)
    };
    packed.truncate(length.unwrap());
    packed
}

fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        << 10
}

/// What is packed unpacks to a cluster or a grain, or it is an error; no room is made for more.
#[test]
fn compression_bombs_do_not_go_off() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("source.raw");
    let text_of_a_kind: Vec<u8> = (0..2_u32 << 20).map(|i| (i / 7 % 251) as u8).collect();
    raw_disk(&raw, 3 * MIB, &[(0, text_of_a_kind)]);
    let source = open(&raw).unwrap();
    let (deflate, zlib) = (bomb(false), bomb(true));
    let before = peak_memory();
    let options = ConvertOptions::default();
    let qcow2 = dir.path().join("bomb.qcow2");
    let target = Target::Qcow2 {
        compression: Some(QcowCompression::Zlib(1)),
    };
    convert(&*source, &target, &options, &qcow2, &NoProgress).unwrap();
    // The first compressed cluster, by the first entry of the first L2 table.
    let bytes = fs::read(&qcow2).unwrap();
    let word = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    let mask = (1 << 56) - 512;
    let l1 = usize::try_from(word(40)).unwrap();
    let l2 = usize::try_from(word(l1) & mask).unwrap();
    let entry = word(l2);
    assert_eq!(entry >> 62 & 1, 1, "compressed");
    // The bomb at the end of the file, and the entry says that all 128 KiB from there are the cluster's.
    let end = (bytes.len() as u64).next_multiple_of(512);
    let file = File::options().write(true).open(&qcow2).unwrap();
    let mut padded = deflate;
    padded.resize(128 << 10, 0);
    file.write_all_at(&padded, end).unwrap();
    let (kind, message) = error_of(
        &qcow2,
        l2 as u64,
        &(1 << 62 | 0xff << 54 | end).to_be_bytes(),
    );
    assert_eq!(kind, ErrorKind::Invalid, "{message}");
    assert!(message.contains("compressed cluster at"), "{message}");

    let vmdk = dir.path().join("bomb.vmdk");
    convert(
        &*source,
        &Target::of(Format::Vmdk),
        &options,
        &vmdk,
        &NoProgress,
    )
    .unwrap();
    // The first grain begins behind header and descriptor, with its sector number and size.
    let mut grain = 0u64.to_le_bytes().to_vec();
    grain.extend(u32::try_from(zlib.len()).unwrap().to_le_bytes());
    grain.extend(&zlib);
    let (kind, message) = error_of(&vmdk, 128 * 512, &grain);
    assert_eq!(kind, ErrorKind::Invalid, "{message}");
    assert!(message.contains("grain 0"), "{message}");
    let grown = peak_memory() - before;
    assert!(grown < 48 << 20, "{grown} bytes for disks of 3 MiB");
}

/// Tables that lie on each other, or on themselves, end in an answer within bounds: an error, or bytes of the file.
#[test]
fn overlapping_tables_end_in_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("source.raw");
    raw_disk(
        &raw,
        3 * MIB,
        &[(0, noise(1, 90_000)), (2 * MIB, noise(2, 70_000))],
    );
    let source = open(&raw).unwrap();
    let make = |name: &str, target: &Target| {
        let path = dir.path().join(name);
        convert(
            &*source,
            target,
            &ConvertOptions::default(),
            &path,
            &NoProgress,
        )
        .unwrap();
        path
    };
    let begin = Instant::now();
    let answer = |path: &Path, changes: &[(u64, Vec<u8>)]| {
        let copy = path.with_extension("hostile");
        fs::copy(path, &copy).unwrap();
        let file = File::options().write(true).open(&copy).unwrap();
        for (offset, bytes) in changes {
            file.write_all_at(bytes, *offset).unwrap();
        }
        open(&copy)
            .and_then(|disk| {
                exercise(&*disk);
                disk_digest(&*disk, &NoProgress)
            })
            .map_err(|error| error.chain())
    };
    let qcow2 = make("x.qcow2", &Target::Qcow2 { compression: None });
    let bytes = fs::read(&qcow2).unwrap();
    let word = |at: u64| {
        let at = usize::try_from(at).unwrap();
        u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
    };
    let (l1, refcounts) = (word(40), word(48));
    let l2 = word(l1) & ((1 << 56) - 512);
    let sound = disk_digest(&*source, &NoProgress).unwrap();
    for (what, at, value) in [
        ("the L1 table as its own L2 table", l1, l1 | 1 << 63),
        ("the header as an L2 table", l1, 1 << 63),
        ("the refcount table as an L2 table", l1, refcounts | 1 << 63),
        ("an L2 table as data", l2, l2 | 1 << 63),
        ("the header as the L1 table", 40, 0),
    ] {
        let answer = answer(&qcow2, &[(at, value.to_be_bytes().to_vec())]);
        assert_ne!(answer.as_ref().ok(), Some(&sound), "{what}");
    }
    let vhd = make("x.vhd", &Target::VhdDynamic);
    // The table of blocks at 0x600: all of them at the header, or at the table itself.
    for block in [0u32, 1, 3] {
        let table = block.to_be_bytes().repeat(2);
        let answer = answer(&vhd, &[(0x600, table)]);
        assert_ne!(answer.ok(), Some(sound), "block at sector {block}");
    }
    assert!(begin.elapsed() < Duration::from_secs(60));
}

/// Chains that lead back to where they came from, or out of the allowed folder.
#[test]
fn chains_that_loop_or_leave_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let create = |name: &str, backing: &str| {
        let path = at(name);
        let arguments = [
            "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", backing,
        ];
        let mut all: Vec<&str> = arguments.to_vec();
        let shown = text(&path).to_owned();
        all.extend([shown.as_str(), "1M"]);
        run("qemu-img", &all);
        path
    };
    let itself = create("itself.qcow2", "itself.qcow2");
    create("b.qcow2", "a.qcow2");
    let circle = create("a.qcow2", "b.qcow2");
    for path in [itself, circle] {
        let error = open(&path).unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Invalid | ErrorKind::Refused | ErrorKind::Limit
            ),
            "{}",
            error.chain()
        );
    }
    let outside = create("outside.qcow2", "/etc/passwd");
    assert_eq!(open(&outside).unwrap_err().kind(), ErrorKind::Refused);
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
