//! Taking partitions over: where each one begins, and what is parked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use courant_core::event_id::EventId;
use courant_core::position::TopicPartition;
use courant_core::topic::TopicName;
use courant_engine::{Ends, Engine, Partition, ReadBack};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use super::turns::REVOKE_MAX;
use super::{Driver, Lane, Look, Orders, Part, task_ended};
use crate::mapping::Mappings;
use crate::runtime::begin::{Begin, To, begin};
use crate::runtime::ledger::{Kept, Ledger, Taken, Trouble};
use crate::runtime::looking::{look, mark, read, refused, unread};
use crate::runtime::missed::Missed;
use crate::runtime::progress::{LowWater, Progress};
use crate::{StallReason, StartFrom};

/// Where a partition begins.
struct Opening {
    next: u64,
    last: Option<(u64, EventId)>,
    missed: Missed,
}

/// How long a partition waits at least that could not be had, in the time of the machine.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// How long a partition waits that another instance has taken over, while the group says that it is ours:
/// long enough to hear otherwise.
pub(super) const TAKEN_AGAIN: Duration = Duration::from_secs(10);

impl Driver {
    /// Tries partitions again that are waiting for it, once the engine answers for them. Who cannot hear the engine has
    /// perhaps lost them long since, and would take them away from their owner.
    pub(super) async fn assign_again(&mut self) -> Result<(), Trouble> {
        self.look_for_missing();
        self.ask_for_waiting();
        self.take_heard().await
    }

    /// The topic of a partition is gone. The group need not say so, and there may be another one of that name soon. What
    /// was read and what is parked goes on meanwhile.
    pub(super) fn lacks_topic(&mut self, partition: &Partition) {
        if !self.parts.contains_key(partition) {
            return;
        }
        self.note_gone(partition);
        self.unopened.insert(partition.clone(), Instant::now() + AGAIN);
        let said = "the partition does not exist any more";
        self.standing.note(partition, StallReason::NoTopic, said);
    }

    /// The topic of a partition is gone. Of one that was never taken over nothing follows: a broker that has just started
    /// may not know a topic yet that is old, and to a new consumer all of it would be new.
    pub(super) fn note_gone(&mut self, partition: &Partition) {
        if self.had.contains(partition) {
            self.gone.insert(partition.clone(), None);
        }
    }

    /// Whether another topic has the name of the one that a partition was taken over of, as far as the engine can tell.
    pub(super) fn is_another(&self, partition: &Partition) -> bool {
        let topic_id = self.parts.get(partition).and_then(|part| part.assigned.topic_id);
        topic_id.is_some_and(|id| self.context.engine.topic_id(&partition.topic) != Some(id))
    }

    /// Whether something is under way of a partition whose topic is back. It ends first, as where a partition is wanted
    /// elsewhere: without a store nothing fences it, and it would be handled twice at the same time.
    pub(super) fn is_at_work(&mut self, partition: &Partition) -> bool {
        let (Some(part), Some(until)) = (self.parts.get(partition), self.gone.get_mut(partition)) else {
            return false;
        };
        let (now, serial) = (Instant::now(), part.assigned.serial);
        *until.get_or_insert_with(|| now + REVOKE_MAX) > now && self.lanes.has(|lane| lane.serial() == serial)
    }

    /// Lets partitions go whose topic was gone: what is there under its name is taken over as at a start.
    async fn let_gone_go(&mut self, partitions: &[Partition]) -> Result<(), Trouble> {
        let is_old = |one: &&Partition| self.gone.contains_key(*one) && self.parts.contains_key(*one);
        let old: Vec<&Partition> = partitions.iter().filter(is_old).collect();
        if !old.is_empty() {
            self.save().await?;
        }
        for partition in old {
            self.let_go(partition);
        }
        Ok(())
    }

