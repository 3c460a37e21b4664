//! A blob on its way out of a registry.

use camino::Utf8Path;
use reqwest::{Method, Response, StatusCode};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use super::client::{Body, Call, Registry, header};
use super::model::{Descriptor, sha256_of_bytes};
use super::retry::Ended;
use super::upload::file_digest;
use super::{RegistryError, Result};

/// Manifests and configurations are read into memory; nothing longer is one.
pub const MAX_SMALL: usize = 16 << 20;

impl Registry {
    /// Fetches a small blob, verified.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], [`RegistryError::DigestMismatch`], [`RegistryError::BadContent`] if it is longer than
    /// [`MAX_SMALL`], or what the registry says.
    pub async fn small_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let what = format!("fetching {}", descriptor.digest);
        descriptor.hex()?;
        let mut attempts = self.attempts(&what);
        let body = loop {
            let attempt = async {
                let response = self.once(&self.get(descriptor, 0, &what)?).await?;
                let response = self.found(response, descriptor, &what).await?;
                self.small_body(response, &descriptor.digest).await
            };
            match attempt.await {
                Ok(body) => break body,
                Err(ended) => attempts.after(ended).await?,
            }
        };
        verify(
            &descriptor.digest,
            &descriptor.digest,
            sha256_of_bytes(&body),
        )?;
        Ok(body)
    }

    /// Fetches a blob into a file, verified. What the file holds already is not fetched again. `arrived` is told of bytes.
    ///
    /// # Errors
    /// Like [`Registry::small_blob`], and [`RegistryError::Io`].
    pub async fn fetch_blob(
        &self,
        descriptor: &Descriptor,
        path: &Utf8Path,
        arrived: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        let what = format!("fetching {}", descriptor.digest);
        descriptor.hex()?;
        let mut attempts = self.attempts(&what);
        // Whether all bytes of the file are from this call: then a wrong digest is the registry's doing.
        let mut own = false;
        loop {
            let length = match tokio::fs::metadata(path).await {
                Ok(data) => data.len(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
                Err(error) => return Err(RegistryError::io("read", path)(error)),
            };
            if length == descriptor.size && length > 0 || (descriptor.size == 0 && own) {
                let actual = file_digest(path.to_owned()).await?;
                if actual == descriptor.digest {
                    return Ok(());
                }
                tokio::fs::remove_file(path)
                    .await
                    .map_err(RegistryError::io("remove", path))?;
                if own {
                    return verify(&what, &descriptor.digest, actual);
                }
                continue;
            }
            if length > descriptor.size {
                tokio::fs::remove_file(path)
                    .await
                    .map_err(RegistryError::io("remove", path))?;
                continue;
            }
            own |= length == 0;
            match self
                .fetch_rest(descriptor, path, length, arrived, &what)
                .await
            {
                Ok(()) => {}
                Err(ended) => {
                    let now = tokio::fs::metadata(path).await.map_or(0, |data| data.len());
                    if now > length {
                        attempts.progressed();
                    }
                    attempts.after(ended).await?;
                }
            }
        }
    }

    async fn fetch_rest(
        &self,
        descriptor: &Descriptor,
        path: &Utf8Path,
        from: u64,
        arrived: &(dyn Fn(u64) + Sync),
        what: &str,
    ) -> Result<(), Ended> {
        let response = self.once(&self.get(descriptor, from, what)?).await?;
        let mut response = self.found(response, descriptor, what).await?;
        let continues = response.status() == StatusCode::PARTIAL_CONTENT
            && header(&response, "content-range")
                .is_some_and(|range| range.starts_with(&format!("bytes {from}-")));
        if response.status() == StatusCode::PARTIAL_CONTENT && !continues {
            return Err(RegistryError::content(
                &descriptor.digest,
                "came from another place than was asked for",
            )
            .into());
        }
        let start = if continues { from } else { 0 };
        let bad = |action| RegistryError::io(action, path);
        let mut file = tokio::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .await
            .map_err(bad("create"))?;
        file.set_len(start).await.map_err(bad("write"))?;
        file.seek(std::io::SeekFrom::End(0))
            .await
            .map_err(bad("write"))?;
        let mut at = start;
        let ended = loop {
            let next = tokio::time::timeout(self.options().patience.stall, response.chunk()).await;
            match next {
                Ok(Ok(Some(part))) => {
                    at += part.len() as u64;
                    if at > descriptor.size {
                        break Err(RegistryError::content(
                            &descriptor.digest,
                            format!(
                                "is longer than the {} bytes it should have",
                                descriptor.size
                            ),
                        )
                        .into());
                    }
                    file.write_all(&part).await.map_err(bad("write"))?;
                    arrived(part.len() as u64);
                }
                Ok(Ok(None)) => break Ok(()),
                Ok(Err(error)) => break Err(self.broken(error)),
                Err(_) => {
                    let error = RegistryError::Stalled {
                        registry: self.host().to_owned(),
                        what: what.to_owned(),
                        after: self.options().patience.stall,
                    };
                    break Err(Ended::Transient(error, None));
                }
            }
        };
        // Tokio's file writes behind; what has arrived must be there for the next attempt.
        file.flush().await.map_err(bad("write"))?;
        ended?;
        if at < descriptor.size {
            let error = RegistryError::content(
                &descriptor.digest,
                format!("ended after {at} of {} bytes", descriptor.size),
            );
            return Err(Ended::Transient(error, None));
        }
        Ok(())
    }

    fn get<'a>(&self, descriptor: &Descriptor, from: u64, what: &'a str) -> Result<Call<'a>> {
        let mut headers = Vec::new();
        if from > 0 {
            headers.push(("range", format!("bytes={from}-")));
        }
        Ok(Call {
            method: Method::GET,
            url: self.url(&format!("blobs/{}", descriptor.digest))?,
            headers,
            body: Body::Empty,
            what,
            scopes: self.pull_scope(),
        })
    }

    async fn found(
        &self,
        response: Response,
        descriptor: &Descriptor,
        what: &str,
    ) -> Result<Response, Ended> {
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::NOT_FOUND => Err(RegistryError::NotFound {
                registry: self.host().to_owned(),
                what: format!("blob {}", descriptor.digest),
            }
            .into()),
            _ => Err(self.ended(response, what).await),
        }
    }
}

/// Compares digests.
pub(super) fn verify(what: &str, expected: &str, actual: String) -> Result<()> {
    if actual == expected {
        return Ok(());
    }
    Err(RegistryError::DigestMismatch {
        what: what.to_owned(),
        expected: expected.to_owned(),
        actual,
    })
}
