//! Settling events without a store: nothing is parked, so an event that fails is tried again where it
//! is, and its key and the progress of its partition wait for it.
//!
//! Progress is what the engine keeps for the group.

use std::sync::Arc;

use bytes::Bytes;
use courant_core::position::TopicPartition;
use courant_engine::{CommitError, Partition, PublishError};
use courant_sql::NewEvent;
use tracing::warn;

use super::call::Caller;
use super::dead;
use super::ledger::{Assigned, GivenUp, Kept, Ledger, News, Settled, Taken, Trouble, Work};
use super::passing::Pause;
use super::policy::{Failed, Fate, fate};
use super::stalls::{Waiting, What, of_creating, of_publishing};
use super::status::Status;
use super::time::after;
use crate::store::NoStore;
use crate::{Boxed, Exhausted, Retry, StallReason};

/// A subscription that is settled in memory.
pub(crate) struct DirectLedger<T> {
    pub(crate) caller: Caller<NoStore, T>,
    /// The consumer's name, for those who wait.
    pub(crate) named: Arc<str>,
    pub(crate) group: String,
    pub(crate) retry: Retry,
    pub(crate) exhausted: Exhausted,
    pub(crate) status: Arc<Status>,
}

const DONE: Settled = Settled::Done { drained: false };

/// What one event waits for.
struct Waits {
    /// The engine, for what its handler has published.
    publishing: Waiting,
    /// The engine, for the copy of its dead letter.
    copying: Waiting,
    /// Its next attempt.
    failing: Waiting,
}

impl<T: Send + Sync + 'static> DirectLedger<T> {
    fn waits(&self) -> Waits {
        let (stalls, named) = (&self.caller.context.stalls, &self.named);
        Waits {
            publishing: stalls.waiting(Some(Arc::clone(named))),
            copying: stalls.waiting(Some(Arc::clone(named))),
            // Each attempt has a line of its own.
            failing: stalls.unlogged(Some(Arc::clone(named))),
        }
    }

    async fn attempt(&self, work: &Work, publishing: &mut Waiting) -> Result<(), Failed> {
        let handler = self.caller.handler(work)?;
        let mut begun = self.caller.begin(work);
        let attempted = match self.caller.call(handler, work, &begun, ()).await {
            Ok(returned) => self.send(returned, handler.place, publishing).await,
            Err(failed) => {
                publishing.goes_on();
                Err(failed)
            }
        };
        attempted.map_err(|mut failed| {
            begun.failed(&mut failed);
            failed
        })
    }

    /// Publishes, and comes back to what the engine does not take at the moment. What is not taken is said for as long
    /// as `waiting` is there, and nothing else is taken.
    async fn send(
        &self,
        mut events: Vec<NewEvent>,
        place: &str,
        waiting: &mut Waiting,
    ) -> Result<(), Failed> {
        let mut pause = Pause::new();
        let failed = |said: String| Failed::publishing(place, said);
        while !events.is_empty() {
            let answers = match self.caller.context.sender.send(events.clone()).await {
                Ok(answers) => answers,
                Err(error) => {
                    let said = error.to_string();
                    waiting.again(of_creating(&error), &said);
                    return Err(failed(said));
                }
            };
            self.caller.context.activity.note();
            let mut again = Vec::new();
            let mut refused = Refused::default();
            for (event, answer) in events.into_iter().zip(answers) {
                let Err(error) = answer else { continue };
                refused.note(&event, &error);
                if error.is_passing() {
                    again.push(event);
                }
            }
            waiting.only(refused.all());
            if let Some(said) = refused.lasting {
                return Err(failed(said));
            }
            events = again;
            if !events.is_empty() {
                pause.wait().await;
            }
        }
        Ok(())
    }

    /// Whether the event is done with; otherwise when it is tried again.
    async fn judge(&self, work: &Work, failed: &Failed, copying: &mut Waiting) -> Option<i64> {
        let context = &self.caller.context;
        let attempt = work.failures.saturating_add(1);
        let fate = fate(failed, attempt, &self.retry, self.exhausted, context.random());
        let (topic, consumer) = (&work.assigned.partition.topic, &self.caller.consumer);
        let _span = context.tracer.settle(
            topic.as_str(),
            consumer.as_str(),
            fate.outcome(),
            failed.span.as_deref().copied(),
        );
        context.activity.failed();
        warn!(
            consumer = self.group, event = %work.event.id, partition = %work.assigned.partition,
            offset = work.event.offset, attempt, kind = failed.failure.kind, place = failed.failure.place,
            error = failed.failure.message, ?fate, "an event was not handled"
        );
        match fate {
            Fate::Again(delay) => Some(after(context.time.now_ms(), delay)),
            Fate::Dead { .. } => {
                let copy = dead::copy(context, &self.caller.consumer, work, &failed.failure);
                let sent = self.send(copy.into_iter().collect(), &failed.failure.place, copying).await;
                // It is tried again rather than lost, and `copying` says so until then.
                sent.err().map(|_| after(context.time.now_ms(), self.retry.longest().max(SECOND)))
            }
            Fate::Skipped => None,
        }
    }

    fn partition(assigned: &Assigned) -> Partition {
        Partition::new(assigned.partition.topic.as_str(), assigned.partition.partition)
    }
}

