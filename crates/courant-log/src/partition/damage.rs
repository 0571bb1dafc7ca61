//! What of a partition cannot be relied on, and what somebody has accepted as lost.
//!
//! Damage is found at a start or while reading. It is kept in memory only: whatever looks at the same
//! bytes again finds it again. A gap is in the log's own record.

use std::ops::Range;

/// Places that one partition remembers; further damage is added to the last one.
const PLACES_MAX: usize = 1024;

/// Damaged bytes of one file, and the events that had bytes among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quarantined {
    pub(crate) path: String,
    /// None for the file as a whole.
    pub(crate) bytes: Option<Range<u64>>,
    pub(crate) offsets: Range<u64>,
    pub(crate) what: String,
}

/// Damage and gaps of one partition. Gaps are in order and do not touch each other.
#[derive(Debug, Default)]
pub(super) struct Damages {
    quarantined: Vec<Quarantined>,
    gaps: Vec<Range<u64>>,
}

impl Damages {
    pub(super) fn with_gaps(gaps: Vec<Range<u64>>) -> Self {
        Self { quarantined: Vec::new(), gaps }
    }

    /// Notes damage. False when it is known already.
    pub(super) fn quarantine(&mut self, found: Quarantined) -> bool {
        let is_known = |known: &Quarantined| {
            known.offsets.start <= found.offsets.start && found.offsets.end <= known.offsets.end
        };
        if self.quarantined.iter().any(is_known) {
            return false;
        }
        let is_full = self.quarantined.len() >= PLACES_MAX;
        let touches =
            |known: &&mut Quarantined| known.path == found.path && known.offsets.end >= found.offsets.start;
        match self.quarantined.last_mut().filter(|last| is_full || touches(last)) {
            Some(last) => {
                last.offsets.start = last.offsets.start.min(found.offsets.start);
                last.offsets.end = last.offsets.end.max(found.offsets.end);
                last.bytes =
                    last.bytes.take().zip(found.bytes).map(|(a, b)| a.start.min(b.start)..a.end.max(b.end));
            }
            None => self.quarantined.push(found),
        }
        true
    }

    /// Damage that nobody has accepted.
    pub(super) fn quarantined(&self) -> impl Iterator<Item = &Quarantined> {
        self.quarantined.iter().filter(|damage| !self.is_accepted(&damage.offsets))
    }

    /// The damage that an offset lies in, unless it was accepted.
    pub(super) fn at(&self, offset: u64) -> Option<Range<u64>> {
        self.quarantined().map(|damage| damage.offsets.clone()).find(|offsets| offsets.contains(&offset))
    }

    /// Where the events go on: the offset itself, or the end of the gap that it lies in.
    pub(super) fn past_gap(&self, offset: u64) -> u64 {
        self.gaps.iter().find(|gap| gap.contains(&offset)).map_or(offset, |gap| gap.end)
    }

    pub(super) fn is_accepted(&self, offsets: &Range<u64>) -> bool {
        self.gaps.iter().any(|gap| gap.start <= offsets.start && offsets.end <= gap.end)
    }

    pub(super) fn gaps(&self) -> &[Range<u64>] {
        &self.gaps
    }

    /// Accepts that the events in a range are lost.
    pub(super) fn accept(&mut self, gap: Range<u64>) {
        let (touching, mut apart): (Vec<_>, Vec<_>) =
            self.gaps.drain(..).partition(|other| other.start <= gap.end && gap.start <= other.end);
        let joined =
            touching.into_iter().fold(gap, |sum, other| sum.start.min(other.start)..sum.end.max(other.end));
        apart.push(joined);
        apart.sort_unstable_by_key(|gap| gap.start);
        self.gaps = apart;
    }

    /// Forgets what lies below the beginning of the partition.
    pub(super) fn begin_at(&mut self, start: u64) {
        self.gaps.retain(|gap| gap.end > start);
        self.quarantined.retain(|damage| damage.offsets.end > start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(offsets: Range<u64>) -> Quarantined {
        let bytes = Some(offsets.start * 10..offsets.end * 10);
        Quarantined { path: "a".to_owned(), bytes, offsets, what: "bad".to_owned() }
    }

    #[test]
    fn damage_is_noted_once_and_joined_with_its_neighbour() {
        let mut damages = Damages::default();
        assert!(damages.quarantine(damage(5..10)));
        assert!(!damages.quarantine(damage(5..10)));
        assert!(!damages.quarantine(damage(6..8)));
        assert!(damages.quarantine(damage(9..20)));
        assert_eq!(damages.quarantined().collect::<Vec<_>>(), [&damage(5..20)]);
        assert_eq!((damages.at(4), damages.at(19), damages.at(20)), (None, Some(5..20), None));
        let other = Quarantined { path: "b".to_owned(), ..damage(20..30) };
        assert!(damages.quarantine(other));
        assert_eq!(damages.quarantined().count(), 2);
    }

    #[test]
    fn what_is_accepted_is_a_gap_and_no_damage_any_more() {
        let mut damages = Damages::default();
        damages.quarantine(damage(5..10));
        damages.accept(5..10);
        assert_eq!((damages.at(7), damages.past_gap(7), damages.past_gap(10)), (None, 10, 10));
        assert_eq!(damages.quarantined().count(), 0);
        damages.accept(20..30);
        damages.accept(10..12);
        damages.accept(2..3);
        assert_eq!(damages.gaps(), [2..3, 5..12, 20..30]);
        damages.accept(1..25);
        assert_eq!(damages.gaps(), std::slice::from_ref(&(1..30)));
        damages.begin_at(30);
        assert_eq!(damages.gaps(), []);
    }

    #[test]
    fn there_is_a_bound_and_nothing_is_forgotten_at_it() {
        let mut damages = Damages::default();
        for number in 0..2 * PLACES_MAX as u64 {
            assert!(damages.quarantine(damage(number * 10..number * 10 + 5)));
        }
        assert_eq!(damages.quarantined().count(), PLACES_MAX);
        assert!((0..2 * PLACES_MAX as u64).all(|number| damages.at(number * 10).is_some()));
    }
}
