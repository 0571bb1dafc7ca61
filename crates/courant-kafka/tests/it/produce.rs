//! Writing: acknowledgements, and batches that are refused.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use courant_kafka::KafkaConfig;
use courant_kafka::wire::ErrorCode;
use courant_kafka::wire::encode_request;
use courant_kafka::wire::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};
use courant_kafka::wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, FetchResponse, InitProducerIdRequest, ProduceRequest,
    ProduceResponse,
};

use courant_log::batch::records::{self, NewRecord, Producer};
use courant_log::storage::{Failure, FaultyStorage};
use courant_log::{Codec, Health};
use tokio::sync::oneshot;
use tokio::time::interval;

use crate::support::{Raw, Running, batch, fetch, produce, soon};

/// A batch with one byte changed.
fn patched(at: usize, byte: u8) -> Bytes {
    let mut bytes = BytesMut::from(&batch(&["x"])[..]);
    bytes[at] = byte;
    bytes.freeze()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_0_gets_no_answer() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    raw.send(&produce("audit", 0, 0, batch(&["x"])), 9, 1).await;
    raw.send(&ApiVersionsRequest::default(), 0, 2).await;
    let (id, _) = raw.receive::<ApiVersionsResponse>(0).await;
    assert_eq!(id, 2, "the first answer belongs to the second request");
    assert_eq!(running.broker.log().metrics().appends, 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_0_with_an_error_closes_the_connection() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    raw.send(&produce("nowhere", 0, 0, batch(&["x"])), 9, 1).await;
    raw.expect_closed("acks=0 to a topic that is not there").await;
    running.stop().await;
}

/// More than 32, so that many are under way at one time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_an_answer_change_nothing_in_the_order_of_many_others() {
    const REQUESTS: i32 = 300;
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let request = |topic: &str, acks: i16, id: i32| {
        let request = encode_request(&produce(topic, 0, acks, batch(&["x"])), 9, id, Some("raw"));
        request.expect("it can be written").concat()
    };
    let mut raw = running.connect().await;
    let third = |id: i32| if id % 3 == 0 { -1 } else { 0 };
    let sent = (0..REQUESTS).flat_map(|id| request("audit", third(id), id)).collect::<Vec<_>>();
    raw.send_bytes(&sent).await;
    for id in (0..REQUESTS).step_by(3) {
        let (answered, answer) = raw.receive::<ProduceResponse>(9).await;
        assert_eq!((answered, result(&answer)), (id, (0, i64::from(id))));
    }
    // It is answered behind the last ones, which are not.
    raw.call(&ApiVersionsRequest::default(), 0).await;
    assert_eq!(running.broker.log().metrics().appends, REQUESTS as u64);

    // One that fails ends the connection behind the answers to those before it.
    let before = (0..100).flat_map(|id| request("audit", -1, id));
    let behind = (101..200).flat_map(|id| request("audit", -1, id));
    raw.send_bytes(&before.chain(request("nowhere", 0, 100)).chain(behind).collect::<Vec<_>>()).await;
    for id in 0..100 {
        let (answered, answer) = raw.receive::<ProduceResponse>(9).await;
        assert_eq!((answered, result(&answer)), (id, (0, i64::from(REQUESTS + id))));
    }
    raw.expect_closed("acks=0 to a topic that is not there").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_1_and_all_are_the_same() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    for (offset, acks) in [1, -1].into_iter().enumerate() {
        let answer = raw.call(&produce("audit", 0, acks, batch(&["x"])), 9).await;
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, offset as i64));
        assert_eq!(partition.log_append_time_ms, -1);
        assert_eq!(partition.log_start_offset, 0);
    }
    running.stop().await;
}

