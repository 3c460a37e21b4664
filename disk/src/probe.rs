//! Which format a file has, and opening it with its backing chain.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::error::Context;
use crate::qcow2::Qcow2Reader;
use crate::raw::RawReader;
use crate::vhd::VhdReader;
use crate::vhdx::VhdxReader;
use crate::{DiskReader, Error, Result};

/// A disk image format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Bytes as they are.
    Raw,
    /// QEMU copy-on-write, version 2 or 3.
    Qcow2,
    /// VMware disk.
    Vmdk,
    /// Microsoft virtual hard disk.
    Vhd,
    /// Microsoft virtual hard disk, version 2.
    Vhdx,
}

impl Format {
    /// Every format, in the order in which help lists them.
    pub const ALL: [Self; 5] = [Self::Raw, Self::Qcow2, Self::Vmdk, Self::Vhd, Self::Vhdx];

    /// The name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "vpc" => Ok(Self::Vhd),
            _ => Self::ALL
                .into_iter()
                .find(|f| f.name() == name)
                .ok_or_else(|| Error::not_found(format!("unknown disk format {name:?}"))),
        }
    }
}

/// How to open an image.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    format: Option<Format>,
    backing_roots: Vec<PathBuf>,
    no_backing: bool,
}

/// More layers than any sane chain has; each costs a file handle and a table.
const MAX_CHAIN: usize = 256;

impl OpenOptions {
    /// Probes the format and allows backing files inside of the image's own folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the file as this format instead of probing. A disk whose guest could have written an image header into
    /// its first sector must be opened as [`Format::Raw`] in this way.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// Allows backing files below this folder too.
    #[must_use]
    pub fn backing_root(mut self, folder: impl Into<PathBuf>) -> Self {
        self.backing_roots.push(folder.into());
        self
    }

    /// Refuses any backing file.
    #[must_use]
    pub fn no_backing(mut self) -> Self {
        self.no_backing = true;
        self
    }
}

/// An open image: the reader with what was found out about it.
#[derive(Clone)]
pub struct Image {
    /// Reads the virtual disk.
    pub reader: Arc<dyn DiskReader>,
    /// The format of the top file.
    pub format: Format,
    /// The files that the disk is made of, the top one first.
    pub files: Vec<PathBuf>,
    /// Format-specific facts as name and value, for people.
    pub details: Vec<(&'static str, String)>,
}

/// Opens an image, whatever its format, with backing files allowed inside of its own folder.
pub fn open(path: &Path) -> Result<Arc<dyn DiskReader>> {
    open_with(path, &OpenOptions::new())
}

/// Opens an image by options.
pub fn open_with(path: &Path, options: &OpenOptions) -> Result<Arc<dyn DiskReader>> {
    open_image(path, options).map(|image| image.reader)
}

/// Opens an image and keeps what is known about it.
pub fn open_image(path: &Path, options: &OpenOptions) -> Result<Image> {
    let mut opener = Opener {
        options,
        roots: Vec::new(),
        seen: Vec::new(),
        files: Vec::new(),
    };
    let canonical = path
        .canonicalize()
        .map_err(|e| Error::path("open", path, e))?;
    for root in &options.backing_roots {
        opener.roots.push(
            root.canonicalize()
                .map_err(|e| Error::path("open the folder", root, e))?,
        );
    }
    if let Some(parent) = canonical.parent() {
        opener.roots.push(parent.to_owned());
    }
    opener
        .open(&canonical, options.format)
        .context_with(|| path.display().to_string())
}

/// Finds a file's format by its magic bytes.
pub fn probe(file: &File) -> Result<Format> {
    let length = file
        .metadata()
        .map_err(|e| Error::io("read metadata", e))?
        .len();
    let mut head = [0u8; 512];
    let got = read_up_to(file, &mut head, 0)?;
    let head = &head[..got];
    if head.starts_with(b"QFI\xfb") {
        return Ok(Format::Qcow2);
    }
    if head.starts_with(b"KDMV") || head.starts_with(b"# Disk DescriptorFile") {
        return Ok(Format::Vmdk);
    }
    if head.starts_with(b"COWD") {
        return Err(Error::unsupported("VMDK of the old ESX kind (COWD)"));
    }
    if head.starts_with(b"vhdxfile") {
        return Ok(Format::Vhdx);
    }
    if head.starts_with(b"conectix") {
        return Ok(Format::Vhd);
    }
    // A fixed VHD has only its footer.
    if length >= 512 {
        let mut footer = [0u8; 8];
        if read_up_to(file, &mut footer, length - 512)? == 8 && &footer == b"conectix" {
            return Ok(Format::Vhd);
        }
    }
    Ok(Format::Raw)
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset + crate::bytes::len64(got)) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("read the first bytes", e)),
        }
    }
    Ok(got)
}

