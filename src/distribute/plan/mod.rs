//! What will be done, computed from the documents and the image's manifest alone.

mod region;
mod road;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

pub use self::region::{ExportPlan, RegionPlan};
pub use self::road::{ImportPlan, Road};
use super::Source;
use super::names::{DEFAULT_NAME, rendered};
use super::register::RegisterImage;
use crate::aws::Access;
use crate::aws::s3::Checksums;
use crate::documents::arn::normalise_name;
use crate::documents::distribution::{
    AmiLocal, ContainerDistributionConfiguration, Destination, DistributionConfiguration,
    FolderDestination, FolderLayout, RegistryDestination, RegistryForm, S3Destination,
};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::output::OutputFormat;
use crate::registry::{ImageFolder, Item, Shape};

/// All destinations of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// `name/version/build`.
    pub image: String,
    /// In the order in which they are done: what is near first.
    pub deliveries: Vec<Delivery>,
}

/// One destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Delivery {
    /// Files in a folder.
    Folder(FolderPlan),
    /// Files in a bucket.
    S3(S3Plan),
    /// An image or an artifact in a registry.
    Registry(RegistryPlan),
    /// AMIs in regions.
    Ami(AmiPlan),
}

impl Delivery {
    /// The names of its destinations: AMIs have one for each region, and for each account that gets a copy.
    pub fn destinations(&self) -> Vec<String> {
        match self {
            Self::Folder(folder) => vec![folder.name.clone()],
            Self::S3(bucket) => vec![bucket.name.clone()],
            Self::Registry(registry) => vec![registry.name.clone()],
            Self::Ami(ami) => ami
                .regions
                .iter()
                .flat_map(|region| std::iter::once(region).chain(&region.accounts))
                .map(RegionPlan::destination)
                .collect(),
        }
    }
}

/// Files in a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FolderPlan {
    /// The destination's name.
    pub name: String,
    /// The folder that the files lie in at the end.
    pub folder: Utf8PathBuf,
    /// Whether the folder is this image's alone.
    pub own: bool,
    /// A link that points to the folder afterwards.
    pub latest: Option<Utf8PathBuf>,
    /// Files, relative to the image's folder.
    pub files: Vec<Utf8PathBuf>,
    /// Whether `SHA256SUMS` is written.
    pub checksums: bool,
    /// What the disk would be registered with.
    pub register: RegisterImage,
}

/// Files in a bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Plan {
    /// The destination's name.
    pub name: String,
    /// The bucket.
    pub bucket: String,
    /// The beginning of all keys; ends with a slash.
    pub prefix: String,
    /// The server, if it is not AWS.
    pub endpoint: Option<String>,
    /// The region, if it is not that of the environment.
    pub region: Option<String>,
    /// The profile whose credentials are used.
    pub profile: Option<String>,
    /// Whether the bucket stands in the path.
    pub path_style: bool,
    /// The checksum that goes with each part.
    pub checksums: Checksums,
    /// Files, relative to the image's folder.
    pub files: Vec<Utf8PathBuf>,
}

/// An image or an artifact in a registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryPlan {
    /// The destination's name.
    pub name: String,
    /// `HOST[:PORT]/NAME`; in ECR the repository's name alone.
    pub repository: String,
    /// The region of ECR, where AWS says which host that is.
    pub ecr: Option<String>,
    /// Templates of tags; `VERSION-BUILD` if there are none.
    pub tags: Vec<String>,
    /// What becomes of the image.
    pub shape: Shape,
    /// Without TLS.
    pub plain_http: bool,
    /// Whether the repository is made if there is none (ECR).
    pub create_repository: bool,
    /// Who asks AWS.
    #[serde(default)]
    pub access: Access,
}

/// AMIs in regions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AmiPlan {
    /// Bytes of the disk.
    pub virtual_size: u64,
    /// Who asks AWS.
    #[serde(default)]
    pub access: Access,
    /// How the disk becomes a snapshot.
    #[serde(default)]
    pub road: Road,
    /// The first gets the disk, the others a copy of its AMI.
    pub regions: Vec<RegionPlan>,
}

impl Plan {
    /// Plans the distribution of an image. `base` is the folder that paths of the configuration are relative to.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if the configuration asks for what the image has not, or
    /// what can't be done.
    pub fn new(
        configuration: &DistributionConfiguration,
        base: &Utf8Path,
        source: &Source,
    ) -> Result<Self> {
        let mut deliveries = Vec::new();
        for (number, destination) in (1..).zip(&configuration.local.destinations) {
            let name = destination
                .name
                .clone()
                .unwrap_or_else(|| format!("destination-{number}"));
            deliveries.push(local(
                name,
                destination,
                &configuration.local.amis,
                base,
                source,
            )?);
        }
        let local = &configuration.local.amis;
        let access = Access {
            profile: local.profile.clone(),
            endpoint: local.endpoint.clone(),
        };
        for distribution in &configuration.distributions {
            if let Some(container) = &distribution.container_distribution_configuration {
                let plan = on_ecr(&distribution.region, container, access.clone(), source)?;
                deliveries.push(Delivery::Registry(plan));
            }
        }
        let regions = configuration
            .distributions
            .iter()
            .filter(|distribution| distribution.makes_ami())
            .map(|distribution| RegionPlan::new(distribution, local, base, source))
            .collect::<Result<Vec<_>>>()?;
        if let Some(first) = regions.first() {
            deliveries.push(Delivery::Ami(AmiPlan {
                virtual_size: source.manifest.virtual_size,
                road: Road::new(local, &first.region, source)?,
                access,
                regions,
            }));
        }
        Ok(Self {
            image: source.image(),
            deliveries,
        })
    }
}

