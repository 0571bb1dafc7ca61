//! What a service says of itself, and the requests that it takes, while its clock stands.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use courant::channel::{
    ANSWERS, Action, Answer, Change, OperationsKey, Outcome, ParkedChange, Refusal, Request, SERVICES,
    ServiceState, Signed, ToldLetter, Which, WhichParked, failure_name,
};
use courant::engine::{Engine, Header, NewRecord, ReadBack, Record};
use courant::prelude::*;
use courant::store_api::{
    Assignment, Consumer, DeadReason, DeadSummary, Decision, Failure, Store as _, Verdict,
};
use courant::testkit::{FaultPoint, World};
use courant::{EventId, Exhausted, Running};
use courant_core::consumer::ConsumerName;
use courant_core::position::TopicPartition;
use courant_core::topic::TopicName;
use tokio::sync::watch;

use crate::given::{Counted, counted, seconds};
use crate::server::Server;

const PATIENCE: std::time::Duration = seconds(60);

/// When the next state is said, whatever the one before it has cost: a state that has taken a second of the
/// machine's time is the last one for twenty of them, also where only a test moves the clock.
pub(crate) const A_WHILE: std::time::Duration = seconds(600);

/// Steps of so many seconds within which a change is said. All of them together are less than the time after which a
/// state is said again without one.
const STEPS: u32 = 4;
const STEP_S: u64 = 2;

/// So many times as long as a state has taken of the machine's time no other one is said, by the test's clock.
const BUSY_PARTS: u32 = 20;

/// Where a busy machine has taken so long that a state may be kept back, a test begins anew, in a world of its own. The
/// last one of so many is judged all the same.
const RUNS: u64 = 20;

/// Whether what was said since then keeps nothing back that is to be said in this time.
fn was_quick(since: Instant, time: std::time::Duration) -> bool {
    since.elapsed() * BUSY_PARTS < time
}

/// A door that handlers stand before.
#[derive(Clone)]
struct Gate {
    open: Arc<watch::Sender<bool>>,
    reached: Arc<watch::Sender<u32>>,
}

impl Gate {
    fn closed() -> Self {
        Self { open: Arc::new(watch::Sender::new(false)), reached: Arc::new(watch::Sender::new(0)) }
    }
}

/// Waits with the second event for the gate. The transaction is not held meanwhile.
async fn stand(event: Counted, State(gate): State<Gate>) -> Result<(), HandlerError> {
    gate.reached.send_replace(event.n);
    if event.n == 2 {
        gate.open.subscribe().wait_for(|open| *open).await?;
    }
    Ok(())
}

async fn fail(event: Counted) -> Result<(), HandlerError> {
    Err(HandlerError::retry(format!("the secret of {}", event.key)))
}

/// Everything in a topic of one partition.
async fn records(engine: &dyn Engine, topic: &str) -> Vec<Record> {
    let topic = TopicName::new(topic).expect("legal");
    let found = engine.topics(vec![topic]).await.expect("says").remove(0);
    let Some(found) = found else { return Vec::new() };
    let partition = found.all_partitions().next().expect("has one");
    let ends = engine.ends(vec![partition.clone()]).await.remove(0).expect("says");
    let all = (ends.start..ends.end).map(|offset| partition.at(offset)).collect();
    let read = engine.read(all).await.into_iter();
    read.filter_map(|read| match read.expect("reads") {
        ReadBack::Found(record) => Some(record),
        _ => None,
    })
    .collect()
}

/// What was said of the service, the newest last.
pub(crate) async fn states(engine: &dyn Engine) -> Vec<ServiceState> {
    let values = records(engine, SERVICES).await.into_iter().filter_map(|record| record.value);
    values.map(|value| ServiceState::read(&value).expect("a state")).collect()
}

