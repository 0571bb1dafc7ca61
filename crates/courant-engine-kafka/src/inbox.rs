//! What a subscription and its thread have in common: what the thread has brought, and what it is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use courant_engine::{Ends, FetchError, Fetched, Next, Partition, Position, Record, SeekError};
use tokio::sync::Notify;

use crate::limits::{AHEAD_BYTES_MAX, AHEAD_RECORDS_MAX};

/// One subscription's records, changes and orders.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    /// Wakes the thread.
    work: Condvar,
    /// Wakes the subscription.
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    changes: VecDeque<Change>,
    parts: BTreeMap<Partition, Held>,
    orders: VecDeque<Order>,
    /// The thread has something to look at.
    is_raised: bool,
    ended: Option<FetchError>,
    /// Seeks so far, over all partitions.
    seeks: u64,
    /// The partition that came first the last time there were records. The next time it comes last.
    served: Option<Partition>,
}

/// A change of the assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Assigned(Vec<Partition>),
    Revoked(Vec<Partition>),
}

/// What the thread is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Read this partition from there on. What it finds is marked with the number of the seek.
    Seek { position: Position, seek: u64 },
    /// These were revoked, and the subscription has done with them.
    GiveUp(Vec<Partition>),
    /// Leave the group and end.
    Close,
}

/// A partition that the subscription was told it has.
#[derive(Debug, Default)]
struct Held {
    /// The last seek; 0: nothing is read.
    seek: u64,
    records: VecDeque<Record>,
    bytes: usize,
    ends: Option<Ends>,
    /// Comes behind the records.
    failed: Option<FetchError>,
    is_paused: bool,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread.
    pub(crate) fn raise(&self) {
        self.state().is_raised = true;
        self.work.notify_one();
    }

    fn order(&self, order: Order) {
        let mut state = self.state();
        state.orders.push_back(order);
        state.is_raised = true;
        self.work.notify_one();
    }
}

/// The thread's side.
impl Inbox {
    /// Waits until something is to be done, or for `idle`, and takes what was ordered.
    pub(crate) fn wait(&self, idle: Duration) -> VecDeque<Order> {
        let state = self.state();
        let waited = self.work.wait_timeout_while(state, idle, |state| !state.is_raised);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_raised = false;
        std::mem::take(&mut state.orders)
    }

    pub(crate) fn change(&self, change: Change) {
        self.state().changes.push_back(change);
        self.news.notify_one();
    }

    /// Whether more of a partition is to be read ahead.
    pub(crate) fn has_room(&self, partition: &Partition) -> bool {
        let state = self.state();
        state.parts.get(partition).is_some_and(|held| {
            held.failed.is_none() && held.bytes < AHEAD_BYTES_MAX && held.records.len() < AHEAD_RECORDS_MAX
        })
    }

    /// Takes a record in. One of an older seek is none.
    pub(crate) fn push(&self, seek: u64, record: Record) {
        let mut state = self.state();
        let Some(held) = state.held(&record.position.partition, seek) else { return };
        held.bytes += record.payload_bytes();
        held.records.push_back(record);
        drop(state);
        self.news.notify_one();
    }

    /// Says where a partition begins and ends.
    pub(crate) fn ends(&self, partition: &Partition, seek: u64, ends: Ends) {
        if let Some(held) = self.state().held(partition, seek) {
            held.ends = Some(ends);
        }
    }

    /// Nothing more comes of a partition before it is sought again.
    pub(crate) fn fail(&self, partition: &Partition, seek: u64, error: FetchError) {
        if let Some(held) = self.state().held(partition, seek) {
            held.failed = Some(error);
        }
        self.news.notify_one();
    }

    /// Nothing more comes at all.
    pub(crate) fn end(&self, error: FetchError) {
        self.state().ended.get_or_insert(error);
        self.news.notify_one();
    }
}

/// The subscription's side.
impl Inbox {
    /// Comes back when there may be something to take.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// What is next: the end, a change, an error, or records of `bytes_max` bytes and at least one.
    pub(crate) fn take(&self, bytes_max: usize) -> Option<Result<Next, FetchError>> {
        let mut state = self.state();
        if let Some(ended) = &state.ended {
            return Some(Err(ended.clone()));
        }
        if let Some(change) = state.changes.pop_front() {
            return Some(Ok(state.follow(change)));
        }
        if let Some(error) = state.failure() {
            return Some(Err(error));
        }
        let fetched = state.fetch(bytes_max);
        if fetched.is_empty() {
            return None;
        }
        // There is room again.
        state.is_raised = true;
        self.work.notify_one();
        Some(Ok(Next::Records(fetched)))
    }

