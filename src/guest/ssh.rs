//! One SSH session into the guest.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ovenbird_component::attend::Kind;
use russh::client::{self, Handle};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg, Disconnect};
use thiserror::Error;
use tokio::net::TcpStream;

use super::agent::GUEST_AGENT;
use super::attendant::{Attendant, Heard};

/// What can go wrong with the session.
#[derive(Debug, Error)]
pub enum SshError {
    /// Nothing listens yet, or the connection was cut before the greeting.
    #[error("no SSH server answers")]
    NoServer(#[source] russh::Error),
    /// The server's key is not the one that we put into the guest.
    #[error("the SSH server identifies itself with another key than the one put into the guest")]
    WrongHostKey,
    /// The server doesn't let us in.
    #[error("the guest does not let user `{user}` in")]
    Refused {
        /// Who wanted in.
        user: String,
    },
    /// The connection broke.
    #[error("the SSH connection broke")]
    Broken(#[source] russh::Error),
    /// The command printed more than we are willing to keep.
    #[error("the command's output exceeds {limit} bytes")]
    TooMuch {
        /// The limit in bytes.
        limit: usize,
    },
    /// The agent does not keep to what was agreed.
    #[error("the agent in the guest sends {0}")]
    Strange(String),
}

/// The user network accepts a connection for a guest that has no network yet, and then waits long for the guest's
/// answer. So a connection is given up soon if no banner comes; the server sends it first, before any cryptography.
const BANNER_BOUND: Duration = Duration::from_millis(2500);
/// Key exchange and login; some seconds under software emulation.
const LOGIN_BOUND: Duration = Duration::from_secs(60);

/// Connects and waits until the server's banner lies ready to be read.
async fn greeted(port: u16) -> Result<TcpStream, russh::Error> {
    let greeting = async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let mut first = [0; 4];
        // Nothing is taken out of the stream: the SSH client reads the banner itself.
        if stream.peek(&mut first).await? == 0 {
            return Err(russh::Error::Disconnect);
        }
        Ok(stream)
    };
    tokio::time::timeout(BANNER_BOUND, greeting)
        .await
        .unwrap_or(Err(russh::Error::ConnectionTimeout))
}

/// What root runs in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order<'a> {
    /// A line for the shell.
    Shell(&'a str),
    /// Arguments for the agent.
    Agent(&'a [&'a str]),
}

impl<'a> From<&'a str> for Order<'a> {
    fn from(line: &'a str) -> Self {
        Self::Shell(line)
    }
}

impl<'a> From<&'a String> for Order<'a> {
    fn from(line: &'a String) -> Self {
        Self::Shell(line)
    }
}

impl std::fmt::Display for Order<'_> {
    /// As a line for a shell.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shell(line) => f.write_str(line),
            Self::Agent(arguments) => {
                write!(f, "exec {GUEST_AGENT}")?;
                arguments
                    .iter()
                    .try_for_each(|argument| write!(f, " {}", shell_quote(argument)))
            }
        }
    }
}

/// What a command in the guest left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandOutput {
    /// Its exit status; `None` if it was killed or the connection broke first.
    pub status: Option<u32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, cut after 64 KiB.
    pub stderr: Vec<u8>,
}

impl CommandOutput {
    /// Whether it ended with status 0.
    pub fn success(&self) -> bool {
        self.status == Some(0)
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

const STDERR_LIMIT: usize = 64 * 1024;

type Offered = Arc<Mutex<HashMap<u32, SocketAddr>>>;

/// Our side of the connection: knows the guest's key, and where connections from the guest may go.
struct Ours {
    wanted: PublicKey,
    mismatch: Arc<std::sync::atomic::AtomicBool>,
    /// The addresses of the host that the guest may reach through the connection, by the guest's port.
    offered: Offered,
}

impl client::Handler for Ours {
    type Error = russh::Error;

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: russh::Channel<client::Msg>,
        _connected_address: &str,
        connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: russh::client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        // Dropping the handle refuses the connection.
        let address = self
            .offered
            .lock()
            .ok()
            .and_then(|offered| offered.get(&connected_port).copied());
        let Some(address) = address else {
            return Ok(());
        };
        reply.accept().await;
        tokio::spawn(async move {
            if let Ok(mut stream) = TcpStream::connect(address).await {
                let mut channel = channel.into_stream();
                let _ = tokio::io::copy_bidirectional(&mut channel, &mut stream).await;
            }
        });
        Ok(())
    }

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        let same = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                key.key_data() == self.wanted.key_data()
            }
            PublicKeyOrCertificate::Certificate(_) => false,
        };
        if !same {
            self.mismatch
                .store(true, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(same)
    }
}

