//! What an engine can do, as enums and limits: configuration is held against it when a service is built.
//!
//! What every engine must do is not here: keep the order within a partition, give an offset once, keep
//! keys, values and headers as they came, and never acknowledge what it can already tell it has lost.

use std::time::Duration;

/// What one engine can do. The values are those of the opened engine, not of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Within what records keep their order.
    pub order: OrderScope,
    /// From where a subscription can begin.
    pub replay: Replay,
    /// What an acknowledged record survives.
    pub durability: Durability,
    /// What records, topics and committed offsets outlive.
    pub lifetime: Lifetime,
    /// Whether a record that is published twice is stored once.
    pub publish_dedup: PublishDedup,
    /// Among whom the partitions of a group are spread.
    pub groups: GroupScope,
    /// Whether offsets can be found by time.
    pub time_lookup: TimeLookup,
    /// Who can write into its topics.
    pub access: Access,
    /// Bytes of the largest record that a topic can be made to take.
    pub record_bytes_max: usize,
    /// Partitions that one topic can have.
    pub partitions_max: u32,
}

/// Within what records keep the order in which they were published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OrderScope {
    /// Within a partition, and so within a key.
    Partition,
    /// Within a key only.
    Key,
    /// Nowhere.
    Nothing,
}

/// From where a subscription can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replay {
    /// From any offset that is kept, as often as one likes.
    AnyOffset,
    /// Only from where the group stands; what was acknowledged is gone.
    Nothing,
}

/// What an acknowledged record survives, unless its topic asks for less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing: it is in the memory of this process.
    Memory,
    /// A crash of the process.
    Written,
    /// The loss of one machine: others have it too, in their memory at least.
    Replicated,
    /// A power cut: it is on disk.
    Disk,
}

/// What the engine's contents outlive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lifetime {
    /// Nothing: they go with the engine.
    Engine,
    /// The process: they are found again under the same URL.
    Storage,
}

/// Whether a record that is published again, with the same event id, is stored once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishDedup {
    /// Stored twice; consumers compare event ids.
    Nothing,
    /// Stored once if the second one comes within this time.
    Window(Duration),
    /// Stored once.
    Exact,
}

/// Among whom the partitions of a group are spread, each to one subscription at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupScope {
    /// The subscriptions of this engine in this process; no other process can have any.
    Process,
    /// All processes that use the engine.
    Everywhere,
}

/// Who can write into the topics of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// This process, and no other.
    Process,
    /// Those who have logged in, as far as they may.
    Login,
    /// Everybody who reaches it.
    Anybody,
}

/// Whether offsets can be found by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeLookup {
    /// By the records' timestamps.
    Timestamp,
    /// Not at all.
    Nothing,
}