/// What became of the one batch of a request, and its offset.
fn result(answer: &ProduceResponse) -> (i16, i64) {
    let partition = &answer.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

/// A client that is the only one to append has a thread for itself after a while. Whatever it sends then is answered as
/// before, in order, and others are served beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_alone_keeps_a_thread_until_it_sends_something_else() {
    const MANY: i32 = 300;
    let running = Running::patient().await;
    running.topic("audit", 1).await;
    let (mut raw, mut other) = (running.connect().await, running.connect().await);
    let one = produce("audit", 0, -1, batch(&["x"]));
    let bytes = |id| encode_request(&one, 9, id, Some("raw")).expect("it can be written").concat();
    let mut next = 0;
    for round in 0..7 {
        let kept = running.broker.metrics().threads_kept;
        // How long that takes depends on the machine.
        let alone = async {
            while running.broker.metrics().threads_kept == kept {
                assert_eq!(result(&raw.call(&one, 9).await), (0, next));
                next += 1;
            }
        };
        soon("a client that is alone keeps a thread", alone).await;
        match round {
            0 => drop(raw.call(&ApiVersionsRequest::default(), 0).await),
            1 => {
                raw.send_bytes(&[bytes(1), bytes(2)].concat()).await;
                for id in 1..=2 {
                    let (answered, answer) = raw.receive::<ProduceResponse>(9).await;
                    assert_eq!((answered, result(&answer)), (id, (0, next)));
                    next += 1;
                }
            }
            2 => {
                let bytes = bytes(3);
                let (begin, rest) = bytes.split_at(bytes.len() / 2);
                raw.send_bytes(begin).await;
                assert_eq!(
                    result(&other.call(&one, 9).await),
                    (0, next),
                    "others need not wait for the rest"
                );
                raw.send_bytes(rest).await;
                assert_eq!(result(&raw.receive::<ProduceResponse>(9).await.1), (0, next + 1));
                next += 2;
            }
            3 => {
                let nowhere = raw.call(&produce("nowhere", 0, -1, batch(&["x"])), 9).await;
                assert_eq!(result(&nowhere), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0, -1));
            }
            4 => {
                raw.send(&produce("audit", 0, 0, batch(&["x"])), 9, 4).await;
                assert_eq!(result(&raw.call(&one, 9).await), (0, next + 1), "behind one without an answer");
                next += 2;
            }
            5 => {
                // More than are committed at a time, and the last one is cut.
                let many = (0..MANY).map(bytes).collect::<Vec<_>>().concat();
                let (begin, rest) = many.split_at(many.len() - 1);
                raw.send_bytes(begin).await;
                for id in 0..MANY {
                    if id == MANY - 1 {
                        raw.send_bytes(rest).await;
                    }
                    let (answered, answer) = raw.receive::<ProduceResponse>(9).await;
                    assert_eq!((answered, result(&answer)), (id, (0, next)));
                    next += 1;
                }
            }
            // A stop waits for it no longer than for others.
            _ => {}
        }
    }
    running.stop().await;
}

/// Symptom: a stop waited for a client that kept a thread and sent a request byte by byte, for as long as that took.
/// Cause: only behind whole requests it was asked whether there is a reason to go back. Fix: behind every read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_request_that_comes_byte_by_byte() {
    // At the pace of the client below that is half a minute, and nothing of it is silence.
    const BYTES: usize = 30_000;
    let running = Running::patient().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let alone = async {
        while running.broker.metrics().threads_kept == 0 {
            raw.call(&produce("audit", 0, -1, batch(&["x"])), 9).await;
        }
    };
    soon("a client that is alone keeps a thread", alone).await;
    let long = produce("audit", 0, -1, batch(&["x".repeat(BYTES).as_str()]));
    let bytes = encode_request(&long, 9, 1, Some("raw")).expect("it can be written").concat();
    let (begins, begun) = oneshot::channel();
    let sends = tokio::spawn(async move {
        let mut begins = Some(begins);
        let mut pace = interval(Duration::from_millis(1));
        for byte in bytes.chunks(1) {
            pace.tick().await;
            if raw.try_send_bytes(byte).await.is_err() {
                break;
            }
            if let Some(begins) = begins.take() {
                begins.send(()).expect("the test waits for it");
            }
        }
    });
    soon("the first byte", begun).await.expect("it is sent");
    running.stop().await;
    sends.abort();
}

/// Symptom: a client that was killed in the middle of a request was one that had sent something wrong, if it had kept a
/// thread. Cause: the system says once that a connection was reset, and after that it has only ended. Fix: who is told
/// passes it on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_alone_and_goes_away_has_sent_nothing_wrong() {
    let running = Running::patient().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let one = produce("audit", 0, -1, batch(&["x"]));
    let alone = async {
        while running.broker.metrics().threads_kept == 0 {
            raw.call(&one, 9).await;
        }
    };
    soon("a client that is alone keeps a thread", alone).await;
    let bytes = encode_request(&one, 9, 1, Some("raw")).expect("it can be written").concat();
    raw.send_bytes(&bytes[..bytes.len() / 2]).await;
    raw.reset();
    let gone = async {
        while running.broker.metrics().connections > 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("its connection ends", gone).await;
    assert_eq!(running.broker.metrics().bad_requests, 0);
    running.stop().await;
}

