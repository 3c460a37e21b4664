//! Name resolution by `/etc/hosts` and DNS.
//!
//! The C library's own resolver loads plug-ins at run time, which a static binary must not do in a foreign guest.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Waiting time for one answer, as in the C library's resolver but shorter: there are [`TRIES`] of them.
const ANSWER_TIME: Duration = Duration::from_secs(3);
const TRIES: usize = 2;

/// Addresses taken from one name; the HTTP client has room for 16.
const MOST_ADDRESSES: usize = 8;

/// Resolves names from the files below a folder, usually `/etc`.
#[derive(Debug, Clone)]
pub struct FileResolver {
    folder: PathBuf,
}

impl Default for FileResolver {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("/etc"),
        }
    }
}

impl Resolver for FileResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let port = uri
            .port_u16()
            .unwrap_or(if uri.scheme_str() == Some("https") {
                443
            } else {
                80
            });
        let limit = Instant::now() + (*timeout.after).min(Duration::from_secs(30));
        let found = self.lookup(host, limit).map_err(ureq::Error::Io)?;
        let mut addresses = self.empty();
        for address in found.into_iter().take(MOST_ADDRESSES) {
            addresses.push(SocketAddr::new(address, port));
        }
        if addresses.is_empty() {
            Err(ureq::Error::HostNotFound)
        } else {
            Ok(addresses)
        }
    }
}

impl FileResolver {
    fn lookup(&self, host: &str, limit: Instant) -> io::Result<Vec<IpAddr>> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let hosts = read(&self.folder.join("hosts"));
        let found = in_hosts(&hosts, bare);
        if !found.is_empty() {
            return Ok(found);
        }
        if bare.eq_ignore_ascii_case("localhost")
            || bare.to_ascii_lowercase().ends_with(".localhost")
        {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let settings = Settings::parse(&read(&self.folder.join("resolv.conf")));
        let mut last = io::Error::new(
            io::ErrorKind::NotFound,
            format!("the name {bare} has no address"),
        );
        for name in settings.candidates(bare) {
            match ask_all(&settings.servers, &name, limit) {
                Ok(found) if !found.is_empty() => return Ok(found),
                Ok(_) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn read(path: &Path) -> String {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn in_hosts(hosts: &str, name: &str) -> Vec<IpAddr> {
    hosts
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words
                .any(|word| word.eq_ignore_ascii_case(name))
                .then_some(address)
        })
        .collect()
}

/// What `resolv.conf` says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settings {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
}

impl Settings {
    fn parse(text: &str) -> Self {
        let mut settings = Self::default();
        for line in text.lines() {
            let mut words = line
                .split(['#', ';'])
                .next()
                .unwrap_or("")
                .split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // A scope such as `%eth0` belongs to link-local servers, which need more than an address.
                    if let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) {
                        settings.servers.push(SocketAddr::new(address, 53));
                    }
                }
                Some("search" | "domain") => settings.search = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        if settings.servers.is_empty() {
            settings
                .servers
                .push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53));
        }
        settings
    }

    /// The full names to ask for, in order.
    fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let searched = self
            .search
            .iter()
            .map(|domain| format!("{name}.{}", domain.trim_end_matches('.')));
        if name.contains('.') {
            std::iter::once(name.to_owned()).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(name.to_owned())).collect()
        }
    }
}

fn ask_all(servers: &[SocketAddr], name: &str, limit: Instant) -> io::Result<Vec<IpAddr>> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no name server is set up");
    for server in servers.iter().cycle().take(servers.len() * TRIES) {
        if Instant::now() >= limit {
            break;
        }
        let mut found = Vec::new();
        let mut answered = false;
        for kind in [RecordKind::V4, RecordKind::V6] {
            match ask(*server, name, kind, limit) {
                Ok(addresses) => {
                    answered = true;
                    found.extend(addresses);
                }
                Err(error) => last = error,
            }
        }
        if answered {
            return Ok(found);
        }
    }
    Err(last)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordKind {
    V4,
    V6,
}

impl RecordKind {
    /// Number of the record type: A is 1, AAAA is 28.
    fn number(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }
}

fn ask(
    server: SocketAddr,
    name: &str,
    kind: RecordKind,
    limit: Instant,
) -> io::Result<Vec<IpAddr>> {
    let local: SocketAddr = if server.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(local)?;
    socket.connect(server)?;
    let id = query_id();
    socket.send(&query(id, name, kind)?)?;
    let deadline = limit.min(Instant::now() + ANSWER_TIME);
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the name server {server} does not answer"),
            ));
        }
        socket.set_read_timeout(Some(left))?;
        let count = socket.recv(&mut buffer)?;
        // An answer to another question is a stray or a forgery; the right one may still come.
        if let Some(answer) = Answer::parse(&buffer[..count], id, kind) {
            return match answer.code {
                0 | 3 => Ok(answer.addresses),
                code => Err(io::Error::other(format!(
                    "the name server {server} answers with error {code}"
                ))),
            };
        }
    }
}

