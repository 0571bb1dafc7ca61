//! The second door: rows that other programs have inserted into `courant_outbox_submit`, and how they
//! become events. The same for every database; `docs/formats/outbox.md` describes it.

use std::fmt;

use bytes::Bytes;
use courant_core::entropy::Entropy;
use courant_core::event_id::EventId;
use courant_core::headers as names;
use courant_core::topic::TopicName;

use crate::headers;
use crate::limits::{EVENT_BYTES_MAX, LISTED_MAX, PUBLISHED_BYTES_MAX};
use crate::outbox::NewEvent;

/// Where an event comes from that does not say it.
const SOURCE_DEFAULT: &str = "outbox";

/// Bytes that a row may have besides those of its event: its headers are JSON, which can be longer.
const ROW_BYTES_BESIDES: u64 = 64 * 1024;

/// Headers that a row may bring: each takes a few bytes more in a record than it has here.
const HEADERS_MAX: usize = 100;

/// How rows become events.
#[derive(Clone, Copy)]
pub struct Sequencing<'a> {
    /// Makes the ids of events that have none.
    pub entropy: &'a dyn Entropy,
    /// Rows that are moved at once.
    pub rows_max: u32,
    /// Bytes that are moved at once, about; one row is always moved.
    pub bytes_max: u64,
    /// Bytes that an event may have with its headers, because nothing takes more.
    pub event_bytes_max: usize,
}

/// What [`Store::sequence`](crate::Store::sequence) has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequenced {
    /// How many events are in their lanes now.
    pub events: u64,
    /// Lanes that have something for the relay, in order.
    pub lanes: Vec<u16>,
    /// Rows that can never be events, each with its number and why. They are in `courant_outbox_refused`.
    pub refused: Vec<(i64, String)>,
}

impl Sequenced {
    /// There was nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events == 0 && self.refused.is_empty()
    }
}

/// A submitted row that can never be an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedEvent {
    /// Its number among the refused ones.
    pub id: i64,
    /// The number that it was submitted under.
    pub submit_id: i64,
    /// Where it was to go; at most the first 249 bytes.
    pub topic: String,
    /// Why it was refused.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub refused_ms: i64,
}

impl Sequencing<'_> {
    pub(crate) fn rows(&self) -> i64 {
        i64::from(self.rows_max.clamp(1, LISTED_MAX))
    }

    /// What is moved at once fits into what one transaction publishes.
    pub(crate) fn bytes(&self) -> i64 {
        let most = PUBLISHED_BYTES_MAX as u64;
        i64::try_from(self.bytes_max.clamp(1, most)).unwrap_or(i64::MAX)
    }

    fn event_bytes(&self) -> usize {
        self.event_bytes_max.min(EVENT_BYTES_MAX)
    }

    /// A row with more is refused unread. Hexadecimal digits are two for a byte.
    pub(crate) fn row_bytes(&self) -> i64 {
        let most = 2 * self.event_bytes() as u64 + ROW_BYTES_BESIDES;
        i64::try_from(most).unwrap_or(i64::MAX)
    }
}

impl fmt::Debug for Sequencing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequencing")
            .field("rows_max", &self.rows_max)
            .field("bytes_max", &self.bytes_max)
            .field("event_bytes_max", &self.event_bytes_max)
            .finish_non_exhaustive()
    }
}

/// A row as it was submitted. Texts are bytes: SQLite keeps any under the name of a text.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) id: i64,
    /// The size of all columns. The others are empty if it is more than [`Sequencing::row_bytes`].
    pub(crate) bytes: i64,
    pub(crate) topic: Option<Bytes>,
    /// `event_key` or `key_bytes`.
    pub(crate) key: Option<Bytes>,
    /// `event_value` or `value_bytes`.
    pub(crate) value: Option<Bytes>,
    /// The value is `event_value`.
    pub(crate) is_text: bool,
    pub(crate) event_type: Option<Bytes>,
    pub(crate) event_id: Option<Bytes>,
    pub(crate) event_source: Option<Bytes>,
    pub(crate) headers: Option<Bytes>,
    pub(crate) timestamp_ms: Option<i64>,
}

/// Rows, as what becomes of them.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    pub(crate) ids: Vec<i64>,
    pub(crate) events: Vec<NewEvent>,
    pub(crate) refused: Vec<(i64, String)>,
}

/// Makes events of the rows, in their order; those that can be none are refused.
pub(crate) fn sort(rows: Vec<Row>, sequencing: &Sequencing<'_>, now_ms: i64) -> Sorted {
    let mut sorted = Sorted::default();
    for row in rows {
        let id = row.id;
        sorted.ids.push(id);
        match event_of(row, sequencing, now_ms) {
            Ok(event) => sorted.events.push(event),
            Err(reason) => sorted.refused.push((id, reason)),
        }
    }
    sorted
}

