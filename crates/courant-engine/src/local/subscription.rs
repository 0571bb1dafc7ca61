//! A subscription to the log of this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use courant_log::{PartitionId, Waiting};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::reading::{self, Round, Wanted};
use crate::limits::WAIT_MAX;
use crate::{Boxed, FetchError, Next, Partition, Position, SeekError, Subscribe, Subscription};

/// A member of a group, and how far it has read.
#[derive(Debug)]
pub(super) struct LocalSubscription {
    shared: Arc<Shared>,
    group: String,
    member: u64,
    /// Signals that the group has changed.
    wake: Arc<Notify>,
    bytes_max: usize,
    reading: BTreeMap<Partition, Reading>,
    /// Its topics, how many partitions each had, and how often topics had changed when that was looked at: what comes
    /// to the log by others than this engine, nobody tells its groups.
    topics: Vec<(Arc<str>, u32)>,
    changes: Option<u64>,
    /// What it was told to give up, and does when it is asked for more.
    revoking: Vec<Partition>,
    /// The partition that came first the last time there were records. The next time it comes last.
    served: Option<Partition>,
    /// Nothing is to be read before this says so. It stays when a wait is given up: who waits for other things as
    /// well asks again and again, and would read all partitions each time to find nothing.
    watch: Option<Watch>,
    /// A look at the partitions that goes on. It stays when a wait is given up, too: begun anew each time, one that
    /// takes longer than its caller is left in peace would never come to its end.
    round: Option<JoinHandle<Round>>,
}

/// Tells when there is more to read than there was.
#[derive(Debug)]
struct Watch {
    woken: oneshot::Receiver<()>,
    _waiting: Waiting,
}

impl Watch {
    /// Whether there is more by now, or nobody is left who would say so.
    fn has_news(&mut self) -> bool {
        !matches!(self.woken.try_recv(), Err(TryRecvError::Empty))
    }
}

/// A partition that it has.
#[derive(Debug)]
struct Reading {
    id: PartitionId,
    /// Where it is read next; nowhere until somebody says so.
    offset: Option<u64>,
    paused: bool,
    /// A read has said that there is no such partition any more.
    is_gone: bool,
}

impl LocalSubscription {
    /// Joins the group.
    pub(super) fn join(shared: &Arc<Shared>, wanted: Subscribe) -> Self {
        let Subscribe { group, topics, bytes_max } = wanted;
        let mut topics: Vec<Arc<str>> = topics.iter().map(|topic| topic.as_str().into()).collect();
        topics.sort_unstable();
        topics.dedup();
        let (member, wake) = shared.groups().join(&group, topics.clone());
        Self {
            shared: shared.clone(),
            group,
            member,
            wake,
            bytes_max,
            reading: BTreeMap::new(),
            topics: topics.into_iter().map(|topic| (topic, 0)).collect(),
            changes: None,
            revoking: Vec::new(),
            served: None,
            watch: None,
            round: None,
        }
    }

    async fn next_within(&mut self, wait: Duration) -> Result<Next, FetchError> {
        let deadline = Instant::now() + wait.min(WAIT_MAX);
        self.give_up();
        // With a wait of zero what was published before is to be found, and who has published it knows of that
        // first. A wait may also be over before it hears of what there is.
        if wait.is_zero() {
            self.look_anew();
        } else if self.watch.as_mut().is_some_and(Watch::has_news) {
            self.watch = None;
        }
        loop {
            if self.shared.is_closed() {
                return Err(FetchError::Closed);
            }
            if let Some(change) = self.follow_group() {
                self.look_anew();
                return Ok(change);
            }
            if self.watch.is_none() {
                let round = self.read_round().await?;
                let has_passed = !round.passed.is_empty();
                let seen = match self.take(round)? {
                    Taken::Records(records) => return Ok(records),
                    Taken::Seen(seen) => seen,
                };
                // Behind offsets that no record has there may be more.
                if has_passed {
                    continue;
                }
                self.watch = Some(self.watch(&seen));
            }
            if Instant::now() >= deadline {
                return Ok(Next::Nothing);
            }
            self.until_news(deadline).await;
        }
    }

    /// What was seen before, or is just being read, counts no more.
    fn look_anew(&mut self) {
        self.watch = None;
        self.round = None;
    }

    /// Watches for more to read than was seen.
    fn watch(&self, seen: &[(PartitionId, u64)]) -> Watch {
        let (wake, woken) = oneshot::channel();
        let waiting = self.shared.log.wait(seen, 1, move || {
            // The wait may be over in the same moment.
            let _ = wake.send(());
        });
        Watch { woken, _waiting: waiting }
    }

    /// Gives up what it was told to.
    fn give_up(&mut self) {
        if !self.revoking.is_empty() {
            self.shared.groups().give_up(&self.group, self.member, &self.revoking);
            self.revoking.clear();
        }
    }

