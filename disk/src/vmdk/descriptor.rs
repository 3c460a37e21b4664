//! The text descriptor.

use crate::bytes::{SECTOR, len64};
use crate::convert::Profile;
use crate::{Error, Result};

/// One extent line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtentLine {
    /// Sectors.
    pub sectors: u64,
    /// `SPARSE`, `FLAT`, `ZERO`, `VMFS`.
    pub kind: String,
    /// File name beside the descriptor.
    pub file: String,
    /// First sector in the file, for flat extents.
    pub offset: u64,
}

/// What reading needs of a descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Descriptor {
    /// Such as `streamOptimized`.
    pub create_type: String,
    /// Content id of the parent; `ffffffff` for none.
    pub parent_cid: String,
    /// Extents in the order of the disk.
    pub extents: Vec<ExtentLine>,
    /// `ddb.adapterType`.
    pub adapter: Option<String>,
    /// `ddb.virtualHWVersion`.
    pub hardware_version: Option<String>,
}

/// More extents than a 62 TiB disk split in 2 GiB files has.
const MAX_EXTENTS: usize = 32_768;

impl Descriptor {
    /// Parses a descriptor.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let text = text.split(|&b| b == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        let mut this = Self::default();
        for line in text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
        {
            let access = line.split_whitespace().next().unwrap_or_default();
            if matches!(access, "RW" | "RDONLY" | "NOACCESS") {
                if this.extents.len() >= MAX_EXTENTS {
                    return Err(Error::limit("too many extents"));
                }
                this.extents.push(extent_line(line)?);
            } else if let Some((key, value)) = line.split_once('=') {
                let value = value.trim().trim_matches('"').to_owned();
                match key.trim() {
                    "createType" => this.create_type = value,
                    "parentCID" => this.parent_cid = value.to_lowercase(),
                    "ddb.adapterType" => this.adapter = Some(value),
                    "ddb.virtualHWVersion" => this.hardware_version = Some(value),
                    _ => {}
                }
            }
        }
        Ok(this)
    }

    /// True when unallocated grains come from another disk.
    pub fn has_parent(&self) -> bool {
        !matches!(self.parent_cid.as_str(), "" | "ffffffff")
    }
}

/// `RW 4192256 SPARSE "name.vmdk"` with the first sector behind it for flat extents. Names may hold spaces.
fn extent_line(line: &str) -> Result<ExtentLine> {
    let bad = || Error::invalid(format!("extent line {line:?}"));
    let mut quoted = line.splitn(3, '"');
    let mut words = quoted.next().unwrap_or_default().split_whitespace().skip(1);
    let sectors = words.next().and_then(|w| w.parse().ok()).ok_or_else(bad)?;
    let kind = words.next().ok_or_else(bad)?.to_owned();
    let file = quoted.next().unwrap_or_default().to_owned();
    let offset = match quoted.next().map(str::trim) {
        None | Some("") => 0,
        Some(rest) => rest
            .split_whitespace()
            .next()
            .and_then(|w| w.parse().ok())
            .ok_or_else(bad)?,
    };
    if file.is_empty() && kind != "ZERO" {
        return Err(bad());
    }
    Ok(ExtentLine {
        sectors,
        kind,
        file,
        offset,
    })
}

/// The descriptor of a stream-optimised disk.
pub(super) fn stream_optimized(profile: Profile, capacity: u64, file: &str) -> String {
    // A content id tells two states of one disk apart for its children. A finished export has none; one that follows
    // from the size keeps two exports of a disk the same.
    let cid = crc32fast::hash(&capacity.to_le_bytes()) | 1;
    let (access, hardware) = match profile {
        Profile::Aws => ("RW", "6"),
        Profile::Vsphere => ("RDONLY", "13"),
    };
    // 255 heads of 63 sectors is what LSI controllers show for any disk above a gigabyte.
    let cylinders = capacity.div_ceil(255 * 63).min(65_535);
    let file: String = file
        .chars()
        .filter(|c| !c.is_control() && *c != '"')
        .collect();
    let mut text = format!(
        "# Disk DescriptorFile\nversion=1\nCID={cid:08x}\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\n\
         # Extent description\n{access} {capacity} SPARSE \"{file}\"\n\n\
         # The Disk Data Base\n#DDB\n\n\
         ddb.virtualHWVersion = \"{hardware}\"\nddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\nddb.adapterType = \"lsilogic\"\n"
    );
    if profile == Profile::Vsphere {
        // What tools the guest has, as VMware writes it for "open-vm-tools, not managed by the host".
        text.push_str("ddb.toolsInstallType = \"4\"\nddb.toolsVersion = \"2147483647\"\nddb.encoding = \"UTF-8\"\n");
    }
    debug_assert!(len64(text.len()) < 20 * SECTOR);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_kind_parse() {
        let text = b"# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=FFFFFFFF\ncreateType=\"twoGbMaxExtentFlat\"\n\
            RW 100 FLAT \"my disk-f001.vmdk\" 16\nRW 50 ZERO\nRDONLY 7 SPARSE \"a.vmdk\"\nddb.adapterType = \"ide\"\n\0\0";
        let parsed = Descriptor::parse(text).unwrap();
        assert_eq!(parsed.create_type, "twoGbMaxExtentFlat");
        assert!(!parsed.has_parent());
        assert_eq!(parsed.adapter.as_deref(), Some("ide"));
        let files: Vec<_> = parsed
            .extents
            .iter()
            .map(|e| (e.sectors, e.kind.as_str(), e.file.as_str(), e.offset))
            .collect();
        assert_eq!(
            files,
            [
                (100, "FLAT", "my disk-f001.vmdk", 16),
                (50, "ZERO", "", 0),
                (7, "SPARSE", "a.vmdk", 0)
            ]
        );
        assert!(Descriptor::parse(b"RW x SPARSE \"a\"").is_err());
    }

    #[test]
    fn written_descriptors_parse() {
        let text = stream_optimized(Profile::Aws, 4_194_304, "disk.vmdk");
        let parsed = Descriptor::parse(text.as_bytes()).unwrap();
        assert_eq!(
            (
                parsed.create_type.as_str(),
                parsed.hardware_version.as_deref()
            ),
            ("streamOptimized", Some("6"))
        );
        assert_eq!(parsed.extents[0].sectors, 4_194_304);
    }
}
