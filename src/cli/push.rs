//! `ovenbird push IMAGE|FOLDER|FILE REFERENCE`

use std::process::ExitCode;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;
use ovenbird_disk::{DiskReader, NoProgress, oci};
use serde_json::json;

use super::Session;
use super::base::{Meter, cancellable};
use crate::catalog::Shelf;
use crate::catalog::progress::Progress as _;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::output::{Manifest, OutputFormat};
use crate::registry::{
    Content, Credential, Credentials, ImageReference, Options, Pushed, Registry, TagValues, disk,
    ecr, expand_tag, open_layout,
};
use crate::store::Store;

/// Arguments of `push`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A finished image (NAME/VERSION/BUILD), its folder, an OCI layout or archive, or a disk file
    #[arg(value_name = "IMAGE|FOLDER|FILE")]
    source: String,
    /// REGISTRY/REPOSITORY[:TAG]
    reference: String,
    /// What to make of a disk; default: a disk artifact, for layouts and archives the image that they hold
    #[arg(long = "as", value_enum, value_name = "KIND")]
    kind: Option<PushKind>,
    /// A further tag, or a template such as {{ imagebuilder:buildVersion }} (may be given several times)
    #[arg(long = "tag", value_name = "TEMPLATE")]
    tags: Vec<String>,
    /// Length of a disk's pieces
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=512))]
    piece: u64,
    /// A repository of the same registry that may have the same blobs (may be given several times)
    #[arg(long, value_name = "REPOSITORY")]
    mount_from: Vec<String>,
    /// Create the repository if there is none (ECR)
    #[arg(long)]
    create_repository: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// How a registry is spoken to.
#[derive(Debug, clap::Args)]
pub struct RegistryArgs {
    /// Talk to the registry without TLS; on loopback that is so anyway
    #[arg(long)]
    plain_http: bool,
    /// A further authority for the registry's certificate
    #[arg(long, value_name = "PEM")]
    ca_file: Option<Utf8PathBuf>,
    /// Blobs on their way at the same time
    #[arg(long, value_name = "N", default_value_t = 4)]
    parallel: usize,
    /// Send blobs in chunks of so many MiB instead of each in one request
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=4096))]
    chunk: Option<u64>,
}

