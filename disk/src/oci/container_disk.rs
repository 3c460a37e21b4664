//! A virtual machine's disk as a container image: one file below `/disk/`, as KubeVirt takes it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::layer::{self, Stream};
use super::layout::Layout;
use super::{ExportOptions, Summary};
use crate::output::temporary_name;
use crate::tar::{self, Header, Kind};
use crate::{
    ConvertOptions, DiskReader, Error, NoProgress, Progress, QcowCompression, Result, Target,
    convert,
};

/// The user and group `qemu` of KubeVirt's launcher, which opens the disk.
const QEMU: u32 = 107;

/// The format of the disk in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskFile {
    /// `/disk/disk.qcow2`, its clusters compressed with Zstandard.
    #[default]
    Qcow2,
    /// `/disk/disk.img`.
    Raw,
}

impl DiskFile {
    fn path(self) -> &'static [u8] {
        match self {
            Self::Qcow2 => b"disk/disk.qcow2",
            Self::Raw => b"disk/disk.img",
        }
    }

    fn target(self) -> Target {
        match self {
            Self::Qcow2 => Target::Qcow2 {
                compression: Some(QcowCompression::Zstd(3)),
            },
            Self::Raw => Target::Raw,
        }
    }
}

/// Writes a disk as a containerDisk: an image from scratch with the disk as its only file, owned by 107:107.
///
/// Of the options, those of the tree don't matter. The file's time is the configuration's `created`, or 1970.
pub fn export_container_disk(
    reader: &dyn DiskReader,
    disk_file: DiskFile,
    options: &ExportOptions,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Summary> {
    // A tar header needs the length before the first byte: the disk is written beside the image first.
    let scratch = Scratch(temporary_name(&out.with_extension("disk")));
    let settings = ConvertOptions {
        threads: options.threads,
        durable: false,
        sha256: false,
        verify: true,
    };
    convert(reader, &disk_file.target(), &settings, &scratch.0, progress)?;
    let file = File::open(&scratch.0).map_err(|e| Error::path("open", &scratch.0, e))?;
    let size = file
        .metadata()
        .map_err(|e| Error::io("read metadata", e))?
        .len();
    let layout = Layout::create(out, options.form)?;
    let mtime = options.config.created.unwrap_or_default();
    let layer = layer::pack(options, &layout, &NoProgress, |out: &mut Stream<'_>| {
        let header = |path: &'static [u8], kind, mode, owner, size| {
            Header {
                path,
                kind,
                mode,
                uid: owner,
                gid: owner,
                size,
                mtime,
                records: Vec::new(),
            }
            .encode()
        };
        out.put(&header(b"disk/", Kind::Directory, 0o755, 0, 0)?)?;
        out.put(&header(disk_file.path(), Kind::File, 0o440, QEMU, size)?)?;
        out.fill(size, |part, offset| {
            file.read_exact_at(part, offset)
                .map_err(|e| Error::io("read the disk back", e))
        })?;
        out.put(&tar::END[..tar::padding(size)])?;
        Ok(layer::Counts {
            entries: 2,
            skipped_sockets: 0,
        })
    })?;
    super::complete(layout, layer, options)
}

/// A file that goes when the work ends, however it ends.
struct Scratch(std::path::PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing more can be done about a file that does not go away.
        let _ = std::fs::remove_file(&self.0);
    }
}
