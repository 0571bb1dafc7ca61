//! The durable, partitioned, immutable event log of Courant.
//!
//! An event travels [`Log::append`] → the committer's queue → the journal (one write and one sync for
//! everything that waits) and its segment → the acknowledgement; and back through [`Log::read`].
//! Batches are stored and served as clients sent them. `docs/formats/` draws every byte on disk.
//!
//! The crate is synchronous and knows no async runtime: results come through callbacks.

mod believed_clock;
mod buffers;
mod bytes_io;
mod catalog;
mod checkpoint;
mod checkpointing;
mod commit;
mod committer;
mod compacting;
mod config;
mod durability;
mod error;
mod group_api;
mod groups;
mod inner;
mod journal;
mod layout;
mod log;
mod maintenance;
mod metrics;
mod partition;
mod queue;
mod read_cached;
mod recovery;
mod reserve;
mod retention;
mod room;
mod scrub;
mod segment;
mod state_io;
mod system;
mod topic_api;
mod unpacking;
mod verify;
mod writer;

pub mod backup;
pub mod batch;
pub mod compaction;
pub mod crc;
pub mod inspect;
pub mod limits;
pub mod planted;
pub mod storage;
pub mod topic_config;

pub use batch::{Batch, BatchError, BatchHeader, Codec};
pub use buffers::{Buffer, Buffers};
pub use catalog::{Catalog, NewTopic, Topic};
pub use compacting::CompactionReport;
pub use config::LogConfig;
pub use durability::Durability;
pub use error::{
    AcceptGapError, AddPartitionsError, AlterTopicError, AppendError, CreateTopicError, DeleteRecordsError,
    DeleteTopicError, GroupError, OpenError, WriterError,
};
pub use groups::{CommittedOffset, StoredGroup};
pub use log::{Appended, Health, Log};
pub use metrics::LogMetrics;
pub use partition::{Offsets, PartitionId, ProducerState, Read, ReadError, TimedOffset, Waiting};
pub use recovery::RecoveryReport;
pub use scrub::Scrub;
pub use system::{SystemClock, SystemEntropy};
pub use verify::{Damage, DamagedEvents, Verified, verify};

/// Locks, whoever panicked while holding it: every critical section leaves its data consistent.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
