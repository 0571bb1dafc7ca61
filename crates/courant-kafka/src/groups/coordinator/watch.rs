//! The task that watches: deadlines of groups, outcomes of what they stored, offsets that nobody
//! needs any more.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::{Cell, Coordinator, Event};

/// Groups to be looked at, the earliest first; each at most once. Groups have no order: the place in
/// memory tells those of the same moment apart.
#[derive(Default)]
struct Due(BTreeMap<(i64, usize), Arc<Cell>>);

impl Due {
    fn next_ms(&self) -> Option<i64> {
        self.0.keys().next().map(|(ms, _)| *ms)
    }

    fn move_to(&mut self, before_ms: Option<i64>, next_ms: Option<i64>, cell: Arc<Cell>) {
        let place = Arc::as_ptr(&cell).addr();
        if let Some(before_ms) = before_ms {
            self.0.remove(&(before_ms, place));
        }
        if let Some(next_ms) = next_ms {
            self.0.insert((next_ms, place), cell);
        }
    }

    fn pop(&mut self, now_ms: i64) -> Option<(i64, Arc<Cell>)> {
        let first = self.0.first_entry().filter(|first| first.key().0 <= now_ms)?;
        let ((ms, _), cell) = first.remove_entry();
        Some((ms, cell))
    }
}

impl Coordinator {
    /// Watches until it is dropped. Only the first call does.
    pub(crate) async fn run(self: Arc<Self>) {
        let taken = self.watched.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut events) = taken else { return };
        let mut due = Due::default();
        let mut expiry = Instant::now();
        loop {
            let next = due.next_ms().map_or(expiry, |ms| self.instant(ms).min(expiry));
            tokio::select! {
                event = events.recv() => match event {
                    Some(Event::Deadline { before_ms, next_ms, cell }) => {
                        due.move_to(before_ms, next_ms, cell);
                    }
                    Some(Event::Stored(cell, number, stored)) => self.stored(&cell, number, stored),
                    None => return,
                },
                () = sleep_until(next) => {
                    if Instant::now() >= expiry {
                        self.expire_offsets();
                        expiry = Instant::now() + self.expiry_interval();
                    }
                    let now_ms = self.now().ms;
                    while let Some((ms, cell)) = due.pop(now_ms) {
                        self.tick(ms, &cell);
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
        // The news of another moment may still be on its way.
        if inner.watched_ms != Some(due_ms) || inner.group.is_dead() {
            return;
        }
        inner.watched_ms = None;
        let effects = inner.group.tick(self.now());
        self.act(cell, &mut inner, effects);
        self.forget_if_unused(cell, inner);
    }

    fn stored(&self, cell: &Arc<Cell>, number: u64, stored: Result<(), courant_log::GroupError>) {
        if let Err(failure) = &stored
            && let Some(unsaid) = self.not_stored.say(std::time::Instant::now())
        {
            warn!(group = cell.name, unsaid, "a group's state was not stored: {failure}");
        }
        let mut inner = cell.lock();
        let effects = inner.group.stored(number, stored.is_ok(), self.now());
        self.act(cell, &mut inner, effects);
    }

    fn expiry_interval(&self) -> Duration {
        (self.settings.retention / 10).clamp(Duration::from_secs(1), Duration::from_secs(600))
    }

    /// Forgets groups that had no member for the time of retention, and offsets of groups that never
    /// had any.
    pub(super) fn expire_offsets(&self) {
        // The log may have refused to delete a group that is forgotten here.
        for name in self.log.groups() {
            self.find(&name);
        }
        let cells: Vec<_> = self.map().values().cloned().collect();
        for cell in cells {
            self.expire(&cell);
        }
    }

    fn expire(&self, cell: &Arc<Cell>) {
        let inner = cell.lock();
        if inner.is_used() {
            return;
        }
        // A topic may have taken the last offsets with it.
        let Some(stored) = self.log.group(&cell.name) else { return self.forget_if_unused(cell, inner) };
        let oldest_ms = self.before(self.settings.retention);
        let Some(since_ms) = inner.group.empty_since_ms() else {
            let old = stored.offsets.iter().filter(|(_, offset)| offset.committed_ms < oldest_ms);
            let old: Vec<_> = old.map(|(partition, _)| *partition).collect();
            if !old.is_empty() {
                info!(group = cell.name, partitions = old.len(), "offsets forgotten: nobody commits them");
                self.log.delete_offsets(cell.name.clone(), old, |_| ());
            }
            return;
        };
        // Commits without membership count as a sign of life too. Without any commit there is nothing
        // to be kept for the time of retention.
        let is_over = match stored.offsets.values().map(|offset| offset.committed_ms).max() {
            Some(newest_ms) => since_ms.max(newest_ms) < oldest_ms,
            None => since_ms < self.before(self.expiry_interval()),
        };
        if is_over {
            info!(group = cell.name, "forgotten: it has no members, and no offsets that are still kept");
            self.log.delete_group(cell.name.clone(), |_| ());
            self.forget(cell, inner);
        }
    }

    /// A moment that is that long ago, in milliseconds since 1970.
    fn before(&self, time: Duration) -> i64 {
        let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        self.now().wall_ms.saturating_sub(ms)
    }
}
