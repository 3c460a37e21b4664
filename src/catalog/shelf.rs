//! The folder in which base images stand: `<home>/bases/<name>/<version>/`.
//!
//! Images appear and disappear by one rename. Folders whose name begins with a dot are work in progress: a staging folder is
//! locked by the process that fills it, so that what a killed one left can be told apart and cleared.

use std::fs::{self, File, OpenOptions, TryLockError};

use camino::{Utf8Path, Utf8PathBuf};

use super::digest::FileDigests;
use super::record::Record;
use super::{CatalogError, Result, Version, VersionPattern, reference, seal};

const LOCK: &str = ".lock";
/// The remembered digests of an image's disk.
pub(super) const SEAL: &str = ".seal";
const STAGING: &str = ".staging-";

/// The shelf of one home.
#[derive(Debug, Clone)]
pub struct Shelf {
    root: Utf8PathBuf,
}

/// An image on the shelf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What is known about it.
    pub record: Record,
    /// Its folder.
    pub folder: Utf8PathBuf,
}

/// Keeps an image from being removed while it lives.
#[derive(Debug)]
pub struct InUse {
    _lock: File,
}

/// A folder in which an image is put together. Dropped without [`Shelf::insert`], it is removed.
#[derive(Debug)]
pub struct Staging {
    folder: Utf8PathBuf,
    _lock: File,
}

impl Staging {
    /// Where to put the files.
    pub fn folder(&self) -> &Utf8Path {
        &self.folder
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After an insert the folder has another name and there is nothing left to do.
        let _ = clear(&self.folder);
    }
}

impl Shelf {
    /// The shelf of a home. Nothing is created before something is put there.
    pub fn new(home: &Utf8Path) -> Self {
        Self {
            root: home.join("bases"),
        }
    }

    /// Where an image stands or would stand.
    pub fn folder(&self, name: &str, version: &Version) -> Utf8PathBuf {
        self.root.join(name).join(version.to_string())
    }

    /// Where interrupted downloads wait to be continued.
    pub fn partial(&self) -> Utf8PathBuf {
        self.root.join(".partial")
    }

    /// All images, by name and then version. A folder without a readable record is skipped with a warning, so that one broken
    /// image does not hide the others.
    ///
    /// # Errors
    /// [`CatalogError::Io`] if the shelf can't be read.
    pub fn list(&self) -> Result<Vec<Stored>> {
        let mut images = Vec::new();
        for name in folders(&self.root)? {
            images.extend(self.versions(&name)?);
        }
        images.sort_by(|a, b| {
            (&a.record.name, a.record.version).cmp(&(&b.record.name, b.record.version))
        });
        Ok(images)
    }

    /// The highest version of a name that fits a pattern.
    ///
    /// # Errors
    /// [`CatalogError::Io`] if the shelf can't be read.
    pub fn find(&self, name: &str, pattern: &VersionPattern) -> Result<Option<Stored>> {
        let fitting = self
            .versions(name)?
            .into_iter()
            .filter(|image| pattern.matches(&image.record.version));
        Ok(fitting.max_by_key(|image| image.record.version))
    }

    fn versions(&self, name: &str) -> Result<Vec<Stored>> {
        let mut images = Vec::new();
        for version in folders(&self.root.join(name))? {
            let folder = self.root.join(name).join(&version);
            match Record::read(&folder) {
                Ok(record) if record.name == name && record.version.to_string() == version => {
                    images.push(Stored { record, folder });
                }
                Ok(_) => tracing::warn!(%folder, "skipped: the record is about another image"),
                Err(error) => {
                    tracing::warn!(%folder, error = &error as &dyn std::error::Error, "skipped")
                }
            }
        }
        Ok(images)
    }

