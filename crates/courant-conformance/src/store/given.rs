//! Events, consumers and failures that scenarios speak of.

use bytes::Bytes;
use courant_core::consumer::ConsumerName;
use courant_core::event_id::EventId;
use courant_core::position::TopicPartition;
use courant_core::topic::TopicName;
use courant_sql::{
    Assignment, Burial, Consumer, DeadReason, Delivery, Event, Failure as Failed, NewEvent, Source,
};

use crate::Failure;

/// The present of every scenario that does not care.
pub(super) const NOW: i64 = 1_700_000_000_000;

pub(super) fn consumer(name: &str) -> Result<Consumer, Failure> {
    Ok(Consumer { name: ConsumerName::new(name)?, generation: 1 })
}

pub(super) fn assignment(name: &str) -> Result<Assignment, Failure> {
    let partition = TopicPartition { topic: TopicName::new("orders")?, partition: 3 };
    Ok(Assignment { consumer: consumer(name)?, partition })
}

pub(super) fn event(offset: u64, key: Option<&'static str>) -> Result<Event, Failure> {
    Ok(Event {
        offset,
        id: EventId::new(&format!("e-{offset}"))?,
        key: key.map(Bytes::from),
        value: Some(Bytes::from(format!("value of {offset}"))),
        headers: vec![
            ("ce_type".to_owned(), Bytes::from_static(b"orders.placed")),
            ("raw".to_owned(), Bytes::from_static(&[0, 0xff])),
        ],
        timestamp_ms: NOW - 1,
    })
}

pub(super) fn failure() -> Failed {
    Failed {
        kind: "CardDeclined".to_owned(),
        place: "billing::charge".to_owned(),
        message: "the card was declined".to_owned(),
    }
}

pub(super) fn burial<'a>(event: &'a Event, failure: &'a Failed, keep_key_parked: bool) -> Burial<'a> {
    Burial {
        event,
        failure,
        reason: DeadReason::Exhausted,
        keep_key_parked,
        code_version: "1.2.3",
        copies: Vec::new(),
    }
}

pub(super) fn new_event(id: &str, key: &str) -> Result<NewEvent, Failure> {
    Ok(NewEvent {
        id: EventId::new(id)?,
        topic: TopicName::new("invoices")?,
        key: Some(Bytes::from(key.to_owned())),
        value: Some(Bytes::from(format!("value of {id}"))),
        headers: vec![
            ("ce_id".to_owned(), Bytes::from(id.to_owned())),
            ("raw".to_owned(), Bytes::from_static(&[0xff])),
        ],
        timestamp_ms: NOW,
    })
}

/// The delivery of an event.
pub(super) fn of(event: &Event, source: Source) -> Delivery<'_> {
    Delivery { id: &event.id, offset: event.offset, key: event.key.as_deref(), source }
}
