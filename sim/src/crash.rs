//! The power goes in every storage call of a script, and again while recovering from that.

use std::sync::{Arc, Mutex, OnceLock};

use courant_log::storage::{CrashMode, FaultyStorage, Storage};
use courant_log::{Log, PartitionId};

use crate::ledger::Ledger;
use crate::random::Random;
use crate::script::Script;
use crate::tiny::{open, tiny};
use crate::watchdog::Watchdog;
use crate::workload::Workload;
use crate::{CAP_BYTES, caught};

/// How often the power goes again while a start recovers from the last time.
const DEPTH: u32 = 3;

/// A recovery makes that many storage calls or more, of which one is chosen at once.
const RECOVERY_CALLS: u64 = 20;

/// One script, and how it is crashed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What the script does.
    pub workload: Workload,
    /// How much of it.
    pub operations: u64,
    /// Everything random follows from it.
    pub seed: u64,
    /// What the power cuts leave.
    pub modes: &'static [CrashMode],
}

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Crashes of the script.
    pub points: u64,
    /// Crashes of a recovery.
    pub nested: u64,
    /// Bytes that clients appended.
    pub appended_bytes: u64,
    /// Segments that compaction has put in the place of others.
    pub compactions: u64,
    /// Batches that whoever brought them has committed.
    pub committed_alone: u64,
    /// A hash of every changing call of the script, see [`FaultyStorage::trace_hash`].
    pub trace: u64,
    /// What was lost, invented, reordered or repeated, and where.
    pub failures: Vec<String>,
}

/// What must be there after a crash: what was acknowledged, and what a reader could see.
struct Promised {
    ledger: Ledger,
    watermarks: Vec<(PartitionId, u64)>,
}

impl Promised {
    fn at(ledger: &Mutex<Ledger>, live: &OnceLock<Log>) -> Self {
        let mut watermarks = Vec::new();
        for topic in live.get().iter().flat_map(|log| log.catalog().topics().cloned().collect::<Vec<_>>()) {
            for partition in &topic.partitions {
                let ends = live.get().and_then(|log| log.offsets(*partition));
                watermarks.extend(ends.map(|ends| (*partition, ends.high_watermark)));
            }
        }
        Self { ledger: ledger.lock().expect("lock").clone(), watermarks }
    }

    fn check(&self, log: &Log, only_killed: bool) {
        let read = if only_killed { self.ledger.check_after_kill(log) } else { self.ledger.check(log) };
        for (partition, watermark) in &self.watermarks {
            // A partition that is gone was being deleted; the ledger knows whether it may be.
            if let Some(ends) = log.offsets(*partition) {
                let end = ends.high_watermark;
                assert!(end >= *watermark, "seen and lost: readers saw {watermark} events, {end} are left");
            }
        }
        self.ledger.check_repetitions(log, &read);
    }
}

/// Opens what a power cut or a kill has left and checks it, and does the same with an image of that
/// recovery, and so on. Returns how many recoveries were crashed.
fn recover_and_check(
    image: FaultyStorage,
    killed: bool,
    promised: &Promised,
    mode: CrashMode,
    seed: u64,
) -> u64 {
    let mut random = Random(seed);
    let mut image = image;
    let mut crashed = 0;
    loop {
        let next: Arc<Mutex<Option<FaultyStorage>>> = Arc::default();
        // The second and third crash of a recovery are taken from each fourth point.
        if crashed < 1 || (crashed < u64::from(DEPTH) && seed.is_multiple_of(4)) {
            let (taken, mut lots) = (next.clone(), Random(random.draw()));
            let first = 1 + lots.below(RECOVERY_CALLS);
            // Each call of the recovery with the same chance, however many they turn out to be: a later
            // one takes the place of the one that was chosen before.
            image.set_hook(Box::new(move |storage, call, _| {
                let is_chosen = if call <= RECOVERY_CALLS { call == first } else { lots.below(call) == 0 };
                if is_chosen {
                    *taken.lock().expect("lock") = Some(storage.crash_image(mode, lots.draw()));
                }
            }));
        }
        let log = open(&image, seed ^ crashed);
        image.clear_hook();
        promised.check(&log, killed && crashed == 0);
        let Some(nested) = next.lock().expect("lock").take() else {
            return crashed;
        };
        crashed += 1;
        image = nested;
    }
}

