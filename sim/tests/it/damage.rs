//! Damage to what was acknowledged is named, or was not needed; it never passes for a torn tail.

use courant_sim::damage::{Outcome, break_files, flip};
use courant_sim::workload::Workload;

fn nothing_is_lost_in_silence(dir: &str, stride: u64) -> Outcome {
    let flipped = flip(Workload::MIXED, 40, 31, dir, stride);
    println!(
        "{dir}: {} bits, {} starts refused, {} unharmed",
        flipped.cases, flipped.refused, flipped.unharmed
    );
    let failures = &flipped.failures;
    assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
    flipped
}

#[test]
fn of_the_journal() {
    let flipped = nothing_is_lost_in_silence("journal", 61);
    assert!(flipped.cases > 3_000 && flipped.refused > 100, "{flipped:?}");
}

#[test]
fn of_the_checkpoints() {
    let flipped = nothing_is_lost_in_silence("checkpoints", 3);
    assert!(flipped.cases > 100, "{flipped:?}");
}

#[test]
fn of_whole_files() {
    let broken = break_files(Workload::MIXED, 40, 33);
    println!(
        "{} files broken: {} starts refused, {} unharmed, {} named",
        broken.cases, broken.refused, broken.unharmed, broken.named
    );
    let failures = &broken.failures;
    assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
    assert!(broken.refused > 10 && broken.unharmed > 10 && broken.named > 0, "{broken:?}");
}
