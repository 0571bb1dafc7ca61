//! How many events of a lane go into one call of the engine.
//!
//! An engine refuses a record that its topic never takes alone, and stores what is behind it. In the outbox
//! that record stays where it is until somebody lets the topic take it, and then it would come behind what
//! it was before. So a lane's share ends with the first event that its topic may refuse: if it does, nothing
//! behind it was sent, and what is not sure waits for an answer.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use courant_core::topic::TopicName;
use courant_engine::{Engine, TimestampLimits};
use courant_sql::{LaneBatch, NewEvent};
use tokio::time::Instant;

/// How long it is believed what a topic takes.
const BELIEVED: Duration = Duration::from_secs(10);

/// How long a call may be on its way until the engine looks at the times of its records.
const LOOKED_AT_MS: i64 = 60_000;

/// Topics that are known at once.
const TOPICS_MAX: usize = 1_000;

/// More than any format adds to a record: for itself, and for each of its headers.
const AROUND_RECORD: usize = 256;
const AROUND_HEADER: usize = 16;

/// What topics take, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Shares(Mutex<BTreeMap<TopicName, Known>>);

#[derive(Clone, Copy, Debug)]
struct Known {
    record_bytes_max: usize,
    timestamps: Option<TimestampLimits>,
    since: Instant,
}

impl Shares {
    fn known(&self) -> MutexGuard<'_, BTreeMap<TopicName, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the engine for topics of which too little is known. Where it does not answer, nothing is sure.
    pub(super) async fn learn(&self, engine: &dyn Engine, lanes: &[LaneBatch]) {
        let asked = self.unknown(lanes);
        if asked.is_empty() {
            return;
        }
        let Ok(found) = engine.topics(asked.clone()).await else { return };
        let mut known = self.known();
        if known.len() >= TOPICS_MAX {
            known.clear();
        }
        for (name, topic) in asked.into_iter().zip(found) {
            if let Some(topic) = topic {
                let (record_bytes_max, timestamps) = (topic.record_bytes_max, topic.timestamps);
                known.insert(name, Known { record_bytes_max, timestamps, since: Instant::now() });
            }
        }
    }

    /// Topics that are to be asked for, each once. What stands alone in its lane has nothing behind it.
    fn unknown(&self, lanes: &[LaneBatch]) -> Vec<TopicName> {
        let mut known = self.known();
        known.retain(|_, known| known.since.elapsed() < BELIEVED);
        let events = lanes.iter().filter(|lane| lane.events.len() > 1).flat_map(|lane| &lane.events);
        let topics = events.map(|pending| &pending.event.topic);
        let mut asked: Vec<TopicName> = topics.filter(|topic| !known.contains_key(*topic)).cloned().collect();
        asked.sort_unstable();
        asked.dedup();
        asked
    }

    /// How many events of a lane go into one call at the time `now_ms`: those that are sure, and one more.
    pub(super) fn of(&self, lane: &LaneBatch, now_ms: i64) -> usize {
        let known = self.known();
        let is_sure =
            |event: &NewEvent| known.get(&event.topic).is_some_and(|known| is_taken(event, known, now_ms));
        let sure = lane.events.iter().take_while(|pending| is_sure(&pending.event)).count();
        sure.saturating_add(1)
    }

    /// A topic has refused something: perhaps it takes less than was believed.
    pub(super) fn forget(&self, topic: &TopicName) {
        self.known().remove(topic);
    }
}

