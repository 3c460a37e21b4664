//! A disk as an OCI artifact: raw bytes in pieces of at most 512 MiB, each compressed with zstd and a blob of its own.
//!
//! Pieces of nothing but zeros are left out. Each piece says in annotations where it belongs, how long it is and what its
//! bytes digest to; the manifest says the disk's size and digest. Compression is deterministic, so pieces that a registry
//! has from an earlier image are not sent again, and an interrupted push goes on with the first missing piece.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use camino::Utf8Path;
use futures_util::{StreamExt as _, TryStreamExt as _};
use ovenbird_disk::bytes::is_zero;
use ovenbird_disk::{DiskReader, Format, OpenOptions};
use sha2::{Digest as _, Sha256};

use super::blocking::{Stop, blocking, disk_error};
use super::client::Registry;
use super::model::{Descriptor, Manifest, media};
use super::push::{Content, Pushed, Source, Tally};
use super::upload::{Gauge, Sent, Watched as _};
use super::{RegistryError, Result};
use crate::catalog::progress::Progress;

/// The longest piece: pulls go on piece by piece, and every registry takes blobs of this size.
pub const PIECE: u64 = 512 << 20;
/// Where a piece begins on the disk.
pub const OFFSET: &str = "dev.ovenbird.disk.piece.offset";
/// How many bytes of the disk it is.
pub const LENGTH: &str = "dev.ovenbird.disk.piece.length";
/// SHA-256 of these bytes.
pub const DIGEST: &str = "dev.ovenbird.disk.piece.digest";
/// The disk's size, on the manifest.
pub const SIZE: &str = "dev.ovenbird.disk.size";
/// The disk's digest (see `docs/formats.md`), on the manifest.
pub const DISK_DIGEST: &str = "dev.ovenbird.disk.digest";

/// A disk beyond this is a mistake or an attack: no cloud has such volumes.
const MAX_SIZE: u64 = 64 << 40;
/// zstd's own middle.
const LEVEL: i32 = 3;
const BLOCK: usize = 1 << 20;

/// What to push besides the bytes.
#[derive(Debug, Clone, Default)]
pub struct DiskArtifact {
    /// The image's `manifest.json`, which becomes the configuration.
    pub image_manifest: Option<Vec<u8>>,
    /// The digest that was tested; the disk must have it.
    pub expected: Option<String>,
    /// The length of pieces, at most [`PIECE`], which 0 stands for.
    pub piece: u64,
    /// The manifest that this one is about.
    pub subject: Option<Descriptor>,
    /// Further annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// A piece as its descriptor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The blob.
    pub blob: Descriptor,
    /// Where it begins on the disk.
    pub offset: u64,
    /// Bytes of the disk.
    pub length: u64,
    /// Digest of these bytes.
    pub digest: String,
}

