//! Every read goes wrong once: the answer is an error or what was stored, and never anything else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use courant_log::batch::records::Record;
use courant_log::storage::{CrashMode, FaultyStorage, ReadFailure};
use courant_log::{Health, Log, OpenError, PartitionId};

use crate::damage::is_same;
use crate::ledger::Ledger;
use crate::readable::{Readable, readable, readable_with};
use crate::script::Script;
use crate::tiny::{open, tiny};
use crate::watchdog::Watchdog;
use crate::workload::{Step, Workload};
use crate::{CAP_BYTES, caught, compacted};

/// Every way in which a read goes wrong.
pub const WAYS: [ReadFailure; 5] = [
    ReadFailure::Eio,
    ReadFailure::Short,
    ReadFailure::BitFlip,
    ReadFailure::ZeroSector,
    ReadFailure::Misdirected,
];

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Reads that went wrong, each in a run of its own.
    pub cases: u64,
    /// Starts that were refused.
    pub refused: u64,
    /// Of those, how many had brought segments back to the checkpoint, and said so.
    pub found_late: u64,
    /// Runs in which some events were refused, and all others were right.
    pub quarantined: u64,
    /// Runs in which everything was there.
    pub unharmed: u64,
    /// What was answered wrong.
    pub failures: Vec<String>,
}

/// By partition.
pub(crate) type Stored = BTreeMap<PartitionId, Readable>;

/// Runs a script, and then starts the log and reads it through, with one read after the other going
/// wrong: one in `stride`, in every way.
///
/// # Panics
/// When the script fails.
#[must_use]
pub fn sweep(workload: Workload, operations: u64, seed: u64, stride: u64) -> Outcome {
    let storage = FaultyStorage::new(seed, CAP_BYTES);
    let ledger: Arc<Mutex<Ledger>> = Arc::default();
    let log = Log::open(Arc::new(storage.clone()), tiny(seed)).expect("opens").0;
    Script::new(workload, operations, seed, ledger).run(&log);
    log.seal();
    let clean = storage.crash_image(CrashMode::KeepAll, seed);
    let stored = read(&Log::open(Arc::new(clean.clone()), tiny(seed ^ 1)).expect("opens").0);
    let (mut outcome, watchdog) = (Outcome::default(), Watchdog::new());
    for n in (1..=clean.reads()).step_by(usize::try_from(stride).unwrap_or(usize::MAX)) {
        for way in WAYS {
            let image = storage.crash_image(CrashMode::KeepAll, seed);
            image.fail_read(n, way);
            watchdog.begin(format!("{}, seed {seed}: {way:?} in read {n}", workload.name));
            outcome.cases += 1;
            let checked = caught(|| match Log::open(Arc::new(image.clone()), tiny(seed ^ 1)) {
                Err(error) => {
                    outcome.refused += 1;
                    outcome.found_late += u64::from(matches!(error, OpenError::FoundLate { .. }));
                    check_refused(
                        &error,
                        &image,
                        &storage.crash_image(CrashMode::KeepAll, seed),
                        seed,
                        &stored,
                    );
                }
                Ok((log, _)) => {
                    let is_whole = compare(&stored, &read(&log));
                    outcome.unharmed += u64::from(is_whole);
                    outcome.quarantined += u64::from(!is_whole);
                }
            });
            if let Err(reason) = checked {
                outcome.failures.push(format!("read {n}, {way:?}: {reason}"));
            }
        }
    }
    outcome
}

/// What came of compactions of which a read went wrong.
#[derive(Debug, Default)]
pub struct Compactions {
    /// Reads that went wrong, each in a run of its own.
    pub cases: u64,
    /// Runs in which less was compacted than without that.
    pub gave_up: u64,
    /// Of those, in how many the next compaction did the rest.
    pub made_up: u64,
    /// Runs in which some events were refused, and all others were right.
    pub quarantined: u64,
    /// What was lost, and where.
    pub failures: Vec<String>,
}

/// A log with something to compact: segments that were compacted before, and newer ones.
struct Due {
    storage: FaultyStorage,
    ledger: Ledger,
    seed: u64,
    /// Whether the log has read everything before it compacts, and trusts its blocks as it does those that it has
    /// written.
    is_read: bool,
}

