//! GUIDs in the mixed byte order that GPT stores them in.

use std::fmt;

/// A GUID as its sixteen stored bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// EFI system partition.
    pub const ESP: Self = Self::parse_const(0xc12a_7328, 0xf81f, 0x11d2, 0xba4b_00a0_c93e_c93b);
    /// BIOS boot partition of GRUB.
    pub const BIOS_BOOT: Self =
        Self::parse_const(0x2168_6148, 0x6449, 0x6e6f, 0x744e_6565_6445_4649);
    /// Linux filesystem data.
    pub const LINUX: Self = Self::parse_const(0x0fc6_3daf, 0x8483, 0x4772, 0x8e79_3d69_d847_7de4);
    /// Linux root on x86-64.
    pub const ROOT_X86_64: Self =
        Self::parse_const(0x4f68_bce3, 0xe8cd, 0x4db1, 0x96e7_fbca_f984_b709);
    /// Linux root on 64-bit ARM.
    pub const ROOT_ARM64: Self =
        Self::parse_const(0xb921_b045, 0x1df0, 0x41c3, 0xaf44_4c6f_280d_3fae);
    /// Linux extended boot (`/boot`).
    pub const XBOOTLDR: Self =
        Self::parse_const(0xbc13_c2ff, 0x59e6, 0x4262, 0xa352_b275_fd6f_7172);
    /// Linux swap.
    pub const SWAP: Self = Self::parse_const(0x0657_fd6d, 0xa4ab, 0x43c4, 0x84e5_0933_c84b_4f4f);
    /// Linux LVM physical volume.
    pub const LVM: Self = Self::parse_const(0xe6d6_d379, 0xf507, 0x44c2, 0xa23c_238f_2a3d_f928);
    /// Linux RAID member.
    pub const RAID: Self = Self::parse_const(0xa19d_880f, 0x05fc, 0x4d3b, 0xa006_743f_0f84_911e);

    /// The first three groups are stored little-endian, the rest as written.
    const fn parse_const(a: u32, b: u16, c: u16, d: u64) -> Self {
        let (a, b, c, d) = (
            a.to_le_bytes(),
            b.to_le_bytes(),
            c.to_le_bytes(),
            d.to_be_bytes(),
        );
        Self([
            a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5],
            d[6], d[7],
        ])
    }

    /// True for the all-zero GUID, which marks an unused entry.
    pub fn is_nil(self) -> bool {
        self.0 == [0; 16]
    }

    /// The name of a known partition type.
    pub fn label(self) -> Option<&'static str> {
        Some(match self {
            Self::ESP => "EFI system",
            Self::BIOS_BOOT => "BIOS boot",
            Self::LINUX => "Linux filesystem",
            Self::ROOT_X86_64 => "Linux root (x86-64)",
            Self::ROOT_ARM64 => "Linux root (arm64)",
            Self::XBOOTLDR => "Linux extended boot",
            Self::SWAP => "Linux swap",
            Self::LVM => "Linux LVM",
            Self::RAID => "Linux RAID",
            _ => return None,
        })
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let g = &self.0;
        write!(
            f,
            "{:02x}{:02x}{:02x}{:02x}-{:02x}{:02x}-{:02x}{:02x}-{:02x}{:02x}-",
            g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9]
        )?;
        g[10..].iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_print_as_the_uefi_specification_writes_them() {
        assert_eq!(
            Guid::ESP.to_string(),
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
        );
        assert_eq!(
            Guid::BIOS_BOOT.to_string(),
            "21686148-6449-6e6f-744e-656564454649"
        );
        assert_eq!(&Guid::BIOS_BOOT.0, b"Hah!IdontNeedEFI");
    }
}
