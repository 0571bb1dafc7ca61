//! What does not go on is said: in the process, and by the service of itself.

use std::sync::Arc;

use courant::engine::{Engine, NewTopic, Partition};
use courant::prelude::*;
use courant::testkit::World;
use courant::{Backing, EngineChoice, NoStore, Running, Stall, StallReason, StartFrom};
use courant_core::topic::TopicName;

use crate::absent_engine::AbsentEngine;
use crate::channel::{A_WHILE, states};
use crate::given::{Counted, Loose, Script, counted, seconds};

async fn tell(event: Counted) -> Loose {
    Loose { n: event.n }
}

pub(crate) async fn hear(event: Counted, State(script): State<Script>) -> Result<(), HandlerError> {
    script.call(&event.key, &format!("{}:{}", event.key, event.n)).map_err(HandlerError::retry)
}

/// A topic with a config that lets the engine refuse what comes.
async fn topic(engine: &dyn Engine, name: &str, config: (&str, &str)) {
    let topic = NewTopic::new(TopicName::new(name).expect("legal"), 1).with(config.0, config.1);
    engine.create_topics(vec![topic]).await.remove(0).expect("created");
}

/// Waits until something does not go on. Such a service does not settle.
pub(crate) async fn until_stalled<S: Backing>(service: &Running<S>) -> Stall {
    let waiting = async {
        loop {
            match service.stalls().pop() {
                Some(stall) => return stall,
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(seconds(60), waiting).await.expect("it says that it does not go on")
}

/// Waits until it is so.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(seconds(60), waiting).await.expect("it is so in the end");
}

/// Symptom: without a store a handler was called again and again, because the engine refused what it published, and
/// nothing but its attempts said so. Cause: a refusal was only the failure of an attempt. Fix: it is said what is
/// refused, why, and since when, in the process and by the service of itself.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_refuses_without_a_store_is_said() {
    let world = World::new(1);
    let engine = world.engine("memory:").await.expect("opens");
    topic(&*engine, "test.loose", ("cleanup.policy", "compact")).await;
    let telling = Subscription::named("telling").at_least_once().when_exhausted(Exhausted::Block);
    let telling = telling.retry(Retry::every(seconds(10))).on(tell);
    let app = App::new("test").engine(engine.clone()).partitions(1).in_world(&world).announced();
    let service = app.subscribe(telling).build().await.expect("fits together");
    let mut service = service.start().await.expect("starts");
    service.settle().await.expect("settles");
    assert!(service.stalls().is_empty(), "{:?}", service.stalls());

    let since_ms = world.now_ms();
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    service.settle().await.expect("settles");
    for _ in 0..3 {
        world.advance(seconds(10));
        service.settle().await.expect("settles");
    }
    let stalls = service.stalls();
    let [stall] = &stalls[..] else { panic!("one thing does not go on: {stalls:?}") };
    assert_eq!((stall.consumer.as_deref(), stall.reason), (Some("telling"), StallReason::Refused));
    assert_eq!((stall.topic.as_deref(), stall.since_ms, stall.times), (Some("test.loose"), since_ms, 4));
    assert!(stall.said.contains("every record in it needs a key"), "{stall:?}");

    world.advance(A_WHILE);
    service.settle().await.expect("settles");
    let said = states(&*engine).await.pop().expect("it says how it is");
    let [told] = &said.stalls[..] else { panic!("{said:?}") };
    assert_eq!((told.consumer.as_deref(), told.reason.as_str()), (Some("telling"), "refused"));
    assert_eq!((told.topic.as_deref(), told.since_ms), (Some("test.loose"), since_ms));
    service.stop().await.expect("stops");
}

/// Symptom: an event whose copy the engine refused, as a dead letter that is too large for its topic, was handled again
/// for ever, and what was refused stood nowhere. The same cause, and the same fix.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_the_engine_refuses_is_said() {
    let world = World::new(1);
    let engine = world.engine("memory:").await.expect("opens");
    topic(&*engine, "test.counted.hearing.dlq", ("max.message.bytes", "100")).await;
    let script = Script::default();
    script.fail("a");
    let hearing = Subscription::named("hearing").at_least_once().when_exhausted(Exhausted::DeadLetter);
    let hearing = hearing.retry(Retry::never()).on(hear);
    let app = App::new("test").engine(engine.clone()).partitions(1).in_world(&world).state(script.clone());
    let service = app.subscribe(hearing).build().await.expect("fits together");
    let mut service = service.start().await.expect("starts");
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    service.settle().await.expect("settles");
    world.advance(seconds(1));
    service.settle().await.expect("settles");
    let stalls = service.stalls();
    let [stall] = &stalls[..] else { panic!("one thing does not go on: {stalls:?}") };
    let topic = stall.topic.as_deref();
    assert_eq!((stall.reason, topic), (StallReason::Refused, Some("test.counted.hearing.dlq")));
    assert_eq!(stall.times, 2);
    script.repair("a");
    world.advance(seconds(1));
    service.settle().await.expect("settles");
    assert!(service.stalls().is_empty(), "there is no letter any more: {:?}", service.stalls());
    service.stop().await.expect("stops");
}

