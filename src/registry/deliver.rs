//! An image, a disk or a layout, into a repository.
//!
//! [`deliver`] is what `ovenbird push` and distribution configurations stand on. To cancel it, drop its future: requests end,
//! blocking work stops at its next block, and what has arrived in the registry stays there for the next attempt.

use std::fmt;

use aws_config::SdkConfig;
use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_provenance::folder as provenance;
use serde::{Deserialize, Serialize};

use super::blocking::blocking;
use super::export::{artifact, export, open_disk};
use super::signatures::{self, About, SigningError};
use super::{
    Content, Credentials, Descriptor, ImageReference, Options, Pushed, Registry, RegistryError,
    TagValues, disk, ecr, expand_tag, open_layout, sha256_of_bytes,
};
use crate::catalog::progress::Progress;
use crate::error::{Failure, FailureKind, Result};
use crate::output::manifest::AttachmentKind;
use crate::output::{Manifest, OutputFormat};
use crate::signing::Seal;

/// The media type of a signed statement.
pub const PROVENANCE: &str = "application/vnd.dsse.envelope.v1+json";

/// What becomes of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Shape {
    /// A container image of the root filesystem; of a layout, what it holds.
    Image,
    /// A container image with the disk in it, as KubeVirt boots it.
    ContainerDisk,
    /// An artifact: the disk in compressed pieces.
    Disk,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "container",
            Self::ContainerDisk => "containerDisk",
            Self::Disk => "artifact",
        })
    }
}

/// What is delivered.
#[derive(Debug, Clone)]
pub enum Item {
    /// An image layout or archive.
    Layout(Utf8PathBuf),
    /// A disk file.
    Disk(Utf8PathBuf),
    /// A finished image with a disk among its outputs.
    Image(Box<ImageFolder>),
}

/// A finished image: its folder, and what that says of itself.
#[derive(Debug, Clone)]
pub struct ImageFolder {
    pub(super) folder: Utf8PathBuf,
    pub(super) manifest: Manifest,
}

/// A repository, and what it gets.
#[derive(Debug, Clone)]
pub struct Target {
    /// The repository; a tag in it is the first of the tags.
    pub reference: ImageReference,
    /// Templates of tags. With none here or in the reference: `VERSION-BUILD` for an image, `latest` for anything else.
    pub tags: Vec<String>,
    /// What becomes of a disk; if nothing is said, [`Shape::Disk`].
    pub shape: Option<Shape>,
    /// Repositories of the same registry that may have the same blobs.
    pub mount_from: Vec<String>,
    /// Bytes of a disk's pieces, at most [`disk::PIECE`], which 0 stands for.
    pub piece: u64,
    /// Makes the repository if there is none (ECR).
    pub create_repository: bool,
    /// What signs it there.
    pub signer: Option<Seal>,
    /// How the registry is spoken to.
    pub options: Options,
}

/// What is in the registry now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivered {
    /// The host.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// Manifest, tags, and what was sent.
    pub pushed: Pushed,
    /// Files of the image that are there as its referrers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attached: Vec<String>,
    /// The key that signed it there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
}

impl Delivered {
    /// `REGISTRY/REPOSITORY:TAG@DIGEST` for each tag.
    pub fn places(&self) -> Vec<String> {
        let Self {
            registry,
            repository,
            pushed,
            ..
        } = self;
        let place = |tag: &String| format!("{registry}/{repository}:{tag}@{}", pushed.digest);
        pushed.tags.iter().map(place).collect()
    }
}

impl Target {
    /// A repository with the defaults.
    pub fn new(reference: ImageReference, options: Options) -> Self {
        Self {
            reference,
            tags: Vec::new(),
            shape: None,
            mount_from: Vec::new(),
            piece: 0,
            create_repository: false,
            signer: None,
            options,
        }
    }

    /// A repository in the registry that an account has in a region of ECR, as a `targetRepository` names it. Asks AWS which
    /// host that is, and for the login.
    ///
    /// # Errors
    /// [`RegistryError::Ecr`], or [`RegistryError::BadReference`] for a name that no repository can have.
    pub async fn on_ecr(
        aws: &SdkConfig,
        region: &str,
        repository: &str,
        options: Options,
    ) -> super::Result<Self> {
        let aws = ecr::in_region(aws, region);
        let (host, credential) = ecr::host_and_login(&aws).await?;
        let options = Options {
            credentials: Credentials::Given(credential),
            aws: Some(aws),
            ..options
        };
        Ok(Self::new(format!("{host}/{repository}").parse()?, options))
    }

    /// The tags that an item gets.
    fn tags_for(&self, item: &Item) -> Result<Vec<String>> {
        let values = item.tag_values();
        let mut tags: Vec<String> = self.reference.tag.clone().into_iter().collect();
        for template in &self.tags {
            let tag = match &values {
                Some(values) => expand_tag(template, values)?,
                // A plain tag needs no values.
                None if !template.contains("{{") => expand_tag(template, &TagValues::default())?,
                None => {
                    return Err(Failure::new(
                        FailureKind::Usage,
                        format!("the tag {template} wants an image's values, and this is no image"),
                    ));
                }
            };
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        if tags.is_empty() {
            tags.push(match &values {
                Some(values) => expand_tag("{{ imagebuilder:buildVersion }}", values)?,
                None => "latest".into(),
            });
        }
        Ok(tags)
    }
}

impl ImageFolder {
    /// A folder whose manifest is known already.
    pub fn new(folder: Utf8PathBuf, manifest: Manifest) -> Self {
        Self { folder, manifest }
    }

