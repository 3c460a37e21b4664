use std::process::Command;

use sha2::{Digest as _, Sha256, Sha512};

use super::super::test_server::{Behaviour, Server};
use super::*;
use crate::catalog::progress::Silent;

const FOLDER: &str = "/images/cloud/bookworm";

/// A mirror of Debian's image server with two versions of a tiny disk.
struct Mirror {
    server: Server,
    home: tempfile::TempDir,
}

fn disk() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&path)
        .arg("1M")
        .status();
    assert!(made.unwrap().success());
    std::fs::read(path).unwrap()
}

fn image_path(version: &str) -> String {
    format!("{FOLDER}/{version}/debian-12-genericcloud-amd64-{version}.qcow2")
}

impl Mirror {
    async fn new(disk: Vec<u8>) -> Self {
        let mut behaviour = Behaviour {
            etag: Some("\"1\"".into()),
            ..Behaviour::default()
        };
        let mut listing = String::new();
        for version in ["20260101-2", "20260301-1"] {
            listing += &format!("<a href=\"{version}/\">{version}/</a>\n");
            let name = image_path(version).rsplit('/').next().unwrap().to_owned();
            let sums = format!(
                "{}  other.raw\n{}  {name}\n",
                "0".repeat(128),
                hex::encode(Sha512::digest(&disk))
            );
            behaviour
                .files
                .insert(format!("{FOLDER}/{version}/SHA512SUMS"), sums.into_bytes());
            behaviour.files.insert(image_path(version), disk.clone());
        }
        behaviour
            .files
            .insert(format!("{FOLDER}/"), listing.into_bytes());
        Self {
            server: Server::start(behaviour).await,
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn home(&self) -> &Utf8Path {
        Utf8Path::from_path(self.home.path()).unwrap()
    }

    async fn pull(&self, pattern: &str, offline: bool) -> Result<Pulled> {
        let request = Request {
            name: "debian-12",
            pattern: pattern.parse().unwrap(),
            architecture: Arch::X86_64,
            from: Some(&self.server.base),
            offline,
        };
        pull(self.home(), &request, &Silent).await
    }

    fn requests(&self) -> usize {
        self.server.seen().len()
    }

    /// What lies on the shelf besides finished images.
    fn leftovers(&self) -> Vec<String> {
        let entries = self.home().join("bases").read_dir_utf8().unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().to_owned());
        names.filter(|name| name.starts_with(".staging")).collect()
    }
}

#[tokio::test]
async fn the_latest_version_arrives_verified() {
    let bytes = disk();
    let mirror = Mirror::new(bytes.clone()).await;
    mirror
        .server
        .change(|behaviour| behaviour.cuts = [usize::MAX, usize::MAX, 1000].into());
    let pulled = mirror.pull("x.x.x", false).await.unwrap();
    assert!(pulled.fetched);
    let record = &pulled.image.record;
    assert_eq!(record.version.to_string(), "12.20260301.1");
    assert_eq!(record.sha256, hex::encode(Sha256::digest(&bytes)));
    assert_eq!(
        record.published_digest.as_ref().unwrap().hex(),
        hex::encode(Sha512::digest(&bytes))
    );
    // The origin is the published address, not the mirror's.
    assert_eq!(
        record.origin.to_string(),
        format!("https://cloud.debian.org{}", image_path("20260301-1"))
    );
    assert_eq!(record.virtual_size, 1 << 20);

    let resolved = crate::catalog::resolve(mirror.home(), "debian-12").unwrap();
    assert_eq!(std::fs::read(&resolved.disk).unwrap(), bytes);
    assert_eq!(resolved.default_user.as_deref(), Some("debian"));
    assert_eq!(mirror.leftovers(), Vec::<String>::new());

    // Again: the listing is looked at, nothing is fetched.
    let before = mirror.requests();
    assert!(!mirror.pull("x.x.x", false).await.unwrap().fetched);
    assert_eq!(mirror.requests(), before + 1);
}

#[tokio::test]
async fn what_is_there_needs_no_network() {
    let mirror = Mirror::new(disk()).await;
    assert!(matches!(
        mirror.pull("x.x.x", true).await,
        Err(CatalogError::NotOnShelf { .. })
    ));
    mirror.pull("12.20260101.x", false).await.unwrap();
    let before = mirror.requests();
    for (pattern, offline) in [("x.x.x", true), ("12.20260101.2", false)] {
        let pulled = mirror.pull(pattern, offline).await.unwrap();
        assert_eq!(
            (
                pulled.fetched,
                pulled.image.record.version.to_string().as_str()
            ),
            (false, "12.20260101.2")
        );
    }
    assert_eq!(mirror.requests(), before);
}

#[tokio::test]
async fn a_lie_about_the_digest_leaves_nothing_behind() {
    let mirror = Mirror::new(disk()).await;
    let mut forged = disk();
    forged.push(0);
    mirror
        .server
        .change(|behaviour| drop(behaviour.files.insert(image_path("20260301-1"), forged)));
    let error = mirror.pull("x.x.x", false).await.unwrap_err();
    assert!(
        matches!(error, CatalogError::DigestMismatch { .. }),
        "{error}"
    );
    assert!(Shelf::new(mirror.home()).list().unwrap().is_empty());

    // The wrong bytes are not taken for the first half of the right ones.
    mirror
        .server
        .change(|behaviour| drop(behaviour.files.insert(image_path("20260301-1"), disk())));
    assert!(mirror.pull("x.x.x", false).await.unwrap().fetched);
}

#[tokio::test]
async fn no_digest_no_image() {
    let mirror = Mirror::new(disk()).await;
    let sums = format!("{FOLDER}/20260301-1/SHA512SUMS");
    mirror
        .server
        .change(|behaviour| drop(behaviour.files.insert(sums, b"<html></html>".to_vec())));
    let before = mirror.requests();
    assert!(matches!(
        mirror.pull("x.x.x", false).await,
        Err(CatalogError::DigestNotListed { .. })
    ));
    // The listing and the list, but not the disk.
    assert_eq!(mirror.requests(), before + 2);
}

#[tokio::test]
async fn a_published_disk_that_needs_other_files_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let thief = folder.path().join("thief.qcow2");
    let made = Command::new("qemu-img")
        .args([
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            "/etc/passwd",
        ])
        .args([thief.as_os_str(), "1M".as_ref()])
        .status();
    assert!(made.unwrap().success());
    let mirror = Mirror::new(std::fs::read(thief).unwrap()).await;
    let error = mirror.pull("x.x.x", false).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("needs another file, /etc/passwd"),
        "{error}"
    );
    assert_eq!(mirror.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_pulled_is_said() {
    let home = tempfile::tempdir().unwrap();
    let home = Utf8Path::from_path(home.path()).unwrap();
    let request = Request {
        name: "debain-12",
        pattern: VersionPattern::ANY,
        architecture: Arch::X86_64,
        from: None,
        offline: false,
    };
    let error = pull(home, &request, &Silent).await.unwrap_err();
    insta::assert_snapshot!(error, @r#"there is no base image "debain-12" in the catalogue"#);
    insta::assert_snapshot!(error.hint().unwrap(), @r#"did you mean "debian-12"? `ovenbird base list --all` shows all names"#);
}
