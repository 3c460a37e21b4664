//! Disks that a recipe names by address and digest: fetched once, kept under their digest.

use camino::{Utf8Path, Utf8PathBuf};

use super::digest::{Algorithm, Digest, FileDigests};
use super::fetch::Fetcher;
use super::progress::{Progress, Silent};
use super::{CatalogError, Result, Shelf};
use crate::documents::ParentImage;

/// Where fetched disks lie below the home: `cache/parents/<sha256>/<file name>`.
const FOLDER: &str = "cache/parents";

/// What [`resolve`](super::resolve()) shall resolve for a parent image: a disk at an address is fetched first.
///
/// # Errors
/// [`CatalogError::BadReference`] for what only EC2 has, and those of [`fetch`].
pub async fn reference(
    home: &Utf8Path,
    parent: &ParentImage,
    progress: &dyn Progress,
) -> Result<String> {
    let elsewhere = |reason: &str| CatalogError::BadReference {
        reference: parent.to_string(),
        reason: format!(
            "{reason}; name an image of the catalogue, a disk's path, or an address with its digest"
        ),
    };
    match parent {
        ParentImage::Url { url, sha256 } => {
            let disk = fetch(home, url, sha256, progress).await?;
            // As an address of a file, so that the digest is checked in every build.
            let path = disk.as_str().replace('%', "%25").replace('#', "%23");
            Ok(format!("file://{path}#sha256:{sha256}"))
        }
        ParentImage::Ami(_) => Err(elsewhere("only EC2 can start an AMI")),
        ParentImage::SsmParameter(_) => Err(elsewhere("only the service knows its parameters")),
        ParentImage::Image { .. } | ParentImage::File { .. } => Ok(parent.to_string()),
    }
}

/// [`reference()`] for callers that cannot wait: the runtime of the fetch is a thread of its own.
///
/// # Errors
/// Those of [`reference()`].
pub fn reference_blocking(home: &Utf8Path, parent: &ParentImage) -> Result<String> {
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(CatalogError::io("fetch into", home.to_owned()))?
                .block_on(reference(home, parent, &Silent))
        });
        match fetching.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Gives the file of an address. It is fetched if none with the digest is there; whether one that is there still has it is
/// checked by [`resolve`](super::resolve()), as for every disk. An interrupted download goes on where it stopped.
///
/// # Errors
/// [`CatalogError::DigestMismatch`], [`CatalogError::BadReference`] for a digest that is none, or what went wrong on the
/// network.
pub async fn fetch(
    home: &Utf8Path,
    url: &str,
    sha256: &str,
    progress: &dyn Progress,
) -> Result<Utf8PathBuf> {
    let expected =
        Digest::new(Algorithm::Sha256, sha256).ok_or_else(|| CatalogError::BadReference {
            reference: url.to_owned(),
            reason: format!("`{sha256}` is no SHA-256"),
        })?;
    let folder = home.join(FOLDER).join(expected.hex());
    let target = folder.join(file_name(url));
    if target.is_file() {
        return Ok(target);
    }
    progress.stage(&format!("fetch {url}"));
    let fetcher = Fetcher::new(None)?;
    let download = fetcher
        .file(url, &Shelf::new(home).partial(), progress)
        .await?;
    progress.stage("verify");
    let path = download.path.clone();
    let digests = tokio::task::spawn_blocking(move || FileDigests::of(&path, None, |_| ()))
        .await
        .map_err(|error| {
            CatalogError::io("read", download.path.clone())(std::io::Error::other(error))
        })??;
    if let Err(error) = digests.verify(&expected, url) {
        // Continuing it would only give the same wrong bytes again.
        download.discard();
        return Err(error);
    }
    std::fs::create_dir_all(&folder).map_err(CatalogError::io("create", folder))?;
    std::fs::rename(&download.path, &target).map_err(CatalogError::io("create", target.clone()))?;
    download.discard();
    Ok(target)
}

/// The last part of an address as a harmless file name: it names the image, too.
fn file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let last = path.rsplit('/').next().unwrap_or_default();
    let name: String = last
        .chars()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() => c,
            '-' | '_' | '.' => c,
            _ => '-',
        })
        .collect();
    if super::reference::is_name(&name) {
        name
    } else {
        "disk".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::super::test_server::{Behaviour, Server};
    use super::*;

    #[tokio::test]
    async fn fetched_once_and_only_with_the_right_digest() {
        let body = b"a disk".to_vec();
        let sha256 = hex::encode(Sha256::digest(&body));
        let mut behaviour = Behaviour::default();
        behaviour.files.insert("/images/d.raw".into(), body);
        let server = Server::start(behaviour).await;
        let home = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(home.path()).unwrap();
        let url = format!("{}/images/d.raw", server.base);

        let wrong = fetch(home, &url, &"0".repeat(64), &Silent)
            .await
            .unwrap_err();
        assert!(
            matches!(wrong, CatalogError::DigestMismatch { .. }),
            "{wrong}"
        );
        assert!(!home.join(FOLDER).exists());

        let first = fetch(home, &url, &sha256, &Silent).await.unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), b"a disk");
        assert_eq!(first.file_name(), Some("d.raw"));
        let asked = server.seen().len();
        let second = fetch(home, &url, &sha256, &Silent).await.unwrap();
        assert_eq!((second, server.seen().len()), (first, asked));
    }

    #[tokio::test]
    async fn a_parent_at_an_address_becomes_a_file_with_its_digest() {
        let body = b"a disk".to_vec();
        let sha256 = hex::encode(Sha256::digest(&body));
        let mut behaviour = Behaviour::default();
        behaviour.files.insert("/d.raw".into(), body);
        let server = Server::start(behaviour).await;
        let home = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(home.path()).unwrap();
        let parent = ParentImage::parse(&format!("{}/d.raw#sha256:{sha256}", server.base)).unwrap();
        let found = reference(home, &parent, &Silent).await.unwrap();
        assert_eq!(
            found,
            format!("file://{home}/{FOLDER}/{sha256}/d.raw#sha256:{sha256}")
        );
        // It is here now, so that the blocking form needs no server.
        assert_eq!(reference_blocking(home, &parent).unwrap(), found);
        let ami = ParentImage::parse("ami-0123456789abcdef0").unwrap();
        let refused = reference(home, &ami, &Silent).await.unwrap_err();
        assert!(
            matches!(refused, CatalogError::BadReference { .. }),
            "{refused}"
        );
    }

    #[test]
    fn file_names_are_harmless() {
        for (url, name) in [
            (
                "https://example.org/images/debian-12.qcow2?x=1#y",
                "debian-12.qcow2",
            ),
            ("https://example.org/a%20b.raw", "a-20b.raw"),
            ("https://example.org/..", "disk"),
            ("https://example.org/", "disk"),
            ("https://example.org/.hidden", "disk"),
        ] {
            assert_eq!(file_name(url), name, "{url}");
        }
    }
}