/// Pushes a disk. `scratch` holds the compressed pieces on their way, at most as many as are sent at the same time.
///
/// # Errors
/// [`RegistryError::DigestMismatch`] if the disk is not what was expected, [`RegistryError::Disk`], or what the registry
/// says.
pub async fn push(
    registry: &Registry,
    disk: Arc<dyn DiskReader>,
    artifact: DiskArtifact,
    tags: &[String],
    others: &[String],
    scratch: &Utf8Path,
    progress: &dyn Progress,
) -> Result<Pushed> {
    let size = disk.virtual_size();
    let stop = Stop::default();
    let _guard = stop.on_drop();
    progress.stage("digest the disk");
    let (reader, stopped) = (disk.clone(), stop.clone());
    let digest = blocking(move || {
        ovenbird_disk::disk_digest(&*reader, &stopped).map_err(disk_error("digest the disk"))
    })
    .await?
    .to_string();
    if let Some(expected) = &artifact.expected
        && *expected != digest
    {
        return Err(RegistryError::DigestMismatch {
            what: "the disk".into(),
            expected: expected.clone(),
            actual: digest,
        });
    }

    progress.stage("compress and send");
    let length = match artifact.piece {
        0 => PIECE,
        piece => piece.min(PIECE),
    };
    let ranges: Vec<(u64, u64)> = (0..size.div_ceil(length))
        .map(|n| (n * length, length.min(size - n * length)))
        .collect();
    let gauges: Vec<Gauge> = ranges.iter().map(|range| Gauge::of(range.1)).collect();
    let jobs: Vec<_> = ranges
        .into_iter()
        .zip(&gauges)
        .map(|(range, gauge)| {
            let (reader, stopped) = (disk.clone(), stop.clone());
            let path = scratch.join(format!("piece-{}.zst", range.0));
            async move {
                let target = path.clone();
                let packed = blocking(move || pack(&*reader, range, &target, &stopped)).await?;
                let Some(blob) = packed else {
                    gauge.finish();
                    return Ok(None);
                };
                let sent = registry
                    .push_gauged(&blob, &Source::File(path.clone()), others, gauge)
                    .await?;
                tokio::fs::remove_file(&path)
                    .await
                    .map_err(RegistryError::io("remove", path))?;
                Ok::<_, RegistryError>(Some((blob, sent)))
            }
        })
        .collect();
    // In the order of the disk: the manifest must be the same each time.
    let sent: Vec<Option<(Descriptor, Sent)>> = futures_util::stream::iter(jobs)
        .buffered(registry.options().parallel.max(1))
        .try_collect()
        .watched(progress, &gauges)
        .await?;
    let (mut tally, mut layers) = (Tally::default(), Vec::new());
    for (blob, sent) in sent.into_iter().flatten() {
        tally.add(sent);
        layers.push(blob);
    }

    let config = artifact.image_manifest.map(|bytes| {
        (
            Descriptor::of(media::IMAGE_MANIFEST, &bytes),
            Source::Bytes(Bytes::from(bytes)),
        )
    });
    let mut annotations = artifact.annotations;
    annotations.insert(SIZE.into(), size.to_string());
    annotations.insert(DISK_DIGEST.into(), digest);
    // The pieces' files are gone; only their descriptors are needed now.
    let layers: Vec<(Descriptor, Source)> = layers
        .into_iter()
        .map(|blob| (blob, Source::Bytes(Bytes::new())))
        .collect();
    let pieces: Vec<String> = layers.iter().map(|(blob, _)| blob.digest.clone()).collect();
    let content = Content::artifact(media::DISK, config, layers, artifact.subject, annotations)?;
    for (blob, source) in &content.blobs {
        if !pieces.contains(&blob.digest) {
            tally.add(registry.push_blob(blob, source, others).await?);
        }
    }
    content.push_manifests(registry, tags, tally).await
}

/// Compresses a range of a disk into a file; `None` if it is all zeros.
fn pack(
    disk: &dyn DiskReader,
    (offset, length): (u64, u64),
    target: &Utf8Path,
    stop: &Stop,
) -> Result<Option<Descriptor>> {
    if is_hole(disk, (offset, length))? {
        return Ok(None);
    }
    let bad = |action| RegistryError::io(action, target);
    let file = File::create(target).map_err(bad("create"))?;
    let out = Hashing {
        out: BufWriter::new(file),
        hash: Sha256::new(),
        length: 0,
    };
    let mut encoder = zstd::Encoder::new(out, LEVEL).map_err(bad("write"))?;
    encoder.include_checksum(true).map_err(bad("write"))?;
    let mut block = vec![0; BLOCK];
    let mut hash = Sha256::new();
    let (mut at, end, mut zero) = (offset, offset + length, true);
    while at < end {
        if stop.is_set() {
            return Ok(None);
        }
        let count = usize::try_from(end - at).unwrap_or(BLOCK).min(BLOCK);
        let part = &mut block[..count];
        let extent = disk
            .extent_at(at)
            .map_err(disk_error("read the disk's map"))?;
        if extent.kind.is_empty() && extent.end() >= at + count as u64 {
            part.fill(0);
        } else {
            disk.read_at(part, at)
                .map_err(disk_error("read the disk"))?;
            zero &= is_zero(part);
        }
        hash.update(&*part);
        encoder.write_all(part).map_err(bad("write"))?;
        at += count as u64;
    }
    let mut out = encoder.finish().map_err(bad("write"))?;
    out.out.flush().map_err(bad("write"))?;
    if zero {
        std::fs::remove_file(target).map_err(bad("remove"))?;
        return Ok(None);
    }
    Ok(Some(Descriptor {
        media_type: media::DISK_PIECE.into(),
        digest: format!("sha256:{}", hex::encode(out.hash.finalize())),
        size: out.length,
        artifact_type: None,
        platform: None,
        annotations: BTreeMap::from([
            (OFFSET.into(), offset.to_string()),
            (LENGTH.into(), length.to_string()),
            (
                DIGEST.into(),
                format!("sha256:{}", hex::encode(hash.finalize())),
            ),
        ]),
    }))
}

