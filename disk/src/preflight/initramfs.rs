//! The drivers that a kernel can reach before it has its root: built in, or in the initramfs.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::guest::Guest;
use super::{Findings, Road};
use crate::bytes::index;
use crate::{Error, Result};

/// Unpacked, the biggest initramfs with firmware has some 300 MB.
const MAX_UNPACKED: u64 = 1 << 30;
const MAX_STORED: usize = 512 << 20;

pub(super) fn check(guest: &Guest, findings: &mut Findings) {
    let Some(version) = guest.kernels().pop() else {
        return;
    };
    let built_in = guest
        .text(&format!("/lib/modules/{version}/modules.builtin"))
        .unwrap_or_default();
    let mut early: BTreeSet<String> = built_in.lines().map(module_name).collect();
    let mut later = early.clone();
    let modules_dep = guest
        .text(&format!("/lib/modules/{version}/modules.dep"))
        .unwrap_or_default();
    later.extend(
        modules_dep
            .lines()
            .filter_map(|line| line.split(':').next())
            .map(module_name),
    );

    let names = [
        format!("initrd.img-{version}"),
        format!("initramfs-{version}.img"),
        format!("initrd-{version}"),
    ];
    match names
        .iter()
        .map(|name| format!("/boot/{name}"))
        .find(|path| guest.node(path).is_some())
    {
        None => findings.add(
            "initramfs.readable",
            "/boot",
            format!("no initramfs for kernel {version}"),
        ),
        Some(path) => match modules(guest, &path) {
            Ok(found) => early.extend(found),
            Err(e) => {
                findings.add("initramfs.readable", path, e.chain());
                return;
            }
        },
    }
    later.extend(early.iter().cloned());
    let place = format!("kernel {version}");
    if findings.road == Road::Vsphere {
        let has_disk = ["mptspi", "vmw_pvscsi"].iter().any(|m| early.contains(*m));
        if !has_disk || !later.contains("vmxnet3") {
            findings.add(
                "driver.vmware",
                place,
                "VMware's disk or network driver is missing",
            );
        }
        return;
    }
    if !early.contains("nvme") {
        findings.add(
            "driver.nvme",
            &place,
            "the nvme driver is neither built in nor in the initramfs",
        );
    }
    if !early.contains("xen_blkfront") {
        findings.add(
            "driver.xen",
            &place,
            "the xen-blkfront driver is neither built in nor in the initramfs",
        );
    }
    if !later.contains("ena") {
        findings.add("driver.ena", &place, "there is no ena driver");
    }
}

/// `kernel/drivers/nvme/host/nvme.ko.xz` as `nvme`; the kernel takes `-` and `_` for the same.
fn module_name(path: &str) -> String {
    let base = path.rsplit('/').next().unwrap_or(path);
    base.split(".ko").next().unwrap_or(base).replace('-', "_")
}

/// The modules in an initramfs.
fn modules(guest: &Guest, path: &str) -> Result<BTreeSet<String>> {
    let mut stored = Vec::new();
    if guest
        .node(path)
        .is_some_and(|node| node.size > crate::bytes::len64(MAX_STORED))
    {
        return Err(Error::limit("more than 512 MiB"));
    }
    guest.copy(path, &mut stored)?;
    names(&stored).map(|names| {
        names
            .iter()
            .filter(|n| n.contains(".ko"))
            .map(|n| module_name(n))
            .collect()
    })
}

/// Names of all files in an initramfs: archives one behind the other, each compressed or not.
pub fn names(mut rest: &[u8]) -> Result<Vec<String>> {
    let mut scanner = Scanner::default();
    loop {
        // Archives are padded with zeros to any length.
        let zeros = rest.iter().take_while(|&&b| b == 0).count();
        rest = &rest[zeros..];
        if rest.is_empty() {
            break;
        }
        scanner.restart();
        if rest.starts_with(b"070701") || rest.starts_with(b"070702") {
            let used = plain_length(rest)?;
            scanner
                .write_all(&rest[..used])
                .map_err(|e| Error::io("read the archive", e))?;
            rest = &rest[used..];
            continue;
        }
        unpack(rest, &mut scanner)?;
        break;
    }
    if scanner.names.is_empty() {
        return Err(Error::invalid("no files in it"));
    }
    Ok(scanner.names)
}

