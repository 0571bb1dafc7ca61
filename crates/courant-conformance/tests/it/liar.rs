//! An engine that does what another one does, except for one thing.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use courant_core::topic::TopicName;
use courant_engine::{
    Boxed, Capabilities, CommitError, CreateTopicError, Durability, Ends, Engine, GroupScope, NewRecord,
    NewTopic, Partition, Position, PublishDedup, PublishError, ReadBack, ReadError, Subscribe,
    SubscribeError, Subscription, TimedOffset, Topic, TopicsError, ensure_topics,
};
use uuid::Uuid;

use crate::lies::Lie;
use crate::lying_subscription::LyingSubscription;

/// An engine with one lie.
#[derive(Debug)]
pub(crate) struct Liar {
    pub(crate) inner: Arc<dyn Engine>,
    pub(crate) lie: Lie,
    /// How often the engine was opened before.
    reopened: u32,
    /// Counts whatever the lie counts.
    pub(crate) count: AtomicU64,
    /// Records that were answered and are not stored yet.
    pub(crate) held: Mutex<Vec<NewRecord>>,
    /// Records that were stored, and where they are.
    pub(crate) stored: Mutex<Vec<(NewRecord, Position)>>,
    /// Topics that were made.
    pub(crate) known: Mutex<Vec<Arc<str>>>,
}

impl Liar {
    pub(crate) fn around(inner: Arc<dyn Engine>, lie: Lie, reopened: u32) -> Arc<dyn Engine> {
        Arc::new(Self {
            inner,
            lie,
            reopened,
            count: AtomicU64::new(0),
            held: Mutex::default(),
            stored: Mutex::default(),
            known: Mutex::default(),
        })
    }

    /// How often it was asked this before.
    pub(crate) fn counted(&self) -> u64 {
        self.count.fetch_add(1, Ordering::SeqCst)
    }

    fn is_reopened_with(&self, lie: Lie) -> bool {
        self.lie == lie && self.reopened > 0
    }

    async fn create(&self, mut topics: Vec<NewTopic>) -> Vec<Result<Topic, CreateTopicError>> {
        for topic in &mut topics {
            match self.lie {
                Lie::OnePartition => topic.partitions = 1,
                Lie::ZeroIsOne => topic.partitions = topic.partitions.max(1),
                Lie::IgnoresConfigs => topic.configs.clear(),
                _ => {}
            }
        }
        let names = topics.iter().map(|topic| Arc::<str>::from(topic.name.as_str()));
        self.known.lock().expect("nobody panics with it").extend(names);
        if self.lie == Lie::MakesTopicsAgain {
            let ensured = ensure_topics(&*self.inner, topics).await;
            return ensured.expect("ensured").into_iter().map(Ok).collect();
        }
        let mut created = self.inner.create_topics(topics).await;
        if self.lie == Lie::OneIdForAll {
            created.iter_mut().flatten().for_each(|topic| topic.id = Uuid::nil());
        }
        created
    }

    async fn commit_singly(&self, group: String, positions: Vec<Position>) -> Result<(), CommitError> {
        let mut result = Ok(());
        for position in positions {
            let committed = self.inner.commit(group.clone(), vec![position]).await;
            result = result.and(committed);
        }
        result
    }

    async fn commit_forward(&self, group: String, positions: Vec<Position>) -> Result<(), CommitError> {
        let partitions = positions.iter().map(|position| position.partition.clone()).collect();
        let before = self.inner.committed(group.clone(), partitions).await?;
        let forward =
            positions.into_iter().zip(before).filter(|(position, before)| Some(position.offset) > *before);
        self.inner.commit(group, forward.map(|(position, _)| position).collect()).await
    }
}

