//! Every storage call of a script, and of the start that follows it, fails once: the N-th, for every N, in
//! every way. And the storage is full at some byte.
//!
//! Whatever is refused, what was acknowledged stays; and where the log goes on, it does go on.

use std::sync::{Arc, Mutex};

use courant_log::storage::{CrashMode, Failure, FaultyStorage, Storage as _};
use courant_log::{Health, Log, PartitionId};

use crate::ledger::Ledger;
use crate::random::Random;
use crate::script::Script;
use crate::tiny::{new_topic, open, slot, taken, tiny};
use crate::watchdog::Watchdog;
use crate::workload::Workload;
use crate::{CAP_BYTES, caught};

/// Every way to fail.
pub const FAILURES: [Failure; 5] =
    [Failure::Eio, Failure::Enospc, Failure::ShortWrite, Failure::FsyncEio, Failure::Eintr];

/// What came of a sweep.
#[derive(Debug, Default)]
pub struct Swept {
    /// Runs in which a call failed.
    pub runs: u64,
    /// Of those, in how many the log went on by itself.
    pub went_on: u64,
    /// Of those, in how many the log ended its writer, or did not open.
    pub ended: u64,
    /// What was lost, invented, reordered or repeated, and where.
    pub failures: Vec<String>,
}

/// Runs the script once for each call that it makes, with that call failing in this way.
#[must_use]
pub fn sweep(workload: Workload, operations: u64, seed: u64, kind: Failure) -> Swept {
    let calls = calls(workload, operations, seed, kind);
    let (mut swept, watchdog) = (Swept::default(), Watchdog::new());
    for call in calls {
        watchdog.begin(format!("{}, seed {seed}: {kind:?} in call {call}", workload.name));
        swept.runs += 1;
        match caught_run(workload, operations, seed, kind, call) {
            Ok(true) => swept.went_on += 1,
            Ok(false) => swept.ended += 1,
            Err(reason) => swept.failures.push(format!("{kind:?} in call {call}: {reason}")),
        }
    }
    swept
}

/// Runs the script on storages that have room for so many bytes and no more: from nothing to what the
/// script leaves, in so many steps. Then there is room, and the log goes on by itself, unless a write has
/// failed in the middle of a group.
///
/// # Panics
/// When the script fails where there is room for it.
#[must_use]
pub fn sweep_full(workload: Workload, operations: u64, seed: u64, steps: u64) -> Swept {
    let storage = FaultyStorage::new(seed, CAP_BYTES);
    let log = open(&storage, seed);
    Script::new(workload, operations, seed, Arc::default()).run(&log);
    let needed = CAP_BYTES - storage.free_bytes().expect("it is alive");
    let (mut swept, watchdog) = (Swept::default(), Watchdog::new());
    for step in 0..steps {
        let room = needed * step / steps;
        watchdog.begin(format!("{}, seed {seed}: full after {room} bytes", workload.name));
        swept.runs += 1;
        let mut went_on = false;
        let full = FaultyStorage::new(seed, room);
        match caught(|| went_on = run_on(&full, workload, operations, seed, step)) {
            Ok(()) if went_on => swept.went_on += 1,
            Ok(()) => swept.ended += 1,
            Err(reason) => swept.failures.push(format!("full after {room} bytes: {reason}")),
        }
    }
    swept
}

/// Runs the script, kills it, and starts once for each call that such a start makes, with that call
/// failing in this way.
///
/// # Panics
/// When the script fails.
#[must_use]
pub fn sweep_start(workload: Workload, operations: u64, seed: u64, kind: Failure) -> Swept {
    let storage = FaultyStorage::new(seed, CAP_BYTES);
    let ledger: Arc<Mutex<Ledger>> = Arc::default();
    let log = open(&storage, seed);
    Script::new(workload, operations, seed, ledger.clone()).run(&log);
    let seen = watermarks(&log);
    let sound = storage.killed(seed);
    let calls = calls_of(&sound, kind, || {
        ledger.lock().expect("lock").check_after_kill(&open(&sound, seed ^ 2));
    });
    let (mut swept, watchdog) = (Swept::default(), Watchdog::new());
    for call in calls {
        watchdog.begin(format!("{}, seed {seed}: {kind:?} in call {call} of a start", workload.name));
        let image = storage.killed(seed);
        image.fail_call(call, kind);
        // Of a run, nothing is left for the next one.
        let ledger = Mutex::new(ledger.lock().expect("lock").clone());
        swept.runs += 1;
        let mut went_on = false;
        let checked = caught(|| {
            if let Ok((log, _)) = Log::open(Arc::new(image.clone()), tiny(seed ^ 2)) {
                went_on = goes_on(&log, &ledger);
                ledger.lock().expect("lock").check(&log);
                check_seen(&log, &seen);
            }
            check_what_is_left(&image, &ledger, &seen, call, seed);
        });
        match checked {
            Ok(()) if went_on => swept.went_on += 1,
            Ok(()) => swept.ended += 1,
            Err(reason) => swept.failures.push(format!("{kind:?} in call {call} of a start: {reason}")),
        }
    }
    swept
}

