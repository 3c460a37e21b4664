//! Container images from disks: the root filesystem as one layer, without root rights, mounts or an unpacked copy.

mod compress;
mod container_disk;
mod documents;
mod layer;
mod layout;

use std::path::Path;
use std::sync::Arc;

pub use compress::LayerCompression;
pub use container_disk::{DiskFile, export_container_disk};
pub use documents::{Blob, Config};
pub use layer::{Mtime, TreeOptions};
pub use layout::Form;

use self::layer::Layer;
use self::layout::Layout;
use crate::fs::{FileSystem as _, FsKind, Tree};
use crate::{DiskReader, Error, Progress, Result, Sha256Digest};

/// What to make of a disk.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// A folder or an archive.
    pub form: Form,
    /// What of the tree goes into the layer.
    pub tree: TreeOptions,
    /// Compression of the layer.
    pub compression: LayerCompression,
    /// The image's configuration.
    pub config: Config,
    /// Value of `org.opencontainers.image.ref.name` in the index, such as `latest`.
    pub reference: Option<String>,
    /// Annotations of the manifest.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// Worker threads; 0 takes every core. The bytes that come out do not depend on it.
    pub threads: usize,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The manifest.
    pub manifest: Blob,
    /// The configuration.
    pub config: Blob,
    /// The compressed layer.
    pub layer: Blob,
    /// Digest of the layer before compression.
    pub diff_id: Sha256Digest,
    /// Bytes of the layer before compression.
    pub uncompressed: u64,
    /// Entries in the layer.
    pub entries: u64,
    /// Sockets, which an image cannot carry.
    pub skipped_sockets: u64,
}

/// Writes the root filesystem of a disk as an OCI image.
///
/// `out` appears, whole, when everything is written; a folder must not exist, or be empty, an archive is replaced. The same disk and
/// options give the same bytes, on any machine and with any number of threads. Files whose names begin with `.wh.`
/// cannot be told from deletions in a layer and are refused.
pub fn export(
    reader: Arc<dyn DiskReader>,
    options: &ExportOptions,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Summary> {
    // What the firmware boots from has neither owners nor modes, and nothing that a container could use.
    let tree = Tree::with(&reader, &|kind| kind != FsKind::Fat)?;
    if let Some(unread) = tree.unread().first() {
        return Err(Error::unsupported(format!(
            "{} can't be read: {}",
            unread.at, unread.why
        )));
    }
    export_tree(&tree, options, out, progress)
}

/// Like [`export`], from a filesystem that the caller has opened.
pub fn export_tree(
    fs: &dyn crate::fs::FileSystem,
    options: &ExportOptions,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Summary> {
    let layout = Layout::create(out, options.form)?;
    let layer = layer::write(fs, options, &layout, progress)?;
    complete(layout, layer, options)
}

/// Writes the documents that go with a layer.
fn complete(layout: Layout, layer: Layer, options: &ExportOptions) -> Result<Summary> {
    let config = layout.put(&options.config.encode(&layer.diff_id)?)?;
    let manifest = layout.put(&documents::manifest(&config, &layer.blob, options)?)?;
    layout.finish(&documents::index(&manifest, options)?)?;
    Ok(Summary {
        manifest,
        config,
        layer: layer.blob,
        diff_id: layer.diff_id,
        uncompressed: layer.uncompressed,
        entries: layer.counts.entries,
        skipped_sockets: layer.counts.skipped_sockets,
    })
}
