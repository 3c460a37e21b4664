//! A disk whose filesystems' free space reads as zero, without writing to it.

use std::ops::Range;
use std::sync::Arc;

use crate::bytes::{index, len64};
use crate::fs::Volume;
use crate::reader::check_bounds;
use crate::{DiskReader, ErrorKind, Extent, ExtentKind, Result};

/// So many stretches of free space are remembered; a filesystem with more is left as it is.
const MOST: usize = 8_000_000;

/// What was deleted lies in free space until something else is written there, and a trim reaches whole clusters of an image only.
/// Through this it is gone.
#[derive(Clone)]
pub struct ScrubbedDisk {
    inner: Arc<dyn DiskReader>,
    /// In bytes of the disk, sorted, apart.
    free: Vec<Range<u64>>,
}

impl ScrubbedDisk {
    /// Looks for free space in every filesystem that tells it (ext2, ext3, ext4). Others stay as they are.
    ///
    /// # Errors
    /// If a filesystem is damaged.
    pub fn new(inner: Arc<dyn DiskReader>) -> Result<Self> {
        let mut free = Vec::new();
        for volume in Volume::list(&*inner)? {
            let fs = match volume.open(Arc::clone(&inner)) {
                Ok(fs) => fs,
                Err(error)
                    if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Refused) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let before = free.len();
            fs.free_space(&mut |range| {
                if free.len() <= MOST {
                    free.push(volume.start + range.start..volume.start + range.end);
                }
                Ok(())
            })?;
            if free.len() > MOST {
                free.truncate(before);
            }
        }
        free.sort_by_key(|range| range.start);
        Ok(Self { inner, free })
    }

    /// The first stretch that ends behind `offset`.
    fn next(&self, offset: u64) -> usize {
        self.free.partition_point(|range| range.end <= offset)
    }
}

impl DiskReader for ScrubbedDisk {
    fn virtual_size(&self) -> u64 {
        self.inner.virtual_size()
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let inner = self.inner.extent_at(offset)?;
        let end = match self.free.get(self.next(offset)) {
            Some(free) if free.start <= offset => {
                return Ok(Extent {
                    offset,
                    length: free.end.min(self.virtual_size()) - offset,
                    kind: ExtentKind::Zero,
                });
            }
            Some(free) => inner.end().min(free.start),
            None => inner.end(),
        };
        Ok(Extent {
            length: end - offset,
            ..inner
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_bounds(self.virtual_size(), buffer.len(), offset)?;
        self.inner.read_at(buffer, offset)?;
        let end = offset + len64(buffer.len());
        for free in self.free[self.next(offset)..]
            .iter()
            .take_while(|free| free.start < end)
        {
            let (from, to) = (free.start.max(offset) - offset, free.end.min(end) - offset);
            buffer[index(from)..index(to)].fill(0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::{ConvertOptions, NoProgress, Target, convert, open};

    fn run(program: &str, arguments: &[&str], image: &Path) {
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
        let output = Command::new(program)
            .args(arguments)
            .arg(image)
            .env("PATH", path)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{program}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Deleted content is gone, and e2fsck and all files find nothing missing, for each kind of ext filesystem.
    #[test]
    fn only_free_space_is_zero() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        std::fs::create_dir_all(tree.join("keep")).unwrap();
        let secret = b"once a secret ".repeat(1000);
        let kept = b"this stays here ".repeat(20_000);
        for number in 0..20 {
            std::fs::write(tree.join(format!("gone-{number}")), &secret).unwrap();
            std::fs::write(tree.join(format!("keep/{number}")), &kept).unwrap();
        }
        let image = folder.path().join("disk");
        for (kind, blocks, size) in [
            ("ext4", "4096", "160M"),
            ("ext4", "1024", "64M"),
            ("ext3", "4096", "64M"),
            ("ext2", "2048", "64M"),
        ] {
            let _ = std::fs::remove_file(&image);
            std::fs::File::create(&image).unwrap();
            let size_bytes = size.trim_end_matches('M').parse::<u64>().unwrap() << 20;
            std::fs::OpenOptions::new()
                .write(true)
                .open(&image)
                .unwrap()
                .set_len(size_bytes)
                .unwrap();
            let tree = tree.to_str().unwrap();
            run(
                "mke2fs",
                &["-q", "-F", "-t", kind, "-b", blocks, "-d", tree],
                &image,
            );
            for number in 0..20 {
                run(
                    "debugfs",
                    &["-w", "-R", &format!("rm gone-{number}")],
                    &image,
                );
            }
            let has_secret = |image: &Path| {
                let bytes = std::fs::read(image).unwrap();
                bytes.windows(14).any(|window| window == b"once a secret ")
            };
            assert!(has_secret(&image), "{kind}");
            let scrubbed = ScrubbedDisk::new(open(&image).unwrap()).unwrap();
            let clean = folder.path().join("clean");
            let _ = std::fs::remove_file(&clean);
            convert(
                &scrubbed,
                &Target::Raw,
                &ConvertOptions::default(),
                &clean,
                &NoProgress,
            )
            .unwrap();
            assert!(!has_secret(&clean), "{kind} with blocks of {blocks}");
            run("e2fsck", &["-f", "-n"], &clean);
            let disk: Arc<dyn DiskReader> = open(&clean).unwrap();
            let root = Volume::list(&*disk).unwrap()[0]
                .open(Arc::clone(&disk))
                .unwrap();
            for number in 0..20 {
                let path = format!("/keep/{number}");
                assert!(
                    crate::fs::read_file(&*root, &path, 1 << 20).unwrap() == kept,
                    "{path}"
                );
            }
        }
    }
}