/// An id that an outsider cannot guess, from the seed that the standard library takes from the kernel.
fn query_id() -> u16 {
    use std::hash::{BuildHasher, Hasher};
    let bytes = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
        .to_le_bytes();
    u16::from_le_bytes([bytes[0], bytes[1]])
}

/// A question for one record type, with recursion and room for a large answer.
fn query(id: u16, name: &str, kind: RecordKind) -> io::Result<Vec<u8>> {
    let bad = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{name}` is not a host name"),
        )
    };
    let mut bytes = Vec::with_capacity(name.len() + 32);
    bytes.extend(id.to_be_bytes());
    // Flags: recursion desired. Counts: one question, one additional record.
    bytes.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..=63).contains(length))
            .ok_or_else(bad)?;
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.number().to_be_bytes());
    bytes.extend([0, 1]);
    // EDNS (RFC 6891): an empty record of type 41 that offers a payload of 4096 bytes.
    bytes.extend([0, 0, 41, 0x10, 0x00, 0, 0, 0, 0, 0, 0]);
    if name.len() > 253 {
        Err(bad())
    } else {
        Ok(bytes)
    }
}

struct Answer {
    code: u8,
    addresses: Vec<IpAddr>,
}

impl Answer {
    /// Parses an answer; `None` when it does not belong to the question or is cut.
    fn parse(bytes: &[u8], id: u16, kind: RecordKind) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let is_answer = bytes.get(2)? & 0x80 != 0;
        if word(0)? != id || !is_answer {
            return None;
        }
        let code = bytes.get(3)? & 0x0f;
        let (questions, answers) = (word(4)?, word(6)?);
        let mut at = 12;
        for _ in 0..questions {
            at = skip_name(bytes, at)? + 4;
        }
        let mut addresses = Vec::new();
        for _ in 0..answers {
            at = skip_name(bytes, at)?;
            let (found, length) = (word(at)?, usize::from(word(at + 8)?));
            let data = bytes.get(at + 10..at + 10 + length)?;
            at += 10 + length;
            if found != kind.number() {
                continue;
            }
            match kind {
                RecordKind::V4 => addresses.push(IpAddr::from(<[u8; 4]>::try_from(data).ok()?)),
                RecordKind::V6 => addresses.push(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)),
            }
        }
        Some(Self { code, addresses })
    }
}

/// The offset behind a name; compressed names end with a pointer of two bytes.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_read_as_people_write_them() {
        let hosts =
            "127.0.0.1 localhost\n# 1.1.1.1 no\n10.0.0.5\tMirror mirror.lan # yes\n::1 localhost\n";
        assert_eq!(
            in_hosts(hosts, "mirror.LAN"),
            ["10.0.0.5".parse::<IpAddr>().expect("address")]
        );
        assert_eq!(in_hosts(hosts, "localhost").len(), 2);
        assert!(in_hosts(hosts, "yes").is_empty());
        let settings = Settings::parse(
            "; comment\nsearch a.lan b.lan.\nnameserver 10.0.2.3\nnameserver fe80::1%eth0\noptions x\n",
        );
        assert_eq!(settings.servers, ["10.0.2.3:53".parse().expect("address")]);
        assert_eq!(
            settings.candidates("host"),
            ["host.a.lan", "host.b.lan", "host"]
        );
        assert_eq!(settings.candidates("a.b."), ["a.b"]);
    }

    #[test]
    fn answers_are_parsed_and_foreign_ones_refused() {
        let question = query(7, "a.example", RecordKind::V4).expect("valid");
        let mut answer = question[..12].to_vec();
        answer[2] = 0x81;
        answer[7] = 2;
        answer[11] = 0;
        answer.extend(&question[12..question.len() - 11]);
        // A CNAME first, then the address, both with compressed names.
        answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
        let parsed = Answer::parse(&answer, 7, RecordKind::V4).expect("parsed");
        assert_eq!(parsed.addresses, [IpAddr::from([192, 0, 2, 1])]);
        assert!(Answer::parse(&answer, 8, RecordKind::V4).is_none());
        for length in 0..answer.len() {
            assert!(
                Answer::parse(&answer[..length], 7, RecordKind::V4).is_none(),
                "{length}"
            );
        }
        assert!(query(1, &"x".repeat(64), RecordKind::V4).is_err());
        assert!(query(1, "a..b", RecordKind::V4).is_err());
    }
}