/// The calls that the script makes when none fails, as far as such a failure is told in them.
fn calls(workload: Workload, operations: u64, seed: u64, kind: Failure) -> Vec<u64> {
    let storage = FaultyStorage::new(seed, CAP_BYTES);
    calls_of(&storage, kind, || {
        let log = open(&storage, seed);
        Script::new(workload, operations, seed, Arc::default()).run(&log);
    })
}

/// The calls that are made meanwhile, as far as such a failure is told in them: an interruption hits few calls, and
/// would hit each of them again and again.
fn calls_of(storage: &FaultyStorage, kind: Failure, make: impl FnOnce()) -> Vec<u64> {
    let is_told = move |what| {
        let told = ["create_dir", "rename", "remove_file", "remove_dir", "sync_all"];
        kind != Failure::Eintr || told.contains(&what)
    };
    let calls: Arc<Mutex<Vec<u64>>> = Arc::default();
    let made = calls.clone();
    storage.set_hook(Box::new(move |_, call, what| {
        if is_told(what) {
            made.lock().expect("lock").push(call);
        }
    }));
    make();
    storage.clear_hook();
    let mut calls = calls.lock().expect("lock");
    std::mem::take(&mut *calls)
}

fn caught_run(
    workload: Workload,
    operations: u64,
    seed: u64,
    kind: Failure,
    call: u64,
) -> Result<bool, String> {
    let mut went_on = false;
    caught(|| went_on = run(workload, operations, seed, kind, call)).map(|()| went_on)
}

fn run(workload: Workload, operations: u64, seed: u64, kind: Failure, call: u64) -> bool {
    let storage = FaultyStorage::new(seed, CAP_BYTES);
    storage.fail_call(call, kind);
    run_on(&storage, workload, operations, seed, call)
}

/// Runs the script on a storage that fails sooner or later, and has room afterwards.
fn run_on(storage: &FaultyStorage, workload: Workload, operations: u64, seed: u64, number: u64) -> bool {
    let ledger: Arc<Mutex<Ledger>> = Arc::default();
    let opened = Log::open(Arc::new(storage.clone()), tiny(seed));
    let mut seen = Vec::new();
    let went_on = opened.is_ok_and(|(log, _)| {
        Script::new(workload, operations, seed, ledger.clone()).until_refused().run(&log);
        storage.set_free_bytes(CAP_BYTES);
        let went_on = goes_on(&log, &ledger);
        ledger.lock().expect("lock").check(&log);
        seen = watermarks(&log);
        went_on
    });
    storage.set_free_bytes(CAP_BYTES);
    check_what_is_left(storage, &ledger, &seen, number, seed);
    went_on
}

/// What readers have seen of each partition: offsets below these are never given to other events.
fn watermarks(log: &Log) -> Vec<(PartitionId, u64)> {
    let catalog = log.catalog();
    let partitions = catalog.topics().flat_map(|topic| topic.partitions.clone());
    partitions.filter_map(|id| Some((id, log.offsets(id)?.high_watermark))).collect()
}

fn check_seen(log: &Log, seen: &[(PartitionId, u64)]) {
    for (partition, watermark) in seen {
        // A partition that is gone was being deleted; the ledger knows whether it may be.
        let end = log.offsets(*partition).map_or(*watermark, |ends| ends.high_watermark);
        assert!(end >= *watermark, "readers saw {partition} up to {watermark}, and it goes on at {end}");
    }
}

/// Starts once more, on what a kill leaves now and on what power cuts do.
fn check_what_is_left(
    storage: &FaultyStorage,
    ledger: &Mutex<Ledger>,
    seen: &[(PartitionId, u64)],
    number: u64,
    seed: u64,
) {
    let ledger = ledger.lock().expect("lock");
    let images = [
        ("a restart", storage.killed(seed)),
        ("a power cut", storage.crash_image(CrashMode::LoseAll, seed)),
        ("half a power cut", storage.crash_image(CrashMode::RandomSubset, Random(number).draw())),
    ];
    for (what, image) in images {
        let checked = caught(|| {
            let log = open(&image, seed ^ 1);
            let read = ledger.check(&log);
            ledger.check_repetitions(&log, &read);
            check_seen(&log, seen);
        });
        if let Err(reason) = checked {
            panic!("after {what}: {reason}");
        }
    }
}

/// A log that says that it is ready takes what comes next; one that is not refuses it and still reads.
fn goes_on(log: &Log, ledger: &Mutex<Ledger>) -> bool {
    let (created, done) = slot();
    let new = new_topic("afterwards", 1, &[]);
    ledger.lock().expect("lock").ask_topic(&new, false);
    log.create_topic(new, done);
    while log.commit() {}
    let created = taken(&created);
    if matches!(log.health(), Health::ReadOnly { .. }) {
        assert!(created.is_err(), "a writer that has ended took something");
        return false;
    }
    let topic = created.expect("the log is ready and creates no topic");
    ledger.lock().expect("lock").topic_exists(&topic.name);
    true
}
