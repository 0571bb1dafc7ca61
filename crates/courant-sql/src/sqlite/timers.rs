//! Timers: written with the transaction that schedules them, and moved into the outbox when they are due.

use sqlx::{AssertSqlSafe, SqliteConnection};

use super::class::failed;
use super::row::{Columns, signed};
use super::{Sqlite, outbox};
use crate::error::{AdvanceError, StoreError};
use crate::headers;
use crate::limits::{LISTED_MAX, ROWS_PER_STATEMENT};
use crate::outbox::{NewEvent, RelayLease};
use crate::publishing::Timers;
use crate::timer::{Fired, NewTimer, TimerName};

const WRITE: &str = "write timers";
const FIRE: &str = "move timers into the outbox";
const NEXT: &str = "look at the next timer";

/// Takes away what was cancelled or replaced, and writes what comes.
pub(super) async fn flush(
    connection: &mut SqliteConnection,
    timers: &Timers,
    now_ms: i64,
) -> Result<(), StoreError> {
    for names in timers.names.chunks(ROWS_PER_STATEMENT) {
        delete(connection, names).await?;
    }
    for timers in timers.timers.chunks(ROWS_PER_STATEMENT) {
        insert(connection, timers, now_ms).await?;
    }
    Ok(())
}

async fn delete(connection: &mut SqliteConnection, names: &[TimerName]) -> Result<(), StoreError> {
    let values = (0..names.len()).map(|at| format!("(?{}, ?{})", 1 + at * 2, 2 + at * 2));
    let values = values.collect::<Vec<_>>().join(", ");
    let sql = format!("DELETE FROM courant_timer WHERE (scope, name) IN (VALUES {values})");
    // The text is made of numbers of parameters; every value is bound.
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for name in names {
        query = query.bind(name.scope()).bind(name.name());
    }
    query.execute(&mut *connection).await.map_err(failed(WRITE))?;
    Ok(())
}

async fn insert(
    connection: &mut SqliteConnection,
    timers: &[NewTimer],
    now_ms: i64,
) -> Result<(), StoreError> {
    const VALUES: usize = 9;
    let values = (0..timers.len()).map(|at| {
        let values = (0..VALUES).map(|value| format!("?{}", 2 + at * VALUES + value));
        format!("({}, ?1)", values.collect::<Vec<_>>().join(", "))
    });
    let values = values.collect::<Vec<_>>().join(", ");
    let sql = format!(
        "INSERT INTO courant_timer (event_id, due_ms, scope, name, topic, event_key, event_value, headers, \
         bytes, scheduled_ms) VALUES {values}"
    );
    // The text is made of numbers of parameters; every value is bound.
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(now_ms);
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
            .bind(signed(event.bytes() as u64, WRITE)?);
    }
    query.execute(&mut *connection).await.map_err(failed(WRITE))?;
    Ok(())
}

pub(super) async fn fire(
    store: &Sqlite,
    lease: &RelayLease,
    limit: u32,
    bytes_max: u64,
    now_ms: i64,
) -> Result<Fired, AdvanceError> {
    let mut session = store.writer(FIRE).await?;
    outbox::held(&mut session, lease).await?;
    let events = due(&mut session, limit, bytes_max, now_ms).await?;
    if events.is_empty() {
        session.commit().await.map_err(failed(FIRE))?;
        return Ok(Fired::default());
    }
    for events in events.chunks(ROWS_PER_STATEMENT) {
        remove(&mut session, events).await?;
    }
    let lanes = outbox::flush(&mut session, &events).await?;
    session.commit().await.map_err(failed(FIRE))?;
    Ok(Fired { timers: events.len() as u64, lanes })
}

/// The events of the timers that are due, in order.
async fn due(
    connection: &mut SqliteConnection,
    limit: u32,
    bytes_max: u64,
    now_ms: i64,
) -> Result<Vec<NewEvent>, StoreError> {
    let sql = "WITH first AS ( \
                   SELECT event_id, due_ms, bytes FROM courant_timer WHERE due_ms <= ?1 \
                   ORDER BY due_ms, event_id LIMIT ?2), \
               waiting AS ( \
                   SELECT event_id, SUM(bytes) OVER (ORDER BY due_ms, event_id) - bytes AS ahead FROM first) \
               SELECT t.event_id, t.topic, t.event_key, t.event_value, t.headers \
               FROM waiting w JOIN courant_timer t ON t.event_id = w.event_id \
               WHERE w.ahead < ?3 ORDER BY t.due_ms, t.event_id";
    let rows = sqlx::query(sql)
        .bind(now_ms)
        .bind(i64::from(limit.clamp(1, LISTED_MAX)))
        .bind(i64::try_from(bytes_max.max(1)).unwrap_or(i64::MAX))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(FIRE))?;
    rows.iter().map(|row| event(Columns::new(row, FIRE), now_ms)).collect()
}

fn event(columns: Columns<'_>, now_ms: i64) -> Result<NewEvent, StoreError> {
    Ok(NewEvent {
        id: columns.event_id(0)?,
        topic: columns.topic(1)?,
        key: columns.bytes_or_null(2)?,
        value: columns.bytes_or_null(3)?,
        headers: columns.headers(4)?,
        timestamp_ms: now_ms,
    })
}

async fn remove(connection: &mut SqliteConnection, events: &[NewEvent]) -> Result<(), StoreError> {
    let ids = (0..events.len()).map(|at| format!("?{}", 1 + at)).collect::<Vec<_>>().join(", ");
    let sql = format!("DELETE FROM courant_timer WHERE event_id IN ({ids})");
    // The text is made of numbers of parameters; every value is bound.
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for event in events {
        query = query.bind(event.id.as_str());
    }
    query.execute(&mut *connection).await.map_err(failed(FIRE))?;
    Ok(())
}

pub(super) async fn next_ms(store: &Sqlite) -> Result<Option<i64>, StoreError> {
    let mut session = store.reader().await?;
    let row = sqlx::query("SELECT MIN(due_ms) FROM courant_timer")
        .fetch_one(&mut *session)
        .await
        .map_err(failed(NEXT))?;
    session.give_back();
    Columns::new(&row, NEXT).int_or_null(0)
}
