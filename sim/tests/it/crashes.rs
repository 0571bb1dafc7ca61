//! Nothing acknowledged is lost, wherever the power goes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use courant_log::storage::{CrashMode, FaultyStorage};
use courant_sim::crash::{Outcome, Part, Plan, explore_part, explore_start};
use courant_sim::tiny::{batch, create, open, stored};
use courant_sim::workload::Workload;

/// All of it.
const WHOLE: Part = Part { number: 0, of: 1 };

/// Explores a script in every mode, and fails with the first thing that is wrong.
fn nothing_is_lost(workload: Workload, operations: u64, seed: u64, points: u64, bytes: u64) -> Outcome {
    nothing_is_lost_in(WHOLE, workload, operations, seed, points, bytes)
}

/// As [`nothing_is_lost`], in one part of the calls. The points are those of all parts together.
fn nothing_is_lost_in(
    part: Part,
    workload: Workload,
    operations: u64,
    seed: u64,
    points: u64,
    bytes: u64,
) -> Outcome {
    let outcome = explore_part(&Plan { workload, operations, seed, modes: &CrashMode::ALL }, part);
    println!(
        "{}, seed {seed}, {part:?}: {} crash points, {} crashes of a recovery",
        workload.name, outcome.points, outcome.nested
    );
    let failures = &outcome.failures;
    assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
    // Of two parts, one may have a call more: so many points.
    let more = if part.of > 1 { CrashMode::ALL.len() as u64 + 2 } else { 0 };
    let points = points / part.of - more;
    assert!(outcome.points >= points, "{} points", outcome.points);
    assert!(outcome.nested >= points, "{} crashes of a recovery", outcome.nested);
    assert!(outcome.appended_bytes >= bytes, "{} bytes", outcome.appended_bytes);
    outcome
}

/// Twenty times around the ring, in four parts: alone it takes as long as all the others.
fn everything_at_once(number: u64) {
    let part = Part { number, of: 4 };
    nothing_is_lost_in(part, Workload::MIXED, 350, 1, 15_000, 20 * 4 * 64 * 1024);
}

#[test]
fn of_everything_at_once_in_the_first_part() {
    everything_at_once(0);
}

#[test]
fn of_everything_at_once_in_the_second_part() {
    everything_at_once(1);
}

#[test]
fn of_everything_at_once_in_the_third_part() {
    everything_at_once(2);
}

#[test]
fn of_everything_at_once_in_the_fourth_part() {
    everything_at_once(3);
}

#[test]
fn of_one_producer() {
    nothing_is_lost(Workload::ONE_PRODUCER, 40, 2, 1_000, 4 * 64 * 1024);
}

#[test]
fn of_producers_that_repeat() {
    nothing_is_lost(Workload::RETRIES, 40, 3, 1_000, 4 * 64 * 1024);
}

#[test]
fn of_relaxed_topics() {
    nothing_is_lost(Workload::RELAXED, 40, 4, 1_000, 4 * 64 * 1024);
}

#[test]
fn when_beginnings_are_deleted() {
    nothing_is_lost(Workload::RETENTION, 50, 5, 1_000, 4 * 64 * 1024);
}

#[test]
fn when_topics_come_and_go() {
    nothing_is_lost(Workload::TOPICS, 60, 6, 1_000, 2 * 64 * 1024);
}

fn keys_are_superseded(number: u64) {
    let part = Part { number, of: 2 };
    let outcome = nothing_is_lost_in(part, Workload::COMPACTION, 260, 8, 5_000, 2 * 64 * 1024);
    assert!(outcome.compactions >= 20, "{} segments were compacted", outcome.compactions);
}

/// Most of them take the way of a lone append; the rest show that it does not overtake.
#[test]
fn of_appends_that_commit_themselves() {
    let outcome = nothing_is_lost(Workload::ALONE, 150, 9, 2_000, 4 * 64 * 1024);
    assert!(outcome.committed_alone >= 10, "{} batches", outcome.committed_alone);
}