/// An authenticated connection.
pub struct Session {
    handle: Handle<Ours>,
    offered: Offered,
    /// The agent's process that runs our commands, while it does nothing.
    attendant: Arc<Mutex<Option<Attendant>>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session(..)")
    }
}

impl Session {
    /// Connects to a loopback port, verifies the host key and logs in by public key.
    ///
    /// # Errors
    /// [`SshError::NoServer`] while the guest is not ready, [`SshError::WrongHostKey`], [`SshError::Refused`].
    pub async fn connect(
        port: u16,
        user: &str,
        key: &PrivateKey,
        host: &PublicKey,
    ) -> Result<Self, SshError> {
        let config = Arc::new(client::Config {
            // A guest that is gone is noticed after two minutes, also where no TCP reset arrives.
            keepalive_interval: Some(Duration::from_secs(20)),
            keepalive_max: 6,
            nodelay: true,
            // The stream of events is small; uploads profit from a large window.
            window_size: 4 * 1024 * 1024,
            ..client::Config::default()
        });
        let mismatch = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let offered = Offered::default();
        let ours = Ours {
            wanted: host.clone(),
            mismatch: Arc::clone(&mismatch),
            offered: Arc::clone(&offered),
        };
        let stream = greeted(port).await.map_err(SshError::NoServer)?;
        let mut handle =
            tokio::time::timeout(LOGIN_BOUND, client::connect_stream(config, stream, ours))
                .await
                .unwrap_or(Err(russh::Error::ConnectionTimeout))
                .map_err(|error| {
                    if mismatch.load(std::sync::atomic::Ordering::Relaxed) {
                        SshError::WrongHostKey
                    } else {
                        SshError::NoServer(error)
                    }
                })?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(key.clone()), None);
        let answer = handle
            .authenticate_publickey(user, key)
            .await
            .map_err(SshError::Broken)?;
        if !answer.success() {
            return Err(SshError::Refused { user: user.into() });
        }
        Ok(Self {
            handle,
            offered,
            attendant: Arc::default(),
        })
    }

    /// Offers an address of the host to the guest: on a port of the guest's loopback interface, through this connection.
    /// `port` 0 lets the guest choose; returns the port.
    ///
    /// # Errors
    /// [`SshError::Broken`] if the guest's server refuses, as it does with `AllowTcpForwarding no`.
    pub async fn offer(&self, address: SocketAddr, port: u16) -> Result<u16, SshError> {
        let given = self
            .handle
            .tcpip_forward("127.0.0.1", u32::from(port))
            .await
            .map_err(SshError::Broken)?;
        // The answer names a port only if the guest was to choose.
        let port = u16::try_from(given)
            .ok()
            .filter(|port| *port != 0)
            .unwrap_or(port);
        if let Ok(mut offered) = self.offered.lock() {
            offered.insert(u32::from(port), address);
        }
        Ok(port)
    }

    /// From now on commands go through a process of the agent, which must be in its place: that spares each of them a
    /// login and sudo.
    ///
    /// # Errors
    /// [`SshError::Broken`].
    pub async fn attend(&self) -> Result<(), SshError> {
        let channel = self
            .execute(&format!("exec sudo -n -- {GUEST_AGENT} attend"))
            .await?;
        self.give_back(Attendant::new(channel));
        Ok(())
    }

    /// The attendant, if it is free. Whoever takes it and doesn't bring it back has broken it.
    fn take_attendant(&self) -> Option<Attendant> {
        self.attendant.lock().ok()?.take()
    }

    fn give_back(&self, attendant: Attendant) {
        if let Ok(mut place) = self.attendant.lock() {
            *place = Some(attendant);
        }
    }

    /// Starts a command of the user that we are logged in as.
    async fn execute(&self, command: &str) -> Result<Channel<client::Msg>, SshError> {
        let channel = self
            .handle
            .channel_open_session()
            .await
            .map_err(SshError::Broken)?;
        channel
            .exec(true, command)
            .await
            .map_err(SshError::Broken)?;
        Ok(channel)
    }

    /// Runs something as root, feeds it `stdin`, and collects what it prints, up to `limit` bytes of standard output.
    ///
    /// # Errors
    /// [`SshError::Broken`], [`SshError::TooMuch`]. A non-zero exit status is not an error.
    pub async fn run(
        &self,
        order: impl Into<Order<'_>>,
        stdin: &[u8],
        limit: usize,
    ) -> Result<CommandOutput, SshError> {
        let mut output = CommandOutput::default();
        let status = self
            .stream(order, stdin, |chunk| match chunk {
                Chunk::Stdout(bytes) => {
                    if output.stdout.len() + bytes.len() > limit {
                        return Err(SshError::TooMuch { limit });
                    }
                    output.stdout.extend_from_slice(bytes);
                    Ok(())
                }
                Chunk::Stderr(bytes) => {
                    let room = STDERR_LIMIT.saturating_sub(output.stderr.len());
                    output
                        .stderr
                        .extend_from_slice(&bytes[..bytes.len().min(room)]);
                    Ok(())
                }
            })
            .await?;
        output.status = status;
        Ok(output)
    }

    /// Runs something as root, feeds it `stdin`, and hands each chunk that it prints to `sink`; returns its exit status.
    ///
    /// # Errors
    /// [`SshError::Broken`], and what `sink` returns.
    pub async fn stream(
        &self,
        order: impl Into<Order<'_>>,
        stdin: &[u8],
        sink: impl FnMut(Chunk<'_>) -> Result<(), SshError>,
    ) -> Result<Option<u32>, SshError> {
        let order = order.into();
        let start = std::time::Instant::now();
        let status = self.feed(order, stdin, sink).await;
        tracing::debug!(command = %order, seconds = start.elapsed().as_secs_f32(), "ran");
        status
    }

    /// The same with an input that is read as the command takes it.
    ///
    /// # Errors
    /// [`SshError::Broken`], and what `sink` returns.
    pub async fn feed(
        &self,
        order: impl Into<Order<'_>>,
        mut stdin: impl tokio::io::AsyncRead + Unpin,
        mut sink: impl FnMut(Chunk<'_>) -> Result<(), SshError>,
    ) -> Result<Option<u32>, SshError> {
        let order = order.into();
        if let Some(mut attendant) = self.take_attendant() {
            let (status, at_rest) = attendant.run(order, stdin, sink).await?;
            if at_rest {
                self.give_back(attendant);
            }
            return Ok(Some(status));
        }
        let mut channel = self.execute(&as_root(order)).await?;
        // The window lets the server stop us; so feeding and reading have to go on side by side.
        let writer = channel.make_writer();
        let feed = async move {
            use tokio::io::AsyncWriteExt as _;
            let mut writer = writer;
            // A command that doesn't read its input ends the pipe; that shows in its exit status.
            let _ = tokio::io::copy(&mut stdin, &mut writer).await;
            let _ = writer.shutdown().await;
        };
        let read = async {
            let mut status = None;
            while let Some(message) = channel.wait().await {
                match message {
                    ChannelMsg::Data { data } => sink(Chunk::Stdout(&data))?,
                    ChannelMsg::ExtendedData { data, .. } => sink(Chunk::Stderr(&data))?,
                    ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                    ChannelMsg::Close => break,
                    _ => {}
                }
            }
            Ok::<_, SshError>(status)
        };
        tokio::pin!(feed, read);
        // A command that has ended takes no more input, and its server no longer says that there is room for it.
        let status = tokio::select! {
            status = &mut read => status?,
            () = &mut feed => read.await?,
        };
        if status.is_none() && self.handle.is_closed() {
            return Err(SshError::Broken(russh::Error::Disconnect));
        }
        Ok(status)
    }

    /// Runs a command that waits for lines on its input.
    ///
    /// # Errors
    /// [`SshError::Broken`].
    pub async fn talk(&self, order: impl Into<Order<'_>>) -> Result<Talk, SshError> {
        let order = order.into();
        let partner = match self.take_attendant() {
            Some(mut attendant) => {
                attendant.begin(order).await?;
                Partner::Attendant(Some(attendant), self.attendant.clone())
            }
            None => Partner::Channel(self.execute(&as_root(order)).await?),
        };
        Ok(Talk {
            partner,
            seen: Vec::new(),
        })
    }

    /// Agrees on new secrets with the server, beside what goes on: those of a guest that went on from a saved memory stem
    /// from randomness that its other copies had as well.
    ///
    /// # Errors
    /// [`SshError::Broken`].
    pub async fn rekey(&self) -> Result<(), SshError> {
        self.handle.rekey_soon().await.map_err(SshError::Broken)
    }

    /// Says goodbye; errors don't matter any more.
    pub async fn close(self) {
        let _ = tokio::time::timeout(
            Duration::from_secs(2),
            self.handle
                .disconnect(Disconnect::ByApplication, "done", "en"),
        )
        .await;
    }
}

/// A command that is talked with, line by line.
pub struct Talk {
    partner: Partner,
    seen: Vec<u8>,
}

enum Partner {
    Channel(Channel<client::Msg>),
    /// With the place where it belongs; `None` after its command's end.
    Attendant(Option<Attendant>, Arc<Mutex<Option<Attendant>>>),
}

impl Partner {
    /// More of the output; `None` at its end.
    async fn hear(&mut self) -> Result<Option<Vec<u8>>, SshError> {
        match self {
            Self::Channel(channel) => loop {
                match channel.wait().await {
                    Some(ChannelMsg::Data { data }) => return Ok(Some(data.to_vec())),
                    Some(ChannelMsg::Close) | None => return Ok(None),
                    Some(_) => {}
                }
            },
            Self::Attendant(talking, place) => loop {
                let Some(attendant) = talking else {
                    return Ok(None);
                };
                match attendant.hear().await? {
                    Heard::Stdout(bytes) => return Ok(Some(bytes)),
                    Heard::Stderr(_) => {}
                    Heard::Exit(_) => {
                        attendant.send(Kind::StdinEnd, &[]).await?;
                        if let Ok(mut place) = place.lock() {
                            *place = talking.take();
                        }
                        return Ok(None);
                    }
                    Heard::End => return Ok(None),
                }
            },
        }
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<(), SshError> {
        match self {
            Self::Channel(channel) => channel.data(bytes).await.map_err(SshError::Broken),
            Self::Attendant(Some(attendant), _) => attendant.send(Kind::Stdin, bytes).await,
            Self::Attendant(None, _) => Ok(()),
        }
    }
}

/// Nobody talks in longer lines.
const LONGEST_LINE: usize = 64 * 1024;

impl Talk {
    /// The next line of its output; `None` at its end. Standard error is left out.
    ///
    /// # Errors
    /// [`SshError::TooMuch`] for an endless line.
    pub async fn hear(&mut self) -> Result<Option<String>, SshError> {
        loop {
            if let Some(end) = self.seen.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.seen.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            if self.seen.len() > LONGEST_LINE {
                return Err(SshError::TooMuch {
                    limit: LONGEST_LINE,
                });
            }
            match self.partner.hear().await? {
                Some(bytes) => self.seen.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }

    /// Sends it a line.
    ///
    /// # Errors
    /// [`SshError::Broken`].
    pub async fn say(&mut self, line: &str) -> Result<(), SshError> {
        self.partner.say(format!("{line}\n").as_bytes()).await
    }
}

/// A piece of a command's output.
#[derive(Debug, Clone, Copy)]
pub enum Chunk<'a> {
    /// Of standard output.
    Stdout(&'a [u8]),
    /// Of standard error.
    Stderr(&'a [u8]),
}

/// Puts the command line of a root shell before `command`; the bake user has passwordless sudo.
fn as_root(order: Order<'_>) -> String {
    format!("sudo -n -- sh -c {}", shell_quote(&order.to_string()))
}

/// Quotes a word for the guest's shell.
pub fn shell_quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_shell() {
        for (word, quoted) in [
            ("a/b-c", "a/b-c"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
        ] {
            assert_eq!(shell_quote(word), quoted);
        }
    }
}
