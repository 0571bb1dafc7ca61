//! What a trigger of the outbox says to a relay that rests: `NOTIFY courant_outbox`, with the commit.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use futures_util::FutureExt as _;
use sqlx::postgres::{PgListener, PgPoolOptions};

use super::Postgres;
use super::class::failed;
use crate::answers::within;
use crate::error::StoreError;
use crate::outbox::OutboxBell;

const CHANNEL: &str = "courant_outbox";
const LISTEN: &str = "listen to the outbox";
/// Asks whether the server is there. Whoever listens already goes on listening, and the server shows by it what the
/// connection is for.
const LISTEN_STILL: &str = "LISTEN courant_outbox";

/// How long the server may take to say that it is there. A relay waits for it, and has to show meanwhile that it is
/// there itself.
const ASKED_MAX: Duration = Duration::from_secs(2);

/// How long the server may take until somebody listens. The driver tries a server that has no connection left, or that
/// takes none, for half a minute, and a relay that waited for it would be taken for one that is gone: it has to show
/// itself before eight seconds are over, of which two may have passed and two more with the question.
const LISTENING_MAX: Duration = Duration::from_secs(3);

/// A connection that hears what is said. It is one beside those of the store.
pub(crate) struct Listening(PgListener);

pub(super) async fn listen(store: &Postgres) -> Result<OutboxBell, StoreError> {
    let listener = within(LISTENING_MAX, listener(store)).await.map_err(failed(LISTEN))?;
    Ok(OutboxBell::of_postgres(Listening(listener)))
}

async fn listener(store: &Postgres) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
    let pool = pool.connect_with(store.inner.pool.options().clone()).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

impl Listening {
    /// Waits until something is said. A connection that is lost is an error: what was said meanwhile is
    /// lost with it.
    pub(crate) async fn rung(&mut self) -> Result<(), StoreError> {
        self.heard().await?;
        // Each word comes with a commit. What has come by now was committed before the look that follows this one, and
        // asks for no other look.
        while let Some(heard) = self.heard().now_or_never() {
            heard?;
        }
        Ok(())
    }

    /// Asks the server. What is said meanwhile the driver keeps for the next one who waits.
    pub(crate) async fn check(&mut self) -> Result<(), StoreError> {
        let asked = within(ASKED_MAX, sqlx::raw_sql(LISTEN_STILL).execute(&mut self.0)).await;
        asked.map(drop).map_err(failed(LISTEN))
    }

    /// Waits for one word.
    async fn heard(&mut self) -> Result<(), StoreError> {
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
