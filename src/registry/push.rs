//! Pushing: blobs in parallel, then manifests, children before parents, then tags.

use std::collections::BTreeMap;

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use super::client::Registry;
use super::model::{Descriptor, Index, Manifest, media};
use super::upload::{Gauge, Sent, Watched as _};
use super::{RegistryError, Result};
use crate::catalog::progress::Progress;

/// Where a blob's bytes are.
#[derive(Debug, Clone)]
pub enum Source {
    /// In a file.
    File(Utf8PathBuf),
    /// In memory.
    Bytes(Bytes),
}

/// What is to be pushed.
#[derive(Debug, Clone)]
pub struct Content {
    /// Each blob once.
    pub blobs: Vec<(Descriptor, Source)>,
    /// Manifests and their bytes, children before parents; the last one gets the tags.
    pub manifests: Vec<(Descriptor, Vec<u8>)>,
}

/// What was sent, and what was not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Blobs that were there already.
    pub existed: u32,
    /// Blobs that the registry took from another repository.
    pub mounted: u32,
    /// Blobs that were sent.
    pub sent: u32,
    /// Bytes of blobs that were sent, those that were lost on the way too.
    pub bytes: u64,
}

/// What is in the registry now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pushed {
    /// The manifest's digest.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
    /// Its length.
    pub size: u64,
    /// Tags that point to it.
    pub tags: Vec<String>,
    /// What was sent.
    pub blobs: Tally,
}

impl Tally {
    /// Counts a blob.
    pub fn add(&mut self, sent: Sent) {
        match sent {
            Sent::Existed => self.existed += 1,
            Sent::Mounted => self.mounted += 1,
            Sent::Sent { bytes } => {
                self.sent += 1;
                self.bytes += bytes;
            }
        }
    }
}

impl Content {
    /// Takes what an image layout on disk holds. With several images in it, all go, below an index of their own.
    ///
    /// # Errors
    /// [`RegistryError::BadContent`] or [`RegistryError::Io`].
    pub fn of_layout(folder: &Utf8Path) -> Result<Self> {
        let index: Index = read_json(&folder.join("index.json"))?;
        let mut content = Self {
            blobs: Vec::new(),
            manifests: Vec::new(),
        };
        match index.manifests.as_slice() {
            [] => {
                return Err(RegistryError::content(
                    folder.as_str(),
                    "has no image in it",
                ));
            }
            [one] => content.add(folder, one, 0)?,
            several => {
                for one in several {
                    content.add(folder, one, 0)?;
                }
                let bytes = std::fs::read(folder.join("index.json"))
                    .map_err(RegistryError::io("read", folder.join("index.json")))?;
                content
                    .manifests
                    .push((Descriptor::of(media::INDEX, &bytes), bytes));
            }
        }
        Ok(content)
    }

