//! Which record belongs to which trace: a bounded index of places in the log, without any I/O.
//!
//! What the records say stays in the log; an entry has 64 bytes. When the index is full, the entry that
//! came first goes, and the index remembers until when it has forgotten something.
//!
//! Records that nothing joins to anything have no entry. The newest of them are remembered: an event may come
//! that names one of them as its cause, by the id that services give it.

use std::collections::hash_map::{Entry as Slot, RandomState};
use std::collections::{HashMap, VecDeque};
use std::iter::successors;

use courant_log::PartitionId;

use super::facts::{Joined, hashed};
use crate::api::limits::{TRACE_LIST_MEMBERS_MAX, TRACE_LIST_STEPS_MAX, TRACE_NODES_MAX, TRACE_PLAIN_PART};
use crate::planted::{Defect, is_planted};

/// A record that is to be indexed. Of ids there are only hashes; 0 is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct New {
    pub(super) partition: PartitionId,
    pub(super) offset: u64,
    pub(super) time_ms: i64,
    pub(super) event: u64,
    pub(super) causation: u64,
    pub(super) trace: u64,
    pub(super) joined: Joined,
    pub(super) is_dead: bool,
}

/// An indexed record. Entries are numbered in the order in which they came.
#[derive(Clone, Copy, Debug)]
struct Entry {
    new: New,
    /// The next entry of the same trace.
    next: u64,
}

const NONE: u64 = u64::MAX;

/// A record that nothing joins to anything.
#[derive(Clone, Copy, Debug)]
struct Plain {
    partition: PartitionId,
    offset: u64,
    time_ms: i64,
}

/// All entries of one trace, as a chain from the oldest to the newest.
#[derive(Clone, Copy, Debug)]
struct Chain {
    oldest: u64,
    newest: u64,
    events: u32,
    dead: u32,
    /// Whether older ones are forgotten.
    has_forgotten: bool,
}

/// A trace in a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed {
    /// The one that it began with, by what causes what and then by time.
    pub(super) root: New,
    /// The one that came to the index last.
    pub(super) newest: New,
    /// The earliest and the latest time; -1: none has one.
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
    pub(super) events: u32,
    pub(super) dead: u32,
    pub(super) has_forgotten: bool,
}

/// A page of such a list.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) traces: Vec<Listed>,
    /// Where the next page begins.
    pub(super) next: Option<u64>,
}

/// Everything that belongs to one trace.
#[derive(Debug)]
pub(super) struct Found {
    /// In the order in which they came.
    pub(super) members: Vec<New>,
    /// How many there are, also those that are left out, and how many of them are dead letters.
    pub(super) events: usize,
    pub(super) dead: usize,
    pub(super) has_forgotten: bool,
    pub(super) joined: Joined,
    /// The event that was asked for, where it was one.
    pub(super) asked: Option<New>,
}

/// Where the index stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Whether nothing comes to the index any more, because of a defect.
    pub(super) has_failed: bool,
    /// Whether everything that was there at the start has been gone through.
    pub(super) has_caught_up: bool,
    /// Records that were looked at, and those of them that nothing joins to anything.
    pub(super) seen: u64,
    pub(super) without: u64,
    /// Records that were not looked at, and never will be.
    pub(super) passed_over: u64,
    /// The sum of the offsets up to which partitions have been looked at.
    pub(super) reached: u64,
    /// Events older than this may be missing.
    pub(super) complete_since_ms: Option<i64>,
}

/// The index.
#[derive(Debug)]
pub(crate) struct Index {
    hasher: RandomState,
    entries: VecDeque<Entry>,
    /// The number of the first entry.
    first: u64,
    /// The first entry of each event that is no dead letter.
    by_event: HashMap<u64, u64>,
    traces: HashMap<u64, Chain>,
    /// By the ids of their places.
    plain: HashMap<u64, Plain>,
    /// These ids, the oldest first; some may have gone to the entries.
    plain_order: VecDeque<u64>,
    max: usize,
    pub(super) counts: Counts,
    /// A record with a later time than this has it from a wrong clock.
    pub(super) latest_ms: i64,
}

