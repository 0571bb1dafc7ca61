//! The outbox: positions are given directly before COMMIT, under the write lock, so a lane has no gaps
//! and the order of its positions is the order of the commits.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, SqliteConnection};

use super::Sqlite;
use super::class::failed;
use super::row::{Columns, rows_of_text, signed};
use crate::error::{AdvanceError, StoreError};
use crate::headers;
use crate::limits::{LANES, LISTED_MAX, ROWS_PER_STATEMENT};
use crate::outbox::{LaneBatch, LanePosition, NewEvent, Pending, RelayLease};
use crate::publishing::by_lane;

const FLUSH: &str = "write the outbox";
const READ: &str = "read the outbox";
const ADVANCE: &str = "move the outbox on";

/// What waits. Positions have no gaps, so a range of them is a number of events. CROSS JOIN keeps SQLite from reading
/// the whole outbox first. `& 255` turns the lanes round to the first one that was asked for.
const PENDING: &str = "WITH waiting AS ( \
           SELECT o.lane, o.position, \
               SUM(o.bytes) OVER (ORDER BY (o.lane - ?1) & 255, o.position) - o.bytes AS ahead \
           FROM courant_outbox_lane l CROSS JOIN courant_outbox o ON o.lane = l.lane \
               AND o.position > l.published AND o.position <= l.published + ?2 \
           WHERE l.position > l.published) \
       SELECT o.lane, o.position, o.event_id, o.topic, o.event_key, o.event_value, o.headers, \
           o.timestamp_ms \
       FROM waiting w JOIN courant_outbox o ON o.lane = w.lane AND o.position = w.position \
       WHERE w.ahead < ?3 ORDER BY (o.lane - ?1) & 255, o.position";

/// Takes out what was published.
const TAKE_OUT: &str = "DELETE FROM courant_outbox WHERE (lane, position) IN ( \
        SELECT o.lane, o.position FROM json_each(?1) done \
        JOIN courant_outbox o ON o.lane = json_extract(done.value, '$[0]') \
            AND o.position <= json_extract(done.value, '$[1]'))";

/// Gives positions to what a transaction publishes, and writes it. The lanes, in order.
pub(super) async fn flush(
    connection: &mut SqliteConnection,
    events: &[NewEvent],
) -> Result<Vec<u16>, StoreError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let mut counts: BTreeMap<u16, i64> = BTreeMap::new();
    for event in events {
        *counts.entry(event.lane()).or_default() += 1;
    }
    let mut next = reserve(connection, &counts).await?;
    let mut rows = Vec::with_capacity(events.len());
    for event in events {
        let lane = event.lane();
        let position = next.get_mut(&lane).ok_or_else(|| lanes_missing(lane))?;
        rows.push((lane, *position, event));
        *position += 1;
    }
    for rows in rows.chunks(ROWS_PER_STATEMENT) {
        insert(connection, rows).await?;
    }
    Ok(counts.into_keys().collect())
}

fn lanes_missing(lane: u16) -> StoreError {
    StoreError::unreadable(FLUSH, format_args!("lane {lane} of the outbox is missing"))
}

/// Moves lanes on; the first of the new positions of each.
async fn reserve(
    connection: &mut SqliteConnection,
    counts: &BTreeMap<u16, i64>,
) -> Result<BTreeMap<u16, i64>, StoreError> {
    let wanted = pairs(counts.iter().map(|(&lane, &count)| (lane, count)));
    let sql = "UPDATE courant_outbox_lane SET position = position + wanted.events \
               FROM (SELECT json_extract(value, '$[0]') AS number, json_extract(value, '$[1]') AS events \
                     FROM json_each(?1)) AS wanted \
               WHERE courant_outbox_lane.lane = wanted.number RETURNING lane, position";
    let rows = sqlx::query(sql).bind(wanted).fetch_all(&mut *connection).await.map_err(failed(FLUSH))?;
    let mut first = BTreeMap::new();
    for row in &rows {
        let columns = Columns::new(row, FLUSH);
        let (lane, last) = (columns.number::<u16>(0)?, columns.int(1)?);
        let count = counts.get(&lane).copied().unwrap_or_default();
        first.insert(lane, last - count + 1);
    }
    Ok(first)
}

