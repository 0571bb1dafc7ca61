//! Where one scenario takes place: an engine, topics and groups that nobody else has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use courant_core::topic::TopicName;
use courant_engine::{
    Engine, NewRecord, NewTopic, Partition, Position, Record, Subscribe, Subscription, Topic,
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::failure::ensure_eq;
use crate::follower::Follower;
use crate::{Failure, Subject};

/// An engine, topics and groups for one scenario.
#[derive(Debug)]
pub(crate) struct Stage {
    subject: Subject,
    engine: Arc<dyn Engine>,
    is_closed: bool,
    /// Begins every name, so that nothing of another scenario or another run is met.
    prefix: String,
    topics: AtomicU32,
}

/// A topic of a scenario.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) name: TopicName,
    pub(crate) partitions: u32,
}

impl Stage {
    pub(crate) fn new(subject: Subject, engine: Arc<dyn Engine>) -> Self {
        let prefix = format!("conformance-{}", Uuid::new_v4().simple());
        Self { subject, engine, is_closed: false, prefix, topics: AtomicU32::new(0) }
    }

    /// The engine, for whoever comes next; `None` if it is closed.
    pub(crate) fn into_engine(self) -> Option<Arc<dyn Engine>> {
        (!self.is_closed).then_some(self.engine)
    }

    pub(crate) fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    pub(crate) fn patience(&self) -> Duration {
        self.subject.patience_of()
    }

    /// Closes the engine. The scenario goes on with what is left, or opens it again.
    pub(crate) async fn close(&mut self) -> Result<(), Failure> {
        self.is_closed = true;
        let closed = timeout(self.patience(), self.engine.close()).await;
        closed.map_err(|_| Failure::new("the engine does not close"))
    }

    /// Closes the engine and opens it again.
    pub(crate) async fn reopen(&mut self) -> Result<(), Failure> {
        self.close().await?;
        self.engine = self.subject.open().await?;
        self.is_closed = false;
        Ok(())
    }

    /// Another one beside the engine, which whoever asked for it closes.
    pub(crate) async fn another_engine(&self) -> Result<Arc<dyn Engine>, Failure> {
        self.subject.open().await
    }

    /// A name that no topic has.
    pub(crate) fn name(&self) -> Result<TopicName, Failure> {
        let number = self.topics.fetch_add(1, Ordering::Relaxed);
        Ok(TopicName::new(&format!("{}-{number}", self.prefix))?)
    }

    /// A group that nobody else is in.
    pub(crate) fn group(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Creates a topic.
    pub(crate) async fn topic(&self, partitions: u32) -> Result<Ground, Failure> {
        let name = self.name()?;
        self.create(&name, partitions).await?;
        Ok(Ground { name, partitions })
    }

    pub(crate) async fn create(&self, name: &TopicName, partitions: u32) -> Result<Topic, Failure> {
        let created = self.engine.create_topics(vec![NewTopic::new(name.clone(), partitions)]).await;
        Ok(only(created)??)
    }

    /// Publishes records, every one of which must be taken.
    pub(crate) async fn publish(&self, records: Vec<NewRecord>) -> Result<Vec<Position>, Failure> {
        publish(&*self.engine, records, self.patience()).await
    }

    /// Joins a group without taking anything.
    pub(crate) async fn join(&self, group: &str, ground: &Ground) -> Result<Box<dyn Subscription>, Failure> {
        let wanted = Subscribe::new(self.group(group), vec![ground.name.clone()]);
        Ok(self.engine.subscribe(wanted).await?)
    }

    /// Follows a topic from its beginning.
    pub(crate) async fn follow(&self, group: &str, ground: &Ground) -> Result<Follower, Failure> {
        Ok(Follower::new(self.join(group, ground).await?, self.patience()))
    }

    /// All that a new group finds in a topic, which must be `count` records.
    pub(crate) async fn all(&self, ground: &Ground, count: usize) -> Result<Vec<Record>, Failure> {
        let group = format!("all-{}", self.topics.fetch_add(1, Ordering::Relaxed));
        self.follow(&group, ground).await?.read(count).await
    }
}

pub(crate) async fn publish(
    engine: &dyn Engine,
    records: Vec<NewRecord>,
    patience: Duration,
) -> Result<Vec<Position>, Failure> {
    let count = records.len();
    let answers = timeout(patience, engine.publish(records)).await;
    let answers = answers.map_err(|_| Failure::new("publishing does not come to an end"))?;
    ensure_eq!(answers.len(), count, "answers for {count} records");
    Ok(answers.into_iter().collect::<Result<Vec<_>, _>>()?)
}

impl Ground {
    /// A record with a key.
    pub(crate) fn record(&self, key: impl Into<String>, value: impl ToString) -> NewRecord {
        NewRecord::new(self.name.as_str(), key.into(), value.to_string())
    }

    /// A record for one partition, without a key.
    pub(crate) fn record_in(&self, partition: u32, value: impl ToString) -> NewRecord {
        NewRecord { partition: Some(partition), key: None, ..self.record("", value) }
    }

    pub(crate) fn partition(&self, number: u32) -> Partition {
        Partition::new(self.name.as_str(), number)
    }

    pub(crate) fn all_partitions(&self) -> Vec<Partition> {
        (0..self.partitions).map(|number| self.partition(number)).collect()
    }
}

/// The only answer of a call about one thing.
pub(crate) fn only<T>(answers: Vec<T>) -> Result<T, Failure> {
    let count = answers.len();
    let mut answers = answers.into_iter();
    match (answers.next(), count) {
        (Some(answer), 1) => Ok(answer),
        _ => Err(Failure::new(format!("{count} answers to one question"))),
    }
}

/// Bytes as text, for what is known to be text.
pub(crate) fn text(bytes: Option<&Bytes>) -> String {
    bytes.map_or_else(|| "(null)".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// The values of records, as text.
pub(crate) fn values(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| text(record.value.as_ref())).collect()
}

/// `0` to `count - 1`, as text.
pub(crate) fn numbers(count: u32) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}
