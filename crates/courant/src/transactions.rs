//! Transactions of plain code beside a service that runs: for whoever serves requests.

use std::fmt;
use std::sync::Arc;

use courant_core::trace::TraceContext;
#[cfg(any(feature = "mariadb", feature = "postgres"))]
use courant_sql::AttachError;
use courant_sql::{BeginError, Store};

use crate::PlainTx;
use crate::runtime::Context;

/// Begins transactions of plain code, which publish with what they change. A clone costs little, and belongs to
/// whoever serves requests while the service runs. When the service has ended, what is committed waits in the outbox
/// for its next start.
#[derive(Clone)]
pub struct Transactions<D: Store> {
    store: D,
    context: Arc<Context>,
    /// The span that events are made in, where somebody has named one.
    span: Option<TraceContext>,
}

impl<D: Store> Transactions<D> {
    pub(crate) fn new(store: D, context: Arc<Context>) -> Self {
        Self { store, context, span: None }
    }

    /// The same, for what is published in a span, such as the one of a request that is being answered.
    #[must_use]
    pub fn within(&self, span: TraceContext) -> Self {
        Self { span: Some(span), ..self.clone() }
    }

    /// Begins one. Dropped without [`PlainTx::commit`], it is rolled back.
    ///
    /// # Errors
    /// Says what the database said.
    pub async fn begin(&self) -> Result<PlainTx<D>, BeginError> {
        Ok(PlainTx::new(self.store.begin(None).await?, self.context.clone(), self.span))
    }
}

#[cfg(feature = "postgres")]
impl Transactions<courant_sql::Postgres> {
    /// Takes a transaction over that was begun elsewhere, on a pool of your own for instance, to publish with what it
    /// has done. Only [`PlainTx::commit`] makes it last then; dropped, it is rolled back, and its connection returns
    /// to the pool that it came from.
    ///
    /// # Errors
    /// [`AttachError::Isolation`] for one that is not at READ COMMITTED: the outbox's positions are given at the end
    /// of a transaction, from what was committed by then.
    pub async fn attach(
        &self,
        transaction: courant_sql::sqlx::Transaction<'static, courant_sql::sqlx::Postgres>,
    ) -> Result<PlainTx<courant_sql::Postgres>, AttachError> {
        Ok(PlainTx::new(self.store.attach(transaction).await?, self.context.clone(), self.span))
    }
}

#[cfg(feature = "mariadb")]
impl Transactions<courant_sql::Mariadb> {
    /// Takes a transaction over that was begun elsewhere, on a pool of your own for instance, to publish with what it
    /// has done. Only [`PlainTx::commit`] makes it last then; dropped, it is rolled back, and its connection returns
    /// to the pool that it came from.
    ///
    /// # Errors
    /// [`AttachError::Isolation`] when its session is not at READ COMMITTED: the outbox's positions are given at the
    /// end of a transaction, from what was committed by then.
    pub async fn attach(
        &self,
        transaction: courant_sql::sqlx::Transaction<'static, courant_sql::sqlx::MySql>,
    ) -> Result<PlainTx<courant_sql::Mariadb>, AttachError> {
        Ok(PlainTx::new(self.store.attach(transaction).await?, self.context.clone(), self.span))
    }
}

impl<D: Store> fmt::Debug for Transactions<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactions").field("store", &self.store).finish_non_exhaustive()
    }
}
