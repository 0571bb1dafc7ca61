//! I3: a consumer remembers what it has handled for as long as it can come again, and no longer.

use std::sync::Arc;
use std::time::Duration;

use courant::engine::{Engine, NewTopic};
use courant::prelude::*;
use courant::testkit::World;
use courant::{EngineChoice, EventId, Running};
use courant_core::topic::TopicName;

use super::common::{Script, Site, all, count, counted, effects, numbered, of_key, seconds};
use crate::server::Server;

const fn days(days: u64) -> Duration {
    seconds(days * 24 * 3600)
}

async fn started(site: &Site, script: &Script) -> Running<Sqlite> {
    let noting = Subscription::named("noting").retry(Retry::never()).on(count);
    let service = site.app().await.state(script.clone()).subscribe(noting).build().await;
    service.expect("fits together").start().await.expect("starts")
}

/// The service is started again so much later. Before it takes anything it forgets what can be forgotten.
async fn later(site: &Site, script: &Script, service: Running<Sqlite>, by: Duration) -> Running<Sqlite> {
    service.stop().await.expect("stops");
    site.world.advance(by);
    started(site, script).await
}

fn engine_of(site: &Site) -> Arc<dyn Engine> {
    let EngineChoice::Opened(engine) = site.engine() else { panic!("the engine outlives its services") };
    engine
}

/// The topic is there before the service, and keeps events for so long: of one that keeps them for ever
/// everything is remembered.
async fn create_topic(engine: &dyn Engine, kept: Duration) {
    let topic = NewTopic::new(TopicName::new("test.counted").expect("legal"), 1)
        .with("retention.ms", kept.as_millis().to_string());
    for created in engine.create_topics(vec![topic]).await {
        created.expect("creates");
    }
}

async fn remembered(store: &Sqlite) -> i64 {
    let mut reader = store.read().await.expect("reads");
    let count = sqlx::query_scalar("select count(*) from courant_inbox");
    count.fetch_one(&mut *reader).await.expect("counts")
}

/// Sent under an id of its own, once more each time.
async fn send(service: &mut Running<Sqlite>, keys: &[&str]) {
    for key in keys {
        let id = EventId::new(&format!("evt-{key}")).expect("legal");
        service.publisher().publish_as(&id, &counted(key, 1)).await.expect("publishes");
    }
    service.settle().await.expect("settles");
}

/// Eight days are longer than others remember, who forget after minutes or a week: a letter that is sent back
/// after them has one effect, and so has what its producer sends once more. The topic keeps events for a week
/// here, and that of the copies of its dead letters as well, so that after ten weeks nobody can have them any more,
/// and they are forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_sent_back_after_eight_days_has_one_effect() {
    let site = Site::memory().await;
    create_topic(&*engine_of(&site), days(7)).await;
    let script = Script::default();
    script.fail("a");
    let mut service = started(&site, &script).await;
    send(&mut service, &["a", "b"]).await;
    assert_eq!(effects(service.store()).await, ["b:1"]);

    let mut service = later(&site, &script, service, days(8)).await;
    script.repair("a");
    service.dead_letters().redrive("late", "tests", &all()).await.expect("asks");
    service.settle().await.expect("settles");
    send(&mut service, &["a", "b"]).await;
    service.dead_letters().redrive("again", "tests", &all()).await.expect("asks");
    service.settle().await.expect("settles");
    let done = effects(service.store()).await;
    assert_eq!((of_key(&done, "a"), of_key(&done, "b")), (numbered("a", 1..=1), numbered("b", 1..=1)));
    assert_eq!(remembered(service.store()).await, 2);

    let mut service = later(&site, &script, service, days(62)).await;
    send(&mut service, &["b"]).await;
    assert_eq!(of_key(&effects(service.store()).await, "b"), ["b:1", "b:1"]);
    assert_eq!(remembered(service.store()).await, 1, "what is old is forgotten");
    service.stop().await.expect("stops");
}

/// A service on an engine has a dead letter. How long the topic keeps its copy that is created for it.
async fn copies_are_kept(engine: &Arc<dyn Engine>, kept: Duration) -> Option<Duration> {
    let site = Site::memory().await;
    create_topic(&**engine, kept).await;
    let script = Script::default();
    script.fail("a");
    let app = App::new("test").engine(EngineChoice::from(engine.clone())).partitions(1).in_world(&site.world);
    let noting = Subscription::named("noting").retry(Retry::never()).on(count);
    let app = app.store(site.store().await).state(script).subscribe(noting);
    let mut service = app.build().await.expect("fits together").start().await.expect("starts");
    send(&mut service, &["a"]).await;
    let copies = TopicName::new("test.counted.noting.dlq").expect("legal");
    let found = engine.topics(vec![copies]).await.expect("answers").pop().flatten();
    service.stop().await.expect("stops");
    found.expect("it was created").retention
}

/// Copies are kept as long as the topic of their events keeps them, in the process and on a server. There the
/// clock is the machine's, and events of the test's time are old.
#[tokio::test(flavor = "multi_thread")]
async fn copies_are_kept_as_long_as_their_events() {
    let site = Site::memory().await;
    assert_eq!(copies_are_kept(&engine_of(&site), days(7)).await, Some(days(7)));

    let directory = tempfile::tempdir().expect("a directory");
    let Some(server) = Server::start(directory.path()) else { return };
    let engine = World::new(1).engine(&server.url()).await.expect("opens");
    assert_eq!(copies_are_kept(&engine, days(36_500)).await, Some(days(36_500)));
    engine.close().await;
}
