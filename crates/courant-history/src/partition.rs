//! Everything that is known of one partition, as it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::event::{Answers, EventId, Sighting};
use crate::pass::Pass;
use crate::spans::Spans;
use crate::stamp::{NotAStamp, Stamp};
use crate::table::Table;

/// What producers were told, and what readers saw.
#[derive(Debug, Default)]
pub(crate) struct PartitionHistory {
    /// By producer and sequence.
    pub(crate) producers: BTreeMap<u64, Table<Answers>>,
    /// The first event that was seen at each offset.
    pub(crate) seen: Table<EventId>,
    /// Other events that were seen at an offset of `seen`.
    pub(crate) seen_too: BTreeMap<u64, BTreeSet<EventId>>,
    /// Offsets at which something was seen that is no whole stamp; what came first.
    pub(crate) torn: BTreeMap<u64, NotAStamp>,
    /// Offsets at which an event of another partition was seen; the one that came first.
    pub(crate) misplaced: BTreeMap<u64, Stamp>,
    /// What completed passes cover.
    pub(crate) completed: Spans,
    /// Where a completed pass saw nothing. Always inside of `completed`.
    pub(crate) holes: Spans,
    /// The pass that each reader is in.
    passes: BTreeMap<String, Pass>,
}

impl PartitionHistory {
    /// What is known of an event from its producer's side.
    pub(crate) fn answers_mut(&mut self, event: EventId) -> &mut Answers {
        self.producers.entry(event.producer).or_default().slot(event.sequence)
    }

    /// Whether its producer has ever said anything of an event.
    pub(crate) fn is_known(&self, event: EventId) -> bool {
        self.producers.get(&event.producer).is_some_and(|events| events.get(event.sequence).is_some())
    }

    /// The pass that a reader is in; it begins with the first offset that it reads.
    pub(crate) fn pass_mut(&mut self, reader: &str) -> &mut Pass {
        self.passes.entry(reader.to_owned()).or_default()
    }

    /// An event of this partition was seen at an offset.
    pub(crate) fn see(&mut self, offset: u64, event: EventId) {
        match self.seen.get(offset).copied() {
            None => *self.seen.slot(offset) = event,
            Some(first) if first == event => {}
            Some(_) => {
                self.seen_too.entry(offset).or_default().insert(event);
            }
        }
    }

    /// The reader's pass has everything from `start` to before `end`. What it has not seen is fixed
    /// here: the reader may go on, or begin anew.
    pub(crate) fn complete(&mut self, reader: &str, start: u64, end: u64) {
        let holes = self.pass_mut(reader).holes(start..end);
        let reader: Arc<str> = Arc::from(reader);
        for hole in holes {
            self.holes.add(hole, &reader);
        }
        self.completed.add(start..end, &reader);
    }

    /// Each event at each offset where it was seen: by event, then by offset.
    pub(crate) fn sightings(&self) -> Vec<Sighting> {
        let first = self.seen.iter().map(|(offset, event)| Sighting { event: *event, offset });
        let others = self.seen_too.iter().flat_map(|(offset, events)| {
            events.iter().map(move |event| Sighting { event: *event, offset: *offset })
        });
        let mut sightings: Vec<_> = first.chain(others).collect();
        sightings.sort_unstable();
        sightings
    }
}