    /// Takes partitions over. Those that cannot be had now are tried again later.
    pub(super) async fn assign(&mut self, partitions: Vec<Partition>) -> Result<(), Trouble> {
        self.let_gone_go(&partitions).await?;
        self.unopened.retain(|waiting, _| !partitions.contains(waiting));
        self.standing.are_ours(&partitions);
        let begun = Instant::now();
        let mut positions = Vec::with_capacity(partitions.len());
        for (partition, taken) in self.take_over(partitions).await? {
            let opened = match taken {
                Ok(taken) => self.open(&partition, taken).await,
                Err(trouble) => Err(trouble),
            };
            match opened {
                Ok(next) => {
                    self.gone.remove(&partition);
                    self.had.insert(partition.clone());
                    self.standing.goes_on(&partition);
                    positions.push(partition.at(next));
                }
                Err(Trouble::Away(said)) => {
                    self.standing.note(&partition, StallReason::NotTakenOver, &said);
                    // The loop stands while it waits for an owner that hangs; as long again it does not.
                    self.unopened.insert(partition, Instant::now() + begun.elapsed().max(AGAIN));
                }
                Err(Trouble::Fenced) => {
                    let said = "another instance of the service has the partition";
                    self.standing.note(&partition, StallReason::TakenElsewhere, said);
                    self.unopened.insert(partition, Instant::now() + TAKEN_AGAIN);
                }
                Err(trouble) => return Err(trouble),
            }
        }
        let sought: Vec<Partition> = positions.iter().map(|position| position.partition.clone()).collect();
        if let Err(error) = self.subscription.seek(positions) {
            // They come again if they are still ours.
            warn!(consumer = self.orders.consumer, %error, "partitions went before they were read");
        }
        // What is sought is what is there now, and where it begins was found out before.
        let others: Vec<Partition> = sought.into_iter().filter(|one| self.is_another(one)).collect();
        for partition in others {
            self.lacks_topic(&partition);
            // Nothing of it is handled from there: that would come before what stands before it.
            self.let_go(&partition);
        }
        // What was lost before was stopped.
        self.read_or_not();
        Ok(())
    }

    /// Takes partitions over, all of them at once: one whose owner hangs lets the others wait no longer.
    async fn take_over(
        &mut self,
        partitions: Vec<Partition>,
    ) -> Result<BTreeMap<Partition, Result<Taken, Trouble>>, Trouble> {
        let mut taking = JoinSet::new();
        for partition in partitions {
            self.serial += 1;
            let topic =
                TopicName::new(&partition.topic).map_err(|error| Trouble::Broken(error.to_string()))?;
            let named = TopicPartition { topic, partition: partition.number };
            let (ledger, serial) = (self.ledger.clone(), self.serial);
            taking.spawn(async move {
                let taken = ledger.take_over(named, serial).await;
                (partition, taken)
            });
        }
        let mut all = BTreeMap::new();
        while let Some(taken) = taking.join_next().await {
            let (partition, taken) = taken.map_err(|error| task_ended(&error))?;
            all.insert(partition, taken);
        }
        Ok(all)
    }

    /// Begins with a partition that was taken over. Gives back where it is read first.
    async fn open(&mut self, partition: &Partition, taken: Taken) -> Result<u64, Trouble> {
        let claimed = self.ledger.claim_redrives(&taken.assigned).await?;
        let opener = Opener {
            engine: &*self.context.engine,
            mappings: &self.context.mappings,
            ledger: &*self.ledger,
            orders: &self.orders,
            start: match self.orders.start {
                // Of a topic that was made while the consumer was at work all is new.
                StartFrom::Newest if self.gone.contains_key(partition) => StartFrom::Oldest,
                start => start,
            },
        };
        let opening = opener.open(partition, &taken).await?;
        info!(consumer = self.orders.consumer, %partition, next = opening.next, "took the partition over");
        self.count_first().await?;
        let serial = taken.assigned.serial;
        for key in taken.parked.into_iter().chain(claimed.into_iter().flatten()) {
            self.lanes.park(Lane::Key(serial, key));
        }
        let low_water = LowWater { next: opening.next, last: opening.last };
        let part = Part {
            assigned: taken.assigned,
            progress: Progress::new(low_water),
            next: opening.next,
            missed: opening.missed,
            is_unsaved: false,
            due_ms: taken.due_ms.into_iter().collect::<BTreeSet<_>>(),
            look: Look::Now,
        };
        self.parts.insert(partition.clone(), part);
        Ok(opening.next)
    }
}

