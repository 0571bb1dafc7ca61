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
use super::class::{failed, not_committed, not_proved};
use super::row::Columns;
use super::session::Session;
use super::{Mariadb, TO_WRITE, admit, locks, outbox, owner, resolve, timers};
use crate::answers::bounded;
use crate::consumer::{Admission, Delivery};
use crate::error::{AdmitError, AttachError, BeginError, CommitError, PublishError, StoreError};
use crate::limits::EVENT_BYTES_MAX;
use crate::outbox::NewEvent;
use crate::parked::Lease;
use crate::places::For;
use crate::publishing::{Publishing, Timers};
use crate::store::{Committed, Transaction};
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
    let savepoint = store.next_savepoint();
    let begin = super::begin(lease.and_then(|lease| lease.idle_max), TO_WRITE);
    let statements = format!("{begin}; SAVEPOINT courant_{savepoint}");
    let wanted = if lease.is_some() { For::Handler } else { For::Anybody };
    let session = Session::begin_for(wanted, &store.inner.pool, &statements).await;
    let mut session = session.map_err(failed(BEGIN))?;
    if let Some(lease) = lease
        && let Err(error) = bounded(owner::hold(&mut session, lease, BEGIN)).await
    {
        // The refusal is what matters; the connection is closed if this fails.
        let _ = session.rollback().await;
        return Err(error);
    }
    Ok(MariadbTransaction::new(store, Held::Own(session), savepoint, lease.cloned()))
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
    Ok(MariadbTransaction::new(store, Held::Attached(attached), savepoint, None))
}

impl MariadbTransaction {
    fn new(store: &Mariadb, held: Held, savepoint: u64, lease: Option<Lease>) -> Self {
        let event_bytes_max = store.inner.event_bytes_max;
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
    async fn flush(&mut self, now_ms: i64) -> Result<Committed, CommitError> {
        let mut committed = Committed::default();
        let timers = self.publishing.take_timers();
        let published = self.publishing.take();
        let Admitted { ids, parked } = std::mem::take(&mut self.admitted);
        if ids.is_empty() && parked.is_empty() && timers.is_empty() && published.is_empty() {
            return Ok(committed);
        }
        // What has become of the transaction is not known yet, and outside of it each of these
        // statements would be committed by itself.
        self.prove().await?;
        let slots = self.slots(&parked, &timers);
        locks::take(&mut self.held, slots, COMMIT).await?;
        committed.drained = self.settle(parked, now_ms).await?;
        timers::flush(&mut self.held, &timers, now_ms).await?;
        committed.next_timer_ms = timers.next_ms();
        if let Some(lease) = &self.lease {
            admit::close(&mut self.held, &lease.assignment.consumer, &ids, now_ms).await?;
        }
        committed.lanes = outbox::flush(&mut self.held, &published).await?;
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

    /// The last statement before COMMIT: it succeeds only in the transaction that was begun.
    async fn release(&mut self) -> Result<(), CommitError> {
        // The name is made of a number and nothing else.
        sqlx::raw_sql(AssertSqlSafe(format!("RELEASE SAVEPOINT courant_{}", self.savepoint)))
            .execute(&mut *self.held)
            .await
            .map_err(|error| not_proved(COMMIT, error))?;
        Ok(())
    }
}

impl Transaction for MariadbTransaction {
    type Connection = MySqlConnection;

    /// Nothing in MariaDB refuses a COMMIT, and a statement that changes tables is one.
    const NOT_SHARED: Option<&'static str> = Some(
        "on MariaDB a handler that ends the transaction, as every statement that changes tables does, keeps \
         what the handlers before it have done, and these are called again",
    );

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
        if MySqlTransactionManager::get_transaction_depth(&self.held) != 1 {
            return Err(CommitError::NestedOpen);
        }
        let committed = bounded(self.flush(now_ms)).await?;
        bounded(self.release()).await?;
        match self.held.commit().await {
            Ok(()) => Ok(committed),
            Err(error) => Err(not_committed(COMMIT, error)),
        }
    }

    async fn rollback(self) -> Result<(), StoreError> {
        self.held.rollback().await.map_err(failed(ROLL_BACK))
    }
}

impl Held {
    async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Own(session) => session.commit().await,
            Self::Attached(attached) => attached.commit().await,
        }
    }

    async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Own(session) => session.rollback().await,
            Self::Attached(attached) => attached.rollback().await,
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
