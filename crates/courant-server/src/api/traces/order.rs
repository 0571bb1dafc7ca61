//! The order in which a trace is shown: each event behind its cause, and effects of one cause by their time.

use std::collections::HashMap;

use super::index::New;
use crate::planted::{Defect, is_planted};

/// What is known of an event's cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It names none.
    None,
    Known,
    /// It names one that is not there.
    Unknown,
}

impl Cause {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::None => "root",
            Self::Known => "known",
            Self::Unknown => "unknown",
        }
    }
}

/// A member of a trace in its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) new: New,
    /// The place of its cause.
    pub(super) parent: Option<usize>,
    pub(super) cause: Cause,
    pub(super) depth: usize,
    /// Whether one before it has the same event.
    pub(super) is_duplicate: bool,
}

/// Puts all members in order.
pub(super) fn causal(mut members: Vec<New>) -> Vec<Placed> {
    members.sort_by_key(|member| (member.time_ms, member.partition, member.offset));
    let mut by_event: HashMap<u64, usize> = HashMap::new();
    for (index, member) in members.iter().enumerate() {
        if member.event != 0 && !member.is_dead {
            by_event.entry(member.event).or_insert(index);
        }
    }
    let parents: Vec<(Option<usize>, Cause)> =
        members.iter().enumerate().map(|(index, member)| parent(index, member, &by_event)).collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); members.len()];
    let mut tops = Vec::new();
    for (index, (parent, _)) in parents.iter().enumerate() {
        match parent {
            Some(parent) => children[*parent].push(index),
            None => tops.push(index),
        }
    }
    let mut places: Vec<Option<usize>> = vec![None; members.len()];
    let mut placed = Vec::with_capacity(members.len());
    // What is in a circle has no top: the earliest of it is shown as one whose cause is not known.
    for top in tops.into_iter().chain(0..members.len()) {
        let mut waiting = vec![(top, 0)];
        while let Some((index, depth)) = waiting.pop() {
            if places[index].is_some() {
                continue;
            }
            places[index] = Some(placed.len());
            let (parent, cause) = parents[index];
            let parent = parent.and_then(|parent| places[parent]);
            let cause = if parent.is_none() && cause == Cause::Known { Cause::Unknown } else { cause };
            let new = members[index];
            let is_first = new.is_dead || new.event == 0 || by_event.get(&new.event) == Some(&index);
            placed.push(Placed { new, parent, cause, depth, is_duplicate: !is_first });
            waiting.extend(children[index].iter().rev().map(|child| (*child, depth + 1)));
        }
    }
    placed
}

fn parent(index: usize, member: &New, by_event: &HashMap<u64, usize>) -> (Option<usize>, Cause) {
    // A dead letter is below the event that it is a copy of.
    let wanted = if member.is_dead && member.event != 0 { member.event } else { member.causation };
    if wanted == 0 || (!member.is_dead && wanted == member.event) || is_planted(Defect::NoCauses) {
        return (None, Cause::None);
    }
    match by_event.get(&wanted) {
        Some(parent) if *parent != index => (Some(*parent), Cause::Known),
        _ => (None, Cause::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::traces::facts::Joined;
    use courant_log::PartitionId;

    fn new(time_ms: i64, event: u64, causation: u64) -> New {
        New {
            partition: PartitionId(1),
            offset: time_ms.unsigned_abs(),
            time_ms,
            event,
            causation,
            trace: 1,
            joined: Joined::Correlation,
            is_dead: false,
        }
    }

    /// Event, place of the cause and depth of each.
    fn shape(placed: &[Placed]) -> Vec<(u64, Option<usize>, usize)> {
        placed.iter().map(|one| (one.new.event, one.parent, one.depth)).collect()
    }

    #[test]
    fn causes_come_first_and_effects_by_their_time() {
        let members = vec![new(50, 5, 3), new(40, 4, 1), new(10, 1, 0), new(30, 3, 1), new(60, 6, 4)];
        let placed = causal(members);
        let expected = [(1, None, 0), (3, Some(0), 1), (5, Some(1), 2), (4, Some(0), 1), (6, Some(3), 2)];
        assert_eq!(shape(&placed), expected);
        assert_eq!((placed[0].cause, placed[1].cause), (Cause::None, Cause::Known));
    }

    #[test]
    fn an_effect_whose_clock_is_behind_still_follows_its_cause() {
        assert_eq!(shape(&causal(vec![new(10, 2, 1), new(20, 1, 0)])), [(1, None, 0), (2, Some(0), 1)]);
    }

    #[test]
    fn a_cause_that_is_not_there_is_named_and_a_circle_ends() {
        let placed = causal(vec![new(1, 2, 9), new(2, 3, 3)]);
        assert_eq!((placed[0].cause, placed[1].cause), (Cause::Unknown, Cause::None));
        let circle = causal(vec![new(1, 1, 2), new(2, 2, 1), new(3, 4, 2)]);
        assert_eq!(shape(&circle), [(1, None, 0), (2, Some(0), 1), (4, Some(1), 2)]);
        assert_eq!(circle[0].cause, Cause::Unknown);
    }

    #[test]
    fn a_dead_letter_is_below_its_event_and_a_duplicate_says_so() {
        let dead = New { is_dead: true, ..new(30, 2, 1) };
        let placed = causal(vec![new(10, 1, 0), new(20, 2, 1), dead, new(40, 2, 1)]);
        assert_eq!(shape(&placed), [(1, None, 0), (2, Some(0), 1), (2, Some(1), 2), (2, Some(0), 1)]);
        let duplicates: Vec<_> = placed.iter().map(|one| one.is_duplicate).collect();
        assert_eq!(duplicates, [false, false, false, true]);
        let alone = causal(vec![dead]);
        assert_eq!((alone[0].cause, alone[0].is_duplicate), (Cause::Unknown, false));
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let members: Vec<New> = (1..=50_000).map(|n| new(n as i64, n, n - 1)).collect();
        let placed = causal(members);
        assert_eq!((placed.len(), placed[49_999].depth), (50_000, 49_999));
    }
}
