//! Whether the engine is there for partitions that wait to be taken over.
//!
//! Each of them is asked for by itself, and beside the loop: a broker that does not answer holds its own partitions up
//! for as long as that takes, and no others.
//!
//! Without a store it is asked as well whether a topic that was gone is there again, or another one of its name: a broker
//! may not know a topic for a moment. Then the partition goes on, and what was done counts. An engine that tells topics of
//! one name by their ids says so. Of another one the last settled event has to be where it was, and the engine has to have
//! kept something of how far the group is: that goes with a topic, and what is written into a topic that is made anew may
//! be the same again, with the same ids at the same offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use courant_core::event_id::EventId;
use courant_engine::{CommitError, Ends, Engine, Partition, ReadBack, ReadError};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tracing::info;
use uuid::Uuid;

use super::assigning::AGAIN;
use super::{Driver, task_ended};
use crate::StallReason;
use crate::runtime::incoming;
use crate::runtime::ledger::Trouble;

/// Partitions that are asked for at the same time. Each may have a thread of the engine for as long as a broker does not
/// answer.
const ASKED_MAX: usize = 32;

/// How long an answer waits for others: what is taken over together waits for the same owner once.
const TOGETHER: Duration = Duration::from_millis(50);

/// How long it is looked for topics that were gone before progress is kept for the last time.
const FOUND_MAX: Duration = Duration::from_secs(2);

/// What is asked of the engine, and what it has said.
#[derive(Default)]
pub(super) struct Hearing {
    asking: JoinSet<Heard>,
    /// Partitions that are asked for, or whose answer waits for others. None of them is asked for twice.
    asked: BTreeSet<Partition>,
    /// Answers that wait for others, and until when.
    heard: Vec<Heard>,
    until: Option<Instant>,
}

/// What the engine says of a partition.
pub(super) struct Heard {
    partition: Partition,
    answer: Result<Ends, ReadError>,
    /// The assignment whose topic it is that is there.
    same: Option<u64>,
}

/// An assignment whose topic is gone.
struct Before {
    serial: u64,
    /// Where it reads next.
    next: u64,
    told: Told,
}

/// What tells its topic from another one of the same name.
enum Told {
    /// The topic's id.
    ById(Uuid),
    /// Its last settled event, and that the engine still knows something of how far the group is, which is at most `next`.
    ByEvent { group: String, offset: u64, id: EventId, next: u64 },
}

impl Before {
    /// Whether what is there is its topic.
    async fn is_there(&self, engine: &dyn Engine, partition: &Partition) -> Result<bool, ReadError> {
        let (group, offset, id, next) = match &self.told {
            Told::ById(id) => return Ok(engine.topic_id(&partition.topic) == Some(*id)),
            Told::ByEvent { group, offset, id, next } => (group, *offset, id, *next),
        };
        let read = engine.read(vec![partition.at(offset)]).await.into_iter().next().transpose()?;
        let Some(ReadBack::Found(record)) = read else { return Ok(false) };
        // An id that is made of its place says nothing: another event there would have it, too.
        if incoming::own_id(&record).as_ref() != Some(id) {
            return Ok(false);
        }
        // Last: a topic that goes meanwhile takes it along.
        let kept = engine.committed(group.clone(), vec![partition.clone()]).await;
        let kept = kept.map_err(|error| unsaid(error, partition))?.into_iter().next().flatten();
        Ok(kept.is_some_and(|kept| kept <= next))
    }
}

/// An engine that does not say how far a group is may do so soon.
fn unsaid(error: CommitError, partition: &Partition) -> ReadError {
    match error {
        CommitError::UnknownPartition { partition } => ReadError::UnknownPartition { partition },
        CommitError::Closed => ReadError::Closed,
        error => ReadError::Failed { partition: partition.clone(), reason: error.to_string() },
    }
}

impl Hearing {
    /// The next answer; `None` while nothing is asked.
    pub(super) async fn next(&mut self) -> Option<Result<Heard, JoinError>> {
        self.asking.join_next().await
    }

    /// When there is something to do by itself for partitions that wait until then.
    pub(super) fn next_try(&self, waiting: &BTreeMap<Partition, Instant>) -> Option<Instant> {
        let is_free = self.asking.len() < ASKED_MAX;
        let unasked = waiting.iter().filter(|(partition, _)| is_free && !self.asked.contains(*partition));
        unasked.map(|(_, at)| *at).chain(self.until).min()
    }

