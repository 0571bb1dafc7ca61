//! A transaction of a store, and what it has done.

use std::fmt;
use std::future::Future;

use bytes::Bytes;

use crate::consumer::{Admission, Delivery};
use crate::error::{AdmitError, CommitError, PublishError, StoreError};
use crate::outbox::NewEvent;
use crate::parked::Lease;
use crate::store::Store;
use crate::timer::{NewTimer, TimerName};

/// What [`Transaction::commit`] has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Lanes that have something for the relay, in order.
    pub lanes: Vec<u16>,
    /// Keys that had parked events and have none any more.
    pub drained: Vec<Bytes>,
    /// When the first of the timers that it has scheduled is due.
    pub next_timer_ms: Option<i64>,
}

/// A transaction that was begun for events, and what the inbox says of each.
pub type Begun<T> = (T, Vec<Admission>);

/// A transaction of the store. Only [`Transaction::commit`] makes it last; dropped, it is rolled back
/// and its connection closed.
///
/// It dereferences to the connection, so that `&mut *transaction` runs any query.
pub trait Transaction: fmt::Debug + Send + Sized + 'static {
    /// What queries run on.
    type Connection: Send;

    /// Why several handlers cannot share a transaction of this database; `None`: they can.
    const NOT_SHARED: Option<&'static str> = None;

    /// Whether [`Transaction::commit_and_begin`] begins anything, so that it is worth an event that stands ready.
    /// Where it does not, nobody is to hold that event back for as long as the commit takes.
    const BEGINS_WITH_COMMIT: bool = false;

    /// What queries run on.
    fn connection(&mut self) -> &mut Self::Connection;

    /// Writes the inbox rows of `deliveries` and says which of them may be handled, one answer for
    /// each, in their order. A delivery that comes twice is new once.
    ///
    /// # Errors
    /// Says what the database said. The transaction is then to be rolled back.
    fn admit(
        &mut self,
        deliveries: &[Delivery<'_>],
        now_ms: i64,
    ) -> impl Future<Output = Result<Vec<Admission>, AdmitError>> + Send;

    /// Keeps an event that is published if the transaction is committed. No I/O.
    ///
    /// # Errors
    /// Says which bound it would break.
    fn publish(&mut self, event: NewEvent) -> Result<(), PublishError>;

    /// Keeps a timer that exists if the transaction is committed. It takes the place of the one that has
    /// its name, whoever has scheduled that one. No I/O.
    ///
    /// # Errors
    /// Says which bound it would break.
    fn schedule(&mut self, timer: NewTimer) -> Result<(), PublishError>;

    /// If the transaction is committed, the timer of this name does not come any more: one that this
    /// transaction has scheduled before, or one of the table. One that was due may be in the outbox
    /// already, and none of this name is no error. No I/O.
    ///
    /// # Errors
    /// Says which bound it would break.
    fn cancel_timer(&mut self, name: TimerName) -> Result<(), PublishError>;

    /// Proves that the transaction is still the one that was begun. For several handlers that share one:
    /// what the next one does behind the end of it could be committed statement by statement. A
    /// database that commits nothing unless it is asked by the store has nothing to prove.
    ///
    /// # Errors
    /// [`CommitError::Ended`]. The transaction is then to be rolled back.
    fn prove(&mut self) -> impl Future<Output = Result<(), CommitError>> + Send;

    /// Takes admitted parked events out of the store, writes timers and the outbox, proves
    /// that the transaction is still the one that was begun, and commits.
    ///
    /// # Errors
    /// [`CommitError::Ended`] and [`CommitError::NestedOpen`] say that it was not committed,
    /// [`CommitError::Unknown`] that the inbox has to be asked.
    fn commit(self, now_ms: i64) -> impl Future<Output = Result<Committed, CommitError>> + Send;

    /// [`Transaction::commit`] and [`Store::begin_admitted`] of the next transaction in one, with fewer answers to
    /// wait for. Of the next one there is nothing where the database cannot do it, where others have waited for
    /// the connection, or where the next one could not be begun; why not, whoever begins it by itself hears. It is
    /// called where [`Transaction::BEGINS_WITH_COMMIT`] says so.
    ///
    /// # Errors
    /// Those of [`Transaction::commit`]. The next transaction has then not begun.
    fn commit_and_begin(
        self,
        lease: &Lease,
        deliveries: &[Delivery<'_>],
        now_ms: i64,
    ) -> impl Future<Output = Result<(Committed, Option<Begun<Self>>), CommitError>> + Send {
        let _ = (lease, deliveries);
        commit_alone(self, now_ms)
    }

    /// Undoes everything.
    ///
    /// # Errors
    /// Says what the database said. The connection is closed, so nothing is kept even then.
    fn rollback(self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// [`Transaction::commit_and_begin`] of a database where nothing begins with a commit.
async fn commit_alone<T: Transaction>(
    transaction: T,
    now_ms: i64,
) -> Result<(Committed, Option<Begun<T>>), CommitError> {
    Ok((transaction.commit(now_ms).await?, None))
}

/// [`Store::begin_admitted`] in two steps. When the second one fails the transaction is dropped.
pub(crate) async fn begin_admitted<S: Store>(
    store: &S,
    lease: &Lease,
    deliveries: &[Delivery<'_>],
    now_ms: i64,
) -> Result<(S::Transaction, Vec<Admission>), AdmitError> {
    let mut transaction = store.begin(Some(lease)).await?;
    let admissions = transaction.admit(deliveries, now_ms).await?;
    Ok((transaction, admissions))
}
