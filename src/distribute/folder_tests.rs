use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use ovenbird_provenance::folder::digest_of;

use super::*;
use crate::distribute::plan::tests::source;
use crate::distribute::{Delivery, Plan};
use crate::documents::distribution::{Destination, DistributionConfiguration};

/// An image with a sparse disk of 3 MiB that has one byte of content.
fn image(folder: &Utf8Path) -> Source {
    let path = folder.join("web.raw");
    let file = File::create(&path).unwrap();
    file.set_len(3 << 20).unwrap();
    file.write_all_at(b"x", 2 << 20).unwrap();
    let mut source = source(folder);
    source.manifest.files.truncate(1);
    source.manifest.files[0].sha256 = digest_of(&path).unwrap();
    source
}

/// Nobody watches.
struct Alone;

impl Watcher for Alone {
    fn sent(&self, _: &str, _: u64, _: u64) {}
    fn note(&self, _: &str, _: &str) {}
}

fn deliver(plan: &FolderPlan, source: &Source) -> Result<Delivered> {
    tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(super::deliver(plan, source, &Alone))
}

fn plan(source: &Source, root: &Utf8Path, layout: &str) -> FolderPlan {
    let destination: Destination = serde_json::from_value(serde_json::json!({
        "folder": {"path": root, "layout": layout, "latest": layout == "versioned"},
    }))
    .unwrap();
    let mut configuration: DistributionConfiguration =
        serde_json::from_value(serde_json::json!({"name": "d"})).unwrap();
    configuration.local.destinations.push(destination);
    match Plan::new(&configuration, root, source)
        .unwrap()
        .deliveries
        .remove(0)
    {
        Delivery::Folder(folder) => folder,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_folder_has_all_that_is_needed() {
    let root = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(root.path()).unwrap();
    let source = image(root);
    let plan = plan(&source, &root.join("out"), "versioned");
    let done = deliver(&plan, &source).unwrap();
    let latest = root.join("out/web-server/latest");
    let copy = std::fs::metadata(latest.join("web.raw")).unwrap();
    assert_eq!(copy.len(), 3 << 20);
    assert!(
        copy.blocks() * 512 < 1 << 20,
        "holes stay: {} blocks",
        copy.blocks()
    );
    assert!(done.bytes < 1 << 20);
    for file in [
        "SHA256SUMS",
        "manifest.json",
        "register-image.json",
        "register-image.sh",
    ] {
        assert!(latest.join(file).is_file(), "{file}");
    }
    assert_eq!(Source::read(&latest).unwrap().manifest, source.manifest);
    assert_eq!(
        deliver(&plan, &source).unwrap().bytes,
        0,
        "it is there already"
    );
}

#[test]
fn a_damaged_source_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(root.path()).unwrap();
    let source = image(root);
    std::fs::write(root.join("web.raw"), "other").unwrap();
    let plan = plan(&source, &root.join("out"), "versioned");
    let failure = deliver(&plan, &source).unwrap_err();
    assert!(failure.to_string().contains("SHA-256"), "{failure}");
    assert_eq!(
        root.join("out/web-server/1.2.3")
            .read_dir_utf8()
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_plain_folder_keeps_the_files_of_others() {
    let root = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(root.path()).unwrap();
    let source = image(root);
    let out = root.join("out");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("mine"), "1").unwrap();
    let plan = plan(&source, &out, "plain");
    deliver(&plan, &source).unwrap();
    assert!(out.join("mine").exists() && out.join("web.raw").exists());
    assert!(
        out.read_dir_utf8()
            .unwrap()
            .flatten()
            .all(|entry| !entry.file_name().ends_with(".part")),
        "nothing half-made stays"
    );
}
