//! Metadata (key 3): this broker and its topics; creates topics on first use.
//!
//! Versions: a null list of topics means all of them, an empty one none, except in version 0, where
//! empty means all. Before version 4 a client cannot say whether it wants topics created, and a
//! broker that may creates them. Topics are asked for by id from 10 on, and a null name may be
//! answered from 12 on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use courant_core::topic::TopicName;
use courant_log::{Catalog, CreateTopicError, NewTopic, Topic, WriterError};
use tokio::sync::oneshot;
use tracing::info;
use uuid::Uuid;

use super::tally::Tally;
use super::{Answered, memory_for, operations};
use crate::broker::{Caller, LEADER_EPOCH};
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::messages::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};

type Created = oneshot::Receiver<Result<Arc<Topic>, CreateTopicError>>;

/// The first version whose answer may leave out a topic's name.
const NULL_NAMES_FROM: i16 = 12;

/// Bytes of one partition and of one topic in the answer, decoded and encoded.
const PARTITION_BYTES: usize = 256;
const TOPIC_BYTES: usize = 1024;

/// The topics to describe, once those that are missing were created or not.
pub(super) struct Wanted {
    /// `None`: all.
    topics: Option<Vec<MetadataRequestTopic>>,
    version: i16,
    /// Why a name has no topic, where it is not simply unknown.
    failures: HashMap<String, ErrorCode>,
    /// What is said of what the client may do with a topic, and with the cluster (KIP-430).
    on_topic: i32,
    on_cluster: i32,
}

/// Creates the topics that Metadata names and that are missing, where that is wished and allowed.
///
/// Each is described once: otherwise a short request that repeats a topic with many partitions
/// would have an answer without bounds.
pub(super) async fn begin(caller: Arc<Caller>, request: MetadataRequest, version: i16) -> Wanted {
    let told = |asked: bool, all: i32| if asked { all } else { operations::NOT_ASKED };
    let all = Wanted {
        topics: None,
        version,
        failures: HashMap::new(),
        on_topic: told(request.include_topic_authorized_operations, operations::ON_TOPIC),
        on_cluster: told(request.include_cluster_authorized_operations, operations::ON_CLUSTER),
    };
    let topics = request.topics.filter(|topics| version > 0 || !topics.is_empty());
    let Some(mut topics) = topics else { return all };
    for topic in &mut topics {
        // Kafka's Java client leaves the name empty where it asks by id, and does not leave it out.
        if !topic.topic_id.is_nil() && topic.name.as_ref().is_some_and(String::is_empty) {
            topic.name = None;
        }
    }
    let mut met = HashSet::new();
    topics.retain(|topic| {
        // Beside a name an id has no meaning, so it cannot make two of one topic.
        let id = topic.name.is_none().then_some(topic.topic_id);
        met.insert((topic.name.clone(), id))
    });
    let create = request.allow_auto_topic_creation && caller.broker.config().auto_create;
    let failures = create_missing(&caller, &topics, create).await;
    Wanted { topics: Some(topics), failures, ..all }
}

/// Answers Metadata.
pub(super) async fn answer(caller: Arc<Caller>, wanted: Wanted) -> Answered<MetadataResponse> {
    let catalog = caller.log().catalog();
    let grant = memory_for(&caller, wanted.answer_bytes(&catalog)).await?;
    let on_cluster = wanted.on_cluster;
    let topics = wanted.describe(&catalog, caller.broker.config().node_id);
    let advertised = caller.advertised();
    let node_id = caller.broker.config().node_id;
    let response = MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id,
            host: advertised.host,
            port: i32::from(advertised.port),
            ..MetadataResponseBroker::default()
        }],
        cluster_id: Some(caller.log().id().to_string()),
        controller_id: node_id,
        topics,
        cluster_authorized_operations: on_cluster,
        ..MetadataResponse::default()
    };
    Ok((response, grant))
}

impl Wanted {
    fn answer_bytes(&self, catalog: &Catalog) -> usize {
        let bytes = |topic: &Arc<Topic>| TOPIC_BYTES + topic.partitions.len() * PARTITION_BYTES;
        match &self.topics {
            None => catalog.topics().map(bytes).sum(),
            Some(wanted) => {
                wanted.iter().map(|wanted| find(catalog, wanted).map_or(TOPIC_BYTES, bytes)).sum()
            }
        }
    }

