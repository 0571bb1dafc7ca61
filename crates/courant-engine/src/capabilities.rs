//! What an engine can do, as enums and limits: configuration is held against it when a service is built.
//!
//! What every engine must do is not here: keep the order within a partition, give an offset once, keep
//! keys, values and headers as they came, and never acknowledge what it can already tell it has lost.

use std::fmt;
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

/// What an acknowledged record survives, unless its topic asks for less; that says [`Topic`](crate::Topic).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Durability {
    /// Whether this is enough for whoever needs that. A disk and other machines are two things: neither is enough
    /// for whoever needs the other.
    #[must_use]
    pub fn covers(self, needed: Self) -> bool {
        match needed {
            Self::Memory => true,
            Self::Written => self != Self::Memory,
            Self::Replicated | Self::Disk => self == needed,
        }
    }
}

/// What is survived.
impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "nothing",
            Self::Written => "a crash of the process",
            Self::Replicated => "the loss of a machine",
            Self::Disk => "a power cut",
        })
    }
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

impl Lifetime {
    /// Whether this is enough for whoever needs that.
    #[must_use]
    pub fn covers(self, needed: Self) -> bool {
        self == Self::Storage || needed == Self::Engine
    }
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

impl PublishDedup {
    /// Whether this is enough for whoever needs that.
    #[must_use]
    pub fn covers(self, needed: Self) -> bool {
        match (self, needed) {
            (_, Self::Nothing) | (Self::Exact, _) => true,
            (Self::Window(has), Self::Window(needed)) => has >= needed,
            (Self::Window(_), Self::Exact) | (Self::Nothing, _) => false,
        }
    }
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

impl GroupScope {
    /// Whether this is enough for whoever needs that.
    #[must_use]
    pub fn covers(self, needed: Self) -> bool {
        self == Self::Everywhere || needed == Self::Process
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that cover each of `needed`.
    fn covering<T: Copy>(all: &[T], covers: impl Fn(T, T) -> bool) -> Vec<Vec<usize>> {
        let of = |needed: &T| (0..all.len()).filter(|has| covers(all[*has], *needed)).collect();
        all.iter().map(of).collect()
    }

    /// A machine that has burnt down has a disk no more, and machines without power have no memory.
    #[test]
    fn neither_a_disk_nor_other_machines_are_enough_for_whoever_needs_the_other() {
        let all = [Durability::Memory, Durability::Written, Durability::Replicated, Durability::Disk];
        assert_eq!(covering(&all, Durability::covers), [vec![0, 1, 2, 3], vec![1, 2, 3], vec![2], vec![3]]);
    }

    #[test]
    fn what_is_weaker_is_not_enough() {
        let scopes = [GroupScope::Process, GroupScope::Everywhere];
        assert_eq!(covering(&scopes, GroupScope::covers), [vec![0, 1], vec![1]]);
        let lifetimes = [Lifetime::Engine, Lifetime::Storage];
        assert_eq!(covering(&lifetimes, Lifetime::covers), [vec![0, 1], vec![1]]);
        let window = |seconds| PublishDedup::Window(Duration::from_secs(seconds));
        let dedups = [PublishDedup::Nothing, window(1), window(2), PublishDedup::Exact];
        assert_eq!(
            covering(&dedups, PublishDedup::covers),
            [vec![0, 1, 2, 3], vec![1, 2, 3], vec![2, 3], vec![3]]
        );
    }
}