/// With acks=0 only the end of the connection says that something was wrong, here as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_without_an_answer_closes_the_connection_of_a_client_that_is_alone() {
    let running = Running::patient().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let alone = async {
        while running.broker.metrics().threads_kept == 0 {
            raw.call(&produce("audit", 0, -1, batch(&["x"])), 9).await;
        }
    };
    soon("a client that is alone keeps a thread", alone).await;
    raw.send(&produce("nowhere", 0, 0, batch(&["x"])), 9, 1).await;
    raw.expect_closed("acks=0 to a topic that is not there").await;
    // Whoever is alone next can keep one.
    let mut raw = running.connect().await;
    let alone = async {
        while running.broker.metrics().threads_kept < 2 {
            raw.call(&produce("audit", 0, -1, batch(&["x"])), 9).await;
        }
    };
    soon("the next client that is alone keeps a thread", alone).await;
    running.stop().await;
}

/// Nobody knows what is on disk after a sync that has failed. Nothing is written any more, clients are told to
/// try again, and what was acknowledged is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_events_are_refused_and_those_that_were_acknowledged_are_served() {
    const ATTEMPTS: usize = 100;
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let running = Running::on(&storage, KafkaConfig::default()).await;
    let topic = running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let mut codes = Vec::new();
    // The next sync may be one that the writer does not depend on, of a journal file for later.
    while codes.last().is_none_or(|code| *code == 0) && codes.len() < ATTEMPTS {
        let answer = raw.call(&produce("audit", 0, -1, batch(&["x"])), 9).await;
        codes.push(answer.responses[0].partition_responses[0].error_code);
        storage.fail_call(storage.calls() + 1, Failure::FsyncEio);
    }
    let refused = ErrorCode::KAFKA_STORAGE_ERROR.0;
    assert_eq!(codes.pop(), Some(refused), "after {} events", codes.len());
    assert!(matches!(running.broker.log().health(), Health::ReadOnly { .. }));
    let again = raw.call(&produce("audit", 0, -1, batch(&["x"])), 9).await;
    assert_eq!(again.responses[0].partition_responses[0].error_code, refused);
    let read = raw.call(&fetch(topic, 0, 0, Duration::ZERO), 17).await;
    let partition = &read.responses[0].partitions[0];
    assert!(!codes.is_empty(), "the first event was taken");
    assert_eq!((partition.error_code, partition.high_watermark), (0, codes.len() as i64));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refusal_has_its_code() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let good = batch(&["x"]);
    let last = good.len() - 1;
    let two = Bytes::from([&good[..], &good[..]].concat());
    let transactional =
        ProduceRequest { transactional_id: Some("t".to_owned()), ..produce("audit", 0, -1, good.clone()) };
    let cases = [
        ("no such topic", produce("nowhere", 0, -1, good.clone()), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ("no such partition", produce("audit", 1, -1, good.clone()), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ("partition -1", produce("audit", -1, -1, good.clone()), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ("acks 2", produce("audit", 0, 2, good.clone()), ErrorCode::INVALID_REQUIRED_ACKS),
        ("a changed byte", produce("audit", 0, -1, patched(last, 0x7e)), ErrorCode::CORRUPT_MESSAGE),
        ("cut", produce("audit", 0, -1, good.slice(..last)), ErrorCode::CORRUPT_MESSAGE),
        ("magic 1", produce("audit", 0, -1, patched(16, 1)), ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT),
        ("magic 9", produce("audit", 0, -1, patched(16, 9)), ErrorCode::INVALID_RECORD),
        ("two batches", produce("audit", 0, -1, two), ErrorCode::INVALID_RECORD),
        ("no batch", produce("audit", 0, -1, Bytes::new()), ErrorCode::INVALID_RECORD),
        (
            "too large",
            produce("audit", 0, -1, batch(&["x".repeat(1_100_000).as_str()])),
            ErrorCode::MESSAGE_TOO_LARGE,
        ),
        ("a transaction", transactional, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
    ];
    let mut raw = running.connect().await;
    for (name, request, code) in cases {
        let answer = raw.call(&request, 9).await;
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!(ErrorCode(partition.error_code), code, "{name}: {partition:?}");
        assert_eq!(partition.base_offset, -1, "{name}");
        assert!(partition.error_message.is_some(), "{name}");
    }
    assert_eq!(running.broker.log().metrics().appends, 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_of_one_request_succeed_and_fail_alone() {
    let running = Running::start().await;
    running.topic("audit", 2).await;
    let mut request = produce("audit", 0, -1, batch(&["x"]));
    let mut more = produce("audit", 9, -1, batch(&["y"])).topic_data.remove(0).partition_data;
    more.extend(produce("audit", 1, -1, batch(&["z"])).topic_data.remove(0).partition_data);
    request.topic_data[0].partition_data.extend(more);
    let answer = running.connect().await.call(&request, 9).await;
    let results = answer.responses[0].partition_responses.iter();
    let results: Vec<_> = results.map(|result| (result.index, result.error_code)).collect();
    assert_eq!(results, [(0, 0), (9, 3), (1, 0)]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_ids_from_version_13_on() {
    let running = Running::start().await;
    let topic = running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let mut request = produce("", 0, -1, batch(&["x"]));
    request.topic_data[0].topic_id = topic;
    let answer = raw.call(&request, 13).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    assert_eq!(answer.responses[0].topic_id, topic);
    request.topic_data[0].topic_id = uuid::Uuid::from_u128(7);
    let answer = raw.call(&request, 13).await;
    let code = ErrorCode(answer.responses[0].partition_responses[0].error_code);
    assert_eq!(code, ErrorCode::UNKNOWN_TOPIC_ID);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producer_ids_are_fresh_and_transactions_are_refused() {
    let running = Running::start().await;
    let mut raw = running.connect().await;
    let one = raw.call(&InitProducerIdRequest::default(), 4).await;
    let two = raw.call(&InitProducerIdRequest::default(), 4).await;
    assert_eq!((one.error_code, two.error_code), (0, 0));
    assert_ne!(one.producer_id, two.producer_id);
    assert_eq!(one.producer_epoch, 0);
    let request =
        InitProducerIdRequest { transactional_id: Some("t".to_owned()), ..InitProducerIdRequest::default() };
    let refused = raw.call(&request, 4).await;
    let code = ErrorCode(refused.error_code);
    assert_eq!(code, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    assert_eq!(refused.producer_id, -1);
    running.stop().await;
}

/// Symptom: a Java producer stood still for two minutes (delivery.timeout.ms) when a topic was deleted and made again,
/// or its sequences were forgotten, and gave its events up then. Cause: told that its id is not known, it looks at the
/// beginning of the log that stands beside that. With -1 there it takes the partition for one that moves and sends the
/// same batch again. Fix: the beginning is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_is_not_known_is_told_where_the_log_begins() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let sent = |id: i64, epoch: i16, base_sequence: i32| {
        let record = NewRecord { value: Some(Bytes::from_static(b"x")), ..NewRecord::default() };
        let records = records::encode(&[record], Codec::None, Some(Producer { id, epoch, base_sequence }));
        produce("audit", 0, -1, records.expect("it can be encoded"))
    };
    let told = |answer: ProduceResponse| {
        let partition = &answer.responses[0].partition_responses[0];
        (ErrorCode(partition.error_code), partition.base_offset, partition.log_start_offset)
    };
    let unknown = ErrorCode::UNKNOWN_PRODUCER_ID;
    assert_eq!(told(raw.call(&sent(5, 0, 0), 9).await), (ErrorCode::NONE, 0, 0));
    let names = vec!["audit".to_owned()];
    let delete = DeleteTopicsRequest { topic_names: names, ..DeleteTopicsRequest::default() };
    assert_eq!(raw.call(&delete, 5).await.responses[0].error_code, 0);
    running.topic("audit", 1).await;
    assert_eq!(told(raw.call(&sent(5, 0, 1), 9).await), (unknown, -1, 0));
    // Which is what the producer does then.
    assert_eq!(told(raw.call(&sent(5, 1, 0), 9).await), (ErrorCode::NONE, 0, 0));

    // Sequences go with the topic, and not with its oldest events.
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 1 }];
    let topics = vec![DeleteRecordsTopic { name: "audit".to_owned(), partitions }];
    let delete = DeleteRecordsRequest { topics, ..DeleteRecordsRequest::default() };
    assert_eq!(raw.call(&delete, 2).await.topics[0].partitions[0].low_watermark, 1);
    assert_eq!(told(raw.call(&sent(5, 1, 1), 9).await), (ErrorCode::NONE, 1, 1));
    assert_eq!(told(raw.call(&sent(6, 0, 7), 9).await), (unknown, -1, 1));
    running.stop().await;
}

/// What the log has on disk needs no memory for requests, though its answer waits for its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_batch_gives_its_memory_back_before_its_turn() {
    const PRODUCES: i32 = 10;
    let mut config = KafkaConfig::default();
    config.limits.request_bytes_budget = 1024 * 1024;
    let running = Running::with(config).await;
    let topic = running.topic("audit", 2).await;
    let mut raw = running.connect().await;
    raw.send(&fetch(topic, 0, 0, Duration::from_secs(60)), 17, 0).await;
    let large = batch(&["x".repeat(400_000).as_str()]);
    for number in 1..=PRODUCES {
        raw.send(&produce("audit", 1, -1, large.clone()), 9, number).await;
    }
    raw.send(&produce("audit", 0, -1, batch(&["x"])), 9, PRODUCES + 1).await;
    let (id, _) = raw.receive::<FetchResponse>(17).await;
    assert_eq!(id, 0);
    for number in 1..=PRODUCES + 1 {
        let (id, answer) = raw.receive::<ProduceResponse>(9).await;
        assert_eq!((id, answer.responses[0].partition_responses[0].error_code), (number, 0));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_all_sizes_may_follow_each_other_closely() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let mut bytes = Vec::new();
    for (id, length) in [1, 300_000, 1, 70_000, 65_536, 10].into_iter().enumerate() {
        let request = produce("audit", 0, -1, batch(&["x".repeat(length).as_str()]));
        let frame = encode_request(&request, 9, i32::try_from(id).expect("small"), None);
        bytes.extend(frame.expect("valid").concat());
    }
    raw.send_bytes(&bytes).await;
    for number in 0..6 {
        let (id, answer) = raw.receive::<ProduceResponse>(9).await;
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!((id, partition.error_code, partition.base_offset), (number, 0, i64::from(number)));
    }
    running.stop().await;
}

/// In a compacted topic a record without a key could never be replaced: the batch is refused, and the
/// records to blame are named (KIP-467).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_without_a_key_is_refused_in_a_compacted_topic() {
    let running = Running::start().await;
    let mut raw = running.connect().await;
    let create = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "prices".to_owned(),
            num_partitions: 1,
            replication_factor: 1,
            configs: vec![CreatableTopicConfig {
                name: "cleanup.policy".to_owned(),
                value: Some("compact".to_owned()),
            }],
            ..CreatableTopic::default()
        }],
        ..CreateTopicsRequest::default()
    };
    assert_eq!(raw.call(&create, 7).await.topics[0].error_code, 0);
    let record = |key: Option<&'static str>| NewRecord {
        timestamp: 1_700_000_000_000,
        key: key.map(Bytes::from),
        value: Some(Bytes::from_static(b"9.99")),
        headers: Vec::new(),
    };
    let encode = |codec: Codec, keys: &[Option<&'static str>]| {
        let records: Vec<_> = keys.iter().map(|key| record(*key)).collect();
        records::encode(&records, codec, None).expect("it can be encoded")
    };
    for codec in [Codec::None, Codec::Zstd] {
        let mixed = encode(codec, &[Some("a"), None, Some(""), None]);
        let answer = raw.call(&produce("prices", 0, -1, mixed), 9).await;
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, ErrorCode::INVALID_RECORD.0);
        let blamed: Vec<_> = partition.record_errors.iter().map(|error| error.batch_index).collect();
        assert_eq!(blamed, [1, 3], "{codec:?}");
        let keyed = encode(codec, &[Some("a"), Some("")]);
        let answer = raw.call(&produce("prices", 0, -1, keyed), 9).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
    running.stop().await;
}