/// An event that fails where nothing can be parked is said, and that it does not fail any more.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_holds_up_its_partition_is_said() {
    let world = World::new(1);
    let engine = world.engine("memory:").await.expect("opens");
    let script = Script::default();
    script.fail("a");
    let hearing = Subscription::named("hearing").at_least_once().when_exhausted(Exhausted::Block);
    let hearing = hearing.retry(Retry::every(seconds(1))).on(hear);
    let app = App::new("test").engine(engine.clone()).partitions(1).in_world(&world).state(script.clone());
    let service = app.subscribe(hearing).build().await.expect("fits together");
    let mut service = service.start().await.expect("starts");
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    service.settle().await.expect("settles");
    let stalls = service.stalls();
    let [stall] = &stalls[..] else { panic!("one thing does not go on: {stalls:?}") };
    assert_eq!((stall.reason, stall.partition), (StallReason::EventFails, Some(0)));
    script.repair("a");
    world.advance(seconds(1));
    service.settle().await.expect("settles");
    assert!(service.stalls().is_empty(), "{:?}", service.stalls());
    service.stop().await.expect("stops");
}

/// Symptom: a partition that could not be read, as on a disk that fails, let the others have one event in a second.
/// Cause: the subscription slept before it was read again. Fix: it rests, and the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_cannot_be_read_holds_up_no_other_one() {
    const EVENTS: u32 = 40;
    let world = World::new(1);
    let engine = AbsentEngine::around(world.engine("memory:").await.expect("opens"));
    engine.break_partition(Some(Partition::new("test.counted", 0)));
    let script = Script::default();
    let hearing = Subscription::named("hearing").at_least_once().when_exhausted(Exhausted::Block).on(hear);
    let app = App::new("test").engine(EngineChoice::Opened(engine.clone())).partitions(2).in_world(&world);
    let service = app.state(script.clone()).subscribe(hearing).build().await.expect("fits together");
    let service = service.start().await.expect("starts");
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for key in keys {
        service.publisher().publish(&counted(key, 0)).await.expect("is taken");
    }
    until(|| !script.called().is_empty()).await;
    let key = script.called().remove(0).replace(":0", "");
    for n in 1..=EVENTS {
        service.publisher().publish(&counted(&key, n)).await.expect("is taken");
        until(|| script.called().contains(&format!("{key}:{n}"))).await;
    }
    let times = engine.times_unreadable();
    assert!(times >= 1 && times < u64::from(EVENTS / 2), "it was read {times} times meanwhile");
    let stall = until_stalled(&service).await;
    assert_eq!((stall.reason, stall.partition), (StallReason::Unreadable, Some(0)));

    engine.break_partition(None);
    until(|| keys.iter().all(|key| script.called().contains(&format!("{key}:0")))).await;
    until(|| service.stalls().is_empty()).await;
    service.stop().await.expect("stops");
}

