//! OffsetFetch (key 9): how far groups have come.
//!
//! Versions: up to 7 one group, from 8 on several (KIP-709). A null list of topics means all that the
//! group has committed. Where nothing was committed the offset is -1, without an error, also for a
//! group that nobody knows. No transaction is ever open, so every offset is stable.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use courant_log::{Catalog, CommittedOffset, PartitionId, StoredGroup};

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
    let needed = needed(&caller, &asked);
    let grant = memory_for(&caller, needed).await?;
    let catalog = caller.log().catalog();
    let places = Places::of(&catalog);
    let mut response = OffsetFetchResponse::default();
    for (group_id, wanted) in asked {
        let found = fetch(&caller, &places, &group_id, &wanted).into_iter();
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

/// Memory for what is told of all of them.
fn needed(caller: &Caller, asked: &[(String, Wanted)]) -> usize {
    let catalog = caller.log().catalog();
    let places = Places::of(&catalog);
    let of_one = |(group, wanted): &(String, Wanted)| {
        let found = fetch(caller, &places, group, wanted);
        found.iter().map(bytes).sum::<usize>()
    };
    asked.iter().map(of_one).sum()
}

/// The topics as they are, and the topic and the number of each partition. The latter is made once for all groups of a
/// request, and where a group asks for all that it has committed: a short request names a hundred thousand of them.
struct Places<'a> {
    catalog: &'a Catalog,
    by_partition: OnceCell<HashMap<PartitionId, (&'a str, i32)>>,
}

impl<'a> Places<'a> {
    fn of(catalog: &'a Catalog) -> Self {
        Self { catalog, by_partition: OnceCell::new() }
    }

    fn by_partition(&self) -> &HashMap<PartitionId, (&'a str, i32)> {
        self.by_partition.get_or_init(|| {
            let mut places = HashMap::new();
            for topic in self.catalog.topics() {
                let ids = topic.partitions.iter().zip(0..);
                places.extend(ids.map(|(id, index)| (*id, (topic.name.as_str(), index))));
            }
            places
        })
    }
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

fn fetch(caller: &Caller, places: &Places<'_>, group: &str, wanted: &Wanted) -> Vec<Found> {
    let stored = caller.log().group(group).unwrap_or_default();
    match wanted {
        Some(wanted) => {
            let mut met = HashSet::new();
            wanted.iter().map(|(topic, indexes)| some(places, &stored, topic, indexes, &mut met)).collect()
        }
        None => all(places, &stored),
    }
}

/// Of a partition that is named again nothing more is told: what a client has left with its offset is a thousand
/// times as long as the number that asks for it.
fn some(
    places: &Places<'_>,
    stored: &StoredGroup,
    topic: &str,
    indexes: &[i32],
    met: &mut HashSet<PartitionId>,
) -> Found {
    let found = places.catalog.by_name(topic);
    let committed = |index: &i32| {
        // A partition that does not exist has no commit, and as in Kafka that is no error.
        let partition = found.and_then(|topic| target::partition(topic, *index).ok());
        let is_new = partition.is_none_or(|partition| met.insert(partition));
        is_new.then(|| (*index, partition.and_then(|partition| stored.offsets.get(&partition).cloned())))
    };
    Found { partitions: indexes.iter().filter_map(committed).collect(), topic: topic.to_owned() }
}

fn all(places: &Places<'_>, stored: &StoredGroup) -> Vec<Found> {
    let mut by_topic: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for (partition, committed) in &stored.offsets {
        if let Some((topic, index)) = places.by_partition().get(partition) {
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use courant_core::topic::TopicName;
    use courant_log::storage::MemoryStorage;
    use courant_log::{Log, LogConfig, NewTopic, SystemClock, SystemEntropy};

    use super::*;
    use crate::broker::Broker;
    use crate::config::KafkaConfig;
    use crate::wire::messages::offset_fetch::OffsetFetchRequestGroup;

    const PARTITIONS: u32 = 10_000;
    const GROUPS: usize = 20_000;

    /// A group "billing" has committed for the last partition of the topic "orders".
    fn caller() -> Arc<Caller> {
        let config = LogConfig {
            journal_file_bytes: 1024 * 1024,
            first_journal_file_bytes: 1024 * 1024,
            reserve_bytes: 0,
            background: false,
            ..LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy))
        };
        let storage = Arc::new(MemoryStorage::new(64 * 1024 * 1024));
        let (log, _) = Log::open(storage, config).expect("a new log opens");
        let (done, created) = mpsc::channel();
        let name = TopicName::new("orders").expect("a legal name");
        let new = NewTopic { name, partitions: PARTITIONS, configs: BTreeMap::new() };
        log.create_topic(new, move |topic| done.send(topic).expect("it is waited for"));
        while log.commit() {}
        let topic = created.recv().expect("an outcome").expect("a topic");
        let last = *topic.partitions.last().expect("it has some");
        let committed =
            CommittedOffset { offset: 7, leader_epoch: -1, metadata: String::new(), committed_ms: 0 };
        log.commit_offsets("billing".to_owned(), vec![(last, committed)], |kept| kept.expect("it is kept"));
        while log.commit() {}
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 9092));
        Arc::new(Caller::new(Arc::new(Broker::new(log, KafkaConfig::default())), here, here))
    }

    /// Symptom: with many partitions, a request of a few hundred kilobytes kept a thread of the runtime busy for minutes,
    /// and two of them the broker. Cause: for each group of which everything was asked for, also for one that nobody
    /// knows, the places of all partitions were gone through, twice. Fix: once for a request, and where a group has
    /// committed anything.
    #[tokio::test]
    async fn partitions_are_not_gone_through_for_each_group() {
        let caller = caller();
        let group =
            |group_id: String| OffsetFetchRequestGroup { group_id, topics: None, ..Default::default() };
        let names = (0..GROUPS).map(|number| format!("nobody-{number}")).chain(["billing".to_owned()]);
        let request =
            OffsetFetchRequest { groups: names.map(group).collect(), ..OffsetFetchRequest::default() };
        let begun = Instant::now();
        let (response, _) = answer(caller, request, GROUPS_FROM).await.expect("an answer");
        // A hundredth of it is enough. Gone through for each, they take more than ten times as long.
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let found: Vec<_> = response.groups.iter().filter(|group| !group.topics.is_empty()).collect();
        assert_eq!((response.groups.len(), found.len()), (GROUPS + 1, 1));
        let topic = &found[0].topics[0];
        assert_eq!((found[0].group_id.as_str(), topic.name.as_str()), ("billing", "orders"));
        let partition = &topic.partitions[0];
        assert_eq!((partition.partition_index, partition.committed_offset), (9_999, 7));
    }
}
