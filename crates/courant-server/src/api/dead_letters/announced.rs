//! What services say of themselves, followed in the log: of each instance the newest state is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use courant_core::consumer::ConsumerName;
use courant_core::operations::{
    FailureState, PartitionState, SERVICES, ServiceState, StallState, SubscriptionState,
};
use courant_log::batch::records::Record;
use courant_log::{Log, PartitionId};
use uuid::Uuid;

use crate::api::limits::{
    ID_CLOCKS_DIFFER_MS, INSTANCE_BYTES_MAX, INSTANCES_KEPT_MAX, SERVICES_READ_BYTES_MAX,
};
use crate::api::problem::{Problem, STARTING};
use crate::api::records::read::{Taken, read};

/// An instance that has not been seen for so many of its heartbeats is silent.
const SILENT_AFTER: i64 = 3;

/// What has been read of the topic.
#[derive(Debug)]
pub(crate) struct Announced {
    /// The id of the topic: one that was made anew is read anew.
    topic: Option<Uuid>,
    /// Where each partition is read on.
    next: BTreeMap<u32, u64>,
    instances: BTreeMap<Bytes, Instance>,
    /// States that were taken so far.
    taken: u64,
    /// Bytes that all states take, about, and that they may take.
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Instance {
    /// `None`: what it says is not understood here.
    state: Option<Arc<ServiceState>>,
    bytes: usize,
    /// Its place in the order of the log, which no wrong clock changes.
    place: u64,
}

/// What is known of all services at a moment.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The instances of each service, in the order in which they have spoken last.
    pub(super) services: BTreeMap<String, Vec<Arc<ServiceState>>>,
    /// Instances whose state is not understood.
    pub(super) unreadable: usize,
}

impl Announced {
    /// Nothing yet, and states of so many bytes at most.
    pub(super) fn of(bytes_max: usize) -> Self {
        let (next, instances) = (BTreeMap::new(), BTreeMap::new());
        Self { topic: None, next, instances, taken: 0, bytes: 0, bytes_max }
    }

    /// Reads what has come since the last look. Where that is much, each look reads a part of it, so that
    /// nobody waits for all of it: until then nothing is known. May wait for the disk.
    pub(super) fn follow(&mut self, log: &Log) -> Result<Known, Problem> {
        self.follow_some(log, SERVICES_READ_BYTES_MAX)
    }

    fn follow_some(&mut self, log: &Log, bytes: usize) -> Result<Known, Problem> {
        let catalog = log.catalog();
        let Some(topic) = catalog.by_name(SERVICES) else {
            *self = Self::of(self.bytes_max);
            return Ok(Known::default());
        };
        if self.topic != Some(topic.id) {
            *self = Self { topic: Some(topic.id), ..Self::of(self.bytes_max) };
        }
        let mut left = bytes;
        for (number, id) in (0_u32..).zip(&topic.partitions) {
            left = self.read(log, number, *id, left)?;
        }
        Ok(self.known())
    }

    /// Reads on in a partition, about so many bytes. Gives back how many are left.
    fn read(&mut self, log: &Log, number: u32, id: PartitionId, bytes: usize) -> Result<usize, Problem> {
        let Some(ends) = log.offsets(id) else { return Ok(bytes) };
        let mut left = bytes;
        let mut next = self.next.get(&number).copied().unwrap_or(ends.start);
        while next < ends.high_watermark {
            if left == 0 {
                self.next.insert(number, next);
                let sentence = "what services say of themselves is being read; ask again in a moment";
                return Err(Problem::new(&STARTING, sentence));
            }
            let passed = read(log, id, next..ends.high_watermark, |record| {
                self.take(record);
                Taken::Yes
            })?;
            next = passed.next.max(next.saturating_add(1));
            left = left.saturating_sub(passed.bytes.max(1));
        }
        self.next.insert(number, next);
        Ok(left)
    }

