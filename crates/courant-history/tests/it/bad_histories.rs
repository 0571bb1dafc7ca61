//! Each history breaks one promise, and is flagged with exactly that.

use courant_history::{Finding, History};

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
    assert!(matches!(&history.check()[..], [Finding::Reordered { .. }]), "{:?}", history.check());
}

#[test]
fn a_value_has_changed() {
    let mut history = written(1);
    let mut value = stamp(0, 1, 0).to_value(60);
    value[40] ^= 1;
    history.read(READER, "orders", 0, 0, &value);
    complete(&mut history, 1);
    assert!(matches!(&history.check()[..], [Finding::Torn { offset: 0, .. }]), "{:?}", history.check());
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
    let found = history.check();
    assert!(
        matches!(&found[..], [Finding::InconsistentOffset { offset: 0, first, then }]
            if *first == stamp(0, 1, 0) && *then == stamp(0, 2, 0)),
        "{found:?}"
    );
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
    assert!(
        history.check().contains(&Finding::AckedAndRefused { stamp: stamp(0, 1, 0) }),
        "{:?}",
        history.check()
    );
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
    assert!(history.check().contains(&Finding::Unsent { stamp: stamp(0, 1, 0) }), "{:?}", history.check());
}
