//! Subscriptions: records of the partitions that one consumer has, batch by batch.

use std::fmt;
use std::time::Duration;

use courant_core::topic::TopicName;

use crate::limits::FETCH_BYTES_DEFAULT;
use crate::{Boxed, FetchError, Partition, Position, Record, SeekError};

/// What a consumer wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The consumer group: its subscriptions share the partitions, each partition with one of them.
    pub group: String,
    /// The topics, which must exist.
    pub topics: Vec<TopicName>,
    /// Bytes that one [`Subscription::next`] gives over all partitions; one batch may exceed it.
    pub bytes_max: usize,
}

impl Subscribe {
    /// A subscription with the default of bytes.
    #[must_use]
    pub fn new(group: impl Into<String>, topics: Vec<TopicName>) -> Self {
        Self { group: group.into(), topics, bytes_max: FETCH_BYTES_DEFAULT }
    }
}

/// Records of one partition, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The partition.
    pub partition: Partition,
    /// The records, at least one, their offsets ascending. Offsets may be missing between them.
    pub records: Vec<Record>,
    /// Where reading goes on: behind the last record, and behind offsets that no record has.
    pub next_offset: u64,
    /// Offset of the oldest record that is kept.
    pub start: u64,
    /// Offset behind the newest readable record; the lag is `end - next_offset`.
    pub end: u64,
}

/// What a subscription has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Next {
    /// These partitions are the subscription's from now on. Nothing is read from one of them before
    /// [`Subscription::seek`] has said where to begin.
    Assigned(Vec<Partition>),
    /// These partitions are wanted elsewhere, and nothing more is read from them. They stay the
    /// subscription's until `next` is called again: finish or give up what is under way first.
    Revoked(Vec<Partition>),
    /// Records, of each partition at most once.
    Records(Vec<Fetched>),
    /// Nothing came within the wait.
    Nothing,
}

/// The records of the partitions that one consumer has.
///
/// Where it reads is remembered here and nowhere else: a consumer keeps its progress in its store, and
/// copies it into the engine with [`crate::Engine::commit`]. Dropping the subscription gives its
/// partitions back.
pub trait Subscription: fmt::Debug + Send {
    /// What is next: a change of the assignment, records, or nothing when `wait` is over. A wait of zero
    /// looks once at what is here; what comes from a server may not have come yet.
    ///
    /// Dropping the future loses nothing: what it would have given comes again.
    ///
    /// # Errors
    /// See [`FetchError`]. An error of one partition says which; nothing more is read from that one until
    /// it is sought again, and the others go on. After [`FetchError::Closed`] and [`FetchError::Ended`]
    /// nothing comes any more.
    fn next(&mut self, wait: Duration) -> Boxed<'_, Result<Next, FetchError>>;

    /// Says from which offset on assigned partitions are read. Whether the offsets exist shows when they
    /// are read.
    ///
    /// # Errors
    /// [`SeekError::NotAssigned`]; then none of the positions was taken.
    fn seek(&mut self, positions: Vec<Position>) -> Result<(), SeekError>;

    /// Stops reading from partitions for a while; those that are not assigned are passed over.
    fn pause(&mut self, partitions: &[Partition]);

    /// Goes on reading from partitions.
    fn resume(&mut self, partitions: &[Partition]);

    /// The partitions that it has, in order; those that are being revoked are not among them.
    fn assigned(&self) -> Vec<Partition>;
}
