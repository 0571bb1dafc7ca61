//! The second door: plain INSERTs of other programs become events, all that were committed and no other.

use std::sync::atomic::{AtomicU64, Ordering};

use courant_core::entropy::Entropy;
use courant_sql::{AdvanceError, NewEvent, RelayLease, Sequenced, Sequencing, Store as _, Transaction as _};
use uuid::Uuid;

use super::steps::{Db, Fixture, NOW, run};

/// Ids that a test can tell.
struct Counted(AtomicU64);

impl Entropy for Counted {
    fn uuid(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed)))
    }
}

pub(crate) async fn sequence(store: &Db, lease: &RelayLease, rows_max: u32) -> Sequenced {
    sequence_bytes(store, lease, rows_max, u64::MAX).await.expect("taken in")
}

async fn sequence_bytes(
    store: &Db,
    lease: &RelayLease,
    rows_max: u32,
    bytes_max: u64,
) -> Result<Sequenced, AdvanceError> {
    let entropy = Counted(AtomicU64::new(1));
    let sequencing = Sequencing { entropy: &entropy, rows_max, bytes_max, event_bytes_max: 10_000 };
    store.sequence(lease, &sequencing, NOW).await
}

pub(crate) async fn relay(store: &Db) -> RelayLease {
    store.take_over_relay("all", "test", NOW).await.expect("a lease")
}

/// Runs statements in one transaction, as another program does.
pub(crate) async fn submit(store: &Db, statements: &[&str]) {
    let mut tx = store.begin(None).await.expect("a transaction");
    for statement in statements {
        run(&mut tx, statement).await;
    }
    tx.commit(NOW).await.expect("a commit");
}

/// A row whose value is this text.
pub(crate) fn row(key: &str, value: &str) -> String {
    format!(
        "INSERT INTO courant_outbox_submit (topic, event_key, event_value) VALUES ('orders', '{key}', '{value}')"
    )
}

/// The events that wait, lane by lane.
pub(crate) async fn waiting(store: &Db) -> Vec<NewEvent> {
    let lanes = store.pending(0, 1000, u64::MAX).await.expect("what waits");
    lanes.into_iter().flat_map(|lane| lane.events).map(|pending| pending.event).collect()
}

pub(crate) async fn values(store: &Db) -> Vec<String> {
    let text = |event: NewEvent| String::from_utf8(event.value.expect("a value").to_vec()).expect("text");
    waiting(store).await.into_iter().map(text).collect()
}

/// What was rolled back, wholly or to a savepoint, is no event. What was committed is one, and the rows of
/// a transaction keep their order.
#[tokio::test]
async fn what_was_committed_is_published_and_nothing_else() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, relay(&fixture.store).await);
    assert!(sequence(store, &lease, 10).await.is_empty());
    let mut tx = store.begin(None).await.expect("a transaction");
    run(&mut tx, &row("k", "rolled back")).await;
    tx.rollback().await.expect("a rollback");
    submit(
        store,
        &[
            &row("k", "1"),
            "SAVEPOINT outer_one",
            &row("k", "undone"),
            "SAVEPOINT inner_one",
            &row("k", "undone with the outer one"),
            "RELEASE SAVEPOINT inner_one",
            "ROLLBACK TO SAVEPOINT outer_one",
            "RELEASE SAVEPOINT outer_one",
            &row("k", "2"),
            &row("k", "3"),
        ],
    )
    .await;
    assert_eq!(store.outbox_backlog().await.expect("a number"), 3, "submitted rows wait, too");
    let sequenced = sequence(store, &lease, 10).await;
    assert_eq!((sequenced.events, sequenced.lanes.len()), (3, 1));
    assert_eq!(values(store).await, ["1", "2", "3"]);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_outbox_submit").await, 0);
    assert_eq!(store.outbox_backlog().await.expect("a number"), 3);
    assert!(sequence(store, &lease, 10).await.is_empty(), "once");
}

/// The four columns that are enough, and all of them.
#[tokio::test]
async fn columns_become_a_cloud_event() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, relay(&fixture.store).await);
    submit(
        store,
        &[
            "INSERT INTO courant_outbox_submit (topic, event_key, event_type, event_value) \
             VALUES ('orders', 'o-1', 'shop.order-placed', '{\"cents\": 5}')",
            "INSERT INTO courant_outbox_submit (topic, event_key, event_id, event_type, event_source, headers, \
             event_value, timestamp_ms) VALUES ('orders', 'o-1', 'mine', 'shop.order-paid', 'till', \
             '{\"ce_correlationid\": \"c-1\"}', '{}', 7)",
            "INSERT INTO courant_outbox_submit (topic) VALUES ('orders')",
        ],
    )
    .await;
    assert_eq!(sequence(store, &lease, 10).await.events, 3);
    let events = waiting(store).await;
    let of = |id: &str| events.iter().find(|event| event.id.as_str() == id).expect("it").clone();
    let says = |event: &NewEvent, name: &str| {
        let found = event.headers.iter().find(|(there, _)| there == name);
        found.map(|(_, value)| String::from_utf8(value.to_vec()).expect("text"))
    };
    let placed = of(&Uuid::from_u128(1).to_string());
    assert_eq!(says(&placed, "ce_type").as_deref(), Some("shop.order-placed"));
    assert_eq!(says(&placed, "ce_id").as_deref(), Some(placed.id.as_str()));
    assert_eq!(says(&placed, "ce_subject").as_deref(), Some("o-1"));
    assert_eq!((placed.key.as_deref(), placed.timestamp_ms), (Some(&b"o-1"[..]), NOW));
    assert_eq!(placed.value.as_deref(), Some(&b"{\"cents\": 5}"[..]));
    let paid = of("mine");
    assert_eq!(says(&paid, "ce_source").as_deref(), Some("till"));
    assert_eq!(says(&paid, "ce_correlationid").as_deref(), Some("c-1"));
    assert_eq!((says(&paid, "ce_time").as_deref(), paid.timestamp_ms), (Some("1970-01-01T00:00:00.007Z"), 7));
    let bare = of(&Uuid::from_u128(2).to_string());
    assert_eq!((bare.key, bare.value, bare.headers.len()), (None, None, 1), "its id, and nothing else");
}