impl RegistryArgs {
    pub(super) fn options(&self) -> Options {
        Options {
            plain_http: self.plain_http,
            ca_file: self.ca_file.clone(),
            parallel: self.parallel.clamp(1, 64),
            chunk: self.chunk.map(|mib| mib << 20),
            ..Options::default()
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PushKind {
    /// A container image of the root filesystem, or what a layout holds
    Image,
    /// A container image with the disk in it, as KubeVirt boots it
    #[value(name = "containerDisk", alias = "containerdisk")]
    ContainerDisk,
    /// An artifact: the disk in compressed pieces
    Disk,
}

/// What the first argument names.
enum Given {
    /// An image layout or archive.
    Layout(Utf8PathBuf),
    /// A disk, with its image where it has one.
    Disk(Utf8PathBuf, Option<Box<(Manifest, Utf8PathBuf)>>),
}

/// Runs the verb.
///
/// # Errors
/// What the source lacks, or what the registry says.
pub async fn run(args: Args, session: &Session) -> Result<ExitCode> {
    cancellable(push(&args, session)).await?;
    Ok(ExitCode::SUCCESS)
}

async fn push(args: &Args, session: &Session) -> Result<()> {
    let reference: ImageReference = args.reference.parse()?;
    if reference.digest.is_some() {
        return Err(
            Failure::new(FailureKind::Usage, "a digest can't be chosen when pushing")
                .with_hint("name a tag"),
        );
    }
    let given = given(&args.source, session)?;
    let mut tags: Vec<String> = reference.tag.clone().into_iter().collect();
    for template in &args.tags {
        let tag = match &given {
            Given::Disk(_, Some(about)) => expand_tag(template, &values(&about.0))?,
            // Without an image there are no values, but a plain tag needs none.
            _ if !template.contains("{{") => expand_tag(template, &no_values())?,
            _ => {
                return Err(Failure::new(
                    FailureKind::Usage,
                    format!(
                        "{} is no image: it has no values for {template}",
                        args.source
                    ),
                ));
            }
        };
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    if tags.is_empty() {
        tags.push("latest".into());
    }
    let mut options = args.registry.options();
    if args.create_repository {
        options.credentials = create_repository(&reference, options.credentials).await?;
    }
    let registry = Registry::new(&reference, options)?;
    let meter = Meter::new(session.printer);
    let pushed = send(args, session, &given, &registry, &tags, &meter).await?;
    meter.finish();
    session.printer.value(&json!({
        "registry": reference.registry, "repository": reference.repository, "pushed": pushed,
    }));
    for tag in &pushed.tags {
        session.printer.line(format!(
            "{}/{}:{tag}@{}",
            reference.registry, reference.repository, pushed.digest
        ));
    }
    let blobs = pushed.blobs;
    session.printer.line(format!(
        "{} blobs sent ({} bytes), {} there already, {} mounted",
        blobs.sent, blobs.bytes, blobs.existed, blobs.mounted
    ));
    Ok(())
}

async fn send(
    args: &Args,
    session: &Session,
    given: &Given,
    registry: &Registry,
    tags: &[String],
    meter: &Meter,
) -> Result<Pushed> {
    let shelf = Shelf::new(session.home.path());
    match given {
        Given::Layout(path) => {
            if !matches!(args.kind, None | Some(PushKind::Image)) {
                return Err(Failure::new(
                    FailureKind::Usage,
                    format!("{path} is an image already; it can only be pushed as one"),
                ));
            }
            send_layout(path, registry, tags, &args.mount_from, meter).await
        }
        Given::Disk(path, about) => {
            let reader = open_disk(path)?;
            let kind = args.kind.unwrap_or(PushKind::Disk);
            // A staging folder is locked, and cleared by the next one if this process is killed.
            let staging = shelf.stage()?;
            if kind == PushKind::Disk {
                let manifest = about
                    .as_ref()
                    .map(|about| std::fs::read(about.1.join(Manifest::FILE)))
                    .transpose()
                    .or_failure(FailureKind::Config, || "cannot read the manifest".into())?;
                let artifact = disk::DiskArtifact {
                    image_manifest: manifest,
                    piece: args.piece << 20,
                    expected: about.as_ref().map(|about| about.0.disk_digest.clone()),
                    ..disk::DiskArtifact::default()
                };
                return Ok(disk::push(
                    registry,
                    reader,
                    artifact,
                    tags,
                    &args.mount_from,
                    staging.folder(),
                    meter,
                )
                .await?);
            }
            if kind == PushKind::Image
                && let Some(about) = about
                && let Some(layout) = layout_of(&about.0, &about.1)
            {
                return send_layout(&layout, registry, tags, &args.mount_from, meter).await;
            }
            meter.stage("make the image");
            let out = staging.folder().join("layout");
            let target = out.clone();
            let reference = tags.first().cloned();
            tokio::task::spawn_blocking(move || export(kind, reader, reference, &target))
                .await
                .or_failure(FailureKind::Internal, || "cannot make the image".into())??;
            send_layout(&out, registry, tags, &args.mount_from, meter).await
        }
    }
}

async fn send_layout(
    path: &Utf8Path,
    registry: &Registry,
    tags: &[String],
    others: &[String],
    meter: &Meter,
) -> Result<Pushed> {
    let (folder, _guard) = open_layout(path)?;
    let content = Content::of_layout(&folder)?;
    meter.stage("send");
    Ok(content.push(registry, tags, others, meter).await?)
}

fn export(
    kind: PushKind,
    disk: Arc<dyn DiskReader>,
    reference: Option<String>,
    target: &Utf8Path,
) -> Result<()> {
    let options = oci::ExportOptions {
        reference,
        ..oci::ExportOptions::default()
    };
    let made = if kind == PushKind::ContainerDisk {
        let file = oci::DiskFile::default();
        oci::export_container_disk(&*disk, file, &options, target.as_std_path(), &NoProgress)
    } else {
        oci::export(disk, &options, target.as_std_path(), &NoProgress)
    };
    made.map(drop)
        .or_failure(FailureKind::Output, || "cannot make the image".into())
}

fn given(source: &str, session: &Session) -> Result<Given> {
    let path = Utf8Path::new(source);
    if path.is_dir() {
        return of_folder(path);
    }
    if path.is_file() {
        let is_archive = matches!(path.extension(), Some("tar" | "ociarchive" | "oci"));
        return Ok(if is_archive {
            Given::Layout(path.to_owned())
        } else {
            Given::Disk(path.to_owned(), None)
        });
    }
    let store = Store::open(&session.home)?;
    let image = store.find_image(source)?;
    if !image.state.is_finished() {
        return Err(Failure::config(format!(
            "{} is {}: it has no outputs",
            image.id(),
            image.state
        )));
    }
    of_folder(&image.folder)
}

fn of_folder(folder: &Utf8Path) -> Result<Given> {
    if folder.join("index.json").is_file() {
        return Ok(Given::Layout(folder.to_owned()));
    }
    let manifest = Manifest::read(folder)?;
    let disk = OutputFormat::ALL.iter().find_map(|format| {
        let file = manifest.files.iter().find(|file| file.format == *format)?;
        format.qemu_driver().map(|_| folder.join(&file.path))
    });
    match disk {
        Some(disk) => Ok(Given::Disk(
            disk,
            Some(Box::new((manifest, folder.to_owned()))),
        )),
        None => layout_of(&manifest, folder)
            .map(Given::Layout)
            .ok_or_else(|| {
                Failure::config(format!("{folder} has neither a disk nor a container image"))
            }),
    }
}

/// The layout among an image's outputs.
fn layout_of(manifest: &Manifest, folder: &Utf8Path) -> Option<Utf8PathBuf> {
    manifest
        .files
        .iter()
        .filter(|file| file.format == OutputFormat::Oci)
        .flat_map(|file| file.path.ancestors())
        .map(|path| folder.join(path))
        .find(|path| path.join("index.json").is_file())
}

fn open_disk(path: &Utf8Path) -> Result<Arc<dyn DiskReader>> {
    ovenbird_disk::open(path.as_std_path())
        .or_failure(FailureKind::Config, || format!("cannot read {path}"))
}

fn values(manifest: &Manifest) -> TagValues {
    TagValues {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        build: manifest.build,
        created: manifest.created.clone(),
    }
}

fn no_values() -> TagValues {
    TagValues {
        name: String::new(),
        version: String::new(),
        build: 0,
        created: String::new(),
    }
}

/// Makes the repository on ECR; the login that this needs serves the push as well.
async fn create_repository(reference: &ImageReference, found: Credentials) -> Result<Credentials> {
    let Some(host) = ecr::EcrHost::parse(&reference.registry) else {
        return Err(Failure::new(
            FailureKind::Usage,
            format!(
                "{} is not ECR: other registries create repositories by themselves",
                reference.registry
            ),
        ));
    };
    let config = crate::aws::load()
        .await
        .into_builder()
        .region(aws_config::Region::new(host.region))
        .build();
    ecr::ensure_repository(&config, &reference.repository).await?;
    let credential: Credential = match found.find(reference)? {
        Some(known) => known,
        None => ecr::login(&config).await?,
    };
    Ok(Credentials::Given(credential))
}
