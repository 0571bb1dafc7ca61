//! Sending dead letters back: asked for by anybody, carried out by the owner of each partition.
//!
//! The request names its dead letters one by one, and each has a state of its own. Whoever is killed in
//! between leaves every event either requested, or before the others of its key, or with its result:
//! nothing is forgotten, and the inbox lets nothing take effect twice.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use sqlx::MySqlConnection;

use super::class::failed;
use super::dead::{dead_filter, filtered};
use super::lists::{self, numbers};
use super::resolve::{arrange, finish};
use super::row::{Columns, on_partition};
use super::{Mariadb, locks};
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

/// How many events the redrive `r` may still take in the second that holds the present, which is bound
/// twice; NULL without a rate.
macro_rules! room {
    () => {
        "CASE WHEN r.window_ms <= ? AND ? < r.window_ms + 1000 THEN r.rate - r.window_taken ELSE r.rate END"
    };
}

pub(super) async fn request(
    store: &Mariadb,
    id: &str,
    requested_by: &str,
    filter: &DeadFilter,
    rate: Option<NonZeroU32>,
    now_ms: i64,
) -> Result<Redrive, StoreError> {
    let mut session = store.writer(REQUEST).await?;
    // Under it nobody else writes one with this id.
    locks::take(&mut session, BTreeSet::from([locks::DECISIONS]), REQUEST).await?;
    if read(&mut session, id).await?.is_none() {
        let operation = "INSERT INTO courant_redrive (id, requested_by, requested_ms, filter, rate, state) \
                         VALUES (?, ?, ?, ?, ?, 'running')";
        sqlx::query(operation)
            .bind(id)
            .bind(requested_by)
            .bind(now_ms)
            .bind(filter.in_words())
            .bind(rate.map(|rate| i64::from(rate.get())))
            .execute(&mut *session)
            .await
            .map_err(failed(REQUEST))?;
        choose(&mut session, id, filter, now_ms).await?;
        finish(&mut session, id, now_ms).await?;
    }
    let redrive = read(&mut session, id).await?;
    session.commit().await.map_err(failed(REQUEST))?;
    redrive.ok_or_else(|| StoreError::unreadable(REQUEST, "the redrive that was just written is missing"))
}

async fn choose(
    connection: &mut MySqlConnection,
    id: &str,
    filter: &DeadFilter,
    now_ms: i64,
) -> Result<(), StoreError> {
    let events = concat!(
        "INSERT INTO courant_redrive_event (redrive_id, dead_id, state, changed_ms) \
         SELECT ?, id, 'pending', ? FROM courant_dead WHERE ",
        dead_filter!(),
        " ORDER BY topic, partition_id, event_offset LIMIT ?"
    );
    filtered!(sqlx::query(events).bind(id).bind(now_ms), filter, Some(DeadState::Dead))
        .bind(i64::from(REDRIVE_EVENTS_MAX))
        .execute(&mut *connection)
        .await
        .map_err(failed(REQUEST))?;
    let dead = "UPDATE courant_redrive_event e FORCE INDEX (PRIMARY) \
                STRAIGHT_JOIN courant_dead d FORCE INDEX (courant_dead_id) ON d.id = e.dead_id \
                SET d.state = 'redriving' WHERE e.redrive_id = ?";
    sqlx::query(dead).bind(id).execute(&mut *connection).await.map_err(failed(REQUEST))?;
    Ok(())
}

