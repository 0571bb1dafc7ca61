//! A handler's transaction: from the savepoint after BEGIN to the one COMMIT that counts.

use std::fmt;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::class::{GENERIC, failed, is_undone, may_have_ended, primary_code};
use super::session::Session;
use super::{Sqlite, admit, outbox, resolve, timers};
use crate::consumer::{Admission, Delivery};
use crate::error::{AdmitError, BeginError, CommitError, PublishError, StoreError};
use crate::outbox::NewEvent;
use crate::parked::Lease;
use crate::places::For;
use crate::publishing::Publishing;
use crate::store::{Committed, Transaction};
use crate::timer::{NewTimer, TimerName};

const BEGIN: &str = "begin a transaction";
const COMMIT: &str = "commit a transaction";
const ROLL_BACK: &str = "roll a transaction back";

/// A transaction of [`Sqlite`].
pub struct SqliteTransaction {
    session: Session,
    savepoint: u64,
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

pub(super) async fn begin(store: &Sqlite, lease: Option<&Lease>) -> Result<SqliteTransaction, BeginError> {
    let savepoint = store.next_savepoint();
    let session = match lease {
        Some(lease) => store.owner_for(For::Handler, Some(savepoint), lease, BEGIN).await?,
        None => store.writer_for(For::Anybody, Some(savepoint), BEGIN).await?,
    };
    Ok(SqliteTransaction {
        session,
        savepoint,
        lease: lease.cloned(),
        publishing: Publishing::default(),
        parked: Vec::new(),
    })
}

impl SqliteTransaction {
    /// Writes everything that commits with the handler's work.
    async fn flush(&mut self, now_ms: i64) -> Result<Committed, StoreError> {
        let mut committed = Committed::default();
        if let Some(lease) = &self.lease {
            for delivery in std::mem::take(&mut self.parked) {
                let key = delivery.key.as_deref();
                let drained =
                    resolve::settled(&mut self.session, &lease.assignment, delivery.offset, key, now_ms)
                        .await?;
                if let (true, Some(key)) = (drained, delivery.key) {
                    committed.drained.push(key);
                }
            }
        }
        let timers = self.publishing.take_timers();
        committed.next_timer_ms = timers.next_ms();
        timers::flush(&mut self.session, &timers, now_ms).await?;
        committed.lanes = outbox::flush(&mut self.session, &self.publishing.take()).await?;
        Ok(committed)
    }

    /// Proves that the transaction is the one that was begun: only in that one the savepoint exists.
    async fn release(&mut self) -> Result<(), CommitError> {
        let released = sqlx::query(AssertSqlSafe(format!("RELEASE courant_{}", self.savepoint)))
            .persistent(false)
            .execute(&mut *self.session)
            .await;
        match released {
            Ok(_) => Ok(()),
            Err(error) if primary_code(&error) == Some(GENERIC) => Err(CommitError::Ended),
            Err(error) => Err(CommitError::Store(failed(COMMIT)(error))),
        }
    }
}

impl Transaction for SqliteTransaction {
    type Connection = SqliteConnection;

    fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.session
    }

    async fn admit(
        &mut self,
        deliveries: &[Delivery<'_>],
        now_ms: i64,
    ) -> Result<Vec<Admission>, AdmitError> {
        let lease = self.lease.as_ref().ok_or(AdmitError::NoLease)?;
        admit::admit(&mut self.session, &lease.assignment, deliveries, &mut self.parked, now_ms).await
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

    /// The connection refuses every commit that [`Transaction::commit`] has not asked for, that of a
    /// single statement among them. So nothing lasts that comes behind the end of the transaction, and
    /// its savepoint, which is looked for in the end, is gone with it.
    async fn prove(&mut self) -> Result<(), CommitError> {
        Ok(())
    }

    async fn commit(mut self, now_ms: i64) -> Result<Committed, CommitError> {
        let flushed = match self.flush(now_ms).await {
            // That is no doing of the handler's.
            Err(error) if may_have_ended(&error) => return Err(CommitError::Store(error)),
            flushed => flushed,
        };
        // Also after a failed flush: if the transaction had ended, that is what has to be said.
        self.release().await?;
        let committed = flushed?;
        if self.session.depth() != 1 {
            return Err(CommitError::NestedOpen);
        }
        match self.session.commit().await {
            Ok(()) => Ok(committed),
            Err(error) => Err(not_committed(error)),
        }
    }

    async fn rollback(self) -> Result<(), StoreError> {
        self.session.rollback().await.map_err(failed(ROLL_BACK))
    }
}

/// What a failed COMMIT means.
fn not_committed(error: sqlx::Error) -> CommitError {
    let is_undone = is_undone(&error);
    let error = failed(COMMIT)(error);
    if is_undone { CommitError::Store(error) } else { CommitError::Unknown(error) }
}

impl Deref for SqliteTransaction {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.session
    }
}

impl DerefMut for SqliteTransaction {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.session
    }
}

impl fmt::Debug for SqliteTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteTransaction")
            .field("lease", &self.lease)
            .field("published", &self.publishing.len())
            .finish_non_exhaustive()
    }
}
