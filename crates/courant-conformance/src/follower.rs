//! A subscription that is followed: what is assigned is read from where it stood, or from its beginning.

use std::collections::BTreeMap;
use std::time::Duration;

use courant_engine::{FetchError, Next, Partition, Record, Subscription};
use tokio::time::{Instant, timeout};

use crate::Failure;
use crate::failure::ensure;

/// A subscription, how far it has read, and what it has found.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) subscription: Box<dyn Subscription>,
    pub(crate) records: Vec<Record>,
    /// Where each partition goes on.
    next: BTreeMap<Partition, u64>,
    patience: Duration,
}

impl Follower {
    pub(crate) fn new(subscription: Box<dyn Subscription>, patience: Duration) -> Self {
        Self { subscription, records: Vec::new(), next: BTreeMap::new(), patience }
    }

    /// Begins a partition at another offset than its first one.
    pub(crate) fn begin_at(&mut self, partition: Partition, offset: u64) {
        self.next.insert(partition, offset);
    }

    /// What is next, as it came.
    pub(crate) async fn raw(&mut self, wait: Duration) -> Result<Result<Next, FetchError>, Failure> {
        let most = wait + self.patience;
        let next = timeout(most, self.subscription.next(wait)).await;
        next.map_err(|_| Failure::new(format!("a wait of {wait:?} has not ended within {most:?}")))
    }

    /// What is next, after having done what it asks for.
    pub(crate) async fn step(&mut self, wait: Duration) -> Result<Next, Failure> {
        let next = self.raw(wait).await??;
        match &next {
            Next::Assigned(partitions) => {
                let begin = |partition: &Partition| self.next.get(partition).copied().unwrap_or_default();
                let positions = partitions.iter().map(|partition| partition.at(begin(partition))).collect();
                self.subscription.seek(positions)?;
            }
            Next::Records(fetched) => {
                for fetched in fetched {
                    ensure!(!fetched.records.is_empty(), "{} came without records", fetched.partition);
                    self.next.insert(fetched.partition.clone(), fetched.next_offset);
                    self.records.extend(fetched.records.iter().cloned());
                }
            }
            _ => {}
        }
        Ok(next)
    }

    /// Waits until it has as many partitions as that.
    pub(crate) async fn assigned(&mut self, count: usize) -> Result<Vec<Partition>, Failure> {
        let deadline = Instant::now() + self.patience;
        loop {
            let assigned = self.subscription.assigned();
            if assigned.len() == count {
                return Ok(assigned);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "it has {assigned:?}, and should have {count} partitions");
            self.step(left.min(LOOK)).await?;
        }
    }

    /// The next records, as many as were asked for; more than that is a failure.
    pub(crate) async fn read(&mut self, count: usize) -> Result<Vec<Record>, Failure> {
        let deadline = Instant::now() + self.patience;
        while self.records.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "only {} of {count} records have come", self.records.len());
            self.step(left).await?;
        }
        self.nothing_more().await?;
        ensure!(self.records.len() == count, "{} records have come, not {count}", self.records.len());
        let records = std::mem::take(&mut self.records);
        in_order(&records)?;
        Ok(records)
    }

    /// One look more: there are no records.
    pub(crate) async fn nothing_more(&mut self) -> Result<(), Failure> {
        match self.step(Duration::ZERO).await? {
            Next::Records(fetched) => {
                Err(Failure::new(format!("nothing should come, and this did: {fetched:?}")))
            }
            _ => Ok(()),
        }
    }
}

/// How long one look lasts where others have to move.
const LOOK: Duration = Duration::from_millis(50);

/// Within a partition offsets ascend.
fn in_order(records: &[Record]) -> Result<(), Failure> {
    let mut last: BTreeMap<&Partition, u64> = BTreeMap::new();
    for record in records {
        let offset = record.position.offset;
        let before = last.insert(&record.position.partition, offset);
        ensure!(before.is_none_or(|before| before < offset), "{} comes behind {before:?}", record.position);
    }
    Ok(())
}
