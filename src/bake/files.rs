//! Files of this machine that a component gets: their digests for the layer's key, and their way into the guest.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use tokio_util::io::SyncIoBridge;

use super::plan::{PlannedComponent, PlannedFile};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::guest::Guest;

/// Between the thread that reads the files and the connection that sends them.
const BUFFER: usize = 256 * 1024;

/// Plans a file or folder: reads it once for its digest.
///
/// # Errors
/// [`FailureKind::Config`] if it can't be read, or holds something that is neither file, folder nor link.
pub fn plan(from: &Utf8Path, to: &str) -> Result<PlannedFile> {
    let mut hasher = blake3::Hasher::new();
    let target = target(from, to);
    walk(from, &target, &mut |entry| entry.hash(&mut hasher))
        .or_failure(FailureKind::Config, || format!("cannot read {from}"))?;
    Ok(PlannedFile {
        from: from.to_owned(),
        to: target,
        digest: hasher.finalize().to_hex().to_string(),
    })
}

/// Puts the files of a component into the guest: owned by root, with their modes and times.
///
/// # Errors
/// [`FailureKind::Config`] if a file changed since it was planned or can't be read, a guest failure if the copy fails.
pub async fn put(guest: &Guest, component: &PlannedComponent) -> Result<()> {
    if component.files.is_empty() {
        return Ok(());
    }
    let (near, far) = tokio::io::duplex(BUFFER);
    let files = component.files.clone();
    let pack = tokio::task::spawn_blocking(move || pack(&files, SyncIoBridge::new(far)));
    let command = "umask 022; tar -xpf - -C /";
    let session = guest.session();
    let mut said = Vec::new();
    let sent = session
        .feed(command, near, |chunk| {
            if let crate::guest::ssh::Chunk::Stderr(bytes) = chunk {
                let room = 4096_usize.saturating_sub(said.len());
                said.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Ok(())
        })
        .await
        .map_err(|error| guest.lost("copying files").caused_by(error))?;
    // What is wrong here is the cause of what the guest then says.
    let packed = pack
        .await
        .or_failure(FailureKind::Internal, || "a worker thread failed".into())?;
    if sent != Some(0) {
        return Err(Failure::guest(format!(
            "cannot put the files of {} into the guest",
            component.name
        ))
        .with_details(String::from_utf8_lossy(&said).into_owned())
        .with_hint("is there room on its disk, and is the place writable?"));
    }
    packed.or_failure(FailureKind::Config, || {
        format!("cannot read the files of {}", component.name)
    })
}

/// `to`, or what lies in it if it is a folder by its slash; without a slash at its end.
fn target(from: &Utf8Path, to: &str) -> String {
    let is_folder = from.is_dir();
    match to.strip_suffix('/') {
        Some(folder) if !is_folder => format!("{folder}/{}", from.file_name().unwrap_or("file")),
        Some(folder) => folder.to_owned(),
        None => to.to_owned(),
    }
}

/// Something on the way into the guest.
struct Entry<'a> {
    /// Where it goes.
    to: &'a str,
    from: &'a Utf8Path,
    meta: &'a std::fs::Metadata,
}

impl Entry<'_> {
    /// Frames everything by its length, so that no two trees give the same bytes.
    fn hash(&self, hasher: &mut blake3::Hasher) -> io::Result<()> {
        let kind = self.meta.file_type();
        let mode = self.meta.permissions().mode() & 0o7777;
        hasher.update(&(self.to.len() as u64).to_le_bytes());
        hasher.update(self.to.as_bytes());
        if kind.is_symlink() {
            let target = self.from.read_link_utf8()?;
            hasher.update(b"l");
            hasher.update(&(target.as_str().len() as u64).to_le_bytes());
            hasher.update(target.as_str().as_bytes());
            return Ok(());
        }
        hasher.update(if kind.is_dir() { b"d" } else { b"f" });
        hasher.update(&mode.to_le_bytes());
        if kind.is_file() {
            let mut content = blake3::Hasher::new();
            content.update_reader(std::fs::File::open(self.from)?)?;
            hasher.update(content.finalize().as_bytes());
        }
        Ok(())
    }

    fn append<W: Write>(&self, archive: &mut tar::Builder<W>) -> io::Result<()> {
        let name = self.to.trim_start_matches('/');
        let mut header = tar::Header::new_gnu();
        header.set_metadata(self.meta);
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("")?;
        header.set_groupname("")?;
        let kind = self.meta.file_type();
        if kind.is_symlink() {
            header.set_size(0);
            return archive.append_link(&mut header, name, self.from.read_link_utf8()?);
        }
        if kind.is_dir() {
            header.set_size(0);
            return archive.append_data(&mut header, name, io::empty());
        }
        let file = std::fs::File::open(self.from)?;
        let length = self.meta.len();
        header.set_size(length);
        archive.append_data(&mut header, name, io::Read::take(file, length))
    }
}

