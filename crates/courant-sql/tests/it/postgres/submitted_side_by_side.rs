//! The second door under transactions that go on side by side: rows are taken in when they are committed,
//! whatever their numbers are, and a relay that rests is woken.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use courant_sql::{LanePosition, Postgres, Store as _, Transaction as _, sqlx};
use tokio::sync::mpsc;

use super::answers::rewriting;
use super::steps::{Fixture, NOW, number, run};
use super::submitted::{relay, row, sequence, submit, values, waiting};
use super::vanishing::Vanishing;

/// O1 for the second door: the first transaction has the smaller number and commits last. A reader that remembers how
/// far it has come loses its row; this one does not, and an open transaction keeps nobody waiting.
#[tokio::test]
async fn a_row_that_is_committed_late_is_taken_in_late() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, relay(&fixture.store).await);
    let mut slow = store.begin(None).await.expect("a transaction");
    run(&mut slow, &row("k", "slow")).await;
    submit(store, &[&row("k", "quick")]).await;
    let naive = number(store, "SELECT MAX(id) FROM courant_outbox_submit").await;
    assert_eq!(sequence(store, &lease, 10).await.events, 1);
    assert_eq!(values(store).await, ["quick"]);
    slow.commit(NOW).await.expect("a commit");
    let behind = format!("SELECT COUNT(*) FROM courant_outbox_submit WHERE id > {naive}");
    let mut reader = store.read().await.expect("a connection");
    let seen: i64 =
        sqlx::query_scalar(sqlx::AssertSqlSafe(behind)).fetch_one(&mut *reader).await.expect("a number");
    drop(reader);
    assert_eq!(seen, 0, "what a cursor would see of it");
    assert_eq!(sequence(store, &lease, 10).await.events, 1);
    assert_eq!(values(store).await, ["quick", "slow"]);
}

/// O2 for the second door: two transactions of one key, of which the second one writes its event after the first one is
/// committed: that order, although the second one began first.
#[tokio::test]
async fn what_is_written_after_a_commit_comes_after_it() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, relay(&fixture.store).await);
    submit(
        store,
        &["CREATE TABLE accounts (id BIGINT PRIMARY KEY, n BIGINT)", "INSERT INTO accounts VALUES (1, 0)"],
    )
    .await;
    for round in 0..20 {
        let mut early = store.begin(None).await.expect("a transaction");
        run(&mut early, "INSERT INTO effects (event_id, who) VALUES ('x', 'early')").await;
        let mut first = store.begin(None).await.expect("a transaction");
        run(&mut first, "UPDATE accounts SET n = n + 1 WHERE id = 1").await;
        run(&mut first, &row("k", &format!("{round} first"))).await;
        first.commit(NOW).await.expect("a commit");
        run(&mut early, "UPDATE accounts SET n = n + 1 WHERE id = 1").await;
        run(&mut early, &row("k", &format!("{round} second"))).await;
        early.commit(NOW).await.expect("a commit");
        if round % 3 == 0 {
            sequence(store, &lease, 1).await;
        }
    }
    while !sequence(store, &lease, 7).await.is_empty() {}
    let expected: Vec<String> =
        (0..20).flat_map(|round| [format!("{round} first"), format!("{round} second")]).collect();
    assert_eq!(values(store).await, expected);
}

/// O3 for the second door: a writer in the middle of its transaction is not waited for, and neither is one in another
/// database.
#[tokio::test]
async fn an_open_transaction_delays_nobody() {
    let (Some(fixture), Some(other)) = (Fixture::new().await, Fixture::new().await) else { return };
    let (store, lease) = (&fixture.store, relay(&fixture.store).await);
    let mut open = store.begin(None).await.expect("a transaction");
    run(&mut open, "INSERT INTO effects (event_id, who) VALUES ('x', 'open')").await;
    let mut elsewhere = other.store.begin(None).await.expect("a transaction");
    run(&mut elsewhere, "INSERT INTO effects (event_id, who) VALUES ('x', 'open')").await;
    submit(store, &[&row("k", "1")]).await;
    assert_eq!(sequence(store, &lease, 10).await.events, 1);
    assert_eq!(waiting(store).await.len(), 1);
    open.rollback().await.expect("a rollback");
    elsewhere.rollback().await.expect("a rollback");
}