    /// What the group wants of it.
    fn follow_group(&mut self) -> Option<Next> {
        let changes = self.shared.log.catalog_changes();
        let catalog = self.shared.log.catalog();
        let partitions = |topic: &str| {
            let count = catalog.by_name(topic).map_or(0, |topic| topic.partitions.len());
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        let seen = self.changes.replace(changes);
        if seen != Some(changes) {
            let mut has_more = false;
            for (topic, count) in &mut self.topics {
                let before = std::mem::replace(count, partitions(topic));
                has_more |= *count > before;
            }
            // One that was deleted is noticed where it is read, and the first look below sees all there is.
            if has_more && seen.is_some() {
                self.shared.groups().topics_changed();
            }
        }
        let change = self.shared.groups().look(&self.group, self.member, partitions);
        if !change.revoked.is_empty() {
            self.reading.retain(|partition, _| !change.revoked.contains(partition));
            self.revoking.clone_from(&change.revoked);
            return Some(Next::Revoked(change.revoked));
        }
        for partition in &change.assigned {
            // One that was deleted in this moment is missing from the log; reading it says so.
            let id = self.shared.partition(partition).unwrap_or(PartitionId(u64::MAX));
            self.reading
                .insert(partition.clone(), Reading { id, offset: None, paused: false, is_gone: false });
        }
        (!change.assigned.is_empty()).then_some(Next::Assigned(change.assigned))
    }

    /// Looks once at every partition that is to be read, or waits for the look that goes on. Nothing of it counts
    /// before it is taken.
    async fn read_round(&mut self) -> Result<Round, FetchError> {
        if self.round.is_none() {
            self.round = self.begin_round();
        }
        let Some(round) = &mut self.round else { return Ok(Round::default()) };
        let read = round.await;
        self.round = None;
        // The runtime ends.
        read.map_err(|_| FetchError::Closed)
    }

    /// Begins a look, on a thread that may wait for the disk. `None` when there is nothing to look at.
    fn begin_round(&self) -> Option<JoinHandle<Round>> {
        let wanted = self.wanted();
        if wanted.is_empty() {
            return None;
        }
        let (log, bytes_max) = (self.shared.log.clone(), self.bytes_max);
        Some(spawn_blocking(move || reading::round(&log, wanted, bytes_max)))
    }

    /// The partitions that are to be read, beginning behind the one that was served first the last time.
    fn wanted(&self) -> Vec<Wanted> {
        let mut wanted: Vec<_> = self
            .reading
            .iter()
            .filter(|(_, reading)| !reading.paused)
            .filter_map(|(partition, reading)| {
                let offset = reading.offset?;
                Some(Wanted { partition: partition.clone(), id: reading.id, offset })
            })
            .collect();
        if let Some(served) = &self.served {
            let behind = wanted.partition_point(|wanted| wanted.partition <= *served);
            wanted.rotate_left(behind);
        }
        wanted
    }

    /// Takes what a round has found.
    fn take(&mut self, round: Round) -> Result<Taken, FetchError> {
        if let Some((partition, error)) = round.failed {
            // What else was found is read again, when the error is out of the way.
            if let Some(reading) = self.reading.get_mut(&partition) {
                reading.offset = None;
                reading.is_gone = matches!(error, FetchError::UnknownPartition { .. });
            }
            return Err(error);
        }
        let fetched = round.fetched.iter().map(|fetched| (&fetched.partition, fetched.next_offset));
        let passed = round.passed.iter().map(|(partition, next_offset)| (partition, *next_offset));
        for (partition, next_offset) in fetched.chain(passed) {
            if let Some(reading) = self.reading.get_mut(partition) {
                reading.offset = Some(next_offset);
            }
        }
        let Some(first) = round.fetched.first() else {
            return Ok(Taken::Seen(round.seen));
        };
        self.served = Some(first.partition.clone());
        Ok(Taken::Records(Next::Records(round.fetched)))
    }

    /// Waits until there is more to read than was seen, the group changes, the engine is closed, or the
    /// time is up.
    async fn until_news(&mut self, deadline: Instant) {
        let Some(watch) = &mut self.watch else { return };
        tokio::select! {
            _ = &mut watch.woken => self.watch = None,
            () = self.wake.notified() => {}
            () = self.shared.until_closed() => {}
            // One more look.
            () = sleep_until(deadline) => self.watch = None,
        }
    }
}

/// What a round came to.
enum Taken {
    Records(Next),
    /// No records; the ends that were seen instead.
    Seen(Vec<(PartitionId, u64)>),
}

impl Subscription for LocalSubscription {
    fn next(&mut self, wait: Duration) -> Boxed<'_, Result<Next, FetchError>> {
        Box::pin(self.next_within(wait))
    }

    fn seek(&mut self, positions: Vec<Position>) -> Result<(), SeekError> {
        let foreign = positions.iter().find(|position| !self.reading.contains_key(&position.partition));
        if let Some(position) = foreign {
            return Err(SeekError::NotAssigned { partition: position.partition.clone() });
        }
        self.look_anew();
        for Position { partition, offset } in positions {
            let Some(reading) = self.reading.get_mut(&partition) else { continue };
            reading.offset = Some(offset);
            // A topic that was made anew has other partitions under its name. Who has not heard of that means the old one.
            if std::mem::take(&mut reading.is_gone) {
                reading.id = self.shared.partition(&partition).unwrap_or(PartitionId(u64::MAX));
            }
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[Partition]) {
        self.set_paused(partitions, true);
    }

    fn resume(&mut self, partitions: &[Partition]) {
        self.set_paused(partitions, false);
    }

    fn assigned(&self) -> Vec<Partition> {
        self.reading.keys().cloned().collect()
    }
}

impl LocalSubscription {
    fn set_paused(&mut self, partitions: &[Partition], paused: bool) {
        self.look_anew();
        for partition in partitions {
            if let Some(reading) = self.reading.get_mut(partition) {
                reading.paused = paused;
            }
        }
    }
}

impl Drop for LocalSubscription {
    fn drop(&mut self) {
        self.shared.groups().leave(&self.group, self.member);
    }
}
