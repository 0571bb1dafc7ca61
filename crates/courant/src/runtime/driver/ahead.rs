//! Turns that stand ready: whoever has ended one takes the next by itself, and nobody waits until the loop has
//! heard of it.
//!
//! ```text
//!   lanes ──turns──▶ ahead ──▶ worker ──▶ ledger
//!     ▲                ▲          │
//!     │                └── takes ─┤
//!     └──────── reports ◀─────────┘
//! ```
//!
//! A turn that stands here is under way for the lanes, so those that take part in it have no other one. There are
//! never more workers than events that are handled at once: a worker takes its next turn before it says that the
//! last one is over, and the loop begins a worker only while fewer turns are with workers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use courant_engine::Partition;
use tokio::sync::mpsc::UnboundedSender;

use super::{Ended, Job, Lane, Report};
use crate::runtime::ledger::{Ledger, Settled, Trouble, Turns, Work};

/// What is to be done with the events of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Settle,
    Queue,
}

/// A turn, for a worker.
pub(super) struct Piece {
    partition: Partition,
    jobs: Vec<Job>,
    works: Vec<Work>,
    doing: Doing,
}

/// Turns that stand ready, in the order in which they begin.
#[derive(Default)]
pub(super) struct Ahead(Mutex<Ready>);

#[derive(Default)]
struct Ready {
    pieces: VecDeque<Piece>,
    /// Nobody takes one.
    is_held: bool,
}

/// What one worker has taken, and whom it tells what has become of it.
pub(super) struct Hand {
    ahead: Arc<Ahead>,
    reports: UnboundedSender<Report>,
    /// What is not over, in the order in which it was taken.
    taken: Mutex<VecDeque<(Partition, Vec<Job>)>>,
}

impl Piece {
    /// `None` of no events.
    pub(super) fn new(taken: Vec<(Lane, Work)>, doing: Doing) -> Option<Self> {
        let (_, first) = taken.first()?;
        let topic_partition = &first.assigned.partition;
        let partition = Partition::new(topic_partition.topic.as_str(), topic_partition.partition);
        let (jobs, works): (Vec<Job>, Vec<Work>) = taken
            .into_iter()
            .map(|(lane, work)| {
                let (offset, id, source) = (work.event.offset, work.event.id.clone(), work.source);
                (Job { lane, offset, id, source }, work)
            })
            .unzip();
        Some(Self { partition, jobs, works, doing })
    }

    /// The lanes that take part in it.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.jobs.iter().map(|job| &job.lane)
    }

    /// One event that is to be handled.
    fn is_single(&self) -> bool {
        self.doing == Doing::Settle && self.works.len() == 1
    }

    fn is_of(&self, serials: &[u64]) -> bool {
        self.lanes().any(|lane| serials.contains(&lane.serial()))
    }
}

impl Ahead {
    /// A turn stands ready behind the others.
    pub(super) fn push(&self, piece: Piece) {
        self.ready().pieces.push_back(piece);
    }

    /// A turn stands ready again, before the others.
    fn push_first(&self, piece: Piece) {
        self.ready().pieces.push_front(piece);
    }

    /// How many stand ready.
    pub(super) fn len(&self) -> usize {
        self.ready().pieces.len()
    }

    /// The next one for a new worker, if fewer than `most` of all `turns` are with workers.
    pub(super) fn next_of(&self, turns: usize, most: usize) -> Option<Piece> {
        let mut ready = self.ready();
        let with_workers = turns.saturating_sub(ready.pieces.len());
        if ready.is_held || with_workers >= most { None } else { ready.pieces.pop_front() }
    }

    /// The next one for a worker that has ended its last, if it is one event that is to be handled.
    fn next_single(&self) -> Option<Piece> {
        let mut ready = self.ready();
        let is_one = !ready.is_held && ready.pieces.front().is_some_and(Piece::is_single);
        if is_one { ready.pieces.pop_front() } else { None }
    }

    /// Nobody takes one until they are let go.
    pub(super) fn hold(&self) {
        self.ready().is_held = true;
    }

    /// They may be taken again.
    pub(super) fn let_go(&self) {
        self.ready().is_held = false;
    }

    /// Gives all of them up.
    pub(super) fn give_up(&self) -> Vec<Piece> {
        std::mem::take(&mut self.ready().pieces).into()
    }

    /// Gives those of some assignments up.
    pub(super) fn give_up_of(&self, serials: &[u64]) -> Vec<Piece> {
        let mut ready = self.ready();
        let (gone, rest): (Vec<Piece>, Vec<Piece>) =
            std::mem::take(&mut ready.pieces).into_iter().partition(|piece| piece.is_of(serials));
        ready.pieces = rest.into();
        gone
    }

