//! What of a service does not go on, why, and since when: for its log, and for what it says of itself.
//!
//! Whoever waits has a [`Waiting`], and says each time why. What several wait for is one stall, and ends when the last
//! of them goes on. It is logged at its beginning and then more and more seldom. What has gone on for less than a minute
//! and waits again is the same stall, and no news.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use courant_engine::{CreateTopicError, Partition, PublishError};
use tracing::{error, info, warn};

use super::time::Time;
use crate::{Stall, StallReason};

/// A stall is logged again after this time, and after twice of it each time after that, but for the longest.
const FIRST_GAP_MS: u64 = 30_000;
const LONGEST_GAP_MS: u64 = 3_600_000;

/// What has gone on for so long has ended: what comes then is another stall.
const ENDED_MS: u64 = 60_000;

/// Bytes of a text that are kept.
const SAID_BYTES_MAX: usize = 1024;

/// Stalls that are known at once, those that have just ended among them. More are neither told nor logged.
const KNOWN_MAX: usize = 1_000;

/// All stalls of a service.
pub(crate) struct Stalls {
    time: Arc<dyn Time>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// How often one has begun or ended.
    changes: u64,
    /// The service ends: who waits no more has not gone on.
    is_over: bool,
    all: BTreeMap<Key, Kept>,
}

/// What tells one stall from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    consumer: Option<Arc<str>>,
    what: What,
}

/// Why somebody waits, and for which topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct What {
    reason: StallReason,
    topic: Option<String>,
    partition: Option<u32>,
}

impl What {
    pub(crate) fn of(reason: StallReason) -> Self {
        Self { reason, topic: None, partition: None }
    }

    pub(crate) fn in_topic(reason: StallReason, topic: &str) -> Self {
        Self { topic: Some(topic.to_owned()), ..Self::of(reason) }
    }

    pub(crate) fn in_partition(reason: StallReason, partition: &Partition) -> Self {
        Self { partition: Some(partition.number), ..Self::in_topic(reason, &partition.topic) }
    }
}

struct Kept {
    /// Those who wait.
    holders: usize,
    since_ms: i64,
    times: u64,
    said: String,
    /// On a clock that never goes back: when it began, when the last one went on, and when it is logged again.
    began: u64,
    ended: Option<u64>,
    again: u64,
    gap_ms: u64,
    /// It was logged since somebody began to wait.
    is_logged: bool,
}

impl Stalls {
    pub(crate) fn new(time: Arc<dyn Time>) -> Arc<Self> {
        Arc::new(Self { time, known: Mutex::default() })
    }

    /// For something that may have to wait: of a consumer, or of the outbox.
    pub(crate) fn waiting(self: &Arc<Self>, consumer: Option<Arc<str>>) -> Waiting {
        Waiting { stalls: Arc::clone(self), consumer, held: BTreeSet::new(), is_to_be_logged: true }
    }

    /// The same for something that has lines of its own in the log.
    pub(crate) fn unlogged(self: &Arc<Self>, consumer: Option<Arc<str>>) -> Waiting {
        let mut waiting = self.waiting(consumer);
        waiting.is_to_be_logged = false;
        waiting
    }

    /// The service ends. Of what is given up with it nobody says that it goes on.
    pub(crate) fn end_all(&self) {
        self.lock().is_over = true;
    }

    /// How often one has begun or ended.
    pub(crate) fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Those of the moment, at most [`KNOWN_MAX`], by consumer, reason, topic and partition.
    pub(crate) fn all(&self) -> Vec<Stall> {
        let known = self.lock();
        let open = known.all.iter().filter(|(_, kept)| kept.holders > 0);
        let stalls = open.map(|(Key { consumer, what }, kept)| Stall {
            consumer: consumer.as_deref().map(str::to_owned),
            reason: what.reason,
            topic: what.topic.clone(),
            partition: what.partition,
            since_ms: kept.since_ms,
            times: kept.times,
            said: kept.said.clone(),
        });
        stalls.collect()
    }

