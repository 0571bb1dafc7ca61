//! By what a server knows a connection, and the end of one that was dropped.

use std::sync::Arc;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use crate::limits::BUSY_TIMEOUT_MS;

/// Where connection `p` comes from, as its server sees it, and which server that is: its host, its port, and the second
/// in which it was started. Both numbers of that are of the moment in which the statement began.
macro_rules! place {
    () => {
        "CONCAT_WS(' ', p.HOST, @@hostname, @@port, (SELECT UNIX_TIMESTAMP() - s.VARIABLE_VALUE \
         FROM information_schema.GLOBAL_STATUS s WHERE s.VARIABLE_NAME = 'UPTIME'))"
    };
}

/// Answers with the number of the connection that it is asked on, and its place.
pub(super) const ASKED: &str = concat!(
    "SELECT CAST(CONNECTION_ID() AS SIGNED), (SELECT ",
    place!(),
    " FROM information_schema.PROCESSLIST p WHERE p.ID = CONNECTION_ID()) AS place"
);

/// Answers with the place of a connection whose number comes behind it.
const PLACE_OF: &str = concat!("SELECT ", place!(), " FROM information_schema.PROCESSLIST p WHERE p.ID = ");

/// A connection as its server knows it. A server that was started anew gives the same numbers again, and so does
/// another one that has taken its place. With the host of a connection stands its port, but of all that come over a
/// Unix socket the server says the same.
#[derive(Clone, Debug)]
pub(super) struct Who {
    id: i64,
    place: Arc<str>,
}

impl Who {
    /// From the answer to [`ASKED`].
    pub(super) fn of(row: &MySqlRow) -> Result<Self, sqlx::Error> {
        // Without a place it is nobody, and is not ended.
        let place = row.try_get::<Option<String>, usize>(1)?.unwrap_or_default();
        Ok(Self { id: row.try_get::<i64, usize>(0)?, place: Arc::from(place) })
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
        // The texts are made of a number and nothing else.
        let sql = AssertSqlSafe(format!("{PLACE_OF}{}", self.id));
        let place = match sqlx::raw_sql(sql).fetch_optional(&mut connection).await? {
            Some(row) => row.try_get::<Option<String>, usize>(0)?,
            None => None,
        };
        let ended = if place.is_some_and(|place| *place == *self.place) {
            let sql = format!("KILL CONNECTION {}", self.id);
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.map(drop)
        } else {
            Ok(())
        };
        connection.close().await?;
        ended
    }
}
