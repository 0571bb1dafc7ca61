//! What an acknowledgement promises, by topic.

use std::collections::BTreeMap;

use crate::limits::SEAL_AFTER_IDLE_MS;
use crate::topic_config::{SegmentLimits, effective};

/// How long acknowledged events of the class `interval` wait for the disk at most.
const INTERVAL_MS: u64 = 100;

/// How long after a sync the next group makes one when such events wait. A log that gets no next group
/// is sealed when it has been idle for a while, and that is within the interval too.
pub(crate) const SYNC_AGAIN_AFTER_MS: u64 = INTERVAL_MS - SEAL_AFTER_IDLE_MS;

/// Offsets that a partition of a relaxed class may give out before it has to sync once more, so that
/// none of them is given out again after a power cut.
pub(crate) const CEILING_STEP: u64 = 1_000_000;

/// When an append is acknowledged and readable. A stronger class is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// When it is written. The system decides when it is on disk.
    Os,
    /// When it is written; it is on disk a tenth of a second later.
    Interval,
    /// When it is on disk.
    #[default]
    Sync,
}

impl Durability {
    /// What the configs say.
    #[must_use]
    pub fn of(configs: &BTreeMap<String, String>) -> Self {
        match effective(configs, "courant.durability").trim() {
            "os" => Self::Os,
            "interval" => Self::Interval,
            _ => Self::Sync,
        }
    }

    /// Whether a power cut may cost acknowledged events.
    #[must_use]
    pub fn is_relaxed(self) -> bool {
        self < Self::Sync
    }
}

/// What a partition is told by its topic's configs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartitionRules {
    pub(crate) segment: SegmentLimits,
    pub(crate) durability: Durability,
}

impl PartitionRules {
    pub(crate) fn of(configs: &BTreeMap<String, String>) -> Self {
        Self { segment: SegmentLimits::of(configs), durability: Durability::of(configs) }
    }
}
