//! Whether those who were answered together come back together.
//!
//! Callers who await an answer before they append again are two parts as soon as some of them are late. What comes
//! during a sync is there when that is over, and those whom it has answered are not back yet: if the committer begins,
//! they come during the next sync, and find the same. Nothing brings the two parts together, whatever their sizes.
//! An event then waits for two syncs, and a sync is for half of the callers.
//!
//! So the committer waits for those whom it has just answered: no longer than the last group has taken, because that
//! is what can be saved, and hardly ever where it has not been worth it. A wait was worth it when nearly all have come
//! in time, and when hardly any has come during the sync behind it: there events come again because others were
//! answered. Where they come by themselves, as many come during a sync as ever.

use std::mem;
use std::time::{Duration, Instant};

use crate::limits::{RETURN_MAX_MICROS, RETURN_MIN_MICROS};

/// What `absent` is a part of.
const WHOLE: usize = 256;

/// Where more than one of so many has not come in time, the wait was for nothing.
const MISSED_PART: usize = 4;

/// Most of `absent`.
const ABSENT_MAX: usize = WHOLE / MISSED_PART;

/// So much more than it was is taken for absent when somebody was. It gets less by one with each wait for which all
/// others have come: so not every second wait is for somebody who stays away.
const ABSENT_STEP: usize = 4;

/// Above so many failures the pause does not grow. It is 63 groups then.
const FAILURES_MAX: u32 = 6;

/// A wait for those who were answered.
#[derive(Clone, Copy, Debug)]
struct Wait {
    answered: usize,
    /// How many of them have to come.
    expected: usize,
}

/// What is known of callers who await their answers.
#[derive(Debug, Default)]
pub(super) struct Returns {
    /// Callers in the group that was taken last.
    taken: usize,
    /// When that was, if there are any.
    taken_at: Option<Instant>,
    /// Callers that were answered last, and for whom no wait has begun.
    answered: usize,
    /// Callers who have come since the last answers.
    came: usize,
    /// How long they may be waited for. Nothing where a group is too cheap to save one.
    pub(super) patience: Duration,
    /// The wait of the committer, while there is one.
    wait: Option<Wait>,
    /// A wait has ended with those for whom it was, and the group behind it is to show what it was worth.
    is_tried: bool,
    /// How many of those who are answered do not come back soon, in parts of [`WHOLE`].
    absent: usize,
    /// Waits for nothing, less those that were worth it.
    failures: u32,
    /// Groups for which nobody is waited for.
    pause: u32,
}

impl Returns {
    /// Notes a group that is taken, with so many callers.
    pub(super) fn take(&mut self, callers: usize) {
        self.wait = None;
        self.taken = callers;
        self.taken_at = (callers > 0).then(Instant::now);
    }

    /// Notes that the group is about to be answered, while so many callers wait already.
    pub(super) fn answer(&mut self, waiting: usize) {
        self.answered = self.taken;
        self.came = 0;
        let is_tried = mem::take(&mut self.is_tried);
        let Some(taken_at) = self.taken_at else { return };
        if is_tried && is_missed(waiting, self.taken) {
            self.fail();
        } else if is_tried {
            self.failures = self.failures.saturating_sub(1);
        }
        let took = taken_at.elapsed();
        let is_worth_it = took >= Duration::from_micros(RETURN_MIN_MICROS);
        let most = Duration::from_micros(RETURN_MAX_MICROS);
        self.patience = if is_worth_it { took.min(most) } else { Duration::ZERO };
    }

