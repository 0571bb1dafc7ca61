//! Giving events their turn, and what follows when a turn is over.

use std::time::Duration;

use courant_engine::Partition;
use courant_sql::Source;
use tokio::time::Instant;
use tracing::{info, warn};

use super::ahead::{Doing, Hand, Piece, work};
use super::assigning::TAKEN_AGAIN;
use super::{Driver, Ended, Job, Lane, Look, Report};
use crate::runtime::lanes::Turn;
use crate::runtime::ledger::{Settled, Trouble, Work};

impl Driver {
    /// Begins whatever may begin now.
    pub(super) async fn begin_turns(&mut self) -> Result<(), Trouble> {
        if self.is_holding {
            // What has begun for the lanes comes to its end.
            self.begin_workers();
            if self.lanes.under_way() > 0 {
                return Ok(());
            }
            let decisions = self.status.get().decisions;
            self.claim().await?;
            self.status.update(|state| state.followed = decisions);
            self.is_holding = false;
            self.room.doubt();
        }
        self.begin_due().await?;
        // A batch is one transaction, and that belongs to one assignment.
        while let Some(turn) = self.lanes.next(|one, other| one.serial() == other.serial()) {
            match turn {
                Turn::Handle(taken) => self.stand_ready(taken, Doing::Settle),
                Turn::QueueBehind(lane, works) => {
                    let taken = works.into_iter().map(|work| (lane.clone(), work)).collect();
                    self.stand_ready(taken, Doing::Queue);
                }
            }
        }
        self.begin_workers();
        Ok(())
    }

