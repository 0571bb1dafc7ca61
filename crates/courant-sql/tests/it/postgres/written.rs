//! The one event that a transaction publishes stands in the text of its commit.

use bytes::Bytes;
use courant_sql::{Admission, Class, CommitError, NewEvent, Source, Store as _, Transaction as _};

use super::steps::{Fixture, NOW, admission, admit, effect, event, new_event, number, run};
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
            headers: vec![named("it's"), named("\\"), named("ü\"'\n")],
            ..new_event("strange", "k")
        },
        NewEvent { key: None, value: None, headers: Vec::new(), timestamp_ms: -1, ..new_event("bare", "k") },
        NewEvent { value: Some(vec![0; 8 * 1024 - 100].into()), ..new_event("just-fits", "k") },
        NewEvent { value: Some(vec![b'x'; 8 * 1024].into()), ..new_event("large", "k") },
        new_event("it's", "k"),
    ];
    for (offset, event_of_it) in (0..).zip(&published) {
        let (mut tx, admission) = admit(&store, &lease, &event(offset, Some("k")), Source::Log).await;
        assert_eq!(admission, Admission::New);
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
    let taken = "SELECT SUM(position)::bigint FROM courant_outbox_lane";
    assert_eq!(fixture.number(taken).await, 6, "each has its own position");
}

/// The server keeps its plan.
#[tokio::test]
async fn it_is_planned_once() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (fixture.narrow().await, fixture.lease().await);
    for offset in 1..=20 {
        let (mut tx, _) = admit(&store, &lease, &event(offset, Some("k")), Source::Log).await;
        tx.publish(new_event(&format!("p-{offset}"), "k")).expect("room for one");
        tx.commit(NOW).await.expect("a commit");
    }
    let planned = "SELECT COALESCE(SUM(generic_plans), 0)::bigint FROM pg_prepared_statements \
                   WHERE name = 'courant_write'";
    assert!(number(&store, planned).await >= 10);
}

/// Nothing is committed without the event: where its lane has no row, the statement is refused, and COMMIT behind it
/// is not looked at.
#[tokio::test]
async fn without_its_lane_nothing_is_committed() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (fixture.narrow().await, fixture.lease().await);
    make(&fixture.store, &["DELETE FROM courant_outbox_lane"]).await;
    let event = event(1, Some("k"));
    let (mut tx, _) = admit(&store, &lease, &event, Source::Log).await;
    effect(&mut tx, "e-1").await;
    tx.publish(new_event("p-1", "k")).expect("room for one");
    let refused = tx.commit(NOW).await.expect_err("there are no lanes");
    assert!(matches!(&refused, CommitError::Store(error) if error.class() == Class::Corrupt), "{refused:?}");
    assert_eq!(fixture.effects("e-1").await, 0);
    assert_eq!(admission(&store, &lease, &event, Source::Log).await, Admission::New);
    // A transaction that handles no event has no other guard, on the same connection.
    let mut tx = store.begin(None).await.expect("a transaction");
    effect(&mut tx, "e-2").await;
    tx.publish(new_event("p-2", "k")).expect("room for one");
    tx.commit(NOW).await.expect_err("there are no lanes");
    assert_eq!(fixture.effects("e-2").await, 0);
}

/// A handler that makes its session forget what was prepared is called once more, and what it publishes goes to the
/// server by itself from then on.
#[tokio::test]
async fn a_session_that_forgets_publishes_all_the_same() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (fixture.narrow().await, fixture.lease().await);
    for (offset, attempts) in [(1, 2), (2, 1)] {
        let event = event(offset, Some("k"));
        for attempt in 1..=attempts {
            let (mut tx, admission) = admit(&store, &lease, &event, Source::Log).await;
            assert_eq!(admission, Admission::New, "attempt {attempt}");
            run(&mut tx, "DEALLOCATE ALL").await;
            tx.publish(new_event(&format!("p-{offset}"), "k")).expect("room for one");
            match tx.commit(NOW).await {
                Ok(committed) => assert_eq!((attempt, committed.lanes.len()), (attempts, 1)),
                Err(CommitError::Store(error)) => {
                    assert!(attempt < attempts && error.is_retriable(), "attempt {attempt}: {error}");
                }
                Err(error) => panic!("attempt {attempt}: {error}"),
            }
        }
    }
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_outbox").await, 2);
}

/// A handler that publishes nothing has made its session forget what was prepared, and nobody has noticed. Plain code
/// has the connection behind it, and nobody would call that once more: it publishes all the same.
#[tokio::test]
async fn plain_code_publishes_on_a_session_that_has_forgotten() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (fixture.narrow().await, fixture.lease().await);
    let (mut tx, _) = admit(&store, &lease, &event(1, Some("k")), Source::Log).await;
    run(&mut tx, "DEALLOCATE ALL").await;
    tx.commit(NOW).await.expect("a commit");
    let mut tx = store.begin(None).await.expect("a transaction");
    effect(&mut tx, "e-2").await;
    tx.publish(new_event("p-2", "k")).expect("room for one");
    tx.commit(NOW).await.expect("a commit");
    assert_eq!(fixture.effects("e-2").await, 1);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_outbox").await, 1);
}
