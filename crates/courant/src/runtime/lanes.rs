//! Which event may run now: one at a time for each key, in the order of their arrival, and so many at
//! once. No clock and no I/O.
//!
//! A lane is what must keep its order: the events of one key. An event without a key has a lane of its
//! own. Invariants:
//! - a lane has at most one event under way;
//! - a lane's events come out in the order in which they went in;
//! - an event of a parked lane never comes out as [`Turn::Handle`];
//! - a lane that may go on does so when its first event is the oldest of all that may.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;

/// What is to be done with an event whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn<L, J> {
    /// Call the handler.
    Handle(L, J),
    /// Its lane is parked: put it behind what is parked.
    QueueBehind(L, J),
}

/// The lanes of one subscription.
#[derive(Debug)]
pub(crate) struct Lanes<L, J> {
    concurrency: usize,
    waiting: HashMap<L, VecDeque<(u64, J)>>,
    /// Lanes whose first event may have its turn, by the arrival of that event.
    ready: BTreeMap<u64, L>,
    busy: HashSet<L>,
    parked: HashSet<L>,
    arrivals: u64,
    count: usize,
}

impl<L: Clone + Eq + Hash, J> Lanes<L, J> {
    /// Nothing waits, and at most `concurrency` events are under way at once.
    pub(crate) fn new(concurrency: usize) -> Self {
        Self {
            concurrency,
            waiting: HashMap::new(),
            ready: BTreeMap::new(),
            busy: HashSet::new(),
            parked: HashSet::new(),
            arrivals: 0,
            count: 0,
        }
    }

    /// How many events wait for their turn.
    pub(crate) fn waiting(&self) -> usize {
        self.count
    }

