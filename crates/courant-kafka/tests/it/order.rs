//! Answers come in the order of their requests, whatever each of them waits for.

use std::time::Duration;

use courant_kafka::wire::encode_request;
use courant_kafka::wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchResponse, ListOffsetsPartition, ListOffsetsRequest,
    ListOffsetsResponse, ListOffsetsTopic, MetadataRequest, MetadataResponse, ProduceResponse,
};

use crate::support::{Running, batch, fetch, produce};

fn latest(topic: &str) -> ListOffsetsRequest {
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.to_owned(),
            partitions: vec![ListOffsetsPartition { timestamp: -1, ..ListOffsetsPartition::default() }],
        }],
        ..ListOffsetsRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order() {
    const PRODUCES: i32 = 100;
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    raw.send(&MetadataRequest::default(), 9, 1000).await;
    for number in 0..PRODUCES {
        let request = produce("audit", 0, -1, batch(&[&number.to_string()]));
        raw.send(&request, 9, number).await;
    }
    raw.send(&latest("audit"), 7, 1001).await;
    raw.send(&ApiVersionsRequest::default(), 0, 1002).await;

    let (id, _) = raw.receive::<MetadataResponse>(9).await;
    assert_eq!(id, 1000);
    for number in 0..PRODUCES {
        let (id, answer) = raw.receive::<ProduceResponse>(9).await;
        assert_eq!(id, number);
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, 0, "{partition:?}");
        assert_eq!(partition.base_offset, i64::from(number));
    }
    // ListOffsets sees everything that was produced before it.
    let (id, answer) = raw.receive::<ListOffsetsResponse>(7).await;
    assert_eq!(id, 1001);
    assert_eq!(answer.topics[0].partitions[0].offset, i64::from(PRODUCES));
    let (id, _) = raw.receive::<ApiVersionsResponse>(0).await;
    assert_eq!(id, 1002);
    running.stop().await;
}

/// A Produce behind a waiting Fetch goes to the log at once; here it is what the Fetch waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_produce_does_not_wait_for_the_fetch_before_it() {
    let running = Running::start().await;
    let topic = running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    raw.send(&fetch(topic, 0, 0, Duration::from_secs(60)), 17, 1).await;
    raw.send(&produce("audit", 0, -1, batch(&["x"])), 9, 2).await;
    let (id, answer) = raw.receive::<FetchResponse>(17).await;
    assert_eq!(id, 1);
    let records = answer.responses[0].partitions[0].records.as_ref();
    assert!(records.is_some_and(|records| !records.is_empty()));
    let (id, answer) = raw.receive::<ProduceResponse>(9).await;
    assert_eq!((id, answer.responses[0].partition_responses[0].error_code), (2, 0));
    running.stop().await;
}

/// More than a connection may have with the log at one time, and a request that is more than that by itself.
/// The Fetch before them is still waiting: only the log has to be done with what was sent, not the client
/// with its answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_may_be_in_flight_goes_on_when_the_log_is_done_with_it() {
    const PRODUCES: i32 = 12;
    let running = Running::start().await;
    running.topic("audit", 6).await;
    let watched = running.topic("watched", 1).await;
    let large = batch(&["x".repeat(900_000).as_str()]);
    let mut raw = running.connect().await;
    raw.send(&fetch(watched, 0, 0, Duration::from_secs(60)), 17, 1000).await;
    for number in 0..PRODUCES {
        raw.send(&produce("audit", 0, -1, large.clone()), 9, number).await;
    }
    let mut whole = produce("audit", 0, -1, large.clone());
    for partition in 1..6 {
        let one = produce("audit", partition, -1, large.clone()).topic_data.remove(0).partition_data;
        whole.topic_data[0].partition_data.extend(one);
    }
    raw.send(&whole, 9, PRODUCES).await;
    raw.send(&produce("watched", 0, -1, batch(&["y"])), 9, PRODUCES + 1).await;

    let (id, answer) = raw.receive::<FetchResponse>(17).await;
    assert_eq!((id, answer.responses[0].partitions[0].error_code), (1000, 0));
    for number in 0..PRODUCES + 2 {
        let (id, answer) = raw.receive::<ProduceResponse>(9).await;
        assert_eq!(id, number);
        let results = &answer.responses[0].partition_responses;
        assert!(results.iter().all(|result| result.error_code == 0), "{number}: {results:?}");
    }
    let offsets = |index: usize| {
        let catalog = running.broker.log().catalog();
        let partition = catalog.by_name("audit").expect("it is there").partitions[index];
        running.broker.log().offsets(partition).expect("it is there").high_watermark
    };
    assert_eq!((offsets(0), offsets(5)), (PRODUCES as u64 + 1, 1));
    running.stop().await;
}