    fn add(&mut self, folder: &Utf8Path, descriptor: &Descriptor, depth: u32) -> Result<()> {
        // Indexes in indexes are allowed; deeper nesting only serves to exhaust readers.
        if depth > 4 {
            return Err(RegistryError::content(
                folder.as_str(),
                "nests its indexes too deep",
            ));
        }
        let path = blob_path(folder, descriptor)?;
        if !descriptor.is_index() && !descriptor.is_manifest() {
            return Err(RegistryError::content(
                path.as_str(),
                format!("is a {}, which is no manifest", descriptor.media_type),
            ));
        }
        let bytes = std::fs::read(&path).map_err(RegistryError::io("read", path.clone()))?;
        super::download::verify(
            path.as_str(),
            &descriptor.digest,
            super::sha256_of_bytes(&bytes),
        )?;
        let bad =
            |error: serde_json::Error| RegistryError::content(path.as_str(), error.to_string());
        if descriptor.is_index() {
            let index: Index = serde_json::from_slice(&bytes).map_err(bad)?;
            for child in &index.manifests {
                self.add(folder, child, depth + 1)?;
            }
        } else {
            let manifest: Manifest = serde_json::from_slice(&bytes).map_err(bad)?;
            for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                let path = blob_path(folder, blob)?;
                let size = std::fs::metadata(&path)
                    .map_err(RegistryError::io("read", path.clone()))?
                    .len();
                if size != blob.size {
                    return Err(RegistryError::content(
                        path.as_str(),
                        format!("has {size} bytes, expected {}", blob.size),
                    ));
                }
                self.blob(blob.clone(), Source::File(path));
            }
        }
        if !self
            .manifests
            .iter()
            .any(|(known, _)| known.digest == descriptor.digest)
        {
            // Name and platform belong to the index on disk.
            let plain = Descriptor::of(&descriptor.media_type, &bytes);
            self.manifests.push((plain, bytes));
        }
        Ok(())
    }

    /// An image of blobs that are no filesystem.
    ///
    /// # Errors
    /// [`RegistryError::BadContent`] if it can't be encoded.
    pub fn image(config: (Descriptor, Source), layers: Vec<(Descriptor, Source)>) -> Result<Self> {
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.into()),
            artifact_type: None,
            config: config.0.clone(),
            layers: layers.iter().map(|(layer, _)| layer.clone()).collect(),
            subject: None,
            annotations: BTreeMap::new(),
        };
        Self::of_manifest(&manifest, config, layers)
    }

    fn of_manifest(
        manifest: &Manifest,
        config: (Descriptor, Source),
        layers: Vec<(Descriptor, Source)>,
    ) -> Result<Self> {
        let bytes = serde_json::to_vec(manifest)
            .map_err(|error| RegistryError::content("the manifest", error.to_string()))?;
        let mut content = Self {
            blobs: Vec::new(),
            manifests: vec![(Descriptor::of(media::MANIFEST, &bytes), bytes)],
        };
        content.blob(config.0, config.1);
        for (layer, source) in layers {
            content.blob(layer, source);
        }
        Ok(content)
    }

    /// An artifact of blobs. `config` is the two bytes `{}` where there is none.
    ///
    /// # Errors
    /// [`RegistryError::BadContent`] if it can't be encoded.
    pub fn artifact(
        artifact_type: &str,
        config: Option<(Descriptor, Source)>,
        blobs: Vec<(Descriptor, Source)>,
        subject: Option<Descriptor>,
        annotations: BTreeMap<String, String>,
    ) -> Result<Self> {
        let (config, config_source) = config.unwrap_or_else(|| {
            let empty = Bytes::from_static(b"{}");
            (Descriptor::of(media::EMPTY, &empty), Source::Bytes(empty))
        });
        // The specification wants at least one layer; the empty blob stands for none.
        let layers = if blobs.is_empty() {
            vec![Descriptor::of(media::EMPTY, b"{}")]
        } else {
            blobs.iter().map(|(blob, _)| blob.clone()).collect()
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.into()),
            artifact_type: Some(artifact_type.into()),
            config: config.clone(),
            layers,
            subject,
            annotations,
        };
        let mut content = Self::of_manifest(&manifest, (config, config_source), blobs)?;
        if manifest
            .layers
            .iter()
            .any(|layer| layer.media_type == media::EMPTY)
        {
            let empty = Bytes::from_static(b"{}");
            content.blob(Descriptor::of(media::EMPTY, &empty), Source::Bytes(empty));
        }
        Ok(content)
    }

    fn blob(&mut self, descriptor: Descriptor, source: Source) {
        if !self
            .blobs
            .iter()
            .any(|(known, _)| known.digest == descriptor.digest)
        {
            self.blobs.push((descriptor, source));
        }
    }

    /// Pushes it: blobs that the registry lacks, manifests, then the tags. A tag that points there already is not moved, so
    /// a second push also works where tags can't move.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn push(
        &self,
        registry: &Registry,
        tags: &[String],
        others: &[String],
        progress: &dyn Progress,
    ) -> Result<Pushed> {
        let gauges: Vec<Gauge> = self
            .blobs
            .iter()
            .map(|(blob, _)| Gauge::of(blob.size))
            .collect();
        let blobs: Vec<_> = self
            .blobs
            .iter()
            .zip(&gauges)
            .map(|((descriptor, source), gauge)| {
                registry.push_gauged(descriptor, source, others, gauge)
            })
            .collect();
        let sent: Vec<Sent> = futures_util::stream::iter(blobs)
            .buffer_unordered(registry.options().parallel.max(1))
            .try_collect()
            .watched(progress, &gauges)
            .await?;
        let mut tally = Tally::default();
        for sent in sent {
            tally.add(sent);
        }
        self.push_manifests(registry, tags, tally).await
    }

    /// The second half of [`push`](Self::push), for blobs that have arrived by another way.
    pub(super) async fn push_manifests(
        &self,
        registry: &Registry,
        tags: &[String],
        blobs: Tally,
    ) -> Result<Pushed> {
        let Some(((root, root_bytes), children)) = self.manifests.split_last() else {
            return Err(RegistryError::content("the content", "has no manifest"));
        };
        for (child, bytes) in children {
            self.put(registry, &child.digest, child, bytes).await?;
        }
        if tags.is_empty() {
            self.put(registry, &root.digest, root, root_bytes).await?;
        }
        for tag in tags {
            if registry.tagged(tag).await?.as_deref() != Some(root.digest.as_str()) {
                self.put(registry, tag, root, root_bytes).await?;
            }
        }
        Ok(Pushed {
            digest: root.digest.clone(),
            media_type: root.media_type.clone(),
            size: root.size,
            tags: tags.to_vec(),
            blobs,
        })
    }

    async fn put(
        &self,
        registry: &Registry,
        target: &str,
        descriptor: &Descriptor,
        bytes: &[u8],
    ) -> Result<()> {
        let noted = registry
            .put_manifest(target, &descriptor.media_type, bytes)
            .await?;
        if noted || !descriptor.is_manifest() {
            return Ok(());
        }
        let manifest: Manifest = serde_json::from_slice(bytes)
            .map_err(|error| RegistryError::content("the manifest", error.to_string()))?;
        if let Some(subject) = &manifest.subject {
            let mut referrer = descriptor.clone();
            referrer.artifact_type = manifest
                .artifact_type
                .or(Some(manifest.config.media_type.clone()));
            referrer.annotations = manifest.annotations;
            registry.note_referrer(&subject.digest, referrer).await?;
        }
        Ok(())
    }
}

fn blob_path(folder: &Utf8Path, descriptor: &Descriptor) -> Result<Utf8PathBuf> {
    Ok(folder.join("blobs/sha256").join(descriptor.hex()?))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Utf8Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(RegistryError::io("read", path))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| RegistryError::content(path.as_str(), error.to_string()))
}