    /// How many events are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.busy.len()
    }

    /// Whether a lane is parked.
    #[cfg(test)]
    pub(crate) fn is_parked(&self, lane: &L) -> bool {
        self.parked.contains(lane)
    }

    /// The parked lanes.
    #[cfg(test)]
    pub(crate) fn parked(&self) -> impl Iterator<Item = &L> {
        self.parked.iter()
    }

    /// An event has arrived.
    pub(crate) fn push(&mut self, lane: L, job: J) {
        let arrival = self.arrivals;
        self.arrivals += 1;
        self.count += 1;
        let queue = self.waiting.entry(lane.clone()).or_default();
        queue.push_back((arrival, job));
        if queue.len() == 1 && !self.busy.contains(&lane) {
            self.ready.insert(arrival, lane);
        }
    }

    /// The next event whose turn it is, if one more may be under way.
    pub(crate) fn next(&mut self) -> Option<Turn<L, J>> {
        if self.busy.len() >= self.concurrency {
            return None;
        }
        let (_, lane) = self.ready.pop_first()?;
        let queue = self.waiting.get_mut(&lane)?;
        let (_, job) = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&lane);
        }
        self.count -= 1;
        self.busy.insert(lane.clone());
        if self.parked.contains(&lane) {
            return Some(Turn::QueueBehind(lane, job));
        }
        Some(Turn::Handle(lane, job))
    }

    /// Takes the turn of a parked lane for what is parked itself. Says no when an event of the lane is
    /// under way, or too many are.
    pub(crate) fn begin_parked(&mut self, lane: &L) -> bool {
        if !self.parked.contains(lane) || self.busy.contains(lane) || self.busy.len() >= self.concurrency {
            return false;
        }
        if let Some((arrival, _)) = self.waiting.get(lane).and_then(VecDeque::front) {
            self.ready.remove(arrival);
        }
        self.busy.insert(lane.clone());
        true
    }

    /// What was under way in a lane has ended.
    pub(crate) fn end(&mut self, lane: &L) {
        if !self.busy.remove(lane) {
            return;
        }
        if let Some((arrival, _)) = self.waiting.get(lane).and_then(VecDeque::front) {
            self.ready.insert(*arrival, lane.clone());
        }
    }

    /// From now on events of the lane queue behind what is parked.
    pub(crate) fn park(&mut self, lane: L) {
        self.parked.insert(lane);
    }

    /// Nothing of the lane is parked any more.
    pub(crate) fn unpark(&mut self, lane: &L) {
        self.parked.remove(lane);
    }

    /// Forgets the lanes that `is_gone` says: their partition belongs to somebody else now.
    pub(crate) fn forget(&mut self, is_gone: impl Fn(&L) -> bool) {
        self.ready.retain(|_, lane| !is_gone(lane));
        self.waiting.retain(|lane, _| !is_gone(lane));
        self.count = self.waiting.values().map(VecDeque::len).sum();
        self.parked.retain(|lane| !is_gone(lane));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(lanes: &mut Lanes<u8, u32>) -> Vec<Turn<u8, u32>> {
        std::iter::from_fn(|| lanes.next()).collect()
    }

    #[test]
    fn one_event_of_a_key_at_a_time_and_others_beside_it() {
        let mut lanes = Lanes::new(8);
        for (lane, job) in [(1, 10), (1, 11), (2, 20), (3, 30), (2, 21)] {
            lanes.push(lane, job);
        }
        assert_eq!(drain(&mut lanes), [Turn::Handle(1, 10), Turn::Handle(2, 20), Turn::Handle(3, 30)]);
        lanes.end(&2);
        assert_eq!(drain(&mut lanes), [Turn::Handle(2, 21)]);
        lanes.end(&1);
        assert_eq!(drain(&mut lanes), [Turn::Handle(1, 11)]);
        assert_eq!((lanes.waiting(), lanes.under_way()), (0, 3));
    }

    #[test]
    fn so_many_at_once_and_the_oldest_first() {
        let mut lanes = Lanes::new(2);
        for lane in 1..=4 {
            lanes.push(lane, u32::from(lane));
        }
        assert_eq!(drain(&mut lanes), [Turn::Handle(1, 1), Turn::Handle(2, 2)]);
        lanes.push(1, 100);
        lanes.end(&1);
        assert_eq!(drain(&mut lanes), [Turn::Handle(3, 3)]);
        lanes.end(&2);
        lanes.end(&3);
        assert_eq!(drain(&mut lanes), [Turn::Handle(4, 4), Turn::Handle(1, 100)]);
    }

    #[test]
    fn what_comes_after_a_parked_event_queues_behind_it() {
        let mut lanes = Lanes::new(8);
        lanes.push(1, 10);
        lanes.push(1, 11);
        assert_eq!(drain(&mut lanes), [Turn::Handle(1, 10)]);
        lanes.park(1);
        lanes.end(&1);
        assert!(lanes.is_parked(&1));
        assert_eq!(drain(&mut lanes), [Turn::QueueBehind(1, 11)]);
        assert!(!lanes.begin_parked(&1), "while 11 is put into the store");
        lanes.push(1, 12);
        lanes.end(&1);
        assert!(lanes.begin_parked(&1));
        assert!(drain(&mut lanes).is_empty(), "while the parked ones are tried again");
        lanes.unpark(&1);
        lanes.end(&1);
        assert_eq!(drain(&mut lanes), [Turn::Handle(1, 12)]);
    }

    #[test]
    fn a_parked_lane_keeps_to_the_concurrency() {
        let mut lanes = Lanes::new(1);
        lanes.park(1);
        lanes.push(2, 20);
        assert!(!lanes.begin_parked(&2), "2 is not parked");
        assert_eq!(drain(&mut lanes), [Turn::Handle(2, 20)]);
        assert!(!lanes.begin_parked(&1));
        lanes.end(&2);
        assert!(lanes.begin_parked(&1));
        assert_eq!(lanes.under_way(), 1);
    }

    #[test]
    fn lanes_of_a_lost_partition_are_forgotten() {
        let mut lanes = Lanes::new(8);
        for lane in 1..=3 {
            lanes.push(lane, u32::from(lane));
            lanes.push(lane, 100 + u32::from(lane));
        }
        assert_eq!(lanes.next(), Some(Turn::Handle(1, 1)));
        lanes.park(2);
        lanes.forget(|lane| *lane < 3);
        lanes.end(&1);
        assert_eq!(drain(&mut lanes), [Turn::Handle(3, 3)]);
        assert_eq!(lanes.waiting(), 1);
        assert_eq!(lanes.parked().count(), 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        Next,
        End(u8),
        Fail(u8),
        Retry(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0_u8..5).prop_map(Step::Push),
            3 => Just(Step::Next),
            2 => (0_u8..5).prop_map(Step::End),
            1 => (0_u8..5).prop_map(Step::Fail),
            2 => (0_u8..5).prop_map(Step::Retry),
        ]
    }

    /// What a lane has gone through, as the store and the handler would see it.
    #[derive(Default)]
    struct Seen {
        under_way: Option<Turn<u8, u32>>,
        retried: Option<u32>,
        parked: VecDeque<u32>,
        handled: Vec<u32>,
    }

    proptest! {
        /// Whatever comes, fails and is tried again: each key is handled in the order of its arrival,
        /// with one event under way at a time, and nothing is lost.
        #[test]
        fn each_key_is_handled_in_order(
            steps in proptest::collection::vec(step(), 1..300),
            concurrency in 1_usize..4,
        ) {
            let mut lanes: Lanes<u8, u32> = Lanes::new(concurrency);
            let mut seen: HashMap<u8, Seen> = HashMap::new();
            let mut pushed: HashMap<u8, Vec<u32>> = HashMap::new();
            let mut number = 0;
            for step in steps {
                match step {
                    Step::Push(lane) => {
                        number += 1;
                        pushed.entry(lane).or_default().push(number);
                        lanes.push(lane, number);
                    }
                    Step::Next => {
                        if let Some(turn) = lanes.next() {
                            let (Turn::Handle(lane, _) | Turn::QueueBehind(lane, _)) = &turn;
                            let seen = seen.entry(*lane).or_default();
                            prop_assert!(seen.under_way.is_none() && seen.retried.is_none());
                            let is_parked = !seen.parked.is_empty();
                            prop_assert_eq!(matches!(turn, Turn::QueueBehind(..)), is_parked);
                            seen.under_way = Some(turn);
                        }
                    }
                    Step::End(lane) | Step::Fail(lane) => {
                        let is_failure = matches!(step, Step::Fail(_));
                        let seen = seen.entry(lane).or_default();
                        match seen.under_way.take() {
                            Some(Turn::Handle(_, job)) if is_failure => {
                                seen.parked.push_back(job);
                                lanes.park(lane);
                            }
                            Some(Turn::Handle(_, job)) => seen.handled.push(job),
                            Some(Turn::QueueBehind(_, job)) => seen.parked.push_back(job),
                            None => match seen.retried.take() {
                                Some(_) if is_failure => {}
                                Some(job) => {
                                    prop_assert_eq!(seen.parked.pop_front(), Some(job));
                                    seen.handled.push(job);
                                    if seen.parked.is_empty() {
                                        lanes.unpark(&lane);
                                    }
                                }
                                None => continue,
                            },
                        }
                        lanes.end(&lane);
                    }
                    Step::Retry(lane) => {
                        if lanes.begin_parked(&lane) {
                            let seen = seen.entry(lane).or_default();
                            prop_assert!(seen.under_way.is_none() && seen.retried.is_none());
                            seen.retried = seen.parked.front().copied();
                            prop_assert!(seen.retried.is_some());
                        }
                    }
                }
                prop_assert!(lanes.under_way() <= concurrency);
                for (lane, seen) in &seen {
                    let pushed = pushed.get(lane).map_or(&[][..], |pushed| &pushed[..]);
                    prop_assert_eq!(&seen.handled[..], &pushed[..seen.handled.len()]);
                }
            }
            let under_way = seen.values().filter(|seen| seen.under_way.is_some()).count();
            let settled: usize = seen.values().map(|seen| seen.handled.len() + seen.parked.len()).sum();
            let all: usize = pushed.values().map(Vec::len).sum();
            prop_assert_eq!(settled + under_way + lanes.waiting(), all);
        }
    }
}
