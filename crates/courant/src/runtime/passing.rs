//! Trouble of the store: what passes by itself is waited out, the rest is told.

use std::time::Duration;

use courant_sql::{AdmitError, AdvanceError, BeginError, Class, CommitError, StoreError};
use tracing::warn;

use super::ledger::Trouble;

/// What is wrong with the store.
#[derive(Debug)]
pub(crate) enum Bad {
    /// It passes by itself, or when somebody makes room.
    Passing(String),
    /// Somebody else has the partition, or the outbox.
    Fenced,
    /// It does not pass.
    Broken(String),
}

impl From<StoreError> for Bad {
    fn from(error: StoreError) -> Self {
        let passes = error.is_retriable() || matches!(error.class(), Class::Full | Class::Io);
        if passes { Self::Passing(error.to_string()) } else { Self::Broken(error.to_string()) }
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
            Bad::Passing(said) | Bad::Broken(said) => Self::Broken(said),
        }
    }
}

/// Longer and longer waits, in the time of the machine: a disk does not go by a test's clock.
pub(crate) struct Pause {
    next: Duration,
}

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(5);

impl Pause {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// Waits, if waiting is of use.
    pub(crate) async fn after(&mut self, bad: Bad) -> Result<(), Bad> {
        match bad {
            Bad::Passing(said) => {
                warn!(wait = ?self.next, said, "the store does not answer as it should; trying again");
                self.wait().await;
                Ok(())
            }
            Bad::Fenced | Bad::Broken(_) => Err(bad),
        }
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
