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
///
/// Nobody waits for events that were deleted. So no damage is kept of those, whoever finds it and when, and of damage
/// that the partition begins in only what is behind the beginning.
#[derive(Debug, Default)]
pub(crate) struct Damages {
    /// Offset of the oldest event.
    start: u64,
    quarantined: Vec<Quarantined>,
    gaps: Vec<Range<u64>>,
}

impl Damages {
    /// Of a partition that begins at `start`.
    pub(crate) fn with_gaps(start: u64, gaps: Vec<Range<u64>>) -> Self {
        Self { start, quarantined: Vec::new(), gaps }
    }

    /// Notes damage. False when it is known already, was given up or deleted, or there is no room for it. Only places
    /// that touch become one: what lies between two of them is sound.
    pub(super) fn quarantine(&mut self, found: Quarantined) -> bool {
        let Some(offsets) = self.undeleted(&found.offsets) else { return false };
        let found = Quarantined { offsets, ..found };
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

    fn is_accepted(&self, offsets: &Range<u64>) -> bool {
        holds(&self.gaps, offsets)
    }

    /// What of a range was not deleted; none when all of it was.
    fn undeleted(&self, offsets: &Range<u64>) -> Option<Range<u64>> {
        (offsets.end > self.start).then(|| offsets.start.max(self.start)..offsets.end)
    }

    /// Whether nobody waits any more for what is damaged in a segment with these offsets: all events that it takes with
    /// it were given up or deleted. Damage that takes none is that of the segment's index, which tells of nothing once
    /// all of the segment was.
    pub(crate) fn have_given_up(&self, damaged: Option<&Range<u64>>, segment: &Range<u64>) -> bool {
        let offsets = damaged.unwrap_or(segment);
        // A range that damage has turned round says nothing of its events.
        !offsets.is_empty() && self.undeleted(offsets).is_none_or(|left| self.is_accepted(&left))
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
        let Self { quarantined, gaps, .. } = self;
        quarantined.retain(|damage| !holds(gaps, &damage.offsets));
    }

    /// Forgets damage of events that were stored anew from sound ones.
    pub(super) fn forget(&mut self, offsets: Range<u64>) {
        self.quarantined
            .retain(|damage| damage.offsets.start < offsets.start || offsets.end < damage.offsets.end);
    }

    /// Forgets what lies below the beginning of the partition, which only moves forward.
    pub(crate) fn begin_at(&mut self, start: u64) {
        self.start = self.start.max(start);
        let start = self.start;
        self.gaps.retain(|gap| gap.end > start);
        self.quarantined.retain_mut(|damage| {
            damage.offsets.start = damage.offsets.start.max(start);
            damage.offsets.end > start
        });
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

    /// Symptom: damage of deleted events was named again by whoever met it: the look at everything, and a start.
    /// Cause: what lay below the beginning was forgotten when that moved, and nothing kept it from being noted
    /// anew. Fix: the beginning is known to whoever notes damage.
    #[test]
    fn what_was_deleted_is_no_damage_whenever_it_is_found() {
        let mut damages = Damages::with_gaps(10, vec![30..40, 50..60]);
        assert!(!damages.quarantine(damage(5..10)));
        assert!(damages.quarantine(damage(8..14)), "the beginning is in it");
        assert!(!damages.quarantine(damage(8..14)));
        assert_eq!((damages.at(9), damages.at(10)), (None, Some(10..14)));
        damages.begin_at(12);
        assert_eq!((damages.at(11), damages.at(12)), (None, Some(12..14)));
        damages.begin_at(14);
        assert!(!damages.quarantine(damage(8..14)));
        assert_eq!(damages.quarantined().count(), 0);
        // What is left of damage can have been given up by itself.
        assert!(damages.quarantine(damage(25..40)));
        damages.begin_at(32);
        assert_eq!(damages.quarantined().count(), 0);
        assert!(!damages.quarantine(damage(25..40)));
        damages.begin_at(5);
        assert!(!damages.quarantine(damage(20..30)), "a beginning does not move back");
    }

    #[test]
    fn nobody_waits_for_what_was_deleted() {
        let damages = Damages::with_gaps(10, vec![10..20, 50..60]);
        let segments = [0..10, 0..11, 0..20, 0..21, 10..30];
        let given_up = segments.map(|segment| damages.have_given_up(None, &segment));
        assert_eq!(given_up, [true, true, true, false, false]);
        assert!(damages.have_given_up(Some(&(3..9)), &(0..100)));
        assert!(!damages.have_given_up(Some(&(9..25)), &(0..100)));
    }

    #[test]
    fn only_what_lies_in_one_gap_as_a_whole_was_given_up() {
        let mut damages = Damages::with_gaps(0, vec![5..10, 20..30]);
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
