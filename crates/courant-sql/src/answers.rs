//! How long a server may take to answer.
//!
//! A host that vanishes ends no connection: nothing comes any more, and the driver would wait for ever, because
//! it has no way to ask the system to look after its peer. So whatever the framework asks of a server has a
//! bound. What is dropped with it closes its connection.

use std::future::Future;
use std::io;
use std::time::Duration;

use crate::error::{Class, StoreError};
use crate::limits::ANSWER_MAX;

const ANSWER: &str = "get an answer in time";

/// Waits for one answer.
pub(crate) async fn within<T>(
    max: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    tokio::time::timeout(max, answer).await.unwrap_or_else(|_| Err(silence()))
}

/// Waits for an operation of several statements.
pub(crate) async fn bounded<T, E: From<StoreError>>(
    operation: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let done = tokio::time::timeout(ANSWER_MAX, operation).await;
    done.unwrap_or_else(|_| Err(StoreError::new(ANSWER, Class::ConnectionLost, silence()).into()))
}

fn silence() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the server does not answer"))
}

/// Whether nothing came at all.
pub(crate) fn is_silence(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;
    use crate::limits::REUSED_MAX;

    /// Nothing comes: after a minute it counts as a connection that is lost, which is tried again.
    #[tokio::test(start_paused = true)]
    async fn silence_is_a_lost_connection() {
        let begun = Instant::now();
        let silent = within(ANSWER_MAX, pending::<Result<(), sqlx::Error>>()).await.expect_err("nothing");
        assert!(is_silence(&silent), "{silent}");
        assert!(begun.elapsed() >= ANSWER_MAX);
        let silent = bounded(pending::<Result<(), StoreError>>()).await.expect_err("nothing");
        assert_eq!(silent.class(), Class::ConnectionLost);
        let elapsed = begun.elapsed();
        assert!(elapsed >= ANSWER_MAX * 2 && elapsed < ANSWER_MAX * 2 + REUSED_MAX, "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_comes_through() {
        assert!(matches!(within(REUSED_MAX, async { Ok(7) }).await, Ok(7)));
        assert!(matches!(bounded(async { Ok::<_, StoreError>(7) }).await, Ok(7)));
    }
}
