//! One reading of everything a Fetch asks for.

use std::io;

use bytes::Bytes;
use courant_log::limits::{BUFFER_BYTES, GROUP_BYTES_MAX};
use courant_log::{BatchHeader, Offsets, PartitionId, Read, ReadError};
use tokio::time::{Instant, timeout_at};

use super::plan::{Plan, PlannedPartition};
use crate::broker::Caller;
use crate::budget::Grant;
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::messages::{FetchResponse, FetchableTopicResponse, PartitionData};

/// What one pass found.
#[derive(Debug, Default)]
pub(super) struct Pass {
    topics: Vec<FetchableTopicResponse>,
    /// Records read, in bytes.
    pub(super) bytes: usize,
    /// Whether a partition has an error to tell.
    pub(super) failed: bool,
    /// The high watermark of each partition up to which there is nothing more to read.
    pub(super) seen: Vec<(PartitionId, u64)>,
    /// Whether there was something to read and no memory for it.
    pub(super) starved: bool,
    grant: Grant,
    /// Bytes read without leaving the thread since the last time others could run, each read as a block at least.
    unyielded: usize,
}

impl Pass {
    pub(super) async fn read(caller: &Caller, plan: &Plan) -> Self {
        let mut pass = Self::default();
        for topic in &plan.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for wanted in &topic.partitions {
                partitions.push(pass.partition(caller, plan, wanted).await);
            }
            pass.topics.push(FetchableTopicResponse {
                topic: topic.name.clone(),
                topic_id: topic.id,
                partitions,
            });
        }
        pass
    }

    pub(super) fn into_fetched(self) -> (FetchResponse, Grant) {
        let response = FetchResponse { responses: self.topics, ..FetchResponse::default() };
        (response, self.grant)
    }

    /// Forgets what was read and gives its memory back.
    pub(super) fn into_seen(self) -> Vec<(PartitionId, u64)> {
        self.seen
    }

    async fn partition(&mut self, caller: &Caller, plan: &Plan, wanted: &PlannedPartition) -> PartitionData {
        let mut data = match self.try_partition(caller, plan, wanted).await {
            Ok(data) => data,
            Err(code) => {
                self.failed = true;
                PartitionData {
                    error_code: code.0,
                    high_watermark: -1,
                    last_stable_offset: -1,
                    log_start_offset: -1,
                    records: Some(Bytes::new()),
                    ..PartitionData::default()
                }
            }
        };
        data.partition_index = wanted.index;
        // Null says that nobody asked for committed records only; there are no aborted ones.
        data.aborted_transactions = plan.committed.then(Vec::new);
        data
    }

    async fn try_partition(
        &mut self,
        caller: &Caller,
        plan: &Plan,
        wanted: &PlannedPartition,
    ) -> Result<PartitionData, ErrorCode> {
        let partition = wanted.target?;
        // The topic may have been deleted while the client waited.
        let offsets = caller.log().offsets(partition).ok_or(plan.naming.unknown())?;
        let offset = u64::try_from(wanted.offset)
            .ok()
            .filter(|offset| (offsets.start..=offsets.high_watermark).contains(offset))
            .ok_or(ErrorCode::OFFSET_OUT_OF_RANGE)?;
        if wanted.repeated {
            return Ok(data(&offsets, Bytes::new()));
        }
        // The end is decided here, without a read: it is where most clients are most of the time.
        let room = wanted.bytes_max.min(plan.bytes_max.saturating_sub(self.bytes));
        let whole_batch = self.bytes == 0;
        if offset == offsets.high_watermark
            || (room == 0 && !whole_batch)
            || !self.reserve(caller, plan, room, whole_batch).await
        {
            self.seen.push((partition, offsets.high_watermark));
            return Ok(data(&offsets, Bytes::new()));
        }
        let read = self.read_log(caller, partition, offset, room, whole_batch).await;
        let read = read.map_err(|failure| match failure {
            ReadError::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
            // A topic that is deleted takes its files away, also from a read that has begun.
            _ if caller.log().offsets(partition).is_none() => plan.naming.unknown(),
            // Never "out of range", which would make clients skip or replay everything. The log has said
            // once what is damaged; clients ask on and on.
            ReadError::Quarantined { .. } => ErrorCode::KAFKA_STORAGE_ERROR,
            failure => {
                let line = format_args!("reading partition {partition} at offset {offset} failed: {failure}");
                caller.broker.lines.reads.error(line);
                ErrorCode::KAFKA_STORAGE_ERROR
            }
        })?;
        let records = fitted(read.bytes);
        self.took(records.len()).await;
        // Where more is there than its bound lets through, nothing that arrives will add to it. Nothing
        // below the watermark is there where a power cut took the last events of a relaxed class away.
        if self.bytes >= plan.bytes_min || records.is_empty() || end_of(&records) >= read.high_watermark {
            self.seen.push((partition, read.high_watermark));
        }
        let offsets = Offsets { start: read.log_start, high_watermark: read.high_watermark };
        Ok(data(&offsets, records))
    }

    /// Memory for `room` more bytes, or for a whole batch where one may come. Waits for it only while
    /// the pass holds none, so that two of them cannot wait for each other; a later partition goes
    /// without this time.
    async fn reserve(&mut self, caller: &Caller, plan: &Plan, room: usize, whole_batch: bool) -> bool {
        let budget = &caller.broker.response_budget;
        // How large the batch is shows when it is read; what it does not need is given back then.
        let room = if whole_batch { room.max(GROUP_BYTES_MAX) } else { room };
        if budget.try_cover(&mut self.grant, self.bytes + room) {
            return true;
        }
        if !whole_batch || self.starved {
            return false;
        }
        self.grant.shrink_to(0);
        let patience = plan.deadline.min(Instant::now() + limits::BUDGET_WAIT_MAX);
        self.starved = timeout_at(patience, budget.cover(&mut self.grant, room)).await.is_err();
        !self.starved
    }

    /// Whole batches from the one that holds `offset`: what lies before the offset inside that batch
    /// is the client's to skip. What is in memory is read here, as long as it is not much: others are to be served,
    /// too. Reads that may wait for the disk leave this thread when there is a place for them, and take the memory
    /// with them: they go on when the client is gone.
    async fn read_log(
        &mut self,
        caller: &Caller,
        partition: PartitionId,
        offset: u64,
        bytes_max: usize,
        whole_batch: bool,
    ) -> Result<Read, ReadError> {
        if caller.log().is_hot(partition, offset) {
            return caller.log().read(partition, offset, bytes_max, whole_batch);
        }
        if bytes_max <= BUFFER_BYTES
            && let Some(read) = caller.log().read_cached(partition, offset, bytes_max)?
        {
            return Ok(read);
        }
        let log = caller.log().clone();
        let grant = std::mem::take(&mut self.grant);
        let read = move || (log.read(partition, offset, bytes_max, whole_batch), grant);
        match caller.broker.cold_reads.run(&caller.broker.counters, read).await {
            Ok((read, grant)) => {
                self.grant = grant;
                read
            }
            Err(failure) => Err(ReadError::Io { partition, source: io::Error::other(failure) }),
        }
    }

    async fn took(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.grant.shrink_to(self.bytes);
        self.unyielded += bytes.max(limits::FETCH_READ_BYTES_MIN);
        if self.unyielded >= limits::FETCH_YIELD_BYTES {
            self.unyielded = 0;
            tokio::task::yield_now().await;
        }
    }
}

