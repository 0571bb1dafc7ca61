//! Opening an engine: which log it is, what it can do, what it refuses, and that nothing outlives it.

use std::time::Duration;

use courant_engine::{
    CreateTopicError, Durability, EngineConfig, EngineUrl, FetchError, GroupScope, Lifetime, NewRecord,
    NewTopic, OpenError, PublishError, open,
};
use tempfile::TempDir;

use crate::place::{headers, record, topic_name};
use crate::server::{Server, fixed_port, opened, place};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_answers_the_address_is_named() {
    // Not one of those that connections are given: the client's own could be given it, and would lead to itself.
    let port = fixed_port();
    let error = opened(&format!("kafka://ann:secret@127.0.0.1:{port}")).await.expect_err("nobody");
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains(&format!("127.0.0.1:{port}")), "{said}");
    assert!(said.contains("is the server running"), "{said}");
    assert!(!said.contains("secret"), "{said}");
}

#[tokio::test]
async fn an_address_that_is_none_is_named_without_the_login() {
    let error = opened("courant://ann:secret@host:port").await.expect_err("no port");
    assert!(matches!(error, OpenError::Url { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("host:port") && !said.contains("secret"), "{said}");
}

/// Without the factory the same URL says which feature brings it.
#[tokio::test]
async fn without_this_crate_the_feature_is_named() {
    let url: EngineUrl = "courant://127.0.0.1:9092".parse().expect("a URL");
    let error = open(&url, EngineConfig::system()).await.expect_err("not built in");
    assert!(matches!(error, OpenError::NotBuiltIn { feature: "kafka", .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_stays_the_same_over_restarts() {
    let data = TempDir::new().expect("a directory");
    let Some(server) = Server::start(data.path(), "a_log_stays_the_same_over_restarts") else { return };
    let engine = opened(&server.url()).await.expect("opens");
    let id = engine.log_id();
    assert_eq!(engine.kind(), "courant");
    let can = engine.capabilities();
    assert_eq!((can.durability, can.lifetime), (Durability::Disk, Lifetime::Storage));
    assert_eq!(can.groups, GroupScope::Everywhere);
    engine.close().await;
    let server = server.restart(data.path());
    let engine = opened(&server.url()).await.expect("opens again");
    assert_eq!(engine.log_id(), id);
    engine.close().await;
}

/// What the client cannot send is refused alone and says why; what is around it is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_client_cannot_send_is_refused_alone() {
    let Some(place) = place("what_the_client_cannot_send_is_refused_alone").await else { return };
    place.topic_with(NewTopic::new(topic_name("orders"), 1)).await;
    let results = place
        .engine
        .publish(vec![
            record("key", "first"),
            NewRecord { timestamp_ms: Some(0), ..record("key", "1970") },
            NewRecord { headers: headers(&[(b"\xff", Some(b"x"))]), ..record("key", "bytes") },
            record("key", "last"),
        ])
        .await;
    let offset = |at: usize| results[at].as_ref().map(|position| position.offset);
    assert_eq!((offset(0), offset(3)), (Ok(0), Ok(1)));
    for (at, said) in [(1, "timestamp is 0"), (2, "not UTF-8")] {
        let Err(error) = &results[at] else { panic!("record {at} is refused") };
        assert!(matches!(error, PublishError::Unencodable { .. }), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

/// Symptom: events that were in one batch with one that the server refused for its timestamp were given up for good.
/// Cause: the client says the same of all of them, or of the others what was taken for an engine that writes nothing any
/// more. Fix: each of them is sent by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_batch_only_the_record_that_is_refused_is_not_stored() {
    let Some(place) = place("of_one_batch_only_the_record_that_is_refused_is_not_stored").await else {
        return;
    };
    let topic = NewTopic::new(topic_name("orders"), 1).with("message.timestamp.before.max.ms", "3600000");
    place.topic_with(topic).await;
    // The engine's date stands still, years behind the server's: only the server can tell that it is too old.
    let in_3000 =
        |value: &'static str| NewRecord { timestamp_ms: Some(32_503_680_000_000), ..record("key", value) };
    for base in [0, 2] {
        let results =
            place.engine.publish(vec![in_3000("first"), record("key", "old"), in_3000("last")]).await;
        assert!(matches!(&results[1], Err(PublishError::Unencodable { .. })), "{results:?}");
        let offset = |at: usize| results[at].as_ref().map(|position| position.offset);
        assert_eq!((offset(0), offset(2)), (Ok(base), Ok(base + 1)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_does_not_outlive_its_engine() {
    let data = TempDir::new().expect("a directory");
    let test = "a_subscription_does_not_outlive_its_engine";
    let Some(server) = Server::start(data.path(), test) else { return };
    let engine = opened(&server.url()).await.expect("opens");
    engine.create_topics(vec![NewTopic::new(topic_name("orders"), 1)]).await.remove(0).expect("created");
    let mut subscription = crate::place::subscribe(&*engine, "billing", "orders").await;
    drop(engine);
    assert_eq!(subscription.next(Duration::from_secs(300)).await, Err(FetchError::Closed));
}

/// A topic that is asked for twice at once is made once, and looked up twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_wanted_twice_is_made_once() {
    let data = TempDir::new().expect("a directory");
    let test = "a_topic_that_is_wanted_twice_is_made_once";
    let Some(server) = Server::start(data.path(), test) else { return };
    let engine = opened(&server.url()).await.expect("opens");
    let wanted = || NewTopic::new(topic_name("twice"), 2);
    let made = engine.create_topics(vec![wanted(), wanted()]).await;
    assert!(matches!(&made[0], Ok(topic) if topic.partitions == 2), "{made:?}");
    assert!(matches!(&made[1], Err(CreateTopicError::Exists { .. })), "{made:?}");
    let found = engine.topics(vec![topic_name("twice"), topic_name("twice")]).await.expect("looks");
    assert!(found.iter().all(Option::is_some), "{found:?}");
    engine.close().await;
}
