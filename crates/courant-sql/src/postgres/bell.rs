//! What a trigger of the outbox says to a relay that rests: `NOTIFY courant_outbox`, with the commit.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use futures_util::FutureExt as _;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::runtime::{Builder, Runtime};

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

/// A connection that hears what is said. It is one beside those of the store. Dropped, it is closed.
///
/// The driver has a listener that is dropped say `UNLISTEN` in a task of its own, which waits for the answer without an
/// end: where the server's host is gone, the task and its connection would be left behind, once for each server that
/// was lost. A connection that ends listens no more, so nobody has to say so. That task is therefore begun where
/// nothing ever runs, and goes with that place.
pub(crate) struct Listening {
    /// `None` before the server has taken it.
    listener: Option<PgListener>,
    /// Where the driver begins its last task: it has no thread. `None` only while this is dropped.
    nowhere: Option<Runtime>,
}

pub(super) async fn listen(store: &Postgres) -> Result<OutboxBell, StoreError> {
    let listening = within(LISTENING_MAX, listening(store)).await.map_err(failed(LISTEN))?;
    Ok(OutboxBell::of_postgres(listening))
}

async fn listening(store: &Postgres) -> Result<Listening, sqlx::Error> {
    // It is there before the listener: the server may say nothing at any time from then on.
    let mut listening = Listening { listener: None, nowhere: Some(Builder::new_current_thread().build()?) };
    let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
    let pool = pool.connect_with(store.inner.pool.options().clone()).await?;
    let listener = PgListener::connect_with(&pool).await?;
    let listener = listening.listener.insert(listener);
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listening)
}

impl Listening {
    fn listener(&mut self) -> Result<&mut PgListener, sqlx::Error> {
        self.listener.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

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
        let listener = self.listener().map_err(failed(LISTEN))?;
        let asked = within(ASKED_MAX, sqlx::raw_sql(LISTEN_STILL).execute(listener)).await;
        asked.map(drop).map_err(failed(LISTEN))
    }

    /// Waits for one word.
    async fn heard(&mut self) -> Result<(), StoreError> {
        let listener = self.listener().map_err(failed(LISTEN))?;
        match listener.try_recv().await.map_err(failed(LISTEN))? {
            Some(_) => Ok(()),
            None => Err(failed(LISTEN)(sqlx::Error::Io(ErrorKind::ConnectionAborted.into()))),
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let Some(nowhere) = self.nowhere.take() else { return };
        let inside = nowhere.enter();
        drop(self.listener.take());
        drop(inside);
        // What is dropped inside of another runtime may not wait.
        nowhere.shutdown_background();
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The driver's type knows the password.
        f.debug_struct("Listening").finish_non_exhaustive()
    }
}
