//! Damage to what was acknowledged is named, or was not needed; it never passes for a torn tail.

use courant_sim::damage::{Flipped, flip};
use courant_sim::workload::Workload;

fn nothing_is_lost_in_silence(dir: &str, stride: u64) -> Flipped {
    let flipped = flip(Workload::MIXED, 40, 31, dir, stride);
    println!(
        "{dir}: {} bits, {} starts refused, {} unharmed",
        flipped.bits, flipped.refused, flipped.unharmed
    );
    let failures = &flipped.failures;
    assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
    flipped
}

#[test]
fn of_the_journal() {
    let flipped = nothing_is_lost_in_silence("journal", 61);
    assert!(flipped.bits > 3_000 && flipped.refused > 100, "{flipped:?}");
}

#[test]
fn of_the_checkpoints() {
    let flipped = nothing_is_lost_in_silence("checkpoints", 3);
    assert!(flipped.bits > 100, "{flipped:?}");
}
