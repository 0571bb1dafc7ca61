//! The task that watches: deadlines of groups, outcomes of what they stored, offsets that nobody
//! needs any more.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::{Cell, Coordinator, Event};

/// A group to be looked at, the earliest first.
struct Due(i64, Arc<Cell>);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl Coordinator {
    /// Watches until it is dropped. Only the first call does.
    pub(crate) async fn run(self: Arc<Self>) {
        let taken = self.watched.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut events) = taken else { return };
        let mut due: BinaryHeap<Reverse<Due>> = BinaryHeap::new();
        let mut expiry = Instant::now();
        loop {
            let next = due.peek().map(|Reverse(Due(ms, _))| self.instant(*ms));
            let next = next.map_or(expiry, |next| next.min(expiry));
            tokio::select! {
                event = events.recv() => match event {
                    Some(Event::Deadline(ms, cell)) => due.push(Reverse(Due(ms, cell))),
                    Some(Event::Stored(cell, number, stored)) => self.stored(&cell, number, stored),
                    None => return,
                },
                () = sleep_until(next) => {
                    if Instant::now() >= expiry {
                        self.expire_offsets();
                        expiry = Instant::now() + self.expiry_interval();
                    }
                    let now_ms = self.now().ms;
                    while due.peek().is_some_and(|Reverse(Due(ms, _))| *ms <= now_ms) {
                        if let Some(Reverse(Due(ms, cell))) = due.pop() {
                            self.tick(ms, &cell);
                        }
                    }
                }
            }
        }
    }

    /// A little late is on time: a millisecond is rounded down where it is counted.
    fn instant(&self, ms: i64) -> Instant {
        self.started + Duration::from_millis(u64::try_from(ms).unwrap_or(0).saturating_add(1))
    }

    fn tick(&self, due_ms: i64, cell: &Arc<Cell>) {
        let mut inner = cell.lock();
        // An entry that was made earlier than the group's newest is of no use any more.
        if inner.watched_ms != Some(due_ms) || inner.group.is_dead() {
            return;
        }
        inner.watched_ms = None;
        let effects = inner.group.tick(self.now());
        self.act(cell, &mut inner, effects);
        if inner.group.is_vacant() && self.log.group(&cell.name).is_none() {
            // It was named and nobody ever came.
            inner.group.kill();
            drop(inner);
            self.map().remove(&cell.name);
        }
    }

    fn stored(&self, cell: &Arc<Cell>, number: u64, stored: Result<(), courant_log::GroupError>) {
        if let Err(failure) = &stored {
            warn!(group = cell.name, "a group's state was not stored: {failure}");
        }
        let mut inner = cell.lock();
        let effects = inner.group.stored(number, stored.is_ok(), self.now());
        self.act(cell, &mut inner, effects);
    }

    fn expiry_interval(&self) -> Duration {
        (self.settings.retention / 10).clamp(Duration::from_secs(1), Duration::from_secs(600))
    }

    /// Forgets offsets of groups that had no member for the time of retention, and single ones of
    /// groups that never had any.
    fn expire_offsets(&self) {
        let retention_ms = i64::try_from(self.settings.retention.as_millis()).unwrap_or(i64::MAX);
        let oldest_ms = self.now().wall_ms.saturating_sub(retention_ms);
        let cells: Vec<_> = self.map().values().cloned().collect();
        for cell in cells {
            self.expire(&cell, oldest_ms);
        }
    }

    fn expire(&self, cell: &Arc<Cell>, oldest_ms: i64) {
        let mut inner = cell.lock();
        if !inner.group.is_vacant() {
            return;
        }
        let Some(stored) = self.log.group(&cell.name) else { return };
        if let Some(since_ms) = inner.group.empty_since_ms() {
            // Commits without membership count as a sign of life too.
            let newest_ms = stored.offsets.values().map(|offset| offset.committed_ms).max();
            if since_ms.max(newest_ms.unwrap_or(since_ms)) < oldest_ms {
                info!(group = cell.name, "forgotten: no member for the time that offsets are kept");
                self.log.delete_group(cell.name.clone(), |_| ());
                inner.group.kill();
                drop(inner);
                self.map().remove(&cell.name);
            }
            return;
        }
        let old = stored.offsets.iter().filter(|(_, offset)| offset.committed_ms < oldest_ms);
        let old: Vec<_> = old.map(|(partition, _)| *partition).collect();
        if !old.is_empty() {
            info!(group = cell.name, partitions = old.len(), "offsets forgotten: nobody commits them");
            self.log.delete_offsets(cell.name.clone(), old, |_| ());
        }
    }
}
