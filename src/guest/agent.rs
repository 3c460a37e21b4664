//! The agent in the guest: how it gets there, how it is run, how its stream comes back.

use camino::Utf8Path;
use ovenbird_component::event::{Decoder, Event as AgentEvent, Line, LogLevel};
use sha2::{Digest as _, Sha256};

use super::seed::AGENT_AT;
use super::ssh::{Chunk, Order, Session, SshError, shell_quote};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// The agent for guests of this build's architecture: a static program.
static AGENT: &[u8] = include_bytes!(env!("OVENBIRD_AGENT_BIN"));

/// The folder in the guest that holds everything of ours; removed by sanitising. It is on the root disk, since
/// `/run` and `/tmp` are often mounted `noexec` and do not survive a reboot.
pub const GUEST_FOLDER: &str = "/var/lib/ovenbird";
/// Where components leave reports for people: what lies there after the tests goes with the image.
pub const EVIDENCE_FOLDER: &str = "/var/lib/ovenbird/evidence";
/// The agent's place in it.
pub const GUEST_AGENT: &str = "/var/lib/ovenbird/agent";
/// The exit status with which the agent asks for a reboot (as AWSTOE does under its service).
pub const EXIT_REBOOT: u32 = 194;

/// The agent's SHA-256 in hexadecimal: part of what an image is made of.
pub fn digest() -> String {
    hex::encode(Sha256::digest(AGENT))
}

/// The agent's program.
pub fn bytes() -> &'static [u8] {
    AGENT
}

/// Copies bytes to a path in the guest, as root, and proves by digest that they arrived.
///
/// # Errors
/// [`FailureKind::Guest`] with the guest's words.
pub async fn put(session: &Session, bytes: &[u8], path: &str, mode: u32) -> Result<()> {
    let target = shell_quote(path);
    let folder = Utf8Path::new(path).parent().map_or("/", Utf8Path::as_str);
    let folder = shell_quote(folder);
    // Beside the final name first: what stands under the final name is whole.
    let command = format!(
        "set -e; umask 077; mkdir -p {folder}; cat > {target}.part; chmod {mode:o} {target}.part; \
         sha256sum < {target}.part; mv {target}.part {target}"
    );
    let output = session
        .run(&command, bytes, 4096)
        .await
        .or_failure(FailureKind::Guest, || {
            format!("cannot copy {path} into the guest")
        })?;
    if !output.success() {
        return Err(Failure::guest(format!("cannot copy {path} into the guest"))
            .with_details(String::from_utf8_lossy(&output.stderr).into_owned())
            .with_hint("is the guest's root filesystem full or read-only?"));
    }
    let wanted = hex::encode(Sha256::digest(bytes));
    let text = output.text();
    let got = text.split_whitespace().next().unwrap_or_default();
    if got != wanted {
        return Err(Failure::guest(format!(
            "{path} arrived damaged in the guest: its SHA-256 is {got}, not {wanted}"
        )));
    }
    Ok(())
}

/// Brings the agent to its place and lets it show that it runs in this guest; returns its version line.
///
/// # Errors
/// [`FailureKind::Guest`] if it can't be copied or doesn't run.
pub async fn deploy(session: &Session) -> Result<String> {
    if !take_from_seed(session).await? {
        tracing::debug!("the agent is not on the guest's seed");
        put(session, AGENT, GUEST_AGENT, 0o755).await?;
    }
    attend(session).await?;
    // Through itself: an agent that doesn't run ends the channel.
    let output = session.run(Order::Agent(&["--version"]), &[], 4096).await;
    let refused = || {
        Failure::guest("the agent does not run in this guest")
            .with_hint("does the guest have the same architecture as the machine, and is /var/lib mounted without `noexec`?")
    };
    match output {
        Ok(output) if output.success() => Ok(output.text().trim().to_owned()),
        Ok(output) => {
            Err(refused().with_details(String::from_utf8_lossy(&output.stderr).into_owned()))
        }
        Err(error) => Err(refused().caused_by(error)),
    }
}

