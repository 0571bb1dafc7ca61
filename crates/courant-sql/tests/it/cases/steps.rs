//! What cases do with a store. Compiled once for each of them, beside its `support`.

use courant_sql::sqlx::{self, AssertSqlSafe};
use courant_sql::{Admission, Committed, Event, Lease, Source, Store as _, Transaction as _};

pub(crate) use super::support::{Db, Fixture, Tx};
use super::support::{EFFECT, EFFECTS};
pub(crate) use crate::given::{NOW, assignment, burial, consumer, event, failure, new_event, of, offsets};

impl Fixture {
    pub(crate) async fn number(&self, sql: &'static str) -> i64 {
        number(&self.store, sql).await
    }

    /// How often the effect of an event was made.
    pub(crate) async fn effects(&self, id: &str) -> i64 {
        let mut reader = self.store.read().await.expect("a connection");
        sqlx::query_scalar::<_, i64>(EFFECTS).bind(id).fetch_one(&mut *reader).await.expect("a number")
    }

    pub(crate) async fn lease(&self) -> Lease {
        self.store.take_over(&assignment("billing"), "test", NOW).await.expect("a lease")
    }
}

pub(crate) async fn number(store: &Db, sql: &'static str) -> i64 {
    let mut reader = store.read().await.expect("a connection");
    sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut *reader).await.expect("a number")
}

/// Runs a statement that must succeed.
pub(crate) async fn run(tx: &mut Tx, sql: &str) {
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut **tx).await.expect(sql);
}

/// What a handler does: one row for each time it has run.
pub(crate) async fn effect(tx: &mut Tx, id: &str) {
    sqlx::query(EFFECT).bind(id).execute(&mut **tx).await.expect("an effect");
}

/// Begins a transaction and admits one event.
pub(crate) async fn admit(store: &Db, lease: &Lease, event: &Event, source: Source) -> (Tx, Admission) {
    let begun = store.begin_admitted(lease, &[of(event, source)], NOW).await;
    let (tx, admissions) = begun.expect("a transaction and an answer");
    let [admission] = admissions[..] else { panic!("{admissions:?}") };
    (tx, admission)
}

/// Handles an event that must be new.
pub(crate) async fn handle(store: &Db, lease: &Lease, event: &Event, source: Source) -> Committed {
    let (mut tx, admission) = admit(store, lease, event, source).await;
    assert_eq!(admission, Admission::New, "{}", event.id);
    effect(&mut tx, event.id.as_str()).await;
    tx.commit(NOW).await.expect("a commit")
}

/// What admitting an event answers; nothing is kept.
pub(crate) async fn admission(store: &Db, lease: &Lease, event: &Event, source: Source) -> Admission {
    let (tx, admission) = admit(store, lease, event, source).await;
    tx.rollback().await.expect("a rollback");
    admission
}
