//! What components leave for people to see: it comes out of the guests, and goes with the image.

use camino::{Utf8Path, Utf8PathBuf};

use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::output::manifest::{Attachment, AttachmentKind};

/// The folder of an image, and of a build's logs, for it.
pub(super) const FOLDER: &str = "evidence";
/// In that folder, what the build and validate phases left; tests have the firmware and controller for a name.
const BUILD: &str = "build";
/// More files than these are no reports any more.
const MOST: usize = 2000;

/// Takes away what an earlier attempt of the tests left.
///
/// # Errors
/// [`FailureKind::Output`] if that can't be done.
pub(super) fn clear(image: &Utf8Path) -> Result<()> {
    let folder = image.join(FOLDER);
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).or_failure(FailureKind::Output, || format!("cannot remove {folder}"))
        }
        _ => Ok(()),
    }
}

/// Puts what the build left beside what the tests left, and lists all of it, sorted by path.
///
/// # Errors
/// [`FailureKind::Output`] if it can't be copied or read, or is too much.
pub(super) fn collect(image: &Utf8Path, build_logs: &Utf8Path) -> Result<Vec<Attachment>> {
    let of_build = build_logs.join(FOLDER);
    for path in files(&of_build)? {
        let to = image.join(FOLDER).join(BUILD).join(&path);
        let copied = std::fs::create_dir_all(to.parent().unwrap_or(image))
            .and_then(|()| std::fs::copy(of_build.join(&path), &to));
        copied.or_failure(FailureKind::Output, || format!("cannot write {to}"))?;
    }
    files(&image.join(FOLDER))?
        .into_iter()
        .map(|path| {
            Attachment::of(
                image,
                &Utf8Path::new(FOLDER).join(path),
                AttachmentKind::Evidence,
            )
        })
        .collect()
}

/// The files below a folder, by their paths in it; none if there is no such folder.
fn files(folder: &Utf8Path) -> Result<Vec<Utf8PathBuf>> {
    let failed = || format!("cannot read {folder}");
    let mut found = Vec::new();
    let mut open = vec![Utf8PathBuf::new()];
    while let Some(inside) = open.pop() {
        let entries = match folder.join(&inside).read_dir_utf8() {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).or_failure(FailureKind::Output, failed),
        };
        for entry in entries {
            let entry = entry.or_failure(FailureKind::Output, failed)?;
            let path = inside.join(entry.file_name());
            let kind = entry.file_type().or_failure(FailureKind::Output, failed)?;
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() {
                found.push(path);
            }
        }
        if found.len() > MOST {
            return Err(Failure::new(
                FailureKind::Output,
                format!("components left more than {MOST} files as evidence"),
            ));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_listed_and_an_earlier_attempt_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(root.path()).unwrap();
        let (image, logs) = (root.join("image"), root.join("logs"));
        assert_eq!(collect(&image, &logs).unwrap(), []);
        let write = |path: Utf8PathBuf, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(image.join("evidence/bios-virtio/old.html"), "old");
        clear(&image).unwrap();
        clear(&image).unwrap();
        write(image.join("evidence/bios-virtio/scan/report.html"), "hello");
        write(logs.join("evidence/before.xml"), "<a/>");
        let found = collect(&image, &logs).unwrap();
        let told: Vec<_> = found
            .iter()
            .map(|file| (file.path.as_str(), file.size))
            .collect();
        assert_eq!(
            told,
            [
                ("evidence/bios-virtio/scan/report.html", 5),
                ("evidence/build/before.xml", 4)
            ]
        );
        assert_eq!(
            found[0].sha256,
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        assert!(image.join("evidence/build/before.xml").is_file());
    }
}
