//! OffsetFetch (key 9): how far groups have come.
//!
//! Versions: up to 7 one group, from 8 on several (KIP-709). A null list of topics means all that the
//! group has committed. Where nothing was committed the offset is -1, without an error, also for a
//! group that nobody knows. No transaction is ever open, so every offset is stable.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use courant_log::{CommittedOffset, PartitionId, StoredGroup};

use super::{Answered, memory_for, target};
use crate::broker::Caller;
use crate::wire::ErrorCode;
use crate::wire::messages::offset_fetch::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::wire::messages::{OffsetFetchRequest, OffsetFetchResponse};

/// The first version with several groups.
const GROUPS_FROM: i16 = 8;

/// Bytes of one partition in the answer, besides its metadata.
const PARTITION_BYTES: usize = 96;

/// Which partitions of which topics; `None`: all that were committed.
type Wanted = Option<Vec<(String, Vec<i32>)>>;

/// Answers OffsetFetch.
pub(super) async fn answer(
    caller: Arc<Caller>,
    request: OffsetFetchRequest,
    version: i16,
) -> Answered<OffsetFetchResponse> {
    let asked = asked(request, version);
    // It is looked at twice: who waits for memory must not have the answer already.
    let needed = asked.iter().map(|(group, wanted)| needed(&caller, group, wanted)).sum();
    let grant = memory_for(&caller, needed).await?;
    let mut response = OffsetFetchResponse::default();
    for (group_id, wanted) in asked {
        let found = fetch(&caller, &group_id, &wanted).into_iter();
        if version < GROUPS_FROM {
            let topic = |found: Found| OffsetFetchResponseTopic {
                name: found.topic,
                partitions: found.partitions.into_iter().map(alone).collect(),
            };
            response.topics = found.map(topic).collect();
        } else {
            let topic = |found: Found| OffsetFetchResponseTopics {
                name: found.topic,
                partitions: found.partitions.into_iter().map(among_others).collect(),
            };
            let topics = found.map(topic).collect();
            response.groups.push(OffsetFetchResponseGroup {
                group_id,
                topics,
                ..OffsetFetchResponseGroup::default()
            });
        }
    }
    Ok((response, grant))
}

/// Whose offsets are asked for, and which. A group that is asked for twice is answered once: the answer would else
/// have no bounds.
fn asked(request: OffsetFetchRequest, version: i16) -> Vec<(String, Wanted)> {
    if version < GROUPS_FROM {
        let wanted = request
            .topics
            .map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect());
        return vec![(request.group_id, wanted)];
    }
    let mut met = HashSet::new();
    let first = request.groups.into_iter().filter(|group| met.insert(group.group_id.clone()));
    first
        .map(|group| {
            let topics = group.topics.map(|topics| {
                topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect()
            });
            (group.group_id, topics)
        })
        .collect()
}

/// Memory for what is told of one group.
fn needed(caller: &Caller, group: &str, wanted: &Wanted) -> usize {
    fetch(caller, group, wanted).iter().map(bytes).sum()
}

/// What was committed for the partitions of one topic.
struct Found {
    topic: String,
    partitions: Vec<(i32, Option<CommittedOffset>)>,
}

fn bytes(found: &Found) -> usize {
    let metadata =
        |found: &Option<CommittedOffset>| found.as_ref().map_or(0, |found| 2 * found.metadata.len());
    let partitions = found.partitions.iter().map(|(_, found)| PARTITION_BYTES + metadata(found));
    2 * found.topic.len() + partitions.sum::<usize>()
}

fn fetch(caller: &Caller, group: &str, wanted: &Wanted) -> Vec<Found> {
    let stored = caller.log().group(group).unwrap_or_default();
    match wanted {
        Some(wanted) => {
            let mut met = HashSet::new();
            wanted.iter().map(|(topic, indexes)| some(caller, &stored, topic, indexes, &mut met)).collect()
        }
        None => all(caller, &stored),
    }
}

/// Of a partition that is named again nothing more is told: what a client has left with its offset is a thousand
/// times as long as the number that asks for it.
fn some(
    caller: &Caller,
    stored: &StoredGroup,
    topic: &str,
    indexes: &[i32],
    met: &mut HashSet<PartitionId>,
) -> Found {
    let catalog = caller.log().catalog();
    let found = catalog.by_name(topic);
    let committed = |index: &i32| {
        // A partition that does not exist has no commit, and as in Kafka that is no error.
        let partition = found.and_then(|topic| target::partition(topic, *index).ok());
        let is_new = partition.is_none_or(|partition| met.insert(partition));
        is_new.then(|| (*index, partition.and_then(|partition| stored.offsets.get(&partition).cloned())))
    };
    Found { partitions: indexes.iter().filter_map(committed).collect(), topic: topic.to_owned() }
}

fn all(caller: &Caller, stored: &StoredGroup) -> Vec<Found> {
    let catalog = caller.log().catalog();
    let mut places: HashMap<PartitionId, (&str, i32)> = HashMap::new();
    for topic in catalog.topics() {
        let ids = topic.partitions.iter().zip(0..);
        places.extend(ids.map(|(id, index)| (*id, (topic.name.as_str(), index))));
    }
    let mut by_topic: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for (partition, committed) in &stored.offsets {
        if let Some((topic, index)) = places.get(partition) {
            by_topic.entry(topic).or_default().push((*index, Some(committed.clone())));
        }
    }
    let found = by_topic.into_iter();
    found.map(|(topic, partitions)| Found { topic: topic.to_owned(), partitions }).collect()
}

fn alone((partition_index, found): (i32, Option<CommittedOffset>)) -> OffsetFetchResponsePartition {
    let (committed_offset, committed_leader_epoch, metadata) = fields(found);
    OffsetFetchResponsePartition {
        partition_index,
        committed_offset,
        committed_leader_epoch,
        metadata: Some(metadata),
        error_code: ErrorCode::NONE.0,
    }
}

fn among_others((partition_index, found): (i32, Option<CommittedOffset>)) -> OffsetFetchResponsePartitions {
    let (committed_offset, committed_leader_epoch, metadata) = fields(found);
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset,
        committed_leader_epoch,
        metadata: Some(metadata),
        error_code: ErrorCode::NONE.0,
    }
}

/// -1 says that nothing was committed.
fn fields(found: Option<CommittedOffset>) -> (i64, i32, String) {
    match found {
        Some(committed) => {
            let offset = i64::try_from(committed.offset).unwrap_or(i64::MAX);
            (offset, committed.leader_epoch, committed.metadata)
        }
        None => (-1, -1, String::new()),
    }
}