async fn read(connection: &mut MySqlConnection, id: &str) -> Result<Option<Redrive>, StoreError> {
    let sql = "SELECT r.id, r.requested_by, r.requested_ms, r.filter, r.state, r.finished_ms, \
               e.pending, e.delivering, e.handled, e.failed, e.cancelled \
               FROM courant_redrive r JOIN ( \
                   SELECT COUNT(IF(state = 'pending', 1, NULL)) AS pending, \
                   COUNT(IF(state = 'delivering', 1, NULL)) AS delivering, \
                   COUNT(IF(state = 'handled', 1, NULL)) AS handled, \
                   COUNT(IF(state = 'failed', 1, NULL)) AS failed, \
                   COUNT(IF(state = 'cancelled', 1, NULL)) AS cancelled \
                   FROM courant_redrive_event WHERE redrive_id = ?) e WHERE r.id = ?";
    let row =
        sqlx::query(sql).bind(id).bind(id).fetch_optional(&mut *connection).await.map_err(failed(READ))?;
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

pub(super) async fn get(store: &Mariadb, id: &str) -> Result<Redrive, RedriveError> {
    let mut session = store.reader().await?;
    let redrive = read(&mut session, id).await?;
    session.give_back();
    redrive.ok_or_else(|| RedriveError::Unknown { id: id.to_owned() })
}

pub(super) async fn events(
    store: &Mariadb,
    id: &str,
    after: i64,
    limit: u32,
) -> Result<Vec<RedriveEvent>, StoreError> {
    let sql = "SELECT e.dead_id, e.state, e.changed_ms, d.state \
               FROM courant_redrive_event e JOIN courant_dead d ON d.id = e.dead_id \
               WHERE e.redrive_id = ? AND e.dead_id > ? ORDER BY e.dead_id LIMIT ?";
    let mut session = store.reader().await?;
    let rows = sqlx::query(sql)
        .bind(id)
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

pub(super) async fn cancel(store: &Mariadb, id: &str, now_ms: i64) -> Result<Redrive, RedriveError> {
    let mut session = store.writer(CANCEL).await?;
    locks::take(&mut session, BTreeSet::from([locks::DECISIONS]), CANCEL).await?;
    // From here on nobody gives one of its events a result.
    let operation = "UPDATE courant_redrive SET state = 'cancelled', finished_ms = ? \
                     WHERE id = ? AND state = 'running'";
    let running =
        sqlx::query(operation).bind(now_ms).bind(id).execute(&mut *session).await.map_err(failed(CANCEL))?;
    // A redrive that has ended has nothing left to cancel.
    if running.rows_affected() > 0 {
        let dead = "UPDATE courant_redrive_event e FORCE INDEX (PRIMARY) \
                    STRAIGHT_JOIN courant_dead d FORCE INDEX (courant_dead_id) ON d.id = e.dead_id \
                    SET d.state = IF(d.state = 'redriving', 'dead', d.state), e.state = 'cancelled', \
                    e.changed_ms = ? WHERE e.redrive_id = ? AND e.state = 'pending'";
        sqlx::query(dead).bind(now_ms).bind(id).execute(&mut *session).await.map_err(failed(CANCEL))?;
    }
    let redrive = read(&mut session, id).await?;
    session.commit().await.map_err(failed(CANCEL))?;
    redrive.ok_or_else(|| RedriveError::Unknown { id: id.to_owned() })
}

pub(super) async fn claim(
    store: &Mariadb,
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
    locks::take(&mut session, BTreeSet::from([locks::DECISIONS]), CLAIM).await?;
    let claims = requested(&mut session, lease, limit, now_ms).await?;
    let keys: BTreeSet<&[u8]> = claims.iter().filter_map(|claim| claim.key.as_deref()).collect();
    let slots = keys.iter().map(|key| locks::key(&lease.assignment, key)).collect();
    locks::take(&mut session, slots, CLAIM).await?;
    count(&mut session, &claims, now_ms).await?;
    put_first(&mut session, &claims, now_ms).await?;
    for key in keys {
        arrange(&mut session, &lease.assignment, key, now_ms).await?;
    }
    session.commit().await.map_err(failed(CLAIM))?;
    Ok(claims)
}

async fn requested(
    connection: &mut MySqlConnection,
    lease: &Lease,
    limit: u32,
    now_ms: i64,
) -> Result<Vec<RedriveClaim>, StoreError> {
    let sql = concat!(
        "WITH waiting AS ( \
             SELECT e.redrive_id, d.id, d.event_offset, d.event_key, \
             ROW_NUMBER() OVER (PARTITION BY e.redrive_id ORDER BY d.event_offset) AS nth, r.rate, \
             r.window_ms, r.window_taken \
             FROM courant_dead d JOIN courant_redrive_event e ON e.dead_id = d.id AND e.state = 'pending' \
             JOIN courant_redrive r ON r.id = e.redrive_id \
             WHERE d.consumer = ? AND d.generation = ? AND d.topic = ? AND d.partition_id = ? \
             AND d.state = 'redriving') \
         SELECT redrive_id, id, event_offset, event_key FROM waiting r \
         WHERE rate IS NULL OR nth <= ",
        room!(),
        " ORDER BY event_offset LIMIT ?"
    );
    let rows = on_partition!(sql, &lease.assignment)
        .bind(now_ms)
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

/// Counts what is taken of redrives that have a rate. Whoever takes holds the slot of the decisions.
async fn count(
    connection: &mut MySqlConnection,
    claims: &[RedriveClaim],
    now_ms: i64,
) -> Result<(), StoreError> {
    let mut taken: BTreeMap<&str, i64> = BTreeMap::new();
    for claim in claims {
        *taken.entry(&claim.redrive).or_default() += 1;
    }
    // They are set one after the other: the beginning of the second, which both look at, comes last.
    let sql = "UPDATE courant_redrive SET \
               window_taken = ? + IF(window_ms <= ? AND ? < window_ms + 1000, window_taken, 0), \
               window_ms = IF(window_ms <= ? AND ? < window_ms + 1000, window_ms, ?) \
               WHERE id = ? AND rate IS NOT NULL";
    for (redrive, events) in taken {
        sqlx::query(sql)
            .bind(events)
            .bind(now_ms)
            .bind(now_ms)
            .bind(now_ms)
            .bind(now_ms)
            .bind(now_ms)
            .bind(redrive)
            .execute(&mut *connection)
            .await
            .map_err(failed(CLAIM))?;
    }
    Ok(())
}

pub(super) async fn waiting(
    store: &Mariadb,
    assignment: &Assignment,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let sql = concat!(
        "SELECT COUNT(*) FROM (SELECT 1 FROM courant_dead d \
             JOIN courant_redrive_event e ON e.dead_id = d.id AND e.state = 'pending' \
             JOIN courant_redrive r ON r.id = e.redrive_id \
             WHERE d.consumer = ? AND d.generation = ? AND d.topic = ? AND d.partition_id = ? \
             AND d.state = 'redriving' AND (r.rate IS NULL OR ",
        room!(),
        " > 0) LIMIT 1) AS one"
    );
    let mut session = store.reader().await?;
    let row = on_partition!(sql, assignment)
        .bind(now_ms)
        .bind(now_ms)
        .fetch_one(&mut *session)
        .await
        .map_err(failed(LOOK))?;
    session.give_back();
    Ok(Columns::new(&row, LOOK).int(0)? != 0)
}

/// Parks dead letters again, with their bytes and without attempts: by their offsets they come before
/// what has waited behind them.
async fn put_first(
    connection: &mut MySqlConnection,
    claims: &[RedriveClaim],
    now_ms: i64,
) -> Result<(), StoreError> {
    let mut taken: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for claim in claims {
        taken.entry(&claim.redrive).or_default().push(claim.dead_id);
    }
    let parked = concat!(
        "INSERT INTO courant_parked (consumer, generation, topic, partition_id, event_offset, \
         event_id, event_key, event_value, headers, timestamp_ms, state, due_ms, attempts, redrive_id) \
         SELECT d.consumer, d.generation, d.topic, d.partition_id, d.event_offset, d.event_id, \
         d.event_key, d.event_value, d.headers, d.timestamp_ms, \
         IF(d.event_key IS NULL, 'waiting', 'queued'), IF(d.event_key IS NULL, ?, NULL), 0, ? FROM ",
        numbers!(),
        " JOIN courant_dead d ON d.id = w.id \
         ON DUPLICATE KEY UPDATE state = VALUES(state), due_ms = VALUES(due_ms), attempts = 0, \
         first_failed_ms = NULL, event_value = VALUES(event_value), headers = VALUES(headers), \
         error_kind = NULL, error_place = NULL, error_message = NULL, redrive_id = VALUES(redrive_id)"
    );
    let dead = concat!(
        "UPDATE ",
        numbers!(),
        " STRAIGHT_JOIN courant_dead d FORCE INDEX (courant_dead_id) ON d.id = w.id SET d.blocks_key = 0"
    );
    let events = concat!(
        "UPDATE ",
        numbers!(),
        " STRAIGHT_JOIN courant_redrive_event e FORCE INDEX (PRIMARY) \
         ON e.redrive_id = ? AND e.dead_id = w.id \
         SET e.state = 'delivering', e.changed_ms = ? WHERE e.state = 'pending'"
    );
    for (redrive, ids) in taken {
        let list = lists::json(ids);
        sqlx::query(parked)
            .bind(now_ms)
            .bind(redrive)
            .bind(list.as_str())
            .execute(&mut *connection)
            .await
            .map_err(failed(CLAIM))?;
        sqlx::query(dead).bind(list.as_str()).execute(&mut *connection).await.map_err(failed(CLAIM))?;
        sqlx::query(events)
            .bind(list.as_str())
            .bind(redrive)
            .bind(now_ms)
            .execute(&mut *connection)
            .await
            .map_err(failed(CLAIM))?;
    }
    Ok(())
}
