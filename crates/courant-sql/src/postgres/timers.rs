//! Timers: written with the transaction that schedules them, and moved into the outbox when they are due.
//!
//! Who uses a name holds its lock until the transaction ends, so that of two timers that get the same
//! new name at once the later one stays. The relay waits for nobody's rows: what a transaction is just
//! taking away is left for the next look.

use std::borrow::Cow;

use sqlx::PgConnection;

use super::class::failed;
use super::row::{Columns, signed, text};
use super::{Postgres, locks, outbox};
use crate::error::{AdvanceError, StoreError};
use crate::headers;
use crate::limits::LISTED_MAX;
use crate::outbox::{NewEvent, RelayLease};
use crate::publishing::Timers;
use crate::timer::{Fired, NewTimer, TimerName};

const WRITE: &str = "write timers";
const FIRE: &str = "move timers into the outbox";
const NEXT: &str = "look at the next timer";

/// Takes away what was cancelled or replaced, and writes what comes.
pub(super) async fn flush(
    connection: &mut PgConnection,
    timers: &Timers,
    now_ms: i64,
) -> Result<(), StoreError> {
    if !timers.names.is_empty() {
        let numbers = timers.names.iter().map(locks::timer).collect();
        locks::take(connection, numbers, WRITE).await?;
        delete(connection, &timers.names).await?;
    }
    if !timers.timers.is_empty() {
        insert(connection, &timers.timers, now_ms).await?;
    }
    Ok(())
}

async fn delete(connection: &mut PgConnection, names: &[TimerName]) -> Result<(), StoreError> {
    let scopes: Vec<Cow<'_, str>> = names.iter().map(|name| text(name.scope())).collect();
    let scopes: Vec<&str> = scopes.iter().map(|scope| &**scope).collect();
    let names: Vec<Cow<'_, str>> = names.iter().map(|name| text(name.name())).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let sql = "DELETE FROM courant_timer t USING unnest($1::text[], $2::text[]) AS gone (scope, name) \
               WHERE t.scope = gone.scope AND t.name = gone.name";
    sqlx::query(sql)
        .bind(&scopes[..])
        .bind(&names[..])
        .execute(&mut *connection)
        .await
        .map_err(failed(WRITE))?;
    Ok(())
}

async fn insert(connection: &mut PgConnection, timers: &[NewTimer], now_ms: i64) -> Result<(), StoreError> {
    let sql = "INSERT INTO courant_timer (event_id, due_ms, scope, name, topic, event_key, event_value, \
                   headers, bytes, scheduled_ms) \
               SELECT t.event_id, t.due_ms, t.scope, t.name, t.topic, t.event_key, t.event_value, t.headers, \
                   t.bytes, $10 \
               FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bytea[], \
                   $7::bytea[], $8::text[], $9::bigint[]) \
                   AS t (event_id, due_ms, scope, name, topic, event_key, event_value, headers, bytes)";
    let events = || timers.iter().map(|timer| &timer.event);
    let names = || timers.iter().map(|timer| timer.name.as_ref());
    let ids: Vec<Cow<'_, str>> = events().map(|event| text(event.id.as_str())).collect();
    let ids: Vec<&str> = ids.iter().map(|id| &**id).collect();
    let due: Vec<i64> = events().map(|event| event.timestamp_ms).collect();
    let scopes: Vec<Option<Cow<'_, str>>> = names().map(|name| name.map(|name| text(name.scope()))).collect();
    let scopes: Vec<Option<&str>> = scopes.iter().map(Option::as_deref).collect();
    let named: Vec<Option<Cow<'_, str>>> = names().map(|name| name.map(|name| text(name.name()))).collect();
    let named: Vec<Option<&str>> = named.iter().map(Option::as_deref).collect();
    let topics: Vec<&str> = events().map(|event| event.topic.as_str()).collect();
    let keys: Vec<Option<&[u8]>> = events().map(|event| event.key.as_deref()).collect();
    let values: Vec<Option<&[u8]>> = events().map(|event| event.value.as_deref()).collect();
    let headers: Vec<String> = events().map(|event| headers::encode(&event.headers)).collect();
    let bytes = events().map(|event| signed(event.bytes() as u64, WRITE));
    let bytes = bytes.collect::<Result<Vec<i64>, _>>()?;
    sqlx::query(sql)
        .bind(&ids[..])
        .bind(&due[..])
        .bind(&scopes[..])
        .bind(&named[..])
        .bind(&topics[..])
        .bind(&keys[..])
        .bind(&values[..])
        .bind(&headers[..])
        .bind(&bytes[..])
        .bind(now_ms)
        .execute(&mut *connection)
        .await
        .map_err(failed(WRITE))?;
    Ok(())
}

