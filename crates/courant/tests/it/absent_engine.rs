//! An engine that goes away and comes back, as a broker does.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use courant::engine::{
    Boxed, Capabilities, CommitError, CreateTopicError, Ends, Engine, FetchError, NewRecord, NewTopic, Next,
    Partition, Position, PublishError, ReadBack, ReadError, SeekError, Subscribe, SubscribeError,
    Subscription, TimedOffset, Topic, TopicsError,
};
use courant_core::topic::TopicName;
use tokio::sync::watch;
use uuid::Uuid;

/// What it says while it is away.
const AWAY: &str = "the broker is away";

/// An engine behind a connection that can be cut. While it is, nothing is published and nothing comes;
/// only the first batch after the cut is stored, and its answer is lost.
#[derive(Debug)]
pub(crate) struct AbsentEngine {
    inner: Arc<dyn Engine>,
    is_there: watch::Sender<bool>,
    /// Its topics are, as far as one reads.
    has_topics: watch::Sender<bool>,
    /// It keeps how far groups are.
    keeps: AtomicBool,
    /// It has forgotten that.
    has_forgotten: Arc<AtomicBool>,
    /// It forgets that when a subscription seeks.
    forgets_at_seek: Arc<AtomicBool>,
    /// What is in its topics is what was in those that they stand for.
    has_replayed: AtomicBool,
    /// It tells topics by their names alone.
    has_no_ids: AtomicBool,
    /// The next one who asks hears no id.
    is_id_late: AtomicBool,
    /// A topic that stands for another one of its name.
    made_anew: Mutex<Option<String>>,
    refused: AtomicU64,
    /// It says where partitions end; otherwise whoever asks waits, and is counted.
    answers: watch::Sender<bool>,
    waiting: AtomicU64,
    /// A partition that cannot be read, and how often somebody has heard so.
    unreadable: Arc<Mutex<Option<(Partition, u64)>>>,
}

impl AbsentEngine {
    pub(crate) fn around(inner: Arc<dyn Engine>) -> Arc<Self> {
        let (is_there, has_topics) = (watch::Sender::new(true), watch::Sender::new(true));
        Arc::new(Self {
            inner,
            is_there,
            has_topics,
            keeps: AtomicBool::new(true),
            has_forgotten: Arc::default(),
            forgets_at_seek: Arc::default(),
            has_replayed: AtomicBool::new(false),
            has_no_ids: AtomicBool::new(false),
            is_id_late: AtomicBool::new(false),
            made_anew: Mutex::new(None),
            refused: AtomicU64::new(0),
            answers: watch::Sender::new(true),
            waiting: AtomicU64::new(0),
            unreadable: Arc::default(),
        })
    }

    pub(crate) fn leave(&self) {
        self.refused.store(0, Ordering::SeqCst);
        self.is_there.send_replace(false);
    }

    pub(crate) fn come_back(&self) {
        self.is_there.send_replace(true);
    }

    /// From now on no partition is there, which each subscription hears once.
    pub(crate) fn lose_topics(&self) {
        self.has_topics.send_replace(false);
    }

    pub(crate) fn find_topics(&self) {
        self.has_topics.send_replace(true);
    }

    /// Whether it keeps from now on how far groups are.
    pub(crate) fn keep_progress(&self, keeps: bool) {
        self.keeps.store(keeps, Ordering::SeqCst);
    }

    /// From now on it does not know how far groups are, as of topics that were made anew: what is in them stands for
    /// other events, and they have other ids.
    pub(crate) fn forget_progress(&self) {
        self.has_forgotten.store(true, Ordering::SeqCst);
    }

    /// The same in the moment in which a subscription seeks.
    pub(crate) fn forget_progress_at_seek(&self) {
        self.forgets_at_seek.store(true, Ordering::SeqCst);
    }

    /// From now on it does not know how far groups are, as of topics that were made anew, into which the same events were
    /// published.
    pub(crate) fn replay(&self) {
        self.has_replayed.store(true, Ordering::SeqCst);
        self.forget_progress();
    }

    /// It tells topics by their names alone, as a server.
    pub(crate) fn tell_no_ids(&self) {
        self.has_no_ids.store(true, Ordering::SeqCst);
    }

    /// The next one who asks for a topic's id hears none, as of a topic that is just being made.
    pub(crate) fn tell_id_late(&self) {
        self.is_id_late.store(true, Ordering::SeqCst);
    }

    /// From now on a topic stands for another one of its name.
    pub(crate) fn make_anew(&self, topic: &str) {
        *self.made_anew.lock().unwrap_or_else(PoisonError::into_inner) = Some(topic.to_owned());
    }

