//! One subscription at work: where it is in each of its partitions, and what comes next.
//!
//! Nothing is kept for a client that does not read: the log has it. One that had come to the end and then
//! falls too far behind goes on at the newest records, and is told how many it passed over.

use std::sync::Arc;
use std::time::Instant;

use courant_log::{Catalog, Log, PartitionId, ReadError, Topic};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::resume::{Place, made};
use super::subscription::Subscription;
use crate::api::limits::{
    STREAM_BEHIND_MAX, STREAM_KEPT_PART, STREAM_PARTITIONS_MAX, STREAM_PIECE_BYTES, STREAM_RATE_SLOT,
};
use crate::api::problem::Problem;
use crate::api::records::read::{Gap, Taken, offset, read};
use crate::api::records::shown::{Room, shown};

/// A subscription that is followed.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) subscription: Arc<Subscription>,
    pub(super) lanes: Vec<Lane>,
    /// The lane that is looked at first.
    turn: usize,
    /// Where a client was that has been here before.
    resumed: Option<Vec<Place>>,
    is_settled: bool,
    /// Whether it was said that there are more partitions than are followed.
    is_full: bool,
    /// Records that may still be said until the slot is over, where there is a rate.
    left: u64,
    slot: Instant,
}

/// One partition of it.
#[derive(Debug)]
pub(super) struct Lane {
    /// The topic's number in the subscription.
    pub(super) topic_number: u32,
    pub(super) topic: Arc<str>,
    topic_id: Uuid,
    pub(super) number: u32,
    pub(super) id: PartitionId,
    pub(super) next: u64,
    /// Where the partition ended when it was begun: up to there nothing is passed over.
    pub(super) backlog: u64,
}

/// Something to say.
#[derive(Debug)]
pub(super) enum Said {
    /// The subscription has begun.
    Begun,
    /// A record, of that lane, behind which the next one is there.
    Record {
        lane: usize,
        next: u64,
        json: Box<RawValue>,
    },
    Skipped {
        topic: Arc<str>,
        partition: u32,
        first: u64,
        last: u64,
    },
    Gap(Gap),
    /// Nothing more comes from a topic, or from one of its partitions.
    Ended {
        topic: Arc<str>,
        partition: Option<u32>,
        reason: String,
    },
}

impl Follower {
    pub(super) fn new(subscription: Arc<Subscription>, resumed: Option<Vec<Place>>) -> Self {
        let (left, slot) = (0, Instant::now());
        let (lanes, is_settled, is_full) = (Vec::new(), false, false);
        Self { subscription, lanes, turn: 0, resumed, is_settled, is_full, left, slot }
    }

    /// Follows the topics as they are now: partitions are added, and deleted topics go. May wait for the
    /// disk. `others` is how many partitions the stream's other subscriptions follow.
    pub(super) fn settle(
        &mut self,
        log: &Log,
        catalog: &Catalog,
        now_ms: i64,
        others: usize,
    ) -> Result<Vec<Said>, Problem> {
        let mut said = Vec::new();
        let subscription = Arc::clone(&self.subscription);
        for (topic_number, name) in (0..).zip(&subscription.topics) {
            let topic = catalog.by_name(name);
            let had = self.lanes.len();
            self.lanes.retain(|lane| {
                lane.topic_number != topic_number || topic.is_some_and(|topic| topic.id == lane.topic_id)
            });
            if had > self.lanes.len() || (topic.is_none() && !self.is_settled) {
                let reason = "the topic was deleted".to_owned();
                said.push(Said::Ended { topic: name.as_str().into(), partition: None, reason });
            }
            if let Some(topic) = topic {
                self.widen(log, topic, topic_number, (now_ms, others), &mut said)?;
            }
        }
        if !self.is_settled {
            self.is_settled = true;
            said.insert(0, Said::Begun);
        }
        Ok(said)
    }

