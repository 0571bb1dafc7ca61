//! A service without a store: nothing is parked, effects may repeat, and it still keeps its order.

use std::sync::Arc;
use std::time::Duration;

use courant::engine::{Engine, Partition, ReadBack};
use courant::prelude::*;
use courant::testkit::{World, published};
use courant::{NoStore, Running, StartFrom};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::common::{Counted, Loose, Script, counted, seconds};

async fn hear(
    event: Counted,
    State(script): State<Script>,
    publisher: Publisher,
) -> Result<Option<Loose>, HandlerError> {
    let what = format!("{}:{}", event.key, event.n);
    script.call(&event.key, &what).map_err(HandlerError::retry)?;
    publisher.publish(&Loose { n: 100 + event.n }).await?;
    Ok((event.n == 1).then_some(Loose { n: 1 }))
}

async fn start(
    world: &World,
    engine: &Arc<dyn Engine>,
    script: &Script,
    retry: Retry,
    exhausted: Exhausted,
) -> Running<NoStore> {
    let hearing =
        Subscription::named("hearing").at_least_once().retry(retry).when_exhausted(exhausted).on(hear);
    let app = App::new("test").engine(engine.clone()).partitions(1).in_world(world).state(script.clone());
    let service = app.subscribe(hearing).build().await.expect("fits together");
    service.start().await.expect("starts")
}

/// A failing event is tried again where it is: its key waits, others go on, and progress waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_tried_again_where_it_is() {
    let world = World::new(1);
    let engine = world.engine("memory:").await.expect("opens");
    let script = Script::default();
    script.fail_times("a:1", 2);
    let retry = Retry::every(seconds(10));
    let mut service = start(&world, &engine, &script, retry, Exhausted::Skip).await;
    for event in [counted("a", 1), counted("a", 2), counted("b", 1)] {
        service.publisher().publish(&event).await.expect("publishes");
    }
    service.settle().await.expect("settles");
    let mut called = script.called();
    called.sort_unstable();
    assert_eq!(called, ["a:1", "b:1"]);
    for _ in 0..2 {
        world.advance(seconds(10));
        service.settle().await.expect("settles");
    }
    let of_a: Vec<_> = script.called().into_iter().filter(|what| what.starts_with('a')).collect();
    assert_eq!(of_a, ["a:1", "a:1", "a:1", "a:2"]);
    let mut loose: Vec<u32> =
        published::<Loose>(&*engine).await.expect("reads").iter().map(|one| one.n).collect();
    loose.sort_unstable();
    assert_eq!(loose, [1, 1, 101, 101, 102]);
    service.stop().await.expect("stops");

    // What was handled does not come again: progress is what the engine keeps for the group.
    let before = script.called().len();
    let mut service = start(&world, &engine, &script, retry, Exhausted::Skip).await;
    service.settle().await.expect("settles");
    assert_eq!(script.called().len(), before);
    service.stop().await.expect("stops");
}

/// Symptom: what was published while a service was down that had handled nothing yet was never handled. Cause: where
/// it had begun was kept with its first event, and until then it began at the end of the moment each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_begins_at_the_end_misses_nothing_after_that() {
    let world = World::new(1);
    let engine = world.engine("memory:").await.expect("opens");
    let late = async |script: &Script| {
        let late = Subscription::named("late").at_least_once().when_exhausted(Exhausted::Skip);
        let late = late.start_from(StartFrom::Newest).on(hear);
        let app = App::new("test").engine(engine.clone()).partitions(1).in_world(&world);
        let service = app.state(script.clone()).subscribe(late).build().await.expect("fits together");
        let mut service = service.start().await.expect("starts");
        service.settle().await.expect("settles");
        service
    };
    let service = late(&Script::default()).await;
    let publisher = service.publisher();
    service.stop().await.expect("stops");
    publisher.publish(&counted("a", 2)).await.expect("publishes");

    let script = Script::default();
    let service = late(&script).await;
    assert_eq!(script.called(), ["a:2"]);
    service.stop().await.expect("stops");
}

/// Begins, and comes to no end.
async fn stay(event: Counted, State(begun): State<UnboundedSender<u32>>) -> Result<(), HandlerError> {
    begun.send(event.n).map_err(HandlerError::retry)?;
    std::future::pending().await
}

/// Half a minute is what handlers have at first: a test that waits for less sees that they have not.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_takes_no_longer_than_was_said_and_what_was_under_way_comes_again() {
    let world = World::new(1);
    let engine = world.engine("memory:").await.expect("opens");
    let (begun, mut begins) = unbounded_channel();
    for time in 1..=2 {
        let staying = Subscription::named("staying").at_least_once().when_exhausted(Exhausted::Skip).on(stay);
        let app = App::new("test").engine(engine.clone()).partitions(1).in_world(&world).state(begun.clone());
        let service = app.stop_within(Duration::from_millis(200)).subscribe(staying).build().await;
        let service = service.expect("fits together").start().await.expect("starts");
        if time == 1 {
            service.publisher().publish(&counted("a", 1)).await.expect("publishes");
        }
        assert_eq!(begins.recv().await, Some(1));
        let stopped = tokio::time::timeout(seconds(20), service.stop()).await;
        stopped.expect("it ends in time").expect("stops");
    }
}

