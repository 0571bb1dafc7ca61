//! One page of records: of several partitions, in the order of time, within bounds whatever is stored.

use std::collections::VecDeque;

use courant_log::{Log, PartitionId, ReadError, Topic};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::begin::Begin;
use super::partition;
use super::read::{Gap, Taken, read};
use super::shown::{Room, shown};
use crate::api::limits::{
    GAPS_NAMED_MAX, RECORD_PAGE_BYTES_MAX, RECORD_PAGE_READS_MAX, RECORD_PARTITIONS_MAX,
};
use crate::api::problem::{BAD_REQUEST, Problem};

/// What the text of a place begins with; another form of it would have another one.
const FORM: &str = "1";

/// Where a page begins.
#[derive(Debug)]
pub(super) enum First {
    /// At the same place of several partitions.
    Begin { partitions: Vec<u32>, begin: Begin },
    /// Where the page before has ended: offsets by partition.
    After(Vec<(u32, u64)>),
}

impl First {
    /// What `next` of another page of that topic says.
    pub(super) fn after(topic: &Topic, text: &str) -> Result<Self, Problem> {
        let places = places(topic.id, text).ok_or_else(|| {
            let sentence = "`after` is not what a page of this topic had as its `next`; begin without it";
            Problem::new(&BAD_REQUEST, sentence)
        })?;
        Ok(Self::After(places))
    }
}

fn places(topic: Uuid, text: &str) -> Option<Vec<(u32, u64)>> {
    let mut words = text.split('.');
    // A topic that was made again under the same name has other offsets.
    if words.next()? != FORM || Uuid::parse_str(words.next()?).ok()? != topic {
        return None;
    }
    let mut places: Vec<(u32, u64)> = Vec::new();
    for word in words {
        let (number, offset) = word.split_once('-')?;
        let place = (number.parse().ok()?, offset.parse().ok()?);
        if places.len() == RECORD_PARTITIONS_MAX || places.iter().any(|(met, _)| *met == place.0) {
            return None;
        }
        places.push(place);
    }
    Some(places)
}

/// A page of records.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    topic: String,
    records: Vec<Box<RawValue>>,
    gaps: Vec<Gap>,
    partitions: Vec<Part>,
    next: Option<String>,
}

/// How far a partition was read.
#[derive(Debug, Serialize)]
struct Part {
    partition: u32,
    start: u64,
    end: u64,
    next: u64,
}

/// A record that was read and waits for its turn.
#[derive(Debug)]
struct Row {
    timestamp: i64,
    offset: u64,
    json: Box<RawValue>,
}

/// One partition of a page.
#[derive(Debug)]
struct Lane {
    number: u32,
    id: PartitionId,
    start: u64,
    end: u64,
    /// Where the next read begins.
    next: u64,
    rows: VecDeque<Row>,
}

/// What a page may still cost.
#[derive(Debug)]
struct Budget {
    reads: usize,
    /// Records and bytes that one read of a partition may keep.
    rows_each: usize,
    bytes_each: usize,
    gaps: Vec<Gap>,
}

impl Page {
    /// Reads one. May wait for the disk.
    pub(super) fn read(
        log: &Log,
        topic: &Topic,
        first: First,
        limit: usize,
        now_ms: i64,
    ) -> Result<Self, Problem> {
        let mut lanes = lanes(log, topic, first, now_ms)?;
        let mut budget = Budget {
            reads: RECORD_PAGE_READS_MAX,
            rows_each: limit.div_ceil(lanes.len().max(1)),
            bytes_each: RECORD_PAGE_BYTES_MAX / lanes.len().max(1),
            gaps: Vec::new(),
        };
        let (mut records, mut bytes) = (Vec::new(), 0);
        while records.len() < limit {
            for lane in &mut lanes {
                lane.fill(log, &topic.name, &mut budget)?;
            }
            // A partition whose next record is not known might have the oldest one.
            if lanes.iter().any(|lane| lane.rows.is_empty() && lane.next < lane.end) {
                break;
            }
            let heads = lanes.iter_mut().filter(|lane| !lane.rows.is_empty());
            let oldest = heads.min_by_key(|lane| lane.rows.front().map(|row| row.timestamp));
            let Some(row) = oldest.and_then(|lane| take_within(lane, bytes)) else { break };
            bytes += row.json.get().len();
            records.push(row.json);
        }
        let is_over = lanes.iter().all(|lane| lane.place() >= lane.end);
        Ok(Self {
            topic: topic.name.clone(),
            records,
            gaps: budget.gaps,
            next: (!is_over).then(|| written(topic.id, &lanes)),
            partitions: lanes.iter().map(Lane::part).collect(),
        })
    }
}

