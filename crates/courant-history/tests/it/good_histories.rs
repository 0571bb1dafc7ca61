//! What a log may do, and a client may meet.

use courant_history::{Counts, History, Stamp};

use crate::{READER, complete, read, stamp, written};

#[test]
fn what_was_never_answered_may_be_there_or_not() {
    let mut history = written(1);
    for producer in [2, 3] {
        history.sent(&stamp(0, producer, 0));
    }
    read(&mut history, 0, &stamp(0, 1, 0));
    read(&mut history, 1, &stamp(0, 3, 0));
    complete(&mut history, 2);
    assert_eq!(history.check(), []);
    assert_eq!(history.counts(), Counts { sent: 3, acknowledged: 1, refused: 0, unknown: 2, read: 2 });
}

#[test]
fn a_retry_is_one_event() {
    let mut history = History::new();
    history.sent(&stamp(0, 1, 0));
    history.sent(&stamp(0, 1, 0));
    history.acknowledged(&stamp(0, 1, 0), Some(0));
    history.acknowledged(&stamp(0, 1, 0), Some(0));
    read(&mut history, 0, &stamp(0, 1, 0));
    complete(&mut history, 1);
    assert_eq!(history.check(), []);
    assert_eq!(history.counts().sent, 1);
}

#[test]
fn readers_come_and_go_and_read_again() {
    let mut history = written(4);
    for reader in ["a", "b"] {
        for from in [0, 2] {
            history.reader_seeks(reader, "orders", 0);
            for offset in from..4 {
                history.read(reader, "orders", 0, offset, &stamp(0, 1, offset).to_value(60));
            }
            history.complete(reader, "orders", 0, from, 4);
        }
    }
    assert_eq!(history.check(), []);
}

#[test]
fn a_beginning_may_be_deleted_and_offsets_be_missing() {
    let mut history = written(2);
    history.sent(&stamp(0, 1, 2));
    history.acknowledged(&stamp(0, 1, 2), Some(1_000_000));
    read(&mut history, 1, &stamp(0, 1, 1));
    read(&mut history, 1_000_000, &stamp(0, 1, 2));
    history.complete(READER, "orders", 0, 1, 1_000_001);
    assert_eq!(history.check(), []);
}

/// It may have stood in what was deleted, and nobody can tell.
#[test]
fn an_event_without_an_offset_may_be_deleted_with_the_beginning() {
    let mut history = History::new();
    for (sequence, offset) in [(0, None), (1, Some(9))] {
        history.sent(&stamp(0, 1, sequence));
        history.acknowledged(&stamp(0, 1, sequence), offset);
    }
    read(&mut history, 9, &stamp(0, 1, 1));
    history.complete(READER, "orders", 0, 5, 10);
    assert_eq!(history.check(), []);
}

#[test]
fn a_reader_that_has_not_come_to_the_end_says_nothing_of_it() {
    let mut history = written(3);
    read(&mut history, 1, &stamp(0, 1, 1));
    assert_eq!(history.check(), []);
    history.complete(READER, "orders", 0, 1, 2);
    assert_eq!(history.check(), []);
}

#[test]
fn a_refused_event_may_be_sent_again() {
    let mut history = History::new();
    history.sent(&stamp(0, 1, 0));
    history.refused(&stamp(0, 1, 0));
    history.sent(&stamp(0, 1, 0));
    history.acknowledged(&stamp(0, 1, 0), Some(0));
    read(&mut history, 0, &stamp(0, 1, 0));
    complete(&mut history, 1);
    assert_eq!(history.check(), []);
}

#[test]
fn every_flipped_bit_of_a_value_is_seen() {
    let event = Stamp { topic: "orders".to_owned(), partition: 3, producer: 9, sequence: 77 };
    for bytes in [0, 60, 1_000] {
        let value = event.to_value(bytes);
        assert!(value.len() >= bytes);
        assert_eq!(Stamp::of_value(&value), Ok(event.clone()));
        for bit in 0..value.len() * 8 {
            let mut changed = value.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Stamp::of_value(&changed).is_err(), "bit {bit} of {}", value.len());
        }
    }
}
