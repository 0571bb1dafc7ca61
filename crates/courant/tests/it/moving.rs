//! A service with a log in files of its own moves to a server, and takes its log along.

use std::path::Path;

use courant::Running;
use courant::engine::{Header, NewRecord};
use courant::prelude::*;

use crate::given::{Counted, Script, all, counted};
use crate::server::Server;

async fn hear(event: Counted, State(script): State<Script>) -> Result<(), HandlerError> {
    let what = format!("{}:{}", event.key, event.n);
    script.call(&event.key, &what).map_err(HandlerError::retry)
}

async fn running(url: &str, directory: &Path, script: &Script) -> Running<Sqlite> {
    let hearing = Subscription::named("hearing").concurrency(1).retry(Retry::never()).on(hear);
    let service = App::new("test")
        .engine(url)
        .partitions(1)
        .unannounced()
        .store(Sqlite::open(&directory.join("service.db")).await.expect("opens"))
        .state(script.clone())
        .subscribe(hearing)
        .build()
        .await;
    service.expect("fits together").start().await.expect("starts")
}

/// `courant serve` on the files of an embedded log has the same log: the same offsets, and the same identity, which the
/// ids of events that bring none are made of. So its service goes on where it is, and what is dead is sent back.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_takes_its_log_along_to_a_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let events = directory.path().join("events");
    let script = Script::default();
    script.fail("b");
    let url = format!("embedded:{}", events.display());
    let mut service = running(&url, directory.path(), &script).await;
    for event in [counted("a", 1), counted("b", 2)] {
        service.publisher().publish(&event).await.expect("is taken");
    }
    // The last one that is handled before the move has no id.
    let without_id = NewRecord {
        headers: vec![Header::new("ce_type", "test.counted")],
        ..NewRecord::new("test.counted", "c", r#"{"key":"c","n":3}"#)
    };
    service.engine().publish(vec![without_id]).await.remove(0).expect("is taken");
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:1", "b:2", "c:3"]);
    service.stop().await.expect("stops");

    let Some(server) = Server::start(&events) else { return };
    script.repair("b");
    let mut service = running(&server.url(), directory.path(), &script).await;
    service.publisher().publish(&counted("a", 4)).await.expect("is taken");
    service.settle().await.expect("settles");
    service.dead_letters().redrive("moved", "a test", &all()).await.expect("asks");
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:1", "b:2", "c:3", "a:4", "b:2"], "nothing is handled anew");
    service.stop().await.expect("stops");
}
