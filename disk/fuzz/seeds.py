#!/usr/bin/env python3
"""Makes the seeds of the fuzz targets with the tools that make such images: seeds.py FOLDER

Each seed is an image packed as `exercise.rs` takes it: records of a sector's number (32 bits) and its 512 bytes, for
sectors that are not zero, and for the last one. Needs qemu-img, mke2fs, debugfs, mkfs.vfat, mcopy, sgdisk, sfdisk, tar.
"""

import gzip
import lzma
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

os.environ["PATH"] += ":/usr/sbin:/sbin"
# The same bytes in every run.
os.environ |= {"SOURCE_DATE_EPOCH": "1700000000", "E2FSPROGS_FAKE_TIME": "1700000000", "MTOOLS_SKIP_CHECK": "1"}


def run(*command, **options):
    subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL, **options)


def packed(image):
    data = image.read_bytes()
    count = -(-len(data) // 512)
    out = bytearray()
    for number in range(count):
        sector = data[number * 512 : number * 512 + 512]
        if any(sector) or number == count - 1:
            out += struct.pack("<I", number) + sector.ljust(512, b"\0")
    return bytes(out)


def archive(files):
    out = bytearray()
    for name, content in files + [("TRAILER!!!", b"")]:
        fields = [1, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + content
        out += bytes(-len(out) % 4)
    return bytes(out)


def main(target):
    work = pathlib.Path(tempfile.mkdtemp())

    def keep(kind, name, data):
        folder = target / kind
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    disk = work / "disk.raw"
    content = bytearray(128 << 10)
    content[:2000] = bytes(i * 7 & 0xFF for i in range(2000))
    content[70000:70100] = b"y" * 100
    disk.write_bytes(content)
    keep("raw", "plain", packed(disk))

    def convert(kind, name, form, options, *flags):
        out = work / f"{kind}-{name}"
        run("qemu-img", "convert", "-f", "raw", "-O", form, *flags, "-o", options, disk, out)
        keep(kind, name, packed(out))
        return out

    for name, options in [
        ("v2", "compat=0.10,cluster_size=512"),
        ("v3", "cluster_size=4k"),
        ("subclusters", "extended_l2=on,cluster_size=16k"),
    ]:
        convert("qcow2", name, "qcow2", options)
    for compression in ["zlib", "zstd"]:
        convert("qcow2", compression, "qcow2", f"compression_type={compression},cluster_size=4k", "-c")
    backed = work / "backed"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", backed)
    keep("qcow2", "backed", packed(backed))
    stream = convert("vmdk", "stream", "vmdk", "subformat=streamOptimized")
    convert("vmdk", "sparse", "vmdk", "subformat=monolithicSparse,zeroed_grain=on")
    text = work / "flat.vmdk"
    text.write_text('# Disk DescriptorFile\ncreateType="monolithicFlat"\nRW 256 FLAT "disk.raw" 0\n')
    keep("vmdk", "flat", packed(text))
    convert("vhd", "dynamic", "vpc", "subformat=dynamic,force_size=on")
    convert("vhd", "fixed", "vpc", "subformat=fixed,force_size=on")
    convert("vhdx", "dynamic", "vhdx", "subformat=dynamic,block_size=1M")
    convert("vhdx", "fixed", "vhdx", "subformat=fixed,block_size=1M")

    ovf = work / "x.ovf"
    ovf.write_text('<Envelope><References><File ovf:href="x.vmdk" ovf:id="f"/></References></Envelope>\n')
    stream.rename(work / "x.vmdk")
    box = work / "x.ova"
    run("tar", "--format=ustar", "--mtime=@0", "--owner=0", "--group=0", "-C", work, "-cf", box, "x.ovf", "x.vmdk")
    keep("ova", "stream", packed(box))

    table = work / "gpt.raw"
    run("truncate", "-s", "4M", table)
    run("sgdisk", "-n", "1:2048:4095", "-t", "1:ef00", "-n", "2:4096:6143", "-t", "2:8304", "-c", "2:root", table)
    keep("gpt", "two", packed(table))
    # Entries that begin where the header is: a new header would be written over them.
    over = bytearray(table.read_bytes())
    over[512 + 72 : 512 + 80] = struct.pack("<Q", 1)
    table.write_bytes(over)
    keep("gpt", "entries-over-the-header", packed(table))
    old = work / "mbr.raw"
    run("truncate", "-s", "4M", old)
    layout = b"label: dos\n2048,512,83,*\n2560,,5\n2562,512,82\n3080,512,83\n"
    run("sfdisk", "-q", old, input=layout)
    keep("mbr", "logical", packed(old))

    tree = work / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "sub").mkdir()
    (tree / "etc/os-release").write_text("ID=testix\n")
    (tree / "etc/link").symlink_to("os-release")
    (tree / "a").write_bytes(b"a" * 5000)
    for number in range(40):
        (tree / f"sub/file-{number:03}").write_text(str(number))
    for name, options in [
        ("ext4", ["-t", "ext4", "-b", "1024", "-O", "^has_journal"]),
        ("ext2", ["-t", "ext2", "-b", "1024"]),
        ("inline", ["-t", "ext4", "-b", "1024", "-O", "^has_journal,inline_data,^resize_inode,meta_bg"]),
        ("small-inodes", ["-t", "ext4", "-b", "1024", "-I", "128", "-O", "^has_journal,^metadata_csum,^64bit"]),
    ]:
        image = work / f"{name}.img"
        run("mke2fs", "-q", "-F", "-N", "64", "-U", "clear", *options, "-d", tree, image, "256")
        script = "ea_set /a user.note hello\nea_set /etc/os-release user.big " + "x" * 300 + "\n"
        run("debugfs", "-w", "-f", "-", image, input=script.encode(), stderr=subprocess.DEVNULL)
        keep("ext4", name, packed(image))
    for bits, blocks in [("12", "512"), ("16", "5000"), ("32", "40000")]:
        image = work / f"fat{bits}.img"
        run("mkfs.vfat", "-C", "-F", bits, "-s", "1", "-i", "1234abcd", image, blocks)
        run("mmd", "-i", image, "::etc", "::sub")
        run("mcopy", "-i", image, tree / "etc/os-release", "::etc/os-release")
        run("mcopy", "-i", image, tree / "a", "::A long name with many letters.text")
        keep("fat", f"fat{bits}", packed(image))

    early = archive([("kernel/x86/microcode/GenuineIntel.bin", b"m" * 40)])
    main_archive = archive([("usr/lib/modules/6.1/nvme.ko", b"n" * 100), ("init", b"#!/bin/sh\n")])
    for name, form in [
        ("plain", main_archive),
        ("gzip", gzip.compress(main_archive, mtime=0)),
        ("xz", lzma.compress(main_archive, check=lzma.CHECK_CRC32)),
        ("lzma", lzma.compress(main_archive, format=lzma.FORMAT_ALONE)),
    ]:
        keep("cpio", name, early + form)
    (work / "c").write_bytes(main_archive)
    run("zstd", "-q", "-f", work / "c", "-o", work / "c.zst")
    keep("cpio", "zstd", early + (work / "c.zst").read_bytes())
    literals = bytes([0xF0, len(main_archive) - 15 & 0xFF]) if len(main_archive) < 270 else None
    if literals is None:
        # One sequence of literals only: 15, then bytes of 255, then the rest.
        rest = len(main_archive) - 15
        literals = b"\xf0" + b"\xff" * (rest // 255) + bytes([rest % 255])
    block = literals + main_archive
    keep("cpio", "lz4", early + b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block)
    run("rm", "-rf", work)


main(pathlib.Path(sys.argv[1]))
