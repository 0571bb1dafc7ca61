//! The contract of engines as scenarios, on Courant and on Apache Kafka; and what each says that it can do.

use courant_conformance::{Opening, Subject, assert_listed, check_side_by_side};
use courant_engine::EngineConfig;
use tempfile::TempDir;

use crate::kafka;
use crate::server::{Server, opened_with};

const PAGE: &str = include_str!("../../../../docs/guide/framework/engines.md");

/// A promise that the client cannot keep, as the crate says: librdkafka sends no time of 0.
const NOT_SENDABLE: [&str; 1] = ["records::timestamps_are_kept_to_the_millisecond"];

/// Neither server says that it compares the ids of events, and a service that needs it is refused.
const NOT_SAID: [&str; 1] = ["publishing::an_event_that_comes_again_is_stored_once"];

fn opening(url: String) -> Opening {
    Box::pin(async move { Ok(opened_with(&url, EngineConfig::system()).await?) })
}

async fn holds(listed: &str, url: String) {
    let engine = opening(url.clone()).await.expect("opens");
    assert_listed(PAGE, listed, &engine.capabilities());
    engine.close().await;
    let report = check_side_by_side(&Subject::new(listed, move || opening(url.clone()))).await;
    report.assert_kept_but(&NOT_SENDABLE);
    // What it says that it can do was tried out, all of it.
    assert_eq!(report.left_out, NOT_SAID, "{listed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn courant_keeps_the_contract() {
    let data = TempDir::new().expect("a directory");
    let Some(server) = Server::start(data.path(), "courant_keeps_the_contract") else { return };
    holds("courant://", server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_keeps_the_contract() {
    let Some(address) = kafka::address("kafka_keeps_the_contract") else { return };
    holds("kafka://", kafka::url(&address)).await;
}
