//! Keeping how far partitions have come, in the ledger and, as a copy, in the engine.
//!
//! All partitions are one transaction, where the store can. While events are handled they are kept beside them,
//! so that nobody waits for that; at rest the loop waits, so that rest means that all is kept.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use courant_engine::{CommitError, Partition, Position};
use tokio::task::JoinError;
use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

use super::standing::Unkept;
use super::{Driver, Part, task_ended};
use crate::runtime::context::Context;
use crate::runtime::faults::FaultPoint;
use crate::runtime::ledger::{Assigned, Ledger, Trouble};
use crate::runtime::time::after;

/// Events that are settled before progress is kept, while more are under way. So many come once more after
/// a crash, and are seen to be settled.
const SAVED_EVERY: usize = 1_000;

/// How long progress waits to be kept while more is under way. At rest it does not wait.
const SAVED_AFTER: Duration = Duration::from_millis(200);

/// Events that are settled between two looks at what can be forgotten.
const PRUNED_EVERY: usize = 10_000;

/// How long the engine is left in peace that has not kept progress, each time twice as long, and the longest: at rest the
/// loop waits for its answer.
const COMMITTED_AGAIN: Duration = Duration::from_secs(1);
const COMMITTED_AGAIN_MAX: Duration = Duration::from_secs(60);

/// How far a partition has come, to be kept.
struct Save {
    partition: Partition,
    assigned: Arc<Assigned>,
    progress: Option<courant_sql::Progress>,
    next: u64,
    /// Its topic is gone. What comes under its name has other offsets, and the engine must not hear of these.
    is_gone: bool,
}

/// What has come of it.
#[derive(Default)]
pub(super) struct Kept {
    kept: Vec<Save>,
    /// Somebody else has these.
    lost: Vec<Save>,
    /// The engine has not kept it.
    is_uncommitted: bool,
    /// Because a partition is not there any more.
    is_unknown: bool,
}

impl Kept {
    /// What has become of progress that was handed to the engine.
    fn note(&mut self, committed: &Result<(), CommitError>) {
        self.is_uncommitted = committed.is_err();
        self.is_unknown = matches!(committed, Err(CommitError::UnknownPartition { .. }));
    }
}

/// Progress that the engine has not kept.
#[derive(Default)]
pub(super) struct Uncommitted {
    partitions: BTreeSet<Partition>,
    /// When it is tried again, and how long it waits the next time.
    again: Option<Instant>,
    wait: Duration,
}

impl Uncommitted {
    /// When it is to be tried again.
    pub(super) fn again(&self) -> Option<Instant> {
        self.again.filter(|_| !self.partitions.is_empty())
    }

    /// What has become of some of it.
    fn note(&mut self, partitions: impl Iterator<Item = Partition>, is_uncommitted: bool, now: Instant) {
        if is_uncommitted {
            self.partitions.extend(partitions);
            let wait = self.wait.max(COMMITTED_AGAIN);
            self.again = now.checked_add(wait);
            self.wait = wait.saturating_mul(2).min(COMMITTED_AGAIN_MAX);
        } else {
            for partition in partitions {
                self.partitions.remove(&partition);
            }
            self.wait = COMMITTED_AGAIN;
        }
    }
}

/// What keeps it.
struct Keeper {
    context: Arc<Context>,
    ledger: Arc<dyn Ledger>,
    consumer: String,
    unkept: Unkept,
    /// Forgets what can be forgotten as well.
    prunes: bool,
}

impl Keeper {
    async fn keep(self, saves: Vec<Save>) -> Result<Kept, Trouble> {
        for _ in &saves {
            self.context.faults.reach(FaultPoint::BeforeProgress).await;
        }
        let mut kept = self.saved(saves).await?;
        if kept.kept.is_empty() {
            return Ok(kept);
        }
        let committed = self.commit(&kept.kept).await;
        kept.note(&committed);
        if self.prunes {
            self.ledger.prune().await?;
        }
        Ok(kept)
    }

    /// Hands the engine once more what it has not kept.
    async fn commit_again(self, kept: Vec<Save>) -> Result<Kept, Trouble> {
        let committed = self.commit(&kept).await;
        let mut kept = Kept { kept, ..Kept::default() };
        kept.note(&committed);
        Ok(kept)
    }

    /// Hands progress to the engine: a copy for tools that show lag; without a store it is the progress, and comes again
    /// if it is lost. Then it is that of one topic and of no other one of its name.
    async fn commit(&self, saves: &[Save]) -> Result<(), CommitError> {
        let there = saves.iter().filter(|save| !save.is_gone);
        let positions: Vec<(Position, Option<Uuid>)> =
            there.map(|save| (save.partition.at(save.next), save.assigned.topic_id)).collect();
        if positions.is_empty() {
            return Ok(());
        }
        let (engine, group) = (&self.context.engine, self.consumer.clone());
        let committed = if self.ledger.is_shared() {
            engine.commit_copy(group, positions.into_iter().map(|(position, _)| position).collect()).await
        } else {
            engine.commit_in(group, positions).await
        };
        self.unkept.note(&committed);
        committed
    }

