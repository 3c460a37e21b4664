//! How often and how long something is tried again.

use std::time::{Duration, Instant};

use super::RegistryError;

/// The limits of trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The first pause; each further one is twice as long.
    pub first_pause: Duration,
    /// No pause is longer, unless the registry asks for one.
    pub longest_pause: Duration,
    /// Attempts in a row without anything gained.
    pub attempts: u32,
    /// The time for attempts in a row without anything gained.
    pub deadline: Duration,
    /// A connection on which nothing moves for this long is dead.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
            attempts: 8,
            deadline: Duration::from_secs(300),
            stall: Duration::from_secs(60),
        }
    }
}

/// How an attempt ended, if not well.
#[derive(Debug)]
pub(super) enum Ended {
    /// Worth another attempt, not before the time that the registry names.
    Transient(RegistryError, Option<Duration>),
    /// Not.
    Fatal(RegistryError),
}

impl From<RegistryError> for Ended {
    fn from(error: RegistryError) -> Self {
        Self::Fatal(error)
    }
}

/// Attempts at one thing.
#[derive(Debug)]
pub(super) struct Attempts {
    what: String,
    patience: Patience,
    failed: u32,
    since: Instant,
}

impl Attempts {
    pub(super) fn new(what: impl Into<String>, patience: Patience) -> Self {
        Self {
            what: what.into(),
            patience,
            failed: 0,
            since: Instant::now(),
        }
    }

    /// Something was gained: the count begins anew.
    pub(super) fn progressed(&mut self) {
        self.failed = 0;
        self.since = Instant::now();
    }

    /// Waits until the next attempt, or says that there is none.
    pub(super) async fn after(&mut self, ended: Ended) -> Result<(), RegistryError> {
        let (error, asked) = match ended {
            Ended::Fatal(error) => return Err(error),
            Ended::Transient(error, asked) => (error, asked),
        };
        self.failed += 1;
        let doubled = self
            .patience
            .first_pause
            .saturating_mul(1 << (self.failed - 1).min(16));
        // Up to a quarter more, so that parallel uploads do not come back in the same instant.
        let jitter = 1.0 + rand::random::<f64>() / 4.0;
        let pause = doubled
            .mul_f64(jitter)
            .min(self.patience.longest_pause)
            .max(asked.unwrap_or_default());
        let spent = self.since.elapsed();
        if self.failed >= self.patience.attempts || spent + pause > self.patience.deadline {
            return Err(RegistryError::GaveUp {
                what: self.what.clone(),
                attempts: self.failed,
                spent,
                last: Box::new(error),
            });
        }
        tracing::debug!(what = self.what, error = %super::error::causes(&error), ?pause, "trying again");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
