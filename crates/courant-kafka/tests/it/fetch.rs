//! Reading: whole batches, bounds, and waiting that costs nothing.

use std::time::{Duration, Instant};

use bytes::Bytes;
use courant_kafka::wire::messages::{
    ApiVersionsRequest, DeleteTopicState, DeleteTopicsRequest, FetchPartition, FetchResponse, PartitionData,
};
use courant_kafka::wire::{ErrorCode, encode_request};

use crate::support::{Raw, Running, SOON, batch, fetch, produce, soon};

const NO_WAIT: Duration = Duration::ZERO;

fn only(answer: &FetchResponse) -> &PartitionData {
    &answer.responses[0].partitions[0]
}

fn length(partition: &PartitionData) -> usize {
    partition.records.as_ref().map_or(0, Bytes::len)
}

async fn append(raw: &mut Raw, topic: &str, partition: i32, values: &[&str]) -> usize {
    let records = batch(values);
    let length = records.len();
    let answer = raw.call(&produce(topic, partition, -1, records), 9).await;
    let result = &answer.responses[0].partition_responses[0];
    assert_eq!(result.error_code, 0, "{result:?}");
    length
}

#[tokio::test]
async fn idle_consumers_read_nothing_and_one_append_wakes_one() {
    const CONSUMERS: i32 = 100;
    let running = Running::start().await;
    let topic = running.topic("audit", CONSUMERS).await;
    let before = running.requests();
    let mut consumers = Vec::new();
    for partition in 0..CONSUMERS {
        let mut raw = running.connect().await;
        raw.send(&fetch(topic, partition, 0, Duration::from_secs(60)), 17, partition).await;
        consumers.push(raw);
    }
    running.settles(before + u64::from(CONSUMERS.unsigned_abs())).await;
    let idle = running.broker.log().metrics();
    assert_eq!(idle.reads, 0, "waiting must not read");

    append(&mut running.connect().await, "audit", 42, &["x"]).await;
    let (id, answer) = consumers[42].receive::<FetchResponse>(17).await;
    assert_eq!(id, 42);
    assert!(length(only(&answer)) > 0);
    // A wake-up is counted just after it, by a thread of the log.
    let counted = async {
        while running.broker.log().metrics().wakes == idle.wakes {
            tokio::task::yield_now().await;
        }
    };
    soon("the wake-up is counted", counted).await;
    consumers[41].expect_silence(Duration::from_millis(100)).await;
    let after = running.broker.log().metrics();
    assert_eq!(after.wakes - idle.wakes, 1, "one consumer waits there");
    assert_eq!(after.reads, 1);
    drop(consumers);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_ends_empty_when_its_time_is_up() {
    let running = Running::start().await;
    let topic = running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let begun = Instant::now();
    let answer = raw.call(&fetch(topic, 0, 0, Duration::from_millis(300)), 17).await;
    assert!(begun.elapsed() >= Duration::from_millis(290));
    let partition = only(&answer);
    assert_eq!(partition.error_code, 0);
    assert_eq!(partition.records, Some(Bytes::new()), "empty, not null");
    assert_eq!(partition.high_watermark, 0);
    assert_eq!(answer.session_id, 0);
    running.stop().await;
}

#[tokio::test]
async fn min_bytes_are_waited_for() {
    let running = Running::start().await;
    let topic = running.topic("audit", 1).await;
    let mut producer = running.connect().await;
    let one = append(&mut producer, "audit", 0, &["first"]).await;

    let mut consumer = running.connect().await;
    let mut request = fetch(topic, 0, 0, Duration::from_secs(60));
    request.min_bytes = i32::try_from(2 * one).expect("small");
    let before = running.requests();
    consumer.send(&request, 17, 1).await;
    running.settles(before + 1).await;
    // An answer that did not wait would have the first batch only.
    append(&mut producer, "audit", 0, &["other"]).await;
    let (_, answer) = consumer.receive::<FetchResponse>(17).await;
    assert_eq!(length(only(&answer)), 2 * one);
    running.stop().await;
}

/// A client that asks again as soon as it is answered has a thread for itself after a while. Whatever it sends then is
/// answered as before, in order, and others are served beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_on_keeps_a_thread_until_it_sends_something_else() {
    const ROUNDS: u32 = 7;
    let running = Running::patient().await;
    let topic = running.topic("audit", 1).await;
    let (mut raw, mut other) = (running.connect().await, running.connect().await);
    append(&mut other, "audit", 0, &["x"]).await;
    // Where it reads while it is to keep a thread, and the end of the log.
    let (mut from, mut end) = (0, 1);
    for round in 0..ROUNDS {
        let kept = running.broker.metrics().reader_threads_kept;
        // How long that takes depends on the machine.
        let follows = async {
            while running.broker.metrics().reader_threads_kept == kept {
                assert!(length(only(&raw.call(&fetch(topic, 0, from, NO_WAIT), 17).await)) > 0);
            }
        };
        soon("a client that reads on keeps a thread", follows).await;
        let bytes = |id| {
            let request = fetch(topic, 0, from, NO_WAIT);
            encode_request(&request, 17, id, Some("raw")).expect("it can be written").concat()
        };
        match round {
            0 => drop(raw.call(&ApiVersionsRequest::default(), 0).await),
            1 => {
                raw.send_bytes(&[bytes(1), bytes(2)].concat()).await;
                for id in 1..=2 {
                    let (answered, answer) = raw.receive::<FetchResponse>(17).await;
                    assert!(answered == id && length(only(&answer)) > 0, "{answered}");
                }
            }
            2 => {
                let bytes = bytes(3);
                let (begin, rest) = bytes.split_at(bytes.len() / 2);
                raw.send_bytes(begin).await;
                append(&mut other, "audit", 0, &["others need not wait for the rest"]).await;
                end += 1;
                raw.send_bytes(rest).await;
                assert_eq!(raw.receive::<FetchResponse>(17).await.0, 3);
            }
            3 => {
                raw.send(&fetch(topic, 0, end, Duration::from_secs(60)), 17, 4).await;
                let one = append(&mut other, "audit", 0, &["it is waited for"]).await;
                end += 1;
                let (answered, answer) = raw.receive::<FetchResponse>(17).await;
                assert_eq!((answered, length(only(&answer))), (4, one));
            }
            4 => {
                // Its thread is long gone when the time is up.
                let begun = Instant::now();
                let answer = raw.call(&fetch(topic, 0, end, Duration::from_millis(100)), 17).await;
                assert!(begun.elapsed() >= Duration::from_millis(90));
                assert_eq!(length(only(&answer)), 0);
            }
            5 => {
                let large = "x".repeat(200_000);
                let one = append(&mut other, "audit", 0, &[large.as_str()]).await;
                let answer = raw.call(&fetch(topic, 0, end, NO_WAIT), 17).await;
                assert_eq!(length(only(&answer)), one);
                append(&mut other, "audit", 0, &["y"]).await;
                (from, end) = (end + 1, end + 2);
            }
            // A stop waits for it no longer than for others.
            _ => {}
        }
    }
    running.stop().await;
}