/// Opens a chain: remembers which files are in it and where backing files may be.
struct Opener<'a> {
    options: &'a OpenOptions,
    roots: Vec<PathBuf>,
    seen: Vec<(u64, u64)>,
    files: Vec<PathBuf>,
}

impl Opener<'_> {
    fn open(&mut self, path: &Path, format: Option<Format>) -> Result<Image> {
        let file = File::open(path).map_err(|e| Error::path("open", path, e))?;
        let metadata = file
            .metadata()
            .map_err(|e| Error::path("read metadata of", path, e))?;
        let id = (metadata.dev(), metadata.ino());
        if self.seen.contains(&id) {
            return Err(Error::invalid("the backing chain loops back to this file"));
        }
        if self.seen.len() >= MAX_CHAIN {
            return Err(Error::limit(format!(
                "backing chain of more than {MAX_CHAIN} files"
            )));
        }
        self.seen.push(id);
        self.files.push(path.to_owned());
        let format = match format {
            Some(format) => format,
            None => probe(&file)?,
        };
        let (reader, details): (Arc<dyn DiskReader>, _) = match format {
            Format::Raw => (Arc::new(RawReader::new(file)?), Vec::new()),
            Format::Qcow2 => {
                let mut disk = Qcow2Reader::new(file)?;
                if let Some(backing) = disk.backing_file() {
                    let format = disk.backing_format();
                    disk.set_backing(self.open_backing(path, &backing, format.as_deref())?.reader);
                }
                let details = disk.details();
                (Arc::new(disk), details)
            }
            Format::Vmdk => crate::vmdk::open(file, path)?,
            Format::Vhd => {
                let disk = VhdReader::new(file)?;
                let details = disk.details();
                (Arc::new(disk), details)
            }
            Format::Vhdx => {
                let disk = VhdxReader::new(file)?;
                let details = disk.details();
                (Arc::new(disk), details)
            }
        };
        Ok(Image {
            reader,
            format,
            files: self.files.clone(),
            details,
        })
    }

    fn open_backing(&mut self, overlay: &Path, name: &str, format: Option<&str>) -> Result<Image> {
        if self.options.no_backing {
            return Err(Error::refused(format!(
                "backing file {name:?}: backing files are not allowed here"
            )));
        }
        // QEMU takes `json:…` and `protocol:…` here; a file name with a colon is written `./a:b` by it.
        if let Some((scheme, _)) = name.split_once(':')
            && !scheme.contains('/')
        {
            return Err(Error::unsupported(format!(
                "backing file {name:?}: only local files"
            )));
        }
        let folder = overlay.parent().unwrap_or(Path::new("/"));
        let joined = folder.join(name);
        let path = joined
            .canonicalize()
            .map_err(|e| Error::path("open the backing file", &joined, e))?;
        if !self.roots.iter().any(|root| path.starts_with(root)) {
            return Err(Error::refused(format!(
                "backing file {} lies outside of the folders allowed for it",
                path.display()
            )));
        }
        if !path.is_file() {
            return Err(Error::refused(format!(
                "backing file {} is no regular file",
                path.display()
            )));
        }
        // Without a format in the header a raw base must not be probed: its guest could have written a header that
        // names any file of the host.
        let format = match format {
            Some(name) => name.parse()?,
            None => {
                let file = File::open(&path).map_err(|e| Error::path("open", &path, e))?;
                let found = probe(&file)?;
                if found == Format::Qcow2 {
                    found
                } else {
                    Format::Raw
                }
            }
        };
        self.open(&path, Some(format))
            .context_with(|| format!("backing file {}", path.display()))
    }
}