#[test]
fn when_keys_are_superseded_and_segments_become_others_in_one_half() {
    keys_are_superseded(0);
}

#[test]
fn when_keys_are_superseded_and_segments_become_others_in_the_other_half() {
    keys_are_superseded(1);
}

/// A recovery makes more calls the more it finds. The nested crashes above choose one of them each time;
/// here are all of them.
#[test]
fn in_every_call_of_a_start() {
    for workload in [Workload::MIXED, Workload::RELAXED, Workload::RETENTION, Workload::COMPACTION] {
        let plan = Plan { workload, operations: 60, seed: 10, modes: &CrashMode::ALL };
        let outcome = explore_start(&plan);
        println!("{}: {} crash points of a start", workload.name, outcome.points);
        let failures = &outcome.failures;
        assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
        // Two starts of 15 calls at the least, in seven ways.
        assert!(outcome.points >= 210, "{}: {} points", workload.name, outcome.points);
    }
}

/// Parts have every call once, and what comes of a call does not depend on the part.
#[test]
fn parts_are_together_the_whole() {
    let plan = Plan { workload: Workload::MIXED, operations: 12, seed: 9, modes: &[CrashMode::LoseAll] };
    let whole = explore_part(&plan, WHOLE);
    let parts: Vec<_> = (0..3).map(|number| explore_part(&plan, Part { number, of: 3 })).collect();
    let sum = |count: fn(&Outcome) -> u64| parts.iter().map(count).sum::<u64>();
    assert_eq!(sum(|outcome| outcome.points), whole.points);
    assert_eq!(sum(|outcome| outcome.nested), whole.nested);
    assert!(parts.iter().all(|part| part.points > 0 && part.trace == whole.trace), "{parts:?}");
}

#[test]
fn of_groups() {
    nothing_is_lost(Workload::GROUPS, 60, 7, 1_000, 2 * 64 * 1024);
}

/// More dirty segments than a checkpoint syncs one by one: it syncs the whole storage instead, and is
/// crashed at every call of that.
#[test]
fn when_a_checkpoint_syncs_the_whole_storage() {
    const PARTITIONS: u32 = 100;
    let faulty = FaultyStorage::new(5, courant_sim::CAP_BYTES);
    let log = open(&faulty, 5);
    let partitions = create(&log, "orders", PARTITIONS, &[]).partitions.clone();
    let acknowledged = Arc::new(AtomicU64::new(0));
    for (tag, partition) in (1..).zip(&partitions) {
        let acknowledged = acknowledged.clone();
        log.append(*partition, batch(tag, 1, 200, None), move |appended| {
            appended.expect("appended");
            acknowledged.fetch_add(1, Ordering::Relaxed);
        });
    }
    while log.commit() {}
    assert_eq!(acknowledged.load(Ordering::Relaxed), u64::from(PARTITIONS));
    let failures: Arc<Mutex<Vec<String>>> = Arc::default();
    let (failed, whole) = (failures.clone(), Arc::new(AtomicBool::new(false)));
    let seen = whole.clone();
    faulty.set_hook(Box::new(move |storage, call, what| {
        seen.fetch_or(what == "sync_all", Ordering::Relaxed);
        for mode in [CrashMode::LoseAll, CrashMode::RandomSubset, CrashMode::StaleGarbage] {
            let log = open(&storage.crash_image(mode, call), 6);
            let lost = partitions.iter().filter(|partition| stored(&log, **partition).len() != 1).count();
            if lost > 0 {
                failed.lock().expect("lock").push(format!("{mode:?} at call {call} ({what}): {lost} lost"));
            }
        }
    }));
    log.checkpoint().expect("stores");
    // The second one frees the journal that the first one made superfluous.
    create(&log, "payments", 1, &[]);
    log.checkpoint().expect("stores");
    faulty.clear_hook();
    let failures = failures.lock().expect("lock");
    assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
    assert!(whole.load(Ordering::Relaxed), "the whole storage was synced");
}
