//! TLS: a service on a server that speaks nothing else, a server that is not believed, and logins into Apache Kafka.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use courant::EngineChoice;
use courant::prelude::*;
use courant_engine::{Access, EngineConfig, NewRecord, NewTopic, OpenError, ReadBack, ensure_topics};
use courant_engine_kafka::limits::OPEN_MAX;
use tempfile::TempDir;

use crate::kafka;
use crate::place::topic_name;
use crate::server::{Server, opened, opened_with};

#[derive(Event, Serialize, Deserialize)]
#[event(type = "test.sealed", topic = "test.sealed", key = key)]
struct Sealed {
    key: String,
    n: u32,
}

async fn keep(event: Sealed, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    sqlx::query("insert into kept (n) values (?)").bind(event.n).execute(&mut *tx).await?;
    Ok(())
}

/// One of the certificates of the tests.
fn stored(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../courant-kafka/tests/certificates").join(name)
}

/// A server that speaks TLS. Its key lies in `dir`, because it takes none that others may read.
fn start(dir: &TempDir, test: &str) -> Option<Server> {
    let (data, key) = (dir.path().join("data"), dir.path().join("key.pem"));
    fs::create_dir(&data).expect("made");
    fs::copy(stored("server-key.pem"), &key).expect("copied");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("it is ours");
    let text = |path: PathBuf| path.to_str().expect("a path of text").to_owned();
    let (flag, other) = ("--tls-cert".to_owned(), "--tls-key".to_owned());
    Server::start_with(&data, test, vec![flag, text(stored("server.pem")), other, text(key)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_publishes_and_handles_over_tls() {
    let dir = TempDir::new().expect("a directory");
    let Some(server) = start(&dir, "a_service_publishes_and_handles_over_tls") else { return };
    let url = format!("{}?tls_ca={}", server.url(), stored("authority.pem").display());
    let engine = opened_with(&url, EngineConfig::system()).await.expect("opens");
    let service = App::new("test")
        .engine(EngineChoice::from(engine.clone()))
        .partitions(2)
        .store(Sqlite::open(&dir.path().join("service.db")).await.expect("opens"))
        .subscribe(Subscription::named("keeping").on(keep))
        .build()
        .await
        .expect("fits together");
    let mut tx = service.transaction().await.expect("begins");
    sqlx::query("create table kept (n integer not null)").execute(&mut *tx).await.expect("creates");
    tx.commit().await.expect("commits");
    for n in 0..20 {
        service.publisher().publish(&Sealed { key: format!("key-{}", n % 3), n }).await.expect("publishes");
    }
    service.run_until_settled().await.expect("settles");
    let store = Sqlite::open(&dir.path().join("service.db")).await.expect("opens again");
    let mut reader = store.read().await.expect("reads");
    let kept: Vec<(u32,)> =
        sqlx::query_as("select n from kept order by n").fetch_all(&mut *reader).await.expect("selects");
    assert!(kept.iter().map(|(n,)| *n).eq(0..20), "{kept:?}");
    engine.close().await;
}

/// librdkafka tries such a server again and again, and says nothing of it to whoever waits: nobody answered, after 15
/// seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_believed_is_refused_at_once() {
    let dir = TempDir::new().expect("a directory");
    let Some(server) = start(&dir, "a_server_that_is_not_believed_is_refused_at_once") else { return };
    // Vouched for by nobody whom this file names, and by nobody whom the system trusts.
    let stranger = format!("tls_ca={}", stored("server.pem").display());
    for option in [stranger.as_str(), "tls=true"] {
        let begun = Instant::now();
        let error = opened(&format!("{}?{option}", server.url())).await.expect_err("not believed");
        assert!(begun.elapsed() < OPEN_MAX, "{option}: {:?}", begun.elapsed());
        assert!(matches!(error, OpenError::Tls { .. }), "{option}: {error}");
        let said = error.to_string();
        assert!(said.contains(&server.url()) && said.contains("tls_ca=FILE"), "{said}");
    }
    let missing = dir.path().join("none.pem");
    let url = format!("{}?tls_ca={}", server.url(), missing.display());
    let error = opened(&url).await.expect_err("no such file");
    assert!(matches!(error, OpenError::Url { .. }), "{error}");
    assert!(error.to_string().contains("none.pem"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_takes_every_login_that_is_right_and_no_other() {
    let Some(address) = kafka::login_address("kafka_takes_every_login_that_is_right_and_no_other") else {
        return;
    };
    for sasl in ["plain", "scram-sha-256", "scram-sha-512"] {
        let url = |password: &str| {
            let authority = stored("authority.pem");
            format!("kafka://ann:{password}@{address}?sasl={sasl}&tls_ca={}", authority.display())
        };
        let engine = opened(&url("secret")).await.expect(sasl);
        assert_eq!(engine.capabilities().access, Access::Login);
        ensure_topics(&*engine, vec![NewTopic::new(topic_name("logins"), 1)]).await.expect("it is there");
        let record = NewRecord { topic: "logins".into(), ..crate::place::record("key", sasl) };
        let position = engine.publish(vec![record]).await.remove(0).expect("publishes");
        match engine.read(vec![position]).await.remove(0) {
            Ok(ReadBack::Found(read)) => assert_eq!(read.value.as_deref(), Some(sasl.as_bytes())),
            other => panic!("{sasl}: {other:?}"),
        }
        engine.close().await;
        let error = opened(&url("wrong")).await.expect_err("another password");
        assert!(matches!(error, OpenError::Login { .. }), "{sasl}: {error}");
    }
}