    /// Those that are to be asked for now: as many as may be, those first that wait longest.
    fn due(&self, waiting: &BTreeMap<Partition, Instant>, now: Instant) -> Vec<Partition> {
        let is_due = |one: &(&Partition, &Instant)| *one.1 <= now && !self.asked.contains(one.0);
        let mut due: Vec<_> = waiting.iter().filter(is_due).collect();
        due.sort_by_key(|(_, at)| **at);
        due.truncate(ASKED_MAX.saturating_sub(self.asking.len()));
        due.into_iter().map(|(partition, _)| partition.clone()).collect()
    }

    /// All answers, once nobody waits for more of them.
    fn take(&mut self, now: Instant) -> Vec<Heard> {
        if !self.asking.is_empty() && self.until.is_none_or(|until| until > now) {
            return Vec::new();
        }
        self.until = None;
        let heard = std::mem::take(&mut self.heard);
        for one in &heard {
            self.asked.remove(&one.partition);
        }
        heard
    }
}

async fn ask(engine: Arc<dyn Engine>, partition: Partition, before: Option<Before>) -> Heard {
    let answer = engine.ends(vec![partition.clone()]).await.into_iter().next();
    let mut answer = answer.unwrap_or_else(|| {
        let reason = "the engine says nothing of it".to_owned();
        Err(ReadError::Failed { partition: partition.clone(), reason })
    });
    let mut same = None;
    if let Ok(Ends { end, .. }) = answer
        && let Some(before) = before
        // A log that is shorter than what was read of it is to be looked at as at a start.
        && before.next <= end
    {
        match before.is_there(&*engine, &partition).await {
            Ok(true) => same = Some(before.serial),
            Ok(false) => {}
            Err(error) => answer = Err(error),
        }
    }
    Heard { partition, answer, same }
}

impl Driver {
    /// Has the engine asked for partitions whose time it is.
    pub(super) fn ask_for_waiting(&mut self) {
        for partition in self.hearing.due(&self.unopened, Instant::now()) {
            let before = self.before_gone(&partition);
            self.hearing.asking.spawn(ask(self.context.engine.clone(), partition.clone(), before));
            self.hearing.asked.insert(partition);
        }
    }

    /// The engine has said something.
    pub(super) async fn heard(&mut self, heard: Result<Heard, JoinError>) -> Result<(), Trouble> {
        self.hearing.heard.push(heard.map_err(|error| task_ended(&error))?);
        self.hearing.until.get_or_insert_with(|| Instant::now() + TOGETHER);
        self.take_heard().await
    }

    /// Takes over what the engine is there for, and has the rest wait.
    pub(super) async fn take_heard(&mut self) -> Result<(), Trouble> {
        let now = Instant::now();
        let mut there = Vec::new();
        for Heard { partition, answer, same } in self.hearing.take(now) {
            // It went meanwhile, or waits for something else.
            if self.unopened.get(&partition).is_none_or(|at| *at > now) {
                continue;
            }
            match answer {
                Err(error @ ReadError::UnknownPartition { .. }) => {
                    self.note_gone(&partition);
                    self.standing.note(&partition, StallReason::NoTopic, &error.to_string());
                }
                Err(error @ ReadError::Failed { .. }) => {
                    self.standing.note(&partition, StallReason::Unreadable, &error.to_string());
                }
                Ok(_) if self.is_there_again(&partition, same) => {
                    let next = self.parts.get(&partition).map(|part| part.next);
                    self.seek(&partition, next);
                    continue;
                }
                _ if self.is_at_work(&partition) => {}
                _ => {
                    there.push(partition);
                    continue;
                }
            }
            self.unopened.insert(partition, Instant::now() + AGAIN);
        }
        if there.is_empty() { Ok(()) } else { self.assign(there).await }
    }

    /// What tells whether the topic of a partition that is gone is there again. A store keeps it as well, and what is there
    /// is compared when it is taken over.
    fn before_gone(&self, partition: &Partition) -> Option<Before> {
        if self.ledger.is_shared() || !self.gone.contains_key(partition) {
            return None;
        }
        let part = self.parts.get(partition)?;
        let told = if let Some(id) = part.assigned.topic_id {
            Told::ById(id)
        } else {
            let low_water = part.progress.low_water();
            let (offset, id) = low_water.last.clone()?;
            Told::ByEvent { group: self.orders.consumer.clone(), offset, id, next: low_water.next }
        };
        Some(Before { serial: part.assigned.serial, next: part.next, told })
    }