/// Has the agent run an errand: `what` for the person, the agent's word for it, and what it must know, which may be secret.
///
/// # Errors
/// [`FailureKind::Guest`] with the agent's words.
pub async fn send_on_errand(
    session: &Session,
    (what, word): (&str, &str),
    errand: &impl serde::Serialize,
) -> Result<()> {
    let errand = serde_json::to_vec(errand).or_failure(FailureKind::Internal, || {
        format!("cannot write down {what}")
    })?;
    let output = session
        .run(Order::Agent(&[word]), &errand, 64 * 1024)
        .await
        .or_failure(FailureKind::Guest, || format!("{what}: lost the guest"))?;
    if output.success() {
        return Ok(());
    }
    Err(Failure::guest(format!("{what} failed"))
        .with_details(String::from_utf8_lossy(&output.stderr).into_owned())
        .with_hint("is the guest's root filesystem full or read-only?"))
}

/// Has the agent, which is in its place, run what follows.
///
/// # Errors
/// [`FailureKind::Guest`] if the connection breaks.
pub async fn attend(session: &Session) -> Result<()> {
    session
        .attend()
        .await
        .or_failure(FailureKind::Guest, || "cannot start the agent".into())
}

/// Lets the guest copy the agent from its [seed](super::seed). False if it finds none there, or not this one: not every
/// system names disks by their labels.
async fn take_from_seed(session: &Session) -> Result<bool> {
    let (skip, size, digest) = (AGENT_AT >> 20, AGENT.len(), digest());
    let command = format!(
        "set -e; umask 077; mkdir -p {GUEST_FOLDER}; cd {GUEST_FOLDER}; \
         dd if=/dev/disk/by-label/CIDATA bs=1M skip={skip} 2>/dev/null | head -c {size} > agent.part; \
         echo '{digest}  agent.part' | sha256sum -c > /dev/null; \
         chmod 755 agent.part; mv agent.part {GUEST_AGENT}"
    );
    let output = session
        .run(&command, &[], 4096)
        .await
        .or_failure(FailureKind::Guest, || {
            "cannot bring the agent into the guest".into()
        })?;
    Ok(output.success())
}

/// How a run of the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentExit {
    /// All documents were executed successfully.
    Success,
    /// A document failed.
    Failed,
    /// It wants to be started again after a reboot of the guest.
    Reboot,
    /// It ended without a verdict: its exit status, if there is one.
    Broken(Option<u32>),
}

/// Runs the agent with `arguments`, feeds it `stdin`, hands its events to `sink` as they come, and says how it ended.
///
/// # Errors
/// [`FailureKind::Guest`] if the connection breaks or the stream violates its limits.
pub async fn run(
    session: &Session,
    arguments: &[&str],
    stdin: &[u8],
    mut sink: impl FnMut(AgentEvent),
) -> Result<AgentExit> {
    let mut decoder = Decoder::new();
    let mut stderr = Vec::new();
    let status = session
        .stream(Order::Agent(arguments), stdin, |chunk| {
            match chunk {
                Chunk::Stdout(bytes) => {
                    for line in decoder.push(bytes) {
                        sink(event_of(line));
                    }
                }
                Chunk::Stderr(bytes) => {
                    let room = 8192usize.saturating_sub(stderr.len());
                    stderr.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
            }
            Ok::<(), SshError>(())
        })
        .await
        .or_failure(FailureKind::Guest, || "lost the agent".into())?;
    if let Some(line) = decoder.finish() {
        sink(event_of(line));
    }
    Ok(match status {
        Some(0) => AgentExit::Success,
        Some(1) => AgentExit::Failed,
        Some(EXIT_REBOOT) => AgentExit::Reboot,
        other => {
            let text = String::from_utf8_lossy(&stderr);
            if !text.trim().is_empty() {
                sink(AgentEvent::Log {
                    level: LogLevel::Error,
                    message: text.trim().to_owned(),
                });
            }
            AgentExit::Broken(other)
        }
    })
}

/// A line that is no event is told as a warning: the guest's shell may greet, a hostile guest may lie.
fn event_of(line: Line) -> AgentEvent {
    match line {
        Line::Event(envelope) => envelope.event,
        Line::Garbage(text) => AgentEvent::Log {
            level: LogLevel::Warn,
            message: format!("not an event: {text}"),
        },
    }
}
