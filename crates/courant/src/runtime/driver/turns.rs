//! Giving events their turn, and what follows when a turn is over.

use std::time::Duration;

use courant_engine::Partition;
use courant_sql::Source;
use tokio::task::JoinError;
use tracing::{info, warn};

use super::{Driver, Ended, Lane, Look};
use crate::runtime::lanes::Turn;
use crate::runtime::ledger::{Settled, Trouble, Work};

/// What a worker is to do.
enum Doing {
    Settle,
    Queue,
}

impl Driver {
    /// Begins whatever may begin now.
    pub(super) async fn begin_turns(&mut self) -> Result<(), Trouble> {
        if self.is_holding {
            if self.lanes.under_way() > 0 {
                return Ok(());
            }
            let decisions = self.status.get().decisions;
            self.claim().await?;
            self.status.update(|state| state.followed = decisions);
            self.is_holding = false;
        }
        self.begin_due().await?;
        while let Some(turn) = self.lanes.next() {
            match turn {
                Turn::Handle(lane, work) => self.spawn(lane, work, Doing::Settle),
                Turn::QueueBehind(lane, work) => self.spawn(lane, work, Doing::Queue),
            }
        }
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
        for (lane, work) in begun {
            self.spawn(lane, work, Doing::Settle);
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

    fn spawn(&mut self, lane: Lane, work: Work, doing: Doing) {
        let topic_partition = &work.assigned.partition;
        let partition = Partition::new(topic_partition.topic.as_str(), topic_partition.partition);
        let (offset, id, source) = (work.event.offset, work.event.id.clone(), work.source);
        let ledger = self.ledger.clone();
        self.context.activity.note();
        self.workers.spawn(async move {
            let result = match doing {
                Doing::Settle => ledger.settle(work).await,
                Doing::Queue => ledger.queue(work).await.map(|()| Settled::Queued),
            };
            Ended { partition, lane, offset, id, source, result }
        });
    }

    /// A turn is over.
    pub(super) async fn ended(&mut self, ended: Result<Ended, JoinError>) -> Result<(), Trouble> {
        let ended =
            ended.map_err(|error| Trouble::Broken(format!("a task of the service has ended: {error}")))?;
        let settled = match ended.result {
            Ok(settled) => settled,
            Err(Trouble::Fenced) => {
                self.lanes.end(&ended.lane);
                self.lose(&ended.partition);
                return Ok(());
            }
            Err(trouble) => return Err(trouble),
        };
        self.unsaved += 1;
        self.unpruned += 1;
        let is_alone = matches!(ended.lane, Lane::Alone(..));
        match settled {
            Settled::Done { drained } if drained || is_alone => self.lanes.unpark(&ended.lane),
            Settled::Done { .. } => {}
            // What has no key is parked singly: nothing can come behind it.
            _ if is_alone => self.lanes.unpark(&ended.lane),
            Settled::Waits { .. } | Settled::Queued | Settled::Holds => self.lanes.park(ended.lane.clone()),
        }
        self.lanes.end(&ended.lane);
        for part in self.parts.values_mut().filter(|part| part.look == Look::WhenSomethingEnds) {
            part.look = Look::Now;
        }
        let Some(part) = self.parts.get_mut(&ended.partition) else { return Ok(()) };
        if part.assigned.serial != ended.lane.serial() {
            return Ok(());
        }
        if let Settled::Waits { due_ms } = settled {
            part.due_ms.insert(due_ms);
        }
        if ended.source == Source::Log {
            part.is_unsaved |= part.progress.settle(ended.offset, ended.id);
        }
        // What is behind a parked event that is done with is due, and nobody else says when.
        if ended.source == Source::Parked || settled == Settled::Queued {
            part.due_ms.extend(self.ledger.next_due(&part.assigned).await?);
        }
        Ok(())
    }

    /// Somebody else has a partition now.
    pub(super) fn lose(&mut self, partition: &Partition) {
        let Some(part) = self.parts.remove(partition) else { return };
        let serial = part.assigned.serial;
        self.lanes.forget(|lane| lane.serial() == serial);
        self.subscription.pause(std::slice::from_ref(partition));
        warn!(consumer = self.orders.consumer, %partition, "another instance of the service has the partition");
    }

    /// Gives partitions up that are wanted elsewhere: what is under way comes to its end first.
    pub(super) async fn revoke(&mut self, partitions: &[Partition]) -> Result<(), Trouble> {
        for part in partitions.iter().filter_map(|partition| self.parts.get(partition)) {
            let serial = part.assigned.serial;
            self.lanes.forget(|lane| lane.serial() == serial);
        }
        match tokio::time::timeout(REVOKE_MAX, self.settle_workers()).await {
            Ok(settled) => settled?,
            Err(_) => {
                warn!(
                    consumer = self.orders.consumer,
                    "what was under way did not end before its partition went"
                );
            }
        }
        self.save().await?;
        for partition in partitions {
            self.parts.remove(partition);
            info!(consumer = self.orders.consumer, %partition, "gave the partition up");
        }
        Ok(())
    }
}

/// How long a partition that is wanted elsewhere is kept for what is under way. The next owner fences it.
const REVOKE_MAX: Duration = Duration::from_secs(20);