/// O3 for the first door: what others have not ended yet keeps no lane waiting, whether they are in this
/// database or in another one of the server, have written or only read.
#[tokio::test]
async fn an_open_transaction_delays_no_lane() {
    let (Some(fixture), Some(other)) = (Fixture::new().await, Fixture::new().await) else { return };
    let mut open = Vec::new();
    for store in [fixture.another().await, other.another().await] {
        let mut writing = store.begin(None).await.expect("a transaction");
        run(&mut writing, "INSERT INTO effects (event_id, who) VALUES ('x', 'open')").await;
        // One that has published, and has not come to its end.
        writing.publish(super::steps::new_event("open", "k")).expect("room");
        let mut reading = store.begin(None).await.expect("a transaction");
        run(&mut reading, "SELECT COUNT(*) FROM courant_outbox").await;
        open.extend([writing, reading]);
    }
    // They are open until they are rolled back below: whoever waits for one of them waits in vain.
    let waits = soon(async {
        let mut tx = fixture.store.begin(None).await.expect("a transaction");
        tx.publish(super::steps::new_event("p", "k")).expect("room");
        tx.commit(NOW).await.expect("a commit");
        waiting(&fixture.store).await
    });
    let waits: Vec<_> = Box::pin(waits).await.into_iter().map(|event| event.id.to_string()).collect();
    assert_eq!(waits, ["p"]);
    for tx in open {
        tx.rollback().await.expect("a rollback");
    }
}

/// What comes of something that has to happen. Long, for busy machines; nothing waits it out.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(45), what).await.expect("it happens")
}

/// Both doors wake a relay that rests, with the commit. One that is at work is not told.
#[tokio::test]
async fn a_commit_wakes_a_relay_that_rests() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, relay(&fixture.store).await);
    let mut bell = store.outbox_bell().await.expect("a bell");
    assert!(!bell.is_silent());
    submit(store, &[&row("k", "nobody rests")]).await;
    store.keep_relay(&lease, true).await.expect("it is there");
    let mut tx = store.begin(None).await.expect("a transaction");
    run(&mut tx, &row("k", "1")).await;
    let early = tokio::time::timeout(Duration::from_millis(100), bell.rung()).await;
    assert!(early.is_err(), "neither the one before it rested, nor before the commit");
    tx.commit(NOW).await.expect("a commit");
    soon(bell.rung()).await.expect("woken");
    let mut tx = store.begin(None).await.expect("a transaction");
    tx.publish(super::steps::new_event("p", "k")).expect("room");
    tx.commit(NOW).await.expect("a commit");
    soon(bell.rung()).await.expect("woken by the first door as well");
}

/// Symptom: a relay that had waited for its engine while others committed looked at the outbox once for each of their
/// commits afterwards, and for nothing. Cause: each call of a commit was a ring. Fix: those that have come by then are
/// one.
#[tokio::test]
async fn calls_that_have_come_by_then_are_one_ring() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, relay(&fixture.store).await);
    let mut bell = store.outbox_bell().await.expect("a bell");
    store.keep_relay(&lease, true).await.expect("it is there");
    for number in 0..20 {
        submit(store, &[&row("k", &number.to_string())]).await;
    }
    let mut rings = 0;
    while let Ok(rung) = tokio::time::timeout(Duration::from_millis(500), bell.rung()).await {
        rung.expect("woken");
        rings += 1;
    }
    // The last ones may come a little later than their commits.
    assert!((1..20).contains(&rings), "{rings} rings");
}

/// Symptom: where the server had no connection left to listen on, or said nothing to a new one, a relay published
/// nothing for half a minute and longer, and another one took over. Cause: it waited for the driver, which tries for so
/// long. Fix: it waits for three seconds, and looks by itself.
#[tokio::test]
async fn a_relay_is_not_kept_by_what_it_cannot_hear() {
    let Some(fixture) = Fixture::new().await else { return };
    let server = Vanishing::before(&fixture.url(), Duration::from_secs(4)).await;
    let store = Postgres::connect_with(&server.url, 1).await.expect("a database");
    server.lose(1, usize::MAX);
    let begun = tokio::time::Instant::now();
    let silence = store.outbox_bell().await.expect_err("nobody hears");
    assert!(silence.is_retriable(), "{silence}");
    // With what a busy machine takes.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// Says when it is dropped.
#[derive(Clone)]
struct Ending(mpsc::UnboundedSender<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        // Whoever has asked may be gone.
        let _ = self.0.send(());
    }
}

