//! Reading VMDK.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use libdeflater::Decompressor;

use super::descriptor::Descriptor;
use super::sparse::SparseHeader;
use super::{GD_AT_END, Marker};
use crate::bytes::{Fields, SECTOR, index, len64};
use crate::error::Context;
use crate::raw::{RawReader, read_padded};
use crate::reader::check_bounds;
use crate::{DiskReader, Error, Extent, ExtentKind, Result, Window};

/// A descriptor is a page or two of text.
const MAX_DESCRIPTOR: u64 = 1 << 20;
/// Covers 2 TiB in grains of 64 KiB, and keeps a hostile header from taking the memory of the machine.
const MAX_TABLE_BYTES: u64 = 128 << 20;

/// Format-specific facts as name and value.
type Details = Vec<(&'static str, String)>;

/// Opens a VMDK: one sparse file, or a descriptor with its extents in the same folder.
pub(crate) fn open(file: File, path: &Path) -> Result<(Arc<dyn DiskReader>, Details)> {
    let length = file
        .metadata()
        .map_err(|e| Error::io("read metadata", e))?
        .len();
    let mut head = vec![0u8; 512];
    read_padded(&file, &mut head, 0, length)?;
    if head.starts_with(b"KDMV") {
        let sparse = SparseReader::new(file, 0, length)?;
        let descriptor = sparse.descriptor()?.unwrap_or_default();
        if descriptor.has_parent() {
            return Err(Error::unsupported(
                "VMDK that is a snapshot of another disk",
            ));
        }
        if descriptor.extents.len() > 1 {
            return Err(Error::unsupported(
                "VMDK whose first extent holds the descriptor of several",
            ));
        }
        let details = vec![
            ("subformat", descriptor.create_type),
            ("version", sparse.header.version.to_string()),
        ];
        return Ok((Arc::new(sparse), details));
    }
    if length > MAX_DESCRIPTOR {
        return Err(Error::invalid(format!("descriptor of {length} bytes")));
    }
    let mut text = vec![0; index(length)];
    read_padded(&file, &mut text, 0, length)?;
    let descriptor = Descriptor::parse(&text)?;
    if descriptor.has_parent() {
        return Err(Error::unsupported(
            "VMDK that is a snapshot of another disk",
        ));
    }
    let mut parts: Vec<Part> = Vec::new();
    let mut start = 0u64;
    for line in &descriptor.extents {
        let size = line
            .sectors
            .checked_mul(SECTOR)
            .filter(|bytes| *bytes > 0 && *bytes < 1 << 52)
            .ok_or_else(|| Error::invalid(format!("extent of {} sectors", line.sectors)))?;
        let reader = match line.kind.as_str() {
            "ZERO" => None,
            kind => Some(
                open_extent(path, kind, line, size)
                    .context_with(|| format!("extent {:?}", line.file))?,
            ),
        };
        parts.push(Part {
            start,
            size,
            reader,
        });
        start += size;
    }
    if parts.is_empty() {
        return Err(Error::invalid("descriptor without extents"));
    }
    let details = vec![
        ("subformat", descriptor.create_type),
        ("extents", parts.len().to_string()),
    ];
    Ok((Arc::new(Concat { parts, size: start }), details))
}

fn open_extent(
    descriptor: &Path,
    kind: &str,
    line: &super::descriptor::ExtentLine,
    size: u64,
) -> Result<Arc<dyn DiskReader>> {
    // An extent is beside its descriptor: anything else is a way out of the folder.
    if line.file.contains('/')
        || line.file.contains('\0')
        || matches!(line.file.as_str(), "." | "..")
    {
        return Err(Error::refused(
            "the extent is not in the descriptor's folder",
        ));
    }
    let path = descriptor.with_file_name(&line.file);
    let real = path
        .canonicalize()
        .map_err(|e| Error::path("open", &path, e))?;
    let folder = descriptor.parent().map(Path::canonicalize);
    if !matches!(folder, Some(Ok(folder)) if real.parent() == Some(&folder)) || !real.is_file() {
        return Err(Error::refused(
            "the extent is no regular file in the descriptor's folder",
        ));
    }
    let file = File::open(&real).map_err(|e| Error::path("open", &path, e))?;
    match kind {
        "FLAT" | "VMFS" => {
            let start = line
                .offset
                .checked_mul(SECTOR)
                .ok_or_else(|| Error::invalid("extent offset"))?;
            Ok(Arc::new(Window::new(RawReader::new(file)?, start, size)?))
        }
        "SPARSE" => {
            let length = file
                .metadata()
                .map_err(|e| Error::io("read metadata", e))?
                .len();
            let sparse = SparseReader::new(file, 0, length)?;
            if sparse.virtual_size() < size {
                return Err(Error::invalid(format!(
                    "{} bytes, the descriptor says {size}",
                    sparse.virtual_size()
                )));
            }
            Ok(Arc::new(Window::new(sparse, 0, size)?))
        }
        other => Err(Error::unsupported(format!("VMDK extent of type {other}"))),
    }
}

struct Part {
    start: u64,
    size: u64,
    reader: Option<Arc<dyn DiskReader>>,
}

/// Extents one behind the other.
struct Concat {
    parts: Vec<Part>,
    size: u64,
}

impl Concat {
    fn part(&self, offset: u64) -> Result<&Part> {
        let number = self.parts.partition_point(|p| p.start + p.size <= offset);
        self.parts
            .get(number)
            .ok_or_else(|| Error::invalid(format!("no extent at {offset:#x}")))
    }
}

impl DiskReader for Concat {
    fn virtual_size(&self) -> u64 {
        self.size
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_bounds(self.size, 1, offset)?;
        let part = self.part(offset)?;
        let within = offset - part.start;
        match &part.reader {
            None => Ok(Extent {
                offset,
                length: part.size - within,
                kind: ExtentKind::Hole,
            }),
            Some(reader) => {
                let inner = reader.extent_at(within)?;
                Ok(Extent {
                    offset,
                    length: inner.length,
                    kind: inner.kind,
                })
            }
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_bounds(self.size, buffer.len(), offset)?;
        let (mut rest, mut offset) = (buffer, offset);
        while !rest.is_empty() {
            let part = self.part(offset)?;
            let within = offset - part.start;
            let take = index((part.size - within).min(len64(rest.len())));
            let (now, later) = rest.split_at_mut(take);
            match &part.reader {
                None => now.fill(0),
                Some(reader) => reader.read_at(now, within)?,
            }
            rest = later;
            offset += len64(take);
        }
        Ok(())
    }
}

/// One sparse extent.
pub(crate) struct SparseReader {
    file: File,
    /// Where the extent begins in the file, as in an archive.
    base: u64,
    length: u64,
    header: SparseHeader,
    size: u64,
    /// Sector of each grain; 0 for none, 1 for zeros where the header allows that.
    grains: Vec<u32>,
}

impl SparseReader {
    /// Reads header and tables of the extent in `base..base + length` of a file.
    pub(crate) fn new(file: File, base: u64, length: u64) -> Result<Self> {
        let read = |sector: u64, bytes: u64| -> Result<Vec<u8>> {
            let at = sector
                .checked_mul(SECTOR)
                .filter(|at| at.checked_add(bytes).is_some_and(|end| end <= length))
                .ok_or_else(|| {
                    Error::invalid(format!(
                        "{bytes} bytes at sector {sector} of a file of {length} bytes"
                    ))
                })?;
            let mut data = vec![0; index(bytes)];
            file.read_exact_at(&mut data, base + at)
                .map_err(|e| Error::io(format_args!("read {bytes} bytes at {at:#x}"), e))?;
            Ok(data)
        };
        let mut header = SparseHeader::parse(&read(0, SECTOR)?)?;
        if header.directory == GD_AT_END {
            // Footer marker, footer, end-of-stream marker.
            let last = (length / SECTOR)
                .checked_sub(3)
                .ok_or_else(|| Error::invalid("no room for a footer"))?;
            let marker = read(last, SECTOR)?;
            if marker != Marker::Footer.encode(1) {
                return Err(Error::invalid("no footer at the end of the stream"));
            }
            let footer = SparseHeader::parse(&read(last + 1, SECTOR)?).context_with(|| "footer")?;
            if footer.capacity != header.capacity || footer.grain_sectors != header.grain_sectors {
                return Err(Error::invalid("the footer is not that of the header"));
            }
            header = footer;
        }
        let count = header.capacity.div_ceil(header.grain_sectors);
        let per_table = u64::from(header.table_entries);
        let tables = count.div_ceil(per_table);
        if count * 4 > MAX_TABLE_BYTES {
            return Err(Error::limit(format!("{count} grains")));
        }
        let directory = read(header.directory, tables * 4)?;
        let mut grains = vec![0u32; index(count)];
        for (number, chunk) in grains.chunks_mut(index(per_table)).enumerate() {
            let at = directory.as_slice().le32(number * 4)?;
            if at == 0 {
                continue;
            }
            let table = read(at.into(), len64(chunk.len()) * 4)?;
            for (grain, bytes) in chunk.iter_mut().zip(table.chunks_exact(4)) {
                *grain = bytes.le32(0)?;
            }
        }
        let size = header.capacity * SECTOR;
        Ok(Self {
            file,
            base,
            length,
            header,
            size,
            grains,
        })
    }

    /// The embedded descriptor.
    pub(crate) fn descriptor(&self) -> Result<Option<Descriptor>> {
        let bytes = self.header.descriptor_sectors.saturating_mul(SECTOR);
        if self.header.descriptor_offset == 0 || bytes == 0 {
            return Ok(None);
        }
        if bytes > MAX_DESCRIPTOR {
            return Err(Error::invalid(format!("descriptor of {bytes} bytes")));
        }
        let mut text = vec![0; index(bytes)];
        let at = self.header.descriptor_offset.saturating_mul(SECTOR);
        read_padded(
            &self.file,
            &mut text,
            self.base.saturating_add(at),
            self.base + self.length,
        )?;
        Descriptor::parse(&text).map(Some)
    }

    fn kind(&self, grain: u64) -> ExtentKind {
        match self.grains.get(index(grain)).copied().unwrap_or(0) {
            0 => ExtentKind::Hole,
            1 if self.header.has_zeroed_grains() => ExtentKind::Zero,
            _ => ExtentKind::Data,
        }
    }

    fn read_grain(&self, number: u64, part: &mut [u8], within: u64) -> Result<()> {
        let sector = u64::from(self.grains.get(index(number)).copied().unwrap_or(0));
        let at = sector * SECTOR;
        if at >= self.length {
            return Err(Error::invalid(format!(
                "grain {number} is at {at:#x}, past the end of the file"
            )));
        }
        if !self.header.is_compressed() {
            return read_padded(
                &self.file,
                part,
                self.base + at + within,
                self.base + self.length,
            );
        }
        let mut marker = [0u8; 12];
        read_padded(
            &self.file,
            &mut marker,
            self.base + at,
            self.base + self.length,
        )?;
        let marker = marker.as_slice();
        let (packed, start) = if self.header.has_markers() {
            let lba = marker.le64(0)?;
            if lba != number * self.header.grain_sectors {
                return Err(Error::invalid(format!(
                    "grain {number} at {at:#x} says that it is sector {lba}"
                )));
            }
            (u64::from(marker.le32(8)?), 12)
        } else {
            (u64::from(marker.le32(0)?), 4)
        };
        let size = self.header.grain_size();
        // Deflate never grows a grain by more than this.
        if packed == 0 || packed > size + size / 8 + 1024 {
            return Err(Error::invalid(format!(
                "grain {number} of {packed} compressed bytes"
            )));
        }
        BUFFERS.with_borrow_mut(|(input, whole, inflate)| {
            input.resize(index(packed), 0);
            read_padded(
                &self.file,
                input,
                self.base + at + start,
                self.base + self.length,
            )?;
            whole.resize(index(size), 0);
            let got = inflate
                .zlib_decompress(input, whole)
                .map_err(|e| Error::invalid(format!("grain {number} at {at:#x}: {e}")))?;
            // The last grain of a disk may be short.
            let wanted = size.min(self.size - number * size);
            if len64(got) < wanted {
                return Err(Error::invalid(format!(
                    "grain {number} unpacks to {got} bytes, not to {wanted}"
                )));
            }
            part.copy_from_slice(&whole[index(within)..index(within) + part.len()]);
            Ok(())
        })
    }
}

thread_local! {
    static BUFFERS: RefCell<(Vec<u8>, Vec<u8>, Decompressor)> =
        RefCell::new((Vec::new(), Vec::new(), Decompressor::new()));
}

impl DiskReader for SparseReader {
    fn virtual_size(&self) -> u64 {
        self.size
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_bounds(self.size, 1, offset)?;
        let grain_size = self.header.grain_size();
        let first = offset / grain_size;
        let kind = self.kind(first);
        let mut next = first + 1;
        while next < len64(self.grains.len()) && self.kind(next) == kind {
            next += 1;
        }
        let end = (next * grain_size).min(self.size);
        Ok(Extent {
            offset,
            length: end - offset,
            kind,
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_bounds(self.size, buffer.len(), offset)?;
        let grain_size = self.header.grain_size();
        let (mut rest, mut offset) = (buffer, offset);
        while !rest.is_empty() {
            let (number, within) = (offset / grain_size, offset % grain_size);
            let take = index((grain_size - within).min(len64(rest.len())));
            let (now, later) = rest.split_at_mut(take);
            match self.kind(number) {
                ExtentKind::Data => self.read_grain(number, now, within)?,
                ExtentKind::Hole | ExtentKind::Zero => now.fill(0),
            }
            rest = later;
            offset += len64(take);
        }
        Ok(())
    }
}
