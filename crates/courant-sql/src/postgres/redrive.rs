//! Sending dead letters back: asked for by anybody, carried out by the owner of each partition.
//!
//! The request names its dead letters one by one, and each has a state of its own. Whoever is killed in
//! between leaves every event either requested, or before the others of its key, or with its result:
//! nothing is forgotten, and the inbox lets nothing take effect twice.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use bytes::Bytes;
use sqlx::PgConnection;

use super::class::failed;
use super::dead::{dead_filter, filtered};
use super::resolve::{arrange, finish};
use super::row::{Columns, on_partition, text};
use super::{Postgres, locks};
use crate::consumer::Assignment;
use crate::dead::{DeadFilter, DeadState};
use crate::error::{LeaseError, RedriveError, StoreError};
use crate::limits::{LISTED_MAX, REDRIVE_EVENTS_MAX};
use crate::parked::Lease;
use crate::redrive::{Redrive, RedriveClaim, RedriveEvent, RedriveEventState, RedriveState};

const REQUEST: &str = "request a redrive";
const READ: &str = "read a redrive";
const CANCEL: &str = "cancel a redrive";
const CLAIM: &str = "take requested redrives";
const LOOK: &str = "look for requested redrives";

/// How many events the redrive `r` may still take in the second that holds `$5`; NULL without a rate.
macro_rules! room {
    () => {
        "CASE WHEN r.window_ms <= $5 AND $5 < r.window_ms + 1000 THEN r.rate - r.window_taken ELSE r.rate END"
    };
}

pub(super) async fn request(
    store: &Postgres,
    id: &str,
    requested_by: &str,
    filter: &DeadFilter,
    rate: Option<NonZeroU32>,
    now_ms: i64,
) -> Result<Redrive, StoreError> {
    let mut session = store.writer(REQUEST).await?;
    locks::take(&mut session, vec![locks::decisions()], REQUEST).await?;
    let operation = "INSERT INTO courant_redrive (id, requested_by, requested_ms, filter, rate, state) \
                     VALUES ($1, $2, $3, $4, $5, 'running') ON CONFLICT (id) DO NOTHING";
    let new = sqlx::query(operation)
        .bind(&*text(id))
        .bind(&*text(requested_by))
        .bind(now_ms)
        .bind(filter.in_words())
        .bind(rate.map(|rate| i64::from(rate.get())))
        .execute(&mut *session)
        .await
        .map_err(failed(REQUEST))?;
    if new.rows_affected() > 0 {
        choose(&mut session, id, filter, now_ms).await?;
        finish(&mut session, id, now_ms).await?;
    }
    let redrive = read(&mut session, id).await?;
    session.commit().await.map_err(failed(REQUEST))?;
    redrive.ok_or_else(|| StoreError::unreadable(REQUEST, "the redrive that was just written is missing"))
}

async fn choose(
    connection: &mut PgConnection,
    id: &str,
    filter: &DeadFilter,
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = concat!(
        "WITH chosen AS (SELECT id FROM courant_dead WHERE ",
        dead_filter!(),
        " ORDER BY topic, partition_id, event_offset LIMIT $10), \
         written AS (INSERT INTO courant_redrive_event (redrive_id, dead_id, state, changed_ms) \
             SELECT $8, id, 'pending', $9 FROM chosen RETURNING dead_id) \
         UPDATE courant_dead SET state = 'redriving' WHERE id IN (SELECT dead_id FROM written)"
    );
    filtered!(sql, filter, Some(DeadState::Dead))
        .bind(&*text(id))
        .bind(now_ms)
        .bind(i64::from(REDRIVE_EVENTS_MAX))
        .execute(&mut *connection)
        .await
        .map_err(failed(REQUEST))?;
    Ok(())
}

async fn read(connection: &mut PgConnection, id: &str) -> Result<Option<Redrive>, StoreError> {
    let sql = "SELECT r.id, r.requested_by, r.requested_ms, r.filter, r.state, r.finished_ms, \
               COUNT(*) FILTER (WHERE e.state = 'pending'), \
               COUNT(*) FILTER (WHERE e.state = 'delivering'), \
               COUNT(*) FILTER (WHERE e.state = 'handled'), \
               COUNT(*) FILTER (WHERE e.state = 'failed'), \
               COUNT(*) FILTER (WHERE e.state = 'cancelled') \
               FROM courant_redrive r LEFT JOIN courant_redrive_event e ON e.redrive_id = r.id \
               WHERE r.id = $1 GROUP BY r.id";
    let row =
        sqlx::query(sql).bind(&*text(id)).fetch_optional(&mut *connection).await.map_err(failed(READ))?;
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::new(&row, READ);
    Ok(Some(Redrive {
        id: columns.text(0)?,
        requested_by: columns.text(1)?,
        requested_ms: columns.int(2)?,
        filter: columns.text(3)?,
        state: columns.known(4, RedriveState::parse)?,
        finished_ms: columns.int_or_null(5)?,
        pending: columns.number(6)?,
        delivering: columns.number(7)?,
        handled: columns.number(8)?,
        failed: columns.number(9)?,
        cancelled: columns.number(10)?,
    }))
}

