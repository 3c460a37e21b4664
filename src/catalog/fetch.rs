//! Downloads that survive: broken connections, killed processes, servers that ignore ranges, files that change in between.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::Once;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Client, Response, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::progress::Progress;
use super::{CatalogError, Result};

/// How often in a row a connection may break without a new byte.
const MAX_STALLS: u32 = 5;
/// A server that says nothing for this long is gone.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Listings and lists of digests are small; anything bigger is not one.
const MAX_TEXT: usize = 16 << 20;

/// Fetches from distributions' servers, or from a mirror in their place.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    client: Client,
    from: Option<String>,
    /// Bytes that a file may have.
    most: Option<u64>,
    /// The first pause after a broken connection; doubled each time.
    pause: Duration,
}

/// What must be the same for a download to be continued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    url: String,
    /// A strong entity tag or a modification date.
    validator: Option<String>,
    total: Option<u64>,
}

/// A file that has arrived in full, not yet verified. The folder is locked until it is dropped.
#[derive(Debug)]
pub(crate) struct Download {
    /// The data.
    pub(crate) path: Utf8PathBuf,
    folder: Utf8PathBuf,
    _lock: File,
}

impl Download {
    /// Removes what is left of the download.
    pub(crate) fn discard(self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Why an attempt ended before the end of the file.
enum Broken {
    /// Worth another attempt.
    Connection(Option<reqwest::Error>),
    /// Not.
    Fatal(CatalogError),
}

impl Fetcher {
    /// Makes a fetcher. `from` replaces scheme and host of every address, for mirrors and machines without a way out.
    ///
    /// # Errors
    /// [`CatalogError::Fetch`] if TLS can't be set up.
    pub(crate) fn new(from: Option<&str>) -> Result<Self> {
        static PROVIDER: Once = Once::new();
        // An error only means that somebody else was first.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .user_agent(concat!("ovenbird/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| fetch_error("the network", error))?;
        Ok(Self {
            client,
            from: from.map(|base| base.trim_end_matches('/').to_owned()),
            most: None,
            pause: Duration::from_millis(500),
        })
    }

    /// … that refuses files of more bytes than these.
    pub(crate) fn at_most(self, bytes: u64) -> Self {
        Self {
            most: Some(bytes),
            ..self
        }
    }

    /// The address that is really asked for `url`.
    pub(crate) fn address(&self, url: &str) -> String {
        match (
            &self.from,
            url.split_once("://")
                .and_then(|(_, rest)| rest.split_once('/')),
        ) {
            (Some(base), Some((_, path))) => format!("{base}/{path}"),
            _ => url.to_owned(),
        }
    }

    /// Fetches a small text.
    ///
    /// # Errors
    /// [`CatalogError::Fetch`] or [`CatalogError::Refused`].
    pub(crate) async fn text(&self, url: &str) -> Result<String> {
        let url = self.address(url);
        let mut stalls = 0;
        loop {
            match self.text_once(&url).await {
                Ok(text) => return Ok(text),
                Err(Broken::Fatal(error)) => return Err(error),
                Err(Broken::Connection(cause)) => {
                    stalls += 1;
                    self.after_stall(&url, stalls, 0, cause).await?;
                }
            }
        }
    }

    async fn text_once(&self, url: &str) -> std::result::Result<String, Broken> {
        let connection = |error| Broken::Connection(Some(error));
        let mut response = self.client.get(url).send().await.map_err(connection)?;
        check_status(&response, url)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(connection)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_TEXT {
                return Err(refused(url, format!("more than {MAX_TEXT} bytes")));
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Fetches a file into a folder below `partials`, going on where an earlier attempt stopped.
    ///
    /// # Errors
    /// [`CatalogError::Fetch`], [`CatalogError::Refused`], [`CatalogError::Interrupted`], [`CatalogError::InUse`] if another
    /// process fetches the same, or [`CatalogError::Io`].
    pub(crate) async fn file(
        &self,
        url: &str,
        partials: &Utf8Path,
        progress: &dyn Progress,
    ) -> Result<Download> {
        let url = self.address(url);
        let folder = partials.join(&hex::encode(Sha256::digest(&url))[..16]);
        std::fs::create_dir_all(&folder).map_err(CatalogError::io("create", folder.clone()))?;
        let lock_path = folder.join("lock");
        let lock = File::create(&lock_path).map_err(CatalogError::io("create", lock_path))?;
        if lock.try_lock().is_err() {
            return Err(CatalogError::InUse {
                name: url,
                version: "download".into(),
            });
        }
        let mut partial = Partial::open(&folder, &url)?;
        let mut stalls = 0;
        loop {
            let before = partial.length;
            if partial.state.total == Some(partial.length) {
                break;
            }
            match self.attempt(&url, &mut partial, progress).await {
                Ok(()) => break,
                Err(Broken::Fatal(error)) => return Err(error),
                Err(Broken::Connection(cause)) => {
                    stalls = if partial.length > before {
                        1
                    } else {
                        stalls + 1
                    };
                    progress.line(&format!(
                        "the connection broke at byte {}, going on",
                        partial.length
                    ));
                    self.after_stall(&url, stalls, partial.length, cause)
                        .await?;
                }
            }
        }
        partial
            .data
            .sync_all()
            .map_err(CatalogError::io("flush", partial.path.clone()))?;
        Ok(Download {
            path: partial.path,
            folder,
            _lock: lock,
        })
    }

    async fn after_stall(
        &self,
        url: &str,
        stalls: u32,
        at: u64,
        cause: Option<reqwest::Error>,
    ) -> Result<()> {
        if stalls >= MAX_STALLS {
            return Err(match cause {
                // A server that never answered deserves its own words: a wrong name, a refused connection.
                Some(error) if at == 0 => fetch_error(url, error),
                _ => CatalogError::Interrupted {
                    url: url.to_owned(),
                    attempts: stalls,
                    at,
                },
            });
        }
        tokio::time::sleep(self.pause * 2u32.pow(stalls - 1)).await;
        Ok(())
    }

    async fn attempt(
        &self,
        url: &str,
        partial: &mut Partial,
        progress: &dyn Progress,
    ) -> std::result::Result<(), Broken> {
        let connection = |error| Broken::Connection(Some(error));
        let mut request = self.client.get(url);
        // Without a validator the server could not tell us that the file is another one by now.
        let resume = partial
            .state
            .validator
            .clone()
            .filter(|_| partial.length > 0);
        if let Some(validator) = &resume {
            request = request
                .header(RANGE, format!("bytes={}-", partial.length))
                .header(IF_RANGE, validator);
        }
        let mut response = request.send().await.map_err(connection)?;
        let continues = resume.is_some() && continues(&response, partial);
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE
            || (resume.is_some() && wrong_part(&response, continues))
        {
            partial
                .restart(State {
                    url: url.to_owned(),
                    validator: None,
                    total: None,
                })
                .map_err(Broken::Fatal)?;
            return Err(Broken::Connection(None));
        }
        check_status(&response, url)?;
        if !continues {
            if partial.length > 0 {
                progress.line("the server has no continuation for us, starting again");
            }
            partial
                .restart(State::of(
                    url,
                    response.headers(),
                    response.content_length(),
                ))
                .map_err(Broken::Fatal)?;
        }
        progress.bytes(partial.length, partial.state.total);
        let refuse = |bytes: u64| match self.most {
            Some(most) if bytes > most => Err(refused(url, format!("more than {most} bytes"))),
            _ => Ok(()),
        };
        refuse(partial.state.total.unwrap_or_default())?;
        while let Some(chunk) = response.chunk().await.map_err(connection)? {
            refuse(partial.length.saturating_add(chunk.len() as u64))?;
            partial.append(&chunk).map_err(Broken::Fatal)?;
            progress.bytes(partial.length, partial.state.total);
        }
        match partial.state.total {
            Some(total) if partial.length < total => Err(Broken::Connection(None)),
            Some(total) if partial.length > total => {
                partial
                    .restart(State {
                        url: url.to_owned(),
                        validator: None,
                        total: None,
                    })
                    .map_err(Broken::Fatal)?;
                Err(Broken::Connection(None))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a response is the rest of what we have.
fn continues(response: &Response, partial: &Partial) -> bool {
    let same_file =
        validator(response.headers()).is_none_or(|now| Some(now) == partial.state.validator);
    response.status() == StatusCode::PARTIAL_CONTENT
        && same_file
        && content_range(response.headers()).is_some_and(|(start, total)| {
            start == partial.length
                && (total.is_none()
                    || partial.state.total.is_none()
                    || total == partial.state.total)
        })
}

/// A part that we can't use: it does not begin where we stopped, or is of another file.
fn wrong_part(response: &Response, continues: bool) -> bool {
    response.status() == StatusCode::PARTIAL_CONTENT && !continues
}

fn check_status(response: &Response, url: &str) -> std::result::Result<(), Broken> {
    let status = response.status();
    if status.is_success() {
        Ok(())
    } else if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        Err(Broken::Connection(None))
    } else {
        Err(refused(url, status.to_string()))
    }
}

fn refused(url: &str, answer: String) -> Broken {
    Broken::Fatal(CatalogError::Refused {
        url: url.to_owned(),
        answer,
    })
}

fn fetch_error(url: &str, error: reqwest::Error) -> CatalogError {
    CatalogError::Fetch {
        url: url.to_owned(),
        source: Box::new(error.without_url()),
    }
}

/// What identifies this state of the file. A weak entity tag does not promise the same bytes (RFC 9110, 13.1.5).
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    text(ETAG)
        .filter(|tag| !tag.starts_with("W/"))
        .or_else(|| text(LAST_MODIFIED))
        .map(str::to_owned)
}

/// Start and total of `Content-Range: bytes 5-9/10`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, total) = headers
        .get(CONTENT_RANGE)?
        .to_str()
        .ok()?
        .strip_prefix("bytes ")?
        .split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

impl State {
    fn of(url: &str, headers: &HeaderMap, total: Option<u64>) -> Self {
        Self {
            url: url.to_owned(),
            validator: validator(headers),
            total,
        }
    }
}

/// A file on its way.
struct Partial {
    path: Utf8PathBuf,
    state_path: Utf8PathBuf,
    data: File,
    length: u64,
    state: State,
}

impl Partial {
    fn open(folder: &Utf8Path, url: &str) -> Result<Self> {
        let (path, state_path) = (folder.join("data"), folder.join("state.json"));
        let known: Option<State> = std::fs::read(&state_path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .filter(|state: &State| state.url == url);
        let data = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(CatalogError::io("create", path.clone()))?;
        let length = data
            .metadata()
            .map_err(CatalogError::io("read", path.clone()))?
            .len();
        let mut partial = Self {
            path,
            state_path,
            data,
            length,
            state: known.clone().unwrap_or(State {
                url: url.to_owned(),
                validator: None,
                total: None,
            }),
        };
        match known {
            Some(state) if state.validator.is_some() || state.total == Some(length) => {
                std::io::Seek::seek(&mut partial.data, std::io::SeekFrom::End(0))
                    .map_err(CatalogError::io("read", partial.path.clone()))?;
            }
            _ => partial.restart(State {
                url: url.to_owned(),
                validator: None,
                total: None,
            })?,
        }
        Ok(partial)
    }

    fn restart(&mut self, state: State) -> Result<()> {
        let clear = |data: &mut File| {
            data.set_len(0)?;
            std::io::Seek::rewind(data)
        };
        clear(&mut self.data).map_err(CatalogError::io("clear", self.path.clone()))?;
        self.length = 0;
        let text = serde_json::to_vec(&state)
            .map_err(std::io::Error::other)
            .map_err(CatalogError::io("write", self.state_path.clone()))?;
        std::fs::write(&self.state_path, text)
            .map_err(CatalogError::io("write", self.state_path.clone()))?;
        self.state = state;
        Ok(())
    }

    fn append(&mut self, chunk: &[u8]) -> Result<()> {
        self.data
            .write_all(chunk)
            .map_err(CatalogError::io("write", self.path.clone()))?;
        self.length += chunk.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
