//! What was published waits in lanes: without gaps, in the order of the commits, for one relay.

use std::collections::BTreeMap;

use bytes::Bytes;
use courant_sql::{AdvanceError, LaneBatch, LanePosition, NewEvent, Store as _, Transaction as _};

use super::steps::{Db, Fixture, NOW, Tx, new_event};
use super::support::{make_counters, next_number};

async fn publish(store: &Db, events: &[NewEvent]) -> Vec<u16> {
    let mut tx = store.begin(None).await.expect("a transaction");
    for event in events {
        tx.publish(event.clone()).expect("room");
    }
    tx.commit(NOW).await.expect("a commit").lanes
}

fn positions(batches: &[LaneBatch]) -> Vec<(u16, u64)> {
    batches.iter().flat_map(|batch| &batch.events).map(|event| (event.at.lane, event.at.position)).collect()
}

/// Counts up the number of a key in the service's own table, and publishes it: the numbers of a key in
/// the outbox then are the order of the commits.
async fn count_up(tx: &mut Tx, key: &str, id: String) {
    let number = next_number(tx, key).await;
    let event = NewEvent { value: Some(Bytes::from(number.to_string())), ..new_event(&id, key) };
    tx.publish(event).expect("room");
}

/// Two processes commit and roll back side by side while a relay empties the outbox with small steps:
/// each committed event comes out once, no other does, no lane has a gap, and each key has the order of
/// its commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lanes_have_no_gaps_and_keep_the_order_of_commits() {
    const TASKS: usize = 8;
    const TRANSACTIONS: usize = 30;
    let Some(fixture) = Fixture::new().await else { return };
    make_counters(&fixture.store).await;
    let stores = [fixture.store.clone(), fixture.another().await];
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let store = stores[task % 2].clone();
        tasks.push(tokio::spawn(async move {
            let mut committed = 0;
            for n in 0..TRANSACTIONS {
                let mut tx = store.begin(None).await.expect("a transaction");
                // In their order, so that no two tasks wait for each other's rows.
                let mut keys = [0, 1, 2].map(|part| (task + n * 5 + part) % 7);
                keys.sort_unstable();
                for key in keys {
                    count_up(&mut tx, &format!("key-{key}"), format!("{task}-{n}-{key}")).await;
                }
                match n % 5 {
                    3 => tx.rollback().await.expect("a rollback"),
                    4 => drop(tx),
                    _ => {
                        tx.commit(NOW).await.expect("a commit");
                        committed += 3;
                    }
                }
            }
            committed
        }));
    }
    let relay = fixture.store.take_over_relay("all", "test", NOW).await.expect("a lease");
    let mut published = Published::default();
    while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        published.step(&fixture.store, &relay).await;
        tokio::task::yield_now().await;
    }
    while published.step(&fixture.store, &relay).await {}
    let mut committed = 0;
    for task in tasks {
        committed += task.await.expect("no panic");
    }
    assert_eq!(committed, TASKS * TRANSACTIONS * 3 / 5 * 3);
    assert_eq!(published.events, committed);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_outbox").await, 0);
    assert_eq!(fixture.store.outbox_backlog().await.expect("a number"), 0);
    let last = published.numbers.values().sum::<i64>();
    assert_eq!(
        usize::try_from(last).expect("small"),
        committed,
        "the numbers of each key end where they must"
    );
}

/// What a relay has seen.
#[derive(Default)]
struct Published {
    events: usize,
    lanes: BTreeMap<u16, u64>,
    numbers: BTreeMap<Bytes, i64>,
}

impl Published {
    /// Takes a few events of each lane and moves the outbox on. Whether there were any.
    async fn step(&mut self, store: &Db, relay: &courant_sql::RelayLease) -> bool {
        let batches = store.pending(0, 4, u64::MAX).await.expect("what waits");
        let mut done = Vec::new();
        for batch in &batches {
            for pending in &batch.events {
                self.events += 1;
                let lane = self.lanes.entry(batch.lane).or_default();
                *lane += 1;
                assert_eq!((pending.at.lane, pending.at.position), (batch.lane, *lane), "no gap");
                let key = pending.event.key.clone().expect("a key");
                let value = pending.event.value.as_deref().expect("a value");
                let number: i64 = std::str::from_utf8(value).expect("text").parse().expect("a number");
                let last = self.numbers.entry(key).or_default();
                *last += 1;
                assert_eq!(number, *last, "the order of the commits");
            }
            done.extend(batch.events.last().map(|pending| pending.at));
        }
        if done.is_empty() {
            return false;
        }
        store.advance(relay, &done).await.expect("moved on");
        true
    }
}