    fn ready(&self) -> MutexGuard<'_, Ready> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hand {
    pub(super) fn new(ahead: Arc<Ahead>, reports: UnboundedSender<Report>) -> Self {
        Self { ahead, reports, taken: Mutex::default() }
    }

    /// What is not over longest is over.
    fn over(&self, result: Result<Vec<Settled>, Trouble>) {
        if let Some((partition, jobs)) = self.taken().pop_front() {
            // Nobody listens any more when the loop has ended.
            let _ = self.reports.send(Report::Ended(Ended { partition, jobs, result }));
        }
    }

    fn taken(&self) -> MutexGuard<'_, VecDeque<(Partition, Vec<Job>)>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turns for Hand {
    fn next(&self) -> Option<Work> {
        let Piece { partition, jobs, mut works, .. } = self.ahead.next_single()?;
        let work = works.pop()?;
        self.taken().push_back((partition, jobs));
        Some(work)
    }

    fn give_back(&self, work: Work) {
        if let Some((partition, jobs)) = self.taken().pop_back() {
            self.ahead.push_first(Piece { partition, jobs, works: vec![work], doing: Doing::Settle });
            // Who works already may not come to it for long, and the loop begins a worker.
            let _ = self.reports.send(Report::GivenBack);
        }
    }

    fn ended(&self, settled: Result<Settled, Trouble>) {
        self.over(settled.map(|settled| vec![settled]));
    }
}

impl Drop for Hand {
    /// A worker that panics has not said what has become of its turn.
    fn drop(&mut self) {
        while !self.taken().is_empty() {
            self.over(Err(Trouble::Broken("a task of the service has ended before its work".to_owned())));
        }
    }
}

