//! What the log knows of producers from before a start, as far as reading it shows.

use super::plan::Place;
use super::reading::Stored;
use bytes::Bytes;
use courant_history::Stamp;
use std::collections::BTreeMap;

/// The newest batch of a producer in a partition.
#[derive(Debug)]
pub(super) struct Newest {
    /// As it is stored.
    pub(super) bytes: Bytes,
    /// Sequence of its first event.
    pub(super) first: u64,
    /// Events in it.
    pub(super) count: u64,
}

/// Producers by their number in the stamps.
#[derive(Debug, Default)]
pub(super) struct Known {
    ids: BTreeMap<u64, i64>,
    newest: BTreeMap<(Place, u64), Newest>,
}

impl Known {
    /// Notes a batch; those of a partition come in the order of their offsets.
    pub(super) fn note(&mut self, place: Place, stored: &Stored<'_>) {
        let value = stored.events.first().and_then(|event| event.value.as_deref());
        let (Some(Ok(stamp)), Ok(count), Ok(first)) = (
            value.map(Stamp::of_value),
            u64::try_from(stored.header.record_count),
            u64::try_from(stored.header.base_sequence),
        ) else {
            // Whoever is told what was read finds this one wrong.
            return;
        };
        self.ids.insert(stamp.producer, stored.header.producer_id);
        let bytes = Bytes::copy_from_slice(stored.bytes);
        self.newest.insert((place, stamp.producer), Newest { bytes, first, count });
    }

    /// The id that the log has given a producer, if any of its batches is there.
    pub(super) fn id(&self, producer: u64) -> Option<i64> {
        self.ids.get(&producer).copied()
    }

    /// The newest batch of a producer in a partition.
    pub(super) fn newest(&self, place: Place, producer: u64) -> Option<&Newest> {
        self.newest.get(&(place, producer))
    }
}