/// Waits until the newest state is as it should be. Nobody else can be waited for while a handler stands.
async fn until(engine: &dyn Engine, is_so: impl Fn(&ServiceState) -> bool) -> ServiceState {
    let waiting = async {
        loop {
            match states(engine).await.pop() {
                Some(state) if is_so(&state) => return state,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(state) => state,
        Err(_) => panic!("the service says something else: {:?}", states(engine).await.pop()),
    }
}

/// G1: a consumer that has stood for 30 seconds is 30 seconds behind, and so many events.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_stands_for_30_seconds_is_30_seconds_behind() {
    for seed in 1..=RUNS {
        if Box::pin(is_30_seconds_behind(seed)).await {
            break;
        }
    }
}

/// One run. Whether the machine was quick enough for it.
async fn is_30_seconds_behind(seed: u64) -> bool {
    let world = World::new(seed);
    let began = Instant::now();
    let engine = world.engine("memory:").await.expect("opens");
    let gate = Gate::closed();
    let billing = Subscription::named("billing").at_least_once().timeout(seconds(3600)).concurrency(1);
    let mut service = App::new("shop")
        .engine(engine.clone())
        .in_world(&world)
        .announced()
        .version("2.1")
        .partitions(1)
        .store(Sqlite::connect("sqlite::memory:").await.expect("opens"))
        .state(gate.clone())
        .subscribe(billing.on(stand))
        .build()
        .await
        .expect("fits together")
        .start()
        .await
        .expect("starts");
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    service.settle().await.expect("settles");
    let first = states(&*engine).await.pop().expect("it has said that it is there");
    assert_eq!((first.service.as_str(), first.code_version.as_str()), ("shop", "2.1"));
    assert_eq!((first.engine.as_str(), first.store.as_deref()), ("memory", Some("SQLite")));
    assert!(!first.operations);

    world.advance(seconds(5));
    service.settle().await.expect("settles");
    if !was_quick(began, seconds(30)) && seed < RUNS {
        service.stop().await.expect("stops");
        return false;
    }
    for n in [2, 3] {
        service.publisher().publish(&counted("a", n)).await.expect("is taken");
    }
    gate.reached.subscribe().wait_for(|n| *n == 2).await.expect("the handler stands");
    world.advance(seconds(30));
    let behind = until(&*engine, |state| state.lag() == (2, 30)).await;
    let partition = &behind.subscriptions[0].partitions[0];
    assert_eq!((partition.next, partition.end), (1, Some(3)));

    gate.open.send_replace(true);
    service.settle().await.expect("settles");
    world.advance(A_WHILE);
    service.settle().await.expect("settles");
    let done = states(&*engine).await.pop().expect("says");
    assert_eq!(done.lag(), (0, 0));
    assert_eq!(done.seen_ms, world.now_ms());
    service.stop().await.expect("stops");
    let last = records(&*engine, SERVICES).await.pop().expect("says");
    assert_eq!(last.key.as_deref(), Some(done.instance.as_bytes()));
    assert_eq!(last.value, None, "the instance has ended in order");
    true
}

/// However much happens, it is said once in two seconds at most; what has happened is said then, and none of
/// it is what events or errors say.
#[tokio::test(flavor = "multi_thread")]
async fn many_changes_are_said_once() {
    for seed in 1..=RUNS {
        if Box::pin(changes_are_said_once(seed)).await {
            break;
        }
    }
}

/// One run. Whether the machine was quick enough for it.
async fn changes_are_said_once(seed: u64) -> bool {
    let world = World::new(seed);
    let engine = world.engine("memory:").await.expect("opens");
    let billing = Subscription::named("billing").retry(Retry::never()).when_exhausted(Exhausted::DeadLetter);
    let service = App::new("shop")
        .engine(engine.clone())
        .in_world(&world)
        .announced()
        .store(Sqlite::connect("sqlite::memory:").await.expect("opens"))
        .subscribe(billing.on(fail))
        .build()
        .await
        .expect("fits together");
    let began = Instant::now();
    let mut service = service.start().await.expect("starts");
    service.settle().await.expect("settles");
    if !was_quick(began, seconds(u64::from(STEPS) * STEP_S)) && seed < RUNS {
        service.stop().await.expect("stops");
        return false;
    }
    for n in 0..50 {
        service.publisher().publish(&counted(&format!("canary-{n}"), n)).await.expect("is taken");
    }
    service.settle().await.expect("settles");
    let mut said = states(&*engine).await;
    assert_eq!(said.len(), 1, "it has said that it is there");
    // Two seconds are enough unless the first state has cost some of the machine's time.
    for _ in 0..STEPS {
        world.advance(seconds(STEP_S));
        service.settle().await.expect("settles");
        said = states(&*engine).await;
        if said.len() > 1 {
            break;
        }
    }
    assert_eq!(said.len(), 2, "the changes are said once");
    let dead = said[1].subscriptions[0].dead.as_ref().expect("there is a store");
    assert_eq!((dead.letters, dead.failures.len()), (50, 1));
    for record in records(&*engine, SERVICES).await {
        let text = String::from_utf8(record.value.expect("a state").to_vec()).expect("text");
        assert!(!text.contains("canary") && !text.contains("secret"), "{text}");
    }
    world.advance(seconds(9));
    service.settle().await.expect("settles");
    assert_eq!(states(&*engine).await.len(), 2, "nothing has changed");
    service.stop().await.expect("stops");
    true
}

pub(crate) fn key() -> OperationsKey {
    OperationsKey::new("a key of the tests: 32 bytes or more").expect("long enough")
}

fn discard(id: &str, letter: i64, expires_ms: i64) -> Signed {
    discard_those(id, Which { letters: vec![letter], ..Which::default() }, expires_ms)
}

fn discard_those(id: &str, which: Which, expires_ms: i64) -> Signed {
    let request = Request {
        version: 1,
        id: id.to_owned(),
        service: "shop".to_owned(),
        actor: "grace".to_owned(),
        expires_ms,
        action: Action::Discard(Change { which, reason: "paid by hand".to_owned(), dry_run: false }),
    };
    Signed::new(&request, &key())
}

pub(crate) async fn asked(world: &World, engine: &Arc<dyn Engine>, database: &Path) -> Running<Sqlite> {
    crate::planted::as_asked();
    let billing = Subscription::named("billing").retry(Retry::never());
    let service = App::new("shop")
        .engine(engine.clone())
        .in_world(world)
        .operations(key())
        .partitions(1)
        .store(Sqlite::open(database).await.expect("opens"))
        .subscribe(billing.on(fail))
        .build()
        .await
        .expect("fits together");
    service.start().await.expect("starts")
}

async fn ask(service: &Running<Sqlite>, id: &str, signed: &Signed) {
    let id = EventId::new(id).expect("legal");
    service.publisher().publish_as(&id, signed).await.expect("is taken");
}

async fn answers(engine: &dyn Engine) -> Vec<Answer> {
    let values = records(engine, ANSWERS).await.into_iter().filter_map(|record| record.value);
    values.map(|value| serde_json::from_slice(&value).expect("an answer")).collect()
}

/// Killed between what a request asks for and the note of it: the request is taken again, has no second
/// effect, and is answered once, as if nothing had been.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_followed_once_whatever_is_killed() {
    let world = World::new(3);
    let directory = tempfile::tempdir().expect("a directory");
    let database = directory.path().join("shop.db");
    let engine = world.engine("memory:").await.expect("opens");
    let mut service = asked(&world, &engine, &database).await;
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    service.settle().await.expect("settles");
    let letter = service.dead_letters().list().await.expect("lists")[0].id;
    world.crash_at(FaultPoint::AfterHandler, 0);
    ask(&service, "r-1", &discard("r-1", letter, world.now_ms() + 60_000)).await;
    world.crashed(1).await;
    service.kill().await;
    assert!(answers(&*engine).await.is_empty());

    let mut service = asked(&world, &engine, &database).await;
    service.settle().await.expect("settles");
    let notes = service.dead_letters().notes(letter).await.expect("lists");
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!((notes[0].by.as_str(), notes[0].reason.as_str()), ("grace", "paid by hand"));
    let said = answers(&*engine).await;
    assert_eq!(said.len(), 1, "{said:?}");
    let Outcome::Decided { letters, others, .. } = &said[0].outcome else { panic!("{said:?}") };
    assert_eq!((letters[0].letter, letters.len(), others.len()), (letter, 1, 0));
    service.stop().await.expect("stops");
}

