//! Trouble of the store: what passes by itself is waited out, the rest is told.

use std::time::Duration;

use courant_sql::{AdmitError, AdvanceError, BeginError, Class, CommitError, ResetError, StoreError};
use tokio::time::Instant;
use tracing::warn;

use super::ledger::Trouble;
use super::stalls::{Waiting, What};
use crate::StallReason;

/// What is wrong with the store.
#[derive(Debug)]
pub(crate) enum Bad {
    /// It passes by itself, or when somebody makes room.
    Passing(StallReason, String),
    /// The server is a standby. It passes when another one has taken its place, or the address is wrong.
    Standby(String),
    /// Somebody else has the partition, or the outbox.
    Fenced,
    /// It does not pass.
    Broken(String),
}

impl From<StoreError> for Bad {
    fn from(error: StoreError) -> Self {
        let said = error.to_string();
        match error.class() {
            Class::Standby => Self::Standby(said),
            Class::Full => Self::Passing(StallReason::StoreFull, said),
            Class::Io => Self::Passing(StallReason::StoreFiles, said),
            _ if error.is_retriable() => Self::Passing(StallReason::StoreAway, said),
            _ => Self::Broken(said),
        }
    }
}

impl From<BeginError> for Bad {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::Fenced { .. } => Self::Fenced,
            BeginError::Store(error) => Self::from(error),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<AdmitError> for Bad {
    fn from(error: AdmitError) -> Self {
        match error {
            AdmitError::Store(error) => Self::from(error),
            AdmitError::Begin(error) => Self::from(error),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<ResetError> for Bad {
    fn from(error: ResetError) -> Self {
        match error {
            ResetError::Begin(error) => Self::from(error),
            ResetError::Store(error) => Self::from(error),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<AdvanceError> for Bad {
    fn from(error: AdvanceError) -> Self {
        match error {
            AdvanceError::Fenced { .. } => Self::Fenced,
            AdvanceError::Store(error) => Self::from(error),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<CommitError> for Bad {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Store(error) | CommitError::Unknown(error) => Self::from(error),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<Bad> for Trouble {
    fn from(bad: Bad) -> Self {
        match bad {
            Bad::Fenced => Self::Fenced,
            Bad::Passing(_, said) | Bad::Standby(said) | Bad::Broken(said) => Self::Broken(said),
        }
    }
}

/// Longer and longer waits, in the time of the machine: a disk does not go by a test's clock.
pub(crate) struct Pause {
    next: Duration,
    standby: Option<Standby>,
    /// What says that somebody waits; `None`: only the log does.
    waiting: Option<Waiting>,
}

/// A server that only reads, as it was met again and again.
#[derive(Clone, Copy)]
struct Standby {
    since: Instant,
    last: Instant,
}

/// How long a failover may take. After that the address leads to a server that stays a standby.
const FAILOVER_MAX: Duration = Duration::from_secs(5 * 60);

/// Whoever has not met a standby for so long meets another failover: longer than one try and its pause.
const NO_STANDBY: Duration = Duration::from_secs(2 * 60);

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(5);

impl Pause {
    pub(crate) fn new() -> Self {
        Self { next: FIRST, standby: None, waiting: None }
    }

    /// For a part of a service, which says that it waits.
    pub(crate) fn of(waiting: Waiting) -> Self {
        Self { waiting: Some(waiting), ..Self::new() }
    }

    /// The store does again what it is asked for. The next wait is as long as it would be otherwise.
    pub(crate) fn goes_on(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            waiting.goes_on();
        }
    }

    /// Waits, if waiting is of use.
    pub(crate) async fn after(&mut self, bad: Bad) -> Result<(), Bad> {
        match bad {
            Bad::Passing(reason, said) => {
                self.waits(reason, &said);
                self.wait().await;
                Ok(())
            }
            Bad::Standby(said) if self.is_failing_over() => {
                self.waits(StallReason::StoreReadsOnly, &said);
                self.wait().await;
                Ok(())
            }
            Bad::Standby(_) | Bad::Fenced | Bad::Broken(_) => Err(bad),
        }
    }

    /// It is not known whether something was committed: waits before the store is asked.
    pub(crate) async fn in_doubt(&mut self, said: &str) {
        self.waits(StallReason::InDoubt, said);
        self.wait().await;
    }

    fn waits(&mut self, reason: StallReason, said: &str) {
        match &mut self.waiting {
            Some(waiting) => waiting.again(What::of(reason), said),
            None => {
                warn!(wait = ?self.next, %reason, said, "the store does not answer as it should; trying again");
            }
        }
    }

    /// A standby was met. Whether it may be one because a failover is under way.
    fn is_failing_over(&mut self) -> bool {
        let now = Instant::now();
        let met = self.standby.filter(|standby| now.duration_since(standby.last) < NO_STANDBY);
        let since = met.map_or(now, |standby| standby.since);
        self.standby = Some(Standby { since, last: now });
        now.duration_since(since) < FAILOVER_MAX
    }

    /// As [`Pause::after`], for the one who drives.
    pub(crate) async fn or_trouble(&mut self, bad: Bad) -> Result<(), Trouble> {
        self.after(bad).await.map_err(Trouble::from)
    }

    /// Waits, the next time longer.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = self.next.saturating_mul(2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn met(pause: &mut Pause) -> Result<(), Bad> {
        pause.after(Bad::Standby("it only reads".to_owned())).await
    }

    /// A failover passes; an address that leads to a standby does not. The next failover, hours later, is
    /// measured anew.
    #[tokio::test(start_paused = true)]
    async fn a_standby_is_waited_for_for_a_while() {
        let mut pause = Pause::new();
        let begun = Instant::now();
        for _ in 0..3 {
            met(&mut pause).await.expect("a failover");
        }
        tokio::time::advance(Duration::from_secs(3_600)).await;
        let again = Instant::now();
        while met(&mut pause).await.is_ok() {
            assert!(again.elapsed() <= FAILOVER_MAX + 2 * LONGEST, "for ever");
        }
        assert!(again.elapsed() >= FAILOVER_MAX && begun.elapsed() > again.elapsed());
        let refused = met(&mut pause).await.expect_err("it stays one");
        assert!(matches!(Trouble::from(refused), Trouble::Broken(said) if said == "it only reads"));
    }
}
