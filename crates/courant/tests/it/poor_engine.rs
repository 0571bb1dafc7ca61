//! What an engine cannot do is said before a service runs, with the subscription that needs it.

use std::sync::Arc;

use courant::engine::{
    Boxed, Capabilities, CommitError, CreateTopicError, Ends, Engine, NewRecord, NewTopic, OrderScope,
    Partition, Position, PublishError, ReadBack, ReadError, Replay, Subscribe, SubscribeError, TimeLookup,
    TimedOffset, Topic, TopicsError,
};
use courant::prelude::*;
use courant::testkit::World;
use courant::{OtherLog, StartFrom};
use courant_core::topic::TopicName;
use uuid::Uuid;

use crate::build_errors::codes;
use crate::given::Counted;

/// An engine that can do little. What it does it does as the one in it.
#[derive(Debug)]
struct Poor(Arc<dyn Engine>);

impl Engine for Poor {
    fn kind(&self) -> &'static str {
        "poor"
    }

    fn log_id(&self) -> Uuid {
        self.0.log_id()
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = self.0.capabilities();
        can.order = OrderScope::Nothing;
        can.replay = Replay::Nothing;
        can.time_lookup = TimeLookup::Nothing;
        can.partitions_max = 2;
        can
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
        self.0.read(positions)
    }

    fn ends(&self, partitions: Vec<Partition>) -> Boxed<'_, Vec<Result<Ends, ReadError>>> {
        self.0.ends(partitions)
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

async fn hear(_: Counted) {}

/// Everything at once, and no topic is created for a service that cannot run.
#[tokio::test]
async fn what_an_engine_cannot_do_is_said() {
    let world = World::new(1);
    let inner = world.engine("memory:").await.expect("opens");
    let poor: Arc<dyn Engine> = Arc::new(Poor(inner.clone()));
    let store = Sqlite::connect("sqlite::memory:").await.expect("opens");
    let app = App::new("test").engine(poor).partitions(3).in_world(&world).store(store);
    let early = Subscription::named("early").start_from(StartFrom::Time(0)).on(hear);
    let other = Subscription::named("other").when_log_differs(OtherLog::FromTime(0)).on(hear);
    let error = app.subscribe(early).subscribe(other).build().await.expect_err("is refused");
    let said: Vec<_> = error.problems().iter().map(|problem| (problem.what(), problem.fix())).collect();
    let by_time = "begin with the oldest or the newest event, or use an engine that knows when events came";
    assert_eq!(
        said,
        [
            (
                "the engine poor keeps no order, and handlers are called in the order of keys",
                "use an engine that keeps the order of a key",
            ),
            (
                "the engine poor gives each event once, and progress is kept by the service",
                "use an engine that can be read from any offset",
            ),
            (
                "its topics are to have 3 partitions",
                "say .partitions(1) to .partitions(2), which is what poor can do",
            ),
            (
                "subscription \"early\" begins at a time, and the engine poor finds no offsets by time",
                by_time,
            ),
            (
                "subscription \"other\" begins at a time, and the engine poor finds no offsets by time",
                by_time,
            ),
        ]
    );
    let by_code = ["engine-order", "engine-replay", "partitions", "engine-time-lookup", "engine-time-lookup"];
    assert_eq!(codes(&error), by_code);
    let topic = TopicName::new("test.counted").expect("legal");
    assert_eq!(inner.topics(vec![topic]).await.expect("answers"), [None]);
}