impl Due {
    fn fill(operations: u64, seed: u64, is_read: bool) -> Self {
        let storage = FaultyStorage::new(seed, CAP_BYTES);
        let ledger: Arc<Mutex<Ledger>> = Arc::default();
        let log = open(&storage, seed);
        let filling = Workload { steps: &[(Step::Checkpoint, 10), (Step::Seal, 3)], ..Workload::COMPACTION };
        let mut script = Script::new(filling, operations / 2, seed, ledger.clone());
        script.run(&log);
        log.checkpoint().expect("stores");
        assert!(log.compact().replaced > 0);
        script.go_on(&log, operations / 2);
        log.checkpoint().expect("stores");
        let ledger = ledger.lock().expect("lock").clone();
        Self { storage, ledger, seed, is_read }
    }

    /// The log after a start, in an image of its own, with everything that it stores if that is to be read.
    fn start(&self) -> (FaultyStorage, Log) {
        let image = self.storage.crash_image(CrashMode::KeepAll, self.seed);
        let log = open(&image, self.seed ^ 1);
        if self.is_read {
            read(&log);
        }
        (image, log)
    }
}

/// Compacts a log, with one read of that after the other going wrong, in every way. Compaction gives up or tries
/// again: whatever it does, the newest event of each key is there or is refused and named, and the next start has
/// all of them.
///
/// # Panics
/// When the log cannot be filled, or has nothing to compact.
#[must_use]
pub fn sweep_compaction(operations: u64, seed: u64, is_read: bool) -> Compactions {
    let due = Due::fill(operations, seed, is_read);
    let (sound, log) = due.start();
    let before = sound.reads();
    let replaced = log.compact().replaced;
    assert!(replaced > 0, "nothing is due");
    let after = sound.reads();
    let stored = read(&due.start().1);
    let (mut outcome, watchdog) = (Compactions::default(), Watchdog::new());
    for n in before + 1..=after {
        for way in WAYS {
            watchdog.begin(format!("seed {seed}: {way:?} in read {n}, in a compaction"));
            outcome.cases += 1;
            let mut made = (0, 0, false);
            match caught(|| made = compact_with(&due, &stored, n, way)) {
                Ok(()) => {
                    let (first, second, is_whole) = made;
                    outcome.gave_up += u64::from(first < replaced);
                    outcome.made_up += u64::from(first < replaced && first + second >= replaced);
                    outcome.quarantined += u64::from(!is_whole);
                }
                Err(reason) => outcome.failures.push(format!("read {n}, {way:?}: {reason}")),
            }
        }
    }
    outcome
}

/// Compacts twice, the first time with a read going wrong, and starts once more. How many segments were replaced
/// each time, and whether nothing was refused.
fn compact_with(due: &Due, stored: &Stored, n: u64, way: ReadFailure) -> (u64, u64, bool) {
    let (image, log) = due.start();
    image.fail_read(n, way);
    let first = log.compact().replaced;
    let second = log.compact().replaced;
    let is_whole = compare_by_keys(stored, &log, &due.ledger);
    assert!(is_whole || !log.damage().is_empty(), "what is refused is not named");
    assert_eq!(log.health(), Health::Ready);
    // What was read wrong is right on the disk, and nothing else has come to stand there.
    let left = match n % 2 {
        0 => image.killed(due.seed),
        _ => image.crash_image(CrashMode::LoseAll, due.seed),
    };
    due.ledger.check(&open(&left, due.seed ^ 2));
    (first, second, is_whole)
}

/// A start that says that it has changed nothing has not. One that found damage only when it had begun to change
/// something has lost nothing: what it has read wrong is right the next time.
fn check_refused(
    error: &OpenError,
    after: &FaultyStorage,
    before: &FaultyStorage,
    seed: u64,
    stored: &Stored,
) {
    match error {
        OpenError::Corrupt { .. } => assert!(is_same(before, after), "something was changed: {error}"),
        OpenError::FoundLate { .. } => {
            let log = open(&after.killed(seed), seed ^ 2);
            assert!(compare(stored, &read(&log)), "something was lost: {error}");
        }
        _ => {}
    }
}

/// Reads everything that can be read.
pub(crate) fn read(log: &Log) -> Stored {
    partitions(log).into_iter().map(|partition| (partition, readable(log, partition))).collect()
}

fn partitions(log: &Log) -> Vec<PartitionId> {
    log.catalog().topics().flat_map(|topic| topic.partitions.iter().copied()).collect()
}

