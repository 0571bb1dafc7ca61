//! A handler's transaction: from its name, which it has from BEGIN on, to the one COMMIT that counts.

use std::fmt;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use sqlx::postgres::PgTransactionManager;
use sqlx::{AssertSqlSafe, PgConnection};
// The driver counts transactions inside each other through it, and sqlx itself does not give its name.
use sqlx_core::transaction::TransactionManager as _;

use super::admit::First;
use super::class::{NOT_NAMED, failed, not_begun, not_committed, not_proved, sqlstate};
use super::row::Columns;
use super::session::{Begin, NotCommitted, Session};
use super::told::Once;
use super::{BEGIN as BEGIN_STATEMENT, Postgres, admit, locks, outbox, owner, resolve, timers};
use crate::answers::{bounded, within};
use crate::consumer::{Admission, Delivery};
use crate::error::{AdmitError, AttachError, BeginError, CommitError, PublishError, StoreError};
use crate::limits::ANSWER_MAX;
use crate::outbox::NewEvent;
use crate::parked::Lease;
use crate::places::For;
use crate::publishing::Publishing;
use crate::store::{Begun, Committed, Transaction};
use crate::timer::{NewTimer, TimerName};

const BEGIN: &str = "begin a transaction";
const ATTACH: &str = "take a transaction over";
const COMMIT: &str = "commit a transaction";
const ROLL_BACK: &str = "roll a transaction back";

/// A transaction of [`Postgres`].
pub struct PostgresTransaction {
    held: Held,
    /// Its name in `courant.transaction`, and that of its savepoint where it handles no event.
    number: u64,
    lease: Option<Lease>,
    /// What is published if this is committed.
    publishing: Publishing,
    /// Parked events that are settled if this is committed.
    parked: Vec<ParkedDelivery>,
}

/// A parked event that was admitted.
pub(super) struct ParkedDelivery {
    pub(super) offset: u64,
    pub(super) key: Option<Bytes>,
}