/// What the relay cannot publish is said of the outbox.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_refuses_of_the_outbox_is_said() {
    let world = World::new(1);
    let engine = world.engine("memory:").await.expect("opens");
    topic(&*engine, "test.loose", ("cleanup.policy", "compact")).await;
    let app = App::new("test").engine(engine.clone()).partitions(1).in_world(&world);
    let app = app.store(Sqlite::connect("sqlite::memory:").await.expect("opens"));
    let service = app.subscribe(Subscription::named("telling").on(tell)).build().await;
    let service = service.expect("fits together").start().await.expect("starts");
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    let stall = until_stalled(&service).await;
    assert_eq!((stall.consumer.as_deref(), stall.reason), (None, StallReason::Refused));
    assert_eq!(stall.topic.as_deref(), Some("test.loose"));
    service.stop().await.expect("stops");
}

/// Symptom: a consumer read nothing more of a topic that was deleted and made anew while its service ran, and a line in
/// the log was all that was said. Cause: the loop waited for the group to give it the partition once more, and the group
/// had never taken it away. Fix: it is said while the topic is missing, and what comes under its name is looked at as at
/// a start.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_gone_is_said_and_read_when_it_is_back() {
    let world = World::new(1);
    let absent = AbsentEngine::around(world.engine("memory:").await.expect("opens"));
    let engine: Arc<dyn Engine> = absent.clone();
    let script = Script::default();
    let app = App::new("test").engine(EngineChoice::from(engine)).partitions(1).in_world(&world);
    let app = app.store(Sqlite::connect("sqlite::memory:").await.expect("opens")).state(script.clone());
    let service = app.subscribe(Subscription::named("hearing").at_least_once().on(hear)).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    service.settle().await.expect("settles");

    absent.lose_topics();
    let stall = until_stalled(&service).await;
    assert_eq!((stall.consumer.as_deref(), stall.reason), (Some("hearing"), StallReason::NoTopic));
    assert_eq!((stall.topic.as_deref(), stall.partition), (Some("test.counted"), Some(0)));

    absent.find_topics();
    service.publisher().publish(&counted("a", 2)).await.expect("is taken");
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:1", "a:2"]);
    assert!(service.stalls().is_empty(), "{:?}", service.stalls());
    service.stop().await.expect("stops");
}

/// What is parked of a topic that is gone is tried again when it is due: it is in the store.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_of_a_topic_that_is_gone_goes_on() {
    let world = World::new(1);
    let absent = AbsentEngine::around(world.engine("memory:").await.expect("opens"));
    let engine: Arc<dyn Engine> = absent.clone();
    let script = Script::default();
    script.fail_times("a:1", 1);
    let app = App::new("test").engine(EngineChoice::from(engine)).partitions(1).in_world(&world);
    let app = app.store(Sqlite::connect("sqlite::memory:").await.expect("opens")).state(script.clone());
    let hearing = Subscription::named("hearing").at_least_once().retry(Retry::every(seconds(10))).on(hear);
    let service = app.subscribe(hearing).build().await.expect("fits together");
    let mut service = service.start().await.expect("starts");
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:1"]);

    absent.lose_topics();
    assert_eq!(until_stalled(&service).await.reason, StallReason::NoTopic);
    world.advance(seconds(10));
    until(|| script.called().len() == 2).await;

    absent.find_topics();
    service.publisher().publish(&counted("a", 2)).await.expect("is taken");
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:1", "a:1", "a:2"]);
    service.stop().await.expect("stops");
}

