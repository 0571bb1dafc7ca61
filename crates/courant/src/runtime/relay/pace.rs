//! How often a relay looks at the outbox while there is something in it.

use std::time::Duration;

use courant_sql::LaneBatch;
use tokio::time::Instant;

use super::EVENTS_PER_LANE;

/// After a few events nobody looks for more before this has passed: each look is a query of all lanes, and each
/// batch costs a commit.
const PACE: Duration = Duration::from_millis(20);

/// While the service is at work nobody looks before so many times as long as these took either. More come in any case,
/// and where the machine has much to do the relay takes no more than a third of the time, and finds more at once.
const TIMES: u32 = 2;

/// But not longer than this.
const PACE_MAX: Duration = Duration::from_millis(100);

/// A few events that were published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Few {
    since: Instant,
    pace: Duration,
}

impl Few {
    /// What was published now, if that were few events, and how long they took if the service is at work.
    pub(super) fn of(lanes: &[LaneBatch], took: Option<Duration>) -> Option<Self> {
        are_few(lanes).then(|| Self { since: Instant::now(), pace: pace(took) })
    }

    /// How long nobody looks for more yet.
    pub(super) fn early(self) -> Duration {
        self.pace.saturating_sub(self.since.elapsed())
    }
}

fn pace(took: Option<Duration>) -> Duration {
    took.map_or(PACE, |took| took.saturating_mul(TIMES).clamp(PACE, PACE_MAX))
}

/// After so many events, or bytes, there are perhaps more already.
const ENOUGH: usize = 500;
const BYTES_ENOUGH: usize = 1024 * 1024;

/// Whether it is likely that nothing waits behind these.
fn are_few(lanes: &[LaneBatch]) -> bool {
    let all = lanes.iter().flat_map(|lane| &lane.events);
    let (events, bytes) = all.fold((0, 0), |(events, bytes), one| (events + 1, bytes + one.event.bytes()));
    events < ENOUGH
        && bytes < BYTES_ENOUGH
        && lanes.iter().all(|lane| lane.events.len() < EVENTS_PER_LANE as usize)
}

/// After so many events at once more will come: nobody has to wake the relay for them. In Postgres, commits that
/// wake somebody go one after the other.
const MANY: usize = 16;

/// Whether these say that others are at work.
pub(super) fn are_many(lanes: &[LaneBatch]) -> bool {
    lanes.iter().map(|lane| lane.events.len()).sum::<usize>() >= MANY
}

/// So many commits of the service while one batch is on its way are the first ones of more: nobody has to wake the
/// relay for these either. It would be some batches until it finds many at once, because those who have to wake it go
/// one after the other.
const MEANWHILE: u64 = 2;

/// Whether so many commits meanwhile say that the service is at work.
pub(super) fn is_at_work(commits: u64) -> bool {
    commits >= MEANWHILE
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use courant_core::event_id::EventId;
    use courant_core::topic::TopicName;
    use courant_sql::{LanePosition, NewEvent, Pending};

    use super::*;

    fn lane(lane: u16, events: u64) -> LaneBatch {
        let pending = |position| Pending {
            at: LanePosition { lane, position },
            event: NewEvent {
                id: EventId::new("e").expect("legal"),
                topic: TopicName::new("orders").expect("legal"),
                key: None,
                value: None,
                headers: Vec::new(),
                timestamp_ms: 7,
            },
        };
        LaneBatch { lane, events: (1..=events).map(pending).collect() }
    }

    /// A handful of events is no sign of more.
    #[test]
    fn sixteen_events_are_many() {
        assert!(!are_many(&[lane(1, 8), lane(2, 7)]));
        assert!(are_many(&[lane(1, 8), lane(2, 8)]));
    }

    /// One event behind another one is no sign of more.
    #[test]
    fn two_commits_meanwhile_are_a_service_at_work() {
        assert!(!is_at_work(0) && !is_at_work(1));
        assert!(is_at_work(2));
    }

    /// A relay that is quick looks every 20 ms, and so does one whose service has nothing more for now. One that is
    /// slow looks seldom while there will be more, and keeps no event for longer than a tenth of a second.
    #[test]
    fn while_a_service_is_at_work_a_slow_relay_looks_seldom() {
        let paces = [0, 10, 11, 40, 51, 10_000].map(|ms| pace(Some(Duration::from_millis(ms))).as_millis());
        assert_eq!(paces, [20, 20, 22, 80, 100, 100]);
        assert_eq!(pace(None), PACE);
        assert!(Few::of(&[lane(1, 100)], None).is_none());
    }

    /// A relay that has much to work off does not wait between two batches.
    #[test]
    fn only_after_a_few_events_there_is_time() {
        assert!(are_few(&[lane(1, 1)]));
        assert!(are_few(&[lane(1, 99), lane(2, 99)]));
        assert!(!are_few(&[lane(1, 1), lane(2, 100)]), "there may be more in the second lane");
        let many: Vec<_> = (0..10).map(|number| lane(number, 50)).collect();
        assert!(!are_few(&many));
        let mut large = lane(1, 1);
        large.events[0].event.value = Some(Bytes::from(vec![0; BYTES_ENOUGH]));
        assert!(!are_few(&[large]));
    }
}
