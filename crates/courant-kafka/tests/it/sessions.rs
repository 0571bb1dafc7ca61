//! Fetch sessions: what changes is sent, what is news is answered (KIP-227).

use std::time::Duration;

use courant_kafka::KafkaConfig;
use courant_kafka::wire::ErrorCode;
use courant_kafka::wire::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};
use courant_kafka::wire::messages::{
    DeleteRecordsRequest, FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic,
};
use uuid::Uuid;

use crate::support::{Raw, Running, batch, produce, soon};

const VERSION: i16 = 17;

/// A Fetch that does not wait: `partitions` are partition numbers and offsets.
fn fetch(topic: Uuid, partitions: &[(i32, i64)], session: i32, epoch: i32) -> FetchRequest {
    let partition = |(partition, offset): &(i32, i64)| FetchPartition {
        partition: *partition,
        fetch_offset: *offset,
        partition_max_bytes: 1024 * 1024,
        ..FetchPartition::default()
    };
    let partitions: Vec<_> = partitions.iter().map(partition).collect();
    let topics = match partitions.is_empty() {
        true => Vec::new(),
        false => vec![FetchTopic { topic_id: topic, partitions, ..FetchTopic::default() }],
    };
    FetchRequest {
        min_bytes: 1,
        max_bytes: 1024 * 1024,
        session_id: session,
        session_epoch: epoch,
        topics,
        ..FetchRequest::default()
    }
}

/// The partitions of an answer, and whether there are records of each.
fn told(answer: &FetchResponse) -> Vec<(i32, bool)> {
    assert_eq!(answer.error_code, 0, "{answer:?}");
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|data| (data.partition_index, data.records.as_ref().is_some_and(|records| !records.is_empty())))
        .collect()
}

async fn append(raw: &mut Raw, partition: i32) {
    let answer = raw.call(&produce("audit", partition, -1, batch(&["x"])), 9).await;
    let result = &answer.responses[0].partition_responses[0];
    assert_eq!(result.error_code, 0, "{result:?}");
}