impl Waits {
    /// The event has failed, and its partition's progress waits for it. Where the engine refuses something, that is why.
    fn fails(&mut self, work: &Work, failed: &Failed) {
        if self.publishing.is_held() || self.copying.is_held() {
            self.failing.goes_on();
        } else {
            let partition = Partition::from(&work.assigned.partition);
            self.failing
                .again(What::in_partition(StallReason::EventFails, &partition), &failed.failure.message);
        }
    }
}

/// What the engine has not taken of some events.
#[derive(Default)]
struct Refused {
    why: Vec<(What, String)>,
    /// What waits for one before it in its partition, which is there as well, unless the engine says less.
    behind: Option<(What, String)>,
    /// What it says of the first one that it does not take as things are.
    lasting: Option<String>,
}

impl Refused {
    fn note(&mut self, event: &NewEvent, error: &PublishError) {
        let why = (of_publishing(error, event.topic.as_str()), error.to_string());
        if !error.is_passing() && self.lasting.is_none() {
            self.lasting = Some(why.1.clone());
        }
        if matches!(error, PublishError::NotTried) {
            self.behind = self.behind.take().or(Some(why));
        } else {
            self.why.push(why);
        }
    }

    fn all(&self) -> impl Iterator<Item = (What, &str)> {
        let is_alone = self.why.is_empty();
        let behind = self.behind.iter().filter(move |_| is_alone);
        self.why.iter().chain(behind).map(|(what, said)| (what.clone(), said.as_str()))
    }
}

/// An engine that does not say or keep how far a group is may do so soon, as when its topic is back.
fn unkept(error: CommitError) -> Trouble {
    match error {
        CommitError::Failed { .. } | CommitError::UnknownPartition { .. } => Trouble::Away(error.to_string()),
        _ => Trouble::Broken(error.to_string()),
    }
}

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

