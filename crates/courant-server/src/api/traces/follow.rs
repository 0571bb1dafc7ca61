//! Keeps the index of traces: first what is in the log already, then what comes. It reads the log as any
//! reader does, so that appends cost no more than without it, and rests between two looks.

use std::cmp::Reverse;
use std::collections::hash_map::RandomState;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use courant_log::batch::glance::Glance;
use courant_log::{Log, PartitionId};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{debug, error};

use super::facts::{self, Facts};
use super::index::New;
use super::is_looked_at;
use super::places::{Place, Places};
use crate::api::ApiState;
use crate::api::limits::{
    TRACE_AHEAD_MS, TRACE_BEHIND_MAX, TRACE_ENTRIES_PER_READ_MAX, TRACE_KEPT_PART, TRACE_LOOK, TRACE_PAUSE,
    TRACE_PAUSE_MAX, TRACE_REBUILD_RECORDS_MAX, TRACE_REST, TRACE_REST_PLAIN,
};
use crate::api::records::read::{Taken, glance_over, offset};

/// One partition, as far as it was looked at.
#[derive(Debug)]
struct Lane {
    topic: Arc<str>,
    number: u32,
    next: u64,
    /// The timestamp of the last record that was looked at.
    time_ms: i64,
    /// Where the partition ended when it was first seen: up to there nothing is passed over.
    backlog: u64,
    /// Whether what is before `next` was left out: the next record says since when all is known.
    is_cut: bool,
}

/// Who looks.
#[derive(Debug)]
struct Follower {
    hasher: RandomState,
    header: Option<Arc<str>>,
    lanes: HashMap<PartitionId, Lane>,
    /// Partitions that have something new, those with the oldest records first.
    queue: BinaryHeap<Reverse<(i64, PartitionId)>>,
    /// When all partitions were last looked at; `None`: never.
    settled: Option<Instant>,
    /// Whether it has come to the end once, or through everything that was there at the start.
    has_caught_up: bool,
    /// Whether the last look has found something that may belong to something.
    joins: bool,
    /// A record with a later time than this says nothing about how far back the others go.
    latest_ms: i64,
    places: Places,
}

/// What one read has found.
#[derive(Debug, Default)]
struct Looked {
    new: Vec<New>,
    /// Those that nothing joins to anything: with their ids, or only where they are while nobody asks for those.
    plain: Vec<New>,
    places: Vec<Place>,
    /// Whether one names another.
    names_another: bool,
    seen: u64,
    without: u64,
    passed_over: u64,
    incomplete_before: Option<i64>,
}

impl Looked {
    /// Whether something in it may belong to something.
    fn joins(&self) -> bool {
        self.names_another || !self.new.is_empty()
    }
}

/// Follows the log until its task is aborted.
pub(super) async fn keep(state: ApiState) {
    let settings = &state.settings().traces;
    if settings.events == 0 {
        return;
    }
    let header = settings.correlation_header.as_deref().map(Arc::from);
    let mut follower = Follower {
        hasher: state.traces(|index| index.hasher()),
        header,
        lanes: HashMap::new(),
        queue: BinaryHeap::new(),
        settled: None,
        has_caught_up: false,
        joins: false,
        latest_ms: i64::MAX,
        places: Places::new(state.traces(|index| index.plain_max())),
    };
    let mut appended_bytes = None;
    loop {
        let Ok(log) = state.log().cloned() else {
            sleep(TRACE_PAUSE).await;
            continue;
        };
        let appended = log.metrics().appended_bytes;
        if follower.queue.is_empty() {
            if appended_bytes == Some(appended) && !follower.is_due() {
                sleep(TRACE_PAUSE).await;
                continue;
            }
            appended_bytes = Some(appended);
        }
        let place = state.place_beside().await;
        let (begun, asked) = (Instant::now(), state.clone());
        let looked = spawn_blocking(move || {
            let _place = place;
            follower.look(&log, &asked);
            follower
        });
        follower = match looked.await {
            Ok(follower) => follower,
            Err(failure) => {
                error!("the index of traces stands still, which is a defect: {failure}");
                state.traces(|index| index.counts.has_failed = true);
                return;
            }
        };
        let rest = begun.elapsed().saturating_mul(follower.rest());
        sleep(if follower.queue.is_empty() { rest.max(TRACE_PAUSE) } else { rest }).await;
    }
}

impl Follower {
    /// Whether it is time to look at all partitions again.
    fn is_due(&self) -> bool {
        self.settled.is_none_or(|settled| settled.elapsed() >= TRACE_PAUSE_MAX)
    }