fn local(
    name: String,
    destination: &Destination,
    amis: &AmiLocal,
    base: &Utf8Path,
    source: &Source,
) -> Result<Delivery> {
    if let Some(wanted) = &destination.folder {
        return Ok(Delivery::Folder(folder(name, wanted, amis, base, source)?));
    }
    if let Some(wanted) = &destination.s3 {
        return Ok(Delivery::S3(bucket(name, wanted, source)?));
    }
    match &destination.registry {
        Some(wanted) => Ok(Delivery::Registry(registry(name, wanted, source)?)),
        None => Err(Failure::config(format!(
            "destination {name} says nothing of where it is"
        ))),
    }
}

fn registry(name: String, wanted: &RegistryDestination, source: &Source) -> Result<RegistryPlan> {
    check_item(&name, source)?;
    Ok(RegistryPlan {
        name,
        repository: wanted.repository.clone(),
        ecr: None,
        tags: wanted.tags.clone(),
        shape: match wanted.form {
            RegistryForm::Container => Shape::Image,
            RegistryForm::ContainerDisk => Shape::ContainerDisk,
            RegistryForm::Artifact => Shape::Disk,
        },
        plain_http: wanted.insecure,
        create_repository: wanted.create_repository,
        access: Access {
            profile: wanted.profile.clone(),
            endpoint: None,
        },
    })
}

/// The container image of a region. The service's description of it is the configuration's and goes nowhere there either.
fn on_ecr(
    region: &str,
    wanted: &ContainerDistributionConfiguration,
    access: Access,
    source: &Source,
) -> Result<RegistryPlan> {
    let name = format!("ecr-{region}");
    check_item(&name, source)?;
    Ok(RegistryPlan {
        name,
        repository: wanted.target_repository.repository_name.clone(),
        ecr: Some(region.to_owned()),
        tags: wanted.container_tags.clone(),
        shape: Shape::Image,
        plain_http: false,
        create_repository: false,
        access,
    })
}

/// That there is something for a registry is known before anything is sent anywhere.
fn check_item(name: &str, source: &Source) -> Result<()> {
    let folder = ImageFolder::new(source.folder.clone(), source.manifest.clone());
    Item::image(folder)
        .map(drop)
        .or_failure(FailureKind::Config, || {
            format!("destination {name} can't be served")
        })
}

fn folder(
    name: String,
    wanted: &FolderDestination,
    amis: &AmiLocal,
    base: &Utf8Path,
    source: &Source,
) -> Result<FolderPlan> {
    let root = base.join(&wanted.path);
    let slug = normalise_name(&source.manifest.name);
    let own = wanted.layout == FolderLayout::Versioned;
    Ok(FolderPlan {
        latest: wanted.latest.then(|| root.join(&slug).join("latest")),
        folder: if own {
            root.join(&slug)
                .join(&source.manifest.version)
                .join(source.manifest.build.to_string())
        } else {
            root
        },
        own,
        files: files(&name, &wanted.formats, source)?,
        name,
        checksums: wanted.checksums,
        register: RegisterImage::new(
            source,
            rendered(DEFAULT_NAME, source)?,
            String::new(),
            amis,
            base,
        )?,
    })
}

fn bucket(name: String, wanted: &S3Destination, source: &Source) -> Result<S3Plan> {
    let manifest = &source.manifest;
    let mut prefix = rendered(&wanted.prefix, source)?;
    if !prefix.is_empty() && !prefix.ends_with('/') {
        prefix.push('/');
    }
    let checksums = match wanted.checksums.as_deref() {
        None => Checksums::default(),
        Some(word) => word.parse().map_err(Failure::config)?,
    };
    Ok(S3Plan {
        files: files(&name, &wanted.formats, source)?,
        name,
        bucket: wanted.bucket.clone(),
        prefix: format!(
            "{prefix}{}/{}/{}/",
            normalise_name(&manifest.name),
            manifest.version,
            manifest.build
        ),
        endpoint: wanted.endpoint.clone(),
        region: wanted.region.clone(),
        profile: wanted.profile.clone(),
        path_style: wanted.path_style,
        checksums,
    })
}

/// The files of the formats that a destination wants; of all formats if it names none.
fn files(name: &str, formats: &[OutputFormat], source: &Source) -> Result<Vec<Utf8PathBuf>> {
    let there = &source.manifest.files;
    if let Some(format) = formats
        .iter()
        .find(|format| !there.iter().any(|file| file.format == **format))
    {
        return Err(Failure::config(format!(
            "destination {name} wants {format}, which {} was not baked as",
            source.image()
        )));
    }
    Ok(there
        .iter()
        .filter(|file| formats.is_empty() || formats.contains(&file.format))
        .map(|file| file.path.clone())
        .collect())
}

#[cfg(test)]
pub(super) mod tests;
