//! The contract of engines as scenarios, on Courant and on Apache Kafka; and what each says that it can do.

use courant_conformance::{Opening, Report, Subject, check_some, scenarios};
use courant_engine::{
    Access, Capabilities, Durability, EngineConfig, GroupScope, Lifetime, OrderScope, PublishDedup, Replay,
    TimeLookup,
};
use courant_engine_kafka::limits::RECORD_BYTES_MAX;
use courant_log::limits::PARTITIONS_PER_TOPIC_MAX;
use tempfile::TempDir;

use crate::kafka;
use crate::server::{Server, opened_with};

/// Scenarios wait for groups most of the time, so that several are tried at once, each on an engine of its
/// own.
const AT_ONCE: usize = 4;

/// Promises that the client cannot keep, as the crate says: librdkafka sends no time of 0.
const NOT_SENDABLE: [&str; 1] = ["records::timestamps_are_kept_to_the_millisecond"];

fn opening(url: String) -> Opening {
    Box::pin(async move { Ok(opened_with(&url, EngineConfig::system()).await?) })
}

async fn lane(url: &str, number: usize) -> Report {
    let names: Vec<&str> = scenarios().iter().map(|scenario| scenario.name()).collect();
    let of_lane = |name: &str| {
        let at = names.iter().position(|known| *known == name);
        at.is_some_and(|at| at % AT_ONCE == number)
    };
    let opened = url.to_owned();
    let subject = Subject::new(url, move || opening(opened.clone()));
    check_some(&subject, of_lane).await
}

/// Holds an engine against every scenario, and its capabilities against those of the table.
async fn holds(url: &str, expected: Capabilities) {
    let engine = opened_with(url, EngineConfig::system()).await.expect("opens");
    assert_eq!(engine.capabilities(), expected, "{url}");
    engine.close().await;
    let lanes = tokio::join!(lane(url, 0), lane(url, 1), lane(url, 2), lane(url, 3));
    let reports = <[Report; AT_ONCE]>::from(lanes);
    let kept: usize = reports.iter().map(|report| report.kept.len()).sum();
    let left_out: Vec<_> = reports.iter().flat_map(|report| report.left_out.clone()).collect();
    let broken: Vec<String> = reports
        .iter()
        .flat_map(|report| &report.broken)
        .filter(|(name, _)| !NOT_SENDABLE.contains(name))
        .map(|(name, failure)| format!("{name}: {failure}"))
        .collect();
    assert!(broken.is_empty(), "{url} breaks {}:\n{}", broken.len(), broken.join("\n"));
    // What it says that it can do was tried out, all of it; and what it cannot send it has refused.
    assert_eq!(left_out, Vec::<&str>::new(), "{url}");
    assert_eq!(kept, scenarios().len() - NOT_SENDABLE.len(), "{url}");
}

/// What both can do. Everything is asked for by a scenario; nothing less would pass.
fn expected() -> Capabilities {
    Capabilities {
        order: OrderScope::Partition,
        replay: Replay::AnyOffset,
        durability: Durability::Disk,
        lifetime: Lifetime::Storage,
        publish_dedup: PublishDedup::Nothing,
        groups: GroupScope::Everywhere,
        time_lookup: TimeLookup::Timestamp,
        access: Access::Anybody,
        record_bytes_max: RECORD_BYTES_MAX,
        partitions_max: PARTITIONS_PER_TOPIC_MAX,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn courant_keeps_the_contract() {
    let data = TempDir::new().expect("a directory");
    let Some(server) = Server::start(data.path(), "courant_keeps_the_contract") else { return };
    holds(&server.url(), expected()).await;
}

/// One node: what is acknowledged is in its memory, and survives its process, not its machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_keeps_the_contract() {
    let Some(address) = kafka::address("kafka_keeps_the_contract") else { return };
    let partitions_max = i32::MAX.unsigned_abs();
    let expected = Capabilities { durability: Durability::Written, partitions_max, ..expected() };
    holds(&kafka::url(&address), expected).await;
}