    /// From now on a partition cannot be read, which subscriptions hear each time they have sought it. `None`: all can.
    pub(crate) fn break_partition(&self, partition: Option<Partition>) {
        *self.unreadable.lock().unwrap_or_else(PoisonError::into_inner) = partition.map(|one| (one, 0));
    }

    /// How often somebody has heard that a partition cannot be read.
    pub(crate) fn times_unreadable(&self) -> u64 {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, |(_, times)| *times)
    }

    /// From now on nobody hears where partitions end.
    pub(crate) fn say_no_ends(&self) {
        self.answers.send_replace(false);
    }

    /// How many have asked since then.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Batches that it has not answered since it went away.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::SeqCst)
    }

    fn is_away(&self) -> bool {
        !*self.is_there.borrow()
    }
}

impl Engine for AbsentEngine {
    fn kind(&self) -> &'static str {
        "absent"
    }

    fn log_id(&self) -> Uuid {
        self.inner.log_id()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn topics(&self, names: Vec<TopicName>) -> Boxed<'_, Result<Vec<Option<Topic>>, TopicsError>> {
        if self.is_away() {
            return Box::pin(async { Err(TopicsError::Failed { reason: AWAY.to_owned() }) });
        }
        self.inner.topics(names)
    }

    fn create_topics(&self, topics: Vec<NewTopic>) -> Boxed<'_, Vec<Result<Topic, CreateTopicError>>> {
        if self.is_away() {
            let failed = |topic: NewTopic| {
                Err(CreateTopicError::Failed { topic: topic.name.into_string(), reason: AWAY.to_owned() })
            };
            return Box::pin(async move { topics.into_iter().map(failed).collect() });
        }
        self.inner.create_topics(topics)
    }

    fn publish(&self, records: Vec<NewRecord>) -> Boxed<'_, Vec<Result<Position, PublishError>>> {
        Box::pin(async move {
            if !self.is_away() {
                return self.inner.publish(records).await;
            }
            let count = records.len();
            if self.refused.fetch_add(1, Ordering::SeqCst) == 0 {
                self.inner.publish(records).await;
            }
            (0..count).map(|_| Err(PublishError::InDoubt { reason: AWAY.to_owned() })).collect()
        })
    }

    fn subscribe(&self, wanted: Subscribe) -> Boxed<'_, Result<Box<dyn Subscription>, SubscribeError>> {
        Box::pin(async move {
            if self.is_away() {
                return Err(SubscribeError::Failed { reason: AWAY.to_owned() });
            }
            let inner = self.inner.subscribe(wanted).await?;
            let topics = self.has_topics.subscribe();
            let subscription: Box<dyn Subscription> = Box::new(AbsentSubscription {
                inner,
                is_there: self.is_there.subscribe(),
                topics,
                has_heard: false,
                has_forgotten: self.has_forgotten.clone(),
                forgets_at_seek: self.forgets_at_seek.clone(),
                unreadable: self.unreadable.clone(),
                owes: None,
            });
            Ok(subscription)
        })
    }

    fn read(&self, positions: Vec<Position>) -> Boxed<'_, Vec<Result<ReadBack, ReadError>>> {
        if self.is_away() {
            return Box::pin(async move {
                positions.into_iter().map(|position| Err(unreadable(position.partition))).collect()
            });
        }
        let has_replayed = self.has_replayed.load(Ordering::SeqCst);
        let is_other = self.has_forgotten.load(Ordering::SeqCst) && !has_replayed;
        Box::pin(async move {
            let answers = self.inner.read(positions).await.into_iter();
            let other = answers.map(|answer| match answer {
                Ok(ReadBack::Found(mut record)) if is_other => {
                    record.headers.clear();
                    Ok(ReadBack::Found(record))
                }
                answer => answer,
            });
            other.collect()
        })
    }

    fn ends(&self, partitions: Vec<Partition>) -> Boxed<'_, Vec<Result<Ends, ReadError>>> {
        if self.is_away() {
            return Box::pin(async move {
                partitions.into_iter().map(|partition| Err(unreadable(partition))).collect()
            });
        }
        if !*self.has_topics.borrow() {
            let unknown = |partition| Err(ReadError::UnknownPartition { partition });
            return Box::pin(async move { partitions.into_iter().map(unknown).collect() });
        }
        let mut answers = self.answers.subscribe();
        if *answers.borrow() {
            return self.inner.ends(partitions);
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            drop(answers.wait_for(|answers| *answers).await);
            self.inner.ends(partitions).await
        })
    }

    fn offsets_for_time(
        &self,
        wanted: Vec<(Partition, i64)>,
    ) -> Boxed<'_, Vec<Result<Option<TimedOffset>, ReadError>>> {
        self.inner.offsets_for_time(wanted)
    }

    fn commit(&self, group: String, positions: Vec<Position>) -> Boxed<'_, Result<(), CommitError>> {
        if self.is_away() || !self.keeps.load(Ordering::SeqCst) {
            return Box::pin(async move { Err(CommitError::Failed { group, reason: AWAY.to_owned() }) });
        }
        self.inner.commit(group, positions)
    }

    fn topic_id(&self, topic: &str) -> Option<Uuid> {
        if self.is_id_late.swap(false, Ordering::SeqCst) || self.has_no_ids.load(Ordering::SeqCst) {
            return None;
        }
        let made_anew = self.made_anew.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = self.has_forgotten.load(Ordering::SeqCst) || made_anew.as_deref() == Some(topic);
        self.inner.topic_id(topic).map(|id| if is_other { Uuid::from_u128(!id.as_u128()) } else { id })
    }

    fn committed(
        &self,
        group: String,
        partitions: Vec<Partition>,
    ) -> Boxed<'_, Result<Vec<Option<u64>>, CommitError>> {
        if self.has_forgotten.load(Ordering::SeqCst) {
            return Box::pin(async move { Ok(vec![None; partitions.len()]) });
        }
        self.inner.committed(group, partitions)
    }

    fn close(&self) -> Boxed<'_, ()> {
        self.inner.close()
    }
}

