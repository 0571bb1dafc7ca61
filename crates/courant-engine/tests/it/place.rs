//! An engine for one case, which does not know which one it is. The cases and this file are shared with
//! the crates of other engines.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courant_core::clock::Clock;
use courant_core::topic::TopicName;
use courant_engine::{
    Engine, EngineConfig, Header, NewRecord, NewTopic, Next, Partition, Position, Record, Subscribe,
    Subscription, Topic, ensure_topics,
};
use courant_log::SystemClock;
use tokio::time::timeout;

/// What the engines' clock says: the time of records that bring none.
pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

/// Long enough that only what never comes is not there by then.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The date stands still, and time passes.
#[derive(Debug)]
struct StillClock;

impl Clock for StillClock {
    fn now_ms(&self) -> i64 {
        NOW_MS
    }

    fn elapsed_ms(&self) -> u64 {
        SystemClock.elapsed_ms()
    }
}

/// What an engine is given whose date stands still.
pub(crate) fn still() -> EngineConfig {
    EngineConfig { clock: Arc::new(StillClock), ..EngineConfig::system() }
}

/// An engine, and what it stands on.
pub(crate) struct Place {
    pub(crate) engine: Arc<dyn Engine>,
    /// Whether the engine is in this process: then it has the test's clock, and takes whatever the format
    /// can hold.
    is_here: bool,
    /// Removed after the engine is dropped: fields go in their order.
    _ground: Option<Box<dyn Any + Send + Sync>>,
}

impl Place {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        is_here: bool,
        ground: Option<Box<dyn Any + Send + Sync>>,
    ) -> Self {
        Self { engine, is_here, _ground: ground }
    }

    /// Whether a client of the engine can send the record: librdkafka cannot send a time of 0, and no
    /// names of headers that are not text.
    pub(crate) fn can_send(&self, record: &NewRecord) -> bool {
        let is_text = |header: &Header| std::str::from_utf8(&header.name).is_ok();
        self.is_here || (record.timestamp_ms != Some(0) && record.headers.iter().all(is_text))
    }

    /// Whether a record can have arrived at that time.
    pub(crate) fn is_arrival(&self, timestamp_ms: i64) -> bool {
        if self.is_here { timestamp_ms == NOW_MS } else { timestamp_ms > NOW_MS }
    }

    pub(crate) async fn topic(&self, name: &str, partitions: u32) -> Topic {
        self.topic_with(NewTopic::new(topic_name(name), partitions)).await
    }

    pub(crate) async fn topic_with(&self, topic: NewTopic) -> Topic {
        ensure_topics(&*self.engine, vec![topic]).await.expect("created").remove(0)
    }

    /// Publishes records, every one of which must be taken.
    pub(crate) async fn publish(&self, records: Vec<NewRecord>) -> Vec<Position> {
        publish(&*self.engine, records).await
    }

    /// A subscription that has every partition of a topic, and reads them from the beginning.
    pub(crate) async fn subscribe(&self, group: &str, topic: &str) -> Box<dyn Subscription> {
        subscribe(&*self.engine, group, topic).await
    }
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName::new(name).expect("legal")
}

pub(crate) async fn publish(engine: &dyn Engine, records: Vec<NewRecord>) -> Vec<Position> {
    let results = engine.publish(records).await;
    results.into_iter().map(|result| result.expect("published")).collect()
}

/// Joins a group, without taking anything.
pub(crate) async fn join(engine: &dyn Engine, group: &str, topic: &str) -> Box<dyn Subscription> {
    engine.subscribe(Subscribe::new(group, vec![topic_name(topic)])).await.expect("subscribes")
}

pub(crate) async fn subscribe(engine: &dyn Engine, group: &str, topic: &str) -> Box<dyn Subscription> {
    let mut subscription = join(engine, group, topic).await;
    let assigned = assigned(&mut *subscription).await;
    subscription.seek(at_the_beginning(&assigned)).expect("assigned");
    subscription
}

/// What is assigned next.
pub(crate) async fn assigned(subscription: &mut dyn Subscription) -> Vec<Partition> {
    match next(subscription).await {
        Next::Assigned(partitions) => partitions,
        other => panic!("an assignment, not {other:?}"),
    }
}

pub(crate) fn at_the_beginning(partitions: &[Partition]) -> Vec<Position> {
    partitions.iter().map(|partition| partition.at(0)).collect()
}

/// What is next, which must not take for ever.
pub(crate) async fn next(subscription: &mut dyn Subscription) -> Next {
    let next = timeout(PATIENCE, subscription.next(PATIENCE)).await;
    next.expect("in time").expect("no error")
}

/// The next records, as many as were asked for; more than that is a failure.
pub(crate) async fn read(subscription: &mut dyn Subscription, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        match next(subscription).await {
            Next::Records(fetched) => records.extend(fetched.into_iter().flat_map(|f| f.records)),
            other => panic!("records, not {other:?}; {} of {count} are there", records.len()),
        }
    }
    assert_eq!(records.len(), count);
    records
}

/// A record with a key and a value.
pub(crate) fn record(key: &str, value: impl Into<Bytes>) -> NewRecord {
    NewRecord::new("orders", key.to_owned(), value)
}

/// A record that goes to one partition and has neither key nor headers.
pub(crate) fn record_in(partition: u32, value: impl Into<Bytes>) -> NewRecord {
    NewRecord { partition: Some(partition), key: None, ..record("", value) }
}

pub(crate) fn headers(headers: &[(&'static [u8], Option<&'static [u8]>)]) -> Vec<Header> {
    let header = |(name, value): &(&'static [u8], Option<&'static [u8]>)| Header {
        name: Bytes::from_static(name),
        value: value.map(Bytes::from_static),
    };
    headers.iter().map(header).collect()
}