    /// Makes a folder to put an image together, and clears those that killed processes left.
    ///
    /// # Errors
    /// [`CatalogError::Io`].
    pub fn stage(&self) -> Result<Staging> {
        self.sweep();
        let folder = self
            .root
            .join(format!("{STAGING}{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir_all(&folder).map_err(CatalogError::io("create", folder.clone()))?;
        let lock = open_lock(&folder)?;
        lock.lock()
            .map_err(CatalogError::io("lock", folder.clone()))?;
        Ok(Staging {
            folder,
            _lock: lock,
        })
    }

    fn sweep(&self) {
        let Ok(entries) = self.root.read_dir_utf8() else {
            return;
        };
        for entry in entries.filter_map(|entry| entry.ok()) {
            // Without its lock file a folder is just being made or just being removed.
            if entry.file_name().starts_with(STAGING)
                && let Ok(lock) = File::open(entry.path().join(LOCK))
                && lock.try_lock().is_ok()
            {
                tracing::info!(folder = %entry.path(), "clearing what a killed process left");
                // A program of the dead process may still be writing there. Then the next sweep gets it; it is no reason to fail.
                if let Err(error) = clear(entry.path()) {
                    tracing::warn!(folder = %entry.path(), %error, "could not be cleared yet");
                }
            }
        }
    }

    /// Puts a staged image on the shelf: writes its record, makes everything durable and renames the folder.
    ///
    /// # Errors
    /// [`CatalogError::Exists`] if the version is there already, or [`CatalogError::Io`].
    pub fn insert(
        &self,
        staging: Staging,
        record: Record,
        digests: &FileDigests,
    ) -> Result<Stored> {
        if !reference::is_name(&record.name) {
            return Err(CatalogError::BadReference {
                reference: record.name,
                reason: "it can't be a folder's name".into(),
            });
        }
        let source = staging.folder();
        record.write(source)?;
        seal::set(&source.join(&record.disk), &source.join(SEAL), digests)?;
        for entry in source
            .read_dir_utf8()
            .map_err(CatalogError::io("read", source))?
        {
            let path = entry.map_err(CatalogError::io("read", source))?.into_path();
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(CatalogError::io("flush", path))?;
        }
        let folder = self.folder(&record.name, &record.version);
        let parent = self.root.join(&record.name);
        fs::create_dir_all(&parent).map_err(CatalogError::io("create", parent.clone()))?;
        // Renaming a folder onto one that is not empty fails, so two processes can't both win.
        if let Err(error) = fs::rename(source, &folder) {
            if folder.exists() {
                return Err(CatalogError::Exists {
                    name: record.name,
                    version: record.version.to_string(),
                });
            }
            return Err(CatalogError::io("create", folder)(error));
        }
        File::open(&parent)
            .and_then(|file| file.sync_all())
            .map_err(CatalogError::io("flush", parent))?;
        Ok(Stored { record, folder })
    }

    /// Marks an image as used by this process.
    ///
    /// # Errors
    /// [`CatalogError::InUse`] if it is just being removed.
    pub fn hold(&self, image: &Stored) -> Result<InUse> {
        let gone = || CatalogError::InUse {
            name: image.record.name.clone(),
            version: image.record.version.to_string(),
        };
        let lock = open_lock(&image.folder)?;
        match lock.try_lock_shared() {
            // Between our look at the shelf and the lock it may have gone.
            Ok(()) if image.folder.join(&image.record.disk).exists() => Ok(InUse { _lock: lock }),
            Ok(()) | Err(TryLockError::WouldBlock) => Err(gone()),
            Err(TryLockError::Error(error)) => {
                Err(CatalogError::io("lock", image.folder.clone())(error))
            }
        }
    }

    /// Removes an image.
    ///
    /// # Errors
    /// [`CatalogError::InUse`] if any process holds it.
    pub fn remove(&self, image: &Stored) -> Result<()> {
        let lock = open_lock(&image.folder)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(CatalogError::InUse {
                    name: image.record.name.clone(),
                    version: image.record.version.to_string(),
                });
            }
            Err(TryLockError::Error(error)) => {
                return Err(CatalogError::io("lock", image.folder.clone())(error));
            }
        }
        // One rename takes it off the shelf; should we be killed after it, the next process sweeps the rest.
        let trash = self
            .root
            .join(format!("{STAGING}{}", uuid::Uuid::new_v4().simple()));
        fs::rename(&image.folder, &trash)
            .map_err(CatalogError::io("remove", image.folder.clone()))?;
        clear(&trash).map_err(CatalogError::io("remove", trash))?;
        // The last version takes the name's folder along; it is not empty otherwise, and stays.
        let _ = fs::remove_dir(self.root.join(&image.record.name));
        Ok(())
    }
}

