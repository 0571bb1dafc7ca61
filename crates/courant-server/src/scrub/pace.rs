//! When the next piece of a scrub is due: a pass every so often, and at no time more than so many bytes in a
//! second. Has no clock: whoever asks says how long the server has been running.

use std::time::Duration;

/// Bytes of the largest piece.
const PIECE_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of the smallest one: what is compared is a block as a whole.
const PIECE_BYTES_MIN: u64 = 64 * 1024;
/// The longest time before the first pass, which is not put off until a server has run for as long as from
/// one pass to the next. A start has better things to do, though.
const FIRST_AFTER_MAX: Duration = Duration::from_secs(60);

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing, for so long.
    Wait(Duration),
    /// A pass begins.
    Begin,
    /// A piece of about so many bytes is compared.
    Compare { bytes_max: u64 },
}

/// The course of one pass after the other.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    bytes_per_second: u64,
    /// When the pass under way has begun.
    began: Option<Duration>,
    /// When there is something to do.
    due: Duration,
}

impl Pace {
    /// A pass begins each time that the interval has passed since the last one began, or when that has
    /// ended, whichever is later.
    pub(super) fn new(interval: Duration, bytes_per_second: u64) -> Self {
        let bytes_per_second = bytes_per_second.max(1);
        Self { interval, bytes_per_second, began: None, due: interval.min(FIRST_AFTER_MAX) }
    }

    pub(super) fn next(&self, now: Duration) -> Next {
        match self.due.checked_sub(now).filter(|left| !left.is_zero()) {
            Some(left) => Next::Wait(left),
            None if self.began.is_none() => Next::Begin,
            None => Next::Compare { bytes_max: self.piece_bytes() },
        }
    }

    /// A quarter of a second's bytes, within bounds: small enough not to be noticed, large enough for a
    /// disk that reads in sequence.
    fn piece_bytes(&self) -> u64 {
        (self.bytes_per_second / 4).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX)
    }

    /// A pass has begun.
    pub(super) fn begun(&mut self, now: Duration) {
        self.began = Some(now);
        self.due = now;
    }

    /// So many bytes were compared, beginning at that time. What a slow disk has cost is not made up for.
    pub(super) fn compared(&mut self, bytes: u64, since: Duration) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        self.due = since.saturating_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
    }

    /// The pass has come to its end.
    pub(super) fn ended(&mut self, now: Duration) {
        let began = self.began.take().unwrap_or(now);
        self.due = began.saturating_add(self.interval).max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    const MIB: u64 = 1024 * 1024;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// Makes whole passes over so many bytes, each piece of which takes the disk so long. Returns when each
    /// piece was begun and how large it was.
    fn pieces(pace: &mut Pace, stored: u64, disk: Duration, passes: u32) -> Vec<(Duration, u64)> {
        let (mut now, mut left, mut made) = (Duration::ZERO, stored, Vec::new());
        let mut passes_left = passes;
        while passes_left > 0 {
            match pace.next(now) {
                Next::Wait(time) => now += time,
                Next::Begin => {
                    left = stored;
                    pace.begun(now);
                }
                Next::Compare { .. } if left == 0 => {
                    pace.ended(now);
                    passes_left -= 1;
                }
                Next::Compare { bytes_max } => {
                    let bytes = bytes_max.min(left);
                    made.push((now, bytes));
                    left -= bytes;
                    let since = now;
                    now += disk;
                    pace.compared(bytes, since);
                }
            }
        }
        made
    }

    #[test]
    fn the_first_pass_waits_for_the_start_and_not_for_the_interval() {
        let pace = Pace::new(WEEK, 8 * MIB);
        assert_eq!(pace.next(Duration::ZERO), Next::Wait(seconds(60)));
        assert_eq!(pace.next(seconds(59)), Next::Wait(seconds(1)));
        assert_eq!(pace.next(seconds(60)), Next::Begin);
        assert_eq!(Pace::new(seconds(2), 8 * MIB).next(Duration::ZERO), Next::Wait(seconds(2)));
    }

    #[test]
    fn in_no_second_are_more_bytes_compared_than_allowed_and_one_piece() {
        for rate in [1, 64 * 1024, 300_000, 8 * MIB, 400 * MIB] {
            for disk in [Duration::ZERO, Duration::from_millis(3), Duration::from_millis(700)] {
                let mut pace = Pace::new(seconds(1), rate);
                let largest = pace.piece_bytes();
                let made = pieces(&mut pace, 40 * largest, disk, 3);
                for (index, (begin, _)) in made.iter().enumerate() {
                    let within = made[index..].iter().take_while(|(at, _)| *at < *begin + seconds(1));
                    let bytes: u64 = within.map(|(_, bytes)| bytes).sum();
                    assert!(bytes <= rate + largest, "{bytes} bytes of {rate} in the second from {begin:?}");
                }
            }
        }
    }

    #[test]
    fn a_fast_disk_is_read_as_fast_as_allowed() {
        let mut pace = Pace::new(WEEK, 8 * MIB);
        let made = pieces(&mut pace, 80 * MIB, Duration::from_millis(1), 1);
        let (first, last) = (made[0].0, made[made.len() - 1].0);
        assert_eq!(made.iter().map(|(_, bytes)| bytes).sum::<u64>(), 80 * MIB);
        assert_eq!(last - first, Duration::from_millis(9_875), "80 MiB but for the last piece");
    }

    #[test]
    fn passes_begin_at_the_interval_or_one_behind_the_other() {
        let begins = |stored: u64| -> Vec<Duration> {
            let mut pace = Pace::new(seconds(10), MIB);
            let made = pieces(&mut pace, stored, Duration::ZERO, 3);
            let each = made.len() / 3;
            made.iter().step_by(each).map(|(at, _)| *at).collect()
        };
        assert_eq!(begins(4 * MIB), [seconds(10), seconds(20), seconds(30)]);
        assert_eq!(begins(25 * MIB), [seconds(10), seconds(35), seconds(60)]);
    }

    #[test]
    fn nothing_stored_is_no_reason_to_hurry() {
        let mut pace = Pace::new(seconds(10), MIB);
        assert!(pieces(&mut pace, 0, Duration::ZERO, 2).is_empty());
        assert_eq!(pace.next(seconds(20)), Next::Wait(seconds(10)));
    }

    #[test]
    fn times_that_no_clock_reaches_are_only_far_away() {
        let mut pace = Pace::new(Duration::MAX, 1);
        pace.begun(seconds(60));
        pace.compared(u64::MAX, seconds(60));
        assert!(matches!(pace.next(seconds(61)), Next::Wait(_)));
        pace.ended(seconds(62));
        assert!(matches!(pace.next(seconds(63)), Next::Wait(_)));
    }
}
