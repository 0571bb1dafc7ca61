//! What a trigger of the outbox says to a relay that rests: `NOTIFY courant_outbox`, with the commit.

use std::fmt;
use std::io::ErrorKind;

use sqlx::postgres::{PgListener, PgPoolOptions};

use super::Postgres;
use super::class::failed;
use crate::error::StoreError;
use crate::outbox::OutboxBell;

const CHANNEL: &str = "courant_outbox";
const LISTEN: &str = "listen to the outbox";

/// A connection that hears what is said. It is one beside those of the store.
pub(crate) struct Listening(PgListener);

pub(super) async fn listen(store: &Postgres) -> Result<OutboxBell, StoreError> {
    let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
    let pool = pool.connect_with(store.inner.pool.options().clone()).await.map_err(failed(LISTEN))?;
    let mut listener = PgListener::connect_with(&pool).await.map_err(failed(LISTEN))?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await.map_err(failed(LISTEN))?;
    Ok(OutboxBell::of_postgres(Listening(listener)))
}

impl Listening {
    /// Waits until something is said. A connection that is lost is an error: what was said meanwhile is
    /// lost with it.
    pub(crate) async fn rung(&mut self) -> Result<(), StoreError> {
        match self.0.try_recv().await.map_err(failed(LISTEN))? {
            Some(_) => Ok(()),
            None => Err(failed(LISTEN)(sqlx::Error::Io(ErrorKind::ConnectionAborted.into()))),
        }
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The driver's type knows the password.
        f.debug_struct("Listening").finish_non_exhaustive()
    }
}
