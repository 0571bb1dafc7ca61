//! Which events may run now: one turn at a time for each key, in the order of their arrival, and so many
//! turns at once. No clock and no I/O.
//!
//! A lane is what must keep its order: the events of one key. An event without a key has a lane of its
//! own. A turn is what one worker does: one event, or a batch of several. Invariants:
//! - a lane takes part in at most one turn at a time;
//! - a lane's events come out in the order in which they went in, those of one batch among them;
//! - an event of a parked lane never comes out as [`Turn::Handle`];
//! - a turn begins with the oldest event of all that may, and a batch goes on with the oldest that fits.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::ops::Bound;

/// Events of a parked lane that are put behind the parked ones at once.
const QUEUED_MAX: usize = 100;

/// What is to be done with events whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn<L, J> {
    /// Call their handlers, one after the other.
    Handle(Vec<(L, J)>),
    /// Their lane is parked: put them behind what is parked.
    QueueBehind(L, Vec<J>),
}

/// The lanes of one subscription.
#[derive(Debug)]
pub(crate) struct Lanes<L, J> {
    concurrency: usize,
    /// How many turns more may begin, and wait for one of the others to end.
    ahead: usize,
    /// Most events of one turn.
    batch: usize,
    waiting: HashMap<L, VecDeque<(u64, J)>>,
    /// Lanes whose first event may have its turn, by the arrival of that event.
    ready: BTreeMap<u64, L>,
    busy: HashSet<L>,
    /// Turns that are under way.
    turns: usize,
    parked: HashSet<L>,
    arrivals: u64,
    count: usize,
}

impl<L: Clone + Eq + Hash, J> Lanes<L, J> {
    /// Nothing waits, at most `concurrency` turns are under way at once, and each has at most `batch`
    /// events.
    pub(crate) fn new(concurrency: usize, batch: usize) -> Self {
        Self {
            concurrency,
            ahead: 0,
            batch,
            waiting: HashMap::new(),
            ready: BTreeMap::new(),
            busy: HashSet::new(),
            turns: 0,
            parked: HashSet::new(),
            arrivals: 0,
            count: 0,
        }
    }

    /// So many turns more may be under way, so that whoever ends one finds the next.
    pub(crate) fn with_ahead(self, ahead: usize) -> Self {
        Self { ahead, ..self }
    }

    /// How many events wait for their turn.
    pub(crate) fn waiting(&self) -> usize {
        self.count
    }