/// Symptom: a service did not start on a log that was replaced where a request to it had waited for another attempt,
/// and nobody could help it. Cause: what waits is in the way of where to begin, and the consumer of requests has
/// neither settings nor letters. Fix: requests of another log give way.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_keeps_no_service_from_another_log() {
    let world = World::new(5);
    let directory = tempfile::tempdir().expect("a directory");
    let database = directory.path().join("shop.db");
    let engine = world.engine("memory:").await.expect("opens");
    let mut service = asked(&world, &engine, &database).await;
    ask(&service, "r-1", &discard("r-1", 1, world.now_ms() + 60_000)).await;
    service.settle().await.expect("settles");
    assert_eq!(answers(&*engine).await.len(), 1);
    service.stop().await.expect("stops");

    let name = ConsumerName::new("_courant.ops.shop").expect("legal");
    let topic = TopicName::new("_courant.ops").expect("legal");
    let assignment = Assignment {
        consumer: Consumer { name, generation: 1 },
        partition: TopicPartition { topic, partition: 0 },
    };
    let store = Sqlite::open(&database).await.expect("opens");
    let now_ms = world.now_ms();
    let lease = store.take_over(&assignment, "test", now_ms).await.expect("a lease");
    let waits = courant::store_api::Event {
        offset: 1,
        id: EventId::new("r-2").expect("legal"),
        key: None,
        value: None,
        headers: Vec::new(),
        timestamp_ms: now_ms,
    };
    store.park(&lease, &waits, &Failure::default(), 0, now_ms, now_ms).await.expect("parked");
    drop(store);

    let other = world.engine("memory:").await.expect("opens");
    let mut service = asked(&world, &other, &database).await;
    service.settle().await.expect("it begins there");
    ask(&service, "r-3", &discard("r-3", 1, world.now_ms() + 60_000)).await;
    service.settle().await.expect("settles");
    let said = answers(&*other).await;
    assert_eq!(said.iter().map(|answer| answer.request.as_str()).collect::<Vec<_>>(), ["r-3"]);
    let left = service.store().due(&assignment, i64::MAX, 10).await.expect("lists");
    assert!(left.is_empty(), "{left:?}");
    service.stop().await.expect("stops");
}