    /// The disk among the outputs.
    fn disk(&self) -> Option<Utf8PathBuf> {
        OutputFormat::ALL.iter().find_map(|format| {
            format.qemu_driver()?;
            let file = self
                .manifest
                .files
                .iter()
                .find(|file| file.format == *format)?;
            Some(self.folder.join(&file.path))
        })
    }

    /// What a registry gets besides the image: its provenance, and bills of materials. Evidence is for people and stays where
    /// the image's folder is.
    fn about(&self) -> Result<Vec<About>> {
        let mut wanted = vec![(provenance::FILE, PROVENANCE)];
        wanted.extend(self.manifest.attachments.iter().filter_map(|file| {
            let media_type = match file.kind {
                AttachmentKind::Spdx => "application/spdx+json",
                AttachmentKind::CycloneDx => "application/vnd.cyclonedx+json",
                AttachmentKind::Vulnerabilities | AttachmentKind::Evidence => return None,
            };
            Some((file.path.as_str(), media_type))
        }));
        let mut found = Vec::new();
        for (name, media_type) in wanted {
            let path = self.folder.join(name);
            if path.is_file() {
                found.push(About {
                    media_type,
                    name: name.to_owned(),
                    bytes: std::fs::read(&path).map_err(RegistryError::io("read", path))?,
                });
            }
        }
        Ok(found)
    }