fn unreadable(partition: Partition) -> ReadError {
    ReadError::Failed { partition, reason: AWAY.to_owned() }
}

#[derive(Debug)]
struct AbsentSubscription {
    inner: Box<dyn Subscription>,
    is_there: watch::Receiver<bool>,
    topics: watch::Receiver<bool>,
    /// It has heard that its topics are not there.
    has_heard: bool,
    has_forgotten: Arc<AtomicBool>,
    forgets_at_seek: Arc<AtomicBool>,
    unreadable: Arc<Mutex<Option<(Partition, u64)>>>,
    /// What it says next.
    owes: Option<FetchError>,
}

impl Subscription for AbsentSubscription {
    /// Nothing comes while the engine is away, and what comes in the moment in which it goes is lost with
    /// the wait, not with the record: it comes again.
    fn next(&mut self, wait: Duration) -> Boxed<'_, Result<Next, FetchError>> {
        if let Some(owed) = self.owes.take() {
            return Box::pin(async { Err(owed) });
        }
        Box::pin(async move {
            let Self { inner, is_there, topics, has_heard, .. } = self;
            loop {
                let (is_lost, had_heard) = (!*topics.borrow_and_update(), *has_heard);
                *has_heard = is_lost;
                let lost = inner.assigned().into_iter().next().filter(|_| is_lost && !had_heard);
                if let Some(partition) = lost {
                    return Err(FetchError::UnknownPartition { partition });
                }
                if !*is_there.borrow_and_update() {
                    tokio::select! {
                        biased;
                        changed = is_there.changed() => changed.map_err(|_| FetchError::Closed)?,
                        () = tokio::time::sleep(wait) => return Ok(Next::Nothing),
                    }
                    continue;
                }
                tokio::select! {
                    biased;
                    changed = is_there.changed() => changed.map_err(|_| FetchError::Closed)?,
                    changed = topics.changed() => changed.map_err(|_| FetchError::Closed)?,
                    next = inner.next(wait) => return next,
                }
            }
        })
    }

    fn seek(&mut self, positions: Vec<Position>) -> Result<(), SeekError> {
        if self.forgets_at_seek.swap(false, Ordering::SeqCst) {
            self.has_forgotten.store(true, Ordering::SeqCst);
        }
        let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        let broken = unreadable.as_mut().filter(|(one, _)| positions.iter().any(|at| at.partition == *one));
        let Some((partition, times)) = broken else { return self.inner.seek(positions) };
        *times += 1;
        self.owes =
            Some(FetchError::Failed { partition: partition.clone(), reason: "no such file".to_owned() });
        // Nothing is read of it.
        self.inner.seek(positions.into_iter().filter(|at| at.partition != *partition).collect())
    }

    fn pause(&mut self, partitions: &[Partition]) {
        self.inner.pause(partitions);
    }

    fn resume(&mut self, partitions: &[Partition]) {
        self.inner.resume(partitions);
    }

    fn assigned(&self) -> Vec<Partition> {
        self.inner.assigned()
    }
}