/// What a request was answered with in one part: the letters that were decided about.
fn decided(outcome: &Outcome) -> Vec<i64> {
    let Outcome::Decided { letters, others, .. } = outcome else { panic!("{outcome:?}") };
    assert!(others.is_empty(), "{others:?}");
    letters.iter().map(|letter| letter.letter).collect()
}

/// D5: killed in the middle of discarding all that failed for one reason, and once more before that was noted.
/// The request is taken again, and its answer tells of all letters, also of those that were decided about
/// before; none was decided about twice, and none of another failure at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_discard_of_a_whole_failure_is_followed_once_whatever_is_killed() {
    let world = World::new(7);
    let directory = tempfile::tempdir().expect("a directory");
    let database = directory.path().join("shop.db");
    let engine = world.engine("memory:").await.expect("opens");
    let mut service = asked(&world, &engine, &database).await;
    for n in 0..5 {
        service.publisher().publish(&counted(&format!("key-{n}"), n)).await.expect("is taken");
    }
    let headers = vec![Header::new("ce_type", "test.counted")];
    let no_event = NewRecord { headers, ..NewRecord::new("test.counted", "other", "no JSON") };
    for answer in engine.publish(vec![no_event]).await {
        answer.expect("publishes");
    }
    service.settle().await.expect("settles");
    let mut listed = service.dead_letters().list().await.expect("lists");
    listed.sort_unstable_by_key(|letter| letter.id);
    let (other, meant): (Vec<DeadSummary>, Vec<DeadSummary>) =
        listed.into_iter().partition(|letter| letter.reason == DeadReason::Undecodable);
    let ids: Vec<i64> = meant.iter().map(|letter| letter.id).collect();
    assert_eq!((ids.len(), other.len()), (5, 1));
    let (consumer, failure) = (meant[0].consumer.name.as_str(), &meant[0].failure);
    let group = failure_name(consumer, &failure.kind, &failure.place);
    let of_group = || Which { group: Some(group.clone()), ..Which::default() };

    // What a service leaves behind that is killed after some of them.
    let decision = Decision { verdict: Verdict::Discard, by: "grace", reason: "paid by hand" };
    let some = service.store().decide(&ids[..2], &decision, world.now_ms()).await.expect("decides");
    assert_eq!(some.len(), 2);
    world.crash_at(FaultPoint::AfterHandler, 0);
    ask(&service, "r-1", &discard_those("r-1", of_group(), world.now_ms() + 60_000)).await;
    world.crashed(1).await;
    service.kill().await;
    assert!(answers(&*engine).await.is_empty());

    let mut service = asked(&world, &engine, &database).await;
    service.settle().await.expect("settles");
    let said = answers(&*engine).await;
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(decided(&said[0].outcome), ids);
    let left = service.dead_letters().list().await.expect("lists");
    assert_eq!(left.iter().map(|letter| letter.id).collect::<Vec<_>>(), [other[0].id]);

    // The same from somebody who has not heard the answer, later: nothing is left to be decided about.
    world.advance(seconds(1));
    ask(&service, "r-2", &discard_those("r-2", of_group(), world.now_ms() + 60_000)).await;
    let all = Which { all: true, ..Which::default() };
    ask(&service, "r-3", &discard_those("r-3", all, world.now_ms() + 60_000)).await;
    service.settle().await.expect("settles");
    let said = answers(&*engine).await;
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(matches!(said[1].outcome, Outcome::NotFound { .. }), "{said:?}");
    assert_eq!(decided(&said[2].outcome), [other[0].id]);
    for id in ids {
        let notes = service.dead_letters().notes(id).await.expect("lists");
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert_eq!((notes[0].by.as_str(), notes[0].reason.as_str()), ("grace", "paid by hand"));
    }
    service.stop().await.expect("stops");
}