/// Does what is to be done with a turn, and with those that the ledger takes behind it.
pub(super) async fn work(ledger: Arc<dyn Ledger>, piece: Piece, hand: Hand) {
    let Piece { partition, jobs, mut works, doing } = piece;
    hand.taken().push_back((partition, jobs));
    if doing == Doing::Queue {
        let count = works.len();
        hand.over(ledger.queue(works).await.map(|()| vec![Settled::Queued; count]));
        return;
    }
    match works.pop() {
        Some(work) if works.is_empty() => ledger.settle_all(work, &hand).await,
        Some(work) => {
            works.push(work);
            hand.over(ledger.settle_batch(works).await);
        }
        None => hand.over(Ok(Vec::new())),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use courant_core::event_id::EventId;
    use courant_core::position::TopicPartition;
    use courant_core::topic::TopicName;
    use courant_sql::{Event, Source};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::runtime::ledger::{Assigned, GivenUp};

    const DONE: Settled = Settled::Done { drained: false };

    fn piece(serial: u64, offsets: std::ops::Range<u64>, doing: Doing) -> Piece {
        let topic = TopicName::new("orders").expect("a name");
        let partition = TopicPartition { topic, partition: 1 };
        let assigned = Arc::new(Assigned {
            partition,
            serial,
            lease: None,
            topic_id: None,
            given_up: GivenUp::default(),
        });
        let work = |offset: u64| Work {
            assigned: assigned.clone(),
            event: Event {
                offset,
                id: EventId::new(&format!("e-{offset}")).expect("an id"),
                key: Some(Bytes::from(offset.to_string())),
                value: None,
                headers: Vec::new(),
                timestamp_ms: 0,
            },
            source: Source::Log,
            failures: 0,
        };
        let taken = offsets.map(work).map(|work| (Lane::of(&work), work)).collect();
        Piece::new(taken, doing).expect("has events")
    }

    fn single(offset: u64) -> Piece {
        piece(1, offset..offset + 1, Doing::Settle)
    }

    fn offset(piece: Option<Piece>) -> Option<u64> {
        piece?.jobs.first().map(|job| job.offset)
    }

    fn ended(reports: &mut UnboundedReceiver<Report>) -> Option<(u64, Result<Vec<Settled>, Trouble>)> {
        match reports.try_recv().ok()? {
            Report::Ended(Ended { jobs, result, .. }) => Some((jobs.first()?.offset, result)),
            Report::GivenBack => None,
        }
    }

    /// Two are handled at once: of five turns two begin, and each next one only when one of them is over.
    #[test]
    fn no_worker_begins_while_enough_are_at_work() {
        let ahead = Ahead::default();
        (0..5).for_each(|offset| ahead.push(single(offset)));
        assert_eq!(offset(ahead.next_of(5, 2)), Some(0));
        assert_eq!(offset(ahead.next_of(5, 2)), Some(1));
        assert!(ahead.next_of(5, 2).is_none());
        // A worker takes the next one, and says afterwards that its last one is over.
        assert_eq!(offset(ahead.next_single()), Some(2));
        assert!(ahead.next_of(5, 2).is_none() && ahead.next_of(4, 2).is_none());
        // One has ended for good.
        assert_eq!(offset(ahead.next_of(3, 2)), Some(3));
        assert_eq!(ahead.len(), 1);
    }

    /// A worker goes on with single events alone, in their order, and passes nothing over.
    #[test]
    fn what_is_not_one_event_waits_for_a_worker_of_its_own() {
        let ahead = Ahead::default();
        for piece in [single(0), piece(1, 1..3, Doing::Settle), piece(1, 3..4, Doing::Queue), single(4)] {
            ahead.push(piece);
        }
        assert_eq!(offset(ahead.next_single()), Some(0));
        assert!(ahead.next_single().is_none(), "a batch");
        assert_eq!(offset(ahead.next_of(3, 1)), Some(1));
        assert!(ahead.next_single().is_none(), "events that are put behind parked ones");
        assert_eq!(offset(ahead.next_of(2, 1)), Some(3));
        assert_eq!(offset(ahead.next_single()), Some(4));
    }

    #[test]
    fn of_a_partition_that_is_given_up_nothing_begins() {
        let ahead = Ahead::default();
        for serial in [1, 2, 1, 3] {
            ahead.push(piece(serial, serial..serial + 1, Doing::Settle));
        }
        ahead.hold();
        assert!(ahead.next_single().is_none() && ahead.next_of(4, 9).is_none());
        assert_eq!(ahead.give_up_of(&[1]).len(), 2);
        ahead.let_go();
        assert_eq!(offset(ahead.next_single()), Some(2));
        assert_eq!(ahead.give_up().len(), 1);
        assert_eq!(ahead.len(), 0);
    }

    /// What has become of each turn is said in the order in which they were taken; and of one that nobody has
    /// settled, that it is not.
    #[test]
    fn a_worker_says_what_has_become_of_everything_that_it_took() {
        let (sender, mut reports) = unbounded_channel();
        let ahead = Arc::new(Ahead::default());
        (0..3).for_each(|offset| ahead.push(single(offset)));
        let hand = Hand::new(ahead, sender);
        assert_eq!(hand.next().map(|work| work.event.offset), Some(0));
        assert_eq!(hand.next().map(|work| work.event.offset), Some(1));
        hand.ended(Ok(DONE));
        assert_eq!(ended(&mut reports), Some((0, Ok(vec![DONE]))));
        assert_eq!(ended(&mut reports), None);
        drop(hand);
        assert!(matches!(ended(&mut reports), Some((1, Err(Trouble::Broken(_))))));
        assert_eq!(ended(&mut reports), None, "the third one was not taken");
    }

    /// Nobody takes what a worker gives back while a partition is given up, and it goes with its partition: its
    /// owner is somebody else then.
    #[test]
    fn what_is_given_back_of_a_partition_that_goes_is_given_up() {
        let (sender, _reports) = unbounded_channel();
        let ahead = Arc::new(Ahead::default());
        for serial in [1, 2, 3] {
            ahead.push(piece(serial, serial..serial + 1, Doing::Settle));
        }
        let hand = Hand::new(ahead.clone(), sender);
        assert_eq!(hand.next().map(|work| work.event.offset), Some(1));
        let second = hand.next().expect("stands ready");
        ahead.hold();
        assert_eq!(ahead.give_up_of(&[2]).len(), 0, "it is with a worker");
        hand.give_back(second);
        assert!(ahead.next_of(3, 9).is_none());
        assert_eq!(ahead.give_up_of(&[2]).len(), 1);
        ahead.let_go();
        assert_eq!(offset(ahead.next_of(2, 9)), Some(3));
        hand.ended(Ok(DONE));
    }

    /// A turn that is given back is the next one again, and the loop hears of it: the worker may have much to do
    /// with the turn before it.
    #[test]
    fn what_is_given_back_is_the_next_one_again() {
        let (sender, mut reports) = unbounded_channel();
        let ahead = Arc::new(Ahead::default());
        (0..3).for_each(|offset| ahead.push(single(offset)));
        let hand = Hand::new(ahead.clone(), sender);
        assert_eq!(hand.next().map(|work| work.event.offset), Some(0));
        let second = hand.next().expect("stands ready");
        hand.give_back(second);
        assert!(matches!(reports.try_recv(), Ok(Report::GivenBack)));
        assert_eq!(offset(ahead.next_of(3, 2)), Some(1), "one is with a worker, and two stand ready");
        hand.ended(Ok(DONE));
        assert_eq!(ended(&mut reports), Some((0, Ok(vec![DONE]))));
    }
}