/// Visits a file, or a folder with all in it, in the order of names.
fn walk(
    from: &Utf8Path,
    to: &str,
    visit: &mut dyn FnMut(&Entry<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let meta = std::fs::symlink_metadata(from)?;
    let kind = meta.file_type();
    if !(kind.is_dir() || kind.is_file() || kind.is_symlink()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{from} is neither a file, a folder nor a link"),
        ));
    }
    // The root of the guest is there already.
    if !to.is_empty() {
        let entry = Entry {
            to,
            from,
            meta: &meta,
        };
        visit(&entry)?;
    }
    if kind.is_dir() {
        let mut names: Vec<Utf8PathBuf> = from
            .read_dir_utf8()?
            .map(|entry| entry.map(|entry| entry.path().to_owned()))
            .collect::<io::Result<_>>()?;
        names.sort();
        for path in names {
            let name = path.file_name().unwrap_or_default();
            walk(&path, &format!("{to}/{name}"), visit)?;
        }
    }
    Ok(())
}

/// Packs what still is what was planned.
fn pack(files: &[PlannedFile], out: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    for file in files {
        let mut hasher = blake3::Hasher::new();
        walk(&file.from, &file.to, &mut |entry| {
            entry.hash(&mut hasher)?;
            entry.append(&mut archive)
        })?;
        if hasher.finalize().to_hex().as_str() != file.digest {
            return Err(io::Error::other(format!(
                "{} changed while the image was built",
                file.from
            )));
        }
    }
    archive.into_inner()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs::Permissions;
    use std::io::Read as _;

    fn tree() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(dir.path().join("site")).unwrap();
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("sub/a"), "content").unwrap();
        std::os::unix::fs::symlink("sub/a", root.join("link")).unwrap();
        std::fs::set_permissions(root.join("sub/a"), Permissions::from_mode(0o640)).unwrap();
        (dir, root)
    }

    #[test]
    fn the_archive_holds_what_was_planned() {
        let (_dir, root) = tree();
        let planned = plan(&root, "/srv/www/").unwrap();
        assert_eq!(planned.to, "/srv/www");
        let mut archive = Vec::new();
        pack(std::slice::from_ref(&planned), &mut archive).unwrap();
        let mut seen = BTreeMap::new();
        for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let header = entry.header();
            let facts = (
                header.mode().unwrap() & 0o777,
                header.uid().unwrap(),
                entry
                    .link_name()
                    .unwrap()
                    .map(|name| name.display().to_string()),
                text,
            );
            seen.insert(entry.path().unwrap().display().to_string(), facts);
        }
        let names: Vec<&str> = seen.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["srv/www", "srv/www/link", "srv/www/sub", "srv/www/sub/a"]
        );
        assert_eq!(seen["srv/www/sub/a"], (0o640, 0, None, "content".into()));
        assert_eq!(seen["srv/www/link"].2.as_deref(), Some("sub/a"));
    }

    #[test]
    fn any_change_changes_the_digest_and_stops_the_copy() {
        let (_dir, root) = tree();
        let before = plan(&root, "/srv").unwrap();
        assert_eq!(plan(&root, "/srv").unwrap(), before);
        assert_ne!(plan(&root, "/opt").unwrap().digest, before.digest);
        let changes: [&dyn Fn(); 3] = [
            &|| std::fs::write(root.join("sub/a"), "Content").unwrap(),
            &|| {
                std::fs::set_permissions(root.join("sub/a"), Permissions::from_mode(0o600))
                    .unwrap();
            },
            &|| std::fs::rename(root.join("link"), root.join("lank")).unwrap(),
        ];
        let mut last = before;
        for change in changes {
            change();
            let failure = pack(std::slice::from_ref(&last), io::sink()).unwrap_err();
            assert!(failure.to_string().contains("changed while"), "{failure}");
            let now = plan(&root, "/srv").unwrap();
            assert_ne!(now.digest, last.digest);
            last = now;
        }
    }

    #[test]
    fn a_slash_means_into() {
        let (_dir, root) = tree();
        assert_eq!(target(&root.join("sub/a"), "/etc/app/"), "/etc/app/a");
        assert_eq!(
            target(&root.join("sub/a"), "/etc/app.conf"),
            "/etc/app.conf"
        );
        assert_eq!(target(&root, "/"), "");
        let failure = plan(&root.join("nothing"), "/x").unwrap_err();
        assert!(failure.to_string().starts_with("cannot read"), "{failure}");
    }
}