    /// How many turns are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.turns
    }

    /// Whether an event waits or is under way, of lanes that `is_wanted` says.
    pub(crate) fn has(&self, is_wanted: impl Fn(&L) -> bool) -> bool {
        self.waiting.keys().chain(&self.busy).any(is_wanted)
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

    /// The next events whose turn it is, if one more turn may be under way. `fits` says whether events
    /// of the second lane may be in one batch with those of the first.
    pub(crate) fn next(&mut self, fits: impl Fn(&L, &L) -> bool) -> Option<Turn<L, J>> {
        if self.turns >= self.turns_max() {
            return None;
        }
        let (&oldest, lane) = self.ready.first_key_value()?;
        if self.turns >= self.concurrency && self.is_overtaking(oldest) {
            return None;
        }
        let lane = lane.clone();
        let mut taken = Vec::new();
        if self.parked.contains(&lane) {
            self.take(oldest, QUEUED_MAX, &mut taken, |other| *other == lane);
            self.begin(std::iter::once(&lane));
            return Some(Turn::QueueBehind(lane, taken.into_iter().map(|(_, job)| job).collect()));
        }
        let parked = std::mem::take(&mut self.parked);
        let may = |other: &L| *other == lane || (!parked.contains(other) && fits(&lane, other));
        self.take(oldest, self.batch.max(1), &mut taken, may);
        self.parked = parked;
        self.begin(taken.iter().map(|(lane, _)| lane));
        Some(Turn::Handle(taken))
    }

    fn turns_max(&self) -> usize {
        self.concurrency.saturating_add(self.ahead)
    }

    /// Where one turn follows the other, the order of their events is that of all events that may: whether an
    /// older one, of a lane that is under way, has its turn before this one.
    fn is_overtaking(&self, arrival: u64) -> bool {
        let mut waiting = self.busy.iter().filter_map(|lane| self.waiting.get(lane)?.front());
        self.concurrency == 1 && waiting.any(|(older, _)| *older < arrival)
    }

    /// Takes up to `most` events in the order of their arrival, from `oldest` on: those of lanes that may
    /// be taken from.
    fn take(&mut self, oldest: u64, most: usize, taken: &mut Vec<(L, J)>, may: impl Fn(&L) -> bool) {
        let mut from = Bound::Included(oldest);
        while taken.len() < most {
            let mut candidates = self.ready.range((from, Bound::Unbounded));
            let Some((&arrival, _)) = candidates.find(|(_, lane)| may(lane)) else { return };
            // What is passed over now does not fit later either.
            from = Bound::Excluded(arrival);
            let Some(lane) = self.ready.remove(&arrival) else { return };
            let Some(queue) = self.waiting.get_mut(&lane) else { return };
            let Some((_, job)) = queue.pop_front() else { return };
            self.count -= 1;
            match queue.front() {
                // The lane's next event is behind this one, in this turn or in a later one.
                Some((next, _)) => drop(self.ready.insert(*next, lane.clone())),
                None => drop(self.waiting.remove(&lane)),
            }
            taken.push((lane, job));
        }
    }

    /// A turn begins: its lanes have no other one until it ends.
    fn begin<'a>(&mut self, lanes: impl Iterator<Item = &'a L>)
    where
        L: 'a,
    {
        self.turns += 1;
        for lane in lanes {
            if let Some((arrival, _)) = self.waiting.get(lane).and_then(VecDeque::front) {
                self.ready.remove(arrival);
            }
            self.busy.insert(lane.clone());
        }
    }

    /// Takes the turn of a parked lane for what is parked itself. Says no when events of the lane are
    /// under way, or too many turns are.
    pub(crate) fn begin_parked(&mut self, lane: &L) -> bool {
        if !self.parked.contains(lane) || self.busy.contains(lane) || self.turns >= self.turns_max() {
            return false;
        }
        self.begin(std::iter::once(lane));
        true
    }

    /// A turn has ended. `lanes` are those that took part in it, as often as they are named.
    pub(crate) fn end<'a>(&mut self, lanes: impl IntoIterator<Item = &'a L>)
    where
        L: 'a,
    {
        self.turns = self.turns.saturating_sub(1);
        for lane in lanes {
            if !self.busy.remove(lane) {
                continue;
            }
            if let Some((arrival, _)) = self.waiting.get(lane).and_then(VecDeque::front) {
                self.ready.insert(*arrival, lane.clone());
            }
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

    type Turns = Turn<u8, u32>;

    /// Lanes of one batch are both even or both odd, as those of one partition are.
    fn same_parity(one: &u8, other: &u8) -> bool {
        one % 2 == other % 2
    }

    fn drain(lanes: &mut Lanes<u8, u32>) -> Vec<Turns> {
        std::iter::from_fn(|| lanes.next(same_parity)).collect()
    }

    fn handle(lane: u8, job: u32) -> Turns {
        Turn::Handle(vec![(lane, job)])
    }

    #[test]
    fn one_event_of_a_key_at_a_time_and_others_beside_it() {
        let mut lanes = Lanes::new(8, 1);
        for (lane, job) in [(1, 10), (1, 11), (2, 20), (3, 30), (2, 21)] {
            lanes.push(lane, job);
        }
        assert_eq!(drain(&mut lanes), [handle(1, 10), handle(2, 20), handle(3, 30)]);
        lanes.end(&[2]);
        assert_eq!(drain(&mut lanes), [handle(2, 21)]);
        lanes.end(&[1]);
        assert_eq!(drain(&mut lanes), [handle(1, 11)]);
        assert_eq!((lanes.waiting(), lanes.under_way()), (0, 3));
    }

    #[test]
    fn a_lane_is_there_while_an_event_of_it_waits_or_is_under_way() {
        let mut lanes = Lanes::new(1, 1);
        lanes.push(1, 10);
        assert_eq!(drain(&mut lanes), [handle(1, 10)]);
        lanes.push(2, 20);
        assert!(
            lanes.has(|lane| *lane == 1) && lanes.has(|lane| *lane == 2) && !lanes.has(|lane| *lane == 3)
        );
        lanes.end(&[1]);
        lanes.forget(|lane| *lane == 2);
        assert!(!lanes.has(|_| true));
    }

    #[test]
    fn so_many_at_once_and_the_oldest_first() {
        let mut lanes = Lanes::new(2, 1);
        for lane in 1..=4 {
            lanes.push(lane, u32::from(lane));
        }
        assert_eq!(drain(&mut lanes), [handle(1, 1), handle(2, 2)]);
        lanes.push(1, 100);
        lanes.end(&[1]);
        assert_eq!(drain(&mut lanes), [handle(3, 3)]);
        lanes.end(&[2]);
        lanes.end(&[3]);
        assert_eq!(drain(&mut lanes), [handle(4, 4), handle(1, 100)]);
    }

    #[test]
    fn a_batch_has_what_is_ready_of_one_kind_in_the_order_of_its_arrival() {
        let mut lanes = Lanes::new(8, 4);
        for (lane, job) in [(1, 10), (2, 20), (3, 30), (1, 11), (2, 21), (5, 50), (1, 12)] {
            lanes.push(lane, job);
        }
        let odd = Turn::Handle(vec![(1, 10), (3, 30), (1, 11), (5, 50)]);
        assert_eq!(lanes.next(same_parity), Some(odd));
        assert_eq!(lanes.next(same_parity), Some(Turn::Handle(vec![(2, 20), (2, 21)])));
        assert_eq!(lanes.next(same_parity), None, "12 waits for what is before it");
        assert_eq!((lanes.waiting(), lanes.under_way()), (1, 2));
        lanes.end(&[1, 3, 1, 5]);
        assert_eq!(lanes.next(same_parity), Some(handle(1, 12)));
    }

    #[test]
    fn a_batch_has_nothing_of_a_lane_that_is_parked_or_under_way() {
        let mut lanes = Lanes::new(8, 10);
        lanes.push(1, 10);
        assert_eq!(drain(&mut lanes), [handle(1, 10)]);
        lanes.park(3);
        for (lane, job) in [(1, 11), (5, 50), (3, 30), (3, 31), (7, 70)] {
            lanes.push(lane, job);
        }
        let batch = Turn::Handle(vec![(5, 50), (7, 70)]);
        assert_eq!(drain(&mut lanes), [batch, Turn::QueueBehind(3, vec![30, 31])]);
    }

    #[test]
    fn what_comes_after_a_parked_event_queues_behind_it() {
        let mut lanes = Lanes::new(8, 1);
        lanes.push(1, 10);
        lanes.push(1, 11);
        assert_eq!(drain(&mut lanes), [handle(1, 10)]);
        lanes.park(1);
        lanes.end(&[1]);
        assert!(lanes.is_parked(&1));
        assert_eq!(drain(&mut lanes), [Turn::QueueBehind(1, vec![11])]);
        assert!(!lanes.begin_parked(&1), "while 11 is put into the store");
        lanes.push(1, 12);
        lanes.end(&[1]);
        assert!(lanes.begin_parked(&1));
        assert!(drain(&mut lanes).is_empty(), "while the parked ones are tried again");
        lanes.unpark(&1);
        lanes.end(&[1]);
        assert_eq!(drain(&mut lanes), [handle(1, 12)]);
    }

    #[test]
    fn a_parked_lane_keeps_to_the_concurrency() {
        let mut lanes = Lanes::new(1, 1);
        lanes.park(1);
        lanes.push(2, 20);
        assert!(!lanes.begin_parked(&2), "2 is not parked");
        assert_eq!(drain(&mut lanes), [handle(2, 20)]);
        assert!(!lanes.begin_parked(&1));
        lanes.end(&[2]);
        assert!(lanes.begin_parked(&1));
        assert_eq!(lanes.under_way(), 1);
    }

    /// One turn more than may be handled at once is there for whoever ends one, and a parked lane has its turn
    /// among these as among the others.
    #[test]
    fn so_many_more_wait_for_a_turn_to_end() {
        let mut lanes = Lanes::new(2, 1).with_ahead(1);
        for lane in 1..=4 {
            lanes.push(lane, u32::from(lane));
        }
        assert_eq!(drain(&mut lanes), [handle(1, 1), handle(2, 2), handle(3, 3)]);
        lanes.end(&[1]);
        lanes.park(5);
        assert!(lanes.begin_parked(&5));
        assert!(drain(&mut lanes).is_empty());
        assert_eq!((lanes.waiting(), lanes.under_way()), (1, 3));
    }

    /// Where one turn follows the other, what comes next is decided by the order of all events, and the next one
    /// of a key that is under way is not overtaken.
    #[test]
    fn one_at_a_time_nothing_overtakes() {
        let mut lanes = Lanes::new(1, 1).with_ahead(1);
        for (lane, job) in [(1, 10), (2, 20), (2, 21), (3, 30)] {
            lanes.push(lane, job);
        }
        assert_eq!(drain(&mut lanes), [handle(1, 10), handle(2, 20)]);
        lanes.end(&[1]);
        assert!(drain(&mut lanes).is_empty(), "21 is before 30");
        lanes.end(&[2]);
        assert_eq!(drain(&mut lanes), [handle(2, 21), handle(3, 30)]);
    }

    #[test]
    fn so_many_of_a_parked_lane_are_queued_at_once() {
        let mut lanes = Lanes::new(8, 1);
        lanes.park(1);
        for job in 0..u32::try_from(QUEUED_MAX).expect("is small") + 1 {
            lanes.push(1, job);
        }
        let queued = drain(&mut lanes);
        assert!(matches!(&queued[..], [Turn::QueueBehind(1, jobs)] if jobs.len() == QUEUED_MAX));
        assert_eq!(lanes.waiting(), 1);
    }

    #[test]
    fn lanes_of_a_lost_partition_are_forgotten() {
        let mut lanes = Lanes::new(8, 1);
        for lane in 1..=3 {
            lanes.push(lane, u32::from(lane));
            lanes.push(lane, 100 + u32::from(lane));
        }
        assert_eq!(lanes.next(same_parity), Some(handle(1, 1)));
        lanes.park(2);
        lanes.forget(|lane| *lane < 3);
        lanes.end(&[1]);
        assert_eq!(drain(&mut lanes), [handle(3, 3)]);
        assert_eq!((lanes.waiting(), lanes.under_way()), (1, 1));
        assert_eq!(lanes.parked().count(), 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        Next,
        /// A turn that is under way ends well.
        End(prop::sample::Index),
        /// An event of a turn that is under way fails: each of them is handled by itself then.
        Fail(prop::sample::Index, prop::sample::Index),
        Retry(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u8..6).prop_map(Step::Push),
            3 => Just(Step::Next),
            2 => any::<prop::sample::Index>().prop_map(Step::End),
            1 => any::<(prop::sample::Index, prop::sample::Index)>()
                .prop_map(|(turn, event)| Step::Fail(turn, event)),
            2 => (0_u8..6).prop_map(Step::Retry),
        ]
    }

    /// A turn that is under way.
    #[derive(Clone, Debug)]
    enum UnderWay {
        Turn(Turns),
        /// The first parked event of a lane is tried again.
        Retry(u8, u32),
    }

    impl UnderWay {
        fn lanes(&self) -> Vec<u8> {
            match self {
                Self::Turn(Turn::Handle(jobs)) => jobs.iter().map(|(lane, _)| *lane).collect(),
                Self::Turn(Turn::QueueBehind(lane, _)) | Self::Retry(lane, _) => vec![*lane],
            }
        }

        /// How many events come from the lanes, and not from the store.
        fn events(&self) -> usize {
            match self {
                Self::Turn(Turn::Handle(jobs)) => jobs.len(),
                Self::Turn(Turn::QueueBehind(_, jobs)) => jobs.len(),
                Self::Retry(..) => 0,
            }
        }
    }

    /// What has become of the events, as the store and the handlers would see it.
    #[derive(Default)]
    struct Seen {
        under_way: Vec<UnderWay>,
        parked: HashMap<u8, VecDeque<u32>>,
        handled: HashMap<u8, Vec<u32>>,
    }

    impl Seen {
        fn is_parked(&self, lane: u8) -> bool {
            self.parked.get(&lane).is_some_and(|parked| !parked.is_empty())
        }

        /// One event after the other, as a ledger settles them: what comes behind a parked one of its
        /// lane is parked as well.
        fn settle(&mut self, lanes: &mut Lanes<u8, u32>, jobs: Vec<(u8, u32)>, failing: Option<usize>) {
            for (at, (lane, job)) in jobs.into_iter().enumerate() {
                if failing == Some(at) || self.is_parked(lane) {
                    self.parked.entry(lane).or_default().push_back(job);
                    lanes.park(lane);
                } else {
                    self.handled.entry(lane).or_default().push(job);
                }
            }
        }

        fn end(&mut self, lanes: &mut Lanes<u8, u32>, ended: UnderWay, failing: Option<usize>) {
            let named = ended.lanes();
            match ended {
                UnderWay::Turn(Turn::Handle(jobs)) => self.settle(lanes, jobs, failing),
                UnderWay::Turn(Turn::QueueBehind(lane, jobs)) => {
                    self.parked.entry(lane).or_default().extend(jobs);
                }
                UnderWay::Retry(lane, job) if failing.is_none() => {
                    let parked = self.parked.entry(lane).or_default();
                    assert_eq!(parked.pop_front(), Some(job));
                    if parked.is_empty() {
                        lanes.unpark(&lane);
                    }
                    self.handled.entry(lane).or_default().push(job);
                }
                UnderWay::Retry(..) => {}
            }
            lanes.end(&named);
        }
    }

    proptest! {
        /// Whatever comes, fails and is tried again, alone and in batches: each key is handled in the
        /// order of its arrival, takes part in one turn at a time, and nothing is lost.
        #[test]
        fn each_key_is_handled_in_order(
            steps in proptest::collection::vec(step(), 1..300),
            concurrency in 1_usize..4,
            batch in 1_usize..6,
            ahead in 0_usize..3,
        ) {
            let mut lanes: Lanes<u8, u32> = Lanes::new(concurrency, batch).with_ahead(ahead);
            let mut seen = Seen::default();
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
                        let Some(turn) = lanes.next(same_parity) else { continue };
                        let turn = UnderWay::Turn(turn);
                        prop_assert!(turn.events() > 0);
                        for lane in turn.lanes() {
                            prop_assert!(seen.under_way.iter().all(|other| !other.lanes().contains(&lane)));
                        }
                        match &turn {
                            UnderWay::Turn(Turn::Handle(jobs)) => {
                                prop_assert!(jobs.len() <= batch);
                                prop_assert!(jobs.iter().all(|(lane, _)| same_parity(lane, &jobs[0].0)));
                                prop_assert!(jobs.is_sorted_by_key(|(_, job)| *job));
                                prop_assert!(jobs.iter().all(|(lane, _)| !seen.is_parked(*lane)));
                            }
                            _ => prop_assert!(seen.is_parked(turn.lanes()[0])),
                        }
                        seen.under_way.push(turn);
                    }
                    Step::End(turn) if !seen.under_way.is_empty() => {
                        let ended = seen.under_way.swap_remove(turn.index(seen.under_way.len()));
                        seen.end(&mut lanes, ended, None);
                    }
                    Step::Fail(turn, event) if !seen.under_way.is_empty() => {
                        let ended = seen.under_way.swap_remove(turn.index(seen.under_way.len()));
                        let failing = event.index(ended.events().max(1));
                        seen.end(&mut lanes, ended, Some(failing));
                    }
                    Step::End(_) | Step::Fail(..) => {}
                    Step::Retry(lane) => {
                        if lanes.begin_parked(&lane) {
                            prop_assert!(seen.under_way.iter().all(|other| !other.lanes().contains(&lane)));
                            let first = seen.parked.get(&lane).and_then(VecDeque::front).copied();
                            prop_assert!(first.is_some());
                            seen.under_way.extend(first.map(|job| UnderWay::Retry(lane, job)));
                        }
                    }
                }
                prop_assert_eq!(lanes.under_way(), seen.under_way.len());
                prop_assert!(lanes.under_way() <= concurrency + ahead);
                for (lane, handled) in &seen.handled {
                    let pushed = pushed.get(lane).map_or(&[][..], |pushed| &pushed[..]);
                    prop_assert_eq!(&handled[..], &pushed[..handled.len()]);
                }
            }
            let under_way: usize = seen.under_way.iter().map(UnderWay::events).sum();
            let handled: usize = seen.handled.values().map(Vec::len).sum();
            let parked: usize = seen.parked.values().map(VecDeque::len).sum();
            let all: usize = pushed.values().map(Vec::len).sum();
            prop_assert_eq!(handled + parked + under_way + lanes.waiting(), all);
        }
    }
}