/// Whether a disk's map says that there is nothing in a range.
fn is_hole(disk: &dyn DiskReader, (offset, length): (u64, u64)) -> Result<bool> {
    let (mut at, end) = (offset, offset + length);
    while at < end {
        let extent = disk
            .extent_at(at)
            .map_err(disk_error("read the disk's map"))?;
        if !extent.kind.is_empty() {
            return Ok(false);
        }
        at = extent.end();
    }
    Ok(true)
}

/// The pieces of a manifest, checked: in order, without overlap, within the disk. With the disk's size and digest.
///
/// # Errors
/// [`RegistryError::BadContent`].
pub fn pieces(manifest: &Manifest) -> Result<(u64, String, Vec<Piece>)> {
    let bad = |reason: String| RegistryError::content("the disk's manifest", reason);
    let number = |annotations: &BTreeMap<String, String>, key: &str| {
        annotations
            .get(key)
            .and_then(|text| text.parse::<u64>().ok())
            .ok_or_else(|| bad(format!("has no number in {key}")))
    };
    let size = number(&manifest.annotations, SIZE)?;
    if size == 0 || size > MAX_SIZE {
        return Err(bad(format!("is about a disk of {size} bytes")));
    }
    let digest = manifest
        .annotations
        .get(DISK_DIGEST)
        .cloned()
        .ok_or_else(|| bad(format!("has no {DISK_DIGEST}")))?;
    let mut found = Vec::new();
    let mut end = 0;
    for blob in manifest
        .layers
        .iter()
        .filter(|blob| blob.media_type != media::EMPTY)
    {
        if blob.media_type != media::DISK_PIECE {
            return Err(bad(format!("has a layer of type {}", blob.media_type)));
        }
        blob.hex()?;
        let piece = Piece {
            offset: number(&blob.annotations, OFFSET)?,
            length: number(&blob.annotations, LENGTH)?,
            digest: blob
                .annotations
                .get(DIGEST)
                .cloned()
                .ok_or_else(|| bad(format!("has a piece without {DIGEST}")))?,
            blob: blob.clone(),
        };
        let fits = piece.offset >= end
            && (1..=PIECE).contains(&piece.length)
            && piece
                .offset
                .checked_add(piece.length)
                .is_some_and(|end| end <= size);
        if !fits {
            return Err(bad(format!(
                "has a piece of {} bytes at {}, where none can be",
                piece.length, piece.offset
            )));
        }
        end = piece.offset + piece.length;
        found.push(piece);
    }
    Ok((size, digest, found))
}

