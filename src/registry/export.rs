//! What is made of a disk before it goes to a registry.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::Utf8Path;
use ovenbird_disk::{DiskReader, Format, OpenOptions, oci};

use super::blocking::{Stop, blocking, disk_error};
use super::deliver::{ImageFolder, Shape};
use super::disk::{DISK_DIGEST, DiskArtifact};
use crate::catalog::progress::Progress;
use crate::error::{FailureContext as _, FailureKind, Result};
use crate::output::planner::OciConfig;
use crate::output::{Manifest, OutputFormat};

/// Opens a disk. The format of an image's disk is known and not probed: a guest could have written another image's header into
/// its first sector.
pub(super) fn open_disk(
    path: &Utf8Path,
    image: Option<&ImageFolder>,
) -> Result<Arc<dyn DiskReader>> {
    let known = image.and_then(|image| {
        let is_it =
            |file: &&crate::output::manifest::OutputFile| image.folder.join(&file.path) == path;
        format_of(image.manifest.files.iter().find(is_it)?.format)
    });
    let options = known.map_or_else(OpenOptions::new, |format| OpenOptions::new().format(format));
    ovenbird_disk::open_with(path.as_std_path(), &options)
        .or_failure(FailureKind::Config, || format!("cannot read {path}"))
}

const fn format_of(format: OutputFormat) -> Option<Format> {
    match format {
        OutputFormat::Raw => Some(Format::Raw),
        OutputFormat::Qcow2 => Some(Format::Qcow2),
        OutputFormat::Vmdk => Some(Format::Vmdk),
        OutputFormat::Vhd => Some(Format::Vhd),
        OutputFormat::Vhdx => Some(Format::Vhdx),
        OutputFormat::Ova | OutputFormat::Oci => None,
    }
}

/// What goes with a disk in pieces.
pub(super) fn artifact(image: Option<&ImageFolder>, piece: u64) -> Result<DiskArtifact> {
    let Some(image) = image else {
        return Ok(DiskArtifact {
            piece,
            ..DiskArtifact::default()
        });
    };
    let path = image.folder.join(Manifest::FILE);
    let bytes =
        std::fs::read(&path).or_failure(FailureKind::Config, || format!("cannot read {path}"))?;
    let mut annotations = labels(&image.manifest);
    annotations.insert(
        "org.opencontainers.image.created".into(),
        image.manifest.created.clone(),
    );
    Ok(DiskArtifact {
        image_manifest: Some(bytes),
        expected: Some(image.manifest.disk_digest.clone()),
        piece,
        annotations,
        ..DiskArtifact::default()
    })
}

fn labels(manifest: &Manifest) -> BTreeMap<String, String> {
    let parent = &manifest.parent;
    [
        ("title", manifest.name.clone()),
        (
            "version",
            format!("{}-{}", manifest.version, manifest.build),
        ),
        ("base.name", format!("{}/{}", parent.name, parent.version)),
    ]
    .into_iter()
    .map(|(key, value)| (format!("org.opencontainers.image.{key}"), value))
    .collect()
}

/// Writes an image layout of a disk. The disk of a finished image must be the one that was tested.
pub(super) async fn export(
    shape: Shape,
    disk: Arc<dyn DiskReader>,
    image: Option<&ImageFolder>,
    reference: Option<&String>,
    layout: &Utf8Path,
    progress: &dyn Progress,
) -> Result<()> {
    let stop = Stop::default();
    let _guard = stop.on_drop();
    let mut config = OciConfig {
        architecture: "amd64".into(),
        reference: reference.cloned().unwrap_or_default(),
        created: 0,
        labels: BTreeMap::new(),
        ..OciConfig::default()
    };
    if let Some(image) = image {
        let about = &image.manifest;
        progress.stage("digest the disk");
        let (reader, stopped) = (disk.clone(), stop.clone());
        let actual = blocking(move || {
            ovenbird_disk::disk_digest(&*reader, &stopped).map_err(disk_error("digest the disk"))
        })
        .await?
        .to_string();
        super::download::verify("the disk", &about.disk_digest, actual)?;
        // Provenance names files and the disk, not what is made of it here: by this it is known to be about this disk.
        config
            .annotations
            .insert(DISK_DIGEST.into(), about.disk_digest.clone());
        config.architecture = about.architecture.oci().into();
        config.labels = labels(about);
        let created = about.created.parse::<jiff::Timestamp>();
        config.created = created.map_or(0, |created| created.as_second());
    }
    progress.stage("make the image");
    let layout = layout.to_owned();
    let made = tokio::task::spawn_blocking(move || {
        let target = layout.as_std_path();
        let mut options = crate::output::oci::options(&config);
        let made = if shape == Shape::ContainerDisk {
            let file = oci::DiskFile::default();
            // There is nothing in it that could run.
            options.config.cmd.clear();
            oci::export_container_disk(&*disk, file, &options, target, &stop)
        } else {
            oci::export(disk, &options, target, &stop)
        };
        made.map(drop)
            .map_err(|error| disk_error("make the image")(error).into())
    });
    made.await
        .or_failure(FailureKind::Internal, || "cannot make the image".into())?
}