    /// Whether the topic of a partition was gone and is there again. It counts no more as gone then.
    fn is_there_again(&mut self, partition: &Partition, same: Option<u64>) -> bool {
        if self.is_another(partition) {
            return false;
        }
        let Some(part) = self.parts.get_mut(partition) else { return false };
        if same != Some(part.assigned.serial) || self.gone.remove(partition).is_none() {
            return false;
        }
        // The engine may have kept nothing of it since the topic went.
        part.is_unsaved = true;
        self.unopened.remove(partition);
        self.standing.goes_on(partition);
        info!(consumer = self.orders.consumer, %partition, "the topic is there again, and is the one that it was");
        true
    }

    /// Looks once more, and for a moment, for the topics of partitions that are gone, before nobody here can keep any more
    /// how far these are.
    pub(super) async fn look_for_gone(&mut self, partitions: &[Partition]) {
        // Where nothing was settled there is nothing to keep.
        let has_settled = |one: &&Partition| {
            let part = self.parts.get(*one);
            part.is_some_and(|part| part.progress.low_water().last.is_some())
        };
        let settled = partitions.iter().filter(has_settled);
        let wanted = settled.filter_map(|one| Some((one.clone(), self.before_gone(one)?)));
        let mut wanted: Vec<(Partition, Before)> = wanted.collect();
        let (mut asking, until) = (JoinSet::new(), Instant::now() + FOUND_MAX);
        loop {
            // What is kept next needs a thread of the engine as well.
            while asking.len() < ASKED_MAX
                && let Some((partition, before)) = wanted.pop()
            {
                asking.spawn(ask(self.context.engine.clone(), partition, Some(before)));
            }
            let Ok(Some(Ok(heard))) = tokio::time::timeout_at(until, asking.join_next()).await else {
                return;
            };
            if heard.answer.is_ok() {
                self.is_there_again(&heard.partition, heard.same);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(partition: &Partition) -> Heard {
        Heard { partition: partition.clone(), answer: Ok(Ends { start: 0, end: 0 }), same: None }
    }

    /// As many as may be are asked for, none of them twice, and what is asked for wakes nobody.
    #[tokio::test]
    async fn what_waits_longest_is_asked_for_first_and_once() {
        let (mut hearing, now) = (Hearing::default(), Instant::now());
        let all: Vec<Partition> = (0..40).map(|number| Partition::new("orders", number)).collect();
        let at = |number: u64| now + Duration::from_millis(40 - number);
        let waiting: BTreeMap<_, _> = all.iter().cloned().zip((0..40).map(at)).collect();
        assert_eq!(hearing.next_try(&waiting), Some(at(39)));
        assert!(hearing.due(&waiting, now).is_empty());
        let later = now + Duration::from_secs(1);
        let due = hearing.due(&waiting, later);
        assert_eq!((due.len(), &due[0], &due[31]), (ASKED_MAX, &all[39], &all[8]));
        for partition in due {
            hearing.asking.spawn(std::future::pending());
            hearing.asked.insert(partition);
        }
        assert_eq!(hearing.next_try(&waiting), None, "no more may be asked for");
        assert!(hearing.due(&waiting, later).is_empty());
    }

    /// An answer waits for others for a moment, and for none that do not come.
    #[tokio::test]
    async fn an_answer_waits_a_moment_for_others() {
        let (mut hearing, now) = (Hearing::default(), Instant::now());
        let partition = Partition::new("orders", 0);
        let waiting = BTreeMap::from([(partition.clone(), now)]);
        hearing.asked.insert(partition.clone());
        hearing.asking.spawn(std::future::pending());
        hearing.heard.push(heard(&partition));
        hearing.until = Some(now + TOGETHER);
        assert!(hearing.take(now).is_empty());
        assert_eq!(hearing.next_try(&waiting), Some(now + TOGETHER));
        assert_eq!(hearing.take(now + TOGETHER).len(), 1);
        assert_eq!(hearing.next_try(&waiting), Some(now), "it may be asked for again");

        let mut alone = Hearing::default();
        alone.heard.push(heard(&partition));
        alone.until = Some(now + TOGETHER);
        assert_eq!(alone.take(now).len(), 1, "nobody else is asked");
    }
}
