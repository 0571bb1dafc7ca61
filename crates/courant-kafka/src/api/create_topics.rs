//! CreateTopics (key 19): checks what is asked for, creates it, says what it became.
//!
//! Versions: from 5 on the answer carries partitions, replication factor and every config of the
//! topic (KIP-525), from 7 on its id. From 4 on -1 partitions and -1 replicas mean the broker's
//! default (KIP-464); earlier versions get the same reading.

mod check;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use courant_log::topic_config::{self, TOPIC_CONFIGS};
use courant_log::{CreateTopicError, NewTopic, Topic, WriterError};
use tokio::sync::oneshot;
use tracing::{info, warn};

use self::check::Refused;
use crate::broker::Caller;
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::messages::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};

/// A config that was set on the topic (`DYNAMIC_TOPIC_CONFIG`).
const SOURCE_TOPIC: i8 = 1;
/// A config nobody set (`DEFAULT_CONFIG`).
const SOURCE_DEFAULT: i8 = 5;

type Created = oneshot::Receiver<Result<Arc<Topic>, CreateTopicError>>;

/// One topic of the answer, or what it takes to get there.
enum Step {
    Answer(CreatableTopicResult),
    Creating(String, Created),
}

/// Answers CreateTopics.
pub(super) async fn handle(caller: Arc<Caller>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut times: HashMap<String, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let too_many = request.topics.len() > limits::TOPICS_PER_CHANGE_MAX;
    let mut steps = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        // Kafka answers a topic that is named twice once, with an error.
        let repeated = match times.remove(&topic.name) {
            None => continue,
            Some(times) => times > 1,
        };
        let step = if too_many {
            let max = limits::TOPICS_PER_CHANGE_MAX;
            Err(Refused::invalid(format!("one request may create {max} topics")))
        } else if repeated {
            Err(Refused::invalid("the request names this topic more than once".to_owned()))
        } else {
            begin(&caller, &topic, request.validate_only)
        };
        steps.push(step.unwrap_or_else(|refused| {
            warn!(peer = %caller.peer, topic = topic.name, "CreateTopics refused: {}", refused.message);
            Step::Answer(refused_result(topic.name, refused))
        }));
    }
    // All are with the log by now, which makes them durable together.
    let mut response = CreateTopicsResponse::default();
    for step in steps {
        response.topics.push(match step {
            Step::Answer(result) => result,
            Step::Creating(name, created) => finish(&caller, name, created).await,
        });
    }
    response
}

/// Checks one topic and hands it to the log, unless it is only to be checked.
fn begin(caller: &Caller, topic: &CreatableTopic, only_check: bool) -> Result<Step, Refused> {
    let new = check::topic(topic, caller.broker.config())?;
    if check::replicas(topic) > 1 {
        warn!(
            peer = %caller.peer, topic = topic.name,
            "asked for {} replicas; this server keeps one, and the topic has one",
            check::replicas(topic)
        );
    }
    for (name, value) in &new.configs {
        if topic_config::not_in_force(name, value) {
            warn!(
                peer = %caller.peer, topic = topic.name,
                "{name}={value} is stored, but has no effect in this release"
            );
        }
    }
    if caller.log().catalog().by_name(&topic.name).is_some() {
        return Err(exists(&topic.name));
    }
    if only_check {
        let result = described(&topic.name, new.partitions as usize, &new.configs);
        return Ok(Step::Answer(result));
    }
    Ok(Step::Creating(topic.name.clone(), create(caller, new)))
}

fn create(caller: &Caller, new: NewTopic) -> Created {
    let (done, created) = oneshot::channel();
    caller.log().create_topic(new, move |result| {
        // The client may have gone; its topic stays.
        let _ = done.send(result);
    });
    created
}

async fn finish(caller: &Caller, name: String, created: Created) -> CreatableTopicResult {
    let refused = match created.await {
        Ok(Ok(topic)) => {
            info!(topic = name, partitions = topic.partitions.len(), "created");
            return CreatableTopicResult {
                topic_id: topic.id,
                ..described(&name, topic.partitions.len(), &topic.configs)
            };
        }
        Ok(Err(error)) => from_create(&name, &error),
        Err(_) => Refused::new(ErrorCode::NOT_CONTROLLER, WriterError::Stopped.to_string()),
    };
    warn!(peer = %caller.peer, topic = name, "CreateTopics failed: {}", refused.message);
    refused_result(name, refused)
}

fn from_create(name: &str, error: &CreateTopicError) -> Refused {
    let code = match error {
        CreateTopicError::Exists => return exists(name),
        CreateTopicError::Partitions { .. } => ErrorCode::INVALID_PARTITIONS,
        CreateTopicError::Configs { .. } => ErrorCode::INVALID_CONFIG,
        // Clients try again on this one.
        CreateTopicError::Writer(WriterError::Stopped) => ErrorCode::NOT_CONTROLLER,
        _ => ErrorCode::KAFKA_STORAGE_ERROR,
    };
    Refused::new(code, error.to_string())
}

fn exists(name: &str) -> Refused {
    Refused::new(ErrorCode::TOPIC_ALREADY_EXISTS, format!("topic {name} is there already"))
}

fn described(name: &str, partitions: usize, configs: &BTreeMap<String, String>) -> CreatableTopicResult {
    let config = |known: &topic_config::TopicConfig| CreatableTopicConfigs {
        name: known.name.to_owned(),
        value: Some(topic_config::effective(configs, known.name).to_owned()),
        config_source: if configs.contains_key(known.name) { SOURCE_TOPIC } else { SOURCE_DEFAULT },
        ..CreatableTopicConfigs::default()
    };
    CreatableTopicResult {
        name: name.to_owned(),
        num_partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
        replication_factor: 1,
        configs: Some(TOPIC_CONFIGS.iter().map(config).collect()),
        ..CreatableTopicResult::default()
    }
}

fn refused_result(name: String, refused: Refused) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: refused.code.0,
        error_message: Some(refused.message),
        ..CreatableTopicResult::default()
    }
}
