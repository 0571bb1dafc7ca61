//! One reading of everything a Fetch asks for.

use std::io;

use bytes::Bytes;
use courant_log::{Log, Offsets, PartitionId, Read, ReadError};
use tracing::error;

use super::Fetched;
use super::plan::{Plan, PlannedPartition};
use crate::broker::Caller;
use crate::budget::Grant;
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::messages::{FetchResponse, FetchableTopicResponse, PartitionData};

/// What one pass found.
#[derive(Debug, Default)]
pub(super) struct Pass {
    topics: Vec<FetchableTopicResponse>,
    /// Records read, in bytes.
    pub(super) bytes: usize,
    /// Whether a partition has an error to tell.
    pub(super) failed: bool,
    /// The high watermark of each partition up to which there is nothing more to read.
    pub(super) seen: Vec<(PartitionId, u64)>,
    grant: Grant,
    /// Bytes read without leaving the thread since the last time others could run.
    unyielded: usize,
}

impl Pass {
    pub(super) async fn read(caller: &Caller, plan: &Plan) -> Self {
        let mut pass = Self::default();
        for topic in &plan.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for wanted in &topic.partitions {
                partitions.push(pass.partition(caller, plan, wanted).await);
            }
            pass.topics.push(FetchableTopicResponse {
                topic: topic.name.clone(),
                topic_id: topic.id,
                partitions,
            });
        }
        pass
    }

    pub(super) fn into_fetched(self) -> Fetched {
        let response = FetchResponse { responses: self.topics, ..FetchResponse::default() };
        (response, self.grant)
    }

    /// Forgets what was read and gives its memory back.
    pub(super) fn into_seen(self) -> Vec<(PartitionId, u64)> {
        self.seen
    }

    async fn partition(&mut self, caller: &Caller, plan: &Plan, wanted: &PlannedPartition) -> PartitionData {
        let mut data = match self.try_partition(caller, plan, wanted).await {
            Ok(data) => data,
            Err(code) => {
                self.failed = true;
                PartitionData {
                    error_code: code.0,
                    high_watermark: -1,
                    last_stable_offset: -1,
                    log_start_offset: -1,
                    records: Some(Bytes::new()),
                    ..PartitionData::default()
                }
            }
        };
        data.partition_index = wanted.index;
        // Null says that nobody asked for committed records only; there are no aborted ones.
        data.aborted_transactions = plan.committed.then(Vec::new);
        data
    }

    async fn try_partition(
        &mut self,
        caller: &Caller,
        plan: &Plan,
        wanted: &PlannedPartition,
    ) -> Result<PartitionData, ErrorCode> {
        let partition = wanted.target?;
        // The topic may have been deleted while the client waited.
        let offsets = caller.log().offsets(partition).ok_or(plan.naming.unknown())?;
        let offset = u64::try_from(wanted.offset)
            .ok()
            .filter(|offset| (offsets.start..=offsets.high_watermark).contains(offset))
            .ok_or(ErrorCode::OFFSET_OUT_OF_RANGE)?;
        // The end is decided here, without a read: it is where most clients are most of the time.
        let room = wanted.bytes_max.min(plan.bytes_max.saturating_sub(self.bytes));
        let whole_batch = self.bytes == 0;
        if offset == offsets.high_watermark
            || (room == 0 && !whole_batch)
            || !self.reserve(caller, room, whole_batch).await
        {
            self.seen.push((partition, offsets.high_watermark));
            return Ok(data(&offsets, Bytes::new()));
        }
        let read = read(caller.log(), partition, offset, room, whole_batch).await;
        let read = read.map_err(|failure| match failure {
            ReadError::UnknownPartition => plan.naming.unknown(),
            ReadError::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
            // Never "out of range", which would make clients skip or replay everything.
            failure => {
                error!(%partition, offset, "reading the log failed: {failure}");
                ErrorCode::KAFKA_STORAGE_ERROR
            }
        })?;
        self.took(read.bytes.len()).await;
        self.seen.push((partition, read.high_watermark));
        let offsets = Offsets { start: read.log_start, high_watermark: read.high_watermark };
        Ok(data(&offsets, read.bytes))
    }

    /// Memory for `room` more bytes. Waits for it only while the pass holds none, so that two of
    /// them cannot wait for each other; a later partition goes without this time.
    async fn reserve(&mut self, caller: &Caller, room: usize, may_wait: bool) -> bool {
        let budget = &caller.broker.response_budget;
        if budget.try_cover(&mut self.grant, self.bytes + room) {
            return true;
        }
        if may_wait {
            self.grant.shrink_to(0);
            budget.cover(&mut self.grant, room).await;
        }
        may_wait
    }

    async fn took(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.grant.shrink_to(self.bytes);
        self.unyielded += bytes;
        if self.unyielded >= limits::FETCH_YIELD_BYTES {
            self.unyielded = 0;
            tokio::task::yield_now().await;
        }
    }
}

fn data(offsets: &Offsets, records: Bytes) -> PartitionData {
    let offset = |offset: u64| i64::try_from(offset).unwrap_or(i64::MAX);
    PartitionData {
        error_code: ErrorCode::NONE.0,
        high_watermark: offset(offsets.high_watermark),
        // No transaction is ever open, so everything readable is stable.
        last_stable_offset: offset(offsets.high_watermark),
        log_start_offset: offset(offsets.start),
        records: Some(records),
        ..PartitionData::default()
    }
}

/// Whole batches from the one that holds `offset`: what lies before the offset inside that batch is
/// the client's to skip. Reads that may wait for the disk leave this thread.
async fn read(
    log: &Log,
    partition: PartitionId,
    offset: u64,
    bytes_max: usize,
    whole_batch: bool,
) -> Result<Read, ReadError> {
    if log.is_hot(partition, offset) {
        return log.read(partition, offset, bytes_max, whole_batch);
    }
    let log = log.clone();
    tokio::task::spawn_blocking(move || log.read(partition, offset, bytes_max, whole_batch))
        .await
        .unwrap_or_else(|failure| Err(ReadError::Io { partition, source: io::Error::other(failure) }))
}
