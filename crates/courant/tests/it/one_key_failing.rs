//! One key fails for ever, and the other 99 do not notice: not in what happens, not in its order, and not
//! by a millisecond.

use std::sync::{Arc, Mutex};

use courant::prelude::*;
use courant::testkit::World;

use crate::common::{Counted, Site, counted, effect, effects, of_key, publish, seconds};

const KEYS: u32 = 100;
const ROUNDS: u32 = 4;
/// The clock moves on by this much at a time, and by this many of them between two rounds.
const STEP_S: u64 = 7;
const STEPS: u32 = 5;
const BAD: &str = "key-0";

/// One call of a handler: when, for which key, which of its events.
type Call = (i64, String, u32);

/// What the handler of a run does, and when it was called.
#[derive(Clone)]
struct Recorder {
    world: World,
    is_failing: bool,
    calls: Arc<Mutex<Vec<Call>>>,
}

async fn record(
    event: Counted,
    State(recorder): State<Recorder>,
    mut tx: Tx<Sqlite>,
) -> Result<(), HandlerError> {
    let call = (recorder.world.now_ms(), event.key.clone(), event.n);
    recorder.calls.lock().expect("nobody panics with it").push(call);
    effect(&mut tx, format!("{}:{}", event.key, event.n)).await?;
    if recorder.is_failing && event.key == BAD {
        return Err(HandlerError::retry("it fails for ever"));
    }
    Ok(())
}

/// The calls of one run, in their order, and its effects.
async fn schedule(concurrency: usize, is_failing: bool) -> (Vec<Call>, Vec<String>) {
    let site = Site::memory().await;
    let recorder = Recorder { world: site.world.clone(), is_failing, calls: Arc::default() };
    let retry = Retry::exponential(seconds(1), seconds(30)).without_jitter().attempts(1_000);
    let recording = Subscription::named("recording").concurrency(concurrency).retry(retry).on(record);
    let service = site.app().await.state(recorder.clone()).subscribe(recording).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    for round in 1..=ROUNDS {
        publish(&service, (0..KEYS).map(|key| counted(&format!("key-{key}"), round))).await;
        service.settle().await.expect("settles");
        for _ in 0..STEPS {
            site.advance(&mut service, seconds(STEP_S)).await;
        }
    }
    let effects = effects(service.store()).await;
    service.stop().await.expect("stops");
    let calls = recorder.calls.lock().expect("nobody panics with it").clone();
    (calls, effects)
}

/// What `calls` say of the keys that do not fail.
fn of_others(calls: &[Call]) -> Vec<Call> {
    calls.iter().filter(|(_, key, _)| key != BAD).cloned().collect()
}

/// The run with a failing key is one in which that key has failed again and again, and all its later
/// events have waited: otherwise there was nothing to notice.
fn assert_failing(calls: &[Call], effects: &[String]) {
    let bad: Vec<_> = calls.iter().filter(|(_, key, _)| key == BAD).collect();
    assert!(bad.len() > 5, "{bad:?}");
    assert!(bad.iter().all(|(_, _, n)| *n == 1), "its first event is in the way: {bad:?}");
    assert!(of_key(effects, BAD).is_empty());
}

/// With one event at a time there is one order of all calls, and it is the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_of_the_other_keys_is_identical_one_at_a_time() {
    let (healthy, healthy_effects) = schedule(1, false).await;
    let (failing, effects) = schedule(1, true).await;
    assert_failing(&failing, &effects);
    assert_eq!(healthy.len(), (KEYS * ROUNDS) as usize);
    assert_eq!(healthy_effects.len(), healthy.len());
    assert_eq!(of_others(&failing), of_others(&healthy));
}

/// With many at a time nothing orders different keys; each key has its calls at the same instants.
#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_of_each_other_key_is_identical_many_at_a_time() {
    let by_key = |calls: &[Call]| {
        let mut calls = of_others(calls);
        // Stable: the calls of a key stay in their order.
        calls.sort_by(|(_, one, _), (_, other, _)| one.cmp(other));
        calls
    };
    let (healthy, _) = schedule(16, false).await;
    let (failing, effects) = schedule(16, true).await;
    assert_failing(&failing, &effects);
    assert_eq!(by_key(&failing), by_key(&healthy));
}