pub(super) async fn get(store: &Postgres, id: &str) -> Result<Redrive, RedriveError> {
    let mut session = store.reader().await?;
    let redrive = read(&mut session, id).await?;
    session.give_back();
    redrive.ok_or_else(|| RedriveError::Unknown { id: id.to_owned() })
}

pub(super) async fn events(
    store: &Postgres,
    id: &str,
    after: i64,
    limit: u32,
) -> Result<Vec<RedriveEvent>, StoreError> {
    let sql = "SELECT e.dead_id, e.state, e.changed_ms, d.state \
               FROM courant_redrive_event e JOIN courant_dead d ON d.id = e.dead_id \
               WHERE e.redrive_id = $1 AND e.dead_id > $2 ORDER BY e.dead_id LIMIT $3";
    let mut session = store.reader().await?;
    let rows = sqlx::query(sql)
        .bind(&*text(id))
        .bind(after)
        .bind(i64::from(limit.min(LISTED_MAX)))
        .fetch_all(&mut *session)
        .await
        .map_err(failed(READ))?;
    session.give_back();
    rows.iter()
        .map(|row| {
            let columns = Columns::new(row, READ);
            Ok(RedriveEvent {
                dead_id: columns.int(0)?,
                state: columns.known(1, RedriveEventState::parse)?,
                changed_ms: columns.int(2)?,
                dead_state: columns.known(3, DeadState::parse)?,
            })
        })
        .collect()
}

pub(super) async fn cancel(store: &Postgres, id: &str, now_ms: i64) -> Result<Redrive, RedriveError> {
    let mut session = store.writer(CANCEL).await?;
    locks::take(&mut session, vec![locks::decisions()], CANCEL).await?;
    let kept = text(id);
    let operation = "UPDATE courant_redrive SET state = 'cancelled', finished_ms = $2 \
                     WHERE id = $1 AND state = 'running'";
    let running = sqlx::query(operation)
        .bind(&*kept)
        .bind(now_ms)
        .execute(&mut *session)
        .await
        .map_err(failed(CANCEL))?;
    // A redrive that has ended has nothing left to cancel.
    if running.rows_affected() > 0 {
        let dead = "UPDATE courant_dead SET state = 'dead' WHERE state = 'redriving' AND id IN ( \
                    SELECT dead_id FROM courant_redrive_event WHERE redrive_id = $1 AND state = 'pending')";
        sqlx::query(dead).bind(&*kept).execute(&mut *session).await.map_err(failed(CANCEL))?;
        let events = "UPDATE courant_redrive_event SET state = 'cancelled', changed_ms = $2 \
                      WHERE redrive_id = $1 AND state = 'pending'";
        sqlx::query(events).bind(&*kept).bind(now_ms).execute(&mut *session).await.map_err(failed(CANCEL))?;
    }
    let redrive = read(&mut session, id).await?;
    session.commit().await.map_err(failed(CANCEL))?;
    redrive.ok_or_else(|| RedriveError::Unknown { id: id.to_owned() })
}

pub(super) async fn claim(
    store: &Postgres,
    lease: &Lease,
    limit: u32,
    now_ms: i64,
) -> Result<Vec<RedriveClaim>, LeaseError> {
    let mut session = store.owner(lease, CLAIM).await?;
    if requested(&mut session, lease, limit, now_ms).await?.is_empty() {
        session.commit().await.map_err(failed(CLAIM))?;
        return Ok(Vec::new());
    }
    lease.parks();
    // Under it nobody cancels what is read now.
    locks::take(&mut session, vec![locks::decisions()], CLAIM).await?;
    let claims = requested(&mut session, lease, limit, now_ms).await?;
    count(&mut session, &claims, now_ms).await?;
    let ids: Vec<i64> = claims.iter().map(|claim| claim.dead_id).collect();
    let mut keys: Vec<&Bytes> = claims.iter().filter_map(|claim| claim.key.as_ref()).collect();
    keys.sort_unstable();
    keys.dedup();
    let numbers = keys.iter().map(|key| locks::key(&lease.assignment, key)).collect();
    locks::take(&mut session, numbers, CLAIM).await?;
    put_first(&mut session, &ids, now_ms).await?;
    for key in keys {
        arrange(&mut session, &lease.assignment, key, now_ms).await?;
    }
    session.commit().await.map_err(failed(CLAIM))?;
    Ok(claims)
}

