//! From any reader to one or several files, in one pass over the source.
//!
//! The source is walked by its allocation map in blocks of 1 MiB. Workers read, find zeros, hash and compress; one
//! thread writes, in order. Runs of zeros never leave the map.

mod block;
mod target;
mod units;
mod writer;

use std::fs::File;
use std::io::{Read as _, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

pub(crate) use block::{BLOCK, Block, Encoding, PIECE};
pub use target::{DEFAULT_DEFLATE_LEVEL, Profile, QcowCompression, Target};
pub(crate) use units::{Unit, Units};
pub(crate) use writer::{Sequential, Writer, write_at};

use self::block::{Encoder, Pool};
use crate::bytes::{MIB, index, len64};
use crate::digest::{DiskDigest, TreeHash, disk_digest};
use crate::error::Context;
use crate::output::{TemporaryFile, hash_file};
use crate::{DiskReader, Error, NoProgress, OpenOptions, Progress, Result, Sha256Digest, pipeline};

/// How to convert.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// Worker threads; 0 takes every core. The bytes that come out do not depend on it.
    pub threads: usize,
    /// Flush to stable storage before the file gets its name.
    pub durable: bool,
    /// Compute the SHA-256 of each file. Of a raw disk this hashes every zero, which takes longer than writing it.
    pub sha256: bool,
    /// Read each file back and compare its disk digest with the source's before it gets its name.
    pub verify: bool,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            durable: true,
            sha256: true,
            verify: true,
        }
    }
}

/// A written file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its digest, when it was asked for.
    pub sha256: Option<Sha256Digest>,
    /// Identity of the virtual disk, the same in every format.
    pub disk_digest: DiskDigest,
}

/// Writes a disk to one file. It appears under its name when it is whole (and verified, when that is asked for).
pub fn convert(
    reader: &dyn DiskReader,
    target: &Target,
    options: &ConvertOptions,
    path: &Path,
    progress: &dyn Progress,
) -> Result<Written> {
    let written = convert_many(
        reader,
        &[(target.clone(), path.to_owned())],
        options,
        progress,
    )?;
    written
        .into_iter()
        .next()
        .ok_or_else(|| Error::invalid("no output"))
}

