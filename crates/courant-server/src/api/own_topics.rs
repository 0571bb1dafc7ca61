//! What the server itself writes into the log: topics that are made when they are first needed, and events in
//! them.

use courant_core::topic::TopicName;
use courant_log::batch::records::{NewRecord, encode};
use courant_log::{Batch, Codec, CreateTopicError, Log, NewTopic, PartitionId};
use tokio::sync::oneshot;

use super::problem::{NOT_WRITTEN, Problem};

/// Appends events as one batch, and waits until they are stored. Gives back the offset of the first.
pub(super) async fn append(log: &Log, partition: PartitionId, events: &[NewRecord]) -> Result<u64, Problem> {
    let batch = encode(events, Codec::None, None).map_err(|error| Problem::defect(&error.to_string()))?;
    let batch = Batch::validate(batch).map_err(|error| Problem::defect(&error.to_string()))?;
    let (done, appended) = oneshot::channel();
    // Who waits for it may have gone with the runtime.
    log.append(partition, batch, move |result| drop(done.send(result)));
    Ok(appended.await.map_err(|_| unanswered())??.base_offset)
}

/// The first partition of a topic, which is made with one partition and these configs if it is not there.
pub(super) async fn partition(
    log: &Log,
    name: &str,
    configs: &[(&str, &str)],
) -> Result<PartitionId, Problem> {
    let found = log.catalog().by_name(name).cloned();
    let topic = match found {
        Some(topic) => topic,
        None => {
            let configs = configs.iter().map(|(config, value)| ((*config).to_owned(), (*value).to_owned()));
            let new = NewTopic {
                name: TopicName::new(name).map_err(|error| Problem::defect(&error.to_string()))?,
                partitions: 1,
                configs: configs.collect(),
            };
            let (done, created) = oneshot::channel();
            log.create_topic(new, move |result| drop(done.send(result)));
            match created.await.map_err(|_| unanswered())? {
                // Somebody else was faster.
                Err(CreateTopicError::Exists) => {
                    let found = log.catalog().by_name(name).cloned();
                    found.ok_or_else(|| Problem::topic_not_found(name))?
                }
                created => created?,
            }
        }
    };
    topic.partitions.first().copied().ok_or_else(|| Problem::defect("a topic without partitions"))
}

/// The log has gone without an answer.
pub(super) fn unanswered() -> Problem {
    Problem::new(&NOT_WRITTEN, "the log is stopping")
}
