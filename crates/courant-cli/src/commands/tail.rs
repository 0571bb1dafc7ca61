//! `courant tail`: events of a topic, from any place, to the end or for ever.

use super::{connect, interrupted};
use crate::cli::{Global, Tail};
use crate::exit::{Exit, Failure, note};
use crate::explain;
use crate::output::{Format, Row, Stream};
use crate::text::Text;
use crate::time::{StartFrom, ago_ms, rfc3339};
use courant_kafka::client::{AdminError, Client, Consumer, Fetched, OffsetAt, TimedOffset, TopicInfo};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

/// Offsets by partition.
pub(super) type Offsets = BTreeMap<i32, i64>;

/// Reads and prints.
pub(super) async fn run(global: &Global, args: Tail) -> Result<Exit, Failure> {
    let mut client = connect(global).await?;
    let topic = client.topic(&args.topic, false).await.map_err(|e| explain::admin(&e))?;
    let plan = plan(&mut client, &topic, &args).await.map_err(|e| explain::admin(&e))?;
    if !global.quiet {
        for (partition, start) in &plan.trimmed {
            note(format_args!("Partition {partition} begins at offset {start} only; reading from there."));
        }
        if let Some(StartFrom::Offset(offset)) = args.from
            && plan.positions.is_empty()
        {
            let name = &args.topic;
            note(format_args!("There is nothing at offset {offset} yet; see `courant topic show {name}`."));
        }
    }
    let out = BufWriter::new(io::stdout().lock());
    let mut stream = Stream::new(out, Format::or_default(global.output));
    let consumer = Consumer::new(client, topic, plan.positions);
    let ended = tokio::select! {
        ended = read(consumer, &mut stream, plan.ends, &args) => ended,
        () = interrupted() => Ok(Exit::Interrupted),
    };
    // However it ends, what was printed is one document.
    let finished = stream.finish().map_err(|e| Failure::output(&e));
    let exit = ended?;
    finished.map(|()| exit)
}

/// Where reading begins and ends.
struct Plan {
    positions: Offsets,
    /// `None` with --follow.
    ends: Option<Offsets>,
    /// Partitions whose beginning was asked for and is gone, with the offset that is read instead.
    trimmed: Offsets,
}

async fn plan(client: &mut Client, topic: &TopicInfo, args: &Tail) -> Result<Plan, AdminError> {
    let partitions: Vec<i32> = match args.partition {
        Some(partition) => vec![partition],
        None => topic.partitions.iter().map(|p| p.index).collect(),
    };
    // The order matters: what is published in between is after the end, not before the start.
    let ends = offsets(client.list_offsets(topic, &partitions, OffsetAt::End).await?);
    let starts = offsets(client.list_offsets(topic, &partitions, OffsetAt::Start).await?);
    let from = args.from.unwrap_or(if args.follow { StartFrom::End } else { StartFrom::Start });
    let at_ms = match from {
        StartFrom::At(at_ms) => Some(at_ms),
        StartFrom::Ago(ago) => Some(ago_ms(ago)),
        _ => None,
    };
    let by_time = match at_ms {
        Some(at_ms) => {
            let at = OffsetAt::Time(at_ms);
            offsets(client.list_offsets(topic, &partitions, at).await?)
        }
        None => Offsets::new(),
    };
    let mut plan = Plan {
        positions: Offsets::new(),
        ends: (!args.follow).then(|| ends.clone()),
        trimmed: Offsets::new(),
    };
    for partition in partitions {
        let end = ends.get(&partition).copied().unwrap_or(0);
        let start = starts.get(&partition).copied().unwrap_or(end);
        let wanted = match from {
            StartFrom::Start => start,
            StartFrom::End => end,
            StartFrom::At(_) | StartFrom::Ago(_) => by_time.get(&partition).copied().unwrap_or(end),
            StartFrom::Offset(offset) => offset,
            StartFrom::Last(count) => end.saturating_sub(count).max(start),
        };
        if wanted < start {
            plan.trimmed.insert(partition, start);
        }
        let position = wanted.max(start);
        // Nothing to read now; with --follow, an offset after the end waits to be reached.
        if args.follow || position < end {
            plan.positions.insert(partition, position.min(end));
        }
    }
    Ok(plan)
}

pub(super) fn offsets(timed: BTreeMap<i32, TimedOffset>) -> Offsets {
    timed.into_iter().map(|(p, at)| (p, at.offset)).collect()
}