/// What nobody may have signed is refused, and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_may_have_signed_is_refused() {
    let world = World::new(8);
    let directory = tempfile::tempdir().expect("a directory");
    let engine = world.engine("memory:").await.expect("opens");
    let mut service = asked(&world, &engine, &directory.path().join("shop.db")).await;
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    service.settle().await.expect("settles");
    let request = Request {
        version: 1,
        id: "r-1".to_owned(),
        service: "shop".to_owned(),
        actor: "mallory".to_owned(),
        expires_ms: world.now_ms() + 60_000,
        action: Action::Discard(Change {
            which: Which { all: true, ..Which::default() },
            reason: "because".to_owned(),
            dry_run: false,
        }),
    };
    let other_key = OperationsKey::new("another key of the tests: 32 bytes or more").expect("long enough");
    ask(&service, "r-1", &Signed::new(&request, &other_key)).await;
    service.settle().await.expect("settles");
    let said = answers(&*engine).await;
    assert_eq!(said.len(), 1, "{said:?}");
    let refused = matches!(said[0].outcome, Outcome::Refused { why: Refusal::BadSignature, .. });
    assert!(refused, "{said:?}");
    assert_eq!(service.dead_letters().list().await.expect("lists").len(), 1);
    service.stop().await.expect("stops");
}

/// A request that has waited for too long is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_refused_when_its_time_is_over() {
    let world = World::new(4);
    let directory = tempfile::tempdir().expect("a directory");
    let engine = world.engine("memory:").await.expect("opens");
    let mut service = asked(&world, &engine, &directory.path().join("shop.db")).await;
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    service.settle().await.expect("settles");
    let letter = service.dead_letters().list().await.expect("lists")[0].id;
    let late = discard("r-1", letter, world.now_ms() + 60_000);
    world.advance(seconds(60));
    ask(&service, "r-1", &late).await;
    service.settle().await.expect("settles");
    let said = answers(&*engine).await;
    let refused = Outcome::Refused { why: Refusal::Expired, reason: Refusal::Expired.to_string() };
    assert_eq!(said.into_iter().map(|answer| answer.outcome).collect::<Vec<_>>(), [refused]);
    assert_eq!(service.dead_letters().list().await.expect("lists").len(), 1);
    service.stop().await.expect("stops");
}