/// Whoever commits wakes a thread then, and no task.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_from_a_producer_to_a_reader_when_both_keep_a_thread() {
    let running = Running::patient().await;
    let topic = running.topic("audit", 1).await;
    let (mut producer, mut reader) = (running.connect().await, running.connect().await);
    let (mut offset, mut left) = (0, 100);
    let both = async {
        while left > 0 {
            let metrics = running.broker.metrics();
            if metrics.threads_kept > 0 && metrics.reader_threads_kept > 0 {
                left -= 1;
            }
            reader.send(&fetch(topic, 0, offset, Duration::from_secs(60)), 17, 1).await;
            let one = append(&mut producer, "audit", 0, &["x"]).await;
            let (_, answer) = reader.receive::<FetchResponse>(17).await;
            assert_eq!(length(only(&answer)), one, "event {offset}");
            assert_eq!(only(&answer).high_watermark, offset + 1);
            offset += 1;
        }
    };
    soon("both keep a thread", both).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_inside_a_batch_gives_the_whole_batch() {
    let running = Running::start().await;
    let topic = running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let bytes = append(&mut raw, "audit", 0, &["a", "b", "c"]).await;
    let answer = raw.call(&fetch(topic, 0, 1, NO_WAIT), 17).await;
    assert_eq!(length(only(&answer)), bytes);
    assert_eq!(only(&answer).high_watermark, 3);
    assert_eq!(only(&answer).last_stable_offset, 3);
    running.stop().await;
}

