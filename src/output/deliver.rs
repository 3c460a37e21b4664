//! Putting a finished image in its place: nothing half-written is ever seen under its name.

use camino::{Utf8Path, Utf8PathBuf};

use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// A folder beside the final one, in which the outputs grow. Removed when dropped, unless
/// [published](Staging::publish) or [set aside](Staging::set_aside).
#[derive(Debug)]
pub struct Staging {
    folder: Utf8PathBuf,
    target: Utf8PathBuf,
    published: bool,
}

impl Staging {
    /// Creates the staging folder for `target`, on the same filesystem.
    ///
    /// # Errors
    /// [`FailureKind::Output`] if `target` exists already or the folder can't be created.
    pub fn create(target: &Utf8Path, run: &str) -> Result<Self> {
        if target.exists() {
            return Err(
                Failure::new(FailureKind::Output, format!("{target} exists already"))
                    .with_hint("remove it, or choose another `local.destination`"),
            );
        }
        let folder = Self::place(target, run);
        std::fs::create_dir_all(&folder)
            .or_failure(FailureKind::Output, || format!("cannot create {folder}"))?;
        Ok(Self {
            folder,
            target: target.to_owned(),
            published: false,
        })
    }

    /// Where a run's outputs for `target` grow.
    pub fn place(target: &Utf8Path, run: &str) -> Utf8PathBuf {
        let parent = target
            .parent()
            .filter(|parent| !parent.as_str().is_empty())
            .unwrap_or(Utf8Path::new("."));
        parent.join(format!(
            ".{}.{run}.part",
            target.file_name().unwrap_or("image")
        ))
    }

    /// Takes up what was [set aside](Self::set_aside) for `target`; it is then removed when dropped, as if just made.
    ///
    /// # Errors
    /// [`FailureKind::Output`] if there is nothing, or somebody else took it.
    pub fn take_up(target: &Utf8Path, run: &str) -> Result<Self> {
        let staging = Self::create(target, run)?;
        let aside = aside(target);
        std::fs::rename(&aside, &staging.folder)
            .or_failure(FailureKind::Output, || format!("cannot take up {aside}"))?;
        Ok(staging)
    }

    /// Keeps what was made, out of sight, for another attempt, in the place of what an earlier one left.
    ///
    /// # Errors
    /// [`FailureKind::Output`] if it can't be renamed; it is removed then.
    pub fn set_aside(mut self) -> Result<Utf8PathBuf> {
        let aside = aside(&self.target);
        match std::fs::remove_dir_all(&aside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error)
                    .or_failure(FailureKind::Output, || format!("cannot remove {aside}"));
            }
            _ => {}
        }
        std::fs::rename(&self.folder, &aside).or_failure(FailureKind::Output, || {
            format!("cannot rename {} to {aside}", self.folder)
        })?;
        self.published = true;
        Ok(aside)
    }

    /// Where to write.
    pub fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// Syncs everything and renames the folder to its final name.
    ///
    /// # Errors
    /// [`FailureKind::Output`] if that fails; the staging folder is removed then.
    pub fn publish(mut self) -> Result<Utf8PathBuf> {
        sync_tree(&self.folder).or_failure(FailureKind::Output, || {
            format!("cannot sync {}", self.folder)
        })?;
        std::fs::rename(&self.folder, &self.target).or_failure(FailureKind::Output, || {
            format!("cannot rename {} to {}", self.folder, self.target)
        })?;
        self.published = true;
        if let Some(parent) = self.target.parent() {
            // The rename itself has to survive a power cut.
            let _ = std::fs::File::open(parent).and_then(|folder| folder.sync_all());
        }
        Ok(self.target.clone())
    }
}

/// Where outputs lie whose tests failed: beside their place, under a name that says what they are.
pub fn aside(target: &Utf8Path) -> Utf8PathBuf {
    let parent = target.parent().unwrap_or(Utf8Path::new("."));
    parent.join(format!(
        ".{}.untested",
        target.file_name().unwrap_or("image")
    ))
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn sync_tree(folder: &Utf8Path) -> std::io::Result<()> {
    for entry in folder.read_dir_utf8()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(entry.path())?;
        } else {
            std::fs::File::open(entry.path())?.sync_all()?;
        }
    }
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appears_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(root.path()).unwrap();
        let target = root.join("a/b/1");
        let staging = Staging::create(&target, "r1").unwrap();
        std::fs::write(staging.folder().join("x"), "1").unwrap();
        assert!(!target.exists());
        drop(staging);
        assert_eq!(
            root.join("a/b").read_dir_utf8().unwrap().count(),
            0,
            "an unpublished image leaves nothing"
        );
        let staging = Staging::create(&target, "r2").unwrap();
        std::fs::create_dir(staging.folder().join("d")).unwrap();
        std::fs::write(staging.folder().join("d/x"), "1").unwrap();
        let aside = staging.set_aside().unwrap();
        assert!(aside.join("d/x").exists() && !target.exists());
        // Another build for the same place that failed as well.
        let staging = Staging::create(&target, "r2b").unwrap();
        std::fs::create_dir(staging.folder().join("d")).unwrap();
        std::fs::write(staging.folder().join("d/x"), "2").unwrap();
        assert_eq!(staging.set_aside().unwrap(), aside);
        let staging = Staging::take_up(&target, "r3").unwrap();
        assert!(Staging::take_up(&target, "r4").is_err(), "only once");
        staging.publish().unwrap();
        assert_eq!(std::fs::read_to_string(target.join("d/x")).unwrap(), "2");
        assert!(
            Staging::create(&target, "r3")
                .unwrap_err()
                .to_string()
                .contains("exists already")
        );
    }
}