    /// Whether a layout among the outputs is still the one that the manifest speaks of. Its index is enough: all else in it is
    /// named by digest, and read or sent only if it has that digest.
    fn check_layout(&self, layout: &Utf8Path) -> Result<()> {
        let index = layout.join("index.json");
        let bytes = std::fs::read(&index).map_err(RegistryError::io("read", index.clone()))?;
        let actual = sha256_of_bytes(&bytes);
        let known = self
            .manifest
            .files
            .iter()
            .find(|file| self.folder.join(&file.path) == index)
            .map(|file| format!("sha256:{}", file.sha256));
        match known {
            Some(expected) if expected != actual => Err(RegistryError::DigestMismatch {
                what: index.into_string(),
                expected,
                actual,
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// The layout among the outputs.
    fn layout(&self) -> Option<Utf8PathBuf> {
        self.manifest
            .files
            .iter()
            .filter(|file| file.format == OutputFormat::Oci)
            .flat_map(|file| file.path.ancestors())
            .map(|path| self.folder.join(path))
            .find(|path| path.join("index.json").is_file())
    }
}

impl Item {
    /// Looks what a path holds: an image's folder, an OCI layout, an archive of one, or a disk.
    ///
    /// # Errors
    /// [`FailureKind::Config`] for a folder with none of these.
    pub fn at(path: &Utf8Path) -> Result<Self> {
        if path.is_dir() {
            return if path.join("index.json").is_file() {
                Ok(Self::Layout(path.to_owned()))
            } else {
                Self::image(ImageFolder::new(path.to_owned(), Manifest::read(path)?))
            };
        }
        let is_archive = matches!(path.extension(), Some("tar" | "ociarchive" | "oci"));
        Ok(if is_archive {
            Self::Layout(path.to_owned())
        } else {
            Self::Disk(path.to_owned())
        })
    }

    /// A finished image.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if it has neither a disk nor a container image.
    pub fn image(image: ImageFolder) -> Result<Self> {
        if image.disk().is_some() || image.layout().is_some() {
            return Ok(Self::Image(Box::new(image)));
        }
        let folder = &image.folder;
        Err(
            Failure::config(format!("{folder} has neither a disk nor a container image"))
                .with_hint("bake it with `qcow2`, `raw` or `oci` under `local.formats`"),
        )
    }

    fn as_image(&self) -> Option<&ImageFolder> {
        match self {
            Self::Image(image) => Some(image),
            Self::Layout(_) | Self::Disk(_) => None,
        }
    }

    fn tag_values(&self) -> Option<TagValues> {
        let image = self.as_image()?;
        let Manifest {
            name,
            version,
            build,
            created,
            ..
        } = &image.manifest;
        Some(TagValues {
            name: name.clone(),
            version: version.clone(),
            build: *build,
            created: created.clone(),
        })
    }
}

/// Brings an item into a repository. `scratch` is a folder for what has to be made on the way; the caller removes it.
///
/// # Errors
/// What the item lacks, or what the registry says.
pub async fn deliver(
    item: &Item,
    target: &Target,
    scratch: &Utf8Path,
    progress: &dyn Progress,
) -> Result<Delivered> {
    if target.reference.digest.is_some() {
        return Err(
            Failure::new(FailureKind::Usage, "a digest can't be chosen when pushing")
                .with_hint("name a tag"),
        );
    }
    let tags = target.tags_for(item)?;
    let what = What::of(item, target)?;
    if target.create_repository {
        create_repository(target).await?;
    }
    let registry = Registry::new(&target.reference, target.options.clone())?;
    let others = &target.mount_from;
    let pushed = match what {
        What::Layout(path) => {
            if let Some(image) = item.as_image() {
                image.check_layout(&path)?;
            }
            push_layout(&path, &registry, &tags, others, progress).await?
        }
        What::Pieces(path) => {
            let artifact = artifact(item.as_image(), target.piece)?;
            let disk = open_disk(&path, item.as_image())?;
            disk::push(&registry, disk, artifact, &tags, others, scratch, progress).await?
        }
        What::Export(shape, path) => {
            let image = item.as_image();
            let layout = scratch.join("layout");
            let disk = open_disk(&path, image)?;
            export(shape, disk, image, tags.first(), &layout, progress).await?;
            push_layout(&layout, &registry, &tags, others, progress).await?
        }
    };
    let mut delivered = Delivered {
        registry: target.reference.registry.clone(),
        repository: target.reference.repository.clone(),
        pushed,
        attached: Vec::new(),
        signed_by: None,
    };
    accompany(&registry, item, target, &mut delivered).await?;
    Ok(delivered)
}

/// Puts what there is about an image beside it, and signs it.
async fn accompany(
    registry: &Registry,
    item: &Item,
    target: &Target,
    delivered: &mut Delivered,
) -> Result<()> {
    let pushed = &delivered.pushed;
    let subject = Descriptor {
        media_type: pushed.media_type.clone(),
        digest: pushed.digest.clone(),
        size: pushed.size,
        artifact_type: None,
        platform: None,
        annotations: std::collections::BTreeMap::new(),
    };
    if let Some(image) = item.as_image() {
        for about in image.about()? {
            delivered.attached.push(about.name.clone());
            signatures::attach(registry, &subject, about).await?;
        }
    }
    if let Some(signer) = &target.signer {
        let id = signatures::sign(registry, &subject.digest, signer)
            .await
            .map_err(|error| match error {
                SigningError::Registry(error) => Failure::from(error),
                SigningError::Sign(error) => Failure::config("cannot sign").caused_by(error),
            })?;
        delivered.signed_by = Some(id.to_string());
    }
    Ok(())
}

/// What is really done.
enum What {
    /// Push what is in a layout.
    Layout(Utf8PathBuf),
    /// Push a disk in pieces.
    Pieces(Utf8PathBuf),
    /// Make a layout of a disk and push that.
    Export(Shape, Utf8PathBuf),
}

impl What {
    fn of(item: &Item, target: &Target) -> Result<Self> {
        let shaped = |shape, disk| match shape {
            Shape::Disk => Self::Pieces(disk),
            _ => Self::Export(shape, disk),
        };
        match (item, target.shape) {
            (Item::Layout(path), None | Some(Shape::Image)) => Ok(Self::Layout(path.clone())),
            (Item::Layout(path), Some(_)) => Err(Failure::new(
                FailureKind::Usage,
                format!("{path} is an image already; it can only be pushed as one"),
            )),
            (Item::Disk(path), shape) => Ok(shaped(shape.unwrap_or(Shape::Disk), path.clone())),
            (Item::Image(image), shape) => match (image.disk(), image.layout(), shape) {
                (_, Some(layout), Some(Shape::Image)) | (None, Some(layout), None) => {
                    Ok(Self::Layout(layout))
                }
                (Some(disk), _, shape) => Ok(shaped(shape.unwrap_or(Shape::Disk), disk)),
                (None, ..) => Err(Failure::config(format!(
                    "{} has no disk among its outputs",
                    image.folder
                ))
                .with_hint("bake it with `qcow2` or `raw` under `local.formats`")),
            },
        }
    }
}

async fn push_layout(
    path: &Utf8Path,
    registry: &Registry,
    tags: &[String],
    others: &[String],
    progress: &dyn Progress,
) -> super::Result<Pushed> {
    let path = path.to_owned();
    // The guard keeps an archive's unpacked layout until it is sent.
    let (content, _guard) = blocking(move || {
        let (folder, guard) = open_layout(&path)?;
        Ok((Content::of_layout(&folder)?, guard))
    })
    .await?;
    progress.stage("send");
    content.push(registry, tags, others, progress).await
}

async fn create_repository(target: &Target) -> Result<()> {
    let reference = &target.reference;
    let Some(host) = ecr::EcrHost::parse(&reference.registry) else {
        return Err(Failure::new(
            FailureKind::Usage,
            format!(
                "{} is not ECR: other registries create repositories by themselves",
                reference.registry
            ),
        ));
    };
    let aws = match &target.options.aws {
        Some(aws) => aws.clone(),
        None => crate::aws::load().await,
    };
    ecr::ensure_repository(&ecr::in_region(&aws, &host.region), &reference.repository).await?;
    Ok(())
}

#[cfg(test)]
#[path = "deliver_tests.rs"]
mod tests;
