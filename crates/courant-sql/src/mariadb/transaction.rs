//! A handler's transaction: from the savepoint after BEGIN to the one COMMIT that counts.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use sqlx::mysql::MySqlTransactionManager;
use sqlx::{AssertSqlSafe, MySqlConnection};
// The driver counts transactions inside each other through it, and sqlx itself does not give its name.
use sqlx_core::transaction::TransactionManager as _;

use super::admit::Admitted;
use super::class::{failed, not_by_handler, not_committed, not_proved};
use super::row::Columns;
use super::session::{NotCommitted, Session};
use super::{Mariadb, TO_WRITE, admit, locks, outbox, owner, resolve, timers};
use crate::answers::{bounded, within};
use crate::consumer::{Admission, Delivery};
use crate::error::{AdmitError, AttachError, BeginError, CommitError, PublishError, StoreError};
use crate::limits::{ANSWER_MAX, EVENT_BYTES_MAX};
use crate::outbox::NewEvent;
use crate::parked::Lease;
use crate::places::For;
use crate::publishing::{Publishing, Timers};
use crate::store::{Begun, Committed, Transaction};
use crate::timer::{NewTimer, TimerName};

const BEGIN: &str = "begin a transaction";
const ATTACH: &str = "take a transaction over";
const COMMIT: &str = "commit a transaction";
const ROLL_BACK: &str = "roll a transaction back";

/// What to do about a level that is too strong.
const REMEDY: &str =
    "let the session say SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED before it begins";

/// A transaction of [`Mariadb`].
pub struct MariadbTransaction {
    held: Held,
    savepoint: u64,
    lease: Option<Lease>,
    /// What is published if this is committed.
    publishing: Publishing,
    event_bytes_max: usize,
    admitted: Admitted,
}

/// A parked event that was admitted.
#[derive(Debug)]
pub(super) struct ParkedDelivery {
    pub(super) offset: u64,
    pub(super) key: Option<Bytes>,
}

