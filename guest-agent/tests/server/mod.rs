//! A small HTTP server on the loopback that answers as a test wants it to, well or badly.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What goes over the wire, byte by byte.
pub struct Answer {
    bytes: Vec<u8>,
    stalls: bool,
}

impl Answer {
    fn raw(head: &str, body: &str) -> Self {
        Self {
            bytes: format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n{body}").into_bytes(),
            stalls: false,
        }
    }

    /// A good answer.
    pub fn ok(body: &str) -> Self {
        Self::raw(&format!("200 OK\r\ncontent-length: {}", body.len()), body)
    }

    /// Another status.
    pub fn status(status: u16, body: &str) -> Self {
        Self::raw(
            &format!("{status} X\r\ncontent-length: {}", body.len()),
            body,
        )
    }

    /// Announces more bytes than it sends.
    pub fn cut(body: &str, announced: usize) -> Self {
        Self::raw(&format!("200 OK\r\ncontent-length: {announced}"), body)
    }

    /// A redirect.
    pub fn redirect(to: &str) -> Self {
        Self::raw(
            &format!("302 Found\r\nlocation: {to}\r\ncontent-length: 0"),
            "",
        )
    }

    /// Starts an answer and never goes on.
    pub fn stall() -> Self {
        Self {
            stalls: true,
            ..Self::cut("he", 5)
        }
    }
}

/// A running server; it ends with the test process.
pub struct Server {
    port: u16,
    /// Requests so far.
    pub requests: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts a server; `answer` gets the path and the number of the request, from 0.
    pub fn start(answer: impl Fn(&str, usize) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (counter, log) = (Arc::clone(&requests), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(request) = read_request(&stream) else {
                    continue;
                };
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                log.lock().expect("log").push(request);
                let answer = answer(&path, counter.fetch_add(1, Ordering::SeqCst));
                let mut stream = stream;
                // A client that hangs up early is part of some tests.
                let _ = stream.write_all(&answer.bytes);
                if answer.stalls {
                    std::thread::spawn(move || {
                        std::thread::sleep(Duration::from_secs(30));
                        drop(stream);
                    });
                }
            }
        });
        Self {
            port,
            requests,
            seen,
        }
    }

    /// Address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// All requests so far: head with lower-case header names, then the body.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("log").clone()
    }
}

fn read_request(stream: &TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && !request.is_empty()
        {
            let name = name.to_ascii_lowercase();
            if name == "content-length" {
                length = value.trim().parse().ok()?;
            }
            line = format!("{name}:{value}");
        }
        request.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    request.push_str(&String::from_utf8_lossy(&body));
    Some(request)
}
