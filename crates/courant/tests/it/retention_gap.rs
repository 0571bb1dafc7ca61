//! Retention or damage takes events before a service has handled them: it goes on behind them, and says how many. And
//! the test kit reads a log in which some have gone.

use std::sync::Arc;
use std::time::Duration;

use courant::Running;
use courant::engine::{
    Boxed, Capabilities, CommitError, CreateTopicError, Ends, Engine, FetchError, Fetched, NewRecord,
    NewTopic, Next, Partition, Position, PublishError, ReadBack, ReadError, SeekError, Subscribe,
    SubscribeError, TimedOffset, Topic, TopicsError,
};
use courant::prelude::*;
use courant::testkit::published;
use courant_core::topic::TopicName;
use uuid::Uuid;

use crate::channel::{A_WHILE, states};
use crate::common::{Script, Site, count, counted, effects, publish};
use crate::given::Counted;

/// The topic whose beginning is gone, up to this offset.
const TOPIC: &str = "test.counted";
const START: u64 = 5;

/// An engine in which events have gone.
#[derive(Debug)]
struct Shortened {
    engine: Arc<dyn Engine>,
    by: Loss,
}

/// What has taken them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Retention,
    /// Of this a consumer hears only when it reads.
    Damage,
    /// Of each two events it has taken the second one, and nobody is told.
    Compaction,
}

fn is_compacted(offset: u64) -> bool {
    offset % 2 == 1
}

fn is_shortened(partition: &Partition) -> bool {
    &*partition.topic == TOPIC
}

impl Engine for Shortened {
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
        self.engine.topics(names)
    }

    fn create_topics(&self, topics: Vec<NewTopic>) -> Boxed<'_, Vec<Result<Topic, CreateTopicError>>> {
        self.engine.create_topics(topics)
    }

    fn publish(&self, records: Vec<NewRecord>) -> Boxed<'_, Vec<Result<Position, PublishError>>> {
        self.engine.publish(records)
    }

    fn subscribe(
        &self,
        wanted: Subscribe,
    ) -> Boxed<'_, Result<Box<dyn courant::engine::Subscription>, SubscribeError>> {
        Box::pin(async move {
            let inner = self.engine.subscribe(wanted).await?;
            let subscription: Box<dyn courant::engine::Subscription> =
                if self.by == Loss::Retention { inner } else { Box::new(Damaged(inner, self.by)) };
            Ok(subscription)
        })
    }

    fn read(&self, positions: Vec<Position>) -> Boxed<'_, Vec<Result<ReadBack, ReadError>>> {
        Box::pin(async move {
            let gone = |at: &Position| match self.by {
                Loss::Retention if at.offset < START => Some(ReadBack::Before { start: START }),
                Loss::Compaction if is_compacted(at.offset) => Some(ReadBack::Gap),
                _ => None,
            };
            let gone = |at: &Position| if is_shortened(&at.partition) { gone(at) } else { None };
            let gone: Vec<Option<ReadBack>> = positions.iter().map(gone).collect();
            let read = self.engine.read(positions).await.into_iter().zip(gone);
            read.map(|(read, gone)| gone.map_or(read, Ok)).collect()
        })
    }

    fn ends(&self, partitions: Vec<Partition>) -> Boxed<'_, Vec<Result<Ends, ReadError>>> {
        Box::pin(async move {
            let is_shortened = |partition: &Partition| self.by == Loss::Retention && is_shortened(partition);
            let shortened: Vec<bool> = partitions.iter().map(is_shortened).collect();
            let mut all = self.engine.ends(partitions).await;
            for (ends, is_shortened) in all.iter_mut().zip(shortened) {
                if let (Ok(ends), true) = (ends, is_shortened) {
                    ends.start = START;
                }
            }
            all
        })
    }

    fn offsets_for_time(
        &self,
        wanted: Vec<(Partition, i64)>,
    ) -> Boxed<'_, Vec<Result<Option<TimedOffset>, ReadError>>> {
        self.engine.offsets_for_time(wanted)
    }

    fn commit(&self, group: String, positions: Vec<Position>) -> Boxed<'_, Result<(), CommitError>> {
        self.engine.commit(group, positions)
    }

    fn committed(
        &self,
        group: String,
        partitions: Vec<Partition>,
    ) -> Boxed<'_, Result<Vec<Option<u64>>, CommitError>> {
        self.engine.committed(group, partitions)
    }

    fn close(&self) -> Boxed<'_, ()> {
        self.engine.close()
    }
}

/// Everything behind the first events, as far as it was stored, is damaged; or compaction has been there.
#[derive(Debug)]
struct Damaged(Box<dyn courant::engine::Subscription>, Loss);

/// How many events come before the damage.
const WHOLE: u64 = 3;

impl courant::engine::Subscription for Damaged {
    fn next(&mut self, wait: Duration) -> Boxed<'_, Result<Next, FetchError>> {
        Box::pin(async move {
            let next = self.0.next(wait).await?;
            if self.1 == Loss::Compaction {
                return Ok(compacted(next));
            }
            let damage = match &next {
                Next::Records(fetched) => fetched.iter().find(|fetched| is_damaged(fetched)).map(damage),
                _ => None,
            };
            damage.map_or(Ok(next), Err)
        })
    }

    fn seek(&mut self, positions: Vec<Position>) -> Result<(), SeekError> {
        self.0.seek(positions)
    }

    fn pause(&mut self, partitions: &[Partition]) {
        self.0.pause(partitions);
    }

    fn resume(&mut self, partitions: &[Partition]) {
        self.0.resume(partitions);
    }

    fn assigned(&self) -> Vec<Partition> {
        self.0.assigned()
    }
}

