//! A Fetch with its topics looked up and its bounds applied.

use std::collections::HashSet;
use std::time::Duration;

use courant_log::{Catalog, PartitionId};
use tokio::time::Instant;
use uuid::Uuid;

use super::super::target::{self, Naming};
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::messages::{FetchPartition, FetchRequest};

/// The first version whose topics are ids.
const IDS_FROM: i16 = 13;

/// Isolation level `read_committed`.
const READ_COMMITTED: i8 = 1;

/// What to read, for as many passes as it takes.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) topics: Vec<PlannedTopic>,
    pub(super) bytes_max: usize,
    /// Never above what the bounds let through, which a client would wait for in vain.
    pub(super) bytes_min: usize,
    /// How long the client waits, for data as for memory.
    pub(super) deadline: Instant,
    pub(super) committed: bool,
    pub(super) naming: Naming,
}

#[derive(Debug)]
pub(super) struct PlannedTopic {
    pub(super) name: String,
    pub(super) id: Uuid,
    pub(super) partitions: Vec<PlannedPartition>,
}

#[derive(Debug)]
pub(super) struct PlannedPartition {
    pub(super) index: i32,
    pub(super) target: Result<PartitionId, ErrorCode>,
    /// As the client sent it; it may be negative.
    pub(super) offset: i64,
    pub(super) bytes_max: usize,
    /// Whether the request names the partition a second time. It is answered, but neither read nor
    /// waited for again: a short request could otherwise ask for the same bytes many times over.
    pub(super) repeated: bool,
}

impl Plan {
    pub(super) fn new(
        catalog: &Catalog,
        request: FetchRequest,
        version: i16,
        fetch_bytes_max: usize,
    ) -> Self {
        let naming = naming(version);
        let mut met = HashSet::new();
        let mut reachable = 0_usize;
        let topics = request.topics.into_iter().map(|wanted| {
            let topic = naming.topic(catalog, &wanted.topic, &wanted.topic_id);
            let partition = |wanted: &FetchPartition| {
                let target = topic.and_then(|topic| {
                    target::check_leader_epoch(wanted.current_leader_epoch)?;
                    target::partition(topic, wanted.partition)
                });
                let bytes_max = bytes(wanted.partition_max_bytes);
                let repeated = target.is_ok_and(|partition| !met.insert(partition));
                if !repeated {
                    reachable = reachable.saturating_add(bytes_max);
                }
                PlannedPartition {
                    index: wanted.partition,
                    target,
                    offset: wanted.fetch_offset,
                    bytes_max,
                    repeated,
                }
            };
            PlannedTopic {
                partitions: wanted.partitions.iter().map(partition).collect(),
                name: wanted.topic,
                id: wanted.topic_id,
            }
        });
        let topics = topics.collect();
        let bytes_max = bytes(request.max_bytes).min(fetch_bytes_max);
        let wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0);
        Self {
            topics,
            bytes_max,
            // One batch may come whatever the bounds are, so one byte can always be waited for.
            bytes_min: bytes(request.min_bytes).min(bytes_max.min(reachable).max(1)),
            deadline: Instant::now() + Duration::from_millis(wait_ms).min(limits::FETCH_WAIT_MAX),
            committed: request.isolation_level == READ_COMMITTED,
            naming,
        }
    }
}

/// How a version of Fetch names topics.
pub(super) fn naming(version: i16) -> Naming {
    Naming::of(version, IDS_FROM)
}

fn bytes(claimed: i32) -> usize {
    usize::try_from(claimed).unwrap_or(0)
}