/// Requests need a store, and an engine that does not let everybody write, unless somebody says that the
/// signature is enough.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_off_where_they_cannot_be_taken_safely() {
    let loose = || Subscription::named("billing").at_least_once().when_exhausted(Exhausted::Skip).on(fail);
    let refused = App::new("shop").engine("memory:").operations(key()).subscribe(loose()).build().await;
    let said = refused.expect_err("has no store").to_string();
    assert!(said.contains("no store") && said.contains("[operations-without-store]"), "{said}");

    let directory = tempfile::tempdir().expect("a directory");
    let Some(server) = Server::start(directory.path()) else { return };
    let on_server = async |key: OperationsKey| {
        let store = Sqlite::connect("sqlite::memory:").await.expect("opens");
        let app = App::new("shop").engine(server.url()).operations(key).store(store);
        app.subscribe(Subscription::named("billing").on(fail)).build().await.map(drop)
    };
    let said = on_server(key()).await.expect_err("everybody can write").to_string();
    assert!(said.contains("[operations-unguarded]") && said.contains("signature_is_enough"), "{said}");
    on_server(key().signature_is_enough()).await.expect("somebody has said so");
}

/// A request of somebody who has the key.
fn signed(world: &World, id: &str, action: Action) -> Signed {
    let request = Request {
        version: 1,
        id: id.to_owned(),
        service: "shop".to_owned(),
        actor: "grace".to_owned(),
        expires_ms: world.now_ms() + 60_000,
        action,
    };
    Signed::new(&request, &key())
}

/// Asks a service for something, and gives back the parts of its answer.
pub(crate) async fn answered(
    world: &World,
    engine: &dyn Engine,
    service: &mut Running<Sqlite>,
    id: &str,
    action: Action,
) -> Vec<Outcome> {
    ask(service, id, &signed(world, id, action)).await;
    service.settle().await.expect("settles");
    let answers = answers(engine).await.into_iter().filter(|answer| answer.request == id);
    answers.map(|answer| answer.outcome).collect()
}

/// Asks for letters, two at once, and gives them back with where the next ones begin.
async fn told(
    world: &World,
    engine: &dyn Engine,
    service: &mut Running<Sqlite>,
    id: &str,
    which: Which,
    (state, after): (Option<&str>, i64),
) -> (Vec<ToldLetter>, Option<i64>) {
    let action = Action::Letters { which, state: state.map(str::to_owned), after, limit: 2, notes: true };
    match answered(world, engine, service, id, action).await.pop() {
        Some(Outcome::Letters { letters, next }) => (letters, next),
        other => panic!("{other:?}"),
    }
}

fn numbers(letters: &[ToldLetter]) -> Vec<i64> {
    letters.iter().map(|letter| letter.letter).collect()
}

/// Letters are told page by page, also those that somebody has decided about, and without what their events
/// and their errors say.
#[tokio::test(flavor = "multi_thread")]
async fn letters_are_told_without_what_their_events_say() {
    let world = World::new(6);
    let directory = tempfile::tempdir().expect("a directory");
    let engine = world.engine("memory:").await.expect("opens");
    let mut service = asked(&world, &engine, &directory.path().join("shop.db")).await;
    for n in 0..3 {
        service.publisher().publish(&counted(&format!("canary-{n}"), n)).await.expect("is taken");
    }
    service.settle().await.expect("settles");
    let listed = service.dead_letters().list().await.expect("lists");
    let mut ids: Vec<i64> = listed.iter().map(|letter| letter.id).collect();
    ids.sort_unstable();
    assert_eq!(ids.len(), 3);
    let all = || Which { all: true, ..Which::default() };
    let dead = Some("dead");
    let (first, next) = told(&world, &*engine, &mut service, "r-1", all(), (dead, 0)).await;
    assert_eq!((numbers(&first), next), (ids[..2].to_vec(), Some(ids[1])));
    let (second, next) = told(&world, &*engine, &mut service, "r-2", all(), (dead, ids[1])).await;
    assert_eq!((numbers(&second), next), (ids[2..].to_vec(), None));
    assert_eq!((first[0].consumer.as_str(), first[0].state.as_str()), ("billing", "dead"));
    assert_eq!(first[0].notes, Some(Vec::new()));

    ask(&service, "r-3", &discard("r-3", ids[0], world.now_ms() + 60_000)).await;
    service.settle().await.expect("settles");
    let group = failure_name(&first[0].consumer, &first[0].error, &first[0].place);
    let of_group = || Which { group: Some(group.clone()), ..Which::default() };
    let (left, _) = told(&world, &*engine, &mut service, "r-4", of_group(), (dead, 0)).await;
    assert_eq!(numbers(&left), ids[1..]);
    let gone = Some("discarded");
    let (discarded, next) = told(&world, &*engine, &mut service, "r-5", of_group(), (gone, 0)).await;
    assert_eq!((numbers(&discarded), next), (ids[..1].to_vec(), None));
    let notes = discarded[0].notes.as_ref().expect("they were asked for");
    assert_eq!((notes[0].action.as_str(), notes[0].by.as_str()), ("discarded", "grace"));
    for record in records(&*engine, ANSWERS).await {
        let text = String::from_utf8(record.value.expect("an answer").to_vec()).expect("text");
        assert!(!text.contains("canary") && !text.contains("secret"), "{text}");
    }
    service.stop().await.expect("stops");
}

