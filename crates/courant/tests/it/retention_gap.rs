//! Retention takes events before a service has handled them: it goes on behind them, and says how many.

use std::sync::Arc;

use courant::Running;
use courant::engine::{
    Boxed, Capabilities, CommitError, CreateTopicError, Ends, Engine, NewRecord, NewTopic, Partition,
    Position, PublishError, ReadBack, ReadError, Subscribe, SubscribeError, TimedOffset, Topic, TopicsError,
};
use courant::prelude::*;
use courant_core::topic::TopicName;
use uuid::Uuid;

use crate::channel::{A_WHILE, states};
use crate::common::{Script, Site, count, counted, effects, publish};

/// The topic whose beginning is gone, up to this offset.
const TOPIC: &str = "test.counted";
const START: u64 = 5;

/// An engine in which retention has been at work.
#[derive(Debug)]
struct Shortened(Arc<dyn Engine>);

fn is_shortened(partition: &Partition) -> bool {
    &*partition.topic == TOPIC
}

impl Engine for Shortened {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn log_id(&self) -> Uuid {
        self.0.log_id()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn topics(&self, names: Vec<TopicName>) -> Boxed<'_, Result<Vec<Option<Topic>>, TopicsError>> {
        self.0.topics(names)
    }

    fn create_topics(&self, topics: Vec<NewTopic>) -> Boxed<'_, Vec<Result<Topic, CreateTopicError>>> {
        self.0.create_topics(topics)
    }

    fn publish(&self, records: Vec<NewRecord>) -> Boxed<'_, Vec<Result<Position, PublishError>>> {
        self.0.publish(records)
    }

    fn subscribe(
        &self,
        wanted: Subscribe,
    ) -> Boxed<'_, Result<Box<dyn courant::engine::Subscription>, SubscribeError>> {
        self.0.subscribe(wanted)
    }

    fn read(&self, positions: Vec<Position>) -> Boxed<'_, Vec<Result<ReadBack, ReadError>>> {
        Box::pin(async move {
            let is_gone = |at: &Position| is_shortened(&at.partition) && at.offset < START;
            let gone: Vec<bool> = positions.iter().map(is_gone).collect();
            let read = self.0.read(positions).await.into_iter().zip(gone);
            read.map(|(read, is_gone)| if is_gone { Ok(ReadBack::Before { start: START }) } else { read })
                .collect()
        })
    }

    fn ends(&self, partitions: Vec<Partition>) -> Boxed<'_, Vec<Result<Ends, ReadError>>> {
        Box::pin(async move {
            let shortened: Vec<bool> = partitions.iter().map(is_shortened).collect();
            let mut all = self.0.ends(partitions).await;
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
        self.0.offsets_for_time(wanted)
    }

    fn commit(&self, group: String, positions: Vec<Position>) -> Boxed<'_, Result<(), CommitError>> {
        self.0.commit(group, positions)
    }

    fn committed(
        &self,
        group: String,
        partitions: Vec<Partition>,
    ) -> Boxed<'_, Result<Vec<Option<u64>>, CommitError>> {
        self.0.committed(group, partitions)
    }

    fn close(&self) -> Boxed<'_, ()> {
        self.0.close()
    }
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

    let shortened: Arc<dyn Engine> = Arc::new(Shortened(inner));
    for _ in 0..2 {
        let mut service = started(&site, shortened.clone()).await;
        assert_eq!(missed(&site, &mut service).await, 2);
        assert_eq!(effects(service.store()).await, ["a:1", "a:2", "a:3", "a:6", "a:7", "a:8"]);
        service.stop().await.expect("stops");
    }
}
