//! What clients may take of memory, counted where it is granted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courant_kafka::wire::ErrorCode;
use courant_kafka::wire::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use courant_kafka::wire::messages::offset_fetch::OffsetFetchRequestTopic;
use courant_kafka::wire::messages::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, OffsetCommitRequest, OffsetFetchRequest,
    PartitionProduceData, ProduceRequest,
};
use courant_kafka::{Broker, KafkaConfig, Limits};
use courant_log::Codec;
use courant_log::batch::records::{self, NewRecord};
use tokio::task::{JoinSet, yield_now};

use crate::support::{Running, batch, fetch, produce, soon};

const MEMORY: usize = 160 * 1024 * 1024;
const CONNECTIONS: i32 = 64;

/// Bytes of a Produce of which the last one never comes.
const FRAME_BYTES: usize = 2 * 1024 * 1024;

fn memory(broker: &Broker) -> usize {
    usize::try_from(broker.metrics().memory_bytes).expect("it is in memory")
}

/// As many clients as that send a large request and stop before its end. They stay.
async fn clients_that_stop_in_the_middle(running: &Running) -> JoinSet<()> {
    let length = u32::try_from(FRAME_BYTES).expect("a length").to_be_bytes();
    // API key 0 is Produce; nobody looks at what follows before all of it is there.
    let frame = Arc::new([&length[..], &vec![0; FRAME_BYTES - 1]].concat());
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (mut raw, frame) = (running.connect().await, Arc::clone(&frame));
        clients.spawn(async move {
            // What the server has no memory for stays in the socket, or here.
            let _ = raw.try_send_bytes(&frame).await;
            std::future::pending::<()>().await;
        });
    }
    clients
}

/// With a budget, 64 clients with 128 MiB of requests have what the budget says, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_requests_of_many_clients_stay_within_the_budget() {
    let limits = Limits::within(MEMORY).expect("it is enough");
    assert!(limits.memory_max() <= MEMORY);
    let running = Running::with(KafkaConfig { limits, ..KafkaConfig::default() }).await;
    let clients = clients_that_stop_in_the_middle(&running).await;
    // Requests are counted twice, for the memory that grows.
    let nearly_all = 2 * (limits.request_bytes_budget - 1024 * 1024);
    let full = async {
        loop {
            let bytes = memory(&running.broker);
            assert!(bytes <= MEMORY, "{bytes}");
            if bytes >= nearly_all {
                return;
            }
            yield_now().await;
        }
    };
    soon("all memory for requests is granted", full).await;
    drop(clients);
    let empty = async {
        while memory(&running.broker) > 0 {
            yield_now().await;
        }
    };
    soon("all of it is given back", empty).await;
    running.stop().await;
}

/// The twin: without a budget the same clients have more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_budget_they_have_more() {
    let running = Running::start().await;
    let clients = clients_that_stop_in_the_middle(&running).await;
    let more = async {
        while memory(&running.broker) <= MEMORY {
            yield_now().await;
        }
    };
    soon("more than the budget is granted", more).await;
    drop(clients);
    running.stop().await;
}

/// Who reads waits for its turn, and comes to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_write_and_read_within_the_budget() {
    let limits = Limits::within(MEMORY).expect("it is enough");
    let running = Running::with(KafkaConfig { limits, ..KafkaConfig::default() }).await;
    let topic = running.topic("audit", 1).await;
    let value = "x".repeat(100 * 1024);
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (mut raw, value) = (running.connect().await, value.clone());
        clients.spawn(async move {
            for _ in 0..3 {
                let answer = raw.call(&produce("audit", 0, -1, batch(&[value.as_str()])), 9).await;
                assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
                let answer = raw.call(&fetch(topic, 0, 0, Duration::from_secs(20)), 17).await;
                let records = answer.responses[0].partitions[0].records.as_ref();
                assert!(records.is_some_and(|records| records.len() > 100 * 1024));
            }
        });
    }
    let mut most = 0;
    let all = async {
        while !clients.is_empty() {
            most = most.max(memory(&running.broker));
            while let Some(ended) = clients.try_join_next() {
                ended.expect("it has read what is there");
            }
            yield_now().await;
        }
    };
    soon("everybody has written and read", all).await;
    assert!(most <= MEMORY, "{most}");
    assert!(most > 0, "nobody looked while they were there");
    running.stop().await;
}

async fn topic_with(running: &Running, name: &str, partitions: i32, config: (&str, &str)) {
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor: 1,
        configs: vec![CreatableTopicConfig { name: config.0.to_owned(), value: Some(config.1.to_owned()) }],
        ..CreatableTopic::default()
    };
    let create = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    assert_eq!(running.connect().await.call(&create, 7).await.topics[0].error_code, 0);
}

