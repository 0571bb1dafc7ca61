//! The wall clock, as far as it is believed.
//!
//! Retention deletes by it, and a clock that is set wrong by years must not delete anything. So a wall
//! clock that runs ahead of the time that has passed is not believed until the log is opened anew. One
//! that goes back makes nothing older, and is followed at once.
//!
//! Nobody knows how much time has passed while the log was stopped. A clock that says that this was very
//! long is as likely wrong, and is not believed by that start.

/// How far the wall clock may run ahead of the time that has passed, between two looks: it is set, and
/// leap seconds are smeared.
const AHEAD_MAX_MS: i64 = 5 * 60 * 1000;

/// How long a log may have been stopped before its start doubts the clock.
const STOPPED_MAX_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// What was believed at the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BelievedClock {
    /// The latest that it can have been then. A clock that goes back for a while does not change it.
    latest_ms: i64,
    elapsed_ms: u64,
    in_doubt: bool,
}

impl BelievedClock {
    /// Believes what the clocks say at a start, unless the log was last written very long before.
    pub(crate) fn new(wall_ms: i64, elapsed_ms: u64, written_ms: Option<i64>) -> Self {
        let latest_ms = match written_ms {
            Some(written_ms) if wall_ms.saturating_sub(written_ms) > STOPPED_MAX_MS => written_ms,
            _ => wall_ms,
        };
        Self { latest_ms, elapsed_ms, in_doubt: false }
    }

    /// The time by which something may be deleted, and by how many milliseconds the wall clock has
    /// jumped ahead of it, where that has just been noticed.
    pub(crate) fn now_ms(&mut self, wall_ms: i64, elapsed_ms: u64) -> (i64, Option<i64>) {
        let passed = i64::try_from(elapsed_ms.saturating_sub(self.elapsed_ms)).unwrap_or(i64::MAX);
        let latest = self.latest_ms.saturating_add(passed);
        let ahead = wall_ms.saturating_sub(latest);
        let was_in_doubt = self.in_doubt;
        let in_doubt = ahead > AHEAD_MAX_MS;
        let now_ms = if in_doubt { latest } else { wall_ms };
        *self = Self { latest_ms: latest.max(now_ms), elapsed_ms, in_doubt };
        (now_ms, (in_doubt && !was_in_doubt).then_some(ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_MS: i64 = 365 * 86_400_000;

    #[test]
    fn time_that_passes_is_believed_and_so_are_small_steps() {
        let mut clock = BelievedClock::new(1_000_000, 0, None);
        assert_eq!(clock.now_ms(1_060_000, 60_000), (1_060_000, None));
        assert_eq!(clock.now_ms(1_180_000 + AHEAD_MAX_MS, 180_000), (1_180_000 + AHEAD_MAX_MS, None));
    }

    #[test]
    fn a_jump_ahead_is_told_once_and_not_believed_until_it_is_taken_back() {
        let mut clock = BelievedClock::new(0, 0, None);
        assert_eq!(clock.now_ms(YEAR_MS, 1_000), (1_000, Some(YEAR_MS - 1_000)));
        assert_eq!(clock.now_ms(YEAR_MS + 59_000, 60_000), (60_000, None));
        assert_eq!(clock.now_ms(100_000, 100_000), (100_000, None));
        assert_eq!(clock.now_ms(YEAR_MS, 200_000), (200_000, Some(YEAR_MS - 200_000)));
    }

    #[test]
    fn a_start_long_after_the_last_group_is_told_once_and_not_believed() {
        let mut clock = BelievedClock::new(YEAR_MS, 0, Some(1_000));
        assert_eq!(clock.now_ms(YEAR_MS + 500, 500), (1_500, Some(YEAR_MS - 1_000)));
        assert_eq!(clock.now_ms(YEAR_MS + 900, 900), (1_900, None));
        assert_eq!(clock.now_ms(2_000, 1_000), (2_000, None), "set right");
        let mut clock = BelievedClock::new(STOPPED_MAX_MS, 0, Some(0));
        assert_eq!(clock.now_ms(STOPPED_MAX_MS + 10, 10), (STOPPED_MAX_MS + 10, None));
        let mut clock = BelievedClock::new(0, 0, Some(YEAR_MS));
        assert_eq!(clock.now_ms(10, 10), (10, None), "the clock was ahead when the last group was written");
    }

    #[test]
    fn a_jump_back_is_followed_and_so_is_coming_back_from_it() {
        let mut clock = BelievedClock::new(YEAR_MS, 0, None);
        assert_eq!(clock.now_ms(0, 1_000), (0, None));
        assert_eq!(clock.now_ms(YEAR_MS + 2_000, 2_000), (YEAR_MS + 2_000, None));
        assert!(clock.now_ms(2 * YEAR_MS, 3_000).1.is_some());
    }
}
