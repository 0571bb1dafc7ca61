//! Every read goes wrong once: the answer is an error or what was stored, and never anything else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use courant_log::storage::{CrashMode, FaultyStorage, ReadFailure};
use courant_log::{Log, PartitionId};

use crate::ledger::Ledger;
use crate::readable::{Readable, readable};
use crate::script::Script;
use crate::tiny::tiny;
use crate::workload::Workload;
use crate::{CAP_BYTES, caught};

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
    let mut outcome = Outcome::default();
    for n in (1..=clean.reads()).step_by(usize::try_from(stride).unwrap_or(usize::MAX)) {
        for way in WAYS {
            let image = storage.crash_image(CrashMode::KeepAll, seed);
            image.fail_read(n, way);
            outcome.cases += 1;
            let checked = caught(|| match Log::open(Arc::new(image), tiny(seed ^ 1)) {
                Err(_) => outcome.refused += 1,
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

/// Reads everything that can be read.
pub(crate) fn read(log: &Log) -> Stored {
    let catalog = log.catalog();
    let partitions = catalog.topics().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| (*partition, readable(log, *partition))).collect()
}

/// Whether everything is there. What is neither there nor refused is lost.
pub(crate) fn compare(stored: &Stored, found: &Stored) -> bool {
    assert!(stored.keys().eq(found.keys()), "partitions {:?} of {:?}", found.keys(), stored.keys());
    for (partition, stored) in stored {
        let found = &found[partition];
        // What was read before the damage was met is there, and refused from then on.
        let is_refused = |base: u64| found.refused.iter().any(|refused| refused.contains(&base));
        let is_there = |batch: &(u64, u32, u64)| !is_refused(batch.0) || found.batches.contains(batch);
        let expected: Vec<_> = stored.batches.iter().copied().filter(is_there).collect();
        assert_eq!(found.batches, expected, "partition {partition}, refused {:?}", found.refused);
    }
    found.values().all(|found| found.refused.is_empty())
}