/// KIP-74: the first batch comes however large it is; the request's bound holds over partitions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_let_one_batch_pass_and_no_more() {
    let running = Running::start().await;
    let topic = running.topic("audit", 2).await;
    let mut raw = running.connect().await;
    let bytes = append(&mut raw, "audit", 0, &["a"]).await;
    append(&mut raw, "audit", 0, &["b"]).await;
    append(&mut raw, "audit", 1, &["c"]).await;
    let mut request = fetch(topic, 0, 0, NO_WAIT);
    request.max_bytes = 1;
    request.topics[0].partitions.push(FetchPartition {
        partition: 1,
        partition_max_bytes: 1024,
        ..FetchPartition::default()
    });
    let answer = raw.call(&request, 17).await;
    let lengths: Vec<_> = answer.responses[0].partitions.iter().map(length).collect();
    assert_eq!(lengths, [bytes, 0]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_told_at_once() {
    let running = Running::start().await;
    let topic = running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let wait = Duration::from_secs(60);

    for offset in [-1, 1, i64::MAX] {
        let answer = raw.call(&fetch(topic, 0, offset, wait), 17).await;
        let partition = only(&answer);
        assert_eq!(partition.error_code, ErrorCode::OFFSET_OUT_OF_RANGE.0, "{offset}");
        assert_eq!(partition.high_watermark, -1);
        assert_eq!(partition.records, Some(Bytes::new()));
    }
    let answer = raw.call(&fetch(topic, 7, 0, wait), 17).await;
    assert_eq!(only(&answer).error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
    let answer = raw.call(&fetch(uuid::Uuid::from_u128(7), 0, 0, wait), 17).await;
    assert_eq!(only(&answer).error_code, ErrorCode::UNKNOWN_TOPIC_ID.0);
    let mut ahead = fetch(topic, 0, 0, wait);
    ahead.topics[0].partitions[0].current_leader_epoch = 1;
    let answer = raw.call(&ahead, 17).await;
    assert_eq!(only(&answer).error_code, ErrorCode::UNKNOWN_LEADER_EPOCH.0);
    let mut session = fetch(topic, 0, 0, wait);
    session.session_id = 5;
    session.session_epoch = 1;
    let answer = raw.call(&session, 17).await;
    assert_eq!(answer.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND.0);
    running.stop().await;
}

#[tokio::test]
async fn deleting_a_topic_wakes_its_consumers_with_an_error() {
    let running = Running::start().await;
    let topic = running.topic("audit", 1).await;
    let mut consumer = running.connect().await;
    let before = running.requests();
    consumer.send(&fetch(topic, 0, 0, Duration::from_secs(60)), 17, 1).await;
    running.settles(before + 1).await;
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: None, topic_id: topic }],
        ..DeleteTopicsRequest::default()
    };
    let answer = running.connect().await.call(&request, 6).await;
    assert_eq!(answer.responses[0].error_code, 0);
    let (_, answer) = consumer.receive::<FetchResponse>(17).await;
    assert_eq!(only(&answer).error_code, ErrorCode::UNKNOWN_TOPIC_ID.0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_named_twice_is_read_once() {
    let running = Running::start().await;
    let topic = running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let bytes = append(&mut raw, "audit", 0, &["a"]).await;
    let mut request = fetch(topic, 0, 0, NO_WAIT);
    let again = request.topics[0].clone();
    request.topics[0].partitions.push(again.partitions[0].clone());
    request.topics.push(again);
    let answer = raw.call(&request, 17).await;
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    let told: Vec<_> =
        partitions.map(|found| (found.error_code, found.high_watermark, length(found))).collect();
    assert_eq!(told, [(0, 1, bytes), (0, 1, 0), (0, 1, 0)]);
    assert_eq!(running.broker.log().metrics().reads, 1);
    running.stop().await;
}

/// Waiting would be in vain: the bounds let no more through, whatever arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn min_bytes_out_of_reach_are_not_waited_for() {
    let running = Running::start().await;
    let topic = running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let one = append(&mut raw, "audit", 0, &["a"]).await;
    append(&mut raw, "audit", 0, &["b"]).await;
    let mut request = fetch(topic, 0, 0, Duration::from_secs(60));
    // Above the bound of the only partition, then within it, but not in whole batches.
    for (min_bytes, partition_max_bytes) in [(10 * one, one), (one + one / 2, one + one / 2)] {
        request.min_bytes = i32::try_from(min_bytes).expect("small");
        request.topics[0].partitions[0].partition_max_bytes =
            i32::try_from(partition_max_bytes).expect("small");
        let answer = raw.call(&request, 17).await;
        assert_eq!(length(only(&answer)), one);
    }
    running.stop().await;
}

/// One client leaves a large answer unread, which takes the memory that the other one needs.
///
/// It waits for that memory: without a wait its answer would be an empty one whenever an answer to the other one
/// is still on its way, and nobody would take the memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_without_memory_is_answered_empty() {
    const BATCHES: i32 = 50;
    const BATCH_BYTES: usize = 500_000;
    let mut config = courant_kafka::KafkaConfig::default();
    config.limits.response_bytes_budget = 30 * 1024 * 1024;
    let running = Running::with(config).await;
    let topic = running.topic("audit", 1).await;
    let mut reader = running.connect().await;
    for _ in 0..BATCHES {
        append(&mut reader, "audit", 0, &["x".repeat(BATCH_BYTES).as_str()]).await;
    }
    let mut all = fetch(topic, 0, 0, SOON);
    all.max_bytes = i32::MAX;
    all.topics[0].partitions[0].partition_max_bytes = i32::MAX;
    let mut idler = running.connect().await;
    idler.send(&all, 17, 1).await;
    let mut request = fetch(topic, 0, 0, NO_WAIT);
    let starved = async { while length(only(&reader.call(&request, 17).await)) > 0 {} };
    soon("an empty answer, for lack of memory", starved).await;
    assert_eq!(length(only(&reader.call(&request, 17).await)), 0, "the large answer is still unread");
    let (_, answer) = idler.receive::<FetchResponse>(17).await;
    assert!(length(only(&answer)) > 20_000_000);
    // The memory is free again when the last byte is on its way.
    request.max_wait_ms = 10_000;
    assert!(length(only(&reader.call(&request, 17).await)) > 0);
    running.stop().await;
}