/// What is read is what was published, and stays until it is moved on.
#[tokio::test]
async fn events_come_back_as_they_were_published() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut bare = new_event("bare", "");
    bare.value = None;
    bare.headers.clear();
    let mut keyless = new_event("keyless", "");
    keyless.key = None;
    keyless.headers = vec![("raw".to_owned(), Bytes::from_static(&[0xff])), ("raw".to_owned(), Bytes::new())];
    let events = [new_event("e", "k"), bare, keyless];
    let lanes = publish(&fixture.store, &events).await;
    assert!(lanes.is_sorted(), "{lanes:?}");
    let fixture = fixture.reopened().await;
    for _ in 0..2 {
        let batches = fixture.store.pending(0, 10, u64::MAX).await.expect("what waits");
        let mut read: Vec<_> =
            batches.into_iter().flat_map(|batch| batch.events).map(|pending| pending.event).collect();
        read.sort_by_key(|event| event.id.clone());
        let mut published = events.to_vec();
        published.sort_by_key(|event| event.id.clone());
        assert_eq!(read, published);
    }
    assert_eq!(fixture.store.outbox_backlog().await.expect("a number"), 3);
}

/// A read is bounded by events and by bytes, begins at a lane of the caller's choice, and always has
/// something if there is something.
#[tokio::test]
async fn reads_are_bounded_and_go_round() {
    let Some(fixture) = Fixture::new().await else { return };
    let store = &fixture.store;
    let (a, b) = (new_event("a", "a"), new_event("b", "b"));
    let (low, high) = (a.lane().min(b.lane()), a.lane().max(b.lane()));
    assert!(low < high);
    for _ in 0..3 {
        publish(store, &[a.clone(), b.clone()]).await;
    }
    let read = |first, events, bytes| async move {
        positions(&store.pending(first, events, bytes).await.expect("what waits"))
    };
    assert_eq!(read(0, 2, u64::MAX).await, [(low, 1), (low, 2), (high, 1), (high, 2)]);
    assert_eq!(read(low + 1, 1, u64::MAX).await, [(high, 1), (low, 1)], "round from the lane after it");
    assert_eq!(read(0, 3, 1).await, [(low, 1)], "one, however small the bound is");
    let two = u64::try_from(a.bytes() + 1).expect("small");
    assert_eq!(read(0, 3, two).await, [(low, 1), (low, 2)]);
}

/// A relay that was replaced can move nothing, and nobody moves further than there are events.
#[tokio::test]
async fn an_old_relay_cannot_move_the_outbox() {
    let Some(fixture) = Fixture::new().await else { return };
    let store = &fixture.store;
    let old = store.take_over_relay("all", "one", NOW).await.expect("a lease");
    let lane = publish(store, &[new_event("a", "a")]).await[0];
    let new = fixture.another().await.take_over_relay("all", "two", NOW).await.expect("a lease");
    let first = [LanePosition { lane, position: 1 }];
    let refused = store.advance(&old, &first).await.expect_err("replaced");
    assert!(matches!(refused, AdvanceError::Fenced { held: 1, current: 2, .. }), "{refused}");
    let beyond = [LanePosition { lane, position: 2 }];
    let refused = store.advance(&new, &beyond).await.expect_err("no such event");
    assert!(matches!(refused, AdvanceError::NoSuchEvent { position: 2, .. }), "{refused}");
    assert_eq!(store.outbox_backlog().await.expect("a number"), 1);
    store.advance(&new, &first).await.expect("moved on");
    store.advance(&new, &first).await.expect("twice is once");
    assert_eq!(store.outbox_backlog().await.expect("a number"), 0);
    assert_eq!(publish(store, &[new_event("b", "a")]).await, [lane]);
    let next = store.pending(0, 1, u64::MAX).await.expect("what waits");
    assert_eq!(positions(&next), [(lane, 2)], "positions are never given twice");
}
