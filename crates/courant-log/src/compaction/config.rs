//! What the configs of a topic say about compaction.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::topic_config::{Retention, SegmentLimits, effective, is_compacted};

/// When a topic is compacted, and into what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompactionConfig {
    /// Part of the bytes, from 0 to 1, that must be dirty before compaction begins.
    pub dirty_ratio_min: f64,
    /// Milliseconds for which an event is left alone; 0: none.
    pub lag_min_ms: i64,
    /// Milliseconds after which an event is compacted, however little is dirty.
    pub lag_max_ms: i64,
    /// Milliseconds for which a tombstone stays after its first compaction.
    pub delete_retention_ms: i64,
    /// Bytes that a merged segment may have.
    pub segment_bytes: u64,
    /// Where retention goes by time, the step in milliseconds within which the newest timestamps of
    /// merged segments lie: a merged segment goes as a whole. `None`: age does not matter.
    pub retained_step_ms: Option<i64>,
}

impl CompactionConfig {
    /// What the configs say; `None` for a topic that is not compacted.
    #[must_use]
    pub fn of(configs: &BTreeMap<String, String>) -> Option<Self> {
        if !is_compacted(configs) {
            return None;
        }
        let limits = SegmentLimits::of(configs);
        Some(Self {
            dirty_ratio_min: parsed(configs, "min.cleanable.dirty.ratio", 0.5),
            lag_min_ms: parsed(configs, "min.compaction.lag.ms", 0),
            lag_max_ms: parsed(configs, "max.compaction.lag.ms", i64::MAX),
            delete_retention_ms: parsed(configs, "delete.retention.ms", 24 * 60 * 60 * 1000),
            segment_bytes: limits.bytes,
            retained_step_ms: Retention::of(configs).step_ms(),
        })
    }
}

/// Values were checked when they were set.
fn parsed<T: FromStr>(configs: &BTreeMap<String, String>, name: &str, otherwise: T) -> T {
    effective(configs, name).trim().parse().unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn only_compacted_topics_have_one() {
        assert_eq!(CompactionConfig::of(&BTreeMap::new()), None);
        assert_eq!(CompactionConfig::of(&set(&[("cleanup.policy", "delete")])), None);
        assert!(CompactionConfig::of(&set(&[("cleanup.policy", "delete, compact")])).is_some());
    }

    #[test]
    fn defaults_are_kafkas() {
        let expected = CompactionConfig {
            dirty_ratio_min: 0.5,
            lag_min_ms: 0,
            lag_max_ms: i64::MAX,
            delete_retention_ms: 86_400_000,
            segment_bytes: 1024 * 1024 * 1024,
            retained_step_ms: None,
        };
        assert_eq!(CompactionConfig::of(&set(&[("cleanup.policy", "compact")])), Some(expected));
    }

    #[test]
    fn what_is_set_wins() {
        let configs = set(&[
            ("cleanup.policy", "compact,delete"),
            ("delete.retention.ms", "100"),
            ("max.compaction.lag.ms", "3000"),
            ("min.cleanable.dirty.ratio", " 0.01 "),
            ("min.compaction.lag.ms", "20"),
            ("retention.ms", "3600000"),
            ("segment.bytes", "2097152"),
        ]);
        let expected = CompactionConfig {
            dirty_ratio_min: 0.01,
            lag_min_ms: 20,
            lag_max_ms: 3000,
            delete_retention_ms: 100,
            segment_bytes: 2_097_152,
            retained_step_ms: Some(900_000),
        };
        assert_eq!(CompactionConfig::of(&configs), Some(expected));
    }
}
