//! Each history breaks one promise, and is flagged with exactly that.

use courant_history::{Finding, History, NotAStamp};

use crate::{READER, complete, read, stamp, written};

#[test]
fn an_acknowledged_event_is_missing() {
    let mut history = written(3);
    read(&mut history, 0, &stamp(0, 1, 0));
    read(&mut history, 2, &stamp(0, 1, 2));
    complete(&mut history, 3);
    let lost = Finding::Lost { stamp: stamp(0, 1, 1), offset: Some(1), reader: Some(READER.to_owned()) };
    assert_eq!(history.check(), [lost]);
}

#[test]
fn an_event_acknowledged_without_an_offset_is_missing() {
    let mut history = History::new();
    history.sent(&stamp(0, 1, 0));
    history.acknowledged(&stamp(0, 1, 0), None);
    complete(&mut history, 5);
    assert_eq!(history.check(), [Finding::Lost { stamp: stamp(0, 1, 0), offset: None, reader: None }]);
}

#[test]
fn an_event_comes_from_nowhere() {
    let mut history = written(1);
    read(&mut history, 0, &stamp(0, 1, 0));
    read(&mut history, 1, &stamp(0, 7, 0));
    complete(&mut history, 2);
    assert_eq!(history.check(), [Finding::Phantom { stamp: stamp(0, 7, 0), offset: 1 }]);
}

#[test]
fn an_event_is_there_twice() {
    let mut history = written(2);
    for (offset, sequence) in [(0, 0), (1, 1), (2, 1)] {
        read(&mut history, offset, &stamp(0, 1, sequence));
    }
    complete(&mut history, 3);
    assert_eq!(history.check(), [Finding::Duplicate { stamp: stamp(0, 1, 1), first: 1, again: 2 }]);
    history.allow_duplicates();
    assert_eq!(history.check(), []);
}

#[test]
fn a_producers_events_have_changed_places() {
    let mut history = History::new();
    for (sequence, offset) in [(0, 1), (1, 0)] {
        history.sent(&stamp(0, 1, sequence));
        history.acknowledged(&stamp(0, 1, sequence), Some(offset));
    }
    read(&mut history, 0, &stamp(0, 1, 1));
    read(&mut history, 1, &stamp(0, 1, 0));
    complete(&mut history, 2);
    let reordered = Finding::Reordered { stamp: stamp(0, 1, 1), offset: 0, earlier: 0, earlier_offset: 1 };
    assert_eq!(history.check(), [reordered]);
}

#[test]
fn a_value_has_changed() {
    let mut history = written(1);
    let mut value = stamp(0, 1, 0).to_value(60);
    value[40] ^= 1;
    history.read(READER, "orders", 0, 0, &value);
    complete(&mut history, 1);
    assert_eq!(history.check(), [torn(0, NotAStamp::Checksum)]);
}

#[test]
fn values_are_something_else() {
    let mut history = History::new();
    history.read(READER, "orders", 0, 0, b"");
    history.read(READER, "orders", 0, 1, &[0; 60]);
    complete(&mut history, 2);
    let empty = torn(0, NotAStamp::TooShort { bytes: 0 });
    assert_eq!(history.check(), [empty, torn(1, NotAStamp::Foreign)]);
}

fn torn(offset: u64, why: NotAStamp) -> Finding {
    Finding::Torn { topic: "orders".to_owned(), partition: 0, offset, why }
}

#[test]
fn an_acknowledged_event_has_moved_to_another_partition() {
    let mut history = written(1);
    complete(&mut history, 1);
    history.read(READER, "orders", 1, 7, &stamp(0, 1, 0).to_value(60));
    let lost = Finding::Lost { stamp: stamp(0, 1, 0), offset: Some(0), reader: Some(READER.to_owned()) };
    let misplaced =
        Finding::Misplaced { topic: "orders".to_owned(), partition: 1, offset: 7, stamp: stamp(0, 1, 0) };
    assert_eq!(history.check(), [lost, misplaced]);
}

#[test]
fn one_of_two_readers_misses_an_event() {
    let mut history = written(1);
    read(&mut history, 0, &stamp(0, 1, 0));
    complete(&mut history, 1);
    history.complete("other", "orders", 0, 0, 1);
    let lost = Finding::Lost { stamp: stamp(0, 1, 0), offset: Some(0), reader: Some("other".to_owned()) };
    assert_eq!(history.check(), [lost]);
}

/// Its producer's event before it is there, so it cannot have been deleted with the beginning.
#[test]
fn an_event_without_an_offset_is_missing_behind_a_deleted_beginning() {
    let mut history = written(3);
    history.sent(&stamp(0, 1, 3));
    history.acknowledged(&stamp(0, 1, 3), None);
    read(&mut history, 2, &stamp(0, 1, 2));
    history.complete(READER, "orders", 0, 2, 4);
    assert_eq!(history.check(), [Finding::Lost { stamp: stamp(0, 1, 3), offset: None, reader: None }]);
}

