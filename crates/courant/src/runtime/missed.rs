//! How many events of a partition were never handled because they had gone. No clock and no I/O.
//!
//! Progress is kept by the last event that is settled, and whoever goes on from there comes to what has gone behind it
//! once more, and counts it then. So with progress only that is kept which has gone before its event.

/// Offsets that were passed because their events had gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missed {
    /// How many lie before the event that progress is kept by.
    before: u64,
    /// Those behind it. Between two of them an event was read: there are no more of them than events under way, and one.
    behind: Vec<Passed>,
}

/// What has gone at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Passed {
    count: u64,
    /// Where the partition goes on behind it.
    next: u64,
}

impl Missed {
    /// So many are kept with the progress that a partition begins with.
    pub(crate) fn kept(before: u64) -> Self {
        Self { before, behind: Vec::new() }
    }

    /// What was to be read at `from` has gone, and the partition goes on at `next`. The last settled event is at `last`.
    pub(crate) fn pass(&mut self, last: Option<u64>, from: u64, next: u64) {
        self.before = self.kept_with(last);
        self.behind.retain(|passed| !passed.is_before(last));
        let count = next.saturating_sub(from);
        match self.behind.last_mut() {
            Some(passed) if passed.next == from => {
                *passed = Passed { count: passed.count.saturating_add(count), next };
            }
            _ if count > 0 => self.behind.push(Passed { count, next }),
            _ => {}
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> u64 {
        self.behind.iter().fold(self.before, |sum, passed| sum.saturating_add(passed.count))
    }

    /// How many are kept with progress whose event is at `last`.
    pub(crate) fn kept_with(&self, last: Option<u64>) -> u64 {
        let before = self.behind.iter().filter(|passed| passed.is_before(last));
        before.fold(self.before, |sum, passed| sum.saturating_add(passed.count))
    }
}

impl Passed {
    fn is_before(self, last: Option<u64>) -> bool {
        last.is_some_and(|last| last >= self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_again_is_not_kept() {
        let mut missed = Missed::kept(3);
        missed.pass(Some(9), 10, 15);
        missed.pass(Some(9), 15, 17);
        assert_eq!((missed.all(), missed.kept_with(Some(9))), (10, 3));
        assert_eq!(missed.kept_with(None), 3);
        // Two events were read in between, of which the first one is settled.
        missed.pass(Some(17), 19, 20);
        assert_eq!((missed.all(), missed.kept_with(Some(17)), missed.kept_with(Some(18))), (11, 10, 10));
        assert_eq!(missed.kept_with(Some(20)), 11);
        assert_eq!(missed.behind.len(), 1, "what is kept needs no place of its own");
    }

    #[test]
    fn what_has_not_gone_is_not_counted() {
        let mut missed = Missed::default();
        missed.pass(None, 5, 5);
        missed.pass(None, 5, 4);
        assert_eq!(missed, Missed::default());
        missed.pass(None, 0, u64::MAX);
        missed.pass(None, 0, u64::MAX);
        assert_eq!(missed.all(), u64::MAX);
    }
}
