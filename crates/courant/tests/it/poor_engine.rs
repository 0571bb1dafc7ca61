//! What an engine cannot do is said before a service runs, with the subscription that needs it.

use std::sync::Arc;
use std::time::Duration;

use courant::engine::{
    Boxed, Capabilities, CommitError, CreateTopicError, Durability, Ends, Engine, GroupScope, Lifetime,
    NewRecord, NewTopic, OrderScope, Partition, Position, PublishDedup, PublishError, ReadBack, ReadError,
    Replay, Subscribe, SubscribeError, TimeLookup, TimedOffset, Topic, TopicsError,
};
use courant::prelude::*;
use courant::testkit::World;
use courant::{BuildError, EngineChoice, Need, OtherLog, ProblemCode, Service, StartFrom};
use courant_core::topic::TopicName;
use tempfile::{TempDir, tempdir};
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

/// A service that needs something of its engine, and is right otherwise.
async fn needing(engine: impl Into<EngineChoice>, needs: &[Need]) -> Result<Service<Sqlite>, BuildError> {
    let store = Sqlite::connect("sqlite::memory:").await.expect("opens");
    let app = App::new("test").engine(engine).in_world(&World::new(1)).store(store);
    let app = needs.iter().fold(app, |app, need| app.requires(*need));
    Box::pin(app.subscribe(Subscription::named("hearing").on(hear)).build()).await
}

/// Each word that an engine can say too little of has its code, and all are said at once.
#[tokio::test]
async fn what_a_service_requires_and_does_not_get_is_said() {
    let week = PublishDedup::Window(Duration::from_secs(7 * 24 * 3600));
    let needs: [Need; 5] = [
        Durability::Disk.into(),
        Lifetime::Storage.into(),
        GroupScope::Everywhere.into(),
        PublishDedup::Exact.into(),
        week.into(),
    ];
    let error = needing("memory:", &needs).await.expect_err("is refused");
    let expected = [
        "engine-durability",
        "engine-lifetime",
        "engine-groups",
        "engine-publish-dedup",
        "engine-publish-dedup",
    ];
    assert_eq!(codes(&error), expected);
    let said: Vec<_> = error.problems().iter().map(|problem| (problem.what(), problem.fix())).collect();
    assert_eq!(
        said[..4],
        [
            (
                "what the engine has acknowledged has to survive a power cut, and on memory it survives nothing",
                "use an engine that has it on disk by then, as embedded:DIR and courant:// have, or require less",
            ),
            (
                "events and offsets have to outlive the service, and those of the engine memory do not",
                "use an engine that keeps them, as embedded:DIR, courant:// and kafka:// do, or leave \
                 .requires(Lifetime::Storage) away",
            ),
            (
                "several processes have to share the partitions, and the engine memory is for one alone",
                "use a server, as courant:// and kafka:// are, or run one process and leave \
                 .requires(GroupScope::Everywhere) away",
            ),
            (
                "what is published twice has to be stored once (Exact), and of the engine memory that is said: \
                 Nothing",
                "let whoever reads the events compare their ids, as every service with a store does, and leave \
                 .requires(PublishDedup::…) away",
            ),
        ]
    );
}

/// What an engine does say is enough, and so is what asks for nothing; a need that was said twice is one.
#[tokio::test]
async fn what_a_service_requires_and_gets_is_no_problem() {
    let (dir, other) = (tempdir().expect("a directory"), tempdir().expect("a directory"));
    let embedded = |dir: &TempDir| format!("embedded:{}", dir.path().display());
    let durable: [Need; 3] = [Durability::Disk.into(), Durability::Written.into(), Lifetime::Storage.into()];
    drop(needing(embedded(&dir), &durable).await.expect("fits together"));
    let nothing: [Need; 4] = [
        Durability::Memory.into(),
        Lifetime::Engine.into(),
        GroupScope::Process.into(),
        PublishDedup::Nothing.into(),
    ];
    drop(needing("memory:", &nothing).await.expect("fits together"));
    let replicated: [Need; 2] = [Durability::Replicated.into(), Durability::Replicated.into()];
    let error = needing(embedded(&other), &replicated).await.expect_err("one disk is no other machine");
    assert_eq!(codes(&error), ["engine-durability"]);
    let fix = error.problems()[0].fix();
    assert!(fix.contains("min.insync.replicas"), "{fix}");
}

/// An engine that could do it has a topic that was told to do less.
#[tokio::test]
async fn a_topic_that_promises_less_than_is_required_is_said() {
    let dir = tempdir().expect("a directory");
    let world = World::new(1);
    let engine = world.engine(&format!("embedded:{}", dir.path().display())).await.expect("opens");
    let name = TopicName::new("test.counted").expect("legal");
    let relaxed = NewTopic::new(name, 1).with("courant.durability", "interval");
    engine.create_topics(vec![relaxed]).await.remove(0).expect("is created");
    let error = needing(engine.clone(), &[Durability::Disk.into()]).await.expect_err("is refused");
    let said: Vec<_> = error.problems().iter().map(|problem| (problem.what(), problem.fix())).collect();
    assert_eq!(
        said,
        [(
            "what the engine has acknowledged has to survive a power cut, and in the topic test.counted it survives \
             a crash of the process",
            "change the topic: courant.durability to sync, on Kafka min.insync.replicas to more than 1; or require \
             less",
        )]
    );
    assert_eq!(codes(&error), ["topic-durability"]);
    drop(needing(engine.clone(), &[Durability::Written.into()]).await.expect("fits together"));
    engine.close().await;
}

/// Whoever gives engines another word says what refuses one that says too little of it, or why nothing does.
#[test]
fn the_page_says_of_every_word_of_an_engine_what_needs_it() {
    const PAGE: &str = include_str!("../../../../docs/guide/framework/engines.md");
    let section = |title: &str| {
        let behind = PAGE.split_once(&format!("\n## {title}\n")).expect(title).1;
        behind.split("\n## ").next().unwrap_or_default()
    };
    let (can, asked) = (section("What each can do"), section("What a service asks for"));
    let words: Vec<&str> = can
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(word, _)| word)
        .collect();
    assert!(words.contains(&"durability") && words.len() >= 10, "{words:?}");
    for word in words {
        assert!(asked.contains(&format!("`{word}`")), "nothing is said of {word}");
    }
    let codes: Vec<&str> = asked
        .lines()
        .filter(|line| line.starts_with('|'))
        .filter_map(|line| line.rsplit('|').nth(1)?.trim().strip_prefix('`')?.strip_suffix('`'))
        .collect();
    assert!(codes.len() >= 9, "{codes:?}");
    for code in codes {
        assert!(ProblemCode::ALL.iter().any(|known| known.as_str() == code), "there is no {code}");
    }
}