    fn describe(self, catalog: &Catalog, node_id: i32) -> Vec<MetadataResponseTopic> {
        let Some(wanted) = self.topics else {
            return catalog.topics().map(|topic| found(topic, node_id, self.on_topic)).collect();
        };
        let describe = |wanted: MetadataRequestTopic| match (find(catalog, &wanted), wanted.name) {
            (Some(topic), _) => found(topic, node_id, self.on_topic),
            (None, Some(name)) => {
                let code = self.failures.get(&name).copied();
                failed(name, code.unwrap_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))
            }
            (None, None) => unknown_id(wanted.topic_id, self.version),
        };
        wanted.into_iter().map(describe).collect()
    }
}

fn find<'a>(catalog: &'a Catalog, wanted: &MetadataRequestTopic) -> Option<&'a Arc<Topic>> {
    match &wanted.name {
        Some(name) => catalog.by_name(name),
        None => catalog.by_id(&wanted.topic_id),
    }
}

/// Creates names that no topic has, and returns why some of them still have none.
async fn create_missing(
    caller: &Caller,
    wanted: &[MetadataRequestTopic],
    create: bool,
) -> HashMap<String, ErrorCode> {
    let mut failures = HashMap::new();
    let mut impossible = Tally::default();
    let mut creations: Vec<(&str, Created)> = Vec::new();
    let catalog = caller.log().catalog();
    let names = wanted.iter().filter_map(|topic| topic.name.as_deref());
    for name in names.filter(|name| catalog.by_name(name).is_none()) {
        match TopicName::new(name) {
            Ok(topic) if create && creations.len() < limits::TOPICS_PER_CHANGE_MAX => {
                creations.push((name, begin_creation(caller, topic)));
            }
            Ok(_) => {}
            Err(error) => {
                impossible.note(|| error.to_string());
                failures.insert(name.to_owned(), ErrorCode::INVALID_TOPIC_EXCEPTION);
            }
        }
    }
    drop(catalog); // Older than the topics that are being created.
    let lines = &caller.broker.lines.first_use;
    impossible.warn(caller, lines, "Metadata asked for topics that cannot exist");
    // All are with the log by now, which makes them durable together.
    let mut failed = Tally::default();
    for (name, created) in creations {
        let error = match created.await {
            Ok(Ok(topic)) => {
                info!(topic = name, partitions = topic.partitions.len(), "created on first use");
                continue;
            }
            // Two clients asked at the same time, and the other one was first.
            Ok(Err(CreateTopicError::Exists)) => continue,
            Ok(Err(error)) => error,
            Err(_) => CreateTopicError::Writer(WriterError::Stopped),
        };
        failed.note(|| format!("{name}: {error}"));
        failures.insert(name.to_owned(), ErrorCode::LEADER_NOT_AVAILABLE);
    }
    failed.warn(caller, lines, "could not create topics on first use");
    failures
}

fn begin_creation(caller: &Caller, name: TopicName) -> Created {
    let (done, created) = oneshot::channel();
    let partitions = caller.broker.config().partitions;
    caller.log().create_topic(NewTopic { name, partitions, configs: BTreeMap::new() }, move |result| {
        // The client may have gone; its topic stays.
        let _ = done.send(result);
    });
    created
}

fn found(topic: &Topic, node_id: i32, on_topic: i32) -> MetadataResponseTopic {
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
        topic_authorized_operations: on_topic,
        ..MetadataResponseTopic::default()
    }
}

fn failed(name: String, code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: code.0,
        name: Some(name),
        topic_authorized_operations: operations::NOT_ASKED,
        ..MetadataResponseTopic::default()
    }
}

fn unknown_id(id: Uuid, version: i16) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: ErrorCode::UNKNOWN_TOPIC_ID.0,
        name: (version < NULL_NAMES_FROM).then(String::new),
        topic_id: id,
        topic_authorized_operations: operations::NOT_ASKED,
        ..MetadataResponseTopic::default()
    }
}
