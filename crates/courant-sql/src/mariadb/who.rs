//! By what a server knows a connection, and the end of one that was dropped.

use std::sync::Arc;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use crate::limits::BUSY_TIMEOUT_MS;

/// A connection as its server knows it. A server that was started anew gives the same numbers again, and so does
/// another one that has taken its place; with the host stands the port that the connection has there.
#[derive(Clone, Debug)]
pub(super) struct Who {
    id: i64,
    host: Arc<str>,
}

impl Who {
    /// From a row with the number and the host.
    pub(super) fn of(row: &MySqlRow) -> Result<Self, sqlx::Error> {
        // Without a host it is nobody, and is not ended.
        let host = row.try_get::<Option<String>, usize>(1)?.unwrap_or_default();
        Ok(Self { id: row.try_get::<i64, usize>(0)?, host: Arc::from(host) })
    }

    /// Ends a connection that was dropped, whatever the server is doing for it, and no other one that has its number
    /// by now. If this fails the server notices later.
    pub(super) async fn end(&self, options: &MySqlConnectOptions) {
        let ending = tokio::time::timeout(Duration::from_millis(BUSY_TIMEOUT_MS), self.ended(options));
        // The one that was ended by itself is unknown to the server: no error.
        let _: Result<Result<(), sqlx::Error>, _> = ending.await;
    }

    async fn ended(&self, options: &MySqlConnectOptions) -> Result<(), sqlx::Error> {
        let mut connection = options.connect().await?;
        let is_there = sqlx::query("SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = ? AND HOST = ?")
            .bind(self.id)
            .bind(&*self.host)
            .fetch_optional(&mut connection)
            .await?
            .is_some();
        let ended = if is_there {
            // The text is made of a number and nothing else.
            let sql = format!("KILL CONNECTION {}", self.id);
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.map(drop)
        } else {
            Ok(())
        };
        connection.close().await?;
        ended
    }
}
