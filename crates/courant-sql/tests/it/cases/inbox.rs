//! An event has its effect once, however often it is delivered.

use courant_sql::{Admission, AdmitError, Consumer, Outcome, Source, Store as _, Transaction as _};

use super::steps::{Fixture, NOW, admission, admit, assignment, effect, event, handle, new_event, of};

/// Handlers fail and are dropped halfway as often as they succeed. Every event is delivered until the
/// inbox has it, and then once more: one effect each, no event lost.
#[tokio::test]
async fn once_under_rollbacks_and_dropped_handlers() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let mut attempts = 0;
    for offset in 0..40 {
        let event = event(offset, Some("k"));
        loop {
            let (mut tx, admission) = admit(&fixture.store, &lease, &event, Source::Log).await;
            if admission == Admission::Seen(Outcome::Handled) {
                break;
            }
            assert_eq!(admission, Admission::New);
            effect(&mut tx, event.id.as_str()).await;
            attempts += 1;
            match attempts % 3 {
                0 => {
                    tx.commit(NOW).await.expect("a commit");
                }
                1 => tx.rollback().await.expect("a rollback"),
                _ => drop(tx),
            }
        }
    }
    assert_eq!(attempts, 120, "two failures before each success");
    assert_eq!(fixture.number("SELECT COUNT(*) FROM effects").await, 40);
    assert_eq!(fixture.number("SELECT COUNT(DISTINCT event_id) FROM effects").await, 40);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_inbox").await, 40);
}

/// What was committed is remembered by the next process; what was not is not.
#[tokio::test]
async fn once_across_a_restart() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    handle(&fixture.store, &lease, &event(1, None), Source::Log).await;
    let open = event(2, None);
    let (mut tx, _) = admit(&fixture.store, &lease, &open, Source::Log).await;
    effect(&mut tx, open.id.as_str()).await;
    drop(tx);
    let fixture = fixture.reopened().await;
    let seen = admission(&fixture.store, &lease, &event(1, None), Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Handled));
    assert_eq!(admission(&fixture.store, &lease, &open, Source::Log).await, Admission::New);
    assert_eq!((fixture.effects("e-1").await, fixture.effects("e-2").await), (1, 0));
}

/// Two consumers of one service both have their effect, and so has a new generation of one.
#[tokio::test]
async fn once_for_each_consumer_and_generation() {
    let Some(fixture) = Fixture::new().await else { return };
    let billing = fixture.lease().await;
    let mailing = fixture.store.take_over(&assignment("mailing"), "test", NOW).await.expect("a lease");
    let mut again = assignment("billing");
    again.consumer = Consumer { generation: 2, ..again.consumer };
    let again = fixture.store.take_over(&again, "test", NOW).await.expect("a lease");
    let event = event(7, Some("k"));
    for lease in [&billing, &mailing, &again] {
        handle(&fixture.store, lease, &event, Source::Log).await;
    }
    assert_eq!(fixture.effects("e-7").await, 3);
    let seen = admission(&fixture.store, &mailing, &event, Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Handled));
}

/// One statement for many: each delivery has its own answer, and an event that comes twice is new once.
#[tokio::test]
async fn many_are_admitted_at_once() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let events: Vec<_> = (0..5).map(|offset| event(offset, Some("k"))).collect();
    handle(&fixture.store, &lease, &events[1], Source::Log).await;
    let mut tx = fixture.store.begin(Some(&lease)).await.expect("a transaction");
    let deliveries: Vec<_> = [0, 1, 2, 2, 4].map(|at: usize| of(&events[at], Source::Log)).to_vec();
    let admissions = tx.admit(&deliveries, NOW).await.expect("answers");
    let seen = Admission::Seen(Outcome::Handled);
    assert_eq!(admissions, [Admission::New, seen, Admission::New, seen, Admission::New]);
    tx.commit(NOW).await.expect("a commit");
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_inbox").await, 4);
    assert_eq!(admission(&fixture.store, &lease, &events[3], Source::Log).await, Admission::New);
}

/// However many events a transaction has: each has its answer, its row and its place in the outbox, and nothing
/// else has.
#[tokio::test]
async fn transactions_of_all_sizes_have_what_is_theirs() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let mut first = 0;
    for size in [1, 2, 9, 10, 11, 29, 50] {
        let events: Vec<_> = (first..first + size).map(|offset| event(offset, Some("k"))).collect();
        let deliveries: Vec<_> = events.iter().map(|event| of(event, Source::Log)).collect();
        let mut tx = fixture.store.begin(Some(&lease)).await.expect("a transaction");
        let admissions = tx.admit(&deliveries, NOW).await.expect("answers");
        assert_eq!(admissions, vec![Admission::New; deliveries.len()]);
        for event in &events {
            tx.publish(new_event(event.id.as_str(), "k")).expect("room");
        }
        tx.commit(NOW).await.expect("a commit");
        let mut tx = fixture.store.begin(Some(&lease)).await.expect("a transaction");
        let admissions = tx.admit(&deliveries, NOW).await.expect("answers");
        assert_eq!(admissions, vec![Admission::Seen(Outcome::Handled); deliveries.len()]);
        tx.rollback().await.expect("a rollback");
        first += size;
    }
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_inbox").await, 112);
    // One key, so one lane.
    let waiting = fixture.store.pending(0, 200, u64::MAX).await.expect("what waits");
    let waiting = waiting.iter().flat_map(|lane| &lane.events);
    let ids: Vec<_> = waiting.map(|pending| pending.event.id.as_str().to_owned()).collect();
    assert_eq!(ids, (0..112).map(|offset| format!("e-{offset}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn more_than_a_transaction_takes_is_refused() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let event = event(0, None);
    let deliveries = vec![of(&event, Source::Log); 1001];
    let mut tx = fixture.store.begin(Some(&lease)).await.expect("a transaction");
    let refused = tx.admit(&deliveries, NOW).await.expect_err("too many");
    assert!(matches!(refused, AdmitError::TooMany { events: 1001 }), "{refused}");
    drop(tx);
    let mut plain = fixture.store.begin(None).await.expect("a transaction");
    let refused = plain.admit(&deliveries[..1], NOW).await.expect_err("no lease");
    assert!(matches!(refused, AdmitError::NoLease), "{refused}");
}

/// Two processes get the same events at once: the second waits for the first and then sees its row.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn once_when_two_processes_have_the_same_events() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let mut tasks = Vec::new();
    for store in [fixture.store.clone(), fixture.another().await] {
        for _ in 0..4 {
            let (store, lease) = (store.clone(), lease.clone());
            tasks.push(tokio::spawn(async move {
                for offset in 0..50 {
                    let event = event(offset, None);
                    let (mut tx, admission) = admit(&store, &lease, &event, Source::Log).await;
                    if admission == Admission::New {
                        effect(&mut tx, event.id.as_str()).await;
                    }
                    tx.commit(NOW).await.expect("a commit");
                }
            }));
        }
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!(fixture.number("SELECT COUNT(*) FROM effects").await, 50);
    assert_eq!(fixture.number("SELECT COUNT(DISTINCT event_id) FROM effects").await, 50);
}
