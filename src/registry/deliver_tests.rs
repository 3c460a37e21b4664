use serde_json::json;

use super::*;
use crate::registry::Credentials;

/// A finished image with these files.
fn image(folder: &Utf8Path, files: &[(&str, &str)]) -> ImageFolder {
    let files: Vec<_> = files
        .iter()
        .map(|(path, format)| {
            let path_here = folder.join(path);
            std::fs::create_dir_all(path_here.parent().unwrap()).unwrap();
            std::fs::write(&path_here, path).unwrap();
            let sha256 = sha256_of_bytes(path.as_bytes()).replace("sha256:", "");
            json!({"path": path, "format": format, "size": path.len(), "sha256": sha256})
        })
        .collect();
    let manifest = json!({
        "manifestVersion": 1, "name": "Web Server", "version": "1.2.3", "build": 4, "arn": "", "run": "run-1",
        "created": "2026-07-28T01:14:17Z", "generator": "test", "architecture": "aarch64", "firmware": ["uefi"],
        "parent": {"name": "p", "version": "1", "sha256": ""}, "components": [],
        "os": {"id": "debian", "version": "12", "prettyName": "Debian"}, "packages": [], "sanitised": [],
        "virtualSize": 512, "diskDigest": "d", "boots": [], "files": files,
    });
    ImageFolder::new(folder.to_owned(), serde_json::from_value(manifest).unwrap())
}

fn target(reference: &str) -> Target {
    let options = Options {
        credentials: Credentials::None,
        ..Options::default()
    };
    Target::new(reference.parse().unwrap(), options)
}

fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
    let guard = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
    (guard, path)
}

#[test]
fn tags_come_from_reference_and_templates() {
    let (_guard, folder) = folder();
    let image = Item::image(image(&folder, &[("web.raw", "raw")])).unwrap();
    let disk = Item::Disk("web.raw".into());
    let tags = |item: &Item, reference: &str, templates: &[&str]| {
        let target = Target {
            tags: templates.iter().map(|text| (*text).to_owned()).collect(),
            ..target(reference)
        };
        target.tags_for(item).map_err(|failure| failure.kind())
    };
    let version = "{{ imagebuilder:buildVersion }}";
    assert_eq!(tags(&image, "localhost/a", &[]).unwrap(), ["1.2.3-4"]);
    assert_eq!(tags(&disk, "localhost/a", &[]).unwrap(), ["latest"]);
    assert_eq!(
        tags(&image, "localhost/a:x", &[version, "x"]).unwrap(),
        ["x", "1.2.3-4"]
    );
    assert_eq!(tags(&disk, "localhost/a:x", &["y"]).unwrap(), ["x", "y"]);
    assert_eq!(
        tags(&disk, "localhost/a", &[version]),
        Err(FailureKind::Usage)
    );
    assert_eq!(
        tags(&image, "localhost/a", &["{{ x }}"]),
        Err(FailureKind::Usage)
    );
}

#[test]
fn what_is_done_follows_from_what_there_is() {
    let (_guard, folder) = folder();
    let of = |name: &str, files: &[(&str, &str)]| {
        Item::image(image(&folder.join(name), files)).map_err(|failure| failure.kind())
    };
    let disk = of("disk", &[("web.vmdk", "vmdk"), ("web.qcow2", "qcow2")]).unwrap();
    let container = of("container", &[("web.oci/index.json", "oci")]).unwrap();
    let both = [("web.raw", "raw"), ("web.oci/index.json", "oci")];
    let both = of("both", &both).unwrap();
    assert_eq!(
        of("none", &[("web.ova", "ova")]).unwrap_err(),
        FailureKind::Config
    );
    let layout = Item::Layout(folder.join("layout"));
    let (image, container_disk) = (Some(Shape::Image), Some(Shape::ContainerDisk));
    for (item, shape, expected) in [
        (&disk, None, "pieces of disk/web.qcow2"),
        (&disk, Some(Shape::Disk), "pieces of disk/web.qcow2"),
        (&disk, image, "Image of disk/web.qcow2"),
        (&disk, container_disk, "ContainerDisk of disk/web.qcow2"),
        (&container, None, "container/web.oci"),
        (&container, image, "container/web.oci"),
        (&container, container_disk, "no disk"),
        (&both, None, "pieces of both/web.raw"),
        (&both, image, "both/web.oci"),
        (&both, container_disk, "ContainerDisk of both/web.raw"),
        (&layout, None, "layout"),
        (&layout, image, "layout"),
        (&layout, Some(Shape::Disk), "no disk"),
    ] {
        let target = Target {
            shape,
            ..target("localhost/a")
        };
        let short = |path: &Utf8Path| path.strip_prefix(&folder).unwrap().to_string();
        let what = match What::of(item, &target) {
            Ok(What::Layout(path)) => short(&path),
            Ok(What::Pieces(path)) => format!("pieces of {}", short(&path)),
            Ok(What::Export(shape, path)) => format!("{shape:?} of {}", short(&path)),
            Err(_) => "no disk".into(),
        };
        assert_eq!(what, expected, "{item:?} as {shape:?}");
    }
}

#[test]
fn a_layout_that_was_changed_is_not_sent() {
    let (_guard, folder) = folder();
    let image = image(&folder, &[("web.oci/index.json", "oci")]);
    let layout = image.layout().unwrap();
    image.check_layout(&layout).unwrap();
    std::fs::write(layout.join("index.json"), "{}").unwrap();
    let failure = image.check_layout(&layout).unwrap_err();
    assert!(failure.chain().contains("has the digest"), "{failure:?}");
}