/// Removes a folder, its lock file last: as long as anything else is left, a sweep can tell what it is.
fn clear(folder: &Utf8Path) -> std::io::Result<()> {
    for entry in folder.read_dir_utf8()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if entry.file_name() != LOCK {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir_all(folder)
}

fn open_lock(folder: &Utf8Path) -> Result<File> {
    let path = folder.join(LOCK);
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(CatalogError::io("lock", path))
}

/// The names of the folders in a folder, without hidden ones; none if it does not exist.
fn folders(parent: &Utf8Path) -> Result<Vec<String>> {
    let entries = match parent.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CatalogError::io("read", parent)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(CatalogError::io("read", parent))?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && !entry.file_name().starts_with('.') {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::catalog::record::tests::sample;

    /// Puts a tiny image on a shelf.
    pub(crate) fn put(shelf: &Shelf, name: &str, version: &str) -> Result<Stored> {
        let staging = shelf.stage()?;
        let mut record = sample(name, version);
        record.kernel = None;
        let disk = staging.folder().join(&record.disk);
        fs::write(&disk, version).map_err(CatalogError::io("write", disk.clone()))?;
        let digests = FileDigests::of(&disk, None, |_| ())?;
        record.sha256 = digests.sha256.hex().to_owned();
        shelf.insert(staging, record, &digests)
    }

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let home = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(Utf8Path::from_path(home.path()).unwrap());
        (home, shelf)
    }

    fn names(shelf: &Shelf) -> Vec<String> {
        let images = shelf.list().unwrap();
        images
            .iter()
            .map(|image| format!("{}/{}", image.record.name, image.record.version))
            .collect()
    }

    #[test]
    fn versions_sort_as_numbers() {
        let (_home, shelf) = shelf();
        assert_eq!(names(&shelf), Vec::<String>::new());
        for version in ["9.1.0", "10.1.0", "10.2.0"] {
            put(&shelf, "rocky", version).unwrap();
        }
        put(&shelf, "alma", "9.1.0").unwrap();
        assert_eq!(
            names(&shelf),
            ["alma/9.1.0", "rocky/9.1.0", "rocky/10.1.0", "rocky/10.2.0"]
        );
        let found = |pattern: &str| {
            let image = shelf.find("rocky", &pattern.parse().unwrap()).unwrap();
            image.map(|image| image.record.version.to_string())
        };
        assert_eq!(found("x.x.x").as_deref(), Some("10.2.0"));
        assert_eq!(found("10.1.x").as_deref(), Some("10.1.0"));
        assert_eq!(found("11.x.x"), None);
    }

    #[test]
    fn a_version_is_never_replaced() {
        let (_home, shelf) = shelf();
        put(&shelf, "a", "1.0.0").unwrap();
        assert!(matches!(
            put(&shelf, "a", "1.0.0"),
            Err(CatalogError::Exists { .. })
        ));
        // And the refused one left no folder.
        assert_eq!(fs::read_dir(&shelf.root).unwrap().count(), 1);
    }

    #[test]
    fn an_image_in_use_stays() {
        let (_home, shelf) = shelf();
        let image = put(&shelf, "a", "1.0.0").unwrap();
        let held = (shelf.hold(&image).unwrap(), shelf.hold(&image).unwrap());
        assert!(matches!(
            shelf.remove(&image),
            Err(CatalogError::InUse { .. })
        ));
        drop(held);
        shelf.remove(&image).unwrap();
        assert_eq!(fs::read_dir(&shelf.root).unwrap().count(), 0);
        assert!(shelf.hold(&image).is_err());
    }

    #[test]
    fn what_a_killed_process_left_is_swept() {
        let (_home, shelf) = shelf();
        let alive = shelf.stage().unwrap();
        let dead = shelf.stage().unwrap();
        let dead_folder = dead.folder().to_owned();
        // As if killed: the lock is gone, the folder is not.
        let Staging { folder: _, _lock } = &dead;
        _lock.unlock().unwrap();
        let third = shelf.stage().unwrap();
        assert!(!dead_folder.exists() && alive.folder().exists() && third.folder().exists());
    }

    #[test]
    fn a_broken_image_does_not_hide_the_others() {
        let (_home, shelf) = shelf();
        put(&shelf, "a", "1.0.0").unwrap();
        let broken = put(&shelf, "a", "2.0.0").unwrap();
        fs::write(broken.folder.join("base.json"), "{").unwrap();
        assert_eq!(names(&shelf), ["a/1.0.0"]);
    }
}