/// Calls of a script, one of so many: whoever has more than one processor crashes each part beside the others.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Which one, from 0.
    pub number: u64,
    /// Of how many.
    pub of: u64,
}

impl Part {
    /// Every call.
    const ALL: Part = Part { number: 0, of: 1 };

    fn has(self, call: u64) -> bool {
        call % self.of == self.number
    }
}

/// Runs a script, and crashes it in every storage call that changes something.
#[must_use]
pub fn explore(plan: &Plan) -> Outcome {
    explore_part(plan, Part::ALL)
}

/// As [`explore`], crashed only in the calls of a part. What comes of a call is the same in any part.
#[must_use]
pub fn explore_part(plan: &Plan, part: Part) -> Outcome {
    let faulty = FaultyStorage::new(plan.seed, CAP_BYTES);
    crash(Arc::new(faulty.clone()), &faulty, plan, part)
}

/// As [`explore`], with the log on `storage`, which passes its calls on to `faulty`: a defect may stand
/// between them.
///
/// # Panics
/// When the script fails before anything has crashed.
#[must_use]
pub fn explore_on(storage: Arc<dyn Storage>, faulty: &FaultyStorage, plan: &Plan) -> Outcome {
    crash(storage, faulty, plan, Part::ALL)
}

/// Takes the hook of a storage away, also when a script fails. What the hook holds would stay for ever otherwise: a
/// log on the same storage, and the watchdog, which would end the process before anybody is told of the failure.
struct Hooked<'a>(&'a FaultyStorage);

impl Drop for Hooked<'_> {
    fn drop(&mut self) {
        self.0.clear_hook();
    }
}

fn crash(storage: Arc<dyn Storage>, faulty: &FaultyStorage, plan: &Plan, part: Part) -> Outcome {
    let ledger: Arc<Mutex<Ledger>> = Arc::default();
    let outcome: Arc<Mutex<Outcome>> = Arc::default();
    let live: Arc<OnceLock<Log>> = Arc::default();
    let (seen, counted, reading, modes, seed) =
        (ledger.clone(), outcome.clone(), live.clone(), plan.modes, plan.seed);
    let (watchdog, name) = (Watchdog::new(), plan.workload.name);
    faulty.set_hook(Box::new(move |storage, call, what| {
        if !part.has(call) {
            return;
        }
        watchdog.begin(format!("{name}, seed {seed}: a crash at call {call}, or the script behind it"));
        let promised = Promised::at(&seen, &reading);
        let mut outcome = counted.lock().expect("lock");
        // Once the power goes; once only the process is killed, and the power goes in the next start,
        // which has seen names and bytes that are not on disk.
        let cuts = modes.iter().map(|mode| (*mode, false));
        for (mode, killed) in cuts.chain([(CrashMode::LoseAll, true), (CrashMode::RandomSubset, true)]) {
            let seed = Random(seed ^ (call << 8) ^ mode as u64).draw();
            let checked = caught(|| {
                let image = if killed { storage.killed(seed) } else { storage.crash_image(mode, seed) };
                outcome.nested += recover_and_check(image, killed, &promised, mode, seed);
            });
            outcome.points += 1;
            if let Err(reason) = checked {
                outcome
                    .failures
                    .push(format!("{mode:?} (killed: {killed}) at call {call} ({what}): {reason}"));
            }
        }
    }));
    let hooked = Hooked(faulty);
    let log = Log::open(storage, tiny(seed)).expect("opens").0;
    live.set(log.clone()).expect("set once");
    let mut script = Script::new(plan.workload, plan.operations, seed, ledger.clone());
    script.run(&log);
    drop(hooked);
    ledger.lock().expect("lock").check(&log);
    let mut outcome = std::mem::take(&mut *outcome.lock().expect("lock"));
    outcome.appended_bytes = log.metrics().appended_bytes;
    outcome.compactions = log.metrics().compactions;
    outcome.committed_alone = script.committed_alone();
    outcome.trace = faulty.trace_hash();
    outcome
}