/// A row that can be no event is kept with the reason, and stops no other one.
#[tokio::test]
async fn what_can_be_no_event_is_kept_aside() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, relay(&fixture.store).await);
    let large = format!(
        "INSERT INTO courant_outbox_submit (topic, event_value) VALUES ('orders', '{}')",
        "x".repeat(10_001)
    );
    let huge = format!(
        "INSERT INTO courant_outbox_submit (topic, event_value) VALUES ('orders', '{}')",
        "x".repeat(200_000)
    );
    submit(
        store,
        &[
            &row("k", "1"),
            "INSERT INTO courant_outbox_submit (topic, event_value) VALUES ('no topic!', 'kept')",
            &large,
            &row("k", "2"),
            "INSERT INTO courant_outbox_submit (topic, headers) VALUES ('orders', 'no JSON')",
            &huge,
            &row("k", "3"),
        ],
    )
    .await;
    let sequenced = sequence(store, &lease, 100).await;
    assert_eq!((sequenced.events, sequenced.refused.len()), (3, 4), "{sequenced:?}");
    assert_eq!(values(store).await, ["1", "2", "3"]);
    let refused = store.refused_events(0, 10).await.expect("a list");
    let reasons: Vec<&str> = refused.iter().map(|row| row.reason.as_str()).collect();
    for (reason, part) in reasons.iter().zip(["topic: ", "at most 10000", "headers: ", "at most 10000"]) {
        assert!(reason.contains(part), "{reasons:?}");
    }
    assert_eq!((refused[0].topic.as_str(), refused[0].refused_ms), ("no topic!", NOW));
    assert_eq!(store.refused_events(refused[2].id, 10).await.expect("a list"), refused[3..]);
    let kept = "SELECT COUNT(*) FROM courant_outbox_refused WHERE event_value = 'kept' OR length(event_value) > 10000";
    assert_eq!(fixture.number(kept).await, 3, "with all that they had");
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_outbox_submit").await, 0);
    // Corrected and submitted again, as the page says.
    submit(
        store,
        &[
            "INSERT INTO courant_outbox_submit (topic, event_key, event_value) \
             SELECT 'orders', 'k', event_value FROM courant_outbox_refused WHERE topic = 'no topic!'",
            "DELETE FROM courant_outbox_refused WHERE topic = 'no topic!'",
        ],
    )
    .await;
    assert_eq!(sequence(store, &lease, 100).await.events, 1);
    assert_eq!(values(store).await, ["1", "2", "3", "kept"]);
}

/// A step is bounded by rows and by bytes, and always takes something.
#[tokio::test]
async fn steps_are_bounded() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, relay(&fixture.store).await);
    let rows: Vec<String> = (0..5).map(|number| row("k", &format!("{number}"))).collect();
    submit(store, &rows.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(sequence(store, &lease, 2).await.events, 2);
    assert_eq!(sequence_bytes(store, &lease, 100, 1).await.expect("taken in").events, 1);
    assert_eq!(sequence(store, &lease, 100).await.events, 2);
    assert_eq!(values(store).await, ["0", "1", "2", "3", "4"]);
}

/// A relay that was replaced takes nothing in, and does not show itself any more.
#[tokio::test]
async fn only_the_last_relay_takes_rows_in() {
    let Some(fixture) = Fixture::new().await else { return };
    let store = &fixture.store;
    assert_eq!(store.relay("all").await.expect("an answer"), None);
    let old = relay(store).await;
    store.keep_relay(&old, true).await.expect("it is there");
    store.keep_relay(&old, false).await.expect("it is there");
    let state = store.relay("all").await.expect("an answer").expect("a relay");
    assert_eq!((state.epoch, state.owner.as_str(), state.taken_ms, state.beat), (1, "test", NOW, 2));
    let new = fixture.another().await.take_over_relay("all", "other", NOW).await.expect("a lease");
    submit(store, &[&row("k", "1")]).await;
    let refused = sequence_bytes(store, &old, 10, 1000).await.expect_err("replaced");
    assert!(matches!(refused, AdvanceError::Fenced { held: 1, current: 2, .. }), "{refused}");
    let refused = store.keep_relay(&old, true).await.expect_err("replaced");
    assert!(matches!(refused, AdvanceError::Fenced { held: 1, current: 2, .. }), "{refused}");
    assert_eq!(store.relay("all").await.expect("an answer").expect("a relay").beat, 0);
    assert_eq!(values(store).await, [""; 0]);
    assert_eq!(sequence(store, &new, 10).await.events, 1);
    assert_eq!(values(store).await, ["1"]);
}
