//! A distribution's public cloud image, from its server onto the shelf.

use camino::Utf8Path;

use super::digest::{self, FileDigests};
use super::discover::Discovery;
use super::entry::{self, Entry};
use super::fetch::Fetcher;
use super::inspect::DiskInfo;
use super::progress::Progress;
use super::record::{self, Origin, Record};
use super::shelf::{Shelf, Stored};
use super::{CatalogError, Result, VersionPattern};
use crate::machine::{Arch, Firmware};

/// What to pull, and from where.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// A name of the catalogue.
    pub name: &'a str,
    /// Which versions will do; of these the highest.
    pub pattern: VersionPattern,
    /// For which guests.
    pub architecture: Arch,
    /// An address that takes the place of scheme and host of every published address.
    pub from: Option<&'a str>,
    /// Whether to look on the shelf only.
    pub offline: bool,
}

/// An image that is on the shelf now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image.
    pub image: Stored,
    /// Whether it had to be fetched, or was there.
    pub fetched: bool,
}

/// Makes sure that the highest published version that fits is on the shelf. An exact version that is there already, or an
/// offline request, needs no network.
///
/// # Errors
/// [`CatalogError::UnknownName`], [`CatalogError::NotOnShelf`] when offline, [`CatalogError::DigestMismatch`], or what went
/// wrong on the network.
pub async fn pull(
    home: &Utf8Path,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Pulled> {
    pull_entry(home, entry::by_name(request.name)?, request, progress).await
}

async fn pull_entry(
    home: &Utf8Path,
    entry: &Entry,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Pulled> {
    let shelf = Shelf::new(home);
    let name = entry::shelf_name(entry, request.architecture);
    let exact = request.pattern.is_exact();
    if request.offline || exact {
        if let Some(image) = shelf.find(&name, &request.pattern)? {
            return Ok(Pulled {
                image,
                fetched: false,
            });
        }
        if request.offline {
            return Err(CatalogError::NotOnShelf {
                reference: format!("{name}/{}", request.pattern),
                hint: "leave out --offline to fetch it".into(),
            });
        }
    }
    let discovery = Discovery::new(entry, request.architecture)?;
    let fetcher = Fetcher::new(request.from)?;
    progress.stage("find the version");
    let listing = fetcher.text(discovery.listing()).await?;
    let release = discovery.find(&listing, &request.pattern)?;
    if let Some(image) = shelf.find(&name, &VersionPattern::exactly(release.version))? {
        return Ok(Pulled {
            image,
            fetched: false,
        });
    }

    let algorithm = entry
        .download
        .as_ref()
        .map_or(digest::Algorithm::Sha256, |download| {
            download.digests.algorithm
        });
    let list = fetcher.text(&release.digests).await?;
    let expected =
        digest::find_in_list(&list, algorithm, release.file_name()).ok_or_else(|| {
            CatalogError::DigestNotListed {
                url: release.digests.clone(),
                algorithm: algorithm.as_str(),
                file: release.file_name().to_owned(),
            }
        })?;

    progress.stage(&format!("fetch {}", release.file_name()));
    let download = fetcher
        .file(&release.image, &shelf.partial(), progress)
        .await?;
    progress.stage("verify");
    let (path, wanted) = (download.path.clone(), expected.clone());
    let digests =
        tokio::task::spawn_blocking(move || FileDigests::of(&path, Some(&wanted), |_| ()))
            .await
            .map_err(|error| {
                CatalogError::io("read", download.path.clone())(std::io::Error::other(error))
            })??;
    if let Err(error) = digests.verify(&expected, &fetcher.address(&release.image)) {
        // Continuing it would only give the same wrong bytes again.
        download.discard();
        return Err(error);
    }
    let info = match DiskInfo::of(&download.path) {
        Ok(info) => info,
        Err(error) => {
            download.discard();
            return Err(error);
        }
    };

    let staging = shelf.stage()?;
    let disk = Utf8Path::new("disk").with_extension(&info.format);
    let target = staging.folder().join(&disk);
    std::fs::rename(&download.path, &target).map_err(CatalogError::io("create", target))?;
    download.discard();
    let record = Record {
        schema: record::SCHEMA,
        name,
        version: release.version,
        architecture: request.architecture,
        default_user: Some(entry.default_user.clone()),
        firmware: match request.architecture {
            Arch::X86_64 => entry
                .download
                .as_ref()
                .map(|download| download.firmware.clone())
                .unwrap_or_default(),
            Arch::Aarch64 => vec![Firmware::Uefi],
        },
        root_device: entry.root_device.clone(),
        root_partition: entry
            .download
            .as_ref()
            .and_then(|download| download.root_partition),
        disk,
        format: info.format,
        virtual_size: info.virtual_size,
        sha256: digests.sha256.hex().to_owned(),
        published_digest: Some(expected).filter(|digest| *digest != digests.sha256),
        origin: Origin::Url(release.image),
        created: jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string(),
        kernel: None,
    };
    Ok(Pulled {
        image: shelf.insert(staging, record, &digests)?,
        fetched: true,
    })
}

#[cfg(test)]
#[path = "pull_tests.rs"]
mod tests;
