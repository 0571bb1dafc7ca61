//! Where one producer stands in one partition.

use super::plan::Place;
use courant_log::{AppendError, PartitionId};

/// What was sent to a partition, and what is to come.
///
/// Sequences have no gaps: behind a batch that was refused, the log refuses what is on its way too.
/// So a slot closes with a refusal, and opens at the first refused sequence when all is answered.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) place: Place,
    pub(super) id: PartitionId,
    /// The next sequence.
    pub(super) next: u64,
    in_flight: usize,
    /// The lowest sequence that was refused.
    refused: Option<u64>,
}

impl Slot {
    pub(super) fn new(place: Place, id: PartitionId, next: u64) -> Self {
        Self { place, id, next, in_flight: 0, refused: None }
    }

    pub(super) fn is_open(&self) -> bool {
        self.refused.is_none()
    }

    /// A batch of `count` events goes out.
    pub(super) fn sends(&mut self, count: u64) {
        self.next = self.next.saturating_add(count);
        self.in_flight += 1;
    }

    /// Whether the error only says that an earlier batch was refused.
    pub(super) fn follows_refused(&self, error: &AppendError) -> bool {
        self.refused.is_some() && matches!(error, AppendError::OutOfOrderSequence { .. })
    }

    /// The batch that begins with sequence `first` was refused.
    pub(super) fn refuses(&mut self, first: u64) {
        self.refused = Some(self.refused.map_or(first, |lowest| lowest.min(first)));
    }

    /// A batch was answered, one way or the other.
    pub(super) fn is_answered(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0
            && let Some(first) = self.refused.take()
        {
            self.next = first;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out_of_order() -> AppendError {
        AppendError::OutOfOrderSequence { expected: 3, got: 5 }
    }

    #[test]
    fn a_refusal_closes_until_all_is_answered() {
        let mut slot = Slot::new(Place { topic: "orders", partition: 0 }, PartitionId(1), 0);
        for count in [3, 2, 4] {
            assert!(slot.is_open());
            slot.sends(count);
        }
        slot.is_answered();
        assert!(!slot.follows_refused(&out_of_order()), "nothing was refused before");
        slot.refuses(3);
        slot.is_answered();
        assert!(!slot.is_open() && slot.follows_refused(&out_of_order()));
        assert!(!slot.follows_refused(&AppendError::UnknownPartition));
        slot.refuses(5);
        slot.is_answered();
        assert!(slot.is_open());
        assert_eq!(slot.next, 3);
    }
}
