//! GRUB for BIOS, placed from outside: what `grub-bios-setup` does to a disk, without a device to do it to.
//!
//! The boot sector loads the first sector of the core image, which has a list of the blocks that follow. Both only need to be told
//! where the core image lies. Offsets: `grub-core/boot/i386/pc/boot.S` and `diskboot.S` of GRUB 2, the same since 2.00.

use crate::catalog::{CatalogError, Result};

const SECTOR: usize = 512;
/// What of the boot sector is code; a disk signature and the protective partition table follow.
const CODE: usize = 440;
/// In the boot sector: the core image's first sector, eight bytes.
const KERNEL_SECTOR: usize = 0x5c;
/// In the boot sector: the drive to load from; 0xff is "the one that the BIOS booted".
const BOOT_DRIVE: usize = 0x64;
/// In the boot sector: a jump, overwritten on hard disks to mend BIOSes that pass a wrong drive number.
const DRIVE_CHECK: usize = 0x66;
/// In the core image's first sector: the list's first entry (eight bytes first sector, two bytes number, two bytes segment).
const BLOCK_LIST: usize = 0x1f4;
const NOP: u8 = 0x90;

/// What to write to a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stages {
    /// At the very beginning.
    pub(super) boot_code: Vec<u8>,
    /// At the start of the BIOS boot partition; whole sectors.
    pub(super) core: Vec<u8>,
}

/// Prepares GRUB's two images for a core image at sector `start`, with room for `room` sectors.
///
/// # Errors
/// [`CatalogError::BootLoader`] if the images are not what we know.
pub(super) fn place(boot: &[u8], core: &[u8], start: u64, room: u64) -> Result<Stages> {
    let wrong = |what: &str| CatalogError::BootLoader(what.to_owned());
    if boot.len() != SECTOR || boot[510..] != [0x55, 0xaa] {
        return Err(wrong("boot.img is no boot sector"));
    }
    if boot[KERNEL_SECTOR..KERNEL_SECTOR + 8] != 1u64.to_le_bytes() || boot[BOOT_DRIVE] != 0xff {
        return Err(wrong(
            "boot.img has no address of the core image where GRUB 2 has it",
        ));
    }
    let sectors = core.len().div_ceil(SECTOR);
    if sectors < 2 || sectors as u64 > room {
        return Err(wrong(&format!(
            "core.img has {sectors} sectors, there is room for {room}"
        )));
    }
    // grub-mkimage counts the sectors after the first one.
    let listed = usize::from(u16::from_le_bytes([
        core[BLOCK_LIST + 8],
        core[BLOCK_LIST + 9],
    ]));
    if listed != sectors - 1 {
        return Err(wrong(&format!(
            "core.img lists {listed} blocks and has {}",
            sectors - 1
        )));
    }

    let mut boot_code = boot[..CODE].to_vec();
    boot_code[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&start.to_le_bytes());
    boot_code[DRIVE_CHECK..DRIVE_CHECK + 2].fill(NOP);
    let mut core = core.to_vec();
    core.resize(sectors * SECTOR, 0);
    core[BLOCK_LIST..BLOCK_LIST + 8].copy_from_slice(&(start + 1).to_le_bytes());
    Ok(Stages { boot_code, core })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> (Vec<u8>, Vec<u8>) {
        let mut boot = vec![0xee; SECTOR];
        boot[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&1u64.to_le_bytes());
        boot[BOOT_DRIVE] = 0xff;
        boot[510..].copy_from_slice(&[0x55, 0xaa]);
        let mut core = vec![0xcc; 3 * SECTOR - 100];
        core[BLOCK_LIST + 8..BLOCK_LIST + 10].copy_from_slice(&2u16.to_le_bytes());
        (boot, core)
    }

    #[test]
    fn both_stages_learn_their_place() {
        let (boot, core) = images();
        let stages = place(&boot, &core, 2048, 2048).unwrap();
        // Nothing of the partition table is touched.
        assert_eq!(stages.boot_code.len(), 440);
        assert_eq!(stages.boot_code[0x5c..0x64], 2048u64.to_le_bytes());
        assert_eq!(stages.boot_code[0x66..0x68], [0x90, 0x90]);
        assert_eq!(stages.core.len(), 3 * 512);
        assert_eq!(stages.core[0x1f4..0x1fc], 2049u64.to_le_bytes());
        // And nothing else has changed.
        let changed =
            |now: &[u8], before: &[u8]| now.iter().zip(before).filter(|(a, b)| a != b).count();
        assert_eq!(changed(&stages.boot_code, &boot), 2 + 2);
        assert_eq!(changed(&stages.core, &core), 8);
    }

    #[test]
    fn other_images_are_refused() {
        let (boot, core) = images();
        let table: [(&str, Vec<u8>, Vec<u8>, u64); 5] = [
            ("short boot", boot[..511].to_vec(), core.clone(), 2048),
            ("no address", vec![0; SECTOR], core.clone(), 2048),
            ("no room", boot.clone(), core.clone(), 2),
            (
                "wrong list",
                boot.clone(),
                [core.clone(), vec![0; 2 * SECTOR]].concat(),
                2048,
            ),
            ("empty core", boot, Vec::new(), 2048),
        ];
        for (what, boot, core, room) in table {
            assert!(
                matches!(
                    place(&boot, &core, 2048, room),
                    Err(CatalogError::BootLoader(_))
                ),
                "{what}"
            );
        }
    }
}
