//! When an event that failed is tried again. No clock here: it takes times and gives times.

use std::time::Duration;

/// How often and how soon an event that failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    attempts: u32,
    first: Duration,
    longest: Duration,
    jitter: bool,
}

/// Most attempts that a policy may ask for.
pub(crate) const ATTEMPTS_MAX: u32 = 1_000_000;

/// Longest time between two attempts.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

impl Retry {
    /// One attempt, and no other.
    pub fn never() -> Self {
        Self { attempts: 1, first: Duration::ZERO, longest: Duration::ZERO, jitter: false }
    }

    /// `first` after the first failure, then twice as long each time, never longer than `longest`,
    /// until an event has had 8 attempts.
    pub fn exponential(first: Duration, longest: Duration) -> Self {
        Self { attempts: 8, first, longest, jitter: true }
    }

    /// The same time after every failure, until an event has had 8 attempts.
    pub fn every(delay: Duration) -> Self {
        Self { attempts: 8, first: delay, longest: delay, jitter: false }
    }

    /// How many attempts an event has, the first one included.
    #[must_use]
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts, ..self }
    }

    /// Waits exactly as long as said; otherwise up to a quarter less, so that what failed together does
    /// not come back together.
    #[must_use]
    pub fn without_jitter(self) -> Self {
        Self { jitter: false, ..self }
    }

    /// How many attempts an event has.
    pub(crate) fn attempts_max(&self) -> u32 {
        self.attempts
    }

    /// The longest time between two attempts.
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// What is wrong with it, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.attempts == 0 || self.attempts > ATTEMPTS_MAX {
            return Some(format!("{} attempts: it has at least 1 and at most {ATTEMPTS_MAX}", self.attempts));
        }
        if self.first > self.longest {
            return Some(format!(
                "the first delay, {:?}, is longer than the longest, {:?}",
                self.first, self.longest
            ));
        }
        (self.longest > DELAY_MAX)
            .then(|| format!("the longest delay, {:?}, is more than {DELAY_MAX:?}", self.longest))
    }

    /// How long to wait after the failure of attempt `attempt`, counted from 1. `None` when there is no
    /// attempt left. `random` spreads the times.
    pub(crate) fn delay_after(&self, attempt: u32, random: u64) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(63);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let delay = self.first.saturating_mul(factor).min(self.longest);
        let quarter = u64::try_from(delay.as_millis() / 4).unwrap_or(u64::MAX);
        if !self.jitter || quarter == 0 {
            return Some(delay);
        }
        Some(delay.saturating_sub(Duration::from_millis(random % quarter)))
    }
}

impl Default for Retry {
    /// 200 ms, doubled up to 5 minutes, 8 attempts.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(200), Duration::from_secs(300))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn delays_double_up_to_the_longest_and_end() {
        let retry = Retry::exponential(ms(200), ms(1000)).without_jitter().attempts(6);
        let delays: Vec<_> = (1..=6).map(|attempt| retry.delay_after(attempt, 0)).collect();
        let expected = [Some(200), Some(400), Some(800), Some(1000), Some(1000), None];
        assert_eq!(delays, expected.map(|delay| delay.map(ms)));
    }

    #[test]
    fn a_delay_is_never_longer_than_said_and_at_most_a_quarter_shorter() {
        let retry = Retry::exponential(ms(200), ms(60_000)).attempts(ATTEMPTS_MAX);
        let exact = retry.without_jitter();
        for attempt in [1, 2, 9, 31, 32, 33, 64, 65, 1000] {
            for random in [0, 1, 49, 50, 12_345, u64::MAX] {
                let (with, without) = (
                    retry.delay_after(attempt, random).unwrap(),
                    exact.delay_after(attempt, random).unwrap(),
                );
                assert!(
                    with <= without && with >= without * 3 / 4,
                    "{attempt} {random}: {with:?} {without:?}"
                );
            }
        }
    }

    #[test]
    fn never_is_one_attempt() {
        assert_eq!(Retry::never().delay_after(1, 0), None);
        assert_eq!(Retry::never().problem(), None);
    }

    #[test]
    fn nonsense_is_named() {
        let cases = [
            (Retry::never().attempts(0), "0 attempts"),
            (Retry::every(ms(1)).attempts(ATTEMPTS_MAX + 1), "at most 1000000"),
            (Retry::exponential(ms(2), ms(1)), "longer than the longest"),
            (Retry::every(DELAY_MAX + ms(1)), "more than"),
        ];
        for (retry, said) in cases {
            assert!(retry.problem().is_some_and(|problem| problem.contains(said)), "{retry:?}");
        }
        assert_eq!(Retry::default().problem(), None);
    }
}
