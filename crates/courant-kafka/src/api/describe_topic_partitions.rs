//! DescribeTopicPartitions (key 75): topics and their partitions, a page at a time (KIP-966).
//!
//! Topics come in the order of their names. Where a page ends, the answer says with which partition
//! the next one begins; the client sends that back. Without names all topics are meant.

use std::collections::BTreeSet;
use std::sync::Arc;

use courant_core::topic::TopicName;
use courant_log::{Catalog, Topic};

use super::{Answered, memory_for, operations};
use crate::broker::{Caller, LEADER_EPOCH};
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use crate::wire::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};

/// Bytes of one partition and of one topic in the answer, decoded and encoded.
const PARTITION_BYTES: usize = 256;
const TOPIC_BYTES: usize = 1024;

/// Answers DescribeTopicPartitions.
pub(super) async fn answer(
    caller: Arc<Caller>,
    request: DescribeTopicPartitionsRequest,
) -> Answered<DescribeTopicPartitionsResponse> {
    let wanted = usize::try_from(request.response_partition_limit).unwrap_or(0);
    // At least one, so that a client that goes on asking comes to an end.
    let limit = wanted.clamp(1, limits::PAGE_PARTITIONS_MAX);
    let names: BTreeSet<String> = request.topics.into_iter().map(|topic| topic.name).collect();
    let topics = if names.is_empty() { limit } else { names.len() };
    // Names are as long as the client made them, and are sent back.
    let texts: usize = names.iter().map(String::len).sum();
    let bytes = topics * TOPIC_BYTES + limit * PARTITION_BYTES + 2 * texts;
    let grant = memory_for(&caller, bytes).await?;

    let catalog = caller.log().catalog();
    let mut page =
        Page { topics: Vec::new(), left: limit, next: None, node_id: caller.broker.config().node_id };
    if names.is_empty() {
        page.fill_with_all(&catalog, request.cursor.as_ref());
    } else {
        page.fill(&catalog, &names, request.cursor.as_ref());
    }
    let response = DescribeTopicPartitionsResponse {
        topics: page.topics,
        next_cursor: page.next,
        ..DescribeTopicPartitionsResponse::default()
    };
    Ok((response, grant))
}

/// A page while it is filled.
#[derive(Debug)]
struct Page {
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    /// Partitions that it still takes.
    left: usize,
    next: Option<Cursor>,
    node_id: i32,
}

impl Page {
    fn fill_with_all(&mut self, catalog: &Catalog, from: Option<&Cursor>) {
        let topics = catalog.topics().skip_while(|topic| is_before(&topic.name, from));
        for topic in topics {
            if !self.add(&topic.name, Some(topic), first_index(&topic.name, from)) {
                return;
            }
        }
    }

    fn fill(&mut self, catalog: &Catalog, names: &BTreeSet<String>, from: Option<&Cursor>) {
        if from.is_some_and(|from| !names.contains(&from.topic_name)) {
            // The page would begin nowhere.
            self.topics.extend(names.iter().map(|name| failed(name, ErrorCode::INVALID_REQUEST)));
            return;
        }
        for name in names.iter().skip_while(|name| is_before(name, from)) {
            if !self.add(name, catalog.by_name(name).map(Arc::as_ref), first_index(name, from)) {
                return;
            }
        }
    }

    /// Adds a topic from one of its partitions on. False: the page ends here.
    fn add(&mut self, name: &str, topic: Option<&Topic>, first: usize) -> bool {
        if self.left == 0 {
            self.next = Some(Cursor { topic_name: name.to_owned(), partition_index: 0 });
            return false;
        }
        let Some(topic) = topic else {
            let code = match TopicName::new(name) {
                Ok(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
            };
            self.topics.push(failed(name, code));
            return true;
        };
        let count = topic.partitions.len();
        let end = first.saturating_add(self.left).min(count);
        self.left -= end.saturating_sub(first);
        let partitions = (first..end).map(|index| self.partition(index)).collect();
        self.topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some(name.to_owned()),
            topic_id: topic.id,
            partitions,
            topic_authorized_operations: operations::ON_TOPIC,
            ..DescribeTopicPartitionsResponseTopic::default()
        });
        if end < count {
            self.next = Some(Cursor { topic_name: name.to_owned(), partition_index: number(end) });
        }
        end >= count
    }

    fn partition(&self, index: usize) -> DescribeTopicPartitionsResponsePartition {
        DescribeTopicPartitionsResponsePartition {
            partition_index: number(index),
            leader_id: self.node_id,
            leader_epoch: LEADER_EPOCH,
            replica_nodes: vec![self.node_id],
            isr_nodes: vec![self.node_id],
            // Empty, as from Kafka, and not null, which its schema allows: the Java client takes a null one for a list.
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            ..DescribeTopicPartitionsResponsePartition::default()
        }
    }
}

fn is_before(name: &str, from: Option<&Cursor>) -> bool {
    from.is_some_and(|from| name < from.topic_name.as_str())
}

/// The topic where the page begins may have been deleted since; then the next one begins at its first
/// partition.
fn first_index(name: &str, from: Option<&Cursor>) -> usize {
    let from = from.filter(|from| from.topic_name == name);
    from.map_or(0, |from| usize::try_from(from.partition_index).unwrap_or(0))
}

fn failed(name: &str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: code.0,
        name: Some(name.to_owned()),
        topic_authorized_operations: operations::NOT_ASKED,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn number(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}
