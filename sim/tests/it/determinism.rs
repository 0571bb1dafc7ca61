//! The same seed makes the same bytes: what a long run has found can be looked at again.

use courant_sim::crash::{Plan, explore};
use courant_sim::workload::Workload;

fn trace(workload: Workload, seed: u64) -> (u64, u64, u64) {
    let outcome = explore(&Plan { workload, operations: 25, seed, modes: &[] });
    assert!(outcome.failures.is_empty(), "{}: {}", workload.name, outcome.failures[0]);
    (outcome.trace, outcome.points, outcome.nested)
}

#[test]
fn a_seed_makes_the_same_calls_and_bytes_again() {
    for workload in Workload::ALL {
        let (first, again, other) = (trace(workload, 11), trace(workload, 11), trace(workload, 12));
        assert_eq!(first, again, "{}", workload.name);
        assert_ne!(first.0, other.0, "{}", workload.name);
    }
}
