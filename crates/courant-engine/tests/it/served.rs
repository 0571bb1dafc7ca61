//! What is particular about an engine on the log of a server: the log is the server's.

use std::sync::Arc;

use courant_engine::{Access, EngineConfig, NewTopic, Partition, PublishError, ReadBack, beside_server};
use courant_log::storage::MemoryStorage;
use courant_log::{Log, LogConfig, SystemClock, SystemEntropy};

use crate::place::{publish, record, topic_name};

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
