//! Threads that each await an answer before they append again, on a disk that takes a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use courant_log::storage::FaultyStorage;
use courant_log::{Health, Log, PartitionId};

use courant_sim::tiny::{batch, new_topic, stored, tiny};

use crate::threads::becomes;

const THREADS: u64 = 8;
/// Appends of each thread in a round.
const EACH: u64 = 50;
/// Time of a sync. Eight threads come back in less.
const SYNC: Duration = Duration::from_micros(500);
const JOURNAL_FILE_BYTES: u64 = 1024 * 1024;

/// A round of appends; how many groups it took.
fn groups_of_a_round(log: &Log, partition: PartitionId, tags: &AtomicU64) -> u64 {
    let groups = log.metrics().groups;
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut before = None;
                for _ in 0..EACH {
                    let (answered, answer) = channel();
                    let batch = batch(tags.fetch_add(1, Ordering::Relaxed), 1, 100, None);
                    log.append_awaited(partition, batch, move |appended| {
                        answered.send(appended.expect("appended").base_offset).expect("sends");
                    });
                    let offset = Some(answer.recv().expect("answered"));
                    assert!(before < offset, "reordered");
                    before = offset;
                }
            });
        }
    });
    log.metrics().groups - groups
}

/// Symptom: each sync was for half of the tasks that waited. Cause: what came during a sync was committed before those
/// were back whom it had answered; these came during the next one, and nothing brought the two parts together. Fix: the
/// committer waits for whom it has answered. Without, a round of eight threads takes two groups for each eight appends.
#[test]
fn threads_that_were_answered_together_are_committed_together() {
    // Enough for all rounds of a busy machine.
    let storage = FaultyStorage::new(11, 1024 * 1024 * 1024);
    let mut config = tiny(11);
    config.background = true;
    config.journal_file_bytes = JOURNAL_FILE_BYTES;
    config.first_journal_file_bytes = JOURNAL_FILE_BYTES;
    let log = Log::open(Arc::new(storage.clone()), config).expect("opens").0;
    let (created, topic) = channel();
    log.create_topic(new_topic("orders", 1, &[]), move |topic| created.send(topic).expect("sends"));
    let partition = topic.recv().expect("answered").expect("created").partitions[0];
    storage.set_hook(Box::new(|_, _, what| {
        let begun = Instant::now();
        while what == "sync_data" && begun.elapsed() < SYNC {
            std::thread::yield_now();
        }
    }));
    let tags = AtomicU64::new(0);
    // On a busy machine some come back late, and it takes more rounds.
    becomes("nearly one group for all threads", || {
        groups_of_a_round(&log, partition, &tags) <= EACH + EACH / 3
    });
    storage.clear_hook();
    assert_eq!(log.health(), Health::Ready);
    log.stop();
    assert_eq!(stored(&log, partition).len() as u64, tags.into_inner());
}