    /// Whether everything that was there at the start has been gone through. Where more comes all the time
    /// than it looks at, the queue is never empty.
    fn is_through(&self) -> bool {
        self.lanes.values().all(|lane| lane.next >= lane.backlog)
    }

    /// How many times as long as the last look the rest behind it takes.
    fn rest(&self) -> u32 {
        match (self.has_caught_up, self.joins) {
            (false, _) => 1,
            (true, true) => TRACE_REST,
            (true, false) => TRACE_REST_PLAIN,
        }
    }

    /// Looks at what is new, for a while.
    fn look(&mut self, log: &Log, state: &ApiState) {
        let begun = Instant::now();
        self.joins = self.places.are_asked();
        if self.queue.is_empty() || self.is_due() {
            let passed_over = self.settle(log);
            let latest_ms = state.now_ms().saturating_add(TRACE_AHEAD_MS);
            state.traces(|index| {
                index.counts.passed_over += passed_over;
                index.latest_ms = latest_ms;
            });
            self.latest_ms = latest_ms;
        }
        while begun.elapsed() < TRACE_LOOK
            && let Some(Reverse((_, id))) = self.queue.pop()
        {
            let Some(looked) = self.read(log, id) else { continue };
            self.joins |= looked.joins();
            let asked = self.asked_for(log, &looked);
            state.traces(|index| {
                index.counts.seen += looked.seen;
                // Those with ids are counted as they come to the index.
                let without = index.counts.without + looked.without + looked.places.len() as u64;
                index.counts.without = without.saturating_sub(asked.len() as u64);
                index.counts.passed_over += looked.passed_over;
                if let Some(time_ms) = looked.incomplete_before {
                    index.incomplete_before(time_ms);
                }
                asked.iter().chain(&looked.plain).for_each(|new| index.add_plain(*new));
                looked.new.iter().for_each(|new| index.add(*new));
            });
        }
        self.has_caught_up |= self.queue.is_empty() || self.is_through();
        let reached = self.lanes.values().map(|lane| lane.next).fold(0, u64::saturating_add);
        state.traces(|index| {
            index.counts.has_caught_up = self.has_caught_up;
            index.counts.reached = reached;
        });
    }

    /// Takes the partitions as they are now, and queues those that have something new. Returns how many
    /// records are passed over.
    fn settle(&mut self, log: &Log) -> u64 {
        let catalog = log.catalog();
        let mut ends: HashMap<PartitionId, _> = HashMap::new();
        for topic in catalog.topics().filter(|topic| is_looked_at(&topic.name)) {
            for (number, id) in (0_u32..).zip(&topic.partitions) {
                if let Some(offsets) = log.offsets(*id) {
                    ends.insert(*id, (offsets, &topic.name, number));
                }
            }
        }
        self.lanes.retain(|id, _| ends.contains_key(id));
        // At the start there may be more than can be gone through; a partition that is made later is new.
        let newest = match self.settled {
            Some(_) => u64::MAX,
            None => share(
                ends.values().map(|(ends, ..)| ends.high_watermark.saturating_sub(ends.start)).collect(),
            ),
        };
        self.settled = Some(Instant::now());
        self.queue.clear();
        let mut passed_over = 0;
        for (id, (ends, name, number)) in ends {
            let (start, end) = (ends.start, ends.high_watermark);
            let lane = self.lanes.entry(id).or_insert_with(|| {
                let next = end.saturating_sub(newest).max(start);
                passed_over += next - start;
                let topic = Arc::from(name.as_str());
                Lane { topic, number, next, time_ms: i64::MIN, backlog: end, is_cut: next > start }
            });
            lane.next = lane.next.max(start);
            if lane.next >= lane.backlog && end.saturating_sub(lane.next) > TRACE_BEHIND_MAX {
                let next = end.saturating_sub(TRACE_BEHIND_MAX / TRACE_KEPT_PART);
                passed_over += next - lane.next;
                (lane.next, lane.is_cut) = (next, true);
            }
            if lane.next < end {
                self.queue.push(Reverse((lane.time_ms, id)));
            }
        }
        passed_over
    }

    /// Keeps the places that were found. Where a record names another one for the first time, it is here that the
    /// ids are made.
    fn asked_for(&mut self, log: &Log, looked: &Looked) -> Vec<New> {
        self.places.keep(&looked.places);
        if self.places.are_asked() || !looked.names_another {
            return Vec::new();
        }
        let with_id = |place: Place| {
            // Those of topics that are deleted are gone.
            let lane = self.lanes.get(&place.partition)?;
            Some(facts::plain(&self.hasher, &log.id(), &lane.topic, lane.number, place))
        };
        self.places.ask().into_iter().filter_map(with_id).collect()
    }

