//! Events that could not be handled: kept with everything, listed, closed, never lost on the way.

use bytes::Bytes;
use courant_sql::{
    Admission, Burial, DeadFilter, DeadReason, DeadState, Failure, Outcome, ParkedOf, Source, Store as _,
};

use super::steps::{Fixture, NOW, admission, burial, consumer, event, failure, handle, new_event, offsets};

/// After its attempts an event becomes a dead letter and keeps its key parked. What waits behind it
/// waits for a person, and goes on when the dead letter is given up.
#[tokio::test]
async fn a_dead_letter_that_blocks_its_key() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let first = event(0, Some("k"));
    for (failures, attempt) in [(0, 1), (1, 2)] {
        store.park(&lease, &first, &failure(), failures, NOW, NOW + attempt).await.expect("parked");
    }
    store.queue(&lease, &[event(1, Some("k"))], NOW).await.expect("queued");
    let buried = store.bury(&lease, burial(&first, &failure(), true), NOW + 3).await.expect("buried");
    let id = buried.id.expect("a number");
    assert!(!buried.drained);
    assert!(store.due(&lease.assignment, i64::MAX, 10).await.expect("a list").is_empty());
    assert_eq!(admission(store, &lease, &event(2, Some("k")), Source::Log).await, Admission::Behind);
    let seen = admission(store, &lease, &first, Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Dead), "its redelivery changes nothing");
    let counts = store.parked_counts(ParkedOf::all(&consumer("billing"))).await.expect("counts");
    assert_eq!((counts.waiting, counts.queued, counts.blocking), (0, 1, 1));

    let letter = store.dead_letter(id).await.expect("an answer").expect("the dead letter");
    assert_eq!(letter.event, first, "with all that was delivered");
    assert_eq!(letter.summary.position.to_string(), "orders/3@0");
    assert_eq!((letter.summary.attempts, letter.summary.blocks_key), (3, true));
    assert_eq!((letter.summary.first_failed_ms, letter.summary.last_failed_ms), (NOW + 1, NOW + 3));
    assert_eq!(letter.summary.reason, DeadReason::Exhausted);
    assert_eq!(letter.summary.failure, failure());
    assert_eq!(letter.summary.code_version, "1.2.3");

    assert_eq!(store.discard(&[id, 999], NOW + 9).await.expect("discarded"), [id]);
    assert!(store.discard(&[id], NOW + 9).await.expect("an answer").is_empty(), "it is closed");
    let due = store.due(&lease.assignment, NOW + 9, 10).await.expect("a list");
    assert_eq!(offsets(&due), [1], "the next one has its turn");
    let seen = admission(store, &lease, &first, Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Discarded));
}

/// The other policy: the dead letter is set aside, and its key flows on.
#[tokio::test]
async fn a_dead_letter_that_does_not_block() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    store.park(&lease, &event(0, Some("k")), &failure(), 0, NOW, NOW).await.expect("parked");
    store.queue(&lease, &[event(1, Some("k"))], NOW).await.expect("queued");
    let first = event(0, Some("k"));
    let buried = store.bury(&lease, burial(&first, &failure(), false), NOW).await.expect("buried");
    assert!(!buried.drained);
    handle(store, &lease, &event(1, Some("k")), Source::Parked).await;
    handle(store, &lease, &event(2, Some("k")), Source::Log).await;
    let last = event(3, Some("k"));
    store.park(&lease, &last, &failure(), 0, NOW, NOW).await.expect("parked");
    let buried = store.bury(&lease, burial(&last, &failure(), false), NOW).await.expect("buried");
    assert!(buried.drained, "nothing of the key is parked any more");
}

