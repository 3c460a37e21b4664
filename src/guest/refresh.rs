//! What a guest needs around a snapshot: its filesystems frozen before, and after a resume another time, other randomness
//! and other keys.

use std::time::{Duration, SystemTime};

use ovenbird_component::errand::Renewal;
use rand::Rng as _;

use super::agent;
use super::keys::BakeKeys;
use super::seed::BAKE_USER;
use super::ssh::{Order, Session, SshError, Talk};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// The guest thaws itself after so many of its own seconds. Short, since a resumed guest finds itself frozen, with nobody
/// to thaw it; the host needs milliseconds to stop the machine.
const FREEZE_SECONDS: &str = "2";
/// Freezing writes out what is dirty; after a large installation that is a lot.
const FREEZE_BOUND: Duration = Duration::from_secs(120);
/// Bytes of randomness for the guest's kernel; its pool holds 256 bits.
const ENTROPY: usize = 64;

/// A guest whose filesystems are frozen; it thaws by itself if this is lost.
pub struct Frozen {
    talk: Talk,
}

/// Freezes the filesystems that stand on disks.
///
/// # Errors
/// [`FailureKind::Guest`] if it can't be done.
pub async fn freeze(session: &Session) -> Result<Frozen> {
    let freezing = async {
        let mut talk = session
            .talk(Order::Agent(&["freeze", "--for", FREEZE_SECONDS]))
            .await?;
        let line = talk.hear().await?;
        Ok::<_, SshError>((talk, line))
    };
    let (talk, line) = tokio::time::timeout(FREEZE_BOUND, freezing)
        .await
        .map_err(|_| {
            Failure::guest(format!(
                "the guest did not freeze its filesystems within {} s",
                FREEZE_BOUND.as_secs()
            ))
        })?
        .or_failure(FailureKind::Guest, || {
            "cannot freeze the guest's filesystems".into()
        })?;
    match line {
        Some(line) if line.contains("frozen") => Ok(Frozen { talk }),
        other => Err(Failure::guest("cannot freeze the guest's filesystems")
            .with_details(other.unwrap_or_else(|| "the agent ended".into()))),
    }
}

impl Frozen {
    /// Thaws them.
    ///
    /// # Errors
    /// [`FailureKind::Guest`] if the guest does not answer.
    pub async fn thaw(mut self) -> Result<()> {
        let thawing = async {
            // It may have thawed by itself: then nobody listens any more.
            let _ = self.talk.say("thaw").await;
            // To its end: then the next command can follow.
            while self.talk.hear().await?.is_some() {}
            Ok::<_, SshError>(())
        };
        match tokio::time::timeout(FREEZE_BOUND, thawing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                Err(Failure::guest("lost the guest while it thawed").caused_by(error))
            }
            Err(_) => Err(Failure::guest(
                "the guest does not answer after its snapshot",
            )),
        }
    }
}

/// Makes a resumed guest another one: time, randomness, lease, the key by which it is recognised, the key that lets us in,
/// and the secrets of the connection itself.
///
/// # Errors
/// [`FailureKind::Guest`] if one of it fails: nothing may run in a guest that shares its randomness with another.
pub async fn renew(session: &Session, keys: &BakeKeys) -> Result<()> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    let mut entropy = [0; ENTROPY];
    rand::rng().fill_bytes(&mut entropy);
    let renewal = Renewal {
        time: u64::try_from(now).unwrap_or(u64::MAX),
        entropy: hex::encode(entropy),
        user: BAKE_USER.into(),
        authorized_key: keys.authorized_key()?,
        host_key: keys.host_private()?,
        host_key_public: keys.host_public()?,
    };
    let what = "renewing the guest's time, randomness and keys";
    agent::send_on_errand(session, (what, "refresh"), &renewal).await?;
    session
        .rekey()
        .await
        .or_failure(FailureKind::Guest, || format!("{what}: lost the guest"))
}
