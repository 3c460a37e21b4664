//! `prepare`: puts the documents of a bake into the guest and tells its package manager where the host's cache is.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use ovenbird_component::errand::Preparation;
use serde::de::DeserializeOwned;

use super::complain;
use crate::{EXIT_FAILED, EXIT_SUCCESS};

/// What the host asks in one go is documents, which have a limit of their own.
const LONGEST: u64 = 64 << 20;

pub(super) fn run() -> i32 {
    let prepared = read_errand().and_then(|errand: Preparation| {
        put_documents(&errand).map_err(|error| format!("cannot write the documents: {error}"))?;
        point_at_packages(&errand, Path::new("/etc/apt"))
            .map_err(|error| format!("cannot set up package downloads: {error}"))
    });
    match prepared {
        Ok(()) => EXIT_SUCCESS,
        Err(error) => {
            complain(&error);
            EXIT_FAILED
        }
    }
}

/// Reads what the host asks for.
pub(super) fn read_errand<T: DeserializeOwned>() -> Result<T, String> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(LONGEST)
        .read_to_string(&mut text)
        .and_then(|_| Ok(serde_json::from_str(&text)?))
        .map_err(|error| format!("cannot understand the host: {error}"))
}

/// Puts a file in its place, whole or not at all.
pub(super) fn place(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    remove(part)?;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(part)?;
    file.write_all(bytes)?;
    std::fs::rename(part, path)
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn put_documents(errand: &Preparation) -> std::io::Result<()> {
    let folder = Path::new(&errand.folder);
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    for document in &errand.documents {
        place(
            &folder.join(&document.file),
            document.text.as_bytes(),
            0o600,
        )?;
    }
    Ok(())
}

/// What a layer of an earlier bake says of the cache is over. A proxy of the guest's own stays in charge.
fn point_at_packages(errand: &Preparation, apt: &Path) -> std::io::Result<()> {
    let settings = Path::new(&errand.package_settings);
    remove(settings)?;
    let Some(port) = errand.package_port else {
        return Ok(());
    };
    if !apt.join("apt.conf.d").is_dir() || has_proxy(apt) {
        return Ok(());
    }
    let text = format!("Acquire::http::Proxy \"http://127.0.0.1:{port}\";\n");
    place(settings, text.as_bytes(), 0o644)
}

/// Whether the guest's apt has a proxy already.
fn has_proxy(apt: &Path) -> bool {
    let parts = std::fs::read_dir(apt.join("apt.conf.d"));
    let files = parts.into_iter().flatten().flatten();
    files
        .map(|entry| entry.path())
        .chain([apt.join("apt.conf")])
        .filter_map(|path| std::fs::read(path).ok())
        .any(|bytes| {
            String::from_utf8_lossy(&bytes)
                .to_ascii_lowercase()
                .contains("acquire::http::proxy")
        })
}

#[cfg(test)]
mod tests {
    use ovenbird_component::errand::Document;

    use super::*;

    fn errand(folder: &Path, port: Option<u16>) -> Preparation {
        Preparation {
            folder: folder.join("documents").to_string_lossy().into_owned(),
            documents: vec![Document {
                file: "00-web.yml".into(),
                text: "name: web\n".into(),
            }],
            package_settings: folder
                .join("apt/apt.conf.d/zz")
                .to_string_lossy()
                .into_owned(),
            package_port: port,
        }
    }

    #[test]
    fn documents_of_another_bake_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let documents = folder.path().join("documents");
        std::fs::create_dir(&documents).unwrap();
        std::fs::write(documents.join("01-old.yml"), "old").unwrap();
        put_documents(&errand(folder.path(), None)).unwrap();
        let names: Vec<_> = std::fs::read_dir(&documents)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["00-web.yml"]);
        let text = std::fs::read_to_string(documents.join("00-web.yml")).unwrap();
        assert_eq!(text, "name: web\n");
    }

    #[test]
    fn the_cache_is_named_unless_the_guest_has_a_proxy() {
        let folder = tempfile::tempdir().unwrap();
        let apt = folder.path().join("apt");
        let settings = apt.join("apt.conf.d/zz");
        let with = errand(folder.path(), Some(4711));
        // No apt.
        point_at_packages(&with, &apt).unwrap();
        assert!(!settings.exists());
        std::fs::create_dir_all(apt.join("apt.conf.d")).unwrap();
        point_at_packages(&with, &apt).unwrap();
        assert_eq!(
            std::fs::read_to_string(&settings).unwrap(),
            "Acquire::http::Proxy \"http://127.0.0.1:4711\";\n"
        );
        // Its own setting of the last time is no proxy of the guest's.
        point_at_packages(&with, &apt).unwrap();
        assert!(settings.exists());
        point_at_packages(&errand(folder.path(), None), &apt).unwrap();
        assert!(!settings.exists());
        std::fs::write(apt.join("apt.conf"), "acquire::HTTP::Proxy \"http://p\";").unwrap();
        point_at_packages(&with, &apt).unwrap();
        assert!(!settings.exists());
    }
}
