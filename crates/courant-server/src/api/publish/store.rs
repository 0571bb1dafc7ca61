//! Events into batches by partition, and batches into the log.
//!
//! Everything that can be wrong with an event is found before anything is appended. A partition's next
//! batch is handed to the log when the one before it is stored, so that nothing overtakes what was
//! refused.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use courant_core::partitioner::partition_for_key;
use courant_log::batch::records::{NewRecord, encode};
use courant_log::{AppendError, Appended, Batch, Codec, Log, PartitionId, Topic, topic_config};
use tokio::sync::oneshot;

use super::event::{Mistake, NewEvent};
use crate::api::limits::STORED_BATCH_BYTES;
use crate::api::problem::Problem;

/// Where an event went, or why it is not stored.
pub(super) type Outcome = Result<(u32, u64), String>;

/// Bytes that the format adds to a record, at most, besides its headers, and to each of those.
const RECORD_OVERHEAD_BYTES: usize = 40;
const HEADER_OVERHEAD_BYTES: usize = 10;

/// What goes to one partition.
#[derive(Debug)]
pub(super) struct Lane {
    number: u32,
    id: PartitionId,
    batches: VecDeque<Packed>,
}

/// A batch, and the places of its events in the request.
#[derive(Debug)]
struct Packed {
    indexes: Vec<usize>,
    batch: Batch,
}

/// Events of one partition, before they are batches.
#[derive(Debug, Default)]
struct Unpacked {
    indexes: Vec<usize>,
    records: Vec<NewRecord>,
}

/// Makes batches of all events, or names those that cannot be stored by their places. May compress.
/// `any` chooses a partition where there is no key.
pub(super) fn packed(
    topic: &Topic,
    events: Vec<NewEvent>,
    any: u32,
    now_ms: i64,
) -> Result<Vec<Lane>, Vec<(usize, Mistake)>> {
    let have = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    let mut by_number: BTreeMap<u32, Unpacked> = BTreeMap::new();
    let mut mistakes = Vec::new();
    let mut ids = Vec::with_capacity(events.len());
    for (index, NewEvent { id, mut record }) in events.into_iter().enumerate() {
        ids.push(id);
        if record.key.is_none() && topic_config::is_compacted(&topic.configs) {
            let detail = "the topic is compacted, so each event needs a key: `partitionkey`, or ?key=";
            mistakes.push((index, detail.to_owned()));
            continue;
        }
        let number = match &record.key {
            Some(key) => partition_for_key(key, have),
            None => any.checked_rem(have).unwrap_or(0),
        };
        record.timestamp = now_ms.max(0);
        let unpacked = by_number.entry(number).or_default();
        unpacked.indexes.push(index);
        unpacked.records.push(record);
    }
    let mut lanes = Vec::with_capacity(by_number.len());
    for (number, unpacked) in by_number {
        let place = usize::try_from(number).ok().and_then(|place| topic.partitions.get(place));
        // A topic has at least one partition.
        let Some(id) = place.copied() else { continue };
        let mut lane = Lane { number, id, batches: VecDeque::new() };
        let Unpacked { indexes, records } = unpacked;
        lane.pack(topic, now_ms, (&indexes, &records), &mut mistakes);
        lanes.push(lane);
    }
    if mistakes.is_empty() {
        return Ok(lanes);
    }
    mistakes.sort_by_key(|(index, _)| *index);
    let named = |(index, detail): (usize, String)| (index, Mistake { id: ids[index].clone(), detail });
    Err(mistakes.into_iter().map(named).collect())
}

impl Lane {
    /// Makes batches of records, each as large as the topic takes.
    fn pack(
        &mut self,
        topic: &Topic,
        now_ms: i64,
        (indexes, records): (&[usize], &[NewRecord]),
        mistakes: &mut Vec<(usize, String)>,
    ) {
        let bytes_max = topic_config::max_message_bytes(&topic.configs).min(STORED_BATCH_BYTES);
        let (mut first, mut bytes) = (0, 0);
        for (place, record) in records.iter().enumerate() {
            let more = stored_bytes(record);
            if place > first && bytes + more > bytes_max {
                self.pack_one(topic, now_ms, (&indexes[first..place], &records[first..place]), mistakes);
                (first, bytes) = (place, 0);
            }
            bytes += more;
        }
        if first < records.len() {
            self.pack_one(topic, now_ms, (&indexes[first..], &records[first..]), mistakes);
        }
    }

    /// Makes one batch, or two when it is larger than the topic takes after all.
    fn pack_one(
        &mut self,
        topic: &Topic,
        now_ms: i64,
        (indexes, records): (&[usize], &[NewRecord]),
        mistakes: &mut Vec<(usize, String)>,
    ) {
        match encoded(topic, records, now_ms) {
            Ok(batch) => self.batches.push_back(Packed { indexes: indexes.to_vec(), batch }),
            Err(_) if records.len() > 1 => {
                let at = records.len() / 2;
                self.pack_one(topic, now_ms, (&indexes[..at], &records[..at]), mistakes);
                self.pack_one(topic, now_ms, (&indexes[at..], &records[at..]), mistakes);
            }
            Err(detail) => mistakes.extend(indexes.iter().map(|index| (*index, detail.clone()))),
        }
    }
}

/// Bytes that a record takes, at most, before it is compressed.
fn stored_bytes(record: &NewRecord) -> usize {
    let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let header = |(name, value): &(Bytes, Option<Bytes>)| name.len() + of(value) + HEADER_OVERHEAD_BYTES;
    let headers: usize = record.headers.iter().map(header).sum();
    of(&record.key) + of(&record.value) + headers + RECORD_OVERHEAD_BYTES
}

