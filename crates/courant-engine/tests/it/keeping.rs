//! What outlives an engine, and who may open a directory.

use std::time::Duration;

use courant_engine::{
    Capabilities, Durability, EngineConfig, EngineUrl, FetchError, Lifetime, NewTopic, Next, OpenError,
    Partition, ReadBack, open,
};
use tempfile::TempDir;

use crate::engines::{self, embedded_in, opened};
use crate::foreign::log_in;
use crate::place::{next, publish, read, record, subscribe, topic_name};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_keeps_records_offsets_topics_and_groups() {
    let dir = TempDir::new().expect("a directory");
    let partition = Partition::new("orders", 0);
    let mut before = None;
    for round in 0..3u64 {
        let engine = opened(&embedded_in(&dir)).await.expect("opens");
        let created = engine.create_topics(vec![NewTopic::new(topic_name("orders"), 1)]).await.remove(0);
        assert_eq!(created.is_ok(), round == 0, "it is there from the first round on");
        let topic = engine.topics(vec![topic_name("orders")]).await.expect("told").remove(0);
        let identity = (engine.log_id(), topic.expect("there").id);
        assert_eq!(*before.get_or_insert(identity), identity);
        let committed = engine.committed("billing".to_owned(), vec![partition.clone()]).await;
        assert_eq!(committed, Ok(vec![(round > 0).then_some(round * 10)]));
        let records = (0..10).map(|n| record("key", (round * 10 + n).to_string())).collect();
        let positions = publish(&*engine, records).await;
        assert_eq!(positions[0].offset, round * 10);
        let mut subscription = subscribe(&*engine, "audit", "orders").await;
        let found = read(&mut *subscription, (round as usize + 1) * 10).await;
        for (n, record) in found.iter().enumerate() {
            assert_eq!(record.value.as_deref(), Some(n.to_string().as_bytes()));
        }
        let progress = vec![partition.at((round + 1) * 10)];
        engine.commit("billing".to_owned(), progress).await.expect("commits");
        engine.close().await;
    }
}

/// `courant serve` opens the directory just so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_opens_under_a_server_with_the_same_offsets() {
    let dir = TempDir::new().expect("a directory");
    let engine = opened(&embedded_in(&dir)).await.expect("opens");
    let topic = NewTopic::new(topic_name("orders"), 1).with("retention.ms", "86400000");
    engine.create_topics(vec![topic]).await.remove(0).expect("created");
    let position = publish(&*engine, vec![record("key", "first"), record("key", "second")]).await.remove(1);
    engine.commit("billing".to_owned(), vec![position.partition.at(2)]).await.expect("commits");
    let id = engine.log_id();
    engine.close().await;
    let log = log_in(dir.path());
    assert_eq!(log.id(), id);
    let topic = log.catalog().by_name("orders").expect("there").clone();
    assert_eq!(topic.configs.get("retention.ms").map(String::as_str), Some("86400000"));
    assert_eq!(topic.configs.len(), 1, "nothing was added to what was asked for");
    let offsets = log.offsets(topic.partitions[0]).expect("there");
    assert_eq!((offsets.start, offsets.high_watermark), (0, 2));
    let committed = log.committed_offset("billing", topic.partitions[0]).expect("there");
    assert_eq!(committed.offset, 2);
    log.stop();
    let engine = opened(&embedded_in(&dir)).await.expect("opens again");
    let back = engine.read(vec![position.clone()]).await.remove(0);
    let Ok(ReadBack::Found(found)) = back else { panic!("found, not {back:?}") };
    assert_eq!(found.value.as_deref(), Some(&b"second"[..]));
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_in_use_is_refused_until_it_is_closed() {
    let dir = TempDir::new().expect("a directory");
    let engine = opened(&embedded_in(&dir)).await.expect("opens");
    let error = opened(&embedded_in(&dir)).await.expect_err("in use");
    assert!(matches!(&error, OpenError::InUse { dir: named } if named == dir.path()), "{error}");
    let said = error.to_string();
    assert!(said.contains(&dir.path().display().to_string()) && said.contains("in use"), "{said}");
    engine.close().await;
    // The closed engine is still there; its directory is free.
    let second = opened(&embedded_in(&dir)).await.expect("opens");
    second.close().await;
    // A server has it.
    let log = log_in(dir.path());
    let error = opened(&embedded_in(&dir)).await.expect_err("in use");
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    log.stop();
    drop(engine);
}

