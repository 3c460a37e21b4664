//! Names, places and checksums of VHDX.

/// CRC-32C (Castagnoli), which the format's headers carry.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    // The library gives every width in 64 bits.
    u32::try_from(sum).unwrap_or(u32::MAX)
}

/// A GUID as stored, from the form that the specification prints.
const fn guid(a: u32, b: u16, c: u16, d: u64) -> [u8; 16] {
    let (a, b, c, d) = (
        a.to_le_bytes(),
        b.to_le_bytes(),
        c.to_le_bytes(),
        d.to_be_bytes(),
    );
    [
        a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6],
        d[7],
    ]
}

/// Region of the block table.
pub(super) const REGION_BAT: [u8; 16] = guid(0x2dc2_7766, 0xf623, 0x4200, 0x9d64_115e_9bfd_4a08);
/// Region of the metadata.
pub(super) const REGION_METADATA: [u8; 16] =
    guid(0x8b7c_a206, 0x4790, 0x4b9a, 0xb8fe_575f_050f_886e);
/// Block size and flags.
pub(super) const ITEM_FILE_PARAMETERS: [u8; 16] =
    guid(0xcaa1_6737, 0xfa36, 0x4d43, 0xb3b6_33f0_aa44_e76b);
/// Bytes of the disk.
pub(super) const ITEM_DISK_SIZE: [u8; 16] =
    guid(0x2fa5_4224, 0xcd1b, 0x4876, 0xb211_5dbe_d83b_f4b8);
/// Identity of the disk (SCSI page 83).
pub(super) const ITEM_DISK_ID: [u8; 16] = guid(0xbeca_12ab, 0xb2e6, 0x4523, 0x93ef_c309_e000_c746);
/// Bytes of a logical sector.
pub(super) const ITEM_LOGICAL_SECTOR: [u8; 16] =
    guid(0x8141_bf1d, 0xa96f, 0x4709, 0xba47_f233_a8fa_ab5f);
/// Bytes of a physical sector.
pub(super) const ITEM_PHYSICAL_SECTOR: [u8; 16] =
    guid(0xcda3_48c7, 0x445d, 0x4471, 0x9cc9_e988_5251_c556);

/// Places of the two headers.
pub(super) const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
/// Places of the two region tables.
pub(super) const REGIONS: [u64; 2] = [192 << 10, 256 << 10];
/// Bytes that a region table's checksum covers.
pub(super) const REGION_TABLE_SIZE: usize = 64 << 10;
/// Bytes that a header's checksum covers.
pub(super) const HEADER_SIZE: usize = 4096;

/// Block is not there, by any of the states that mean zeros without a parent.
pub(super) const STATE_NOT_PRESENT: u64 = 0;
/// Block is there.
pub(super) const STATE_PRESENT: u64 = 6;
/// Bits of a table entry that hold the offset in mebibytes.
pub(super) const OFFSET_SHIFT: u32 = 20;

/// Payload entries between two entries for sector bitmaps.
pub(super) fn chunk_ratio(block_size: u64, logical_sector: u64) -> u64 {
    (logical_sector << 23) / block_size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_of_the_standard_vector() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