/// Symptom: a consumer that begins with the newest event skipped what came into a topic that was deleted and made anew
/// before the consumer had noticed. Cause: with its topic the engine forgets how far a group is, and the consumer began
/// as one that had never been there. Fix: to one that was there all of such a topic is new.
#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_topic_that_was_made_anew_is_new() {
    let world = World::new(1);
    let absent = AbsentEngine::around(world.engine("memory:").await.expect("opens"));
    let engine: Arc<dyn Engine> = absent.clone();
    let script = Script::default();
    let hearing = Subscription::named("hearing").at_least_once().when_exhausted(Exhausted::Skip);
    let hearing = hearing.start_from(StartFrom::Newest).on(hear);
    let app = App::new("test").engine(EngineChoice::from(engine)).partitions(1).in_world(&world);
    let service = app.state(script.clone()).subscribe(hearing).build().await.expect("fits together");
    let mut service = service.start().await.expect("starts");
    service.settle().await.expect("settles");
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    service.settle().await.expect("settles");

    absent.lose_topics();
    assert_eq!(until_stalled(&service).await.reason, StallReason::NoTopic);
    // The first event stands for one of another topic: nobody knows that it was handled.
    absent.forget_progress();
    absent.find_topics();
    until(|| script.called() == ["a:1", "a:1"]).await;
    service.publisher().publish(&counted("a", 2)).await.expect("is taken");
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:1", "a:1", "a:2"]);
    service.stop().await.expect("stops");
}

/// Symptom: a service with nothing to do said for ever that the engine did not keep how far it was, and without a store
/// its last events came again after the next start. Cause: the engine heard of it once more with the next event only.
/// Fix: it hears of it again.
#[tokio::test(flavor = "multi_thread")]
async fn progress_that_was_not_kept_is_handed_over_again() {
    let world = World::new(1);
    let absent = AbsentEngine::around(world.engine("memory:").await.expect("opens"));
    let engine: Arc<dyn Engine> = absent.clone();
    let script = Script::default();
    let hearing = Subscription::named("hearing").at_least_once().when_exhausted(Exhausted::Skip).on(hear);
    let app = App::new("test").engine(EngineChoice::from(engine)).partitions(1).in_world(&world);
    let service = app.state(script.clone()).subscribe(hearing).build().await.expect("fits together");
    let mut service = service.start().await.expect("starts");
    service.settle().await.expect("settles");
    absent.keep_progress(false);
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    let stall = until_stalled(&service).await;
    assert_eq!((stall.consumer.as_deref(), stall.reason), (Some("hearing"), StallReason::ProgressUnkept));
    absent.keep_progress(true);
    until(|| service.stalls().is_empty()).await;
    let partition = Partition::new("test.counted", 0);
    let committed = absent.committed("hearing".to_owned(), vec![partition]).await.expect("says");
    assert_eq!(committed, [Some(1)]);
    service.stop().await.expect("stops");
}

/// A service without a store that has handled `a:1`, which the engine has not kept, and that has heard since that the topic
/// is gone. The engine would keep it now.
async fn unkept_without_a_topic(
    absent: &Arc<AbsentEngine>,
    world: &World,
    script: &Script,
) -> Running<NoStore> {
    let engine: Arc<dyn Engine> = absent.clone();
    let hearing = Subscription::named("hearing").at_least_once().when_exhausted(Exhausted::Skip).on(hear);
    let app = App::new("test").engine(EngineChoice::from(engine)).partitions(1).in_world(world);
    let service = app.state(script.clone()).subscribe(hearing).build().await.expect("fits together");
    let mut service = service.start().await.expect("starts");
    service.settle().await.expect("settles");
    absent.keep_progress(false);
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    assert_eq!(until_stalled(&service).await.reason, StallReason::ProgressUnkept);
    absent.lose_topics();
    until(|| service.stalls().iter().any(|stall| stall.reason == StallReason::NoTopic)).await;
    absent.keep_progress(true);
    service
}

/// Symptom: without a store a service handled its last events again where its engine had not known a topic for a moment.
/// Cause: how far it was in a topic that is gone was dropped, also where that was back. Fix: where the last event is still
/// where it was, the service goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_handled_counts_where_a_topic_was_gone_for_a_moment() {
    let world = World::new(1);
    let absent = AbsentEngine::around(world.engine("memory:").await.expect("opens"));
    let script = Script::default();
    let mut service = unkept_without_a_topic(&absent, &world, &script).await;
    absent.find_topics();
    until(|| service.stalls().is_empty()).await;
    service.publisher().publish(&counted("a", 2)).await.expect("is taken");
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:1", "a:2"]);
    service.stop().await.expect("stops");
    let partition = Partition::new("test.counted", 0);
    let committed = absent.committed("hearing".to_owned(), vec![partition]).await.expect("says");
    assert_eq!(committed, [Some(2)]);
}

