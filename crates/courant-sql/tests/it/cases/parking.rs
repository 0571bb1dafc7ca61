//! A key that fails is set aside with everything that follows of it, in order, and nothing else is.

use courant_core::topic::TopicName;
use courant_sql::{Admission, Outcome, Parked, ParkedOf, Source, Store as _};

use super::steps::{
    Fixture, NOW, admission, assignment, consumer, event, failure, handle, number, of, offsets,
};

/// Events of a parked key queue behind it, and come back one by one in the order of their offsets.
#[tokio::test]
async fn a_key_keeps_its_order() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let events: Vec<_> = (0..5).map(|offset| event(offset, Some("k"))).collect();
    let parked = store.park(&lease, &events[0], &failure(), 0, NOW + 100, NOW).await.expect("parked");
    assert_eq!(parked, Parked::Waiting { attempts: 1 });
    for event in &events[1..] {
        assert_eq!(admission(store, &lease, event, Source::Log).await, Admission::Behind);
    }
    // In one call or in several, in whatever order.
    store.queue(&lease, &[events[3].clone(), events[1].clone()], NOW).await.expect("queued");
    store.queue(&lease, &[events[2].clone(), events[4].clone()], NOW).await.expect("queued");
    assert!(store.due(&lease.assignment, NOW + 99, 10).await.expect("a list").is_empty());
    assert_eq!(store.next_due(&lease.assignment).await.expect("a time"), Some(NOW + 100));
    for (at, event) in events.iter().enumerate() {
        let due = store.due(&lease.assignment, NOW + 100, 10).await.expect("a list");
        assert_eq!(offsets(&due), [event.offset], "only the first of the key is due");
        assert_eq!(due[0].event, *event, "with all that was delivered");
        assert_eq!(due[0].attempts, u32::from(at == 0));
        // Whoever tries another one of the key is refused.
        if let Some(next) = events.get(at + 1) {
            assert_eq!(admission(store, &lease, next, Source::Parked).await, Admission::Gone);
        }
        let committed = handle(store, &lease, event, Source::Parked).await;
        assert_eq!(committed.drained.len(), usize::from(at == 4), "drained with the last one");
    }
    let order = "SELECT COUNT(*) FROM effects a JOIN effects b ON b.n = a.n + 1 \
                 WHERE a.event_id < b.event_id";
    assert_eq!(fixture.number(order).await, 4);
    assert_eq!(admission(store, &lease, &event(5, Some("k")), Source::Log).await, Admission::New);
}

/// Whoever takes a partition over looks at what is parked there, and whoever parks in one in which nothing was looks from
/// then on, also under copies of the lease that were made before.
#[tokio::test]
async fn a_new_owner_looks_at_what_is_parked() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let copy = lease.clone();
    handle(store, &lease, &event(0, Some("k")), Source::Log).await;
    store.park(&lease, &event(1, Some("k")), &failure(), 0, NOW + 1, NOW).await.expect("parked");
    let new = fixture.lease().await;
    for offset in [1, 2] {
        assert_eq!(admission(store, &new, &event(offset, Some("k")), Source::Log).await, Admission::Behind);
    }
    assert!(store.begin_admitted(&copy, &[of(&event(2, Some("k")), Source::Log)], NOW).await.is_err());
    handle(store, &new, &event(1, Some("k")), Source::Parked).await;
    let newer = fixture.lease().await;
    let copy = newer.clone();
    handle(store, &newer, &event(2, Some("k")), Source::Log).await;
    store.park(&newer, &event(3, Some("k")), &failure(), 0, NOW + 1, NOW).await.expect("parked");
    assert_eq!(admission(store, &copy, &event(4, Some("k")), Source::Log).await, Admission::Behind);
}