/// Fetches a disk into a sparse raw file. `folder` keeps the pieces until the disk is whole: a further attempt fetches only
/// the rest. The digest of the finished disk is verified.
///
/// # Errors
/// [`RegistryError::BadContent`], [`RegistryError::DigestMismatch`], or what the registry says.
pub async fn pull(
    registry: &Registry,
    manifest: &Manifest,
    folder: &Utf8Path,
    target: &Utf8Path,
    progress: &dyn Progress,
) -> Result<()> {
    let (size, digest, pieces) = pieces(manifest)?;
    File::create(target)
        .and_then(|file| file.set_len(size))
        .map_err(RegistryError::io("create", target))?;
    let total: u64 = pieces.iter().map(|piece| piece.blob.size).sum();
    // What an earlier attempt has left counts as arrived.
    let there: u64 = pieces.iter().map(|piece| arrived_of(piece, folder)).sum();
    let arrived = AtomicU64::new(there);
    progress.stage("fetch the disk");
    let count = |bytes: u64| {
        let done = arrived.fetch_add(bytes, Ordering::Relaxed) + bytes;
        progress.bytes(done.min(total), Some(total));
    };
    let count: &(dyn Fn(u64) + Sync) = &count;
    // Pieces with the same bytes are the same blob: one file, fetched once.
    let mut blobs: BTreeMap<String, Vec<Piece>> = BTreeMap::new();
    for piece in pieces {
        blobs
            .entry(piece.blob.hex()?.to_owned())
            .or_default()
            .push(piece);
    }
    let jobs: Vec<_> = blobs
        .into_iter()
        .map(|(hex, pieces)| async move {
            let path = folder.join(hex);
            if let Some(first) = pieces.first() {
                registry.fetch_blob(&first.blob, &path, count).await?;
            }
            let target = target.to_owned();
            blocking(move || {
                pieces
                    .iter()
                    .try_for_each(|piece| unpack(piece, &path, &target))
            })
            .await
        })
        .collect();
    let mut jobs =
        futures_util::stream::iter(jobs).buffer_unordered(registry.options().parallel.max(1));
    while jobs.try_next().await?.is_some() {}

    progress.stage("verify");
    let path = target.to_owned();
    let actual = blocking(move || {
        // Not probed: what a guest wrote into its first sector must not turn its disk into an image of another format.
        let raw = OpenOptions::new().format(Format::Raw);
        let disk = ovenbird_disk::open_with(path.as_std_path(), &raw)
            .map_err(disk_error("read the disk"))?;
        ovenbird_disk::disk_digest(&*disk, &ovenbird_disk::NoProgress)
            .map_err(disk_error("digest the disk"))
    })
    .await?;
    super::download::verify("the disk", &digest, actual.to_string())
}

fn arrived_of(piece: &Piece, folder: &Utf8Path) -> u64 {
    let path = piece.blob.hex().map(|hex| folder.join(hex));
    let length = path.ok().and_then(|path| std::fs::metadata(path).ok());
    length.map_or(0, |data| data.len().min(piece.blob.size))
}

/// Writes a piece to its place. Never more than the piece is said to have: a small blob can unfold to anything.
fn unpack(piece: &Piece, path: &Utf8Path, target: &Utf8Path) -> Result<()> {
    let bad = |action| RegistryError::io(action, path);
    let source = BufReader::new(File::open(path).map_err(bad("open"))?);
    let mut decoder = zstd::Decoder::with_buffer(source)
        .map_err(bad("read"))?
        .take(piece.length + 1);
    let out = File::options()
        .write(true)
        .open(target)
        .map_err(RegistryError::io("open", target))?;
    let mut block = vec![0; BLOCK];
    let (mut hash, mut done) = (Sha256::new(), 0u64);
    loop {
        let count = decoder.read(&mut block).map_err(bad("read"))?;
        if count == 0 {
            break;
        }
        if done + count as u64 > piece.length {
            return Err(RegistryError::content(
                &piece.blob.digest,
                format!("holds more than {} bytes", piece.length),
            ));
        }
        hash.update(&block[..count]);
        if !is_zero(&block[..count]) {
            out.write_all_at(&block[..count], piece.offset + done)
                .map_err(RegistryError::io("write", target))?;
        }
        done += count as u64;
    }
    let actual = format!("sha256:{}", hex::encode(hash.finalize()));
    super::download::verify(
        &format!("the piece at {}", piece.offset),
        &piece.digest,
        actual,
    )
}

/// Counts and digests what passes.
struct Hashing<W> {
    out: W,
    hash: Sha256,
    length: u64,
}

impl<W: std::io::Write> std::io::Write for Hashing<W> {
    fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
        let count = self.out.write(part)?;
        self.hash.update(&part[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