    /// Reads on in one partition, and queues it again where more is to come.
    fn read(&mut self, log: &Log, id: PartitionId) -> Option<Looked> {
        let (hasher, header) = (&self.hasher, self.header.as_deref());
        let lane = self.lanes.get_mut(&id)?;
        let ends = log.offsets(id)?;
        let (log_id, topic, number) = (log.id(), Arc::clone(&lane.topic), lane.number);
        let begin = lane.next;
        let are_asked = self.places.are_asked();
        let mut looked = Looked::default();
        let passed = glance_over(log, id, begin..ends.high_watermark, |seen| {
            if looked.new.len() + looked.plain.len() + looked.places.len() >= TRACE_ENTRIES_PER_READ_MAX {
                return Taken::No;
            }
            looked.seen += 1;
            let (at, time_ms, record) = match seen {
                Glance::Bare { offset, timestamp, .. } => (*offset, *timestamp, None),
                Glance::Whole(record) => (record.offset, record.timestamp, Some(record)),
            };
            lane.time_ms = time_ms;
            if lane.is_cut && (0..=self.latest_ms).contains(&time_ms) {
                lane.is_cut = false;
                looked.incomplete_before = Some(time_ms);
            }
            // Without headers nothing joins it to anything.
            let told = record.map(|record| (record, Facts::of(record, header)));
            let told = told.filter(|(_, facts)| !facts.is_plain() || facts.names_another());
            let Some((record, facts)) = told else {
                let place = Place { partition: id, offset: offset(at), time_ms };
                match are_asked {
                    true => looked.plain.push(facts::plain(hasher, &log_id, &topic, number, place)),
                    false => looked.places.push(place),
                }
                return Taken::Yes;
            };
            looked.names_another |= facts.names_another();
            let list = if facts.is_plain() { &mut looked.plain } else { &mut looked.new };
            match facts.placed(record, &log_id, &topic, number).indexed(hasher, id, record) {
                Some(new) => list.push(new),
                None => looked.without += 1,
            }
            Taken::Yes
        });
        match passed {
            Ok(passed) => {
                lane.next = passed.next;
                if let Some(hole) = passed.hole {
                    let last = hole.last.unwrap_or(ends.high_watermark.saturating_sub(1));
                    looked.passed_over = last.saturating_add(1).saturating_sub(hole.first);
                }
            }
            // It is tried again with the next look at all partitions.
            Err(error) => {
                debug!("partition {id} is not looked at for traces now: {error}");
                return Some(looked);
            }
        }
        // A read that came to nothing is not tried again at once.
        if lane.next > begin && lane.next < ends.high_watermark {
            self.queue.push(Reverse((lane.time_ms, id)));
        }
        Some(looked)
    }
}

