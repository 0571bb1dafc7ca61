//! How much of the consumer is parked in the store, and whether more may be.
//!
//! ```text
//!   open ──as much as may be, as far as the loop knows──▶ doubtful ──counted: so it is──▶ full
//!     ▲                                                      │                              │
//!     └──────────────── counted: less ───────────────────────┴── counted: a tenth less ─────┘
//! ```
//!
//! Nothing is read but while it is open. The loop knows what it has parked itself; other instances park as well,
//! and people take away, so it is counted in the store now and then. That takes long where much is parked: so it
//! is counted seldom while there is much room, and by itself for a twentieth of the time at most.

use std::time::Duration;

use tokio::time::Instant;

/// A count is due when so much of the room that there was is used up.
const COUNTED_PER_ROOM: u64 = 16;

/// How many times as long as a count has taken nobody counts again.
const BUSY_PARTS: u32 = 20;

/// What is known of the room in the store.
#[derive(Debug)]
pub(super) struct Room {
    /// Events of the consumer that may be parked.
    most: u64,
    /// How many were parked when they were counted last. `None`: they never were.
    counted: Option<u64>,
    /// How many the loop has parked since that count began, and how many of the parked ones it has settled.
    parked: u64,
    settled: u64,
    door: Door,
    /// It is to be counted at once, whatever the time is.
    must_count: bool,
    /// Otherwise not before.
    not_before: Option<Instant>,
}

/// Whether anything is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    Doubtful,
    Full,
}

impl Room {
    pub(super) fn new(most: u64) -> Self {
        Self {
            most,
            counted: None,
            parked: 0,
            settled: 0,
            door: Door::Open,
            must_count: false,
            not_before: None,
        }
    }

    /// Events that may be parked.
    pub(super) fn most(&self) -> u64 {
        self.most
    }

    /// Nobody has counted yet.
    pub(super) fn is_unknown(&self) -> bool {
        self.counted.is_none()
    }

    /// Nothing is to be read.
    pub(super) fn is_closed(&self) -> bool {
        self.door != Door::Open
    }

    /// It was counted, and no more may be parked.
    pub(super) fn is_full(&self) -> bool {
        self.door == Door::Full
    }

    /// It is to be counted at once.
    pub(super) fn must_count(&self) -> bool {
        self.must_count
    }

    /// An event was parked.
    pub(super) fn park(&mut self) {
        self.parked = self.parked.saturating_add(1);
        if self.door == Door::Open && self.known() >= self.most {
            self.door = Door::Doubtful;
            self.must_count = true;
        }
    }

    /// A parked event is done with.
    pub(super) fn settle(&mut self) {
        self.settled = self.settled.saturating_add(1);
        self.must_count |= self.may_open();
    }

    /// Somebody may have taken parked events away.
    pub(super) fn doubt(&mut self) {
        self.must_count |= self.is_closed();
    }

    /// Whether it is to be counted now. The count begins then.
    pub(super) fn begin_count(&mut self, now: Instant) -> bool {
        let left = self.most.saturating_sub(self.counted.unwrap_or_default());
        let is_used_up = self.parked > left / COUNTED_PER_ROOM;
        let is_time = self.not_before.is_none_or(|not_before| not_before <= now);
        let counts = self.must_count || (is_time && (self.is_closed() || is_used_up));
        if counts {
            (self.parked, self.settled, self.must_count) = (0, 0, false);
        }
        counts
    }

    /// So many were counted, which took so long.
    pub(super) fn counted(&mut self, parked: u64, took: Duration, now: Instant) {
        self.counted = Some(parked);
        self.not_before = now.checked_add(took.saturating_mul(BUSY_PARTS));
        let is_full = match self.door {
            Door::Full => parked > self.opens_at(),
            Door::Open | Door::Doubtful => parked >= self.most,
        };
        self.door = if is_full {
            Door::Full
        } else if self.known() >= self.most {
            // What was parked during the count may be in it, or not.
            self.must_count = true;
            Door::Doubtful
        } else {
            Door::Open
        };
        // What was settled during the count may be in it, or not.
        self.must_count |= self.may_open();
    }