    /// Begins parked events that are due.
    async fn begin_due(&mut self) -> Result<(), Trouble> {
        let now_ms = self.context.time.now_ms();
        let limit = u32::try_from(self.orders.concurrency.saturating_mul(2)).unwrap_or(u32::MAX);
        let mut begun = Vec::new();
        for part in self.parts.values_mut() {
            let is_due = part.due_ms.first().is_some_and(|due_ms| *due_ms <= now_ms);
            if !is_due && part.look != Look::Now {
                continue;
            }
            part.due_ms = part.due_ms.split_off(&now_ms.saturating_add(1));
            part.look = Look::No;
            let due = self.ledger.due(&part.assigned, limit).await?;
            if due.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
                part.look = Look::WhenSomethingEnds;
            }
            for work in due {
                let lane = Lane::of(&work);
                self.lanes.park(lane.clone());
                if self.lanes.begin_parked(&lane) {
                    begun.push((lane, work));
                } else {
                    part.look = Look::WhenSomethingEnds;
                }
            }
        }
        for taken in begun {
            self.stand_ready(vec![taken], Doing::Settle);
        }
        Ok(())
    }

    /// Takes dead letters that somebody wants to be handled again, while nothing is under way.
    async fn claim(&mut self) -> Result<(), Trouble> {
        let mut lost = Vec::new();
        for (partition, part) in &mut self.parts {
            match self.ledger.claim_redrives(&part.assigned).await {
                Ok(keys) => {
                    let serial = part.assigned.serial;
                    for key in keys.into_iter().flatten() {
                        self.lanes.park(Lane::Key(serial, key));
                    }
                }
                Err(Trouble::Fenced) => lost.push(partition.clone()),
                Err(trouble) => return Err(trouble),
            }
            // What waited behind a letter that was given up is due as well.
            part.look = Look::Now;
        }
        lost.iter().for_each(|partition| self.lose(partition));
        Ok(())
    }

    /// A turn has begun, and waits for a worker.
    fn stand_ready(&self, taken: Vec<(Lane, Work)>, doing: Doing) {
        if let Some(piece) = Piece::new(taken, doing) {
            self.context.activity.note();
            self.ahead.push(piece);
        }
    }

    /// Has workers do what stands ready, so many as may be at work at once.
    fn begin_workers(&mut self) {
        while let Some(piece) = self.ahead.next_of(self.lanes.under_way(), self.orders.concurrency) {
            let hand = Hand::new(self.ahead.clone(), self.reporting.clone());
            self.workers.spawn(work(self.ledger.clone(), piece, hand));
        }
    }

    /// Takes in what a worker has said, and what the others have said by now.
    pub(super) async fn reported(&mut self, report: Report) -> Result<(), Trouble> {
        // A worker that has panicked has said so.
        while self.workers.try_join_next().is_some() {}
        let mut next = Some(report);
        while let Some(report) = next {
            if let Report::Ended(ended) = report {
                self.ended(ended).await?;
            }
            next = self.reports.try_recv().ok();
        }
        Ok(())
    }

    /// A turn is over.
    async fn ended(&mut self, ended: Ended) -> Result<(), Trouble> {
        let Ended { partition, jobs, result } = ended;
        let settled = match result {
            Ok(settled) => settled,
            Err(Trouble::Fenced) => {
                self.lanes.end(jobs.iter().map(|job| &job.lane));
                self.look_again();
                let part = self.parts.get(&partition);
                // What an earlier assignment has left over says nothing of the one that is there now.
                if part.is_some_and(|part| jobs.iter().any(|job| job.lane.serial() == part.assigned.serial)) {
                    self.lose(&partition);
                }
                return Ok(());
            }
            Err(trouble) => return Err(trouble),
        };
        let over = settled.iter().filter(|settled| **settled != Settled::Left).count();
        self.unsaved += over;
        self.unpruned += over;
        let was_closed = self.room.is_closed();
        for (job, settled) in jobs.iter().zip(&settled) {
            self.park_or_not(&job.lane, *settled);
            match (job.source, settled) {
                (Source::Parked, Settled::Done { .. }) => self.room.settle(),
                (Source::Parked, _) | (Source::Log, Settled::Done { .. } | Settled::Left) => {}
                (Source::Log, _) => self.room.park(),
            }
        }
        if !was_closed && self.room.is_closed() {
            self.read_or_not();
        }
        self.lanes.end(jobs.iter().map(|job| &job.lane));
        self.look_again();
        self.note(&partition, jobs.into_iter().zip(settled)).await
    }

    /// There is room again for parked events that found none, whatever has become of the turn that is over.
    fn look_again(&mut self) {
        for part in self.parts.values_mut().filter(|part| part.look == Look::WhenSomethingEnds) {
            part.look = Look::Now;
        }
    }

    /// Whether later events of a lane may be handled, after what has become of one.
    fn park_or_not(&mut self, lane: &Lane, settled: Settled) {
        let is_alone = matches!(lane, Lane::Alone(..));
        match settled {
            Settled::Done { drained } if drained || is_alone => self.lanes.unpark(lane),
            Settled::Done { .. } | Settled::Left => {}
            // What has no key is parked singly: nothing can come behind it.
            _ if is_alone => self.lanes.unpark(lane),
            Settled::Waits { .. } | Settled::Queued | Settled::Holds => self.lanes.park(lane.clone()),
        }
    }

    /// Notes what has become of events, if their partition is still that of the subscription.
    async fn note(
        &mut self,
        partition: &Partition,
        settled: impl Iterator<Item = (Job, Settled)>,
    ) -> Result<(), Trouble> {
        let Some(part) = self.parts.get_mut(partition) else { return Ok(()) };
        let mut is_next_unknown = false;
        for (job, settled) in settled {
            if part.assigned.serial != job.lane.serial() {
                return Ok(());
            }
            if settled == Settled::Left {
                continue;
            }
            if let Settled::Waits { due_ms } = settled {
                part.due_ms.insert(due_ms);
            }
            if job.source == Source::Log {
                part.is_unsaved |= part.progress.settle(job.offset, job.id);
            }
            // What is behind a parked event that is done with is due, and nobody else says when.
            is_next_unknown |= job.source == Source::Parked || settled == Settled::Queued;
        }
        if is_next_unknown {
            part.due_ms.extend(self.ledger.next_due(&part.assigned).await?);
        }
        Ok(())
    }

    /// Gives up what stands ready of some assignments.
    pub(super) fn give_up_ahead(&mut self, serials: &[u64]) {
        for piece in self.ahead.give_up_of(serials) {
            self.lanes.end(piece.lanes());
        }
    }

    /// Lets a partition go. Whether it was there.
    pub(super) fn let_go(&mut self, partition: &Partition) -> bool {
        let Some(part) = self.parts.remove(partition) else { return false };
        let serial = part.assigned.serial;
        part.assigned.given_up.set();
        self.lanes.forget(|lane| lane.serial() == serial);
        self.give_up_ahead(&[serial]);
        self.subscription.pause(std::slice::from_ref(partition));
        true
    }

    /// Somebody else has a partition now.
    pub(super) fn lose(&mut self, partition: &Partition) {
        if !self.let_go(partition) {
            return;
        }
        // If the group still means this instance, the other one was late, and nobody else comes back to it.
        self.unopened.insert(partition.clone(), Instant::now() + TAKEN_AGAIN);
        warn!(consumer = self.orders.consumer, %partition, "another instance of the service has the partition");
    }

    /// Gives partitions up that are wanted elsewhere: what is under way comes to its end first.
    pub(super) async fn revoke(&mut self, partitions: &[Partition]) -> Result<(), Trouble> {
        let parts = partitions.iter().filter_map(|partition| self.parts.get(partition));
        let given_up = parts.map(|part| {
            part.assigned.given_up.set();
            part.assigned.serial
        });
        let serials: Vec<u64> = given_up.collect();
        self.lanes.forget(|lane| serials.contains(&lane.serial()));
        self.ahead.hold();
        self.give_up_ahead(&serials);
        match tokio::time::timeout(REVOKE_MAX, self.settle_workers_of(&serials)).await {
            Ok(settled) => settled?,
            Err(_) => {
                warn!(
                    consumer = self.orders.consumer,
                    "what was under way did not end before its partition went"
                );
            }
        }
        // What workers have given back meanwhile is no business of this instance any more.
        self.give_up_ahead(&serials);
        self.ahead.let_go();
        self.save_at_last(partitions).await?;
        self.unopened.retain(|waiting, _| !partitions.contains(waiting));
        self.standing.are_taken(partitions, Instant::now());
        for partition in partitions {
            self.parts.remove(partition);
            info!(consumer = self.orders.consumer, %partition, "gave the partition up");
        }
        Ok(())
    }
}

/// How long a partition that is wanted elsewhere is kept for what is under way. The next owner fences it.
pub(super) const REVOKE_MAX: Duration = Duration::from_secs(20);
