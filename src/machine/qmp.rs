//! A client of the QEMU Machine Protocol: commands with their answers, and events, over one Unix socket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use camino::Utf8Path;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{broadcast, oneshot};

/// What can go wrong with QMP.
#[derive(Debug, Error)]
pub enum QmpError {
    /// The socket did not appear or was closed during the greeting.
    #[error("QEMU's control socket did not answer: {0}")]
    Connect(String),
    /// The connection ended: QEMU is gone.
    #[error("QEMU closed its control socket")]
    Closed,
    /// QEMU refused a command.
    #[error("QEMU refused `{command}`: {description}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's words.
        description: String,
    },
    /// No answer in time.
    #[error("QEMU did not answer `{command}` within {seconds} s")]
    Silent {
        /// The command.
        command: String,
        /// How long we waited.
        seconds: u64,
    },
}

/// An event of QEMU, such as `SHUTDOWN` or `GUEST_PANICKED`.
#[derive(Debug, Clone)]
pub struct QmpEvent {
    /// The event's name.
    pub name: String,
    /// Its data; null if it has none.
    pub data: Value,
}

#[derive(Deserialize)]
struct Message {
    id: Option<u64>,
    #[serde(rename = "return")]
    answer: Option<Value>,
    error: Option<QmpFault>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct QmpFault {
    desc: String,
}

type Answer = std::result::Result<Value, String>;
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>>;

/// A connection; cheap to share by reference, dropped with the machine.
#[derive(Debug)]
pub struct Qmp {
    writer: tokio::sync::Mutex<(OwnedWriteHalf, u64)>,
    waiting: Waiting,
    events: broadcast::Sender<QmpEvent>,
}

/// QEMU answers in milliseconds; a busy host with software emulation may need longer.
const ANSWER_BOUND: Duration = Duration::from_secs(60);

impl Qmp {
    /// Connects to the socket, waiting up to `bound` for QEMU to create it, and leaves the negotiation mode.
    ///
    /// # Errors
    /// [`QmpError::Connect`] if the socket doesn't appear or the greeting fails.
    pub async fn connect(socket: &Utf8Path, bound: Duration) -> Result<Self, QmpError> {
        let deadline = tokio::time::Instant::now() + bound;
        let stream = loop {
            match UnixStream::connect(socket).await {
                Ok(stream) => break stream,
                Err(error) if tokio::time::Instant::now() >= deadline => {
                    return Err(QmpError::Connect(error.to_string()));
                }
                // The socket has no event of its own before it exists; QEMU creates it within milliseconds.
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let (reader, writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let greeting = tokio::time::timeout(ANSWER_BOUND, lines.next_line())
            .await
            .map_err(|_| QmpError::Connect("no greeting".into()))?
            .map_err(|error| QmpError::Connect(error.to_string()))?;
        if !greeting.is_some_and(|line| line.contains("\"QMP\"")) {
            return Err(QmpError::Connect("closed before its greeting".into()));
        }
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let (events, _) = broadcast::channel(64);
        tokio::spawn({
            let waiting = Arc::clone(&waiting);
            let events = events.clone();
            async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    dispatch(&line, &waiting, &events);
                }
                // Dropping the senders wakes everybody who still waits for an answer.
                if let Ok(mut waiting) = waiting.lock() {
                    *waiting = None;
                }
            }
        });
        let qmp = Self {
            writer: tokio::sync::Mutex::new((writer, 0)),
            waiting,
            events,
        };
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Runs a command and returns its `return` value.
    ///
    /// # Errors
    /// [`QmpError::Refused`] with QEMU's description, [`QmpError::Closed`] if QEMU is gone, [`QmpError::Silent`].
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut writer = self.writer.lock().await;
            writer.1 += 1;
            let id = writer.1;
            self.waiting
                .lock()
                .ok()
                .and_then(|mut waiting| waiting.as_mut().map(|map| map.insert(id, sender)))
                .ok_or(QmpError::Closed)?;
            let mut line =
                json!({ "execute": command, "arguments": arguments, "id": id }).to_string();
            line.push('\n');
            writer
                .0
                .write_all(line.as_bytes())
                .await
                .map_err(|_| QmpError::Closed)?;
        }
        match tokio::time::timeout(ANSWER_BOUND, receiver).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(description))) => Err(QmpError::Refused {
                command: command.into(),
                description,
            }),
            Ok(Err(_)) => Err(QmpError::Closed),
            Err(_) => Err(QmpError::Silent {
                command: command.into(),
                seconds: ANSWER_BOUND.as_secs(),
            }),
        }
    }

    /// Subscribes to events from now on.
    pub fn events(&self) -> broadcast::Receiver<QmpEvent> {
        self.events.subscribe()
    }

    /// Presses the power button.
    ///
    /// # Errors
    /// See [`Qmp::execute`].
    pub async fn powerdown(&self) -> Result<(), QmpError> {
        self.execute("system_powerdown", json!({})).await.map(drop)
    }

    /// Ends QEMU at once, writing its own caches out.
    ///
    /// # Errors
    /// See [`Qmp::execute`]; that QEMU closes the socket while it ends is not an error.
    pub async fn quit(&self) -> Result<(), QmpError> {
        match self.execute("quit", json!({})).await {
            Ok(_) | Err(QmpError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Puts an existing, empty overlay on a block node: what was written so far stays unchanged in the file beneath.
    ///
    /// # Errors
    /// See [`Qmp::execute`].
    pub async fn put_overlay(
        &self,
        node: &str,
        overlay: &Utf8Path,
        overlay_node: &str,
    ) -> Result<(), QmpError> {
        let mut added = super::args::blockdev(overlay_node, overlay, "qcow2", false);
        // Its backing file is the node that is already open, not what the header names.
        added["backing"] = Value::Null;
        self.execute("blockdev-add", added).await?;
        self.execute(
            "blockdev-snapshot",
            json!({ "node": node, "overlay": overlay_node }),
        )
        .await
        .map(drop)
    }

    /// Asks on which loopback port QEMU forwards to the guest's port 22.
    ///
    /// # Errors
    /// See [`Qmp::execute`]; [`QmpError::Refused`] if the answer has no such forward.
    pub async fn ssh_port(&self) -> Result<u16, QmpError> {
        let command = "info usernet";
        let answer = self
            .execute("human-monitor-command", json!({ "command-line": command }))
            .await?;
        let text = answer.as_str().unwrap_or_default();
        forwarded_port(text).ok_or_else(|| QmpError::Refused {
            command: command.into(),
            description: format!("no forward to port 22 in {text:?}"),
        })
    }
}

fn dispatch(line: &str, waiting: &Waiting, events: &broadcast::Sender<QmpEvent>) {
    let Ok(message) = serde_json::from_str::<Message>(line) else {
        tracing::warn!(line, "QMP sent something that is not JSON");
        return;
    };
    if let Some(name) = message.event {
        // Nobody listening is fine.
        let _ = events.send(QmpEvent {
            name,
            data: message.data,
        });
        return;
    }
    let sender = message.id.and_then(|id| {
        let mut waiting = waiting.lock().ok()?;
        waiting.as_mut()?.remove(&id)
    });
    if let Some(sender) = sender {
        let answer = match message.error {
            Some(fault) => Err(fault.desc),
            None => Ok(message.answer.unwrap_or(Value::Null)),
        };
        let _ = sender.send(answer);
    }
}

/// Reads the host port from `info usernet`:
/// `  TCP[HOST_FORWARD]  12       127.0.0.1 34567       10.0.2.15    22`.
fn forwarded_port(text: &str) -> Option<u16> {
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields.as_slice() {
            ["TCP[HOST_FORWARD]", _, _, port, _, "22", ..] => port.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_from_info_usernet() {
        let text = "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                    TCP[HOST_FORWARD]  12       127.0.0.1 34567       10.0.2.15    22     0     0\r\n";
        assert_eq!(forwarded_port(text), Some(34567));
        assert_eq!(forwarded_port("nothing"), None);
    }

    #[tokio::test]
    async fn answers_errors_and_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let socket = camino::Utf8PathBuf::try_from(folder.path().join("s")).unwrap();
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (reader, mut writer) = stream.into_split();
            writer
                .write_all(b"{\"QMP\": {\"version\": {}}}\n")
                .await
                .unwrap();
            let mut lines = BufReader::new(reader).lines();
            while let Some(line) = lines.next_line().await.unwrap() {
                let request: Value = serde_json::from_str(&line).unwrap();
                let id = &request["id"];
                let answer = match request["execute"].as_str().unwrap() {
                    "qmp_capabilities" => json!({"return": {}, "id": id}),
                    "bad" => {
                        json!({"error": {"class": "GenericError", "desc": "no such thing"}, "id": id})
                    }
                    "event" => {
                        let event = json!({"event": "SHUTDOWN", "data": {"guest": true}})
                            .to_string()
                            + "\n";
                        writer.write_all(event.as_bytes()).await.unwrap();
                        json!({"return": 7, "id": id})
                    }
                    _ => return,
                };
                writer
                    .write_all((answer.to_string() + "\n").as_bytes())
                    .await
                    .unwrap();
            }
        });
        let qmp = Qmp::connect(&socket, Duration::from_secs(5)).await.unwrap();
        let mut events = qmp.events();
        assert_eq!(qmp.execute("event", json!({})).await.unwrap(), json!(7));
        let event = events.recv().await.unwrap();
        assert_eq!(
            (event.name.as_str(), event.data["guest"].as_bool()),
            ("SHUTDOWN", Some(true))
        );
        let error = qmp.execute("bad", json!({})).await.unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused `bad`: no such thing");
        assert!(matches!(
            qmp.execute("die", json!({})).await,
            Err(QmpError::Closed)
        ));
    }
}
