//! The one event that a transaction publishes stands in the text of its commit.

use bytes::Bytes;
use courant_sql::sqlx;
use courant_sql::{Admission, Class, CommitError, NewEvent, Source, Store as _, Transaction as _};

use super::steps::{Fixture, NOW, admission, admit, effect, event, new_event, run};
use super::support::make;

/// Whatever its bytes are. One that is large, or whose id may mean something to the server, goes there by itself.
#[tokio::test]
async fn an_event_comes_out_as_it_was() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (fixture.narrow().await, fixture.lease().await);
    let strange = Bytes::from_static(b"'; DROP TABLE effects; --\\\0\xff$$");
    let named = |name: &str| (name.to_owned(), strange.clone());
    let mut published = vec![
        new_event("plain", "k"),
        NewEvent {
            key: Some(strange.clone()),
            value: Some(strange.clone()),
            headers: vec![named("it's"), named("\\"), named("ü\u{1f980}\"'\n")],
            ..new_event("strange", "k")
        },
        NewEvent { key: None, value: None, headers: Vec::new(), timestamp_ms: -1, ..new_event("bare", "k") },
        NewEvent { key: Some(Bytes::new()), value: Some(Bytes::new()), ..new_event("empty", "k") },
        NewEvent { value: Some(vec![0; 8 * 1024 - 100].into()), ..new_event("just-fits", "k") },
        NewEvent { value: Some(vec![b'x'; 8 * 1024].into()), ..new_event("large", "k") },
        new_event("it's", "k"),
    ];
    for (offset, event_of_it) in (0..).zip(&published) {
        let (mut tx, admission) = admit(&store, &lease, &event(offset, Some("k")), Source::Log).await;
        assert_eq!(admission, Admission::New);
        // Whatever a handler has made its session say of texts.
        run(&mut tx, "SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'").await;
        tx.publish(event_of_it.clone()).expect("room for one");
        let committed = tx.commit(NOW).await.expect("a commit");
        assert_eq!(committed.lanes, [event_of_it.lane()], "{}", event_of_it.id);
    }
    let lanes = store.pending(0, 100, u64::MAX).await.expect("what waits");
    let mut found: Vec<NewEvent> =
        lanes.into_iter().flat_map(|lane| lane.events).map(|pending| pending.event).collect();
    found.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    published.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    assert_eq!(found, published);
    let taken = "SELECT CAST(SUM(position) AS SIGNED) FROM courant_outbox_lane";
    assert_eq!(fixture.number(taken).await, 7, "each has its own position");
}

/// Nothing is committed without the event: where its lane has no row, the statement is refused, and COMMIT behind it
/// is not looked at.
#[tokio::test]
async fn without_its_lane_nothing_is_committed() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (fixture.narrow().await, fixture.lease().await);
    make(&fixture.store, &["DELETE FROM courant_outbox_lane", "COMMIT"]).await;
    let event = event(1, Some("k"));
    let (mut tx, _) = admit(&store, &lease, &event, Source::Log).await;
    // A number that a handler's own statement has given is no position.
    let serial = "CREATE TABLE IF NOT EXISTS serials (n BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY)";
    make(&fixture.store, &[serial]).await;
    run(&mut tx, "INSERT INTO serials VALUES (NULL)").await;
    effect(&mut tx, "e-1").await;
    tx.publish(new_event("p-1", "k")).expect("room for one");
    let refused = tx.commit(NOW).await.expect_err("there are no lanes");
    assert!(matches!(&refused, CommitError::Store(error) if error.class() == Class::Corrupt), "{refused:?}");
    assert_eq!(fixture.effects("e-1").await, 0);
    assert_eq!(admission(&store, &lease, &event, Source::Log).await, Admission::New);
}

/// A handler that takes its own row away has not handled the event any less: the row is there in the end.
#[tokio::test]
async fn the_row_is_there_whatever_a_handler_does_to_it() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let event = event(1, Some("k"));
    let (mut tx, _) = admit(&fixture.store, &lease, &event, Source::Log).await;
    sqlx::query("DELETE FROM courant_inbox").execute(&mut *tx).await.expect("its own row");
    effect(&mut tx, "e-1").await;
    tx.commit(NOW).await.expect("a commit");
    assert_eq!(fixture.effects("e-1").await, 1);
    let handled = "SELECT COUNT(*) FROM courant_inbox WHERE outcome = 'handled'";
    assert_eq!(fixture.number(handled).await, 1);
}
