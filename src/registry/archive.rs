//! OCI archives: an image layout in a tar file.

use std::fs::File;

use camino::{Utf8Path, Utf8PathBuf};

use super::{RegistryError, Result};

/// Opens a layout: a folder as it is, an archive unpacked into a temporary folder that goes away with the returned guard.
///
/// # Errors
/// [`RegistryError::BadContent`] for an archive with anything but a layout in it, or [`RegistryError::Io`].
pub fn open_layout(path: &Utf8Path) -> Result<(Utf8PathBuf, Option<tempfile::TempDir>)> {
    if path.is_dir() {
        return Ok((path.to_owned(), None));
    }
    let bad = |action| RegistryError::io(action, path);
    // Beside the archive: what fits there once fits there twice more likely than in a small /tmp.
    let parent = path
        .parent()
        .filter(|parent| !parent.as_str().is_empty())
        .unwrap_or(Utf8Path::new("."));
    let guard = tempfile::Builder::new()
        .prefix(".ovenbird-layout-")
        .tempdir_in(parent)
        .or_else(|_| tempfile::tempdir())
        .map_err(bad("unpack"))?;
    let folder = Utf8PathBuf::from_path_buf(guard.path().to_owned())
        .map_err(|path| RegistryError::content(path.display().to_string(), "is not UTF-8"))?;
    std::fs::create_dir_all(folder.join("blobs/sha256")).map_err(bad("unpack"))?;
    let mut archive = tar::Archive::new(File::open(path).map_err(bad("open"))?);
    let mut has_index = false;
    for entry in archive.entries().map_err(bad("read"))? {
        let mut entry = entry.map_err(bad("read"))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name);
        // Only names that a layout has are written: a foreign archive may try any other.
        let is_blob = name
            .strip_prefix("blobs/sha256/")
            .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if !is_blob && !matches!(name, "index.json" | "oci-layout") {
            continue;
        }
        has_index |= name == "index.json";
        let target = folder.join(name);
        let mut file =
            File::create(&target).map_err(RegistryError::io("create", target.clone()))?;
        std::io::copy(&mut entry, &mut file).map_err(RegistryError::io("write", target))?;
    }
    if !has_index {
        return Err(RegistryError::content(
            path.as_str(),
            "is no OCI archive: it has no index.json",
        ));
    }
    Ok((folder, Some(guard)))
}