/// `[[lane,number],…]`, for `json_each`.
fn pairs(pairs: impl Iterator<Item = (u16, i64)>) -> String {
    let pairs: Vec<String> = pairs.map(|(lane, number)| format!("[{lane},{number}]")).collect();
    format!("[{}]", pairs.join(","))
}

async fn insert(connection: &mut SqliteConnection, rows: &[(u16, i64, &NewEvent)]) -> Result<(), StoreError> {
    const VALUES: usize = 9;
    const COLUMNS: &str =
        "lane, position, event_id, topic, event_key, event_value, headers, timestamp_ms, bytes";
    let written = rows_of_text(rows.len());
    let values = (0..written).map(|at| {
        let values = (0..VALUES).map(|value| format!("?{}", 1 + at * VALUES + value));
        format!("({})", values.collect::<Vec<_>>().join(", "))
    });
    let values = values.collect::<Vec<_>>().join(", ");
    let sql = format!(
        "WITH d ({COLUMNS}) AS (VALUES {values}) \
         INSERT INTO courant_outbox ({COLUMNS}) SELECT {COLUMNS} FROM d WHERE lane IS NOT NULL"
    );
    // The text is made of numbers of parameters; every value is bound.
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for (lane, position, event) in rows {
        query = query
            .bind(i64::from(*lane))
            .bind(*position)
            .bind(event.id.as_str())
            .bind(event.topic.as_str())
            .bind(event.key.as_deref())
            .bind(event.value.as_deref())
            .bind(headers::encode(&event.headers))
            .bind(event.timestamp_ms)
            .bind(signed(event.bytes() as u64, FLUSH)?);
    }
    for _ in rows.len() * VALUES..written * VALUES {
        query = query.bind(None::<i64>);
    }
    query.execute(&mut *connection).await.map_err(failed(FLUSH))?;
    Ok(())
}

pub(super) async fn take_over_relay(
    store: &Sqlite,
    shard: &str,
    owner: &str,
    now_ms: i64,
) -> Result<RelayLease, StoreError> {
    let mut session = store.writer(ADVANCE).await?;
    let sql = "INSERT INTO courant_relay (shard, epoch, owner, taken_ms) VALUES (?1, 1, ?2, ?3) \
               ON CONFLICT (shard) DO UPDATE \
               SET epoch = courant_relay.epoch + 1, owner = excluded.owner, taken_ms = excluded.taken_ms, \
                   beat = 0, resting = 0 \
               RETURNING epoch";
    let row = sqlx::query(sql)
        .bind(shard)
        .bind(owner)
        .bind(now_ms)
        .fetch_one(&mut *session)
        .await
        .map_err(failed(ADVANCE))?;
    let epoch = Columns::new(&row, ADVANCE).number(0)?;
    session.commit().await.map_err(failed(ADVANCE))?;
    Ok(RelayLease { shard: shard.to_owned(), epoch })
}

pub(super) async fn pending(
    store: &Sqlite,
    first_lane: u16,
    events_per_lane: u32,
    bytes_max: u64,
) -> Result<Vec<LaneBatch>, StoreError> {
    let mut session = store.reader().await?;
    let rows = sqlx::query(PENDING)
        .bind(i64::from(first_lane % LANES))
        .bind(i64::from(events_per_lane.clamp(1, LISTED_MAX)))
        .bind(i64::try_from(bytes_max.max(1)).unwrap_or(i64::MAX))
        .fetch_all(&mut *session)
        .await
        .map_err(failed(READ))?;
    session.give_back();
    by_lane(rows.iter().map(|row| waiting(Columns::new(row, READ))))
}

fn waiting(columns: Columns<'_>) -> Result<Pending, StoreError> {
    Ok(Pending {
        at: LanePosition { lane: columns.number(0)?, position: columns.number(1)? },
        event: NewEvent {
            id: columns.event_id(2)?,
            topic: columns.topic(3)?,
            key: columns.bytes_or_null(4)?,
            value: columns.bytes_or_null(5)?,
            headers: columns.headers(6)?,
            timestamp_ms: columns.int(7)?,
        },
    })
}

