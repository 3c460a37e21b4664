//! Partitions, and what the firmware will find on them.

use std::sync::Arc;

use super::Findings;
use crate::fs::{FileSystem, FsKind, Identity, Volume};
use crate::table::{PartitionTable, Scheme};
use crate::{DiskReader, Result, Window};

/// A disk's volumes with their names.
pub(super) struct Layout {
    pub(super) table: PartitionTable,
    pub(super) disk: Arc<dyn DiskReader>,
    pub(super) volumes: Vec<(Volume, Identity)>,
    /// Firmware that finds something to start.
    pub(super) bios: bool,
    pub(super) uefi: bool,
}

impl Layout {
    pub(super) fn read(disk: &Arc<dyn DiskReader>, findings: &mut Findings) -> Result<Self> {
        let table = PartitionTable::read(&**disk)?;
        let mut volumes = Vec::new();
        for volume in Volume::list(&**disk)? {
            let window = Window::new(&**disk, volume.start, volume.length)?;
            let identity = Identity::read(&window, volume.kind).unwrap_or_default();
            volumes.push((volume, identity));
        }
        let mut layout = Self {
            table,
            disk: Arc::clone(disk),
            volumes,
            bios: false,
            uefi: false,
        };
        layout.check_table(findings);
        layout.check_firmware(findings);
        layout.check_volumes(findings);
        Ok(layout)
    }

    fn check_table(&self, findings: &mut Findings) {
        if self.table.partitions.is_empty() {
            findings.add("disk.ptable", "disk", "there are no partitions");
        }
        for problem in &self.table.problems {
            let id = if problem.contains("backup GPT") {
                "disk.gpt-backup"
            } else {
                "disk.ptable"
            };
            findings.add(id, "partition table", problem.clone());
        }
    }

    fn check_firmware(&mut self, findings: &mut Findings) {
        let has_code = {
            let mut boot = [0u8; 440];
            self.disk.read_at(&mut boot, 0).is_ok() && boot.iter().any(|&b| b != 0)
        };
        let partitions = &self.table.partitions;
        self.bios = has_code
            && match self.table.scheme {
                Scheme::Gpt => partitions
                    .iter()
                    .any(|p| p.kind.is_bios_boot() || p.bootable),
                Scheme::Mbr => partitions.iter().any(|p| p.bootable),
                Scheme::None => false,
            };
        let esp = self
            .volumes
            .iter()
            .find(|(v, _)| v.partition.as_ref().is_some_and(|p| p.kind.is_esp()));
        if let Some((volume, _)) = esp {
            let number = volume.partition.as_ref().map_or(0, |p| p.number);
            match volume.open(Arc::clone(&self.disk)) {
                Ok(fs) => {
                    self.uefi = fallback_loader(&*fs);
                    if !self.uefi {
                        findings.add(
                            "disk.esp",
                            format!("partition {number}"),
                            "the EFI system partition has neither EFI/BOOT/BOOTX64.EFI nor BOOTAA64.EFI",
                        );
                    }
                }
                Err(e) => findings.add("disk.esp", format!("partition {number}"), e.chain()),
            }
        }
        if !partitions.is_empty() && !self.bios && !self.uefi {
            findings.add(
                "disk.boot",
                "disk",
                "neither BIOS nor UEFI finds something to start",
            );
        }
    }

    fn check_volumes(&self, findings: &mut Findings) {
        for (volume, _) in &self.volumes {
            let place = volume
                .partition
                .as_ref()
                .map_or_else(|| "disk".to_owned(), |p| format!("partition {}", p.number));
            match volume.kind {
                FsKind::Lvm => findings.add(
                    "lvm.readable",
                    place,
                    "an LVM physical volume; its groups cannot be checked from outside",
                ),
                FsKind::Luks => findings.add("disk.encrypted", place, "encrypted with LUKS"),
                FsKind::Ext => {
                    if let Err(e) = volume.open(Arc::clone(&self.disk)) {
                        findings.add("fs.clean", place, e.chain());
                    }
                }
                _ => {}
            }
        }
    }
}

/// True when the loader that firmware without boot entries starts is there. FAT does not tell cases apart.
fn fallback_loader(fs: &dyn FileSystem) -> bool {
    let child = |folder, name: &str| {
        let node = fs.node(folder).ok()?;
        let entries = fs.read_dir(&node).ok()?;
        entries
            .into_iter()
            .find(|e| e.name.eq_ignore_ascii_case(name.as_bytes()))
            .map(|e| e.id)
    };
    let folder = child(fs.root(), "EFI").and_then(|efi| child(efi, "BOOT"));
    folder.is_some_and(|boot| {
        ["BOOTX64.EFI", "BOOTAA64.EFI"]
            .iter()
            .any(|name| child(boot, name).is_some())
    })
}