pub(super) async fn fire(
    store: &Postgres,
    lease: &RelayLease,
    limit: u32,
    bytes_max: u64,
    now_ms: i64,
) -> Result<Fired, AdvanceError> {
    let mut session = store.writer(FIRE).await?;
    outbox::held(&mut session, lease).await?;
    let events = take(&mut session, limit, bytes_max, now_ms).await?;
    let lanes = outbox::flush(&mut session, &events).await?;
    session.commit().await.map_err(failed(FIRE))?;
    Ok(Fired { timers: events.len() as u64, lanes })
}

/// Takes timers that are due out of their table. Their events, in order.
async fn take(
    connection: &mut PgConnection,
    limit: u32,
    bytes_max: u64,
    now_ms: i64,
) -> Result<Vec<NewEvent>, StoreError> {
    let sql = "WITH first AS MATERIALIZED ( \
                   SELECT event_id, due_ms, bytes FROM courant_timer WHERE due_ms <= $1 \
                   ORDER BY due_ms, event_id LIMIT $2 FOR UPDATE SKIP LOCKED), \
               waiting AS ( \
                   SELECT event_id, SUM(bytes) OVER (ORDER BY due_ms, event_id) - bytes AS ahead FROM first) \
               DELETE FROM courant_timer t USING waiting w \
               WHERE t.event_id = w.event_id AND w.ahead < $3 \
               RETURNING t.event_id, t.topic, t.event_key, t.event_value, t.headers, t.due_ms";
    let rows = sqlx::query(sql)
        .bind(now_ms)
        .bind(i64::from(limit.clamp(1, LISTED_MAX)))
        .bind(i64::try_from(bytes_max.max(1)).unwrap_or(i64::MAX))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(FIRE))?;
    let events = rows.iter().map(|row| due(Columns::new(row, FIRE)));
    let mut events = events.collect::<Result<Vec<_>, StoreError>>()?;
    // Rows come back in the order in which they were found.
    events.sort_by(|(one_ms, one), (other_ms, other)| {
        (one_ms, one.id.as_str()).cmp(&(other_ms, other.id.as_str()))
    });
    Ok(events.into_iter().map(|(_, event)| NewEvent { timestamp_ms: now_ms, ..event }).collect())
}

/// When a timer was due, and its event.
fn due(columns: Columns<'_>) -> Result<(i64, NewEvent), StoreError> {
    let due_ms = columns.int(5)?;
    let event = NewEvent {
        id: columns.event_id(0)?,
        topic: columns.topic(1)?,
        key: columns.bytes_or_null(2)?,
        value: columns.bytes_or_null(3)?,
        headers: columns.headers(4)?,
        timestamp_ms: due_ms,
    };
    Ok((due_ms, event))
}

pub(super) async fn next_ms(store: &Postgres) -> Result<Option<i64>, StoreError> {
    let mut session = store.reader().await?;
    let row = sqlx::query("SELECT MIN(due_ms) FROM courant_timer")
        .fetch_one(&mut *session)
        .await
        .map_err(failed(NEXT))?;
    session.give_back();
    Columns::new(&row, NEXT).int_or_null(0)
}
