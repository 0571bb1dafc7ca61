//! The checker itself: bad histories are flagged with what is wrong in them, good ones with nothing.

mod bad_histories;
mod good_histories;
mod mutations;
mod passes;

use courant_history::{History, Stamp};

const READER: &str = "tail";

fn stamp(partition: u32, producer: u64, sequence: u64) -> Stamp {
    Stamp { topic: "orders".to_owned(), partition, producer, sequence }
}

/// A producer writes `events` events into partition 0, from offset 0 on, and is told so.
fn written(events: u64) -> History {
    let mut history = History::new();
    for sequence in 0..events {
        history.sent(&stamp(0, 1, sequence));
        history.acknowledged(&stamp(0, 1, sequence), Some(sequence));
    }
    history
}

fn read(history: &mut History, offset: u64, event: &Stamp) {
    history.read(READER, "orders", 0, offset, &event.to_value(60));
}

fn complete(history: &mut History, end: u64) {
    history.complete(READER, "orders", 0, 0, end);
}
