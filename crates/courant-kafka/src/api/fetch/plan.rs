//! A Fetch with its topics looked up and its bounds applied.

use std::time::Duration;

use courant_log::{Catalog, PartitionId};
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
    /// Never above `bytes_max`, which could not be reached.
    pub(super) bytes_min: usize,
    pub(super) wait: Duration,
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
}

impl Plan {
    pub(super) fn new(
        catalog: &Catalog,
        request: FetchRequest,
        version: i16,
        fetch_bytes_max: usize,
    ) -> Self {
        let naming = Naming::of(version, IDS_FROM);
        let topics = request.topics.into_iter().map(|wanted| {
            let topic = naming.topic(catalog, &wanted.topic, &wanted.topic_id);
            let partition = |wanted: &FetchPartition| PlannedPartition {
                index: wanted.partition,
                target: topic.and_then(|topic| {
                    target::check_leader_epoch(wanted.current_leader_epoch)?;
                    target::partition(topic, wanted.partition)
                }),
                offset: wanted.fetch_offset,
                bytes_max: bytes(wanted.partition_max_bytes),
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
            bytes_min: bytes(request.min_bytes).min(bytes_max),
            wait: Duration::from_millis(wait_ms).min(limits::FETCH_WAIT_MAX),
            committed: request.isolation_level == READ_COMMITTED,
            naming,
        }
    }
}

fn bytes(claimed: i32) -> usize {
    usize::try_from(claimed).unwrap_or(0)
}