    /// Somebody waits from now on. Not where as many are known as may be.
    fn begin(&self, key: &Key, said: &str, is_to_be_logged: bool) -> bool {
        let (now_ms, elapsed_ms) = (self.time.now_ms(), self.time.elapsed_ms());
        let mut known = self.lock();
        known.forget(elapsed_ms);
        if known.all.len() >= KNOWN_MAX && !known.all.contains_key(key) {
            return false;
        }
        let kept = known.all.entry(key.clone()).or_insert_with(|| Kept {
            holders: 0,
            since_ms: now_ms,
            times: 0,
            said: String::new(),
            began: elapsed_ms,
            ended: None,
            again: elapsed_ms,
            gap_ms: FIRST_GAP_MS,
            is_logged: false,
        });
        kept.holders += 1;
        if kept.holders == 1 {
            (kept.ended, kept.is_logged) = (None, false);
            known.changes += 1;
        }
        drop(known);
        self.again(key, said, is_to_be_logged);
        true
    }

    /// It was tried again, or begins.
    fn again(&self, key: &Key, said: &str, is_to_be_logged: bool) {
        let elapsed_ms = self.time.elapsed_ms();
        let mut known = self.lock();
        let Some(kept) = known.all.get_mut(key) else { return };
        kept.times = kept.times.saturating_add(1);
        beginning(said, SAID_BYTES_MAX).clone_into(&mut kept.said);
        if !is_to_be_logged || elapsed_ms < kept.again {
            return;
        }
        kept.is_logged = true;
        kept.again = elapsed_ms.saturating_add(kept.gap_ms);
        kept.gap_ms = kept.gap_ms.saturating_mul(2).min(LONGEST_GAP_MS);
        let (times, for_ms) = (kept.times, elapsed_ms.saturating_sub(kept.began));
        drop(known);
        log(key, times, for_ms, said);
    }

