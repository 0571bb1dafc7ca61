//! Topics that are not known for a moment, and other ones of the same name, as services without a store tell them apart.

use std::sync::Arc;

use courant::engine::{Engine, Partition};
use courant::prelude::*;
use courant::testkit::World;
use courant::{EngineChoice, NoStore, Running, StallReason};

use crate::absent_engine::AbsentEngine;
use crate::given::{Script, counted};
use crate::stalls::{hear, until, until_stalled};

/// A service without a store.
async fn hearing(absent: &Arc<AbsentEngine>, world: &World, script: &Script) -> Running<NoStore> {
    let engine: Arc<dyn Engine> = absent.clone();
    let hearing = Subscription::named("hearing").at_least_once().when_exhausted(Exhausted::Skip).on(hear);
    let app = App::new("test").engine(EngineChoice::from(engine)).partitions(1).in_world(world);
    let service = app.state(script.clone()).subscribe(hearing).build().await.expect("fits together");
    service.start().await.expect("starts")
}

fn has(service: &Running<NoStore>, reason: StallReason) -> bool {
    service.stalls().iter().any(|stall| stall.reason == reason)
}

async fn committed(engine: &AbsentEngine, topic: &str) -> Option<u64> {
    let asked = engine.committed("hearing".to_owned(), vec![Partition::new(topic, 0)]).await;
    asked.expect("says").remove(0)
}

/// Symptom: without a store a service skipped all of a topic that was made anew on a server, into which the same events
/// were imported once more. Cause: the last event that was handled had the same id at the same offset, and that was taken
/// for the topic that had been there. Fix: the engine must have kept something of how far the group is as well, which goes
/// with a topic.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_imported_once_more_into_a_new_topic_is_handled() {
    let world = World::new(1);
    let absent = AbsentEngine::around(world.engine("memory:").await.expect("opens"));
    absent.tell_no_ids();
    let script = Script::default();
    let mut service = hearing(&absent, &world, &script).await;
    service.settle().await.expect("settles");
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    service.settle().await.expect("settles");

    absent.lose_topics();
    assert_eq!(until_stalled(&service).await.reason, StallReason::NoTopic);
    absent.replay();
    absent.find_topics();
    until(|| script.called() == ["a:1", "a:1"]).await;
    service.publisher().publish(&counted("a", 2)).await.expect("is taken");
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:1", "a:1", "a:2"]);
    service.stop().await.expect("stops");
}

/// The same, where the service ends as soon as the new topic is there: how far it was is not kept for that one.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_handled_is_not_kept_at_the_end_for_what_is_imported_once_more() {
    let world = World::new(1);
    let inner = world.engine("memory:").await.expect("opens");
    let absent = AbsentEngine::around(inner.clone());
    absent.tell_no_ids();
    absent.keep_progress(false);
    let service = hearing(&absent, &world, &Script::default()).await;
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    until(|| has(&service, StallReason::ProgressUnkept)).await;
    absent.lose_topics();
    until(|| has(&service, StallReason::NoTopic)).await;
    absent.replay();
    absent.keep_progress(true);
    absent.find_topics();
    service.stop().await.expect("stops");
    let kept = inner.committed("hearing".to_owned(), vec![Partition::new("test.counted", 0)]).await;
    assert_eq!(kept.expect("says"), [None]);
}

/// Where the engine knows something of how far the group is, a service goes on in a topic that was not known for a moment,
/// also where the engine tells topics by their names alone.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_handled_counts_where_the_engine_has_kept_some_of_it() {
    let world = World::new(1);
    let absent = AbsentEngine::around(world.engine("memory:").await.expect("opens"));
    absent.tell_no_ids();
    let script = Script::default();
    let mut service = hearing(&absent, &world, &script).await;
    service.settle().await.expect("settles");
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    service.settle().await.expect("settles");
    assert_eq!(committed(&absent, "test.counted").await, Some(1));
    absent.keep_progress(false);
    service.publisher().publish(&counted("a", 2)).await.expect("is taken");
    assert_eq!(until_stalled(&service).await.reason, StallReason::ProgressUnkept);

    absent.lose_topics();
    until(|| has(&service, StallReason::NoTopic)).await;
    absent.keep_progress(true);
    absent.find_topics();
    until(|| service.stalls().is_empty()).await;
    service.publisher().publish(&counted("a", 3)).await.expect("is taken");
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:1", "a:2", "a:3"]);
    service.stop().await.expect("stops");
    assert_eq!(committed(&absent, "test.counted").await, Some(3));
}
