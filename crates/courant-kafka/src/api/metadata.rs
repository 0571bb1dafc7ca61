//! Metadata (key 3): this broker and its topics; creates topics on first use.
//!
//! Versions: a null list of topics means all of them, an empty one none, except in version 0, where
//! empty means all. Before version 4 a client cannot say whether it wants topics created, and a
//! broker that may creates them. Topics are asked for by id from 10 on, and a null name may be
//! answered from 12 on.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use courant_core::topic::TopicName;
use courant_log::{CreateTopicError, NewTopic, Topic};
use tokio::sync::oneshot;
use tracing::{info, warn};
use uuid::Uuid;

use crate::broker::{Caller, LEADER_EPOCH};
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::messages::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};

/// "Not asked for" in a bit field of authorized operations.
const NO_OPERATIONS: i32 = i32::MIN;

/// The first version whose answer may leave out a topic's name.
const NULL_NAMES_FROM: i16 = 12;

/// Answers Metadata.
pub(super) async fn handle(caller: Arc<Caller>, request: MetadataRequest, version: i16) -> MetadataResponse {
    let create = request.allow_auto_topic_creation && caller.broker.config().auto_create;
    let topics = match request.topics {
        Some(wanted) if !(version == 0 && wanted.is_empty()) => named(&caller, wanted, create, version).await,
        _ => all(&caller),
    };
    let advertised = caller.advertised();
    let node_id = caller.broker.config().node_id;
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id,
            host: advertised.host,
            port: i32::from(advertised.port),
            ..MetadataResponseBroker::default()
        }],
        cluster_id: Some(caller.log().id().to_string()),
        controller_id: node_id,
        topics,
        cluster_authorized_operations: NO_OPERATIONS,
        ..MetadataResponse::default()
    }
}

fn all(caller: &Caller) -> Vec<MetadataResponseTopic> {
    let node_id = caller.broker.config().node_id;
    let catalog = caller.log().catalog();
    catalog.topics().map(|topic| found(topic, node_id)).collect()
}

type Created = oneshot::Receiver<Result<Arc<Topic>, CreateTopicError>>;

/// One topic of the answer, or what it takes to get there.
enum Wanted {
    Answer(MetadataResponseTopic),
    Creating(String, Created),
}

/// Describes the topics a client names, each once: otherwise a short request that repeats a topic
/// with many partitions would have an answer without bounds.
async fn named(
    caller: &Caller,
    wanted: Vec<MetadataRequestTopic>,
    create: bool,
    version: i16,
) -> Vec<MetadataResponseTopic> {
    let node_id = caller.broker.config().node_id;
    let catalog = caller.log().catalog();
    let mut met = HashSet::new();
    let mut creations = 0;
    let mut answers = Vec::new();
    for topic in wanted {
        if !met.insert((topic.name.clone(), topic.topic_id)) {
            continue;
        }
        let Some(name) = topic.name else {
            answers.push(Wanted::Answer(match catalog.by_id(&topic.topic_id) {
                Some(topic) => found(topic, node_id),
                None => unknown_id(topic.topic_id, version),
            }));
            continue;
        };
        answers.push(match catalog.by_name(&name) {
            Some(topic) => Wanted::Answer(found(topic, node_id)),
            None => {
                let create = create && creations < limits::TOPICS_PER_CHANGE_MAX;
                let answer = missing(caller, name, create);
                creations += usize::from(matches!(answer, Wanted::Creating(..)));
                answer
            }
        });
    }
    drop(catalog); // Older than the topics that are being created.
    // All are with the log by now, which makes them durable together.
    let mut topics = Vec::with_capacity(answers.len());
    for answer in answers {
        topics.push(match answer {
            Wanted::Answer(topic) => topic,
            Wanted::Creating(name, created) => finish(caller, name, created).await,
        });
    }
    topics
}

/// A name that no topic has.
fn missing(caller: &Caller, name: String, create: bool) -> Wanted {
    let topic_name = match TopicName::new(&name) {
        Ok(topic_name) => topic_name,
        Err(error) => {
            warn!(peer = %caller.peer, "Metadata asked for a topic that cannot exist: {error}");
            return Wanted::Answer(failed(name, ErrorCode::INVALID_TOPIC_EXCEPTION));
        }
    };
    if !create {
        return Wanted::Answer(failed(name, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    }
    let (done, created) = oneshot::channel();
    let new = NewTopic {
        name: topic_name,
        partitions: caller.broker.config().partitions,
        configs: BTreeMap::new(),
    };
    caller.log().create_topic(new, move |result| {
        // The client may have gone; its topic stays.
        let _ = done.send(result);
    });
    Wanted::Creating(name, created)
}

async fn finish(caller: &Caller, name: String, created: Created) -> MetadataResponseTopic {
    let node_id = caller.broker.config().node_id;
    match created.await {
        Ok(Ok(topic)) => {
            info!(topic = name, partitions = topic.partitions.len(), "created on first use");
            found(&topic, node_id)
        }
        // Two clients asked at the same time, and the other one was first.
        Ok(Err(CreateTopicError::Exists)) => match caller.log().catalog().by_name(&name) {
            Some(topic) => found(topic, node_id),
            None => failed(name, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        },
        Ok(Err(error)) => {
            warn!(peer = %caller.peer, topic = name, "could not create a topic on first use: {error}");
            failed(name, ErrorCode::LEADER_NOT_AVAILABLE)
        }
        Err(_) => failed(name, ErrorCode::LEADER_NOT_AVAILABLE),
    }
}

fn found(topic: &Topic, node_id: i32) -> MetadataResponseTopic {
    let partition = |index: usize| MetadataResponsePartition {
        partition_index: i32::try_from(index).unwrap_or(i32::MAX),
        leader_id: node_id,
        leader_epoch: LEADER_EPOCH,
        replica_nodes: vec![node_id],
        isr_nodes: vec![node_id],
        ..MetadataResponsePartition::default()
    };
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        partitions: (0..topic.partitions.len()).map(partition).collect(),
        topic_authorized_operations: NO_OPERATIONS,
        ..MetadataResponseTopic::default()
    }
}

fn failed(name: String, code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: code.0,
        name: Some(name),
        topic_authorized_operations: NO_OPERATIONS,
        ..MetadataResponseTopic::default()
    }
}

fn unknown_id(id: Uuid, version: i16) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: ErrorCode::UNKNOWN_TOPIC_ID.0,
        name: (version < NULL_NAMES_FROM).then(String::new),
        topic_id: id,
        topic_authorized_operations: NO_OPERATIONS,
        ..MetadataResponseTopic::default()
    }
}
