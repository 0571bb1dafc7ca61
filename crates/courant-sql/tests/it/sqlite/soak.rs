//! The outbox under load: 12 writers in two processes, ten events in each transaction, one transaction in
//! ten rolled back, a reader that looks at one state of the database all the time, and relays that stand still in
//! the middle of a batch, are replaced, and wake. Nothing is lost, what comes again has the id that it had, and each
//! key has the order of its commits.
//!
//! SQLite lets one transaction write at a time, so numbers that are given inside of one are in the order of
//! the commits. The design that fails here gives them before, as the time of an event is: whoever reads
//! behind the last one loses what has waited for the lock. It must fail, else the test sees nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use courant_sql::sqlx::{self, Row as _};
use courant_sql::{NewEvent, Store as _, Transaction as _};

use super::steps::{Db, Fixture, NOW, Tx, new_event, run};
use super::support::{make_counters, next_number};
use crate::soaking::{Outcome, Random, Relays, Seen, events};

/// How many events are committed at least, unless somebody says otherwise.
const EVENTS_DEFAULT: i64 = 2_000;
const EVENTS_EACH: i64 = 10;
const WRITERS: u64 = 12;
const KEYS: u64 = 60;

/// Where events are written, and how a relay reads them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Design {
    /// Lanes whose positions are given in the transaction, at its end.
    Lanes,
    /// Numbers that a service gives its events when they happen.
    OwnNumbers,
}

/// What writers have in common.
#[derive(Default)]
struct Shared {
    committed: AtomicI64,
    /// The last number that was given to an event.
    given: AtomicI64,
}

/// O1, O2 and O4: what was committed is published, in the order of the commits, whichever relay is at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lanes_lose_nothing_and_keep_the_order() {
    let Some(outcome) = soak(Design::Lanes).await else { return };
    assert_eq!((outcome.seen, outcome.inversions), (outcome.committed, 0), "{outcome:?}");
}

/// An event that has happened earlier and is committed later is passed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn numbers_of_the_services_own_do_not() {
    let Some(outcome) = soak(Design::OwnNumbers).await else { return };
    assert!(outcome.seen < outcome.committed && outcome.inversions > 0, "{outcome:?}");
}

async fn soak(design: Design) -> Option<Outcome> {
    let fixture = Fixture::new().await?;
    let events = events(EVENTS_DEFAULT);
    make_counters(&fixture.store).await;
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    run(
        &mut tx,
        "CREATE TABLE own_outbox (id INTEGER PRIMARY KEY, name TEXT NOT NULL, number BIGINT NOT NULL)",
    )
    .await;
    tx.commit(NOW).await.expect("a commit");

    // It sees the state of its beginning, and nothing that was written since can be taken out of the
    // write-ahead log.
    let url = format!("sqlite:{}", fixture.path().display());
    let mut connection =
        <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.expect("a connection");
    let mut reading = sqlx::Connection::begin(&mut connection).await.expect("a transaction");
    let counters = "SELECT COUNT(*) FROM counters";
    let before: i64 = sqlx::query_scalar(counters).fetch_one(&mut *reading).await.expect("a number");

    let shared = Arc::<Shared>::default();
    let is_over = Arc::new(AtomicBool::new(false));
    let relaying = tokio::spawn(relay(fixture.another().await, design, Arc::clone(&is_over)));
    let stores = [fixture.store.clone(), fixture.another().await];
    let writers = (0..WRITERS).zip(stores.iter().cycle()).map(|(writer, store)| {
        tokio::spawn(write(store.clone(), design, writer, events, Arc::clone(&shared)))
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("no panic");
    }
    is_over.store(true, Ordering::SeqCst);
    let seen = relaying.await.expect("no panic");

    let still: i64 = sqlx::query_scalar(counters).fetch_one(&mut *reading).await.expect("a number");
    assert_eq!((before, still), (0, 0), "the reader has looked at one state all the time");
    reading.rollback().await.expect("a rollback");
    let committed = shared.committed.load(Ordering::SeqCst);
    assert!(committed >= events);
    assert_eq!(fixture.number("SELECT SUM(number) FROM counters").await, committed);
    Some(seen.of(committed))
}

/// Commits events until there are enough of all writers. Whoever cannot have the lock within a minute fails:
/// nobody waits in a circle.
async fn write(store: Db, design: Design, writer: u64, events: i64, shared: Arc<Shared>) {
    let mut random = Random(writer);
    let mut number = 0_u64;
    while shared.committed.load(Ordering::SeqCst) < events {
        let given = shared.given.fetch_add(EVENTS_EACH, Ordering::SeqCst);
        // What a service does before it writes: others write meanwhile.
        tokio::time::sleep(Duration::from_micros(random.below(4_000))).await;
        let mut tx = store.begin(None).await.expect("the lock");
        for id in (given + 1)..=(given + EVENTS_EACH) {
            number += 1;
            let key = format!("key-{}", random.below(KEYS));
            publish(&mut tx, design, &key, &format!("{writer}-{number}"), id).await;
        }
        if random.below(10) == 0 {
            tx.rollback().await.expect("a rollback");
        } else {
            tx.commit(NOW).await.expect("a commit");
            shared.committed.fetch_add(EVENTS_EACH, Ordering::SeqCst);
        }
    }
}

/// Counts up the number of a key, and publishes it.
async fn publish(tx: &mut Tx, design: Design, key: &str, event_id: &str, id: i64) {
    let number = next_number(tx, key).await;
    match design {
        Design::Lanes => {
            let event = NewEvent { value: Some(Bytes::from(number.to_string())), ..new_event(event_id, key) };
            tx.publish(event).expect("room");
        }
        Design::OwnNumbers => {
            sqlx::query("INSERT INTO own_outbox (id, name, number) VALUES ($1, $2, $3)")
                .bind(id)
                .bind(key)
                .bind(number)
                .execute(&mut **tx)
                .await
                .expect("a row");
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
            Design::OwnNumbers => {
                let batch = take_own(&store, &mut last_id).await;
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

async fn take_own(store: &Db, last_id: &mut i64) -> Vec<(String, i64)> {
    let mut reader = store.read().await.expect("a connection");
    let sql = "SELECT id, name, number FROM own_outbox WHERE id > $1 ORDER BY id LIMIT 500";
    let rows = sqlx::query(sql).bind(*last_id).fetch_all(&mut *reader).await.expect("rows");
    if let Some(last) = rows.last() {
        *last_id = last.get::<i64, usize>(0);
    }
    rows.iter().map(|row| (row.get::<String, usize>(1), row.get::<i64, usize>(2))).collect()
}
