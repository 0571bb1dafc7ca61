//! Publishing past the transaction, directly into the engine.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use courant_core::event_id::EventId;
use courant_core::headers::TRACEPARENT;
use courant_core::topic::TopicName;
use courant_core::trace::{TraceContext, Tracer};
use courant_engine::{CreateTopicError, Engine, Header, NewRecord, Position};
use courant_sql::NewEvent;
use tracing::warn;

use crate::channel::new_topic;
use crate::envelope::text;
use crate::outbox::{Outbox, PublishError, Stamp};
use crate::runtime::dead_letter_origin;
use crate::{Event, Meta};

/// Sends events to the engine at once, whatever becomes of the handler that sends them.
///
/// It exists where a repetition is accepted: outside of handlers, and in handlers of a subscription that
/// is `.at_least_once()`.
#[derive(Clone)]
pub struct Publisher {
    sender: Sender,
    stamp: Stamp,
}

impl Publisher {
    pub(crate) fn new(sender: Sender, stamp: Stamp) -> Self {
        Self { sender, stamp }
    }

    /// The same, for what is published while an event is handled.
    pub(crate) fn caused_by(&self, meta: Meta) -> Self {
        Self { sender: self.sender.clone(), stamp: self.stamp.caused_by(meta) }
    }

    /// The same, for what is published in a span, such as the one of a request that is being answered.
    #[must_use]
    pub fn within(&self, span: TraceContext) -> Self {
        let stamp = Stamp { span: Some(span), ..self.stamp.clone() };
        Self { sender: self.sender.clone(), stamp }
    }

    /// What is published in a transaction, as this would publish it.
    pub(crate) fn outbox(&self) -> Outbox {
        Outbox::new(self.stamp.clone())
    }

    /// Publishes an event, and returns when the engine has it. Gives back its id.
    ///
    /// # Errors
    /// It cannot be written, or the engine does not take it. After
    /// [`courant_engine::PublishError::InDoubt`] it may be in the engine; [`Publisher::publish_as`] with
    /// one id sends it again without a second effect.
    pub async fn publish<E: Event>(&self, event: &E) -> Result<EventId, PublishError> {
        let id = self.stamp.new_id();
        self.publish_as(&id, event).await?;
        Ok(id)
    }

    /// Publishes an event under an id of the caller's. Consumers with a store handle it once, however
    /// often it is published.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub async fn publish_as<E: Event>(&self, id: &EventId, event: &E) -> Result<(), PublishError> {
        let record = self.stamp.record(event, id.clone())?;
        let mut answers = self.sender.send(vec![record]).await?.into_iter();
        match answers.next() {
            Some(answer) => answer.map(|_| ()).map_err(PublishError::from),
            None => Err(PublishError::NoAnswer { event_type: E::TYPE }),
        }
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("source", &self.stamp.source).finish_non_exhaustive()
    }
}

/// The way into the engine, for publishers and the relay.
#[derive(Clone)]
pub(crate) struct Sender {
    pub(crate) engine: Arc<dyn Engine>,
    /// Partitions of the topics that it creates.
    pub(crate) partitions: u32,
    pub(crate) tracer: Tracer,
}

impl Sender {
    /// Publishes records in their order, and creates topics that do not exist yet. One answer for each.
    pub(crate) async fn send(
        &self,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Result<Position, courant_engine::PublishError>>, CreateTopicError> {
        let made = events.iter().filter_map(|event| TraceContext::of(text(&event.headers, TRACEPARENT)));
        let topics = events.iter().map(|event| event.topic.as_str());
        let mut span = self.tracer.send(topics, events.len() as u64, made);
        let sent = self.send_in_turn(events).await;
        let is_sent = sent.as_ref().is_ok_and(|answers| answers.iter().all(Result::is_ok));
        if let Some(span) = span.as_mut().filter(|_| !is_sent) {
            span.fail("not_published");
        }
        sent
    }

    async fn send_in_turn(
        &self,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Result<Position, courant_engine::PublishError>>, CreateTopicError> {
        let records: Vec<NewRecord> = events.into_iter().map(record).collect();
        let mut answers = self.engine.publish(records.clone()).await;
        let missing = answers.iter().filter_map(unknown_topic).map(str::to_owned);
        let missing: BTreeSet<String> = missing.collect();
        if missing.is_empty() {
            return Ok(answers);
        }
        if let Err(error) = self.create(&missing, &records).await {
            if answers.iter().all(|answer| unknown_topic(answer).is_some()) {
                return Err(error);
            }
            // What went into other topics is there, and must not come again for the sake of this one.
            warn!(%error, "a topic cannot be created");
            return Ok(answers);
        }
        // What went into topics that are there is not sent again.
        let again: Vec<usize> =
            (0..answers.len()).filter(|index| unknown_topic(&answers[*index]).is_some()).collect();
        let records = again.iter().map(|index| records[*index].clone()).collect();
        for (index, answer) in again.into_iter().zip(self.engine.publish(records).await) {
            answers[index] = answer;
        }
        Ok(answers)
    }

    /// Creates the topics of records that have none yet. Copies of dead letters are kept as long as the topic of
    /// their events keeps them: somebody may publish one anew under its id, and for so long a consumer has to
    /// remember what it has handled.
    async fn create(
        &self,
        missing: &BTreeSet<String>,
        records: &[NewRecord],
    ) -> Result<(), CreateTopicError> {
        let names: Vec<TopicName> = missing.iter().filter_map(|name| TopicName::new(name).ok()).collect();
        let mut topics = Vec::with_capacity(names.len());
        for name in names {
            let is_of_topic = |record: &&NewRecord| &*record.topic == name.as_str();
            let copied_from = records.iter().filter(is_of_topic).find_map(dead_letter_origin);
            let mut topic = new_topic(name, self.partitions);
            if let Some(from) = copied_from
                && let Some(kept) = self.retention(from).await?
            {
                topic = topic.with("retention.ms", kept.as_millis().to_string());
            }
            topics.push(topic);
        }
        courant_engine::ensure_topics(&*self.engine, topics).await.map(drop)
    }

    /// How long a topic keeps events. `None`: it says nothing of that, or is gone.
    async fn retention(&self, topic: TopicName) -> Result<Option<Duration>, CreateTopicError> {
        let found = self.engine.topics(vec![topic]).await?;
        Ok(found.into_iter().flatten().find_map(|topic| topic.retention))
    }
}

fn unknown_topic(answer: &Result<Position, courant_engine::PublishError>) -> Option<&str> {
    match answer {
        Err(courant_engine::PublishError::UnknownTopic { topic }) => Some(topic),
        _ => None,
    }
}

/// An event as the engine takes it.
fn record(event: NewEvent) -> NewRecord {
    NewRecord {
        topic: Arc::from(event.topic.as_str()),
        partition: None,
        key: event.key,
        value: event.value,
        headers: event.headers.into_iter().map(|(name, value)| Header::new(name, value)).collect(),
        timestamp_ms: Some(event.timestamp_ms.max(0)),
    }
}