/// Symptom: a service with an event that failed took half a minute to end, and then gave it up. Cause: what waits for its
/// next attempt counted as under way. Fix: that is left at once, and comes again at the next start.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_waits_for_its_next_attempt_holds_up_no_end() {
    let world = World::new(1);
    let engine = world.engine("memory:").await.expect("opens");
    let script = Script::default();
    script.fail("a");
    let retry = Retry::every(seconds(60));
    let mut service = start(&world, &engine, &script, retry, Exhausted::Block).await;
    for event in [counted("a", 1), counted("b", 1)] {
        service.publisher().publish(&event).await.expect("publishes");
    }
    service.settle().await.expect("settles");
    let stopped = tokio::time::timeout(seconds(20), service.stop()).await;
    stopped.expect("it ends in time").expect("stops");

    script.repair("a");
    let mut service = start(&world, &engine, &script, retry, Exhausted::Block).await;
    service.settle().await.expect("settles");
    assert_eq!(script.called().iter().filter(|what| *what == "a:1").count(), 2);
    service.stop().await.expect("stops");
}

/// Symptom: whoever joined a service in which an event failed had to wait for 20 seconds for its partitions, and the event
/// was tried again where its partition had been as well as where it was. The same cause, and the same fix.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_waits_for_its_next_attempt_goes_with_its_partition() {
    let world = World::new(1);
    let engine = world.engine("memory:").await.expect("opens");
    let sharing = async |script: &Script| {
        let hearing = Subscription::named("hearing").at_least_once().when_exhausted(Exhausted::Block);
        let hearing = hearing.retry(Retry::every(seconds(60))).on(hear);
        let app = App::new("test").engine(engine.clone()).partitions(2).in_world(&world);
        let service = app.state(script.clone()).subscribe(hearing).build().await.expect("fits together");
        service.start().await.expect("starts")
    };
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let (first, second) = (Script::default(), Script::default());
    keys.iter().for_each(|key| first.fail(key));
    let mut one = sharing(&first).await;
    for key in keys {
        one.publisher().publish(&counted(key, 1)).await.expect("publishes");
    }
    one.settle().await.expect("settles");
    assert_eq!(first.called().len(), keys.len());

    let other = sharing(&second).await;
    let of_both = |from: usize| [&first.called()[from..], &second.called()[..]].concat();
    // Nothing settles that has a part of the partitions.
    let until = async |is_so: &dyn Fn() -> bool| {
        let waiting = async {
            while !is_so() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(seconds(15), waiting).await.expect("it is so in time");
    };
    until(&|| !second.called().is_empty()).await;
    world.advance(seconds(60));
    until(&|| keys.iter().all(|key| of_both(keys.len()).contains(&format!("{key}:1")))).await;
    let (again, moved) = (first.called().split_off(keys.len()), second.called());
    assert!(!again.is_empty() && again.iter().all(|what| !moved.contains(what)), "{again:?}, {moved:?}");
    one.stop().await.expect("stops");
    other.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_published_and_its_key_goes_on() {
    let world = World::new(1);
    let engine = world.engine("memory:").await.expect("opens");
    let script = Script::default();
    script.fail_times("a:1", 1);
    let mut service = start(&world, &engine, &script, Retry::never(), Exhausted::DeadLetter).await;
    for event in [counted("a", 1), counted("a", 2)] {
        service.publisher().publish(&event).await.expect("publishes");
    }
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:1", "a:2"]);
    let copy = Partition::new("test.counted.hearing.dlq", 0).at(0);
    let read = engine.read(vec![copy]).await.pop().expect("an answer").expect("reads");
    let ReadBack::Found(copy) = read else { panic!("there is a copy") };
    let error = copy.header("courant-dead-error").and_then(|header| header.value.clone());
    assert_eq!(error.as_deref(), Some(&b"a:1 is to fail"[..]));
    service.stop().await.expect("stops");
}

/// D1 without a store: passed after its last attempt. Its key goes on, and it does not come again.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_passed_lets_its_key_go_on() {
    let world = World::new(1);
    let engine = world.engine("memory:").await.expect("opens");
    let script = Script::default();
    script.fail_times("a:1", 2);
    let retry = Retry::every(seconds(10)).attempts(2);
    let mut service = start(&world, &engine, &script, retry, Exhausted::Skip).await;
    for event in [counted("a", 1), counted("a", 2)] {
        service.publisher().publish(&event).await.expect("publishes");
    }
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:1"], "the other one waits behind it");
    world.advance(seconds(10));
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:1", "a:1", "a:2"]);
    service.stop().await.expect("stops");

    let mut service = start(&world, &engine, &script, retry, Exhausted::Skip).await;
    service.settle().await.expect("settles");
    assert_eq!(script.called().len(), 3, "nothing comes again");
    service.stop().await.expect("stops");
}

/// An event that blocks is tried for ever, and the progress of its partition waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_blocks_holds_progress() {
    let world = World::new(1);
    let engine = world.engine("memory:").await.expect("opens");
    let script = Script::default();
    script.fail("a");
    let retry = Retry::every(seconds(1)).attempts(2);
    let mut service = start(&world, &engine, &script, retry, Exhausted::Block).await;
    for event in [counted("a", 1), counted("b", 1)] {
        service.publisher().publish(&event).await.expect("publishes");
    }
    service.settle().await.expect("settles");
    for _ in 0..5 {
        world.advance(seconds(1));
        service.settle().await.expect("settles");
    }
    let tried = script.called().iter().filter(|what| *what == "a:1").count();
    assert_eq!(tried, 6);
    service.kill().await;
    let partition = Partition::new("test.counted", 0);
    let committed = engine.committed("hearing".to_owned(), vec![partition]).await.expect("answers");
    assert_eq!(committed[0].unwrap_or(0), 0, "nothing is passed");
}
