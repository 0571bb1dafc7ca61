//! What is particular about an engine on the log of a server: the log is the server's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use courant_engine::{
    Access, CommitError, EngineConfig, FetchError, NewTopic, Next, Partition, Position, PublishError,
    ReadBack, beside_server,
};
use courant_log::storage::MemoryStorage;
use courant_log::{Log, LogConfig, SystemClock, SystemEntropy};
use uuid::Uuid;

use crate::place::{next, publish, read, record, subscribe, topic_name};

fn log() -> Log {
    let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
    config.journal_file_bytes = 1024 * 1024;
    config.first_journal_file_bytes = 1024 * 1024;
    config.reserve_bytes = 0;
    Log::open(Arc::new(MemoryStorage::new(64 * 1024 * 1024)), config).expect("opens").0
}

/// An engine that is closed takes nothing any more, and so does one that is dropped; the log goes on, and
/// another engine on it finds what was there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_outlives_the_engine() {
    let log = log();
    let engine = beside_server(log.clone(), EngineConfig::system());
    assert_eq!(engine.log_id(), log.id());
    assert_eq!(engine.capabilities().access, Access::Anybody, "whoever reaches the server writes");
    engine.create_topics(vec![NewTopic::new(topic_name("orders"), 1)]).await.remove(0).expect("created");
    publish(&*engine, vec![record("key", "first")]).await;
    engine.close().await;
    let refused = engine.publish(vec![record("key", "late")]).await.remove(0);
    assert_eq!(refused, Err(PublishError::Closed));
    drop(engine);

    let again = beside_server(log.clone(), EngineConfig::system());
    publish(&*again, vec![record("key", "second")]).await;
    let partition = Partition::new("orders", 0);
    let ends = again.ends(vec![partition.clone()]).await.remove(0).expect("there");
    assert_eq!((ends.start, ends.end), (0, 2));
    let first = again.read(vec![partition.at(0)]).await.remove(0).expect("readable");
    assert!(matches!(first, ReadBack::Found(found) if found.value.as_deref() == Some(&b"first"[..])));
    log.stop();
    let ended = again.publish(vec![record("key", "third")]).await.remove(0);
    assert_eq!(ended, Err(PublishError::Closed), "the server has ended its log");
}

/// A thread that publishes one record after the other remembers the topic of the last one: not a moment longer than
/// that is as it was, and of no other engine.
#[tokio::test]
async fn what_a_topic_has_become_counts_for_the_next_record() {
    type Answer = Result<Position, PublishError>;
    let (log, other) = (log(), log());
    let engine = beside_server(log.clone(), EngineConfig::system());
    let others = beside_server(other, EngineConfig::system());
    let one = |bytes: usize| vec![record("key", "x".repeat(bytes))];
    let unknown: Answer = Err(PublishError::UnknownTopic { topic: "orders".to_owned() });
    let at = |offset: u64| -> Answer { Ok(Partition::new("orders", 0).at(offset)) };
    assert_eq!(engine.publish(one(10)).await, std::slice::from_ref(&unknown));
    engine.create_topics(vec![NewTopic::new(topic_name("orders"), 1)]).await.remove(0).expect("created");
    assert_eq!(engine.publish(one(500)).await, [at(0)]);
    assert_eq!(others.publish(one(10)).await, std::slice::from_ref(&unknown), "that one has another log");

    let id = log.catalog().by_name("orders").expect("it is there").id;
    let (done, altered) = tokio::sync::oneshot::channel();
    let changes = vec![("max.message.bytes".to_owned(), Some("400".to_owned()))];
    log.alter_topic(id, changes, move |result| drop(done.send(result)));
    altered.await.expect("answered").expect("altered");
    let refused = engine.publish(one(500)).await.remove(0);
    assert!(matches!(refused, Err(PublishError::TooLarge { max: 400, .. })), "{refused:?}");
    assert_eq!(engine.publish(one(10)).await, [at(1)]);

    delete(&log, "orders").await;
    assert_eq!(engine.publish(one(10)).await, [unknown]);
    log.stop();
}

async fn delete(log: &Log, topic: &str) {
    let id = log.catalog().by_name(topic).expect("it is there").id;
    let (done, deleted) = tokio::sync::oneshot::channel();
    log.delete_topic(id, move |result| drop(done.send(result)));
    deleted.await.expect("answered").expect("deleted");
}