    pub(crate) fn give_up(&self, partitions: Vec<Partition>) {
        self.order(Order::GiveUp(partitions));
    }

    pub(crate) fn close(&self) {
        self.order(Order::Close);
    }

    pub(crate) fn seek(&self, positions: Vec<Position>) -> Result<(), SeekError> {
        let mut state = self.state();
        let foreign = positions.iter().find(|position| !state.parts.contains_key(&position.partition));
        if let Some(position) = foreign {
            return Err(SeekError::NotAssigned { partition: position.partition.clone() });
        }
        for position in positions {
            state.seeks += 1;
            let seek = state.seeks;
            if let Some(held) = state.parts.get_mut(&position.partition) {
                *held = Held { seek, is_paused: held.is_paused, ..Held::default() };
            }
            state.orders.push_back(Order::Seek { position, seek });
        }
        state.is_raised = true;
        self.work.notify_one();
        Ok(())
    }

    pub(crate) fn set_paused(&self, partitions: &[Partition], is_paused: bool) {
        let mut state = self.state();
        for partition in partitions {
            if let Some(held) = state.parts.get_mut(partition) {
                held.is_paused = is_paused;
            }
        }
        drop(state);
        self.news.notify_one();
    }

    pub(crate) fn assigned(&self) -> Vec<Partition> {
        self.state().parts.keys().cloned().collect()
    }
}

impl State {
    /// A partition, if `seek` is the last one that it was told.
    fn held(&mut self, partition: &Partition, seek: u64) -> Option<&mut Held> {
        self.parts.get_mut(partition).filter(|held| held.seek == seek && seek > 0)
    }

    fn follow(&mut self, change: Change) -> Next {
        match change {
            Change::Assigned(partitions) => {
                self.parts.extend(partitions.iter().map(|partition| (partition.clone(), Held::default())));
                Next::Assigned(partitions)
            }
            Change::Revoked(partitions) => {
                self.parts.retain(|partition, _| !partitions.contains(partition));
                Next::Revoked(partitions)
            }
        }
    }

    fn failure(&mut self) -> Option<FetchError> {
        let is_failed =
            |held: &&mut Held| held.records.is_empty() && !held.is_paused && held.failed.is_some();
        let held = self.parts.values_mut().find(is_failed)?;
        held.seek = 0;
        held.failed.take()
    }

    /// Records of the partitions that are not paused, beginning behind the one that was served first the
    /// last time.
    fn fetch(&mut self, bytes_max: usize) -> Vec<Fetched> {
        let ready = |(_, held): &(&Partition, &Held)| !held.is_paused && !held.records.is_empty();
        let mut order: Vec<Partition> =
            self.parts.iter().filter(ready).map(|(partition, _)| partition.clone()).collect();
        if let Some(served) = &self.served {
            let behind = order.partition_point(|partition| partition <= served);
            order.rotate_left(behind);
        }
        let mut bytes_left = bytes_max;
        let mut fetched: Vec<Fetched> = Vec::new();
        for partition in order {
            let Some(held) = self.parts.get_mut(&partition) else { continue };
            let records = held.records_of(&mut bytes_left, fetched.is_empty());
            let Some(last) = records.last() else { break };
            let next_offset = last.position.offset.saturating_add(1);
            let ends = held.ends.unwrap_or(Ends { start: 0, end: 0 });
            let end = ends.end.max(next_offset);
            fetched.push(Fetched { partition, records, next_offset, start: ends.start, end });
        }
        if let Some(first) = fetched.first() {
            self.served = Some(first.partition.clone());
        }
        fetched
    }
}