    /// Begins a wait for those who were answered last, if it may be worth it, and tells how long it may be.
    /// `is_empty`: nobody is kept waiting by it.
    pub(super) fn begin(&mut self, is_empty: bool) -> Option<Duration> {
        let answered = mem::take(&mut self.answered);
        if answered == 0 || self.patience.is_zero() {
            return None;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        let expected = answered - answered * self.absent / WHOLE;
        // Where one is expected and nobody waits, whoever comes first wakes the committer anyway.
        if self.came >= expected || (is_empty && expected == 1) {
            return None;
        }
        self.wait = Some(Wait { answered, expected });
        Some(self.patience)
    }

    /// Notes a caller who has come.
    pub(super) fn come(&mut self) {
        self.came += 1;
    }

    /// Whether the committer waits, and not all have come.
    pub(super) fn is_awaited(&self) -> bool {
        self.wait.is_some_and(|wait| self.came < wait.expected)
    }

    /// Ends a wait in favour of somebody for whom it is not, and tells whether there was one.
    pub(super) fn end(&mut self) -> bool {
        self.wait.take().is_some()
    }

    /// Ends the wait because all have come or its time is over, unless somebody else has ended it. `is_over`: more
    /// time has passed than it was to take.
    pub(super) fn settle(&mut self, is_over: bool) {
        let Some(Wait { answered, expected }) = self.wait.take() else { return };
        let missing = answered.saturating_sub(self.came);
        let are_here = self.came >= expected;
        // Where all have come too late, two groups had taken less.
        let is_failure =
            if are_here { is_over } else { is_missed(missing, answered) || self.absent == ABSENT_MAX };
        if is_failure {
            self.fail();
            return;
        }
        self.absent = if are_here {
            self.absent.saturating_sub(1)
        } else {
            let absent = (self.absent + missing * WHOLE / answered).div_ceil(2) + ABSENT_STEP;
            absent.min(ABSENT_MAX)
        };
        self.is_tried = true;
    }

    /// Pauses for longer, the more often that has happened.
    fn fail(&mut self) {
        self.failures = (self.failures + 2).min(FAILURES_MAX);
        self.pause = (1 << self.failures) - 1;
    }
}

/// Whether so many are too many to have missed a group of so many.
fn is_missed(missing: usize, all: usize) -> bool {
    missing * MISSED_PART > all
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: Duration = Duration::from_micros(200);

    /// Answers a group of so many callers that has taken [`GROUP`], and during which so many others have come.
    fn answer(returns: &mut Returns, callers: usize, waiting: usize) {
        returns.take(callers);
        returns.taken_at = Instant::now().checked_sub(GROUP);
        returns.answer(waiting);
    }

    /// Has so many callers come, unless the wait ends before; it is over then if they are not enough.
    fn come(returns: &mut Returns, callers: usize) {
        let mut left = callers;
        while returns.is_awaited() && left > 0 {
            returns.come();
            left -= 1;
        }
        returns.settle(returns.is_awaited());
    }

    /// How many of so many groups are waited for, where of each so many callers come in time, and so many during the
    /// sync behind a wait; and for how many of them it is too long.
    fn waits(returns: &mut Returns, groups: usize, callers: usize, back: usize, behind: usize) -> [usize; 2] {
        let mut counts = [0, 0];
        for _ in 0..groups {
            answer(returns, callers, behind);
            if returns.begin(false).is_some() {
                let expected = returns.wait.expect("there is one").expected;
                come(returns, back);
                counts[0] += 1;
                counts[1] += usize::from(expected > back);
            }
        }
        counts
    }

    #[test]
    fn those_who_were_answered_are_waited_for_until_all_are_back() {
        let mut returns = Returns::default();
        answer(&mut returns, 3, 0);
        let patience = returns.begin(false).expect("it is worth it");
        assert!((GROUP..=Duration::from_micros(RETURN_MAX_MICROS)).contains(&patience), "{patience:?}");
        for _ in 0..3 {
            assert!(returns.is_awaited());
            returns.come();
        }
        assert!(!returns.is_awaited());
        returns.settle(false);
        assert_eq!(returns.begin(false), None, "once for each group");
        answer(&mut returns, 3, 0);
        for _ in 0..3 {
            returns.come();
        }
        assert_eq!(returns.begin(false), None, "they are here");
    }

    #[test]
    fn nobody_waits_for_what_costs_nothing_and_for_whom_nothing_was_answered() {
        let mut returns = Returns::default();
        returns.take(3);
        // It will have taken less than nothing.
        returns.taken_at = Some(Instant::now() + Duration::from_secs(3600));
        returns.answer(0);
        assert_eq!(returns.begin(false), None, "such a group is not worth a wait");
        answer(&mut returns, 0, 0);
        assert_eq!(returns.begin(false), None);
        answer(&mut returns, 1, 0);
        assert_eq!(returns.begin(true), None, "the only one wakes the committer as ever");
        answer(&mut returns, 1, 5);
        assert!(returns.begin(false).is_some());
        assert!(returns.end() && !returns.end(), "once");
        answer(&mut returns, 1, 0);
        assert_eq!(returns.failures, 0, "nothing is known of a wait that somebody else has ended");
    }

    #[test]
    fn who_does_not_come_back_or_comes_too_late_is_hardly_ever_waited_for() {
        const GROUPS: usize = 1000;
        let few = GROUPS / 64 + 5;
        assert!(waits(&mut Returns::default(), GROUPS, 20, 5, 0)[0] <= few);
        let mut returns = Returns::default();
        let mut late = 0;
        for _ in 0..GROUPS {
            answer(&mut returns, 20, 0);
            if returns.begin(false).is_some() {
                (0..20).for_each(|_| returns.come());
                returns.settle(true);
                late += 1;
            }
        }
        assert!(late <= few, "{late}");
    }

    /// Events that nobody waits for to send the next: enough of them come during a wait, and no fewer during the sync.
    #[test]
    fn events_that_come_by_themselves_are_hardly_ever_waited_for() {
        assert!(waits(&mut Returns::default(), 1000, 26, 26, 13)[0] <= 1000 / 64 + 5);
        assert_eq!(waits(&mut Returns::default(), 1000, 26, 26, 6)[0], 1000, "a few of them do no harm");
    }

    /// Some of the tasks do something else for a while.
    #[test]
    fn most_are_waited_for_although_a_few_stay_away() {
        let [waits, late] = waits(&mut Returns::default(), 1000, 64, 60, 4);
        assert_eq!(waits, 1000);
        assert!(late <= 1000 / 4, "{late}");
    }

    #[test]
    fn who_comes_back_again_is_waited_for_again() {
        let mut returns = Returns::default();
        waits(&mut returns, 1000, 20, 0, 0);
        waits(&mut returns, 64, 20, 20, 0);
        assert_eq!(waits(&mut returns, 100, 20, 20, 0), [100, 0]);
    }
}