/// Finds out where a partition begins.
struct Opener<'a> {
    engine: &'a dyn Engine,
    mappings: &'a Mappings,
    ledger: &'a dyn Ledger,
    orders: &'a Orders,
    /// Where it begins if nothing is known of it.
    start: StartFrom,
}

impl Opener<'_> {
    async fn open(&self, partition: &Partition, taken: &Taken) -> Result<Opening, Trouble> {
        let (there, ends) = look(self.engine, self.mappings, partition, &taken.kept).await?;
        let begun = begin(&taken.kept, there.as_ref(), ends, self.orders.other_log);
        let (kept_gap, last) = match &taken.kept {
            Kept::Event(progress) => {
                (progress.gap_events, EventId::new(&progress.mark).ok().map(|id| (progress.offset, id)))
            }
            Kept::Nothing | Kept::Next(_) => (0, None),
        };
        let to = match begun {
            Begin::At { offset, gap } => {
                if gap > 0 {
                    warn!(consumer = self.orders.consumer, %partition, gap, "retention has taken unhandled events");
                }
                let mut missed = Missed::kept(kept_gap);
                missed.pass(None, offset.saturating_sub(gap), offset);
                return Ok(Opening { next: offset, last, missed });
            }
            Begin::Refused(difference) => return Err(refused(&self.orders.consumer, partition, &difference)),
            Begin::Reset(to) => to,
            Begin::Fresh => match self.start {
                StartFrom::Oldest => {
                    return Ok(Opening { next: ends.start, last: None, missed: Missed::default() });
                }
                StartFrom::Newest => To::Offset(ends.end),
                StartFrom::Time(time_ms) => To::Time(time_ms),
            },
        };
        self.set(partition, taken, to, ends, kept_gap).await
    }

    /// Begins somewhere else than where progress would, and keeps that at once: a crash before the first
    /// event must not choose anew.
    async fn set(
        &self,
        partition: &Partition,
        taken: &Taken,
        to: To,
        ends: Ends,
        gap: u64,
    ) -> Result<Opening, Trouble> {
        let engine = self.engine;
        let next = match to {
            To::Start => ends.start,
            To::Offset(offset) => offset,
            To::Time(time_ms) => {
                let found =
                    engine.offsets_for_time(vec![(partition.clone(), time_ms)]).await.into_iter().next();
                let found = found.transpose().map_err(|error| unread(&error))?;
                found.flatten().map_or(ends.end, |found| found.offset)
            }
        };
        let before = match next.checked_sub(1) {
            Some(before) => read(engine, partition.at(before)).await?,
            None => None,
        };
        let last = match before {
            Some(ReadBack::Found(record)) => Some((record.position.offset, mark(&engine.log_id(), &record))),
            _ => None,
        };
        let progress = match &last {
            Some((offset, mark)) => {
                courant_sql::Progress { offset: *offset, mark: mark.clone(), gap_events: gap }
            }
            None => courant_sql::Progress::beginning_at(next, gap),
        };
        self.ledger.reset(&taken.assigned, progress).await?;
        warn!(consumer = self.orders.consumer, %partition, next, "begins where its settings say");
        let last = last.and_then(|(offset, mark)| Some((offset, EventId::new(&mark).ok()?)));
        Ok(Opening { next, last, missed: Missed::kept(gap) })
    }
}
