//! One pass of a reader over a partition: which offsets it saw, and which it did not.

use std::collections::BTreeMap;
use std::ops::Range;

/// What a reader has read since it began or was moved.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    last: Option<u64>,
    /// Runs of offsets that follow each other: the first one to the last one, inclusive. They never
    /// overlap.
    runs: BTreeMap<u64, u64>,
}

impl Pass {
    /// The reader saw an offset. Hands back the one that it saw just before, when the new one is not
    /// behind it.
    pub(crate) fn read(&mut self, offset: u64) -> Option<u64> {
        let before = self.last.replace(offset);
        let run_end = self.runs.range_mut(..=offset).next_back().map(|(_, last)| last);
        match run_end {
            Some(last) if offset <= *last => {}
            Some(last) if offset == *last + 1 => *last = offset,
            _ => {
                self.runs.insert(offset, offset);
            }
        }
        before.filter(|before| offset <= *before)
    }

    /// The ranges of `range` in which the reader saw nothing, ascending.
    pub(crate) fn holes(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut holes = Vec::new();
        if range.is_empty() {
            return holes;
        }
        let mut at = range.start;
        if let Some((_, last)) = self.runs.range(..=at).next_back() {
            at = at.max(last.saturating_add(1));
        }
        for (first, last) in self.runs.range(range.start..range.end) {
            if *first > at {
                holes.push(at..*first);
            }
            at = at.max(last.saturating_add(1));
        }
        if at < range.end {
            holes.push(at..range.end);
        }
        holes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(offsets: &[u64]) -> Pass {
        let mut pass = Pass::default();
        for offset in offsets {
            pass.read(*offset);
        }
        pass
    }

    fn holes(pass: &Pass, start: u64, end: u64) -> Vec<(u64, u64)> {
        pass.holes(start..end).into_iter().map(|hole| (hole.start, hole.end)).collect()
    }

    #[test]
    fn what_was_not_read_is_a_hole() {
        let pass = pass(&[2, 3, 4, 7, 9, 10, u64::MAX]);
        assert_eq!(holes(&pass, 0, 12), [(0, 2), (5, 7), (8, 9), (11, 12)]);
        assert_eq!(holes(&pass, 3, 8), [(5, 7)]);
        assert_eq!(holes(&pass, 5, 7), [(5, 7)]);
        assert_eq!(holes(&pass, 2, 5), []);
        assert_eq!(holes(&pass, 11, u64::MAX), [(11, u64::MAX)]);
        assert_eq!(holes(&Pass::default(), 0, 3), [(0, 3)]);
    }

    #[test]
    fn a_range_without_offsets_has_no_holes() {
        assert_eq!(holes(&pass(&[2]), 6, 6), []);
        assert_eq!(holes(&pass(&[2]), 6, 1), []);
    }

    #[test]
    fn the_order_of_reading_makes_no_other_holes() {
        let pass = pass(&[9, 3, 4, 2, 3, 8, 0]);
        assert_eq!(holes(&pass, 0, 12), [(1, 2), (5, 8), (10, 12)]);
    }

    #[test]
    fn an_offset_that_is_not_behind_the_one_before_is_noticed() {
        let mut pass = Pass::default();
        let noticed: Vec<_> = [3, 4, 4, 2, 3, 9].into_iter().map(|offset| pass.read(offset)).collect();
        assert_eq!(noticed, [None, None, Some(4), Some(4), None, None]);
    }
}