/// Other keys, and events without one, are not held up.
#[tokio::test]
async fn other_keys_flow() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    store.park(&lease, &event(0, Some("k")), &failure(), 0, NOW + 1, NOW).await.expect("parked");
    store.park(&lease, &event(1, None), &failure(), 0, NOW + 2, NOW).await.expect("parked");
    store.park(&lease, &event(2, None), &failure(), 0, NOW + 3, NOW).await.expect("parked");
    // An empty key is a key.
    store.park(&lease, &event(3, Some("")), &failure(), 0, NOW + 4, NOW).await.expect("parked");
    assert_eq!(admission(store, &lease, &event(9, Some("")), Source::Log).await, Admission::Behind);
    handle(store, &lease, &event(4, Some("other")), Source::Log).await;
    handle(store, &lease, &event(5, None), Source::Log).await;
    let due = store.due(&lease.assignment, NOW + 10, 10).await.expect("a list");
    assert_eq!(offsets(&due), [0, 1, 2, 3], "those without a key wait for themselves");
    let keys = store.parked_keys(&lease.assignment, None, 10).await.expect("a list");
    let keys: Vec<_> = keys.iter().map(|parked| (&parked.key[..], parked.events)).collect();
    assert_eq!(keys, [(&b""[..], 1), (&b"k"[..], 1)]);
    let after = store.parked_keys(&lease.assignment, Some(b""), 10).await.expect("a list");
    assert_eq!(after.len(), 1);
    // Another consumer of the same events has nothing parked.
    let mailing = store.take_over(&assignment("mailing"), "test", NOW).await.expect("a lease");
    handle(store, &mailing, &event(0, Some("k")), Source::Log).await;
}

/// A parked event that fails again keeps its place and its first failure, and counts its attempts.
#[tokio::test]
async fn attempts_are_counted() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let first = event(0, Some("k"));
    for attempt in 1..=3 {
        let now = NOW + i64::from(attempt);
        let parked = store.park(&lease, &first, &failure(), attempt - 1, now + 100, now).await;
        assert_eq!(parked.expect("parked"), Parked::Waiting { attempts: attempt });
    }
    let parked = store.parked(&lease.assignment, Some(b"k"), 10).await.expect("a list");
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].first_failed_ms, Some(NOW + 1));
    assert_eq!(parked[0].due_ms, Some(NOW + 103));
    assert_eq!(parked[0].failure, Some(failure()));
    assert_eq!(parked[0].redrive, None);
}

/// A commit had succeeded without an answer, so the same failure is parked once more: it is no second
/// attempt, and changes neither when the event is due nor who has its turn.
#[tokio::test]
async fn a_failure_that_is_parked_again_counts_once() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    for key in [Some("k"), None] {
        let event = event(u64::from(key.is_none()), key);
        for (failures, again) in [(0, 0), (0, 7), (1, 20), (1, 27)] {
            let now = NOW + again;
            let parked = store.park(&lease, &event, &failure(), failures, now + 100, now).await;
            assert_eq!(parked.expect("parked"), Parked::Waiting { attempts: failures + 1 }, "{key:?}");
        }
        let parked = store.parked(&lease.assignment, key.map(str::as_bytes), 10).await.expect("a list");
        assert_eq!(parked.len(), 1);
        let found = &parked[0];
        assert_eq!((found.attempts, found.first_failed_ms, found.due_ms), (2, Some(NOW), Some(NOW + 120)));
    }
}

/// A process dies after it has parked events, and before it has saved how far it was. The log delivers
/// them again: they are recognised, nothing is parked twice, nothing is handled early.
#[tokio::test]
async fn parked_events_that_are_delivered_again_stay_as_they_are() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    handle(&fixture.store, &lease, &event(0, Some("k")), Source::Log).await;
    fixture.store.park(&lease, &event(1, Some("k")), &failure(), 0, NOW + 100, NOW).await.expect("parked");
    fixture.store.queue(&lease, &[event(2, Some("k"))], NOW).await.expect("queued");
    fixture.store.park(&lease, &event(3, None), &failure(), 0, NOW + 100, NOW).await.expect("parked");
    let fixture = fixture.reopened().await;
    let (store, lease) = (&fixture.store, fixture.lease().await);
    // What the new owner knows of the parked keys: everything behind them is queued unseen, also the
    // event that was handled before the key was parked.
    let again: Vec<_> = (0..3).map(|offset| event(offset, Some("k"))).collect();
    store.queue(&lease, &again, NOW).await.expect("queued");
    assert_eq!(admission(store, &lease, &event(3, None), Source::Log).await, Admission::Behind);
    assert_eq!(admission(store, &lease, &event(1, Some("k")), Source::Log).await, Admission::Behind);
    let parked = store.parked(&lease.assignment, Some(b"k"), 10).await.expect("a list");
    assert_eq!(offsets(&parked), [1, 2], "the handled one is not among them");
    assert_eq!((parked[0].attempts, parked[0].due_ms), (1, Some(NOW + 100)));
    assert_eq!((parked[1].attempts, parked[1].due_ms), (0, None));
}