fn data(offsets: &Offsets, records: Bytes) -> PartitionData {
    let offset = |offset: u64| i64::try_from(offset).unwrap_or(i64::MAX);
    PartitionData {
        error_code: ErrorCode::NONE.0,
        high_watermark: offset(offsets.high_watermark),
        // No transaction is ever open, so everything readable is stable.
        last_stable_offset: offset(offsets.high_watermark),
        log_start_offset: offset(offsets.start),
        records: Some(records),
        ..PartitionData::default()
    }
}

/// The offset behind the last of whole batches, 0 where there are none.
fn end_of(mut records: &[u8]) -> u64 {
    let mut end = 0;
    while let Ok(header) = BatchHeader::parse(records) {
        end = u64::try_from(header.last_offset()).unwrap_or_default() + 1;
        records = records.get(header.total_bytes()..).unwrap_or_default();
    }
    end
}

/// The same bytes without the room that was made for more, which nothing accounts for. Buffers that are used
/// again stay as they are: there are only a few of them.
fn fitted(bytes: Bytes) -> Bytes {
    match bytes.try_into_mut() {
        Ok(bytes) if bytes.capacity() - bytes.len() > bytes.len() / 4 => Bytes::copy_from_slice(&bytes),
        Ok(bytes) => bytes.freeze(),
        Err(shared) => shared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Broker;
    use crate::config::KafkaConfig;
    use crate::wire::messages::{FetchPartition, FetchRequest, FetchTopic};
    use courant_core::topic::TopicName;
    use courant_log::batch::records::{self, NewRecord};
    use courant_log::batch::set_base_offset;
    use courant_log::storage::MemoryStorage;
    use courant_log::{Batch, Codec, Log, LogConfig, NewTopic, SystemClock, SystemEntropy};
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};
    use std::time::Duration;
    use tokio::task::yield_now;
    use tokio::time::timeout;

    fn batch(base_offset: i64, count: usize) -> Vec<u8> {
        let record = NewRecord { timestamp: 0, key: None, value: None, headers: Vec::new() };
        let records = vec![record; count];
        let mut bytes = records::encode(&records, Codec::None, None).expect("it can be encoded").to_vec();
        set_base_offset(&mut bytes, base_offset);
        bytes
    }

    #[test]
    fn the_end_is_that_of_the_last_batch() {
        assert_eq!(end_of(&[]), 0);
        assert_eq!(end_of(&batch(5, 3)), 8);
        assert_eq!(end_of(&[batch(5, 3), batch(8, 2)].concat()), 10);
    }

    #[test]
    fn room_that_was_not_needed_is_given_back() {
        let mut bytes = vec![7; 100_000];
        bytes.truncate(10);
        let capacity = |bytes: Bytes| bytes.try_into_mut().expect("it is the only one").capacity();
        let mut roomy = Vec::with_capacity(100_000);
        roomy.extend_from_slice(&bytes);
        let fit = fitted(Bytes::from(roomy));
        assert_eq!(fit, bytes);
        assert_eq!(capacity(fit), 10);
    }

    /// A log in memory, with a topic "orders" whose segments are small.
    fn log(partitions: u32) -> (Log, Vec<PartitionId>) {
        let config = LogConfig {
            journal_file_bytes: 1024 * 1024,
            first_journal_file_bytes: 1024 * 1024,
            reserve_bytes: 0,
            background: false,
            ..LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy))
        };
        let storage = Arc::new(MemoryStorage::new(64 * 1024 * 1024));
        let (log, _) = Log::open(storage, config).expect("a new log opens");
        let (done, created) = mpsc::channel();
        let new = NewTopic {
            name: TopicName::new("orders").expect("a legal name"),
            partitions,
            configs: BTreeMap::from([("segment.bytes".to_owned(), "20000".to_owned())]),
        };
        log.create_topic(new, move |topic| done.send(topic).expect("it is waited for"));
        while log.commit() {}
        let partitions = created.recv().expect("an outcome").expect("a topic").partitions.clone();
        (log, partitions)
    }

    fn append(log: &Log, partition: PartitionId, value_bytes: usize) {
        let value = Some(Bytes::from(vec![7; value_bytes]));
        let record = NewRecord { timestamp: 0, key: None, value, headers: Vec::new() };
        let bytes = records::encode(&[record], Codec::None, None).expect("it can be encoded");
        let batch = Batch::validate(bytes).expect("it is whole");
        log.append(partition, batch, |appended| assert!(appended.is_ok(), "{appended:?}"));
        while log.commit() {}
    }

    fn caller_of(log: Log) -> Caller {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9092));
        let broker = Arc::new(Broker::new(log, KafkaConfig::default()));
        Caller::new(broker, address, address)
    }

    /// A broker whose topic "orders" has a segment behind its first event, which is not its end any more.
    fn caller() -> Caller {
        let (log, partitions) = log(1);
        let partition = partitions[0];
        for _ in 0..3 {
            append(&log, partition, 15_000);
        }
        assert!(!log.is_hot(partition, 0) && log.is_hot(partition, 2));
        caller_of(log)
    }

    fn fetch(caller: &Caller, partitions: Vec<FetchPartition>, bytes: i32) -> Plan {
        let topic = FetchTopic { topic: "orders".to_owned(), partitions, ..FetchTopic::default() };
        let request = FetchRequest { topics: vec![topic], max_bytes: bytes, ..FetchRequest::default() };
        Plan::new(&caller.log().catalog(), request, 12, 1024 * 1024)
    }

    fn plan(caller: &Caller, fetch_offset: i64, bytes: i32) -> Plan {
        let wanted = FetchPartition { fetch_offset, partition_max_bytes: bytes, ..FetchPartition::default() };
        fetch(caller, vec![wanted], bytes)
    }

    /// Symptom: a Fetch of some bytes of each of many partitions kept its thread to itself until it had all of them.
    /// Cause: only the bytes that it got counted, and not the blocks that were read and compared for them. Fix: a read
    /// counts as a block at least.
    #[tokio::test]
    async fn others_run_between_small_reads_of_many_partitions() {
        let (log, partitions) = log(40);
        for partition in &partitions {
            append(&log, *partition, 100);
        }
        let caller = caller_of(log);
        let wanted = (0..40).map(|partition| FetchPartition {
            partition,
            partition_max_bytes: 1024,
            ..FetchPartition::default()
        });
        let plan = fetch(&caller, wanted.collect(), 1024 * 1024);
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        });
        let pass = Pass::read(&caller, &plan).await;
        let turns = turns.load(Ordering::Relaxed);
        other.abort();
        assert!(pass.bytes > 40 * 100 && !pass.failed);
        assert!(turns >= 2, "others had {turns} turns");
    }

    /// While as many reads as may wait for the disk do so, a reader that is far behind waits, and one at the end
    /// of the log does not, nor one whose events are in memory.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_read_that_may_wait_for_the_disk_waits_for_its_turn() {
        let soon = Duration::from_secs(20);
        let caller = Arc::new(caller());
        let (free, gate) = mpsc::channel::<()>();
        let gate = Arc::new(std::sync::Mutex::new(gate));
        let mut slow = Vec::new();
        for _ in 0..limits::COLD_READS_MAX {
            let (gate, caller) = (Arc::clone(&gate), Arc::clone(&caller));
            let (begun, has_begun) = tokio::sync::oneshot::channel();
            slow.push(tokio::spawn(async move {
                let work = move || {
                    begun.send(()).expect("the test waits");
                    gate.lock().expect("no panic").recv()
                };
                caller.broker.cold_reads.run(&caller.broker.counters, work).await
            }));
            timeout(soon, has_begun).await.expect("there is a place").expect("it has begun");
        }
        // Its batch is larger than what may be read on the way.
        let behind = plan(&caller, 0, 1024);
        let mut waits = Box::pin(Pass::read(&caller, &behind));
        assert!(timeout(Duration::ZERO, &mut waits).await.is_err(), "there is no place");
        assert_eq!(caller.broker.metrics().cold_read_waits, 1);
        let at_the_end = plan(&caller, 2, 1024);
        let in_memory = plan(&caller, 0, 20_000);
        for plan in [at_the_end, in_memory] {
            let pass = timeout(soon, Pass::read(&caller, &plan)).await.expect("it needs no place");
            assert!(pass.bytes > 15_000 && !pass.failed);
        }
        assert_eq!(caller.broker.metrics().cold_read_waits, 1);

        drop(free); // All of them have their answer.
        let pass = timeout(soon, waits).await.expect("it is its turn");
        assert!(pass.bytes > 15_000 && !pass.failed);
        for slow in slow {
            assert!(slow.await.expect("no panic").expect("no panic").is_err(), "nobody is there any more");
        }
    }
}
