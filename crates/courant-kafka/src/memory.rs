//! What the front-end may take of memory.
//!
//! Counted are the bytes that its parts may have, not what an allocator makes of them. What is stored takes
//! memory of its own: topics, partitions, producers and groups are not in these figures.

use courant_log::limits::BUFFER_BYTES;

use crate::config::Limits;
use crate::limits;

impl Limits {
    /// What all clients together can make the front-end take, in bytes: requests, answers, fetch sessions,
    /// connections, and buffers that are used again.
    ///
    /// What the log is told waits in the same memory as the request that tells it. Batches are unpacked beside
    /// all this: see [`Limits::unpacking_max`].
    #[must_use]
    pub fn memory_max(&self) -> usize {
        [
            self.request_bytes_budget.saturating_mul(limits::REQUEST_GROWTH),
            self.response_bytes_budget,
            limits::FETCH_SESSIONS_BYTES_MAX,
            self.connections_max.saturating_mul(limits::CONNECTION_BYTES),
            limits::REQUEST_BUFFERS * BUFFER_BYTES,
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }

    /// What batches take while they are unpacked, in bytes: in looks for a time, and, by each of so many threads
    /// of the runtime, in a Produce to a topic that is compacted or has a codec of its own.
    #[must_use]
    pub fn unpacking_max(threads: usize) -> usize {
        // Packed anew it may be as large once more.
        let packing = limits::UNPACKED_BYTES_MAX + courant_log::limits::DECOMPRESSED_BYTES_MAX;
        (limits::TIME_LOOKS_MAX * limits::UNPACKED_BYTES_MAX).saturating_add(threads.saturating_mul(packing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part that is left out makes the whole one smaller.
    #[test]
    fn every_part_is_in_the_whole() {
        let limits = Limits { connections_max: 10, ..Limits::default() };
        let whole = limits.memory_max();
        let parts = [
            2 * limits.request_bytes_budget,
            limits.response_bytes_budget,
            limits::FETCH_SESSIONS_BYTES_MAX,
            10 * (limits::READ_AHEAD_BYTES_MAX + limits::SMALL_ANSWER_BYTES),
            limits::REQUEST_BUFFERS * BUFFER_BYTES,
        ];
        assert!(parts.iter().sum::<usize>() <= whole, "{parts:?} in {whole}");
        assert!(Limits { connections_max: 11, ..limits }.memory_max() > whole);
        assert!(Limits::unpacking_max(2) > Limits::unpacking_max(1));
    }

    #[test]
    fn figures_that_are_too_large_to_add_up_are_no_small_ones() {
        let limits = Limits { response_bytes_budget: usize::MAX, ..Limits::default() };
        assert_eq!(limits.memory_max(), usize::MAX);
        assert_eq!(Limits::unpacking_max(usize::MAX), usize::MAX);
    }
}
