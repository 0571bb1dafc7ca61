//! An owner that has lost its partition can neither handle, park nor move anything of it.

use courant_sql::{BeginError, DeadFilter, Progress, ResetError, Source, Store as _, Transaction as _};

use super::steps::{Fixture, NOW, admit, assignment, burial, effect, event, failure, of};

fn is_fenced<T: std::fmt::Debug>(result: Result<T, BeginError>) {
    let refused = result.expect_err("another owner");
    assert!(matches!(refused, BeginError::Fenced { held: 1, current: 2, .. }), "{refused}");
    assert!(refused.to_string().contains("orders/3"), "{refused}");
}

#[tokio::test]
async fn an_old_epoch_can_do_nothing() {
    let Some(fixture) = Fixture::new().await else { return };
    let old = fixture.lease().await;
    let other = fixture.another().await;
    let new = other.take_over(&assignment("billing"), "other", NOW).await.expect("a lease");
    assert_eq!((old.epoch, new.epoch), (1, 2));
    let store = &fixture.store;
    let event = event(1, Some("k"));
    let progress = Progress { offset: 1, mark: "e-1".to_owned(), gap_events: 0 };
    is_fenced(store.begin(Some(&old)).await);
    is_fenced(store.park(&old, &event, &failure(), 0, NOW, NOW).await);
    is_fenced(store.queue(&old, std::slice::from_ref(&event), NOW).await);
    is_fenced(store.skip(&old, &of(&event, Source::Log), NOW).await);
    is_fenced(store.bury(&old, burial(&event, &failure(), true), NOW).await);
    is_fenced(store.save_progress(&[(&old, &progress)], NOW).await);
    is_fenced(store.reset_progress(&old, None, NOW).await.map_err(|error| match error {
        ResetError::Begin(error) => error,
        error => panic!("{error}"),
    }));
    is_fenced(store.claim_redrives(&old, 10, NOW).await);
    let tables = "SELECT (SELECT COUNT(*) FROM courant_parked) + (SELECT COUNT(*) FROM courant_dead) \
                  + (SELECT COUNT(*) FROM courant_inbox) + (SELECT COUNT(*) FROM courant_progress)";
    assert_eq!(fixture.number(tables).await, 0);
    other.park(&new, &event, &failure(), 0, NOW, NOW).await.expect("the new owner may");
}

/// A takeover waits for the transaction that is under way: its effect is there before the new owner
/// reads anything, and the old owner gets no other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_waits_for_the_transaction_under_way() {
    let Some(fixture) = Fixture::new().await else { return };
    let old = fixture.lease().await;
    let event = event(1, Some("k"));
    let (mut tx, _) = admit(&fixture.store, &old, &event, Source::Log).await;
    effect(&mut tx, "e-1").await;
    let other = fixture.another().await;
    let takeover = tokio::spawn({
        let other = other.clone();
        async move { other.take_over(&assignment("billing"), "other", NOW).await }
    });
    tx.commit(NOW).await.expect("it was there first");
    let new = takeover.await.expect("no panic").expect("a lease");
    assert_eq!(new.epoch, 2);
    let effects = super::steps::number(&other, "SELECT COUNT(*) FROM effects").await;
    assert_eq!(effects, 1);
    is_fenced(fixture.store.begin(Some(&old)).await);
}

/// Partitions and consumers are owned one by one.
#[tokio::test]
async fn another_partition_is_not_fenced() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let mut next = assignment("billing");
    next.partition.partition = 4;
    fixture.store.take_over(&next, "other", NOW).await.expect("a lease");
    fixture.store.take_over(&assignment("mailing"), "other", NOW).await.expect("a lease");
    let tx = fixture.store.begin(Some(&lease)).await.expect("still the owner");
    tx.rollback().await.expect("a rollback");
}