    /// Adds the partitions of a topic that are not followed yet.
    fn widen(
        &mut self,
        log: &Log,
        topic: &Topic,
        topic_number: u32,
        (now_ms, others): (i64, usize),
        said: &mut Vec<Said>,
    ) -> Result<(), Problem> {
        let name: Arc<str> = topic.name.as_str().into();
        for (number, id) in (0..).zip(&topic.partitions) {
            let is_wanted =
                self.subscription.partitions.as_ref().is_none_or(|wanted| wanted.contains(&number));
            let mut lanes = self.lanes.iter();
            if !is_wanted || lanes.any(|lane| lane.topic_number == topic_number && lane.number == number) {
                continue;
            }
            if self.lanes.len() + others >= STREAM_PARTITIONS_MAX {
                // One word for all of them is enough, and once.
                if !self.is_full {
                    self.is_full = true;
                    let reason = format!("a stream follows at most {STREAM_PARTITIONS_MAX} partitions");
                    said.push(Said::Ended { topic: Arc::clone(&name), partition: Some(number), reason });
                }
                return Ok(());
            }
            let Some(ends) = log.offsets(*id) else { continue };
            let next = match self.place(topic_number, topic, number) {
                // Offsets only grow: this log is an older copy of the one where it was, and all of it is news.
                Some(next) if self.resumed.is_some() && next > ends.high_watermark => ends.start,
                Some(next) => next,
                None if self.is_settled || self.resumed.is_some() => ends.start,
                None => self.subscription.begin.resolve(log, *id, ends, now_ms)?,
            };
            self.lanes.push(Lane {
                topic_number,
                topic: Arc::clone(&name),
                topic_id: topic.id,
                number,
                id: *id,
                next: next.min(ends.high_watermark),
                backlog: ends.high_watermark,
            });
        }
        Ok(())
    }

    /// Where a client wants to begin, or was before, in a partition. It never was in one of a topic that was made
    /// again under the name of one where it was.
    fn place(&self, topic_number: u32, topic: &Topic, number: u32) -> Option<u64> {
        if self.is_settled {
            return None;
        }
        if let Some(places) = &self.resumed {
            let is_it = |place: &&Place| {
                place.topic == topic_number && place.partition == number && place.made == made(topic.id)
            };
            return places.iter().find(is_it).map(|place| place.next);
        }
        let mut positions = self.subscription.positions.iter();
        let found = positions.find(|position| position.topic == topic.name && position.partition == number);
        found.map(|position| position.offset)
    }

    /// The places of all partitions, the lane of that number at another one.
    pub(super) fn places(&self, other: Option<(usize, u64)>) -> impl Iterator<Item = Place> {
        let subscription = self.subscription.number;
        self.lanes.iter().enumerate().map(move |(index, lane)| Place {
            subscription,
            topic: lane.topic_number,
            partition: lane.number,
            next: other.filter(|(lane, _)| *lane == index).map_or(lane.next, |(_, next)| next),
            made: made(lane.topic_id),
        })
    }

    /// When more may be said, if that is not now.
    pub(super) fn rests_until(&self, now: Instant) -> Option<Instant> {
        (self.subscription.rate.is_some() && self.left == 0 && now < self.slot).then_some(self.slot)
    }

    /// Whether there is something to read.
    pub(super) fn has_news(&self, log: &Log) -> bool {
        // Who reads a partition that is gone is told so.
        self.lanes.iter().any(|lane| log.offsets(lane.id).is_none_or(|ends| lane.next < ends.high_watermark))
    }

    /// What comes next, of the first partition that has something. May wait for the disk.
    pub(super) fn read(&mut self, log: &Log, now: Instant) -> Result<Vec<Said>, Problem> {
        if let Some(rate) = self.subscription.rate
            && now >= self.slot
        {
            self.left = (rate / slots_a_second()).max(1);
            self.slot = now + STREAM_RATE_SLOT;
        }
        for _ in 0..self.lanes.len() {
            let index = self.turn % self.lanes.len();
            self.turn = index + 1;
            let lane = &self.lanes[index];
            match log.offsets(lane.id) {
                Some(ends) if lane.next >= ends.high_watermark => {}
                Some(ends) => return self.read_lane(log, index, ends.high_watermark),
                None => {
                    let lane = self.lanes.remove(index);
                    let reason = "the topic was deleted".to_owned();
                    return Ok(vec![Said::Ended { topic: lane.topic, partition: Some(lane.number), reason }]);
                }
            }
        }
        Ok(Vec::new())
    }

