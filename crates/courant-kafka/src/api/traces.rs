//! Spans for the batches that clients send and read, where their records say which trace they belong to.
//!
//! Nothing else decodes batches on these paths, and without a tracer this does not either.

use std::ops::ControlFlow;

use courant_core::trace::{Active, LINKS_MAX, TraceContext};
use courant_log::batch::records::{Record, each};
use courant_log::{AppendError, Appended, Batch, BatchHeader, Topic};

use crate::broker::{Broker, Caller};
use crate::wire::messages::FetchableTopicResponse;

/// Batches of more bytes are not looked into, and what is decompressed of one.
const BATCH_BYTES_MAX: usize = 256 * 1024;
const DECOMPRESSED_BYTES_MAX: usize = 1024 * 1024;

/// A record with more headers ends the look into its batch.
const HEADERS_MAX: usize = 1_000;

/// The header of W3C trace context.
const TRACEPARENT: &[u8] = courant_core::headers::TRACEPARENT.as_bytes();

/// A batch goes to the log.
pub(super) fn append(broker: &Broker, topic: &Topic, partition: i32, batch: &Batch) -> Option<Active> {
    let tracer = &broker.config().tracer;
    if !tracer.is_on() {
        return None;
    }
    let partition = u32::try_from(partition).ok()?;
    let mut span = tracer.append(&topic.name, partition, &made(batch.bytes()))?;
    span.events(u64::try_from(batch.header().record_count).unwrap_or_default());
    Some(span)
}

/// The log has answered.
pub(super) fn appended(span: Option<Active>, result: &Result<Appended, AppendError>) {
    let Some(mut span) = span else { return };
    match result {
        Ok(appended) => span.offset(appended.base_offset),
        Err(_) => span.fail("not_stored"),
    }
}

/// Batches were read for a client.
pub(super) fn fetched(caller: &Caller, topics: &[FetchableTopicResponse]) {
    let tracer = &caller.broker.config().tracer;
    if !tracer.is_on() {
        return;
    }
    let catalog = caller.log().catalog();
    for topic in topics {
        // From version 13 on a topic is named by its id.
        let known = catalog.by_id(&topic.topic_id).map(|known| known.name.as_str());
        let name = if topic.topic.is_empty() { known.unwrap_or_default() } else { topic.topic.as_str() };
        for partition in &topic.partitions {
            let records = partition.records.as_deref().unwrap_or_default();
            let Ok(number) = u32::try_from(partition.partition_index) else { continue };
            drop(tracer.fetch(name, number, &made(records)));
        }
    }
}

/// The spans that the records of these batches were made in and that somebody keeps: each once, and not more
/// than have room.
fn made(mut batches: &[u8]) -> Vec<TraceContext> {
    let mut found: Vec<TraceContext> = Vec::new();
    while let Ok(header) = BatchHeader::parse(batches) {
        let (batch, rest) = batches.split_at(header.total_bytes().min(batches.len()));
        batches = rest;
        if found.len() > LINKS_MAX {
            break;
        }
        if batch.len() > BATCH_BYTES_MAX {
            continue;
        }
        let note = |record: Record| {
            match context(&record) {
                Some(context) if !found.contains(&context) => found.push(context),
                _ => {}
            }
            if found.len() > LINKS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        // What cannot be read has no span; the records before it have.
        let _ = each(batch, i64::MIN, DECOMPRESSED_BYTES_MAX, HEADERS_MAX, note);
    }
    found
}

/// The span that a record was made in, if somebody keeps it.
fn context(record: &Record) -> Option<TraceContext> {
    let (_, value) = record.headers.iter().rev().find(|(name, _)| &name[..] == TRACEPARENT)?;
    let value = std::str::from_utf8(value.as_deref()?).ok();
    TraceContext::of(value).filter(|context| context.is_sampled)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use courant_log::Codec;
    use courant_log::batch::records::{NewRecord, encode};

    use super::*;

    fn batch(contexts: &[&str]) -> Vec<u8> {
        let record = |context: &&str| NewRecord {
            headers: vec![(Bytes::from_static(TRACEPARENT), Some(Bytes::from((*context).to_owned())))],
            ..NewRecord::default()
        };
        let records: Vec<_> = contexts.iter().map(record).collect();
        encode(&records, Codec::Gzip, None).expect("it can be encoded").to_vec()
    }

    fn named(span: u64, flags: u8) -> String {
        format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{span:016x}-{flags:02x}")
    }

    #[test]
    fn each_span_that_is_kept_is_found_once() {
        let (one, two, other) = (named(1, 1), named(2, 1), named(3, 0));
        let bytes = [batch(&[&one, "nonsense", &other, &one]), batch(&[&two])].concat();
        let spans: Vec<u64> = made(&bytes).iter().map(|context| context.span.get()).collect();
        assert_eq!(spans, [1, 2]);
        assert!(made(&bytes[..20]).is_empty(), "no whole batch");
        let many: Vec<String> = (1..=100).map(|span| named(span, 1)).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(made(&batch(&many)).len(), LINKS_MAX + 1, "a parent and its links");
    }
}