/// The next record of a partition, if the page has room for it beside so many bytes.
fn take_within(lane: &mut Lane, bytes: usize) -> Option<Row> {
    let row = lane.rows.front()?;
    if bytes > 0 && bytes + row.json.get().len() > RECORD_PAGE_BYTES_MAX {
        return None;
    }
    lane.rows.pop_front()
}

fn lanes(log: &Log, topic: &Topic, first: First, now_ms: i64) -> Result<Vec<Lane>, Problem> {
    let lane = |number: u32, place: Option<u64>, begin: Begin| -> Result<Lane, Problem> {
        let id = partition(topic, number)?;
        let ends = log.offsets(id).ok_or(ReadError::UnknownPartition)?;
        let next = place.map_or_else(|| begin.resolve(log, id, ends, now_ms), Ok)?;
        let (start, end) = (ends.start, ends.high_watermark);
        Ok(Lane { number, id, start, end, next, rows: VecDeque::new() })
    };
    match first {
        First::Begin { partitions, begin } => {
            partitions.into_iter().map(|number| lane(number, None, begin)).collect()
        }
        First::After(places) => {
            places.into_iter().map(|(number, offset)| lane(number, Some(offset), Begin::Start)).collect()
        }
    }
}

/// The places of all partitions as text.
fn written(topic: Uuid, lanes: &[Lane]) -> String {
    let places = lanes.iter().map(|lane| format!(".{}-{}", lane.number, lane.place()));
    format!("{FORM}.{}{}", topic.simple(), places.collect::<String>())
}

impl Lane {
    /// Reads until there is a record, or the end.
    fn fill(&mut self, log: &Log, topic: &str, budget: &mut Budget) -> Result<(), Problem> {
        while self.rows.is_empty() && self.next < self.end && budget.is_left() {
            budget.reads -= 1;
            let (number, rows, mut held, mut failed) = (self.number, &mut self.rows, 0, None);
            let passed = read(log, self.id, self.next..self.end, |record| {
                if failed.is_some() || rows.len() >= budget.rows_each.max(1) || held >= budget.bytes_each {
                    return Taken::No;
                }
                match shown(topic, number, record, Room::LISTED) {
                    Ok(json) => {
                        held += json.get().len();
                        let offset = super::read::offset(record.offset);
                        rows.push_back(Row { timestamp: record.timestamp, offset, json });
                    }
                    Err(error) => failed = Some(error),
                }
                Taken::Yes
            })?;
            if let Some(error) = failed {
                return Err(Problem::defect(&error.to_string()));
            }
            self.next = passed.next;
            budget.gaps.extend(passed.hole.map(|hole| Gap::of(topic, number, hole)));
        }
        Ok(())
    }

    /// Where the next page begins: at the first record that was not taken.
    fn place(&self) -> u64 {
        self.rows.front().map_or(self.next, |row| row.offset)
    }

    fn part(&self) -> Part {
        let &Self { number, start, end, .. } = self;
        Part { partition: number, start, end, next: self.place() }
    }
}

impl Budget {
    fn is_left(&self) -> bool {
        self.reads > 0 && self.gaps.len() < GAPS_NAMED_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_as_it_was_written() {
        let topic = Uuid::from_u128(7);
        let lane = |number, next| Lane {
            number,
            id: PartitionId(1),
            start: 0,
            end: u64::MAX,
            next,
            rows: VecDeque::new(),
        };
        let text = written(topic, &[lane(0, 0), lane(9_999, 9_007_199_254_740_993)]);
        assert_eq!(places(topic, &text), Some(vec![(0, 0), (9_999, 9_007_199_254_740_993)]));
        assert_eq!(places(Uuid::from_u128(8), &text), None, "of another topic");
    }

    #[test]
    fn a_place_of_nobody_is_refused() {
        let topic = Uuid::from_u128(7);
        let id = topic.simple().to_string();
        let many: String = (0..=RECORD_PARTITIONS_MAX).map(|number| format!(".{number}-0")).collect();
        for bad in
            ["", "1", "2.x", &format!("1.{id}.0"), &format!("1.{id}.0-0.0-1"), &format!("1.{id}{many}")]
        {
            assert_eq!(places(topic, bad), None, "{bad}");
        }
    }
}