/// An event that cannot be decoded was never parked; without a key nothing can be kept parked for it.
#[tokio::test]
async fn an_undecodable_event_and_its_copy() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let mut broken = event(4, None);
    broken.value = Some(Bytes::from_static(&[0xff, 0x00, 0x80]));
    broken.headers.clear();
    let failure = Failure { message: "é".repeat(10_000), ..failure() };
    let burial = Burial {
        reason: DeadReason::Undecodable,
        copies: vec![new_event("copy", "k")],
        ..burial(&broken, &failure, true)
    };
    let buried = store.bury(&lease, burial, NOW).await.expect("buried");
    assert_eq!(buried.lanes, [new_event("copy", "k").lane()]);
    assert!(!buried.drained);
    assert_eq!(store.outbox_backlog().await.expect("a number"), 1, "the copy leaves with it");
    let id = buried.id.expect("a number");
    let letter = store.dead_letter(id).await.expect("an answer").expect("the dead letter");
    assert_eq!(letter.event, broken, "its bytes are kept as they were");
    assert!(!letter.summary.blocks_key);
    assert_eq!(letter.summary.failure.message.len(), 16 * 1024, "a long text is cut");
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_parked").await, 0);
}

/// A commit had succeeded without an answer: there is nothing to bury, and no copy to publish.
#[tokio::test]
async fn an_event_that_was_handled_is_not_buried() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let handled = event(0, Some("k"));
    handle(store, &lease, &handled, Source::Log).await;
    let failure = failure();
    let burial = Burial { copies: vec![new_event("copy", "k")], ..burial(&handled, &failure, true) };
    let buried = store.bury(&lease, burial, NOW).await.expect("an answer");
    assert_eq!(buried.id, None);
    assert_eq!(store.outbox_backlog().await.expect("a number"), 0);
    let all = store.count_dead_letters(&DeadFilter::default()).await.expect("a number");
    assert_eq!(all, 0);
}

#[tokio::test]
async fn lists_groups_and_filters() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let declined = failure();
    let timeout = Failure { kind: "Timeout".to_owned(), ..failure() };
    let mut ids = Vec::new();
    for offset in 0..6 {
        let key = if offset % 2 == 0 { "even" } else { "odd" };
        let failure = if offset < 4 { &declined } else { &timeout };
        let event = event(offset, Some(key));
        let now = NOW + i64::try_from(offset).expect("small");
        let buried = store.bury(&lease, burial(&event, failure, false), now).await.expect("buried");
        ids.push(buried.id.expect("a number"));
    }
    let page = store.dead_letters(&DeadFilter::default(), ids[1], 2).await.expect("a list");
    assert_eq!(page.iter().map(|dead| dead.id).collect::<Vec<_>>(), ids[2..4]);
    let even = DeadFilter { key: Some(Bytes::from_static(b"even")), ..DeadFilter::default() };
    assert_eq!(store.count_dead_letters(&even).await.expect("a number"), 3);
    let some = DeadFilter {
        consumer: Some(consumer("billing").name),
        topic: Some(lease.assignment.partition.topic.clone()),
        kind: Some("Timeout".to_owned()),
        place: Some("billing::charge".to_owned()),
        state: Some(DeadState::Dead),
        ids: vec![ids[0], ids[5]],
        key: None,
    };
    let found = store.dead_letters(&some, 0, 10).await.expect("a list");
    assert_eq!(found.iter().map(|dead| dead.id).collect::<Vec<_>>(), [ids[5]]);
    let nobody = DeadFilter { consumer: Some(consumer("nobody").name), ..DeadFilter::default() };
    assert_eq!(store.count_dead_letters(&nobody).await.expect("a number"), 0);

    assert_eq!(store.archive(&[ids[4]], NOW).await.expect("archived"), [ids[4]]);
    let groups = store.dead_letter_groups(10).await.expect("groups");
    let groups: Vec<_> = groups.iter().map(|group| (group.kind.as_str(), group.events)).collect();
    assert_eq!(groups, [("CardDeclined", 4), ("Timeout", 1)], "the archived one is out of the way");
    let archived = DeadFilter { state: Some(DeadState::Archived), ..DeadFilter::default() };
    assert_eq!(store.count_dead_letters(&archived).await.expect("a number"), 1);
    assert_eq!(store.dead_letter(9999).await.expect("an answer"), None);
}
