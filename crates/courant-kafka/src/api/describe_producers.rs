//! DescribeProducers (key 61): the idempotent producers that partitions remember (KIP-664).
//!
//! There are no transactions, so no producer has one open. When a producer last wrote is not kept.

use std::collections::HashSet;
use std::sync::Arc;

use courant_log::limits::PRODUCERS_PER_PARTITION_MAX;
use courant_log::{Catalog, PartitionId};
use uuid::Uuid;

use super::refused::Refused;
use super::target::{self, Naming};
use super::{Answered, memory_for};
use crate::broker::Caller;
use crate::wire::ErrorCode;
use crate::wire::messages::describe_producers::{PartitionResponse, ProducerState, TopicResponse};
use crate::wire::messages::{DescribeProducersRequest, DescribeProducersResponse};

/// Producers that one answer names.
const PRODUCERS_MAX: usize = 100_000;

/// Bytes of one producer and of one partition in the answer, decoded and encoded.
const PRODUCER_BYTES: usize = 96;
const PARTITION_BYTES: usize = 256;

/// Answers DescribeProducers.
pub(super) async fn answer(
    caller: Arc<Caller>,
    request: DescribeProducersRequest,
) -> Answered<DescribeProducersResponse> {
    let partitions: usize = request.topics.iter().map(|topic| topic.partition_indexes.len()).sum();
    let producers = partitions.saturating_mul(PRODUCERS_PER_PARTITION_MAX).min(PRODUCERS_MAX);
    let bytes = partitions * PARTITION_BYTES + producers * PRODUCER_BYTES;
    let grant = memory_for(&caller, bytes).await?;
    let catalog = caller.log().catalog();
    let mut room = Room { met: HashSet::new(), producers: PRODUCERS_MAX };
    let mut response = DescribeProducersResponse::default();
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in topic.partition_indexes {
            let found = find(&caller, &catalog, &topic.name, index, &mut room).await;
            partitions.push(partition_response(index, found));
        }
        response.topics.push(TopicResponse { name: topic.name, partitions });
    }
    Ok((response, grant))
}

/// What the answer still takes.
struct Room {
    /// Partitions that are in it. Once more is once too often: a short request could repeat one that
    /// has many producers.
    met: HashSet<PartitionId>,
    producers: usize,
}

async fn find(
    caller: &Caller,
    catalog: &Catalog,
    topic: &str,
    index: i32,
    room: &mut Room,
) -> Result<Vec<courant_log::ProducerState>, Refused> {
    let unknown =
        || Refused::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "there is no such partition".to_owned());
    let topic = Naming::ByName.topic(catalog, topic, &Uuid::nil()).map_err(|_| unknown())?;
    let partition = target::partition(topic, index).map_err(|_| unknown())?;
    if !room.met.insert(partition) {
        return Err(Refused::invalid("the request names this partition more than once".to_owned()));
    }
    let log = caller.log().clone();
    // It may wait for a commit that is under way.
    let cold_reads = &caller.broker.cold_reads;
    let producers = cold_reads.run(&caller.broker.counters, move || log.producers(partition)).await;
    let producers = producers.map_err(|failure| {
        let line = format_args!("looking at the producers of partition {partition} failed: {failure}");
        caller.broker.lines.reads.error(line);
        Refused::new(ErrorCode::KAFKA_STORAGE_ERROR, "looking at the producers failed".to_owned())
    })?;
    let producers = producers.ok_or_else(unknown)?;
    match room.producers.checked_sub(producers.len()) {
        Some(left) => room.producers = left,
        None => {
            let message = format!("one answer names {PRODUCERS_MAX} producers; ask for fewer partitions");
            return Err(Refused::invalid(message));
        }
    }
    Ok(producers)
}

fn partition_response(
    index: i32,
    found: Result<Vec<courant_log::ProducerState>, Refused>,
) -> PartitionResponse {
    let mut response = PartitionResponse { partition_index: index, ..PartitionResponse::default() };
    match found {
        Ok(producers) => response.active_producers = producers.iter().map(producer).collect(),
        Err(refused) => {
            response.error_code = refused.code.0;
            response.error_message = Some(refused.message);
        }
    }
    response
}

fn producer(known: &courant_log::ProducerState) -> ProducerState {
    ProducerState {
        producer_id: known.id,
        producer_epoch: i32::from(known.epoch),
        last_sequence: known.last_sequence,
        coordinator_epoch: -1,
        ..ProducerState::default()
    }
}
