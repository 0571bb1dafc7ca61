//! The records of a trace, out of the log, as answers show them.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Instant;

use bytes::Bytes;
use courant_core::base64;
use courant_core::headers;
use courant_log::batch::records::{self, Record};
use courant_log::{BatchHeader, Log, PartitionId};
use serde::Serialize;

use super::facts::Facts;
use super::order::Placed;
use crate::api::lag::Places;
use crate::api::limits::{
    RECORD_DECOMPRESSED_BYTES_MAX, RECORD_HEADERS_MAX, TRACE_ERROR_BYTES, TRACE_READ_BYTES_MAX,
    TRACE_READ_TIME_MAX, TRACE_TEXT_BYTES,
};
use crate::api::records::cloudevent::{self, floor};
use crate::api::records::read::offset;
use crate::api::records::shown::{rfc3339, size};

/// A place in the log.
pub(super) type Place = (PartitionId, u64);

/// Why a record is not there that an older look has seen.
const REPLACED: &str = "a newer event of its key has taken its place";

/// Shows the records at some places, each batch read once. `Err`: why there is none.
pub(super) fn each(log: &Log, places: &mut [Place], mut look: impl FnMut(Place, Result<&Record, String>)) {
    places.sort_unstable();
    // A small batch can become a large one, which takes its time.
    let (mut left, began) = (TRACE_READ_BYTES_MAX, Instant::now());
    let mut rest = &places[..];
    while let Some((place, behind)) = rest.split_first() {
        let (id, at) = *place;
        let read = if left > 0 && began.elapsed() < TRACE_READ_TIME_MAX {
            batch(log, id, at)
        } else {
            Err("the page is large enough without it; ask for fewer nodes".to_owned())
        };
        match read {
            Ok((bytes, last)) => {
                left = left.saturating_sub(bytes.len());
                let more = behind.iter().take_while(|(of, at)| *of == id && *at <= last).count();
                let (here, behind) = rest.split_at(more + 1);
                show(&bytes, at, here, &mut look);
                rest = behind;
            }
            Err(reason) => {
                look(*place, Err(reason));
                rest = behind;
            }
        }
    }
}

/// The batch that an offset is in, and its last offset.
fn batch(log: &Log, id: PartitionId, at: u64) -> Result<(Bytes, u64), String> {
    let read = log.read(id, at, 1, true).map_err(|error| error.to_string())?;
    if read.bytes.is_empty() {
        return Err("there is nothing any more".to_owned());
    }
    let header = BatchHeader::parse(&read.bytes).map_err(|error| error.to_string())?;
    Ok((read.bytes, offset(header.last_offset())))
}