/// Whether every engine takes such an event, whatever its format adds: a codec may make it larger. And also a little
/// later: what is just not too old is, and an event behind it is younger.
fn is_taken(event: &NewEvent, known: &Known, now_ms: i64) -> bool {
    let bytes = event.bytes();
    let around = AROUND_RECORD.saturating_add(event.headers.len().saturating_mul(AROUND_HEADER));
    let fits = bytes.saturating_add(bytes / 4).saturating_add(around) <= known.record_bytes_max;
    let is_timely = known.timestamps.is_none_or(|limits| {
        let at = |now_ms| limits.check(event.timestamp_ms, now_ms).is_ok();
        at(now_ms) && at(now_ms.saturating_add(LOOKED_AT_MS))
    });
    fits && is_timely && event.timestamp_ms > 0 && event.headers.iter().all(|(name, _)| !name.contains('\0'))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use courant_core::event_id::EventId;
    use courant_sql::{LanePosition, Pending};

    use super::*;

    const MAX: usize = 2_000;
    const NOW_MS: i64 = 1_700_000_000_000;

    fn topic() -> TopicName {
        TopicName::new("orders").expect("legal")
    }

    fn lane(sizes: &[usize]) -> LaneBatch {
        let event = |bytes: &usize| NewEvent {
            id: EventId::new("e").expect("legal"),
            topic: topic(),
            key: Some(Bytes::from_static(b"k")),
            value: Some(vec![0; *bytes].into()),
            headers: vec![("ce_id".to_owned(), Bytes::from_static(b"e"))],
            timestamp_ms: 7,
        };
        let pending = |(position, bytes): (u64, &usize)| Pending {
            at: LanePosition { lane: 3, position },
            event: event(bytes),
        };
        LaneBatch { lane: 3, events: (1..).zip(sizes).map(pending).collect() }
    }

    fn shares() -> Shares {
        let known = Known { record_bytes_max: MAX, timestamps: None, since: Instant::now() };
        Shares(Mutex::new(BTreeMap::from([(topic(), known)])))
    }

    /// What may be refused is the last of its lane in a call, and what certainly fits is not held up.
    #[test]
    fn a_share_ends_with_what_may_be_refused() {
        let shares = shares();
        assert_eq!(shares.of(&lane(&[100, 100, 5_000, 100, 100]), NOW_MS), 3);
        assert_eq!(
            shares.of(&lane(&[1_990, 100]), NOW_MS),
            1,
            "with what the format adds it may be too large"
        );
        assert!(shares.of(&lane(&[100; 50]), NOW_MS) >= 50);
        let mut odd = lane(&[100, 100, 100]);
        odd.events[1].event.timestamp_ms = 0;
        assert_eq!(shares.of(&odd, NOW_MS), 2, "not every engine takes the first instant of 1970");
    }

    /// Symptom: events behind one that was too old for its topic were stored, and it came behind them when somebody had
    /// raised the limit. Cause: only its size was looked at before what is behind it was sent. Fix: so is its time.
    #[test]
    fn a_share_ends_with_what_may_be_too_old_or_too_new() {
        const HOUR_MS: i64 = 3_600_000;
        let shares = shares();
        let timestamps = Some(TimestampLimits { before_ms: HOUR_MS, after_ms: HOUR_MS });
        shares.known().insert(topic(), Known { record_bytes_max: MAX, timestamps, since: Instant::now() });
        let share = |second_off_ms: i64| {
            let mut lane = lane(&[100; 5]);
            for (pending, off_ms) in lane.events.iter_mut().zip([0, second_off_ms, 0, 0, 0]) {
                pending.event.timestamp_ms = NOW_MS + off_ms;
            }
            shares.of(&lane, NOW_MS)
        };
        assert!(share(0) >= 5);
        assert!(share(HOUR_MS) >= 5 && share(2 * LOOKED_AT_MS - HOUR_MS) >= 5);
        assert_eq!((share(-2 * HOUR_MS), share(2 * HOUR_MS)), (2, 2));
        assert_eq!(share(-HOUR_MS), 2, "it is too old in a moment");
    }

    /// Of a topic that nobody knows, or that has refused something, one event goes at a time.
    #[test]
    fn nothing_is_sure_of_a_topic_that_is_not_known() {
        let shares = shares();
        assert!(shares.unknown(&[lane(&[100, 100])]).is_empty());
        shares.forget(&topic());
        assert_eq!(shares.of(&lane(&[100, 100]), NOW_MS), 1);
        assert_eq!(shares.unknown(&[lane(&[100, 100]), lane(&[100, 100])]), [topic()]);
        assert!(shares.unknown(&[lane(&[100])]).is_empty(), "nothing is behind it");
    }
}