#[test]
fn an_event_stands_in_another_partition() {
    let mut history = written(1);
    read(&mut history, 0, &stamp(0, 1, 0));
    read(&mut history, 1, &stamp(3, 1, 0));
    complete(&mut history, 2);
    let misplaced =
        Finding::Misplaced { topic: "orders".to_owned(), partition: 0, offset: 1, stamp: stamp(3, 1, 0) };
    assert_eq!(history.check(), [misplaced]);
}

#[test]
fn two_readers_see_different_events_at_one_offset() {
    let mut history = written(1);
    history.sent(&stamp(0, 2, 0));
    read(&mut history, 0, &stamp(0, 1, 0));
    history.read("other", "orders", 0, 0, &stamp(0, 2, 0).to_value(60));
    complete(&mut history, 1);
    let differ = Finding::InconsistentOffset { offset: 0, first: stamp(0, 1, 0), then: stamp(0, 2, 0) };
    assert_eq!(history.check(), [differ]);
}

#[test]
fn an_event_is_not_where_its_acknowledgement_says() {
    let mut history = History::new();
    history.sent(&stamp(0, 1, 0));
    history.acknowledged(&stamp(0, 1, 0), Some(4));
    read(&mut history, 0, &stamp(0, 1, 0));
    complete(&mut history, 1);
    let elsewhere = Finding::ReadAtAnotherOffset { stamp: stamp(0, 1, 0), acknowledged: 4, read: 0 };
    assert_eq!(history.check(), [elsewhere]);
}

#[test]
fn an_event_is_acknowledged_at_two_offsets() {
    let mut history = written(1);
    history.acknowledged(&stamp(0, 1, 0), Some(9));
    read(&mut history, 0, &stamp(0, 1, 0));
    complete(&mut history, 1);
    let twice = Finding::AckedTwiceAtDifferentOffsets { stamp: stamp(0, 1, 0), first: 0, again: 9 };
    assert_eq!(history.check(), [twice]);
}

#[test]
fn two_events_are_acknowledged_at_one_offset() {
    let mut history = written(1);
    history.sent(&stamp(0, 2, 0));
    history.acknowledged(&stamp(0, 2, 0), Some(0));
    let two = Finding::TwoAckedAtOneOffset { offset: 0, first: stamp(0, 1, 0), second: stamp(0, 2, 0) };
    assert_eq!(history.check(), [two]);
}

#[test]
fn a_refused_event_is_there() {
    let mut history = written(1);
    history.sent(&stamp(0, 2, 0));
    history.refused(&stamp(0, 2, 0));
    read(&mut history, 0, &stamp(0, 1, 0));
    read(&mut history, 1, &stamp(0, 2, 0));
    complete(&mut history, 2);
    assert_eq!(history.check(), [Finding::RefusedButThere { stamp: stamp(0, 2, 0), offset: 1 }]);
}

#[test]
fn an_event_is_acknowledged_and_refused() {
    let mut history = written(1);
    history.refused(&stamp(0, 1, 0));
    read(&mut history, 0, &stamp(0, 1, 0));
    complete(&mut history, 1);
    assert_eq!(history.check(), [Finding::AckedAndRefused { stamp: stamp(0, 1, 0) }]);
}

#[test]
fn a_reader_goes_back() {
    let mut history = written(2);
    for (offset, sequence) in [(0, 0), (1, 1), (0, 0)] {
        read(&mut history, offset, &stamp(0, 1, sequence));
    }
    let back = Finding::OffsetWentBack {
        reader: READER.to_owned(),
        topic: "orders".to_owned(),
        partition: 0,
        after: 1,
        offset: 0,
    };
    assert_eq!(history.check(), [back]);
}

#[test]
fn a_later_pass_misses_what_an_earlier_one_saw() {
    let mut history = written(1);
    read(&mut history, 0, &stamp(0, 1, 0));
    complete(&mut history, 1);
    assert_eq!(history.check(), []);
    history.reader_seeks(READER, "orders", 0);
    complete(&mut history, 1);
    let lost = Finding::Lost { stamp: stamp(0, 1, 0), offset: Some(0), reader: Some(READER.to_owned()) };
    assert_eq!(history.check(), [lost]);
}

#[test]
fn an_answer_comes_for_what_was_never_sent() {
    let mut history = History::new();
    history.acknowledged(&stamp(0, 1, 0), Some(0));
    read(&mut history, 0, &stamp(0, 1, 0));
    complete(&mut history, 1);
    assert_eq!(history.check(), [Finding::Unsent { stamp: stamp(0, 1, 0) }]);
}