/// The event of a row, or why there can be none.
fn event_of(row: Row, sequencing: &Sequencing<'_>, now_ms: i64) -> Result<NewEvent, String> {
    if row.bytes > sequencing.row_bytes() {
        return Err(too_large(row.bytes.unsigned_abs(), sequencing));
    }
    let topic = text("topic", row.topic.as_ref())?.unwrap_or_default();
    let topic = TopicName::new(topic).map_err(|error| format!("topic: {error}"))?;
    let given = match text("headers", row.headers.as_ref())? {
        Some(json) => headers::decode_any(json)?,
        None => Vec::new(),
    };
    let timestamp_ms = row.timestamp_ms.unwrap_or(now_ms);
    if timestamp_ms < 1 {
        return Err("timestamp_ms: not after 1970-01-01T00:00:00Z".to_owned());
    }
    if given.len() > HEADERS_MAX {
        return Err(format!("headers: {count}, and at most {HEADERS_MAX}", count = given.len()));
    }
    let id = match said("event_id", names::ID, row.event_id.as_ref(), &given)? {
        Some(id) => EventId::new(id).map_err(|error| format!("event_id: {error}"))?,
        None => EventId::from(sequencing.entropy.uuid()),
    };
    let event_type = said("event_type", names::TYPE, row.event_type.as_ref(), &given)?;
    let source = said("event_source", names::SOURCE, row.event_source.as_ref(), &given)?;
    let mut all = Vec::with_capacity(given.len() + 9);
    {
        let mut make = |name: &str, value: &str| {
            if !given.iter().any(|(there, _)| there == name) {
                all.push((name.to_owned(), Bytes::from(value.to_owned())));
            }
        };
        make(names::ID, id.as_str());
        if let Some(event_type) = event_type {
            let time = jiff::Timestamp::from_millisecond(timestamp_ms)
                .map_err(|_| "timestamp_ms: after the year 9999".to_owned())?;
            make(names::SOURCE, source.unwrap_or(SOURCE_DEFAULT));
            make(names::SPECVERSION, names::SPECVERSION_VALUE);
            make(names::TYPE, event_type);
            make(names::TIME, &time.to_string());
            if let Some(subject) = row.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()) {
                make(names::SUBJECT, subject);
            }
            if row.is_text {
                make(names::CONTENT_TYPE, "application/json");
            }
            make(names::CORRELATION_ID, id.as_str());
        }
    }
    all.extend(given);
    let event = NewEvent { id, topic, key: row.key, value: row.value, headers: all, timestamp_ms };
    if event.bytes() > sequencing.event_bytes() {
        return Err(too_large(event.bytes() as u64, sequencing));
    }
    Ok(event)
}

fn too_large(bytes: u64, sequencing: &Sequencing<'_>) -> String {
    format!(
        "it has {bytes} bytes, and an event has at most {max}: keep the large part elsewhere and submit \
         where it is",
        max = sequencing.event_bytes()
    )
}

fn text<'a>(column: &str, bytes: Option<&'a Bytes>) -> Result<Option<&'a str>, String> {
    let Some(bytes) = bytes else { return Ok(None) };
    std::str::from_utf8(bytes).map(Some).map_err(|_| format!("{column}: not UTF-8"))
}

