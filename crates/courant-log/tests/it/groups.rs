//! Consumer groups: what they commit is as durable as an event and goes with the topic.

use bytes::Bytes;
use courant_log::storage::{FaultyStorage, MemoryStorage};
use courant_log::{CommittedOffset, GroupError, Log, PartitionId};

use courant_sim::tiny::{create, open, slot, taken};

fn at(offset: u64) -> CommittedOffset {
    CommittedOffset { offset, leader_epoch: 3, metadata: "größer".to_owned(), committed_ms: 77 }
}

fn commit(log: &Log, group: &str, offsets: &[(PartitionId, u64)]) -> Result<(), GroupError> {
    let (slot, done) = slot();
    let offsets = offsets.iter().map(|(partition, offset)| (*partition, at(*offset))).collect();
    log.commit_offsets(group.to_owned(), offsets, done);
    while log.commit() {}
    taken(&slot)
}

fn store(log: &Log, group: &str, state: &'static [u8]) {
    let (slot, done) = slot();
    log.store_group(group.to_owned(), Bytes::from_static(state), done);
    while log.commit() {}
    taken(&slot).expect("stores");
}

#[test]
fn commits_and_state_come_back_from_the_journal_and_from_a_checkpoint() {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let log = open(&storage, 1);
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    commit(&log, "billing", &[(partition, 41)]).expect("commits");
    commit(&log, "billing", &[(partition, 42)]).expect("commits");
    store(&log, "billing", b"members");
    // Once replayed from the journal; the start has stored a checkpoint, so once read from that.
    let image = storage.crash_image(courant_log::storage::CrashMode::LoseAll, 1);
    for seed in [2, 3] {
        let log = open(&image, seed);
        assert_eq!(log.committed_offset("billing", partition), Some(at(42)));
        let billing = log.group("billing").expect("exists");
        assert_eq!((billing.state.as_ref(), billing.offsets.len()), (&b"members"[..], 1));
        assert_eq!(log.groups(), ["billing"]);
        assert!(log.has_group("billing") && !log.has_group("bill"));
        log.stop();
    }
}

#[test]
fn a_topic_takes_its_commits_away_and_its_successor_has_none() {
    let storage = MemoryStorage::new(64 * 1024 * 1024);
    let log = open(&storage, 1);
    let topic = create(&log, "orders", 1, &[]);
    commit(&log, "billing", &[(topic.partitions[0], 5)]).expect("commits");
    let (deleted, done) = slot();
    log.delete_topic(topic.id, done);
    // Queued behind the deletion, in the same group: it finds nothing to commit for.
    let (late, late_done) = slot();
    log.commit_offsets("billing".to_owned(), vec![(topic.partitions[0], at(9))], late_done);
    while log.commit() {}
    taken(&deleted).expect("deleted");
    assert_eq!(taken(&late), Ok(()));
    assert_eq!(log.groups(), Vec::<String>::new());
    let again = create(&log, "orders", 1, &[]);
    assert_eq!(log.committed_offset("billing", again.partitions[0]), None);
}

#[test]
fn what_no_journal_file_can_take_is_refused_and_costs_nothing() {
    let log = open(&MemoryStorage::new(64 * 1024 * 1024), 1);
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    let (slot, done) = slot();
    log.store_group("billing".to_owned(), Bytes::from(vec![7; 100_000]), done);
    while log.commit() {}
    assert!(matches!(taken(&slot), Err(GroupError::TooLarge { .. })));
    let long = "g".repeat(5000);
    assert!(matches!(commit(&log, &long, &[(partition, 1)]), Err(GroupError::TooLarge { .. })));
    commit(&log, "billing", &[(partition, 1)]).expect("the log goes on");
}
