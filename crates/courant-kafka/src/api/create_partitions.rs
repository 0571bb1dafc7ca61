//! CreatePartitions (key 37): gives topics more partitions (KIP-195).
//!
//! Events that are there stay where they are; a key may go to another partition from then on, which is
//! the caller's to consider.

use std::collections::HashMap;
use std::sync::Arc;

use courant_log::{AddPartitionsError, Catalog, Topic, WriterError};
use tokio::sync::oneshot;
use tracing::info;

use super::create_topics::check::check_brokers;
use super::refused::Refused;
use super::tally::Tally;
use super::{Answered, memory_for};
use crate::broker::Caller;
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use crate::wire::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

/// Bytes of one topic in the answer, besides its texts.
const RESULT_BYTES: usize = 256;

type Added = oneshot::Receiver<Result<Arc<Topic>, AddPartitionsError>>;

/// Adds the partitions that CreatePartitions asks for.
pub(super) async fn begin(caller: Arc<Caller>, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mut times: HashMap<String, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let too_many = request.topics.len() > limits::TOPICS_PER_CHANGE_MAX;
    let catalog = caller.log().catalog();
    let mut ignored = Tally::default();
    let mut steps = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        // Kafka answers a topic that is named twice once, with an error.
        let repeated = match times.remove(&topic.name) {
            None => continue,
            Some(times) => times > 1,
        };
        let step = if too_many {
            let max = limits::TOPICS_PER_CHANGE_MAX;
            Err(Refused::invalid(format!("one request may add partitions to {max} topics")))
        } else if repeated {
            Err(Refused::invalid("the request names this topic more than once".to_owned()))
        } else {
            add(&caller, &catalog, &topic, request.validate_only, &mut ignored)
        };
        steps.push((topic.name, step));
    }
    drop(catalog); // Older than the partitions that are being added.
    // All are with the log by now, which makes them durable together.
    let mut response = CreatePartitionsResponse::default();
    let mut failures = Tally::default();
    for (name, step) in steps {
        let refused = match step {
            Ok(None) => None,
            Ok(Some(added)) => finish(&caller, &name, added).await.err(),
            Err(refused) => Some(refused),
        };
        if let Some(refused) = &refused {
            failures.note(|| format!("{name}: {}", refused.message));
        }
        response.results.push(result(name, refused));
    }
    let lines = &caller.broker.lines;
    ignored.warn(&caller, &lines.without_effect, "CreatePartitions asked for what has no effect here");
    failures.warn(&caller, &lines.changes, "CreatePartitions refused");
    response
}

/// Answers CreatePartitions.
pub(super) async fn answer(
    caller: Arc<Caller>,
    response: CreatePartitionsResponse,
) -> Answered<CreatePartitionsResponse> {
    let bytes = |result: &CreatePartitionsTopicResult| {
        let sentence = result.error_message.as_ref().map_or(0, String::len);
        RESULT_BYTES + 2 * (result.name.len() + sentence)
    };
    let grant = memory_for(&caller, response.results.iter().map(bytes).sum()).await?;
    Ok((response, grant))
}

/// Checks one topic and hands it to the log. `None`: it was only to be checked.
fn add(
    caller: &Caller,
    catalog: &Catalog,
    wanted: &CreatePartitionsTopic,
    only_check: bool,
    ignored: &mut Tally,
) -> Result<Option<Added>, Refused> {
    let topic = catalog.by_name(&wanted.name).ok_or_else(|| Refused::unknown_topic(&wanted.name))?;
    let max = caller.broker.limits().partitions_per_topic_max;
    let total = total(wanted.count, topic.partitions.len(), max)?;
    // Null and empty both leave the choice of brokers to this one.
    let assignments = wanted.assignments.as_deref().unwrap_or_default();
    let replicas = assignments.first().map_or(1, |first| first.broker_ids.len());
    if !assignments.is_empty() {
        check_assignments(assignments, topic.partitions.len(), total, replicas)?;
    }
    if replicas > 1 {
        ignored.note(|| format!("{}: {replicas} replicas; this server keeps one", topic.name));
    }
    if only_check {
        return Ok(None);
    }
    let (done, added) = oneshot::channel();
    caller.log().add_partitions(topic.id, total, move |result| {
        // The client may have gone; the partitions stay.
        let _ = done.send(result);
    });
    Ok(Some(added))
}

