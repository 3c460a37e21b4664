//! Disks for tests, made by the tools that made such disks first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs a tool and fails the test with its words when it fails.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = try_run(program, args);
    assert!(
        output.status.success(),
        "{program} {args:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a tool, whatever comes of it.
pub fn try_run(program: &str, args: &[&str]) -> Output {
    // The file system tools live in sbin, which is not on everybody's path.
    let path = format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    );
    Command::new(program)
        .args(args)
        .env("PATH", path)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}; `make setup` installs it"))
}

/// An ext4 filesystem at `image` with what a folder holds.
pub fn ext4(tree: &Path, image: &Path, size: &str, options: &[&str]) {
    let mut args = vec!["-q", "-F", "-t", "ext4", "-d", text(tree)];
    args.extend(options);
    args.extend([text(image), size]);
    run("mke2fs", &args);
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

/// An ext4 image of a small guest: links, devices, attributes, long names, a sparse file, many entries.
/// Returns the image's path.
pub fn guest_root(dir: &Path, options: &[&str]) -> PathBuf {
    let tree = dir.join("tree");
    let put = |path: &str, content: &[u8]| {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    put("etc/os-release", b"ID=testix\nVERSION_ID=7\n");
    put("etc/fstab", b"LABEL=root / ext4 defaults 0 1\n");
    put("boot/vmlinuz", &[0x7f; 5000]);
    put("run/leftover.pid", b"1\n");
    put("usr/bin/ping", b"#!/bin/sh\n");
    put("var/empty", b"");
    put(
        &format!("var/{}/{}", "d".repeat(120), "f".repeat(140)),
        b"long\n",
    );
    let noise: Vec<u8> = (0..3_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    put("usr/lib/noise.bin", &noise);
    for i in 0..3000 {
        put(
            &format!("usr/share/many/file-{i:05}.txt"),
            format!("{i}\n").as_bytes(),
        );
    }
    for folder in ["proc", "sys", "tmp", "dev"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    std::os::unix::fs::symlink("../usr/bin/ping", tree.join("etc/ping")).unwrap();
    std::os::unix::fs::symlink("x".repeat(200), tree.join("etc/long-link")).unwrap();
    fs::hard_link(tree.join("usr/bin/ping"), tree.join("usr/bin/ping6")).unwrap();
    let sparse = fs::File::create(tree.join("var/sparse")).unwrap();
    sparse.set_len(9 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 4 << 20).unwrap();

    let image = dir.join("root.ext4");
    let mut args = vec!["-q", "-F", "-L", "root", "-d", text(&tree)];
    args.extend(options);
    args.extend([text(&image), "96M"]);
    if !options.contains(&"-t") {
        args.splice(0..0, ["-t", "ext4"]);
    }
    run("mke2fs", &args);

    // Owners, devices and attributes that only root could give to files of the tree.
    let capability = dir.join("capability");
    fs::write(
        &capability,
        b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    )
    .unwrap();
    let script = dir.join("debugfs.cmd");
    fs::write(
        &script,
        format!(
            "ea_set -f {} /usr/bin/ping security.capability\n\
             ea_set /etc/os-release user.note hello\n\
             sif /usr/bin/ping uid 0\nsif /usr/bin/ping gid 70000\nsif /usr/bin/ping mode 0104755\n\
             sif /var/empty uid 1000\nsif /var/empty gid 1001\nsif /var/empty mtime 20200102030405\n\
             sif /tmp mode 041777\n\
             cd /dev\nmknod null c 1 3\nmknod sda8 b 8 8\nsif sda8 mode 060660\nsif sda8 block[0] 0\nsif sda8 block[1] 0x11110370\nmknod pipe p\n",
            text(&capability)
        ),
    )
    .unwrap();
    run("debugfs", &["-w", "-f", text(&script), text(&image)]);
    image
}

/// Puts a filesystem image into a GPT disk with a BIOS-boot partition and an ESP in front, at 8 MiB.
pub fn gpt_disk(dir: &Path, root: &Path) -> PathBuf {
    let disk = dir.join("disk.raw");
    let size = fs::metadata(root).unwrap().len();
    let file = fs::File::create(&disk).unwrap();
    file.set_len(size + (12 << 20)).unwrap();
    run(
        "sgdisk",
        &[
            "-n",
            "1:2048:4095",
            "-t",
            "1:ef02",
            "-n",
            "2:4096:16383",
            "-t",
            "2:ef00",
            "-n",
            &format!("3:16384:{}", 16384 + size / 512 - 1),
            "-t",
            "3:8304",
            "-c",
            "3:root",
            text(&disk),
        ],
    );
    run(
        "dd",
        &[
            &format!("if={}", text(root)),
            &format!("of={}", text(&disk)),
            "bs=1M",
            "seek=8",
            "conv=notrunc,sparse",
            "status=none",
        ],
    );
    disk
}