/// A test that lets its engine go as a crash would must be able to open the next one: whatever was
/// acknowledged is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_dropped_frees_its_directory_though_subscriptions_are_left() {
    let dir = TempDir::new().expect("a directory");
    for round in 0..3u64 {
        let engine = opened(&embedded_in(&dir)).await.expect("free");
        // From the second round on it is there.
        let _ = engine.create_topics(vec![NewTopic::new(topic_name("orders"), 1)]).await;
        let position = publish(&*engine, vec![record("key", "value")]).await.remove(0);
        assert_eq!(position.offset, round);
        let subscription = subscribe(&*engine, "billing", "orders").await;
        drop(engine);
        drop(opened(&embedded_in(&dir)).await.expect("free, while the subscription is left"));
        drop(subscription);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_does_not_outlive_its_engine() {
    for place in [engines::memory().await, engines::embedded().await] {
        place.topic("orders", 1).await;
        place.publish(vec![record("key", "value")]).await;
        let mut subscription = place.subscribe("billing", "orders").await;
        assert!(matches!(next(&mut *subscription).await, Next::Records(_)));
        drop(place);
        assert_eq!(subscription.next(Duration::from_secs(300)).await, Err(FetchError::Closed));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_in_memory_share_nothing() {
    let (first, second) = (opened("memory:").await.expect("opens"), opened("memory:").await.expect("opens"));
    assert_ne!(first.log_id(), second.log_id());
    first.create_topics(vec![NewTopic::new(topic_name("orders"), 1)]).await.remove(0).expect("created");
    assert_eq!(second.topics(vec![topic_name("orders")]).await, Ok(vec![None]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_say_what_they_can_do() {
    let dir = TempDir::new().expect("a directory");
    let memory = opened("memory:").await.expect("opens");
    let embedded = opened(&embedded_in(&dir)).await.expect("opens");
    assert_eq!((memory.kind(), embedded.kind()), ("memory", "embedded"));
    let (in_memory, on_disk) = (memory.capabilities(), embedded.capabilities());
    assert_eq!((in_memory.durability, in_memory.lifetime), (Durability::Memory, Lifetime::Engine));
    assert_eq!((on_disk.durability, on_disk.lifetime), (Durability::Disk, Lifetime::Storage));
    // Beside where they keep things, they are the same.
    let Capabilities { durability, lifetime, .. } = on_disk;
    assert_eq!(Capabilities { durability, lifetime, ..in_memory }, on_disk);
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let url: EngineUrl = "kafka://user:secret@host:9092".parse().expect("a URL");
    let error = open(&url, EngineConfig::system()).await.expect_err("not built in");
    assert!(matches!(&error, OpenError::NotBuiltIn { feature: "kafka", .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("kafka://***@host:9092") && said.contains("not built into this binary"), "{said}");
    assert!(said.ends_with("say features = [\"kafka\"] beside courant in Cargo.toml"), "{said}");
    assert!(!said.contains("secret"), "{said}");
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").expect("written");
    let error = opened(&format!("embedded:{}", file.display())).await.expect_err("a file");
    assert!(matches!(error, OpenError::Directory { .. }), "{error}");
    // A directory that has lost what says which log it is.
    std::fs::create_dir(dir.path().join("segments")).expect("made");
    let error = opened(&embedded_in(&dir)).await.expect_err("no log");
    assert!(matches!(error, OpenError::Log { .. }), "{error}");
    // A service has no flags.
    let said = error.to_string();
    assert!(said.contains("there is segments/ but no FORMAT") && !said.contains("--data"), "{said}");
}
