//! What others have done in the store: asked for redrives, given dead letters up, parked events. Another process
//! cannot wake the loop, so the loop has somebody look from time to time. A look reads, and holds nobody up: the
//! loop goes on meanwhile, because it has several answers to wait for in each partition.

use std::sync::Arc;
use std::time::Duration;

use courant_engine::Partition;
use tokio::task::JoinError;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Driver, task_ended};
use crate::runtime::ledger::{Assigned, Ledger, News, Trouble};
use crate::runtime::time::after;

/// How often the loop looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a look has found.
pub(super) struct Looked {
    partitions: Vec<Found>,
    /// How many events of the consumer are parked, if they were counted.
    parked: Option<Counted>,
}

/// What it has found in a partition.
struct Found {
    partition: Partition,
    assigned: Arc<Assigned>,
    news: News,
}

/// A count of what is parked.
struct Counted {
    events: u64,
    took: Duration,
}

impl Driver {
    /// Looks from now on, where there is a store that others can change.
    pub(super) fn begin_looking(&mut self) {
        let is_shared = self.ledger.is_shared();
        self.look_ms = is_shared.then(|| after(self.context.time.now_ms(), LOOK_EVERY));
    }

    /// Has somebody look, if it is time to and nobody does.
    pub(super) fn look_around(&mut self) {
        let Some(look_ms) = self.look_ms else { return };
        let now_ms = self.context.time.now_ms();
        let next_ms = after(now_ms, LOOK_EVERY);
        let is_time = now_ms >= look_ms;
        // A clock that is set back puts no look off.
        self.look_ms = Some(if is_time { next_ms } else { look_ms.min(next_ms) });
        let is_wanted = is_time || self.room.must_count();
        if is_wanted && self.lookers.is_empty() && !self.parts.is_empty() {
            let counts = self.room.begin_count(Instant::now());
            let parts = self.parts.iter().map(|(partition, part)| (partition.clone(), part.assigned.clone()));
            self.lookers.spawn(look(self.ledger.clone(), parts.collect(), counts));
        }
    }

    /// Takes in what a look has found, as far as the partitions are still those that they were.
    pub(super) fn looked(
        &mut self,
        looked: Result<Result<Looked, Trouble>, JoinError>,
    ) -> Result<(), Trouble> {
        let Looked { partitions, parked } = looked.map_err(|error| task_ended(&error))??;
        for Found { partition, assigned, news } in partitions {
            let part = self.parts.get_mut(&partition).filter(|part| part.assigned.serial == assigned.serial);
            let Some(part) = part else { continue };
            // They are taken when nothing is under way.
            self.is_holding |= news.redrives;
            // What waited behind a letter that was given up is due.
            part.due_ms.extend(news.due_ms);
        }
        if let Some(counted) = parked {
            self.counted(&counted);
        }
        Ok(())
    }

    /// Counts what is parked before anything is read, once.
    pub(super) async fn count_first(&mut self) -> Result<(), Trouble> {
        if self.room.is_unknown() {
            let counted = count(&*self.ledger).await?;
            self.counted(&counted);
        }
        Ok(())
    }

    /// Takes in how many events are parked: goes on reading, or stops.
    fn counted(&mut self, counted: &Counted) {
        let (was_closed, was_full) = (self.room.is_closed(), self.room.is_full());
        self.room.counted(counted.events, counted.took, Instant::now());
        let (consumer, parked, most) = (&self.orders.consumer, counted.events, self.room.most());
        if !was_full && self.room.is_full() {
            warn!(
                consumer,
                parked,
                most,
                "as many events are parked as may be, so no more are read: send dead letters back or give them up \
                 (courant dlq), or say .parked_max(…)"
            );
        } else if was_full && !self.room.is_full() {
            info!(consumer, parked, most, "fewer events are parked, and more are read again");
        }
        if was_closed != self.room.is_closed() {
            self.read_or_not();
        }
    }

    /// Reads the partitions, or does not, as there is room for what may be parked of them.
    pub(super) fn read_or_not(&mut self) {
        let partitions: Vec<Partition> = self.parts.keys().cloned().collect();
        if self.room.is_closed() {
            self.subscription.pause(&partitions);
        } else {
            self.subscription.resume(&partitions);
        }
    }
}

async fn look(
    ledger: Arc<dyn Ledger>,
    parts: Vec<(Partition, Arc<Assigned>)>,
    counts: bool,
) -> Result<Looked, Trouble> {
    let mut partitions = Vec::with_capacity(parts.len());
    for (partition, assigned) in parts {
        let news = ledger.news(&assigned).await?;
        partitions.push(Found { partition, assigned, news });
    }
    let parked = if counts { Some(count(&*ledger).await?) } else { None };
    Ok(Looked { partitions, parked })
}

async fn count(ledger: &dyn Ledger) -> Result<Counted, Trouble> {
    let began = Instant::now();
    let events = ledger.parked().await?;
    Ok(Counted { events, took: began.elapsed() })
}