/// Where the connection comes from.
enum Held {
    Own(Session),
    Attached(sqlx::Transaction<'static, sqlx::MySql>),
}

pub(super) async fn begin(store: &Mariadb, lease: Option<&Lease>) -> Result<MariadbTransaction, BeginError> {
    let (transaction, _) = begun(store, lease, None).await?;
    Ok(transaction)
}

/// [`begin`], and the inbox row of one event of the log in the same text. Everything else is admitted after it.
pub(super) async fn begin_admitted(
    store: &Mariadb,
    lease: &Lease,
    deliveries: &[Delivery<'_>],
    now_ms: i64,
) -> Result<(MariadbTransaction, Vec<Admission>), AdmitError> {
    let row = admit::row(lease, deliveries, now_ms);
    let (transaction, is_written) = begun(store, Some(lease), row.as_deref()).await?;
    admitted(transaction, is_written, deliveries, now_ms).await
}

/// Begins with a row of the inbox, if there is one, and whether that was written.
async fn begun(
    store: &Mariadb,
    lease: Option<&Lease>,
    row: Option<&str>,
) -> Result<(MariadbTransaction, bool), BeginError> {
    let savepoint = store.next_savepoint();
    let text = beginning(lease, savepoint, row);
    let wanted = if lease.is_some() { For::Handler } else { For::Anybody };
    let begun = Session::begin_for(wanted, &store.inner.pool, &text).await;
    let (mut session, said) = begun.map_err(failed(BEGIN))?;
    if let Some(lease) = lease {
        session = owner::held(session, &said, lease, BEGIN).await?;
    }
    let event_bytes_max = store.inner.event_bytes_max;
    let transaction = MariadbTransaction::new(event_bytes_max, Held::Own(session), savepoint, lease.cloned());
    Ok((transaction, row.is_some() && said.written() == 1))
}

/// The text of a beginning. The row comes last: what the server says of the last statement is about it.
fn beginning(lease: Option<&Lease>, savepoint: u64, row: Option<&str>) -> String {
    let begin = super::begin(lease.and_then(|lease| lease.idle_max), TO_WRITE);
    let hold = lease.map(owner::hold_for_handler);
    let savepoint = format!("SAVEPOINT courant_{savepoint}");
    let parts = [Some(begin.as_str()), hold.as_deref(), Some(savepoint.as_str()), row];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// What the inbox says of the deliveries, of which the only one may have its row already.
async fn admitted(
    mut transaction: MariadbTransaction,
    is_written: bool,
    deliveries: &[Delivery<'_>],
    now_ms: i64,
) -> Result<(MariadbTransaction, Vec<Admission>), AdmitError> {
    if let ([delivery], true) = (deliveries, is_written) {
        transaction.admitted.begin_with(delivery);
        return Ok((transaction, vec![Admission::New]));
    }
    let admissions = transaction.admit(deliveries, now_ms).await?;
    Ok((transaction, admissions))
}

pub(super) async fn attach(
    store: &Mariadb,
    mut attached: sqlx::Transaction<'static, sqlx::MySql>,
) -> Result<MariadbTransaction, AttachError> {
    if MySqlTransactionManager::get_transaction_depth(&attached) != 1 {
        return Err(AttachError::NoTransaction);
    }
    let row = sqlx::query("SELECT CAST(@@in_transaction AS SIGNED), @@tx_isolation")
        .fetch_one(&mut *attached)
        .await
        .map_err(failed(ATTACH))?;
    let columns = Columns::new(&row, ATTACH);
    if columns.int(0)? == 0 {
        return Err(AttachError::NoTransaction);
    }
    let isolation = columns.text(1)?;
    if !matches!(isolation.as_str(), "READ-COMMITTED" | "READ-UNCOMMITTED") {
        return Err(AttachError::Isolation { found: isolation, remedy: REMEDY });
    }
    let savepoint = store.next_savepoint();
    // The name is made of a number and nothing else.
    sqlx::raw_sql(AssertSqlSafe(format!("SAVEPOINT courant_{savepoint}")))
        .execute(&mut *attached)
        .await
        .map_err(failed(ATTACH))?;
    let event_bytes_max = store.inner.event_bytes_max;
    Ok(MariadbTransaction::new(event_bytes_max, Held::Attached(attached), savepoint, None))
}

impl MariadbTransaction {
    fn new(event_bytes_max: usize, held: Held, savepoint: u64, lease: Option<Lease>) -> Self {
        let (publishing, admitted) = (Publishing::default(), Admitted::default());
        Self { held, savepoint, lease, publishing, event_bytes_max, admitted }
    }

    /// The server would end the connection.
    fn fits(&self, event: &NewEvent) -> Result<(), PublishError> {
        let (bytes, max) = (event.bytes(), self.event_bytes_max);
        if bytes > max && bytes <= EVENT_BYTES_MAX {
            return Err(PublishError::TooLargeForServer { id: event.id.clone(), bytes, max });
        }
        Ok(())
    }

    /// Writes everything that commits with the handler's work: first what waits for locks of keys and
    /// names, last what waits for lanes, which others want too.
    async fn flush(
        &mut self,
        timers: &Timers,
        published: &[NewEvent],
        now_ms: i64,
    ) -> Result<Committed, CommitError> {
        let mut committed = Committed::default();
        let Admitted { ids, parked, .. } = std::mem::take(&mut self.admitted);
        if ids.is_empty() && parked.is_empty() && timers.is_empty() && published.is_empty() {
            return Ok(committed);
        }
        // What has become of the transaction is not known yet, and outside of it each of these
        // statements would be committed by itself.
        self.prove().await?;
        let slots = self.slots(&parked, timers);
        locks::take(&mut self.held, slots, COMMIT).await?;
        committed.drained = self.settle(parked, now_ms).await?;
        timers::flush(&mut self.held, timers, now_ms).await?;
        committed.next_timer_ms = timers.next_ms();
        if let Some(lease) = &self.lease {
            admit::close(&mut self.held, &lease.assignment.consumer, &ids, now_ms).await?;
        }
        committed.lanes = outbox::flush(&mut self.held, published).await?;
        Ok(committed)
    }

    /// What the keys of parked events and the names of timers are kept apart by.
    fn slots(&self, parked: &[ParkedDelivery], timers: &Timers) -> BTreeSet<u64> {
        let mut slots: BTreeSet<u64> = timers.names.iter().map(locks::timer).collect();
        if let Some(lease) = &self.lease {
            let keys = parked.iter().filter_map(|delivery| delivery.key.as_deref());
            slots.extend(keys.map(|key| locks::key(&lease.assignment, key)));
        }
        slots
    }

    /// Takes the parked events that were handled out of the store. The keys that have none any more.
    async fn settle(&mut self, parked: Vec<ParkedDelivery>, now_ms: i64) -> Result<Vec<Bytes>, StoreError> {
        let Some(lease) = &self.lease else { return Ok(Vec::new()) };
        let mut drained = Vec::new();
        for delivery in parked {
            let key = delivery.key.as_deref();
            let is_drained =
                resolve::settled(&mut self.held, &lease.assignment, delivery.offset, key, now_ms).await?;
            if let (true, Some(key)) = (is_drained, delivery.key) {
                drained.push(key);
            }
        }
        Ok(drained)
    }

    async fn proved(&mut self) -> Result<(), CommitError> {
        let name = format!("courant_{}", self.savepoint);
        // The name is made of a number and nothing else.
        sqlx::raw_sql(AssertSqlSafe(format!("RELEASE SAVEPOINT {name}; SAVEPOINT {name}")))
            .execute(&mut *self.held)
            .await
            .map_err(|error| not_proved(COMMIT, error))?;
        Ok(())
    }

    /// What comes before COMMIT. An event of the log that publishes one event at most has all of it in one text.
    async fn finish(&mut self, now_ms: i64) -> Result<(Committed, Before), CommitError> {
        if MySqlTransactionManager::get_transaction_depth(&self.held) != 1 {
            return Err(CommitError::NestedOpen);
        }
        let timers = self.publishing.take_timers();
        let events = self.publishing.take();
        if timers.is_empty()
            && let Some(finished) = self.in_one_text(&events, now_ms)
        {
            return Ok(finished);
        }
        let is_handler = self.lease.is_some();
        let flushed = bounded(self.flush(&timers, &events, now_ms)).await;
        let committed = flushed.map_err(|error| told(error, is_handler))?;
        Ok((committed, Before::plainly(self.savepoint)))
    }

    /// `None` where something is to be looked at on the way, or does not fit.
    fn in_one_text(&self, events: &[NewEvent], now_ms: i64) -> Option<(Committed, Before)> {
        let (Held::Own(_), Some(lease)) = (&self.held, &self.lease) else { return None };
        let handled = admit::handled(&lease.assignment.consumer, self.admitted.only()?, now_ms);
        let outbox = if events.is_empty() { None } else { Some(outbox::row(events)?) };
        let lanes = events.iter().map(NewEvent::lane).collect();
        let committed = Committed { lanes, ..Committed::default() };
        Some((committed, Before::with(self.savepoint, &handled, outbox.as_deref())))
    }
}

/// What stands before COMMIT.
struct Before {
    text: String,
    statements: usize,
}

impl Before {
    /// The last statement before COMMIT: it succeeds only in the transaction that was begun. The name is made of a
    /// number and nothing else.
    fn plainly(savepoint: u64) -> Self {
        Self { text: format!("RELEASE SAVEPOINT courant_{savepoint}"), statements: 1 }
    }

    /// The same, with what is written in between. What has become of the transaction is not known yet, and outside of
    /// it each statement would be committed by itself: so it is proved first.
    fn with(savepoint: u64, handled: &str, outbox: Option<&str>) -> Self {
        let name = format!("courant_{savepoint}");
        let proof = format!("RELEASE SAVEPOINT {name}; SAVEPOINT {name}");
        let release = format!("RELEASE SAVEPOINT {name}");
        let parts = [Some(proof.as_str()), Some(handled), outbox, Some(release.as_str())];
        let text = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
        Self { text, statements: if outbox.is_some() { 6 } else { 4 } }
    }
}

impl Transaction for MariadbTransaction {
    type Connection = MySqlConnection;

    /// Nothing in MariaDB refuses a COMMIT, and a statement that changes tables is one.
    const NOT_SHARED: Option<&'static str> = Some(
        "on MariaDB a handler that ends the transaction, as every statement that changes tables does, keeps \
         what the handlers before it have done, and these are called again",
    );

    const BEGINS_WITH_COMMIT: bool = true;

    fn connection(&mut self) -> &mut MySqlConnection {
        &mut self.held
    }

    async fn admit(
        &mut self,
        deliveries: &[Delivery<'_>],
        now_ms: i64,
    ) -> Result<Vec<Admission>, AdmitError> {
        let lease = self.lease.as_ref().ok_or(AdmitError::NoLease)?;
        bounded(admit::admit(&mut self.held, &lease.assignment, deliveries, &mut self.admitted, now_ms)).await
    }

    fn publish(&mut self, event: NewEvent) -> Result<(), PublishError> {
        self.fits(&event)?;
        self.publishing.add(event)
    }

    fn schedule(&mut self, timer: NewTimer) -> Result<(), PublishError> {
        self.fits(&timer.event)?;
        self.publishing.schedule(timer)
    }

    fn cancel_timer(&mut self, name: TimerName) -> Result<(), PublishError> {
        self.publishing.cancel(name)
    }

    /// A savepoint goes with its transaction, whatever has ended that one. It is set anew for the next
    /// proof.
    async fn prove(&mut self) -> Result<(), CommitError> {
        bounded(self.proved()).await
    }

    async fn commit(mut self, now_ms: i64) -> Result<Committed, CommitError> {
        let (committed, before) = self.finish(now_ms).await?;
        let is_handler = self.lease.is_some();
        self.held.commit_behind(&before, is_handler).await.map_err(|error| not_done(error, is_handler))?;
        Ok(committed)
    }

    async fn commit_and_begin(
        mut self,
        lease: &Lease,
        deliveries: &[Delivery<'_>],
        now_ms: i64,
    ) -> Result<(Committed, Option<Begun<Self>>), CommitError> {
        let (committed, before) = self.finish(now_ms).await?;
        let is_handler = self.lease.is_some();
        let event_bytes_max = self.event_bytes_max;
        let held = match (self.held, admit::row(lease, deliveries, now_ms)) {
            (Held::Own(session), Some(row)) if is_handler && session.may_go_on() => {
                let savepoint = session.next_savepoint();
                let begin = beginning(Some(lease), savepoint, Some(row.as_str()));
                let begun = session.commit_and_begin(&before.text, before.statements, &begin).await;
                let begun = begun.map_err(|error| not_done(error, is_handler))?;
                let Some((session, said)) = begun else { return Ok((committed, None)) };
                let is_written = said.written() == 1;
                // Why it has not begun, whoever begins it by itself hears.
                let Ok(session) = owner::held(session, &said, lease, BEGIN).await else {
                    return Ok((committed, None));
                };
                let held = Held::Own(session);
                let next = Self::new(event_bytes_max, held, savepoint, Some(lease.clone()));
                return Ok((committed, admitted(next, is_written, deliveries, now_ms).await.ok()));
            }
            (held, _) => held,
        };
        held.commit_behind(&before, is_handler).await.map_err(|error| not_done(error, is_handler))?;
        Ok((committed, None))
    }

    async fn rollback(self) -> Result<(), StoreError> {
        self.held.rollback().await.map_err(failed(ROLL_BACK))
    }
}

fn not_done(error: NotCommitted, is_handler: bool) -> CommitError {
    let error = match error {
        NotCommitted::Before(error) => not_proved(COMMIT, error),
        NotCommitted::AtCommit(error) => not_committed(COMMIT, error),
    };
    told(error, is_handler)
}

/// Nobody is blamed but handlers: others hear that the server is a standby.
fn told(error: CommitError, is_handler: bool) -> CommitError {
    if is_handler { not_by_handler(error) } else { error }
}

impl Held {
    /// Commits behind what has to succeed before. A handler's transaction does that in one text: when the connection
    /// ends meanwhile, nobody knows how far the server has come, and the inbox is asked. Others have no inbox, so
    /// theirs is proved by itself, and a connection that has ended before COMMIT has committed nothing.
    async fn commit_behind(mut self, before: &Before, is_handler: bool) -> Result<(), NotCommitted> {
        if !is_handler {
            let text = AssertSqlSafe(before.text.clone());
            let proved = within(ANSWER_MAX, sqlx::raw_sql(text).execute(&mut *self)).await;
            proved.map_err(NotCommitted::Before)?;
        }
        match self {
            Self::Own(session) if is_handler => session.commit_behind(&before.text, before.statements).await,
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
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        match self {
            Self::Own(session) => session,
            Self::Attached(attached) => attached,
        }
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        match self {
            Self::Own(session) => session,
            Self::Attached(attached) => attached,
        }
    }
}

impl Deref for MariadbTransaction {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.held
    }
}

impl DerefMut for MariadbTransaction {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.held
    }
}

impl fmt::Debug for MariadbTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MariadbTransaction")
            .field("lease", &self.lease)
            .field("published", &self.publishing.len())
            .finish_non_exhaustive()
    }
}
