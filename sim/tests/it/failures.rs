//! Every storage call fails once, in every way.

use courant_log::storage::Failure;
use courant_sim::sweep::{FAILURES, Swept, sweep, sweep_full, sweep_start};
use courant_sim::workload::Workload;

fn nothing_is_lost(kind: Failure) -> Swept {
    nothing_is_lost_of(Workload::COMPACTION, 80, kind);
    nothing_is_lost_of(Workload::ALONE, 80, kind);
    nothing_is_lost_of(Workload::MIXED, 50, kind)
}

fn nothing_is_lost_of(workload: Workload, operations: u64, kind: Failure) -> Swept {
    let swept = sweep(workload, operations, 21, kind);
    println!(
        "{}, {kind:?}: {} runs, {} went on, {} ended, {} wrong",
        workload.name,
        swept.runs,
        swept.went_on,
        swept.ended,
        swept.failures.len()
    );
    assert!(swept.failures.is_empty(), "{} failures, the first: {}", swept.failures.len(), swept.failures[0]);
    let runs_min = if kind == Failure::Eintr { 15 } else { 150 };
    assert!(swept.runs >= runs_min, "{}", swept.runs);
    swept
}

#[test]
fn an_error_of_the_disk_loses_nothing() {
    assert!(nothing_is_lost(Failure::Eio).ended > 0);
}

#[test]
fn a_full_disk_loses_nothing_and_the_log_goes_on() {
    assert!(nothing_is_lost(Failure::Enospc).went_on > 0);
}

#[test]
fn half_a_write_loses_nothing() {
    assert!(nothing_is_lost(Failure::ShortWrite).ended > 0);
}

#[test]
fn a_failed_sync_loses_nothing() {
    assert!(nothing_is_lost(Failure::FsyncEio).ended > 0);
}

/// The storage repeats by itself what it can. It tells of changes of names and directories.
#[test]
fn an_interruption_loses_nothing() {
    assert!(nothing_is_lost(Failure::Eintr).ended > 0);
}

/// A kill has left what was answered and not synced, and the start has all of it to put on disk.
#[test]
fn no_call_of_a_start_that_fails_loses_anything() {
    let (mut went_on, mut ended) = (0, 0);
    for workload in [Workload::MIXED, Workload::RELAXED, Workload::COMPACTION] {
        for kind in FAILURES {
            let swept = sweep_start(workload, 50, 23, kind);
            println!("{}, {kind:?}: {} runs, {} ended", workload.name, swept.runs, swept.ended);
            let failures = &swept.failures;
            assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
            let runs_min = if kind == Failure::Eintr { 5 } else { 15 };
            assert!(swept.runs >= runs_min, "{}", swept.runs);
            (went_on, ended) = (went_on + swept.went_on, ended + swept.ended);
        }
    }
    assert!(went_on > 0 && ended > 0, "{went_on} went on, {ended} ended");
}

/// Not one call that finds no room, but every one from some byte on, until somebody makes room.
#[test]
fn a_disk_that_is_full_at_any_byte_loses_nothing_and_the_log_goes_on() {
    for workload in [Workload::MIXED, Workload::RETENTION, Workload::COMPACTION] {
        let swept = sweep_full(workload, 80, 25, 120);
        println!("{}: {} runs, {} went on, {} ended", workload.name, swept.runs, swept.went_on, swept.ended);
        let failures = &swept.failures;
        assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
        assert!(swept.went_on > 10, "{} of {}", swept.went_on, swept.runs);
    }
}
