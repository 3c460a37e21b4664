//! A proxy on loopback that counts requests and breaks those that it is told to.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// The connection is cut after so many bytes of the request's body have reached the registry.
    Reset { after: usize },
    /// The body is taken, and nothing ever answered.
    Stall,
    /// This status instead of the registry's answer, with further headers.
    Status(u16, String),
    /// The request reaches the registry with one byte of its body changed.
    Damage,
    /// The connection is cut after so many bytes of the answer.
    CutAnswer { after: usize },
    /// The answer stops after so many bytes, and the connection stays.
    Hang { after: usize },
    /// The answer's last byte is another one.
    Corrupt,
}

#[derive(Default)]
struct State {
    faults: VecDeque<(&'static str, &'static str, Fault)>,
    /// Method, path, and bytes of the body.
    seen: Vec<(String, String, u64)>,
    /// Bytes of answers to requests for blobs, heads too.
    answered: u64,
    /// Requests with a login or a token.
    authorised: usize,
}

/// The proxy. Its threads end with the test's process.
pub struct Proxy {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    pub fn start(registry: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || serve(client, registry, &shared));
            }
        });
        Self { port, state }
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The next request of this method whose path contains this text fails so.
    pub fn next(&self, method: &'static str, path: &'static str, fault: Fault) {
        self.state
            .lock()
            .unwrap()
            .faults
            .push_back((method, path, fault));
    }

    pub fn all_faults_happened(&self) -> bool {
        self.state.lock().unwrap().faults.is_empty()
    }

    /// Forgets what was seen and what was to fail.
    pub fn forget(&self) {
        *self.state.lock().unwrap() = State::default();
    }

    /// Requests of this method whose path contains this text.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let state = self.state.lock().unwrap();
        let fits = |seen: &&(String, String, u64)| seen.0 == method && seen.1.contains(path);
        state.seen.iter().filter(fits).count()
    }

    /// Requests that came with a login or a token.
    pub fn authorised(&self) -> usize {
        self.state.lock().unwrap().authorised
    }

    /// Bytes of answers to requests for blobs, heads too.
    pub fn answered_bytes(&self) -> u64 {
        self.state.lock().unwrap().answered
    }

    /// Requests that open, continue or finish an upload.
    pub fn uploads(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let uploads = state
            .seen
            .iter()
            .filter(|seen| seen.1.contains("/blobs/uploads/"));
        uploads
            .map(|seen| format!("{} {}", seen.0, seen.1))
            .collect()
    }

    /// Bytes in the bodies of uploads, as announced.
    pub fn blob_bytes(&self) -> u64 {
        let state = self.state.lock().unwrap();
        let uploads = state
            .seen
            .iter()
            .filter(|seen| seen.1.contains("/blobs/uploads/"));
        uploads.map(|seen| seen.2).sum()
    }
}

/// One request for each connection: both sides are told to close it.
fn serve(mut client: TcpStream, registry: u16, state: &Mutex<State>) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
        // The beginning of a TLS handshake, which some clients try first: they must see at once that there is none here.
        if head == [0x16] {
            return None;
        }
    }
    let text = String::from_utf8(head).ok()?;
    let mut words = text.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let length: usize = text
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse().ok())?
        })
        .unwrap_or(0);
    let fault = {
        let mut state = state.lock().unwrap();
        if text.to_ascii_lowercase().contains("\r\nauthorization:") {
            state.authorised += 1;
        }
        state
            .seen
            .push((method.clone(), path.clone(), length as u64));
        match state.faults.front() {
            Some((of, part, _)) if *of == method && path.contains(part) => state
                .faults
                .pop_front()
                .map_or(Fault::Pass, |fault| fault.2),
            _ => Fault::Pass,
        }
    };
    if let Fault::Stall | Fault::Status(..) = fault {
        std::io::copy(&mut (&client).take(length as u64), &mut std::io::sink()).ok()?;
        if let Fault::Status(status, headers) = fault {
            let answer = format!(
                "HTTP/1.1 {status} X\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n"
            );
            client.write_all(answer.as_bytes()).ok()?;
            return client.shutdown(Shutdown::Both).ok();
        }
        // Until the other side has had enough.
        let _ = client.read(&mut byte);
        return None;
    }
    let mut upstream = TcpStream::connect(("127.0.0.1", registry)).ok()?;
    let head = text.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    upstream.write_all(head.as_bytes()).ok()?;
    let part = match fault {
        Fault::Reset { after } => after.min(length),
        _ => length,
    };
    if let Fault::Damage = fault {
        let mut body = vec![0; length];
        client.read_exact(&mut body).ok()?;
        *body.last_mut()? ^= 1;
        upstream.write_all(&body).ok()?;
    } else {
        std::io::copy(&mut (&client).take(part as u64), &mut upstream).ok()?;
    }
    if let Fault::Reset { .. } = fault {
        let _ = upstream.shutdown(Shutdown::Both);
        return client.shutdown(Shutdown::Both).ok();
    }
    match fault {
        Fault::CutAnswer { after } => {
            // The head of an answer is far shorter than what is let through.
            std::io::copy(&mut upstream.take(after as u64), &mut client).ok()?;
        }
        Fault::Hang { after } => {
            std::io::copy(&mut upstream.take(after as u64), &mut client).ok()?;
            // Until the other side has had enough.
            let _ = client.read(&mut byte);
        }
        Fault::Corrupt => {
            let mut answer = Vec::new();
            upstream.read_to_end(&mut answer).ok()?;
            *answer.last_mut()? ^= 1;
            client.write_all(&answer).ok()?;
        }
        _ => {
            let bytes = std::io::copy(&mut upstream, &mut client).ok()?;
            if path.contains("/blobs/sha256:") {
                state.lock().unwrap().answered += bytes;
            }
        }
    }
    client.shutdown(Shutdown::Both).ok()
}