/// The same, where the service ends as soon as the topic is back.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_handled_counts_where_a_topic_is_back_at_the_end() {
    let world = World::new(1);
    let absent = AbsentEngine::around(world.engine("memory:").await.expect("opens"));
    let service = unkept_without_a_topic(&absent, &world, &Script::default()).await;
    absent.find_topics();
    service.stop().await.expect("stops");
    let partition = Partition::new("test.counted", 0);
    let committed = absent.committed("hearing".to_owned(), vec![partition]).await.expect("says");
    assert_eq!(committed, [Some(1)]);
}

/// Symptom: without a store a service skipped the first events of a topic that was deleted and made anew before it had
/// noticed. Cause: how far it was in the old one was kept for the new one, by its name. Fix: it is kept for the topic that
/// was taken over, where the engine can tell, and the service hears that this one is gone.
#[tokio::test(flavor = "multi_thread")]
async fn progress_is_not_kept_for_another_topic_of_its_name() {
    let world = World::new(1);
    let absent = AbsentEngine::around(world.engine("memory:").await.expect("opens"));
    let engine: Arc<dyn Engine> = absent.clone();
    let script = Script::default();
    let hearing = Subscription::named("hearing").at_least_once().when_exhausted(Exhausted::Skip).on(hear);
    let app = App::new("test").engine(EngineChoice::from(engine)).partitions(1).in_world(&world);
    let service = app.state(script.clone()).subscribe(hearing).build().await.expect("fits together");
    let mut service = service.start().await.expect("starts");
    service.settle().await.expect("settles");
    absent.keep_progress(false);
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    assert_eq!(until_stalled(&service).await.reason, StallReason::ProgressUnkept);
    // No read says so.
    absent.forget_progress();
    absent.keep_progress(true);
    until(|| script.called() == ["a:1", "a:1"]).await;
    service.publisher().publish(&counted("a", 2)).await.expect("is taken");
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:1", "a:1", "a:2"]);
    assert!(service.stalls().is_empty(), "it is kept for the new one: {:?}", service.stalls());
    service.stop().await.expect("stops");
}

/// Symptom: without a store the last events of a service came again after its restart, although the engine was back before
/// the service ended. Cause: what the engine had not kept waited for its next try, and the service ended before. Fix: it
/// is handed over at the end as well.
#[tokio::test(flavor = "multi_thread")]
async fn progress_that_was_not_kept_is_handed_over_at_the_end() {
    let world = World::new(1);
    let absent = AbsentEngine::around(world.engine("memory:").await.expect("opens"));
    let engine: Arc<dyn Engine> = absent.clone();
    let hearing = Subscription::named("hearing").at_least_once().when_exhausted(Exhausted::Skip).on(hear);
    let app = App::new("test").engine(EngineChoice::from(engine)).partitions(1).in_world(&world);
    let service = app.state(Script::default()).subscribe(hearing).build().await.expect("fits together");
    let mut service = service.start().await.expect("starts");
    service.settle().await.expect("settles");
    absent.keep_progress(false);
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    assert_eq!(until_stalled(&service).await.reason, StallReason::ProgressUnkept);
    absent.keep_progress(true);
    service.stop().await.expect("stops");
    let partition = Partition::new("test.counted", 0);
    let committed = absent.committed("hearing".to_owned(), vec![partition]).await.expect("says");
    assert_eq!(committed, [Some(1)]);
}