/// Opens a session that reads these partitions, and returns its id.
async fn open(raw: &mut Raw, topic: Uuid, partitions: &[(i32, i64)]) -> i32 {
    let answer = raw.call(&fetch(topic, partitions, 0, 0), VERSION).await;
    assert_eq!(told(&answer).len(), partitions.len(), "the first answer is whole");
    assert!(answer.session_id > 0, "{answer:?}");
    answer.session_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_news_are_answered() {
    let running = Running::start().await;
    let topic = running.topic("audit", 3).await;
    let mut raw = running.connect().await;
    let session = open(&mut raw, topic, &[(0, 0), (1, 0), (2, 0)]).await;
    let answer = raw.call(&fetch(topic, &[], session, 1), VERSION).await;
    assert_eq!(told(&answer), []);
    assert_eq!(answer.session_id, session);

    append(&mut raw, 1).await;
    let answer = raw.call(&fetch(topic, &[], session, 2), VERSION).await;
    assert_eq!(told(&answer), [(1, true)]);
    // The client has not moved: the records are still what it asks for.
    let answer = raw.call(&fetch(topic, &[], session, 3), VERSION).await;
    assert_eq!(told(&answer), [(1, true)]);
    let answer = raw.call(&fetch(topic, &[(1, 1)], session, 4), VERSION).await;
    assert_eq!(told(&answer), []);

    // Two appends at once, one of them to a partition that is forgotten in the same request.
    append(&mut raw, 0).await;
    append(&mut raw, 2).await;
    let mut forgetting = fetch(topic, &[], session, 5);
    forgetting.forgotten_topics_data =
        vec![ForgottenTopic { topic_id: topic, partitions: vec![0], ..ForgottenTopic::default() }];
    assert_eq!(told(&raw.call(&forgetting, VERSION).await), [(2, true)]);

    // Forgetting the rest ends the session.
    let mut forgetting = fetch(topic, &[], session, 6);
    forgetting.forgotten_topics_data =
        vec![ForgottenTopic { topic_id: topic, partitions: vec![1, 2], ..ForgottenTopic::default() }];
    let answer = raw.call(&forgetting, VERSION).await;
    assert_eq!((answer.error_code, answer.session_id), (0, 0));
    let answer = raw.call(&fetch(topic, &[], session, 7), VERSION).await;
    assert_eq!(answer.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND.0);
    running.stop().await;
}

/// A client that misses it would go on asking for what is not there any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beginning_that_moves_is_news() {
    let running = Running::start().await;
    let topic = running.topic("audit", 2).await;
    let mut raw = running.connect().await;
    append(&mut raw, 0).await;
    append(&mut raw, 1).await;
    let session = open(&mut raw, topic, &[(0, 1), (1, 1)]).await;
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "audit".to_owned(),
            partitions: vec![DeleteRecordsPartition { partition_index: 1, offset: 1 }],
        }],
        ..DeleteRecordsRequest::default()
    };
    let deleted = raw.call(&request, 2).await;
    assert_eq!(deleted.topics[0].partitions[0].error_code, 0, "{deleted:?}");
    let answer = raw.call(&fetch(topic, &[], session, 1), VERSION).await;
    assert_eq!(told(&answer), [(1, false)]);
    assert_eq!(answer.responses[0].partitions[0].log_start_offset, 1);
    assert_eq!(told(&raw.call(&fetch(topic, &[], session, 2), VERSION).await), []);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_told_until_they_end() {
    let running = Running::start().await;
    let topic = running.topic("audit", 2).await;
    let mut raw = running.connect().await;
    let session = open(&mut raw, topic, &[(0, 5), (1, 0)]).await;
    for epoch in [1, 2] {
        let answer = raw.call(&fetch(topic, &[], session, epoch), VERSION).await;
        assert_eq!(told(&answer), [(0, false)]);
        let code = answer.responses[0].partitions[0].error_code;
        assert_eq!(ErrorCode(code), ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    let answer = raw.call(&fetch(topic, &[(0, 0)], session, 3), VERSION).await;
    assert_eq!(told(&answer), [(0, false)]);
    assert_eq!(answer.responses[0].partitions[0].error_code, 0);
    assert_eq!(told(&raw.call(&fetch(topic, &[], session, 4), VERSION).await), []);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_out_of_turn_are_refused() {
    let running = Running::start().await;
    let topic = running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let session = open(&mut raw, topic, &[(0, 0)]).await;
    for (id, epoch, version, code) in [
        (session, 2, VERSION, ErrorCode::INVALID_FETCH_SESSION_EPOCH),
        (session, -2, VERSION, ErrorCode::INVALID_FETCH_SESSION_EPOCH),
        (session, 1, 12, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR),
        (session.wrapping_add(1), 1, VERSION, ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
        (0, 1, VERSION, ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
    ] {
        let answer = raw.call(&fetch(topic, &[], id, epoch), version).await;
        assert_eq!((ErrorCode(answer.error_code), answer.session_id), (code, 0), "{id}, {epoch}");
        assert!(answer.responses.is_empty());
    }
    // None of them has changed anything, and the session belongs to no connection.
    let mut other = running.connect().await;
    assert_eq!(told(&other.call(&fetch(topic, &[], session, 1), VERSION).await), []);

    // A whole request closes the session that it names, whether it opens one or not.
    let answer = other.call(&fetch(topic, &[(0, 0)], session, 0), VERSION).await;
    let second = answer.session_id;
    assert!(second > 0 && second != session);
    let answer = raw.call(&fetch(topic, &[], session, 2), VERSION).await;
    assert_eq!(ErrorCode(answer.error_code), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    let answer = raw.call(&fetch(topic, &[(0, 0)], second, -1), VERSION).await;
    assert_eq!((told(&answer), answer.session_id), (vec![(0, false)], 0));
    let answer = raw.call(&fetch(topic, &[], second, 1), VERSION).await;
    assert_eq!(ErrorCode(answer.error_code), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    running.stop().await;
}

#[tokio::test]
async fn a_session_waits_for_all_its_partitions() {
    let running = Running::start().await;
    let topic = running.topic("audit", 2).await;
    let mut raw = running.connect().await;
    let session = open(&mut raw, topic, &[(0, 0), (1, 0)]).await;
    let before = running.requests();
    let mut waiting = fetch(topic, &[], session, 1);
    waiting.max_wait_ms = 60_000;
    raw.send(&waiting, VERSION, 1).await;
    running.settles(before + 1).await;
    append(&mut running.connect().await, 1).await;
    let (_, answer) = raw.receive::<FetchResponse>(VERSION).await;
    assert_eq!(told(&answer), [(1, true)]);
    running.stop().await;
}

#[tokio::test]
async fn a_session_outlives_a_client_that_goes_while_it_waits() {
    let running = Running::start().await;
    let topic = running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let session = open(&mut raw, topic, &[(0, 0)]).await;
    let before = running.requests();
    let mut waiting = fetch(topic, &[], session, 1);
    waiting.max_wait_ms = 60_000;
    raw.send(&waiting, VERSION, 1).await;
    running.settles(before + 1).await;
    // While that waits, the session is nobody else's.
    let mut other = running.connect().await;
    let answer = other.call(&fetch(topic, &[], session, 2), VERSION).await;
    assert_eq!(ErrorCode(answer.error_code), ErrorCode::INVALID_FETCH_SESSION_EPOCH);

    drop(raw);
    let gone = async {
        while running.broker.metrics().connections > 1 {
            tokio::task::yield_now().await;
        }
    };
    soon("the server sees that the client is gone", gone).await;
    append(&mut other, 0).await;
    assert_eq!(told(&other.call(&fetch(topic, &[], session, 2), VERSION).await), [(0, true)]);
    running.stop().await;
}

/// Every answer has room for one batch. Without turns the first partition would have it each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_partitions_take_turns() {
    let running = Running::start().await;
    let topic = running.topic("audit", 3).await;
    let mut raw = running.connect().await;
    for _ in 0..2 {
        for partition in 0..3 {
            append(&mut raw, partition).await;
        }
    }
    let mut request = fetch(topic, &[(0, 0), (1, 0), (2, 0)], 0, 0);
    request.max_bytes = 1;
    let answer = raw.call(&request, VERSION).await;
    let session = answer.session_id;
    let mut delivered: Vec<i32> = Vec::new();
    let with_records = |answer: &FetchResponse| {
        let partitions = told(answer).into_iter().filter(|(_, has_records)| *has_records);
        partitions.map(|(partition, _)| partition).collect::<Vec<_>>()
    };
    delivered.extend(with_records(&answer));
    for epoch in 1..6 {
        // What was read is left behind, as a consumer does.
        let last = *delivered.last().expect("a partition in each answer");
        let times = delivered.iter().filter(|partition| **partition == last).count();
        let offset = i64::try_from(times).expect("small");
        let mut request = fetch(topic, &[(last, offset)], session, epoch);
        request.max_bytes = 1;
        delivered.extend(with_records(&raw.call(&request, VERSION).await));
    }
    assert_eq!(delivered, [0, 1, 2, 0, 1, 2]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_session_is_served_all_the_same() {
    let mut config = KafkaConfig::default();
    config.limits.fetch_sessions_max = 1;
    let running = Running::with(config).await;
    let topic = running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let first = open(&mut raw, topic, &[(0, 0)]).await;
    let whole = fetch(topic, &[(0, 0)], 0, 0);
    for _ in 0..2 {
        let answer = raw.call(&whole, VERSION).await;
        assert_eq!((told(&answer), answer.session_id), (vec![(0, false)], 0));
    }
    // When the first one ends there is room again.
    raw.call(&fetch(topic, &[], first, -1), VERSION).await;
    assert!(raw.call(&whole, VERSION).await.session_id > 0);
    // A request that reads nothing opens nothing.
    assert_eq!(raw.call(&fetch(topic, &[], 0, 0), VERSION).await.session_id, 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_by_name_work_too() {
    let running = Running::start().await;
    running.topic("audit", 2).await;
    let mut raw = running.connect().await;
    let mut request = fetch(Uuid::nil(), &[(0, 0), (1, 0)], 0, 0);
    request.topics[0].topic = "audit".to_owned();
    let answer = raw.call(&request, 11).await;
    let session = answer.session_id;
    assert!(session > 0);
    append(&mut raw, 1).await;
    let answer = raw.call(&fetch(Uuid::nil(), &[], session, 1), 11).await;
    assert_eq!(answer.responses[0].topic, "audit");
    assert_eq!(told(&answer), [(1, true)]);
    let mut forgetting = fetch(Uuid::nil(), &[], session, 2);
    forgetting.forgotten_topics_data =
        vec![ForgottenTopic { topic: "audit".to_owned(), partitions: vec![1], ..ForgottenTopic::default() }];
    assert_eq!(told(&raw.call(&forgetting, 11).await), []);
    let answer = raw.call(&fetch(Uuid::nil(), &[], session, 3), 12).await;
    assert_eq!(answer.error_code, 0, "12 names topics as 11 does");
    running.stop().await;
}

/// Waiting holds nothing, also for a session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_answer_comes_when_the_time_is_up() {
    let running = Running::start().await;
    let topic = running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let session = open(&mut raw, topic, &[(0, 0)]).await;
    let begun = std::time::Instant::now();
    let mut waiting = fetch(topic, &[], session, 1);
    waiting.max_wait_ms = 300;
    let answer = raw.call(&waiting, VERSION).await;
    assert!(begun.elapsed() >= Duration::from_millis(290));
    assert_eq!(told(&answer), []);
    assert_eq!(running.broker.log().metrics().reads, 0);
    running.stop().await;
}
