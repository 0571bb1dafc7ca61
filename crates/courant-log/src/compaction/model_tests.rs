//! Compaction against a list of everything that was ever written.
//!
//! Rounds of compaction are begun at random times over random logs, with memory for few keys, cut off
//! between any two groups, over clocks that are set back and ahead; after each of them a reader must find
//! what the invariant of [`super`] says.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{CompactionConfig, Group, KeyMap, Plan, SegmentInfo, Survivors, plan};
use crate::batch::records::{NewRecord, Producer, decode, encode};
use crate::batch::rewrite::Kept;
use crate::batch::{BatchHeader, Codec, set_base_offset, verify_crc};
use crate::crc::crc32c;

/// Bytes that compaction may decompress; readers may more.
const DECOMPRESSED_BYTES_MAX: usize = 1000;
const READ_BYTES_MAX: usize = 100_000;

const KEYS: u64 = 12;
const PRODUCER: i64 = 3;
const RETENTION_MS: i64 = 1000;

/// Marsaglia's xorshift with 64 bits of state.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // No seed gives the state 0, which stays.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        // The lowest bits are the weakest.
        (self.draw() >> 16) % end
    }

    /// True in one of `of` cases.
    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
}

/// An event as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    key: u64,
    /// None: a tombstone.
    value: Option<Bytes>,
    timestamp_ms: i64,
    /// Whether it may supersede others: not part of a transaction, and in a batch that can be read.
    supersedes: bool,
}

#[derive(Clone, Debug)]
struct Segment {
    info: SegmentInfo,
    batches: Vec<Vec<u8>>,
    /// When it was compacted first, by the clock that nobody sets.
    compacted_at: u64,
}