async fn topic_with(raw: &mut Raw, name: &str, configs: &[(&str, &str)]) {
    let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
        name: (*name).to_owned(),
        value: Some((*value).to_owned()),
    };
    let create = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.to_owned(),
            num_partitions: 1,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..CreatableTopic::default()
        }],
        ..CreateTopicsRequest::default()
    };
    assert_eq!(raw.call(&create, 7).await.topics[0].error_code, 0, "{name}");
}

/// A Produce of records with keys that have these timestamps.
fn produce_at(topic: &str, codec: Codec, times_ms: &[i64]) -> ProduceRequest {
    let record = |timestamp: &i64| NewRecord {
        timestamp: *timestamp,
        key: Some(Bytes::from_static(b"k")),
        value: Some(Bytes::from_static(b"v")),
        headers: Vec::new(),
    };
    let records: Vec<_> = times_ms.iter().map(record).collect();
    produce(topic, 0, -1, records::encode(&records, codec, None).expect("it can be encoded"))
}

const IN_2023: i64 = 1_700_000_000_000;
const IN_3000: i64 = 32_503_680_000_000;
const HOUR: &str = "3600000";

/// Symptom: a producer whose clock was years ahead wrote events that retention by age never took away, although the topic
/// said how far ahead a clock may be. Cause: the two limits of KIP-937 were kept and not enforced. Fix: each record's
/// timestamp is held against them, and those to blame are named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timestamps_too_far_from_the_clock_are_refused_where_the_topic_says_so() {
    const BEFORE: &str = "message.timestamp.before.max.ms";
    const AFTER: &str = "message.timestamp.after.max.ms";
    let running = Running::start().await;
    let mut raw = running.connect().await;
    topic_with(&mut raw, "recent", &[(BEFORE, HOUR)]).await;
    topic_with(&mut raw, "past", &[(AFTER, HOUR)]).await;
    topic_with(&mut raw, "keyed", &[(AFTER, HOUR), ("cleanup.policy", "compact")]).await;
    topic_with(&mut raw, "packed", &[(BEFORE, HOUR), ("compression.type", "zstd")]).await;
    // Two to blame around one without a timestamp, which is never refused. The header says nothing of the last one.
    let blamed = [
        ("recent", [IN_2023, -1, 0], BEFORE, vec![0, 2]),
        ("past", [IN_2023, -1, IN_3000], AFTER, vec![2]),
        ("past", [IN_3000, IN_3000 + 1, 0], AFTER, vec![0, 1]),
        ("keyed", [0, IN_3000, 0], AFTER, vec![1]),
        ("packed", [IN_3000, IN_3000, 0], BEFORE, vec![2]),
    ];
    for codec in [Codec::None, Codec::Lz4] {
        for (topic, times_ms, config, expected) in &blamed {
            let answer = raw.call(&produce_at(topic, codec, times_ms), 9).await;
            let partition = &answer.responses[0].partition_responses[0];
            assert_eq!(ErrorCode(partition.error_code), ErrorCode::INVALID_TIMESTAMP, "{topic}");
            assert_eq!(partition.base_offset, -1);
            let blamed: Vec<_> = partition.record_errors.iter().map(|error| error.batch_index).collect();
            assert_eq!(blamed, *expected, "{topic}, {codec:?}");
            let said = partition.error_message.as_deref().expect("a sentence");
            assert!(said.contains(&format!("{config} is {HOUR}")), "{said}");
        }
    }
    assert_eq!(running.broker.log().metrics().appends, 0);
    for (topic, times_ms) in
        [("recent", [-1, IN_3000]), ("past", [IN_2023, 0]), ("keyed", [0, -1]), ("packed", [IN_3000, -1])]
    {
        let answer = raw.call(&produce_at(topic, Codec::Lz4, &times_ms), 9).await;
        assert_eq!(result(&answer), (0, 0), "{topic}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_timestamp_is_taken_where_no_limit_is_set_or_the_server_gives_its_own() {
    let running = Running::start().await;
    let mut raw = running.connect().await;
    let none = [
        ("message.timestamp.type", "LogAppendTime"),
        ("message.timestamp.before.max.ms", "0"),
        ("message.timestamp.after.max.ms", "0"),
    ];
    topic_with(&mut raw, "plain", &[]).await;
    topic_with(&mut raw, "arrival", &none).await;
    for topic in ["plain", "arrival"] {
        let answer = raw.call(&produce_at(topic, Codec::None, &[IN_3000, 0, -1, IN_2023]), 9).await;
        assert_eq!(result(&answer), (0, 0), "{topic}");
    }
    running.stop().await;
}