/// Symptom: a consumer read nothing more of a topic that was deleted and made anew, wherever it sought it. Cause: what it
/// had was the partition of the old one. Fix: whoever seeks one has what is there under its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_made_anew_is_read_where_it_is_sought() {
    let log = log();
    let engine = beside_server(log.clone(), EngineConfig::system());
    let partition = Partition::new("orders", 0);
    engine.create_topics(vec![NewTopic::new(topic_name("orders"), 1)]).await.remove(0).expect("created");
    publish(&*engine, vec![record("key", "old")]).await;
    let mut subscription = subscribe(&*engine, "billing", "orders").await;
    assert_eq!(read(&mut *subscription, 1).await[0].value.as_deref(), Some(&b"old"[..]));
    delete(&log, "orders").await;
    let gone = subscription.next(Duration::ZERO).await;
    assert_eq!(gone, Err(FetchError::UnknownPartition { partition: partition.clone() }));

    engine.create_topics(vec![NewTopic::new(topic_name("orders"), 1)]).await.remove(0).expect("created");
    publish(&*engine, vec![record("key", "new")]).await;
    subscription.seek(vec![partition.at(0)]).expect("it is assigned");
    assert_eq!(read(&mut *subscription, 1).await[0].value.as_deref(), Some(&b"new"[..]));
    log.stop();
}

/// An offset of a topic that is gone is none of another one under its name: whoever has not heard that it is gone, and
/// seeks, hears it then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_of_a_topic_that_is_gone_is_not_sought_in_another_one() {
    let log = log();
    let engine = beside_server(log.clone(), EngineConfig::system());
    let partition = Partition::new("orders", 0);
    engine.create_topics(vec![NewTopic::new(topic_name("orders"), 1)]).await.remove(0).expect("created");
    publish(&*engine, vec![record("key", "old")]).await;
    let mut subscription = subscribe(&*engine, "billing", "orders").await;
    assert_eq!(read(&mut *subscription, 1).await.len(), 1);
    delete(&log, "orders").await;
    engine.create_topics(vec![NewTopic::new(topic_name("orders"), 1)]).await.remove(0).expect("created");
    publish(&*engine, vec![record("key", "new"), record("key", "newer")]).await;

    subscription.seek(vec![partition.at(1)]).expect("it is assigned");
    let gone = subscription.next(Duration::ZERO).await;
    assert_eq!(gone, Err(FetchError::UnknownPartition { partition: partition.clone() }));
    subscription.seek(vec![partition.at(0)]).expect("it is assigned");
    assert_eq!(read(&mut *subscription, 2).await[0].value.as_deref(), Some(&b"new"[..]));
    log.stop();
}

/// What a group has committed in a topic is not committed in another one of its name, of whichever id that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_in_a_topic_is_not_committed_in_another_one_of_its_name() {
    let log = log();
    let engine = beside_server(log.clone(), EngineConfig::system());
    let partition = Partition::new("orders", 0);
    assert_eq!(engine.topic_id("orders"), None);
    let orders = || vec![NewTopic::new(topic_name("orders"), 1)];
    let old = engine.create_topics(orders()).await.remove(0).expect("created").id;
    assert_eq!(engine.topic_id("orders"), Some(old));
    let commit = async |offset: u64, id: Option<Uuid>| {
        engine.commit_in("billing".to_owned(), vec![(partition.at(offset), id)]).await
    };
    let committed = async || {
        engine.committed("billing".to_owned(), vec![partition.clone()]).await.expect("says").remove(0)
    };
    assert_eq!((commit(7, Some(old)).await, committed().await), (Ok(()), Some(7)));
    delete(&log, "orders").await;
    let unknown = || Err(CommitError::UnknownPartition { partition: partition.clone() });
    assert_eq!(commit(8, Some(old)).await, unknown());

    let new = engine.create_topics(orders()).await.remove(0).expect("created").id;
    assert_eq!((commit(8, Some(old)).await, committed().await), (unknown(), None));
    assert_eq!((commit(1, Some(new)).await, committed().await), (Ok(()), Some(1)));
    assert_eq!((commit(2, None).await, committed().await), (Ok(()), Some(2)));
    log.stop();
}

/// Symptom: nobody read a topic that was deleted and made anew by the server's clients, when its group had noticed
/// between the two. Cause: groups heard only of topics that their own engine had made. Fix: they look whether there are
/// more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_others_make_is_assigned() {
    let log = log();
    let engine = beside_server(log.clone(), EngineConfig::system());
    let partition = Partition::new("orders", 0);
    engine.create_topics(vec![NewTopic::new(topic_name("orders"), 1)]).await.remove(0).expect("created");
    let mut subscription = subscribe(&*engine, "billing", "orders").await;
    delete(&log, "orders").await;
    engine.create_topics(vec![NewTopic::new(topic_name("others"), 1)]).await.remove(0).expect("created");
    assert_eq!(next(&mut *subscription).await, Next::Revoked(vec![partition.clone()]));
    assert_eq!(subscription.next(Duration::ZERO).await, Ok(Next::Nothing));

    let (done, created) = tokio::sync::oneshot::channel();
    let again = courant_log::NewTopic { name: topic_name("orders"), partitions: 1, configs: BTreeMap::new() };
    log.create_topic(again, move |result| drop(done.send(result)));
    created.await.expect("answered").expect("created");
    assert_eq!(next(&mut *subscription).await, Next::Assigned(vec![partition]));
    log.stop();
}