/// How many partitions the topic shall have: more than now, and no more than the limit.
fn total(count: i32, have: usize, max: u32) -> Result<u32, Refused> {
    let refuse = |message: String| Err(Refused::new(ErrorCode::INVALID_PARTITIONS, message));
    match u32::try_from(count) {
        Ok(total) if total as usize == have => refuse(format!("the topic has {have} partitions already")),
        Ok(total) if total as usize > have && total <= max => Ok(total),
        Ok(total) if total > max => {
            refuse(format!("{total} partitions; a topic can have at most {max} here"))
        }
        _ => refuse(format!(
            "{count} partitions; the topic has {have}, and partitions can be added but not taken away"
        )),
    }
}

/// Checks a manual assignment of the new partitions. Its broker ids are of no use here, but a program
/// that sends nonsense is told so, as Kafka would.
fn check_assignments(
    assignments: &[CreatePartitionsAssignment],
    have: usize,
    total: u32,
    replicas: usize,
) -> Result<(), Refused> {
    let refuse = |message: String| Refused::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message);
    let more = (total as usize).saturating_sub(have);
    if assignments.len() != more {
        return Err(refuse(format!("{more} new partitions and {} assignments", assignments.len())));
    }
    for (index, assignment) in (have..).zip(assignments) {
        check_brokers(index, &assignment.broker_ids, replicas).map_err(refuse)?;
    }
    Ok(())
}

async fn finish(caller: &Caller, name: &str, added: Added) -> Result<(), Refused> {
    match added.await.unwrap_or(Err(AddPartitionsError::Writer(WriterError::Stopped))) {
        Ok(topic) => {
            info!(peer = %caller.peer, topic = name, partitions = topic.partitions.len(), "partitions added");
            Ok(())
        }
        Err(AddPartitionsError::Unknown) => Err(Refused::unknown_topic(name)),
        Err(AddPartitionsError::Writer(error)) => Err(Refused::not_written(&error)),
        Err(error) => Err(Refused::new(ErrorCode::INVALID_PARTITIONS, error.to_string())),
    }
}

fn result(name: String, refused: Option<Refused>) -> CreatePartitionsTopicResult {
    match refused {
        None => CreatePartitionsTopicResult { name, ..CreatePartitionsTopicResult::default() },
        Some(refused) => CreatePartitionsTopicResult {
            name,
            error_code: refused.code.0,
            error_message: Some(refused.message),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals() {
        let code = |count, have| total(count, have, 10).map_err(|refused| refused.code);
        assert_eq!(code(3, 2), Ok(3));
        assert_eq!(code(10, 1), Ok(10));
        for (count, have) in [(2, 2), (1, 2), (0, 1), (-1, 1), (i32::MIN, 1), (11, 1), (11, 10), (11, 12)] {
            assert_eq!(code(count, have), Err(ErrorCode::INVALID_PARTITIONS), "{count} after {have}");
        }
    }

    #[track_caller]
    fn check(lists: &[&[i32]], total: u32, expected: Result<(), ErrorCode>) {
        let assigned = lists.iter().map(|ids| CreatePartitionsAssignment { broker_ids: ids.to_vec() });
        let assigned: Vec<_> = assigned.collect();
        let replicas = assigned.first().map_or(1, |first| first.broker_ids.len());
        let checked = check_assignments(&assigned, 1, total, replicas);
        assert_eq!(checked.map_err(|refused| refused.code), expected);
    }

    #[test]
    fn assignments() {
        let refused = Err(ErrorCode::INVALID_REPLICA_ASSIGNMENT);
        check(&[&[0], &[0]], 3, Ok(()));
        check(&[&[1, 2, 3]], 2, Ok(()));
        // Too few, too many, on no broker, twice on one broker, different numbers of replicas.
        check(&[&[0]], 3, refused);
        check(&[&[0], &[0]], 2, refused);
        check(&[&[]], 2, refused);
        check(&[&[0, 0]], 2, refused);
        check(&[&[0, 1], &[0]], 3, refused);
    }
}
