//! Which partition a record goes to.
//!
//! A keyed record goes where Java's default partitioner sends it, so that services in different
//! languages keep one order per key. Records without a key stick to one partition per batch.

pub use courant_core::partitioner::{murmur2, partition_for_key};

/// Walks over the partitions, one step per batch, for records without a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sticky {
    next: u32,
}

impl Sticky {
    /// Begins anywhere, so that many short-lived producers do not all load partition 0.
    pub(super) fn beginning_at(seed: u32) -> Self {
        Self { next: seed }
    }

    /// The partition for the next batch.
    pub(super) fn next(&mut self, partitions: u32) -> u32 {
        let chosen = self.next.checked_rem(partitions).unwrap_or(0);
        self.next = self.next.wrapping_add(1);
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sticky_visits_every_partition() {
        let mut sticky = Sticky::beginning_at(u32::MAX);
        let seen: std::collections::BTreeSet<u32> = (0..6).map(|_| sticky.next(3)).collect();
        assert_eq!(seen.len(), 3);
        assert_eq!(Sticky::beginning_at(5).next(0), 0);
    }
}