/// Where the connection comes from.
enum Held {
    Own(Session),
    Attached(sqlx::Transaction<'static, sqlx::Postgres>),
}

pub(super) async fn begin(
    store: &Postgres,
    lease: Option<&Lease>,
) -> Result<PostgresTransaction, BeginError> {
    let number = store.next_number();
    let then = behind_begin(lease, number);
    let once: &'static [Once] = if lease.is_some() { &[Once::Hold, Once::Write] } else { &[] };
    let text = Begin { begin: BEGIN_STATEMENT, once, then: Some(&then) };
    let (transaction, _) = begun(store, lease, number, text).await?;
    Ok(transaction)
}

/// [`begin`], and the inbox row of one event of the log in the same text. Everything else is admitted after it.
pub(super) async fn begin_admitted(
    store: &Postgres,
    lease: &Lease,
    deliveries: &[Delivery<'_>],
    now_ms: i64,
) -> Result<(PostgresTransaction, Vec<Admission>), AdmitError> {
    let number = store.next_number();
    if let Some(First { once, text }) = admit::first(lease, number, deliveries, now_ms) {
        let text = Begin { begin: BEGIN_STATEMENT, once, then: Some(&text) };
        let (mut transaction, rows) = begun(store, Some(lease), number, text).await?;
        if rows == 1 {
            return Ok((transaction, vec![Admission::New]));
        }
        let admissions = transaction.admit(deliveries, now_ms).await?;
        return Ok((transaction, admissions));
    }
    let mut transaction = begin(store, Some(lease)).await?;
    let admissions = transaction.admit(deliveries, now_ms).await?;
    Ok((transaction, admissions))
}

/// Commits and begins the next transaction in one text, which is [`begin_admitted`]'s behind COMMIT.
async fn commit_and_begin(
    session: Session,
    proof: &Proof,
    lease: &Lease,
    (number, first): (u64, First),
) -> Result<Option<(PostgresTransaction, u64)>, NotCommitted> {
    let begin = format!("{BEGIN_STATEMENT}; {}", first.text);
    let begun = session.commit_and_begin(&proof.text, proof.statements, &begin).await?;
    Ok(begun.map(|(session, rows)| {
        (PostgresTransaction::new(Held::Own(session), number, Some(lease.clone())), rows)
    }))
}

/// What stands behind BEGIN: the name of the transaction. Plain code has a savepoint besides, a handler has none: it
/// would cost the server a transaction inside this one for each event, with an id of its own.
fn behind_begin(lease: Option<&Lease>, number: u64) -> String {
    match lease {
        Some(lease) => owner::hold_for(lease, number),
        None => format!("SET LOCAL courant.transaction = '{number}'; SAVEPOINT courant_{number}"),
    }
}

async fn begun(
    store: &Postgres,
    lease: Option<&Lease>,
    number: u64,
    text: Begin<'_>,
) -> Result<(PostgresTransaction, u64), BeginError> {
    let wanted = if lease.is_some() { For::Handler } else { For::Anybody };
    let begun = Session::begin_for(wanted, &store.inner.pool, text).await;
    let (session, rows) = begun.map_err(|error| match lease {
        Some(lease) => owner::not_held(lease, BEGIN, error),
        None => not_begun(BEGIN)(error).into(),
    })?;
    Ok((PostgresTransaction::new(Held::Own(session), number, lease.cloned()), rows))
}

pub(super) async fn attach(
    store: &Postgres,
    mut attached: sqlx::Transaction<'static, sqlx::Postgres>,
) -> Result<PostgresTransaction, AttachError> {
    if PgTransactionManager::get_transaction_depth(&attached) != 1 {
        return Err(AttachError::NoTransaction);
    }
    let number = store.next_number();
    let sql = "SELECT current_setting('transaction_isolation'), set_config('courant.transaction', $1, true)";
    let row =
        sqlx::query(sql).bind(number.to_string()).fetch_one(&mut *attached).await.map_err(not_attached)?;
    let isolation = Columns::new(&row, ATTACH).text(0)?;
    // What Postgres calls READ UNCOMMITTED is the same.
    if !matches!(isolation.as_str(), "read committed" | "read uncommitted") {
        let remedy = "begin it with BEGIN ISOLATION LEVEL READ COMMITTED";
        return Err(AttachError::Isolation { found: isolation, remedy });
    }
    // The name is made of a number and nothing else.
    sqlx::query(AssertSqlSafe(format!("SAVEPOINT courant_{number}")))
        .persistent(false)
        .execute(&mut *attached)
        .await
        .map_err(not_attached)?;
    Ok(PostgresTransaction::new(Held::Attached(attached), number, None))
}

/// A savepoint is refused where there is no transaction, and in an aborted one.
fn not_attached(error: sqlx::Error) -> AttachError {
    match sqlstate(&error).as_deref() {
        Some("25P01" | "25P02") => AttachError::NoTransaction,
        _ => AttachError::Store(failed(ATTACH)(error)),
    }
}

impl PostgresTransaction {
    fn new(held: Held, number: u64, lease: Option<Lease>) -> Self {
        Self { held, number, lease, publishing: Publishing::default(), parked: Vec::new() }
    }

    /// Writes everything that commits with the handler's work; but for the one event that most transactions
    /// publish, of which it gives back what writes it: that may stand in the text of the commit.
    async fn flush(&mut self, now_ms: i64) -> Result<(Committed, Option<String>), CommitError> {
        let mut committed = Committed::default();
        let timers = self.publishing.take_timers();
        if !self.parked.is_empty() || !timers.is_empty() {
            // What has become of the transaction is not known yet, and outside of it each of these
            // statements would be committed by itself.
            self.prove().await?;
            committed.drained = self.settle(now_ms).await?;
            timers::flush(&mut self.held, &timers, now_ms).await?;
            committed.next_timer_ms = timers.next_ms();
        }
        let published = self.publishing.take();
        // Plain code is not called once more, and has no inbox to ask: the session may have forgotten what was
        // prepared, and of a connection that is lost before COMMIT it hears that nothing was committed.
        if self.lease.is_some()
            && self.held.is_told(Once::Write)
            && let Some(row) = outbox::row(self.number, &published)
        {
            committed.lanes = published.iter().map(NewEvent::lane).collect();
            return Ok((committed, Some(row)));
        }
        if !published.is_empty() {
            let own = self.number.to_string();
            committed.lanes = outbox::flush_in(&mut self.held, &own, &published).await?;
        }
        Ok((committed, None))
    }

    /// What comes before the proof and COMMIT.
    async fn finish(&mut self, now_ms: i64) -> Result<(Committed, Proof), CommitError> {
        if PgTransactionManager::get_transaction_depth(&self.held) != 1 {
            return Err(CommitError::NestedOpen);
        }
        let (committed, row) = bounded(self.flush(now_ms)).await?;
        let proof = if self.lease.is_some() {
            Proof::of_handler(self.number, row)
        } else {
            Proof::of_plain_code(self.number, &committed)
        };
        Ok((committed, proof))
    }

    /// Takes the parked events that were handled out of the store. The keys that have none any more.
    async fn settle(&mut self, now_ms: i64) -> Result<Vec<Bytes>, StoreError> {
        let parked = std::mem::take(&mut self.parked);
        let Some(lease) = &self.lease else { return Ok(Vec::new()) };
        let assignment = &lease.assignment;
        let keys = parked.iter().filter_map(|delivery| delivery.key.as_deref());
        let numbers = keys.map(|key| locks::key(assignment, key)).collect();
        locks::take(&mut self.held, numbers, COMMIT).await?;
        let mut drained = Vec::new();
        for delivery in parked {
            let key = delivery.key.as_deref();
            let is_drained =
                resolve::settled(&mut self.held, assignment, delivery.offset, key, now_ms).await?;
            if let (true, Some(key)) = (is_drained, delivery.key) {
                drained.push(key);
            }
        }
        Ok(drained)
    }

    async fn proved(&mut self) -> Result<(), CommitError> {
        let row = sqlx::query("SELECT current_setting('courant.transaction', true)")
            .fetch_one(&mut *self.held)
            .await
            .map_err(|error| not_proved(COMMIT, error))?;
        let found = Columns::new(&row, COMMIT).text_or_null(0)?;
        if found == Some(self.number.to_string()) { Ok(()) } else { Err(CommitError::Ended) }
    }
}

/// What stands before COMMIT.
struct Proof {
    text: String,
    statements: usize,
}

impl Proof {
    /// A handler's transaction still has its name, which ends with it: so it is the one that was begun; and in one that
    /// an error has aborted no statement succeeds. The `row` of the event that it publishes is refused in any other
    /// one. Without such a row one statement divides by zero there, and says the word that the trigger of the inbox
    /// waits for. The name is made of a number and nothing else.
    fn of_handler(number: u64, row: Option<String>) -> Self {
        let text = row.unwrap_or_else(|| {
            format!(
                "SELECT set_config('courant.commit', txid_current()::text, true), \
                 1 / (current_setting('courant.transaction', true) IS NOT DISTINCT FROM '{number}')::int"
            )
        });
        Self { text, statements: 1 }
    }

    /// The last statement before COMMIT is the savepoint's release: it succeeds only in the transaction that was
    /// begun, and only when no error has aborted it. With it goes the word that the trigger of the inbox waits for,
    /// unless the outbox has said it.
    fn of_plain_code(number: u64, committed: &Committed) -> Self {
        let release = format!("RELEASE SAVEPOINT courant_{number}");
        if !committed.lanes.is_empty() {
            return Self { text: release, statements: 1 };
        }
        let word = "SELECT set_config('courant.commit', txid_current()::text, true)";
        Self { text: format!("{word}; {release}"), statements: 2 }
    }
}

impl Transaction for PostgresTransaction {
    type Connection = PgConnection;

    const BEGINS_WITH_COMMIT: bool = true;

    fn connection(&mut self) -> &mut PgConnection {
        &mut self.held
    }

    async fn admit(
        &mut self,
        deliveries: &[Delivery<'_>],
        now_ms: i64,
    ) -> Result<Vec<Admission>, AdmitError> {
        let lease = self.lease.as_ref().ok_or(AdmitError::NoLease)?;
        bounded(admit::admit(&mut self.held, &lease.assignment, deliveries, &mut self.parked, now_ms)).await
    }

    fn publish(&mut self, event: NewEvent) -> Result<(), PublishError> {
        self.publishing.add(event)
    }

    fn schedule(&mut self, timer: NewTimer) -> Result<(), PublishError> {
        self.publishing.schedule(timer)
    }

    fn cancel_timer(&mut self, name: TimerName) -> Result<(), PublishError> {
        self.publishing.cancel(name)
    }

    /// The setting ends with the transaction, and an aborted one does not answer. A savepoint would prove
    /// the same, and cost the server a transaction inside this one for each proof.
    async fn prove(&mut self) -> Result<(), CommitError> {
        bounded(self.proved()).await
    }

    async fn commit(mut self, now_ms: i64) -> Result<Committed, CommitError> {
        let (committed, proof) = self.finish(now_ms).await?;
        let is_handler = self.lease.is_some();
        self.held.commit_behind(&proof, is_handler).await.map_err(not_done)?;
        Ok(committed)
    }

    async fn commit_and_begin(
        mut self,
        lease: &Lease,
        deliveries: &[Delivery<'_>],
        now_ms: i64,
    ) -> Result<(Committed, Option<Begun<Self>>), CommitError> {
        let (committed, proof) = self.finish(now_ms).await?;
        let is_handler = self.lease.is_some();
        let first = self.held.next_behind(lease, deliveries, now_ms).filter(|_| is_handler);
        let held = match (self.held, first) {
            (Held::Own(session), Some(first)) => {
                let begun = commit_and_begin(session, &proof, lease, first).await.map_err(not_done)?;
                return Ok((committed, admitted(begun, deliveries, now_ms).await));
            }
            (held, _) => held,
        };
        held.commit_behind(&proof, is_handler).await.map_err(not_done)?;
        Ok((committed, None))
    }

    async fn rollback(self) -> Result<(), StoreError> {
        self.held.rollback().await.map_err(failed(ROLL_BACK))
    }
}

/// What the inbox says of the next event. One that is not plainly new is looked at once more; a transaction in
/// which that cannot be done is dropped.
async fn admitted(
    begun: Option<(PostgresTransaction, u64)>,
    deliveries: &[Delivery<'_>],
    now_ms: i64,
) -> Option<Begun<PostgresTransaction>> {
    let (mut transaction, rows) = begun?;
    if rows == 1 {
        return Some((transaction, vec![Admission::New]));
    }
    let admissions = transaction.admit(deliveries, now_ms).await.ok()?;
    Some((transaction, admissions))
}

fn not_done(error: NotCommitted) -> CommitError {
    match error {
        NotCommitted::Before(error) if sqlstate(&error).as_deref() == Some(NOT_NAMED) => CommitError::Ended,
        NotCommitted::Before(error) => {
            outbox::not_written(&error).unwrap_or_else(|| not_proved(COMMIT, error))
        }
        NotCommitted::AtCommit(error) => not_committed(COMMIT, error),
    }
}

impl Held {
    /// Whether what was prepared for the store may stand in the text of the commit.
    fn is_told(&self, once: Once) -> bool {
        match self {
            Self::Own(session) => session.is_told(once),
            Self::Attached(_) => false,
        }
    }

    /// The number of the next transaction, and what begins it behind the commit of this one, where that may be.
    fn next_behind(&self, lease: &Lease, deliveries: &[Delivery<'_>], now_ms: i64) -> Option<(u64, First)> {
        let Self::Own(session) = self else { return None };
        let number = session.next_number();
        let first = admit::first(lease, number, deliveries, now_ms)?;
        session.may_go_on(first.once).then_some((number, first))
    }

    /// Commits behind what proves that it may. A handler's transaction does that in one text: when the connection
    /// ends meanwhile, nobody knows how far the server has come, and the inbox is asked. Others have no inbox, so
    /// theirs is proved by itself, and a connection that has ended before COMMIT has committed nothing.
    async fn commit_behind(mut self, proof: &Proof, is_handler: bool) -> Result<(), NotCommitted> {
        if !is_handler {
            let text = AssertSqlSafe(proof.text.clone());
            let proved = within(ANSWER_MAX, sqlx::raw_sql(text).execute(&mut *self)).await;
            proved.map_err(NotCommitted::Before)?;
        }
        match self {
            Self::Own(session) if is_handler => session.commit_behind(&proof.text, proof.statements).await,
            Self::Own(session) => session.commit().await.map_err(NotCommitted::AtCommit),
            Self::Attached(attached) => {
                within(ANSWER_MAX, attached.commit()).await.map_err(NotCommitted::AtCommit)
            }
        }
    }

    async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Own(session) => session.rollback().await,
            Self::Attached(attached) => within(ANSWER_MAX, attached.rollback()).await,
        }
    }
}

impl Deref for Held {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Own(session) => session,
            Self::Attached(attached) => attached,
        }
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Own(session) => session,
            Self::Attached(attached) => attached,
        }
    }
}

impl Deref for PostgresTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.held
    }
}

impl DerefMut for PostgresTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.held
    }
}

impl fmt::Debug for PostgresTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresTransaction")
            .field("lease", &self.lease)
            .field("published", &self.publishing.len())
            .finish_non_exhaustive()
    }
}