/// Symptom: a new consumer that begins with the newest event handled all that had ever been in an old topic. Cause: the
/// engine did not know the topic when the consumer took it over, as a broker that has just started may not, and what
/// came under its name counted as made anew. Fix: only what was taken over before can have gone.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_topic_that_is_not_known_yet_is_not_new() {
    let world = World::new(1);
    let inner = world.engine("memory:").await.expect("opens");
    let app = App::new("test").engine(inner.clone()).partitions(1).in_world(&world);
    let earlier = Subscription::named("earlier").at_least_once().when_exhausted(Exhausted::Skip).on(hear);
    let earlier = app.state(Script::default()).subscribe(earlier).build().await.expect("fits together");
    let mut earlier = earlier.start().await.expect("starts");
    earlier.publisher().publish(&counted("a", 1)).await.expect("is taken");
    earlier.settle().await.expect("settles");

    let absent = AbsentEngine::around(inner);
    absent.lose_topics();
    let engine: Arc<dyn Engine> = absent.clone();
    let script = Script::default();
    let hearing = Subscription::named("hearing").at_least_once().when_exhausted(Exhausted::Skip);
    let hearing = hearing.start_from(StartFrom::Newest).on(hear);
    let app = App::new("test").engine(EngineChoice::from(engine)).partitions(1).in_world(&world);
    let service = app.state(script.clone()).subscribe(hearing).build().await.expect("fits together");
    let service = service.start().await.expect("starts");
    until(|| service.stalls().iter().any(|stall| stall.reason == StallReason::NoTopic)).await;
    absent.find_topics();
    until(|| service.stalls().is_empty()).await;
    earlier.publisher().publish(&counted("a", 2)).await.expect("is taken");
    until(|| !script.called().is_empty()).await;
    assert_eq!(script.called(), ["a:2"]);
    service.stop().await.expect("stops");
    earlier.stop().await.expect("stops");
}

/// Symptom: a consumer stood still for minutes behind each change of its group while one broker of several did not answer.
/// Cause: its loop waited for what the engine says of partitions that others have now. Fix: it goes on meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_for_what_was_taken_away_holds_nobody_up() {
    let world = World::new(1);
    let inner = world.engine("memory:").await.expect("opens");
    let absent = AbsentEngine::around(inner.clone());
    let engine: Arc<dyn Engine> = absent.clone();
    let script = Script::default();
    let hearing = || Subscription::named("hearing").at_least_once().when_exhausted(Exhausted::Skip).on(hear);
    let app = App::new("test").engine(EngineChoice::from(engine)).partitions(2).in_world(&world);
    let first = app.state(script.clone()).subscribe(hearing()).build().await.expect("fits together");
    let mut first = first.start().await.expect("starts");
    first.settle().await.expect("settles");

    absent.say_no_ends();
    let app = App::new("test").engine(inner).partitions(2).in_world(&world);
    let second = app.state(script.clone()).subscribe(hearing()).build().await.expect("fits together");
    let second = second.start().await.expect("starts");
    until(|| absent.waiting() > 0).await;
    for n in 0..16 {
        second.publisher().publish(&counted(&format!("key-{n}"), n)).await.expect("is taken");
    }
    until(|| script.called().len() == 16).await;
    second.stop().await.expect("stops");
    first.stop().await.expect("stops");
}

/// Symptom: a consumer stood still for minutes while one broker of several did not answer, where it was to take one of that
/// broker's partitions over again. Cause: its loop waited for what the engine says of them, one after the other. Fix: each
/// is asked for beside the loop.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_for_a_partition_of_its_own_holds_nobody_up() {
    let world = World::new(1);
    let absent = AbsentEngine::around(world.engine("memory:").await.expect("opens"));
    let engine: Arc<dyn Engine> = absent.clone();
    let script = Script::default();
    let hearing = Subscription::named("hearing").at_least_once().when_exhausted(Exhausted::Skip).on(hear);
    let app = App::new("test").engine(EngineChoice::from(engine)).partitions(2).in_world(&world);
    let service = app.state(script.clone()).subscribe(hearing).build().await.expect("fits together");
    let mut service = service.start().await.expect("starts");
    service.settle().await.expect("settles");

    absent.lose_topics();
    assert_eq!(until_stalled(&service).await.reason, StallReason::NoTopic);
    absent.say_no_ends();
    absent.find_topics();
    until(|| absent.waiting() > 0).await;
    for n in 0..16 {
        service.publisher().publish(&counted(&format!("key-{n}"), n)).await.expect("is taken");
    }
    until(|| script.called().len() == 16).await;
    service.stop().await.expect("stops");
}
