use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use ovenbird_disk::DiskReader;

use super::*;
use crate::Ecosystem;

fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap())
}

/// A disk with this tree.
fn disk(tree: &Path) -> Inventory {
    let image = tree.with_extension("img");
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-d"])
        .args([tree, &image])
        .arg("64M")
        .env("PATH", path())
        .status();
    assert!(made.unwrap().success());
    let disk: Arc<dyn DiskReader> = ovenbird_disk::open(&image).unwrap();
    read(&*fs::find_root(&disk).unwrap().1).unwrap()
}

fn put(tree: &Path, path: &str, text: &str) {
    let path = tree.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn tree(os: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    put(&tree, "etc/os-release", os);
    (folder, tree)
}

#[test]
fn packages_of_debian_and_of_languages() {
    let (_folder, tree) = tree("ID=debian\nVERSION_ID=12\n");
    put(
        &tree,
        "var/lib/dpkg/status",
        "Package: libc6\nStatus: install ok installed\nMaintainer: GNU Libc Maintainers <x@y>\nArchitecture: amd64\nSource: glibc (2.36-9)\n\
         Version: 2.36-9+deb12u7\nDescription: C\n long\n\n\
         Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
         Package: waits\nStatus: install ok half-configured\nVersion: 2\nArchitecture: all\nSource: waits (1\x1b[2J)\n\n\
         Package: bad\nStatus: install ok installed\nVersion: \x07\n\nnonsense\n",
    );
    put(
        &tree,
        "usr/share/doc/libc6/copyright",
        "Format: https://x\n\nFiles: *\nLicense: LGPL-2.1+\n text\nFiles: a\nLicense: BSD-3-clause\n",
    );
    put(
        &tree,
        "var/lib/dpkg/status.d/base",
        "Package: base-files\nVersion: 12\nArchitecture: amd64\n",
    );
    put(
        &tree,
        "usr/lib/python3/dist-packages/six-1.16.0.egg-info/PKG-INFO",
        "Metadata-Version: 1.2\nName: six\nVersion: 1.16.0\nLicense: MIT\n\nVersion: 9 is only text\n",
    );
    put(
        &tree,
        "opt/venv/lib/python3.11/site-packages/Requests-2.dist-info/METADATA",
        "Name: Requests\nVersion: 2.31.0\nLicense-Expression: Apache-2.0\n",
    );
    put(
        &tree,
        "srv/app/node_modules/@babel/core/package.json",
        r#"{"name": "@babel/core", "version": "7.24.0", "license": "MIT"}"#,
    );
    put(
        &tree,
        "srv/app/package.json",
        r#"{"name": "app", "version": "1.0.0"}"#,
    );
    // As an editor on Windows has left it; npm takes it.
    put(
        &tree,
        "srv/app/node_modules/marked/package.json",
        "\u{feff}{\"name\": \"marked\", \"version\": \"12.0.0\"}",
    );
    put(&tree, "srv/app/node_modules/broken/package.json", "{");
    let inventory = disk(&tree);
    let found: Vec<String> = inventory
        .packages
        .iter()
        .map(|package| package.purl(&inventory.distro).to_string())
        .collect();
    assert_eq!(
        found,
        [
            "pkg:deb/debian/base-files@12?arch=amd64&distro=debian-12",
            "pkg:deb/debian/libc6@2.36-9%2Bdeb12u7?arch=amd64&distro=debian-12&upstream=glibc%402.36-9",
            "pkg:deb/debian/waits@2?arch=all&distro=debian-12",
            "pkg:pypi/requests@2.31.0",
            "pkg:pypi/six@1.16.0",
            "pkg:npm/%40babel/core@7.24.0",
            "pkg:npm/marked@12.0.0",
        ]
    );
    assert_eq!(
        inventory.packages[1].licenses,
        ["LGPL-2.1+", "BSD-3-clause"]
    );
    assert_eq!(
        inventory.notes,
        [
            "/srv/app/node_modules/broken/package.json names no package and version",
            "a package with an impossible name or version is left out",
            "a source with an impossible name or version is left out",
        ]
    );
}

#[test]
fn packages_of_alpine() {
    let (_folder, tree) = tree("ID=alpine\nVERSION_ID=3.20.1\n");
    put(
        &tree,
        "lib/apk/db/installed",
        "C:Q1x=\nP:musl-utils\nV:1.2.5-r0\nA:x86_64\nL:MIT AND BSD-2-Clause AND GPL-2.0-or-later\no:musl\nF:bin\nR:ldd\n\n\
         P:busybox\nV:1.36.1-r29\nA:x86_64\no:busybox\n\n",
    );
    let inventory = disk(&tree);
    let found: Vec<String> = inventory
        .packages
        .iter()
        .map(|package| package.purl(&inventory.distro).to_string())
        .collect();
    assert_eq!(
        found,
        [
            "pkg:apk/alpine/busybox@1.36.1-r29?arch=x86_64&distro=alpine-3.20.1",
            "pkg:apk/alpine/musl-utils@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1&upstream=musl",
        ]
    );
}

/// rpm itself builds the package and writes the database.
#[test]
fn packages_of_rpm() {
    let (folder, tree) = tree("ID=rocky\nVERSION_ID=9.4\n");
    let work = folder.path();
    put(
        work,
        "tiny.spec",
        "Name: tiny-tools\nVersion: 1.4\nRelease: 2.el9\nEpoch: 3\nSummary: x\nLicense: GPLv2+ and MIT\nVendor: Example\nBuildArch: noarch\n\
         %description\nx\n%package extra\nSummary: y\n%description extra\ny\n%files\n%files extra\n",
    );
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(work)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let top = format!("_topdir {}", work.join("build").display());
    run(
        "rpmbuild",
        &["-bb", "--quiet", "--define", &top, "tiny.spec"],
    );
    let database = tree.join("var/lib/rpm");
    std::fs::create_dir_all(&database).unwrap();
    let database = database.to_str().unwrap();
    run("rpm", &["--dbpath", database, "--initdb"]);
    for name in ["tiny-tools", "tiny-tools-extra"] {
        let file = format!("build/RPMS/noarch/{name}-1.4-2.el9.noarch.rpm");
        run(
            "rpm",
            &[
                "--dbpath",
                database,
                "-i",
                "--justdb",
                "--nodeps",
                "--nosignature",
                &file,
            ],
        );
    }
    let inventory = disk(&tree);
    assert_eq!(inventory.notes, [""; 0]);
    let found: Vec<String> = inventory
        .packages
        .iter()
        .map(|package| package.purl(&inventory.distro).to_string())
        .collect();
    assert_eq!(
        found,
        [
            "pkg:rpm/rocky/tiny-tools@1.4-2.el9?arch=noarch&distro=rocky-9.4&epoch=3",
            "pkg:rpm/rocky/tiny-tools-extra@1.4-2.el9?arch=noarch&distro=rocky-9.4&epoch=3&upstream=tiny-tools%401.4-2.el9",
        ]
    );
    assert_eq!(inventory.packages[0].licenses, ["GPLv2+ and MIT"]);
    assert_eq!(inventory.packages[0].version, "3:1.4-2.el9");
}

#[test]
fn what_cannot_be_read_is_told() {
    let (_folder, tree) = tree("ID=centos\nVERSION_ID=7\n");
    put(&tree, "var/lib/rpm/Packages", "old");
    let inventory = disk(&tree);
    assert_eq!(
        inventory.notes,
        ["/var/lib/rpm/Packages is of a kind that is not read: its packages are missing"]
    );
    put(&tree, "usr/lib/sysimage/rpm/rpmdb.sqlite", "no database");
    let notes = disk(&tree).notes;
    assert!(notes[0].contains("rpmdb.sqlite can't be read"), "{notes:?}");
}

#[test]
fn any_header_is_read_without_harm() {
    use proptest::prelude::*;
    proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..200))| {
        let _ = super::rpm::package(&bytes);
    });
    assert_eq!(Ecosystem::ALL.len(), 7);
}
