//! Places in an engine: partitions, positions, and the ends between which positions lie.

use std::fmt;
use std::sync::Arc;

use courant_core::position;

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number in the topic, counted from 0.
    pub number: u32,
}

impl Partition {
    /// A partition by name and number; whether it exists is for the engine to say.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, number: u32) -> Self {
        Self { topic: topic.into(), number }
    }

    /// The position of an offset in this partition.
    #[must_use]
    pub fn at(&self, offset: u64) -> Position {
        Position { partition: self.clone(), offset }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} of {}", self.number, self.topic)
    }
}

impl From<&position::TopicPartition> for Partition {
    fn from(partition: &position::TopicPartition) -> Self {
        Self::new(partition.topic.as_str(), partition.partition)
    }
}

/// A partition and an offset together: where one record is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The partition.
    pub partition: Partition,
    /// The number of the record in it, never given twice.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {} in {}", self.offset, self.partition)
    }
}

impl From<&position::Position> for Position {
    fn from(position: &position::Position) -> Self {
        Partition::new(position.topic.as_str(), position.partition).at(position.offset)
    }
}

/// The ends of what can be read in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Offset of the oldest record that is kept.
    pub start: u64,
    /// Offset behind the newest readable record; the next one will have it.
    pub end: u64,
}

/// A record found by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOffset {
    /// The record's offset.
    pub offset: u64,
    /// The record's timestamp, in milliseconds since 1970.
    pub timestamp_ms: i64,
}
