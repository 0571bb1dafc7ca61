//! Partitions and this broker, as tools see them: added, emptied, described.

use std::time::Duration;

use bytes::Bytes;
use courant_kafka::KafkaConfig;
use courant_kafka::wire::ErrorCode;
use courant_kafka::wire::messages::create_partitions::{CreatePartitionsAssignment, CreatePartitionsTopic};
use courant_kafka::wire::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};
use courant_kafka::wire::messages::describe_log_dirs::DescribableLogDirTopic;
use courant_kafka::wire::messages::describe_topic_partitions::{Cursor, TopicRequest};
use courant_kafka::wire::messages::offset_for_leader_epoch::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use courant_kafka::wire::messages::{
    CreatableTopic, CreatableTopicConfig, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest,
    DescribeClusterRequest, DescribeLogDirsRequest, DescribeProducersRequest, DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
    MetadataRequest, OffsetForLeaderEpochRequest, describe_producers,
};
use courant_log::Codec;
use courant_log::batch::records::{self, NewRecord, Producer};

use crate::support::{Raw, Running, batch, fetch, produce};

async fn append(raw: &mut Raw, topic: &str, partition: i32, records: Bytes) {
    let answer = raw.call(&produce(topic, partition, -1, records), 9).await;
    let result = &answer.responses[0].partition_responses[0];
    assert_eq!(result.error_code, 0, "{result:?}");
}

fn more(name: &str, count: i32) -> CreatePartitionsTopic {
    CreatePartitionsTopic { name: name.to_owned(), count, ..CreatePartitionsTopic::default() }
}

async fn create(
    raw: &mut Raw,
    topics: Vec<CreatePartitionsTopic>,
    validate_only: bool,
) -> Vec<(String, ErrorCode)> {
    let request = CreatePartitionsRequest { topics, validate_only, ..CreatePartitionsRequest::default() };
    let answer = raw.call(&request, 3).await;
    let refused = answer.results.iter().filter(|result| result.error_code != 0);
    assert!(refused.clone().all(|result| result.error_message.is_some()), "{answer:?}");
    answer.results.into_iter().map(|result| (result.name, ErrorCode(result.error_code))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_gets_more_partitions() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    append(&mut raw, "audit", 0, batch(&["kept"])).await;
    let ok = vec![("audit".to_owned(), ErrorCode::NONE)];
    let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
    assert_eq!(create(&mut raw, vec![more("audit", 3)], true).await, ok);
    assert_eq!(raw.call(&all, 12).await.topics[0].partitions.len(), 1, "it was only checked");
    let assigned = |count: usize| CreatePartitionsTopic {
        assignments: Some(vec![CreatePartitionsAssignment { broker_ids: vec![0] }; count]),
        ..more("audit", 3)
    };
    let refused = vec![("audit".to_owned(), ErrorCode::INVALID_REPLICA_ASSIGNMENT)];
    assert_eq!(create(&mut raw, vec![assigned(3)], false).await, refused);
    assert_eq!(create(&mut raw, vec![assigned(2)], false).await, ok);
    assert_eq!(raw.call(&all, 12).await.topics[0].partitions.len(), 3);
    append(&mut raw, "audit", 2, batch(&["new"])).await;
    append(&mut raw, "audit", 0, batch(&["kept too"])).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_cannot_be_added_are_told_each() {
    let running = Running::start().await;
    for name in ["same", "less", "many", "twice"] {
        running.topic(name, 2).await;
    }
    let mut raw = running.connect().await;
    let topics = vec![
        more("same", 2),
        more("less", 1),
        more("many", 10_001),
        more("twice", 3),
        more("twice", 4),
        more("nowhere", 3),
    ];
    let told = create(&mut raw, topics, false).await;
    let told: Vec<_> = told.iter().map(|(name, code)| (name.as_str(), *code)).collect();
    let expected = [
        ("same", ErrorCode::INVALID_PARTITIONS),
        ("less", ErrorCode::INVALID_PARTITIONS),
        ("many", ErrorCode::INVALID_PARTITIONS),
        ("twice", ErrorCode::INVALID_REQUEST),
        ("nowhere", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    ];
    assert_eq!(told, expected);
    running.stop().await;
}

/// Deletes records and returns the beginning that is told, and the error code.
async fn delete(raw: &mut Raw, topic: &str, partition: i32, offset: i64) -> (i64, ErrorCode) {
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: topic.to_owned(),
            partitions: vec![DeleteRecordsPartition { partition_index: partition, offset }],
        }],
        ..DeleteRecordsRequest::default()
    };
    let answer = raw.call(&request, 2).await;
    assert_eq!((answer.topics[0].name.as_str(), answer.topics[0].partitions.len()), (topic, 1));
    let result = &answer.topics[0].partitions[0];
    assert_eq!(result.partition_index, partition);
    (result.low_watermark, ErrorCode(result.error_code))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_deleted_up_to_an_offset() {
    let running = Running::start().await;
    let topic = running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    for value in ["a", "b", "c"] {
        append(&mut raw, "audit", 0, batch(&[value])).await;
    }
    assert_eq!(delete(&mut raw, "audit", 0, 1).await, (1, ErrorCode::NONE));
    let answer = raw.call(&fetch(topic, 0, 0, Duration::ZERO), 17).await;
    let code = answer.responses[0].partitions[0].error_code;
    assert_eq!(ErrorCode(code), ErrorCode::OFFSET_OUT_OF_RANGE);
    let answer = raw.call(&fetch(topic, 0, 1, Duration::ZERO), 17).await;
    assert_eq!(answer.responses[0].partitions[0].log_start_offset, 1);
    assert!(answer.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));

    assert_eq!(delete(&mut raw, "audit", 0, 0).await, (1, ErrorCode::NONE), "it never moves back");
    for offset in [4, -2, i64::MAX] {
        assert_eq!(delete(&mut raw, "audit", 0, offset).await, (-1, ErrorCode::OFFSET_OUT_OF_RANGE));
    }
    assert_eq!(delete(&mut raw, "audit", 0, -1).await, (3, ErrorCode::NONE), "all that is there");
    append(&mut raw, "audit", 0, batch(&["d"])).await;
    let answer = raw.call(&fetch(topic, 0, 3, Duration::ZERO), 17).await;
    assert_eq!(answer.responses[0].partitions[0].high_watermark, 4);

    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(delete(&mut raw, "audit", 1, 0).await, (-1, unknown));
    assert_eq!(delete(&mut raw, "nowhere", 0, 0).await, (-1, unknown));
    running.stop().await;
}