/// What is parked of a key, or of the whole partition, of the only consumer.
fn discard_parked(key: Option<&str>, dry_run: bool) -> Action {
    let which = WhichParked {
        consumer: "billing".to_owned(),
        generation: 1,
        topic: "test.counted".to_owned(),
        partition: 0,
        key: key.map(str::to_owned),
        all: key.is_none(),
    };
    let reason = "no orders any more".to_owned();
    Action::DiscardParked(ParkedChange { which, reason, dry_run, at_most: None })
}

/// The answer to a request of one that has lost a partition by it. It is not at rest before it has that back, in the
/// time of the machine.
async fn heard(engine: &dyn Engine, id: &str) -> Outcome {
    let waiting = async {
        loop {
            match answers(engine).await.into_iter().find(|answer| answer.request == id) {
                Some(answer) => return answer.outcome,
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the service answers")
}

/// Killed behind giving up what waits behind a letter, and before that was noted: the request is taken again, answers
/// for all that it has given up, and nothing of it happens twice. The letter that keeps the key parked stays.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_is_given_up_once_whatever_is_killed() {
    let world = World::new(9);
    let directory = tempfile::tempdir().expect("a directory");
    let database = directory.path().join("shop.db");
    let engine = world.engine("memory:").await.expect("opens");
    let mut service = asked(&world, &engine, &database).await;
    for (key, n) in [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2)] {
        service.publisher().publish(&counted(key, n)).await.expect("is taken");
    }
    service.settle().await.expect("settles");
    let letters = service.dead_letters().list().await.expect("lists").len();
    assert_eq!(letters, 2);
    let meant = answered(&world, &*engine, &mut service, "r-1", discard_parked(Some("a"), true)).await;
    assert_eq!(meant, [Outcome::GivenUp { events: 2, letters: 1, has_more: false }]);
    let meant = answered(&world, &*engine, &mut service, "r-2", discard_parked(None, true)).await;
    assert_eq!(meant, [Outcome::GivenUp { events: 3, letters: 2, has_more: false }]);

    world.crash_at(FaultPoint::AfterHandler, 0);
    ask(&service, "r-3", &signed(&world, "r-3", discard_parked(Some("a"), false))).await;
    world.crashed(1).await;
    service.kill().await;
    let service = asked(&world, &engine, &database).await;
    let given_up = heard(&*engine, "r-3").await;
    assert_eq!(given_up, Outcome::GivenUp { events: 2, letters: 1, has_more: false });
    for id in 1..=4 {
        let notes = service.dead_letters().notes(id).await.expect("lists");
        assert_eq!(notes.len(), usize::from(id > 2), "{id}: {notes:?}");
        assert!(
            notes.iter().all(|note| note.by == "grace" && note.reason == "no orders any more"),
            "{notes:?}"
        );
    }
    assert_eq!(service.dead_letters().list().await.expect("lists").len(), letters, "they stay");

    // As much later as it takes that the answer to another request is not taken for this one's.
    world.advance(seconds(1));
    ask(&service, "r-4", &signed(&world, "r-4", discard_parked(None, false))).await;
    assert_eq!(heard(&*engine, "r-4").await, Outcome::GivenUp { events: 1, letters: 2, has_more: false });
    world.advance(seconds(1));
    ask(&service, "r-5", &signed(&world, "r-5", discard_parked(None, false))).await;
    assert!(matches!(heard(&*engine, "r-5").await, Outcome::Conflict { .. }), "only letters are left");
    ask(&service, "r-6", &signed(&world, "r-6", discard_parked(Some("eve"), false))).await;
    assert!(matches!(heard(&*engine, "r-6").await, Outcome::NotFound { .. }), "nothing of the key is parked");
    service.stop().await.expect("stops");
}

/// Whoever means nothing, or a key and everything, or requests, is told so.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_is_not_given_up_by_accident() {
    let world = World::new(10);
    let directory = tempfile::tempdir().expect("a directory");
    let engine = world.engine("memory:").await.expect("opens");
    let mut service = asked(&world, &engine, &directory.path().join("shop.db")).await;
    let changed = |change: fn(&mut WhichParked)| {
        let Action::DiscardParked(mut asked) = discard_parked(Some("a"), false) else { panic!("it is one") };
        change(&mut asked.which);
        Action::DiscardParked(asked)
    };
    let nonsense = [
        changed(|which| which.key = None),
        changed(|which| which.all = true),
        changed(|which| which.consumer = "_courant.ops.shop".to_owned()),
        changed(|which| which.topic = "no topic".to_owned()),
    ];
    for (n, action) in nonsense.into_iter().enumerate() {
        let said = answered(&world, &*engine, &mut service, &format!("r-{n}"), action).await;
        let is_refused = matches!(said[..], [Outcome::Refused { why: Refusal::NotUnderstood, .. }]);
        assert!(is_refused, "{n}: {said:?}");
    }
    service.stop().await.expect("stops");
}