fn unpack(data: &[u8], scanner: &mut Scanner) -> Result<()> {
    let bad = |what: &str, e: &dyn std::fmt::Display| Error::invalid(format!("{what}: {e}"));
    match data {
        [0x1f, 0x8b, ..] => {
            io::copy(&mut flate2::bufread::MultiGzDecoder::new(data), scanner)
                .map_err(|e| bad("gzip", &e))?;
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(data).map_err(|e| bad("zstd", &e))?;
            io::copy(&mut decoder, scanner).map_err(|e| bad("zstd", &e))?;
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            lzma_rs::xz_decompress(&mut &*data, scanner).map_err(|e| bad("xz", &e))?;
        }
        [0x5d, 0, 0, ..] => {
            lzma_rs::lzma_decompress(&mut &*data, scanner).map_err(|e| bad("lzma", &e))?
        }
        // The old frame of the kernel's own lz4: blocks of 8 MiB with their length in front.
        [0x02, 0x21, 0x4c, 0x18, blocks @ ..] => unpack_lz4(blocks, scanner)?,
        [a, b, ..] => {
            return Err(Error::unsupported(format!(
                "compression that begins with {a:02x} {b:02x}"
            )));
        }
        _ => return Err(Error::invalid("one byte")),
    }
    Ok(())
}

fn unpack_lz4(mut rest: &[u8], scanner: &mut Scanner) -> Result<()> {
    const BLOCK: usize = 8 << 20;
    let mut block = vec![0; BLOCK];
    while let [a, b, c, d, tail @ ..] = rest {
        let size = u32::from_le_bytes([*a, *b, *c, *d]);
        if size == 0x184c_2102 {
            rest = tail;
            continue;
        }
        let packed = tail
            .get(..index(size.into()))
            .filter(|_| size > 0)
            .ok_or_else(|| Error::invalid(format!("lz4 block of {size} bytes")))?;
        let got = lz4_flex::block::decompress_into(packed, &mut block)
            .map_err(|e| Error::invalid(format!("lz4: {e}")))?;
        scanner
            .write_all(&block[..got])
            .map_err(|e| Error::io("read the archive", e))?;
        rest = &tail[index(size.into())..];
    }
    Ok(())
}

/// Bytes of an uncompressed archive up to the end of its trailer.
fn plain_length(data: &[u8]) -> Result<usize> {
    let mut scanner = Scanner::default();
    scanner
        .write_all(data)
        .map_err(|e| Error::invalid(format!("archive: {e}")))?;
    scanner
        .end
        .ok_or_else(|| Error::invalid("an archive without its trailer"))
}

/// Takes the bytes of a cpio archive and keeps the names.
#[derive(Default)]
struct Scanner {
    names: Vec<String>,
    held: Vec<u8>,
    skip: u64,
    seen: u64,
    end: Option<usize>,
}

impl Scanner {
    fn restart(&mut self) {
        self.held.clear();
        self.skip = 0;
        self.seen = 0;
        self.end = None;
    }