impl Engine for Liar {
    fn kind(&self) -> &'static str {
        "liar"
    }

    fn log_id(&self) -> Uuid {
        if self.lie == Lie::NewIdentity { Uuid::from_u128(self.reopened.into()) } else { self.inner.log_id() }
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = self.inner.capabilities();
        match self.lie {
            Lie::TruthAboutIds | Lie::SaysThatItComparesIds | Lie::RemembersOneId => {
                can.publish_dedup = PublishDedup::Exact;
            }
            Lie::SaysThatOthersCanJoin => can.groups = GroupScope::Everywhere,
            Lie::SaysThatItIsOnDisk => can.durability = Durability::Disk,
            _ => {}
        }
        can
    }

    fn topics(&self, names: Vec<TopicName>) -> Boxed<'_, Result<Vec<Option<Topic>>, TopicsError>> {
        Box::pin(async move {
            let mut found = self.inner.topics(names).await?;
            if self.lie == Lie::MakesTopicsUp
                && let Some(there) = found.iter().flatten().next().cloned()
            {
                found.iter_mut().for_each(|topic| *topic = Some(there.clone()));
            }
            Ok(found)
        })
    }

    fn create_topics(&self, topics: Vec<NewTopic>) -> Boxed<'_, Vec<Result<Topic, CreateTopicError>>> {
        Box::pin(self.create(topics))
    }

    fn publish(&self, records: Vec<NewRecord>) -> Boxed<'_, Vec<Result<Position, PublishError>>> {
        Box::pin(self.publish_lying(records))
    }

    fn subscribe(&self, mut wanted: Subscribe) -> Boxed<'_, Result<Box<dyn Subscription>, SubscribeError>> {
        Box::pin(async move {
            match self.lie {
                Lie::OneGroupForAll => wanted.group = "all".to_owned(),
                Lie::EveryoneAlone => wanted.group = format!("{}-{}", wanted.group, self.counted()),
                Lie::IgnoresBytesMax => wanted.bytes_max = courant_engine::limits::FETCH_BYTES_MAX,
                Lie::SubscribesToAnything => {
                    let topics = wanted.topics.iter().map(|name| NewTopic::new(name.clone(), 1)).collect();
                    ensure_topics(&*self.inner, topics).await.expect("ensured");
                }
                _ => {}
            }
            let inner = self.inner.subscribe(wanted).await?;
            let is_reopened = self.reopened > 0;
            let lying = LyingSubscription::around(inner, self.inner.clone(), self.lie, is_reopened);
            Ok(Box::new(lying) as Box<dyn Subscription>)
        })
    }

    fn read(&self, mut positions: Vec<Position>) -> Boxed<'_, Vec<Result<ReadBack, ReadError>>> {
        Box::pin(async move {
            if self.lie == Lie::WrongReadBack {
                positions.iter_mut().for_each(|position| position.offset += 1);
            }
            let answers = self.inner.read(positions).await.into_iter();
            let lying = answers.map(|answer| match answer {
                Ok(ReadBack::Behind { .. }) if self.lie == Lie::GapBehindTheEnd => Ok(ReadBack::Gap),
                Err(ReadError::UnknownPartition { .. }) if self.lie == Lie::UnknownIsEmpty => {
                    Ok(ReadBack::Behind { end: 0 })
                }
                other => other,
            });
            lying.collect()
        })
    }

    fn ends(&self, partitions: Vec<Partition>) -> Boxed<'_, Vec<Result<Ends, ReadError>>> {
        Box::pin(async move {
            let answers = self.inner.ends(partitions).await.into_iter();
            let lying = answers.map(|answer| match (answer, self.lie) {
                (Ok(ends), Lie::EndTooLow) => Ok(Ends { end: ends.end.saturating_sub(1), ..ends }),
                (Ok(ends), Lie::EndTooHigh) => Ok(Ends { end: ends.end + 1, ..ends }),
                (Err(ReadError::UnknownPartition { .. }), Lie::UnknownIsEmpty) => {
                    Ok(Ends { start: 0, end: 0 })
                }
                (answer, _) => answer,
            });
            lying.collect()
        })
    }

    fn offsets_for_time(
        &self,
        mut wanted: Vec<(Partition, i64)>,
    ) -> Boxed<'_, Vec<Result<Option<TimedOffset>, ReadError>>> {
        Box::pin(async move {
            if self.lie == Lie::TimeOffByOne {
                wanted.iter_mut().for_each(|(_, ms)| *ms += 1);
            }
            let mut answers = self.inner.offsets_for_time(wanted).await;
            if self.lie == Lie::TimeOfTheFirst
                && let Some(first) = answers.first().cloned()
            {
                answers.fill(first);
            }
            if self.lie == Lie::TimeFindsAlways {
                let always = |found: &mut Option<TimedOffset>| {
                    found.get_or_insert(TimedOffset { offset: 0, timestamp_ms: 0 });
                };
                answers.iter_mut().flatten().for_each(always);
            }
            answers
        })
    }

    fn commit(&self, group: String, positions: Vec<Position>) -> Boxed<'_, Result<(), CommitError>> {
        Box::pin(async move {
            match self.lie {
                Lie::ForgetsCommits => Ok(()),
                Lie::CommitsLeakBetweenGroups => self.inner.commit("all".to_owned(), positions).await,
                Lie::CommitsInPart => self.commit_singly(group, positions).await,
                Lie::CommitsOnlyForward => self.commit_forward(group, positions).await,
                _ => self.inner.commit(group, positions).await,
            }
        })
    }

    fn committed(
        &self,
        group: String,
        partitions: Vec<Partition>,
    ) -> Boxed<'_, Result<Vec<Option<u64>>, CommitError>> {
        Box::pin(async move {
            let group = if self.lie == Lie::CommitsLeakBetweenGroups { "all".to_owned() } else { group };
            let mut found = self.inner.committed(group, partitions).await?;
            if self.is_reopened_with(Lie::ForgetsCommitsWhenClosed) {
                found.fill(None);
            }
            if self.lie == Lie::CommitsOfTheFirst {
                let first = found.first().copied().flatten();
                found.fill(first);
            }
            if self.lie == Lie::NothingIsZero {
                found.iter_mut().for_each(|offset| *offset = Some(offset.unwrap_or_default()));
            }
            Ok(found)
        })
    }

    fn close(&self) -> Boxed<'_, ()> {
        Box::pin(async move {
            match self.lie {
                Lie::StaysOpen => {}
                Lie::SecondCloseHangs if self.counted() > 0 => pending().await,
                _ => self.inner.close().await,
            }
        })
    }
}
