//! From a record of the engine to an event as the store keeps it.

use bytes::Bytes;
use courant_core::event_id::EventId;
use courant_core::headers;
use courant_engine::Record;
use courant_sql::Event;
use uuid::Uuid;

/// The id of a record: the one that it brings, or one made of the log's identity and its place.
pub(crate) fn id(log: &Uuid, record: &Record) -> EventId {
    own_id(record).unwrap_or_else(|| place_id(log, record))
}

/// The id that a record brings.
pub(crate) fn own_id(record: &Record) -> Option<EventId> {
    let said = record.header(headers::ID).and_then(|header| header.value.as_ref());
    let said = said.and_then(|value| std::str::from_utf8(value).ok());
    said.and_then(|said| EventId::new(said).ok())
}

fn place_id(log: &Uuid, record: &Record) -> EventId {
    let partition = &record.position.partition;
    EventId::of_place(log, &partition.topic, partition.number, record.position.offset)
}

/// What a record says that its type is.
pub(crate) fn event_type(record: &Record) -> Option<&str> {
    let said = record.header(headers::TYPE).and_then(|header| header.value.as_ref());
    said.and_then(|value| std::str::from_utf8(value).ok())
}

/// The event. A header's name that is no text is replaced where it is not, and one without a value has an
/// empty one: neither is one of those that mean something here.
pub(crate) fn event(log: &Uuid, record: Record) -> Event {
    let id = id(log, &record);
    let headers = record.headers.into_iter().map(|header| {
        let name = String::from_utf8_lossy(&header.name).into_owned();
        (name, header.value.unwrap_or_else(Bytes::new))
    });
    Event {
        offset: record.position.offset,
        id,
        key: record.key,
        value: record.value,
        headers: headers.collect(),
        timestamp_ms: record.timestamp_ms,
    }
}

#[cfg(test)]
mod tests {
    use courant_engine::{Header, Partition};

    use super::*;

    fn record(offset: u64, headers: Vec<Header>) -> Record {
        Record {
            position: Partition::new("orders", 1).at(offset),
            timestamp_ms: 5,
            key: None,
            value: None,
            headers,
        }
    }

    #[test]
    fn an_id_that_is_brought_is_kept() {
        let log = Uuid::from_u128(1);
        let brought = record(7, vec![Header::new("ce_id", "a"), Header::new("ce_id", "e-1")]);
        assert_eq!(id(&log, &brought).as_str(), "e-1");
        assert_eq!(own_id(&brought), Some(id(&log, &brought)));
    }

    #[test]
    fn an_id_that_is_missing_or_none_is_made_of_the_place() {
        let (log, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let made = id(&log, &record(7, Vec::new()));
        for headers in
            [vec![Header::null("ce_id")], vec![Header::new("ce_id", "")], vec![Header::new("x", "y")]]
        {
            let record = record(7, headers);
            assert_eq!((id(&log, &record), own_id(&record)), (made.clone(), None));
        }
        assert_ne!(id(&log, &record(8, Vec::new())), made);
        assert_ne!(id(&other, &record(7, Vec::new())), made);
        let expected = Uuid::new_v5(&log, b"orders/1/7").to_string();
        assert_eq!(made.as_str(), expected);
    }

    #[test]
    fn headers_of_others_survive_as_well_as_they_can() {
        let headers = vec![Header::new(&b"\xff"[..], "v"), Header::null("n")];
        let event = event(&Uuid::from_u128(1), record(7, headers));
        assert_eq!(event.headers[0].0, "\u{fffd}");
        assert_eq!(event.headers[1], ("n".to_owned(), Bytes::new()));
    }
}