/// Symptom: each time that a relay's server had vanished, a task and a connection stayed behind. Cause: the driver says
/// that nobody listens any more, in a task that waits for the answer without an end. Fix: the connection is closed.
#[tokio::test]
async fn a_bell_that_is_dropped_waits_for_no_answer() {
    let Some(fixture) = Fixture::new().await else { return };
    let is_silent = Arc::new(AtomicBool::new(false));
    let (told, mut ended) = mpsc::unbounded_channel();
    let (silent, ending) = (is_silent.clone(), Ending(told));
    let url = fixture.url();
    let through = rewriting(&url, move |_, message| {
        // Each connection has one of its own.
        let _held = &ending;
        Some(if silent.load(Ordering::SeqCst) { Vec::new() } else { message })
    });
    let store = Postgres::connect_with(&through.await, 1).await.expect("a database");
    let bell = store.outbox_bell().await.expect("a bell");
    assert!(ended.try_recv().is_err(), "its connection and that of the store are open");
    is_silent.store(true, Ordering::SeqCst);
    drop(bell);
    soon(ended.recv()).await.expect("its connection has ended");
    assert!(ended.try_recv().is_err(), "that of the store is open");
    is_silent.store(false, Ordering::SeqCst);
    super::transactions::works(&store).await;
}

/// O6: what a step reads and takes out does not grow with what was published before: both go by indexes. It is looked
/// at in the statements that the store has prepared itself. In the CI 100,000 events were, of which the rows are
/// still in the table's pages; `COURANT_OUTBOX_HISTORY` sets another number, and from ten million on the time of a
/// step is bounded, too.
#[tokio::test]
async fn a_step_reads_what_waits_and_not_what_was() {
    let Some(fixture) = Fixture::new().await else { return };
    // One connection has prepared whatever was.
    let store = &fixture.narrow().await;
    let history: u64 =
        std::env::var("COURANT_OUTBOX_HISTORY").map_or(100_352, |events| events.parse().expect("a number"));
    // So many in each lane are published, and four wait.
    let published = history / 256;
    let all = (published + 4) * 256;
    let insert = format!(
        "INSERT INTO courant_outbox (lane, position, event_id, topic, headers, timestamp_ms, bytes) \
         SELECT n % 256, n / 256 + 1, 'e-' || n, 'orders', '[]', 0, 10 FROM generate_series(0, {all} - 1) AS n"
    );
    let position = format!("UPDATE courant_outbox_lane SET position = {}", published + 4);
    let delete = format!("DELETE FROM courant_outbox WHERE position <= {published}");
    let advance = format!("UPDATE courant_outbox_lane SET published = {published}");
    submit(store, &[&insert, &position, &delete, &advance]).await;
    let analyzed = "ANALYZE courant_outbox";
    submit(store, &[analyzed]).await;
    assert_eq!(waiting(store).await.len(), 4 * 256);
    let begun = std::time::Instant::now();
    assert_eq!(store.pending(0, 1_000, u64::MAX).await.expect("what waits").len(), 256);
    let took = begun.elapsed();
    let lease = relay(store).await;
    let first = [LanePosition { lane: 0, position: published + 1 }];
    store.advance(&lease, &first).await.expect("moved on");
    let mut reader = store.read().await.expect("a connection");
    for (begins, values) in [
        ("SELECT lane, position, event_id%", "0, 1000, 1000000000"),
        ("WITH lease AS MATERIALIZED%", "'all', 1, '{0}', '{1}', 16"),
    ] {
        let named = "SELECT name FROM pg_prepared_statements WHERE statement LIKE $1";
        let name: String =
            sqlx::query_scalar(named).bind(begins).fetch_one(&mut *reader).await.expect("it was prepared");
        let sql = format!("EXPLAIN (FORMAT TEXT) EXECUTE \"{name}\" ({values})");
        let plan: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *reader).await.expect("a plan");
        let plan = plan.join("\n");
        // The lanes may be read as a whole: there are 256 of them for ever.
        assert!(!plan.contains("Seq Scan on courant_outbox "), "{plan}");
        assert!(plan.contains("courant_outbox_pkey"), "{plan}");
    }
    assert!(history < 10_000_000 || took < Duration::from_millis(20), "a step takes {took:?}");
}