/// A batch as the topic wants it.
fn encoded(topic: &Topic, records: &[NewRecord], now_ms: i64) -> Result<Batch, String> {
    let codec = topic_config::codec(&topic.configs).unwrap_or(Codec::None);
    let bytes = encode(records, codec, None).map_err(|error| error.to_string())?;
    let (have, max) = (bytes.len(), topic_config::max_message_bytes(&topic.configs));
    if have > max {
        return Err(format!("it takes {have} bytes, and max.message.bytes of {} is {max}", topic.name));
    }
    let batch = Batch::validate(bytes).map_err(|error| error.to_string())?;
    let has_append_time = topic_config::has_append_time(&topic.configs);
    Ok(if has_append_time { batch.with_append_time(now_ms) } else { batch })
}

/// Hands everything to the log, and returns when all of it is stored or refused. `Err`: nothing is stored.
pub(super) async fn append(log: &Log, mut lanes: Vec<Lane>, count: usize) -> Result<Vec<Outcome>, Problem> {
    let not_tried = || Err("it comes behind an event of its partition that was not stored".to_owned());
    let mut outcomes: Vec<Outcome> = (0..count).map(|_| not_tried()).collect();
    let (mut stored, mut refused) = (false, None);
    loop {
        let mut flights = Vec::with_capacity(lanes.len());
        for lane in &mut lanes {
            let Some(Packed { indexes, batch }) = lane.batches.pop_front() else { continue };
            flights.push((indexes, send(log, lane.id, batch), lane));
        }
        if flights.is_empty() {
            break;
        }
        for (indexes, answered, lane) in flights {
            match answered.await {
                Ok(Ok(appended)) => {
                    stored = true;
                    for (offset, index) in (appended.base_offset..).zip(indexes) {
                        outcomes[index] = Ok((lane.number, offset));
                    }
                }
                Ok(Err(error)) => {
                    let problem = Problem::from(error);
                    indexes.iter().for_each(|index| outcomes[*index] = Err(problem.detail.clone()));
                    lane.batches.clear();
                    refused.get_or_insert(problem);
                }
                // The log has gone, and nobody knows what became of it.
                Err(_) => {
                    let sentence = "the log ended without an answer; look whether it is stored";
                    indexes.iter().for_each(|index| outcomes[*index] = Err(sentence.to_owned()));
                    lane.batches.clear();
                    stored = true;
                }
            }
        }
    }
    match refused {
        Some(problem) if !stored => Err(problem),
        _ => Ok(outcomes),
    }
}

fn send(log: &Log, id: PartitionId, batch: Batch) -> oneshot::Receiver<Result<Appended, AppendError>> {
    let (done, answered) = oneshot::channel();
    // Who waits for it may have gone with the runtime.
    log.append(id, batch, move |result| drop(done.send(result)));
    answered
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn topic(configs: &[(&str, &str)]) -> Topic {
        Topic {
            id: Uuid::nil(),
            name: "t".to_owned(),
            partitions: (0..3).map(PartitionId).collect(),
            configs: configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    fn event(key: Option<&str>, bytes: usize) -> NewEvent {
        let key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
        let record = NewRecord { key, value: Some(vec![b'x'; bytes].into()), ..NewRecord::default() };
        NewEvent { id: Some("i".to_owned()), record }
    }

    #[test]
    fn events_go_where_javas_client_sends_them_and_keep_their_order() {
        let keys = ["a", "b", "c", "a", "b", "c"];
        let events = keys.iter().map(|key| event(Some(key), 1)).collect();
        let lanes = packed(&topic(&[]), events, 0, 7).expect("all are good");
        for lane in &lanes {
            let indexes: Vec<usize> = lane.batches.iter().flat_map(|packed| packed.indexes.clone()).collect();
            assert!(indexes.is_sorted(), "{indexes:?}");
            for index in indexes {
                assert_eq!(partition_for_key(keys[index].as_bytes(), 3), lane.number);
            }
        }
        let keyless = packed(&topic(&[]), vec![event(None, 1), event(None, 1)], 5, 7).expect("good");
        assert_eq!((keyless.len(), keyless[0].number), (1, 2), "one request, one partition");
    }

    #[test]
    fn batches_are_not_larger_than_the_topic_takes() {
        let small = topic(&[("max.message.bytes", "1000")]);
        let lanes = packed(&small, (0..20).map(|_| event(Some("a"), 300)).collect(), 0, 7).expect("good");
        let batches = &lanes[0].batches;
        assert!(batches.len() >= 7 && batches.iter().all(|packed| packed.batch.bytes().len() <= 1000));
        let mistakes = packed(&small, vec![event(Some("a"), 1), event(Some("a"), 2_000)], 0, 7);
        let mistakes = mistakes.expect_err("one is too large");
        assert_eq!(mistakes.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1]);
        assert!(mistakes[0].1.detail.contains("max.message.bytes"), "{mistakes:?}");
    }

    #[test]
    fn in_a_compacted_topic_each_event_needs_a_key() {
        let compacted = topic(&[("cleanup.policy", "compact")]);
        let mistakes = packed(&compacted, vec![event(None, 1), event(Some("k"), 1)], 0, 7);
        assert_eq!(mistakes.expect_err("one has none")[0].0, 0);
    }
}
