//! Damage to what was acknowledged is named, or was not needed; it never passes for a torn tail.

use std::collections::BTreeSet;

use courant_sim::damage::{Outcome, break_files, flip};
use courant_sim::every_byte::EveryByte;
use courant_sim::workload::Workload;

fn nothing_is_lost_in_silence(dir: &str, stride: u64) -> Outcome {
    let flipped = flip(Workload::MIXED, 40, 31, dir, stride);
    println!(
        "{dir}: {} bits, {} starts refused, {} unharmed, {} named",
        flipped.cases, flipped.refused, flipped.unharmed, flipped.named
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
fn of_the_segments_and_their_sidecars() {
    let flipped = nothing_is_lost_in_silence("segments", 499);
    assert!(flipped.named > 20 && flipped.refused == 0, "{flipped:?}");
}

fn nothing_is_lost_in_silence_of_files(workload: Workload, operations: u64, seed: u64) -> Outcome {
    let broken = break_files(workload, operations, seed);
    println!(
        "{}: {} files broken: {} starts refused, {} unharmed, {} named",
        workload.name, broken.cases, broken.refused, broken.unharmed, broken.named
    );
    let failures = &broken.failures;
    assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
    broken
}

#[test]
fn of_whole_files() {
    let broken = nothing_is_lost_in_silence_of_files(Workload::MIXED, 40, 33);
    assert!(broken.refused > 10 && broken.unharmed > 10 && broken.named > 0, "{broken:?}");
}

/// Among them segments that compaction has made, and those that they have replaced: a start that finds one of
/// the former not whole goes on with the latter, and the newest event of each key is there all the same.
#[test]
fn of_whole_files_of_a_compacted_log() {
    let broken = nothing_is_lost_in_silence_of_files(Workload::COMPACTION, 120, 36);
    assert!(broken.refused > 0 && broken.unharmed > 0 && broken.named > 0, "{broken:?}");
}

/// What `cargo xtask torture damage` does with every byte, here with one byte in a thousand and with the
/// first bytes of each file, whatever kind of file it is.
#[test]
fn of_single_bytes_of_every_file() {
    let directory = EveryByte::of(35);
    let mut numbers: BTreeSet<u64> = (0..directory.bytes()).step_by(1_009).collect();
    let mut begin = 0;
    for (_, len) in directory.files() {
        numbers.extend(begin..begin + (*len).min(8));
        begin += len;
    }
    assert_eq!(begin, directory.bytes());
    let mut kinds = BTreeSet::new();
    for (path, _) in directory.files() {
        kinds.insert(path.rsplit_once('.').map_or(path.as_str(), |(_, extension)| extension).to_owned());
    }
    for kind in ["FORMAT", "journal", "checkpoint", "producers", "segment", "blocks"] {
        assert!(kinds.contains(kind), "no {kind} among {kinds:?}");
    }
    let mut sum = Outcome::default();
    for number in numbers {
        let Outcome { cases, refused, unharmed, named, failures } = directory.harm(number);
        sum.cases += cases;
        sum.refused += refused;
        sum.unharmed += unharmed;
        sum.named += named;
        sum.failures.extend(failures);
    }
    println!(
        "{} places of {} bytes: {} starts refused, {} unharmed, {} named",
        sum.cases,
        directory.bytes(),
        sum.refused,
        sum.unharmed,
        sum.named
    );
    let failures = &sum.failures;
    assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
    assert!(sum.refused > 0 && sum.unharmed > 0 && sum.named > 0, "{sum:?}");
}