/// Several partitions are saved at once. When somebody else has one of them, that one is named, and nothing of it
/// is saved.
#[tokio::test]
async fn progress_of_several_partitions_is_saved_at_once() {
    let Some(fixture) = Fixture::new().await else { return };
    let store = &fixture.store;
    let numbered = |number| {
        let mut numbered = assignment("billing");
        numbered.partition.partition = number;
        numbered
    };
    let mut leases = Vec::new();
    for number in 0..3 {
        leases.push(store.take_over(&numbered(number), "test", NOW).await.expect("a lease"));
    }
    let at = |offset: u64| Progress { offset, mark: format!("it's {offset}"), gap_events: offset / 10 };
    let first = [at(1), at(2), at(3)];
    let saves: Vec<_> = leases.iter().zip(&first).collect();
    store.save_progress(&saves, NOW).await.expect("saved");
    store.save_progress(&[], NOW).await.expect("nothing to save");
    for (lease, progress) in saves {
        let saved = store.progress(&lease.assignment).await.expect("a row");
        assert_eq!(saved.as_ref(), Some(progress));
    }
    fixture.another().await.take_over(&numbered(1), "other", NOW).await.expect("a lease");
    let second = [at(10), at(20), at(30)];
    let saves: Vec<_> = leases.iter().zip(&second).collect();
    match store.save_progress(&saves, NOW).await.expect_err("another owner") {
        BeginError::Fenced { assignment, held: 1, current: 2 } => assert_eq!(*assignment, numbered(1)),
        error => panic!("{error}"),
    }
    assert_eq!(store.progress(&numbered(1)).await.expect("a row"), Some(at(2)));
}

#[tokio::test]
async fn progress_moves_on_and_survives() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let at = |offset: u64| Progress { offset, mark: format!("e-{offset}"), gap_events: offset / 10 };
    assert_eq!(fixture.store.progress(&lease.assignment).await.expect("a row"), None);
    for offset in [3, 30, 5] {
        fixture.store.save_progress(&[(&lease, &at(offset))], NOW).await.expect("saved");
    }
    let fixture = fixture.reopened().await;
    let saved = fixture.store.progress(&lease.assignment).await.expect("a row");
    assert_eq!(saved, Some(at(30)), "an older mark changes nothing");
    fixture.store.reset_progress(&lease, Some(&at(2)), NOW).await.expect("set back");
    assert_eq!(fixture.store.progress(&lease.assignment).await.expect("a row"), Some(at(2)));
    fixture.store.reset_progress(&lease, None, NOW).await.expect("to the beginning");
    assert_eq!(fixture.store.progress(&lease.assignment).await.expect("a row"), None);
}

/// Symptom: after a log was restored or replaced, events were lost without a word where events of the log before
/// them were parked or dead letters under the same offsets. Cause: an offset has one row of each, and what came was
/// taken for what was there. Progress is not set before such events, and closed letters make room.
#[tokio::test]
async fn progress_is_not_set_before_events_that_are_not_done_with() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let at = |offset: u64| Progress { offset, mark: format!("e-{offset}"), gap_events: 0 };
    store.save_progress(&[(&lease, &at(9))], NOW).await.expect("saved");
    store.park(&lease, &event(4, None), &failure(), 0, NOW, NOW).await.expect("parked");
    let mut letters = Vec::new();
    for offset in [2, 5, 6] {
        let event = event(offset, None);
        let buried = store.bury(&lease, burial(&event, &failure(), false), NOW).await.expect("buried");
        letters.push(buried.id.expect("a number"));
    }
    store.discard(&[letters[0], letters[2]], NOW).await.expect("discarded");

    let (before, among, behind) = (at(3), at(4), Progress::beginning_at(6, 0));
    for (progress, expected) in [(None, (0, 1, 1)), (Some(&before), (4, 1, 1)), (Some(&among), (5, 0, 1))] {
        match store.reset_progress(&lease, progress, NOW).await.expect_err("something is in the way") {
            ResetError::InTheWay { next, parked, letters, .. } => {
                assert_eq!((next, parked, letters), expected);
            }
            error => panic!("{error}"),
        }
    }
    assert_eq!(store.progress(&lease.assignment).await.expect("a row"), Some(at(9)), "nothing has changed");
    let all = DeadFilter::default();
    assert_eq!(store.count_dead_letters(&all).await.expect("a number"), 3);

    store.reset_progress(&lease, Some(&behind), NOW).await.expect("nothing is in the way");
    assert_eq!(store.progress(&lease.assignment).await.expect("a row"), Some(behind));
    let left = store.dead_letters(&all, 0, 10).await.expect("a list");
    let left: Vec<i64> = left.iter().map(|letter| letter.id).collect();
    assert_eq!(left, letters[..2], "the closed one would stand in the way of another letter");
}
