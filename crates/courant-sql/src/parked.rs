//! Events that wait in the store: after a failure, or behind one.

#[cfg(any(feature = "mariadb", feature = "postgres"))]
use std::sync::Arc;
#[cfg(any(feature = "mariadb", feature = "postgres"))]
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;

use courant_core::topic::TopicName;

use crate::consumer::{Assignment, Consumer};
use crate::event::{Event, Failure};

/// The right to handle a partition's events, until somebody else takes it over. Every transaction
/// that is begun with it is refused from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which partition, and for whom.
    pub assignment: Assignment,
    /// Counts the owners the partition has had.
    pub epoch: u64,
    /// How long a transaction that is begun with it may stand still before the server ends it, where the
    /// server can: its locks keep whoever takes the partition over waiting. `None`, as it is given: as long
    /// as the server lets it.
    pub idle_max: Option<Duration>,
    /// What is known of the partition's parked events. Copies of a lease share it.
    #[cfg(any(feature = "mariadb", feature = "postgres"))]
    known: Known,
}

/// Whether anything may be parked in a partition. Only whoever has its lease parks there, so where nothing was when it
/// was taken over, nothing is until that lease has parked something.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
#[derive(Clone, Debug, Default)]
struct Known {
    nothing_parked: Arc<AtomicBool>,
}

/// What is known makes no other lease of it.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
impl PartialEq for Known {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(any(feature = "mariadb", feature = "postgres"))]
impl Eq for Known {}

impl Lease {
    /// A lease as a store gives it that knows nothing else of the partition.
    #[must_use]
    pub fn new(assignment: Assignment, epoch: u64) -> Self {
        Self {
            assignment,
            epoch,
            idle_max: None,
            #[cfg(any(feature = "mariadb", feature = "postgres"))]
            known: Known::default(),
        }
    }

    /// Nothing was parked when the partition was taken over, after whoever had it before could park no more.
    #[cfg(any(feature = "mariadb", feature = "postgres"))]
    pub(crate) fn with_nothing_parked(self) -> Self {
        self.known.nothing_parked.store(true, Ordering::Release);
        self
    }

    /// Something is about to be parked under it, whatever becomes of that. For good: when it is gone, others may park
    /// the next one already.
    #[cfg(any(feature = "mariadb", feature = "postgres"))]
    pub(crate) fn parks(&self) {
        self.known.nothing_parked.store(false, Ordering::Release);
    }

    /// Whether nothing is parked in the partition, as far as is known.
    #[cfg(any(feature = "mariadb", feature = "postgres"))]
    pub(crate) fn has_nothing_parked(&self) -> bool {
        self.known.nothing_parked.load(Ordering::Acquire)
    }
}

/// What became of an event that was to be parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// It waits in the store, after this many failures.
    Waiting {
        /// Failures so far, this one included.
        attempts: u32,
    },
    /// It needs no parking: it was settled before. Its handler's commit had succeeded without an
    /// answer, or it is a dead letter already.
    Settled,
}

/// An event of the store that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedEvent {
    /// The event.
    pub event: Event,
    /// Failures so far; 0 for one that only waited behind others, or was sent back by a redrive.
    pub attempts: u32,
    /// When it failed first.
    pub first_failed_ms: Option<i64>,
    /// When it is, or was, to be handled next. `None`: behind another, or waiting for a person.
    pub due_ms: Option<i64>,
    /// Its last failure.
    pub failure: Option<Failure>,
    /// The redrive that sent it back.
    pub redrive: Option<String>,
}

/// A key with parked events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedKey {
    /// The key.
    pub key: Bytes,
    /// How many of its events are parked.
    pub events: u64,
}

/// What is counted of what is parked.
#[derive(Clone, Copy, Debug)]
pub struct ParkedOf<'a> {
    /// Whose events.
    pub consumer: &'a Consumer,
    /// Of these topics; `None`: of all, also those that the consumer reads no more.
    pub topics: Option<&'a [TopicName]>,
}

impl<'a> ParkedOf<'a> {
    /// All that is parked of a consumer.
    #[must_use]
    pub fn all(consumer: &'a Consumer) -> Self {
        Self { consumer, topics: None }
    }

    /// What is parked of these topics.
    #[must_use]
    pub fn topics(consumer: &'a Consumer, topics: &'a [TopicName]) -> Self {
        Self { consumer, topics: Some(topics) }
    }
}

/// How much of a consumer is parked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParkedCounts {
    /// Events with a next attempt.
    pub waiting: u64,
    /// Events behind another of their key.
    pub queued: u64,
    /// Dead letters that keep their key parked.
    pub blocking: u64,
    /// The next attempt of all.
    pub next_due_ms: Option<i64>,
}
