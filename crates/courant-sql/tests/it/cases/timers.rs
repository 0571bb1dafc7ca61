//! Timers: there with their transaction, found by their names, moved into the outbox when they are due.

use bytes::Bytes;
use courant_sql::{
    AdvanceError, Fired, NewEvent, NewTimer, RelayLease, Store as _, TimerName, Transaction as _,
};

use super::steps::{Db, Fixture, NOW, Tx, new_event, run};

fn name(name: &str) -> TimerName {
    TimerName::new("payment-due", name).expect("a name")
}

fn timer(id: &str, due_ms: i64, name: Option<TimerName>) -> NewTimer {
    NewTimer { event: NewEvent { timestamp_ms: due_ms, ..new_event(id, "k") }, name }
}

/// A transaction that schedules these and nothing else.
async fn scheduled(store: &Db, timers: Vec<NewTimer>) -> Option<i64> {
    let mut tx = store.begin(None).await.expect("a transaction");
    for timer in timers {
        tx.schedule(timer).expect("room");
    }
    tx.commit(NOW).await.expect("a commit").next_timer_ms
}

async fn cancelled(store: &Db, name: TimerName) {
    let mut tx = store.begin(None).await.expect("a transaction");
    tx.cancel_timer(name).expect("room");
    assert_eq!(tx.commit(NOW).await.expect("a commit").next_timer_ms, None);
}

async fn relay(store: &Db) -> RelayLease {
    store.take_over_relay("all", "test", NOW).await.expect("a lease")
}

async fn fire(store: &Db, relay: &RelayLease, now_ms: i64) -> u64 {
    store.fire_timers(relay, 100, u64::MAX, now_ms).await.expect("fires").timers
}

/// What is in the outbox. All events have one key here, so it is one lane, in its order.
async fn outbox(store: &Db) -> Vec<NewEvent> {
    let batches = store.pending(0, 1_000, u64::MAX).await.expect("what waits");
    batches.into_iter().flat_map(|batch| batch.events).map(|pending| pending.event).collect()
}

fn ids(events: &[NewEvent]) -> Vec<&str> {
    events.iter().map(|event| event.id.as_str()).collect()
}

/// A timer comes when it is due, once, as the event that was scheduled; the store's next time is that of
/// the first one that is left.
#[tokio::test]
async fn a_timer_becomes_the_event_that_was_scheduled() {
    let Some(fixture) = Fixture::new().await else { return };
    assert_eq!(fixture.store.next_timer_ms().await.expect("a look"), None);
    let mut bare = timer("bare", NOW + 20, None);
    bare.event.key = None;
    bare.event.value = None;
    bare.event.headers = vec![("raw".to_owned(), Bytes::from_static(&[0, 0xff]))];
    let first = timer("first", NOW + 10, Some(TimerName::new("\0", "n\0").expect("a name")));
    let next = scheduled(&fixture.store, vec![bare.clone(), first.clone()]).await;
    assert_eq!(next, Some(NOW + 10));
    let fixture = fixture.reopened().await;
    let store = &fixture.store;
    let relay = relay(store).await;
    assert_eq!(store.next_timer_ms().await.expect("a look"), Some(NOW + 10));
    assert_eq!(fire(store, &relay, NOW + 9).await, 0);
    assert!(outbox(store).await.is_empty());

    let fired = store.fire_timers(&relay, 100, u64::MAX, NOW + 10).await.expect("fires");
    assert_eq!(fired, Fired { timers: 1, lanes: vec![first.event.lane()] });
    assert_eq!(outbox(store).await, [first.event]);
    assert_eq!(store.next_timer_ms().await.expect("a look"), Some(NOW + 20));
    assert_eq!(fire(store, &relay, NOW + 10).await, 0, "it comes once");
    assert_eq!(fire(store, &relay, NOW + 1_000).await, 1);
    // Late: the log keeps it as long as anything else that comes now.
    let late = NewEvent { timestamp_ms: NOW + 1_000, ..bare.event };
    assert!(outbox(store).await.contains(&late));
    assert_eq!(store.next_timer_ms().await.expect("a look"), None);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_timer").await, 0);
}

