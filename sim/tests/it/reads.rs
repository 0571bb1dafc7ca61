//! No read that goes wrong gives a client what was not stored.

use courant_sim::reads::{sweep, sweep_compaction};
use courant_sim::workload::Workload;

fn every_answer_is_right_or_an_error(workload: Workload, seed: u64) {
    let outcome = sweep(workload, 60, seed, 1);
    println!(
        "{} reads: {} starts refused, {} of them late, {} with events refused, {} unharmed",
        outcome.cases, outcome.refused, outcome.found_late, outcome.quarantined, outcome.unharmed
    );
    let failures = &outcome.failures;
    assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
    assert!(outcome.found_late > 0, "{outcome:?}");
    assert!(outcome.refused > 10 && outcome.quarantined > 10 && outcome.unharmed > 10, "{outcome:?}");
}

#[test]
fn of_a_mixed_log() {
    every_answer_is_right_or_an_error(Workload::MIXED, 41);
}

#[test]
fn of_a_compacted_log() {
    every_answer_is_right_or_an_error(Workload::COMPACTION, 43);
}

#[test]
fn of_a_log_with_retention() {
    every_answer_is_right_or_an_error(Workload::RETENTION, 42);
}

fn compaction_loses_nothing(seed: u64, is_read: bool) {
    let outcome = sweep_compaction(120, seed, is_read);
    println!(
        "{} reads of compactions: {} gave up, {} made up for it, {} with events refused",
        outcome.cases, outcome.gave_up, outcome.made_up, outcome.quarantined
    );
    let failures = &outcome.failures;
    assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
    assert!(outcome.cases > 20 && outcome.gave_up > 0 && outcome.quarantined > 0, "{outcome:?}");
    assert!(outcome.gave_up < outcome.cases, "some reads are repeated: {outcome:?}");
}

#[test]
fn of_a_compaction_behind_a_start() {
    compaction_loses_nothing(45, false);
}

/// Where a read only touches a block, a log that has compared it before, or has written it, does not compare it
/// again. Compaction does.
#[test]
fn of_a_compaction_of_what_was_read_before() {
    compaction_loses_nothing(46, true);
}
