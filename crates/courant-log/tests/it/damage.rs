//! Damage: a start that is refused changes nothing, and what nobody knows is never in the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use courant_log::batch::records::Producer;
use courant_log::limits::SEAL_AFTER_EMPTY_GROUPS;
use courant_log::storage::{CrashMode, FaultyStorage, OpenMode, Storage};
use courant_log::{Log, OpenError, PartitionId};

use courant_sim::tiny::{append, batch, create, open, slot, stored, taken, tiny};

const FOLDERS: [&str; 3] = ["journal", "checkpoints", "segments"];

/// Every file's bytes, by path.
fn contents(storage: &FaultyStorage) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders: Vec<String> = FOLDERS.iter().map(|folder| (*folder).to_owned()).collect();
    while let Some(folder) = folders.pop() {
        for name in storage.list(&folder).expect("lists") {
            let path = format!("{folder}/{name}");
            match storage.open(&path, OpenMode::Existing) {
                Ok(file) => {
                    let mut bytes = vec![0; file.len().expect("measures") as usize];
                    let count = file.read_at(&mut bytes, 0).expect("reads");
                    assert_eq!(count, bytes.len());
                    files.insert(path, bytes);
                }
                Err(_) => folders.push(path),
            }
        }
    }
    files
}

fn damage(storage: &FaultyStorage, path: &str, at: u64) {
    let file = storage.open(path, OpenMode::Existing).expect("opens");
    let mut byte = [0];
    file.read_at(&mut byte, at).expect("reads");
    file.write_at(&[&[byte[0] ^ 0xff]], at).expect("writes");
    file.sync_data().expect("syncs");
}

/// A log that went through several checkpoints and was not stopped.
fn used() -> FaultyStorage {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let log = open(&storage, 1);
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    for tag in 0..40 {
        append(&log, partition, batch(tag, 2, 20_000, None)).expect("appends");
    }
    assert!(log.metrics().checkpoints > 2);
    log.seal();
    storage.crash_image(CrashMode::LoseAll, 1)
}

#[test]
fn a_refused_start_changes_nothing() {
    let files: Vec<String> = contents(&used()).into_keys().collect();
    let newest = files.iter().rfind(|path| path.ends_with(".checkpoint")).expect("a checkpoint");
    let storage = used();
    damage(&storage, newest, 40);
    let before = contents(&storage);
    let opened = Log::open(Arc::new(storage.clone()), tiny(2)).map(|_| ());
    assert!(matches!(opened, Err(OpenError::Corrupt { .. })), "{opened:?}");
    assert!(before == contents(&storage), "a refused start has changed files");
}

/// Symptom: while a client sent again and again what the log refuses, damage to the last group before passed for a
/// torn write, and its events were gone without a word. Cause: only a log that is idle was sealed. Fix: so is one
/// that has had nothing to write for some groups.
#[test]
fn what_is_refused_keeps_no_group_from_being_sealed() {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let log = open(&storage, 1);
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    let last = batch(7, 1, 3_000, None);
    let stored = last.bytes().slice(100..200);
    append(&log, partition, last).expect("appends");
    let opened = || {
        let image = storage.crash_image(CrashMode::KeepAll, 1);
        let mut damaged = 0;
        for (path, bytes) in contents(&image).iter().filter(|(path, _)| path.starts_with("journal/")) {
            if let Some(at) = bytes.windows(stored.len()).position(|window| window == &stored[..]) {
                damage(&image, path, at as u64);
                damaged += 1;
            }
        }
        assert_eq!(damaged, 1, "the journal has it once");
        Log::open(Arc::new(image), tiny(2)).map(|(_, report)| report.torn_tail)
    };
    assert!(matches!(opened(), Ok(true)), "nothing says yet that it was whole");
    let refuse = || {
        for _ in 0..SEAL_AFTER_EMPTY_GROUPS {
            append(&log, PartitionId(99), batch(8, 1, 100, None)).expect_err("there is no such partition");
        }
    };
    let syncs = log.metrics().syncs;
    refuse();
    assert_eq!(log.metrics().syncs, syncs + 1);
    let refused = opened();
    assert!(matches!(refused, Err(OpenError::Corrupt { .. })), "{refused:?}");
    refuse();
    refuse();
    assert_eq!(log.metrics().syncs, syncs + 1, "it is sealed once");
    append(&log, partition, batch(9, 1, 100, None)).expect("appends");
    refuse();
    assert_eq!(log.metrics().syncs, syncs + 3, "and behind the next one again");
}

