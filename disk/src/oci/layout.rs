//! Where an image goes: a folder in the OCI image layout, or the same as one tar archive.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::documents::{Blob, LAYOUT_FILE, Typed};
use crate::bytes::len64;
use crate::convert::write_at;
use crate::output::{TemporaryFile, sync_parent, temporary_name};
use crate::tar::{self, Header, Kind};
use crate::{Error, Result, Sha256Digest};

/// The form of an image on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// A folder in the image layout; it must not exist, or be empty.
    #[default]
    Folder,
    /// A tar archive of that folder, as `podman load` and `skopeo copy oci-archive:` take it.
    Archive,
}

/// An image that is being written beside its final place. It appears there whole, or not at all.
pub(super) enum Layout {
    Folder(Folder),
    Archive(Archive),
}

pub(super) struct Folder {
    temporary: PathBuf,
    target: PathBuf,
    finished: bool,
}

pub(super) struct Archive {
    file: TemporaryFile,
    end: Cell<u64>,
}

impl Layout {
    pub(super) fn create(target: &Path, form: Form) -> Result<Self> {
        match form {
            Form::Folder => Folder::create(target).map(Self::Folder),
            Form::Archive => Archive::create(target).map(Self::Archive),
        }
    }

    /// Begins a blob of unknown digest. There is one at a time.
    pub(super) fn blob(&self) -> Result<BlobWriter<'_>> {
        let file = match self {
            Self::Folder(folder) => {
                let path = folder.partial();
                File::create_new(&path).map_err(|e| Error::path("create", &path, e))?
            }
            Self::Archive(archive) => {
                let mut file = archive
                    .file
                    .file()
                    .try_clone()
                    .map_err(|e| Error::io("share the archive", e))?;
                // The header's block stays free until size and digest are known.
                file.seek(SeekFrom::Start(archive.end.get() + tar::BLOCK))
                    .map_err(|e| Error::io("seek in the archive", e))?;
                file
            }
        };
        Ok(BlobWriter {
            file: BufWriter::new(file),
            layout: self,
            hash: Sha256::new(),
            size: 0,
        })
    }

    /// Stores JSON as a blob.
    pub(super) fn put(&self, content: &Typed) -> Result<Blob> {
        let digest = Sha256Digest::of(&content.bytes);
        self.write(&blob_path(&digest), &content.bytes)?;
        Ok(Blob {
            media_type: content.media_type.to_owned(),
            digest,
            size: len64(content.bytes.len()),
        })
    }

    fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Folder(folder) => {
                let path = folder.temporary.join(path);
                File::create(&path)
                    .and_then(|mut file| {
                        file.write_all(bytes)?;
                        file.sync_all()
                    })
                    .map_err(|e| Error::path("write", &path, e))
            }
            Self::Archive(archive) => {
                write_at(archive.file.file(), bytes, archive.end.get() + tar::BLOCK)?;
                archive.close_member(path, len64(bytes.len()))
            }
        }
    }

    /// Writes the index and gives the image its name.
    pub(super) fn finish(self, index: &Typed) -> Result<()> {
        self.write("index.json", &index.bytes)?;
        self.write("oci-layout", LAYOUT_FILE)?;
        match self {
            Self::Folder(folder) => folder.finish(),
            Self::Archive(archive) => {
                write_at(archive.file.file(), &tar::END, archive.end.get())?;
                archive.file.commit(true)
            }
        }
    }
}

/// Where a blob lies in a layout.
fn blob_path(digest: &Sha256Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl Folder {
    fn create(target: &Path) -> Result<Self> {
        let is_free = match fs::read_dir(target) {
            Ok(mut entries) => entries.next().is_none(),
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        };
        if !is_free {
            return Err(Error::refused(format!(
                "{} is there already",
                target.display()
            )));
        }
        let this = Self {
            temporary: temporary_name(target),
            target: target.to_owned(),
            finished: false,
        };
        let blobs = this.temporary.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(|e| Error::path("create", &blobs, e))?;
        Ok(this)
    }

    fn partial(&self) -> PathBuf {
        self.temporary.join("layer.partial")
    }

    fn finish(mut self) -> Result<()> {
        sync_parent(&self.temporary.join("blobs/sha256/x"))?;
        fs::rename(&self.temporary, &self.target)
            .map_err(|e| Error::path("rename to", &self.target, e))?;
        self.finished = true;
        sync_parent(&self.target)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing more can be done about a folder that does not go away.
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

impl Archive {
    fn create(target: &Path) -> Result<Self> {
        let this = Self {
            file: TemporaryFile::create(target)?,
            end: Cell::new(0),
        };
        for folder in ["blobs/", "blobs/sha256/"] {
            let header = Header {
                path: folder.as_bytes(),
                kind: Kind::Directory,
                mode: 0o755,
                uid: 0,
                gid: 0,
                size: 0,
                mtime: 0,
                records: Vec::new(),
            }
            .encode()?;
            write_at(this.file.file(), &header, this.end.get())?;
            this.end.set(this.end.get() + len64(header.len()));
        }
        Ok(this)
    }

    /// Puts the header in front of content that was written one block behind the end, and fills its last block up.
    fn close_member(&self, path: &str, size: u64) -> Result<()> {
        let start = self.end.get();
        let content_end = start + tar::BLOCK + size;
        write_at(
            self.file.file(),
            &tar::file_header(path.as_bytes(), size)?,
            start,
        )?;
        let padding = tar::padding(size);
        write_at(self.file.file(), &tar::END[..padding], content_end)?;
        self.end.set(content_end + len64(padding));
        Ok(())
    }
}

/// A blob on its way to its digest.
pub(super) struct BlobWriter<'a> {
    file: BufWriter<File>,
    layout: &'a Layout,
    hash: Sha256,
    size: u64,
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.file.write(bytes)?;
        self.hash.update(&bytes[..taken]);
        self.size += len64(taken);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl BlobWriter<'_> {
    /// Stores the blob under its digest. The caller names its media type.
    pub(super) fn finish(self) -> Result<Blob> {
        let digest = Sha256Digest::finish(self.hash);
        let file = self
            .file
            .into_inner()
            .map_err(|e| Error::io("write the layer", e.into_error()))?;
        match self.layout {
            Layout::Folder(folder) => {
                let path = folder.partial();
                file.sync_all().map_err(|e| Error::path("sync", &path, e))?;
                let target = folder.temporary.join(blob_path(&digest));
                fs::rename(&path, &target).map_err(|e| Error::path("rename to", &target, e))?;
            }
            Layout::Archive(archive) => archive.close_member(&blob_path(&digest), self.size)?,
        }
        Ok(Blob {
            media_type: String::new(),
            digest,
            size: self.size,
        })
    }
}