/// How many of the newest records of each partition are gone through, so that all together are not more
/// than can be: small partitions leave their share to the others.
fn share(mut lengths: Vec<u64>) -> u64 {
    lengths.sort_unstable();
    let (mut left, mut count) = (TRACE_REBUILD_RECORDS_MAX, lengths.len() as u64);
    for length in lengths {
        let each = left / count.max(1);
        if length > each {
            return each;
        }
        left -= length;
        count -= 1;
    }
    u64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    use bytes::Bytes;
    use courant_core::headers;
    use courant_core::topic::TopicName;
    use courant_log::batch::records::{NewRecord, encode};
    use courant_log::storage::MemoryStorage;
    use courant_log::{Batch, Codec, LogConfig, NewTopic, SystemClock, SystemEntropy};

    /// A follower of one partition, at its beginning.
    fn follower(id: PartitionId, next: u64, backlog: u64) -> Follower {
        let lane = Lane { topic: "t".into(), number: 0, next, time_ms: 0, backlog, is_cut: false };
        Follower {
            hasher: RandomState::new(),
            header: None,
            lanes: HashMap::from([(id, lane)]),
            queue: BinaryHeap::from([Reverse((0, id))]),
            settled: None,
            has_caught_up: false,
            joins: false,
            latest_ms: i64::MAX,
            places: Places::new(9),
        }
    }

    /// A log with one partition, which has these records.
    fn log(records: &[NewRecord]) -> (Log, PartitionId) {
        let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        config.reserve_bytes = 0;
        let (log, _) = Log::open(Arc::new(MemoryStorage::new(64 * 1024 * 1024)), config).expect("opens");
        let (done, created) = mpsc::channel();
        let name = TopicName::new("t").expect("legal");
        log.create_topic(NewTopic { name, partitions: 1, configs: Default::default() }, move |result| {
            done.send(result).expect("the test waits");
        });
        let id = created.recv().expect("an answer").expect("created").partitions[0];
        let batch =
            Batch::validate(encode(records, Codec::None, None).expect("a batch")).expect("a good one");
        let (done, appended) = mpsc::channel();
        log.append(id, batch, move |result| done.send(result).expect("the test waits"));
        appended.recv().expect("an answer").expect("appended");
        (log, id)
    }

    /// Records without headers, and with some that say nothing, are places alone until another is named.
    #[test]
    fn plain_records_are_places_until_one_is_asked_for() {
        let record = |name: Option<&'static str>| NewRecord {
            timestamp: 5,
            value: Some("v".into()),
            headers: name
                .map(|name| (Bytes::from_static(name.as_bytes()), Some(Bytes::from_static(b"1"))))
                .into_iter()
                .collect(),
            ..NewRecord::default()
        };
        let names = [None, Some("x"), Some(headers::ID), Some(headers::CAUSATION_ID), None];
        let (log, id) = log(&names.map(record));
        let mut follower = follower(id, 0, 0);
        let looked = follower.read(&log, id).expect("it is there");
        let places: Vec<_> = looked.places.iter().map(|place| (place.offset, place.time_ms)).collect();
        assert_eq!(places, [(0, 5), (1, 5), (4, 5)]);
        let offsets = |list: &[New]| list.iter().map(|new| new.offset).collect::<Vec<_>>();
        assert_eq!((offsets(&looked.new), offsets(&looked.plain)), (vec![2], vec![3]));
        assert!(looked.names_another && looked.seen == 5);
        let asked = follower.asked_for(&log, &looked);
        assert_eq!(offsets(&asked), [0, 1, 4]);
        follower.lanes.values_mut().for_each(|lane| lane.next = 0);
        let again = follower.read(&log, id).expect("it is there");
        assert_eq!((offsets(&again.new), offsets(&again.plain)), (vec![2], vec![0, 1, 3, 4]));
        assert!(again.places.is_empty());
        let events = |list: &[New], at: u64| list.iter().find(|new| new.offset == at).map(|new| new.event);
        for at in [0, 1, 4] {
            assert_eq!(events(&again.plain, at), events(&asked, at), "the id of its place");
        }
    }

    /// A load of plain records is looked at with less of the machine, until one of them may be a cause.
    #[test]
    fn the_rest_is_longer_behind_a_look_that_joins_nothing() {
        let looked = |header: Option<&'static str>| {
            let headers = header.map(|name| (Bytes::from_static(name.as_bytes()), Some("1".into())));
            let named = NewRecord { headers: headers.into_iter().collect(), ..NewRecord::default() };
            let (log, id) = log(&[NewRecord::default(), named]);
            follower(id, 0, 0).read(&log, id).expect("it is there")
        };
        assert!(!looked(None).joins() && !looked(Some("x")).joins());
        assert!(looked(Some(headers::ID)).joins() && looked(Some(headers::CAUSATION_ID)).joins());
        let mut follower = follower(PartitionId(1), 0, 0);
        assert_eq!(follower.rest(), 1, "what was there at the start comes first");
        follower.has_caught_up = true;
        assert_eq!(follower.rest(), TRACE_REST_PLAIN);
        follower.joins = true;
        assert_eq!(follower.rest(), TRACE_REST);
    }

    /// Where more comes all the time than is looked at, the queue is never empty; the fast look at what was
    /// there ends all the same.
    #[test]
    fn what_was_there_at_the_start_comes_to_an_end_while_more_comes() {
        let id = PartitionId(1);
        let mut follower = follower(id, 9, 10);
        assert!(!follower.is_through());
        follower.lanes.values_mut().for_each(|lane| lane.next = 10);
        assert!(follower.is_through());
    }

    #[test]
    fn small_partitions_leave_their_share_to_the_others() {
        const MAX: u64 = TRACE_REBUILD_RECORDS_MAX;
        assert_eq!(share(vec![]), u64::MAX);
        assert_eq!(share(vec![MAX / 2, MAX / 2]), u64::MAX);
        assert_eq!(share(vec![MAX * 9]), MAX);
        assert_eq!(share(vec![MAX, 10, MAX]), (MAX - 10) / 2);
        let each = share(vec![MAX; 3]);
        assert!(each * 3 <= MAX && each * 3 > MAX - 3);
    }
}
