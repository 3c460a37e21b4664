//! A guest's memory as a file that both QEMU and this process hold.
//!
//! QEMU maps it (`memory-backend-file`), so that a memory is saved by copying the pages that the guest has ever touched,
//! at the speed of a copy. QEMU's own migration stream would look at every page on one thread: two to three seconds for
//! 2 GiB here, in which the guest stands still.

use std::fs::File;
use std::os::fd::{AsRawFd as _, RawFd};

use camino::Utf8Path;
use ovenbird_disk::raw::RawReader;
use ovenbird_disk::{
    ConvertOptions, DiskDigest, NoProgress, QcowCompression, Target, convert, fill, open,
};

use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// Neither synced nor hashed nor read back: what is damaged is found by its digest when it is used.
const QUICK: ConvertOptions = ConvertOptions {
    threads: 0,
    durable: false,
    sha256: false,
    verify: false,
};

/// A guest's memory.
#[derive(Debug)]
pub struct Ram {
    file: File,
}

impl Ram {
    /// Memory of so many MiB, all zero; it takes room as the guest touches it. `folder` is for systems whose kernel has no
    /// files in memory: it lies there, nameless.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the system gives none.
    pub fn create(mib: u32, folder: &Utf8Path) -> Result<Self> {
        let create = || {
            let file = memory_file(folder)?;
            file.set_len(u64::from(mib) << 20)?;
            Ok::<_, std::io::Error>(file)
        };
        let file = create().or_failure(FailureKind::Environment, || {
            format!("cannot set {mib} MiB of memory up for the guest")
        })?;
        Ok(Self { file })
    }

    /// The descriptor, which QEMU inherits.
    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Copies it to a sparse file; the guest must stand still.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the file can't be written.
    pub fn save(&self, file: &Utf8Path) -> Result<DiskDigest> {
        let copy = || {
            let reader = RawReader::new(self.file.try_clone().map_err(again)?)?;
            let path = file.as_std_path();
            convert(&reader, &Target::Raw, &QUICK, path, &NoProgress)
        };
        copy()
            .map(|written| written.disk_digest)
            .or_failure(FailureKind::Environment, || {
                format!("cannot write the guest's memory to {file}")
            })
    }

    /// Brings a saved one back; no guest may run in it yet.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the file can't be read or is not what was saved.
    pub fn load(&self, file: &Utf8Path, saved: &str) -> Result<()> {
        let copy = || fill(&*open(file.as_std_path())?, &self.file, &QUICK, &NoProgress);
        let found = copy().or_failure(FailureKind::Environment, || {
            format!("cannot read the guest's memory from {file}")
        })?;
        if found.to_string() == saved {
            return Ok(());
        }
        Err(Failure::environment(format!(
            "the guest's memory in {file} is not what was saved: its digest is {found}, not {saved}"
        )))
    }
}

/// Makes a smaller file of a saved memory, on one thread, as long as it takes.
///
/// # Errors
/// What [`convert`] says.
pub fn pack(saved: &Utf8Path, packed: &Utf8Path) -> ovenbird_disk::Result<()> {
    let target = Target::Qcow2 {
        compression: Some(QcowCompression::Zstd(1)),
    };
    let options = ConvertOptions {
        threads: 1,
        ..QUICK
    };
    let reader = open(saved.as_std_path())?;
    convert(
        &*reader,
        &target,
        &options,
        packed.as_std_path(),
        &NoProgress,
    )
    .map(drop)
}

fn again(error: std::io::Error) -> ovenbird_disk::Error {
    ovenbird_disk::Error::io("hold the guest's memory twice", error)
}

#[cfg(target_os = "linux")]
fn memory_file(_folder: &Utf8Path) -> std::io::Result<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let file = memfd_create(c"guest memory", MFdFlags::MFD_CLOEXEC)?;
    Ok(file.into())
}

#[cfg(not(target_os = "linux"))]
fn memory_file(folder: &Utf8Path) -> std::io::Result<File> {
    tempfile::tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn a_memory_comes_back_as_it_was_packed_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let (saved, packed) = (folder.join("memory.raw"), folder.join("memory.qcow2"));
        let ram = Ram::create(8, folder).unwrap();
        ram.file.write_all_at(b"key", 5 << 20).unwrap();
        ram.file.write_all_at(&[7; 5000], 1 << 20).unwrap();
        let digest = ram.save(&saved).unwrap().to_string();
        pack(&saved, &packed).unwrap();
        for file in [&saved, &packed] {
            let other = Ram::create(8, folder).unwrap();
            other.load(file, &digest).unwrap();
            let mut all = vec![0; 8 << 20];
            other.file.read_exact_at(&mut all, 0).unwrap();
            assert_eq!(&all[5 << 20..][..3], b"key");
            assert_eq!(all.iter().filter(|&&byte| byte != 0).count(), 5003);
        }
        let file = File::options().write(true).open(&saved).unwrap();
        file.write_all_at(b"K", 5 << 20).unwrap();
        let failure = ram.load(&saved, &digest).unwrap_err().chain();
        assert!(failure.contains("is not what was saved"), "{failure}");
    }
}