/// Where only letters are left there is nothing to give up, and nobody takes their partition over for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_with_nothing_to_give_up_is_left_to_its_owner() {
    let world = World::new(11);
    let directory = tempfile::tempdir().expect("a directory");
    let database = directory.path().join("shop.db");
    let engine = world.engine("memory:").await.expect("opens");
    let mut service = asked(&world, &engine, &database).await;
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    service.settle().await.expect("settles");
    let owners_before = owners(&database).await;
    for (id, key) in [("r-1", Some("a")), ("r-2", None)] {
        let said = answered(&world, &*engine, &mut service, id, discard_parked(key, false)).await;
        assert!(matches!(said[..], [Outcome::Conflict { .. }]), "{said:?}");
    }
    assert_eq!(owners(&database).await, owners_before, "the service has had it all the time");
    service.stop().await.expect("stops");
}

/// What was parked after somebody has counted is given up by nobody who has said how many were meant.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_given_up_than_was_counted() {
    let world = World::new(12);
    let directory = tempfile::tempdir().expect("a directory");
    let database = directory.path().join("shop.db");
    let engine = world.engine("memory:").await.expect("opens");
    let mut service = asked(&world, &engine, &database).await;
    let bounded = |at_most| {
        let Action::DiscardParked(change) = discard_parked(Some("a"), false) else { panic!("it is one") };
        Action::DiscardParked(ParkedChange { at_most: Some(at_most), ..change })
    };
    for n in 1..=3 {
        service.publisher().publish(&counted("a", n)).await.expect("is taken");
    }
    service.settle().await.expect("settles");
    let said = answered(&world, &*engine, &mut service, "r-1", bounded(1)).await;
    assert!(matches!(said[..], [Outcome::Conflict { .. }]), "two wait: {said:?}");
    let meant = answered(&world, &*engine, &mut service, "r-2", discard_parked(Some("a"), true)).await;
    assert_eq!(meant, [Outcome::GivenUp { events: 2, letters: 1, has_more: false }]);

    ask(&service, "r-3", &signed(&world, "r-3", bounded(2))).await;
    assert_eq!(heard(&*engine, "r-3").await, Outcome::GivenUp { events: 2, letters: 1, has_more: false });
    service.stop().await.expect("stops");
}

/// How many owners the only partition has had.
async fn owners(database: &Path) -> (i64,) {
    let store = Sqlite::open(database).await.expect("opens");
    let mut reader = store.read().await.expect("reads");
    let epoch = "SELECT epoch FROM courant_owner WHERE consumer = 'billing' AND topic = 'test.counted'";
    sqlx::query_as(epoch).fetch_one(&mut *reader).await.expect("selects")
}