/// Without its transaction a timer does not exist, and a cancelled one stays without the cancellation's.
#[tokio::test]
async fn a_timer_is_there_exactly_with_its_transaction() {
    let Some(fixture) = Fixture::new().await else { return };
    let store = &fixture.store;
    let mut tx = store.begin(None).await.expect("a transaction");
    tx.schedule(timer("rolled back", NOW, None)).expect("room");
    tx.rollback().await.expect("a rollback");
    let mut tx = store.begin(None).await.expect("a transaction");
    tx.schedule(timer("dropped", NOW, Some(name("o-1")))).expect("room");
    drop(tx);
    assert_eq!(store.next_timer_ms().await.expect("a look"), None);

    scheduled(store, vec![timer("stays", NOW, Some(name("o-1")))]).await;
    let mut tx = store.begin(None).await.expect("a transaction");
    tx.cancel_timer(name("o-1")).expect("room");
    tx.rollback().await.expect("a rollback");
    assert_eq!(fire(store, &relay(store).await, NOW).await, 1);
    assert_eq!(ids(&outbox(store).await), ["stays"]);
}

/// A timer goes by its name: cancelled, or replaced by another one under it. Other scopes and timers
/// without a name are left alone, and a name is free again when its timer has come.
#[tokio::test]
async fn a_name_cancels_and_replaces() {
    let Some(fixture) = Fixture::new().await else { return };
    let store = &fixture.store;
    let relay = relay(store).await;
    let other = TimerName::new("other", "o-1").expect("a name");
    scheduled(
        store,
        vec![
            timer("a-1", NOW, Some(name("o-1"))),
            timer("a-2", NOW, Some(name("o-2"))),
            timer("a-3", NOW, Some(other)),
            timer("a-4", NOW, None),
            timer("a-5", NOW, None),
        ],
    )
    .await;
    cancelled(store, name("o-1")).await;
    cancelled(store, name("never was")).await;
    assert_eq!(scheduled(store, vec![timer("b-2", NOW + 5, Some(name("o-2")))]).await, Some(NOW + 5));
    assert_eq!(fire(store, &relay, NOW).await, 3);
    assert_eq!(ids(&outbox(store).await), ["a-3", "a-4", "a-5"]);
    assert_eq!(fire(store, &relay, NOW + 5).await, 1);
    // Too late for this one.
    cancelled(store, name("o-2")).await;
    scheduled(store, vec![timer("c-2", NOW + 6, Some(name("o-2")))]).await;
    assert_eq!(fire(store, &relay, NOW + 6).await, 1);
    assert_eq!(ids(&outbox(store).await), ["a-3", "a-4", "a-5", "b-2", "c-2"]);
}

/// Many of one transaction, in statements of several parts: each name is used, and each timer is there.
#[tokio::test]
async fn a_transaction_schedules_many() {
    const MANY: usize = 1_203;
    let Some(fixture) = Fixture::new().await else { return };
    let store = &fixture.store;
    let relay = relay(store).await;
    for round in ["a", "b"] {
        let many = (0..MANY).map(|n| timer(&format!("{round}-{n}"), NOW, Some(name(&n.to_string()))));
        scheduled(store, many.collect()).await;
    }
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_timer").await, 1_203);
    let mut fired = Vec::new();
    loop {
        match store.fire_timers(&relay, 1_000_000, u64::MAX, NOW).await.expect("fires").timers {
            0 => break,
            some => fired.push(some),
        }
    }
    assert_eq!(fired, [1_000, 203], "a step is bounded, whatever it is asked for");
    assert_eq!(store.outbox_backlog().await.expect("a number"), 1_203);
    assert!(outbox(store).await.iter().all(|event| event.id.as_str().starts_with("b-")));
}

