//! One partition: the tail that the committer fills, what readers see of it, and who waits for more.

mod damage;
mod producers;
mod quarantine;
mod read;
mod scrub;
mod shared;
mod tail;
mod waiters;

pub(crate) use damage::{Damages, Quarantined};
pub use producers::ProducerState;
pub(crate) use producers::{ProducerBatch, Producers, Verdict};
pub(crate) use read::Reader;
pub use read::{Read, ReadError, TimedOffset};
pub(crate) use shared::{Hint, Partition};
pub(crate) use tail::Tail;
pub use waiters::Waiting;
pub(crate) use waiters::{Waiter, Wakes};

/// A partition's number in the log. Unlike a topic's name it is never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u64);

impl std::fmt::Display for PartitionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The ends of what can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// Offset of the oldest event.
    pub start: u64,
    /// Offset behind the newest durable event; the next one readable will have it.
    pub high_watermark: u64,
}
