//! A store in a directory of its own, and events for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use courant_core::consumer::ConsumerName;
use courant_core::event_id::EventId;
use courant_core::position::TopicPartition;
use courant_core::topic::TopicName;
use courant_sql::sqlx::{self, AssertSqlSafe};
use courant_sql::{
    Admission, Assignment, Burial, Committed, Consumer, DeadReason, Delivery, Event, Failure, Lease,
    NewEvent, ParkedEvent, Source, Sqlite, SqliteTransaction, Store as _, Transaction as _,
};
use tempfile::TempDir;

/// SQLite does not queue those who wait for its lock: beside a busy one, another may wait for long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The present of every test that does not care.
pub(crate) const NOW: i64 = 1_700_000_000_000;

/// A database with the framework's tables and one table of the service.
pub(crate) struct Fixture {
    pub(crate) store: Sqlite,
    directory: TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path()).await;
        store.install(NOW).await.expect("the tables");
        let mut tx = store.begin(None).await.expect("a transaction");
        run(&mut tx, "CREATE TABLE effects (event_id TEXT NOT NULL, who TEXT NOT NULL) STRICT").await;
        tx.commit(NOW).await.expect("the service's table");
        Self { store, directory }
    }

    pub(crate) fn path(&self) -> PathBuf {
        file_in(self.directory.path())
    }

    /// A second process on the same file, as far as SQLite can tell.
    pub(crate) async fn another(&self) -> Sqlite {
        open(self.directory.path()).await
    }

    /// The same database after the process was killed and started again.
    pub(crate) async fn reopened(self) -> Self {
        let Self { store, directory } = self;
        drop(store);
        let store = open(directory.path()).await;
        store.check().await.expect("its tables");
        Self { store, directory }
    }

    pub(crate) async fn number(&self, sql: &'static str) -> i64 {
        number(&self.store, sql).await
    }

    /// How often the effect of an event was made.
    pub(crate) async fn effects(&self, id: &str) -> i64 {
        let mut reader = self.store.read().await.expect("a connection");
        sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM effects WHERE event_id = ?1")
            .bind(id)
            .fetch_one(&mut *reader)
            .await
            .expect("a number")
    }

    pub(crate) async fn lease(&self) -> Lease {
        self.store.take_over(&assignment("billing"), "test", NOW).await.expect("a lease")
    }
}

async fn open(directory: &Path) -> Sqlite {
    Sqlite::open_with(&file_in(directory), PATIENCE).await.expect("a database")
}

fn file_in(directory: &Path) -> PathBuf {
    directory.join("service.db")
}

pub(crate) async fn number(store: &Sqlite, sql: &'static str) -> i64 {
    let mut reader = store.read().await.expect("a connection");
    sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut *reader).await.expect("a number")
}

/// Runs a statement that must succeed.
pub(crate) async fn run(tx: &mut SqliteTransaction, sql: &str) {
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut **tx).await.expect(sql);
}

/// What a handler does: one row for each time it has run.
pub(crate) async fn effect(tx: &mut SqliteTransaction, id: &str) {
    sqlx::query("INSERT INTO effects (event_id, who) VALUES (?1, 'handler')")
        .bind(id)
        .execute(&mut **tx)
        .await
        .expect("an effect");
}

pub(crate) fn consumer(name: &str) -> Consumer {
    Consumer { name: ConsumerName::new(name).expect("a name"), generation: 1 }
}

pub(crate) fn assignment(name: &str) -> Assignment {
    let topic = TopicName::new("orders").expect("a name");
    Assignment { consumer: consumer(name), partition: TopicPartition { topic, partition: 3 } }
}

pub(crate) fn event(offset: u64, key: Option<&'static str>) -> Event {
    Event {
        offset,
        id: EventId::new(&format!("e-{offset}")).expect("an id"),
        key: key.map(Bytes::from),
        value: Some(Bytes::from(format!("value of {offset}"))),
        headers: vec![
            ("ce_type".to_owned(), Bytes::from_static(b"orders.placed")),
            ("raw".to_owned(), Bytes::from_static(&[0, 0xff])),
        ],
        timestamp_ms: NOW - 1,
    }
}

pub(crate) fn failure() -> Failure {
    Failure {
        kind: "CardDeclined".to_owned(),
        place: "billing::charge".to_owned(),
        message: "the card was declined: no funds".to_owned(),
    }
}

pub(crate) fn burial<'a>(event: &'a Event, failure: &'a Failure, keep_key_parked: bool) -> Burial<'a> {
    Burial {
        event,
        failure,
        reason: DeadReason::Exhausted,
        keep_key_parked,
        code_version: "1.2.3",
        copies: Vec::new(),
    }
}

pub(crate) fn new_event(id: &str, key: &str) -> NewEvent {
    NewEvent {
        id: EventId::new(id).expect("an id"),
        topic: TopicName::new("invoices").expect("a name"),
        key: Some(Bytes::from(key.to_owned())),
        value: Some(Bytes::from(format!("value of {id}"))),
        headers: vec![("ce_id".to_owned(), Bytes::from(id.to_owned()))],
        timestamp_ms: NOW,
    }
}

/// The delivery of an event.
pub(crate) fn of(event: &Event, source: Source) -> Delivery<'_> {
    Delivery { id: &event.id, offset: event.offset, key: event.key.as_deref(), source }
}

/// Begins a transaction and admits one event.
pub(crate) async fn admit(
    store: &Sqlite,
    lease: &Lease,
    event: &Event,
    source: Source,
) -> (SqliteTransaction, Admission) {
    let mut tx = store.begin(Some(lease)).await.expect("a transaction");
    let admissions = tx.admit(&[of(event, source)], NOW).await.expect("an answer");
    let [admission] = admissions[..] else { panic!("{admissions:?}") };
    (tx, admission)
}

/// Handles an event that must be new.
pub(crate) async fn handle(store: &Sqlite, lease: &Lease, event: &Event, source: Source) -> Committed {
    let (mut tx, admission) = admit(store, lease, event, source).await;
    assert_eq!(admission, Admission::New, "{}", event.id);
    effect(&mut tx, event.id.as_str()).await;
    tx.commit(NOW).await.expect("a commit")
}

/// What admitting an event answers; nothing is kept.
pub(crate) async fn admission(store: &Sqlite, lease: &Lease, event: &Event, source: Source) -> Admission {
    let (tx, admission) = admit(store, lease, event, source).await;
    tx.rollback().await.expect("a rollback");
    admission
}

pub(crate) fn offsets(parked: &[ParkedEvent]) -> Vec<u64> {
    parked.iter().map(|parked| parked.event.offset).collect()
}