/// So many records without keys, with values of so many bytes, of which little is left when they are packed.
fn packed(count: usize, value_bytes: usize) -> Bytes {
    let value = Some(Bytes::from(vec![0; value_bytes]));
    let record = NewRecord { timestamp: 1_700_000_000_000, key: None, value, headers: Vec::new() };
    records::encode(&vec![record; count], Codec::Zstd, None).expect("it can be encoded")
}

fn produce_each(topic: &str, partitions: impl Iterator<Item = i32>, records: &Bytes) -> ProduceRequest {
    let data = |index| PartitionProduceData { index, records: Some(records.clone()) };
    let mut request = produce(topic, 0, -1, records.clone());
    request.topic_data[0].partition_data = partitions.map(data).collect();
    request
}

/// Symptom: a request of some kibibytes took hundreds of megabytes. Cause: a packed batch of a hundred bytes may have
/// thousands of records that are to blame, and the answer named a thousand of each batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_names_no_more_records_for_many_small_batches_than_for_one() {
    const BATCHES: usize = 50;
    let running = Running::start().await;
    topic_with(&running, "prices", 1, ("cleanup.policy", "compact")).await;
    let records = packed(3_000, 1);
    let request = produce_each("prices", std::iter::repeat_n(0, BATCHES), &records);
    let answer = running.connect().await.call(&request, 9).await;
    let answers = &answer.responses[0].partition_responses;
    assert_eq!(answers.len(), BATCHES);
    assert!(answers.iter().all(|one| one.error_code == ErrorCode::INVALID_RECORD.0), "{:?}", answers[1]);
    assert_eq!(answers[0].record_errors.len(), 1_000);
    assert_eq!(answers.iter().map(|one| one.record_errors.len()).sum::<usize>(), 1_000);
    running.stop().await;
}

/// A batch may be a thousand times as large as it was sent when it is packed as its topic says. What it takes
/// until it is on disk is memory of its request, and where there is none, the client is to send it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_grow_under_the_codec_of_their_topic_are_counted() {
    let limits = Limits { request_bytes_budget: 1024 * 1024, ..Limits::default() };
    let running = Running::with(KafkaConfig { limits, ..KafkaConfig::default() }).await;
    topic_with(&running, "frames", 3, ("compression.type", "uncompressed")).await;
    let records = packed(1, 600 * 1024);
    assert!(records.len() < 10_000);
    let request = produce_each("frames", 0..3, &records);
    let mut raw = running.connect().await;
    let answer = raw.call(&request, 9).await;
    let codes: Vec<i16> =
        answer.responses[0].partition_responses.iter().map(|partition| partition.error_code).collect();
    let timed_out = ErrorCode::REQUEST_TIMED_OUT.0;
    assert_eq!(codes, [0, timed_out, timed_out], "the first one is held until all are settled");
    let request = produce_each("frames", std::iter::once(2), &records);
    let answer = raw.call(&request, 9).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "sent again, it is stored");
    running.stop().await;
}

/// Symptom: one request of 400 KB made a server take most of a gigabyte. Cause: it named one partition again and
/// again, and each time what a client had left with its offset was told, 4 KiB of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_with_an_offset_is_told_once() {
    const TIMES: usize = 1_000;
    let running = Running::start().await;
    running.topic("audit", 2).await;
    let mut raw = running.connect().await;
    let words = "x".repeat(4_000);
    let partition = OffsetCommitRequestPartition {
        committed_offset: 7,
        committed_metadata: Some(words.clone()),
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic { name: "audit".to_owned(), partitions: vec![partition] };
    let commit = OffsetCommitRequest {
        group_id: "billing".to_owned(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    assert_eq!(raw.call(&commit, 9).await.topics[0].partitions[0].error_code, 0);

    let again = || OffsetFetchRequestTopic { name: "audit".to_owned(), partition_indexes: vec![0; TIMES] };
    let other = OffsetFetchRequestTopic { name: "audit".to_owned(), partition_indexes: vec![1, 2] };
    let request = OffsetFetchRequest {
        group_id: "billing".to_owned(),
        topics: Some(vec![again(), again(), other]),
        ..OffsetFetchRequest::default()
    };
    let answer = raw.call(&request, 7).await;
    let told: Vec<_> = answer.topics.iter().flat_map(|topic| &topic.partitions).collect();
    let offsets: Vec<_> = told.iter().map(|one| (one.partition_index, one.committed_offset)).collect();
    assert_eq!(offsets, [(0, 7), (1, -1), (2, -1)]);
    assert_eq!(told[0].metadata.as_deref(), Some(words.as_str()));
    running.stop().await;
}