    /// Takes one header with its name from what is held; false when more bytes are needed.
    fn step(&mut self) -> io::Result<bool> {
        const HEADER: usize = 110;
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        if self.held.len() < HEADER {
            return Ok(false);
        }
        if !self.held.starts_with(b"07070") {
            return Err(invalid("no cpio header".to_owned()));
        }
        let field = |at: usize| {
            std::str::from_utf8(&self.held[at..at + 8])
                .ok()
                .and_then(|text| u64::from_str_radix(text, 16).ok())
                .ok_or_else(|| invalid("no number in a cpio header".to_owned()))
        };
        let (size, name_size) = (field(54)?, field(94)?);
        if name_size == 0 || name_size > 4096 {
            return Err(invalid(format!("a cpio name of {name_size} bytes")));
        }
        let name_end = HEADER + index(name_size);
        let header_end = name_end.next_multiple_of(4);
        if self.held.len() < header_end {
            return Ok(false);
        }
        let name = String::from_utf8_lossy(&self.held[HEADER..name_end - 1]).into_owned();
        self.held.drain(..header_end);
        self.seen += crate::bytes::len64(header_end);
        if name == "TRAILER!!!" {
            self.end = Some(index(self.seen));
        } else {
            self.names.push(name);
            self.skip = size.next_multiple_of(4);
            self.seen += self.skip;
        }
        Ok(true)
    }
}

impl Write for Scanner {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.seen > MAX_UNPACKED {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "unpacks to more than 1 GiB",
            ));
        }
        let mut rest = bytes;
        while !rest.is_empty() && self.end.is_none() {
            let skipped = index(self.skip.min(crate::bytes::len64(rest.len())));
            self.skip -= crate::bytes::len64(skipped);
            rest = &rest[skipped..];
            // A header and its name are short: take what could hold them.
            let take = rest.len().min(8192_usize.saturating_sub(self.held.len()));
            self.held.extend_from_slice(&rest[..take]);
            rest = &rest[take..];
            while self.end.is_none() && self.step()? {
                let held = index(self.skip.min(crate::bytes::len64(self.held.len())));
                self.skip -= crate::bytes::len64(held);
                self.held.drain(..held);
                if self.skip > 0 {
                    break;
                }
            }
        }
        // Behind the trailer there is only padding.
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, usize)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, size) in files.iter().copied().chain([("TRAILER!!!", 0)]) {
            let mut header = String::from("070701");
            for value in [
                1,
                0o100_644,
                0,
                0,
                1,
                0,
                size,
                0,
                0,
                0,
                0,
                name.len() + 1,
                0,
            ] {
                header.push_str(&format!("{value:08x}"));
            }
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(name.as_bytes());
            out.push(0);
            out.resize(out.len().next_multiple_of(4), 0);
            out.resize(out.len() + size, b'x');
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }

    #[test]
    fn every_compression_and_a_microcode_archive_in_front() {
        let early = archive(&[("kernel/x86/microcode/GenuineIntel.bin", 3001)]);
        let main = archive(&[
            (
                "usr/lib/modules/6.1/kernel/drivers/nvme/host/nvme.ko.zst",
                70_001,
            ),
            ("init", 5),
            ("a/xen-blkfront.ko", 0),
        ]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&main).unwrap();
        let mut xz = Vec::new();
        lzma_rs::xz_compress(&mut main.as_slice(), &mut xz).unwrap();
        let block = lz4_flex::block::compress(&main);
        let lz4 = [
            &[0x02, 0x21, 0x4c, 0x18],
            &(block.len() as u32).to_le_bytes()[..],
            &block,
        ]
        .concat();
        for (name, packed) in [
            ("plain", main.clone()),
            ("gzip", gzip.finish().unwrap()),
            ("zstd", zstd::bulk::compress(&main, 1).unwrap()),
            ("xz", xz),
            ("lz4", lz4),
        ] {
            let both = [early.clone(), packed].concat();
            let found: Vec<String> = names(&both)
                .unwrap_or_else(|e| panic!("{name}: {e}"))
                .iter()
                .map(|n| module_name(n))
                .collect();
            assert_eq!(
                found,
                ["GenuineIntel.bin", "nvme", "init", "xen_blkfront"],
                "{name}"
            );
        }
        assert!(names(b"BZh9").is_err());
        assert!(names(&[0; 512]).is_err());
    }
}