    fn read_lane(&mut self, log: &Log, index: usize, end: u64) -> Result<Vec<Said>, Problem> {
        let mut said = Vec::new();
        let count = self.lanes.len() as u64;
        let behind_max =
            self.subscription.rate.map_or(STREAM_BEHIND_MAX, |rate| (rate / count.max(1)).max(1));
        let lane = &mut self.lanes[index];
        said.extend(lane.catch_up(end, behind_max));
        let (mut records, mut bytes, mut failed) = (0_u64, 0, None);
        let room = if self.subscription.rate.is_some() { self.left } else { u64::MAX };
        let passed = read(log, lane.id, lane.next..end, |record| {
            if records >= room || bytes >= STREAM_PIECE_BYTES || failed.is_some() {
                return Taken::No;
            }
            if self.subscription.condition.fits(record) {
                match shown(&lane.topic, lane.number, record, Room::LISTED) {
                    Ok(json) => {
                        records += 1;
                        bytes += json.get().len();
                        let next = offset(record.offset).saturating_add(1);
                        said.push(Said::Record { lane: index, next, json });
                    }
                    Err(error) => failed = Some(error),
                }
            }
            Taken::Yes
        });
        if let Some(error) = failed {
            return Err(Problem::defect(&error.to_string()));
        }
        match passed {
            Ok(passed) => {
                lane.next = passed.next;
                let gap = passed.hole.map(|hole| Gap::of(&lane.topic, lane.number, hole));
                said.extend(gap.map(Said::Gap));
            }
            // The next look finds that it is gone.
            Err(ReadError::UnknownPartition) => {}
            Err(error) => return Err(error.into()),
        }
        self.left = self.left.saturating_sub(records);
        Ok(said)
    }
}

impl Lane {
    /// Passes over what the client is too far behind for.
    fn catch_up(&mut self, end: u64, behind_max: u64) -> Option<Said> {
        if self.next < self.backlog || end.saturating_sub(self.next) <= behind_max {
            return None;
        }
        let kept = (behind_max / STREAM_KEPT_PART).max(1);
        let (first, next) = (self.next, end.saturating_sub(kept));
        self.next = next;
        let last = next.saturating_sub(1);
        Some(Said::Skipped { topic: Arc::clone(&self.topic), partition: self.number, first, last })
    }
}

fn slots_a_second() -> u64 {
    // A slot is a part of a second.
    let slot_ms = u64::try_from(STREAM_RATE_SLOT.as_millis()).unwrap_or(u64::MAX);
    (1000 / slot_ms.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(next: u64, backlog: u64) -> Lane {
        let (topic, topic_id) = ("t".into(), Uuid::nil());
        Lane { topic_number: 0, topic, topic_id, number: 0, id: PartitionId(0), next, backlog }
    }

    #[test]
    fn who_falls_behind_goes_on_at_the_newest_and_is_told_what_it_passed_over() {
        let mut slow = lane(100, 100);
        let skipped = slow.catch_up(1_100, 400).expect("it is too far behind");
        assert!(matches!(skipped, Said::Skipped { first: 100, last: 999, .. }), "{skipped:?}");
        assert_eq!(slow.next, 1_000);
        assert!(slow.catch_up(1_400, 400).is_none(), "as far behind as it may be");
    }

    #[test]
    fn what_was_there_at_the_beginning_is_not_passed_over() {
        let mut reading_from_the_start = lane(0, 1_000);
        assert!(reading_from_the_start.catch_up(1_000_000, 400).is_none());
        reading_from_the_start.next = 1_000;
        assert!(reading_from_the_start.catch_up(1_000_000, 400).is_some());
    }
}
