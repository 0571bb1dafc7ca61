//! What the front-end may take of memory.
//!
//! Counted are the bytes that its parts may have, not what an allocator makes of them. What is stored takes
//! memory of its own: topics, partitions, producers and groups are not in these figures.

use courant_log::limits::{BUFFER_BYTES, GROUP_BYTES_MAX, MESSAGE_BYTES_MAX};

use crate::config::Limits;
use crate::limits;

/// Into so many parts the memory of the front-end is divided by [`Limits::within`].
const PARTS: usize = 32;
const CONNECTIONS_PARTS: usize = 5;

/// What the elements of one request may take.
const ELEMENTS_BYTES_MAX: usize = limits::ELEMENTS_MAX * limits::ELEMENT_BYTES;

impl Limits {
    /// The least memory that [`Limits::within`] divides: a batch of any size that topics take can be sent and
    /// read, and the longest list of partitions can be asked for.
    pub const MEMORY_MIN: usize = 136 * 1024 * 1024;

    /// Limits with which clients take at most so many bytes: none is larger than without. `None` for less than
    /// [`Limits::MEMORY_MIN`].
    #[must_use]
    pub fn within(bytes: usize) -> Option<Self> {
        if bytes < Self::MEMORY_MIN {
            return None;
        }
        let part = |parts: usize| bytes / PARTS * parts;
        let most = Self::default();
        let requests = (part(16) / limits::REQUEST_GROWTH).min(most.request_bytes_budget);
        let answers = part(8).min(most.response_bytes_budget);
        // One frame and its elements come to no more than there is, and one client leaves room for others.
        let frame = requests.saturating_sub(ELEMENTS_BYTES_MAX).min(requests / 2);
        Some(Self {
            connections_max: (part(CONNECTIONS_PARTS) / limits::CONNECTION_BYTES).min(most.connections_max),
            frame_bytes_max: frame.min(most.frame_bytes_max),
            request_bytes_budget: requests,
            response_bytes_budget: answers,
            fetch_bytes_max: (answers / 2).min(most.fetch_bytes_max),
            fetch_sessions_bytes_max: part(1).min(most.fetch_sessions_bytes_max),
            request_buffers: (part(2) / BUFFER_BYTES).min(most.request_buffers),
            ..most
        })
    }

    /// The same for connections with TLS. Of so many `bytes` as [`Limits::within`] was told, if it was told any, they
    /// have the same part, and are fewer.
    #[must_use]
    pub fn with_tls(self, bytes: Option<usize>) -> Self {
        let with = Self { tls: true, ..self };
        let most = bytes.map(|bytes| bytes / PARTS * CONNECTIONS_PARTS / with.connection_bytes());
        Self { connections_max: most.unwrap_or(usize::MAX).min(self.connections_max), ..with }
    }

    /// What one connection takes beside its shares of the budgets.
    pub(crate) fn connection_bytes(&self) -> usize {
        limits::CONNECTION_BYTES + if self.tls { limits::TLS_CONNECTION_BYTES } else { 0 }
    }

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
            self.fetch_sessions_bytes_max,
            self.connections_max.saturating_mul(self.connection_bytes()),
            self.request_buffers.saturating_mul(BUFFER_BYTES),
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

const _: () = {
    let requests = Limits::MEMORY_MIN / PARTS * 16 / limits::REQUEST_GROWTH;
    // A frame with the largest batch, and what stands around it.
    assert!(requests - ELEMENTS_BYTES_MAX >= MESSAGE_BYTES_MAX + limits::READ_AHEAD_BYTES_MAX);
    assert!(Limits::MEMORY_MIN / PARTS * 8 >= 2 * GROUP_BYTES_MAX);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_come_to_no_more_than_the_whole() {
        let most = Limits::default();
        let mut before = Limits::within(Limits::MEMORY_MIN).expect("it is enough");
        for mebibytes in (136..8192_usize).step_by(7) {
            let bytes = mebibytes * 1024 * 1024 + mebibytes;
            let limits = Limits::within(bytes).expect("it is enough");
            assert!(limits.memory_max() <= bytes, "{mebibytes} MiB");
            // More memory never makes a part smaller.
            assert!(limits.request_bytes_budget >= before.request_bytes_budget);
            assert!(limits.response_bytes_budget >= before.response_bytes_budget);
            assert!(limits.frame_bytes_max >= before.frame_bytes_max);
            assert!(limits.frame_bytes_max <= limits.request_bytes_budget / 2);
            assert!(limits.fetch_bytes_max <= limits.response_bytes_budget / 2);
            assert!(limits.connections_max >= 64 && limits.request_buffers > 0);
            before = limits;
        }
        assert_eq!(Limits::within(usize::MAX), Some(most), "with enough of it nothing is less than usual");
        assert_eq!(Limits::within(Limits::MEMORY_MIN - 1), None);
    }

    /// Each takes more, so there are fewer of them; without a budget there are as many, and the bound is larger.
    #[test]
    fn connections_with_tls_keep_to_the_same_budget() {
        for mebibytes in (136..8192_usize).step_by(97) {
            let bytes = mebibytes * 1024 * 1024;
            let plain = Limits::within(bytes).expect("it is enough");
            let tls = plain.with_tls(Some(bytes));
            assert!(tls.memory_max() <= bytes, "{mebibytes} MiB");
            assert!((64..=plain.connections_max).contains(&tls.connections_max), "{mebibytes} MiB");
            assert_eq!(Limits { connections_max: plain.connections_max, tls: false, ..tls }, plain);
        }
        let (plain, tls) = (Limits::default(), Limits::default().with_tls(None));
        assert_eq!(tls.connections_max, plain.connections_max);
        let more = plain.connections_max * limits::TLS_CONNECTION_BYTES;
        assert_eq!(tls.memory_max() - plain.memory_max(), more);
    }

    /// A part that is left out makes the whole one smaller.
    #[test]
    fn every_part_is_in_the_whole() {
        let limits = Limits { connections_max: 10, ..Limits::default() };
        let whole = limits.memory_max();
        let parts = [
            2 * limits.request_bytes_budget,
            limits.response_bytes_budget,
            limits.fetch_sessions_bytes_max,
            10 * (limits::READ_AHEAD_BYTES_MAX + limits::SMALL_ANSWER_BYTES),
            limits.request_buffers * BUFFER_BYTES,
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
