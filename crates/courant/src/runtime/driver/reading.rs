//! What the engine gives: records, and why there are none.

use std::time::Duration;

use courant_engine::{FetchError, Fetched, Partition};
use courant_sql::Source;
use tokio::time::Instant;
use tracing::{error, warn};

use super::{Driver, Lane};
use crate::StallReason;
use crate::runtime::incoming;
use crate::runtime::ledger::{Trouble, Work};

/// How long a partition rests that could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

impl Driver {
    /// Takes records in. Those of types that nobody wants here are settled at once.
    pub(super) fn take(&mut self, fetched: Fetched) {
        let Some(part) = self.parts.get_mut(&fetched.partition) else { return };
        self.standing.goes_on(&fetched.partition);
        let log = self.context.engine.log_id();
        let next_offset = fetched.next_offset;
        let mut records = fetched.records.into_iter().peekable();
        while let Some(record) = records.next() {
            let offset = record.position.offset;
            let next = records.peek().map_or(next_offset, |record| record.position.offset);
            if !part.progress.begin(offset, next) {
                continue;
            }
            if self.context.mappings.is_foreign(&record) {
                let event = incoming::event(&log, record);
                let wants = |said: &str| self.orders.event_types.contains(said);
                let read = self.context.mappings.read(&fetched.partition.topic, event, wants);
                if !read.is_wanted {
                    self.passed += 1;
                    part.is_unsaved |= part.progress.settle(offset, read.event.id);
                    continue;
                }
                let assigned = part.assigned.clone();
                let work = Work { assigned, event: read.event, source: Source::Log, failures: 0 };
                self.lanes.push(Lane::of(&work), work);
                continue;
            }
            let said = incoming::event_type(&record);
            if !said.is_some_and(|said| self.orders.event_types.contains(said)) {
                self.passed += 1;
                part.is_unsaved |= part.progress.settle(offset, incoming::id(&log, &record));
                continue;
            }
            let event = incoming::event(&log, record);
            let work = Work { assigned: part.assigned.clone(), event, source: Source::Log, failures: 0 };
            self.lanes.push(Lane::of(&work), work);
        }
        part.progress.pass_to(next_offset);
        part.next = next_offset;
    }

    /// Passes by what cannot be read, if it can be passed.
    pub(super) fn pass_by(&mut self, trouble: FetchError) -> Result<(), Trouble> {
        let consumer = self.orders.consumer.as_str();
        match trouble {
            FetchError::OutOfRange { partition, offset, start, .. } if offset < start => {
                warn!(consumer, %partition, offset, start, "retention has taken events that were not handled");
                self.pass_to(&partition, start);
            }
            FetchError::Damaged { partition, offset, next_offset: Some(next), reason } => {
                error!(consumer, %partition, offset, next, reason, "damaged events are passed");
                self.pass_to(&partition, next);
            }
            FetchError::Undecodable { partition, offset, next_offset, reason } => {
                error!(consumer, %partition, offset, next_offset, reason, "what is no records is passed");
                self.pass_to(&partition, next_offset);
            }
            FetchError::Failed { partition, reason } => {
                self.standing.note(&partition, StallReason::Unreadable, &reason);
                // Nothing comes of it until it is sought. Others go on meanwhile.
                self.unreadable.insert(partition, Instant::now() + READ_AGAIN);
            }
            FetchError::UnknownPartition { partition } => self.lacks_topic(&partition),
            other => return Err(Trouble::Broken(other.to_string())),
        }
        Ok(())
    }

    /// Has partitions read that could not be, and have rested.
    pub(super) fn read_again(&mut self) {
        let now = Instant::now();
        let rested = self.unreadable.iter().filter(|(_, at)| **at <= now);
        for partition in rested.map(|(partition, _)| partition.clone()).collect::<Vec<_>>() {
            self.unreadable.remove(&partition);
            if self.gone.contains_key(&partition) {
                continue;
            }
            // Of another topic nothing is read as if it were of this one.
            if self.is_another(&partition) {
                self.lacks_topic(&partition);
                continue;
            }
            let next = self.parts.get(&partition).map(|part| part.next);
            self.seek(&partition, next);
        }
    }

    fn pass_to(&mut self, partition: &Partition, next: u64) {
        let Some(part) = self.parts.get_mut(partition) else { return };
        let last = part.progress.low_water().last.as_ref().map(|(offset, _)| *offset);
        part.missed.pass(last, part.next, next);
        part.progress.pass_to(next);
        part.next = part.next.max(next);
        part.is_unsaved = true;
        self.seek(partition, Some(next));
    }

    pub(super) fn seek(&mut self, partition: &Partition, next: Option<u64>) {
        self.unreadable.remove(partition);
        let positions = next.map(|next| partition.at(next)).into_iter().collect();
        if let Err(error) = self.subscription.seek(positions) {
            warn!(consumer = self.orders.consumer, %error, "the partition went while it was sought");
        }
    }
}