impl<T: Send + Sync + 'static> Ledger for DirectLedger<T> {
    fn take_over(&self, partition: TopicPartition, serial: u64) -> Boxed<'_, Result<Taken, Trouble>> {
        Box::pin(async move {
            let engine = &self.caller.context.engine;
            // Before it is asked how far the group is: of a topic that is made anew in between nothing is kept then, and it
            // is taken over once more. The other way round the new one would begin where the old one was.
            let topic_id = engine.topic_id(partition.topic.as_str());
            let given_up = GivenUp::default();
            let assigned = Arc::new(Assigned { partition, serial, lease: None, topic_id, given_up });
            let partitions = vec![Self::partition(&assigned)];
            let committed = engine.committed(self.group.clone(), partitions).await;
            let next = committed.map_err(unkept)?;
            // Without its id what is done in it would count for any other one of its name.
            if engine.topic_id(assigned.partition.topic.as_str()) != assigned.topic_id {
                return Err(Trouble::Away("the topic was made in this moment".to_owned()));
            }
            let kept = next.first().copied().flatten().map_or(Kept::Nothing, Kept::Next);
            Ok(Taken { assigned, kept, parked: Vec::new(), due_ms: Vec::new() })
        })
    }

    fn settle(&self, mut work: Work) -> Boxed<'_, Result<Settled, Trouble>> {
        Box::pin(async move {
            let mut waits = self.waits();
            let assigned = work.assigned.clone();
            while !assigned.given_up.is_set() {
                let attempted = self.attempt(&work, &mut waits.publishing).await;
                let Err(failed) = attempted else { return Ok(DONE) };
                let judged = self.judge(&work, &failed, &mut waits.copying).await;
                let Some(due_ms) = judged else { return Ok(DONE) };
                waits.fails(&work, &failed);
                work.failures = work.failures.saturating_add(1);
                let context = &self.caller.context;
                self.status.update(|state| state.backing_off.push(due_ms));
                context.activity.note();
                tokio::select! {
                    biased;
                    () = assigned.given_up.until_set() => {}
                    () = context.time.sleep_until(due_ms) => {}
                }
                self.status.update(|state| {
                    if let Some(at) = state.backing_off.iter().position(|one| *one == due_ms) {
                        state.backing_off.swap_remove(at);
                    }
                });
                context.activity.note();
            }
            Ok(Settled::Left)
        })
    }

    /// There is no transaction to share.
    fn settle_batch(&self, works: Vec<Work>) -> Boxed<'_, Result<Vec<Settled>, Trouble>> {
        Box::pin(async move {
            let mut settled = Vec::with_capacity(works.len());
            for work in works {
                settled.push(self.settle(work).await?);
            }
            Ok(settled)
        })
    }

    fn queue(&self, _: Vec<Work>) -> Boxed<'_, Result<(), Trouble>> {
        Box::pin(async { Err(Trouble::Broken("nothing is parked without a store".to_owned())) })
    }

    fn due<'a>(&'a self, _: &'a Arc<Assigned>, _: u32) -> Boxed<'a, Result<Vec<Work>, Trouble>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn next_due<'a>(&'a self, _: &'a Assigned) -> Boxed<'a, Result<Option<i64>, Trouble>> {
        Box::pin(async { Ok(None) })
    }

    /// The driver hands every progress to the engine itself.
    fn save<'a>(
        &'a self,
        _: &'a Assigned,
        _: Option<courant_sql::Progress>,
        _: u64,
    ) -> Boxed<'a, Result<(), Trouble>> {
        Box::pin(async { Ok(()) })
    }

    fn save_together<'a>(
        &'a self,
        _: &'a [(Arc<Assigned>, courant_sql::Progress)],
    ) -> Boxed<'a, Result<(), Trouble>> {
        Box::pin(async { Ok(()) })
    }

    fn reset<'a>(
        &'a self,
        assigned: &'a Assigned,
        progress: courant_sql::Progress,
    ) -> Boxed<'a, Result<(), Trouble>> {
        Box::pin(async move {
            let position = Self::partition(assigned).at(progress.next_offset());
            let positions = vec![(position, assigned.topic_id)];
            let kept = self.caller.context.engine.commit_in(self.group.clone(), positions).await;
            kept.map_err(unkept)
        })
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn news<'a>(&'a self, _: &'a Assigned) -> Boxed<'a, Result<News, Trouble>> {
        Box::pin(async { Ok(News::default()) })
    }

    fn claim_redrives<'a>(&'a self, _: &'a Assigned) -> Boxed<'a, Result<Vec<Option<Bytes>>, Trouble>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn prune(&self) -> Boxed<'_, Result<(), Trouble>> {
        Box::pin(async { Ok(()) })
    }
}