    fn take(&mut self, record: &Record) {
        let Some(key) = &record.key else { return };
        if let Some(gone) = self.instances.remove(key) {
            self.bytes -= gone.bytes;
        }
        // Without a value: the instance has ended.
        let Some(value) = record.value.as_ref().filter(|_| key.len() <= INSTANCE_BYTES_MAX) else { return };
        let bytes = key.len().saturating_add(value.len());
        let state = if bytes <= INSTANCE_BYTES_MAX { ServiceState::read(value).ok() } else { None };
        let state = state.filter(has_names);
        let bytes = state.as_ref().map_or(key.len(), |state| bytes.saturating_add(weight(state)));
        // A copy: the key is a part of all that was read with it.
        let instance = Instance { state: state.map(Arc::new), bytes, place: self.taken };
        self.instances.insert(Bytes::copy_from_slice(key), instance);
        self.taken += 1;
        self.bytes += bytes;
        while self.instances.len() > INSTANCES_KEPT_MAX || self.bytes > self.bytes_max {
            if !self.forget_one() {
                return;
            }
        }
    }

    /// Forgets the instance that has spoken longest ago; one that is not understood goes first.
    fn forget_one(&mut self) -> bool {
        let age = |instance: &Instance| (instance.state.is_some(), instance.place);
        let oldest = self.instances.iter().min_by_key(|(_, instance)| age(instance));
        let Some(key) = oldest.map(|(key, _)| key.clone()) else { return false };
        if let Some(gone) = self.instances.remove(&key) {
            self.bytes -= gone.bytes;
        }
        true
    }

    fn known(&self) -> Known {
        let mut known = Known::default();
        let mut instances: Vec<&Instance> = self.instances.values().collect();
        instances.sort_unstable_by_key(|instance| instance.place);
        for instance in instances {
            match &instance.state {
                Some(state) => {
                    known.services.entry(state.service.clone()).or_default().push(Arc::clone(state));
                }
                None => known.unreadable += 1,
            }
        }
        known
    }
}

/// Whether a service and its consumers have names that they can have. Anybody may write into the topic, and
/// what is no name would be in every answer and every series.
fn has_names(state: &ServiceState) -> bool {
    let is_name = |name: &str| ConsumerName::new(name).is_ok();
    let stalled = state.stalls.iter().filter_map(|stall| stall.consumer.as_deref());
    is_name(&state.service)
        && state.subscriptions.iter().map(|one| one.consumer.as_str()).chain(stalled).all(is_name)
}

/// Bytes that a state takes besides its texts: a list of empty texts is short as it is read, and long as it
/// is kept.
fn weight(state: &ServiceState) -> usize {
    let of_one = |one: &SubscriptionState| {
        let texts = one.topics.capacity().saturating_add(one.event_types.capacity());
        let failures = one.dead.as_ref().map_or(0, |dead| dead.failures.capacity());
        let texts = texts.saturating_mul(size_of::<String>());
        let failures = failures.saturating_mul(size_of::<FailureState>());
        let partitions = one.partitions.capacity().saturating_mul(size_of::<PartitionState>());
        texts.saturating_add(failures).saturating_add(partitions)
    };
    let lists = state.subscriptions.iter().map(of_one).fold(0, usize::saturating_add);
    let subscriptions = state.subscriptions.capacity().saturating_mul(size_of::<SubscriptionState>());
    let stalls = state.stalls.capacity().saturating_mul(size_of::<StallState>());
    lists.saturating_add(subscriptions).saturating_add(stalls).saturating_add(size_of::<ServiceState>())
}

/// It has been heard of lately. What says that it was heard of in the future has a wrong clock, and may have
/// ended long ago.
pub(super) fn is_running(state: &ServiceState, now_ms: i64) -> bool {
    let silent_ms = state.heartbeat_ms.max(1).saturating_mul(SILENT_AFTER);
    let ahead_ms = state.seen_ms.saturating_sub(now_ms);
    now_ms.saturating_sub(state.seen_ms) <= silent_ms && ahead_ms <= silent_ms.max(ID_CLOCKS_DIFFER_MS)
}