struct Model {
    random: Random,
    written: BTreeMap<u64, Written>,
    segments: Vec<Segment>,
    /// Offsets of events in segments whose tombstones a round was allowed to take.
    may_be_gone: BTreeSet<u64>,
    next_offset: u64,
    next_sequence: i32,
    wall_ms: i64,
    /// Milliseconds that have really passed.
    steady_ms: u64,
    rounds: usize,
    /// Breaks the order in which segments are replaced.
    replaces_newest_first: bool,
}

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            written: BTreeMap::new(),
            segments: Vec::new(),
            may_be_gone: BTreeSet::new(),
            next_offset: seed * 1000,
            next_sequence: 0,
            wall_ms: 1_000_000,
            steady_ms: 0,
            rounds: 0,
            replaces_newest_first: false,
        }
    }

    fn write_segment(&mut self) {
        let base_offset = self.next_offset;
        let batches: Vec<Vec<u8>> = (0..1 + self.random.below(4)).map(|_| self.write_batch()).collect();
        let info = info_of(&batches, base_offset, self.next_offset);
        self.segments.push(Segment { info, batches, compacted_at: 0 });
    }

    fn write_batch(&mut self) -> Vec<u8> {
        let is_transactional = self.random.one_in(10);
        // So long that compaction cannot take it apart.
        let is_opaque = self.random.one_in(12);
        let base_offset = self.next_offset;
        let mut records = Vec::new();
        for _ in 0..1 + self.random.below(5) {
            let (key, timestamp_ms) = (self.random.below(KEYS), self.wall_ms);
            let bytes = if is_opaque {
                vec![7; DECOMPRESSED_BYTES_MAX]
            } else {
                self.next_offset.to_be_bytes().to_vec()
            };
            let value = (is_opaque || !self.random.one_in(4)).then(|| Bytes::from(bytes));
            records.push(NewRecord {
                timestamp: timestamp_ms,
                key: Some(Bytes::copy_from_slice(&key.to_be_bytes())),
                value: value.clone(),
                headers: Vec::new(),
            });
            let supersedes = !is_transactional && !is_opaque;
            self.written.insert(self.next_offset, Written { key, value, timestamp_ms, supersedes });
            self.next_offset += 1;
        }
        let codec = Codec::ALL[self.random.below(5) as usize];
        let producer = self.random.one_in(3).then_some(Producer {
            id: PRODUCER,
            epoch: 0,
            base_sequence: self.next_sequence,
        });
        if producer.is_some() {
            self.next_sequence += records.len() as i32;
        }
        let mut batch = encode(&records, codec, producer).unwrap().to_vec();
        set_base_offset(&mut batch, base_offset as i64);
        if is_transactional {
            batch[22] |= 1 << 4;
            let crc = crc32c(&batch[21..]);
            batch[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        batch
    }

    /// Time passes, and the wall clock may be set.
    fn pass_time(&mut self) {
        let passed = self.random.below(RETENTION_MS as u64);
        self.steady_ms += passed;
        self.wall_ms += passed as i64;
        match self.random.below(20) {
            0 => self.wall_ms += 100 * RETENTION_MS,
            1 => self.wall_ms -= 3 * RETENTION_MS,
            _ => {}
        }
    }

    fn config(&mut self) -> CompactionConfig {
        CompactionConfig {
            dirty_ratio_min: self.random.below(3) as f64 / 4.0,
            lag_min_ms: if self.random.one_in(4) { RETENTION_MS / 2 } else { 0 },
            lag_max_ms: i64::MAX,
            delete_retention_ms: RETENTION_MS,
            segment_bytes: 200 + self.random.below(3000),
            retained_step_ms: None,
        }
    }

    /// One round, if one is due: with memory that may be short, and an end that may come early.
    fn compact(&mut self) {
        let steady_ms = self.steady_ms;
        // The newest segments are not sealed, or not checkpointed yet.
        let sealed = self.segments.len() - self.random.below(3).min(self.segments.len() as u64) as usize;
        for (index, segment) in self.segments.iter_mut().enumerate() {
            let is_compacted = segment.info.compacted_ms != 0;
            segment.info.elapsed_ms = is_compacted.then(|| steady_ms - segment.compacted_at);
            segment.info.is_sealed_and_checkpointed = index < sealed;
        }
        let infos: Vec<SegmentInfo> = self.segments.iter().map(|segment| segment.info).collect();
        let config = self.config();
        let Some(planned) = plan(&infos, &config, self.wall_ms) else { return };
        let memory = if self.random.one_in(3) { 24 * (4 + self.random.below(10)) } else { 1024 * 1024 };
        let keys = KeyMap::with_bytes_max(memory as usize, u128::from(self.random.draw()));
        let mut survivors = Survivors::new(keys, DECOMPRESSED_BYTES_MAX);
        let Some(planned) = self.learn(&mut survivors, planned, &infos) else { return };
        let count = match self.random.below(3) {
            0 => self.random.below(planned.groups.len() as u64 + 1) as usize,
            _ => planned.groups.len(),
        };
        let skipped = if self.replaces_newest_first { planned.groups.len() - count } else { 0 };
        let groups = &planned.groups[skipped..skipped + count];
        let first = groups.first().map_or(0, |group| group.segments.start);
        let behind = groups.last().map_or(0, |group| group.segments.end);
        let mut segments = self.segments[..first].to_vec();
        for group in groups {
            segments.push(self.rewrite(&mut survivors, group));
        }
        segments.extend_from_slice(&self.segments[behind..]);
        self.segments = segments;
        self.rounds += 1;
    }

    fn learn(&self, survivors: &mut Survivors, planned: Plan, infos: &[SegmentInfo]) -> Option<Plan> {
        for batch in self.segments[planned.dirty.clone()].iter().flat_map(|segment| &segment.batches) {
            if let Err(error) = survivors.learn(batch) {
                return planned.within(infos, error.complete_below());
            }
        }
        Some(planned)
    }

    fn rewrite(&mut self, survivors: &mut Survivors, group: &Group) -> Segment {
        let newest_of_producer = self.newest_of_producer();
        let old = self.segments[group.segments.clone()].to_vec();
        let mut batches = Vec::new();
        for segment in &old {
            let passed = self.steady_ms - segment.compacted_at;
            let is_due = segment.info.compacted_ms != 0 && passed > RETENTION_MS as u64;
            assert!(is_due || !group.drop_tombstones, "tombstones go after {passed} ms: {segment:?}");
            for batch in &segment.batches {
                let last_offset = BatchHeader::parse(batch).unwrap().last_offset();
                let is_last = newest_of_producer == Some(last_offset);
                if group.drop_tombstones {
                    self.may_be_gone.extend(read(batch).into_iter().map(|(offset, _)| offset));
                }
                match survivors.rewrite(batch, group.drop_tombstones, is_last).unwrap() {
                    Kept::All => batches.push(batch.clone()),
                    Kept::Some(rewritten) => batches.push(rewritten),
                    Kept::None => {}
                }
            }
        }
        let info = SegmentInfo {
            compacted_ms: group.compacted_ms,
            ..info_of(&batches, group.base_offset, group.end_offset)
        };
        let elapsed_ms = group.elapsed_ms.unwrap();
        Segment { info, batches, compacted_at: self.steady_ms - elapsed_ms }
    }

    fn newest_of_producer(&self) -> Option<i64> {
        let batches = self.segments.iter().flat_map(|segment| &segment.batches);
        let headers = batches.map(|batch| BatchHeader::parse(batch).unwrap());
        headers.filter(BatchHeader::has_producer).map(|header| header.last_offset()).max()
    }

    /// Everything that must hold, whatever was done.
    fn check(&mut self) {
        let mut left: BTreeMap<u64, Written> = BTreeMap::new();
        for (offset, key, value, timestamp_ms) in self.read_all() {
            let written = &self.written[&offset];
            assert_eq!((key, &value, timestamp_ms), (written.key, &written.value, written.timestamp_ms));
            let behind = left.last_key_value().map(|(last, _)| *last);
            assert!(behind.is_none_or(|last| last < offset), "{offset} stands behind {behind:?}");
            left.insert(offset, written.clone());
        }
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        for (offset, written) in &self.written {
            newest.insert(written.key, *offset);
        }
        for (key, offset) in &newest {
            if !left.contains_key(offset) {
                assert!(self.written[offset].value.is_none(), "the newest value of {key} is gone");
                assert!(self.may_be_gone.contains(offset), "the tombstone of {key} went early");
                assert!(left.values().all(|written| written.key != *key), "{key} has come back");
            }
        }
        self.check_readers(&left, &newest);
        self.check_compacted();
        self.check_producer();
    }

    /// Who reads from any offset to the end learns the newest event of every key that has one there.
    fn check_readers(&mut self, left: &BTreeMap<u64, Written>, newest: &BTreeMap<u64, u64>) {
        let first = self.segments.first().map_or(0, |segment| segment.info.base_offset);
        for _ in 0..3 {
            let from = first + self.random.below(self.next_offset - first + 1);
            let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
            for (offset, written) in left.range(from..) {
                seen.insert(written.key, *offset);
            }
            for (key, offset) in newest.iter().filter(|(_, offset)| **offset >= from) {
                let is_gone = self.may_be_gone.contains(offset) && !left.contains_key(offset);
                assert_eq!(seen.get(key), Some(offset).filter(|_| !is_gone), "key {key} from {from}");
            }
        }
    }

    /// In what has been compacted, every key has one event at most.
    fn check_compacted(&self) {
        let mut seen = BTreeSet::new();
        let compacted = self.segments.iter().take_while(|segment| segment.info.compacted_ms != 0);
        for batch in compacted.flat_map(|segment| &segment.batches) {
            for (offset, key) in read(batch) {
                let supersedes = self.written[&offset].supersedes;
                assert!(!supersedes || seen.insert(key), "{key} is there twice, at {offset} again");
            }
        }
    }

    /// The newest batch of a producer can be found, with its sequence.
    fn check_producer(&self) {
        let batches = self.segments.iter().flat_map(|segment| &segment.batches);
        let mut headers = batches.map(|batch| BatchHeader::parse(batch).unwrap());
        let last = headers.rfind(BatchHeader::has_producer);
        let sequence = last.map_or(-1, |header| header.last_sequence());
        assert_eq!(sequence, self.next_sequence - 1);
    }

    fn read_all(&self) -> Vec<(u64, u64, Option<Bytes>, i64)> {
        let mut all = Vec::new();
        for segment in &self.segments {
            for batch in &segment.batches {
                assert_eq!(verify_crc(batch), Ok(()));
                for record in decode(batch, READ_BYTES_MAX).unwrap() {
                    let offset = record.offset as u64;
                    assert!((segment.info.base_offset..segment.info.end_offset).contains(&offset));
                    all.push((offset, number(&record.key.unwrap()), record.value, record.timestamp));
                }
            }
        }
        all
    }
}

fn info_of(batches: &[Vec<u8>], base_offset: u64, end_offset: u64) -> SegmentInfo {
    let headers = || batches.iter().map(|batch| BatchHeader::parse(batch).unwrap());
    SegmentInfo {
        base_offset,
        end_offset,
        bytes: headers().map(|header| header.total_bytes() as u64).sum(),
        first_timestamp: headers().next().map(|header| header.newest_timestamp()),
        max_timestamp: headers().map(|header| header.newest_timestamp()).max(),
        compacted_ms: 0,
        elapsed_ms: None,
        is_sealed_and_checkpointed: false,
    }
}

/// Offsets and keys of a batch.
fn read(batch: &[u8]) -> Vec<(u64, u64)> {
    let records = decode(batch, READ_BYTES_MAX).unwrap();
    records.iter().map(|record| (record.offset as u64, number(record.key.as_ref().unwrap()))).collect()
}

fn number(key: &[u8]) -> u64 {
    u64::from_be_bytes(key.try_into().unwrap())
}

/// Steps of a random script; what must hold is looked at after each round.
fn run(model: &mut Model) {
    for _ in 0..60 {
        match model.random.below(3) {
            0 => model.write_segment(),
            1 => model.pass_time(),
            _ => {
                model.compact();
                model.check();
            }
        }
    }
}

#[test]
fn the_newest_event_of_every_key_stays_whatever_rounds_there_are() {
    let (mut rounds, mut gone) = (0, 0);
    for seed in 0..300 {
        let mut model = Model::new(seed);
        run(&mut model);
        rounds += model.rounds;
        let left: BTreeSet<u64> = model.read_all().into_iter().map(|(offset, ..)| offset).collect();
        gone += model.may_be_gone.difference(&left).count();
    }
    // The test is about something: there were rounds, and they took events.
    assert!(rounds > 1500, "{rounds} rounds");
    assert!(gone > 1000, "{gone} events went with rounds that took tombstones");
}

#[test]
#[should_panic(expected = "is there twice")]
fn segments_that_are_replaced_in_another_order_are_seen() {
    for seed in 0..300 {
        let mut model = Model { replaces_newest_first: true, ..Model::new(seed) };
        run(&mut model);
    }
}
