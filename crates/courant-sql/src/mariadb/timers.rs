//! Timers: written with the transaction that schedules them, and moved into the outbox when they are due.
//!
//! Who uses a name holds its slot until the transaction ends, so that of two timers that get the same
//! new name at once the later one stays. The relay waits for nobody's rows: what a transaction is just
//! taking away is left for the next look.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, MySqlConnection};

use super::class::failed;
use super::lists::{self, texts};
use super::row::{Columns, signed};
use super::{Mariadb, outbox, relay};
use crate::error::{AdvanceError, StoreError};
use crate::headers;
use crate::limits::LISTED_MAX;
use crate::outbox::{NewEvent, RelayLease};
use crate::publishing::Timers;
use crate::timer::{Fired, NewTimer, TimerName};

const WRITE: &str = "write timers";
const FIRE: &str = "move timers into the outbox";
const NEXT: &str = "look at the next timer";

/// Takes away what was cancelled or replaced, and writes what comes. The slots of the names are held.
pub(super) async fn flush(
    connection: &mut MySqlConnection,
    timers: &Timers,
    now_ms: i64,
) -> Result<(), StoreError> {
    if !timers.names.is_empty() {
        let ids = named(connection, &timers.names).await?;
        delete(connection, ids, WRITE).await?;
    }
    for piece in lists::pieces(&timers.timers, |timer| timer.event.bytes()) {
        insert(connection, piece, now_ms).await?;
    }
    Ok(())
}

/// Timers by their names. They are deleted by their ids: who deletes by an index locks the index first
/// and the row afterwards, and the relay does it the other way round.
async fn named(connection: &mut MySqlConnection, names: &[TimerName]) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT t.event_id FROM JSON_TABLE(?, '$[*]' COLUMNS ( \
                   scope VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PATH '$[0]', \
                   name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PATH '$[1]')) w \
               JOIN courant_timer t ON t.scope = w.scope AND t.name = w.name";
    let names = names.iter().map(|name| vec![name.scope(), name.name()]);
    let rows =
        sqlx::query(sql).bind(lists::json(names)).fetch_all(&mut *connection).await.map_err(failed(WRITE))?;
    rows.iter().map(|row| Columns::new(row, WRITE).text(0)).collect()
}

async fn delete(
    connection: &mut MySqlConnection,
    mut ids: Vec<String>,
    doing: &'static str,
) -> Result<(), StoreError> {
    ids.sort_unstable();
    if ids.is_empty() {
        return Ok(());
    }
    let sql = concat!(
        "DELETE t FROM ",
        texts!(),
        " STRAIGHT_JOIN courant_timer t FORCE INDEX (PRIMARY) ON t.event_id = w.id"
    );
    sqlx::query(sql).bind(lists::json(ids)).execute(&mut *connection).await.map_err(failed(doing))?;
    Ok(())
}

async fn insert(
    connection: &mut MySqlConnection,
    timers: &[NewTimer],
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO courant_timer (event_id, due_ms, scope, name, topic, event_key, event_value, headers, \
         bytes, scheduled_ms) VALUES {}",
        lists::rows(timers.len(), 10)
    );
    // The text is made of a number of parameters; every value is bound.
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(lists::is_kept(timers.len()));
    for NewTimer { event, name } in timers {
        query = query
            .bind(event.id.as_str())
            .bind(event.timestamp_ms)
            .bind(name.as_ref().map(TimerName::scope))
            .bind(name.as_ref().map(TimerName::name))
            .bind(event.topic.as_str())
            .bind(event.key.as_deref())
            .bind(event.value.as_deref())
            .bind(headers::encode(&event.headers))
            .bind(signed(event.bytes() as u64, WRITE)?)
            .bind(now_ms);
    }
    query.execute(&mut *connection).await.map_err(failed(WRITE))?;
    Ok(())
}

pub(super) async fn fire(
    store: &Mariadb,
    lease: &RelayLease,
    limit: u32,
    bytes_max: u64,
    now_ms: i64,
) -> Result<Fired, AdvanceError> {
    let mut session = store.relaying(FIRE).await?;
    relay::held(&mut session, lease).await?;
    let ids = due(&mut session, limit, bytes_max, now_ms).await?;
    let events = read(&mut session, &ids, now_ms).await?;
    delete(&mut session, ids, FIRE).await?;
    let lanes = outbox::flush(&mut session, &events).await?;
    session.commit().await.map_err(failed(FIRE))?;
    Ok(Fired { timers: events.len() as u64, lanes })
}

/// The ids of timers that are due and that nobody else holds, in the order of their due times.
async fn due(
    connection: &mut MySqlConnection,
    limit: u32,
    bytes_max: u64,
    now_ms: i64,
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT event_id, bytes FROM courant_timer FORCE INDEX (courant_timer_due) \
               WHERE due_ms <= ? ORDER BY due_ms, event_id LIMIT ? FOR UPDATE SKIP LOCKED";
    let rows = sqlx::query(sql)
        .bind(now_ms)
        .bind(i64::from(limit.clamp(1, LISTED_MAX)))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(FIRE))?;
    let mut ids = Vec::with_capacity(rows.len());
    let mut ahead = 0_u64;
    for row in &rows {
        let columns = Columns::new(row, FIRE);
        if ahead >= bytes_max.max(1) {
            break;
        }
        ids.push(columns.text(0)?);
        ahead = ahead.saturating_add(columns.number(1)?);
    }
    Ok(ids)
}

/// The events of timers, in the order of their ids. They are published now, however late that is: what
/// they carry says when they were due.
async fn read(
    connection: &mut MySqlConnection,
    ids: &[String],
    now_ms: i64,
) -> Result<Vec<NewEvent>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = concat!(
        "SELECT t.event_id, t.topic, t.event_key, t.event_value, t.headers FROM ",
        texts!(),
        " JOIN courant_timer t ON t.event_id = w.id"
    );
    let rows = sqlx::query(sql)
        .bind(lists::json(ids.iter().map(String::as_str)))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(FIRE))?;
    // Rows come back in the order in which they were found.
    let mut events = HashMap::with_capacity(rows.len());
    for row in &rows {
        let columns = Columns::new(row, FIRE);
        let event = NewEvent {
            id: columns.event_id(0)?,
            topic: columns.topic(1)?,
            key: columns.bytes_or_null(2)?,
            value: columns.bytes_or_null(3)?,
            headers: columns.headers(4)?,
            timestamp_ms: now_ms,
        };
        events.insert(event.id.as_str().to_owned(), event);
    }
    Ok(ids.iter().filter_map(|id| events.remove(id)).collect())
}

pub(super) async fn next_ms(store: &Mariadb) -> Result<Option<i64>, StoreError> {
    let mut session = store.reader().await?;
    let row = sqlx::query("SELECT MIN(due_ms) FROM courant_timer")
        .fetch_one(&mut *session)
        .await
        .map_err(failed(NEXT))?;
    session.give_back();
    Columns::new(&row, NEXT).int_or_null(0)
}
