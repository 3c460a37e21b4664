//! Writing stream-optimised VMDK.
//!
//! The pure stream form: the header points to a footer, grain tables follow their grains, the directory comes last.
//! VMware's own exports have it, so every importer reads it, and it can go to a pipe and be hashed on the way.

use super::sparse::SparseHeader;
use super::{GRAIN_SECTORS, Marker, TABLE_ENTRIES, descriptor};
use crate::bytes::{SECTOR, index, len64};
use crate::convert::{Block, Encoding, Profile, Sequential, Writer};
use crate::digest::DiskDigest;
use crate::{Error, Result, Sha256Digest};

/// Customary room for the descriptor.
const DESCRIPTOR_SECTORS: u64 = 20;

/// Settings of a VMDK.
pub(crate) struct VmdkSettings {
    pub(crate) profile: Profile,
    pub(crate) level: u8,
    /// File name in the extent line.
    pub(crate) name: String,
}

/// Writes the stream.
pub(crate) struct VmdkWriter<'a> {
    out: Sequential<'a>,
    header: SparseHeader,
    level: u8,
    directory: Vec<u32>,
    /// The grain table being filled, with its number.
    table: Vec<u32>,
    table_number: u64,
    table_used: bool,
}

impl<'a> VmdkWriter<'a> {
    pub(crate) fn new(mut out: Sequential<'a>, size: u64, settings: &VmdkSettings) -> Result<Self> {
        let capacity = size / SECTOR;
        let header = SparseHeader::stream(capacity, DESCRIPTOR_SECTORS, GRAIN_SECTORS);
        out.put(&header.encode())?;
        let text = descriptor::stream_optimized(settings.profile, capacity, &settings.name);
        if len64(text.len()) > DESCRIPTOR_SECTORS * SECTOR {
            return Err(Error::limit(format!(
                "a file name of {} bytes in a VMDK",
                settings.name.len()
            )));
        }
        out.put(text.as_bytes())?;
        out.align(GRAIN_SECTORS * SECTOR)?;
        let tables = capacity.div_ceil(GRAIN_SECTORS * TABLE_ENTRIES);
        Ok(Self {
            out,
            header,
            level: settings.level,
            directory: vec![0; index(tables)],
            table: vec![0; index(TABLE_ENTRIES)],
            table_number: 0,
            table_used: false,
        })
    }

    /// The sector where the next bytes go. Table entries of 32 bits bound the file to 2 TiB.
    fn sector(&self) -> Result<u32> {
        u32::try_from(self.out.position() / SECTOR)
            .map_err(|_| Error::limit("a VMDK of more than 2 TiB of data"))
    }

    fn grain(&mut self, number: u64, packed: &[u8]) -> Result<()> {
        let table = number / TABLE_ENTRIES;
        if table != self.table_number {
            self.flush_table()?;
            self.table_number = table;
        }
        self.table[index(number % TABLE_ENTRIES)] = self.sector()?;
        self.table_used = true;
        let length =
            u32::try_from(packed.len()).map_err(|_| Error::limit("a grain of more than 4 GiB"))?;
        self.out.put(&(number * GRAIN_SECTORS).to_le_bytes())?;
        self.out.put(&length.to_le_bytes())?;
        self.out.put(packed)?;
        self.out.align(SECTOR)
    }

    fn flush_table(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.table_used) {
            return Ok(());
        }
        let bytes = little_endian(&self.table);
        self.out
            .put(&Marker::GrainTable.encode(len64(bytes.len()) / SECTOR))?;
        self.directory[index(self.table_number)] = self.sector()?;
        self.out.put(&bytes)?;
        self.table.fill(0);
        Ok(())
    }

    /// Ends the stream and gives its digest, if one was computed.
    pub(crate) fn end(&mut self) -> Result<Option<Sha256Digest>> {
        self.flush_table()?;
        let mut bytes = little_endian(&self.directory);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        self.out
            .put(&Marker::GrainDirectory.encode(len64(bytes.len()) / SECTOR))?;
        self.header.directory = self.sector()?.into();
        self.out.put(&bytes)?;
        self.out.put(&Marker::Footer.encode(1))?;
        self.out.put(&self.header.encode())?;
        self.out.put(&Marker::EndOfStream.encode(0))?;
        self.out.finish()
    }

    /// Bytes of the stream so far.
    pub(crate) fn length(&self) -> u64 {
        self.out.position()
    }
}

fn little_endian(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

impl Writer for VmdkWriter<'_> {
    fn encoding(&self) -> Encoding {
        Encoding::Zlib(self.level)
    }

    fn block(&mut self, block: &Block) -> Result<()> {
        let first = block.offset() / SECTOR / GRAIN_SECTORS;
        let encoding = self.encoding();
        for piece in (0..block.pieces()).filter(|&p| !block.is_zero_piece(p)) {
            self.grain(first + len64(piece), block.encoded(encoding, piece))?;
        }
        Ok(())
    }

    fn finish(&mut self, _: &DiskDigest) -> Result<Option<Sha256Digest>> {
        self.end()
    }

    fn position(&self) -> u64 {
        self.length()
    }
}