/// Prints until the end, until enough was printed, or until nobody reads any more.
async fn read<W: Write>(
    mut consumer: Consumer,
    stream: &mut Stream<W>,
    ends: Option<Offsets>,
    args: &Tail,
) -> Result<Exit, Failure> {
    let mut left = args.count.unwrap_or(u64::MAX);
    let from_offset = match args.from {
        Some(StartFrom::Offset(offset)) => offset,
        _ => 0,
    };
    while left > 0 && !consumer.positions().is_empty() {
        let fetched = consumer.next().await.map_err(|e| explain::fetch(&e))?;
        for event in &fetched {
            let end = ends.as_ref().and_then(|ends| ends.get(&event.partition).copied());
            let wanted =
                event.record.offset >= from_offset && end.is_none_or(|end| event.record.offset < end);
            if !wanted || left == 0 {
                continue;
            }
            left -= 1;
            stream.row(&Printed::of(&args.topic, event)).map_err(|e| Failure::output(&e))?;
        }
        stream.flush().map_err(|e| Failure::output(&e))?;
        if let Some(ends) = &ends {
            let reached: Vec<i32> = consumer
                .positions()
                .iter()
                .filter(|&(partition, position)| ends.get(partition).is_none_or(|end| position >= end))
                .map(|(partition, _)| *partition)
                .collect();
            for partition in reached {
                consumer.leave(partition);
            }
        }
    }
    Ok(Exit::Ok)
}

/// An event as it is printed. Numbers are exact; bytes that are not UTF-8 are base64, and say so.
#[derive(Debug, Serialize)]
pub(super) struct Printed<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    /// RFC 3339 in UTC; null when the event has none.
    timestamp: Option<String>,
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_encoding: Option<&'static str>,
    headers: Vec<PrintedHeader>,
}

/// A header as it is printed: a list, because names may repeat and their order counts.
#[derive(Debug, Serialize)]
struct PrintedHeader {
    key: String,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_encoding: Option<&'static str>,
}

impl<'a> Printed<'a> {
    pub(super) fn of(topic: &'a str, fetched: &Fetched) -> Self {
        let record = &fetched.record;
        let (key, key_encoding) = printed(record.key.as_deref());
        let (value, value_encoding) = printed(record.value.as_deref());
        let headers = record.headers.iter().map(|(name, value)| {
            let (value, value_encoding) = printed(value.as_deref());
            PrintedHeader { key: String::from_utf8_lossy(name).into_owned(), value, value_encoding }
        });
        Self {
            topic,
            partition: fetched.partition,
            offset: record.offset,
            timestamp: rfc3339(record.timestamp),
            key,
            key_encoding,
            value,
            value_encoding,
            headers: headers.collect(),
        }
    }
}

/// The text of some bytes and, when it is not the bytes themselves, its encoding.
fn printed(bytes: Option<&[u8]>) -> (Option<String>, Option<&'static str>) {
    match bytes.map(Text::of) {
        Some(text) => (Some(text.text), text.encoding),
        None => (None, None),
    }
}

impl Row for Printed<'_> {
    const TITLES: &'static [&'static str] = &["part", "offset", "time", "key", "value"];
    const WIDTHS: &'static [usize] = &[4, 8, 24, 12];

    fn cells(&self) -> Vec<String> {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            self.partition.to_string(),
            self.offset.to_string(),
            or_dash(&self.timestamp),
            or_dash(&self.key),
            or_dash(&self.value),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use courant_log::batch::records::Record;

    fn fetched() -> Fetched {
        Fetched {
            partition: 2,
            record: Record {
                offset: i64::MAX,
                timestamp: 1_769_846_400_120,
                key: None,
                value: Some(Bytes::from_static(b"{\"n\":1}")),
                headers: vec![
                    (Bytes::from_static(b"h"), Some(Bytes::from_static(b"x"))),
                    (Bytes::from_static(b"h"), None),
                ],
            },
        }
    }

    #[test]
    fn json_holds_every_field_exactly() {
        let event = fetched();
        let json = serde_json::to_string(&Printed::of("orders", &event)).expect("json");
        assert_eq!(
            json,
            concat!(
                r#"{"topic":"orders","partition":2,"offset":9223372036854775807,"#,
                r#""timestamp":"2026-01-31T08:00:00.120Z","key":null,"value":"{\"n\":1}","#,
                r#""headers":[{"key":"h","value":"x"},{"key":"h","value":null}]}"#
            )
        );
    }

    #[test]
    fn bytes_that_are_not_utf8_say_how_they_are_encoded() {
        let mut event = fetched();
        event.record.value = Some(Bytes::from_static(&[0xff, 0x00]));
        event.record.key = Some(Bytes::from_static(&[0xfe]));
        let json = serde_json::to_value(Printed::of("orders", &event)).expect("json");
        assert_eq!(json["value"], "/wA=");
        assert_eq!(json["value_encoding"], "base64");
        assert_eq!(json["key"], "/g==");
        assert_eq!(json["key_encoding"], "base64");
    }
}