/// What a column says, or the header of the same meaning. They may not say different things.
fn said<'a>(
    column: &str,
    header: &str,
    bytes: Option<&'a Bytes>,
    given: &'a [(String, Bytes)],
) -> Result<Option<&'a str>, String> {
    let column_says = text(column, bytes)?;
    let mut headers_say = given.iter().filter(|(name, _)| name == header).map(|(_, value)| value);
    let header_says = text(header, headers_say.next())?;
    if headers_say.next().is_some() {
        return Err(format!("headers: {header} comes twice"));
    }
    match (column_says, header_says) {
        (Some(one), Some(other)) if one != other => {
            Err(format!("{column} and the header {header} say different things"))
        }
        (one, other) => Ok(one.or(other)),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    struct Seven;

    impl Entropy for Seven {
        fn uuid(&self) -> Uuid {
            Uuid::from_u128(7)
        }
    }

    const NOW: i64 = 1_700_000_000_000;

    fn sequencing() -> Sequencing<'static> {
        Sequencing { entropy: &Seven, rows_max: 10, bytes_max: 1000, event_bytes_max: 1000 }
    }

    fn row() -> Row {
        Row {
            id: 1,
            bytes: 100,
            topic: Some(Bytes::from_static(b"orders")),
            key: Some(Bytes::from_static(b"o-1")),
            value: Some(Bytes::from_static(b"{}")),
            is_text: true,
            ..Row::default()
        }
    }

    fn made(row: Row) -> Result<NewEvent, String> {
        event_of(row, &sequencing(), NOW)
    }

    fn header<'a>(event: &'a NewEvent, name: &str) -> Vec<&'a [u8]> {
        event.headers.iter().filter(|(there, _)| there == name).map(|(_, value)| &value[..]).collect()
    }

    /// The example of `docs/formats/outbox.md`: four columns, and a whole CloudEvent.
    #[test]
    fn a_type_makes_a_cloud_event() {
        let row = Row { event_type: Some(Bytes::from_static(b"shop.order-placed")), ..row() };
        let event = made(row).expect("an event");
        let id = Uuid::from_u128(7).to_string();
        let expected = [
            ("ce_id", id.as_str()),
            ("ce_source", "outbox"),
            ("ce_specversion", "1.0"),
            ("ce_type", "shop.order-placed"),
            ("ce_time", "2023-11-14T22:13:20Z"),
            ("ce_subject", "o-1"),
            ("content-type", "application/json"),
            ("ce_correlationid", id.as_str()),
        ];
        let headers: Vec<(&str, &str)> = event
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), std::str::from_utf8(value).expect("text")))
            .collect();
        assert_eq!(headers, expected);
        assert_eq!((event.id.as_str(), event.timestamp_ms), (id.as_str(), NOW));
    }

    /// Without a type only the id is added, and what was given stays as it is.
    #[test]
    fn given_headers_stay_and_win() {
        let given = r#"[["x","1"],["x","2"],["raw",{"hex":"ff"}]]"#;
        let event = made(Row { headers: Some(Bytes::from(given)), ..row() }).expect("an event");
        assert_eq!(header(&event, "x"), [b"1", b"2"]);
        assert_eq!(header(&event, "raw"), [[0xff]]);
        assert_eq!(event.headers.len(), 4, "and the id");

        let given = r#"{"ce_id": "mine", "ce_type": "shop.order-placed", "ce_correlationid": "c-1"}"#;
        let event = made(Row { headers: Some(Bytes::from(given)), ..row() }).expect("an event");
        assert_eq!(event.id.as_str(), "mine");
        assert_eq!(header(&event, "ce_id"), [b"mine"]);
        assert_eq!(header(&event, "ce_correlationid"), [b"c-1"]);
        assert_eq!(header(&event, "ce_specversion"), [b"1.0"]);
    }

    #[test]
    fn what_can_be_no_event_says_why() {
        let with = |headers: &str| Row { headers: Some(Bytes::from(headers.to_owned())), ..row() };
        let mine = || Some(Bytes::from_static(b"mine"));
        for (row, part) in [
            (Row { topic: Some(Bytes::from_static(b"no topic!")), ..row() }, "topic: "),
            (Row { topic: Some(Bytes::from_static(b"\xff")), ..row() }, "topic: not UTF-8"),
            (Row { topic: None, ..row() }, "topic: "),
            (Row { event_id: Some(Bytes::new()), ..row() }, "event_id: "),
            (Row { timestamp_ms: Some(0), ..row() }, "timestamp_ms"),
            (with(&format!("[{}]", vec![r#"["a",""]"#; 101].join(","))), "at most 100"),
            (Row { timestamp_ms: Some(i64::MAX), event_type: mine(), ..row() }, "timestamp_ms"),
            (Row { event_id: mine(), ..with(r#"{"ce_id": "other"}"#) }, "different things"),
            (Row { event_type: mine(), ..with(r#"{"ce_type": "other"}"#) }, "different things"),
            (with(r#"[["ce_id","a"],["ce_id","a"]]"#), "comes twice"),
            (with("{"), "headers: "),
            (with(r#"{"a": 1}"#), "headers: "),
            (with("7"), "headers: "),
            (Row { value: Some(Bytes::from(vec![b'a'; 1001])), ..row() }, "at most 1000"),
            (Row { bytes: 1 << 40, topic: None, ..row() }, "at most 1000"),
        ] {
            let said = format!("{row:?}");
            let reason = made(row).expect_err(&said);
            assert!(reason.contains(part), "{said}: {reason}");
        }
    }

    /// One bad row takes nothing from its neighbours.
    #[test]
    fn rows_keep_their_order() {
        let rows = (1..=4).map(|id| Row {
            id,
            topic: Some(Bytes::from(if id == 2 { "?" } else { "orders" })),
            value: Some(Bytes::from(id.to_string())),
            ..row()
        });
        let sorted = sort(rows.collect(), &sequencing(), NOW);
        assert_eq!(sorted.ids, [1, 2, 3, 4]);
        let values: Vec<&[u8]> = sorted.events.iter().filter_map(|event| event.value.as_deref()).collect();
        assert_eq!(values, [b"1", b"3", b"4"]);
        assert_eq!(sorted.refused.len(), 1);
        assert_eq!(sorted.refused[0].0, 2);
    }
}
