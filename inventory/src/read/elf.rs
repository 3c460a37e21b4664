//! The little of ELF that leads to a section of a program: <https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html>.
//!
//! Header, table of sections and their names are read, nothing else of the file, until a section is asked for.

use ovenbird_disk::fs::FileData;

/// What every ELF file begins with.
const MAGIC: [u8; 4] = *b"\x7fELF";
/// Bytes of the larger of the two headers.
const HEADER: usize = 64;
/// Sections of a program; linkers write some forty.
const MOST_SECTIONS: usize = 4096;
/// Segments of a program; linkers write some fifteen.
const MOST_SEGMENTS: usize = 1024;
/// Bytes of all names of sections together.
const LONGEST_NAMES: u64 = 256 << 10;
/// `SHT_NOBITS`: a section without content in the file.
const NO_BITS: u32 = 8;
/// `PT_LOAD`: a segment that is in memory when the program runs.
const LOAD: u32 = 1;

/// A program's headers.
pub(super) struct Elf<'a> {
    data: &'a dyn FileData,
    layout: Layout,
    segments: Table,
    sections: Vec<Section>,
    names: Vec<u8>,
}

/// Where a section lies.
#[derive(Debug, Clone, Copy)]
struct Section {
    name: u32,
    kind: u32,
    offset: u64,
    size: u64,
}

/// Where the entries of a table lie.
#[derive(Debug, Clone, Copy)]
struct Table {
    offset: u64,
    entry: usize,
    count: usize,
}

/// How numbers are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Whether an address has 8 bytes; 4 otherwise.
    pub wide: bool,
    /// Whether the most significant byte comes first.
    pub big: bool,
}

impl Layout {
    /// The unsigned number of `size` bytes at an offset.
    pub fn number(self, bytes: &[u8], at: usize, size: usize) -> Option<u64> {
        let part = bytes.get(at..at.checked_add(size)?)?;
        let digit = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(match self.big {
            true => part.iter().fold(0, digit),
            false => part.iter().rev().fold(0, digit),
        })
    }

    /// Bytes of an address.
    pub const fn address(self) -> usize {
        if self.wide { 8 } else { 4 }
    }

    /// A field whose place and size depend on the size of addresses: (offset, size) of the narrow and of the wide form.
    fn field(self, bytes: &[u8], narrow: (usize, usize), wide: (usize, usize)) -> Option<u64> {
        let (at, size) = if self.wide { wide } else { narrow };
        self.number(bytes, at, size)
    }
}

impl<'a> Elf<'a> {
    /// Reads the headers; none if it is no ELF file, a damaged one, or one that has no sections.
    pub fn open(data: &'a dyn FileData) -> Option<Self> {
        // Most programs that are no ELF files are scripts shorter than any header.
        let header = read(data, 0, HEADER)?;
        if header[..4] != MAGIC {
            return None;
        }
        let layout = Layout {
            wide: match header[4] {
                1 => false,
                2 => true,
                _ => return None,
            },
            big: match header[5] {
                1 => false,
                2 => true,
                _ => return None,
            },
        };
        let table = |offset, entry: ((usize, usize), (usize, usize)), count, most: usize| {
            Some(Table {
                offset,
                entry: size(layout.field(&header, entry.0, entry.1)?)?,
                count: size(count).filter(|count| *count <= most)?,
            })
        };
        let segments = table(
            layout.field(&header, (28, 4), (32, 8))?,
            ((42, 2), (54, 2)),
            layout.field(&header, (44, 2), (56, 2))?,
            MOST_SEGMENTS,
        )?;
        let sections = table(
            layout.field(&header, (32, 4), (40, 8))?,
            ((46, 2), (58, 2)),
            layout.field(&header, (48, 2), (60, 2))?,
            MOST_SECTIONS,
        )?;
        let names = size(layout.field(&header, (50, 2), (62, 2))?)?;
        let sections = entries(data, sections, if layout.wide { 64 } else { 40 })?
            .iter()
            .map(|entry| {
                Some(Section {
                    name: u32::try_from(layout.number(entry, 0, 4)?).ok()?,
                    kind: u32::try_from(layout.number(entry, 4, 4)?).ok()?,
                    offset: layout.field(entry, (16, 4), (24, 8))?,
                    size: layout.field(entry, (20, 4), (32, 8))?,
                })
            })
            .collect::<Option<Vec<_>>>()?;
        let names = *sections.get(names)?;
        Some(Self {
            data,
            layout,
            segments,
            names: content(data, names, LONGEST_NAMES)?,
            sections,
        })
    }

    /// Whether it has a section of this name.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The content of a section; none if there is no such section, it has no content, or it has more than `limit` bytes.
    pub fn section(&self, name: &str, limit: u64) -> Option<Vec<u8>> {
        content(self.data, self.find(name)?, limit)
    }

    fn find(&self, name: &str) -> Option<Section> {
        self.sections
            .iter()
            .find(|section| {
                size(section.name.into())
                    .and_then(|at| self.names.get(at..))
                    .and_then(|rest| rest.strip_prefix(name.as_bytes()))
                    .is_some_and(|rest| rest.first() == Some(&0))
            })
            .copied()
    }

    /// `length` bytes as they stand at an address of memory when the program starts.
    pub fn memory(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let wanted = u64::try_from(length).ok()?;
        entries(
            self.data,
            self.segments,
            if self.layout.wide { 56 } else { 32 },
        )?
        .iter()
        .find_map(|entry| {
            let offset = self.layout.field(entry, (4, 4), (8, 8))?;
            let start = self.layout.field(entry, (8, 4), (16, 8))?;
            let filled = self.layout.field(entry, (16, 4), (32, 8))?;
            let from = address.checked_sub(start)?;
            let loaded = self.layout.number(entry, 0, 4)? == u64::from(LOAD);
            (loaded && from.checked_add(wanted)? <= filled)
                .then(|| read(self.data, offset.checked_add(from)?, length))?
        })
    }
}

fn size(value: u64) -> Option<usize> {
    usize::try_from(value).ok()
}

/// Entries of a table of which the first `known` bytes each are understood.
fn entries(data: &dyn FileData, table: Table, known: usize) -> Option<Vec<Vec<u8>>> {
    if table.count == 0 {
        return Some(Vec::new());
    }
    // Nobody writes entries with anything behind what the standard names; the limit keeps tables small.
    if table.entry < known || table.entry > 2 * known {
        return None;
    }
    let bytes = read(data, table.offset, table.entry.checked_mul(table.count)?)?;
    Some(bytes.chunks(table.entry).map(<[u8]>::to_vec).collect())
}

fn content(data: &dyn FileData, section: Section, limit: u64) -> Option<Vec<u8>> {
    if section.kind == NO_BITS || section.size > limit {
        return None;
    }
    read(data, section.offset, size(section.size)?)
}

/// Nothing is asked for, nor room made for it, that the file can't have.
fn read(data: &dyn FileData, offset: u64, length: usize) -> Option<Vec<u8>> {
    let end = offset.checked_add(u64::try_from(length).ok()?)?;
    if end > data.size() {
        return None;
    }
    let mut bytes = vec![0; length];
    data.read_at(&mut bytes, offset).ok()?;
    Some(bytes)
}