    /// Somebody waits no more.
    fn end(&self, key: &Key) {
        let elapsed_ms = self.time.elapsed_ms();
        let mut known = self.lock();
        let Some(kept) = known.all.get_mut(key) else { return };
        kept.holders = kept.holders.saturating_sub(1);
        if kept.holders > 0 {
            return;
        }
        kept.ended = Some(elapsed_ms);
        let (is_logged, for_ms) = (kept.is_logged, elapsed_ms.saturating_sub(kept.began));
        known.changes += 1;
        let says_so = is_logged && !known.is_over;
        drop(known);
        if says_so {
            let Key { consumer, what: What { reason, topic, partition } } = key;
            let (consumer, topic) = (consumer.as_deref(), topic.as_deref());
            info!(consumer, %reason, topic, partition, for_ms, "it goes on again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Forgets what has ended some time ago.
    fn forget(&mut self, elapsed_ms: u64) {
        let is_over = |ended: u64| elapsed_ms.saturating_sub(ended) >= ENDED_MS;
        self.all.retain(|_, kept| !kept.ended.is_some_and(is_over));
    }
}

fn log(key: &Key, times: u64, for_ms: u64, said: &str) {
    let Key { consumer, what: What { reason, topic, partition } } = key;
    let (consumer, topic) = (consumer.as_deref(), topic.as_deref());
    // Without a consumer it is the outbox, or what is scheduled.
    if matches!(reason, StallReason::Refused | StallReason::NoTopic | StallReason::EngineFailed) {
        error!(consumer, %reason, topic, partition, times, for_ms, said, "it does not go on, and is tried again");
    } else {
        warn!(consumer, %reason, topic, partition, times, for_ms, said, "it does not go on, and is tried again");
    }
}

fn beginning(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// What somebody waits for, who goes on when this is dropped.
pub(crate) struct Waiting {
    stalls: Arc<Stalls>,
    consumer: Option<Arc<str>>,
    held: BTreeSet<What>,
    is_to_be_logged: bool,
}

impl Waiting {
    /// It waits for this and nothing else, and has tried it.
    pub(crate) fn again(&mut self, what: What, said: &str) {
        self.only([(what, said)]);
    }

    /// It waits for these and nothing else, and has tried all of them.
    pub(crate) fn only<'a>(&mut self, all: impl IntoIterator<Item = (What, &'a str)>) {
        let mut held = BTreeSet::new();
        for (what, said) in all {
            let (key, is_to_be_logged) = (self.key(&what), self.is_to_be_logged);
            let is_held = if held.contains(&what) {
                true
            } else if self.held.remove(&what) {
                self.stalls.again(&key, said, is_to_be_logged);
                true
            } else {
                self.stalls.begin(&key, said, is_to_be_logged)
            };
            if is_held {
                held.insert(what);
            }
        }
        self.goes_on();
        self.held = held;
    }

    /// Whether it waits for something.
    pub(crate) fn is_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// It waits for nothing.
    pub(crate) fn goes_on(&mut self) {
        for what in std::mem::take(&mut self.held) {
            self.stalls.end(&self.key(&what));
        }
    }

    fn key(&self, what: &What) -> Key {
        Key { consumer: self.consumer.clone(), what: what.clone() }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.goes_on();
    }
}

/// Why an event is not published.
pub(crate) fn of_publishing(error: &PublishError, topic: &str) -> What {
    let reason = match error {
        PublishError::UnknownTopic { .. } | PublishError::UnknownPartition { .. } => StallReason::NoTopic,
        PublishError::Full { .. } => StallReason::EngineFull,
        PublishError::Failed { .. } | PublishError::Closed => StallReason::EngineFailed,
        error if error.is_passing() => StallReason::EngineAway,
        // Too large, without a key, or not to be stored: and what later versions refuse for good.
        _ => StallReason::Refused,
    };
    match reason {
        // It takes nothing, whatever the topic.
        StallReason::EngineAway | StallReason::EngineFull | StallReason::EngineFailed => What::of(reason),
        reason => What::in_topic(reason, topic),
    }
}

/// Why a topic is not created that is to be published into.
pub(crate) fn of_creating(error: &CreateTopicError) -> What {
    match error {
        CreateTopicError::Refused { topic, .. } => What::in_topic(StallReason::Refused, topic),
        CreateTopicError::Exists { topic } | CreateTopicError::Vanished { topic } => {
            What::in_topic(StallReason::NoTopic, topic)
        }
        _ => What::of(StallReason::EngineAway),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use courant_core::clock::Clock;

    use super::*;
    use crate::Boxed;

    const BEGAN_MS: i64 = 1_000_000;

    /// A clock that is set.
    #[derive(Default)]
    pub(in crate::runtime) struct Set(AtomicU64);

    impl Clock for Set {
        fn now_ms(&self) -> i64 {
            BEGAN_MS + i64::try_from(self.elapsed_ms()).expect("small")
        }

        fn elapsed_ms(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Time for Set {
        fn sleep_until(&self, _: i64) -> Boxed<'_, ()> {
            Box::pin(async {})
        }
    }

    pub(in crate::runtime) fn stalls() -> (Arc<Set>, Arc<Stalls>) {
        let time = Arc::new(Set::default());
        let stalls = Stalls::new(Arc::clone(&time) as Arc<dyn Time>);
        (time, stalls)
    }

    fn billing(stalls: &Arc<Stalls>) -> Waiting {
        stalls.waiting(Some(Arc::from("billing")))
    }

    fn refused() -> What {
        What::in_topic(StallReason::Refused, "orders")
    }

    /// When it is logged next, and how long after that.
    fn next(stalls: &Stalls) -> (u64, u64) {
        let known = stalls.lock();
        let kept = known.all.values().next().expect("one is known");
        (kept.again, kept.gap_ms)
    }

    #[test]
    fn what_several_wait_for_is_one_and_ends_with_the_last() {
        let (time, stalls) = stalls();
        let (mut one, mut other) = (billing(&stalls), billing(&stalls));
        one.again(refused(), "too large");
        time.0.store(7_000, Ordering::SeqCst);
        other.again(refused(), "still too large");
        let all = stalls.all();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].consumer.as_deref(), all[0].reason), (Some("billing"), StallReason::Refused));
        assert_eq!((all[0].topic.as_deref(), all[0].partition), (Some("orders"), None));
        assert_eq!((all[0].since_ms, all[0].times), (BEGAN_MS, 2));
        assert_eq!(all[0].said, "still too large");
        drop(one);
        assert_eq!(stalls.all().len(), 1);
        drop(other);
        assert_eq!((stalls.all().len(), stalls.changes()), (0, 2));
    }

    #[test]
    fn it_is_logged_at_its_beginning_and_then_more_and_more_seldom() {
        let (time, stalls) = stalls();
        let mut waiting = billing(&stalls);
        let mut logged = Vec::new();
        for second in 0..10_000_u64 {
            time.0.store(second * 1_000, Ordering::SeqCst);
            let before = stalls.lock().all.values().next().map(|kept| kept.again);
            waiting.again(refused(), "too large");
            if before != Some(next(&stalls).0) {
                logged.push(second);
            }
        }
        assert_eq!(logged, [0, 30, 90, 210, 450, 930, 1_890, 3_810, 7_410]);
        assert_eq!(next(&stalls).1, LONGEST_GAP_MS);
        assert_eq!(stalls.all()[0].times, 10_000);
    }

    /// Something else is news at once. What goes on for a moment is the same again, and what has gone on for a minute is
    /// another.
    #[test]
    fn what_changes_is_news_and_what_comes_again_is_not() {
        let (time, stalls) = stalls();
        let mut waiting = billing(&stalls);
        waiting.again(refused(), "too large");
        waiting.again(What::of(StallReason::EngineAway), "nobody answers");
        assert_eq!(stalls.all().len(), 1, "it waits for one thing");
        assert_eq!(stalls.changes(), 3);
        waiting.goes_on();
        time.0.store(ENDED_MS - 1, Ordering::SeqCst);
        waiting.again(What::of(StallReason::EngineAway), "nobody answers");
        assert_eq!((stalls.all()[0].since_ms, stalls.all()[0].times), (BEGAN_MS, 2));
        waiting.goes_on();
        time.0.store(3 * ENDED_MS, Ordering::SeqCst);
        waiting.again(What::of(StallReason::EngineAway), "nobody answers");
        let since_ms = BEGAN_MS + i64::try_from(3 * ENDED_MS).expect("small");
        assert_eq!((stalls.all()[0].since_ms, stalls.all()[0].times), (since_ms, 1));
        assert_eq!(next(&stalls), (3 * ENDED_MS + FIRST_GAP_MS, 2 * FIRST_GAP_MS), "and logged anew");
    }

    /// However many topics there are, and however long what they say is.
    #[test]
    fn there_is_a_bound() {
        let (_, stalls) = stalls();
        let mut waiting = stalls.unlogged(None);
        let what = |n: usize| What::in_topic(StallReason::Refused, &format!("topic-{n}"));
        let long = "\u{e9}".repeat(SAID_BYTES_MAX);
        waiting.only((0..2 * KNOWN_MAX).map(|n| (what(n), long.as_str())));
        let all = stalls.all();
        assert_eq!((all.len(), all[0].said.len()), (KNOWN_MAX, SAID_BYTES_MAX));
        assert_eq!(all[0].consumer, None);
        waiting.goes_on();
        assert!(stalls.all().is_empty() && !waiting.is_held());
    }

    #[test]
    fn what_the_engine_says_has_a_word() {
        let too_large = PublishError::TooLarge { topic: "orders".to_owned(), bytes: 2, max: 1 };
        assert_eq!(of_publishing(&too_large, "orders"), refused());
        let full = PublishError::Full { hint: "delete something".to_owned() };
        assert_eq!(of_publishing(&full, "orders"), What::of(StallReason::EngineFull));
        assert_eq!(of_publishing(&PublishError::Closed, "orders"), What::of(StallReason::EngineFailed));
        assert_eq!(of_publishing(&PublishError::Busy, "orders"), What::of(StallReason::EngineAway));
        let (topic, reason) = ("orders".to_owned(), "100 partitions at most".to_owned());
        assert_eq!(of_creating(&CreateTopicError::Refused { topic, reason }), refused());
    }
}
