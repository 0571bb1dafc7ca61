//! Defects that are planted in the log itself: the simulation must see each of them.

use std::panic::catch_unwind;

use courant_log::planted::{Defect, plant};
use courant_log::storage::{CrashMode, Failure};
use courant_sim::crash::{Part, Plan, explore, explore_part};
use courant_sim::damage::flip;
use courant_sim::reads;
use courant_sim::sweep::sweep;
use courant_sim::workload::Workload;

/// A defect must be seen within so many crash points.
const POINTS_MAX: u64 = 50_000;

/// Fails unless crash points of this workload show the defect.
fn is_seen(defect: Defect, workload: Workload) {
    let _planted = plant(defect);
    let outcome = explore(&Plan { workload, operations: 60, seed: 1, modes: &CrashMode::ALL });
    println!("{defect:?}: {} failures in {} crash points", outcome.failures.len(), outcome.points);
    assert!(outcome.points <= POINTS_MAX, "{}", outcome.points);
    let first = outcome.failures.first();
    println!(
        "{}",
        first.unwrap_or_else(|| panic!("{defect:?} is not seen in {} crash points", outcome.points))
    );
}

#[test]
fn checksums_that_nobody_compares() {
    is_seen(Defect::NoChecksums, Workload::MIXED);
}

#[test]
fn an_answer_before_the_sync() {
    is_seen(Defect::AnswerBeforeSync, Workload::MIXED);
}

#[test]
fn a_watermark_before_the_sync() {
    is_seen(Defect::PublishBeforeSync, Workload::ONE_PRODUCER);
}

#[test]
fn checksums_without_a_seed() {
    is_seen(Defect::NoSeed, Workload::MIXED);
}

#[test]
fn the_tail_of_a_segment_that_is_trusted() {
    is_seen(Defect::SegmentTailTrusted, Workload::MIXED);
}

#[test]
fn a_repetition_that_is_answered_before_its_original() {
    is_seen(Defect::DuplicateBeforeOriginal, Workload::RETRIES);
}

#[test]
fn a_compacted_segment_that_is_not_on_disk() {
    is_seen(Defect::CompactedNotSynced, Workload::COMPACTION);
}

#[test]
fn a_checkpoint_that_leaves_the_ends_of_segments_unsynced() {
    is_seen(Defect::SyncedAheadIsEnough, Workload::MIXED);
}

#[test]
fn an_answer_of_whoever_commits_before_the_sync() {
    is_seen(Defect::AnswerBeforeSync, Workload::ALONE);
}

/// The log itself is wrong then, not only what a crash leaves of it.
#[test]
fn an_append_that_commits_itself_and_overtakes() {
    let _planted = plant(Defect::LoneOvertakes);
    let plan = Plan { workload: Workload::ALONE, operations: 400, seed: 1, modes: &[] };
    let explored = catch_unwind(|| explore(&plan));
    match explored {
        Ok(outcome) => assert!(!outcome.failures.is_empty(), "not seen in {} crash points", outcome.points),
        Err(panic) => {
            let reason = panic.downcast_ref::<String>().map_or("", String::as_str);
            assert!(reason.contains("reordered"), "{reason}");
        }
    }
}

/// Fails unless one of the runs in which a sync fails shows the defect.
fn is_seen_when_a_sync_fails(defect: Defect) {
    let _planted = plant(defect);
    let swept = sweep(Workload::MIXED, 50, 21, Failure::FsyncEio);
    println!("{defect:?}: {} of {} runs fail", swept.failures.len(), swept.runs);
    assert!(!swept.failures.is_empty(), "{defect:?} is not seen in {} runs", swept.runs);
}

#[test]
fn a_failed_sync_that_is_tried_again() {
    is_seen_when_a_sync_fails(Defect::RetryAfterFailedSync);
}

#[test]
fn a_failed_sync_ahead_of_a_checkpoint_that_is_passed_over() {
    is_seen_when_a_sync_fails(Defect::ErrorAheadPassedOver);
}

/// What a read has got wrong, a client gets.
#[test]
fn what_is_read_from_memory_and_not_compared() {
    let _planted = plant(Defect::CachedNotCompared);
    let outcome = reads::sweep(Workload::MIXED, 60, 43, 2);
    println!("{} of {} reads that go wrong are not told", outcome.failures.len(), outcome.cases);
    assert!(!outcome.failures.is_empty(), "it is not seen in {} reads", outcome.cases);
}

/// The log itself is wrong then, not only what a crash leaves of it: sound events are refused.
#[test]
fn what_is_not_in_memory_and_is_taken_for_the_end_of_the_file() {
    let _planted = plant(Defect::NotInMemoryIsTheEnd);
    let plan = Plan { workload: Workload::MIXED, operations: 40, seed: 1, modes: &[] };
    let no_crash = Part { number: 0, of: u64::MAX };
    let panic = catch_unwind(|| explore_part(&plan, no_crash)).expect_err("it is not seen");
    let reason = panic.downcast_ref::<String>().map_or("", String::as_str);
    assert!(reason.contains("Quarantined"), "{reason}");
}

#[test]
fn a_start_that_takes_damage_for_a_torn_tail() {
    let _planted = plant(Defect::NoDurableMark);
    let flipped = flip(Workload::MIXED, 40, 31, "journal", 257);
    println!("{} of {} bits are lost in silence", flipped.failures.len(), flipped.cases);
    assert!(!flipped.failures.is_empty(), "it is not seen in {} bits", flipped.cases);
}
