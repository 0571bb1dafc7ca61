//! What clients may take of memory, counted where it is granted.

use std::sync::Arc;
use std::time::Duration;

use courant_kafka::{Broker, KafkaConfig, Limits};
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
