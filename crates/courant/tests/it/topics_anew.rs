//! Topics that are not known for a moment, and other ones of the same name, as services without a store tell them apart.

use std::sync::Arc;

use courant::engine::{Engine, Partition};
use courant::prelude::*;
use courant::testkit::World;
use courant::{EngineChoice, NoStore, Running, StallReason};

use crate::absent_engine::AbsentEngine;
use crate::given::{Loose, Script, counted};
use crate::stalls::{hear, until, until_stalled};

async fn hear_loose(event: Loose, State(script): State<Script>) -> Result<(), HandlerError> {
    script.call("loose", &format!("loose:{}", event.n)).map_err(HandlerError::retry)
}

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

/// Symptom: without a store how far a service was in a topic was kept for another one of its name. Cause: the topic had no
/// id yet when the service asked for it, and was made before it asked how far its group was, so that it was taken over
/// without an id. Fix: the id is compared behind that question, and the partition is taken over a second later.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_while_it_is_taken_over_is_told_from_others() {
    let world = World::new(1);
    let absent = AbsentEngine::around(world.engine("memory:").await.expect("opens"));
    absent.tell_id_late();
    absent.keep_progress(false);
    let script = Script::default();
    let service = hearing(&absent, &world, &script).await;
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    until(|| has(&service, StallReason::ProgressUnkept)).await;
    // No read says so.
    absent.forget_progress();
    absent.keep_progress(true);
    until(|| script.called() == ["a:1", "a:1"]).await;
    service.stop().await.expect("stops");
}

/// Symptom: of a topic that was made anew while a service without a store took it over, events were handled before those
/// that stand before them. Cause: it was read from where the old one was to begin until it was taken over anew. Fix:
/// nothing is read of it until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_anew_while_it_is_taken_over_is_read_from_its_start_alone() {
    let world = World::new(1);
    let absent = AbsentEngine::around(world.engine("memory:").await.expect("opens"));
    absent.forget_progress_at_seek();
    let script = Script::default();
    let mut service = hearing(&absent, &world, &script).await;
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    until(|| !script.called().is_empty()).await;
    until(|| service.stalls().is_empty()).await;
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:1"]);
    service.stop().await.expect("stops");
}

/// Symptom: without a store the last events of all topics of a service came again after its restart, where one of these
/// topics had been made anew shortly before the end. Cause: the engine keeps how far a group is of all partitions or of
/// none. Fix: it hears once more of those whose topics are there.
#[tokio::test(flavor = "multi_thread")]
async fn progress_is_kept_at_the_end_beside_a_topic_that_was_made_anew() {
    let world = World::new(1);
    let absent = AbsentEngine::around(world.engine("memory:").await.expect("opens"));
    let engine: Arc<dyn Engine> = absent.clone();
    let script = Script::default();
    let hearing = Subscription::named("hearing").at_least_once().when_exhausted(Exhausted::Skip);
    let hearing = hearing.on(hear).on(hear_loose);
    let app = App::new("test").engine(EngineChoice::from(engine)).partitions(1).in_world(&world);
    let service = app.state(script.clone()).subscribe(hearing).build().await.expect("fits together");
    let mut service = service.start().await.expect("starts");
    service.settle().await.expect("settles");
    absent.keep_progress(false);
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    service.publisher().publish(&Loose { n: 1 }).await.expect("is taken");
    until(|| script.called().len() == 2 && has(&service, StallReason::ProgressUnkept)).await;
    absent.make_anew("test.loose");
    absent.keep_progress(true);
    service.stop().await.expect("stops");
    assert_eq!(committed(&absent, "test.counted").await, Some(1));
    assert_eq!(committed(&absent, "test.loose").await, None);
}