/// The newest word about each consumer of a service: its instances share a store, so that has all of the
/// consumer's failures. The newest one is the last one in the log: clocks differ.
pub(super) fn newest_of_each_consumer(
    instances: &[Arc<ServiceState>],
) -> BTreeMap<&str, (&ServiceState, &SubscriptionState)> {
    let mut newest: BTreeMap<&str, (&ServiceState, &SubscriptionState)> = BTreeMap::new();
    for state in instances {
        let state: &ServiceState = state;
        for subscription in &state.subscriptions {
            newest.insert(&subscription.consumer, (state, subscription));
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::limits::INSTANCES_BYTES_MAX;
    use std::sync::mpsc;

    use courant_core::topic::TopicName;
    use courant_log::batch::records::{NewRecord, encode};
    use courant_log::storage::MemoryStorage;
    use courant_log::{Batch, Codec, LogConfig, NewTopic, SystemClock, SystemEntropy};

    fn said(instance: &str, seen_ms: i64) -> Record {
        let state = ServiceState {
            version: 1,
            service: "billing".to_owned(),
            instance: instance.to_owned(),
            seen_ms,
            heartbeat_ms: 10_000,
            subscriptions: vec![SubscriptionState { consumer: "bills".to_owned(), ..Default::default() }],
            ..ServiceState::default()
        };
        let value = serde_json::to_vec(&state).expect("JSON");
        record(instance, Some(value.into()))
    }

    fn record(key: &str, value: Option<Bytes>) -> Record {
        let key = Some(Bytes::copy_from_slice(key.as_bytes()));
        Record { offset: 0, timestamp: 0, key, value, headers: Vec::new() }
    }

    #[test]
    fn the_newest_word_of_each_instance_counts_until_it_has_ended() {
        let mut announced = Announced::of(INSTANCES_BYTES_MAX);
        // The clock of one of them is ahead.
        for record in [said("a", 1), said("b", 7), said("a", 5), record("c", Some("{".into()))] {
            announced.take(&record);
        }
        let newest = || {
            let known = announced.known();
            let newest = newest_of_each_consumer(&known.services["billing"]);
            newest["bills"].0.instance.clone()
        };
        assert_eq!((announced.known().services["billing"].len(), announced.known().unreadable), (2, 1));
        assert_eq!(newest(), "a", "what was said last counts, whatever the clocks say");
        announced.take(&said("b", 6));
        let known = announced.known();
        assert_eq!(newest_of_each_consumer(&known.services["billing"])["bills"].0.seen_ms, 6);
        announced.take(&record("b", None));
        assert_eq!(announced.known().services["billing"][0].seen_ms, 5);
        for key in ["a", "c"] {
            announced.take(&record(key, None));
        }
        assert!(announced.known().services.is_empty() && announced.bytes == 0);
    }

    #[test]
    fn too_many_instances_leave_the_last_ones() {
        let mut announced = Announced::of(INSTANCES_BYTES_MAX);
        let count = i64::try_from(INSTANCES_KEPT_MAX).expect("small") + 3;
        for number in 0..count {
            announced.take(&said(&number.to_string(), number));
        }
        let known = announced.known();
        assert_eq!(known.services["billing"].len(), INSTANCES_KEPT_MAX);
        assert!(known.services["billing"].iter().all(|state| state.seen_ms >= 3));
    }

    fn log() -> (Log, PartitionId) {
        let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        config.reserve_bytes = 0;
        let (log, _) = Log::open(Arc::new(MemoryStorage::new(64 * 1024 * 1024)), config).expect("opens");
        let (done, created) = mpsc::channel();
        let new = NewTopic {
            name: TopicName::new(SERVICES).expect("legal"),
            partitions: 1,
            configs: BTreeMap::new(),
        };
        log.create_topic(new, move |result| done.send(result).expect("the test waits"));
        let topic = created.recv().expect("an answer").expect("created");
        (log, topic.partitions[0])
    }

    /// One that is nearly as large as what is read at once.
    fn append(log: &Log, id: PartitionId, key: &str) {
        let key = Some(Bytes::from(key.to_owned()));
        let value = Some(Bytes::from(vec![b' '; 400 * 1024]));
        let record = NewRecord { key, value, ..NewRecord::default() };
        let batch = encode(&[record], Codec::None, None).expect("a batch");
        let (done, appended) = mpsc::channel();
        log.append(id, Batch::validate(batch).expect("a good one"), move |result| {
            done.send(result).expect("the test waits");
        });
        appended.recv().expect("an answer").expect("appended");
    }

    /// A part of it would say of a service that it is not there.
    #[test]
    fn much_that_services_have_said_is_read_in_parts_and_nothing_is_known_before() {
        let (log, id) = log();
        ["a", "b", "c"].into_iter().for_each(|key| append(&log, id, key));
        let mut announced = Announced::of(INSTANCES_BYTES_MAX);
        let mut looks = 1;
        let known = loop {
            match announced.follow_some(&log, 1) {
                Ok(known) => break known,
                Err(problem) => assert_eq!(problem.kind.code, "starting"),
            }
            looks += 1;
            assert!(looks < 10, "it comes to an end");
        };
        assert!(looks > 1, "one look has read all of it");
        assert_eq!(known.unreadable, 3);
        append(&log, id, "d");
        assert_eq!(announced.follow(&log).expect("all is read").unreadable, 4);
    }

    /// A name is in each series of `/metrics`, many times: one with a megabyte would make gigabytes of them.
    #[test]
    fn what_has_no_name_that_it_can_have_is_not_understood() {
        let mut announced = Announced::of(INSTANCES_BYTES_MAX);
        let named = |service: &str, consumer: &str| {
            let subscriptions =
                vec![SubscriptionState { consumer: consumer.to_owned(), ..Default::default() }];
            let service = service.to_owned();
            let state = ServiceState { version: 1, service, subscriptions, ..ServiceState::default() };
            Some(Bytes::from(serde_json::to_vec(&state).expect("JSON")))
        };
        let long = "x".repeat(250);
        for (key, value) in [("1", named(&long, "c")), ("2", named("s", &long)), ("3", named("a\nb", "c"))] {
            announced.take(&record(key, value));
        }
        assert_eq!((announced.known().services.len(), announced.known().unreadable), (0, 3));
        announced.take(&record("3", named(&long[1..], "_courant.ops.s")));
        assert_eq!((announced.known().services.len(), announced.known().unreadable), (1, 2));
    }

    /// What is kept counts with the memory that it takes, not with the letters that say it.
    #[test]
    fn a_long_list_of_nothing_is_not_kept_for_the_price_of_its_letters() {
        let mut announced = Announced::of(INSTANCES_BYTES_MAX);
        let subscription = SubscriptionState {
            consumer: "c".to_owned(),
            topics: vec![String::new(); 300_000],
            ..SubscriptionState::default()
        };
        let state = ServiceState {
            version: 1,
            service: "s".to_owned(),
            subscriptions: vec![subscription],
            ..ServiceState::default()
        };
        let value = Bytes::from(serde_json::to_vec(&state).expect("JSON"));
        assert!(value.len() < INSTANCE_BYTES_MAX);
        for key in 0..20 {
            announced.take(&record(&key.to_string(), Some(value.clone())));
        }
        assert!(announced.bytes <= INSTANCES_BYTES_MAX);
        assert!(announced.instances.len() < 10, "{}", announced.instances.len());
    }

    #[test]
    fn an_instance_that_says_nothing_is_silent() {
        let state = ServiceState { seen_ms: 100_000, heartbeat_ms: 10_000, ..ServiceState::default() };
        assert!(is_running(&state, 130_000) && !is_running(&state, 130_001));
        let ahead = ServiceState { seen_ms: 100_000 + ID_CLOCKS_DIFFER_MS, ..state };
        assert!(is_running(&ahead, 100_000) && !is_running(&ahead, 99_999), "a clock may be a little ahead");
        assert!(!is_running(&ServiceState { seen_ms: i64::MAX, ..ahead }, 100_000));
    }
}
