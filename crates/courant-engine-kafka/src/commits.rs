//! What groups have committed: the copy of their progress that the server keeps.

use std::sync::Arc;

use courant_engine::{Partition, Position};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::address::Address;
use crate::limits::{COMMIT_MAX, REQUEST_MAX};
use crate::member::{Consumer, list, number};
use crate::passing::until_passed;
use crate::settings::{self, Quiet};

/// Commits as the member of the group that this engine has, or as nobody where it has none, and keeps `note`
/// beside each offset. Waits for the network.
pub(crate) fn commit(
    address: &Address,
    group: &str,
    member: Option<Arc<Consumer>>,
    positions: &[Position],
    note: &str,
) -> KafkaResult<()> {
    match member {
        Some(member) => commit_by(&*member, positions, note),
        None => commit_by(&outsider(address, group)?, positions, note),
    }
}

fn commit_by<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    positions: &[Position],
    note: &str,
) -> KafkaResult<()> {
    let mut offsets = TopicPartitionList::new();
    for Position { partition, offset } in positions {
        let offset = Offset::Offset(i64::try_from(*offset).unwrap_or(i64::MAX));
        let mut added = offsets.add_partition(&partition.topic, number(partition));
        added.set_offset(offset)?;
        if !note.is_empty() {
            added.set_metadata(note);
        }
    }
    until_passed(COMMIT_MAX / 2, || consumer.commit(&offsets, CommitMode::Sync))
}

/// What a group has committed. Waits for the network.
pub(crate) fn committed(
    address: &Address,
    group: &str,
    partitions: &[Partition],
) -> KafkaResult<Vec<Option<u64>>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let outsider = outsider(address, group)?;
    until_passed(REQUEST_MAX, || committed_now(&outsider, partitions))
}

fn committed_now(consumer: &BaseConsumer<Quiet>, partitions: &[Partition]) -> KafkaResult<Vec<Option<u64>>> {
    let answered = consumer.committed_offsets(list(partitions), REQUEST_MAX)?;
    let mut committed = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let answer = answered.find_partition(&partition.topic, number(partition));
        let offset = match answer {
            Some(answer) => {
                answer.error()?;
                match answer.offset() {
                    Offset::Offset(offset) => u64::try_from(offset).ok(),
                    _ => None,
                }
            }
            None => None,
        };
        committed.push(offset);
    }
    Ok(committed)
}

/// A client that names the group and does not join it.
fn outsider(address: &Address, group: &str) -> KafkaResult<BaseConsumer<Quiet>> {
    settings::committing(address, group).create_with_context(Quiet::new(address))
}
