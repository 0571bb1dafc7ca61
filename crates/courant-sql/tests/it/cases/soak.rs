//! The outbox under load: 12 writers in two processes, delays before COMMIT, one transaction in ten
//! rolled back, an unrelated one open all the time, and relays that stand still in the middle of a batch, are
//! replaced, and wake. Nothing is lost, what comes again has the id that it had, each key has the order of its
//! commits, and nobody is refused but a relay that was replaced: a deadlock would fail the statement that is in it.
//!
//! The same with a design that looks right: a table with a serial id, read behind the last id that was
//! seen. It must fail, else the test sees nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use courant_sql::{NewEvent, Store as _, Transaction as _, sqlx};

use super::steps::{Db, Fixture, NOW, Tx, new_event, run};
use super::support::{INTO_SERIAL, OF_SERIAL, SERIAL, make, make_counters, next_number};
use crate::soaking::{Outcome, Random, Relays, Seen, events};

/// How many events are committed at least, unless somebody says otherwise.
const EVENTS_DEFAULT: i64 = 6_000;
const WRITERS: u64 = 12;
const KEYS: u64 = 60;

/// Where events are written, and how a relay reads them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Design {
    /// Lanes whose positions are given under a lock that is held until the commit.
    Lanes,
    /// Ids of a sequence, in the order of the inserts.
    SerialId,
}

/// O1, O2 and O4: what was committed is published, in the order of the commits, whichever relay is at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lanes_lose_nothing_and_keep_the_order() {
    let Some(outcome) = soak(Design::Lanes).await else { return };
    assert_eq!((outcome.seen, outcome.inversions), (outcome.committed, 0), "{outcome:?}");
}

/// A transaction that got its id earlier and commits later is passed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_serial_id_does_not() {
    let Some(outcome) = soak(Design::SerialId).await else { return };
    assert!(outcome.seen < outcome.committed && outcome.inversions > 0, "{outcome:?}");
}

async fn soak(design: Design) -> Option<Outcome> {
    let fixture = Fixture::new().await?;
    let events = events(EVENTS_DEFAULT);
    make_counters(&fixture.store).await;
    make(&fixture.store, &[SERIAL]).await;

    let mut unrelated = fixture.store.begin(None).await.expect("a transaction");
    run(&mut unrelated, "INSERT INTO effects (event_id, who) VALUES ('unrelated', 'nobody')").await;
    let committed = Arc::new(AtomicI64::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let relaying = tokio::spawn(relay(fixture.another().await, design, Arc::clone(&is_over)));
    let stores = [fixture.store.clone(), fixture.another().await];
    let writers = (0..WRITERS).zip(stores.iter().cycle()).map(|(writer, store)| {
        tokio::spawn(write(store.clone(), design, writer, events, Arc::clone(&committed)))
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("no panic");
    }
    is_over.store(true, Ordering::SeqCst);
    let seen = relaying.await.expect("no panic");
    unrelated.rollback().await.expect("a rollback");
    let committed = committed.load(Ordering::SeqCst);
    assert!(committed >= events);
    Some(seen.of(committed))
}

/// Commits events until there are enough of all writers.
async fn write(store: Db, design: Design, writer: u64, events: i64, committed: Arc<AtomicI64>) {
    let mut random = Random(writer);
    let mut number = 0_u64;
    while committed.load(Ordering::SeqCst) < events {
        let mut tx = store.begin(None).await.expect("a transaction");
        // In their order, so that no two writers wait for each other's rows.
        let mut keys: Vec<u64> = (0..=random.below(3)).map(|_| random.below(KEYS)).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in &keys {
            number += 1;
            publish(&mut tx, design, &format!("key-{key}"), &format!("{writer}-{number}")).await;
        }
        // The time that a handler still works: other transactions begin and end in it.
        tokio::time::sleep(Duration::from_micros(random.below(4_000))).await;
        if random.below(10) == 0 {
            tx.rollback().await.expect("a rollback");
        } else {
            tx.commit(NOW).await.expect("a commit");
            committed.fetch_add(i64::try_from(keys.len()).expect("few"), Ordering::SeqCst);
        }
    }
}

/// Counts up the number of a key, which keeps the key's transactions one behind the other, and
/// publishes it.
async fn publish(tx: &mut Tx, design: Design, key: &str, id: &str) {
    let number = next_number(tx, key).await;
    match design {
        Design::Lanes => {
            let event = NewEvent { value: Some(Bytes::from(number.to_string())), ..new_event(id, key) };
            tx.publish(event).expect("room");
        }
        Design::SerialId => {
            sqlx::query(INTO_SERIAL).bind(key).bind(number).execute(&mut **tx).await.expect("a row");
        }
    }
}

/// Follows until the writers have ended and nothing is left.
async fn relay(store: Db, design: Design, is_over: Arc<AtomicBool>) -> Seen {
    let mut relays = Relays::begin(&store).await;
    let (mut seen, mut last_id) = (Seen::default(), 0);
    loop {
        let was_over = is_over.load(Ordering::SeqCst);
        let has_more = match design {
            Design::Lanes => relays.step(&store, &mut seen).await,
            Design::SerialId => {
                let batch = take_serial(&store, &mut last_id).await;
                let has_more = !batch.is_empty();
                seen.take(batch);
                has_more
            }
        };
        if was_over && !has_more {
            if design == Design::Lanes {
                relays.assert_replaced();
            }
            return seen;
        }
        tokio::task::yield_now().await;
    }
}

async fn take_serial(store: &Db, last_id: &mut i64) -> Vec<(String, i64)> {
    let mut tx = store.begin(None).await.expect("a transaction");
    let rows = sqlx::query_as::<_, (i64, String, i64)>(OF_SERIAL).bind(*last_id).fetch_all(&mut *tx).await;
    let rows = rows.expect("rows");
    tx.rollback().await.expect("a rollback");
    *last_id = rows.last().map_or(*last_id, |last| last.0);
    rows.into_iter().map(|(_, key, number)| (key, number)).collect()
}
