//! The EFI system partition's filesystem, written by a library.

use std::io::{Cursor, Write};

use camino::Utf8Path;
use fatfs::{
    Date, DateTime, Dir, FatType, FileSystem, FormatVolumeOptions, FsOptions, ReadWriteSeek, Time,
    TimeProvider,
};

use crate::catalog::{CatalogError, Result};

const LABEL: [u8; 11] = *b"ESP        ";
/// With one sector for each cluster 64 MiB have enough clusters to be FAT32.
const CLUSTER: u32 = 512;

/// All files are from FAT's first day: the same files give the same bytes.
#[derive(Debug)]
struct FirstDay;

static FIRST_DAY: FirstDay = FirstDay;

impl TimeProvider for FirstDay {
    fn get_current_date(&self) -> Date {
        Date {
            year: 1980,
            month: 1,
            day: 1,
        }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime {
            date: self.get_current_date(),
            time: Time {
                hour: 0,
                min: 0,
                sec: 0,
                millis: 0,
            },
        }
    }
}

/// Makes a FAT32 filesystem of `size` bytes with the files of a folder.
///
/// # Errors
/// [`CatalogError::Io`], also if the files don't fit.
pub(super) fn image(folder: &Utf8Path, size: u64, serial: u32) -> Result<Vec<u8>> {
    let build = || -> std::io::Result<Vec<u8>> {
        let length = usize::try_from(size).map_err(std::io::Error::other)?;
        let mut disk = Cursor::new(vec![0; length]);
        let options = FormatVolumeOptions::new()
            .fat_type(FatType::Fat32)
            .bytes_per_cluster(CLUSTER)
            .volume_label(LABEL)
            .volume_id(serial);
        fatfs::format_volume(&mut disk, options)?;
        let filesystem = FileSystem::new(
            &mut disk,
            FsOptions::new()
                .time_provider(&FIRST_DAY)
                .update_accessed_date(false),
        )?;
        copy(folder, &filesystem.root_dir())?;
        filesystem.unmount()?;
        Ok(disk.into_inner())
    };
    build().map_err(CatalogError::io(
        "fill the EFI system partition from",
        folder,
    ))
}

fn copy<T: ReadWriteSeek>(from: &Utf8Path, to: &Dir<'_, T>) -> std::io::Result<()> {
    let mut entries = from.read_dir_utf8()?.collect::<std::io::Result<Vec<_>>>()?;
    // The order in which a folder is read is the host's affair, the bytes of the image are not.
    entries.sort_by(|a, b| a.file_name().cmp(b.file_name()));
    for entry in entries {
        if entry.file_type()?.is_dir() {
            copy(entry.path(), &to.create_dir(entry.file_name())?)?;
        } else {
            let mut file = to.create_file(entry.file_name())?;
            file.write_all(&std::fs::read(entry.path())?)?;
            file.flush()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn files_arrive_and_the_bytes_repeat() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        std::fs::create_dir_all(folder.join("EFI/BOOT")).unwrap();
        std::fs::write(folder.join("EFI/BOOT/BOOTX64.EFI"), vec![7; 100_000]).unwrap();
        std::fs::write(folder.join("EFI/BOOT/grub.cfg"), "x").unwrap();
        let image = || image(folder, 64 << 20, 0xabcd_1234).unwrap();
        let first = image();
        assert!(first == image());
        let filesystem = FileSystem::new(Cursor::new(first), FsOptions::new()).unwrap();
        assert_eq!(
            (filesystem.volume_id(), filesystem.fat_type()),
            (0xabcd_1234, FatType::Fat32)
        );
        let mut bytes = Vec::new();
        filesystem
            .root_dir()
            .open_file("efi/boot/bootx64.efi")
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        assert_eq!(bytes, vec![7; 100_000]);
    }

    #[test]
    fn too_much_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        std::fs::write(folder.join("big"), vec![1; 70 << 20]).unwrap();
        assert!(matches!(
            image(folder, 64 << 20, 1),
            Err(CatalogError::Io { .. })
        ));
    }
}