    /// It may be open again, as far as the loop knows.
    fn may_open(&self) -> bool {
        let counted = self.counted.unwrap_or_default();
        self.is_full() && counted.saturating_sub(self.settled) <= self.opens_at()
    }

    /// How many are parked, as far as the loop knows.
    fn known(&self) -> u64 {
        self.counted.unwrap_or_default().saturating_add(self.parked).saturating_sub(self.settled)
    }

    /// With so many parked it is open again. Not with one less: each event would be read by itself.
    fn opens_at(&self) -> u64 {
        self.most.saturating_sub(self.most.div_ceil(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_TIME: Duration = Duration::ZERO;

    fn counted(most: u64, parked: u64, now: Instant) -> Room {
        let mut room = Room::new(most);
        room.counted(parked, NO_TIME, now);
        room
    }

    #[test]
    fn as_much_as_may_be_is_counted_before_it_is_said() {
        let now = Instant::now();
        let mut room = counted(3, 1, now);
        assert!(!room.is_closed() && !room.begin_count(now), "nothing was parked since");
        room.park();
        assert!(!room.is_closed());
        room.park();
        assert!(room.is_closed() && !room.is_full() && room.must_count());
        assert!(room.begin_count(now));
        room.counted(3, NO_TIME, now);
        assert!(room.is_full() && !room.must_count());
        // The count may also say that somebody has taken some away.
        let mut room = counted(3, 2, now);
        room.park();
        assert!(room.begin_count(now));
        room.counted(2, NO_TIME, now);
        assert!(!room.is_closed());
    }

    #[test]
    fn what_is_full_opens_when_a_tenth_is_gone() {
        let now = Instant::now();
        let mut room = counted(100, 100, now);
        assert!(room.is_full(), "it is so from the first count on");
        for _ in 0..9 {
            room.settle();
        }
        assert!(!room.must_count());
        room.settle();
        assert!(room.must_count() && room.begin_count(now));
        room.counted(91, NO_TIME, now);
        assert!(room.is_full(), "others have parked one");
        room.settle();
        assert!(room.begin_count(now));
        room.counted(90, NO_TIME, now);
        assert!(!room.is_closed());
        let mut one = counted(1, 1, now);
        one.settle();
        assert!(one.begin_count(now));
        one.counted(0, NO_TIME, now);
        assert!(!one.is_closed());
    }

    #[test]
    fn what_is_parked_during_a_count_is_not_forgotten() {
        let now = Instant::now();
        let mut room = counted(10, 0, now);
        room.park();
        assert!(room.begin_count(now), "a sixteenth of 10 is less than one");
        for _ in 0..5 {
            room.park();
        }
        room.counted(6, NO_TIME, now);
        assert!(room.is_closed() && !room.is_full() && room.must_count());
        assert!(room.begin_count(now));
        room.counted(6, NO_TIME, now);
        assert!(!room.is_closed(), "they were in it");
    }

    #[test]
    fn what_is_settled_during_a_count_is_not_forgotten() {
        let now = Instant::now();
        let mut room = counted(3, 3, now);
        room.doubt();
        assert!(room.begin_count(now));
        room.settle();
        room.counted(3, NO_TIME, now);
        assert!(room.is_full() && room.must_count());
        assert!(room.begin_count(now));
        room.counted(2, NO_TIME, now);
        assert!(!room.is_closed() && !room.must_count());
    }

    #[test]
    fn it_is_counted_seldom_where_there_is_much_room_or_it_takes_long() {
        let now = Instant::now();
        let mut room = counted(1_600, 0, now);
        for _ in 0..100 {
            room.park();
        }
        assert!(!room.begin_count(now));
        room.park();
        assert!(room.begin_count(now));
        room.counted(1_600, Duration::from_secs(1), now);
        assert!(room.is_full() && !room.begin_count(now + Duration::from_secs(19)));
        assert!(room.begin_count(now + Duration::from_secs(20)), "somebody may have taken some away");
        room.counted(1_600, Duration::from_secs(1), now);
        room.doubt();
        assert!(room.begin_count(now), "and somebody says so");
    }
}