pub(super) async fn advance(
    store: &Sqlite,
    lease: &RelayLease,
    published: &[LanePosition],
) -> Result<(), AdvanceError> {
    let mut session = store.writer(ADVANCE).await?;
    held(&mut session, lease).await?;
    let mut furthest: BTreeMap<u16, i64> = BTreeMap::new();
    for at in published {
        let position = signed(at.position, ADVANCE)?;
        let last = furthest.entry(at.lane).or_default();
        *last = position.max(*last);
    }
    let positions = pairs(furthest.into_iter());
    refuse_unknown(&mut session, &positions).await?;
    let lanes = "UPDATE courant_outbox_lane SET published = MAX(published, done.until) \
                 FROM (SELECT json_extract(value, '$[0]') AS number, json_extract(value, '$[1]') AS until \
                       FROM json_each(?1)) AS done \
                 WHERE courant_outbox_lane.lane = done.number";
    for sql in [lanes, TAKE_OUT] {
        sqlx::query(sql).bind(positions.as_str()).execute(&mut *session).await.map_err(failed(ADVANCE))?;
    }
    session.commit().await.map_err(failed(ADVANCE))?;
    Ok(())
}

pub(super) async fn held(connection: &mut SqliteConnection, lease: &RelayLease) -> Result<(), AdvanceError> {
    let row = sqlx::query("SELECT epoch FROM courant_relay WHERE shard = ?1")
        .bind(lease.shard.as_str())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed(ADVANCE))?;
    let current = row.map_or(Ok(0), |row| Columns::new(&row, ADVANCE).number(0))?;
    if current == lease.epoch {
        return Ok(());
    }
    Err(AdvanceError::Fenced { shard: lease.shard.clone(), held: lease.epoch, current })
}

async fn refuse_unknown(connection: &mut SqliteConnection, positions: &str) -> Result<(), AdvanceError> {
    let sql = "SELECT json_extract(done.value, '$[0]'), json_extract(done.value, '$[1]') \
               FROM json_each(?1) done \
               LEFT JOIN courant_outbox_lane l ON l.lane = json_extract(done.value, '$[0]') \
               WHERE l.lane IS NULL OR json_extract(done.value, '$[1]') > l.position LIMIT 1";
    let row =
        sqlx::query(sql).bind(positions).fetch_optional(&mut *connection).await.map_err(failed(ADVANCE))?;
    let Some(row) = row else { return Ok(()) };
    let columns = Columns::new(&row, ADVANCE);
    Err(AdvanceError::NoSuchEvent { lane: columns.number(0)?, position: columns.number(1)? })
}

pub(super) async fn backlog(store: &Sqlite) -> Result<u64, StoreError> {
    let mut session = store.reader().await?;
    // What is submitted has no count: of more than a thousand rows it is enough to know that.
    let sql = "SELECT (SELECT COALESCE(SUM(position - published), 0) FROM courant_outbox_lane) \
               + (SELECT COUNT(*) FROM (SELECT 1 FROM courant_outbox_submit LIMIT 1000))";
    let row = sqlx::query(sql).fetch_one(&mut *session).await.map_err(failed(READ))?;
    session.give_back();
    Columns::new(&row, READ).number(0)
}

#[cfg(test)]
mod tests {
    use sqlx::Row as _;

    use super::*;
    use crate::store::Store as _;

    /// O6: what a step reads and takes out is found by the index, however much was published before and waits behind
    /// it.
    #[tokio::test]
    async fn a_step_reads_what_it_wants_and_not_the_whole_outbox() {
        let store = Sqlite::connect("sqlite::memory:").await.expect("a database");
        store.install(1).await.expect("the tables");
        let mut session = store.reader().await.expect("a connection");
        for sql in [PENDING, TAKE_OUT] {
            let explained = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
            let rows = sqlx::query(explained).fetch_all(&mut *session).await.expect("a plan");
            let steps: Vec<String> = rows.iter().map(|row| row.get::<String, usize>(3)).collect();
            let reads_all =
                |step: &String| step.starts_with("SCAN o") || step.starts_with("SCAN courant_outbox");
            assert!(!steps.iter().any(reads_all), "{steps:?}");
            assert!(steps.iter().any(|step| step.starts_with("SEARCH o USING ")), "{steps:?}");
        }
    }
}