impl Held {
    /// The records that fit; one at least where that is asked for.
    fn records_of(&mut self, bytes_left: &mut usize, at_least_one: bool) -> Vec<Record> {
        let mut records = Vec::new();
        while let Some(record) = self.records.front() {
            let bytes = record.payload_bytes();
            let is_first = at_least_one && records.is_empty();
            if bytes > *bytes_left && !is_first {
                *bytes_left = 0;
                break;
            }
            *bytes_left = bytes_left.saturating_sub(bytes);
            self.bytes = self.bytes.saturating_sub(bytes);
            records.extend(self.records.pop_front());
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: &Partition, offset: u64, bytes: usize) -> Record {
        Record {
            position: partition.at(offset),
            timestamp_ms: 0,
            key: None,
            value: Some(vec![7; bytes].into()),
            headers: Vec::new(),
        }
    }

    /// An inbox whose subscription has these partitions, sought; and the numbers of the seeks.
    fn inbox(partitions: &[Partition]) -> (Inbox, Vec<u64>) {
        let inbox = Inbox::default();
        inbox.change(Change::Assigned(partitions.to_vec()));
        assert_eq!(inbox.take(100), Some(Ok(Next::Assigned(partitions.to_vec()))));
        let positions = partitions.iter().map(|partition| partition.at(0)).collect();
        inbox.seek(positions).expect("assigned");
        let seeks = inbox.wait(Duration::ZERO).into_iter().map(|order| match order {
            Order::Seek { seek, .. } => seek,
            other => panic!("a seek, not {other:?}"),
        });
        (inbox, seeks.collect())
    }

    fn offsets(inbox: &Inbox, bytes_max: usize) -> Vec<(u32, Vec<u64>)> {
        match inbox.take(bytes_max) {
            None => Vec::new(),
            Some(Ok(Next::Records(fetched))) => fetched
                .into_iter()
                .map(|fetched| {
                    let offsets = fetched.records.iter().map(|record| record.position.offset).collect();
                    (fetched.partition.number, offsets)
                })
                .collect(),
            Some(other) => panic!("records, not {other:?}"),
        }
    }

    #[test]
    fn partitions_take_turns_within_the_bytes() {
        let partitions = [Partition::new("orders", 0), Partition::new("orders", 1)];
        let (inbox, seeks) = inbox(&partitions);
        for (partition, seek) in partitions.iter().zip(&seeks) {
            (0..3).for_each(|offset| inbox.push(*seek, record(partition, offset, 40)));
        }
        assert_eq!(offsets(&inbox, 100), [(0, vec![0, 1])]);
        assert_eq!(offsets(&inbox, 160), [(1, vec![0, 1, 2]), (0, vec![2])]);
        // One record comes, however large it is.
        inbox.push(seeks[0], record(&partitions[0], 3, 1_000));
        assert_eq!(offsets(&inbox, 100), [(0, vec![3])]);
        assert_eq!(inbox.take(100), None);
    }

    #[test]
    fn what_an_older_seek_has_found_is_none() {
        let partition = Partition::new("orders", 0);
        let (inbox, seeks) = inbox(std::slice::from_ref(&partition));
        inbox.push(seeks[0], record(&partition, 0, 1));
        inbox.seek(vec![partition.at(7)]).expect("assigned");
        inbox.push(seeks[0], record(&partition, 1, 1));
        inbox.fail(&partition, seeks[0], FetchError::Closed);
        assert_eq!(inbox.take(100), None);
        inbox.push(seeks[0] + 1, record(&partition, 7, 1));
        assert_eq!(offsets(&inbox, 100), [(0, vec![7])]);
    }

    #[test]
    fn an_error_comes_once_and_behind_what_was_read_before_it() {
        let partition = Partition::new("orders", 0);
        let (inbox, seeks) = inbox(std::slice::from_ref(&partition));
        inbox.push(seeks[0], record(&partition, 0, 1));
        let error = FetchError::UnknownPartition { partition: partition.clone() };
        inbox.fail(&partition, seeks[0], error.clone());
        assert!(!inbox.has_room(&partition));
        assert_eq!(offsets(&inbox, 100), [(0, vec![0])]);
        assert_eq!(inbox.take(100), Some(Err(error)));
        inbox.push(seeks[0], record(&partition, 1, 1));
        assert_eq!(inbox.take(100), None, "nothing comes before it is sought again");
    }

    #[test]
    fn what_is_paused_waits_and_what_is_revoked_is_gone() {
        let partition = Partition::new("orders", 0);
        let (inbox, seeks) = inbox(std::slice::from_ref(&partition));
        inbox.push(seeks[0], record(&partition, 0, 1));
        inbox.set_paused(std::slice::from_ref(&partition), true);
        assert_eq!(inbox.take(100), None);
        inbox.change(Change::Revoked(vec![partition.clone()]));
        assert_eq!(inbox.take(100), Some(Ok(Next::Revoked(vec![partition.clone()]))));
        inbox.set_paused(std::slice::from_ref(&partition), false);
        assert_eq!((inbox.take(100), inbox.assigned()), (None, Vec::new()));
        let refused = inbox.seek(vec![partition.at(0)]);
        assert_eq!(refused, Err(SeekError::NotAssigned { partition }));
    }
}