#[test]
fn a_log_whose_checkpoints_are_gone_is_not_taken_for_a_new_one() {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let log = open(&storage, 1);
    create(&log, "orders", 1, &[]);
    let storage = storage.crash_image(CrashMode::LoseAll, 1);
    for name in storage.list("checkpoints").expect("lists") {
        storage.remove_file(&format!("checkpoints/{name}")).expect("removes");
    }
    let opened = Log::open(Arc::new(storage), tiny(2)).map(|_| ());
    assert!(matches!(opened, Err(OpenError::Corrupt { .. })), "{opened:?}");
}

#[test]
fn a_stray_folder_in_a_deleted_partition_is_in_nobodys_way() {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let log = open(&storage, 1);
    let topic = create(&log, "orders", 1, &[]);
    append(&log, topic.partitions[0], batch(1, 1, 1000, None)).expect("appends");
    storage.create_dir(&format!("segments/{:016x}/stray", topic.partitions[0].0)).expect("creates");
    let (gone, done) = slot();
    log.delete_topic(topic.id, done);
    while log.commit() {}
    taken(&gone).expect("deleted");
    log.checkpoint().expect("stores");
    let other = create(&log, "payments", 1, &[]).partitions[0];
    append(&log, other, batch(2, 1, 1000, None)).expect("appends");
    log.stop();
    let log = open(&storage, 2);
    assert_eq!(stored(&log, other).len(), 1);
}

/// Symptom: a copy of a segment that somebody had put beside it went with the topic. Cause: the folder of a
/// deleted partition was emptied whatever was in it. Fix: only names that the log gives are removed.
#[test]
fn what_somebody_has_put_beside_the_segments_of_a_deleted_topic_stays() {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let log = open(&storage, 1);
    let topic = create(&log, "orders", 1, &[]);
    append(&log, topic.partitions[0], batch(1, 1, 1000, None)).expect("appends");
    let folder = format!("segments/{:016x}", topic.partitions[0].0);
    let copy = storage.open(&format!("{folder}/copy.of.segment"), OpenMode::CreateNew).expect("creates");
    copy.write_at(&[b"precious"], 0).expect("writes");
    let (gone, done) = slot();
    log.delete_topic(topic.id, done);
    while log.commit() {}
    taken(&gone).expect("deleted");
    for seed in 2..4 {
        log.checkpoint().expect("stores");
        assert_eq!(storage.list(&folder).expect("lists"), ["copy.of.segment"]);
        open(&storage.killed(seed), seed);
    }
    let started = storage.killed(4);
    open(&started, 4);
    let mut bytes = [0; 8];
    let kept = started.open(&format!("{folder}/copy.of.segment"), OpenMode::Existing).expect("is there");
    kept.read_at(&mut bytes, 0).expect("reads");
    assert_eq!(&bytes, b"precious");
}

#[test]
fn files_that_nothing_names_are_moved_and_not_deleted() {
    let storage = used();
    storage.create_dir("segments/00000000000000ff").expect("creates");
    let stray = storage.open("segments/00000000000000ff/notes", OpenMode::CreateNew).expect("creates");
    stray.write_at(&[b"precious"], 0).expect("writes");
    let (_, report) = Log::open(Arc::new(storage.clone()), tiny(2)).expect("opens");
    assert_eq!(report.lost_and_found.len(), 1, "{report:?}");
    let moved = storage.open(&report.lost_and_found[0], OpenMode::Existing).expect("is there");
    let mut bytes = [0; 8];
    moved.read_at(&mut bytes, 0).expect("reads");
    assert_eq!(&bytes, b"precious");
}

/// A group that would have begun a new journal file is refused as a whole, and a checkpoint names the
/// new file although nothing was written to it.
#[test]
fn a_checkpoint_may_name_a_journal_file_without_groups() {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let log = open(&storage, 1);
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    append(&log, partition, batch(1, 1, 30_000, None)).expect("appends");
    let unknown = Some(Producer { id: 6, epoch: 0, base_sequence: 4 });
    append(&log, partition, batch(2, 1, 50_000, unknown)).expect_err("refused");
    log.checkpoint().expect("stores");
    let image = storage.crash_image(CrashMode::LoseAll, 1);
    assert_eq!(stored(&open(&image, 2), partition).len(), 1);
}

/// No room for another journal file: checkpoints come more often, and nothing stops.
#[test]
fn a_ring_that_cannot_grow_goes_on_with_two_files() {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let mut config = tiny(1);
    config.reserve_bytes = 1024 * 1024;
    let log = Log::open(Arc::new(storage.clone()), config).expect("opens").0;
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    for tag in 0..20 {
        // Enough for a batch, never enough for a file.
        storage.set_free_bytes(1024 * 1024 + 60_000);
        append(&log, partition, batch(tag, 1, 30_000, None)).expect("appends");
    }
    assert_eq!(storage.list("journal").expect("lists").len(), 2);
    assert_eq!(stored(&log, partition).len(), 20);
}
