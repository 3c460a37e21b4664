//! Commands of root through one process of the agent: see [`ovenbird_component::attend`].

use ovenbird_component::attend::{HEADER, Kind, follows, header};
use russh::client;
use russh::{Channel, ChannelMsg};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::ssh::{Chunk, Order, SshError};

/// Bytes of input that travel together.
const PIECE: usize = 32 * 1024;

/// The agent's process at the other end of a channel, doing nothing at the moment.
pub(super) struct Attendant {
    channel: Channel<client::Msg>,
    /// What has arrived and is not looked at yet.
    seen: Vec<u8>,
}

impl Attendant {
    /// `channel` leads to a started `attend`.
    pub(super) fn new(channel: Channel<client::Msg>) -> Self {
        Self {
            channel,
            seen: Vec::new(),
        }
    }

    /// Runs a command to its end; returns its exit status, and whether all of its input was sent. If it was not, or if this
    /// is dropped before its end, the process is of no use any more.
    pub(super) async fn run(
        &mut self,
        order: Order<'_>,
        mut stdin: impl AsyncRead + Unpin,
        mut sink: impl FnMut(Chunk<'_>) -> Result<(), SshError>,
    ) -> Result<(u32, bool), SshError> {
        self.begin(order).await?;
        let mut writer = self.channel.make_writer();
        let feed = async move {
            use tokio::io::AsyncWriteExt as _;
            let mut buffer = vec![0; PIECE];
            // A broken connection shows on the other side, where the output ends too early.
            while let Ok(count @ 1..) = stdin.read(&mut buffer).await {
                let _ = writer
                    .write_all(&header(Kind::Stdin, &buffer[..count]))
                    .await;
                let _ = writer.write_all(&buffer[..count]).await;
            }
            let _ = writer.write_all(&header(Kind::StdinEnd, &[])).await;
            let _ = writer.flush().await;
        };
        let hear = async {
            loop {
                match self.hear().await? {
                    Heard::Stdout(bytes) => sink(Chunk::Stdout(&bytes))?,
                    Heard::Stderr(bytes) => sink(Chunk::Stderr(&bytes))?,
                    Heard::Exit(status) => return Ok(status),
                    Heard::End => return Err(SshError::Broken(russh::Error::Disconnect)),
                }
            }
        };
        tokio::pin!(feed, hear);
        tokio::select! {
            biased;
            () = &mut feed => hear.await.map(|status| (status, true)),
            status = &mut hear => status.map(|status| (status, false)),
        }
    }

    /// Starts a command and leaves its input open.
    pub(super) async fn begin(&mut self, order: Order<'_>) -> Result<(), SshError> {
        match order {
            Order::Shell(line) => self.send(Kind::Command, line.as_bytes()).await,
            Order::Agent(arguments) => {
                self.send(Kind::Agent, arguments.join("\0").as_bytes())
                    .await
            }
        }
    }

    /// Sends a frame.
    pub(super) async fn send(&mut self, kind: Kind, bytes: &[u8]) -> Result<(), SshError> {
        let frame = [&header(kind, bytes)[..], bytes].concat();
        self.channel
            .data(&frame[..])
            .await
            .map_err(SshError::Broken)
    }

    /// The next thing that the command does.
    pub(super) async fn hear(&mut self) -> Result<Heard, SshError> {
        loop {
            if let Some(head) = self.seen.first_chunk::<HEADER>() {
                let (kind, length) = follows(*head).map_err(SshError::Strange)?;
                if self.seen.len() >= HEADER + length {
                    let bytes = self.seen[HEADER..HEADER + length].to_vec();
                    self.seen.drain(..HEADER + length);
                    return match kind {
                        Kind::Stdout => Ok(Heard::Stdout(bytes)),
                        Kind::Stderr => Ok(Heard::Stderr(bytes)),
                        Kind::Exit => match bytes.try_into() {
                            Ok(status) => Ok(Heard::Exit(u32::from_be_bytes(status))),
                            Err(_) => {
                                Err(SshError::Strange("an exit status of another size".into()))
                            }
                        },
                        Kind::Command | Kind::Agent | Kind::Stdin | Kind::StdinEnd => {
                            Err(SshError::Strange("a frame that only the host sends".into()))
                        }
                    };
                }
            }
            match self.channel.wait().await {
                Some(ChannelMsg::Data { data }) => self.seen.extend_from_slice(&data),
                Some(ChannelMsg::Close) | None => return Ok(Heard::End),
                Some(_) => {}
            }
        }
    }
}

/// What comes from a command.
pub(super) enum Heard {
    /// Standard output.
    Stdout(Vec<u8>),
    /// Standard error.
    Stderr(Vec<u8>),
    /// It has ended.
    Exit(u32),
    /// The agent's process has ended.
    End,
}
