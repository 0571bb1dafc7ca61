//! Reads get memory that is used again.

use courant_log::limits::{BUFFERED_BYTES_MIN, READ_BUFFERS};
use courant_log::storage::FaultyStorage;
use courant_sim::CAP_BYTES;
use courant_sim::tiny::{append, batch, create, open};

/// More reads are held than there are buffers: none of them changes, and none is waited for. The memory of the
/// one that is dropped is that of the next one.
#[test]
fn what_somebody_holds_of_a_read_stays_as_it_is() {
    let log = open(&FaultyStorage::new(1, CAP_BYTES), 1);
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    for tag in 0..10 {
        append(&log, partition, batch(tag, 1, 20_000, None)).expect("appends");
    }
    let read = |offset| log.read(partition, offset, 100_000, true).expect("reads").bytes;
    let first = read(0);
    assert!(first.len() >= BUFFERED_BYTES_MIN);
    let copy = first.to_vec();
    let held: Vec<_> = (0..2 * READ_BUFFERS).map(|_| read(5)).collect();
    assert!(first == copy, "a read was written over");
    assert!(held.iter().all(|other| *other == held[0] && *other != first));
    let memory = first.as_ptr_range();
    drop(first);
    let again = read(0);
    assert!(memory.contains(&again.as_ptr()) && again == copy);
    // Nothing is coming, so nothing is kept; what somebody holds is.
    log.seal();
    assert!(again == copy && held.iter().all(|other| *other == held[0]));
}
