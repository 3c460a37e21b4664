//! `ovenbird push IMAGE|FOLDER|FILE REFERENCE`

use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;

use super::Session;
use super::base::{Meter, cancellable};
use crate::catalog::Shelf;
use crate::error::{Failure, Result};
use crate::registry::{Item, Options, Shape, Target, deliver};
use crate::store::{Settings, Store};

/// Arguments of `push`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A finished image (NAME/VERSION/BUILD), its folder, an OCI layout or archive, or a disk file
    #[arg(value_name = "IMAGE|FOLDER|FILE")]
    source: String,
    /// REGISTRY/REPOSITORY, with :TAG or without
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
    /// Sign it there with this key (a file, or command:COMMAND) instead of the one that config.toml names
    #[arg(long, value_name = "KEY")]
    sign_key: Option<String>,
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

impl From<PushKind> for Shape {
    fn from(kind: PushKind) -> Self {
        match kind {
            PushKind::Image => Self::Image,
            PushKind::ContainerDisk => Self::ContainerDisk,
            PushKind::Disk => Self::Disk,
        }
    }
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
    let target = Target {
        tags: args.tags.clone(),
        shape: args.kind.map(Into::into),
        mount_from: args.mount_from.clone(),
        piece: args.piece << 20,
        create_repository: args.create_repository,
        signer: Settings::read(&session.home)?
            .signing
            .seal(session.home.path(), args.sign_key.as_deref())?,
        ..Target::new(args.reference.parse()?, args.registry.options())
    };
    let item = item(&args.source, session)?;
    // A staging folder is locked, and cleared by the next one if this process is killed.
    let staging = Shelf::new(session.home.path()).stage()?;
    let meter = Meter::new(session.printer);
    let delivered = deliver(&item, &target, staging.folder(), &meter).await?;
    meter.finish();
    session.printer.value(&delivered);
    for place in delivered.places() {
        session.printer.line(place);
    }
    for name in &delivered.attached {
        session.printer.line(format!("with {name}"));
    }
    if let Some(key) = &delivered.signed_by {
        session.printer.line(format!("signed by {key}"));
    }
    let blobs = delivered.pushed.blobs;
    session.printer.line(format!(
        "{} blobs sent ({} bytes), {} there already, {} mounted",
        blobs.sent, blobs.bytes, blobs.existed, blobs.mounted
    ));
    Ok(())
}

/// What the first argument names.
fn item(source: &str, session: &Session) -> Result<Item> {
    let path = Utf8Path::new(source);
    if path.exists() {
        return Item::at(path);
    }
    let image = Store::open(&session.home)?
        .find_image(source)
        .map_err(|failure| failure.context(format!("{source} is no file")))?;
    if !image.state.is_finished() {
        return Err(Failure::config(format!(
            "{} is {}: it has no outputs",
            image.id(),
            image.state
        )));
    }
    Item::at(&image.folder)
}
