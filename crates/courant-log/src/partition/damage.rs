//! What of a partition cannot be relied on, and what somebody has accepted as lost.
//!
//! Damage is found at a start or while reading. It is kept in memory only: whatever looks at the same
//! bytes again finds it again. A gap is in the log's own record.

use std::ops::Range;

/// Places that one partition remembers. A read of any other damage fails all the same, each time.
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
pub(crate) struct Damages {
    quarantined: Vec<Quarantined>,
    gaps: Vec<Range<u64>>,
}

impl Damages {
    pub(crate) fn with_gaps(gaps: Vec<Range<u64>>) -> Self {
        Self { quarantined: Vec::new(), gaps }
    }

    /// Notes damage. False when it is known already, was given up, or there is no room for it. Only places
    /// that touch become one: what lies between two of them is sound.
    pub(super) fn quarantine(&mut self, found: Quarantined) -> bool {
        let is_known = |known: &Quarantined| {
            known.offsets.start <= found.offsets.start && found.offsets.end <= known.offsets.end
        };
        if self.is_accepted(&found.offsets) || self.quarantined.iter().any(is_known) {
            return false;
        }
        let touches = |known: &mut Quarantined| {
            known.path == found.path
                && known.offsets.start <= found.offsets.end
                && found.offsets.start <= known.offsets.end
        };
        let touching: Vec<_> = self.quarantined.extract_if(.., touches).collect();
        if touching.is_empty() && self.quarantined.len() >= PLACES_MAX {
            return false;
        }
        let joined = touching.into_iter().fold(found, |sum, other| Quarantined {
            offsets: hull(sum.offsets, other.offsets),
            bytes: sum.bytes.zip(other.bytes).map(|(a, b)| hull(a, b)),
            ..sum
        });
        self.quarantined.push(joined);
        self.quarantined.sort_by_key(|damage| damage.offsets.start);
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
        holds(&self.gaps, offsets)
    }

    /// Whether nobody waits any more for what is damaged in a segment with these offsets: all events that it takes with
    /// it were given up. Damage that takes none is that of the segment's index, which tells of nothing once all of the
    /// segment was.
    pub(crate) fn have_given_up(&self, damaged: Option<&Range<u64>>, segment: &Range<u64>) -> bool {
        let offsets = damaged.unwrap_or(segment);
        // A range that damage has turned round says nothing of its events.
        !offsets.is_empty() && self.is_accepted(offsets)
    }

    pub(super) fn gaps(&self) -> &[Range<u64>] {
        &self.gaps
    }

    /// Accepts that the events in a range are lost.
    pub(crate) fn accept(&mut self, gap: Range<u64>) {
        let (touching, mut apart): (Vec<_>, Vec<_>) =
            self.gaps.drain(..).partition(|other| other.start <= gap.end && gap.start <= other.end);
        let joined =
            touching.into_iter().fold(gap, |sum, other| sum.start.min(other.start)..sum.end.max(other.end));
        apart.push(joined);
        apart.sort_unstable_by_key(|gap| gap.start);
        self.gaps = apart;
        let Self { quarantined, gaps } = self;
        quarantined.retain(|damage| !holds(gaps, &damage.offsets));
    }

    /// Forgets damage of events that were stored anew from sound ones.
    pub(super) fn forget(&mut self, offsets: Range<u64>) {
        self.quarantined
            .retain(|damage| damage.offsets.start < offsets.start || offsets.end < damage.offsets.end);
    }

    /// Forgets what lies below the beginning of the partition.
    pub(crate) fn begin_at(&mut self, start: u64) {
        self.gaps.retain(|gap| gap.end > start);
        self.quarantined.retain(|damage| damage.offsets.end > start);
    }
}

/// Whether one of the gaps has all of these offsets.
fn holds(gaps: &[Range<u64>], offsets: &Range<u64>) -> bool {
    gaps.iter().any(|gap| gap.start <= offsets.start && offsets.end <= gap.end)
}

/// From the first of both to the last.
fn hull(a: Range<u64>, b: Range<u64>) -> Range<u64> {
    a.start.min(b.start)..a.end.max(b.end)
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
    fn only_what_lies_in_one_gap_as_a_whole_was_given_up() {
        let mut damages = Damages::with_gaps(vec![5..10, 20..30]);
        let have = |damages: &Damages, offsets: Range<u64>| damages.have_given_up(Some(&offsets), &(0..100));
        for (offsets, is_given_up) in
            [(5..10, true), (6..7, true), (4..10, false), (9..11, false), (7..25, false), (12..13, false)]
        {
            assert_eq!(have(&damages, offsets.clone()), is_given_up, "{offsets:?}");
        }
        let range = |(start, end): (u64, u64)| start..end;
        assert_eq!([(7, 7), (25, 8)].map(|ends| have(&damages, range(ends))), [false, false]);
        // An index is as good as its segment.
        assert_eq!([20..30, 20..31].map(|segment| damages.have_given_up(None, &segment)), [true, false]);
        damages.accept(10..20);
        assert!(have(&damages, 7..25), "the gaps are one");
    }

    #[test]
    fn what_lies_between_two_places_is_not_damaged() {
        let mut damages = Damages::default();
        assert!(damages.quarantine(damage(100..110)));
        assert!(damages.quarantine(damage(5..10)));
        assert!(damages.quarantine(damage(50..60)));
        assert_eq!(
            [9, 10, 49, 60, 99, 110].map(|offset| damages.at(offset).is_some()),
            [true, false, false, false, false, false]
        );
        // Also when a place touches two others, and neither of them was the last.
        assert!(damages.quarantine(damage(10..50)));
        assert_eq!(
            (damages.at(5), damages.at(105), damages.quarantined().count()),
            (Some(5..60), Some(100..110), 2)
        );
    }

    #[test]
    fn at_the_bound_no_sound_event_is_refused() {
        let mut damages = Damages::default();
        for number in 0..2 * PLACES_MAX as u64 {
            assert_eq!(damages.quarantine(damage(number * 10..number * 10 + 5)), number < PLACES_MAX as u64);
        }
        assert_eq!(damages.quarantined().count(), PLACES_MAX);
        assert!((0..2 * PLACES_MAX as u64).all(|number| damages.at(number * 10 + 7).is_none()));
        // What was given up makes room for the rest.
        damages.accept(0..5);
        let next = PLACES_MAX as u64 * 10;
        assert!(damages.quarantine(damage(next..next + 5)));
        assert!(!damages.quarantine(damage(0..5)), "what was given up is no news");
    }
}
