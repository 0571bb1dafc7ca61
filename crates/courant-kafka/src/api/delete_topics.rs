//! DeleteTopics (key 20): by name, and from version 6 on also by id.
//!
//! A consumer that waits in such a topic is woken with an error, and the name is free at once.

use std::sync::Arc;

use courant_log::{Catalog, DeleteTopicError, Topic, WriterError};
use tokio::sync::oneshot;
use tracing::info;

use super::refused::Refused;
use super::tally::Tally;
use super::target::Naming;
use super::{Answered, memory_for};
use crate::broker::Caller;
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::messages::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};

/// The first version that names topics by [`DeleteTopicState`].
const STATES_FROM: i16 = 6;

type Deleted = oneshot::Receiver<Result<(), DeleteTopicError>>;

/// One topic of the answer, or what it takes to get there.
enum Step {
    Answer(DeletableTopicResult),
    /// With the error for a topic that is gone by then, which depends on how it was named.
    Deleting(DeletableTopicResult, ErrorCode, Deleted),
}

/// Bytes of one topic in the answer, besides its texts, of which the request has the longer one.
const RESULT_BYTES: usize = 512;

/// Deletes what DeleteTopics names.
pub(super) async fn begin(
    caller: Arc<Caller>,
    request: DeleteTopicsRequest,
    version: i16,
) -> DeleteTopicsResponse {
    let wanted: Vec<DeleteTopicState> = if version >= STATES_FROM {
        request.topics
    } else {
        let by_name = |name: String| DeleteTopicState { name: Some(name), ..DeleteTopicState::default() };
        request.topic_names.into_iter().map(by_name).collect()
    };
    let too_many = wanted.len() > limits::TOPICS_PER_CHANGE_MAX;
    let catalog = caller.log().catalog();
    let steps: Vec<Step> = wanted
        .into_iter()
        .map(|wanted| match find(&catalog, &wanted, too_many) {
            Ok(topic) => delete(&caller, topic, unknown(&wanted)),
            Err(refused) => Step::Answer(result(wanted, refused)),
        })
        .collect();
    drop(catalog);
    let mut response = DeleteTopicsResponse::default();
    let mut failures = Tally::default();
    for step in steps {
        response.responses.push(match step {
            Step::Answer(result) => result,
            Step::Deleting(result, unknown, deleted) => {
                finish(&caller, result, unknown, deleted, &mut failures).await
            }
        });
    }
    failures.warn(&caller, &caller.broker.lines.changes, "DeleteTopics failed");
    response
}

/// Answers DeleteTopics.
pub(super) async fn answer(
    caller: Arc<Caller>,
    response: DeleteTopicsResponse,
) -> Answered<DeleteTopicsResponse> {
    let grant = memory_for(&caller, response.responses.len() * RESULT_BYTES).await?;
    Ok((response, grant))
}

fn find<'a>(
    catalog: &'a Catalog,
    wanted: &DeleteTopicState,
    too_many: bool,
) -> Result<&'a Arc<Topic>, Refused> {
    if too_many {
        let max = limits::TOPICS_PER_CHANGE_MAX;
        return Err(Refused::invalid(format!("one request may delete {max} topics")));
    }
    match &wanted.name {
        Some(_) if !wanted.topic_id.is_nil() => {
            let message = "a topic is named by its name or by its id, not by both".to_owned();
            Err(Refused::invalid(message))
        }
        Some(name) => catalog.by_name(name).ok_or_else(|| Refused::unknown_topic(name)),
        None => catalog.by_id(&wanted.topic_id).ok_or_else(|| {
            let message = format!("there is no topic with id {}", wanted.topic_id);
            Refused::new(unknown(wanted), message)
        }),
    }
}

fn unknown(wanted: &DeleteTopicState) -> ErrorCode {
    match wanted.name {
        Some(_) => Naming::ByName.unknown(),
        None => Naming::ById.unknown(),
    }
}

fn delete(caller: &Caller, topic: &Topic, unknown: ErrorCode) -> Step {
    let (done, deleted) = oneshot::channel();
    caller.log().delete_topic(topic.id, move |result| {
        // The client may have gone; the topic is deleted all the same.
        let _ = done.send(result);
    });
    let result = DeletableTopicResult {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        ..DeletableTopicResult::default()
    };
    Step::Deleting(result, unknown, deleted)
}

async fn finish(
    caller: &Caller,
    mut result: DeletableTopicResult,
    unknown: ErrorCode,
    deleted: Deleted,
    failures: &mut Tally,
) -> DeletableTopicResult {
    let topic = result.name.clone().unwrap_or_default();
    let (code, message) = match deleted.await {
        Ok(Ok(())) => {
            info!(peer = %caller.peer, topic, "deleted");
            return result;
        }
        Ok(Err(error)) => {
            let code = match &error {
                DeleteTopicError::Unknown => unknown,
                // Clients try again on this one.
                DeleteTopicError::Writer(WriterError::Stopped) => ErrorCode::NOT_CONTROLLER,
                _ => ErrorCode::KAFKA_STORAGE_ERROR,
            };
            (code, error.to_string())
        }
        Err(_) => (ErrorCode::NOT_CONTROLLER, WriterError::Stopped.to_string()),
    };
    failures.note(|| format!("{topic}: {message}"));
    result.error_code = code.0;
    result.error_message = Some(message);
    result
}

fn result(wanted: DeleteTopicState, refused: Refused) -> DeletableTopicResult {
    DeletableTopicResult {
        name: wanted.name,
        topic_id: wanted.topic_id,
        error_code: refused.code.0,
        error_message: Some(refused.message),
    }
}