/// Symptom: a consumer that went to a time behind DeleteRecords passed over events that were still there, or was told
/// that there are none. Cause: of the batch that the beginning is in, ListOffsets looked only for the first event, which
/// is deleted. Fix: it looks for the first one from the beginning on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_is_found_in_what_is_left_of_a_batch() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    append(&mut raw, "audit", 0, batch(&["a", "b", "c"])).await;
    assert_eq!(delete(&mut raw, "audit", 0, 2).await, (2, ErrorCode::NONE));
    let request = ListOffsetsRequest {
        topics: vec![ListOffsetsTopic {
            name: "audit".to_owned(),
            partitions: vec![ListOffsetsPartition { timestamp: 0, ..ListOffsetsPartition::default() }],
        }],
        ..ListOffsetsRequest::default()
    };
    let answer = raw.call(&request, 7).await;
    let found = &answer.topics[0].partitions[0];
    assert_eq!((found.error_code, found.offset, found.timestamp), (0, 2, 1_700_000_000_000));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_compacted_is_not_deleted() {
    let running = Running::start().await;
    let mut raw = running.connect().await;
    let create = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "state".to_owned(),
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
    assert_eq!(delete(&mut raw, "state", 0, -1).await, (-1, ErrorCode::POLICY_VIOLATION));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_is_this_broker() {
    let running = Running::with(KafkaConfig { node_id: 7, ..KafkaConfig::default() }).await;
    let mut raw = running.connect().await;
    let metadata = raw.call(&MetadataRequest::default(), 12).await;
    let asked = |include: bool| DescribeClusterRequest {
        include_cluster_authorized_operations: include,
        ..DescribeClusterRequest::default()
    };
    for version in 0..=2 {
        let answer = raw.call(&asked(false), version).await;
        assert_eq!(answer.error_code, 0);
        assert_eq!(Some(&answer.cluster_id), metadata.cluster_id.as_ref());
        assert_eq!((answer.controller_id, answer.brokers.len()), (7, 1));
        let broker = &answer.brokers[0];
        assert_eq!((broker.broker_id, broker.port), (7, i32::from(running.address.port())));
        assert_eq!(broker.host, running.address.ip().to_string());
        assert_eq!(answer.cluster_authorized_operations, i32::MIN, "nobody asked");
    }
    assert!(raw.call(&asked(true), 0).await.cluster_authorized_operations > 0);
    for (endpoint_type, code) in
        [(2, ErrorCode::MISMATCHED_ENDPOINT_TYPE), (3, ErrorCode::UNSUPPORTED_ENDPOINT_TYPE)]
    {
        let request = DescribeClusterRequest { endpoint_type, ..DescribeClusterRequest::default() };
        let answer = raw.call(&request, 2).await;
        assert_eq!((ErrorCode(answer.error_code), answer.brokers.len()), (code, 0));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_directory_shows_what_partitions_take() {
    let config = KafkaConfig { log_dir: "somewhere".to_owned(), ..KafkaConfig::default() };
    let running = Running::with(config).await;
    running.topic("audit", 2).await;
    running.topic("other", 1).await;
    let mut raw = running.connect().await;
    let records = batch(&["x"]);
    let bytes = i64::try_from(records.len()).expect("small");
    append(&mut raw, "audit", 1, records).await;
    for version in 1..=4 {
        let all = DescribeLogDirsRequest { topics: None };
        let answer = raw.call(&all, version).await;
        assert_eq!((answer.error_code, answer.results.len()), (0, 1));
        let found = &answer.results[0];
        assert_eq!((found.error_code, found.log_dir.as_str()), (0, "somewhere"));
        let names: Vec<_> = found.topics.iter().map(|topic| topic.name.as_str()).collect();
        assert_eq!(names, ["audit", "other"]);
        let sizes = found.topics[0].partitions.iter();
        let sizes: Vec<_> = sizes.map(|one| (one.partition_index, one.partition_size)).collect();
        assert_eq!(sizes[0], (0, 0));
        assert!(sizes[1].1 >= bytes, "{sizes:?}");
    }
    let named = |topic: &str, partitions: &[i32]| DescribableLogDirTopic {
        topic: topic.to_owned(),
        partitions: partitions.to_vec(),
    };
    let some =
        DescribeLogDirsRequest { topics: Some(vec![named("audit", &[1, 7, -1]), named("nowhere", &[0])]) };
    let found = &raw.call(&some, 4).await.results[0];
    assert_eq!((found.topics.len(), found.topics[0].partitions.len()), (1, 1));
    let none = DescribeLogDirsRequest { topics: Some(Vec::new()) };
    assert_eq!(raw.call(&none, 4).await.results[0].topics.len(), 0);
    running.stop().await;
}

fn page(names: &[&str], limit: i32, cursor: Option<Cursor>) -> DescribeTopicPartitionsRequest {
    let topic = |name: &&str| TopicRequest { name: (*name).to_owned() };
    DescribeTopicPartitionsRequest {
        topics: names.iter().map(topic).collect(),
        response_partition_limit: limit,
        cursor,
    }
}

/// Topics with their error codes and partition numbers.
fn topics(answer: &DescribeTopicPartitionsResponse) -> Vec<(&str, ErrorCode, Vec<i32>)> {
    let topics = answer.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index).collect();
        (topic.name.as_deref().unwrap_or_default(), ErrorCode(topic.error_code), partitions)
    });
    topics.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_described_page_by_page() {
    let running = Running::start().await;
    let b = running.topic("b", 2).await;
    running.topic("a", 3).await;
    let mut raw = running.connect().await;
    let ok = ErrorCode::NONE;
    let pages =
        [vec![("a", ok, vec![0, 1])], vec![("a", ok, vec![2]), ("b", ok, vec![0])], vec![("b", ok, vec![1])]];
    let all_or_named: [&[&str]; 2] = [&[], &["b", "a", "b"]];
    for names in all_or_named {
        let mut cursor = None;
        for (number, expected) in pages.iter().enumerate() {
            let answer = raw.call(&page(names, 2, cursor.take()), 0).await;
            assert_eq!(topics(&answer), *expected);
            cursor = answer.next_cursor;
            assert_eq!(cursor.is_none(), number == 2, "{cursor:?}");
        }
    }
    // The last partition of a topic fills the page: the next one begins with the next topic.
    let answer = raw.call(&page(&[], 3, None), 0).await;
    assert_eq!(answer.next_cursor, Some(Cursor { topic_name: "b".to_owned(), partition_index: 0 }));

    let answer = raw.call(&page(&["x", "b", "../y"], 2000, None), 0).await;
    let expected = [
        ("../y", ErrorCode::INVALID_TOPIC_EXCEPTION, vec![]),
        ("b", ok, vec![0, 1]),
        ("x", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, vec![]),
    ];
    assert_eq!(topics(&answer), expected);
    let described = &answer.topics[1];
    assert_eq!(described.topic_id, b);
    assert_eq!(described.partitions[1].isr_nodes, [0]);
    assert_eq!(answer.next_cursor, None);
    running.stop().await;
}

/// Symptom: `describeTopics` of Kafka's Java client, and whatever is built on it, ended in a NullPointerException. Cause: it
/// goes through the replicas that may lead although they are behind (KIP-966), which were null. Fix: they are none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_list_of_a_described_partition_is_null() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let answer = raw.call(&page(&["audit"], 2000, None), 0).await;
    let partition = &answer.topics[0].partitions[0];
    assert_eq!(partition.eligible_leader_replicas, Some(Vec::new()));
    assert_eq!(partition.last_known_elr, Some(Vec::new()));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_begins_somewhere_whatever_was_deleted() {
    let running = Running::start().await;
    running.topic("b", 2).await;
    let mut raw = running.connect().await;
    let at = |name: &str, partition_index: i32| Some(Cursor { topic_name: name.to_owned(), partition_index });
    let all = vec![("b", ErrorCode::NONE, vec![0, 1])];
    for (limit, cursor) in [(10, at("a", 7)), (10, at("b", -1)), (i32::MAX, None)] {
        assert_eq!(topics(&raw.call(&page(&[], limit, cursor), 0).await), all);
    }
    for limit in [0, -1] {
        let answer = raw.call(&page(&[], limit, None), 0).await;
        assert_eq!(topics(&answer), [("b", ErrorCode::NONE, vec![0])], "it goes on");
        assert_eq!(answer.next_cursor, at("b", 1));
    }
    let answer = raw.call(&page(&[], 10, at("c", 0)), 0).await;
    assert_eq!((answer.topics.len(), answer.next_cursor), (0, None));
    let answer = raw.call(&page(&["b"], 10, at("a", 0)), 0).await;
    assert_eq!(topics(&answer), [("b", ErrorCode::INVALID_REQUEST, vec![])]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_epoch_ends_where_the_log_does() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    append(&mut raw, "audit", 0, batch(&["a", "b"])).await;
    let ok = ErrorCode::NONE;
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    for (topic, partition, current, epoch, expected) in [
        ("audit", 0, 0, 0, (ok, 0, 2)),
        ("audit", 0, -1, 0, (ok, 0, 2)),
        ("audit", 0, 0, -1, (ok, -1, -1)),
        ("audit", 0, 0, 1, (ok, -1, -1)),
        ("audit", 0, 1, 0, (ErrorCode::UNKNOWN_LEADER_EPOCH, -1, -1)),
        ("audit", 1, 0, 0, (unknown, -1, -1)),
        ("nowhere", 0, 0, 0, (unknown, -1, -1)),
    ] {
        let request = OffsetForLeaderEpochRequest {
            topics: vec![OffsetForLeaderTopic {
                topic: topic.to_owned(),
                partitions: vec![OffsetForLeaderPartition {
                    partition,
                    current_leader_epoch: current,
                    leader_epoch: epoch,
                }],
            }],
            ..OffsetForLeaderEpochRequest::default()
        };
        for version in 2..=4 {
            let answer = raw.call(&request, version).await;
            let result = &answer.topics[0].partitions[0];
            assert_eq!((answer.topics[0].topic.as_str(), result.partition), (topic, partition));
            let told = (ErrorCode(result.error_code), result.leader_epoch, result.end_offset);
            assert_eq!(told, expected, "{topic} {partition} {current} {epoch}");
        }
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_are_named_with_their_sequences() {
    let running = Running::start().await;
    running.topic("audit", 2).await;
    let mut raw = running.connect().await;
    let record = NewRecord { timestamp: 0, key: None, value: None, headers: Vec::new() };
    let producer = Producer { id: 4711, epoch: 2, base_sequence: 0 };
    let records = records::encode(&[record.clone(), record], Codec::None, Some(producer));
    append(&mut raw, "audit", 1, records.expect("it can be encoded")).await;
    let request = DescribeProducersRequest {
        topics: vec![describe_producers::TopicRequest {
            name: "audit".to_owned(),
            partition_indexes: vec![0, 1, 1, 2],
        }],
    };
    let answer = raw.call(&request, 0).await;
    let partitions = &answer.topics[0].partitions;
    let codes: Vec<_> = partitions.iter().map(|one| ErrorCode(one.error_code)).collect();
    let expected =
        [ErrorCode::NONE, ErrorCode::NONE, ErrorCode::INVALID_REQUEST, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION];
    assert_eq!(codes, expected);
    assert!(partitions[0].active_producers.is_empty());
    let known = &partitions[1].active_producers;
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].producer_id, known[0].producer_epoch, known[0].last_sequence), (4711, 2, 1));
    assert_eq!((known[0].current_txn_start_offset, known[0].coordinator_epoch), (-1, -1));
    running.stop().await;
}