/// They come by due time, those of one instant by id, in steps that are bounded by number and by bytes.
#[tokio::test]
async fn timers_come_in_their_order_and_in_bounded_steps() {
    let Some(fixture) = Fixture::new().await else { return };
    let store = &fixture.store;
    let relay = relay(store).await;
    for (id, due_ms) in [("d", NOW), ("Z", NOW - 5), ("b", NOW - 5), ("c", NOW - 3), ("a", NOW - 1)] {
        scheduled(store, vec![timer(id, due_ms, None)]).await;
    }
    let step = |limit, bytes| store.fire_timers(&relay, limit, bytes, NOW);
    assert_eq!(step(2, u64::MAX).await.expect("fires").timers, 2);
    assert_eq!(ids(&outbox(store).await), ["Z", "b"]);
    assert_eq!(step(10, 1).await.expect("fires").timers, 1, "one, however small the bound is");
    let two = u64::try_from(timer("a", NOW, None).event.bytes() + 1).expect("small");
    assert_eq!(step(10, two).await.expect("fires").timers, 2);
    assert_eq!(ids(&outbox(store).await), ["Z", "b", "c", "a", "d"]);
}

/// A relay that was replaced moves no timer.
#[tokio::test]
async fn an_old_relay_fires_nothing() {
    let Some(fixture) = Fixture::new().await else { return };
    let store = &fixture.store;
    scheduled(store, vec![timer("t", NOW, None)]).await;
    let old = relay(store).await;
    let new = fixture.another().await.take_over_relay("all", "other", NOW).await.expect("a lease");
    let refused = store.fire_timers(&old, 1, u64::MAX, NOW).await.expect_err("replaced");
    assert!(matches!(refused, AdvanceError::Fenced { held: 1, current: 2, .. }), "{refused}");
    assert!(outbox(store).await.is_empty());
    assert_eq!(fire(store, &new, NOW).await, 1);
}

/// Transactions side by side give one name its timers, cancel it, and have it moved: of each name there
/// is at most one at the end, nothing comes twice, and nobody is refused or waits in a circle.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_name_is_used_side_by_side() {
    const TASKS: usize = 6;
    const ROUNDS: usize = 25;
    let Some(fixture) = Fixture::new().await else { return };
    let stores = [fixture.store.clone(), fixture.another().await];
    let relay = relay(&fixture.store).await;
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let store = stores[task % 2].clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                let mut tx: Tx = store.begin(None).await.expect("a transaction");
                run(&mut tx, "INSERT INTO effects (event_id, who) VALUES ('e', 'handler')").await;
                // In another order in each task.
                let (one, other) = if task % 2 == 0 { ("x", "y") } else { ("y", "x") };
                tx.schedule(timer(&format!("{task}-{round}"), NOW, Some(name(one)))).expect("room");
                if round % 2 == 0 {
                    tx.cancel_timer(name(other)).expect("room");
                } else {
                    let id = format!("{task}-{round}-2");
                    tx.schedule(timer(&id, NOW + 1, Some(name(other)))).expect("room");
                }
                tx.commit(NOW).await.expect("a commit");
            }
        }));
    }
    while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        if fixture.store.next_timer_ms().await.expect("a look").is_some_and(|next_ms| next_ms <= NOW) {
            fire(&fixture.store, &relay, NOW).await;
        }
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    let left = "SELECT COUNT(*) FROM courant_timer";
    assert!(fixture.number(left).await <= 2);
    while fire(&fixture.store, &relay, NOW + 1).await > 0 {}
    assert_eq!(fixture.number(left).await, 0);
    let fired = outbox(&fixture.store).await;
    let mut once = ids(&fired);
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), fired.len());
}

/// A timer that was scheduled in a transaction which had ended before its commit is not there.
#[tokio::test]
async fn nothing_is_scheduled_after_the_transaction_has_ended() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    run(&mut tx, "INSERT INTO effects (event_id, who) VALUES ('e', 'handler')").await;
    tx.schedule(timer("t", NOW, None)).expect("room");
    run(&mut tx, "ROLLBACK").await;
    tx.commit(NOW).await.expect_err("it has ended");
    assert_eq!(fixture.store.next_timer_ms().await.expect("a look"), None);
}
