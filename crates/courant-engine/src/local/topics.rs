//! Topics of the log, as the engine describes and creates them.

use std::sync::Arc;
use std::time::Duration;

use courant_core::topic::TopicName;
use courant_log::topic_config::{self, Retention, TimestampLimits};
use courant_log::{CreateTopicError as LogError, WriterError};
use tokio::sync::oneshot;

use super::{Kind, Shared};
use crate::limits::MEMORY_RETENTION_PARTS;
use crate::{CreateTopicError, Durability, NewTopic, Topic, TopicsError};

/// The config that bounds a partition's bytes.
const RETENTION_BYTES: &str = "retention.bytes";

/// A topic that the log is making.
type Creating = oneshot::Receiver<Result<Arc<courant_log::Topic>, LogError>>;

impl Shared {
    pub(super) fn topics(&self, names: &[TopicName]) -> Result<Vec<Option<Topic>>, TopicsError> {
        if self.is_closed() {
            return Err(TopicsError::Closed);
        }
        let catalog = self.log.catalog();
        let topic =
            |name: &TopicName| catalog.by_name(name.as_str()).map(|topic| described(topic, self.kind));
        Ok(names.iter().map(topic).collect())
    }

    pub(super) async fn create_topics(&self, topics: Vec<NewTopic>) -> Vec<Result<Topic, CreateTopicError>> {
        // All are handed to the log before the first answer is awaited: they share one sync.
        let creating: Vec<_> = topics
            .into_iter()
            .map(|topic| (topic.name.as_str().to_owned(), self.begin_topic(topic)))
            .collect();
        let mut created = Vec::with_capacity(creating.len());
        for (name, creating) in creating {
            created.push(match creating {
                Ok(creating) => finish_topic(name, creating, self.kind).await,
                Err(refused) => Err(refused),
            });
        }
        if created.iter().any(Result::is_ok) {
            self.groups().topics_changed();
        }
        created
    }

    fn begin_topic(&self, topic: NewTopic) -> Result<Creating, CreateTopicError> {
        if self.is_closed() {
            return Err(TopicsError::Closed.into());
        }
        let NewTopic { name, partitions, mut configs } = topic;
        for (config, value) in &configs {
            topic_config::validate(config, value).map_err(|error| CreateTopicError::Refused {
                topic: name.as_str().to_owned(),
                reason: error.to_string(),
            })?;
        }
        if let Kind::Memory { bytes_max } = self.kind {
            let kept = bytes_max / MEMORY_RETENTION_PARTS;
            configs.entry(RETENTION_BYTES.to_owned()).or_insert_with(|| kept.to_string());
        }
        let (done, creating) = oneshot::channel();
        self.log.create_topic(courant_log::NewTopic { name, partitions, configs }, move |result| {
            // Whoever asked may have gone; the topic stays.
            let _ = done.send(result);
        });
        Ok(creating)
    }
}

async fn finish_topic(topic: String, creating: Creating, kind: Kind) -> Result<Topic, CreateTopicError> {
    match creating.await {
        Ok(Ok(created)) => Ok(described(&created, kind)),
        Ok(Err(LogError::Exists)) => Err(CreateTopicError::Exists { topic }),
        Ok(Err(LogError::Writer(WriterError::Stopped))) | Err(_) => Err(TopicsError::Closed.into()),
        Ok(Err(LogError::Writer(error))) => {
            Err(CreateTopicError::Failed { topic, reason: error.to_string() })
        }
        Ok(Err(error)) => Err(CreateTopicError::Refused { topic, reason: error.to_string() }),
    }
}

fn described(topic: &courant_log::Topic, kind: Kind) -> Topic {
    let durability = match kind {
        Kind::Memory { .. } => Durability::Memory,
        Kind::Embedded | Kind::Served if courant_log::Durability::of(&topic.configs).is_relaxed() => {
            Durability::Written
        }
        Kind::Embedded | Kind::Served => Durability::Disk,
    };
    let age_ms = Retention::of(&topic.configs).age_ms.and_then(|age_ms| u64::try_from(age_ms).ok());
    Topic {
        name: topic.name.as_str().into(),
        id: topic.id,
        // The log gives a topic at most 10,000.
        partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
        retention: age_ms.map(Duration::from_millis),
        record_bytes_max: topic_config::max_message_bytes(&topic.configs),
        timestamps: TimestampLimits::of(&topic.configs),
        durability,
    }
}