fn is_damaged(fetched: &Fetched) -> bool {
    let first = fetched.records.first().map(|record| record.position.offset);
    is_shortened(&fetched.partition) && first.is_some_and(|offset| offset >= WHOLE)
}

fn damage(fetched: &Fetched) -> FetchError {
    FetchError::Damaged {
        partition: fetched.partition.clone(),
        offset: WHOLE,
        next_offset: Some(fetched.next_offset),
        reason: "a test".to_owned(),
    }
}

/// What compaction leaves. Reading goes on behind the last event that is left, as far as anybody is told.
fn compacted(next: Next) -> Next {
    let mut fetched = match next {
        Next::Records(fetched) => fetched,
        other => return other,
    };
    for fetched in &mut fetched {
        fetched.records.retain(|record| !is_compacted(record.position.offset));
        if let Some(last) = fetched.records.last() {
            fetched.next_offset = last.position.offset + 1;
        }
    }
    fetched.retain(|fetched| !fetched.records.is_empty());
    if fetched.is_empty() { Next::Nothing } else { Next::Records(fetched) }
}

async fn started(site: &Site, engine: Arc<dyn Engine>) -> Running<Sqlite> {
    let app = App::new("test").engine(engine).in_world(&site.world).announced().partitions(1);
    let app = app.store(site.store().await).state(Script::default());
    let service = app.subscribe(Subscription::named("counting").on(count)).build().await;
    service.expect("fits together").start().await.expect("starts")
}

/// How many events the service says that it has missed, when it has said how it is.
async fn missed(site: &Site, service: &mut Running<Sqlite>) -> u64 {
    service.settle().await.expect("settles");
    site.advance(service, A_WHILE).await;
    let state = states(&**service.engine()).await.pop().expect("it has said how it is");
    state.subscriptions[0].partitions[0].missed
}

/// Three events are handled, five more come while the service is down, and two of these are gone when it is back:
/// the others are handled. It says so, also after the next start.
#[tokio::test(flavor = "multi_thread")]
async fn what_retention_has_taken_is_counted_and_told() {
    let site = Site::memory().await;
    let inner = site.world.engine("memory:").await.expect("opens");
    let mut service = started(&site, inner.clone()).await;
    publish(&service, (1..=3).map(|n| counted("a", n))).await;
    assert_eq!(missed(&site, &mut service).await, 0);
    let publisher = service.publisher();
    service.stop().await.expect("stops");
    for n in 4..=8 {
        publisher.publish(&counted("a", n)).await.expect("publishes");
    }

    let shortened: Arc<dyn Engine> = Arc::new(Shortened { engine: inner, by: Loss::Retention });
    for _ in 0..2 {
        let mut service = started(&site, shortened.clone()).await;
        assert_eq!(missed(&site, &mut service).await, 2);
        assert_eq!(effects(service.store()).await, ["a:1", "a:2", "a:3", "a:6", "a:7", "a:8"]);
        service.stop().await.expect("stops");
    }
}

/// Symptom: a service said more events that it had missed with each of its starts. Cause: what has gone behind the last
/// event that was settled was kept as missed beside that event, from which the next start comes to it again. Fix: only
/// what has gone before that event is kept.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_again_is_counted_once() {
    let site = Site::memory().await;
    let inner = site.world.engine("memory:").await.expect("opens");
    let mut service = started(&site, inner.clone()).await;
    publish(&service, (1..=3).map(|n| counted("a", n))).await;
    assert_eq!(missed(&site, &mut service).await, 0);
    let publisher = service.publisher();
    service.stop().await.expect("stops");
    for n in 4..=5 {
        publisher.publish(&counted("a", n)).await.expect("publishes");
    }
    let damaged: Arc<dyn Engine> = Arc::new(Shortened { engine: inner, by: Loss::Damage });
    for _ in 0..3 {
        let mut service = started(&site, damaged.clone()).await;
        assert_eq!(missed(&site, &mut service).await, 2);
        service.stop().await.expect("stops");
    }
}

/// Symptom: a test that read a topic with the test kit did not come back. Cause: it waited for as many events as there
/// are offsets between the ends, and compaction and transactions leave offsets that no event has. Fix: it waits until
/// each partition was read to its end, and looks at offsets of which it is told nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_read_to_its_end_whatever_has_gone_of_it() {
    let site = Site::memory().await;
    let inner = site.world.engine("memory:").await.expect("opens");
    let service = started(&site, inner.clone()).await;
    publish(&service, (1..=4).map(|n| counted("a", n))).await;
    service.stop().await.expect("stops");
    let compacted = Shortened { engine: inner, by: Loss::Compaction };
    let read = tokio::time::timeout(Duration::from_secs(60), published::<Counted>(&compacted)).await;
    let read = read.expect("it comes back").expect("reads");
    let numbers: Vec<_> = read.iter().map(|envelope| envelope.n).collect();
    assert_eq!(numbers, [1, 3]);
}
