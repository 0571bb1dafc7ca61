//! The line between the services and the broker, which can be cut.
//!
//! It is an engine around another one. While the line is cut nothing is published and nothing comes, as with a
//! broker that does not answer.

use std::sync::Arc;
use std::time::Duration;

use courant::TopicName;
use courant::engine::{
    Boxed, Capabilities, CommitError, CreateTopicError, Ends, Engine, FetchError, NewRecord, NewTopic, Next,
    Partition, Position, PublishError, ReadBack, ReadError, SeekError, Subscribe, SubscribeError,
    Subscription, TimedOffset, Topic, TopicsError,
};
use courant::uuid::Uuid;
use tokio::time::timeout;

use super::trouble::{Trouble, Troubles};

const REASON: &str = "the line to the broker is cut";

/// An engine that can be cut off.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) troubles: Arc<Troubles>,
}

impl Line {
    fn is_cut(&self) -> bool {
        self.troubles.is_on(Trouble::Broker)
    }
}

fn unread<T>(partition: Partition) -> Result<T, ReadError> {
    Err(ReadError::Failed { partition, reason: REASON.to_owned() })
}

impl Engine for Line {
    fn kind(&self) -> &'static str {
        self.engine.kind()
    }

    fn log_id(&self) -> Uuid {
        self.engine.log_id()
    }

    fn capabilities(&self) -> Capabilities {
        self.engine.capabilities()
    }

    fn topics(&self, names: Vec<TopicName>) -> Boxed<'_, Result<Vec<Option<Topic>>, TopicsError>> {
        if self.is_cut() {
            return Box::pin(async { Err(TopicsError::Failed { reason: REASON.to_owned() }) });
        }
        self.engine.topics(names)
    }

    fn create_topics(&self, topics: Vec<NewTopic>) -> Boxed<'_, Vec<Result<Topic, CreateTopicError>>> {
        if self.is_cut() {
            let failed = |topic: NewTopic| {
                Err(CreateTopicError::Failed { topic: topic.name.into_string(), reason: REASON.to_owned() })
            };
            return Box::pin(async move { topics.into_iter().map(failed).collect() });
        }
        self.engine.create_topics(topics)
    }

    fn publish(&self, records: Vec<NewRecord>) -> Boxed<'_, Vec<Result<Position, PublishError>>> {
        if self.is_cut() {
            let failed = |_| Err(PublishError::Unreachable { reason: REASON.to_owned() });
            return Box::pin(async move { records.into_iter().map(failed).collect() });
        }
        self.engine.publish(records)
    }

    fn subscribe(&self, wanted: Subscribe) -> Boxed<'_, Result<Box<dyn Subscription>, SubscribeError>> {
        Box::pin(async move {
            if self.is_cut() {
                return Err(SubscribeError::Failed { reason: REASON.to_owned() });
            }
            let inner = self.engine.subscribe(wanted).await?;
            let subscription: Box<dyn Subscription> =
                Box::new(Cut { inner, troubles: self.troubles.clone() });
            Ok(subscription)
        })
    }

    fn read(&self, positions: Vec<Position>) -> Boxed<'_, Vec<Result<ReadBack, ReadError>>> {
        if self.is_cut() {
            let failed = |position: Position| unread(position.partition);
            return Box::pin(async move { positions.into_iter().map(failed).collect() });
        }
        self.engine.read(positions)
    }

    fn ends(&self, partitions: Vec<Partition>) -> Boxed<'_, Vec<Result<Ends, ReadError>>> {
        if self.is_cut() {
            return Box::pin(async move { partitions.into_iter().map(unread).collect() });
        }
        self.engine.ends(partitions)
    }

    fn offsets_for_time(
        &self,
        wanted: Vec<(Partition, i64)>,
    ) -> Boxed<'_, Vec<Result<Option<TimedOffset>, ReadError>>> {
        if self.is_cut() {
            let failed = |(partition, _)| unread(partition);
            return Box::pin(async move { wanted.into_iter().map(failed).collect() });
        }
        self.engine.offsets_for_time(wanted)
    }

    fn commit(&self, group: String, positions: Vec<Position>) -> Boxed<'_, Result<(), CommitError>> {
        if self.is_cut() {
            return Box::pin(async move { Err(CommitError::Failed { group, reason: REASON.to_owned() }) });
        }
        self.engine.commit(group, positions)
    }

    fn commit_copy(&self, group: String, positions: Vec<Position>) -> Boxed<'_, Result<(), CommitError>> {
        if self.is_cut() {
            return self.commit(group, positions);
        }
        self.engine.commit_copy(group, positions)
    }

    fn topic_id(&self, topic: &str) -> Option<Uuid> {
        self.engine.topic_id(topic)
    }

    fn committed(
        &self,
        group: String,
        partitions: Vec<Partition>,
    ) -> Boxed<'_, Result<Vec<Option<u64>>, CommitError>> {
        if self.is_cut() {
            return Box::pin(async move { Err(CommitError::Failed { group, reason: REASON.to_owned() }) });
        }
        self.engine.committed(group, partitions)
    }

    fn close(&self) -> Boxed<'_, ()> {
        self.engine.close()
    }
}

/// A subscription to which nothing comes while the line is cut.
#[derive(Debug)]
struct Cut {
    inner: Box<dyn Subscription>,
    troubles: Arc<Troubles>,
}

impl Subscription for Cut {
    fn next(&mut self, wait: Duration) -> Boxed<'_, Result<Next, FetchError>> {
        let Self { inner, troubles } = self;
        Box::pin(async move {
            if troubles.is_on(Trouble::Broker) {
                // When the wait is over, nothing has come.
                let _ = timeout(wait, troubles.until(Trouble::Broker, false)).await;
                return Ok(Next::Nothing);
            }
            tokio::select! {
                next = inner.next(wait) => next,
                () = troubles.until(Trouble::Broker, true) => Ok(Next::Nothing),
            }
        })
    }

    fn seek(&mut self, positions: Vec<Position>) -> Result<(), SeekError> {
        self.inner.seek(positions)
    }

    fn pause(&mut self, partitions: &[Partition]) {
        self.inner.pause(partitions);
    }

    fn resume(&mut self, partitions: &[Partition]) {
        self.inner.resume(partitions);
    }

    fn assigned(&self) -> Vec<Partition> {
        self.inner.assigned()
    }
}
