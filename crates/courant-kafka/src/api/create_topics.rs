//! CreateTopics (key 19): checks what is asked for, creates it, says what it became.
//!
//! Versions: from 5 on the answer carries partitions, replication factor and every config of the
//! topic (KIP-525), from 7 on its id. From 4 on -1 partitions and -1 replicas mean the broker's
//! default (KIP-464); earlier versions get the same reading.

pub(super) mod check;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use courant_log::topic_config::{self, TOPIC_CONFIGS};
use courant_log::{CreateTopicError, NewTopic, Topic, WriterError};
use tokio::sync::oneshot;
use tracing::info;

use super::refused::Refused;
use super::tally::Tally;
use super::{Answered, memory_for};
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

/// Bytes of one topic in the answer, besides its configs and texts.
const RESULT_BYTES: usize = 512;
/// Bytes of one config in the answer, besides a value that was set.
const CONFIG_BYTES: usize = 256;

type Created = oneshot::Receiver<Result<Arc<Topic>, CreateTopicError>>;

/// What becomes of one topic.
enum Step {
    Done(Outcome),
    Creating(String, Created),
}

/// What became of one topic.
pub(super) enum Outcome {
    Created(Arc<Topic>),
    /// It was only to be checked.
    Checked(NewTopic),
    Refused(String, Refused),
}

/// What is told to the log, in one line each.
#[derive(Default)]
struct Notes {
    refused: Tally,
    /// What was asked for and does nothing here.
    ignored: Tally,
}

/// Creates what CreateTopics names.
pub(super) async fn begin(caller: Arc<Caller>, request: CreateTopicsRequest) -> Vec<Outcome> {
    let mut times: HashMap<String, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let too_many = request.topics.len() > limits::TOPICS_PER_CHANGE_MAX;
    let mut notes = Notes::default();
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
            check(&caller, &topic, request.validate_only, &mut notes.ignored)
        };
        steps.push(step.unwrap_or_else(|refused| Step::Done(Outcome::Refused(topic.name, refused))));
    }
    // All are with the log by now, which makes them durable together.
    let mut outcomes = Vec::with_capacity(steps.len());
    for step in steps {
        let outcome = match step {
            Step::Done(outcome) => outcome,
            Step::Creating(name, created) => finish(name, created).await,
        };
        if let Outcome::Refused(name, refused) = &outcome {
            notes.refused.note(|| format!("{name}: {}", refused.message));
        }
        outcomes.push(outcome);
    }
    let lines = &caller.broker.lines;
    notes.ignored.warn(&caller, &lines.without_effect, "CreateTopics asked for what has no effect here");
    notes.refused.warn(&caller, &lines.changes, "CreateTopics refused");
    outcomes
}

/// Answers CreateTopics.
pub(super) async fn answer(caller: Arc<Caller>, outcomes: Vec<Outcome>) -> Answered<CreateTopicsResponse> {
    let grant = memory_for(&caller, outcomes.iter().map(answer_bytes).sum()).await?;
    let topics = outcomes.into_iter().map(|outcome| match outcome {
        Outcome::Created(topic) => CreatableTopicResult {
            topic_id: topic.id,
            ..described(&topic.name, topic.partitions.len(), &topic.configs)
        },
        Outcome::Checked(new) => described(new.name.as_str(), new.partitions as usize, &new.configs),
        Outcome::Refused(name, refused) => refused_result(name, refused),
    });
    Ok((CreateTopicsResponse { topics: topics.collect(), ..CreateTopicsResponse::default() }, grant))
}

/// What one topic takes in the answer, decoded and encoded.
fn answer_bytes(outcome: &Outcome) -> usize {
    let described = |configs: &BTreeMap<String, String>| {
        let values: usize = configs.values().map(String::len).sum();
        RESULT_BYTES + CONFIG_BYTES * TOPIC_CONFIGS.len() + 2 * values
    };
    match outcome {
        Outcome::Created(topic) => described(&topic.configs),
        Outcome::Checked(new) => described(&new.configs),
        Outcome::Refused(name, refused) => RESULT_BYTES + 2 * (name.len() + refused.message.len()),
    }
}

/// Checks one topic and hands it to the log, unless it is only to be checked.
fn check(
    caller: &Caller,
    topic: &CreatableTopic,
    only_check: bool,
    ignored: &mut Tally,
) -> Result<Step, Refused> {
    // First, as in Kafka: who wants the topic to be there goes on, whatever else is wrong with what it asks for.
    if caller.log().catalog().by_name(&topic.name).is_some() {
        return Err(exists(&topic.name));
    }
    let new = check::topic(topic, caller.broker.config())?;
    let replicas = check::replicas(topic);
    if replicas > 1 {
        ignored.note(|| format!("{}: {replicas} replicas; this server keeps one", topic.name));
    }
    for (name, value) in &new.configs {
        if topic_config::not_in_force(name, value) {
            ignored.note(|| format!("{}: {name}={value} is stored, and that is all", topic.name));
        }
    }
    if only_check {
        return Ok(Step::Done(Outcome::Checked(new)));
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

async fn finish(name: String, created: Created) -> Outcome {
    let refused = match created.await {
        Ok(Ok(topic)) => {
            info!(topic = name, partitions = topic.partitions.len(), "created");
            return Outcome::Created(topic);
        }
        Ok(Err(error)) => from_create(&name, &error),
        Err(_) => Refused::not_written(&WriterError::Stopped),
    };
    Outcome::Refused(name, refused)
}

fn from_create(name: &str, error: &CreateTopicError) -> Refused {
    let code = match error {
        CreateTopicError::Exists => return exists(name),
        CreateTopicError::Partitions { .. } => ErrorCode::INVALID_PARTITIONS,
        CreateTopicError::Configs { .. } => ErrorCode::INVALID_CONFIG,
        CreateTopicError::Writer(error) => return Refused::not_written(error),
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