/// Writes a disk to several files in one pass over the source. Either all of them appear or none.
pub fn convert_many(
    reader: &dyn DiskReader,
    outputs: &[(Target, PathBuf)],
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<Vec<Written>> {
    let size = reader.virtual_size();
    let mut files = Vec::new();
    for (target, path) in outputs {
        target
            .check(size)
            .context_with(|| path.display().to_string())?;
        files.push(TemporaryFile::create(path)?);
    }
    let mut hashes = Vec::new();
    let digest = {
        let mut writers = Vec::new();
        for ((target, path), file) in outputs.iter().zip(&files) {
            writers.push(target.writer(file.file(), path, size, options.sha256)?);
        }
        let digest = run(reader, &mut writers, options, progress)?;
        for ((mut writer, file), (_, path)) in writers.into_iter().zip(&files).zip(outputs) {
            let known = writer
                .finish(&digest)
                .context_with(|| path.display().to_string())?;
            hashes.push((known, file));
        }
        digest
    };
    let mut finished = Vec::new();
    for ((known, file), (target, path)) in hashes.into_iter().zip(outputs) {
        let (bytes, sha256) = settle(file, target, known, &digest, options)
            .context_with(|| path.display().to_string())?;
        finished.push(Written {
            path: path.clone(),
            bytes,
            sha256,
            disk_digest: digest,
        });
    }
    for file in files {
        file.commit(options.durable)?;
    }
    Ok(finished)
}

/// Writes a disk into a file that is open, as a sparse raw one.
pub(crate) fn write_raw(
    reader: &dyn DiskReader,
    file: &File,
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<DiskDigest> {
    let raw = crate::raw::RawWriter::new(file, reader.virtual_size())?;
    run(reader, &mut [Box::new(raw)], options, progress)
}

/// Hashes and verifies what was written, both at once.
fn settle(
    file: &TemporaryFile,
    target: &Target,
    known: Option<Sha256Digest>,
    digest: &DiskDigest,
    options: &ConvertOptions,
) -> Result<(u64, Option<Sha256Digest>)> {
    let length = file
        .file()
        .metadata()
        .map_err(|e| Error::io("read metadata", e))?
        .len();
    thread::scope(|scope| {
        let hash =
            (options.sha256 && known.is_none()).then(|| scope.spawn(|| hash_file(file.file())));
        if options.verify {
            verify(file.path(), target, digest)?;
        }
        let sha256 = match hash.map(thread::ScopedJoinHandle::join) {
            Some(Ok(hash)) => Some(hash?.1),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => known,
        };
        Ok((length, sha256))
    })
}

fn verify(path: &Path, target: &Target, wanted: &DiskDigest) -> Result<()> {
    let options = OpenOptions::new().no_backing();
    let reader = match target.format() {
        Some(format) => crate::open_with(path, &options.format(format))?,
        None => crate::ova::open_disk(path)?,
    };
    let found = disk_digest(&*reader, &NoProgress)?;
    if found != *wanted {
        return Err(Error::invalid(format!(
            "read back, the disk's digest is {found}, not {wanted}"
        )));
    }
    Ok(())
}

/// Writes a disk to a sink that cannot seek. The bytes of raw, VMDK and fixed VHD come in order; the other formats, whose
/// tables are known last and come first, go through a file in the folder for temporary files.
pub fn stream(
    reader: &dyn DiskReader,
    target: &Target,
    options: &ConvertOptions,
    sink: &mut (dyn Write + Send),
    progress: &dyn Progress,
) -> Result<(u64, Sha256Digest, DiskDigest)> {
    let size = reader.virtual_size();
    target.check(size)?;
    if !target.is_sequential() {
        return stream_by_file(reader, target, options, sink, progress);
    }
    let sequential = Sequential::stream(sink);
    let mut writers = vec![target.stream_writer(sequential, size)?];
    let digest = run(reader, &mut writers, options, progress)?;
    let mut hashing = None;
    let mut bytes = 0;
    for writer in &mut writers {
        hashing = writer.finish(&digest)?;
        bytes = writer.position();
    }
    let hash = hashing.ok_or_else(|| Error::invalid("a stream without a digest"))?;
    Ok((bytes, hash, digest))
}

fn stream_by_file(
    reader: &dyn DiskReader,
    target: &Target,
    options: &ConvertOptions,
    sink: &mut (dyn Write + Send),
    progress: &dyn Progress,
) -> Result<(u64, Sha256Digest, DiskDigest)> {
    let folder = ScratchFolder::create()?;
    let path = folder.0.join(format!("disk.{}", target.extension()));
    let options = ConvertOptions {
        durable: false,
        ..options.clone()
    };
    let written = convert(reader, target, &options, &path, progress)?;
    let mut file = File::open(&path).map_err(|e| Error::io("open the stream's file", e))?;
    let mut sink = Sequential::stream(sink);
    let mut buffer = vec![0; index(MIB)];
    loop {
        let got = file
            .read(&mut buffer)
            .map_err(|e| Error::io("read the stream's file", e))?;
        if got == 0 {
            break;
        }
        sink.put(&buffer[..got])?;
    }
    let sha256 = sink
        .finish()?
        .ok_or_else(|| Error::invalid("a stream without a digest"))?;
    Ok((written.bytes, sha256, written.disk_digest))
}

/// A folder of our own for temporary files.
struct ScratchFolder(PathBuf);

impl ScratchFolder {
    fn create() -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ovenbird-stream-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Fails if somebody else has put something there.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|e| Error::io(format!("create {}", path.display()), e))?;
        Ok(Self(path))
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The pass over the source.
fn run(
    reader: &dyn DiskReader,
    writers: &mut [Box<dyn Writer + '_>],
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<DiskDigest> {
    let size = reader.virtual_size();
    progress.begin(size);
    let threads = if options.threads == 0 {
        pipeline::default_threads()
    } else {
        options.threads
    };
    let mut encodings: Vec<Encoding> = writers.iter().map(|w| w.encoding()).collect();
    encodings.sort();
    encodings.dedup();
    let mut in_place = Vec::new();
    for writer in writers.iter() {
        in_place.extend(writer.in_place()?);
    }
    let pool = Pool::default();
    let mut tree = TreeHash::default();
    pipeline::ordered(
        threads,
        Units::new(reader),
        || {
            let mut encoder = Encoder::new(&encodings);
            let (pool, in_place) = (&pool, &in_place);
            move |unit| match unit {
                Unit::Zeros { first, count } => Ok(Step::Zeros { first, count }),
                Unit::Block(number) => {
                    let block = encoder.encode(reader, number, pool)?;
                    for file in in_place {
                        for (at, data) in block.data_runs() {
                            write_at(file, data, block.offset() + at)?;
                        }
                    }
                    Ok(Step::Block(Box::new(block)))
                }
            }
        },
        |step| {
            if progress.is_cancelled() {
                return Err(Error::cancelled());
            }
            match step {
                Step::Zeros { first, count } => {
                    for writer in writers.iter_mut() {
                        writer.zeros(first, count)?;
                    }
                    tree.push_zeros(count);
                    progress.advance((count * BLOCK).min(size - first * BLOCK));
                }
                Step::Block(block) => {
                    for writer in writers.iter_mut() {
                        writer.block(&block)?;
                    }
                    tree.push(block.leaf);
                    progress.advance(len64(block.data.len()));
                    pool.give(*block);
                }
            }
            Ok(())
        },
    )?;
    Ok(tree.finish(size))
}

enum Step {
    Zeros { first: u64, count: u64 },
    Block(Box<Block>),
}

/// Makes a file of a length, as a hole.
pub(crate) fn set_length(file: &File, length: u64) -> Result<()> {
    file.set_len(length)
        .map_err(|e| Error::io(format_args!("grow the file to {length} bytes"), e))
}
