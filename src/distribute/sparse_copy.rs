//! Copies of files that keep their holes, counted and stoppable.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use camino::Utf8Path;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

/// What is read at a time.
const CHUNK: usize = 1 << 20;
/// What the kernel copies at a time: a slow disk shows progress, and a person who cancels does not wait long.
const STRETCH: usize = 32 << 20;

/// How far copies are, for whoever watches from another thread. Every byte counts twice: copied, then read back.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    done: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
}

impl Tally {
    /// Bytes that were copied and read back, holes too.
    pub fn bytes(&self) -> u64 {
        self.done.load(Ordering::Relaxed) / 2
    }

    /// Lets the copies end with [`ErrorKind::Interrupted`] when the value is dropped.
    pub fn stop_when_dropped(&self) -> impl Drop + use<> {
        struct Stop(Tally);
        impl Drop for Stop {
            fn drop(&mut self) {
                self.0.stopped.store(true, Ordering::Relaxed);
            }
        }
        Stop(self.clone())
    }

    fn add(&self, bytes: u64) -> Result<()> {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        match self.stopped.load(Ordering::Relaxed) {
            true => Err(ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }
}

/// Copies the data of a file and leaves its holes; gives the bytes that are stored. A filesystem that can share them, does.
///
/// # Errors
/// What the files say; [`ErrorKind::Interrupted`] if the tally was stopped.
pub fn copy(from: &Utf8Path, to: &Utf8Path, tally: &Tally) -> Result<u64> {
    let (input, output) = (File::open(from)?, File::create(to)?);
    let length = input.metadata()?.len();
    let shared = rustix::fs::ioctl_ficlone(&output, &input).is_ok();
    if !shared {
        output.set_len(length)?;
    }
    let (mut offset, mut stored) = (0, 0);
    while let Some((start, end)) = next_data(&input, offset, length)? {
        tally.add(start - offset)?;
        if shared {
            tally.add(end - start)?;
        } else {
            copy_range(&input, &output, start, end, tally)?;
        }
        stored += end - start;
        offset = end;
    }
    tally.add(length - offset)?;
    output.sync_all()?;
    Ok(stored)
}

/// Copies a stretch within the kernel, and by hand where it can't do that between these filesystems.
fn copy_range(input: &File, output: &File, start: u64, end: u64, tally: &Tally) -> Result<()> {
    let mut offset = start;
    let left = |offset: u64, most: usize| {
        usize::try_from(end - offset).map_or(most, |left| left.min(most))
    };
    while offset < end {
        let (mut from, mut to) = (offset, offset);
        let most = left(offset, STRETCH);
        match rustix::fs::copy_file_range(input, Some(&mut from), output, Some(&mut to), most) {
            // Some filesystems say that there is nothing more where they mean that they can't.
            Ok(0) => break,
            Ok(count) => {
                let count = u64::try_from(count).map_err(Error::other)?;
                offset += count;
                tally.add(count)?;
            }
            Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    let mut buffer = vec![0; CHUNK];
    while offset < end {
        let count = input.read_at(&mut buffer[..left(offset, CHUNK)], offset)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        output.write_all_at(&buffer[..count], offset)?;
        let count = u64::try_from(count).map_err(Error::other)?;
        offset += count;
        tally.add(count)?;
    }
    Ok(())
}

/// The next stretch of stored bytes at or behind an offset.
fn next_data(file: &File, offset: u64, length: u64) -> Result<Option<(u64, u64)>> {
    if offset >= length {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        // Nothing but a hole up to the end.
        Err(Errno::NXIO) => return Ok(None),
        // The filesystem knows of no holes.
        Err(Errno::INVAL) => return Ok(Some((offset, length))),
        Err(error) => return Err(error.into()),
    };
    let end = seek(file, SeekFrom::Hole(start))?;
    Ok(Some((start, end.min(length))))
}

/// The SHA-256 of a file, in hexadecimal digits.
///
/// # Errors
/// As [`copy`].
pub fn digest_of(path: &Utf8Path, tally: &Tally) -> Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..count]);
        tally.add(u64::try_from(count).map_err(Error::other)?)?;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    /// A file of 3 MiB with one byte of content.
    fn sparse(folder: &Utf8Path) -> camino::Utf8PathBuf {
        let path = folder.join("disk");
        let file = File::create(&path).unwrap();
        file.set_len(3 << 20).unwrap();
        file.write_all_at(b"x", 2 << 20).unwrap();
        path
    }

    #[test]
    fn holes_stay_and_every_byte_counts() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let (path, to, tally) = (sparse(folder), folder.join("copy"), Tally::default());
        let stored = copy(&path, &to, &tally).unwrap();
        assert!(stored < 1 << 20, "{stored}");
        assert_eq!(tally.bytes(), (3 << 20) / 2);
        assert!(std::fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20);
        let digests = [&path, &to].map(|path| digest_of(path, &tally).unwrap());
        assert_eq!(digests[0], digests[1]);
        assert!(std::fs::read(&path).unwrap() == std::fs::read(&to).unwrap());
        assert_eq!(tally.bytes(), 9 << 19);
    }

    #[test]
    fn a_copy_can_be_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let tally = Tally::default();
        drop(tally.stop_when_dropped());
        let error = copy(&sparse(folder), &folder.join("copy"), &tally).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }
}
