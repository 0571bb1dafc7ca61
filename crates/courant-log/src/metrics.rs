//! Counters of one log.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64),* }

        /// Counters since the log was opened, and two sizes.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct LogMetrics {
            $($(#[$doc])* pub $name: u64,)*
            /// Topics that exist.
            pub topics: u64,
            /// Partitions that exist.
            pub partitions: u64,
        }

        impl Counters {
            pub(crate) fn read(&self, topics: u64, partitions: u64) -> LogMetrics {
                LogMetrics { $($name: self.$name.load(Relaxed),)* topics, partitions }
            }
        }
    };
}

counters! {
    /// Batches appended.
    appends,
    /// Events in them.
    appended_events,
    /// Bytes of them.
    appended_bytes,
    /// Batches that were in the log already and were acknowledged again.
    duplicates,
    /// Groups written to the journal.
    groups,
    /// Journal syncs.
    syncs,
    /// Reads of segments.
    reads,
    /// Bytes that reads gave.
    read_bytes,
    /// Waiting readers that were woken.
    wakes,
    /// Checkpoints stored.
    checkpoints,
    /// Times that an append waited for a free journal file.
    journal_waits,
    /// Longest of these waits in microseconds.
    journal_wait_longest_us,
    /// Times that appends waited until segments were synced and closed, because no more may be open.
    file_waits,
    /// Longest of these waits in microseconds.
    file_wait_longest_us,
    /// Segments that compaction has put in the place of others.
    compactions,
    /// Bytes that compaction has read.
    compaction_read_bytes,
    /// Bytes of the segments that it has written.
    compaction_written_bytes,
    /// Times that compaction of a partition ended early, because of damage or the storage.
    compaction_failures,
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}
