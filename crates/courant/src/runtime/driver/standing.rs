//! Partitions that stand still, as the service says it: each for one reason.
//!
//! Whoever has met the reason says so each time. What nobody has said for a while is over: of a partition without news
//! nobody hears that it can be read again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use courant_engine::{CommitError, Ends, Partition, ReadError};
use tokio::task::JoinError;
use tokio::time::Instant;

use super::assigning::AGAIN;
use super::{Driver, task_ended};
use crate::StallReason;
use crate::runtime::ledger::Trouble;
use crate::runtime::stalls::{Stalls, Waiting, What};

/// How long a reason stays that is not said again: longer than the longest time between two tries.
const UNSAID_MAX: Duration = Duration::from_secs(180);

/// How often it is looked whether a topic is there again.
const MISSING_AGAIN: Duration = Duration::from_secs(60);

/// What the engine says of partitions that were looked for.
pub(super) type Sought = Vec<(Partition, Result<Ends, ReadError>)>;

/// Partitions that stand still.
pub(super) struct Standing {
    stalls: Arc<Stalls>,
    consumer: Arc<str>,
    /// Each with when that was said last.
    partitions: BTreeMap<Partition, (Waiting, Instant)>,
    /// Those that were taken away, perhaps because their topic is gone. When that is looked at.
    missing: BTreeMap<Partition, Instant>,
    /// Progress that the engine does not keep. Whoever keeps it says so beside the loop.
    pub(super) unkept: Unkept,
}

/// Says whether the engine keeps progress.
#[derive(Clone)]
pub(super) struct Unkept(Arc<Mutex<Waiting>>);

impl Standing {
    pub(super) fn new(stalls: Arc<Stalls>, consumer: &str) -> Self {
        let consumer: Arc<str> = Arc::from(consumer);
        let unkept = Unkept(Arc::new(Mutex::new(stalls.waiting(Some(Arc::clone(&consumer))))));
        Self { stalls, consumer, partitions: BTreeMap::new(), missing: BTreeMap::new(), unkept }
    }

    /// A partition stands still, and was tried.
    pub(super) fn note(&mut self, partition: &Partition, reason: StallReason, said: &str) {
        let (stalls, consumer) = (&self.stalls, &self.consumer);
        let (waiting, last) = self
            .partitions
            .entry(partition.clone())
            .or_insert_with(|| (stalls.waiting(Some(Arc::clone(consumer))), Instant::now()));
        waiting.again(What::in_partition(reason, partition), said);
        *last = Instant::now();
    }

    /// A partition goes on.
    pub(super) fn goes_on(&mut self, partition: &Partition) {
        self.partitions.remove(partition);
        self.missing.remove(partition);
    }

    /// Partitions were taken away: by others who share them, or with their topic, which is looked at when that is
    /// over.
    pub(super) fn are_taken(&mut self, partitions: &[Partition], now: Instant) {
        for partition in partitions {
            self.partitions.remove(partition);
            self.missing.insert(partition.clone(), now + AGAIN);
        }
    }

    /// Partitions are ours: whether they go on shows when they are taken over.
    pub(super) fn are_ours(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.missing.remove(partition);
        }
    }

    /// When there is something to look at.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.missing.values().min().copied()
    }

    /// Forgets what nobody has said for a while.
    pub(super) fn forget(&mut self, now: Instant) {
        self.partitions.retain(|_, (_, last)| now.duration_since(*last) < UNSAID_MAX);
    }
}

impl Unkept {
    /// What has become of progress that was to be kept.
    pub(super) fn note(&self, committed: &Result<(), CommitError>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match committed {
            Ok(()) => waiting.goes_on(),
            Err(error) => waiting.again(What::of(StallReason::ProgressUnkept), &error.to_string()),
        }
    }

    /// Nobody wants the engine to keep anything any more: what it has not kept is the business of others.
    pub(super) fn is_over(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).goes_on();
    }
}

impl Driver {
    /// Has somebody look whether topics are there whose partitions were taken away, if it is time to and nobody does. The
    /// loop goes on meanwhile: a broker that does not answer is waited for with each of its partitions.
    pub(super) fn look_for_missing(&mut self) {
        let now = Instant::now();
        let missing = self.standing.missing.iter().filter(|(_, at)| **at <= now);
        let due: Vec<Partition> = missing.map(|(partition, _)| partition.clone()).collect();
        if due.is_empty() || !self.searchers.is_empty() {
            return;
        }
        for partition in &due {
            self.standing.missing.insert(partition.clone(), now + MISSING_AGAIN);
        }
        let context = self.context.clone();
        self.searchers.spawn(async move {
            let answers = context.engine.ends(due.clone()).await;
            due.into_iter().zip(answers).collect()
        });
    }

    /// Takes in what was found, but for what is ours meanwhile. What the others hold is their business.
    pub(super) fn sought(&mut self, sought: Result<Sought, JoinError>) -> Result<(), Trouble> {
        let now = Instant::now();
        for (partition, answer) in sought.map_err(|error| task_ended(&error))? {
            if !self.standing.missing.contains_key(&partition) {
                continue;
            }
            match answer {
                Ok(_) => self.standing.goes_on(&partition),
                Err(error) => {
                    if matches!(error, ReadError::UnknownPartition { .. }) {
                        self.note_gone(&partition);
                        self.standing.note(&partition, StallReason::NoTopic, &error.to_string());
                    }
                    self.standing.missing.insert(partition, now + MISSING_AGAIN);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::stalls::tests::stalls;

    #[test]
    fn a_partition_stands_still_for_one_reason_until_nobody_says_so() {
        let (_, stalls) = stalls();
        let mut standing = Standing::new(Arc::clone(&stalls), "billing");
        let partition = Partition::new("orders", 3);
        standing.note(&partition, StallReason::Unreadable, "no such file");
        standing.note(&partition, StallReason::NotTakenOver, "the store is away");
        let all = stalls.all();
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!((all[0].reason, all[0].partition), (StallReason::NotTakenOver, Some(3)));
        standing.forget(Instant::now());
        assert_eq!(stalls.all().len(), 1);
        standing.forget(Instant::now() + UNSAID_MAX);
        assert!(stalls.all().is_empty());
    }

    #[test]
    fn what_was_taken_away_is_looked_at_and_what_comes_back_is_not() {
        let (_, stalls) = stalls();
        let mut standing = Standing::new(Arc::clone(&stalls), "billing");
        let (one, other) = (Partition::new("orders", 0), Partition::new("orders", 1));
        standing.note(&one, StallReason::Unreadable, "no such file");
        let look = Instant::now();
        standing.are_taken(&[one.clone(), other.clone()], look);
        assert!(stalls.all().is_empty() && standing.next_look() == Some(look + AGAIN));
        standing.goes_on(&one);
        standing.goes_on(&other);
        assert_eq!(standing.next_look(), None);
    }

    #[test]
    fn progress_that_is_not_kept_is_said_until_it_is() {
        let (_, stalls) = stalls();
        let standing = Standing::new(Arc::clone(&stalls), "billing");
        let unkept = standing.unkept.clone();
        let (group, reason) = ("billing".to_owned(), "not now".to_owned());
        unkept.note(&Err(CommitError::Failed { group, reason }));
        assert_eq!(stalls.all()[0].reason, StallReason::ProgressUnkept);
        unkept.note(&Ok(()));
        assert!(stalls.all().is_empty());
    }
}