/// Stopping answers what was read and ends waits at once.
#[tokio::test]
async fn stopping_answers_a_waiting_fetch() {
    let running = Running::start().await;
    let topic = running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let before = running.requests();
    raw.send(&fetch(topic, 0, 0, Duration::from_secs(60)), 17, 1).await;
    running.settles(before + 1).await;
    let ((), (id, answer)) = tokio::join!(running.stop(), raw.receive::<FetchResponse>(17));
    assert_eq!((id, answer.responses[0].partitions[0].error_code), (1, 0));
}

/// A connection takes so many small Produces behind the request whose answer is waited for, and no more. Stopped while the
/// next one waits for room, it answers all that it took, in their order, and nothing else.
#[tokio::test]
async fn stopping_answers_what_was_taken_while_more_waits_for_room() {
    const TAKEN: i32 = 256;
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let watched = running.topic("watched", 1).await;
    let mut raw = running.connect().await;
    let before = running.requests();
    raw.send(&fetch(watched, 0, 0, Duration::from_secs(60)), 17, 1000).await;
    for number in 0..TAKEN + 8 {
        raw.send(&produce("audit", 0, -1, batch(&["x"])), 9, number).await;
    }
    running.settles(before + 1 + TAKEN as u64).await;
    // With the question that has told so.
    assert_eq!(running.requests(), before + 1 + TAKEN as u64 + 1);
    let answers = async {
        let (id, _) = raw.receive::<FetchResponse>(17).await;
        assert_eq!(id, 1000);
        for number in 0..TAKEN {
            let (id, answer) = raw.receive::<ProduceResponse>(9).await;
            let result = &answer.responses[0].partition_responses[0];
            let expected = (number, 0, i64::from(number));
            assert_eq!((id, result.error_code, result.base_offset), expected);
        }
        raw.expect_closed("nothing else was taken").await;
    };
    tokio::join!(running.stop(), answers);
}

/// The answer to a Fetch may be large, however small it is, and a large Produce is no small one. Of these a connection
/// takes 32 behind the one whose answer is waited for, and among them each takes the room of eight small Produces.
#[tokio::test]
async fn others_than_small_produces_are_as_few_as_ever() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let watched = running.topic("watched", 1).await;
    let waits = encode_request(&fetch(watched, 0, 0, Duration::from_secs(60)), 17, 1, Some("raw"));
    let waits = waits.expect("it can be written").concat();
    let appends = |value: &str| {
        let request = encode_request(&produce("audit", 0, -1, batch(&[value])), 9, 1, Some("raw"));
        request.expect("it can be written").concat()
    };
    let (small, large) = (appends("x"), appends(&"x".repeat(10_000)));
    let cases = [
        (waits.repeat(40), 1 + 32),
        ([waits.repeat(1 + 20), small.repeat(120)].concat(), 1 + 20 + 12 * 8),
        ([waits, large.repeat(40)].concat(), 1 + 32),
    ];
    for (sent, taken) in cases {
        let mut raw = running.connect().await;
        let before = running.requests();
        raw.send_bytes(&sent).await;
        running.settles(before + taken).await;
        // With the question that has told so.
        assert_eq!(running.requests(), before + taken + 1);
    }
    running.stop().await;
}