    /// Keeps all of it together, or each by itself when somebody else has one of the partitions.
    async fn saved(&self, saves: Vec<Save>) -> Result<Kept, Trouble> {
        let together = saves.iter().filter_map(|save| Some((save.assigned.clone(), save.progress.clone()?)));
        let together: Vec<_> = together.collect();
        match self.ledger.save_together(&together).await {
            Ok(()) => return Ok(Kept { kept: saves, ..Kept::default() }),
            Err(Trouble::Fenced) => {}
            Err(trouble) => return Err(trouble),
        }
        let mut kept = Kept::default();
        for save in saves {
            match self.ledger.save(&save.assigned, save.progress.clone(), save.next).await {
                Ok(()) => kept.kept.push(save),
                Err(Trouble::Fenced) => kept.lost.push(save),
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(kept)
    }
}

impl Driver {
    /// Keeps progress if it is time to: at once when nothing is under way, and otherwise now and then,
    /// because each time is a transaction of its own.
    pub(super) async fn save_in_time(&mut self) -> Result<(), Trouble> {
        if self.lanes.under_way() == 0 {
            return self.save().await;
        }
        let now_ms = self.context.time.now_ms();
        let is_due = self.save_ms.is_some_and(|save_ms| save_ms <= now_ms);
        if (is_due || self.unsaved >= SAVED_EVERY) && self.savers.is_empty() {
            let saves = self.begin_saving();
            if !saves.is_empty() {
                let keeper = self.keeper(true);
                self.savers.spawn(keeper.keep(saves));
            }
        } else if self.parts.values().any(|part| part.is_unsaved) {
            let next_ms = after(now_ms, SAVED_AFTER);
            // A clock that is set back puts nothing off.
            self.save_ms = Some(self.save_ms.map_or(next_ms, |save_ms| save_ms.min(next_ms)));
        }
        Ok(())
    }

    /// Keeps how far partitions have come of which nobody here can do so later, and waits for it. Without a store what the
    /// engine has not kept until now is all that is known of that, so it is handed over once more, also where their topic
    /// was gone and is there again.
    pub(super) async fn save_at_last(&mut self, partitions: &[Partition]) -> Result<(), Trouble> {
        self.until_saved().await?;
        self.look_for_gone(partitions).await;
        if self.ledger.is_shared() {
            return self.save().await;
        }
        let gone = self.gone.len();
        self.note_uncommitted();
        self.save().await?;
        // The engine keeps all or nothing, and has heard of a topic that is another one now. The others wait for nobody.
        if self.gone.len() > gone {
            self.note_uncommitted();
            self.save().await?;
        }
        Ok(())
    }

    /// What the engine has not kept is to be kept.
    fn note_uncommitted(&mut self) {
        for (partition, part) in &mut self.parts {
            part.is_unsaved |= self.uncommitted.partitions.contains(partition);
        }
    }

    async fn until_saved(&mut self) -> Result<(), Trouble> {
        while let Some(kept) = self.savers.join_next().await {
            self.kept(kept)?;
        }
        Ok(())
    }

    /// Keeps how far each partition has come, and waits for it.
    pub(super) async fn save(&mut self) -> Result<(), Trouble> {
        self.until_saved().await?;
        let saves = self.begin_saving();
        if !saves.is_empty() {
            let kept = self.keeper(true).keep(saves).await;
            self.kept(Ok(kept))?;
        }
        Ok(())
    }

    /// What is to be kept now. It counts as kept when it is.
    fn begin_saving(&mut self) -> Vec<Save> {
        self.unsaved = 0;
        self.save_ms = None;
        let is_shared = self.ledger.is_shared();
        let unsaved = self.parts.iter().filter(|(_, part)| part.is_unsaved);
        let saves = unsaved.map(|(partition, part)| self.save_of(partition, part));
        // A store keeps what it is compared by with what comes under the name of a topic that is gone.
        saves.filter(|save| is_shared || !save.is_gone).collect()
    }

    fn save_of(&self, partition: &Partition, part: &Part) -> Save {
        let low_water = part.progress.low_water();
        let progress = low_water.last.as_ref().map(|(offset, id)| courant_sql::Progress {
            offset: *offset,
            mark: id.to_string(),
            gap_events: part.missed.kept_with(Some(*offset)),
        });
        let (assigned, next) = (part.assigned.clone(), low_water.next);
        let is_gone = self.gone.contains_key(partition);
        Save { partition: partition.clone(), assigned, progress, next, is_gone }
    }

    /// Hands the engine once more what it has not kept, if it is time to. What is not saved yet comes with its save.
    pub(super) fn commit_again(&mut self) {
        let is_due = self.uncommitted.again().is_some_and(|again| again <= Instant::now());
        if !is_due || !self.savers.is_empty() {
            return;
        }
        self.uncommitted.again = None;
        let parts = self.uncommitted.partitions.iter().filter_map(|one| Some((one, self.parts.get(one)?)));
        let saved = parts.filter(|(_, part)| !part.is_unsaved);
        let saves: Vec<Save> = saved.map(|(partition, part)| self.save_of(partition, part)).collect();
        let there = saves.iter().filter(|save| !save.is_gone).map(|save| save.partition.clone());
        // Of what went meanwhile somebody else says how far it is.
        self.uncommitted.partitions = there.collect();
        if self.uncommitted.partitions.is_empty() {
            self.standing.unkept.is_over();
        } else {
            let keeper = self.keeper(false);
            self.savers.spawn(keeper.commit_again(saves));
        }
    }

    /// One that may forget as well, or does not.
    fn keeper(&mut self, may_prune: bool) -> Keeper {
        let prunes = may_prune && self.unpruned >= PRUNED_EVERY;
        if prunes {
            self.unpruned = 0;
        }
        let (context, ledger) = (self.context.clone(), self.ledger.clone());
        let (consumer, unkept) = (self.orders.consumer.clone(), self.standing.unkept.clone());
        Keeper { context, ledger, consumer, unkept, prunes }
    }

    /// Notes what was kept, as far as the partitions are still those that they were.
    pub(super) fn kept(&mut self, kept: Result<Result<Kept, Trouble>, JoinError>) -> Result<(), Trouble> {
        let Kept { kept, lost, is_uncommitted, is_unknown } = kept.map_err(|error| task_ended(&error))??;
        let gone = if is_unknown { self.gone_of(&kept) } else { Vec::new() };
        let handed = kept.iter().filter(|save| !save.is_gone).map(|save| save.partition.clone());
        self.uncommitted.note(handed, is_uncommitted, Instant::now());
        for Save { partition, assigned, next, .. } in kept {
            let part = self.parts.get_mut(&partition).filter(|part| part.assigned.serial == assigned.serial);
            if let Some(part) = part
                && part.progress.low_water().next == next
            {
                part.is_unsaved = false;
            }
        }
        for Save { partition, assigned, .. } in lost {
            if self.parts.get(&partition).is_some_and(|part| part.assigned.serial == assigned.serial) {
                self.lose(&partition);
            }
        }
        // Otherwise it would be handed over again and again while nothing is read that would say so.
        for partition in gone {
            self.lacks_topic(&partition);
        }
        Ok(())
    }

    /// Partitions that were saved, and still are what they were then, and whose topics are gone, or others by now.
    fn gone_of(&self, saves: &[Save]) -> Vec<Partition> {
        let is_ours = |save: &&Save| {
            let part = self.parts.get(&save.partition);
            part.is_some_and(|part| part.assigned.serial == save.assigned.serial)
        };
        let gone = saves.iter().filter(is_ours).filter(|save| self.is_another(&save.partition));
        gone.map(|save| save.partition.clone()).collect()
    }

    /// Says what comes again because nobody has kept that it was done.
    pub(super) fn note_unsaved(&self) {
        let unsaved = self.parts.iter().filter(|(_, part)| part.is_unsaved);
        let unsaved: Vec<String> = unsaved.map(|(partition, _)| partition.to_string()).collect();
        warn!(
            consumer = self.orders.consumer,
            ?unsaved,
            "the store is away: how far these partitions are is not kept, and their last events come again"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_is_tried_again_more_and_more_seldom() {
        let (mut uncommitted, now) = (Uncommitted::default(), Instant::now());
        let one = || std::iter::once(Partition::new("orders", 0));
        assert_eq!(uncommitted.again(), None);
        let mut waits = Vec::new();
        for _ in 0..8 {
            uncommitted.note(one(), true, now);
            waits.push((uncommitted.again().expect("it is tried again") - now).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        uncommitted.note(std::iter::once(Partition::new("orders", 1)), false, now);
        assert!(uncommitted.again().is_some(), "another one is kept");
        uncommitted.note(one(), false, now);
        assert_eq!(uncommitted.again(), None);
        uncommitted.note(one(), true, now);
        assert_eq!(uncommitted.again(), Some(now + COMMITTED_AGAIN));
    }
}
