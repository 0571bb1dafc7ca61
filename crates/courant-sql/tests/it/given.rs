//! Events, consumers and failures that cases speak of: the same for every store.

use bytes::Bytes;
use courant_core::consumer::ConsumerName;
use courant_core::event_id::EventId;
use courant_core::position::TopicPartition;
use courant_core::topic::TopicName;
use courant_sql::{
    Assignment, Burial, Consumer, DeadReason, Delivery, Event, Failure, NewEvent, ParkedEvent, Source,
};

/// The present of every test that does not care.
pub(crate) const NOW: i64 = 1_700_000_000_000;

pub(crate) fn consumer(name: &str) -> Consumer {
    Consumer { name: ConsumerName::new(name).expect("a name"), generation: 1 }
}

pub(crate) fn assignment(name: &str) -> Assignment {
    let topic = TopicName::new("orders").expect("a name");
    Assignment { consumer: consumer(name), partition: TopicPartition { topic, partition: 3 } }
}

pub(crate) fn event(offset: u64, key: Option<&'static str>) -> Event {
    Event {
        offset,
        id: EventId::new(&format!("e-{offset}")).expect("an id"),
        key: key.map(Bytes::from),
        value: Some(Bytes::from(format!("value of {offset}"))),
        headers: vec![
            ("ce_type".to_owned(), Bytes::from_static(b"orders.placed")),
            ("raw".to_owned(), Bytes::from_static(&[0, 0xff])),
        ],
        timestamp_ms: NOW - 1,
    }
}

pub(crate) fn failure() -> Failure {
    Failure {
        kind: "CardDeclined".to_owned(),
        place: "billing::charge".to_owned(),
        message: "the card was declined: no funds".to_owned(),
    }
}

pub(crate) fn burial<'a>(event: &'a Event, failure: &'a Failure, keep_key_parked: bool) -> Burial<'a> {
    Burial {
        event,
        failure,
        reason: DeadReason::Exhausted,
        keep_key_parked,
        code_version: "1.2.3",
        copies: Vec::new(),
    }
}

pub(crate) fn new_event(id: &str, key: &str) -> NewEvent {
    NewEvent {
        id: EventId::new(id).expect("an id"),
        topic: TopicName::new("invoices").expect("a name"),
        key: Some(Bytes::from(key.to_owned())),
        value: Some(Bytes::from(format!("value of {id}"))),
        headers: vec![("ce_id".to_owned(), Bytes::from(id.to_owned()))],
        timestamp_ms: NOW,
    }
}

/// The delivery of an event.
pub(crate) fn of(event: &Event, source: Source) -> Delivery<'_> {
    Delivery { id: &event.id, offset: event.offset, key: event.key.as_deref(), source }
}

pub(crate) fn offsets(parked: &[ParkedEvent]) -> Vec<u64> {
    parked.iter().map(|parked| parked.event.offset).collect()
}
