//! A server on loopback that misbehaves as told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the server has and how it behaves.
#[derive(Debug, Default, Clone)]
pub(super) struct Behaviour {
    /// Bodies by path.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// The entity tag of every file.
    pub(super) etag: Option<String>,
    /// For each request for a file: close the connection after so many bytes of the body.
    pub(super) cuts: VecDeque<usize>,
    /// For each request: this status in place of an answer.
    pub(super) statuses: VecDeque<u16>,
    /// Answer every request with the whole file.
    pub(super) ignores_ranges: bool,
    /// Answer a range request with a part that begins here instead.
    pub(super) wrong_start: Option<usize>,
    /// Do not check `If-Range`.
    pub(super) ignores_if_range: bool,
}

/// One request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) range: Option<String>,
    pub(super) if_range: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) base: String,
    behaviour: Arc<Mutex<Behaviour>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Starts a server that lives as long as the test's runtime.
    pub(super) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            base: format!("http://{}", listener.local_addr().unwrap()),
            behaviour: Arc::new(Mutex::new(behaviour)),
            seen: Arc::default(),
        };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = accepting.clone();
                tokio::spawn(async move { drop(server.answer(stream).await) });
            }
        });
        server
    }

    /// Changes the behaviour from the next request on.
    pub(super) fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    /// The requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    async fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_owned());
        }
        let path = head[0].split(' ').nth(1).unwrap().to_owned();
        let header = |name: &str| {
            head.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        let seen = Seen {
            path: path.clone(),
            range: header("range"),
            if_range: header("if-range"),
        };
        self.seen.lock().unwrap().push(seen.clone());
        let (head, body) = respond(&mut self.behaviour.lock().unwrap(), &seen);
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
        stream.shutdown().await
    }
}

fn respond(behaviour: &mut Behaviour, seen: &Seen) -> (String, Vec<u8>) {
    let empty = |status: u16| {
        (
            format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
            Vec::new(),
        )
    };
    if let Some(status) = behaviour.statuses.pop_front() {
        return empty(status);
    }
    let Some(file) = behaviour.files.get(&seen.path).cloned() else {
        return empty(404);
    };
    let fresh = behaviour.ignores_if_range || seen.if_range == behaviour.etag;
    let asked = seen.range.as_deref().and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()
    });
    let etag = behaviour
        .etag
        .as_ref()
        .map_or_else(String::new, |etag| format!("etag: {etag}\r\n"));
    let (status, start) = match asked {
        Some(start) if fresh && !behaviour.ignores_ranges => {
            (206, behaviour.wrong_start.unwrap_or(start))
        }
        _ => (200, 0),
    };
    if start >= file.len() {
        return empty(416);
    }
    let body = &file[start..];
    let range = match status {
        206 => format!(
            "content-range: bytes {start}-{}/{}\r\n",
            file.len() - 1,
            file.len()
        ),
        _ => String::new(),
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\n{etag}{range}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let sent = behaviour
        .cuts
        .pop_front()
        .unwrap_or(body.len())
        .min(body.len());
    (head, body[..sent].to_vec())
}