impl Index {
    /// An index of so many records at most; 0: none is kept.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            entries: VecDeque::new(),
            first: 0,
            by_event: HashMap::new(),
            traces: HashMap::new(),
            plain: HashMap::new(),
            plain_order: VecDeque::new(),
            max,
            counts: Counts::default(),
            latest_ms: i64::MAX,
        }
    }

    pub(super) fn hasher(&self) -> RandomState {
        self.hasher.clone()
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// How many records that belong to nothing are remembered.
    pub(super) fn plain_max(&self) -> usize {
        self.max / TRACE_PLAIN_PART
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says that events older than this may be missing.
    pub(super) fn incomplete_before(&mut self, time_ms: i64) {
        if is_planted(Defect::ForgottenInSilence) {
            return;
        }
        let since = self.counts.complete_since_ms.get_or_insert(time_ms);
        *since = time_ms.max(*since);
    }

    fn get(&self, number: u64) -> Option<&Entry> {
        let place = number.checked_sub(self.first)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    /// Adds a record, and before it one that nothing has joined to anything until now, if it is its cause.
    pub(super) fn add(&mut self, new: New) {
        if self.max == 0 {
            return;
        }
        for cause in [new.trace, new.causation] {
            let Some(plain) = self.plain.remove(&cause) else { continue };
            let Plain { partition, offset, time_ms } = plain;
            self.counts.without = self.counts.without.saturating_sub(1);
            let (joined, is_dead) = (Joined::Event, false);
            let (event, trace, causation) = (cause, cause, 0);
            self.insert(New { partition, offset, time_ms, event, causation, trace, joined, is_dead });
        }
        self.insert(new);
    }

    /// Adds a record that nothing joins to anything, with the id of its place.
    pub(super) fn add_plain(&mut self, new: New) {
        // What it has caused may have been read before it.
        if self.traces.contains_key(&new.event) {
            self.add(new);
            return;
        }
        self.counts.without += 1;
        let max = self.plain_max();
        while max > 0
            && self.plain_order.len() >= max
            && let Some(oldest) = self.plain_order.pop_front()
        {
            self.plain.remove(&oldest);
        }
        if max > 0 {
            let New { partition, offset, time_ms, event, .. } = new;
            self.plain.insert(event, Plain { partition, offset, time_ms });
            self.plain_order.push_back(event);
        }
    }

    /// The one that came first makes room for the new one.
    fn insert(&mut self, new: New) {
        if self.entries.len() >= self.max {
            self.forget_first();
        }
        let number = self.first + self.entries.len() as u64;
        let dead = u32::from(new.is_dead);
        let before = match self.traces.entry(new.trace) {
            Slot::Occupied(mut slot) => {
                let chain = slot.get_mut();
                chain.events = chain.events.saturating_add(1);
                chain.dead = chain.dead.saturating_add(dead);
                Some(std::mem::replace(&mut chain.newest, number))
            }
            Slot::Vacant(slot) => {
                let (oldest, newest) = (number, number);
                slot.insert(Chain { oldest, newest, events: 1, dead, has_forgotten: false });
                None
            }
        };
        let place = before.and_then(|before| usize::try_from(before.checked_sub(self.first)?).ok());
        if let Some(before) = place.and_then(|place| self.entries.get_mut(place)) {
            before.next = number;
        }
        if new.event != 0 && !new.is_dead {
            self.by_event.entry(new.event).or_insert(number);
        }
        self.entries.push_back(Entry { new, next: NONE });
    }

    fn forget_first(&mut self) {
        let Some(gone) = self.entries.pop_front() else { return };
        let number = self.first;
        self.first += 1;
        if self.by_event.get(&gone.new.event) == Some(&number) {
            self.by_event.remove(&gone.new.event);
        }
        if let Slot::Occupied(mut slot) = self.traces.entry(gone.new.trace) {
            if gone.next == NONE {
                slot.remove();
            } else {
                let chain = slot.get_mut();
                chain.oldest = gone.next;
                chain.events = chain.events.saturating_sub(1);
                chain.dead = chain.dead.saturating_sub(u32::from(gone.new.is_dead));
                chain.has_forgotten = true;
            }
        }
        // One that has no time, or one from a wrong clock, says nothing about how far back the others go.
        if (0..=self.latest_ms).contains(&gone.new.time_ms) {
            self.incomplete_before(gone.new.time_ms.saturating_add(1));
        }
    }

    /// Traces, the last changed first, from behind `after` on.
    pub(super) fn list(&self, after: Option<u64>, limit: usize, dead_only: bool, events_min: u64) -> Listing {
        let end = self.first + self.entries.len() as u64;
        let mut number = after.unwrap_or(end).min(end);
        let mut traces = Vec::new();
        for _ in 0..TRACE_LIST_STEPS_MAX {
            if number <= self.first || traces.len() >= limit {
                break;
            }
            number -= 1;
            let Some(newest) = self.get(number).map(|entry| entry.new) else { break };
            let Some(chain) = self.traces.get(&newest.trace) else { continue };
            // A trace stands where its newest entry is.
            let is_wanted = chain.newest == number
                && u64::from(chain.events) >= events_min
                && (!dead_only || chain.dead > 0);
            if is_wanted {
                traces.extend(self.listed(chain, newest));
            }
        }
        Listing { traces, next: (number > self.first).then_some(number) }
    }

    fn listed(&self, chain: &Chain, newest: New) -> Option<Listed> {
        let Chain { oldest, events, dead, has_forgotten, .. } = *chain;
        let members = successors(self.get(oldest), |entry| self.get(entry.next)).map(|entry| entry.new);
        let members = members.take(TRACE_LIST_MEMBERS_MAX);
        let time = |new: &New| u64::try_from(new.time_ms).ok();
        let root = members
            .clone()
            .min_by_key(|new| (new.is_dead, new.causation != 0, time(new).unwrap_or(u64::MAX)))?;
        // What has no time is neither early nor late.
        let times = members.chain([newest]).map(|new| new.time_ms).filter(|time_ms| *time_ms >= 0);
        let (first_ms, last_ms) = (times.clone().min().unwrap_or(-1), times.max().unwrap_or(-1));
        Some(Listed { root, newest, first_ms, last_ms, events, dead, has_forgotten })
    }

    /// What belongs to a trace, by what joins it or by the id of one of its events.
    pub(super) fn find(&self, id: &str) -> Option<Found> {
        let wanted = hashed(&self.hasher, id);
        if let Some(chain) = self.traces.get(&wanted) {
            return self.collect(wanted, chain, None);
        }
        let asked = self.get(*self.by_event.get(&wanted)?)?.new;
        self.collect(asked.trace, self.traces.get(&asked.trace)?, Some(asked))
    }

    fn collect(&self, trace: u64, chain: &Chain, asked: Option<New>) -> Option<Found> {
        let mut members = Vec::new();
        let mut number = chain.oldest;
        // A trace that is too long is shown from its beginning.
        while members.len() < TRACE_NODES_MAX
            && let Some(entry) = self.get(number)
        {
            members.push(entry.new);
            number = entry.next;
        }
        let joined = members.first()?.joined;
        let own = members.len();
        self.add_causes(trace, &mut members);
        let more = members.len() - own;
        Some(Found {
            events: (chain.events as usize).saturating_add(more),
            dead: chain.dead as usize,
            has_forgotten: chain.has_forgotten,
            members,
            joined,
            asked,
        })
    }

    /// Adds events that members name as their causes and that are joined by something else: the root of a
    /// trace need not know that it would be one.
    fn add_causes(&self, trace: u64, members: &mut Vec<New>) {
        let root = self.by_event.get(&trace).and_then(|number| self.get(*number));
        if let Some(root) = root.map(|entry| entry.new).filter(|root| root.trace != trace) {
            members.push(root);
        }
        let mut causes: Vec<u64> = members.iter().map(|member| member.causation).collect();
        let mut met: std::collections::HashSet<u64> = members.iter().map(|member| member.event).collect();
        while let Some(cause) = causes.pop() {
            if cause == 0 || members.len() >= TRACE_NODES_MAX || !met.insert(cause) {
                continue;
            }
            if let Some(found) = self.by_event.get(&cause).and_then(|number| self.get(*number)) {
                causes.push(found.new.causation);
                members.push(found.new);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(index: &Index, offset: u64, event: &str, trace: &str, cause: &str) -> New {
        let hash = |text: &str| if text.is_empty() { 0 } else { hashed(&index.hasher, text) };
        New {
            partition: PartitionId(1),
            offset,
            time_ms: offset as i64 * 10,
            event: hash(event),
            causation: hash(cause),
            trace: hash(trace),
            joined: Joined::Correlation,
            is_dead: false,
        }
    }

    fn add(index: &mut Index, offset: u64, event: &str, trace: &str, cause: &str) {
        index.add(new(index, offset, event, trace, cause));
    }

    fn offsets(members: &[New]) -> Vec<u64> {
        members.iter().map(|member| member.offset).collect()
    }

    #[test]
    fn a_trace_is_found_by_its_id_and_by_each_of_its_events() {
        let mut index = Index::new(10);
        add(&mut index, 0, "a", "c", "");
        add(&mut index, 1, "x", "d", "");
        add(&mut index, 2, "b", "c", "a");
        let found = index.find("c").expect("it is there");
        assert_eq!((offsets(&found.members), found.events), (vec![0, 2], 2));
        assert!(found.asked.is_none() && !found.has_forgotten);
        let found = index.find("b").expect("it is there");
        assert_eq!(offsets(&found.members), [0, 2]);
        assert_eq!(found.asked.map(|asked| asked.offset), Some(2));
        assert!(index.find("nothing").is_none());
    }

    /// A record as plain clients write it.
    fn plain(index: &Index, offset: u64, event: &str) -> New {
        New { joined: Joined::Event, ..new(index, offset, event, event, "") }
    }

    #[test]
    fn a_plain_record_is_there_once_it_has_caused_something() {
        let mut index = Index::new(100);
        index.add_plain(plain(&index, 0, "p"));
        index.add_plain(plain(&index, 1, "q"));
        assert!(index.find("p").is_none() && index.len() == 0);
        assert_eq!(index.counts.without, 2);
        add(&mut index, 2, "effect", "p", "p");
        let found = index.find("p").expect("it is there");
        assert_eq!((offsets(&found.members), found.events, index.counts.without), (vec![0, 2], 2, 1));
        // Its effect says of itself that it belongs to something else.
        add(&mut index, 3, "other", "c", "q");
        assert_eq!(offsets(&index.find("c").expect("there").members), [3, 1]);
        assert_eq!(index.counts.without, 0);
        // It is read behind its effect.
        add(&mut index, 4, "early", "late", "late");
        index.add_plain(plain(&index, 5, "late"));
        assert_eq!(offsets(&index.find("late").expect("there").members), [4, 5]);
    }

    #[test]
    fn plain_records_take_no_room_from_others_and_the_newest_are_remembered() {
        let mut index = Index::new(10 * TRACE_PLAIN_PART);
        add(&mut index, 0, "a", "c", "");
        for number in 0..1_000 {
            index.add_plain(plain(&index, number, &number.to_string()));
        }
        assert_eq!((index.len(), index.plain.len(), index.plain_order.len()), (1, 10, 10));
        assert_eq!(index.counts.complete_since_ms, None);
        add(&mut index, 1, "b", "999", "999");
        add(&mut index, 2, "d", "989", "989");
        assert_eq!(index.find("999").expect("there").events, 2);
        assert_eq!(index.find("989").expect("there").events, 1, "its cause is forgotten");
        let mut none = Index::new(0);
        none.add_plain(plain(&none, 0, "p"));
        assert!(none.plain.is_empty());
    }

    #[test]
    fn what_is_full_forgets_the_first_and_says_so() {
        let mut index = Index::new(3);
        add(&mut index, 0, "a", "c", "");
        add(&mut index, 1, "b", "c", "a");
        add(&mut index, 2, "x", "d", "");
        assert_eq!(index.counts.complete_since_ms, None);
        add(&mut index, 3, "y", "d", "x");
        assert_eq!((index.len(), index.counts.complete_since_ms), (3, Some(1)));
        let found = index.find("c").expect("a part is there");
        assert_eq!((offsets(&found.members), found.events, found.has_forgotten), (vec![1], 1, true));
        assert!(index.find("a").is_none());
        add(&mut index, 4, "z", "d", "y");
        assert!(index.find("c").is_none() && index.find("b").is_none());
        assert_eq!((index.traces.len(), index.by_event.len()), (1, 3), "nothing is kept of what is gone");
        assert_eq!(index.counts.complete_since_ms, Some(11));
        for offset in 5..50 {
            add(&mut index, offset, "z", "d", "y");
        }
        assert_eq!((index.entries.len(), index.traces.len()), (3, 1));
        assert!(index.by_event.len() <= 3);
    }

    /// One record with a time in the far future must not make everything look forgotten, or nothing: a time
    /// beyond what can be written is shown as none.
    #[test]
    fn a_time_from_a_wrong_clock_does_not_say_what_is_forgotten() {
        let mut index = Index::new(2);
        index.latest_ms = 1_000;
        for (offset, time_ms) in [(0, 10), (1, i64::MAX), (2, 20), (3, 30), (4, 40)] {
            let late = New { time_ms, ..new(&index, offset, "a", "c", "") };
            index.add(late);
        }
        assert_eq!(index.counts.complete_since_ms, Some(21));
    }

    #[test]
    fn a_list_has_the_last_changed_first_and_each_once() {
        let mut index = Index::new(100);
        for offset in 0..30 {
            let trace = format!("t{}", offset % 10);
            let mut one = new(&index, offset, &format!("e{offset}"), &trace, "");
            one.is_dead = offset == 14;
            index.add(one);
        }
        let first = index.list(None, 4, false, 1);
        let newest =
            |listing: &Listing| listing.traces.iter().map(|one| one.newest.offset).collect::<Vec<_>>();
        assert_eq!(newest(&first), [29, 28, 27, 26]);
        assert_eq!((first.traces[0].root.offset, first.traces[0].events), (9, 3));
        let second = index.list(first.next, 100, false, 1);
        assert_eq!((newest(&second), second.next), (vec![25, 24, 23, 22, 21, 20], None));
        assert_eq!(newest(&index.list(None, 100, true, 1)), [24]);
        assert!(index.list(None, 100, false, 4).traces.is_empty());
        assert!(Index::new(0).list(None, 100, false, 1).traces.is_empty());
    }

    #[test]
    fn a_trace_in_a_list_begins_with_its_cause_also_where_an_effect_is_known_first() {
        let mut index = Index::new(10);
        for (offset, event, cause, time_ms) in
            [(0, "effect", "cause", 20), (1, "cause", "", 10), (2, "late", "effect", 30)]
        {
            let one = New { time_ms, ..new(&index, offset, event, "c", cause) };
            index.add(one);
        }
        let [one] = index.list(None, 10, false, 1).traces[..] else { panic!("one trace") };
        assert_eq!((one.root.offset, one.first_ms, one.last_ms), (1, 10, 30));
    }

    #[test]
    fn a_cause_that_is_joined_by_something_else_is_shown_with_its_effects() {
        let mut index = Index::new(100);
        add(&mut index, 0, "grandparent", "trace-id", "");
        add(&mut index, 1, "parent", "trace-id", "grandparent");
        add(&mut index, 2, "other", "trace-id", "");
        add(&mut index, 3, "child", "parent", "parent");
        let found = index.find("parent").expect("it is there");
        assert_eq!((offsets(&found.members), found.events), (vec![3, 1, 0], 3));
        // Events that name each other as causes end the way up.
        add(&mut index, 4, "p", "q", "r");
        add(&mut index, 5, "r", "s", "p");
        assert_eq!(offsets(&index.find("q").expect("there").members), [4, 5]);
    }
}