async fn requested(
    connection: &mut PgConnection,
    lease: &Lease,
    limit: u32,
    now_ms: i64,
) -> Result<Vec<RedriveClaim>, StoreError> {
    let sql = concat!(
        "WITH waiting AS ( \
             SELECT e.redrive_id, d.id, d.event_offset, d.event_key, ",
        room!(),
        " AS room, ROW_NUMBER() OVER (PARTITION BY e.redrive_id ORDER BY d.event_offset) AS nth \
             FROM courant_dead d JOIN courant_redrive_event e ON e.dead_id = d.id AND e.state = 'pending' \
             JOIN courant_redrive r ON r.id = e.redrive_id \
             WHERE d.consumer = $1 AND d.generation = $2 AND d.topic = $3 AND d.partition_id = $4 \
             AND d.state = 'redriving') \
         SELECT redrive_id, id, event_offset, event_key FROM waiting \
         WHERE room IS NULL OR nth <= room ORDER BY event_offset LIMIT $6"
    );
    let rows = on_partition!(sql, &lease.assignment)
        .bind(now_ms)
        .bind(i64::from(limit.min(LISTED_MAX)))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(CLAIM))?;
    rows.iter()
        .map(|row| {
            let columns = Columns::new(row, CLAIM);
            Ok(RedriveClaim {
                redrive: columns.text(0)?,
                dead_id: columns.int(1)?,
                offset: columns.number(2)?,
                key: columns.bytes_or_null(3)?,
            })
        })
        .collect()
}

/// Counts what is taken of redrives that have a rate. Whoever takes holds the lock of the decisions.
async fn count(
    connection: &mut PgConnection,
    claims: &[RedriveClaim],
    now_ms: i64,
) -> Result<(), StoreError> {
    let mut taken: BTreeMap<&str, i64> = BTreeMap::new();
    for claim in claims {
        *taken.entry(&claim.redrive).or_default() += 1;
    }
    let sql = "UPDATE courant_redrive SET \
               window_taken = $2 + CASE WHEN window_ms <= $3 AND $3 < window_ms + 1000 \
                   THEN window_taken ELSE 0 END, \
               window_ms = CASE WHEN window_ms <= $3 AND $3 < window_ms + 1000 THEN window_ms ELSE $3 END \
               WHERE id = $1 AND rate IS NOT NULL";
    for (redrive, events) in taken {
        sqlx::query(sql)
            .bind(&*text(redrive))
            .bind(events)
            .bind(now_ms)
            .execute(&mut *connection)
            .await
            .map_err(failed(CLAIM))?;
    }
    Ok(())
}

pub(super) async fn waiting(
    store: &Postgres,
    assignment: &Assignment,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let sql = concat!(
        "SELECT COUNT(*) FROM (SELECT 1 FROM courant_dead d \
             JOIN courant_redrive_event e ON e.dead_id = d.id AND e.state = 'pending' \
             JOIN courant_redrive r ON r.id = e.redrive_id \
             WHERE d.consumer = $1 AND d.generation = $2 AND d.topic = $3 AND d.partition_id = $4 \
             AND d.state = 'redriving' AND (r.rate IS NULL OR ",
        room!(),
        " > 0) LIMIT 1) AS one"
    );
    let mut session = store.reader().await?;
    let row =
        on_partition!(sql, assignment).bind(now_ms).fetch_one(&mut *session).await.map_err(failed(LOOK))?;
    session.give_back();
    Ok(Columns::new(&row, LOOK).int(0)? != 0)
}

/// Parks dead letters again, with their bytes and without attempts: by their offsets they come before
/// what has waited behind them.
async fn put_first(connection: &mut PgConnection, ids: &[i64], now_ms: i64) -> Result<(), StoreError> {
    let parked = "INSERT INTO courant_parked (consumer, generation, topic, partition_id, event_offset, \
                  event_id, event_key, event_value, headers, timestamp_ms, state, due_ms, attempts, redrive_id) \
                  SELECT d.consumer, d.generation, d.topic, d.partition_id, d.event_offset, d.event_id, \
                  d.event_key, d.event_value, d.headers, d.timestamp_ms, \
                  CASE WHEN d.event_key IS NULL THEN 'waiting' ELSE 'queued' END, \
                  CASE WHEN d.event_key IS NULL THEN $2::bigint END, 0, e.redrive_id \
                  FROM courant_dead d JOIN courant_redrive_event e ON e.dead_id = d.id AND e.state = 'pending' \
                  WHERE d.id = ANY($1) \
                  ON CONFLICT (consumer, generation, topic, partition_id, event_offset) DO UPDATE \
                  SET state = excluded.state, due_ms = excluded.due_ms, attempts = 0, first_failed_ms = NULL, \
                  event_value = excluded.event_value, headers = excluded.headers, \
                  error_kind = NULL, error_place = NULL, error_message = NULL, redrive_id = excluded.redrive_id";
    sqlx::query(parked).bind(ids).bind(now_ms).execute(&mut *connection).await.map_err(failed(CLAIM))?;
    let events = "UPDATE courant_redrive_event SET state = 'delivering', changed_ms = $2 \
                  WHERE state = 'pending' AND dead_id = ANY($1)";
    sqlx::query(events).bind(ids).bind(now_ms).execute(&mut *connection).await.map_err(failed(CLAIM))?;
    let dead = "UPDATE courant_dead SET blocks_key = 0 WHERE id = ANY($1)";
    sqlx::query(dead).bind(ids).execute(&mut *connection).await.map_err(failed(CLAIM))?;
    Ok(())
}