/// Shows what one batch has of some places, which are in order and begin at `first`.
fn show(batch: &Bytes, first: u64, places: &[Place], look: &mut impl FnMut(Place, Result<&Record, String>)) {
    let first = i64::try_from(first).unwrap_or(i64::MAX);
    let mut waiting = places.iter().copied().peekable();
    let ended = records::each(batch, first, RECORD_DECOMPRESSED_BYTES_MAX, RECORD_HEADERS_MAX, |record| {
        let at = offset(record.offset);
        while let Some(place) = waiting.next_if(|(_, wanted)| *wanted < at) {
            look(place, Err(REPLACED.to_owned()));
        }
        if let Some(place) = waiting.next_if(|(_, wanted)| *wanted == at) {
            look(place, Ok(&record));
        }
        if waiting.peek().is_some() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let reason = ended.map_or_else(|error| error.to_string(), |_| REPLACED.to_owned());
    for place in waiting {
        look(place, Err(reason.clone()));
    }
}

/// An event of a trace in an answer.
#[derive(Debug, Serialize)]
pub(super) struct Node {
    n: usize,
    parent: Option<usize>,
    parent_state: &'static str,
    depth: usize,
    kind: &'static str,
    event_id: Option<String>,
    r#type: Option<String>,
    source: Option<String>,
    topic: Option<String>,
    partition: Option<u32>,
    offset: u64,
    time: Option<String>,
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
    correlation_id: Option<String>,
    causation_id: Option<String>,
    size: Option<usize>,
    duplicate: bool,
    dead_letter: Option<DeadLetter>,
    gone: Option<String>,
}

impl Node {
    /// The node of that number, of which nothing but its place is known yet.
    pub(super) fn new(n: usize, placed: &Placed, places: &Places) -> Self {
        let place = places.get(placed.new.partition);
        Self {
            n,
            parent: placed.parent,
            parent_state: placed.cause.word(),
            depth: placed.depth,
            kind: "gone",
            event_id: None,
            r#type: None,
            source: None,
            topic: place.map(|(topic, _)| topic.name.clone()),
            partition: place.map(|(_, number)| *number),
            offset: placed.new.offset,
            time: rfc3339(placed.new.time_ms),
            key: None,
            key_encoding: None,
            correlation_id: None,
            causation_id: None,
            size: None,
            duplicate: placed.is_duplicate,
            dead_letter: None,
            gone: None,
        }
    }

    /// Adds what the record says, or why there is none.
    pub(super) fn tell(&mut self, told: Result<(&Record, Facts<'_>), String>) {
        let (record, facts) = match told {
            Ok(told) => told,
            Err(reason) => {
                self.gone = Some(reason);
                return;
            }
        };
        let said = Said::of(record);
        self.kind = match (facts.is_dead, said.is_command) {
            (true, _) => "dead_letter",
            (false, true) => "command",
            (false, false) => "event",
        };
        (self.r#type, self.source, self.key, self.key_encoding) =
            (said.r#type, said.source, said.key, said.key_encoding);
        self.event_id = facts.event.as_deref().map(short);
        self.correlation_id = facts.correlation.as_deref().map(short);
        self.causation_id = facts.causation.as_deref().map(short);
        self.size = Some(size(record));
        self.dead_letter = facts.is_dead.then(|| DeadLetter::of(record));
    }

    /// The cause that is in no index: what it names, or for a dead letter the event that it is a copy of.
    pub(super) fn unknown_parent(&self) -> Option<&str> {
        let named = if self.dead_letter.is_some() { &self.event_id } else { &self.causation_id };
        named.as_deref().filter(|_| self.parent_state == "unknown")
    }

    pub(super) fn n(&self) -> usize {
        self.n
    }
}

/// What a record says of itself besides where it belongs.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) r#type: Option<String>,
    pub(super) source: Option<String>,
    pub(super) key: Option<String>,
    pub(super) key_encoding: Option<&'static str>,
    is_command: bool,
}

impl Said {
    pub(super) fn of(record: &Record) -> Self {
        let members = if cloudevent::is_structured(record) { cloudevent::structured(record) } else { None };
        let attribute = |name: &str, header: &str| match &members {
            Some(members) => members.get(name).map(|text| short(text)),
            None => cloudevent::header(record, header).map(short),
        };
        let (key, key_encoding) = record.key.as_ref().map(key).unzip();
        Self {
            r#type: attribute("type", headers::TYPE),
            source: attribute("source", headers::SOURCE),
            key,
            key_encoding: key_encoding.flatten(),
            is_command: attribute("kind", headers::KIND).as_deref() == Some(headers::KIND_COMMAND),
        }
    }
}

fn key(bytes: &Bytes) -> (String, Option<&'static str>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (short(text), None),
        Err(_) => (base64::encode(&bytes[..bytes.len().min(TRACE_TEXT_BYTES)]), Some("base64")),
    }
}

fn short(text: &str) -> String {
    text[..floor(text, TRACE_TEXT_BYTES)].to_owned()
}

/// Why somebody has given an event up, as far as its headers say it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct DeadLetter {
    consumer: Option<String>,
    attempts: Option<u64>,
    error_type: Option<String>,
    error: Option<String>,
    topic: Option<String>,
    partition: Option<i64>,
    offset: Option<i64>,
}

impl DeadLetter {
    /// Reads the headers of our services, of Spring Kafka and of Kafka Connect. Where a letter has died
    /// again, the first ones say where it was, the last ones why.
    fn of(record: &Record) -> Self {
        let mut first: HashMap<&[u8], &[u8]> = HashMap::new();
        let mut last: HashMap<&[u8], &[u8]> = HashMap::new();
        for (name, value) in &record.headers {
            if let Some(value) = value.as_deref() {
                first.entry(&name[..]).or_insert(value);
                last.insert(&name[..], value);
            }
        }
        let text = |of: &HashMap<&[u8], &[u8]>, names: &[&str]| {
            let value = names.iter().find_map(|name| of.get(name.as_bytes()).copied())?;
            let text = String::from_utf8_lossy(value);
            Some(text[..floor(&text, TRACE_ERROR_BYTES)].to_owned())
        };
        let decimal = |name: &str| -> Option<i64> {
            let value = first.get(name.as_bytes()).copied()?;
            std::str::from_utf8(value).ok()?.trim().parse().ok()
        };
        let binary = |name: &str| first.get(name.as_bytes()).copied().and_then(big_endian);
        let error_types = [
            headers::DEAD_ERROR_TYPE,
            "kafka_dlt-exception-cause-fqcn",
            "kafka_dlt-exception-fqcn",
            "kafka_dlt-key-exception-fqcn",
            "__connect.errors.exception.class.name",
        ];
        let errors = [
            headers::DEAD_ERROR,
            "kafka_dlt-exception-message",
            "kafka_dlt-key-exception-message",
            "__connect.errors.exception.message",
        ];
        let consumers =
            [headers::DEAD_CONSUMER, "kafka_dlt-original-consumer-group", "__connect.errors.connector.name"];
        let topics = [headers::DEAD_TOPIC, "kafka_dlt-original-topic", "__connect.errors.topic"];
        Self {
            consumer: text(&last, &consumers),
            attempts: text(&last, &[headers::DEAD_ATTEMPTS]).and_then(|text| text.parse().ok()),
            error_type: text(&last, &error_types),
            error: text(&last, &errors),
            topic: text(&first, &topics),
            partition: decimal(headers::DEAD_PARTITION)
                .or_else(|| binary("kafka_dlt-original-partition"))
                .or_else(|| decimal("__connect.errors.partition")),
            offset: decimal(headers::DEAD_OFFSET)
                .or_else(|| binary("kafka_dlt-original-offset"))
                .or_else(|| decimal("__connect.errors.offset")),
        }
    }
}

/// A number as Spring Kafka writes it, in four or eight bytes.
fn big_endian(value: &[u8]) -> Option<i64> {
    if let Ok(bytes) = <[u8; 4]>::try_from(value) {
        return Some(i64::from(i32::from_be_bytes(bytes)));
    }
    <[u8; 8]>::try_from(value).ok().map(i64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(headers: &[(&str, &[u8])]) -> Record {
        let header = |(name, value): &(&str, &[u8])| {
            (Bytes::copy_from_slice(name.as_bytes()), Some(Bytes::copy_from_slice(value)))
        };
        let headers = headers.iter().map(header).collect();
        Record { offset: 0, timestamp: 0, key: None, value: None, headers }
    }

    #[test]
    fn dead_letters_of_three_kinds_say_the_same() {
        let expected = |attempts| DeadLetter {
            consumer: Some("billing".to_owned()),
            attempts,
            error_type: Some("Declined".to_owned()),
            error: Some("no".to_owned()),
            topic: Some("orders".to_owned()),
            partition: Some(2),
            offset: Some(9_007_199_254_740_993),
        };
        let own = record(&[
            ("courant-dead-consumer", b"billing"),
            ("courant-dead-topic", b"orders"),
            ("courant-dead-partition", b"2"),
            ("courant-dead-offset", b"9007199254740993"),
            ("courant-dead-attempts", b"5"),
            ("courant-dead-error-type", b"Declined"),
            ("courant-dead-error", b"no"),
        ]);
        assert_eq!(DeadLetter::of(&own), expected(Some(5)));
        let offset = 9_007_199_254_740_993_i64.to_be_bytes();
        let spring = record(&[
            ("kafka_dlt-original-topic", b"orders"),
            ("kafka_dlt-original-partition", &[0, 0, 0, 2]),
            ("kafka_dlt-original-offset", &offset),
            ("kafka_dlt-original-consumer-group", b"billing"),
            ("kafka_dlt-exception-fqcn", b"Wrapper"),
            ("kafka_dlt-exception-cause-fqcn", b"Declined"),
            ("kafka_dlt-exception-message", b"no"),
        ]);
        assert_eq!(DeadLetter::of(&spring), expected(None));
        let connect = record(&[
            ("__connect.errors.topic", b"orders"),
            ("__connect.errors.partition", b"2"),
            ("__connect.errors.offset", b"9007199254740993"),
            ("__connect.errors.connector.name", b"billing"),
            ("__connect.errors.exception.class.name", b"Declined"),
            ("__connect.errors.exception.message", b"no"),
        ]);
        assert_eq!(DeadLetter::of(&connect), expected(None));
    }

    #[test]
    fn a_key_that_is_no_text_is_base64() {
        assert_eq!(key(&Bytes::from_static(&[0xff, 0x00])), ("/wA=".to_owned(), Some("base64")));
        assert_eq!(key(&Bytes::from_static(b"k")), ("k".to_owned(), None));
        assert_eq!(short(&"ä".repeat(TRACE_TEXT_BYTES)), "ä".repeat(TRACE_TEXT_BYTES / 2));
    }
}