/// Runs a script, and cuts the power in every storage call of the start that follows it: one on what a
/// kill has left, and one on what a power cut has.
///
/// # Panics
/// When the script fails.
#[must_use]
pub fn explore_start(plan: &Plan) -> Outcome {
    let faulty = FaultyStorage::new(plan.seed, CAP_BYTES);
    let (ledger, live): (Arc<Mutex<Ledger>>, OnceLock<Log>) = (Arc::default(), OnceLock::new());
    let log = open(&faulty, plan.seed);
    live.set(log.clone()).expect("set once");
    Script::new(plan.workload, plan.operations, plan.seed, ledger.clone()).run(&log);
    let promised = Arc::new(Promised::at(&ledger, &live));
    let mut sum = Outcome::default();
    let found = [
        ("a kill", true, faulty.killed(plan.seed)),
        ("a power cut", false, faulty.crash_image(CrashMode::RandomSubset, plan.seed)),
    ];
    for (after, killed, image) in found {
        let outcome = crash_start(&image, killed, &promised, plan);
        sum.points += outcome.points;
        sum.failures.extend(outcome.failures.iter().map(|reason| format!("after {after}, {reason}")));
    }
    sum
}

/// Starts on what a kill or a power cut has left, and cuts the power in every call of that.
fn crash_start(image: &FaultyStorage, killed: bool, promised: &Arc<Promised>, plan: &Plan) -> Outcome {
    let outcome: Arc<Mutex<Outcome>> = Arc::default();
    let (counted, expected, modes, seed) = (outcome.clone(), promised.clone(), plan.modes, plan.seed);
    let (watchdog, name) = (Watchdog::new(), plan.workload.name);
    image.set_hook(Box::new(move |storage, call, what| {
        watchdog.begin(format!("{name}, seed {seed}: a crash at call {call} of a start"));
        let mut outcome = counted.lock().expect("lock");
        for mode in modes {
            let seed = Random(seed ^ (call << 8) ^ *mode as u64).draw();
            outcome.points += 1;
            if let Err(reason) =
                caught(|| expected.check(&open(&storage.crash_image(*mode, seed), seed), false))
            {
                outcome.failures.push(format!("{mode:?} at call {call} of the start ({what}): {reason}"));
            }
        }
    }));
    let started = caught(|| {
        let log = open(image, seed);
        image.clear_hook();
        promised.check(&log, killed);
    });
    let mut outcome = std::mem::take(&mut *outcome.lock().expect("lock"));
    outcome.failures.extend(started.err().map(|reason| format!("without another one: {reason}")));
    outcome
}

#[cfg(test)]
mod tests {
    use courant_log::storage::Failure;

    use super::*;

    /// Symptom: a script that failed was not told of, but the process ended, ten seconds later, with a sentence about
    /// a case that does not end. Cause: the hook and the log that it held kept each other, and the watchdog with them.
    /// Fix: the hook goes with the script.
    #[test]
    fn a_script_that_fails_leaves_no_log_and_no_watchdog() {
        let sound = FaultyStorage::new(1, CAP_BYTES);
        drop(open(&sound, 1));
        let faulty = FaultyStorage::new(1, CAP_BYTES);
        // Of the first topic: without any, a script has nothing to choose from.
        faulty.fail_call(sound.calls() + 1, Failure::Eio);
        let storage: Arc<dyn Storage> = Arc::new(faulty.clone());
        let left = Arc::downgrade(&storage);
        let plan = Plan { workload: Workload::MIXED, operations: 60, seed: 1, modes: &[] };
        caught(|| drop(explore_on(storage, &faulty, &plan))).expect_err("the script cannot go on");
        assert_eq!(left.strong_count(), 0, "the log is still there");
    }
}
