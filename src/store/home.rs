//! The home: the one folder that holds base images, finished images, runs, logs and caches.

use camino::{Utf8Path, Utf8PathBuf};

use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// The folder of downloaded packages in the cache.
pub const PACKAGES: &str = "packages";

/// The home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    path: Utf8PathBuf,
}

impl Home {
    /// A home at a path; created if it isn't there.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if it can't be created.
    pub fn at(path: impl Into<Utf8PathBuf>) -> Result<Self> {
        let path: Utf8PathBuf = path.into();
        std::fs::create_dir_all(&path).or_failure(FailureKind::Environment, || {
            format!("cannot create the home {path}")
        })?;
        // Backing files and QEMU need absolute paths.
        let path = path
            .canonicalize_utf8()
            .or_failure(FailureKind::Environment, || {
                format!("cannot resolve the home {path}")
            })?;
        Ok(Self { path })
    }

    /// The user's own: the platform's data folder.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the platform names none.
    pub fn of_user() -> Result<Self> {
        let folders = directories::ProjectDirs::from("", "", "ovenbird").ok_or_else(|| {
            Failure::environment("this user has no data folder").with_hint("set OVENBIRD_HOME")
        })?;
        let path = Utf8PathBuf::try_from(folders.data_dir().to_path_buf())
            .or_failure(FailureKind::Environment, || {
                "the data folder's name is not UTF-8".into()
            })?;
        Self::at(path)
    }

    /// The folder itself.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Private folders of builds that run now or whose guests were kept.
    pub fn runs(&self) -> Utf8PathBuf {
        self.path.join("runs")
    }

    /// What can be made again.
    pub fn cache(&self) -> Utf8PathBuf {
        self.path.join("cache")
    }

    /// Packages that guests downloaded.
    pub fn packages(&self) -> Utf8PathBuf {
        self.cache().join(PACKAGES)
    }

    /// The database of known vulnerabilities.
    pub fn vulnerabilities(&self) -> Utf8PathBuf {
        self.path.join("vulnerabilities.sqlite")
    }

    /// Finished images: `<name>/<version>/<build>`.
    pub fn images(&self) -> Utf8PathBuf {
        self.path.join("images")
    }

    /// Journals of distributions.
    pub fn distributions(&self) -> Utf8PathBuf {
        self.path.join("distributions")
    }

    /// Logs, laid out as the service names its streams: `<name>/<version>/<build>`.
    pub fn logs(&self) -> Utf8PathBuf {
        self.path.join("logs")
    }
}
