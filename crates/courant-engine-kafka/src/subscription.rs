//! A subscription: the side of its owner.

use std::sync::Arc;
use std::time::Duration;

use courant_engine::limits::WAIT_MAX;
use courant_engine::{Boxed, FetchError, Next, Partition, Position, SeekError, Subscription};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::inbox::Inbox;

/// A member of a group whose thread reads ahead for it.
#[derive(Debug)]
pub(crate) struct KafkaSubscription {
    inbox: Arc<Inbox>,
    closed: watch::Receiver<bool>,
    bytes_max: usize,
    /// What it was told to give up, and does when it is asked for more.
    revoking: Vec<Partition>,
}

impl KafkaSubscription {
    pub(crate) fn new(inbox: Arc<Inbox>, closed: watch::Receiver<bool>, bytes_max: usize) -> Self {
        Self { inbox, closed, bytes_max, revoking: Vec::new() }
    }

    async fn next_within(&mut self, wait: Duration) -> Result<Next, FetchError> {
        let deadline = Instant::now() + wait.min(WAIT_MAX);
        if !self.revoking.is_empty() {
            self.inbox.give_up(std::mem::take(&mut self.revoking));
        }
        loop {
            if self.is_closed() {
                return Err(FetchError::Closed);
            }
            match self.inbox.take(self.bytes_max) {
                Some(Ok(Next::Revoked(partitions))) => {
                    self.revoking.clone_from(&partitions);
                    return Ok(Next::Revoked(partitions));
                }
                Some(next) => return next,
                None if Instant::now() >= deadline => return Ok(Next::Nothing),
                None => {}
            }
            tokio::select! {
                () = self.inbox.news() => {}
                () = until_closed(self.closed.clone()) => {}
                () = sleep_until(deadline) => {}
            }
        }
    }

    /// An engine that is gone is closed.
    fn is_closed(&self) -> bool {
        *self.closed.borrow() || self.closed.has_changed().is_err()
    }
}

async fn until_closed(mut closed: watch::Receiver<bool>) {
    // An error says that the engine is gone.
    let _ = closed.wait_for(|closed| *closed).await;
}

impl Subscription for KafkaSubscription {
    fn next(&mut self, wait: Duration) -> Boxed<'_, Result<Next, FetchError>> {
        Box::pin(self.next_within(wait))
    }

    fn seek(&mut self, positions: Vec<Position>) -> Result<(), SeekError> {
        self.inbox.seek(positions)
    }

    fn pause(&mut self, partitions: &[Partition]) {
        self.inbox.set_paused(partitions, true);
    }

    fn resume(&mut self, partitions: &[Partition]) {
        self.inbox.set_paused(partitions, false);
    }

    fn assigned(&self) -> Vec<Partition> {
        self.inbox.assigned()
    }
}

impl Drop for KafkaSubscription {
    /// The thread leaves the group; nobody waits for it here.
    fn drop(&mut self) {
        self.inbox.close();
    }
}
