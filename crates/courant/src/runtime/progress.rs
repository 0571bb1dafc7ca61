//! How far one partition has come: events finish in any order, progress moves over none that has not.
//!
//! ```text
//!   offset   5     6     7     8     9
//!           done  done  busy  done  busy
//!                      ▲
//!                      progress: 7 is the next to begin with after a crash
//! ```
//!
//! No clock and no I/O: the shell saves what [`Progress::low_water`] says.

use std::collections::VecDeque;

/// How far a partition has come.
#[derive(Debug)]
pub(crate) struct Progress<I> {
    low_water: LowWater<I>,
    /// In the order of their offsets.
    under_way: VecDeque<UnderWay<I>>,
}

/// What is saved: everything before `next` is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LowWater<I> {
    /// Where to begin after a crash.
    pub(crate) next: u64,
    /// The last settled event before it, and where it is; `None` until there is one.
    pub(crate) last: Option<(u64, I)>,
}

#[derive(Debug)]
struct UnderWay<I> {
    offset: u64,
    /// Where the partition goes on behind it. More than one further when offsets are missing.
    next: u64,
    /// Its id, once it is settled.
    settled: Option<I>,
}

impl<I: Clone> Progress<I> {
    /// A partition that has come so far.
    pub(crate) fn new(low_water: LowWater<I>) -> Self {
        Self { low_water, under_way: VecDeque::new() }
    }

    /// Where everything is settled before.
    pub(crate) fn low_water(&self) -> &LowWater<I> {
        &self.low_water
    }

    /// How many events are under way, the settled ones behind an unsettled one included.
    #[cfg(test)]
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// An event has been read, behind all before it. `next` is where the partition goes on behind it.
    /// Says no, and changes nothing, when it lies before what was read already.
    pub(crate) fn begin(&mut self, offset: u64, next: u64) -> bool {
        let expected = self.under_way.back().map_or(self.low_water.next, |last| last.next);
        if offset < expected || next <= offset {
            return false;
        }
        self.under_way.push_back(UnderWay { offset, next, settled: None });
        true
    }

    /// The partition has no events before `next` that are not begun: damage or compaction took them.
    pub(crate) fn pass_to(&mut self, next: u64) {
        match self.under_way.back_mut() {
            Some(last) => last.next = last.next.max(next),
            None => self.low_water.next = self.low_water.next.max(next),
        }
    }

    /// An event is settled: handled, parked, a dead letter, or skipped. Says whether progress moved.
    pub(crate) fn settle(&mut self, offset: u64, id: I) -> bool {
        if let Ok(index) = self.under_way.binary_search_by_key(&offset, |event| event.offset)
            && let Some(event) = self.under_way.get_mut(index)
        {
            event.settled = Some(id);
        }
        let before = self.low_water.next;
        while let Some(event) = self.under_way.pop_front() {
            match event.settled {
                Some(id) => self.low_water = LowWater { next: event.next, last: Some((event.offset, id)) },
                None => {
                    self.under_way.push_front(event);
                    break;
                }
            }
        }
        self.low_water.next != before
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn from(next: u64) -> Progress<u64> {
        Progress::new(LowWater { next, last: None })
    }

    #[test]
    fn progress_waits_for_the_slowest() {
        let mut progress = from(5);
        for offset in 5..10 {
            assert!(progress.begin(offset, offset + 1));
        }
        assert!(!progress.settle(6, 6));
        assert!(!progress.settle(8, 8));
        assert_eq!(progress.low_water(), &LowWater { next: 5, last: None });
        assert!(progress.settle(5, 5));
        assert_eq!(progress.low_water(), &LowWater { next: 7, last: Some((6, 6)) });
        assert!(progress.settle(7, 7));
        assert_eq!(progress.low_water(), &LowWater { next: 9, last: Some((8, 8)) });
        assert_eq!(progress.under_way(), 1);
    }

    #[test]
    fn missing_offsets_are_passed_with_the_event_before_them() {
        let mut progress = from(0);
        assert!(progress.begin(3, 7));
        assert!(progress.settle(3, 3));
        assert_eq!(progress.low_water(), &LowWater { next: 7, last: Some((3, 3)) });
        progress.pass_to(9);
        assert_eq!(progress.low_water().next, 9);
        assert!(progress.begin(9, 10));
        progress.pass_to(12);
        assert_eq!(progress.low_water().next, 9, "not before 9 is settled");
        assert!(progress.settle(9, 9));
        assert_eq!(progress.low_water().next, 12);
    }

    #[test]
    fn what_was_read_already_is_not_begun_again() {
        let mut progress = from(4);
        assert!(!progress.begin(3, 4));
        assert!(progress.begin(4, 5));
        assert!(!progress.begin(4, 5));
        assert!(!progress.begin(5, 5));
        assert_eq!(progress.under_way(), 1);
    }

    proptest! {
        /// Whatever the order in which events finish: progress is the first offset that is not settled.
        #[test]
        fn progress_is_the_first_unsettled_offset(
            order in Just((0_u64..40).collect::<Vec<_>>()).prop_shuffle(),
            step in 1_u64..4,
        ) {
            let mut progress = from(0);
            for offset in 0..40 {
                prop_assert!(progress.begin(offset * step, (offset + 1) * step));
            }
            let mut settled = BTreeSet::new();
            for offset in order {
                settled.insert(offset);
                progress.settle(offset * step, offset);
                let first_open = (0..=40).find(|offset| !settled.contains(offset)).unwrap();
                prop_assert_eq!(progress.low_water().next, first_open * step);
                prop_assert_eq!(progress.low_water().last.as_ref().map(|(_, id)| *id), first_open.checked_sub(1));
            }
            prop_assert_eq!(progress.under_way(), 0);
        }
    }
}