/// Whether everything is there. What is neither there nor refused is lost.
pub(crate) fn compare(stored: &Stored, found: &Stored) -> bool {
    compare_or(stored, found, |_| false)
}

/// Reads everything that can be read after a start with a broken file, and says whether it is there; as
/// [`compare`], but for the batches of a compacted topic. A start that finds a segment of compaction not
/// whole leaves those in force that it was made of: superseded events are there again, and batches are what
/// they were. Such a partition is judged by its keys.
pub(crate) fn compare_by_keys(stored: &Stored, log: &Log, ledger: &Ledger) -> bool {
    let histories = ledger.compacted(log);
    let mut found = Stored::new();
    let mut records: BTreeMap<PartitionId, Vec<Record>> = BTreeMap::new();
    for partition in partitions(log) {
        let mut of_it = Vec::new();
        let is_compacted = histories.contains_key(&partition);
        let look = |batch: &[u8]| {
            if is_compacted {
                of_it.extend(compacted::records_in(batch));
            }
        };
        found.insert(partition, readable_with(log, partition, look));
        records.insert(partition, of_it);
    }
    compare_or(stored, &found, |partition| {
        let Some(history) = histories.get(&partition) else { return false };
        let ends = log.offsets(partition).expect("exists");
        compacted::judge(ends, history, &records[&partition], &found[&partition].refused);
        true
    })
}

/// As [`compare`]; `is_right` is asked about partitions whose batches are not those that were stored.
fn compare_or(stored: &Stored, found: &Stored, is_right: impl Fn(PartitionId) -> bool) -> bool {
    assert!(stored.keys().eq(found.keys()), "partitions {:?} of {:?}", found.keys(), stored.keys());
    for (partition, stored) in stored {
        let found = &found[partition];
        // What was read before the damage was met is there, and refused from then on.
        let is_refused = |base: u64| found.refused.iter().any(|refused| refused.contains(&base));
        let is_there = |batch: &(u64, u32, u64)| !is_refused(batch.0) || found.batches.contains(batch);
        let expected: Vec<_> = stored.batches.iter().copied().filter(is_there).collect();
        if found.batches != expected && is_right(*partition) {
            continue;
        }
        assert_eq!(found.batches, expected, "partition {partition}, refused {:?}", found.refused);
    }
    found.values().all(|found| found.refused.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether everything is there of what a script leaves, and what comes of it when the log gives a batch
    /// that is not the stored one, and the ledger knows something else.
    fn compared(workload: Workload, know: impl FnOnce(&mut Ledger)) -> (bool, Result<bool, String>) {
        let log = Log::open(Arc::new(FaultyStorage::new(1, CAP_BYTES)), tiny(1)).expect("opens").0;
        let ledger: Arc<Mutex<Ledger>> = Arc::default();
        Script::new(workload, 40, 1, ledger.clone()).run(&log);
        let mut ledger = ledger.lock().expect("lock").clone();
        know(&mut ledger);
        let mut stored = read(&log);
        let is_whole = compare_by_keys(&stored, &log, &ledger);
        let filled = stored.values_mut().find(|stored| !stored.batches.is_empty());
        filled.expect("one has events").batches[0].1 ^= 1;
        let mut is_right = false;
        let otherwise = caught(|| is_right = compare_by_keys(&stored, &log, &ledger));
        (is_whole, otherwise.map(|()| is_right))
    }

    #[test]
    fn only_in_a_compacted_topic_batches_need_not_be_the_same() {
        assert_eq!(compared(Workload::COMPACTION, |_| {}), (true, Ok(true)));
        let (is_whole, otherwise) = compared(Workload::MIXED, |_| {});
        assert!(is_whole);
        let reason = otherwise.unwrap_err();
        assert!(reason.contains("left == right"), "{reason}");
    }

    #[test]
    fn a_compacted_topic_has_what_was_acknowledged() {
        let one_more = |ledger: &mut Ledger| {
            let histories = ledger.topics.values_mut().flat_map(|topic| &mut topic.partitions);
            histories.for_each(|history| history.acknowledged += 1);
        };
        let reason = compared(Workload::COMPACTION, one_more).1.unwrap_err();
        assert!(reason.contains("lost"), "{reason}");
    }
}