/// The last parked event of a key is handled just before another one is queued behind it: that one must
/// not wait for ever.
#[tokio::test]
async fn an_event_that_is_queued_behind_nothing_is_due_at_once() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    store.park(&lease, &event(0, Some("k")), &failure(), 0, NOW, NOW).await.expect("parked");
    handle(store, &lease, &event(0, Some("k")), Source::Parked).await;
    store.queue(&lease, &[event(1, Some("k")), event(2, Some("k"))], NOW + 5).await.expect("queued");
    let due = store.due(&lease.assignment, NOW + 5, 10).await.expect("a list");
    assert_eq!(offsets(&due), [1]);
}

/// A commit had succeeded without an answer: the event is not parked, and its redelivery is seen.
#[tokio::test]
async fn an_event_that_was_handled_is_not_parked() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    handle(store, &lease, &event(0, Some("k")), Source::Log).await;
    let parked = store.park(&lease, &event(0, Some("k")), &failure(), 0, NOW, NOW).await.expect("an answer");
    assert_eq!(parked, Parked::Settled);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_parked").await, 0);
}

/// A handler passes an event: it is settled, and the next one of its key has its turn.
#[tokio::test]
async fn a_skipped_event_makes_room() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    store.park(&lease, &event(0, Some("k")), &failure(), 0, NOW, NOW).await.expect("parked");
    store.queue(&lease, &[event(1, Some("k"))], NOW).await.expect("queued");
    let first = event(0, Some("k"));
    let skipped = store.skip(&lease, &of(&first, Source::Parked), NOW + 7).await.expect("skipped");
    assert_eq!(skipped.drained.len(), 0, "one is left");
    let seen = admission(store, &lease, &first, Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Skipped));
    assert_eq!(offsets(&store.due(&lease.assignment, NOW + 7, 10).await.expect("a list")), [1]);
    let counts = store.parked_counts(ParkedOf::all(&consumer("billing"))).await.expect("counts");
    assert_eq!((counts.waiting, counts.queued, counts.blocking), (1, 0, 0));
    assert_eq!(counts.next_due_ms, Some(NOW + 7));
}

/// What is parked of a topic that the consumer reads no more is there, and can be left out of the count.
#[tokio::test]
async fn what_is_parked_is_counted_of_all_topics_or_of_some() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    store.park(&lease, &event(0, Some("k")), &failure(), 0, NOW + 7, NOW).await.expect("parked");
    store.queue(&lease, &[event(1, Some("k"))], NOW).await.expect("queued");
    let (billing, read) = (consumer("billing"), lease.assignment.partition.topic.clone());
    let other = TopicName::new("read.no_more-1").expect("a legal name");
    let (found, nothing) = ((1, 1, Some(NOW + 7)), (0, 0, None));
    for (topics, expected) in [
        (vec![read.clone()], found),
        (vec![other.clone(), read], found),
        (vec![other], nothing),
        (vec![], nothing),
    ] {
        let counts = store.parked_counts(ParkedOf::topics(&billing, &topics)).await.expect("counts");
        assert_eq!((counts.waiting, counts.queued, counts.next_due_ms), expected, "{topics:?}");
    }
    let counts = store.parked_counts(ParkedOf::all(&billing)).await.expect("counts");
    assert_eq!((counts.waiting, counts.queued, counts.next_due_ms), found);
}

/// More events than one statement takes.
#[tokio::test]
async fn a_long_queue_keeps_its_order() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let events: Vec<_> = (0..1201).map(|offset| event(offset, Some("k"))).collect();
    store.park(&lease, &events[0], &failure(), 0, NOW, NOW).await.expect("parked");
    store.queue(&lease, &events[1..], NOW).await.expect("queued");
    assert_eq!(number(store, "SELECT COUNT(*) FROM courant_parked WHERE state = 'queued'").await, 1200);
    let parked = store.parked(&lease.assignment, Some(b"k"), u32::MAX).await.expect("a list");
    assert_eq!(offsets(&parked), (0..1000).collect::<Vec<_>>(), "a list has its bound");
}
